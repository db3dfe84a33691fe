/* PEFT folders: what is refused, by name; then writing and reading back, bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "lvsweep/strbuf.h"
#include "unit/model/model_files.h"

#define BIT(target) (1u << (target))
#define ALL         (BIT(LORA_TARGET_COUNT) - 1)
#define Q_AND_V     (BIT(LORA_TARGET_Q) | BIT(LORA_TARGET_V))

static struct compute compute;
static struct model *model;

static enum lvs_status write_set(const struct folder *folder, const struct adapter_set *set, struct lvs_error *err) {
    return lora_write(folder->path, &set->layout, &set->settings, "owner/name", set->host, err);
}

static enum lvs_status read_set(const struct folder *folder, const struct adapter_set *set, float *params,
                                struct lvs_error *err) {
    return lora_read(folder->path, &set->layout, &set->settings, params, err);
}

/* ---- refusals ---- */

/* The written config with one key changed (value NULL: removed). */
static void change_config(const struct folder *folder, const char *key, const char *value) {
    char path[LVS_PATH_MAX];
    folder_path(folder, "adapter_config.json", path);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    if (value) {
        json_t *parsed = json_loads(value, JSON_DECODE_ANY, NULL);
        assert_non_null(parsed);
        json_object_set_new(root, key, parsed);
    } else {
        json_object_del(root, key);
    }
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

static const struct {
    const char *key, *value, *needle;
} bad_config[] = {
    {"peft_type", NULL, "peft_type = (missing)"},
    {"peft_type", "\"IA3\"", "peft_type = IA3"},
    {"r", NULL, "r and lora_alpha"},
    {"r", "4.0", "r and lora_alpha"},
    {"r", "8", "rank 8; this trial has [lora] rank = 4"},
    {"lora_alpha", NULL, "r and lora_alpha"},
    {"lora_alpha", "4", "set [lora] alpha = 4"},
    {"use_dora", "true", "use_dora"},
    {"use_rslora", "true", "use_rslora"},
    {"modules_to_save", "[\"lm_head\"]", "modules_to_save"},
    {"rank_pattern", "{\"q_proj\": 2}", "rank_pattern"},
    {"alpha_pattern", "{\"q_proj\": 2}", "alpha_pattern"},
    {"layers_to_transform", "[0]", "layers_to_transform"},
    {"fan_in_fan_out", "true", "fan_in_fan_out"},
    {"bias", "\"all\"", "bias = all"},
    {"lora_bias", "true", "lora_bias"},
    {"layer_replication", "[[0, 2]]", "layer_replication"},
    {"trainable_token_indices", "[1]", "trainable_token_indices"},
    {"a_feature_of_tomorrow", "1", "a_feature_of_tomorrow"},
    {"init_lora_weights", "\"pissa\"", "init_lora_weights = pissa"},
    {"target_modules", "\"all-linear\"", "must be a list"},
    {"target_modules", "[\"q_proj\", \"lm_head\"]", "lm_head"},
    {"target_modules", "[\"q_proj\", 7]", "(not text)"},
    {"target_modules", "[\"q_proj\"]", "is on q_proj; this trial has [lora] targets = q_proj+v_proj"},
    {"target_modules", "[\"v_proj\", \"k_proj\"]", "is on k_proj+v_proj"},
    {"target_modules", "[]", "is on nothing"},
};

static void other_kinds_of_adapter_are_refused(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, Q_AND_V, 4, HEAD_FROZEN, 1);
    float *params = lvs_malloc((size_t)set.layout.stride * sizeof *params);
    for (size_t i = 0; i < sizeof bad_config / sizeof bad_config[0]; i++) {
        struct folder folder = folder_make();
        struct lvs_error err;
        ok(write_set(&folder, &set, &err), &err);
        change_config(&folder, bad_config[i].key, bad_config[i].value);
        enum lvs_status status = read_set(&folder, &set, params, &err);
        if (status == LVS_OK) fail_msg("accepted: %s = %s", bad_config[i].key, bad_config[i].value);
        refused(status, LVS_INPUT, &err, bad_config[i].needle);
        folder_remove(&folder);
    }
    free(params);
    adapter_set_free(&set);
}

