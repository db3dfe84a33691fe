/* Making of folders, checkpoints and adapters for the tests of src/model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <unistd.h>

#include "lvsweep/rng.h"
#include "lvsweep/strbuf.h"
#include "unit/model/model_files.h"

void ok(enum lvs_status status, const struct lvs_error *err) {
    if (status != LVS_OK) fail_msg("status %d: %s", status, err->text);
}

void refused(enum lvs_status status, enum lvs_status expected, const struct lvs_error *err, const char *needle) {
    if (status == LVS_OK) fail_msg("accepted; expected a refusal with \"%s\"", needle);
    if (status != expected) fail_msg("status %d instead of %d: %s", status, expected, err->text);
    if (!strstr(err->text, needle)) fail_msg("\"%s\" lacks \"%s\"", err->text, needle);
}

/* ---- folders ---- */

struct folder folder_make(void) {
    struct folder folder;
    const char *base = getenv("TMPDIR");
    snprintf(folder.path, sizeof folder.path, "%s/lvs-model-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(folder.path));
    return folder;
}

void folder_path(const struct folder *folder, const char *name, char out[LVS_PATH_MAX]) {
    snprintf(out, LVS_PATH_MAX, "%s/%s", folder->path, name);
}

static void remove_tree(const char *path) {
    DIR *directory = opendir(path);
    if (directory) {
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
            char inside[LVS_PATH_MAX * 2];
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
            snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
            if (entry->d_type == DT_DIR)
                remove_tree(inside);
            else
                unlink(inside);
        }
        closedir(directory);
    }
    rmdir(path);
}

void folder_remove(const struct folder *folder) {
    remove_tree(folder->path);
}

