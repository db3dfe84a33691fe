/* RMSNorm forward and backward, one warp a row: the row stays in registers between the sum and the write. Rows whose
 * width is no multiple of 8, or too wide for registers, take a block a row. Not here: the variants fused with LoRA. */
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

#define ROW_WARPS 4 /* rows a block */

/* A lane's c-th piece of 8 columns. Where a row ends before it the last piece is read again and counts for nothing, so
 * that no branch keeps the row's loads from going out together. */
struct row_piece {
    int32_t from;
    bool exists;
};
__device__ __forceinline__ struct row_piece row_piece_at(int32_t c, int32_t cols) {
    int32_t col = (c * 32 + static_cast<int32_t>(threadIdx.x) % 32) * 8;
    return {min(col, cols - 8), col < cols};
}

/* CHUNKS pieces of 8 columns a lane: cols ≤ CHUNKS · 256. */
template <typename T, int CHUNKS>
__global__ void __launch_bounds__(ROW_WARPS * 32)
    rmsnorm_forward_kernel(int32_t n_rows, int32_t cols, const T *x, const float *gain, float epsilon, T *y,
                           float *rstd) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
    int64_t row = static_cast<int64_t>(blockIdx.x) * ROW_WARPS + threadIdx.x / 32;
    if (row >= n_rows) return;
    float values[CHUNKS][8], sum = 0;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
        load8(x + row * cols + row_piece_at(c, cols).from, values[c]);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum += row_piece_at(c, cols).exists ? values[c][i] * values[c][i] : 0.0f;
    }
    float scale = rsqrtf(warp_sum(sum) / static_cast<float>(cols) + epsilon);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        struct row_piece piece = row_piece_at(c, cols);
        float g[8];
        load8(gain + piece.from, g);
#pragma unroll
        for (int i = 0; i < 8; i++)
            g[i] *= values[c][i] * scale;
        if (piece.exists) store8(y + row * cols + piece.from, g);
    }
    if (lane == 0 && rstd != nullptr) rstd[row] = scale;
}

template <typename T, int CHUNKS>
__global__ void __launch_bounds__(ROW_WARPS * 32)
    rmsnorm_backward_kernel(int32_t n_rows, int32_t cols, const T *dy, const T *x, const float *gain, const float *rstd,
                            T *dx) {
    int64_t row = static_cast<int64_t>(blockIdx.x) * ROW_WARPS + threadIdx.x / 32;
    if (row >= n_rows) return;
    float inputs[CHUNKS][8], grads[CHUNKS][8], residual[CHUNKS][8], sum = 0;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        int64_t at = row * cols + row_piece_at(c, cols).from;
        load8(x + at, inputs[c]);
        load8(dy + at, grads[c]);
        load8(dx + at, residual[c]);
    }
    float scale = rstd[row];
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        struct row_piece piece = row_piece_at(c, cols);
        float g[8];
        load8(gain + piece.from, g);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            grads[c][i] *= g[i];
            sum += piece.exists ? grads[c][i] * inputs[c][i] : 0.0f;
        }
    }
    float along = warp_sum(sum) * scale * scale / static_cast<float>(cols);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        struct row_piece piece = row_piece_at(c, cols);
#pragma unroll
        for (int i = 0; i < 8; i++)
            residual[c][i] += scale * (grads[c][i] - inputs[c][i] * along);
        if (piece.exists) store8(dx + row * cols + piece.from, residual[c]);
    }
}

/* Any width: one block a row, two passes over memory. */
template <typename T>
__global__ void rmsnorm_forward_wide_kernel(int32_t cols, const T *x, const float *gain, float epsilon, T *y,
                                            float *rstd) {
    __shared__ float room[32];
    int64_t start = static_cast<int64_t>(blockIdx.x) * cols;
    float sum = 0;
    for (int32_t col = static_cast<int32_t>(threadIdx.x); col < cols; col += static_cast<int32_t>(blockDim.x))
        sum += to_float(x[start + col]) * to_float(x[start + col]);
    float scale = rsqrtf(block_sum(sum, room) / static_cast<float>(cols) + epsilon);
    for (int32_t col = static_cast<int32_t>(threadIdx.x); col < cols; col += static_cast<int32_t>(blockDim.x))
        y[start + col] = from_float<T>(to_float(x[start + col]) * scale * gain[col]);
    if (threadIdx.x == 0 && rstd != nullptr) rstd[blockIdx.x] = scale;
}

