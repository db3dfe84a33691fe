/* An assignment, whole: train the pack step by step, evaluate now and then, keep checkpoints, and leave each finished
 * trial's folder and record behind. A trial that diverges or finishes leaves the pack; the others go on. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/fault.h"
#include "lvsweep/log.h"
#include "runner_lora_internal.h"

/* One trial of the pack. */
struct pack_trial {
    const struct trial *trial;
    struct record record;
    char folder[LVS_PATH_MAX];
    bool closed;
    int32_t first_step;  /* where this attempt began: 0, or its checkpoint's step */
    int32_t steps_again; /* that an earlier assignment had done already */
    double best_score;   /* of the periodic evaluations; lower is better */
    float *best;         /* [stride] adapter of best_score with keep = best, NULL = none yet; owned */
    struct trial_curves curves;
    int32_t curve_capacity;
    int64_t flops_periodic, flops_baseline;
    int32_t looked_step; /* at which the head's left-out rows were looked at last; -1 = never */
    double seconds_training, seconds_evaluation;
};

struct pack_run {
    struct lora_runner *runner;
    const struct runner_sink *sink;
    const struct assignment *assignment;
    struct trainer *trainer;
    struct pack_trial *trials; /* [n_trials] */
    int32_t n_trials;
    double checkpoint_due; /* seconds since 1970 */
    bool stop;
};

/* ---- checkpoints: the evaluation state that travels with them ---- */

struct checkpoint_extra {
    int32_t n_evaluation, best_step, has_best, reserved;
    int64_t flops_periodic, flops_baseline;
    double best_score, seconds_training, seconds_evaluation;
    struct head_gap_record head_gap;
};

static void pack_extra(const struct pack_run *run, const struct pack_trial *one, struct strbuf *out) {
    const struct trial_curves *curves = &one->curves;
    struct checkpoint_extra extra = {.n_evaluation = curves->n_evaluation,
                                     .best_step = one->record.best_step,
                                     .has_best = one->best != NULL,
                                     .flops_periodic = one->flops_periodic,
                                     .flops_baseline = one->flops_baseline,
                                     .best_score = one->best_score,
                                     .seconds_training = one->seconds_training,
                                     .seconds_evaluation = one->seconds_evaluation,
                                     .head_gap = one->record.head_gap};
    size_t n = (size_t)curves->n_evaluation;
    strbuf_add_bytes(out, (const char *)&extra, sizeof extra);
    strbuf_add_bytes(out, (const char *)curves->evaluation_step, n * sizeof *curves->evaluation_step);
    strbuf_add_bytes(out, (const char *)curves->val_loss, n * sizeof *curves->val_loss);
    strbuf_add_bytes(out, (const char *)curves->val_mae_scaled, n * sizeof *curves->val_mae_scaled);
    if (one->best)
        strbuf_add_bytes(out, (const char *)one->best, (size_t)trainer_lora(run->trainer)->stride * sizeof(float));
}

static void grow_curves(struct pack_trial *one, int32_t needed) {
    if (needed <= one->curve_capacity) return;
    one->curve_capacity = needed * 2;
    size_t n = (size_t)one->curve_capacity;
    one->curves.evaluation_step = lvs_realloc(one->curves.evaluation_step, n * sizeof *one->curves.evaluation_step);
    one->curves.val_loss = lvs_realloc(one->curves.val_loss, n * sizeof *one->curves.val_loss);
    one->curves.val_mae_scaled = lvs_realloc(one->curves.val_mae_scaled, n * sizeof *one->curves.val_mae_scaled);
}

static void unpack_extra(const struct pack_run *run, struct pack_trial *one, const char *bytes, size_t length) {
    struct checkpoint_extra extra;
    size_t stride = (size_t)trainer_lora(run->trainer)->stride * sizeof(float);
    if (length < sizeof extra) return;
    memcpy(&extra, bytes, sizeof extra);
    size_t n = (size_t)extra.n_evaluation;
    if (length != sizeof extra + n * (sizeof(int32_t) + 2 * sizeof(double)) + (extra.has_best ? stride : 0)) return;
    bytes += sizeof extra;
    grow_curves(one, extra.n_evaluation);
    one->curves.n_evaluation = extra.n_evaluation;
    memcpy(one->curves.evaluation_step, bytes, n * sizeof(int32_t));
    bytes += n * sizeof(int32_t);
    memcpy(one->curves.val_loss, bytes, n * sizeof(double));
    bytes += n * sizeof(double);
    memcpy(one->curves.val_mae_scaled, bytes, n * sizeof(double));
    bytes += n * sizeof(double);
    if (extra.has_best) one->best = memcpy(lvs_malloc(stride), bytes, stride);
    one->record.best_step = extra.best_step;
    one->best_score = extra.best_score;
    one->flops_periodic = extra.flops_periodic;
    one->flops_baseline = extra.flops_baseline;
    one->seconds_training = extra.seconds_training;
    one->seconds_evaluation = extra.seconds_evaluation;
    one->record.head_gap = extra.head_gap;
}

