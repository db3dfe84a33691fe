/* One seed, one history. */
#include "simulated_sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void synthetic_trial(const struct synthetic_grid *grid, int32_t stage, int32_t point, struct trial *out) {
    memset(out, 0, sizeof *out);
    out->stage = stage;
    out->parent = -1;
    out->settings.lora_rank = 2 + point % 7;
    out->settings.context = 128;
    out->settings.decimals = grid->kinds > 0 ? point % grid->kinds : 0;
    out->settings.batch = 4;
    out->settings.learning_rate = 1e-4;
    out->settings.seed = grid->key_base + point; /* settings differ: no averaging over seeds wanted */
    out->settings.weight_decay = stage * 1000.0 + point;
    out->settings.narrow_first = grid->narrow_first;
    out->settings.narrow_then = grid->narrow_then;
    out->settings.steps = (struct amount){.unit = AMOUNT_COUNT, .value = SYNTHETIC_STEPS};
    out->price.step = grid->price * (1 + point % 7) / SYNTHETIC_STEPS;
    out->price.training = out->price.counted = grid->price * (1 + point % 7);
    unsigned long long id = ((unsigned long long)(unsigned)grid->key_base << 40) + ((unsigned long long)stage << 32) +
                            (unsigned long long)point;
    unsigned long long mixed = id * 0x9E3779B97F4A7C15ull;
    snprintf(out->train_key, sizeof out->train_key, "%016llx%016llx", mixed, id);
    snprintf(out->eval_key, sizeof out->eval_key, "%016llx%016llx", mixed ^ 0xffffull, id);
    snprintf(out->name, sizeof out->name, "t%llx", id);
}

static enum lvs_status synthetic_points(void *context, int32_t stage, const struct trial *best,
                                        const struct fill_room *room, struct stage_points *out, struct lvs_error *err) {
    (void)room, (void)err;
    const struct synthetic_grid *grid = context;
    out->n = grid->points[stage];
    out->trials = calloc((size_t)out->n + 1, sizeof *out->trials);
    for (int32_t i = 0; i < out->n; i++)
        synthetic_trial(grid, stage, i, &out->trials[i]);
    if (best && grid->shared_first && out->n > 0) out->trials[0] = *best;
    return LVS_OK;
}

static enum lvs_status synthetic_second_pass(void *context, const struct trial *first, struct trial *out,
                                             struct lvs_error *err) {
    (void)context, (void)err;
    *out = *first;
    out->settings.series.first = first->settings.narrow_first + first->settings.narrow_then;
    out->settings.narrow_first = out->settings.narrow_then = 0;
    out->eval_key[0] = out->eval_key[0] == 'f' ? 'e' : 'f';
    out->eval_key[1] = '-';
    return LVS_OK;
}

struct planner synthetic_planner(struct synthetic_grid *grid) {
    return (struct planner){.context = grid, .stage_points = synthetic_points, .second_pass = synthetic_second_pass};
}

struct coordinator *simulation_coordinator(const struct planner *planner, int32_t n_stages, int32_t n_workers,
                                           double cap, int32_t retries) {
    struct coordinator_options wanted = {
        .n_stages = n_stages, .n_workers = n_workers, .flops_cap = cap, .retries = retries, .pack = 1};
    return simulation_coordinator_with(planner, &wanted);
}

struct coordinator *simulation_coordinator_with(const struct planner *planner,
                                                const struct coordinator_options *wanted) {
    static const double no_share[4];
    static const bool from_best[4] = {false, true, true, true};
    struct coordinator_options options = *wanted;
    options.stage_share = no_share;
    options.stage_from_best = from_best;
    options.over = OVER_SKIP;
    options.n_channel = 1;
    strcpy(options.metric, "val_loss");
    struct coordinator *coordinator;
    struct lvs_error err;
    return coordinator_create(&options, planner, &coordinator, &err) == LVS_OK ? coordinator : NULL;
}

/* Assignments under way, by worker. */
struct under_way {
    int32_t *trial; /* [n_workers], -1 = none */
    int32_t *busy;  /* [n_busy] workers */
    int32_t n_busy;
    bool *lost;
};

