/* A backend is a table of operations over packed rows; a device is one opened instance of it (a GPU, or the cores of a
 * worker). It knows arrays and sizes, never a model. The CPU table is the reference; CUDA is a module opened at run
 * time.
 *
 * Rows. One row is one token of one sequence. A call works on `struct pack_layout`: n_slots trials, each owning the
 * same number of consecutive rows, padded to whole row blocks; slot s uses adapter layout.adapter[s]. Padding rows hold
 * finite values (id 0, label -1) and are computed like any other. What a row gets never depends on other slots: same
 * bits for any thread count and any pack.
 *
 * Types. Activations ("act") are float with fp32 precision and bfloat16 with bf16; accumulation is fp32. Adapters,
 * gradients, optimiser state, losses, norms' gains, biases are float. All array pointers below are device memory of the
 * device in hand, row-major, without gaps unless a leading dimension is given.
 *
 * Order and errors. Operations are enqueued in order and return nothing; arguments are checked by assert. A failure is
 * kept by the device and returned by the next synchronize. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lvsweep/status.h"
#include "lvsweep/strbuf.h"

#define LVS_ROW_BLOCK       128 /* rows of a slot are padded to this … */
#define LVS_ROW_BLOCK_SMALL 16  /* … or to this when a slot has fewer than LVS_ROW_BLOCK rows (decoding) */
#define LVS_MAX_SITES       3   /* LoRA pairs that share one input: q, k, v */
#define LVS_LABEL_IGNORED   (-1)

enum precision { PRECISION_KIND_FP32, PRECISION_KIND_BF16 };
enum tensor_type { TENSOR_F32, TENSOR_BF16, TENSOR_F16 };

struct device;       /* one opened device */
struct weight;       /* one frozen matrix on a device */
struct device_graph; /* a recorded sequence of operations */

/* A matrix in host memory, e.g. inside a mapped safetensors file. */
struct host_tensor {
    const void *data; /* [rows][cols], borrowed */
    enum tensor_type type;
    int64_t rows, cols;
};

struct device_options {
    int32_t index;   /* which GPU of the visible ones; ignored by the CPU */
    int32_t threads; /* CPU threads; 0 = all that OpenMP offers */
    enum precision precision;
};

struct device_description {
    char name[96];                     /* "NVIDIA H200", "Intel(R) Xeon(R) …" */
    char uuid[48];                     /* GPU UUID; host name for the CPU */
    char driver[64];                   /* driver and library versions, or the BLAS in use */
    int64_t memory_total, memory_free; /* bytes */
    int32_t multiprocessors;           /* or cores */
};

struct pack_layout {
    int32_t n_slots;
    int32_t n_sequences;    /* a slot */
    int32_t context;        /* rows a sequence */
    int32_t slot_rows;      /* n_sequences × context rounded up to row_block */
    int32_t n_rows;         /* n_slots × slot_rows */
    int32_t row_block;      /* LVS_ROW_BLOCK or LVS_ROW_BLOCK_SMALL */
    const int32_t *adapter; /* device [n_slots]: which adapter a slot trains or uses */
};
/* Fills everything but `adapter`. Sequence j of slot s starts at row s·slot_rows + j·context. */
struct pack_layout pack_layout_make(int32_t n_slots, int32_t n_sequences, int32_t context);

/* The adapters of a pack: adapter k's parameters start at params + k·stride.
 *
 * Dropout is a pure function of its place, so forward and backward draw the same mask: element (row of the slot r,
 * column c) of the input of pair `site_id` at `step` takes word c % 4 of rng_block(seed, RNG_STREAM_DROPOUT, index),
 * index = step << 44 | site_id << 34 | r << 16 | c / 4 (step < 2^20, site_id < 2^10, r and c < 2^18). It is dropped
 * when the word < ⌊p·2^32⌋ (p in double), otherwise multiplied by 1/(1 − p). */
struct adapters {
    float *params, *grads; /* [n_adapters][stride]; grads may be NULL outside training */
    int64_t stride;        /* floats */
    const float *scale;    /* [n_adapters] alpha / rank */
    const float *dropout;  /* [n_adapters] probability, or NULL: none (evaluation) */
    const uint64_t *seed;  /* [n_adapters], for dropout */
    const int32_t *step;   /* [n_adapters] step being done, 0-based, for dropout and tables */
};

