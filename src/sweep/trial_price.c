/* What a trial costs on paper: its steps, its losses, its forecasts. An upper bound is reserved (forecasts priced at
 * the longest prompt and the token cap); what really ran is charged. */
#include <stdlib.h>
#include <string.h>

#include "facts_internal.h"

struct flops_shape flops_shape_of(const struct qwen2_config *model, int32_t vocabulary, const struct settings *settings,
                                  bool adapted) {
    return (struct flops_shape){
        .hidden = model->hidden,
        .n_heads = model->n_heads,
        .n_kv_heads = model->n_kv_heads,
        .head_size = model->head_size,
        .n_layers = model->n_layers,
        .intermediate = model->intermediate,
        .vocabulary = vocabulary,
        .lora_rank = adapted ? settings->lora_rank : 0,
        .lora_targets = adapted ? settings->lora_targets : 0,
        .head_bias = adapted && settings->head == HEAD_BIAS,
    };
}

static int64_t add_capped(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static int64_t multiply_capped(int64_t a, int64_t b) {
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static enum lvs_status loss_price(const struct config *config, struct sweep_facts *facts,
                                  const struct settings *settings, const struct flops_shape *shape,
                                  enum split_part part, int64_t *out, struct lvs_error *err) {
    const struct flops_convention *convention = flops_convention_find(config->convention);
    const struct token_lengths *lengths;
    LVS_TRY(facts_lengths(facts, settings, &lengths, err));
    int32_t windows = window_count(lengths->tokens[part], facts->material.split.n[part], settings->context,
                                   settings->context, settings->padding);
    *out = flops_evaluation(convention, shape, windows, settings->batch, settings->context);
    return LVS_OK;
}

static int64_t longest(const int64_t *tokens, int32_t n) {
    int64_t most = 0;
    for (int32_t i = 0; i < n; i++)
        most = tokens[i] > most ? tokens[i] : most;
    return most;
}

static enum lvs_status forecast_price(const struct config *config, struct sweep_facts *facts,
                                      const struct settings *settings, const struct flops_shape *shape,
                                      enum split_part part, int32_t n_series, int32_t horizon, int64_t *out,
                                      struct lvs_error *err) {
    const struct flops_convention *convention = flops_convention_find(config->convention);
    const struct token_lengths *lengths;
    LVS_TRY(facts_lengths(facts, settings, &lengths, err));
    struct text_format format = material_format(&facts->material, settings);
    int32_t n_time = facts->material.set.n_time, history, rest;
    forecast_extent(settings, n_time, &history, &rest);
    if (horizon <= 0) horizon = rest;
    int64_t whole = longest(lengths->tokens[part], facts->material.split.n[part]);
    /* The longest text bounds every prompt: a history of all points but the horizon. */
    int64_t prompt = whole - (int64_t)(n_time - history) * (2 * format.n_channel - 1);
    int64_t tokens = forecast_token_cap(settings, &format, horizon);
    int64_t one = flops_generation(convention, shape, prompt > 1 ? prompt : 1, tokens, true);
    *out = multiply_capped(one, (int64_t)n_series * (settings->samples > 0 ? settings->samples : 1));
    return LVS_OK;
}

/* The bare model's greedy forecast of every series, by which `worst:n` chooses: part of measuring the bare model. */
static enum lvs_status scoring_price(const struct config *config, struct sweep_facts *facts,
                                     const struct settings *settings, enum split_part part, int64_t *out,
                                     struct lvs_error *err) {
    struct settings scoring = *settings;
    scoring.samples = 1;
    scoring.decimals = config->defaults.decimals;
    struct flops_shape shape = flops_shape_of(&facts->model, facts->vocabulary, &scoring, false);
    return forecast_price(config, facts, &scoring, &shape, part, facts->material.split.n[part], 0, out, err);
}

enum lvs_status evaluation_price(const struct config *config, struct sweep_facts *facts,
                                 const struct settings *settings, bool adapted, int64_t *out, struct lvs_error *err) {
    struct flops_shape shape = flops_shape_of(&facts->model, facts->vocabulary, settings, adapted);
    *out = 0;
    if (!facts->has_material) return LVS_OK; /* the fake runner evaluates nothing */
    for (int part = SPLIT_VALIDATION; part < SPLIT_COUNT; part++) {
        int64_t price;
        if (settings->loss && settings->loss_on >> part & 1) {
            LVS_TRY(loss_price(config, facts, settings, &shape, (enum split_part)part, &price, err));
            *out = add_capped(*out, price);
        }
        if (settings->forecast_on >> part & 1) {
            struct series_choice choice = narrow_choice(settings);
            int32_t n = material_n_forecasts(&facts->material, &choice, (enum split_part)part);
            LVS_TRY(forecast_price(config, facts, settings, &shape, (enum split_part)part, n, 0, &price, err));
            *out = add_capped(*out, price);
            if (adapted || choice.worst <= 0) continue;
            LVS_TRY(scoring_price(config, facts, settings, (enum split_part)part, &price, err));
            *out = add_capped(*out, price);
        }
    }
    return LVS_OK;
}

/* One evaluation of `every`. */
static enum lvs_status periodic_price(const struct config *config, struct sweep_facts *facts,
                                      const struct settings *settings, int64_t *out, struct lvs_error *err) {
    *out = 0;
    if (settings->every <= 0 || !facts->has_material) return LVS_OK;
    struct flops_shape shape = flops_shape_of(&facts->model, facts->vocabulary, settings, true);
    if (settings->every_metric == EVERY_METRIC_LOSS)
        return loss_price(config, facts, settings, &shape, SPLIT_VALIDATION, out, err);
    int32_t n = material_n_forecasts(&facts->material, &settings->every_series, SPLIT_VALIDATION);
    return forecast_price(config, facts, settings, &shape, SPLIT_VALIDATION, n, settings->every_horizon, out, err);
}

/* One validation loss at a rung. */
static enum lvs_status rung_price(const struct config *config, struct sweep_facts *facts,
                                  const struct settings *settings, int64_t *out, struct lvs_error *err) {
    *out = 0;
    if (config->stop_rule == STOP_NONE || !facts->has_material) return LVS_OK;
    struct flops_shape shape = flops_shape_of(&facts->model, facts->vocabulary, settings, true);
    return loss_price(config, facts, settings, &shape, SPLIT_VALIDATION, out, err);
}

enum lvs_status trial_price_make(const struct config *config, struct sweep_facts *facts,
                                 const struct settings *settings, struct trial_price *out, struct lvs_error *err) {
    const struct flops_convention *convention = flops_convention_find(config->convention);
    if (!convention) return lvs_fail(err, LVS_USAGE, "no FLOP convention is called %s", config->convention);
    struct flops_shape shape = flops_shape_of(&facts->model, facts->vocabulary, settings, true);
    int64_t once;
    out->baseline = 0; /* the planner's to add */
    LVS_TRY(evaluation_price(config, facts, settings, true, &once, err));
    LVS_TRY(periodic_price(config, facts, settings, &out->periodic, err));
    LVS_TRY(rung_price(config, facts, settings, &out->rung, err));
    int64_t n_periodic = settings->every > 0 ? (int64_t)settings->steps.value / settings->every : 0;
    out->step = flops_training_step(convention, &shape, settings->batch, settings->context);
    out->training = multiply_capped(out->step, (int64_t)settings->steps.value);
    out->evaluation = add_capped(once, multiply_capped(out->periodic, n_periodic));
    bool counts = config->count == COUNT_TRAINING_EVALUATION;
    out->counted = counts ? add_capped(out->training, out->evaluation) : out->training;
    if (out->counted == INT64_MAX || out->evaluation == INT64_MAX)
        return lvs_fail(err, LVS_USAGE,
                        "a trial of rank %d, context %d, %.0f steps costs more than 9.2e18 FLOPs, the most "
                        "that one trial may; split it into stages",
                        settings->lora_rank, settings->context, settings->steps.value);
    return LVS_OK;
}

enum lvs_status trial_extent_make(const struct config *config, struct sweep_facts *facts,
                                  const struct settings *settings, struct trial_extent *out, struct lvs_error *err) {
    (void)config;
    const struct token_lengths *lengths;
    *out = (struct trial_extent){0};
    if (!facts->has_material) return LVS_OK;
    LVS_TRY(facts_lengths(facts, settings, &lengths, err));
    const struct material *material = &facts->material;
    const struct split *split = &material->split;
    int32_t stride = window_stride(&settings->stride, settings->context);
    int64_t *windows[SPLIT_COUNT] = {&out->training_windows, &out->validation_windows, &out->test_windows};
    for (int part = 0; part < SPLIT_COUNT; part++) {
        *windows[part] = window_count(lengths->tokens[part], split->n[part], settings->context,
                                      part == SPLIT_TRAIN ? stride : settings->context, settings->padding);
        bool forecasts = settings->forecast_on >> part & 1;
        struct series_choice choice = narrow_choice(settings);
        out->n_forecasts[part] = forecasts ? material_n_forecasts(material, &choice, (enum split_part)part) : 0;
    }
    double tokens = 0;
    for (int32_t i = 0; i < split->n[SPLIT_TRAIN]; i++)
        tokens += (double)lengths->tokens[SPLIT_TRAIN][i];
    int32_t from, to;
    material_extent(material, SPLIT_TRAIN, &from, &to);
    out->tokens_per_series = split->n[SPLIT_TRAIN] > 0 ? tokens / split->n[SPLIT_TRAIN] : 0;
    out->points_per_window = tokens > 0 ? settings->context / (out->tokens_per_series / (to - from)) : 0;
    out->epochs =
        out->training_windows > 0 ? settings->steps.value * settings->batch / (double)out->training_windows : 0;
    return LVS_OK;
}