template <typename T>
__global__ void rmsnorm_backward_wide_kernel(int32_t cols, const T *dy, const T *x, const float *gain,
                                             const float *rstd, T *dx) {
    __shared__ float room[32];
    int64_t start = static_cast<int64_t>(blockIdx.x) * cols;
    float sum = 0, scale = rstd[blockIdx.x];
    for (int32_t col = static_cast<int32_t>(threadIdx.x); col < cols; col += static_cast<int32_t>(blockDim.x))
        sum += to_float(dy[start + col]) * gain[col] * to_float(x[start + col]);
    float along = block_sum(sum, room) * scale * scale / static_cast<float>(cols);
    for (int32_t col = static_cast<int32_t>(threadIdx.x); col < cols; col += static_cast<int32_t>(blockDim.x)) {
        float grad = to_float(dy[start + col]) * gain[col];
        float change = scale * (grad - to_float(x[start + col]) * along);
        dx[start + col] = from_float<T>(to_float(dx[start + col]) + change);
    }
}

template <typename T>
static void forward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                    const float *gain, float epsilon, void *y, float *rstd) {
    const char *name = "rmsnorm_forward";
    const T *in = static_cast<const T *>(x);
    T *out = static_cast<T *>(y);
    unsigned blocks = static_cast<unsigned>(ceil_div(layout->n_rows, ROW_WARPS));
    if (cols % 8 != 0 || cols > 2048)
        kernel_launch(device, name, rmsnorm_forward_wide_kernel<T>, layout->n_rows, 256, 0, cols, in, gain, epsilon,
                      out, rstd);
    else if (cols <= 256)
        kernel_launch(device, name, rmsnorm_forward_kernel<T, 1>, blocks, ROW_WARPS * 32, 0, layout->n_rows, cols, in,
                      gain, epsilon, out, rstd);
    else if (cols <= 1024)
        kernel_launch(device, name, rmsnorm_forward_kernel<T, 4>, blocks, ROW_WARPS * 32, 0, layout->n_rows, cols, in,
                      gain, epsilon, out, rstd);
    else
        kernel_launch(device, name, rmsnorm_forward_kernel<T, 8>, blocks, ROW_WARPS * 32, 0, layout->n_rows, cols, in,
                      gain, epsilon, out, rstd);
}

void cuda_rmsnorm_forward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                          const float *gain, float epsilon, void *y, float *rstd) {
    device_select(device);
    LVS_BY_PRECISION(device, forward, layout, cols, x, gain, epsilon, y, rstd);
}

template <typename T>
static void backward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *dy,
                     const void *x, const float *gain, const float *rstd, void *dx) {
    const char *name = "rmsnorm_backward";
    const T *grad = static_cast<const T *>(dy), *in = static_cast<const T *>(x);
    T *out = static_cast<T *>(dx);
    unsigned blocks = static_cast<unsigned>(ceil_div(layout->n_rows, ROW_WARPS));
    if (cols % 8 != 0 || cols > 2048)
        kernel_launch(device, name, rmsnorm_backward_wide_kernel<T>, layout->n_rows, 256, 0, cols, grad, in, gain, rstd,
                      out);
    else if (cols <= 256)
        kernel_launch(device, name, rmsnorm_backward_kernel<T, 1>, blocks, ROW_WARPS * 32, 0, layout->n_rows, cols,
                      grad, in, gain, rstd, out);
    else if (cols <= 1024)
        kernel_launch(device, name, rmsnorm_backward_kernel<T, 4>, blocks, ROW_WARPS * 32, 0, layout->n_rows, cols,
                      grad, in, gain, rstd, out);
    else
        kernel_launch(device, name, rmsnorm_backward_kernel<T, 8>, blocks, ROW_WARPS * 32, 0, layout->n_rows, cols,
                      grad, in, gain, rstd, out);
}

void cuda_rmsnorm_backward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *dy,
                           const void *x, const float *gain, const float *rstd, void *dx) {
    device_select(device);
    LVS_BY_PRECISION(device, backward, layout, cols, dy, x, gain, rstd, dx);
}