/* One LoRA pair: Y[:, column : column+n_out] += scale · dropout(X)·Aᵀ·Bᵀ. */
struct lora_site {
    int64_t a_offset, b_offset; /* into an adapter: A [rank][n_in], B [n_out][rank] */
    int32_t n_in, n_out;
    int32_t rank;    /* padded: rows of A and columns of B beyond a trial's own rank are zero and stay zero */
    int32_t column;  /* first column of Y */
    int32_t site_id; /* number of the pair in the model, for the dropout counter */
};
/* The pairs that share one input X [n_rows][n_in]; n = 0 means none. Their A·x are kept side by side: xa
 * [n_rows][n·rank]. */
struct lora_group {
    int32_t n;
    struct lora_site site[LVS_MAX_SITES];
};

struct attention_shape {
    int32_t n_heads, n_kv_heads, head_size; /* query head i reads key/value head i / (n_heads / n_kv_heads) */
};
/* Columns of the fused projection: q [n_heads·h], then k, then v [n_kv_heads·h]. */
static inline int32_t attention_qkv_width(const struct attention_shape *shape) {
    return (shape->n_heads + 2 * shape->n_kv_heads) * shape->head_size;
}

/* Rotary tables: pair (i, i + h/2) is turned by the angle position · theta^(−2i/h). */
struct rope_tables {
    const float *cosine, *sine; /* [n_positions][head_size / 2] */
    int32_t n_positions;
    const int32_t *position; /* [n_rows] of each row in its sequence */
};

struct batch_call {
    const int32_t *window_ids, *window_labels; /* [n_windows][context] */
    const int32_t *order; /* [n_adapters][order_stride]: step k of an adapter takes windows order[k·batch … ] */
    int32_t order_stride, batch;
    const int32_t *step;   /* [n_adapters] */
    int32_t *ids, *labels; /* out [n_rows]; padding rows get 0 and LVS_LABEL_IGNORED */
    float *label_weight;   /* out [n_slots]: 1 / labels that count in the slot (0 when there are none) */
};

struct loss_call {
    const void *x;                   /* act [n_rows][n_in], after the last norm */
    const struct weight *head;       /* [n_vocabulary][n_in] */
    const struct adapters *adapters; /* for the bias; may be NULL */
    int64_t bias_offset;             /* head bias [n_vocabulary] inside an adapter; negative = none */
    const int32_t *labels;           /* [n_rows] */
    float *row_loss;                 /* out [n_rows], nats; 0 where the label is ignored */
    const float *label_weight;       /* [n_slots]; only with dx */
    void *dx;        /* out act [n_rows][n_in]: gradient of Σ row_loss · label_weight; NULL = loss only */
    float *dhead;    /* += [n_vocabulary][n_in], head = weight, one slot; NULL otherwise */
    bool skip_tiles; /* leave out vocabulary tiles whose probabilities vanish in bf16 (backward only) */
};

/* Per-adapter constants of Adam; device array. */
struct optimizer_settings {
    float beta1, beta2, epsilon, weight_decay;
    float clip_norm;   /* 0 = none: gradients are scaled by min(1, clip/(norm + 1e-6)) as PyTorch does */
    int32_t decoupled; /* AdamW: decay applied to the weights, not added to the gradient */
};
struct optimizer_call {
    const struct adapters *adapters;
    float *m, *v;                              /* [n_adapters][stride] */
    int64_t n_params;                          /* ≤ stride */
    const struct optimizer_settings *settings; /* [n_adapters] */
    const float *learning_rate;                /* [n_adapters][table_stride] by step */
    float *gradient_norm;                      /* out [n_adapters][table_stride] at the step, before clipping */
    int32_t table_stride;
};

/* Keys and values of one layer. */
struct kv_cache_layer {
    void *k, *v;           /* act [n_sequences][n_kv_heads][capacity][head_size], slots one after another */
    int32_t capacity;      /* tokens */
    const int32_t *length; /* [n_slots × n_sequences] tokens already there, this call's own token not counted */
    /* Sequences that began alike, when samples > 1: of `samples` in a row the first `shared[sequence]` tokens are
     * equal, so a backend may read them from the first of the row, whose memory is then read often. */
    int32_t samples;       /* ≤ 1: none */
    const int32_t *shared; /* [n_slots × n_sequences] or NULL */
};