static enum lvs_status write_checkpoint(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    struct strbuf extra;
    strbuf_init(&extra);
    pack_extra(run, one, &extra);
    enum lvs_status status = checkpoint_write(one->folder, run->trainer, k, extra.text, extra.length, err);
    strbuf_free(&extra);
    return status;
}

static enum lvs_status write_checkpoints(struct pack_run *run, struct lvs_error *err) {
    for (int32_t k = 0; k < run->n_trials; k++)
        if (!run->trials[k].closed) LVS_TRY(write_checkpoint(run, k, err));
    run->checkpoint_due = clock_now() + run->runner->config->checkpoint_every;
    return LVS_OK;
}

/* ---- starting ---- */

static enum lvs_status start_from_adapter(struct pack_run *run, int32_t k, const char *folder, struct lvs_error *err) {
    const struct lora_layout *lora = trainer_lora(run->trainer);
    float *params = lvs_calloc((size_t)lora->stride, sizeof *params);
    enum lvs_status status = lora_read(folder, lora, &run->trials[k].trial->settings, params, err);
    if (status == LVS_OK) status = trainer_write_adapter(run->trainer, k, params, err);
    free(params);
    return status;
}

/* Step at which the assignment ends for the trial: its rung, or its last step. */
static int32_t end_of_assignment(const struct pack_run *run, int32_t k) {
    int32_t steps = (int32_t)run->trials[k].trial->settings.steps.value, until = run->assignment->until[k];
    return until > 0 && until < steps ? until : steps;
}

/* Goes on from the trial's checkpoint. Steps that an earlier assignment had come to and the checkpoint has not are done
 * again, and so are those of a checkpoint beyond the rung at which the loss is wanted. */
static enum lvs_status restore_trial(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    int32_t there = checkpoint_step(one->folder, one->trial->train_key), from = run->assignment->from[k];
    bool found = false;
    void *extra = NULL;
    size_t length = 0;
    if (there <= end_of_assignment(run, k))
        LVS_TRY(checkpoint_read(one->folder, run->trainer, k, &found, &extra, &length, err));
    else
        checkpoint_remove(one->folder);
    if (found) {
        unpack_extra(run, one, extra, length);
        one->first_step = trainer_step(run->trainer, k);
        log_info("%s: goes on from its checkpoint at step %d", one->trial->name, one->first_step);
    }
    free(extra);
    if (from > one->first_step) one->steps_again = from - one->first_step;
    return LVS_OK;
}

/* The adapter a trial begins with: its own (evaluate only), its parent's, a PEFT folder's, or lora_init's. */
static enum lvs_status start_trial(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    const char *from = one->trial->settings.from_adapter;
    char folder[LVS_PATH_MAX], parent[LVS_PATH_MAX];
    if (run->assignment->evaluate_only) {
        LVS_TRY(file_join(folder, one->folder, "adapter", err));
        return start_from_adapter(run, k, folder, err);
    }
    if (strcmp(from, "best") == 0 && one->trial->parent_name[0]) {
        LVS_TRY(trial_folder(parent, run->runner->place.output, one->trial->parent_name, err));
        LVS_TRY(file_join(folder, parent, "adapter", err));
        LVS_TRY(start_from_adapter(run, k, folder, err));
    } else if (strcmp(from, "none") != 0 && strcmp(from, "best") != 0 && from[0]) {
        LVS_TRY(file_resolve(folder, run->runner->config->folder, from, err));
        LVS_TRY(start_from_adapter(run, k, folder, err));
    }
    return restore_trial(run, k, err);
}