static void make_room(struct simulation *s, int32_t trial) {
    if (trial < s->settled_capacity) return;
    int32_t grown = trial * 2 + 64;
    size_t more = (size_t)(grown - s->settled_capacity);
    s->settled = realloc(s->settled, (size_t)grown * sizeof *s->settled);
    s->row_charged = realloc(s->row_charged, (size_t)grown * sizeof *s->row_charged);
    s->row_before = realloc(s->row_before, (size_t)grown * sizeof *s->row_before);
    memset(s->settled + s->settled_capacity, 0, more * sizeof *s->settled);
    memset(s->row_charged + s->settled_capacity, 0, more * sizeof *s->row_charged);
    memset(s->row_before + s->settled_capacity, 0, more * sizeof *s->row_before);
    s->settled_capacity = grown;
}

static void note_charge(struct simulation *s, const struct coordinator_action *action) {
    make_room(s, action->trial);
    s->row_charged[action->trial] += action->charged;
    s->charged += action->charged;
    s->lost += action->lost;
}

static void note_again(struct simulation *s, int32_t trial) {
    make_room(s, trial);
    s->row_before[trial] = s->row_charged[trial];
}

static void note_settled(struct simulation *s, int32_t trial) {
    make_room(s, trial);
    if (s->settled[trial]) s->double_settled = true;
    s->settled[trial] = true;
    s->n_settled++;
}

static void note_assigned(struct simulation *s, int32_t trial) {
    if (s->n_log == s->log_capacity) {
        s->log_capacity = s->log_capacity ? s->log_capacity * 2 : 64;
        s->log = realloc(s->log, (size_t)s->log_capacity * sizeof *s->log);
    }
    s->log[s->n_log++] = trial;
}

static enum lvs_status give(struct simulation *s, struct under_way *way, const struct coordinator_event *event,
                            struct lvs_error *err) {
    const struct coordinator_action *actions;
    int32_t n;
    LVS_TRY(coordinator_handle(s->coordinator, event, &actions, &n, err));
    for (int32_t i = 0; i < n; i++) {
        const struct coordinator_action *action = &actions[i];
        if (action->kind == ACTION_ADMITTED) s->n_admitted++;
        if (action->kind == ACTION_AGAIN) note_again(s, action->trial);
        if (action->kind == ACTION_SETTLED) note_settled(s, action->trial);
        if (action->kind == ACTION_RETRY) s->n_retries++;
        if (action->kind == ACTION_GIVE_UP) s->gave_up = true;
        if (action->kind == ACTION_PAUSED) s->n_paused++;
        if (action->kind == ACTION_RUNG && action->rung->verdict == RUNG_STOPPED) s->n_stopped++;
        if (action->kind == ACTION_SETTLED || action->kind == ACTION_RETRY || action->kind == ACTION_PAUSED)
            note_charge(s, action);
        if (action->kind != ACTION_ASSIGN) continue;
        if (way->trial[action->worker] >= 0 || way->lost[action->worker]) s->unknown_assignment = true;
        way->trial[action->worker] = action->trials[0];
        way->busy[way->n_busy++] = action->worker;
        s->n_assignments++;
        note_assigned(s, action->trials[0]);
    }
    const struct ledger *ledger = coordinator_ledger(s->coordinator);
    if (ledger->capped && ledger->spent + ledger->reserved > ledger->cap) s->over_cap = true;
    if (ledger->spent - s->spent_before != s->charged || ledger->lost != s->lost) s->unequal_ledgers = true;
    return LVS_OK;
}

/* Curves cross: what leads early need not lead late. */
double synthetic_loss(const struct trial *trial, int32_t step) {
    double late = (double)((trial->settings.seed * 37) % 97) / 100,
           early = (double)((trial->settings.seed * 59) % 97) / 10;
    return 1.0 + late + early / (1 + step);
}

static struct record outcome(struct simulation *s, int32_t worker, int32_t index, bool *transient) {
    const struct trial *trial = coordinator_trial(s->coordinator, index);
    struct record record;
    record_init(&record, trial);
    *transient = false;
    struct trial_segment segment = coordinator_segment(s->coordinator, index);
    record.status = segment.until > 0 ? TRIAL_PENDING : TRIAL_DONE;
    record.steps_done = segment.until > 0 ? segment.until : SYNTHETIC_STEPS;
    record.flops_training = segment.until > 0 ? segment.until * trial->price.step : trial->price.training;
    if (!coordinator_evaluate_only(s->coordinator, index) || trial->settings.narrow_first > 0)
        record.val_loss.loss = synthetic_loss(trial, record.steps_done);
    if (worker < s->bad_workers || rng_uniform(&s->rng) < s->death_rate) {
        record.status = TRIAL_FAILED;
        *transient = true;
        record.flops_training = 0;
        record.flops_lost = trial->price.step;
    } else if (rng_uniform(&s->rng) < s->diverge_rate) {
        record.status = TRIAL_DIVERGED;
        record.steps_done = segment.from;
        record.flops_training =
            segment.from * trial->price.step + (record.flops_training - segment.from * trial->price.step) / 3;
    }
    return record;
}

