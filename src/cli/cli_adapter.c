/* From a folder to a model with its adapter on a device. The base model is found through lvsweep.json and checked by
 * its hash, so that a forecast never comes from another checkpoint without a word. */
#include "cli_adapter.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- which folder ---- */

enum lvs_status cli_find_trial(const struct results *results, const char *word, const struct trial **out,
                               struct lvs_error *err) {
    bool best = strcmp(word, "best") == 0;
    int32_t index = -1;
    for (int32_t stage = results->n_stages - 1; best && stage >= -1 && index < 0; stage--)
        index = results_best(results, stage, results->metric).index;
    for (int32_t i = 0; !best && i < results->n_rows; i++) {
        const struct trial *trial = &results->rows[i].trial;
        if (strcmp(trial->name, word) == 0) index = i;
        if (index < 0 && strlen(word) >= 4 && strncmp(trial->train_key, word, strlen(word)) == 0) index = i;
    }
    if (index < 0)
        return best ? lvs_fail(err, LVS_USAGE, "%s: no trial is done yet", results->output)
                    : lvs_fail(err, LVS_USAGE, "%s: no trial is called %s; lvsweep export %s --csv lists them",
                               results->output, word, results->output);
    *out = &results->rows[index].trial;
    return LVS_OK;
}

static bool holds_adapter(const char *folder) {
    char path[LVS_PATH_MAX];
    struct lvs_error ignored;
    return file_join(path, folder, "lvsweep.json", &ignored) == LVS_OK && file_exists(path);
}

static enum lvs_status locate_in_sweep(const struct adapter_source *source, char out[LVS_PATH_MAX],
                                       struct lvs_error *err) {
    struct results results;
    const struct trial *trial = NULL;
    char folder[LVS_PATH_MAX];
    LVS_TRY(results_read(source->folder, &results, err));
    enum lvs_status status = cli_find_trial(&results, source->trial ? source->trial : "best", &trial, err);
    if (status == LVS_OK) status = trial_folder(folder, results.output, trial->name, err);
    if (status == LVS_OK) status = file_join(out, folder, "adapter", err);
    if (status == LVS_OK && !holds_adapter(out))
        status = lvs_fail(err, LVS_INPUT, "%s: no adapter there: %s has not finished", out, trial->name);
    results_free(&results);
    return status;
}

enum lvs_status adapter_locate(const struct adapter_source *source, char out[LVS_PATH_MAX], struct lvs_error *err) {
    lvs_copy(out, LVS_PATH_MAX, source->folder);
    if (holds_adapter(out)) return LVS_OK;
    LVS_TRY(file_join(out, source->folder, "adapter", err));
    if (holds_adapter(out)) return LVS_OK;
    return locate_in_sweep(source, out, err);
}

/* ---- the adapter's settings ---- */

static const char *const target_names[LORA_TARGET_COUNT] = {
    [LORA_TARGET_Q] = "q_proj",       [LORA_TARGET_K] = "k_proj",       [LORA_TARGET_V] = "v_proj",
    [LORA_TARGET_O] = "o_proj",       [LORA_TARGET_GATE] = "gate_proj", [LORA_TARGET_UP] = "up_proj",
    [LORA_TARGET_DOWN] = "down_proj",
};

/* Which matrices it is on; lora_read then checks every tensor against it. */
static enum lvs_status read_targets(const char *folder, uint32_t *targets, struct lvs_error *err) {
    char path[LVS_PATH_MAX], *bytes;
    size_t length;
    json_error_t why;
    LVS_TRY(file_join(path, folder, "adapter_config.json", err));
    LVS_TRY(file_read(path, 1 << 20, &bytes, &length, err));
    json_t *config = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &why);
    free(bytes);
    if (!config) return lvs_fail(err, LVS_INPUT, "%s:%d: not JSON: %s", path, why.line, why.text);
    const json_t *list = json_object_get(config, "target_modules");
    *targets = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        for (int t = 0; name && t < LORA_TARGET_COUNT; t++)
            if (strcmp(name, target_names[t]) == 0) *targets |= 1u << t;
    }
    json_decref(config);
    return *targets ? LVS_OK : lvs_fail(err, LVS_INPUT, "%s: target_modules names no matrix that LoRA is on", path);
}