/* A failpoint of the device's or the disk's. */
static enum lvs_status pass(const char *point, const char *what, struct lvs_error *err) {
    return fault_fails(point) ? lvs_fail(err, LVS_LAUNCH, "%s: %s", what, strerror(errno)) : LVS_OK;
}

static enum lvs_status look_at_head(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    int32_t step = trainer_step(run->trainer, k);
    if (run->assignment->evaluate_only || one->looked_step == step) return LVS_OK;
    one->looked_step = step;
    return lora_head_look(run->runner, run->trainer, k, one->trial, &one->record.head_gap, err);
}

static enum lvs_status open_pack(struct pack_run *run, struct lvs_error *err) {
    const struct settings *settings = &run->assignment->trials[0].settings;
    const struct trial *pointers[ASSIGNMENT_MAX];
    const struct window_cache *windows;
    LVS_TRY(lora_runner_windows(run->runner, settings, SPLIT_TRAIN, &windows, err));
    for (int32_t k = 0; k < run->n_trials; k++) {
        struct pack_trial *one = &run->trials[k];
        one->trial = pointers[k] = &run->assignment->trials[k];
        one->best_score = INFINITY;
        one->looked_step = -1;
        record_init(&one->record, one->trial);
        one->record.start_time = clock_now();
        one->record.attempt = run->assignment->attempt;
        one->record.pack_width = run->n_trials;
        LVS_TRY(trial_folder(one->folder, run->runner->place.output, one->trial->name, err));
        LVS_TRY(file_make_folder(one->folder, err));
    }
    const struct model *text = run->runner->text;
    struct trainer_options options = {.model = text ? text : run->runner->model,
                                      .whole = text ? run->runner->model : NULL,
                                      .kept = run->runner->material.tokenizer.kept,
                                      .windows = &windows->windows,
                                      .trials = pointers,
                                      .n_trials = run->n_trials,
                                      .skip_tiles = run->runner->config->skip_tiles};
    LVS_TRY(pass("allocate", "device memory for the pack", err));
    LVS_TRY(trainer_create(&options, &run->trainer, err));
    for (int32_t k = 0; k < run->n_trials; k++) {
        LVS_TRY(start_trial(run, k, err));
        if (run->trials[k].first_step == 0) LVS_TRY(look_at_head(run, k, err));
    }
    run->checkpoint_due = clock_now() + run->runner->config->checkpoint_every;
    return LVS_OK;
}

/* ---- evaluation ---- */

static struct evaluated evaluated_of(struct pack_run *run, int32_t k) {
    return (struct evaluated){.model = run->runner->model,
                              .lora = trainer_lora(run->trainer),
                              .adapters = trainer_adapters(run->trainer),
                              .adapter = k};
}

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
    struct evaluated evaluated = evaluated_of(run, k);
    double loss, mae, before = clock_now();
    LVS_TRY(look_at_head(run, k, err));
    LVS_TRY(
        evaluation_periodic(run->runner, &evaluated, &one->trial->settings, &loss, &mae, &one->flops_periodic, err));
    one->seconds_evaluation += clock_now() - before;
    int32_t n = one->curves.n_evaluation;
    grow_curves(one, n + 1);
    one->curves.evaluation_step[n] = trainer_step(run->trainer, k);
    one->curves.val_loss[n] = loss;
    one->curves.val_mae_scaled[n] = mae;
    one->curves.n_evaluation = n + 1;
    return keep_if_best(run, k, isnan(loss) ? mae : loss, err);
}

/* ---- ending a trial ---- */

