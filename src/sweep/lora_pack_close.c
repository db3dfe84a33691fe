/* How a trial of a pack ends: its last evaluation, what stays in its folder, and its record; or a pause at a rung. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lora_pack.h"

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
    LVS_TRY(pack_pass(run, "adapter", "the adapter's folder", err));
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

void pack_fill_record(struct pack_run *run, int32_t k) {
    struct pack_trial *one = &run->trials[k];
    struct record *record = &one->record;
    const struct settings *settings = &one->trial->settings;
    int32_t steps = trainer_step(run->trainer, k);
    bool trained = !run->assignment->evaluate_only;
    record->steps_done = steps;
    record->end_time = clock_now();
    record->seconds = clock_steady() - run->started;
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
    record->peak_memory = compute_memory_used(&run->runner->compute, &description);
}

void pack_close_trial(struct pack_run *run, int32_t k, int32_t status, bool transient) {
    struct pack_trial *one = &run->trials[k];
    one->record.status = status;
    one->closed = true;
    trainer_leave(run->trainer, k);
    run->sink->record(run->sink->context, &one->record, transient);
}

/* At the trial's first end, which pays for it; again where the checkpoint that tells of it has been lost. */
static enum lvs_status measure_baselines(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    bool told = run->assignment->from[k] > 0 && one->first_step >= run->assignment->rungs[k][0];
    if (!one->trial->baseline || told) return LVS_OK;
    one->flops_baseline = 0; /* an attempt before may have measured it too */
    return evaluation_baselines(run->runner, one->trial, run->sink, &one->flops_baseline, err);
}

static enum lvs_status evaluate_finally(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    struct evaluation evaluation;
    struct evaluated evaluated = pack_evaluated(run, k);
    double before = clock_steady(),
           executed = run->runner->compute.backend->flops_executed(run->runner->compute.device);
    LVS_TRY(pack_pass(run, "evaluation", "the evaluation", err));
    if (one->best) LVS_TRY(trainer_write_adapter(run->trainer, k, one->best, err));
    LVS_TRY(measure_baselines(run, k, err));
    LVS_TRY(evaluation_run(run->runner, &evaluated, &one->trial->settings, &evaluation, err));
    one->seconds_evaluation += clock_steady() - before;
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
enum lvs_status pack_finish_trial(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    LVS_TRY(pack_look_at_head(run, k, err));
    LVS_TRY(evaluate_finally(run, k, err));
    if (!run->assignment->evaluate_only) {
        LVS_TRY(write_curves(run, k, err));
        LVS_TRY(write_adapter(run, k, err));
    }
    pack_fill_record(run, k);
    checkpoint_remove(one->folder);
    pack_close_trial(run, k, TRIAL_DONE, false);
    return LVS_OK;
}

enum lvs_status pack_give_up_diverged(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    int32_t step = trainer_step(run->trainer, k);
    const char *why = step == 0 ? ", before any change: the model's weights or the start adapter hold NaN" : "";
    snprintf(one->record.error, sizeof one->record.error, "the training loss was not finite at step %d%s", step, why);
    LVS_TRY(write_curves(run, k, err));
    pack_fill_record(run, k);
    checkpoint_remove(one->folder);
    pack_close_trial(run, k, TRIAL_DIVERGED, false);
    return LVS_OK;
}

bool pack_rung_is_own(const struct pack_trial *one, int32_t step) {
    const struct settings *settings = &one->trial->settings;
    bool periodic = settings->every > 0 && step % settings->every == 0;
    return !periodic || settings->every_metric != EVERY_METRIC_LOSS;
}

/* The validation loss at a rung: that of the periodic evaluation at this very step, or one of its own. It counts once:
 * an attempt before may have kept its checkpoint and not come to send the record. */
static enum lvs_status measure_rung(struct pack_run *run, int32_t k, double *loss, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    const struct trial_curves *curves = &one->curves;
    int32_t last = curves->n_evaluation - 1;
    if (last >= 0 && curves->evaluation_step[last] == trainer_step(run->trainer, k) && !isnan(curves->val_loss[last])) {
        *loss = curves->val_loss[last];
        return LVS_OK;
    }
    struct evaluated evaluated = pack_evaluated(run, k);
    double before = clock_steady();
    int64_t flops = 0;
    LVS_TRY(evaluation_rung(run->runner, &evaluated, &one->trial->settings, loss, &flops, err));
    if (one->rung_step != trainer_step(run->trainer, k)) one->flops_periodic += flops;
    one->rung_step = trainer_step(run->trainer, k);
    one->seconds_evaluation += clock_steady() - before;
    return LVS_OK;
}

/* Everything that the trial needs to go on, or to be left where it is, is on disk before its record is sent. */
enum lvs_status pack_pause_trial(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    double loss;
    LVS_TRY(pack_look_at_head(run, k, err));
    LVS_TRY(pack_pass(run, "evaluation", "the evaluation at a rung", err));
    LVS_TRY(measure_baselines(run, k, err));
    LVS_TRY(measure_rung(run, k, &loss, err));
    LVS_TRY(write_curves(run, k, err));
    LVS_TRY(pack_checkpoint(run, k, err));
    pack_fill_record(run, k);
    one->record.best_step = -1; /* nothing is kept yet */
    one->record.flops_evaluation = one->flops_periodic + one->flops_baseline;
    one->record.val_loss.loss = loss;
    pack_close_trial(run, k, TRIAL_PENDING, false);
    return LVS_OK;
}
