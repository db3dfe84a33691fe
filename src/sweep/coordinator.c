/* The coordinator: events in, actions out. It knows trials, workers and the ledger; it has no clock, no files and no
 * messages, so that a simulator can drive it through any history. Invariant: the ledger's reservations are exactly
 * those of trials that are queued or assigned. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator_internal.h"

struct coordinator_action *coordinator_emit(struct coordinator *c, enum coordinator_action_kind kind) {
    if (c->n_actions == c->actions_capacity) {
        c->actions_capacity = c->actions_capacity ? c->actions_capacity * 2 : 64;
        c->actions = lvs_realloc(c->actions, (size_t)c->actions_capacity * sizeof *c->actions);
    }
    struct coordinator_action *action = &c->actions[c->n_actions++];
    *action = (struct coordinator_action){.kind = kind, .worker = -1, .trial = -1, .stage = c->stage};
    return action;
}

enum lvs_status coordinator_create(const struct coordinator_options *options, const struct planner *planner,
                                   struct coordinator **out, struct lvs_error *err) {
    if (options->pack < 1 || options->pack > ASSIGNMENT_MAX)
        return lvs_fail(err, LVS_BUG, "coordinator: pack %d outside 1 … %d", options->pack, ASSIGNMENT_MAX);
    struct coordinator *c = lvs_calloc(1, sizeof *c);
    size_t n_stages = (size_t)options->n_stages, n_workers = (size_t)options->n_workers;
    c->options = *options;
    c->stage_share = lvs_calloc(n_stages, sizeof *c->stage_share);
    c->stage_from_best = lvs_calloc(n_stages, sizeof *c->stage_from_best);
    memcpy(c->stage_share, options->stage_share, n_stages * sizeof *c->stage_share);
    memcpy(c->stage_from_best, options->stage_from_best, n_stages * sizeof *c->stage_from_best);
    c->planner = *planner;
    ledger_init(&c->ledger, options->flops_cap);
    c->workers = lvs_calloc(n_workers, sizeof *c->workers);
    c->idle = lvs_calloc(n_workers, sizeof *c->idle);
    c->n_alive = options->n_workers;
    c->stage = -1;
    c->best = c->best_point = -1;
    *out = c;
    return LVS_OK;
}

void coordinator_destroy(struct coordinator *c) {
    if (!c) return;
    free(c->stage_share);
    free(c->stage_from_best);
    for (int32_t i = 0; i < c->n_blocks; i++)
        free(c->blocks[i]);
    free(c->blocks);
    free(c->by_eval_key);
    free(c->by_train_key);
    free(c->stage_rows);
    free(c->axis_values);
    free(c->contenders);
    free(c->queue);
    free(c->workers);
    free(c->idle);
    free(c->actions);
    free(c);
}

static struct trial_state *add_known(struct coordinator *c, const struct trial *trial, const struct record *record,
                                     int64_t charged) {
    int32_t row = coordinator_find_eval(c, trial->eval_key);
    if (row < 0) row = coordinator_append(c, trial);
    struct trial_state *state = coordinator_at(c, row);
    state->record = *record;
    state->record.index = row;
    state->attempts = record->attempt;
    state->charged += charged;
    if (record->attempt > 0) coordinator_begin(c, row);
    /* A charge stays spent whatever becomes of the grid; it counts as `outside` until a stage asks for the trial. */
    ledger_add_outside(&c->ledger, charged);
    return state;
}

void coordinator_add_row(struct coordinator *c, const struct result_row *row) {
    struct trial_state *state = add_known(c, &row->trial, &row->record, row->charged);
    if (row->record.status == TRIAL_SUPERSEDED) state->record.status = row->status_before;
    state->rungs = row->rungs;
    state->charged_before = row->charged_before;
    if (!row->outside) state->known_stage = row->trial.stage;
}

void coordinator_set_lost(struct coordinator *c, __int128 flops) {
    c->ledger.lost = flops;
}

/* ---- events ---- */