static void fill_info(const struct pack_run *run, const struct pack_trial *one, struct adapter_info *info) {
    const struct lora_runner *runner = run->runner;
    const struct material *material = &runner->material;
    const struct config *config = runner->config;
    const struct settings *settings = &one->trial->settings;
    int32_t horizon;
    memset(info, 0, sizeof *info);
    lvs_copy(info->trial, sizeof info->trial, one->trial->name);
    lvs_copy(info->train_key, sizeof info->train_key, one->trial->train_key);
    /* A folder by its full name, so that the adapter may be moved; hf:owner/name means the same everywhere. */
    char *whole = strncmp(config->model_path, "hf:", 3) == 0 ? NULL : realpath(config->model_path, NULL);
    lvs_copy(info->base_model, sizeof info->base_model, whole ? whole : config->model_path);
    free(whole);
    lvs_copy(info->model_hash, sizeof info->model_hash, runner->weights_hash);
    info->lora_rank = settings->lora_rank;
    info->head = settings->head;
    info->lora_alpha = settings_lora_scale(settings) * settings->lora_rank;
    info->context = settings->context;
    info->format = material_format(material, settings);
    info->scale_over = config->scale_over;
    info->scale_points = config->scale_points;
    info->scale_percentile = config->scale_percentile;
    info->scale_to = config->scale_to;
    forecast_extent(settings, material->set.n_time, &info->history_points, &horizon);
    struct scaling scaling;
    struct lvs_error ignored;
    bool common =
        config->scale_over == SCALE_TRAIN && material_scaling(material, settings, &scaling, &ignored) == LVS_OK;
    for (int32_t c = 0; c < LVS_MAX_CHANNELS; c++)
        info->train_factor[c] = common && c < material->set.n_channel ? scaling.factor[c] : NAN;
    if (common) scaling_free(&scaling);
    memcpy(info->channel_name, material->set.channel_name, sizeof info->channel_name);
    memcpy(info->channel_unit, material->set.channel_unit, sizeof info->channel_unit);
    lvs_copy(info->time_unit, sizeof info->time_unit, material->set.time_unit);
    info->tokenizer = material->tokenizer;
}

static enum lvs_status write_adapter(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    const struct lora_layout *lora = trainer_lora(run->trainer);
    char folder[LVS_PATH_MAX];
    LVS_TRY(pass("adapter", "the adapter's folder", err));
    struct adapter_info *info = lvs_malloc(sizeof *info);
    float *params = lvs_malloc((size_t)lora->stride * sizeof *params);
    fill_info(run, one, info);
    enum lvs_status status = file_join(folder, one->folder, "adapter", err);
    if (status == LVS_OK) status = file_make_folder(folder, err);
    if (status == LVS_OK) status = trainer_read_adapter(run->trainer, k, params, err);
    if (status == LVS_OK)
        status = lora_write(folder, lora, &one->trial->settings, run->runner->config->model_path, params, err);
    if (status == LVS_OK) status = adapter_info_write(folder, info, err);
    free(params);
    free(info);
    return status;
}

static enum lvs_status write_curves(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    int32_t n = trainer_step(run->trainer, k);
    size_t all = (size_t)one->trial->settings.steps.value; /* what trainer_curves fills */
    one->curves.n_step = n;
    one->curves.train_loss = lvs_realloc(one->curves.train_loss, all * sizeof(float));
    one->curves.gradient_norm = lvs_realloc(one->curves.gradient_norm, all * sizeof(float));
    LVS_TRY(trainer_curves(run->trainer, k, one->curves.train_loss, one->curves.gradient_norm, err));
    return trial_curves_write(one->folder, &one->curves, err);
}

static void fill_record(struct pack_run *run, int32_t k) {
    struct pack_trial *one = &run->trials[k];
    struct record *record = &one->record;
    const struct settings *settings = &one->trial->settings;
    int32_t steps = trainer_step(run->trainer, k);
    bool trained = !run->assignment->evaluate_only;
    record->steps_done = steps;
    record->end_time = clock_now();
    record->seconds = record->end_time - record->start_time;
    record->seconds_training = one->seconds_training;
    record->seconds_evaluation = one->seconds_evaluation;
    record->n_evaluation = one->curves.n_evaluation;
    record->flops_training = trained ? (int64_t)steps * one->trial->price.step : 0;
    record->flops_lost = (int64_t)one->steps_again * one->trial->price.step;
    record->flops_executed += (int64_t)trainer_flops_executed(run->trainer, k);
    double tokens = (double)(steps - one->first_step) * settings->batch * settings->context;
    if (trained && one->seconds_training > 0) record->tokens_per_second = tokens / one->seconds_training;
    if (trained && one->curves.n_step > 0) record->train_loss = (double)one->curves.train_loss[one->curves.n_step - 1];
    if (record->best_step < 0) record->best_step = steps;
    struct device_description description = {0};
    runner_lora.describe(run->runner, &description);
    lvs_copy(record->device, sizeof record->device, description.name);
}

static void close_trial(struct pack_run *run, int32_t k, int32_t status, bool transient) {
    struct pack_trial *one = &run->trials[k];
    one->record.status = status;
    one->closed = true;
    trainer_leave(run->trainer, k);
    run->sink->record(run->sink->context, &one->record, transient);
}

