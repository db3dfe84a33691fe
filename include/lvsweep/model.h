/* Qwen2 with LoRA on one device: reading a Hugging Face folder, the frozen weights, the adapter's layout, forward and
 * backward passes over packed rows, and the key/value cache. Works through a backend table; owns no optimiser. */
#pragma once
#include "lvsweep/backend.h"
#include "lvsweep/file.h"
#include "lvsweep/tokenizer.h"
#include "lvsweep/trial.h"

/* ---- the checkpoint ---- */

struct qwen2_config {
    int32_t vocab_size, hidden, intermediate, n_layers, n_heads, n_kv_heads, head_size, max_position;
    float rms_epsilon;
    double rope_theta;
    bool tied;                                           /* the head is the embedding */
    int32_t pad_id, eos_id;                              /* -1 = not given */
    int32_t n_more_ends, more_ends[TOKENIZER_MORE_ENDS]; /* further ids that end a text, of either file */
    /* generation_config.json, for `decoding = checkpoint`-like defaults; 0 = not given */
    float generation_temperature, generation_top_p, generation_repetition_penalty;
    int32_t generation_top_k;
};
/* Old and new key spellings. LVS_INPUT, by name, for whatever is not computed: other architectures, rope scaling,
 * sliding window, other activations, head sizes that do not fit. */
enum lvs_status qwen2_config_read(const char *folder, struct qwen2_config *out, struct lvs_error *err);

/* The folder of a model: `path` itself, or the snapshot of hf:owner/name in the local Hugging Face cache (HF_HOME,
 * HF_HUB_CACHE, ~/.cache/huggingface). Nothing is downloaded; LVS_INPUT says how to get it. */
enum lvs_status model_locate(const char *path, char out[LVS_PATH_MAX], struct lvs_error *err);

/* A safetensors file (or the shards of an index), mapped read-only. Hostile files are refused with the place. */
struct safetensors;
struct safetensors_entry {
    const char *name;
    enum tensor_type type; /* I64 and other types are listed with type = -1 and cannot be read as weights */
    int32_t n_dims;
    int64_t shape[4];
    const void *data;
    size_t bytes;
};
enum lvs_status safetensors_open(const char *file, struct safetensors **out, struct lvs_error *err);
/* MODEL/model.safetensors, or model.safetensors.index.json with its shards. */
enum lvs_status safetensors_open_folder(const char *folder, struct safetensors **out, struct lvs_error *err);
/* The refusal of a folder without either. */
enum lvs_status safetensors_missing(const char *folder, struct lvs_error *err);
void safetensors_close(struct safetensors *file);
int32_t safetensors_count(const struct safetensors *file);
const struct safetensors_entry *safetensors_at(const struct safetensors *file, int32_t index);
const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name); /* NULL = none */
/* Widens `count` elements to float. */
void tensor_to_float(const void *data, enum tensor_type type, int64_t count, float *out);
/* Writes float tensors as one file (whole or absent); metadata is pairs "key", "value", NULL-ended, or NULL. */
struct safetensors_tensor {
    char name[160];
    int32_t n_dims;
    int64_t shape[4];
    const float *data;
    enum tensor_type type; /* written as; F32 or BF16 (rounded to nearest even) */
};
enum lvs_status safetensors_write(const char *path, const struct safetensors_tensor *tensors, int32_t count,
                                  const char *const *metadata, struct lvs_error *err);
/* XXH3 of config.json and of every weight file's content: the weights' identity in a trial's key. Cached by size and
 * modification time in memory only. */
enum lvs_status model_hash(const char *folder, char out[LVS_HASH_TEXT], struct lvs_error *err);

/* ---- weights on a device ---- */

struct model; /* const after opening; one a device */

struct model_source {
    const char *folder;
    const int32_t *kept_rows; /* vocabulary = text: rows of embedding and head that are gathered, else NULL */
    int32_t n_kept;
};
enum lvs_status model_open(const struct compute *compute, const struct model_source *source, struct model **out,
                           struct lvs_error *err);
