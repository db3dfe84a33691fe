/* Evaluation of one adapter inside a trainer process: losses, forecasts, baselines, and their counted FLOPs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runner_lora_internal.h"

void evaluation_free(struct evaluation *evaluation) {
    for (int32_t i = 0; i < evaluation->n_forecasts; i++)
        trial_forecast_free(&evaluation->forecasts[i]);
    evaluation->n_forecasts = 0;
}

static const struct flops_convention *convention_of(const struct lora_runner *runner) {
    return flops_convention_find(runner->config->convention);
}

static enum lvs_status measure_loss(struct lora_runner *runner, const struct evaluated *evaluated,
                                    const struct settings *settings, enum split_part part, struct loss_metrics *out,
                                    int64_t *flops, struct lvs_error *err) {
    const struct window_cache *cache;
    struct flops_shape shape =
        flops_shape_of(&runner->shape, model_vocabulary(runner->model), settings, evaluated->adapters != NULL);
    LVS_TRY(lora_runner_windows(runner, settings, part, &cache, err));
    *flops +=
        flops_evaluation(convention_of(runner), &shape, cache->windows.n_windows, settings->batch, settings->context);
    return validation_loss(evaluated, &cache->windows, cache->n_values, settings->batch, out, err);
}

/* ---- forecasts ---- */

static const struct series_choice every_series_of_split;

/* Sequences are priced at their mean prompt and continuation: the sum over lengths is linear to rounding. Samples of a
 * series share the pass over its prompt. */
static int64_t forecast_flops(const struct lora_runner *runner, const struct settings *settings,
                              const struct forecast_set *set, bool adapted) {
    int64_t sequences = (int64_t)set->n_series * set->samples;
    if (sequences == 0) return 0;
    struct flops_shape shape = flops_shape_of(&runner->shape, model_vocabulary(runner->model), settings, adapted);
    return set->n_series * flops_generation_samples(convention_of(runner), &shape, set->n_prompt_tokens / set->n_series,
                                                    set->n_new_tokens / sequences, set->samples);
}

/* How series are scored for `worst:n`: the greedy forecast of the bare model with the sweep's own decimals, so that all
 * trials forecast the same series. */
static struct settings scoring_settings(const struct lora_runner *runner, const struct settings *settings) {
    struct settings scoring = *settings;
    scoring.decimals = runner->config->defaults.decimals;
    scoring.decoding = DECODING_GREEDY;
    scoring.samples = 1;
    scoring.partial = PARTIAL_COUNT; /* else one missing point would be worse than any error */
    return scoring;
}

static bool scores_fit(const struct untrained_scores *scores, const struct settings *settings) {
    return scores->score && memcmp(&scores->history, &settings->history, sizeof settings->history) == 0 &&
           memcmp(&scores->horizon, &settings->horizon, sizeof settings->horizon) == 0 &&
           scores->repetition_penalty == settings->repetition_penalty && scores->constrained == settings->constrained &&
           scores->end == settings->end;
}

/* Scores for `worst:n`: the bare model's error on every series of the part, measured once a trainer process for each
 * history and horizon. *out [split.n[part]], the runner's. */
static enum lvs_status score_series(struct lora_runner *runner, const struct settings *settings, enum split_part part,
                                    const struct untrained_scores **out, struct lvs_error *err) {
    struct untrained_scores *scores = &runner->scores[part];
    struct settings scoring = scoring_settings(runner, settings);
    *out = scores;
    if (scores_fit(scores, settings)) return LVS_OK;
    struct evaluated bare = {.model = runner->model};
    struct forecast_parts parts;
    struct forecast_set set = {0};
    struct forecast_metrics metrics;
    LVS_TRY(forecast_parts_make(&runner->material, &scoring, part, &every_series_of_split, NULL, &parts, err));
    double *score = lvs_malloc((size_t)parts.task.n_rows * sizeof *score);
    enum lvs_status status = forecast_make(&bare, &parts.task, false, &set, err);
    if (status == LVS_OK) forecast_measure(&set, &parts.scaling, &metrics, score);
    int64_t flops = status == LVS_OK ? forecast_flops(runner, &scoring, &set, false) : 0;
    forecast_set_free(&set);
    forecast_parts_free(&parts);
    if (status != LVS_OK) {
        free(score);
        return status;
    }
    free(scores->score);
    *scores = (struct untrained_scores){.history = settings->history,
                                        .horizon = settings->horizon,
                                        .repetition_penalty = settings->repetition_penalty,
                                        .constrained = settings->constrained,
                                        .end = settings->end,
                                        .score = score,
                                        .flops = flops};
    return LVS_OK;
}

