/* What the files of src/model share: the opened model, the activations of a pass, and small JSON helpers.
 * Only src/model includes it. */
#pragma once
#include <jansson.h>

#include "lvsweep/model.h"

/* ---- JSON files ---- */

/* A whole JSON file as an object: at most `limit` bytes, no duplicate keys, LVS_INPUT with line and column. */
enum lvs_status json_file_read(const char *path, size_t limit, json_t **out, struct lvs_error *err);
/* A name from a file, fit to be printed: control characters replaced, cut at 120 bytes. */
#define PRINTABLE_MAX 128
const char *json_printable(const char *text, char out[PRINTABLE_MAX]);

/* ---- safetensors ---- */

/* One mapped file. */
struct safetensors_map {
    char path[LVS_PATH_MAX];
    const unsigned char *bytes; /* whole file */
    size_t length;
};
/* Parses the header of a mapped file and appends its tensors; `entries` grows by realloc. Names are malloc'd. */
enum lvs_status safetensors_header_read(const struct safetensors_map *map, struct safetensors_entry **entries,
                                        int32_t *count, struct lvs_error *err);

/* ---- tensors ---- */

size_t tensor_type_size(enum tensor_type type);
const char *tensor_type_name(enum tensor_type type);
uint16_t tensor_bf16_from_float(float value); /* nearest, ties to even; NaN stays NaN */
float tensor_float_from_bf16(uint16_t bits);

/* ---- the opened model ---- */

struct model_layer {
    struct weight *qkv;                     /* [qkv_width][hidden] */
    struct weight *o;                       /* [hidden][n_heads·h] */
    struct weight *gate_up;                 /* [2·intermediate][hidden] */
    struct weight *down;                    /* [hidden][intermediate] */
    const float *norm_attention, *norm_mlp; /* [hidden] */
    const float *qkv_bias;                  /* [qkv_width] */
};

struct model {
    struct compute compute;
    struct qwen2_config config;
    struct attention_shape shape;
    int32_t n_vocabulary;
    struct safetensors *file;                     /* NULL with random weights */
    struct weight *embedding;                     /* [n_vocabulary][hidden] */
    struct weight *head;                          /* the same pointer when tied */
    struct host_tensor embedding_host, head_host; /* the same when tied */
    struct model_layer *layers;                   /* [n_layers] */
    const float *norm_last;                       /* [hidden] */
    float *vectors;                               /* device: all gains and biases in one allocation */
    void **owned;                                 /* host memory that weights may point into */
    int32_t n_owned;
    const struct model *whole; /* of which this one has some rows of the vocabulary and shares the rest, or NULL */
};

/* Sets config, shape and empty layers; the rest is filled by the opener. */
struct model *model_allocate(const struct compute *compute, const struct qwen2_config *config);
/* Host memory of the model's life. */
void *model_own(struct model *model, void *memory);
/* Replaces the table by its chosen rows, in memory of the owner's. LVS_INPUT for a row that `what` does not have. */
enum lvs_status host_rows_gather(struct model *owner, const char *what, const int32_t *rows, int32_t n_rows,
                                 struct host_tensor *table, struct lvs_error *err);
/* Floats of gains and biases of one layer, and of the whole model. */
int64_t model_layer_vector_floats(const struct qwen2_config *config);
int64_t model_vector_floats(const struct qwen2_config *config);
/* Uploads host vectors laid out as norm_attention, norm_mlp, qkv_bias of each layer, then norm_last. */
enum lvs_status model_set_vectors(struct model *model, const float *host, struct lvs_error *err);
/* Columns of query heads together: n_heads · head_size, which need not be `hidden`. */
static inline int32_t model_attention_width(const struct qwen2_config *config) {
    return config->n_heads * config->head_size;
}
static inline int32_t model_kv_width(const struct qwen2_config *config) {
    return config->n_kv_heads * config->head_size;
}

/* ---- LoRA groups of a layer ---- */

/* The pairs that share an input, from the layer's bottom upwards. */
enum lora_group_kind {
    LORA_GROUP_QKV,
    LORA_GROUP_O,
    LORA_GROUP_GATE_UP,
    LORA_GROUP_DOWN,
    LORA_GROUP_COUNT,
};
/* groups of layer `layer`; n = 0 where the layout has no such target (or layout is NULL). */
void lora_groups_make(const struct lora_layout *layout, int32_t layer, struct lora_group out[LORA_GROUP_COUNT]);
extern const char *const lora_target_module[LORA_TARGET_COUNT]; /* "q_proj", … */
/* "model.layers.3.self_attn.q_proj" */
void lora_module_path(int32_t layer, int32_t target, char *out, size_t capacity);

/* ---- passes ---- */

struct layer_activations {
    void *x;                          /* act [n_rows][hidden], residual stream at the layer's input */
    void *x_mid;                      /* act [n_rows][hidden], after attention */
    float *rstd_attention, *rstd_mlp; /* [n_rows] */
    void *qkv;                        /* act [n_rows][qkv_width], turned */
    void *attention;                  /* act [n_rows][n_heads·h] */
    float *lse;                       /* [n_rows][n_heads] */
    void *gate_up;                    /* act [n_rows][2·intermediate] */
    float *xa[LORA_GROUP_COUNT];      /* [n_rows][group.n · rank] */
};

