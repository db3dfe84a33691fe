/* Reading an adapter folder of PEFT. A wrongly read adapter trains and predicts without a word, so everything that
 * would give other numbers than base + alpha/r · B·A is refused by name: kinds of LoRA, ranks, missing and unknown
 * tensors. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

#define CONFIG_MAX_BYTES (1u << 20)

/* What is being read, for messages. */
struct peft_reader {
    const char *folder;
    const struct lora_layout *layout;
    const struct settings *settings;
    struct lvs_error *err;
};

/* ---- adapter_config.json ---- */

/* Keys that say nothing about the numbers of a finished adapter. */
static const char *const free_keys[] = {
    "base_model_name_or_path", "revision",        "peft_version", "task_type",
    "inference_mode",          "auto_mapping",    "lora_dropout", "megatron_core",
    "qalora_group_size",       "exclude_modules",
};
/* Keys with checks of their own. */
static const char *const checked_keys[] = {"peft_type",      "r",    "lora_alpha",
                                           "target_modules", "bias", "init_lora_weights"};

static bool is_listed(const char *key, const char *const *keys, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return false;
}

/* null, false, {}, [] and "" switch a feature off. */
static bool is_neutral(const json_t *value) {
    return json_is_null(value) || json_is_false(value) || (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

static enum lvs_status check_features(const struct peft_reader *reader, const json_t *config) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value) {
        char text[PRINTABLE_MAX];
        if (is_listed(key, free_keys, sizeof free_keys / sizeof free_keys[0]) ||
            is_listed(key, checked_keys, sizeof checked_keys / sizeof checked_keys[0]) || is_neutral(value))
            continue;
        return lvs_fail(reader->err, LVS_INPUT,
                        "%s/adapter_config.json: %s is set: this kind of adapter is not computed; only plain LoRA is",
                        reader->folder, json_printable(key, text));
    }
    const json_t *init = json_object_get(config, "init_lora_weights");
    const char *kind = json_string_value(init);
    char text[PRINTABLE_MAX];
    if (init && !json_is_boolean(init) && (!kind || strcmp(kind, "gaussian") != 0))
        return lvs_fail(
            reader->err, LVS_INPUT,
            "%s/adapter_config.json: init_lora_weights = %s may have changed the base weights; only true, false "
            "and \"gaussian\" are read",
            reader->folder, kind ? json_printable(kind, text) : "(not text)");
    return LVS_OK;
}

static enum lvs_status check_kind(const struct peft_reader *reader, const json_t *config) {
    const char *type = json_string_value(json_object_get(config, "peft_type"));
    const char *bias = json_string_value(json_object_get(config, "bias"));
    char text[PRINTABLE_MAX];
    if (!type || strcmp(type, "LORA") != 0)
        return lvs_fail(reader->err, LVS_INPUT, "%s/adapter_config.json: peft_type = %s: only LORA is read",
                        reader->folder, type ? json_printable(type, text) : "(missing)");
    if (bias && strcmp(bias, "none") != 0)
        return lvs_fail(reader->err, LVS_INPUT, "%s/adapter_config.json: bias = %s: only none is read", reader->folder,
                        json_printable(bias, text));
    return LVS_OK;
}

static enum lvs_status check_rank(const struct peft_reader *reader, const json_t *config) {
    const json_t *rank = json_object_get(config, "r"), *alpha = json_object_get(config, "lora_alpha");
    if (!json_is_integer(rank) || !json_is_number(alpha))
        return lvs_fail(reader->err, LVS_INPUT, "%s/adapter_config.json: r and lora_alpha must be given as numbers",
                        reader->folder);
    long long r = json_integer_value(rank);
    if (r != reader->settings->lora_rank)
        return lvs_fail(reader->err, LVS_INPUT, "%s: an adapter of rank %lld; this trial has [lora] rank = %d",
                        reader->folder, r, reader->settings->lora_rank);
    double factor = json_number_value(alpha) / (double)r, own = settings_lora_scale(reader->settings);
    if (fabs(factor - own) > 1e-9 * fabs(own))
        return lvs_fail(
            reader->err, LVS_INPUT,
            "%s: the adapter was trained with lora_alpha = %g (factor alpha/r = %g); this trial's factor is %g: "
            "set [lora] alpha = %g",
            reader->folder, json_number_value(alpha), factor, own, json_number_value(alpha));
    return LVS_OK;
}

