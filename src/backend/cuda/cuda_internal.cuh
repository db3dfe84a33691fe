/* What the files of the CUDA module share on the host side: the device, its scratch memory, its kept error, and one way
 * to launch a kernel. Device-side helpers are in kernel_common.cuh.
 *
 * Invariant: every operation is enqueued on device->stream and touches memory that exists for as long as any recorded
 * graph may run. */
#pragma once
#include <cassert>
#include <cstdint>
#include <utility>

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

extern "C" {
#include "lvsweep/backend.h"
#include "lvsweep/rng.h"
}

struct profile;
struct tuning;
struct scratch;
struct lora_pending;

/* What attention's backward leaves when its last kernel is put off: the gradients of k and v of every query head, which
 * the heads' owner sums, in order, when it reads them. Every row lies in a sequence. */
struct pending_fold {
    const __nv_bfloat16 *dk, *dv; /* [n_rows][n_heads][head_size] */
    __nv_bfloat16 *dqkv;          /* NULL = nothing waits; the columns of k and v are not written yet */
    int32_t n_rows, n_heads, n_kv_heads, head_size;
};

/* A copy not yet enqueued: a product that adds to the target reads the source instead, and the copy is never made. */
struct pending_copy {
    void *target;
    const void *source;
    size_t bytes; /* 0 = none */
};

struct device {
    int32_t index, multiprocessors, major;
    int32_t shared_limit; /* bytes a block may ask for */
    int32_t cache_bytes;  /* of the L2 cache */
    enum precision precision;
    cudaStream_t stream;
    cublasLtHandle_t blas;
    struct scratch *scratch;
    struct profile *profile; /* NULL unless profiling */
    struct tuning *tuning;
    bool capturing;
    int32_t n_graphs; /* live */
    double flops, flops_before_capture;
    struct pending_copy pending;
    struct lora_pending *lora_pending;
    struct pending_fold fold;
    struct lvs_error error; /* the first failure since the last synchronize; status LVS_OK when none */
};

/* One frozen matrix in the device's activation type, or a view of float memory. */
struct weight {
    void *data; /* act [rows][cols]; for a view on a bf16 device a copy made anew at every use */
    const float *view;
    int64_t rows, cols;
};

struct device_graph {
    cudaGraphExec_t executable;
    double flops; /* of one launch */
};

/* ---- errors ---- */
/* Keeps the first failure of `what`. */
void device_fail(struct device *device, const char *what, const char *words);
bool device_check(struct device *device, cudaError_t code, const char *what);
/* At the start of every operation: makes the device current and enqueues a copy that was held back. */
void device_select(struct device *device);

/* ---- scratch ---- */
/* Memory of one operation: contents die with the next operation that asks for the same purpose. NULL (and a kept error)
 * when it cannot be had. */
enum scratch_use {
    SCRATCH_BLAS,
    SCRATCH_LORA,
    SCRATCH_DROPOUT,
    SCRATCH_ATTENTION,
    SCRATCH_LOSS,
    SCRATCH_SMALL,
    SCRATCH_USES
};
void *scratch_take(struct device *device, enum scratch_use use, size_t bytes, const char *what);
size_t scratch_bytes(const struct device *device, enum scratch_use use); /* there now */
struct scratch *scratch_create(void);
void scratch_destroy(struct scratch *scratch);

/* ---- attention put off (attention_backward.cu) ---- */
void attention_fold(struct device *device, const struct pending_fold *fold);
/* What waits for dqkv, now the caller's to do. */
static inline struct pending_fold attention_fold_take(struct device *device, const void *dqkv) {
    struct pending_fold fold = {};
    if (device->fold.dqkv != dqkv) return fold;
    fold = device->fold;
    device->fold.dqkv = nullptr;
    return fold;
}

/* ---- gradients put off (lora_reduce.cu) ---- */
struct lora_pending *lora_pending_create(void);
void lora_pending_destroy(struct lora_pending *pending);
/* Enqueues what was put off; before anything that may read or write gradients. */
void lora_reduce_flush(struct device *device);
/* The same at the end of a step, whose groups then tell how much memory lets all of them wait. */
void lora_reduce_finish(struct device *device);