/* The task on the chosen series, scored first where `worst` asks for it. */
static enum lvs_status chosen_task_make(struct lora_runner *runner, const struct settings *settings,
                                        enum split_part part, const struct series_choice *choice,
                                        struct forecast_parts *out, struct lvs_error *err) {
    const struct untrained_scores *scores = NULL;
    if (choice->worst > 0) LVS_TRY(score_series(runner, settings, part, &scores, err));
    return forecast_parts_make(&runner->material, settings, part, choice, scores ? scores->score : NULL, out, err);
}

static int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

/* Quantiles over the valid samples of one value. */
static void sample_quantiles(const struct forecast_set *set, size_t cell, double *scratch, double out[3]) {
    static const double percent[3] = {50, 5, 95};
    size_t cells = (size_t)set->n_series * (size_t)set->horizon * (size_t)set->n_channel;
    int32_t n = 0;
    for (int32_t s = 0; s < set->samples; s++) {
        double value = set->predicted[(size_t)s * cells + cell];
        if (!isnan(value)) scratch[n++] = value;
    }
    qsort(scratch, (size_t)n, sizeof *scratch, compare_doubles);
    for (int k = 0; k < 3; k++)
        out[k] = n > 0 ? percentile_linear(scratch, n, percent[k]) : NAN;
}

static void forecast_to_units(const struct lora_runner *runner, const struct scaling *scaling,
                              const struct forecast_set *set, enum split_part part, struct trial_forecast *out) {
    const struct series_set *data = &runner->material.set;
    size_t cells = (size_t)set->n_series * (size_t)set->horizon * (size_t)set->n_channel;
    *out = (struct trial_forecast){
        .part = part, .n_series = set->n_series, .n_time = set->horizon, .n_channel = set->n_channel};
    out->series = lvs_malloc((size_t)set->n_series * sizeof *out->series);
    out->time = lvs_malloc((size_t)set->horizon * sizeof *out->time);
    out->observed = lvs_malloc(cells * sizeof *out->observed);
    out->predicted = lvs_malloc(cells * sizeof *out->predicted);
    if (set->samples > 1) {
        out->low = lvs_malloc(cells * sizeof *out->low);
        out->high = lvs_malloc(cells * sizeof *out->high);
    }
    for (int32_t t = 0; t < set->horizon; t++)
        out->time[t] = set->history + t < data->n_time ? data->time[set->history + t] : NAN;
    for (int32_t i = 0; i < set->n_series; i++)
        out->series[i] = data->id[set->rows[i]];
    double *scratch = lvs_malloc((size_t)set->samples * sizeof *scratch);
    for (size_t cell = 0; cell < cells; cell++) {
        size_t series = cell / (size_t)set->n_channel / (size_t)set->horizon, channel = cell % (size_t)set->n_channel;
        double factor = scaling->factor[(size_t)set->rows[series] * (size_t)set->n_channel + channel], quantiles[3];
        sample_quantiles(set, cell, scratch, quantiles);
        out->observed[cell] = set->observed[cell] * factor;
        out->predicted[cell] = quantiles[0] * factor;
        if (out->low) out->low[cell] = quantiles[1] * factor;
        if (out->high) out->high[cell] = quantiles[2] * factor;
    }
    free(scratch);
}

static enum lvs_status measure_forecasts(struct lora_runner *runner, const struct evaluated *evaluated,
                                         const struct settings *settings, enum split_part part, struct evaluation *out,
                                         struct lvs_error *err) {
    struct forecast_parts parts;
    struct forecast_set set = {0};
    struct series_choice choice = narrow_choice(settings);
    LVS_TRY(chosen_task_make(runner, settings, part, &choice, &parts, err));
    enum lvs_status status = forecast_make(evaluated, &parts.task, true, &set, err);
    if (status == LVS_OK) {
        forecast_measure(&set, &parts.scaling, &out->metrics[part], NULL);
        forecast_to_units(runner, &parts.scaling, &set, part, &out->forecasts[out->n_forecasts++]);
        out->flops += forecast_flops(runner, settings, &set, evaluated->adapters != NULL);
    }
    forecast_set_free(&set);
    forecast_parts_free(&parts);
    return status;
}