static enum lvs_status read_settings(struct opened_adapter *adapter, struct lvs_error *err) {
    const struct cli_sets none = {0};
    struct config *config = NULL;
    LVS_TRY(cli_default_config(&none, &config, err));
    adapter->settings = config->defaults;
    config_destroy(config);
    adapter->settings.lora_rank = adapter->info.lora_rank;
    adapter->settings.alpha_value = adapter->info.lora_alpha;
    adapter->settings.alpha_times_rank = 0;
    adapter->settings.head = adapter->info.head;
    adapter->settings.context = adapter->info.context;
    adapter->settings.decimals = adapter->info.format.decimals;
    return read_targets(adapter->folder, &adapter->settings.lora_targets, err);
}

/* ---- device, model, adapter ---- */

/* "auto" is bf16 on cuda and fp32 on the CPU. */
static enum lvs_status open_compute(const char *backend, const char *precision, int32_t threads, struct compute *out,
                                    struct lvs_error *err) {
    struct device_options device = {.threads = threads};
    const struct backend *found;
    LVS_TRY(backend_find(backend, &found, err));
    if (strcmp(precision, "auto") == 0) precision = strcmp(found->name, "cuda") == 0 ? "bf16" : "fp32";
    if (strcmp(precision, "fp32") != 0 && strcmp(precision, "bf16") != 0)
        return lvs_fail(err, LVS_USAGE, "--precision %s: expected auto, fp32 or bf16", precision);
    device.precision = strcmp(precision, "bf16") == 0 ? PRECISION_KIND_BF16 : PRECISION_KIND_FP32;
    return compute_open(found->name, &device, out, err);
}

/* A relative path is seen from where the sweep was started; its journal, three folders up, says where. */
static void resolve_base(const struct opened_adapter *adapter, char out[LVS_PATH_MAX]) {
    char sweep[LVS_PATH_MAX];
    struct results results;
    struct lvs_error ignored;
    lvs_copy(out, LVS_PATH_MAX, adapter->info.base_model);
    if (out[0] == '/' || strncmp(out, "hf:", 3) == 0 || file_exists(out)) return;
    if (file_join(sweep, adapter->folder, "../../..", &ignored) != LVS_OK) return;
    if (results_read(sweep, &results, &ignored) != LVS_OK) return;
    const char *folder = cli_provenance(&results, "folder");
    if (folder) file_resolve(out, folder, adapter->info.base_model, &ignored);
    results_free(&results);
}

static enum lvs_status open_model(const struct adapter_source *source, struct opened_adapter *adapter,
                                  struct lvs_error *err) {
    const struct tokenizer *tokenizer = &adapter->info.tokenizer;
    char path[LVS_PATH_MAX], hash[LVS_HASH_TEXT];
    resolve_base(adapter, path);
    if (source->model) lvs_copy(path, sizeof path, source->model);
    if (model_locate(path, adapter->model_folder, err) != LVS_OK) {
        const struct lvs_error why = *err;
        return lvs_fail(err, LVS_INPUT, "the base model of %s: %.1200s; where it lies elsewhere now: --model FOLDER",
                        adapter->folder, why.text);
    }
    LVS_TRY(model_hash(adapter->model_folder, hash, err));
    if (adapter->info.model_hash[0] && strcmp(hash, adapter->info.model_hash) != 0)
        return lvs_fail(err, LVS_INPUT,
                        "%s: not the model that %s was trained on (its hash is %.8s, not %.8s); give the right one "
                        "with --model",
                        adapter->model_folder, adapter->folder, hash, adapter->info.model_hash);
    LVS_TRY(open_compute(source->backend, source->precision, source->threads, &adapter->compute, err));
    struct model_source weights = {.folder = adapter->model_folder};
    if (tokenizer->text_only) {
        weights.kept_rows = tokenizer->kept;
        weights.n_kept = tokenizer->n_kept;
    }
    return model_open(&adapter->compute, &weights, &adapter->model, err);
}