struct pass {
    const struct model *model;
    struct pass_options options;
    struct lora_layout lora; /* targets = 0 and no head when options.lora is NULL */
    struct pack_layout layout;
    int32_t n_positions;
    int32_t *adapter_of_slot;         /* host [options.n_slots] */
    void *memory;                     /* the one device allocation behind all arrays below */
    int32_t *adapter;                 /* [n_slots] */
    int32_t *ids, *labels, *position; /* [n_rows] */
    float *label_weight;              /* [n_slots] */
    float *row_loss;                  /* [n_rows] */
    float *cosine, *sine;             /* [n_positions][head_size / 2] */
    struct rope_tables rope;
    struct lora_group (*groups)[LORA_GROUP_COUNT]; /* host [n_layers] */
    struct layer_activations *layers;              /* host [n_layers]; all the same without backward */
    void *x_last;                                  /* act [n_rows][hidden], after the last layer */
    void *hidden;                                  /* act [n_rows][hidden], after the last norm */
    float *rstd_last;                              /* [n_rows] */
    void *normed;                                  /* act [n_rows][hidden], scratch: a norm's output */
    void *h;                                       /* act [n_rows][intermediate], scratch: swiglu's output */
    /* backward only */
    void *dx;          /* act [n_rows][hidden], gradient of the residual stream */
    void *dy;          /* act [n_rows][hidden], gradient of a norm's output */
    void *dh;          /* act [n_rows][intermediate] */
    void *d_attention; /* act [n_rows][n_heads·h] */
    void *dqkv;        /* act [n_rows][qkv_width] */
    float *t;          /* [n_rows][widest group.n · rank] */
    /* head = weight: the trained matrix as a weight, made for the address below */
    struct weight *trained_head;
    const float *trained_head_data;
};

/* Sizes and addresses from one walk: with memory = NULL it only counts. Returns the bytes. */
size_t pass_plan(struct pass *pass, size_t act_size, unsigned char *memory);
/* pass_create with rotary tables for more positions than the context has (decoding). */
enum lvs_status pass_create_for(const struct model *model, const struct pass_options *options, int32_t n_positions,
                                struct pass **out, struct lvs_error *err);
/* Head and embedding that a call with these adapters (NULL = none) uses: frozen, or slot 0's trained matrix. */
const struct weight *pass_head(struct pass *pass, const struct adapters *adapters);
const struct weight *pass_embedding(struct pass *pass, const struct adapters *adapters);
/* Offset of the bias in an adapter, negative without one. */
int64_t pass_bias_offset(const struct pass *pass, const struct adapters *adapters);

/* Keys and values beside a forward pass. */
struct pass_cache {
    const struct kv_cache_layer *layers; /* [n_layers] */
    bool append;                         /* true: one row a sequence over the cache; false: store the rows */
    int32_t length_bound;
};
void pass_forward_cached(struct pass *pass, const struct adapters *adapters, const struct pass_cache *cache);

/* ---- generation ---- */

struct kv_cache {
    const struct model *model;
    struct kv_cache_options options;
    struct lora_layout lora;
    struct pass *decode;           /* one row a sequence */
    struct kv_cache_layer *layers; /* host [n_layers] */
    void *memory;                  /* device: keys and values */
    size_t sequence_bytes;         /* of the keys (or values) of one sequence in one layer */
    int32_t token_stride;          /* capacity and room for what finished sequences may still write */
    int32_t *tokens;               /* device [n_sequences][token_stride] */
    int32_t *length;               /* device [n_rows]: tokens */
    int32_t *cached;               /* device [n_rows]: tokens whose keys are in the cache */
    int32_t *growing;              /* device [n_sequences]: the sequences that still grow */
    int32_t *shared;               /* device [n_sequences]: tokens of the prompt; NULL with one sample */
    uint8_t *finished, *allowed;   /* device [n_sequences], [n_vocabulary] */
    int32_t *host_length;          /* [n_sequences] */
    uint8_t *host_finished;        /* [n_sequences], as the caller set it */
    struct device_graph **graphs;  /* [n_buckets] a recorded step for each length bound, or NULL */
    int32_t n_buckets;
    struct adapters graph_adapters; /* what the graphs were recorded with */
};
/* Prompts of one prefill pass: as many as PREFILL_ROWS rows hold, at least one. */
int32_t kv_cache_prefill_chunk(int32_t n_prompts, int32_t longest);
/* The next token of every sequence from its hidden row (act [n_rows][hidden]). */
void kv_cache_sample(struct kv_cache *cache, const struct adapters *adapters, const void *hidden);
/* Host lengths, and which sequences grow, to the device. Returns how many grow. */
int32_t kv_cache_upload_state(struct kv_cache *cache);