/* ---- profile ---- */
/* Around every piece of work of an operation; nothing happens unless profiling is on. */
void profile_start(struct device *device, const char *name);
void profile_stop(struct device *device);
void profile_destroy(struct profile *profile);

/* ---- products ---- */
/* Row-major products through cuBLASLt: c[m][n] = a[m][k]·bᵀ (b [n][k]) when transposed, else a[m][k]·b (b [k][n]). */
struct product {
    const char *name;
    int64_t m, n, k;
    bool transposed_b, transposed_a; /* transposed_a: a is [k][m] */
    bool accumulate;
    cudaDataType_t type_ab, type_c;
    const void *a, *b;
    void *c;
    const void *added; /* with accumulate: what is added instead of c, same shape; NULL = c */
    int64_t ld_a, ld_b, ld_c;
    int32_t batch; /* 0 = one; else so many, elements apart: */
    int64_t step_a, step_b, step_c;
};
void product_run(struct device *device, const struct product *product);
/* The weight's memory as it is now, in the device's activation type. */
const void *weight_current(struct device *device, const struct weight *weight);
/* Stages of tuning.cu. */
struct tuning *tuning_create(void);
void tuning_destroy(struct tuning *tuning);
bool tuning_find(const struct device *device, const struct product *product, cublasLtMatmulAlgo_t *out);
void tuning_store(struct device *device, const struct product *product, const cublasLtMatmulAlgo_t *algorithm,
                  float microseconds);

static inline size_t act_size(const struct device *device) {
    return device->precision == PRECISION_KIND_BF16 ? 2 : 4;
}
static inline int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* ---- launching ---- */
/* Launches `kernel` and keeps a failure under `name`. */
template <typename... Parameters, typename... Arguments>
void kernel_launch(struct device *device, const char *name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                   size_t shared, Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    if (shared > 32 * 1024) { /* beyond 48 KiB, static shared memory included, a kernel must ask */
        cudaError_t raised =
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
        if (!device_check(device, raised, name)) return;
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = device->stream;
    profile_start(device, name);
    device_check(device, cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name);
    profile_stop(device);
}

/* Calls `call<float>` or `call<__nv_bfloat16>` by the device's precision. */
#define LVS_BY_PRECISION(device, call, ...)             \
    do {                                                \
        if ((device)->precision == PRECISION_KIND_BF16) \
            call<__nv_bfloat16>(device, __VA_ARGS__);   \
        else                                            \
            call<float>(device, __VA_ARGS__);           \
    } while (0)

/* ---- operations: the table's members, each in the file of its name ---- */
int32_t cuda_count(struct lvs_error *err);
enum lvs_status cuda_open(const struct device_options *options, struct device **out, struct lvs_error *err);
void cuda_close(struct device *device);
enum lvs_status cuda_describe(struct device *device, struct device_description *out, struct lvs_error *err);
enum lvs_status cuda_allocate(struct device *device, size_t bytes, void **out, struct lvs_error *err);
void cuda_release(struct device *device, void *memory);
void cuda_upload(struct device *device, void *target, const void *source, size_t bytes);
void cuda_download(struct device *device, void *target, const void *source, size_t bytes);
void cuda_copy(struct device *device, void *target, const void *source, size_t bytes);
void cuda_fill_zero(struct device *device, void *target, size_t bytes);
enum lvs_status cuda_weight_create(struct device *device, const struct host_tensor *parts, int32_t n_parts,
                                   struct weight **out, struct lvs_error *err);
enum lvs_status cuda_weight_view(struct device *device, const float *data, int64_t rows, int64_t cols,
                                 struct weight **out, struct lvs_error *err);
void cuda_weight_destroy(struct device *device, struct weight *weight);
void cuda_break_context(struct device *device);
void cuda_batch_gather(struct device *device, const struct pack_layout *layout, const struct batch_call *call);
void cuda_embed(struct device *device, const struct pack_layout *layout, const struct weight *table, const int32_t *ids,
                void *x);
void cuda_embed_backward(struct device *device, const struct pack_layout *layout, const int32_t *ids, const void *dx,
                         int32_t cols, float *dtable);
void cuda_rmsnorm_forward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                          const float *gain, float epsilon, void *y, float *rstd);
void cuda_rmsnorm_backward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *dy,
                           const void *x, const float *gain, const float *rstd, void *dx);