static void evaluation_unknown(struct evaluation *out) {
    struct trial nothing = {0};
    struct record unknown;
    record_init(&unknown, &nothing);
    memset(out, 0, sizeof *out);
    for (int part = 0; part < SPLIT_COUNT; part++) {
        out->loss[part] = unknown.val_loss;
        out->metrics[part] = unknown.val;
    }
}

enum lvs_status evaluation_run(struct lora_runner *runner, const struct evaluated *evaluated,
                               const struct settings *settings, struct evaluation *out, struct lvs_error *err) {
    evaluation_unknown(out);
    enum lvs_status status = LVS_OK;
    for (int part = SPLIT_VALIDATION; status == LVS_OK && part < SPLIT_COUNT; part++) {
        if (settings->loss && settings->loss_on >> part & 1)
            status =
                measure_loss(runner, evaluated, settings, (enum split_part)part, &out->loss[part], &out->flops, err);
        if (status == LVS_OK && settings->forecast_on >> part & 1)
            status = measure_forecasts(runner, evaluated, settings, (enum split_part)part, out, err);
    }
    if (status != LVS_OK) evaluation_free(out);
    return status;
}

enum lvs_status evaluation_periodic(struct lora_runner *runner, const struct evaluated *evaluated,
                                    const struct settings *settings, struct periodic_scores *scores, int64_t *flops,
                                    struct lvs_error *err) {
    *scores = (struct periodic_scores){NAN, NAN, NAN};
    if (settings->every_metric == EVERY_METRIC_LOSS) {
        struct loss_metrics metrics;
        LVS_TRY(measure_loss(runner, evaluated, settings, SPLIT_VALIDATION, &metrics, flops, err));
        scores->loss = metrics.loss;
        return LVS_OK;
    }
    struct settings few = *settings;
    few.horizon = (struct amount){.unit = AMOUNT_POINTS, .value = settings->every_horizon};
    few.samples = 1;
    struct forecast_parts parts;
    struct forecast_set set = {0};
    struct forecast_metrics metrics;
    LVS_TRY(chosen_task_make(runner, &few, SPLIT_VALIDATION, &settings->every_series, &parts, err));
    enum lvs_status status = forecast_make(evaluated, &parts.task, false, &set, err);
    if (status == LVS_OK) {
        forecast_measure(&set, &parts.scaling, &metrics, NULL);
        scores->mae_scaled = metrics.mae_scaled_mean;
        scores->mse_scaled = metrics.mse_scaled_mean;
        *flops += forecast_flops(runner, &few, &set, evaluated->adapters != NULL);
    }
    forecast_set_free(&set);
    forecast_parts_free(&parts);
    return status;
}

enum lvs_status evaluation_rung(struct lora_runner *runner, const struct evaluated *evaluated,
                                const struct settings *settings, double *loss, int64_t *flops, struct lvs_error *err) {
    struct loss_metrics metrics;
    LVS_TRY(measure_loss(runner, evaluated, settings, SPLIT_VALIDATION, &metrics, flops, err));
    *loss = metrics.loss;
    return LVS_OK;
}

/* ---- baselines ---- */

/* The untrained model's numbers depend on the window and the text; those of the simple rules on the data only. */
static void baseline_key(const struct lora_runner *runner, const struct settings *settings, int32_t kind,
                         char out[LVS_HASH_TEXT]) {
    bool untrained = kind == BASELINE_UNTRAINED;
    struct strbuf text;
    strbuf_init(&text);
    config_write_hashed(runner->config, settings,
                        untrained ? KEY_EFFECT_TRAIN | KEY_EFFECT_EVALUATE : KEY_EFFECT_EVALUATE, &text);
    strbuf_printf(&text, "baseline=%d\ndata=%s\n", kind, runner->material.set.hash);
    if (untrained)
        strbuf_printf(&text, "context=%d\ndecimals=%d\nweights=%s\n", settings->context, settings->decimals,
                      runner->weights_hash);
    char ends[TOKENIZER_ENDS_TEXT];
    tokenizer_write_ends(&runner->material.tokenizer, ends);
    if (untrained && ends[0]) strbuf_printf(&text, "ends=%s\n", ends);
    hash_bytes(text.text, text.length, out);
    strbuf_free(&text);
}

