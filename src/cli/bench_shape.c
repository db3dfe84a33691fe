/* Shapes of published Qwen2.5 models by name, so that speed can be measured without their weights. */
#include <string.h>

#include "bench_internal.h"

#define QWEN25(hidden_, intermediate_, layers_, heads_, kv_heads_, head_, vocabulary_, tied_)                     \
    {                                                                                                             \
        .vocab_size = (vocabulary_), .hidden = (hidden_), .intermediate = (intermediate_), .n_layers = (layers_), \
        .n_heads = (heads_), .n_kv_heads = (kv_heads_), .head_size = (head_), .max_position = 32768,              \
        .rms_epsilon = 1e-6f, .rope_theta = 1e6, .tied = (tied_), .pad_id = -1, .eos_id = -1                      \
    }

static const struct {
    const char *name;
    struct qwen2_config config;
} shapes[] = {
    {"qwen2.5-0.5b", QWEN25(896, 4864, 24, 14, 2, 64, 151936, true)},
    {"qwen2.5-1.5b", QWEN25(1536, 8960, 28, 12, 2, 128, 151936, true)},
    {"qwen2.5-3b", QWEN25(2048, 11008, 36, 16, 2, 128, 151936, true)},
    {"qwen2.5-7b", QWEN25(3584, 18944, 28, 28, 4, 128, 152064, false)},
    /* sweeps/quickstart/model */
    {"tiny", QWEN25(128, 640, 4, 2, 1, 64, 16, true)},
};

enum lvs_status bench_shape(const char *name, struct qwen2_config *out, struct lvs_error *err) {
    struct strbuf known;
    strbuf_init(&known);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            *out = shapes[i].config;
            strbuf_free(&known);
            return LVS_OK;
        }
        strbuf_printf(&known, "%s, ", shapes[i].name);
    }
    enum lvs_status status = LVS_OK;
    char folder[LVS_PATH_MAX];
    if (!file_is_folder(name) && strncmp(name, "hf:", 3) != 0)
        status = lvs_fail(err, LVS_USAGE, "--model %s: known are %sor a folder with a config.json", name, known.text);
    if (status == LVS_OK) status = model_locate(name, folder, err);
    if (status == LVS_OK) status = qwen2_config_read(folder, out, err);
    strbuf_free(&known);
    return status;
}