void cuda_matmul_forward(struct device *device, const struct pack_layout *layout, const void *x, const struct weight *w,
                         bool accumulate, void *y);
void cuda_matmul_backward(struct device *device, const struct pack_layout *layout, const void *dy,
                          const struct weight *w, bool accumulate, void *dx);
void cuda_lora_a_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                         const struct lora_group *group, const void *x, float *xa);
void cuda_lora_b_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                         const struct lora_group *group, const float *xa, int32_t ld_y, void *y);
void cuda_lora_b_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                          const struct lora_group *group, const void *dy, int32_t ld_dy, const float *xa, float *t);
void cuda_lora_a_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                          const struct lora_group *group, const float *t, const void *x, void *dx);
void cuda_qkv_bias_rope(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                        const float *bias, const struct rope_tables *rope, void *qkv);
void cuda_qkv_rope_backward(struct device *device, const struct pack_layout *layout,
                            const struct attention_shape *shape, const struct rope_tables *rope, void *dqkv);
void cuda_attention_forward(struct device *device, const struct pack_layout *layout,
                            const struct attention_shape *shape, const void *qkv, void *out, float *lse);
void cuda_attention_backward(struct device *device, const struct pack_layout *layout,
                             const struct attention_shape *shape, const void *qkv, const void *out, const float *lse,
                             const void *dout, void *dqkv);
void cuda_swiglu_forward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                         void *h);
void cuda_swiglu_backward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                          const void *dh, void *d_gate_up);
void cuda_loss(struct device *device, const struct pack_layout *layout, const struct loss_call *call);
void cuda_loss_reduce(struct device *device, const struct pack_layout *layout, const float *row_loss,
                      const float *label_weight, const int32_t *step, int32_t table_stride, float *table);
void cuda_adam(struct device *device, const struct pack_layout *layout, const struct optimizer_call *call);
void cuda_step_advance(struct device *device, const struct pack_layout *layout, int32_t *step);
void cuda_gather_rows(struct device *device, int32_t count, int32_t cols, const void *x, const int32_t *index,
                      void *out);
void cuda_kv_store(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                   const void *qkv, const struct kv_cache_layer *cache);
void cuda_attention_cached(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                           const void *qkv, const struct kv_cache_layer *cache, int32_t length_bound, void *out);
void cuda_sample(struct device *device, const struct pack_layout *layout, const struct sample_call *call);
void cuda_norm_lora_a_forward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                              const float *gain, float epsilon, void *y, float *rstd, const struct adapters *adapters,
                              const struct lora_group *group, float *xa);
void cuda_norm_lora_a_backward(struct device *device, const struct pack_layout *layout, int32_t cols, void *dy,
                               const void *x, const float *gain, const float *rstd, const struct adapters *adapters,
                               const struct lora_group *group, const float *t, void *y, void *dx);
void cuda_qkv_finish(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                     const struct adapters *adapters, const struct lora_group *group, const float *xa,
                     const float *bias, const struct rope_tables *rope, void *qkv);
void cuda_qkv_finish_backward(struct device *device, const struct pack_layout *layout,
                              const struct attention_shape *shape, const struct adapters *adapters,
                              const struct lora_group *group, const float *xa, const struct rope_tables *rope,
                              void *dqkv, float *t);
enum lvs_status cuda_synchronize(struct device *device, struct lvs_error *err);
void cuda_graph_begin(struct device *device);
enum lvs_status cuda_graph_end(struct device *device, struct device_graph **out, struct lvs_error *err);
void cuda_graph_launch(struct device *device, struct device_graph *graph);
void cuda_graph_destroy(struct device *device, struct device_graph *graph);
double cuda_flops_executed(struct device *device);
void cuda_profile_begin(struct device *device);
void cuda_profile_write(struct device *device, struct strbuf *out);
void cuda_tuning_write(struct device *device, struct strbuf *out);
enum lvs_status cuda_tuning_read(struct device *device, const char *text, struct lvs_error *err);
