/* Writing an adapter folder that PEFT loads: adapter_model.safetensors, then adapter_config.json, so that a folder cut
 * short is none. A trained head has no place in that format and lies beside it in head.safetensors. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

static const char *const torch_metadata[] = {"format", "pt", NULL};

/* Padding removed: A's first rows, B's first columns. The copy belongs to the caller. */
static float *pack_a(const struct lora_layout *layout, int32_t target, int32_t rank, const float *block) {
    size_t count = (size_t)rank * (size_t)layout->n_in[target];
    float *out = lvs_malloc(count * sizeof *out);
    memcpy(out, block + layout->site_a[target], count * sizeof *out);
    return out;
}

static float *pack_b(const struct lora_layout *layout, int32_t target, int32_t rank, const float *block) {
    int64_t n_out = layout->n_out[target];
    float *out = lvs_malloc((size_t)(n_out * rank) * sizeof *out);
    for (int64_t row = 0; row < n_out; row++)
        memcpy(out + row * rank, block + layout->site_b[target] + row * layout->rank, (size_t)rank * sizeof *out);
    return out;
}

static void add_pair(const struct lora_layout *layout, int32_t layer, int32_t target, int32_t rank, const float *params,
                     struct safetensors_tensor pair[2]) {
    const float *block = params + layer * layout->layer_floats;
    char module[64];
    lora_module_path(layer, target, module, sizeof module);
    pair[0] = (struct safetensors_tensor){.n_dims = 2,
                                          .shape = {rank, layout->n_in[target]},
                                          .data = pack_a(layout, target, rank, block),
                                          .type = TENSOR_F32};
    pair[1] = (struct safetensors_tensor){.n_dims = 2,
                                          .shape = {layout->n_out[target], rank},
                                          .data = pack_b(layout, target, rank, block),
                                          .type = TENSOR_F32};
    snprintf(pair[0].name, sizeof pair[0].name, "base_model.model.%s.lora_A.weight", module);
    snprintf(pair[1].name, sizeof pair[1].name, "base_model.model.%s.lora_B.weight", module);
}

static enum lvs_status write_pairs(const char *folder, const struct lora_layout *layout, int32_t rank,
                                   const float *params, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, folder, "adapter_model.safetensors", err));
    size_t capacity = 2 * (size_t)layout->n_layers * LORA_TARGET_COUNT;
    struct safetensors_tensor *tensors = lvs_calloc(capacity, sizeof *tensors);
    int32_t count = 0;
    for (int32_t l = 0; l < layout->n_layers; l++)
        for (int32_t t = 0; t < LORA_TARGET_COUNT; t++)
            if (layout->site_a[t] >= 0) {
                add_pair(layout, l, t, rank, params, &tensors[count]);
                count += 2;
            }
    enum lvs_status status = safetensors_write(path, tensors, count, torch_metadata, err);
    for (int32_t i = 0; i < count; i++)
        free((void *)tensors[i].data);
    free(tensors);
    return status;
}

static enum lvs_status write_head(const char *folder, const struct lora_layout *layout, const float *params,
                                  struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, folder, "head.safetensors", err));
    if (layout->bias_offset < 0 && layout->head_offset < 0) {
        unlink(path); /* of an earlier adapter in this folder */
        return LVS_OK;
    }
    bool is_bias = layout->bias_offset >= 0;
    struct safetensors_tensor tensor = {
        .n_dims = is_bias ? 1 : 2,
        .shape = {layout->n_vocabulary, is_bias ? 0 : layout->hidden},
        .data = params + (is_bias ? layout->bias_offset : layout->head_offset),
        .type = TENSOR_F32,
    };
    lvs_copy(tensor.name, sizeof tensor.name, is_bias ? "lm_head.bias" : "lm_head.weight");
    return safetensors_write(path, &tensor, 1, torch_metadata, err);
}

static json_t *alpha_json(const struct settings *settings) {
    double alpha = settings_lora_scale(settings) * settings->lora_rank;
    return alpha == rint(alpha) && fabs(alpha) < 1e9 ? json_integer((json_int_t)alpha) : json_real(alpha);
}

/* The base model as other programs look for it: hf:owner/name@revision as a name and a revision, a folder by its full
 * path, so that the adapter loads from anywhere. */
static void set_base_model(json_t *config, const char *base_model) {
    bool hub = strncmp(base_model, "hf:", 3) == 0;
    const char *at = hub ? strchr(base_model, '@') : NULL;
    char *whole = hub ? NULL : realpath(base_model, NULL);
    const char *name = whole ? whole : hub ? base_model + 3 : base_model;
    size_t length = at ? (size_t)(at - name) : strlen(name);
    json_object_set_new(config, "base_model_name_or_path", json_stringn(name, length));
    json_object_set_new(config, "revision", at ? json_string(at + 1) : json_null());
    free(whole);
}

static json_t *config_json(const struct lora_layout *layout, const struct settings *settings, const char *base_model) {
    json_t *config = json_object(), *modules = json_array();
    for (int32_t t = 0; t < LORA_TARGET_COUNT; t++)
        if (layout->targets >> t & 1u) json_array_append_new(modules, json_string(lora_target_module[t]));
    json_object_set_new(config, "peft_type", json_string("LORA"));
    json_object_set_new(config, "task_type", json_string("CAUSAL_LM"));
    set_base_model(config, base_model);
    json_object_set_new(config, "r", json_integer(settings->lora_rank));
    json_object_set_new(config, "lora_alpha", alpha_json(settings));
    json_object_set_new(config, "lora_dropout", json_real(settings->dropout));
    json_object_set_new(config, "target_modules", modules);
    json_object_set_new(config, "bias", json_string("none"));
    json_object_set_new(config, "fan_in_fan_out", json_false());
    json_object_set_new(config, "init_lora_weights", json_true());
    json_object_set_new(config, "modules_to_save", json_null());
    json_object_set_new(config, "use_rslora", json_false());
    json_object_set_new(config, "use_dora", json_false());
    json_object_set_new(config, "rank_pattern", json_object());
    json_object_set_new(config, "alpha_pattern", json_object());
    json_object_set_new(config, "inference_mode", json_true());
    return config;
}

static enum lvs_status write_config(const char *folder, const struct lora_layout *layout,
                                    const struct settings *settings, const char *base_model, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, folder, "adapter_config.json", err));
    json_t *config = config_json(layout, settings, base_model);
    char *text = json_dumps(config, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(config);
    if (!text) return lvs_fail(err, LVS_BUG, "%s: adapter_config.json cannot be written as JSON", folder);
    enum lvs_status status = file_write_whole(path, text, strlen(text), err);
    free(text);
    return status;
}

enum lvs_status lora_write(const char *folder, const struct lora_layout *layout, const struct settings *settings,
                           const char *base_model, const float *params, struct lvs_error *err) {
    LVS_TRY(file_make_folder(folder, err));
    LVS_TRY(write_head(folder, layout, params, err));
    LVS_TRY(write_pairs(folder, layout, settings->lora_rank, params, err));
    return write_config(folder, layout, settings, base_model, err);
}