/* Keys that newer releases write, with features off, and another order of modules. */
static void harmless_keys_are_read(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, Q_AND_V, 4, HEAD_FROZEN, 1);
    float *params = lvs_malloc((size_t)set.layout.stride * sizeof *params);
    struct folder folder = folder_make();
    struct lvs_error err;
    ok(write_set(&folder, &set, &err), &err);
    change_config(&folder, "target_modules", "[\"v_proj\", \"q_proj\"]");
    change_config(&folder, "peft_version", "\"9.9\"");
    change_config(&folder, "lora_dropout", "0.1");
    change_config(&folder, "qalora_group_size", "16");
    change_config(&folder, "megatron_core", "\"megatron.core\"");
    change_config(&folder, "loftq_config", "{}");
    change_config(&folder, "eva_config", "null");
    change_config(&folder, "use_qalora", "false");
    change_config(&folder, "init_lora_weights", "\"gaussian\"");
    ok(read_set(&folder, &set, params, &err), &err);
    folder_remove(&folder);
    free(params);
    adapter_set_free(&set);
}

/* One tensor of the written file replaced, renamed, dropped or added. */
static void rewrite_tensors(const struct folder *folder, const char *drop, const char *add, int64_t rows,
                            int64_t cols) {
    char path[LVS_PATH_MAX];
    struct lvs_error err;
    struct safetensors *file;
    folder_path(folder, "adapter_model.safetensors", path);
    ok(safetensors_open(path, &file, &err), &err);
    int32_t count = 0;
    struct safetensors_tensor *tensors = lvs_calloc((size_t)safetensors_count(file) + 1, sizeof *tensors);
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_entry *entry = safetensors_at(file, i);
        if (drop && strcmp(entry->name, drop) == 0) continue;
        tensors[count].n_dims = entry->n_dims;
        memcpy(tensors[count].shape, entry->shape, sizeof entry->shape);
        float *data = lvs_malloc(entry->bytes);
        memcpy(data, entry->data, entry->bytes);
        tensors[count].data = data;
        lvs_copy(tensors[count++].name, sizeof tensors->name, entry->name);
    }
    if (add) {
        tensors[count] = (struct safetensors_tensor){
            .n_dims = 2, .shape = {rows, cols}, .data = lvs_calloc((size_t)(rows * cols), sizeof(float))};
        lvs_copy(tensors[count++].name, sizeof tensors->name, add);
    }
    safetensors_close(file);
    ok(safetensors_write(path, tensors, count, NULL, &err), &err);
    for (int32_t i = 0; i < count; i++)
        free((void *)tensors[i].data);
    free(tensors);
}

#define Q_A "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
#define Q_B "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"

static const struct {
    const char *drop, *add, *needle;
    int64_t rows, cols;
} bad_tensors[] = {
    {Q_A, NULL, Q_A "\" is missing", 0, 0},
    {Q_B, NULL, Q_B "\" is missing", 0, 0},
    {Q_A, Q_A, "4 × 128 is expected", 8, 128},
    {Q_A, Q_A, "4 × 128 is expected", 4, 127},
    {Q_B, Q_B, "128 × 4 is expected", 4, 128},
    {Q_A, "model.layers.0.self_attn.q_proj.lora_A.weight", Q_A "\" is missing", 4, 128},
    {NULL, "model.layers.0.self_attn.q_proj.lora_A.weight", "belongs to no module", 4, 128},
    {NULL, "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", "belongs to no module", 4, 128},
    {NULL, "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight", "belongs to no module", 4, 128},
    {NULL, "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "lora_magnitude_vector", 1, 128},
    {NULL, "base_model.model.lm_head.weight", "lm_head.weight", 16, 128},
};

static void wrong_tensors_are_refused(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, Q_AND_V, 4, HEAD_FROZEN, 1);
    float *params = lvs_malloc((size_t)set.layout.stride * sizeof *params);
    for (size_t i = 0; i < sizeof bad_tensors / sizeof bad_tensors[0]; i++) {
        struct folder folder = folder_make();
        struct lvs_error err;
        ok(write_set(&folder, &set, &err), &err);
        rewrite_tensors(&folder, bad_tensors[i].drop, bad_tensors[i].add, bad_tensors[i].rows, bad_tensors[i].cols);
        enum lvs_status status = read_set(&folder, &set, params, &err);
        if (status == LVS_OK) fail_msg("accepted: %s", bad_tensors[i].needle);
        refused(status, LVS_INPUT, &err, bad_tensors[i].needle);
        folder_remove(&folder);
    }
    free(params);
    adapter_set_free(&set);
}

