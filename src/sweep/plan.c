/* The whole sweep on paper: the coordinator driven by one worker that finishes everything at once and spends what was
 * planned. Verdicts are the coordinator's own. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "lvsweep/log.h"

static void plan_add(struct plan *plan, const struct coordinator_action *action, enum plan_verdict verdict) {
    if (plan->n_rows == plan->rows_capacity) {
        plan->rows_capacity = plan->rows_capacity ? plan->rows_capacity * 2 : 64;
        plan->rows = lvs_realloc(plan->rows, (size_t)plan->rows_capacity * sizeof *plan->rows);
    }
    int32_t *counts = verdict == PLAN_RUN ? plan->n_run : verdict == PLAN_CUT ? plan->n_cut : plan->n_kept;
    counts[action->stage]++;
    plan->n_cut_by_trials[action->stage] += verdict == PLAN_CUT && action->cause == CUT_BY_TRIALS;
    struct plan_row *row = &plan->rows[plan->n_rows++];
    *row =
        (struct plan_row){.trial = action->trial, .stage = action->stage, .verdict = verdict, .cause = action->cause};
    if (verdict != PLAN_RUN) row->flops = coordinator_trial(plan->coordinator, action->trial)->price.counted;
    if (verdict != PLAN_RUN) return;
    struct trial_segment segment = coordinator_segment(plan->coordinator, action->trial);
    row->from = segment.from;
    row->until = segment.until;
    row->flops = action->reserved;
}

/* Takes one event; *assigned is the trial that was sent out, or stays as it is. */
static enum lvs_status plan_event(struct plan *plan, const struct coordinator_event *event, int32_t *assigned,
                                  struct lvs_error *err) {
    const struct coordinator_action *actions;
    int32_t n;
    LVS_TRY(coordinator_handle(plan->coordinator, event, &actions, &n, err));
    for (int32_t i = 0; i < n; i++) {
        if (actions[i].kind == ACTION_ADMITTED) plan_add(plan, &actions[i], PLAN_RUN);
        if (actions[i].kind == ACTION_REUSED) plan_add(plan, &actions[i], PLAN_KEPT);
        if (actions[i].kind == ACTION_CUT) plan_add(plan, &actions[i], PLAN_CUT);
        if (actions[i].kind == ACTION_ASSIGN) *assigned = actions[i].trial;
    }
    return LVS_OK;
}

/* Equal settings give equal numbers: a trial that is run again comes to what it came to before. */
static void foresee(const struct results *known, int32_t trial, int32_t until, struct record *record) {
    if (!known || trial >= known->n_rows) return;
    const struct result_row *row = &known->rows[trial];
    const struct rung *rung = rung_list_find(&row->rungs, until);
    if (until > 0 && rung) record->val_loss.loss = rung->loss;
    if (until > 0 || row->record.status != TRIAL_DONE) return;
    record->val_loss = row->record.val_loss;
    record->val = row->record.val;
}

static enum lvs_status plan_finish_trial(struct plan *plan, const struct results *known, int32_t trial,
                                         int32_t *assigned, struct lvs_error *err) {
    const struct trial *done = coordinator_trial(plan->coordinator, trial);
    struct record record;
    record_init(&record, done);
    struct trial_segment segment = coordinator_segment(plan->coordinator, trial);
    record.status = segment.until > 0 ? TRIAL_PENDING : TRIAL_DONE;
    record.steps_done = segment.until;
    record.flops_training = segment.until > 0 ? segment.until * done->price.step : done->price.training;
    record.flops_evaluation = segment.charged + segment.price - record.flops_training;
    foresee(known, trial, segment.until, &record);
    struct coordinator_event came = {.kind = EVENT_RECORD, .record = &record};
    struct coordinator_event ready = {.kind = EVENT_WORKER_READY};
    LVS_TRY(plan_event(plan, &came, assigned, err));
    return plan_event(plan, &ready, assigned, err);
}