struct sampling {
    int32_t greedy, top_k; /* top_k 0 = none */
    float temperature, top_p, repetition_penalty;
};
struct sample_call {
    const void *x;             /* act [n_rows][n_in], after the last norm; one row a sequence */
    const struct weight *head; /* [n_vocabulary][n_in] */
    const struct adapters *adapters;
    int64_t bias_offset;    /* as in loss_call */
    const uint8_t *allowed; /* [n_vocabulary] or NULL: only these ids */
    struct sampling sampling;
    uint64_t seed;           /* draw of sequence i at length l: counter (stream sampling, index (i << 32) | l) */
    int32_t *tokens;         /* [n_sequences_total][token_stride]: prompt and what was generated, for the penalty; */
    int32_t token_stride;    /*   the new id is written at tokens[i][length[i]] */
    int32_t *length;         /* [n_sequences_total], increased by one */
    int32_t *ids;            /* out [n_rows]: input of the next step */
    const uint8_t *finished; /* [n_sequences_total] or NULL: sequences that only repeat their last id */
};

/* The table. Optional members may be NULL and are then composed by the functions below it. */
struct backend {
    const char *name; /* "cpu", "cuda" */

    /* ---- memory ---- */
    /* How many devices this process can open; 0 with words in err when none. */
    int32_t (*count)(struct lvs_error *err);
    enum lvs_status (*open)(const struct device_options *options, struct device **out, struct lvs_error *err);
    void (*close)(struct device *device);
    enum lvs_status (*describe)(struct device *device, struct device_description *out, struct lvs_error *err);
    /* Zeroed memory; LVS_LAUNCH with sizes in words when it does not fit. */
    enum lvs_status (*allocate)(struct device *device, size_t bytes, void **out, struct lvs_error *err);
    void (*release)(struct device *device, void *memory);
    /* In order with operations. upload may return before the copy is done but has read `source`; download waits. */
    void (*upload)(struct device *device, void *target, const void *source, size_t bytes);
    void (*download)(struct device *device, void *target, const void *source, size_t bytes);
    void (*copy)(struct device *device, void *target, const void *source, size_t bytes);
    void (*fill_zero)(struct device *device, void *target, size_t bytes);
    /* One frozen matrix: the parts stacked along rows, [Σ rows][cols]. The CPU keeps pointers into the parts (they must
     * outlive the weight) and widens tile by tile; a GPU copies. */
    enum lvs_status (*weight_create)(struct device *device, const struct host_tensor *parts, int32_t n_parts,
                                     struct weight **out, struct lvs_error *err);
    /* A weight that reads float [rows][cols] in device memory as it is now (head = weight). Optional. */
    enum lvs_status (*weight_view)(struct device *device, const float *data, int64_t rows, int64_t cols,
                                   struct weight **out, struct lvs_error *err);
    void (*weight_destroy)(struct device *device, struct weight *weight);
    /* Optional, for tests of what comes after: enqueues a write to an address that is nobody's. A GPU's context is lost
     * by it, as by a bug of ours or a bad card; on the CPU the process ends by SIGSEGV. */
    void (*break_context)(struct device *device);

