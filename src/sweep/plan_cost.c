/* The plan's trials priced again under any convention: who is admitted stays what the budget's own convention said. */
#include <stdlib.h>

#include "facts_internal.h"

/* Steps (from, until] of a row, with the evaluations that go with them: those that coordinator_rungs.c reserves. */
static void add_steps(const struct trial_price *price, const struct settings *settings, int32_t from, int32_t until,
                      struct plan_cost *cost) {
    int32_t steps = (int32_t)settings->steps.value, every = settings->every, to = until > 0 ? until : steps;
    cost->training += (__int128)price->step * (to - from);
    if (from == 0) cost->evaluation += price->baseline;
    if (every > 0) cost->evaluation += (__int128)price->periodic * (to / every - from / every);
    if (to < steps)
        cost->evaluation += price->rung;
    else
        cost->evaluation += price->evaluation - (every > 0 ? price->periodic * (steps / every) : 0);
}

static enum lvs_status add_row(const struct config *config, struct sweep_facts *facts, const struct trial *trial,
                               const struct plan_row *row, struct plan_cost *cost, struct lvs_error *err) {
    struct trial_price price;
    LVS_TRY(trial_price_make(config, facts, &trial->settings, &price, err));
    if (trial->baseline) {
        struct settings untrained = trial->settings;
        narrow_second_pass(&untrained);
        LVS_TRY(evaluation_price(config, facts, &untrained, false, &price.baseline, err));
    }
    if (trial->price.training == 0) price.step = 0; /* its weights are there: only the evaluation is new */
    add_steps(&price, &trial->settings, row->from, row->until, cost);
    return LVS_OK;
}

enum lvs_status plan_cost_make(const struct config *config, struct sweep_facts *facts, const struct plan *plan,
                               const char *convention, struct plan_cost *out, struct lvs_error *err) {
    struct config *priced = lvs_malloc(sizeof *priced); /* borrows everything but the convention's name */
    *priced = *config;
    lvs_copy(priced->convention, sizeof priced->convention, convention);
    *out = (struct plan_cost){0};
    enum lvs_status status = LVS_OK;
    for (int32_t i = 0; i < plan->n_rows && status == LVS_OK; i++)
        if (plan->rows[i].verdict == PLAN_RUN)
            status = add_row(priced, facts, coordinator_trial(plan->coordinator, plan->rows[i].trial), &plan->rows[i],
                             out, err);
    out->counted = out->training + (config->count == COUNT_TRAINING_EVALUATION ? out->evaluation : 0);
    free(priced);
    return status;
}