static int32_t target_find(const char *module) {
    for (int32_t t = 0; t < LORA_TARGET_COUNT; t++)
        if (module && strcmp(module, lora_target_module[t]) == 0) return t;
    return -1;
}

static void targets_text(uint32_t targets, struct strbuf *out) {
    for (int32_t t = 0; t < LORA_TARGET_COUNT; t++)
        if (targets >> t & 1u) strbuf_printf(out, "%s%s", out->length ? "+" : "", lora_target_module[t]);
}

static enum lvs_status check_targets(const struct peft_reader *reader, const json_t *config) {
    const json_t *list = json_object_get(config, "target_modules");
    uint32_t targets = 0;
    if (!json_is_array(list))
        return lvs_fail(reader->err, LVS_INPUT, "%s/adapter_config.json: target_modules must be a list of names",
                        reader->folder);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        int32_t target = target_find(name);
        char text[PRINTABLE_MAX];
        if (target < 0)
            return lvs_fail(
                reader->err, LVS_INPUT,
                "%s/adapter_config.json: target_modules: %s; only q_proj, k_proj, v_proj, o_proj, gate_proj, "
                "up_proj and down_proj are computed",
                reader->folder, name ? json_printable(name, text) : "(not text)");
        targets |= 1u << target;
    }
    if (targets == reader->layout->targets) return LVS_OK;
    struct strbuf theirs, ours;
    strbuf_init(&theirs);
    strbuf_init(&ours);
    targets_text(targets, &theirs);
    targets_text(reader->layout->targets, &ours);
    enum lvs_status status =
        lvs_fail(reader->err, LVS_INPUT, "%s: the adapter is on %s; this trial has [lora] targets = %s", reader->folder,
                 theirs.length ? theirs.text : "nothing", ours.length ? ours.text : "none");
    strbuf_free(&theirs);
    strbuf_free(&ours);
    return status;
}

static enum lvs_status check_config(const struct peft_reader *reader) {
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, reader->folder, "adapter_config.json", reader->err));
    if (!file_exists(path))
        return lvs_fail(reader->err, LVS_INPUT, "%s: no adapter_config.json there: not a PEFT adapter folder",
                        reader->folder);
    json_t *config;
    LVS_TRY(json_file_read(path, CONFIG_MAX_BYTES, &config, reader->err));
    enum lvs_status status = check_kind(reader, config);
    if (status == LVS_OK) status = check_features(reader, config);
    if (status == LVS_OK) status = check_rank(reader, config);
    if (status == LVS_OK) status = check_targets(reader, config);
    json_decref(config);
    return status;
}

/* ---- tensors ---- */

/* One matrix of this shape as floats, malloc'd. */
static enum lvs_status take_matrix(const struct peft_reader *reader, const struct safetensors *file, const char *name,
                                   int64_t rows, int64_t cols, float **out) {
    const struct safetensors_entry *entry = safetensors_find(file, name);
    if (!entry) return lvs_fail(reader->err, LVS_INPUT, "%s: tensor \"%s\" is missing", reader->folder, name);
    if (entry->type != TENSOR_F32 && entry->type != TENSOR_BF16 && entry->type != TENSOR_F16)
        return lvs_fail(reader->err, LVS_INPUT, "%s: tensor \"%s\": only F32, BF16 and F16 are read", reader->folder,
                        name);
    int32_t n_dims = cols ? 2 : 1;
    if (entry->n_dims != n_dims || entry->shape[0] != rows || (cols && entry->shape[1] != cols))
        return lvs_fail(reader->err, LVS_INPUT,
                        "%s: tensor \"%s\" is %lld × %lld (%d dimensions); %lld × %lld is expected", reader->folder,
                        name, (long long)entry->shape[0], (long long)entry->shape[1], entry->n_dims, (long long)rows,
                        (long long)cols);
    int64_t count = rows * (cols ? cols : 1);
    *out = lvs_malloc((size_t)count * sizeof **out);
    tensor_to_float(entry->data, entry->type, count, *out);
    return LVS_OK;
}