/* Random weights (normal, std 0.02) of a given shape, for `bench`. */
enum lvs_status model_random(const struct compute *compute, const struct qwen2_config *config, uint64_t seed,
                             struct model **out, struct lvs_error *err);
/* The same model with rows[n_rows] of its vocabulary only (head_rows = text): embedding and head gathered, the layers
 * shared. Ids are then indices of `rows`. `whole` must outlive it. */
enum lvs_status model_open_rows(const struct model *whole, const int32_t *rows, int32_t n_rows, struct model **out,
                                struct lvs_error *err);
void model_close(struct model *model);
const struct qwen2_config *model_config(const struct model *model);
const struct compute *model_compute(const struct model *model);
int32_t model_vocabulary(const struct model *model); /* rows of the head: vocab_size, or n_kept */
/* Bytes of weights on the device and of the activations of a layout, for the check before the start. */
int64_t model_weight_bytes(const struct qwen2_config *config, size_t act_size);

/* ---- adapters ---- */

/* Where each LoRA matrix lies inside one adapter's float vector. Same for all adapters of a pack. */
struct lora_layout {
    uint32_t targets; /* bits of enum lora_target */
    int32_t rank;     /* padded: lora_padded_rank of the largest */
    int32_t n_layers, n_vocabulary, hidden;
    int64_t site_a[LORA_TARGET_COUNT],
        site_b[LORA_TARGET_COUNT]; /* offsets within a layer's block; -1 = no such target */
    int32_t n_in[LORA_TARGET_COUNT], n_out[LORA_TARGET_COUNT];
    int64_t layer_floats; /* a layer's block; layer l starts at l · layer_floats */
    int64_t bias_offset;  /* head = bias: [n_vocabulary], else -1 */
    int64_t head_offset;  /* head = weight: [n_vocabulary][hidden], else -1 */
    int64_t n_params;     /* trainable floats, padding included */
    int64_t stride;       /* n_params rounded up to 64 */
};
int32_t lora_padded_rank(int32_t rank); /* 8, 16, then multiples of 16: the same for every rank of a pack */
void lora_layout_make(const struct qwen2_config *config, int32_t n_vocabulary, uint32_t targets, int32_t rank,
                      int32_t head, struct lora_layout *out);
/* A by `init` from the seed (kaiming normal: std 1/sqrt(n_in) as the reports; uniform: ±1/sqrt(n_in)), B and the bias
 * zero; head = weight starts from the model's. params [stride] on the host. */
enum lvs_status lora_init(const struct model *model, const struct lora_layout *layout, const struct settings *settings,
                          float *params, struct lvs_error *err);
/* Reads a PEFT folder (adapter_config.json, adapter_model.safetensors, and head.safetensors when there) into params;
 * refuses other ranks than settings->lora_rank, another alpha/r, other targets, missing or unknown tensors, DoRA,
 * rslora and the like by name. A folder without head.safetensors leaves the head's part of params as it was, so call
 * lora_init first; one with a head that the layout has no place for is refused. */
enum lvs_status lora_read(const char *folder, const struct lora_layout *layout, const struct settings *settings,
                          float *params, struct lvs_error *err);
/* Writes adapter_model.safetensors and adapter_config.json as PEFT reads them (names
 * `base_model.model.model.layers.…`), padding removed; a head bias or weight goes to head.safetensors beside them,
 * which PEFT ignores. */
enum lvs_status lora_write(const char *folder, const struct lora_layout *layout, const struct settings *settings,
                           const char *base_model, const float *params, struct lvs_error *err);

/* ---- passes ---- */