    /* ---- operations ---- */
    void (*batch_gather)(struct device *device, const struct pack_layout *layout, const struct batch_call *call);
    /* x[n_rows][cols] = table[ids] */
    void (*embed)(struct device *device, const struct pack_layout *layout, const struct weight *table,
                  const int32_t *ids, void *x);
    /* dtable[ids[row]] += dx[row] in row order (head = weight, one slot). Optional. */
    void (*embed_backward)(struct device *device, const struct pack_layout *layout, const int32_t *ids, const void *dx,
                           int32_t cols, float *dtable);
    /* y = x · rstd · gain, rstd[row] = 1/sqrt(mean(x²) + epsilon); rstd may be NULL. */
    void (*rmsnorm_forward)(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                            const float *gain, float epsilon, void *y, float *rstd);
    /* dx += gradient through the norm of dy (so dx holds the residual branch's gradient already). */
    void (*rmsnorm_backward)(struct device *device, const struct pack_layout *layout, int32_t cols, const void *dy,
                             const void *x, const float *gain, const float *rstd, void *dx);
    /* y [n_rows][rows of w] = x·wᵀ + (accumulate ? y : 0) */
    void (*matmul_forward)(struct device *device, const struct pack_layout *layout, const void *x,
                           const struct weight *w, bool accumulate, void *y);
    /* dx [n_rows][cols of w] = dy·w + (accumulate ? dx : 0) */
    void (*matmul_backward)(struct device *device, const struct pack_layout *layout, const void *dy,
                            const struct weight *w, bool accumulate, void *dx);
    /* xa [n_rows][group.n · rank] = dropout(x)·Aᵀ for every site of the group, unscaled. */
    void (*lora_a_forward)(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                           const struct lora_group *group, const void *x, float *xa);
    /* y[:, column…] += scale · xa·Bᵀ ; y has ld_y columns. */
    void (*lora_b_forward)(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                           const struct lora_group *group, const float *xa, int32_t ld_y, void *y);
    /* t [n_rows][group.n · rank] = scale · dy·B ; grad B = scale · dyᵀ·xa, summed over the slot's rows. */
    void (*lora_b_backward)(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                            const struct lora_group *group, const void *dy, int32_t ld_dy, const float *xa, float *t);
    /* grad A = tᵀ·dropout(x) ; dx += dropout'(t·A), dx act [n_rows][n_in]. */
    void (*lora_a_backward)(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                            const struct lora_group *group, const float *t, const void *x, void *dx);
    /* qkv += bias [width]; then q and k are turned by their positions, in place. */
    void (*qkv_bias_rope)(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                          const float *bias, const struct rope_tables *rope, void *qkv);
    /* The turn undone on dq and dk, in place. */
    void (*qkv_rope_backward)(struct device *device, const struct pack_layout *layout,
                              const struct attention_shape *shape, const struct rope_tables *rope, void *dqkv);
    /* Causal within each sequence, softmax scale 1/sqrt(head_size). out [n_rows][n_heads·h]; lse [n_rows][n_heads] is
     * the log of the sum of exponentials, kept for backward (may be NULL). Rows outside sequences give zero. */
    void (*attention_forward)(struct device *device, const struct pack_layout *layout,
                              const struct attention_shape *shape, const void *qkv, void *out, float *lse);
    /* dqkv is written whole (gradients with respect to the turned q, k and v). */
    void (*attention_backward)(struct device *device, const struct pack_layout *layout,
                               const struct attention_shape *shape, const void *qkv, const void *out, const float *lse,
                               const void *dout, void *dqkv);
    /* h = silu(gate)·up ; gate_up [n_rows][2·width], gate first. */
    void (*swiglu_forward)(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                           void *h);
    /* d_gate_up from dh; may be the same array as gate_up. */
    void (*swiglu_backward)(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                            const void *dh, void *d_gate_up);
    void (*loss)(struct device *device, const struct pack_layout *layout, const struct loss_call *call);
    /* table[adapter][step] = label_weight[slot] · Σ row_loss over the slot's rows, in a fixed order. */
    void (*loss_reduce)(struct device *device, const struct pack_layout *layout, const float *row_loss,
                        const float *label_weight, const int32_t *step, int32_t table_stride, float *table);
    /* One Adam step of every adapter in the layout: norm, clipping, update. Bias correction from step + 1. */
    void (*adam)(struct device *device, const struct pack_layout *layout, const struct optimizer_call *call);
    /* step[adapter] += 1 for the adapters of the layout: the end of a training step. */
    void (*step_advance)(struct device *device, const struct pack_layout *layout, int32_t *step);
    /* out[i][cols] = x[index[i]][cols] for i < count. */
    void (*gather_rows)(struct device *device, int32_t count, int32_t cols, const void *x, const int32_t *index,
                        void *out);
    /* Writes the keys and values of all rows of each sequence (context rows) into the cache from position 0 on. */
    void (*kv_store)(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                     const void *qkv, const struct kv_cache_layer *cache);
    /* One row a sequence: appends its key and value at length, attends over 0 … length. `length_bound` ≥ all lengths.
     */
    void (*attention_cached)(struct device *device, const struct pack_layout *layout,
                             const struct attention_shape *shape, const void *qkv, const struct kv_cache_layer *cache,
                             int32_t length_bound, void *out);
    /* The next id of every sequence. Logits processors in transformers' order: repetition penalty, temperature, top-k,
     * top-p (renormalised); ties go to the lower id. */
    void (*sample)(struct device *device, const struct pack_layout *layout, const struct sample_call *call);