static enum lvs_status plan_simulate(struct plan *plan, const struct results *known, struct lvs_error *err) {
    int32_t assigned = -1;
    struct coordinator_event start = {.kind = EVENT_START}, ready = {.kind = EVENT_WORKER_READY};
    LVS_TRY(plan_event(plan, &start, &assigned, err));
    LVS_TRY(plan_event(plan, &ready, &assigned, err));
    while (assigned >= 0) {
        int32_t trial = assigned;
        assigned = -1;
        LVS_TRY(plan_finish_trial(plan, known, trial, &assigned, err));
    }
    return LVS_OK;
}

/* Stages come one after another, but reused rows of a stage are announced before its admitted ones: enumeration order
 * within a stage is the order of rows that the coordinator made. */
static void plan_totals(struct plan *plan, const struct results *known) {
    __int128 total = known ? known->ledger.spent : 0;
    for (int32_t i = 0; i < plan->n_rows; i++) {
        struct plan_row *row = &plan->rows[i];
        if (row->verdict == PLAN_RUN) total += row->flops;
        row->total = total;
    }
}

void coordinator_add_results(struct coordinator *coordinator, const struct results *known) {
    for (int32_t i = 0; i < known->n_rows; i++)
        coordinator_add_row(coordinator, &known->rows[i]);
    coordinator_set_lost(coordinator, known->ledger.lost);
}

enum lvs_status plan_make(const struct config *config, struct sweep_facts *facts, const struct results *known,
                          const char *rerun, struct plan *out, struct lvs_error *err) {
    *out = (struct plan){0};
    struct sweep_planner context = {.config = config, .facts = facts};
    struct planner planner = sweep_planner_make(&context);
    struct coordinator_options options;
    coordinator_options_make(config, facts, 1, &options);
    options.dearest_is_best = true;
    options.pack = 1;
    enum lvs_status status = coordinator_create(&options, &planner, &out->coordinator, err);
    coordinator_options_free(&options);
    if (status == LVS_OK && known) coordinator_add_results(out->coordinator, known);
    if (status == LVS_OK && rerun) status = coordinator_rerun(out->coordinator, rerun, err);
    if (status == LVS_OK) status = plan_simulate(out, known, err);
    if (status == LVS_OK) plan_totals(out, known);
    return status;
}

void plan_free(struct plan *plan) {
    coordinator_destroy(plan->coordinator);
    free(plan->rows);
    *plan = (struct plan){0};
}

static enum lvs_status refuse_stage(const struct config *config, const struct plan *plan, int32_t stage,
                                    struct lvs_error *err) {
    const char *name = config->stages[stage].name, *plural = plan->n_cut[stage] == 1 ? "" : "s";
    if (plan->n_cut_by_trials[stage] == plan->n_cut[stage])
        return lvs_fail(err, LVS_BUDGET,
                        "%s: [budget] trials = %.0f cuts the whole stage [stage.%s] (%d trial%s): earlier stages use "
                        "them up. Raise it, shorten the earlier stages, or set [budget] over = skip to go without the "
                        "stage",
                        config->path, config->trials_cap, name, plan->n_cut[stage], plural);
    return lvs_fail(err, LVS_BUDGET,
                    "%s: the budget of %.4g FLOPs cuts the whole stage [stage.%s] (%d trial%s). Raise [budget] flops, "
                    "shorten the earlier stages, or set [budget] over = skip to go without it; `lvsweep plan` shows "
                    "every trial's price",
                    config->path, config->flops_cap, name, plan->n_cut[stage], plural);
}

enum lvs_status plan_check(const struct config *config, const struct sweep_facts *facts, const struct plan *plan,
                           struct lvs_error *err) {
    plan_warn(config, facts, plan);
    if (config->over != OVER_REFUSE) return LVS_OK;
    for (int32_t stage = 0; stage < config->n_stages; stage++) {
        if (plan->n_cut[stage] == 0 || plan->n_run[stage] + plan->n_kept[stage] > 0) continue;
        return refuse_stage(config, plan, stage, err);
    }
    return LVS_OK;
}

enum lvs_status plan_check_time(const struct config *config, const struct plan *plan, const struct results *known,
                                struct lvs_error *err) {
    int32_t n_run = 0;
    for (int32_t stage = 0; stage < config->n_stages; stage++)
        n_run += plan->n_run[stage];
    if (n_run == 0 || !known) return LVS_OK;
    const struct time_used used = results_time_used(known);
    return deadline_check(config, &used, err);
}
