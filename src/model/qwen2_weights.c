/* The frozen weights: names of a Qwen2 checkpoint → matrices of a device, q;k;v and gate;up stacked.
 * A model is const after opening. Every tensor that is there must be known, every known one must be there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

/* ---- the struct ---- */

struct model *model_allocate(const struct compute *compute, const struct qwen2_config *config) {
    struct model *model = lvs_calloc(1, sizeof *model);
    model->compute = *compute;
    model->config = *config;
    model->n_vocabulary = config->vocab_size;
    model->shape = (struct attention_shape){
        .n_heads = config->n_heads, .n_kv_heads = config->n_kv_heads, .head_size = config->head_size};
    model->layers = lvs_calloc((size_t)config->n_layers, sizeof *model->layers);
    return model;
}

void *model_own(struct model *model, void *memory) {
    model->owned = lvs_realloc(model->owned, ((size_t)model->n_owned + 1) * sizeof *model->owned);
    model->owned[model->n_owned++] = memory;
    return memory;
}

static void destroy_weight(struct model *model, struct weight *weight) {
    if (weight) model->compute.backend->weight_destroy(model->compute.device, weight);
}

/* What models over some of the rows share. */
static void close_layers(struct model *model) {
    for (int32_t l = 0; l < model->config.n_layers; l++) {
        destroy_weight(model, model->layers[l].qkv);
        destroy_weight(model, model->layers[l].o);
        destroy_weight(model, model->layers[l].gate_up);
        destroy_weight(model, model->layers[l].down);
    }
    if (model->vectors) model->compute.backend->release(model->compute.device, model->vectors);
    safetensors_close(model->file);
    free(model->layers);
}

void model_close(struct model *model) {
    if (!model) return;
    if (model->head != model->embedding) destroy_weight(model, model->head);
    destroy_weight(model, model->embedding);
    if (!model->whole) close_layers(model);
    for (int32_t i = 0; i < model->n_owned; i++)
        free(model->owned[i]);
    free(model->owned);
    free(model);
}

const struct qwen2_config *model_config(const struct model *model) {
    return &model->config;
}

const struct compute *model_compute(const struct model *model) {
    return &model->compute;
}

int32_t model_vocabulary(const struct model *model) {
    return model->n_vocabulary;
}

/* ---- gains and biases ---- */

int64_t model_layer_vector_floats(const struct qwen2_config *config) {
    return 2 * (int64_t)config->hidden + model_attention_width(config) + 2 * (int64_t)model_kv_width(config);
}

int64_t model_vector_floats(const struct qwen2_config *config) {
    return config->n_layers * model_layer_vector_floats(config) + config->hidden;
}

enum lvs_status model_set_vectors(struct model *model, const float *host, struct lvs_error *err) {
    const struct qwen2_config *config = &model->config;
    size_t bytes = (size_t)model_vector_floats(config) * sizeof(float);
    void *memory;
    LVS_TRY(model->compute.backend->allocate(model->compute.device, bytes, &memory, err));
    model->vectors = memory;
    model->compute.backend->upload(model->compute.device, memory, host, bytes);
    for (int32_t l = 0; l < config->n_layers; l++) {
        const float *block = model->vectors + l * model_layer_vector_floats(config);
        model->layers[l].norm_attention = block;
        model->layers[l].norm_mlp = block + config->hidden;
        model->layers[l].qkv_bias = block + 2 * (int64_t)config->hidden;
    }
    model->norm_last = model->vectors + config->n_layers * model_layer_vector_floats(config);
    return LVS_OK;
}

int64_t model_weight_bytes(const struct qwen2_config *config, size_t act_size) {
    int64_t hidden = config->hidden, attention = model_attention_width(config);
    int64_t layer = hidden * (attention + 2 * (int64_t)model_kv_width(config)) + hidden * attention +
                    3 * hidden * (int64_t)config->intermediate;
    int64_t tables = (config->tied ? 1 : 2) * (int64_t)config->vocab_size * hidden;
    return (config->n_layers * layer + tables) * (int64_t)act_size +
           model_vector_floats(config) * (int64_t)sizeof(float);
}

/* ---- tensors of the file ---- */

struct loader {
    struct model *model;
    const char *folder;
    const struct model_source *source;
    struct lvs_error *err;
};

