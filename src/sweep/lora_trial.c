/* An assignment, whole: train the pack step by step, evaluate now and then, keep checkpoints, and leave each finished
 * trial's folder and record behind. A trial that diverges or finishes leaves the pack; the others go on. */
#include <math.h>
#include <stdlib.h>

#include "lora_pack.h"

/* ---- evaluation ---- */

static enum lvs_status keep_if_best(struct pack_run *run, int32_t k, double score, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    if (one->trial->settings.keep != KEEP_BEST || !(score < one->best_score)) return LVS_OK;
    one->best_score = score;
    one->record.best_step = trainer_step(run->trainer, k);
    size_t stride = (size_t)trainer_lora(run->trainer)->stride;
    if (!one->best) one->best = lvs_malloc(stride * sizeof *one->best);
    return trainer_read_adapter(run->trainer, k, one->best, err);
}

static enum lvs_status evaluate_now(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    struct evaluated evaluated = pack_evaluated(run, k);
    struct periodic_scores scores;
    double before = clock_steady();
    LVS_TRY(pack_look_at_head(run, k, err));
    LVS_TRY(evaluation_periodic(run->runner, &evaluated, &one->trial->settings, &scores, &one->flops_periodic, err));
    one->seconds_evaluation += clock_steady() - before;
    int32_t n = one->curves.n_evaluation;
    pack_grow_curves(one, n + 1);
    one->curves.evaluation_step[n] = trainer_step(run->trainer, k);
    one->curves.val_loss[n] = scores.loss;
    one->curves.val_mae_scaled[n] = scores.mae_scaled;
    one->curves.val_mse_scaled[n] = scores.mse_scaled;
    one->curves.n_evaluation = n + 1;
    return keep_if_best(run, k, isnan(scores.loss) ? scores.mae_scaled : scores.loss, err);
}

/* ---- the loop ---- */

static void tell_progress(const struct pack_run *run, enum progress_phase phase) {
    for (int32_t k = 0; k < run->n_trials; k++) {
        if (run->trials[k].closed) continue;
        struct progress progress = {.trial = run->trials[k].trial->index,
                                    .step = trainer_step(run->trainer, k),
                                    .n_steps = (int32_t)run->trials[k].trial->settings.steps.value,
                                    .phase = phase,
                                    .loss = trainer_loss(run->trainer, k)};
        run->sink->progress(run->sink->context, &progress);
    }
}

/* Asked by the trainer now and then: a stop request, or a checkpoint that is due, ends the stretch of steps. */
static bool interrupt_steps(void *context) {
    struct pack_run *run = context;
    tell_progress(run, PHASE_TRAINING);
    run->stop = run->stop || run->sink->should_stop(run->sink->context);
    return run->stop || clock_steady() >= run->checkpoint_due;
}

static int32_t next_boundary(const struct pack_run *run) {
    int32_t boundary = INT32_MAX;
    for (int32_t k = 0; k < run->n_trials; k++) {
        if (run->trials[k].closed) continue;
        const struct settings *settings = &run->trials[k].trial->settings;
        int32_t end = pack_end_step(run, k), step = trainer_step(run->trainer, k);
        int32_t next = settings->every > 0 ? (step / settings->every + 1) * settings->every : end;
        if (next > end) next = end;
        if (next < boundary) boundary = next;
    }
    return boundary;
}

/* Looks at every open trial after a stretch of steps; false when none is left. */
static enum lvs_status visit_trials(struct pack_run *run, bool *any_open, struct lvs_error *err) {
    *any_open = false;
    for (int32_t k = 0; k < run->n_trials; k++) {
        struct pack_trial *one = &run->trials[k];
        if (one->closed) continue;
        const struct settings *settings = &one->trial->settings;
        int32_t step = trainer_step(run->trainer, k);
        bool is_new = one->curves.n_evaluation == 0 || one->curves.evaluation_step[one->curves.n_evaluation - 1] < step;
        if (trainer_diverged(run->trainer, k)) {
            LVS_TRY(pack_give_up_diverged(run, k, err));
            continue;
        }
        if (settings->every > 0 && step > 0 && step % settings->every == 0 && is_new)
            LVS_TRY(evaluate_now(run, k, err));
        if (step >= (int32_t)settings->steps.value)
            LVS_TRY(pack_finish_trial(run, k, err));
        else if (step >= pack_end_step(run, k))
            LVS_TRY(pack_pause_trial(run, k, err));
        else
            *any_open = true;
    }
    return LVS_OK;
}

