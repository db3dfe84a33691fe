/* Stages: a stage's points become rows (new, reused or cut), admitted in enumeration order under the budget. */
#include <stdlib.h>
#include <string.h>

#include "coordinator_internal.h"

/* A known row that needs no further run. A row that halving stopped is decided of anew, from what was measured. */
bool coordinator_is_settled(const struct coordinator *c, const struct trial_state *state) {
    switch (state->record.status) {
    case TRIAL_DONE:
        return true;
    case TRIAL_STOPPED:
        return rungs_at_once(c);
    case TRIAL_FAILED:
    case TRIAL_DIVERGED:
        return !c->options.retry_failed || state->admitted;
    default:
        return false;
    }
}

/* Where the weights of a row to run are known it is an evaluation of them, and costs no more. */
static void take_known_weights(struct coordinator *c, struct trial_state *state) {
    const struct trial_state *trained = coordinator_at(c, coordinator_find_train(c, state->trial.train_key));
    if (trained->record.status != TRIAL_DONE) return;
    state->evaluate_only = true;
    /* its folder stays where it is, whatever the grid would call it today */
    lvs_copy(state->trial.name, sizeof state->trial.name, trained->trial.name);
    state->trial.price.counted -= state->trial.price.training;
    state->trial.price.training = 0;
}

/* The row of a point: the finished one with its key, or a fresh or unfinished one that must run. An evaluation that an
 * earlier run left unfinished is one again, or trains when the weights are no longer known. */
static int32_t row_of_point(struct coordinator *c, const struct trial *point) {
    int32_t row = coordinator_find_eval(c, point->eval_key);
    bool is_new = row < 0;
    if (is_new) row = coordinator_append(c, point);
    struct trial_state *state = coordinator_at(c, row);
    bool trains = state->trial.price.training > 0;
    if (!is_new && (trains || state->admitted || coordinator_is_settled(c, state))) return row;
    state->trial.price = point->price;
    take_known_weights(c, state);
    return row;
}

void coordinator_cut(struct coordinator *c, int32_t row, enum cut_cause cause) {
    coordinator_at(c, row)->record.status = TRIAL_CUT;
    struct coordinator_action *action = coordinator_emit(c, ACTION_CUT);
    action->trial = row;
    action->cause = cause;
}

void coordinator_admit(struct coordinator *c, int32_t row, int32_t until, int64_t price) {
    struct trial_state *state = coordinator_at(c, row);
    int64_t lost = state->record.flops_lost;
    bool goes_on = state->admitted && state->rungs.n > 0; /* its last record is that of its rung */
    state->reserved = state->segment = price;
    state->until = until;
    if (!goes_on && (state->attempts > 0 || state->record.status != TRIAL_PENDING))
        record_init(&state->record, &state->trial);
    state->record.status = TRIAL_PENDING;
    state->record.flops_lost = lost;
    state->attempts_before = state->attempts;
    coordinator_begin(c, row);
    state->admitted = true;
    if (state->again) coordinator_emit(c, ACTION_AGAIN)->trial = row;
    state->again = false;
    coordinator_enqueue(c, row);
    c->n_open++;
    struct coordinator_action *action = coordinator_emit(c, ACTION_ADMITTED);
    action->trial = row;
    action->reserved = price;
}

/* Charges of the stage's own rows: their FLOPs count against its share. */
static __int128 charged_here(const struct coordinator *c) {
    __int128 sum = 0;
    for (int32_t i = 0; i < c->n_stage_rows; i++) {
        const struct trial_state *state = coordinator_at(c, c->stage_rows[i]);
        if (state->trial.stage == c->stage) sum += state->charged;
    }
    return sum;
}

static __int128 stage_limit(const struct coordinator *c) {
    double share = c->stage_share[c->stage];
    return share > 0 && c->ledger.capped ? (__int128)((double)c->ledger.cap * share / 100) : -1;
}

__int128 coordinator_room(const struct coordinator *c, __int128 charged) {
    if (!c->ledger.capped) return -1;
    __int128 limit = stage_limit(c), room = ledger_left(&c->ledger) + charged, spent = charged_here(c);
    if (limit >= 0 && limit - spent + charged < room) room = limit - spent + charged;
    return room > 0 ? room : 0;
}