/* Finds a tensor of exactly this shape (n_cols = 0: a vector) and a type that can be read. */
static enum lvs_status find_tensor(const struct loader *loader, const char *name, int64_t n_rows, int64_t n_cols,
                                   const struct safetensors_entry **out) {
    const struct safetensors_entry *entry = safetensors_find(loader->model->file, name);
    if (!entry) return lvs_fail(loader->err, LVS_INPUT, "%s: tensor \"%s\" is missing", loader->folder, name);
    if (entry->type != TENSOR_F32 && entry->type != TENSOR_BF16 && entry->type != TENSOR_F16)
        return lvs_fail(loader->err, LVS_INPUT, "%s: tensor \"%s\": only F32, BF16 and F16 are read as weights",
                        loader->folder, name);
    if (entry->n_dims != (n_cols ? 2 : 1) || entry->shape[0] != n_rows || (n_cols && entry->shape[1] != n_cols))
        return lvs_fail(loader->err, LVS_INPUT,
                        "%s: tensor \"%s\" has %d dimensions, the first %lld × %lld; config.json asks for %lld × %lld",
                        loader->folder, name, entry->n_dims, (long long)entry->shape[0], (long long)entry->shape[1],
                        (long long)n_rows, (long long)n_cols);
    *out = entry;
    return LVS_OK;
}

/* Backends read numbers in place: where a file's header leaves them unaligned, a copy is made. */
static const void *aligned_data(struct model *model, const struct safetensors_entry *entry) {
    if ((uintptr_t)entry->data % tensor_type_size(entry->type) == 0) return entry->data;
    void *copy = model_own(model, lvs_malloc(entry->bytes));
    memcpy(copy, entry->data, entry->bytes);
    return copy;
}

static enum lvs_status find_matrix(const struct loader *loader, const char *name, int64_t rows, int64_t cols,
                                   struct host_tensor *out) {
    const struct safetensors_entry *entry;
    LVS_TRY(find_tensor(loader, name, rows, cols, &entry));
    *out = (struct host_tensor){
        .data = aligned_data(loader->model, entry), .type = entry->type, .rows = rows, .cols = cols};
    return LVS_OK;
}

static enum lvs_status find_vector(const struct loader *loader, const char *name, int64_t count, float *out) {
    const struct safetensors_entry *entry;
    LVS_TRY(find_tensor(loader, name, count, 0, &entry));
    tensor_to_float(entry->data, entry->type, count, out);
    return LVS_OK;
}

static enum lvs_status create_weight(const struct loader *loader, const struct host_tensor *parts, int32_t n_parts,
                                     struct weight **out) {
    const struct compute *compute = &loader->model->compute;
    return compute->backend->weight_create(compute->device, parts, n_parts, out, loader->err);
}

/* ---- layers ---- */

/* The matrices of a layer in the order in which they are stacked. */
static enum lvs_status load_layer(const struct loader *loader, int32_t layer) {
    const struct qwen2_config *config = &loader->model->config;
    struct model_layer *out = &loader->model->layers[layer];
    int64_t hidden = config->hidden, attention = model_attention_width(config), kv = model_kv_width(config);
    const struct {
        const char *name;
        int64_t rows, cols;
        struct weight **weight; /* of the stack that starts here */
        int32_t parts;
    } rows[] = {
        {"self_attn.q_proj", attention, hidden, &out->qkv, 3},
        {"self_attn.k_proj", kv, hidden, NULL, 0},
        {"self_attn.v_proj", kv, hidden, NULL, 0},
        {"self_attn.o_proj", hidden, attention, &out->o, 1},
        {"mlp.gate_proj", config->intermediate, hidden, &out->gate_up, 2},
        {"mlp.up_proj", config->intermediate, hidden, NULL, 0},
        {"mlp.down_proj", hidden, config->intermediate, &out->down, 1},
    };
    struct host_tensor parts[7];
    for (int i = 0; i < 7; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, rows[i].name);
        LVS_TRY(find_matrix(loader, name, rows[i].rows, rows[i].cols, &parts[i]));
    }
    for (int i = 0; i < 7; i++)
        if (rows[i].weight) LVS_TRY(create_weight(loader, &parts[i], rows[i].parts, rows[i].weight));
    return LVS_OK;
}

static enum lvs_status load_layer_vectors(const struct loader *loader, int32_t layer, float *out) {
    const struct qwen2_config *config = &loader->model->config;
    const struct {
        const char *name;
        int64_t count;
    } rows[] = {
        {"input_layernorm.weight", config->hidden},
        {"post_attention_layernorm.weight", config->hidden},
        {"self_attn.q_proj.bias", model_attention_width(config)},
        {"self_attn.k_proj.bias", model_kv_width(config)},
        {"self_attn.v_proj.bias", model_kv_width(config)},
    };
    for (int i = 0; i < 5; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, rows[i].name);
        LVS_TRY(find_vector(loader, name, rows[i].count, out));
        out += rows[i].count;
    }
    return LVS_OK;
}