/* The end of a trial's reservation, in the ledger and as an action that tells the journal the same. */
static void take_charge(struct coordinator *c, int32_t row, enum coordinator_action_kind kind, int64_t charge,
                        int64_t lost) {
    struct trial_state *state = coordinator_at(c, row);
    if (charge > state->reserved) charge = state->reserved;
    ledger_settle(&c->ledger, state->reserved, charge);
    ledger_add_lost(&c->ledger, lost);
    state->reserved = 0;
    state->charged += charge;
    struct coordinator_action *action = coordinator_emit(c, kind);
    action->trial = row;
    action->charged = charge;
    action->lost = lost;
}

/* What a dead attempt costs: nothing, unless the user wants lost steps to be charged. */
static int64_t charge_of_loss(const struct coordinator *c, const struct record *record) {
    return c->options.lost == LOST_CHARGE ? record->flops_lost : 0;
}

/* The record as the row's. Records count from a trial's first step: one of a trial that came to nothing says at least
 * what it had done at its last rung. */
static void take_over(struct coordinator *c, int32_t row, const struct record *record) {
    struct trial_state *state = coordinator_at(c, row);
    int64_t lost = state->record.flops_lost, evaluation = state->record.flops_evaluation;
    double before = state->rungs.n > 0 && state->record.seconds > 0 ? state->record.seconds : 0;
    state->record = *record;
    state->record.seconds += before; /* of its earlier assignments */
    state->record.index = row;
    state->record.attempt = state->attempts;
    state->record.flops_lost = lost + record->flops_lost;
    int64_t training = rungs_last_step(state) * state->trial.price.step;
    if (state->rungs.n == 0 || record->flops_training >= training) return;
    state->record.flops_training = training;
    state->record.flops_evaluation = evaluation;
}

/* What the ledger takes for a record: all that it counts but what was charged at earlier rungs. */
static int64_t charge_of(const struct coordinator *c, const struct trial_state *state, const struct record *record) {
    int64_t counted = coordinator_counted(c, record) - rungs_charged(state);
    return (counted > 0 ? counted : 0) + charge_of_loss(c, record);
}

/* A second pass measures no loss: it is that of the first pass, whose weights it has. */
static void hand_on_losses(struct coordinator *c, int32_t row) {
    struct trial_state *state = coordinator_at(c, row);
    int32_t parent = state->trial.parent;
    if (!state->evaluate_only || state->trial.settings.loss || parent < 0 || parent >= c->n_trials) return;
    const struct trial_state *first = coordinator_at(c, parent);
    if (strcmp(first->trial.train_key, state->trial.train_key) != 0) return;
    state->record.val_loss = first->record.val_loss;
    state->record.test_loss = first->record.test_loss;
}

static void settle(struct coordinator *c, int32_t row, const struct record *record) {
    int64_t charge = charge_of(c, coordinator_at(c, row), record);
    take_over(c, row, record);
    hand_on_losses(c, row);
    c->n_open--;
    take_charge(c, row, ACTION_SETTLED, charge, record->flops_lost);
}

/* A trial has come to its rung. Its loss there is the rung's: val_loss is that of a finished trial. */
static void pause_at_rung(struct coordinator *c, int32_t row, const struct record *record) {
    static const struct loss_metrics unknown = {.loss = NAN, .loss_masked = NAN, .nats_per_value = NAN};
    struct trial_state *state = coordinator_at(c, row);
    const struct rung rung = {
        .step = record->steps_done, .loss = record->val_loss.loss, .flops = coordinator_counted(c, record)};
    int64_t charge = charge_of(c, state, record);
    take_over(c, row, record);
    state->record.val_loss = unknown;
    state->attempts--; /* what follows is no other attempt */
    c->n_open--;
    rung_list_set(&state->rungs, &rung);
    take_charge(c, row, ACTION_PAUSED, charge, record->flops_lost);
    c->actions[c->n_actions - 1].rung = rung_list_find(&state->rungs, rung.step);
    if (rungs_at_once(c) && !c->stopping) rungs_decide_now(c, row);
}