static struct baseline baseline_of(const struct lora_runner *runner, const struct settings *settings, int32_t kind) {
    struct baseline baseline;
    baseline_init(&baseline, (enum baseline_kind)kind);
    baseline.context = settings->context;
    baseline.decimals = settings->decimals;
    baseline_key(runner, settings, kind, baseline.key);
    return baseline;
}

/* What scoring the series for `worst:n` cost, counted with the untrained model's evaluation wherever it was done. */
static enum lvs_status scoring_flops(struct lora_runner *runner, const struct settings *settings, int64_t *flops,
                                     struct lvs_error *err) {
    const struct untrained_scores *scores;
    struct series_choice choice = narrow_choice(settings);
    for (int part = SPLIT_VALIDATION; part < SPLIT_COUNT && choice.worst > 0; part++) {
        if (!(settings->forecast_on >> part & 1)) continue;
        LVS_TRY(score_series(runner, settings, (enum split_part)part, &scores, err));
        *flops += scores->flops;
    }
    return LVS_OK;
}

static enum lvs_status untrained_baseline(struct lora_runner *runner, const struct settings *settings,
                                          const struct runner_sink *sink, int64_t *flops, struct lvs_error *err) {
    struct evaluated bare = {.model = runner->model};
    struct evaluation evaluation;
    struct baseline baseline = baseline_of(runner, settings, BASELINE_UNTRAINED);
    double before = clock_steady();
    LVS_TRY(evaluation_run(runner, &bare, settings, &evaluation, err));
    enum lvs_status status = scoring_flops(runner, settings, &evaluation.flops, err);
    baseline.seconds = clock_steady() - before;
    baseline.val_loss = evaluation.loss[SPLIT_VALIDATION];
    baseline.test_loss = evaluation.loss[SPLIT_TEST];
    baseline.val = evaluation.metrics[SPLIT_VALIDATION];
    baseline.test = evaluation.metrics[SPLIT_TEST];
    baseline.flops_evaluation = evaluation.flops;
    evaluation_free(&evaluation);
    *flops += baseline.flops_evaluation;
    if (status == LVS_OK) sink->baseline(sink->context, &baseline);
    return status;
}

static enum lvs_status simple_baseline(struct lora_runner *runner, const struct settings *settings,
                                       enum baseline_kind kind, const struct runner_sink *sink, struct lvs_error *err) {
    struct baseline baseline = baseline_of(runner, settings, kind);
    for (int part = SPLIT_VALIDATION; part < SPLIT_COUNT; part++) {
        if (!(settings->forecast_on >> part & 1)) continue;
        struct forecast_parts parts;
        struct forecast_set set = {0};
        struct series_choice choice = narrow_choice(settings);
        LVS_TRY(chosen_task_make(runner, settings, (enum split_part)part, &choice, &parts, err));
        enum lvs_status status = forecast_baseline(kind, &parts.task, &set, err);
        if (status == LVS_OK)
            forecast_measure(&set, &parts.scaling, part == SPLIT_TEST ? &baseline.test : &baseline.val, NULL);
        forecast_set_free(&set);
        forecast_parts_free(&parts);
        LVS_TRY(status);
    }
    sink->baseline(sink->context, &baseline);
    return LVS_OK;
}

enum lvs_status evaluation_baselines(struct lora_runner *runner, const struct trial *trial,
                                     const struct runner_sink *sink, int64_t *flops, struct lvs_error *err) {
    struct settings settings = trial->settings;
    narrow_second_pass(&settings); /* compared with the numbers that a stage ends with */
    LVS_TRY(untrained_baseline(runner, &settings, sink, flops, err));
    if (!settings.forecast_on) return LVS_OK;
    if (settings.baselines >> BASELINE_LAST_VALUE & 1)
        LVS_TRY(simple_baseline(runner, &settings, BASELINE_LAST_VALUE, sink, err));
    if (settings.baselines >> BASELINE_MEAN & 1) LVS_TRY(simple_baseline(runner, &settings, BASELINE_MEAN, sink, err));
    return LVS_OK;
}
