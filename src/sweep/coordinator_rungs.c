/* [stop] rule: trials pause at rungs, where their validation losses are compared.
 * halving: all that are in the race come to a rung before the best ceil(n / factor) of the n that set out for it go on;
 * nothing depends on the order in which they come. asha, median: a trial is judged as it comes, against those that came
 * before it. Rungs lie at steps / factor^k, as many as leave min_steps to the shortest of the stage's trials.
 * Invariant: the race is a function of the rows' rungs alone, so a resume repeats every decision. */
#include <math.h>
#include <stdlib.h>

#include "coordinator_internal.h"
#include "race_bound.h"

bool rungs_at_once(const struct coordinator *c) {
    return c->options.stop_rule == STOP_ASHA || c->options.stop_rule == STOP_MEDIAN;
}

/* ---- where they are ---- */

static int32_t steps_of(const struct trial_state *state) {
    return (int32_t)state->trial.settings.steps.value;
}

/* Step of rung `rung` (0 = the lowest) of n_rungs. */
static int32_t rung_step(const struct coordinator *c, const struct trial_state *state, int32_t rung) {
    int64_t step = steps_of(state);
    for (int32_t k = rung; k < c->n_rungs; k++)
        step /= c->options.stop_factor;
    return (int32_t)step;
}

/* A row that trains in this stage, or did in an earlier run of it: one that failed before its first rung, too. */
static bool is_racing(const struct coordinator *c, const struct trial_state *state) {
    if (state->evaluate_only) return false;
    bool failed = state->record.status == TRIAL_FAILED || state->record.status == TRIAL_DIVERGED;
    return state->rungs.n > 0 || !coordinator_is_settled(c, state) || (failed && state->trial.stage == c->stage);
}

int32_t rungs_of_stage(const struct coordinator *c) {
    int32_t fewest = RUNGS_MAX, n = 0;
    if (c->options.stop_rule == STOP_NONE) return 0;
    for (int32_t i = 0; i < c->n_points; i++) {
        const struct trial_state *state = coordinator_at(c, c->stage_rows[i]);
        if (!is_racing(c, state)) continue;
        int32_t rungs = 0;
        for (int64_t step = steps_of(state) / c->options.stop_factor; step >= c->options.stop_min_steps && step > 0;)
            rungs++, step /= c->options.stop_factor;
        fewest = rungs < fewest ? rungs : fewest;
        n++;
    }
    return n > 1 ? fewest : 0;
}

int32_t rungs_target(const struct coordinator *c, const struct trial_state *state) {
    if (state->evaluate_only) return 0;
    for (int32_t rung = 0; rung < c->n_rungs; rung++) {
        int32_t step = rung_step(c, state, rung);
        if (step > rungs_last_step(state)) return step;
    }
    return 0;
}

/* ---- what they cost ---- */

/* FLOPs that count for steps (from, to] with the evaluations that go with them. */
static int64_t steps_price(const struct coordinator *c, const struct trial_state *state, int32_t from, int32_t to) {
    const struct trial_price *price = &state->trial.price;
    int32_t steps = steps_of(state), every = state->trial.settings.every;
    int64_t training = price->step * (to - from);
    if (!c->options.count_evaluation) return training;
    int64_t periodic = every > 0 ? price->periodic * (to / every - from / every) : 0;
    int64_t last = price->evaluation - price->baseline - (every > 0 ? price->periodic * (steps / every) : 0);
    return training + (from == 0 ? price->baseline : 0) + periodic + (to < steps ? price->rung : last);
}

/* Its last pause before `until`. */
static int32_t start_of(const struct trial_state *state, int32_t until) {
    int32_t from = 0;
    for (int32_t i = 0; i < state->rungs.n; i++)
        if (until == 0 || state->rungs.rung[i].step < until) from = state->rungs.rung[i].step;
    return from;
}