    /* ---- optional fused operations ---- */
    /* rmsnorm_forward and lora_a_forward of its output in one pass. */
    void (*norm_lora_a_forward)(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                                const float *gain, float epsilon, void *y, float *rstd, const struct adapters *adapters,
                                const struct lora_group *group, float *xa);
    /* lora_a_backward on (t, norm(x)) into dy, then rmsnorm_backward of dy into dx. `y` is scratch for norm(x). */
    void (*norm_lora_a_backward)(struct device *device, const struct pack_layout *layout, int32_t cols, void *dy,
                                 const void *x, const float *gain, const float *rstd, const struct adapters *adapters,
                                 const struct lora_group *group, const float *t, void *y, void *dx);
    /* lora_b_forward and qkv_bias_rope. */
    void (*qkv_finish)(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                       const struct adapters *adapters, const struct lora_group *group, const float *xa,
                       const float *bias, const struct rope_tables *rope, void *qkv);
    /* qkv_rope_backward and lora_b_backward. */
    void (*qkv_finish_backward)(struct device *device, const struct pack_layout *layout,
                                const struct attention_shape *shape, const struct adapters *adapters,
                                const struct lora_group *group, const float *xa, const struct rope_tables *rope,
                                void *dqkv, float *t);
    /* matmul_forward with a gate-and-up weight, then swiglu_forward. gate_up is written too when it is not NULL. */
    void (*gate_up_swiglu)(struct device *device, const struct pack_layout *layout, int32_t width, const void *x,
                           const struct weight *w, void *gate_up, void *h);

    /* ---- time ---- */
    /* Waits for everything enqueued and returns the first error since the last call. */
    enum lvs_status (*synchronize)(struct device *device, struct lvs_error *err);
    /* Optional: operations between begin and end are recorded, not run; launch enqueues them all. */
    void (*graph_begin)(struct device *device);
    enum lvs_status (*graph_end)(struct device *device, struct device_graph **out, struct lvs_error *err);
    void (*graph_launch)(struct device *device, struct device_graph *graph);
    void (*graph_destroy)(struct device *device, struct device_graph *graph);
    /* 2·m·n·k summed over the products enqueued so far (launches of a graph included). */
    double (*flops_executed)(struct device *device);
    /* Optional: time every operation by name from now on (slow); profile_write prints name, calls, ms. */
    void (*profile_begin)(struct device *device);
    void (*profile_write)(struct device *device, struct strbuf *out);
    /* Optional: chosen algorithms as text, to be stored and given to other workers; "" = nothing chosen yet. */
    void (*tuning_write)(struct device *device, struct strbuf *out);
    enum lvs_status (*tuning_read)(struct device *device, const char *text, struct lvs_error *err);
};

/* A device with its table: what the layers above hold. */
struct compute {
    const struct backend *backend;
    struct device *device;
    enum precision precision;
    size_t act_size; /* bytes of one activation: 4 or 2 */
};

/* "cpu", "cuda" or "auto" (cuda where a GPU can be opened). The CUDA module is looked for beside the program, in
 * LVSWEEP_CUDA_MODULE, and in the install folder; LVS_LAUNCH says what is missing. */
enum lvs_status backend_find(const char *name, const struct backend **out, struct lvs_error *err);
enum lvs_status compute_open(const char *name, const struct device_options *options, struct compute *out,
                             struct lvs_error *err);
void compute_close(struct compute *compute);
/* Bytes in use, for records and `bench`: of a GPU now, as `now` describes it; on the CPU the most that this process has
 * held so far. NaN = not known. */
double compute_memory_used(const struct compute *compute, const struct device_description *now);

/* Fused where the backend can, composed otherwise. Contracts as above. */
void backend_norm_lora_a_forward(const struct compute *compute, const struct pack_layout *layout, int32_t cols,
                                 const void *x, const float *gain, float epsilon, void *y, float *rstd,
                                 const struct adapters *adapters, const struct lora_group *group, float *xa);
void backend_norm_lora_a_backward(const struct compute *compute, const struct pack_layout *layout, int32_t cols,
                                  void *dy, const void *x, const float *gain, float epsilon, const float *rstd,
                                  const struct adapters *adapters, const struct lora_group *group, const float *t,
                                  void *y, void *dx);
void backend_qkv_finish(const struct compute *compute, const struct pack_layout *layout,
                        const struct attention_shape *shape, const struct adapters *adapters,
                        const struct lora_group *group, const float *xa, const float *bias,
                        const struct rope_tables *rope, void *qkv);
void backend_qkv_finish_backward(const struct compute *compute, const struct pack_layout *layout,
                                 const struct attention_shape *shape, const struct adapters *adapters,
                                 const struct lora_group *group, const float *xa, const struct rope_tables *rope,
                                 void *dqkv, float *t);
void backend_gate_up_swiglu(const struct compute *compute, const struct pack_layout *layout, int32_t width,
                            const void *x, const struct weight *w, void *gate_up, void *h);