static enum lvs_status load_vectors(const struct loader *loader) {
    const struct qwen2_config *config = &loader->model->config;
    float *host = lvs_malloc((size_t)model_vector_floats(config) * sizeof *host);
    enum lvs_status status = LVS_OK;
    for (int32_t l = 0; l < config->n_layers && status == LVS_OK; l++)
        status = load_layer_vectors(loader, l, host + l * model_layer_vector_floats(config));
    if (status == LVS_OK)
        status = find_vector(loader, "model.norm.weight", config->hidden,
                             host + config->n_layers * model_layer_vector_floats(config));
    if (status == LVS_OK) status = model_set_vectors(loader->model, host, loader->err);
    free(host);
    return status;
}

/* ---- embedding and head ---- */

/* Only the rows that the source keeps, when it keeps only some. */
static enum lvs_status keep_rows(const struct loader *loader, const char *name, struct host_tensor *table) {
    const struct model_source *source = loader->source;
    if (!source->kept_rows) return LVS_OK;
    enum lvs_status status =
        host_rows_gather(loader->model, name, source->kept_rows, source->n_kept, table, loader->err);
    return status == LVS_OK ? LVS_OK : lvs_error_prefix(loader->err, "%s", loader->folder);
}

static enum lvs_status load_table(const struct loader *loader, const char *name, struct weight **weight,
                                  struct host_tensor *host) {
    const struct qwen2_config *config = &loader->model->config;
    LVS_TRY(find_matrix(loader, name, config->vocab_size, config->hidden, host));
    LVS_TRY(keep_rows(loader, name, host));
    return create_weight(loader, host, 1, weight);
}

static enum lvs_status load_tables(const struct loader *loader) {
    struct model *model = loader->model;
    LVS_TRY(load_table(loader, "model.embed_tokens.weight", &model->embedding, &model->embedding_host));
    if (loader->source->kept_rows) model->n_vocabulary = loader->source->n_kept;
    model->head = model->embedding;
    model->head_host = model->embedding_host;
    if (model->config.tied) return LVS_OK;
    model->head = NULL;
    return load_table(loader, "lm_head.weight", &model->head, &model->head_host);
}

/* ---- nothing else may be there ---- */

static bool name_is_known(const char *name, int32_t n_layers) {
    static const char *const single[] = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"};
    static const char *const in_layer[] = {
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
        "self_attn.q_proj.bias",
        "self_attn.k_proj.bias",
        "self_attn.v_proj.bias",
        "self_attn.o_proj.weight",
        "mlp.gate_proj.weight",
        "mlp.up_proj.weight",
        "mlp.down_proj.weight",
        "self_attn.rotary_emb.inv_freq", /* a table that old releases saved; recomputed here */
    };
    for (size_t i = 0; i < sizeof single / sizeof single[0]; i++)
        if (strcmp(name, single[i]) == 0) return true;
    int32_t layer = -1;
    int length = 0;
    if (sscanf(name, "model.layers.%4d.%n", &layer, &length) != 1 || length == 0 || layer < 0 || layer >= n_layers)
        return false;
    for (size_t i = 0; i < sizeof in_layer / sizeof in_layer[0]; i++)
        if (strcmp(name + length, in_layer[i]) == 0) return true;
    return false;
}

static enum lvs_status check_names(const struct loader *loader) {
    const struct safetensors *file = loader->model->file;
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const char *name = safetensors_at(file, i)->name;
        char text[PRINTABLE_MAX];
        if (!name_is_known(name, loader->model->config.n_layers))
            return lvs_fail(loader->err, LVS_INPUT,
                            "%s: tensor \"%s\" belongs to no part of a Qwen2 of %d layers; computing without it would "
                            "give other numbers",
                            loader->folder, json_printable(name, text), loader->model->config.n_layers);
    }
    return LVS_OK;
}

static enum lvs_status load_all(const struct loader *loader) {
    LVS_TRY(check_names(loader));
    LVS_TRY(load_tables(loader));
    for (int32_t l = 0; l < loader->model->config.n_layers; l++)
        LVS_TRY(load_layer(loader, l));
    return load_vectors(loader);
}

enum lvs_status model_open(const struct compute *compute, const struct model_source *source, struct model **out,
                           struct lvs_error *err) {
    struct qwen2_config config;
    LVS_TRY(qwen2_config_read(source->folder, &config, err));
    struct safetensors *file;
    LVS_TRY(safetensors_open_folder(source->folder, &file, err));
    struct model *model = model_allocate(compute, &config);
    model->file = file;
    struct loader loader = {.model = model, .folder = source->folder, .source = source, .err = err};
    enum lvs_status status = load_all(&loader);
    if (status != LVS_OK) {
        model_close(model);
        return status;
    }
    *out = model;
    return LVS_OK;
}