/* A [rank][n_in] and B [n_out][rank] of one module into the padded layout. */
static enum lvs_status read_pair(const struct peft_reader *reader, const struct safetensors *file, int32_t layer,
                                 int32_t target, float *params) {
    const struct lora_layout *layout = reader->layout;
    int32_t rank = reader->settings->lora_rank, n_in = layout->n_in[target], n_out = layout->n_out[target];
    float *block = params + layer * layout->layer_floats, *matrix;
    char module[64], name[128];
    lora_module_path(layer, target, module, sizeof module);
    snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", module);
    LVS_TRY(take_matrix(reader, file, name, rank, n_in, &matrix));
    memcpy(block + layout->site_a[target], matrix, (size_t)rank * (size_t)n_in * sizeof *matrix);
    free(matrix);
    snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", module);
    LVS_TRY(take_matrix(reader, file, name, n_out, rank, &matrix));
    for (int64_t row = 0; row < n_out; row++)
        memcpy(block + layout->site_b[target] + row * layout->rank, matrix + row * rank, (size_t)rank * sizeof *matrix);
    free(matrix);
    return LVS_OK;
}

/* As many tensors as pairs were read, or the first name that belongs to none. */
static enum lvs_status check_no_others(const struct peft_reader *reader, const struct safetensors *file) {
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const char *name = safetensors_at(file, i)->name;
        bool known = false;
        for (int32_t l = 0; l < reader->layout->n_layers && !known; l++)
            for (int32_t t = 0; t < LORA_TARGET_COUNT && !known; t++) {
                char module[64], a[128], b[128];
                if (reader->layout->site_a[t] < 0) continue;
                lora_module_path(l, t, module, sizeof module);
                snprintf(a, sizeof a, "base_model.model.%s.lora_A.weight", module);
                snprintf(b, sizeof b, "base_model.model.%s.lora_B.weight", module);
                known = strcmp(name, a) == 0 || strcmp(name, b) == 0;
            }
        char text[PRINTABLE_MAX];
        if (!known)
            return lvs_fail(
                reader->err, LVS_INPUT,
                "%s/adapter_model.safetensors: tensor \"%s\" belongs to no module of this trial's model and "
                "targets",
                reader->folder, json_printable(name, text));
    }
    return LVS_OK;
}

static enum lvs_status read_pairs(const struct peft_reader *reader, float *params) {
    const struct lora_layout *layout = reader->layout;
    char path[LVS_PATH_MAX];
    struct safetensors *file;
    LVS_TRY(file_join(path, reader->folder, "adapter_model.safetensors", reader->err));
    LVS_TRY(safetensors_open(path, &file, reader->err));
    memset(params, 0, (size_t)(layout->n_layers * layout->layer_floats) * sizeof *params);
    enum lvs_status status = LVS_OK;
    int32_t n_pairs = 0;
    for (int32_t l = 0; l < layout->n_layers; l++)
        for (int32_t t = 0; t < LORA_TARGET_COUNT && status == LVS_OK; t++) {
            if (layout->site_a[t] < 0) continue;
            status = read_pair(reader, file, l, t, params);
            n_pairs++;
        }
    if (status == LVS_OK && safetensors_count(file) != 2 * n_pairs) status = check_no_others(reader, file);
    safetensors_close(file);
    return status;
}

/* The trained head beside the adapter. An adapter without one leaves the params' head as it is. */
static enum lvs_status read_head(const struct peft_reader *reader, float *params) {
    const struct lora_layout *layout = reader->layout;
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, reader->folder, "head.safetensors", reader->err));
    if (!file_exists(path)) return LVS_OK;
    if (layout->bias_offset < 0 && layout->head_offset < 0)
        return lvs_fail(reader->err, LVS_INPUT,
                        "%s: holds a trained head (head.safetensors); this trial has [lora] head = frozen",
                        reader->folder);
    struct safetensors *file;
    float *values;
    LVS_TRY(safetensors_open(path, &file, reader->err));
    bool is_bias = layout->bias_offset >= 0;
    int64_t cols = is_bias ? 0 : layout->hidden, offset = is_bias ? layout->bias_offset : layout->head_offset;
    enum lvs_status status =
        take_matrix(reader, file, is_bias ? "lm_head.bias" : "lm_head.weight", layout->n_vocabulary, cols, &values);
    safetensors_close(file);
    LVS_TRY(status);
    memcpy(params + offset, values, (size_t)(layout->n_vocabulary * (cols ? cols : 1)) * sizeof *values);
    free(values);
    return LVS_OK;
}

enum lvs_status lora_read(const char *folder, const struct lora_layout *layout, const struct settings *settings,
                          float *params, struct lvs_error *err) {
    struct peft_reader reader = {.folder = folder, .layout = layout, .settings = settings, .err = err};
    LVS_TRY(check_config(&reader));
    LVS_TRY(read_pairs(&reader, params));
    return read_head(&reader, params);
}