int64_t rungs_price(const struct coordinator *c, const struct trial_state *state, int32_t until) {
    int32_t from = start_of(state, until);
    if (until == 0 && from == 0) return state->trial.price.counted;
    return steps_price(c, state, from, until > 0 ? until : steps_of(state));
}

int64_t rungs_price_left(const struct coordinator *c, const struct trial_state *state) {
    int32_t from = rungs_last_step(state);
    if (state->evaluate_only || (c->n_rungs == 0 && from == 0)) return state->trial.price.counted;
    int64_t sum = 0;
    for (int32_t rung = 0; rung < c->n_rungs; rung++) {
        int32_t step = rung_step(c, state, rung);
        if (step <= from) continue;
        sum += steps_price(c, state, from, step);
        from = step;
    }
    return sum + steps_price(c, state, from, steps_of(state));
}

/* ---- admission of a race: what it costs at most (race_bound.h) ---- */

static void segment_prices(const struct coordinator *c, const struct trial_state *state, int64_t *out) {
    for (int32_t k = 0, from = 0; k <= c->n_rungs; k++) {
        int32_t to = k < c->n_rungs ? rung_step(c, state, k) : steps_of(state);
        out[k] = steps_price(c, state, from, to);
        from = to;
    }
}

/* Trials cut before are cut again, those in the race stay in it: what was spent on it is added back, but what a trial
 * cost before it was run again. */
static __int128 room_of_race(const struct coordinator *c) {
    __int128 charged = 0;
    for (int32_t i = 0; i < c->n_points; i++) {
        const struct trial_state *state = coordinator_at(c, c->stage_rows[i]);
        if (is_racing(c, state) && state->trial.stage == c->stage) charged += state->charged - state->charged_before;
    }
    return coordinator_room(c, charged);
}

static void admit_race(struct coordinator *c) {
    struct race_bound bound;
    __int128 room = room_of_race(c);
    bool stopped = false;
    race_bound_init(&bound, c->options.stop_factor, c->n_rungs + 1, c->n_points);
    for (int32_t i = 0; i < c->n_points; i++) {
        struct trial_state *state = coordinator_at(c, c->stage_rows[i]);
        int64_t segments[RUNGS_MAX + 1];
        if (!is_racing(c, state)) continue;
        bool known = state->rungs.n > 0 || state->attempts > 0 || coordinator_is_settled(c, state);
        if (!coordinator_may_begin(c, c->stage_rows[i])) {
            coordinator_cut(c, c->stage_rows[i], CUT_BY_TRIALS);
            continue;
        }
        segment_prices(c, state, segments);
        if (!(stopped && !known) && race_bound_add(&bound, segments, room, known)) {
            c->contenders[c->n_contenders++] = c->stage_rows[i];
            coordinator_begin(c, c->stage_rows[i]);
            continue;
        }
        coordinator_cut(c, c->stage_rows[i], CUT_BY_FLOPS);
        stopped = stopped || c->options.over == OVER_STOP;
    }
    race_bound_free(&bound);
}

/* ---- the race ---- */

/* Notes the verdict when it is a new one. */
static void judge(struct coordinator *c, int32_t row, int32_t step, enum rung_verdict verdict, int32_t place, int32_t n,
                  int32_t kept) {
    struct trial_state *state = coordinator_at(c, row);
    for (int32_t i = 0; i < state->rungs.n; i++) {
        struct rung *rung = &state->rungs.rung[i];
        if (rung->step != step || rung->verdict == (int32_t)verdict) continue;
        struct coordinator_action *action = coordinator_emit(c, ACTION_RUNG);
        action->trial = row;
        action->rung = rung;
        action->place = place;
        action->n_at_rung = n;
        action->n_kept = kept;
        action->reversed = rung->verdict != RUNG_WAITS;
        rung->verdict = verdict;
    }
}

