/* Cross-entropy over the whole vocabulary. Logits exist for a bounded number of rows at a time, in scratch memory; the
 * softmax is one kernel a chunk, and the gradients are products. Sums are float in a fixed order. Not here: the sum
 * over rows (batch.cu). */
#include <cmath>
#include <type_traits>

#include "loss_softmax.cuh"

#define LOGITS_BYTES (static_cast<int64_t>(1280) << 20) /* at a time */
#define ROW_THREADS  1024
#define FLOAT_SLICE  8192
#define DX_SLICES    8

template <typename T, int N> __device__ __forceinline__ void load_n(const T *source, float out[N]) {
    if constexpr (N == 8)
        load8(source, out);
    else
        out[0] = to_float(source[0]);
}
template <typename T, int N> __device__ __forceinline__ void store_n(T *target, const float in[N]) {
    if constexpr (N == 8)
        store8(target, in);
    else
        target[0] = from_float<T>(in[0]);
}

/* N logits from column `col`, with the bias. */
template <typename T, int N>
__device__ __forceinline__ void logits_load(const T *logits, const float *bias, int64_t col, float out[N]) {
    load_n<T, N>(logits + col, out);
    if (bias == nullptr) return;
    float b[N];
    load_n<float, N>(bias + col, b);
#pragma unroll
    for (int i = 0; i < N; i++)
        out[i] += b[i];
}

/* The row's maximum and Σ exp(logit − maximum), for every thread of the block. */
template <typename T, int N>
__device__ __forceinline__ float2 row_softmax(const T *logits, const float *bias, int64_t vocabulary, float2 *room) {
    float highest = -INFINITY, sum = 0;
    for (int64_t col = static_cast<int64_t>(threadIdx.x) * N; col < vocabulary; col += ROW_THREADS * N) {
        float values[N], top = highest;
        logits_load<T, N>(logits, bias, col, values);
#pragma unroll
        for (int i = 0; i < N; i++)
            top = fmaxf(top, values[i]);
        if (top > highest) sum *= __expf(highest - top);
        highest = top;
#pragma unroll
        for (int i = 0; i < N; i++)
            sum += __expf(values[i] - top);
    }
    float top = warp_max(highest);
    sum = warp_sum(highest > -INFINITY ? sum * __expf(highest - top) : 0.0f);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = make_float2(top, sum);
    __syncthreads();
    float2 total = make_float2(-INFINITY, 0);
    for (int i = 0; i < ROW_THREADS / 32; i++)
        total.x = fmaxf(total.x, room[i].x);
    for (int i = 0; i < ROW_THREADS / 32; i++)
        total.y += room[i].x > -INFINITY ? room[i].y * __expf(room[i].x - total.x) : 0.0f;
    return total;
}

/* One block a row: the loss, and with GRADIENT the logits replaced by their gradient. */
template <typename T, typename G, int N, bool GRADIENT>
__global__ void __launch_bounds__(ROW_THREADS) row_loss_kernel(struct chunk_view view, const T *all, G *gradients) {
    __shared__ float2 room[ROW_THREADS / 32];
    int64_t row = view.row + blockIdx.x, slot = row / view.slot_rows;
    const T *logits = all + static_cast<int64_t>(blockIdx.x) * view.vocabulary;
    G *target = gradients + static_cast<int64_t>(blockIdx.x) * view.vocabulary;
    int32_t label = view.labels[row];
    float weight = 0, zeros[N] = {};
    if (label < 0) {
        if (threadIdx.x == 0) view.row_loss[row] = 0;
        if constexpr (GRADIENT) {
            for (int64_t col = static_cast<int64_t>(threadIdx.x) * N; col < view.vocabulary; col += ROW_THREADS * N)
                store_n<G, N>(target + col, zeros);
        }
        return;
    }
    const float *bias = view.params != nullptr ? view.params + view.adapter[slot] * view.stride : nullptr;
    float2 total = row_softmax<T, N>(logits, bias, view.vocabulary, room);
    float log_sum = total.x + logf(total.y);
    if (threadIdx.x == 0) {
        float chosen = to_float(logits[label]) + (bias != nullptr ? bias[label] : 0.0f);
        view.row_loss[row] = log_sum - chosen;
    }
    if constexpr (GRADIENT) {
        weight = view.label_weight[slot];
        float factor = weight / total.y;
        __syncthreads();
        for (int64_t col = static_cast<int64_t>(threadIdx.x) * N; col < view.vocabulary; col += ROW_THREADS * N) {
            float values[N];
            logits_load<T, N>(logits, bias, col, values);
#pragma unroll
            for (int i = 0; i < N; i++)
                values[i] = __expf(values[i] - total.x) * factor - (col + i == label ? weight : 0.0f);
            store_n<G, N>(target + col, values);
        }
    }
}