/* Activations for one layout: allocated once, used step after step. */
struct pass;
struct pass_options {
    int32_t n_slots, n_sequences, context;
    bool backward; /* keep what backward needs */
    bool skip_tiles;
    const struct lora_layout *lora; /* NULL = the bare model */
};
int64_t pass_bytes(const struct qwen2_config *config, const struct pass_options *options, size_t act_size);
enum lvs_status pass_create(const struct model *model, const struct pass_options *options, struct pass **out,
                            struct lvs_error *err);
void pass_destroy(struct pass *pass);
/* Slot s uses adapter adapter_of_slot[s] from now on (default: s). n_slots may shrink: a trial left the pack. */
enum lvs_status pass_set_slots(struct pass *pass, const int32_t *adapter_of_slot, int32_t n_slots,
                               struct lvs_error *err);
const struct pack_layout *pass_layout(const struct pass *pass);
/* Device arrays the caller fills or reads; all of the pass's own. */
int32_t *pass_ids(struct pass *pass);        /* [n_rows] */
int32_t *pass_labels(struct pass *pass);     /* [n_rows] */
float *pass_label_weight(struct pass *pass); /* [n_slots] */
float *pass_row_loss(struct pass *pass);     /* [n_rows] */

/* Forward over ids; adapters NULL = the bare model. Enqueues only. */
void pass_forward(struct pass *pass, const struct adapters *adapters);
/* row_loss from labels; with `backward` options also the gradient that pass_backward starts from. */
void pass_loss(struct pass *pass, const struct adapters *adapters);
/* Gradients of Σ_slots label_weight · Σ row_loss into adapters->grads (written, not added). */
void pass_backward(struct pass *pass, const struct adapters *adapters);
/* Logits of chosen rows on the host, for tests and small things: out [count][model_vocabulary]. */
enum lvs_status pass_logits(struct pass *pass, const struct adapters *adapters, const int32_t *rows, int32_t count,
                            float *out, struct lvs_error *err);

/* ---- generation ---- */

/* Keys and values of many sequences that continue at their own lengths, for one adapter: the first of the `adapters`
 * given (shift params, scale, … to use another). */
struct kv_cache;
struct kv_cache_options {
    int32_t n_sequences; /* prompts × samples */
    int32_t capacity;    /* tokens a sequence, prompt and continuation */
    int32_t samples;     /* sequences that share a prompt: prefilled once, then copied */
    const struct lora_layout *lora;
    const uint8_t *allowed; /* host [model_vocabulary] or NULL */
    struct sampling sampling;
    uint64_t seed;
};
int64_t kv_cache_bytes(const struct qwen2_config *config, const struct kv_cache_options *options, size_t act_size);
enum lvs_status kv_cache_create(const struct model *model, const struct kv_cache_options *options,
                                struct kv_cache **out, struct lvs_error *err);
void kv_cache_destroy(struct kv_cache *cache);
/* Prompts one after another in ids with offset[n_prompts + 1], n_prompts = n_sequences / samples; samples of a prompt
 * are consecutive sequences. Resets the cache, fills it and draws the first new token of every sequence. */
enum lvs_status kv_cache_prefill(struct kv_cache *cache, const struct adapters *adapters, const int32_t *ids,
                                 const int64_t *offset, int32_t n_prompts, struct lvs_error *err);
/* `steps` more tokens for every sequence (less where capacity or `finished` says so); graphs where the backend has
 * them. */
enum lvs_status kv_cache_decode(struct kv_cache *cache, const struct adapters *adapters, int32_t steps,
                                struct lvs_error *err);
/* Sequences that need no more tokens (host [n_sequences]): their tokens and lengths stand still from now on, until the
 * next prefill. */
enum lvs_status kv_cache_set_finished(struct kv_cache *cache, const uint8_t *finished, struct lvs_error *err);
/* All tokens so far: tokens [n_sequences][capacity], length [n_sequences] (prompt included). */
enum lvs_status kv_cache_tokens(struct kv_cache *cache, int32_t *tokens, int32_t *length, struct lvs_error *err);
