/* What the files of the CPU backend share: the device, weights as borrowed parts, scratch, and the vector loops. Not
 * seen outside this folder. Invariant: no number depends on how many threads compute it; threads only share out
 * tiles whose sizes are functions of the arguments. */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lvsweep/backend.h"

/* Loops that are compiled for several instruction sets; the loader picks one. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CPU_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CPU_CLONES
#endif

enum { CPU_ALIGNMENT = 64 /* bytes, of memory and scratch */ };

struct cpu_profile;

struct device {
    int32_t threads;
    double flops;                /* 2·m·n·k of the products so far */
    struct lvs_error failure;    /* the first one since the last synchronize */
    void *scratch;               /* grows, never shrinks */
    size_t scratch_size;         /* bytes */
    struct cpu_profile *profile; /* NULL: not timing */
};

struct weight {
    struct host_tensor *parts; /* [n_parts] stacked along rows; data borrowed */
    int32_t n_parts;
    int64_t rows, cols;
    float *own; /* a widened copy of a small matrix that one part does not hold as float, else NULL */
};

/* ---- memory: cpu_memory.c ---- */
enum lvs_status cpu_allocate(struct device *device, size_t bytes, void **out, struct lvs_error *err);
void cpu_release(struct device *device, void *memory);
int64_t cpu_memory_total(void);     /* bytes of the machine or of the control group, the smaller */
int64_t cpu_memory_available(void); /* bytes that can be taken now */
/* Scratch of one call, [bytes], aligned, contents undefined; NULL after a failure, which synchronize will report. The
 * memory is the device's and is valid until the next call. */
void *cpu_scratch(struct device *device, size_t bytes);
/* Rounds a size in bytes up to CPU_ALIGNMENT. */
static inline size_t cpu_align(size_t bytes) {
    return (bytes + CPU_ALIGNMENT - 1) / CPU_ALIGNMENT * CPU_ALIGNMENT;
}
static inline int64_t cpu_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t cpu_blocks(int64_t count, int64_t block) {
    return (count + block - 1) / block;
}

/* ---- products: cpu_blas.c ---- */
/* Makes BLAS single-threaded and lets it use the vector units that the processor has. */
void cpu_blas_setup(void);
const char *cpu_blas_description(void);
/* c [m][n] = alpha · a·b + beta · c with a [m][k] and b [k][n], rows ld apart. `nt`: b is given as [n][k]; `tn`: a is
 * given as [k][m]. */
void cpu_gemm_nn(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                 float beta, float *c, int64_t ldc);
void cpu_gemm_nt(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                 float beta, float *c, int64_t ldc);
void cpu_gemm_tn(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                 float beta, float *c, int64_t ldc);

/* ---- weights: cpu_weight.c ---- */
enum lvs_status cpu_weight_create(struct device *device, const struct host_tensor *parts, int32_t n_parts,
                                  struct weight **out, struct lvs_error *err);
enum lvs_status cpu_weight_view(struct device *device, const float *data, int64_t rows, int64_t cols,
                                struct weight **out, struct lvs_error *err);
void cpu_weight_destroy(struct device *device, struct weight *weight);
/* The tile [rows][cols] that begins at (row, col), as float with rows *ld apart: where it lies, if it lies there as
 * float, otherwise widened into scratch [rows][cols]. */
const float *cpu_weight_tile(const struct weight *weight, int64_t row, int64_t rows, int64_t col, int64_t cols,
                             float *scratch, int64_t *ld);
/* Where an element lies as it is stored, and its size in bytes; its row goes on from there. */
const char *cpu_weight_stored(const struct weight *weight, int64_t row, int64_t col, int64_t *size);
/* The element at (row, col), if all of rows row … row + rows lie in one part as aligned bf16, else NULL. */
const uint16_t *cpu_weight_bf16(const struct weight *weight, int64_t row, int64_t rows, int64_t col);

/* Whether every tile lies in memory as float. */
bool cpu_weight_in_place(const struct weight *weight);

