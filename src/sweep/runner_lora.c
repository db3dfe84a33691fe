/* The real runner: opens device, model and data once a trainer process, then runs assignments. */
#include <stdlib.h>
#include <string.h>

#include "lvsweep/log.h"
#include "runner_lora_internal.h"

static const char *backend_word(int32_t choice) {
    return choice == BACKEND_CPU ? "cpu" : choice == BACKEND_CUDA ? "cuda" : "auto";
}

static enum lvs_status open_device(struct lora_runner *runner, struct lvs_error *err) {
    const struct config *config = runner->config;
    const struct backend *backend;
    LVS_TRY(backend_find(backend_word(config->backend), &backend, err));
    bool bf16 = config->precision == PRECISION_BF16 ||
                (config->precision == PRECISION_AUTO && strcmp(backend->name, "cuda") == 0);
    struct device_options options = {.index = runner->place.device_index,
                                     .threads = runner->place.threads,
                                     .precision = bf16 ? PRECISION_KIND_BF16 : PRECISION_KIND_FP32};
    LVS_TRY(compute_open(backend->name, &options, &runner->compute, err));
    runner->has_compute = true;
    return LVS_OK;
}

static enum lvs_status open_all(struct lora_runner *runner, struct lvs_error *err) {
    LVS_TRY(model_locate(runner->config->model_path, runner->model_folder, err));
    LVS_TRY(qwen2_config_read(runner->model_folder, &runner->shape, err));
    LVS_TRY(model_hash(runner->model_folder, runner->weights_hash, err));
    LVS_TRY(material_open(runner->config, runner->model_folder, &runner->shape, &runner->material, err));
    runner->has_material = true;
    LVS_TRY(open_device(runner, err));
    const struct tokenizer *tokenizer = &runner->material.tokenizer;
    struct model_source source = {.folder = runner->model_folder};
    if (tokenizer->text_only) {
        source.kept_rows = tokenizer->kept;
        source.n_kept = tokenizer->n_kept;
    }
    LVS_TRY(model_open(&runner->compute, &source, &runner->model, err));
    return lora_head_open(runner, err);
}

static void lora_close(void *state) {
    struct lora_runner *runner = state;
    for (int part = 0; part < SPLIT_COUNT; part++)
        if (runner->cache[part].filled) window_set_free(&runner->cache[part].windows);
    model_close(runner->text);
    model_close(runner->model);
    if (runner->has_compute) compute_close(&runner->compute);
    if (runner->has_material) material_close(&runner->material);
    for (int part = 0; part < SPLIT_COUNT; part++)
        free(runner->scores[part].score);
    free(runner);
}

static enum lvs_status lora_open(const struct config *config, const struct worker_place *place, void **state,
                                 struct lvs_error *err) {
    struct lora_runner *runner = lvs_calloc(1, sizeof *runner);
    runner->config = config;
    runner->place = *place;
    enum lvs_status status = open_all(runner, err);
    if (status != LVS_OK)
        lora_close(runner);
    else
        *state = runner;
    return status;
}

static void lora_describe(void *state, struct device_description *out) {
    struct lora_runner *runner = state;
    struct lvs_error err = {0};
    memset(out, 0, sizeof *out);
    if (runner->compute.backend->describe(runner->compute.device, out, &err) != LVS_OK) log_warning("%s", err.text);
}

static enum lvs_status lora_run(void *state, const struct assignment *assignment, const struct runner_sink *sink,
                                struct lvs_error *err) {
    return lora_pack_run(state, assignment, sink, err);
}

enum lvs_status lora_runner_windows(struct lora_runner *runner, const struct settings *settings, enum split_part part,
                                    const struct window_cache **out, struct lvs_error *err) {
    struct window_cache wanted = {.filled = true,
                                  .context = settings->context,
                                  .stride = window_stride(&settings->stride, settings->context),
                                  .padding = settings->padding,
                                  .decimals = settings->decimals};
    int32_t horizon;
    forecast_extent(settings, runner->material.set.n_time, &wanted.history, &horizon);
    struct window_cache *cache = &runner->cache[part];
    *out = cache;
    if (cache->filled && cache->context == wanted.context && cache->stride == wanted.stride &&
        cache->padding == wanted.padding && cache->decimals == wanted.decimals && cache->history == wanted.history)
        return LVS_OK;
    if (cache->filled) window_set_free(&cache->windows);
    cache->filled = false;
    LVS_TRY(material_windows(&runner->material, settings, part, &wanted.windows, &wanted.n_values, err));
    *cache = wanted;
    if (part != SPLIT_TRAIN || !runner->text) return LVS_OK;
    return lora_head_localize(&runner->material.tokenizer, &cache->windows, err);
}

const struct runner runner_lora = {
    .name = "lora",
    .open = lora_open,
    .describe = lora_describe,
    .run = lora_run,
    .close = lora_close,
};
