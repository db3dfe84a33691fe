/* RMSNorm forward and backward, one warp a row: the row stays in registers between the sum and the write. Rows whose
 * width is no multiple of 8, or too wide for registers, take a block a row. Not here: the variants fused with LoRA. */
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

#define ROW_WARPS 4 /* rows a block */

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
    for (int c = 0; c < CHUNKS; c++) {
        int32_t col = (c * 32 + lane) * 8;
        if (col >= cols) continue;
        load8(x + row * cols + col, values[c]);
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum += values[c][i] * values[c][i];
    }
    float scale = rsqrtf(warp_sum(sum) / static_cast<float>(cols) + epsilon);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        int32_t col = (c * 32 + lane) * 8;
        if (col >= cols) continue;
        float g[8];
        load8(gain + col, g);
#pragma unroll
        for (int i = 0; i < 8; i++)
            g[i] *= values[c][i] * scale;
        store8(y + row * cols + col, g);
    }
    if (lane == 0 && rstd != nullptr) rstd[row] = scale;
}

template <typename T, int CHUNKS>
__global__ void __launch_bounds__(ROW_WARPS * 32)
    rmsnorm_backward_kernel(int32_t n_rows, int32_t cols, const T *dy, const T *x, const float *gain, const float *rstd,
                            T *dx) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
    int64_t row = static_cast<int64_t>(blockIdx.x) * ROW_WARPS + threadIdx.x / 32;
    if (row >= n_rows) return;
    float inputs[CHUNKS][8], grads[CHUNKS][8], residual[CHUNKS][8], sum = 0;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        int32_t col = (c * 32 + lane) * 8;
        if (col >= cols) continue;
        float g[8];
        load8(x + row * cols + col, inputs[c]);
        load8(dy + row * cols + col, grads[c]);
        load8(dx + row * cols + col, residual[c]);
        load8(gain + col, g);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            grads[c][i] *= g[i];
            sum += grads[c][i] * inputs[c][i];
        }
    }
    float scale = rstd[row];
    float along = warp_sum(sum) * scale * scale / static_cast<float>(cols);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        int32_t col = (c * 32 + lane) * 8;
        if (col >= cols) continue;
#pragma unroll
        for (int i = 0; i < 8; i++)
            residual[c][i] += scale * (grads[c][i] - inputs[c][i] * along);
        store8(dx + row * cols + col, residual[c]);
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
