/* libFuzzer target: any bytes as a model's config.json or generation_config.json; the first byte chooses which. Either
 * refused in words, or values within the bounds that the rest of the program builds on. */
#include "fuzz_folder.h"
#include "lvsweep/model.h"

enum kind { KIND_CONFIG, KIND_GENERATION, KIND_COUNT };
static const char *const file_names[KIND_COUNT] = {"config.json", "generation_config.json"};
static char folders[KIND_COUNT][64];

static void remove_folders(void) {
    for (int kind = 0; kind < KIND_COUNT; kind++)
        fuzz_folder_remove(folders[kind]);
}

/* A folder a kind, made once, with what the file under test stands beside. */
static void make_folders(void) {
    static const char config[] = "{\"model_type\":\"qwen2\",\"vocab_size\":8,\"hidden_size\":4,\"intermediate_size\":4,"
                                 "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"num_key_value_heads\":1}";
    for (int kind = 0; kind < KIND_COUNT; kind++)
        fuzz_folder_make(folders[kind]);
    atexit(remove_folders);
    fuzz_folder_put(folders[KIND_GENERATION], "config.json", config, sizeof config - 1);
}

static void check_config(const struct qwen2_config *config) {
    bool good = config->vocab_size >= 2 && config->hidden >= 2 && config->intermediate >= 1 && config->n_layers >= 1 &&
                config->n_heads >= 1 && config->n_kv_heads >= 1 && config->n_heads % config->n_kv_heads == 0 &&
                config->head_size >= 2 && config->head_size % 2 == 0 && config->max_position >= 1 &&
                config->rope_theta > 0 && config->pad_id >= -1 && config->eos_id >= -1 && config->n_more_ends >= 0 &&
                config->n_more_ends <= TOKENIZER_MORE_ENDS && config->generation_top_k >= 0;
    if (!good || model_weight_bytes(config, 4) <= 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    if (!folders[0][0]) make_folders();
    enum kind kind = (enum kind)(data[0] % KIND_COUNT);
    fuzz_folder_put(folders[kind], file_names[kind], data + 1, size - 1);
    struct qwen2_config config;
    struct lvs_error err = {0};
    enum lvs_status status = qwen2_config_read(folders[kind], &config, &err);
    if (status == LVS_OK)
        check_config(&config);
    else if (status != LVS_INPUT || err.text[0] == '\0')
        abort();
    return 0;
}