/* Another attempt, when there is one left and the budget holds it beside what the dead one is charged. */
static bool retry(struct coordinator *c, int32_t row, const struct record *record) {
    struct trial_state *state = coordinator_at(c, row);
    int64_t price = state->segment, charge = charge_of_loss(c, record);
    if (charge > state->reserved) charge = state->reserved;
    if (state->attempts - state->attempts_before > c->options.retries) return false;
    if (ledger_left(&c->ledger) < (__int128)price + charge - state->reserved) return false;
    take_charge(c, row, ACTION_RETRY, charge, record->flops_lost);
    c->actions[c->n_actions - 1].reserved = price;
    ledger_reserve(&c->ledger, price);
    state->reserved = price;
    state->record.flops_lost += record->flops_lost;
    state->record.attempt = state->attempts;
    state->record.status = TRIAL_PENDING;
    memcpy(state->record.error, record->error, sizeof state->record.error);
    state->avoid = state->record.worker;
    coordinator_enqueue(c, row);
    return true;
}

static void interrupt(struct coordinator *c, int32_t row, const struct record *record) {
    take_over(c, row, record);
    coordinator_at(c, row)->record.status = TRIAL_INTERRUPTED;
    c->n_open--;
    take_charge(c, row, ACTION_SETTLED, charge_of_loss(c, record), record->flops_lost);
}

/* What a worker had and will say nothing about any more. */
static void take_back(struct coordinator *c, int32_t worker, const char *why) {
    struct worker_state *state = &c->workers[worker];
    for (int32_t i = 0; i < state->n_assigned; i++) {
        if (!state->open[i]) continue;
        struct record record;
        record_init(&record, &coordinator_at(c, state->assigned[i])->trial);
        record.status = TRIAL_FAILED;
        record.worker = worker;
        lvs_copy(record.error, sizeof record.error, why);
        state->open[i] = false;
        if (c->stopping)
            interrupt(c, state->assigned[i], &record);
        else if (!retry(c, state->assigned[i], &record))
            settle(c, state->assigned[i], &record);
    }
    state->n_assigned = state->n_open = 0;
}

static void worker_ready(struct coordinator *c, int32_t worker) {
    struct worker_state *state = &c->workers[worker];
    if (state->phase == WORKER_GONE || state->phase == WORKER_IDLE) return;
    if (state->n_open > 0) take_back(c, worker, "the worker came back without a record of it");
    if (state->phase == WORKER_BUSY) c->n_busy--;
    state->phase = WORKER_IDLE;
    dispatch_idle(c, worker);
}

static void close_assignment(struct coordinator *c, int32_t worker, int32_t row) {
    struct worker_state *state = &c->workers[worker];
    for (int32_t i = 0; i < state->n_assigned; i++) {
        if (state->assigned[i] != row || !state->open[i]) continue;
        state->open[i] = false;
        state->n_open--;
    }
}

static void quarantine(struct coordinator *c, int32_t worker) {
    struct worker_state *state = &c->workers[worker];
    if (state->phase == WORKER_BUSY) c->n_busy--;
    state->phase = WORKER_GONE;
    c->n_alive--;
    coordinator_emit(c, ACTION_QUARANTINE)->worker = worker;
}

static bool all_fail(const struct coordinator *c) {
    for (int32_t w = 0; w < c->options.n_workers; w++)
        if (c->workers[w].phase != WORKER_GONE && c->workers[w].failures_in_row < c->options.quarantine_after)
            return false;
    return true;
}

/* A worker whose trials die again and again, while others succeed, gets no more. When nothing ever succeeded and all
 * workers fail, over several assignments, the cause is none of theirs and the rest would fail too. A pack dies of one
 * cause and counts once. */
static void note_health(struct coordinator *c, int32_t worker, int32_t row, bool failed) {
    struct worker_state *state = &c->workers[worker];
    const struct trial_state *trial = coordinator_at(c, row);
    if (failed && state->assignment_failed) return;
    state->assignment_failed |= failed;
    state->failures_in_row = failed ? state->failures_in_row + 1 : 0;
    if (!failed) c->any_success = true;
    int32_t allowed = c->options.quarantine_after;
    if (!failed || allowed <= 0 || c->stopping) return;
    if (!c->any_success && trial->attempts - trial->attempts_before == 1) c->n_failed_first++;
    if (state->failures_in_row < allowed || state->phase == WORKER_GONE) return;
    if (c->any_success && c->n_alive > 1) quarantine(c, worker);
    if (c->any_success || c->n_failed_first < allowed || !all_fail(c)) return;
    c->stopping = true;
    coordinator_emit(c, ACTION_GIVE_UP)->trial = row;
}