static void absent_files_are_refused(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, Q_AND_V, 4, HEAD_FROZEN, 1);
    float *params = lvs_malloc((size_t)set.layout.stride * sizeof *params);
    struct folder folder = folder_make();
    struct lvs_error err;
    char path[LVS_PATH_MAX];
    refused(read_set(&folder, &set, params, &err), LVS_INPUT, &err, "no adapter_config.json");
    ok(write_set(&folder, &set, &err), &err);
    folder_path(&folder, "adapter_model.safetensors", path);
    assert_int_equal(remove(path), 0);
    refused(read_set(&folder, &set, params, &err), LVS_INPUT, &err, "adapter_model.safetensors");
    folder_remove(&folder);
    free(params);
    adapter_set_free(&set);
}

/* ---- round trips ---- */

static void adapters_are_read_back(void **state) {
    (void)state;
    static const int32_t ranks[] = {1, 4, 8, 12, 16};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++)
        for (int32_t head = HEAD_FROZEN; head <= HEAD_WEIGHT; head++) {
            struct adapter_set set = adapter_set_make(model, i % 2 ? ALL : Q_AND_V, ranks[i], head, 1);
            size_t bytes = (size_t)set.layout.stride * sizeof(float);
            struct folder folder = folder_make();
            struct lvs_error err;
            float *params = lvs_malloc(bytes);
            memset(params, 0, bytes);
            ok(write_set(&folder, &set, &err), &err);
            ok(read_set(&folder, &set, params, &err), &err);
            assert_memory_equal(params, set.host, bytes);
            free(params);
            folder_remove(&folder);
            adapter_set_free(&set);
        }
}

/* Every key that PEFT, vLLM and the GGUF converter look for, with its value. */
static void the_config_is_what_peft_expects(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, Q_AND_V, 4, HEAD_FROZEN, 1);
    struct folder folder = folder_make();
    struct lvs_error err;
    char path[LVS_PATH_MAX];
    set.settings.dropout = 0.05;
    ok(write_set(&folder, &set, &err), &err);
    folder_path(&folder, "adapter_config.json", path);
    json_t *found = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    json_t *expected = json_loads(
        "{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"base_model_name_or_path\": \"owner/name\", "
        "\"revision\": null, \"r\": 4, \"lora_alpha\": 8, \"lora_dropout\": 0.05, "
        "\"target_modules\": [\"q_proj\", \"v_proj\"], \"bias\": \"none\", \"fan_in_fan_out\": false, "
        "\"init_lora_weights\": true, \"modules_to_save\": null, \"use_rslora\": false, \"use_dora\": false, "
        "\"rank_pattern\": {}, \"alpha_pattern\": {}, \"inference_mode\": true}",
        0, NULL);
    assert_non_null(found);
    assert_non_null(expected);
    assert_true(json_equal(found, expected));
    json_decref(found);
    json_decref(expected);
    folder_remove(&folder);
    adapter_set_free(&set);
}

/* A name from the hub without our prefix, a folder by its full path: what other programs look for. */
static void the_base_model_is_named_for_others(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, Q_AND_V, 4, HEAD_FROZEN, 1);
    struct folder folder = folder_make();
    char relative[LVS_PATH_MAX];
    snprintf(relative, sizeof relative, "%s/../%s", folder.path, strrchr(folder.path, '/') + 1);
    char *whole = realpath(folder.path, NULL);
    const struct {
        const char *given, *name, *revision;
    } cases[] = {{"hf:owner/name", "owner/name", NULL},
                 {"hf:owner/name@v1", "owner/name", "v1"},
                 {relative, whole, NULL},
                 {"gone/elsewhere", "gone/elsewhere", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lvs_error err;
        char path[LVS_PATH_MAX];
        ok(lora_write(folder.path, &set.layout, &set.settings, cases[i].given, set.host, &err), &err);
        folder_path(&folder, "adapter_config.json", path);
        json_t *root = json_load_file(path, 0, NULL);
        assert_string_equal(json_string_value(json_object_get(root, "base_model_name_or_path")), cases[i].name);
        const char *revision = json_string_value(json_object_get(root, "revision"));
        assert_true(cases[i].revision ? revision && strcmp(revision, cases[i].revision) == 0 : !revision);
        json_decref(root);
    }
    free(whole);
    folder_remove(&folder);
    adapter_set_free(&set);
}