/* Rows that must run are admitted in order; the rest was reused. */
void coordinator_admit_rows(struct coordinator *c, const int32_t *rows, int32_t n) {
    struct budget_walk walk = {.ledger = &c->ledger, .over = c->options.over, .limit = stage_limit(c)};
    if (walk.limit >= 0) {
        walk.limit -= charged_here(c);
        if (walk.limit < 0) walk.limit = 0;
    }
    for (int32_t i = 0; i < n; i++) {
        const struct trial_state *state = coordinator_at(c, rows[i]);
        int64_t price = rungs_price_left(c, state);
        if (!coordinator_may_begin(c, rows[i]))
            coordinator_cut(c, rows[i], CUT_BY_TRIALS);
        else if (budget_admit(&walk, price) == ADMISSION_RUN)
            coordinator_admit(c, rows[i], rungs_target(c, state), price);
        else
            coordinator_cut(c, rows[i], CUT_BY_FLOPS);
    }
}

int32_t coordinator_place(struct coordinator *c, const struct trial *point, bool *to_run) {
    int32_t row = row_of_point(c, point);
    struct trial_state *state = coordinator_at(c, row);
    bool settled = coordinator_is_settled(c, state), waits_elsewhere = state->queued;
    c->stage_rows[c->n_stage_rows++] = row;
    if (state->stages == 0) { /* known from an earlier run: its charge is of this grid after all */
        c->ledger.outside -= state->charged;
        state->trial.stage = c->stage;
    }
    state->stages |= 1u << c->stage;
    if (!settled) state->trial.baseline = point->baseline; /* the journal does not tell */
    *to_run = !settled && !waits_elsewhere;
    if (!*to_run) coordinator_emit(c, ACTION_REUSED)->trial = row;
    return row;
}

static void take_axes(struct coordinator *c, const struct stage_points *points) {
    size_t n = (size_t)points->n * (size_t)points->n_axes;
    c->n_points = points->n;
    c->n_axes = points->values ? points->n_axes : 0;
    c->axis_values = lvs_realloc(c->axis_values, n * sizeof *c->axis_values + 1);
    if (c->n_axes > 0) memcpy(c->axis_values, points->values, n * sizeof *c->axis_values);
    memcpy(c->axis_name, points->axis_name, sizeof c->axis_name);
}

static void place_points(struct coordinator *c, const struct stage_points *points) {
    int32_t *to_run = lvs_malloc((size_t)points->n * sizeof *to_run + 1);
    int32_t n_to_run = 0;
    c->stage_rows = lvs_realloc(c->stage_rows, (size_t)points->n * 2 * sizeof *c->stage_rows + 1);
    coordinator_expect_trials(c, (int64_t)c->n_trials + points->n);
    take_axes(c, points);
    for (int32_t i = 0; i < points->n; i++) {
        bool runs;
        int32_t row = coordinator_place(c, &points->trials[i], &runs);
        if (runs) to_run[n_to_run++] = row;
    }
    coordinator_first_phase(c, to_run, n_to_run);
    free(to_run);
}

/* What may have been left when the stage began in an earlier run: all that was charged in it and after it is added
 * back, or, where the grid has changed since, only one trial of the stage and what came after it. */
static int32_t left_earlier(const struct coordinator *c, __int128 **out) {
    int32_t n = 0, capacity = 0;
    __int128 left = c->ledger.cap - c->ledger.spent - c->ledger.reserved, here = 0, later = 0;
    for (int32_t row = 0; c->ledger.capped && row < c->n_trials; row++) {
        const struct trial_state *state = coordinator_at(c, row);
        if (state->stages != 0 || state->known_stage < c->stage) continue;
        if (state->known_stage > c->stage) {
            later += state->charged;
            continue;
        }
        here += state->charged;
        if (n + 1 >= capacity) {
            capacity = capacity ? 2 * capacity : 8;
            *out = lvs_realloc(*out, (size_t)capacity * sizeof **out);
        }
        (*out)[++n] = state->charged;
    }
    for (int32_t i = 1; i <= n; i++)
        (*out)[i] += left + later;
    if (n == 0) return 0;
    (*out)[0] = left + here + later;
    return n + 1;
}

static enum lvs_status open_stage(struct coordinator *c, struct lvs_error *err) {
    struct coordinator_action *begin = coordinator_emit(c, ACTION_STAGE_BEGIN);
    begin->stage = c->stage;
    c->n_stage_rows = c->n_points = 0;
    c->narrowed = false;
    c->n_rungs = c->rung = c->n_contenders = c->wave = 0;
    c->n_waves = 1;
    bool from_best = c->stage_from_best[c->stage];
    if (from_best && c->best < 0) return LVS_OK; /* nothing finished before it: the stage stays empty */
    struct stage_points points = {0};
    struct trial best;
    if (from_best) {
        best = coordinator_at(c, c->best)->trial;
        best.settings = coordinator_at(c, c->best_point)->trial.settings;
    }
    __int128 *earlier = NULL;
    struct fill_room room = {.left = ledger_left(&c->ledger), .known = c};
    room.n_earlier = left_earlier(c, &earlier);
    room.earlier = earlier;
    enum lvs_status status =
        c->planner.stage_points(c->planner.context, c->stage, from_best ? &best : NULL, &room, &points, err);
    free(earlier);
    if (status != LVS_OK) return status;
    place_points(c, &points);
    stage_points_free(&points);
    return LVS_OK;
}