/* What it did beyond its last rung, before an interruption, was never charged and is no part of its record. */
static void stop(struct coordinator *c, int32_t row) {
    struct trial_state *state = coordinator_at(c, row);
    struct record *record = &state->record;
    bool is_open = record->status == TRIAL_PENDING || record->status == TRIAL_INTERRUPTED ||
                   record->status == TRIAL_RUNNING || record->status == TRIAL_CUT;
    if (!is_open) return;
    record->status = TRIAL_STOPPED;
    record->steps_done = rungs_last_step(state);
    record->flops_training = record->steps_done * state->trial.price.step;
    coordinator_emit(c, ACTION_SETTLED)->trial = row;
}

static int32_t target_of(const struct coordinator *c, const struct trial_state *state) {
    return c->rung < c->n_rungs ? rung_step(c, state, c->rung) : 0;
}

/* Sends everyone in the race to the present rung who has not been there. */
static void run_to_rung(struct coordinator *c) {
    for (int32_t i = 0; i < c->n_contenders; i++) {
        int32_t row = c->contenders[i];
        struct trial_state *state = coordinator_at(c, row);
        int32_t target = target_of(c, state);
        if (coordinator_is_settled(c, state) || (target > 0 && rung_list_find(&state->rungs, target))) continue;
        int64_t price = rungs_price(c, state, target);
        if (ledger_reserve(&c->ledger, price))
            coordinator_admit(c, row, target, price);
        else if (state->rungs.n > 0)
            stop(c, row); /* lost = charge has used up what this was admitted with */
        else
            coordinator_cut(c, row, CUT_BY_FLOPS);
    }
}

/* What an earlier run left undecided is decided now; the others go on where they paused. */
static void start_at_once(struct coordinator *c, const int32_t *to_run, int32_t n) {
    int32_t *rows = lvs_malloc((size_t)n * sizeof *rows + 1), n_rows = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct rung_list *rungs = &coordinator_at(c, to_run[i])->rungs;
        int32_t verdict = rungs->n > 0 ? rungs->rung[rungs->n - 1].verdict : RUNG_GOES_ON;
        if (verdict == RUNG_GOES_ON)
            rows[n_rows++] = to_run[i];
        else if (verdict == RUNG_WAITS)
            rungs_decide_now(c, to_run[i]);
        else
            stop(c, to_run[i]);
    }
    coordinator_admit_rows(c, rows, n_rows);
    free(rows);
}

void rungs_start(struct coordinator *c, const int32_t *to_run, int32_t n) {
    if (rungs_at_once(c)) {
        start_at_once(c, to_run, n);
        return;
    }
    int32_t *others = lvs_malloc((size_t)n * sizeof *others + 1), n_others = 0;
    for (int32_t i = 0; i < n; i++)
        if (!is_racing(c, coordinator_at(c, to_run[i]))) others[n_others++] = to_run[i];
    c->contenders = lvs_realloc(c->contenders, (size_t)c->n_points * sizeof *c->contenders + 1);
    admit_race(c);
    run_to_rung(c);
    for (int32_t i = 0; i < c->n_contenders; i++) { /* members that have been at the first rung already */
        const struct trial_state *state = coordinator_at(c, c->contenders[i]);
        if (!state->queued && !coordinator_is_settled(c, state))
            coordinator_emit(c, ACTION_REUSED)->trial = c->contenders[i];
    }
    coordinator_admit_rows(c, others, n_others);
    free(others);
}

struct ranked {
    double loss; /* of the plan: minus the price, so that the dearest lead */
    int32_t row, step;
};