static void alpha_that_is_no_integer_is_kept(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, Q_AND_V, 3, HEAD_FROZEN, 1);
    float *params = lvs_malloc((size_t)set.layout.stride * sizeof *params);
    struct folder folder = folder_make();
    struct lvs_error err;
    set.settings.alpha_times_rank = 0;
    set.settings.alpha_value = 2.5;
    ok(write_set(&folder, &set, &err), &err);
    ok(read_set(&folder, &set, params, &err), &err);
    folder_remove(&folder);
    free(params);
    adapter_set_free(&set);
}

/* A trained head lies beside the adapter and is never dropped without a word. */
static void trained_heads_are_not_lost(void **state) {
    (void)state;
    struct adapter_set bias = adapter_set_make(model, Q_AND_V, 4, HEAD_BIAS, 1);
    struct adapter_set plain = adapter_set_make(model, Q_AND_V, 4, HEAD_FROZEN, 1);
    struct adapter_set weight = adapter_set_make(model, Q_AND_V, 4, HEAD_WEIGHT, 1);
    float *params = lvs_calloc((size_t)weight.layout.stride, sizeof *params);
    struct folder folder = folder_make();
    struct lvs_error err;
    char path[LVS_PATH_MAX];
    folder_path(&folder, "head.safetensors", path);
    ok(write_set(&folder, &bias, &err), &err);
    assert_true(file_exists(path));
    refused(read_set(&folder, &plain, params, &err), LVS_INPUT, &err, "head = frozen");
    refused(read_set(&folder, &weight, params, &err), LVS_INPUT, &err, "lm_head.weight");
    /* a plain adapter leaves the head as it was */
    ok(write_set(&folder, &plain, &err), &err);
    assert_false(file_exists(path));
    params[bias.layout.bias_offset + 3] = 7;
    ok(read_set(&folder, &bias, params, &err), &err);
    assert_true(params[bias.layout.bias_offset + 3] == 7);
    folder_remove(&folder);
    free(params);
    adapter_set_free(&bias);
    adapter_set_free(&plain);
    adapter_set_free(&weight);
}

/* A folder that PEFT itself wrote. */
static void an_adapter_of_peft_is_read(void **state) {
    (void)state;
    struct lora_layout layout;
    struct lvs_error err;
    struct settings settings = {.lora_rank = 4, .lora_targets = ALL, .alpha_value = 8};
    lora_layout_make(model_config(model), model_vocabulary(model), ALL, 4, HEAD_FROZEN, &layout);
    float *params = lvs_calloc((size_t)layout.stride, sizeof *params);
    ok(lora_read(LVS_SOURCE_DIR "/tests/golden/adapter_all", &layout, &settings, params, &err), &err);
    settings.lora_rank = 8;
    refused(lora_read(LVS_SOURCE_DIR "/tests/golden/adapter_all", &layout, &settings, params, &err), LVS_INPUT, &err,
            "rank 4; this trial has [lora] rank = 8");
    free(params);
}

static int open_model(void **state) {
    (void)state;
    compute = cpu_compute(1);
    model = quickstart_model(&compute);
    return 0;
}

static int close_model(void **state) {
    (void)state;
    model_close(model);
    compute_close(&compute);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_kinds_of_adapter_are_refused),
        cmocka_unit_test(harmless_keys_are_read),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(absent_files_are_refused),
        cmocka_unit_test(adapters_are_read_back),
        cmocka_unit_test(the_config_is_what_peft_expects),
        cmocka_unit_test(the_base_model_is_named_for_others),
        cmocka_unit_test(alpha_that_is_no_integer_is_kept),
        cmocka_unit_test(trained_heads_are_not_lost),
        cmocka_unit_test(an_adapter_of_peft_is_read),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
