/* Dispatch: which waiting trials go to which idle worker. Longest trial first, to the worker that has been idle
 * longest, in packs of trials that train alike. Invariant: who is admitted was decided before; this only orders them.
 */
#include <string.h>

#include "coordinator_internal.h"

#define PACK_LOOK 64 /* trials of other kinds that a pack being filled passes over at most */

void dispatch_idle(struct coordinator *c, int32_t worker) {
    c->idle[(c->idle_head + c->n_idle) % c->options.n_workers] = worker;
    c->n_idle++;
}

static bool pack_together(const struct trial_state *a, const struct trial_state *b) {
    const struct settings *x = &a->trial.settings, *y = &b->trial.settings;
    return a->evaluate_only == b->evaluate_only && x->context == y->context && x->batch == y->batch &&
           x->padding == y->padding && x->head == y->head && x->lora_targets == y->lora_targets &&
           x->decimals == y->decimals && memcmp(&x->stride, &y->stride, sizeof x->stride) == 0 &&
           lora_padded_rank(x->lora_rank) == lora_padded_rank(y->lora_rank) && x->head != HEAD_WEIGHT;
}

/* Trials that may go with `first`. Where packing changes no bit, packs are narrower when workers would be idle. */
static int32_t pack_limit(const struct coordinator *c, int32_t first) {
    const struct settings *settings = &coordinator_at(c, first)->trial.settings;
    bool exact = c->options.packs_exactly && c->options.packs_exactly(settings), automatic = c->options.pack_rows > 0;
    int64_t rows = (int64_t)settings->batch * settings->context;
    int32_t limit = c->options.pack;
    if (automatic && !exact) return 1;
    if (automatic && limit * rows > c->options.pack_rows)
        limit = rows < c->options.pack_rows ? (int32_t)(c->options.pack_rows / rows) : 1;
    if (!exact) return limit;
    int32_t waiting = c->n_queue + 1; /* the first is taken already */
    int32_t even = (waiting + c->n_alive - 1) / (c->n_alive > 0 ? c->n_alive : 1);
    return even < limit ? even : limit;
}

/* The next trial for a worker: the first of the queue, or the second when the first failed on this very worker. */
static int32_t take_first(struct coordinator *c, int32_t worker) {
    int32_t first = coordinator_dequeue(c);
    if (coordinator_at(c, first)->avoid != worker || c->n_alive < 2 || c->n_queue == 0) return first;
    int32_t second = coordinator_dequeue(c);
    coordinator_enqueue(c, first);
    return second;
}

static void give(struct coordinator *c, int32_t row, int32_t worker) {
    struct worker_state *state = &c->workers[worker];
    struct trial_state *trial = coordinator_at(c, row);
    trial->attempts++;
    trial->record.status = TRIAL_RUNNING;
    trial->record.worker = worker;
    state->open[state->n_assigned] = true;
    state->assigned[state->n_assigned++] = row;
}

/* Fills the worker's pack: the trials that may go with `first`, of those at the head of the queue, in its order. The
 * others go back. */
static void give_alike(struct coordinator *c, int32_t worker, int32_t first, int32_t limit) {
    struct worker_state *state = &c->workers[worker];
    int32_t aside[PACK_LOOK], n_aside = 0;
    while (c->n_queue > 0 && state->n_assigned < limit && n_aside < PACK_LOOK) {
        int32_t row = coordinator_dequeue(c);
        if (pack_together(coordinator_at(c, first), coordinator_at(c, row)))
            give(c, row, worker);
        else
            aside[n_aside++] = row;
    }
    for (int32_t i = 0; i < n_aside; i++)
        coordinator_enqueue(c, aside[i]);
}

static void assign(struct coordinator *c, int32_t worker) {
    struct worker_state *state = &c->workers[worker];
    int32_t first = take_first(c, worker), limit = pack_limit(c, first);
    state->n_assigned = 0;
    state->assignment_failed = false;
    give(c, first, worker);
    give_alike(c, worker, first, limit);
    state->n_open = state->n_assigned;
    state->phase = WORKER_BUSY;
    c->n_busy++;
    struct coordinator_action *action = coordinator_emit(c, ACTION_ASSIGN);
    action->worker = worker;
    action->trials = state->assigned;
    action->n_trials = state->n_assigned;
    action->trial = state->assigned[0];
    action->attempt = coordinator_at(c, state->assigned[0])->attempts;
}

/* The worker that has been idle longest; another one when the first trial failed on that. */
static int32_t take_idle(struct coordinator *c) {
    int32_t n_workers = c->options.n_workers, *idle = c->idle;
    int32_t first = c->idle_head, second = (first + 1) % n_workers;
    if (c->n_idle > 1 && coordinator_at(c, c->queue[0].row)->avoid == idle[first]) {
        int32_t worker = idle[first];
        idle[first] = idle[second];
        idle[second] = worker;
    }
    c->idle_head = second;
    c->n_idle--;
    return idle[first];
}

void dispatch_queued(struct coordinator *c) {
    while (!c->stopping && c->n_idle > 0 && c->n_queue > 0) {
        int32_t worker = take_idle(c);
        if (c->workers[worker].phase == WORKER_IDLE) assign(c, worker);
    }
}