static enum lvs_status interrupt_all(struct pack_run *run, struct lvs_error *err) {
    LVS_TRY(pack_checkpoint_all(run, err));
    for (int32_t k = 0; k < run->n_trials; k++) {
        if (run->trials[k].closed) continue;
        pack_fill_record(run, k);
        pack_close_trial(run, k, TRIAL_INTERRUPTED, false);
    }
    return LVS_OK;
}

static enum lvs_status train_pack(struct pack_run *run, struct lvs_error *err) {
    bool any_open = true;
    while (any_open) {
        double before = clock_steady();
        LVS_TRY(pack_pass(run, "training", "a stretch of steps", err));
        LVS_TRY(trainer_run(run->trainer, next_boundary(run), interrupt_steps, run, err));
        double seconds = clock_steady() - before;
        for (int32_t k = 0; k < run->n_trials; k++)
            if (!run->trials[k].closed) run->trials[k].seconds_training += seconds;
        tell_progress(run, PHASE_EVALUATING);
        LVS_TRY(visit_trials(run, &any_open, err));
        if (any_open && run->stop) return interrupt_all(run, err);
        if (any_open && clock_steady() >= run->checkpoint_due) LVS_TRY(pack_checkpoint_all(run, err));
    }
    return LVS_OK;
}

static enum lvs_status evaluate_pack(struct pack_run *run, struct lvs_error *err) {
    for (int32_t k = 0; k < run->n_trials; k++)
        LVS_TRY(pack_finish_trial(run, k, err));
    return LVS_OK;
}

static void free_pack(struct pack_run *run) {
    for (int32_t k = 0; k < run->n_trials; k++) {
        free(run->trials[k].best);
        trial_curves_free(&run->trials[k].curves);
    }
    free(run->trials);
    trainer_destroy(run->trainer);
}

/* An error of one pack is a failed record for each of its open trials; after one of the device, which may have broken
 * it for good (CUDA's errors stick to the process), also the end of the trainer. */
static void fail_open_trials(struct pack_run *run, enum lvs_status status, const struct lvs_error *err) {
    bool transient = status == LVS_LAUNCH || status == LVS_OUTPUT;
    for (int32_t k = 0; k < run->n_trials; k++) {
        struct pack_trial *one = &run->trials[k];
        if (one->closed || !one->trial) continue;
        one->record.status = TRIAL_FAILED;
        lvs_copy(one->record.error, sizeof one->record.error, err->text);
        one->record.end_time = clock_now();
        one->record.seconds = clock_steady() - run->started;
        int32_t kept = checkpoint_step(one->folder, one->trial->train_key);
        int32_t lost = run->trainer ? trainer_step(run->trainer, k) - (kept > 0 ? kept : 0) : 0;
        one->record.flops_lost = (lost > 0 ? lost : 0) * one->trial->price.step;
        run->sink->record(run->sink->context, &one->record, transient);
    }
}

enum lvs_status lora_pack_run(struct lora_runner *runner, const struct assignment *assignment,
                              const struct runner_sink *sink, struct lvs_error *err) {
    struct pack_run run = {.runner = runner, .sink = sink, .assignment = assignment, .n_trials = assignment->n_trials};
    run.trials = lvs_calloc((size_t)run.n_trials, sizeof *run.trials);
    enum lvs_status status = pack_open(&run, err);
    if (status == LVS_OK) status = assignment->evaluate_only ? evaluate_pack(&run, err) : train_pack(&run, err);
    if (status != LVS_OK) fail_open_trials(&run, status, err);
    free_pack(&run);
    return status == LVS_LAUNCH ? status : LVS_OK;
}