static struct product head_product(const struct device *device, const struct loss_call *call, const char *name) {
    struct product p = {};
    p.name = name;
    p.type_ab = p.type_c = device->precision == PRECISION_KIND_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    p.n = call->head->rows;
    p.k = call->head->cols;
    return p;
}

static const void *rows_of(const struct device *device, const void *x, int64_t row, int64_t cols) {
    return static_cast<const char *>(x) + static_cast<size_t>(row * cols) * act_size(device);
}

static void logits_product(struct device *device, const struct loss_call *call, const void *head, int64_t row,
                           int64_t rows, cudaDataType_t type, void *logits) {
    struct product p = head_product(device, call, "loss_logits");
    p.m = rows;
    p.transposed_b = true;
    p.type_c = type;
    p.a = rows_of(device, call->x, row, p.k), p.b = head, p.c = logits;
    p.ld_a = p.ld_b = p.k, p.ld_c = p.n;
    product_run(device, &p);
}

/* dx = dlogits·head. In float the vocabulary goes in slices, so that no sum is longer than FLOAT_SLICE terms. */
static void dx_product(struct device *device, const struct loss_call *call, const void *head, int64_t row, int64_t rows,
                       const void *dlogits) {
    struct product p = head_product(device, call, "loss_dx");
    int64_t vocabulary = call->head->rows, n_in = call->head->cols;
    int64_t slice = device->precision == PRECISION_KIND_BF16 ? vocabulary : FLOAT_SLICE;
    p.m = rows, p.n = n_in;
    p.c = const_cast<void *>(rows_of(device, call->dx, row, n_in));
    p.ld_a = vocabulary, p.ld_b = p.ld_c = n_in;
    for (int64_t first = 0; first < vocabulary; first += slice) {
        p.k = vocabulary - first < slice ? vocabulary - first : slice;
        p.a = rows_of(device, dlogits, first, 1), p.b = rows_of(device, head, first, n_in);
        p.accumulate = first > 0;
        product_run(device, &p);
    }
}

/* Slices of the vocabulary summed in ascending order. */
__global__ void slices_add_kernel(int64_t count, int32_t slices, const float *partial, bf16 *out) {
    int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
    if (at >= count) return;
    float sum[8] = {};
#pragma unroll 4
    for (int32_t s = 0; s < slices; s++) {
        float part[8];
        load8(partial + s * count + at, part);
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum[i] += part[i];
    }
    store8(out + at, sum);
}

/* The same product for bf16 in DX_SLICES slices side by side: dx alone has too few tiles to fill a card. Always the
 * same slices, so a row's bits do not know how many rows there are. */
static void dx_slices_product(struct device *device, const struct loss_call *call, const void *head, int64_t row,
                              int64_t rows, const void *dlogits, float *partial) {
    struct product p = head_product(device, call, "loss_dx");
    int64_t vocabulary = call->head->rows, n_in = call->head->cols;
    p.m = rows, p.n = n_in, p.k = vocabulary / DX_SLICES;
    p.type_c = CUDA_R_32F;
    p.a = dlogits, p.b = head, p.c = partial;
    p.ld_a = vocabulary, p.ld_b = p.ld_c = n_in;
    p.batch = DX_SLICES;
    p.step_a = p.k, p.step_b = p.k * n_in, p.step_c = rows * n_in;
    product_run(device, &p);
    kernel_launch(device, "loss_dx_add", slices_add_kernel, static_cast<unsigned>(ceil_div(rows * n_in, 2048)), 256, 0,
                  rows * n_in, DX_SLICES, static_cast<const float *>(partial),
                  static_cast<bf16 *>(const_cast<void *>(rows_of(device, call->dx, row, n_in))));
}