static int32_t dearest_of_stage(const struct coordinator *c) {
    int32_t dearest = -1;
    for (int32_t i = 0; i < c->n_stage_rows; i++) {
        int32_t row = c->stage_rows[i];
        const struct trial_state *state = coordinator_at(c, row);
        if (state->record.status != TRIAL_DONE) continue;
        if (dearest < 0 || state->trial.price.step > coordinator_at(c, dearest)->trial.price.step) dearest = row;
    }
    return dearest;
}

/* What choosing looks at; choosing is one function, the reader's and ours. */
static struct result_row row_of(const struct trial_state *state) {
    return (struct result_row){.trial = state->trial, .record = state->record, .stages = state->stages};
}

struct results coordinator_table(const struct coordinator *c) {
    struct results table = {.n_channel = c->options.n_channel,
                            .rows = lvs_calloc((size_t)c->n_stage_rows + 1, sizeof *table.rows)};
    for (int32_t i = 0; i < c->n_stage_rows; i++) {
        const struct trial_state *state = coordinator_at(c, c->stage_rows[i]);
        if (state->record.status == TRIAL_DONE) table.rows[table.n_rows++] = row_of(state);
    }
    return table;
}

static int32_t best_of_stage(const struct coordinator *c) {
    struct choices choices;
    choices_init(&choices, c->options.metric, c->options.n_channel);
    for (int32_t i = 0; i < c->n_stage_rows; i++) {
        struct result_row row = row_of(coordinator_at(c, c->stage_rows[i]));
        choices_add(&choices, &row);
    }
    int32_t chosen = choices_best(&choices).index;
    choices_free(&choices);
    if (chosen < 0 && c->options.dearest_is_best) return dearest_of_stage(c);
    return chosen;
}

/* The point that a row of the second pass is of: a later stage takes the settings as the stage gave them. */
static int32_t point_of(const struct coordinator *c, int32_t row) {
    const struct trial *trial = &coordinator_at(c, row)->trial;
    for (int32_t i = 0; i < c->n_points; i++) {
        const struct trial *point = &coordinator_at(c, c->stage_rows[i])->trial;
        if (point->settings.narrow_first > 0 && strcmp(point->train_key, trial->train_key) == 0)
            return c->stage_rows[i];
    }
    return row;
}

/* The earlier best stands when nothing of the stage finished. */
static void choose_best(struct coordinator *c) {
    int32_t chosen = best_of_stage(c);
    if (chosen >= 0) {
        c->best = chosen;
        c->best_point = point_of(c, chosen);
    }
    struct coordinator_action *end = coordinator_emit(c, ACTION_STAGE_END);
    end->stage = c->stage;
    end->trial = chosen;
}

/* Opens phases of the stage until something of it is open; false = it is over. */
static enum lvs_status go_on(struct coordinator *c, bool *opened, struct lvs_error *err) {
    *opened = true;
    while (c->n_open == 0 && *opened)
        LVS_TRY(coordinator_next_phase(c, opened, err));
    return LVS_OK;
}

enum lvs_status coordinator_open_stages(struct coordinator *c, int32_t stage, struct lvs_error *err) {
    for (c->stage = stage; c->stage < c->options.n_stages; c->stage++) {
        bool opened;
        LVS_TRY(open_stage(c, err));
        LVS_TRY(go_on(c, &opened, err));
        if (opened) return LVS_OK;
        choose_best(c);
    }
    c->finished = true;
    coordinator_emit(c, ACTION_FINISHED);
    return LVS_OK;
}

enum lvs_status coordinator_end_stage_if_done(struct coordinator *c, struct lvs_error *err) {
    bool opened;
    if (c->n_open > 0 || c->finished || c->stage < 0) return LVS_OK;
    LVS_TRY(go_on(c, &opened, err));
    if (opened) return LVS_OK;
    choose_best(c);
    return coordinator_open_stages(c, c->stage + 1, err);
}
