/* Stages: a stage's points become rows (new, reused or cut), admitted in enumeration order under the budget. */
#include <stdlib.h>
#include <string.h>

#include "coordinator_internal.h"

/* A known row that needs no further run. */
static bool is_settled(const struct coordinator *c, const struct trial_state *state) {
    const char *rerun = c->options.rerun_key;
    if (!state->admitted && rerun[0] &&
        (strncmp(state->trial.train_key, rerun, strlen(rerun)) == 0 || strcmp(state->trial.name, rerun) == 0))
        return false;
    switch (state->record.status) {
    case TRIAL_DONE:
    case TRIAL_STOPPED:
        return true;
    case TRIAL_FAILED:
    case TRIAL_DIVERGED:
        return !c->options.retry_failed || state->admitted;
    default:
        return false;
    }
}

/* The row of a point: the finished one with its key, or a fresh or unfinished one that must run. */
static int32_t row_of_point(struct coordinator *c, const struct trial *point) {
    int32_t row = coordinator_find_eval(c, point->eval_key);
    if (row < 0) {
        int32_t trained = coordinator_find_train(c, point->train_key);
        bool weights_known = trained >= 0 && coordinator_at(c, trained)->record.status == TRIAL_DONE;
        row = coordinator_append(c, point);
        struct trial_state *state = coordinator_at(c, row);
        state->evaluate_only = weights_known;
        if (weights_known) { /* its folder stays where it is, whatever the grid would call it today */
            lvs_copy(state->trial.name, sizeof state->trial.name, coordinator_at(c, trained)->trial.name);
            state->trial.price.counted -= state->trial.price.training;
            state->trial.price.training = 0;
        }
    }
    return row;
}

static int64_t *stage_prices(const struct coordinator *c, const int32_t *rows, int32_t n) {
    int64_t *prices = lvs_malloc((size_t)n * sizeof *prices);
    for (int32_t i = 0; i < n; i++)
        prices[i] = coordinator_at(c, rows[i])->trial.price.counted;
    return prices;
}

static void cut_row(struct coordinator *c, int32_t row) {
    coordinator_at(c, row)->record.status = TRIAL_CUT;
    coordinator_emit(c, ACTION_CUT)->trial = row;
}

static void admit_row(struct coordinator *c, int32_t row) {
    struct trial_state *state = coordinator_at(c, row);
    int64_t lost = state->record.flops_lost;
    state->reserved = state->trial.price.counted;
    if (state->attempts > 0 || state->record.status != TRIAL_PENDING) record_init(&state->record, &state->trial);
    state->record.flops_lost = lost;
    state->attempts_before = state->attempts;
    state->admitted = true;
    coordinator_enqueue(c, row);
    c->n_open++;
    c->n_run++;
    coordinator_emit(c, ACTION_ADMITTED)->trial = row;
}

static __int128 stage_limit(const struct coordinator *c) {
    double share = c->stage_share[c->stage];
    return share > 0 && c->ledger.capped ? (__int128)((double)c->ledger.cap * share / 100) : -1;
}

/* Rows that must run are admitted in order; the rest was reused. */
static void admit_rows(struct coordinator *c, const int32_t *rows, int32_t n) {
    int64_t *prices = stage_prices(c, rows, n);
    enum admission *verdicts = lvs_malloc((size_t)n * sizeof *verdicts);
    int32_t allowed = n;
    if (c->options.trials_cap > 0 && c->options.trials_cap - c->n_run < n) {
        allowed = c->options.trials_cap - c->n_run;
        if (allowed < 0) allowed = 0;
    }
    budget_admit(&c->ledger, prices, allowed, c->options.over, stage_limit(c), verdicts);
    for (int32_t i = 0; i < n; i++) {
        if (i < allowed && verdicts[i] == ADMISSION_RUN)
            admit_row(c, rows[i]);
        else
            cut_row(c, rows[i]);
    }
    free(verdicts);
    free(prices);
}