static void dhead_product(struct device *device, const struct loss_call *call, int64_t row, int64_t rows,
                          const void *dlogits) {
    struct product p = head_product(device, call, "loss_dhead");
    int64_t vocabulary = call->head->rows, n_in = call->head->cols;
    p.m = vocabulary, p.n = n_in, p.k = rows;
    p.transposed_a = p.accumulate = true;
    p.type_c = CUDA_R_32F;
    p.a = dlogits, p.b = rows_of(device, call->x, row, n_in), p.c = call->dhead;
    p.ld_a = vocabulary, p.ld_b = p.ld_c = n_in;
    product_run(device, &p);
}

/* Loss of the chunk's rows; with a gradient it goes to `gradients`, which may be where the logits lie. */
template <typename T, typename G>
static void chunk_softmax(struct device *device, const struct loss_call *call, const struct chunk_view &view,
                          const T *logits, G *gradients) {
    bool gradient = call->dx != nullptr && view.tile_top == nullptr;
    bool even = view.vocabulary % 8 == 0 && loss_bias_is_even(call);
    auto kernel = even ? (gradient ? row_loss_kernel<T, G, 8, true> : row_loss_kernel<T, G, 8, false>)
                       : (gradient ? row_loss_kernel<T, G, 1, true> : row_loss_kernel<T, G, 1, false>);
    auto fast = view.params != nullptr ? row_loss_fast_kernel<false, true>
                : gradient             ? row_loss_fast_kernel<true, false>
                                       : row_loss_fast_kernel<false, false>;
    if (std::is_same<T, bf16>::value && even && (view.params == nullptr || !gradient))
        kernel_launch(device, "loss_softmax", fast, view.rows, FAST_THREADS, sizeof(uint4) * RING * FAST_THREADS, view,
                      reinterpret_cast<bf16 *>(gradients));
    else
        kernel_launch(device, "loss_softmax", kernel, view.rows, ROW_THREADS, 0, view, logits, gradients);
}

static struct chunk_view view_make(const struct pack_layout *layout, const struct loss_call *call, int64_t row,
                                   int64_t rows) {
    struct chunk_view view = {};
    view.labels = call->labels, view.adapter = layout->adapter;
    view.label_weight = call->label_weight, view.row_loss = call->row_loss;
    view.row = row, view.vocabulary = call->head->rows;
    view.rows = static_cast<int32_t>(rows), view.slot_rows = layout->slot_rows;
    if (call->adapters == nullptr || call->bias_offset < 0) return view;
    view.params = call->adapters->params + call->bias_offset;
    view.grads = call->adapters->grads != nullptr ? call->adapters->grads + call->bias_offset : nullptr;
    view.stride = call->adapters->stride;
    return view;
}

/* How a call is cut: rows a chunk and where things lie in its scratch memory. */
struct loss_plan {
    int64_t rows;
    bool tiles;    /* dx from the vocabulary tiles that matter */
    bool wide;     /* bf16 with a trained bias, no tiles: logits stay float, whose sum over rows is the gradient */
    size_t slices; /* bytes of dx in slices, 0 = not sliced */
    size_t logits, gradients; /* bytes of the logits, of separate gradients */
    size_t bias, bytes;       /* where the sums of the bias's gradient begin, 0 = none; bytes of all */
};

static struct loss_plan plan_make(const struct device *device, const struct pack_layout *layout,
                                  const struct loss_call *call) {
    struct loss_plan plan = {};
    int64_t vocabulary = call->head->rows;
    plan.tiles = loss_tiles_fit(device, layout, call);
    bool has_bias = call->adapters != nullptr && call->bias_offset >= 0;
    plan.wide = device->precision == PRECISION_KIND_BF16 && call->dx != nullptr && has_bias && !plan.tiles;
    int64_t row_bytes = vocabulary * (plan.wide ? 6 : static_cast<int64_t>(act_size(device)));
    int64_t most = LOGITS_BYTES / row_bytes / LVS_ROW_BLOCK * LVS_ROW_BLOCK;
    if (most < LVS_ROW_BLOCK) most = LVS_ROW_BLOCK;
    int64_t block = loss_block_rows(layout->slot_rows);
    plan.rows = ceil_div(ceil_div(layout->n_rows, ceil_div(layout->n_rows, most)), block) * block;
    plan.logits = static_cast<size_t>(plan.rows * vocabulary) * (plan.wide ? 4 : act_size(device));
    plan.gradients = plan.wide ? plan.logits / 2 : 0;
    if (device->precision == PRECISION_KIND_BF16 && call->dx != nullptr && !plan.tiles &&
        vocabulary % (DX_SLICES * 8) == 0 && vocabulary >= DX_SLICES * 1024)
        plan.slices = static_cast<size_t>(plan.rows * call->head->cols) * DX_SLICES * sizeof(float);
    plan.bytes =
        plan.logits + plan.gradients + plan.slices + (plan.tiles ? loss_tiles_bytes(plan.rows, vocabulary) : 0);
    if (!has_bias || call->dx == nullptr) return plan;
    plan.bias = (plan.bytes + 255) / 256 * 256;
    plan.bytes = plan.bias + loss_bias_bytes(layout, vocabulary);
    return plan;
}