static int by_loss(const void *left, const void *right) {
    const struct ranked *a = left, *b = right;
    double x = isnan(a->loss) ? INFINITY : a->loss, y = isnan(b->loss) ? INFINITY : b->loss;
    if (x != y) return x < y ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static int by_row(const void *left, const void *right) {
    int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;
    return (a > b) - (a < b);
}

static void decide(struct coordinator *c) {
    int32_t entered = c->n_contenders, kept = race_kept(entered, c->options.stop_factor), n = 0, n_on = 0;
    struct ranked *ranked = lvs_malloc((size_t)entered * sizeof *ranked + 1);
    for (int32_t i = 0; i < entered; i++) {
        const struct trial_state *state = coordinator_at(c, c->contenders[i]);
        int32_t step = target_of(c, state);
        const struct rung *rung = rung_list_find(&state->rungs, step);
        if (!rung) continue;
        double loss =
            c->options.dearest_is_best && isnan(rung->loss) ? -(double)rungs_price_left(c, state) : rung->loss;
        ranked[n++] = (struct ranked){.loss = loss, .row = c->contenders[i], .step = step};
    }
    qsort(ranked, (size_t)n, sizeof *ranked, by_loss);
    for (int32_t i = 0; i < n; i++) {
        bool goes_on = i < kept;
        judge(c, ranked[i].row, ranked[i].step, goes_on ? RUNG_GOES_ON : RUNG_STOPPED, i + 1, n, kept);
        if (goes_on)
            c->contenders[n_on++] = ranked[i].row;
        else
            stop(c, ranked[i].row);
    }
    c->n_contenders = n_on;
    qsort(c->contenders, (size_t)n_on, sizeof *c->contenders, by_row);
    free(ranked);
}

bool rungs_next(struct coordinator *c) {
    if (rungs_at_once(c) || c->rung >= c->n_rungs) return false;
    decide(c);
    c->rung++;
    run_to_rung(c);
    return true;
}

/* ---- at once ---- */

/* Losses of the stage's other trials at the rung with this trial's number of rungs before it. */
static int32_t others_at_rung(const struct coordinator *c, int32_t row, int32_t rung, double loss, double *losses,
                              int32_t *n_better) {
    int32_t n = 0;
    *n_better = 0;
    for (int32_t i = 0; i < c->n_points; i++) {
        const struct trial_state *state = coordinator_at(c, c->stage_rows[i]);
        if (c->stage_rows[i] == row || state->evaluate_only) continue;
        const struct rung *other = rung_list_find(&state->rungs, rung_step(c, state, rung));
        if (!other || isnan(other->loss)) continue;
        losses[n++] = other->loss;
        *n_better += other->loss < loss;
    }
    return n;
}

static int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static bool goes_on_at_once(const struct coordinator *c, int32_t row, const struct rung *at, int32_t *place,
                            int32_t *n_at_rung) {
    const struct trial_state *state = coordinator_at(c, row);
    double *losses = lvs_malloc((size_t)c->n_points * sizeof *losses + 1);
    int32_t number = 0, n_better;
    while (number < c->n_rungs - 1 && rung_step(c, state, number) < at->step)
        number++;
    int32_t n = others_at_rung(c, row, number, at->loss, losses, &n_better), factor = c->options.stop_factor;
    bool goes_on = !isnan(at->loss) || c->options.dearest_is_best;
    if (c->options.stop_rule == STOP_ASHA) {
        int32_t kept = (n + 1) / factor;
        goes_on = goes_on && n_better < (kept > 1 ? kept : 1);
    } else if (n >= factor) {
        qsort(losses, (size_t)n, sizeof *losses, compare_doubles);
        double median = n % 2 ? losses[n / 2] : (losses[n / 2 - 1] + losses[n / 2]) / 2;
        goes_on = goes_on && !(at->loss > median);
    }
    free(losses);
    *place = n_better + 1;
    *n_at_rung = n + 1;
    return goes_on;
}

void rungs_decide_now(struct coordinator *c, int32_t row) {
    struct trial_state *state = coordinator_at(c, row);
    struct rung at = state->rungs.rung[state->rungs.n - 1];
    int32_t place, n;
    int64_t left = rungs_price_left(c, state);
    bool goes_on = goes_on_at_once(c, row, &at, &place, &n);
    judge(c, row, at.step, goes_on ? RUNG_GOES_ON : RUNG_STOPPED, place, n, 0);
    if (goes_on && ledger_reserve(&c->ledger, left))
        coordinator_admit(c, row, rungs_target(c, state), left);
    else
        stop(c, row);
}
