/* The gradient of a trained bias: Σ over a slot's rows of weight · (probability − one at the label), from the stored
 * logits or from their gradients. Rows are summed a block at a time and the blocks in order, so the sum does not know
 * the pack. Every column counts, also those of tiles that dx leaves out (loss_tiles.cu). */
#include <cmath>

#include "loss.cuh"

#define BIAS_THREADS 256

size_t loss_bias_bytes(const struct pack_layout *layout, int64_t vocabulary) {
    return static_cast<size_t>(layout->n_rows / loss_block_rows(layout->slot_rows) * vocabulary) * sizeof(float);
}

/* Grid: (pieces of 8 columns, row blocks); a thread a piece. */
__global__ void __launch_bounds__(BIAS_THREADS)
    logits_sum_kernel(struct chunk_view view, const bf16 *logits, float *partial) {
    __shared__ float shifts[LVS_ROW_BLOCK]; /* log2 of the row's sum; infinite where no label counts */
    __shared__ int32_t labels[LVS_ROW_BLOCK];
    int32_t first = static_cast<int32_t>(blockIdx.y) * LVS_ROW_BLOCK;
    for (int32_t r = static_cast<int32_t>(threadIdx.x); r < LVS_ROW_BLOCK; r += BIAS_THREADS) {
        labels[r] = view.labels[view.row + first + r];
        shifts[r] = labels[r] >= 0 ? view.row_sum[first + r] * LOG2_E : INFINITY;
    }
    __syncthreads();
    int64_t piece = static_cast<int64_t>(blockIdx.x) * BIAS_THREADS + threadIdx.x, col = piece * 8;
    if (col >= view.vocabulary) return;
    const bf16 *source = logits + first * view.vocabulary + col;
    float bias[8], sum[8] = {};
    load8(bias_of(view, view.row + first) + col, bias);
#pragma unroll
    for (int i = 0; i < 8; i++)
        bias[i] *= LOG2_E;
#pragma unroll 4
    for (int32_t r = 0; r < LVS_ROW_BLOCK; r++) {
        float values[8];
        load8(source + r * view.vocabulary, values);
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum[i] += exp2_fast(fmaf(values[i], LOG2_E, bias[i] - shifts[r]));
        if (labels[r] >= 0 && labels[r] / 8 == piece) {
#pragma unroll
            for (int i = 0; i < 8; i++)
                sum[i] -= i == labels[r] % 8 ? 1.0f : 0.0f;
        }
    }
    float weight = view.label_weight[(view.row + first) / view.slot_rows];
#pragma unroll
    for (int i = 0; i < 8; i++)
        sum[i] *= weight;
    store8(partial + (view.row / LVS_ROW_BLOCK + blockIdx.y) * view.vocabulary + col, sum);
}

/* Grid: (columns, row blocks); a thread a column. */
template <typename T>
__global__ void __launch_bounds__(BIAS_THREADS)
    gradients_sum_kernel(struct chunk_view view, const T *dlogits, float *partial) {
    int64_t col = static_cast<int64_t>(blockIdx.x) * BIAS_THREADS + threadIdx.x;
    int32_t rows = loss_block_rows(view.slot_rows);
    if (col >= view.vocabulary) return;
    const T *source = dlogits + static_cast<int64_t>(blockIdx.y) * rows * view.vocabulary + col;
    float sum = 0;
#pragma unroll 8
    for (int32_t r = 0; r < rows; r++)
        sum += to_float(source[r * view.vocabulary]);
    partial[(view.row / rows + blockIdx.y) * view.vocabulary + col] = sum;
}

/* Grid: (columns, slots); a thread a column. */
__global__ void __launch_bounds__(BIAS_THREADS) bias_reduce_kernel(struct chunk_view view, const float *partial) {
    int64_t col = static_cast<int64_t>(blockIdx.x) * BIAS_THREADS + threadIdx.x;
    int32_t blocks = view.slot_rows / loss_block_rows(view.slot_rows);
    if (col >= view.vocabulary) return;
    const float *source = partial + static_cast<int64_t>(blockIdx.y) * blocks * view.vocabulary + col;
    float sum = 0;
#pragma unroll 8
    for (int32_t b = 0; b < blocks; b++)
        sum += source[b * view.vocabulary];
    view.grads[view.adapter[blockIdx.y] * view.stride + col] = sum;
}

static unsigned blocks_of(int64_t count) {
    return static_cast<unsigned>(ceil_div(count, BIAS_THREADS));
}

void loss_bias_from_logits(struct device *device, const struct chunk_view *view, const bf16 *logits, float *partial) {
    dim3 grid(blocks_of(view->vocabulary / 8), static_cast<unsigned>(view->rows / LVS_ROW_BLOCK));
    kernel_launch(device, "loss_bias_sum", logits_sum_kernel, grid, BIAS_THREADS, 0, *view, logits, partial);
}

template <typename T>
static void from_gradients(struct device *device, const struct chunk_view *view, const T *dlogits, float *partial) {
    dim3 grid(blocks_of(view->vocabulary), static_cast<unsigned>(view->rows / loss_block_rows(view->slot_rows)));
    kernel_launch(device, "loss_bias_sum", gradients_sum_kernel<T>, grid, BIAS_THREADS, 0, *view, dlogits, partial);
}
void loss_bias_from_gradients(struct device *device, const struct chunk_view *view, const bf16 *dlogits,
                              float *partial) {
    from_gradients(device, view, dlogits, partial);
}
void loss_bias_from_gradients(struct device *device, const struct chunk_view *view, const float *dlogits,
                              float *partial) {
    from_gradients(device, view, dlogits, partial);
}

void loss_bias_reduce(struct device *device, const struct pack_layout *layout, const struct chunk_view *view,
                      const float *partial) {
    dim3 grid(blocks_of(view->vocabulary), static_cast<unsigned>(layout->n_slots));
    kernel_launch(device, "loss_bias_reduce", bias_reduce_kernel, grid, BIAS_THREADS, 0, *view, partial);
}