/* The chunk's part of the bias's gradient. */
static void chunk_bias(struct device *device, const struct loss_plan *plan, const struct chunk_view *view,
                       const void *gradients, char *memory) {
    float *partial = reinterpret_cast<float *>(memory + plan->bias);
    if (plan->tiles)
        loss_bias_from_logits(device, view, reinterpret_cast<const bf16 *>(memory), partial);
    else if (device->precision == PRECISION_KIND_FP32)
        loss_bias_from_gradients(device, view, static_cast<const float *>(gradients), partial);
    else
        loss_bias_from_gradients(device, view, static_cast<const bf16 *>(gradients), partial);
}

/* One chunk: logits, loss, gradients. */
static void chunk_run(struct device *device, const struct pack_layout *layout, const struct loss_call *call,
                      const struct loss_plan *plan, const void *head, int64_t row, char *memory) {
    int64_t count = layout->n_rows - row < plan->rows ? layout->n_rows - row : plan->rows, n_in = call->head->cols;
    struct chunk_view view = view_make(layout, call, row, count);
    bool is_float = device->precision == PRECISION_KIND_FP32;
    void *gradients = plan->wide ? memory + plan->logits : memory;
    if (plan->tiles) loss_tiles_place(&view, memory + plan->logits + plan->gradients);
    logits_product(device, call, head, row, count, is_float || plan->wide ? CUDA_R_32F : CUDA_R_16BF, memory);
    if (is_float)
        chunk_softmax(device, call, view, reinterpret_cast<float *>(memory), static_cast<float *>(gradients));
    else if (plan->wide)
        chunk_softmax(device, call, view, reinterpret_cast<float *>(memory), static_cast<bf16 *>(gradients));
    else
        chunk_softmax(device, call, view, reinterpret_cast<bf16 *>(memory), static_cast<bf16 *>(gradients));
    if (call->dx == nullptr) return;
    if (plan->bias > 0) chunk_bias(device, plan, &view, gradients, memory);
    if (plan->tiles)
        loss_tiles_backward(device, &view, reinterpret_cast<const bf16 *>(memory), head, n_in,
                            const_cast<void *>(rows_of(device, call->dx, row, n_in)));
    else if (plan->slices > 0)
        dx_slices_product(device, call, head, row, count, gradients,
                          reinterpret_cast<float *>(memory + plan->bytes - plan->slices));
    else
        dx_product(device, call, head, row, count, gradients);
    if (call->dhead != nullptr) dhead_product(device, call, row, count, gradients);
}

void cuda_loss(struct device *device, const struct pack_layout *layout, const struct loss_call *call) {
    assert(call->dhead == nullptr || layout->n_slots == 1);
    device_select(device);
    struct loss_plan plan = plan_make(device, layout, call);
    char *memory = static_cast<char *>(scratch_take(device, SCRATCH_LOSS, plan.bytes, "loss"));
    if (memory == nullptr) return;
    const void *head = weight_current(device, call->head);
    for (int64_t row = 0; row < layout->n_rows; row += plan.rows)
        chunk_run(device, layout, call, &plan, head, row, memory);
    if (plan.bias == 0) return;
    struct chunk_view view = view_make(layout, call, 0, layout->n_rows);
    loss_bias_reduce(device, layout, &view, reinterpret_cast<const float *>(memory + plan.bias));
}
