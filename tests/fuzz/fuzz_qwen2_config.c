/* libFuzzer target: any bytes as one of a model's or adapter's JSON files; the first byte chooses which. Either refused
 * in words, or values within the bounds that the rest of the program builds on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lvsweep/model.h"
#include "lvsweep/strbuf.h"

enum kind { KIND_CONFIG, KIND_GENERATION, KIND_INDEX, KIND_ADAPTER, KIND_COUNT };
static const char *const file_names[KIND_COUNT] = {"config.json", "generation_config.json",
                                                   "model.safetensors.index.json", "adapter_config.json"};

/* A folder a kind, made once, with what the file under test stands beside. */
static char folders[KIND_COUNT][64];
static const struct qwen2_config small = {.vocab_size = 8,
                                          .hidden = 4,
                                          .intermediate = 4,
                                          .n_layers = 1,
                                          .n_heads = 1,
                                          .n_kv_heads = 1,
                                          .head_size = 4,
                                          .max_position = 16,
                                          .rms_epsilon = 1e-6f,
                                          .rope_theta = 1e4,
                                          .tied = true};
static const struct settings settings = {
    .lora_rank = 2, .lora_targets = 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V, .alpha_value = 2};
static struct lora_layout layout;

static void put(enum kind kind, const char *name, const void *bytes, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folders[kind], name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) abort();
}

static void put_shard(const char *name, const char *tensor) {
    char path[128];
    float value = 1;
    struct safetensors_tensor one = {.n_dims = 1, .shape = {1}, .data = &value, .type = TENSOR_F32};
    snprintf(path, sizeof path, "%s/%s", folders[KIND_INDEX], name);
    lvs_copy(one.name, sizeof one.name, tensor);
    if (safetensors_write(path, &one, 1, NULL, NULL) != LVS_OK) abort();
}

static void remove_folders(void) {
    static const char *const others[] = {"a.safetensors", "b.safetensors", "config.json", "adapter_model.safetensors"};
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        char path[128];
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
            snprintf(path, sizeof path, "%s/%s", folders[kind], others[i]);
            unlink(path);
        }
        snprintf(path, sizeof path, "%s/%s", folders[kind], file_names[kind]);
        unlink(path);
        rmdir(folders[kind]);
    }
}

static void make_folders(void) {
    static const char config[] = "{\"model_type\":\"qwen2\",\"vocab_size\":8,\"hidden_size\":4,\"intermediate_size\":4,"
                                 "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"num_key_value_heads\":1}";
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        lvs_copy(folders[kind], sizeof folders[kind], "/tmp/lvs-fuzz-XXXXXX");
        if (!mkdtemp(folders[kind])) abort();
    }
    atexit(remove_folders);
    put(KIND_GENERATION, "config.json", config, sizeof config - 1);
    put_shard("a.safetensors", "a");
    put_shard("b.safetensors", "b");
    lora_layout_make(&small, small.vocab_size, settings.lora_targets, settings.lora_rank, HEAD_FROZEN, &layout);
    float *params = lvs_calloc((size_t)layout.stride, sizeof *params);
    if (lora_write(folders[KIND_ADAPTER], &layout, &settings, "base", params, NULL) != LVS_OK) abort();
    free(params);
}

static void check_config(const struct qwen2_config *config) {
    bool good = config->vocab_size >= 2 && config->hidden >= 2 && config->intermediate >= 1 && config->n_layers >= 1 &&
                config->n_heads >= 1 && config->n_kv_heads >= 1 && config->n_heads % config->n_kv_heads == 0 &&
                config->head_size >= 2 && config->head_size % 2 == 0 && config->max_position >= 1 &&
                config->rope_theta > 0 && config->pad_id >= -1 && config->eos_id >= -1 && config->generation_top_k >= 0;
    if (!good || model_weight_bytes(config, 4) <= 0) abort();
}

static enum lvs_status read_one(enum kind kind, struct lvs_error *err) {
    struct qwen2_config config;
    struct safetensors *file = NULL;
    if (kind == KIND_CONFIG || kind == KIND_GENERATION) {
        enum lvs_status status = qwen2_config_read(folders[kind], &config, err);
        if (status == LVS_OK) check_config(&config);
        return status;
    }
    if (kind == KIND_INDEX) {
        enum lvs_status status = safetensors_open_folder(folders[kind], &file, err);
        if (status == LVS_OK && (safetensors_count(file) < 1 || safetensors_count(file) > 2)) abort();
        safetensors_close(file);
        return status;
    }
    float *params = lvs_calloc((size_t)layout.stride, sizeof *params);
    enum lvs_status status = lora_read(folders[kind], &layout, &settings, params, err);
    free(params);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    if (!folders[0][0]) make_folders();
    enum kind kind = (enum kind)(data[0] % KIND_COUNT);
    put(kind, file_names[kind], data + 1, size - 1);
    struct lvs_error err = {0};
    enum lvs_status status = read_one(kind, &err);
    if (status != LVS_OK && (status != LVS_INPUT || err.text[0] == '\0')) abort();
    return 0;
}
