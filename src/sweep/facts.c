/* Facts of data and model for plans and keys: read once on rank 0, before anything starts. Token lengths depend on
 * decimals and history only, and are kept for every such pair that was asked for. */
#include <stdlib.h>
#include <string.h>

#include "facts_internal.h"

static const char *effective_backend(const struct config *config) {
    static const struct backend *cuda;
    struct lvs_error ignored;
    if (config->backend == BACKEND_CPU) return "cpu";
    if (config->backend == BACKEND_CUDA) return "cuda";
    if (placement_visible_gpus() <= 0) return "cpu";
    return backend_find("cuda", &cuda, &ignored) == LVS_OK ? "cuda" : "cpu";
}

static const char *effective_precision(const struct config *config, const char *backend) {
    if (config->precision == PRECISION_FP32) return "fp32";
    if (config->precision == PRECISION_BF16) return "bf16";
    return strcmp(backend, "cuda") == 0 ? "bf16" : "fp32";
}

/* The fake runner needs neither data nor model: prices are those of a small model without evaluation. */
static void fake_facts(const struct config *config, struct sweep_facts *facts) {
    facts->model = (struct qwen2_config){.vocab_size = 16,
                                         .hidden = 128,
                                         .intermediate = 640,
                                         .n_layers = 4,
                                         .n_heads = 2,
                                         .n_kv_heads = 1,
                                         .head_size = 64,
                                         .max_position = 2048,
                                         .tied = true};
    facts->material.config = config;
    facts->material.set.n_channel = 1;
    facts->material.set.n_time = 100;
    lvs_copy(facts->material.set.channel_name[0], sizeof facts->material.set.channel_name[0], "fake");
    facts->vocabulary = facts->model.vocab_size;
    lvs_copy(facts->backend, sizeof facts->backend, "cpu");
    lvs_copy(facts->precision, sizeof facts->precision, "fp32");
}

static enum lvs_status read_all(const struct config *config, struct sweep_facts *facts, struct lvs_error *err) {
    if (config->runner == RUNNER_FAKE) {
        fake_facts(config, facts);
        return LVS_OK;
    }
    LVS_TRY(model_locate(config->model_path, facts->model_folder, err));
    LVS_TRY(qwen2_config_read(facts->model_folder, &facts->model, err));
    LVS_TRY(model_hash(facts->model_folder, facts->weights_hash, err));
    LVS_TRY(material_open(config, facts->model_folder, &facts->model, &facts->material, err));
    facts->has_material = true;
    const struct tokenizer *tokenizer = &facts->material.tokenizer;
    facts->vocabulary = tokenizer->text_only ? tokenizer->n_kept : facts->model.vocab_size;
    lvs_copy(facts->backend, sizeof facts->backend, effective_backend(config));
    lvs_copy(facts->precision, sizeof facts->precision, effective_precision(config, facts->backend));
    return LVS_OK;
}

/* A channel that [sweep] metric names; the rest was checked when the configuration was read. */
static enum lvs_status check_metric(const struct config *config, const struct series_set *set, struct lvs_error *err) {
    if (metric_check(config->metric, set->channel_name, set->n_channel, err) == LVS_OK) return LVS_OK;
    return lvs_error_prefix(err, "%s: [sweep]", config->path);
}

enum lvs_status sweep_facts_make(const struct config *config, struct sweep_facts **out, struct lvs_error *err) {
    struct sweep_facts *facts = lvs_calloc(1, sizeof *facts);
    enum lvs_status status = read_all(config, facts, err);
    if (status == LVS_OK) status = check_metric(config, &facts->material.set, err);
    if (status != LVS_OK) {
        sweep_facts_destroy(facts);
        return status;
    }
    *out = facts;
    return LVS_OK;
}

void sweep_facts_destroy(struct sweep_facts *facts) {
    if (!facts) return;
    for (int32_t i = 0; i < facts->n_lengths; i++)
        for (int part = 0; part < SPLIT_COUNT; part++)
            free(facts->lengths[i].tokens[part]);
    free(facts->lengths);
    free(facts->fitting);
    if (facts->has_material) material_close(&facts->material);
    free(facts);
}

static enum lvs_status measure(struct sweep_facts *facts, const struct settings *settings, struct token_lengths *out,
                               struct lvs_error *err) {
    for (int part = 0; part < SPLIT_COUNT; part++) {
        struct token_set tokens;
        LVS_TRY(material_tokens(&facts->material, settings, (enum split_part)part, &tokens, err));
        out->tokens[part] = lvs_malloc((size_t)tokens.n_series * sizeof(int64_t));
        for (int32_t i = 0; i < tokens.n_series; i++)
            out->tokens[part][i] = tokens.offset[i + 1] - tokens.offset[i];
        token_set_free(&tokens);
    }
    return LVS_OK;
}

enum lvs_status facts_lengths(struct sweep_facts *facts, const struct settings *settings,
                              const struct token_lengths **out, struct lvs_error *err) {
    int32_t history, horizon;
    forecast_extent(settings, facts->material.set.n_time, &history, &horizon);
    for (int32_t i = 0; i < facts->n_lengths; i++) {
        *out = &facts->lengths[i];
        if ((*out)->decimals == settings->decimals && (*out)->history == history) return LVS_OK;
    }
    facts->lengths = lvs_realloc(facts->lengths, (size_t)(facts->n_lengths + 1) * sizeof *facts->lengths);
    struct token_lengths *added = &facts->lengths[facts->n_lengths++];
    *added = (struct token_lengths){.decimals = settings->decimals, .history = history};
    *out = added;
    return measure(facts, settings, added, err);
}

const struct qwen2_config *sweep_facts_model(const struct sweep_facts *facts) {
    return &facts->model;
}

const struct series_set *sweep_facts_series(const struct sweep_facts *facts) {
    return &facts->material.set;
}

const struct split *sweep_facts_split(const struct sweep_facts *facts) {
    return &facts->material.split;
}

const char *sweep_facts_backend(const struct sweep_facts *facts) {
    return facts->backend;
}

const char *sweep_facts_precision(const struct sweep_facts *facts) {
    return facts->precision;
}

const char *sweep_facts_weights_hash(const struct sweep_facts *facts) {
    return facts->weights_hash;
}

int32_t sweep_facts_vocabulary(const struct sweep_facts *facts) {
    return facts->vocabulary;
}