/* At the trial's first end, which pays for it. */
static enum lvs_status measure_baselines(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    if (!one->trial->baseline || run->assignment->from[k] > 0) return LVS_OK;
    one->flops_baseline = 0; /* an attempt before may have measured it too */
    return evaluation_baselines(run->runner, one->trial, run->sink, &one->flops_baseline, err);
}

static enum lvs_status evaluate_finally(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    struct evaluation evaluation;
    struct evaluated evaluated = evaluated_of(run, k);
    double before = clock_now(), executed = run->runner->compute.backend->flops_executed(run->runner->compute.device);
    LVS_TRY(pass("evaluation", "the evaluation", err));
    if (one->best) LVS_TRY(trainer_write_adapter(run->trainer, k, one->best, err));
    LVS_TRY(measure_baselines(run, k, err));
    LVS_TRY(evaluation_run(run->runner, &evaluated, &one->trial->settings, &evaluation, err));
    one->seconds_evaluation += clock_now() - before;
    one->record.val_loss = evaluation.loss[SPLIT_VALIDATION];
    one->record.test_loss = evaluation.loss[SPLIT_TEST];
    one->record.val = evaluation.metrics[SPLIT_VALIDATION];
    one->record.test = evaluation.metrics[SPLIT_TEST];
    one->record.flops_evaluation = evaluation.flops + one->flops_periodic + one->flops_baseline;
    one->record.flops_executed =
        (int64_t)(run->runner->compute.backend->flops_executed(run->runner->compute.device) - executed);
    enum lvs_status status = LVS_OK;
    if (evaluation.n_forecasts > 0 && run->assignment->evaluate_only)
        status = trial_forecast_write_again(one->folder, one->trial->eval_key, evaluation.forecasts,
                                            evaluation.n_forecasts, err);
    else if (evaluation.n_forecasts > 0)
        status = trial_forecast_write(one->folder, evaluation.forecasts, evaluation.n_forecasts, err);
    evaluation_free(&evaluation);
    return status;
}

/* Files first, record last: a record never names what is not on disk. */
static enum lvs_status finish_trial(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    LVS_TRY(look_at_head(run, k, err));
    LVS_TRY(evaluate_finally(run, k, err));
    if (!run->assignment->evaluate_only) {
        LVS_TRY(write_curves(run, k, err));
        LVS_TRY(write_adapter(run, k, err));
    }
    fill_record(run, k);
    checkpoint_remove(one->folder);
    close_trial(run, k, TRIAL_DONE, false);
    return LVS_OK;
}

static enum lvs_status give_up_diverged(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    int32_t step = trainer_step(run->trainer, k);
    snprintf(one->record.error, sizeof one->record.error, "the training loss was not finite at step %d", step);
    LVS_TRY(write_curves(run, k, err));
    fill_record(run, k);
    checkpoint_remove(one->folder);
    close_trial(run, k, TRIAL_DIVERGED, false);
    return LVS_OK;
}

/* The validation loss at a rung: that of the periodic evaluation at this very step, or one of its own. */
static enum lvs_status measure_rung(struct pack_run *run, int32_t k, double *loss, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    const struct trial_curves *curves = &one->curves;
    int32_t last = curves->n_evaluation - 1;
    if (last >= 0 && curves->evaluation_step[last] == trainer_step(run->trainer, k) && !isnan(curves->val_loss[last])) {
        *loss = curves->val_loss[last];
        return LVS_OK;
    }
    struct evaluated evaluated = evaluated_of(run, k);
    double before = clock_now();
    LVS_TRY(evaluation_rung(run->runner, &evaluated, &one->trial->settings, loss, &one->flops_periodic, err));
    one->seconds_evaluation += clock_now() - before;
    return LVS_OK;
}

/* Everything that the trial needs to go on, or to be left where it is, is on disk before its record is sent. */
static enum lvs_status pause_trial(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    double loss;
    LVS_TRY(look_at_head(run, k, err));
    LVS_TRY(pass("evaluation", "the evaluation at a rung", err));
    LVS_TRY(measure_baselines(run, k, err));
    LVS_TRY(measure_rung(run, k, &loss, err));
    LVS_TRY(write_curves(run, k, err));
    LVS_TRY(write_checkpoint(run, k, err));
    fill_record(run, k);
    one->record.best_step = -1; /* nothing is kept yet */
    one->record.flops_evaluation = one->flops_periodic + one->flops_baseline;
    one->record.val_loss.loss = loss;
    close_trial(run, k, TRIAL_PENDING, false);
    return LVS_OK;
}