static void place_points(struct coordinator *c, const struct stage_points *points) {
    int32_t *to_run = lvs_malloc((size_t)points->n * sizeof *to_run);
    int32_t n_to_run = 0;
    c->stage_rows = lvs_realloc(c->stage_rows, (size_t)points->n * sizeof *c->stage_rows);
    c->n_stage_rows = points->n;
    coordinator_expect_trials(c, (int64_t)c->n_trials + points->n);
    for (int32_t i = 0; i < points->n; i++) {
        int32_t row = row_of_point(c, &points->trials[i]);
        c->stage_rows[i] = row;
        struct trial_state *state = coordinator_at(c, row);
        bool settled = is_settled(c, state);
        if (state->stages == 0) { /* known from an earlier run: its charge is of this grid after all */
            c->ledger.outside -= state->charged;
            if (settled) state->trial.stage = c->stage;
        }
        bool pending_elsewhere = state->queued;
        state->stages |= 1u << c->stage;
        if (settled || pending_elsewhere)
            coordinator_emit(c, ACTION_REUSED)->trial = row;
        else
            to_run[n_to_run++] = row;
    }
    admit_rows(c, to_run, n_to_run);
    free(to_run);
}

static enum lvs_status open_stage(struct coordinator *c, struct lvs_error *err) {
    struct coordinator_action *begin = coordinator_emit(c, ACTION_STAGE_BEGIN);
    begin->stage = c->stage;
    c->n_stage_rows = 0;
    bool from_best = c->stage_from_best[c->stage];
    if (from_best && c->best < 0) return LVS_OK; /* nothing finished before it: the stage stays empty */
    struct stage_points points = {0};
    struct trial best;
    if (from_best) best = coordinator_at(c, c->best)->trial;
    LVS_TRY(c->planner.stage_points(c->planner.context, c->stage, from_best ? &best : NULL, ledger_left(&c->ledger),
                                    &points, err));
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

/* The stage's finished trials as a table of their own: choosing is one function, the reader's and ours. */
static int32_t best_of_stage(const struct coordinator *c) {
    struct result_row *rows = lvs_calloc((size_t)c->n_stage_rows, sizeof *rows);
    struct results table = {.n_channel = c->options.n_channel, .rows = rows};
    for (int32_t i = 0; i < c->n_stage_rows; i++) {
        const struct trial_state *state = coordinator_at(c, c->stage_rows[i]);
        if (state->record.status != TRIAL_DONE) continue;
        rows[table.n_rows++] = (struct result_row){.trial = state->trial,
                                                   .record = state->record,
                                                   .stages = state->stages,
                                                   .charged = coordinator_counted(c, &state->record)};
    }
    int32_t chosen = results_best(&table, -1, c->options.metric).index;
    free(rows);
    if (chosen < 0 && c->options.dearest_is_best) return dearest_of_stage(c);
    return chosen;
}

/* The earlier best stands when nothing of the stage finished. */
static void choose_best(struct coordinator *c) {
    int32_t chosen = best_of_stage(c);
    if (chosen >= 0) c->best = chosen;
    struct coordinator_action *end = coordinator_emit(c, ACTION_STAGE_END);
    end->stage = c->stage;
    end->trial = chosen;
}

enum lvs_status coordinator_open_stages(struct coordinator *c, int32_t stage, struct lvs_error *err) {
    for (c->stage = stage; c->stage < c->options.n_stages; c->stage++) {
        LVS_TRY(open_stage(c, err));
        if (c->n_open > 0) return LVS_OK;
        choose_best(c);
    }
    c->finished = true;
    coordinator_emit(c, ACTION_FINISHED);
    return LVS_OK;
}

enum lvs_status coordinator_end_stage_if_done(struct coordinator *c, struct lvs_error *err) {
    if (c->n_open > 0 || c->finished || c->stage < 0) return LVS_OK;
    choose_best(c);
    return coordinator_open_stages(c, c->stage + 1, err);
}