/* ---- vector loops: cpu_vector.c ---- */
void cpu_widen(enum tensor_type type, const void *source, int64_t offset, float *target, int64_t count);
float cpu_dot(const float *a, const float *b, int64_t count);
/* target += factor · source */
void cpu_axpy(float factor, const float *source, float *target, int64_t count);
float cpu_max(const float *values, int64_t count);
/* values = exp(values·scale − shift); returns their sum. */
double cpu_exp_sum(float *values, float scale, float shift, int64_t count);
/* The same without writing. */
double cpu_exp_total(const float *values, float scale, float shift, int64_t count);
void cpu_scale(float factor, float *values, int64_t count);

/* ---- time: cpu_profile.c ---- */
double cpu_profile_start(const struct device *device);
void cpu_profile_stop(struct device *device, const char *name, double start);
void cpu_profile_begin(struct device *device);
void cpu_profile_write(struct device *device, struct strbuf *out);
void cpu_profile_free(struct device *device);

/* ---- operations, one file each ---- */
void cpu_batch_gather(struct device *device, const struct pack_layout *layout, const struct batch_call *call);
void cpu_gather_rows(struct device *device, int32_t count, int32_t cols, const void *x, const int32_t *index,
                     void *out);
void cpu_embed(struct device *device, const struct pack_layout *layout, const struct weight *table, const int32_t *ids,
               void *x);
void cpu_embed_backward(struct device *device, const struct pack_layout *layout, const int32_t *ids, const void *dx,
                        int32_t cols, float *dtable);
void cpu_rmsnorm_forward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                         const float *gain, float epsilon, void *y, float *rstd);
void cpu_rmsnorm_backward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *dy,
                          const void *x, const float *gain, const float *rstd, void *dx);
void cpu_matmul_forward(struct device *device, const struct pack_layout *layout, const void *x, const struct weight *w,
                        bool accumulate, void *y);
void cpu_matmul_backward(struct device *device, const struct pack_layout *layout, const void *dy,
                         const struct weight *w, bool accumulate, void *dx);
void cpu_lora_a_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                        const struct lora_group *group, const void *x, float *xa);
void cpu_lora_b_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                        const struct lora_group *group, const float *xa, int32_t ld_y, void *y);
void cpu_lora_b_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                         const struct lora_group *group, const void *dy, int32_t ld_dy, const float *xa, float *t);
void cpu_lora_a_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                         const struct lora_group *group, const float *t, const void *x, void *dx);
void cpu_qkv_bias_rope(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                       const float *bias, const struct rope_tables *rope, void *qkv);
void cpu_qkv_rope_backward(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                           const struct rope_tables *rope, void *dqkv);
void cpu_attention_forward(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                           const void *qkv, void *out, float *lse);
void cpu_attention_backward(struct device *device, const struct pack_layout *layout,
                            const struct attention_shape *shape, const void *qkv, const void *out, const float *lse,
                            const void *dout, void *dqkv);
void cpu_swiglu_forward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                        void *h);
void cpu_swiglu_backward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                         const void *dh, void *d_gate_up);
void cpu_gate_up_swiglu(struct device *device, const struct pack_layout *layout, int32_t width, const void *x,
                        const struct weight *w, void *gate_up, void *h);
void cpu_loss(struct device *device, const struct pack_layout *layout, const struct loss_call *call);
void cpu_loss_reduce(struct device *device, const struct pack_layout *layout, const float *row_loss,
                     const float *label_weight, const int32_t *step, int32_t table_stride, float *table);
void cpu_adam(struct device *device, const struct pack_layout *layout, const struct optimizer_call *call);
void cpu_step_advance(struct device *device, const struct pack_layout *layout, int32_t *step);
void cpu_kv_store(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                  const void *qkv, const struct kv_cache_layer *cache);
void cpu_attention_cached(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                          const void *qkv, const struct kv_cache_layer *cache, int32_t length_bound, void *out);
void cpu_sample(struct device *device, const struct pack_layout *layout, const struct sample_call *call);
