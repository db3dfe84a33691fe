/* libFuzzer target: a PEFT adapter's folder. Bytes up to the first NUL are adapter_config.json (none: the one that we
 * write), the rest is adapter_model.safetensors (none: ours). Either read into its layout, or refused in words. */
#include "fuzz_folder.h"
#include "lvsweep/model.h"

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
static char folder[64];
static char *own_config, *own_tensors;
static size_t own_config_size, own_tensors_size;

static void remove_folder(void) {
    fuzz_folder_remove(folder);
    free(own_config);
    free(own_tensors);
}

static void read_own(const char *name, char **bytes, size_t *size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (file_read(path, 1 << 20, bytes, size, NULL) != LVS_OK) abort();
}

static void make_folder(void) {
    fuzz_folder_make(folder);
    lora_layout_make(&small, small.vocab_size, settings.lora_targets, settings.lora_rank, HEAD_FROZEN, &layout);
    float *params = lvs_calloc((size_t)layout.stride, sizeof *params);
    if (lora_write(folder, &layout, &settings, "base", params, NULL) != LVS_OK) abort();
    free(params);
    read_own("adapter_config.json", &own_config, &own_config_size);
    read_own("adapter_model.safetensors", &own_tensors, &own_tensors_size);
    atexit(remove_folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!folder[0]) make_folder();
    const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
    size_t config_size = nul ? (size_t)(nul - data) : size, tensors_size = nul ? size - config_size - 1 : 0;
    fuzz_folder_put(folder, "adapter_config.json", config_size ? (const void *)data : own_config,
                    config_size ? config_size : own_config_size);
    fuzz_folder_put(folder, "adapter_model.safetensors", tensors_size ? (const void *)(nul + 1) : own_tensors,
                    tensors_size ? tensors_size : own_tensors_size);
    struct lvs_error err = {0};
    float *params = lvs_calloc((size_t)layout.stride, sizeof *params);
    enum lvs_status status = lora_read(folder, &layout, &settings, params, &err);
    free(params);
    if (status != LVS_OK && (status != LVS_INPUT || err.text[0] == '\0')) abort();
    return 0;
}