/* ---- the loop ---- */

static void tell_progress(const struct pack_run *run, enum progress_phase phase) {
    for (int32_t k = 0; k < run->n_trials; k++) {
        if (run->trials[k].closed) continue;
        struct progress progress = {.trial = run->trials[k].trial->index,
                                    .step = trainer_step(run->trainer, k),
                                    .n_steps = (int32_t)run->trials[k].trial->settings.steps.value,
                                    .phase = phase,
                                    .loss = NAN};
        run->sink->progress(run->sink->context, &progress);
    }
}

/* Asked by the trainer now and then: a stop request, or a checkpoint that is due, ends the stretch of steps. */
static bool interrupt_steps(void *context) {
    struct pack_run *run = context;
    tell_progress(run, PHASE_TRAINING);
    run->stop = run->stop || run->sink->should_stop(run->sink->context);
    return run->stop || clock_now() >= run->checkpoint_due;
}

static int32_t next_boundary(const struct pack_run *run) {
    int32_t boundary = INT32_MAX;
    for (int32_t k = 0; k < run->n_trials; k++) {
        if (run->trials[k].closed) continue;
        const struct settings *settings = &run->trials[k].trial->settings;
        int32_t end = end_of_assignment(run, k), step = trainer_step(run->trainer, k);
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
            LVS_TRY(give_up_diverged(run, k, err));
            continue;
        }
        if (settings->every > 0 && step > 0 && step % settings->every == 0 && is_new)
            LVS_TRY(evaluate_now(run, k, err));
        if (step >= (int32_t)settings->steps.value)
            LVS_TRY(finish_trial(run, k, err));
        else if (step >= end_of_assignment(run, k))
            LVS_TRY(pause_trial(run, k, err));
        else
            *any_open = true;
    }
    return LVS_OK;
}

static enum lvs_status interrupt_all(struct pack_run *run, struct lvs_error *err) {
    LVS_TRY(write_checkpoints(run, err));
    for (int32_t k = 0; k < run->n_trials; k++) {
        if (run->trials[k].closed) continue;
        fill_record(run, k);
        close_trial(run, k, TRIAL_INTERRUPTED, false);
    }
    return LVS_OK;
}

static enum lvs_status train_pack(struct pack_run *run, struct lvs_error *err) {
    bool any_open = true;
    while (any_open) {
        double before = clock_now();
        LVS_TRY(pass("training", "a stretch of steps", err));
        LVS_TRY(trainer_run(run->trainer, next_boundary(run), interrupt_steps, run, err));
        double seconds = clock_now() - before;
        for (int32_t k = 0; k < run->n_trials; k++)
            if (!run->trials[k].closed) run->trials[k].seconds_training += seconds;
        tell_progress(run, PHASE_EVALUATING);
        LVS_TRY(visit_trials(run, &any_open, err));
        if (any_open && run->stop) return interrupt_all(run, err);
        if (any_open && clock_now() >= run->checkpoint_due) LVS_TRY(write_checkpoints(run, err));
    }
    return LVS_OK;
}

static enum lvs_status evaluate_pack(struct pack_run *run, struct lvs_error *err) {
    for (int32_t k = 0; k < run->n_trials; k++)
        LVS_TRY(finish_trial(run, k, err));
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

/* An error of one pack is a failed record for each of its open trials, not the end of the trainer. */
static void fail_open_trials(struct pack_run *run, enum lvs_status status, const struct lvs_error *err) {
    bool transient = status == LVS_LAUNCH || status == LVS_OUTPUT;
    for (int32_t k = 0; k < run->n_trials; k++) {
        struct pack_trial *one = &run->trials[k];
        if (one->closed || !one->trial) continue;
        one->record.status = TRIAL_FAILED;
        lvs_copy(one->record.error, sizeof one->record.error, err->text);
        one->record.end_time = clock_now();
        one->record.seconds = one->record.end_time - one->record.start_time;
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
    enum lvs_status status = open_pack(&run, err);
    if (status == LVS_OK) status = assignment->evaluate_only ? evaluate_pack(&run, err) : train_pack(&run, err);
    if (status != LVS_OK) fail_open_trials(&run, status, err);
    free_pack(&run);
    return LVS_OK;
}