static void take_record(struct coordinator *c, const struct coordinator_event *event) {
    const struct record *record = event->record;
    int32_t row = record->index;
    if (row < 0 || row >= c->n_trials || coordinator_at(c, row)->record.status != TRIAL_RUNNING) return;
    close_assignment(c, event->worker, row);
    bool failed = record->status == TRIAL_FAILED && event->transient;
    if (record->status == TRIAL_INTERRUPTED || (failed && c->stopping))
        interrupt(c, row, record);
    else if (record->status == TRIAL_PENDING)
        pause_at_rung(c, row, record);
    else if (!failed || !retry(c, row, record))
        settle(c, row, record);
    note_health(c, event->worker, row, failed);
}

static void worker_lost(struct coordinator *c, int32_t worker) {
    struct worker_state *state = &c->workers[worker];
    if (state->phase == WORKER_GONE) return;
    if (state->phase == WORKER_BUSY) c->n_busy--;
    state->phase = WORKER_GONE;
    c->n_alive--;
    take_back(c, worker, "the worker was lost");
}

/* Nothing can go on: every worker is gone, or a stop was asked for and all have come back. */
static bool is_stuck(const struct coordinator *c) {
    if (c->finished || c->n_busy > 0) return false;
    return c->stopping || c->n_alive == 0;
}

enum lvs_status coordinator_handle(struct coordinator *c, const struct coordinator_event *event,
                                   const struct coordinator_action **actions, int32_t *n_actions,
                                   struct lvs_error *err) {
    c->n_actions = 0;
    enum lvs_status status = LVS_OK;
    switch (event->kind) {
    case EVENT_START:
        status = coordinator_open_stages(c, 0, err);
        break;
    case EVENT_WORKER_READY:
        worker_ready(c, event->worker);
        break;
    case EVENT_RECORD:
        take_record(c, event);
        break;
    case EVENT_WORKER_LOST:
        worker_lost(c, event->worker);
        break;
    case EVENT_STOP:
        c->stopping = true;
        break;
    }
    if (status == LVS_OK && !c->stopping) status = coordinator_end_stage_if_done(c, err);
    if (status == LVS_OK) dispatch_queued(c);
    if (status == LVS_OK && is_stuck(c)) {
        c->finished = true;
        coordinator_emit(c, ACTION_FINISHED);
    }
    *actions = c->actions;
    *n_actions = c->n_actions;
    return status;
}

/* ---- reading ---- */

int32_t coordinator_n_trials(const struct coordinator *c) {
    return c->n_trials;
}

const struct trial *coordinator_trial(const struct coordinator *c, int32_t index) {
    return &coordinator_at(c, index)->trial;
}

const struct record *coordinator_record(const struct coordinator *c, int32_t index) {
    return &coordinator_at(c, index)->record;
}

bool coordinator_in_stage(const struct coordinator *c, int32_t index, int32_t stage) {
    return coordinator_at(c, index)->stages >> stage & 1;
}

bool coordinator_evaluate_only(const struct coordinator *c, int32_t index) {
    return coordinator_at(c, index)->evaluate_only;
}

const struct rung_list *coordinator_rungs(const struct coordinator *c, int32_t index) {
    return &coordinator_at(c, index)->rungs;
}

struct trial_segment coordinator_segment(const struct coordinator *c, int32_t index) {
    const struct trial_state *state = coordinator_at(c, index);
    struct trial_segment segment = {.until = state->until, .price = state->segment, .charged = rungs_charged(state)};
    for (int32_t i = 0; i < state->rungs.n; i++)
        if (state->until == 0 || state->rungs.rung[i].step < state->until) segment.from = state->rungs.rung[i].step;
    return segment;
}

int32_t coordinator_best(const struct coordinator *c) {
    return c->best;
}

const struct ledger *coordinator_ledger(const struct coordinator *c) {
    return &c->ledger;
}

bool coordinator_finished(const struct coordinator *c) {
    return c->finished;
}

int32_t coordinator_stage(const struct coordinator *c) {
    return c->stage;
}

int32_t coordinator_open_trials(const struct coordinator *c) {
    return c->n_open;
}