void folder_write(const struct folder *folder, const char *name, const void *bytes, size_t length) {
    char path[LVS_PATH_MAX];
    folder_path(folder, name, path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

void folder_write_text(const struct folder *folder, const char *name, const char *text) {
    folder_write(folder, name, text, strlen(text));
}

/* ---- checkpoints ---- */

struct checkpoint checkpoint_small(void) {
    return (struct checkpoint){
        .config = {.vocab_size = 20,
                   .hidden = 32,
                   .intermediate = 48,
                   .n_layers = 2,
                   .n_heads = 4,
                   .n_kv_heads = 2,
                   .head_size = 8,
                   .max_position = 512,
                   .rms_epsilon = 1e-6f,
                   .rope_theta = 10000,
                   .tied = true},
        .type = TENSOR_F32,
        .n_shards = 1,
        .seed = 5,
    };
}

struct tensor_list {
    struct safetensors_tensor *rows;
    int32_t count;
};

static void add_tensor(const struct checkpoint *checkpoint, struct tensor_list *list, const char *name, int64_t rows,
                       int64_t cols) {
    const char *seeded =
        strcmp(name, "lm_head.weight") == 0 && checkpoint->repeat_head ? "model.embed_tokens.weight" : name;
    char hash[LVS_HASH_TEXT];
    hash_bytes(seeded, strlen(seeded), hash);
    hash[8] = '\0';
    struct rng rng = rng_make(checkpoint->seed + (strtoull(hash, NULL, 16) << 16), RNG_STREAM_TEST);
    bool is_gain = strstr(name, "norm") != NULL;
    int64_t count = rows * (cols ? cols : 1);
    float *data = lvs_malloc((size_t)count * sizeof *data);
    for (int64_t i = 0; i < count; i++)
        data[i] = (float)((is_gain ? 1 : 0) + 0.1 * rng_normal(&rng));
    list->rows = lvs_realloc(list->rows, ((size_t)list->count + 1) * sizeof *list->rows);
    struct safetensors_tensor *tensor = &list->rows[list->count++];
    *tensor = (struct safetensors_tensor){
        .n_dims = cols ? 2 : 1, .shape = {rows, cols}, .data = data, .type = checkpoint->type};
    lvs_copy(tensor->name, sizeof tensor->name, name);
}

static void add_layer(const struct checkpoint *checkpoint, struct tensor_list *list, int32_t layer) {
    const struct qwen2_config *config = &checkpoint->config;
    int32_t attention = config->n_heads * config->head_size, kv = config->n_kv_heads * config->head_size;
    const struct {
        const char *name;
        int64_t rows, cols;
    } rows[] = {
        {"input_layernorm.weight", config->hidden, 0},
        {"post_attention_layernorm.weight", config->hidden, 0},
        {"self_attn.q_proj.weight", attention, config->hidden},
        {"self_attn.q_proj.bias", attention, 0},
        {"self_attn.k_proj.weight", kv, config->hidden},
        {"self_attn.k_proj.bias", kv, 0},
        {"self_attn.v_proj.weight", kv, config->hidden},
        {"self_attn.v_proj.bias", kv, 0},
        {"self_attn.o_proj.weight", config->hidden, attention},
        {"mlp.gate_proj.weight", config->intermediate, config->hidden},
        {"mlp.up_proj.weight", config->intermediate, config->hidden},
        {"mlp.down_proj.weight", config->hidden, config->intermediate},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[160];
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, rows[i].name);
        add_tensor(checkpoint, list, name, rows[i].rows, rows[i].cols);
    }
}

static void write_config(const struct folder *folder, const struct qwen2_config *config) {
    struct strbuf text;
    strbuf_init(&text);
    strbuf_printf(&text,
                  "{\"model_type\": \"qwen2\", \"architectures\": [\"Qwen2ForCausalLM\"], \"hidden_act\": \"silu\",\n"
                  " \"vocab_size\": %d, \"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d,\n"
                  " \"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d,\n"
                  " \"max_position_embeddings\": %d, \"rms_norm_eps\": %g, \"rope_theta\": %g,\n"
                  " \"tie_word_embeddings\": %s}\n",
                  config->vocab_size, config->hidden, config->intermediate, config->n_layers, config->n_heads,
                  config->n_kv_heads, config->head_size, config->max_position, (double)config->rms_epsilon,
                  config->rope_theta, config->tied ? "true" : "false");
    folder_write_text(folder, "config.json", text.text);
    strbuf_free(&text);
}

/* Tensor i goes to shard i mod n. */
static void write_shards(const struct folder *folder, const struct tensor_list *list, int32_t n_shards) {
    struct strbuf index;
    strbuf_init(&index);
    strbuf_add(&index, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (int32_t s = 0; s < n_shards; s++) {
        struct safetensors_tensor *part = lvs_malloc((size_t)list->count * sizeof *part);
        int32_t count = 0;
        char name[64], path[LVS_PATH_MAX];
        struct lvs_error err;
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s + 1, n_shards);
        for (int32_t i = s; i < list->count; i += n_shards) {
            part[count++] = list->rows[i];
            strbuf_printf(&index, "%s\"%s\": \"%s\"", i == 0 ? "" : ", ", list->rows[i].name, name);
        }
        folder_path(folder, name, path);
        ok(safetensors_write(path, part, count, NULL, &err), &err);
        free(part);
    }
    strbuf_add(&index, "}}");
    folder_write_text(folder, "model.safetensors.index.json", index.text);
    strbuf_free(&index);
}

void checkpoint_write(const struct folder *folder, const struct checkpoint *checkpoint) {
    const struct qwen2_config *config = &checkpoint->config;
    struct tensor_list list = {0};
    struct lvs_error err;
    add_tensor(checkpoint, &list, "model.embed_tokens.weight", config->vocab_size, config->hidden);
    for (int32_t l = 0; l < config->n_layers; l++)
        add_layer(checkpoint, &list, l);
    add_tensor(checkpoint, &list, "model.norm.weight", config->hidden, 0);
    if (!config->tied) add_tensor(checkpoint, &list, "lm_head.weight", config->vocab_size, config->hidden);
    write_config(folder, config);
    if (checkpoint->n_shards > 1) {
        write_shards(folder, &list, checkpoint->n_shards);
    } else {
        char path[LVS_PATH_MAX];
        folder_path(folder, "model.safetensors", path);
        ok(safetensors_write(path, list.rows, list.count, NULL, &err), &err);
    }
    for (int32_t i = 0; i < list.count; i++)
        free((void *)list.rows[i].data);
    free(list.rows);
}

/* ---- devices, models, adapters ---- */

struct compute cpu_compute(int32_t threads) {
    struct compute compute;
    struct lvs_error err;
    struct device_options options = {.threads = threads, .precision = PRECISION_KIND_FP32};
    ok(compute_open("cpu", &options, &compute, &err), &err);
    return compute;
}

static struct model *model_at(const struct compute *compute, const char *path) {
    struct model *model = NULL;
    struct lvs_error err;
    struct model_source source = {.folder = path};
    ok(model_open(compute, &source, &model, &err), &err);
    return model;
}

struct model *model_of(const struct compute *compute, const struct folder *folder) {
    return model_at(compute, folder->path);
}

struct model *quickstart_model(const struct compute *compute) {
    return model_at(compute, LVS_SOURCE_DIR "/sweeps/quickstart/model");
}

void *device_array(const struct compute *compute, const void *source, size_t bytes) {
    struct lvs_error err;
    void *memory = NULL;
    ok(compute->backend->allocate(compute->device, bytes, &memory, &err), &err);
    if (source) compute->backend->upload(compute->device, memory, source, bytes);
    return memory;
}

/* B where B is: A's place is left to lora_init. */
static void randomise_b(const struct lora_layout *layout, int32_t rank, uint64_t seed, float *params) {
    struct rng rng = rng_make(seed, RNG_STREAM_TEST);
    for (int32_t l = 0; l < layout->n_layers; l++)
        for (int32_t t = 0; t < LORA_TARGET_COUNT; t++)
            for (int64_t row = 0; layout->site_b[t] >= 0 && row < layout->n_out[t]; row++)
                for (int32_t r = 0; r < rank; r++)
                    params[l * layout->layer_floats + layout->site_b[t] + row * layout->rank + r] =
                        (float)(0.05 * rng_normal(&rng));
    for (int64_t i = 0; layout->bias_offset >= 0 && i < layout->n_vocabulary; i++)
        params[layout->bias_offset + i] = (float)(0.5 * rng_normal(&rng));
}

struct adapter_set adapter_set_make(const struct model *model, uint32_t targets, int32_t rank, int32_t head,
                                    int32_t count) {
    struct adapter_set set = {.compute = model_compute(model), .count = count};
    struct lvs_error err;
    set.settings = (struct settings){
        .lora_rank = rank, .lora_targets = targets, .alpha_value = 2, .alpha_times_rank = 1, .head = head};
    lora_layout_make(model_config(model), model_vocabulary(model), targets, rank, head, &set.layout);
    size_t stride = (size_t)set.layout.stride, n = (size_t)count;
    set.host = lvs_calloc(n * stride, sizeof *set.host);
    float *scale = lvs_malloc(n * sizeof *scale);
    for (int32_t k = 0; k < count; k++) {
        set.settings.seed = 100 + k;
        ok(lora_init(model, &set.layout, &set.settings, set.host + (size_t)k * stride, &err), &err);
        randomise_b(&set.layout, rank, (uint64_t)(200 + k), set.host + (size_t)k * stride);
        scale[k] = (float)settings_lora_scale(&set.settings);
    }
    set.adapters = (struct adapters){.params = device_array(set.compute, set.host, n * stride * sizeof(float)),
                                     .grads = device_array(set.compute, NULL, n * stride * sizeof(float)),
                                     .stride = set.layout.stride,
                                     .scale = device_array(set.compute, scale, n * sizeof *scale)};
    free(scale);
    return set;
}

void adapter_set_upload(struct adapter_set *set) {
    set->compute->backend->upload(set->compute->device, set->adapters.params, set->host,
                                  (size_t)set->count * (size_t)set->layout.stride * sizeof(float));
}

void adapter_set_free(struct adapter_set *set) {
    set->compute->backend->release(set->compute->device, set->adapters.params);
    set->compute->backend->release(set->compute->device, set->adapters.grads);
    set->compute->backend->release(set->compute->device, (void *)set->adapters.scale);
    free(set->host);
}