static enum lvs_status end_one(struct simulation *s, struct under_way *way, struct lvs_error *err) {
    int32_t chosen = (int32_t)rng_below(&s->rng, (uint32_t)way->n_busy), worker = way->busy[chosen];
    int32_t trial = way->trial[worker];
    way->busy[chosen] = way->busy[--way->n_busy];
    way->trial[worker] = -1;
    if (rng_uniform(&s->rng) < s->lost_rate) {
        way->lost[worker] = true;
        return give(s, way, &(struct coordinator_event){.kind = EVENT_WORKER_LOST, .worker = worker}, err);
    }
    bool transient;
    struct record record = outcome(s, worker, trial, &transient);
    s->n_records++;
    LVS_TRY(give(
        s, way,
        &(struct coordinator_event){.kind = EVENT_RECORD, .worker = worker, .transient = transient, .record = &record},
        err));
    if (s->stop_after > 0 && s->n_records == s->stop_after)
        LVS_TRY(give(s, way, &(struct coordinator_event){.kind = EVENT_STOP}, err));
    return give(s, way, &(struct coordinator_event){.kind = EVENT_WORKER_READY, .worker = worker}, err);
}

static enum lvs_status run_all(struct simulation *s, struct under_way *way, struct lvs_error *err) {
    s->spent_before = coordinator_ledger(s->coordinator)->spent;
    LVS_TRY(give(s, way, &(struct coordinator_event){.kind = EVENT_START}, err));
    for (int32_t w = 0; w < s->n_workers; w++)
        LVS_TRY(give(s, way, &(struct coordinator_event){.kind = EVENT_WORKER_READY, .worker = w}, err));
    while (!coordinator_finished(s->coordinator) && way->n_busy > 0)
        LVS_TRY(end_one(s, way, err));
    return LVS_OK;
}

bool simulation_run(struct simulation *s, struct lvs_error *err) {
    size_t n = (size_t)s->n_workers;
    struct under_way way = {
        .trial = malloc(n * sizeof(int32_t)), .busy = malloc(n * sizeof(int32_t)), .lost = calloc(n, sizeof(bool))};
    memset(way.trial, 0xff, n * sizeof(int32_t));
    enum lvs_status status = run_all(s, &way, err);
    free(way.trial);
    free(way.busy);
    free(way.lost);
    return status == LVS_OK && coordinator_finished(s->coordinator);
}

void simulation_hand_over(struct simulation *to, const struct simulation *from, int32_t index) {
    struct result_row row = {.trial = *coordinator_trial(from->coordinator, index),
                             .record = *coordinator_record(from->coordinator, index)};
    const struct rung_list *rungs = coordinator_rungs(from->coordinator, index);
    row.rungs = *rungs;
    if (row.record.status == TRIAL_RUNNING && row.record.attempt == 0) row.record.attempt = 1; /* `assigned` says so */
    if (index < from->settled_capacity) {
        row.charged = from->row_charged[index];
        row.charged_before = from->row_before[index];
    }
    coordinator_add_row(to->coordinator, &row);
    make_room(to, index);
    to->row_charged[index] = row.charged;
    to->row_before[index] = row.charged_before;
    if (index == 0) to->lost = coordinator_ledger(from->coordinator)->lost;
    coordinator_set_lost(to->coordinator, to->lost);
}

void simulation_free(struct simulation *s) {
    free(s->row_charged);
    free(s->row_before);
    coordinator_destroy(s->coordinator);
    free(s->settled);
    free(s->log);
}

struct simulation simulation_of(const struct planner *planner, const struct coordinator_options *options) {
    return (struct simulation){.coordinator = simulation_coordinator_with(planner, options),
                               .n_workers = options->n_workers};
}

struct simulation simulation_resumed(const struct planner *planner, const struct coordinator_options *options,
                                     const struct simulation *before) {
    struct simulation s = simulation_of(planner, options);
    for (int32_t i = 0; i < coordinator_n_trials(before->coordinator); i++)
        simulation_hand_over(&s, before, i);
    return s;
}