static enum lvs_status upload_adapter(struct opened_adapter *adapter, struct lvs_error *err) {
    const struct backend *backend = adapter->compute.backend;
    struct device *device = adapter->compute.device;
    const size_t bytes = (size_t)adapter->layout.stride * sizeof(float);
    float scale = (float)settings_lora_scale(&adapter->settings);
    void *memory;
    LVS_TRY(backend->allocate(device, bytes, &memory, err));
    adapter->adapters.params = memory;
    LVS_TRY(backend->allocate(device, sizeof scale, &memory, err));
    adapter->adapters.scale = memory;
    adapter->adapters.stride = adapter->layout.stride;
    backend->upload(device, adapter->adapters.params, adapter->host_params, bytes);
    backend->upload(device, memory, &scale, sizeof scale);
    return backend->synchronize(device, err);
}

enum lvs_status adapter_open(const struct adapter_source *source, struct opened_adapter *out, struct lvs_error *err) {
    memset(out, 0, sizeof *out);
    LVS_TRY(adapter_locate(source, out->folder, err));
    LVS_TRY(adapter_info_read(out->folder, &out->info, err));
    LVS_TRY(read_settings(out, err));
    LVS_TRY(open_model(source, out, err));
    lora_layout_make(model_config(out->model), model_vocabulary(out->model), out->settings.lora_targets,
                     lora_padded_rank(out->settings.lora_rank), out->settings.head, &out->layout);
    out->host_params = lvs_calloc((size_t)out->layout.stride, sizeof *out->host_params);
    LVS_TRY(lora_read(out->folder, &out->layout, &out->settings, out->host_params, err));
    return upload_adapter(out, err);
}

void adapter_close(struct opened_adapter *adapter) {
    const struct backend *backend = adapter->compute.backend;
    if (adapter->adapters.params) backend->release(adapter->compute.device, adapter->adapters.params);
    if (adapter->adapters.scale) backend->release(adapter->compute.device, (void *)adapter->adapters.scale);
    free(adapter->host_params);
    model_close(adapter->model);
    if (backend) compute_close(&adapter->compute);
    memset(adapter, 0, sizeof *adapter);
}

struct evaluated adapter_evaluated(const struct opened_adapter *adapter) {
    return (struct evaluated){.model = adapter->model, .lora = &adapter->layout, .adapters = &adapter->adapters};
}

/* ---- logits of a short text ---- */

enum lvs_status adapter_logits(const struct model *model, const struct lora_layout *layout,
                               const struct adapters *adapters, const struct tokenizer *tokenizer, float *out,
                               struct lvs_error *err) {
    static const char text[VERIFY_TOKENS + 1] = "1203040506070809;1122334455667788";
    const struct compute *compute = model_compute(model);
    const struct pass_options options = {
        .n_slots = 1, .n_sequences = 1, .context = VERIFY_TOKENS, .lora = adapters ? layout : NULL};
    int32_t ids[VERIFY_TOKENS], rows[VERIFY_TOKENS];
    struct pass *pass;
    LVS_TRY(tokenizer_encode(tokenizer, text, VERIFY_TOKENS, ids, err));
    for (int32_t i = 0; i < VERIFY_TOKENS; i++)
        rows[i] = i;
    LVS_TRY(pass_create(model, &options, &pass, err));
    compute->backend->upload(compute->device, pass_ids(pass), ids, sizeof ids);
    pass_forward(pass, adapters);
    enum lvs_status status = pass_logits(pass, adapters, rows, VERIFY_TOKENS, out, err);
    pass_destroy(pass);
    return status;
}

struct logit_difference logits_compare(const float *a, const float *b, int64_t count) {
    struct logit_difference out = {0};
    for (int64_t i = 0; i < count; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        /* NaN must not pass for equal */
        if (!(difference <= out.difference)) out.difference = isnan(difference) ? INFINITY : difference;
        out.largest = fmax(out.largest, fabs((double)a[i]));
    }
    return out;
}
