/* h = silu(gate)·up and its gradient, eight columns a thread. */
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

#define SWIGLU_THREADS 256

__device__ __forceinline__ float sigmoid(float x) {
    return 1.0f / (1.0f + __expf(-x));
}

template <typename T>
__global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_forward_kernel(int64_t count, int32_t width, const T *gate_up, T *h) {
    uint32_t piece = blockIdx.x * SWIGLU_THREADS + threadIdx.x, pieces = static_cast<uint32_t>(width) / 8;
    int64_t i = static_cast<int64_t>(piece) * 8;
    if (i >= count) return;
    int64_t row = piece / pieces, col = i - row * width;
    float gate[8], up[8];
    load8(gate_up + row * 2 * width + col, gate);
    load8(gate_up + row * 2 * width + width + col, up);
#pragma unroll
    for (int j = 0; j < 8; j++)
        up[j] *= gate[j] * sigmoid(gate[j]);
    store8(h + i, up);
}

template <typename T>
__global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_backward_kernel(int64_t count, int32_t width, const T *gate_up, const T *dh, T *d_gate_up) {
    uint32_t piece = blockIdx.x * SWIGLU_THREADS + threadIdx.x, pieces = static_cast<uint32_t>(width) / 8;
    int64_t i = static_cast<int64_t>(piece) * 8;
    if (i >= count) return;
    int64_t row = piece / pieces, col = i - row * width, place = row * 2 * width + col;
    float gate[8], up[8], grad[8];
    load8(gate_up + place, gate);
    load8(gate_up + place + width, up);
    load8(dh + i, grad);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        float s = sigmoid(gate[j]), silu = gate[j] * s;
        gate[j] = grad[j] * up[j] * (s + silu * (1.0f - s));
        up[j] = grad[j] * silu;
    }
    store8(d_gate_up + place, gate);
    store8(d_gate_up + place + width, up);
}

/* Widths that are no multiple of 8. */
template <typename T> __global__ void swiglu_forward_odd_kernel(int64_t count, int32_t width, const T *gate_up, T *h) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int64_t place = i / width * 2 * width + i % width;
    float gate = to_float(gate_up[place]);
    h[i] = from_float<T>(to_float(gate_up[place + width]) * gate * sigmoid(gate));
}

template <typename T>
__global__ void swiglu_backward_odd_kernel(int64_t count, int32_t width, const T *gate_up, const T *dh, T *d_gate_up) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int64_t place = i / width * 2 * width + i % width;
    float gate = to_float(gate_up[place]), up = to_float(gate_up[place + width]), grad = to_float(dh[i]);
    float s = sigmoid(gate), silu = gate * s;
    d_gate_up[place] = from_float<T>(grad * up * (s + silu * (1.0f - s)));
    d_gate_up[place + width] = from_float<T>(grad * silu);
}

template <typename T>
static void forward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                    void *h) {
    int64_t count = static_cast<int64_t>(layout->n_rows) * width;
    bool even = width % 8 == 0;
    kernel_launch(device, "swiglu_forward", even ? swiglu_forward_kernel<T> : swiglu_forward_odd_kernel<T>,
                  static_cast<unsigned>(ceil_div(count, SWIGLU_THREADS * (even ? 8 : 1))), SWIGLU_THREADS, 0, count,
                  width, static_cast<const T *>(gate_up), static_cast<T *>(h));
}

void cuda_swiglu_forward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                         void *h) {
    device_select(device);
    LVS_BY_PRECISION(device, forward, layout, width, gate_up, h);
}

template <typename T>
static void backward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                     const void *dh, void *d_gate_up) {
    int64_t count = static_cast<int64_t>(layout->n_rows) * width;
    bool even = width % 8 == 0;
    kernel_launch(device, "swiglu_backward", even ? swiglu_backward_kernel<T> : swiglu_backward_odd_kernel<T>,
                  static_cast<unsigned>(ceil_div(count, SWIGLU_THREADS * (even ? 8 : 1))), SWIGLU_THREADS, 0, count,
                  width, static_cast<const T *>(gate_up), static_cast<const T *>(dh), static_cast<T *>(d_gate_up));
}

void cuda_swiglu_backward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                          const void *dh, void *d_gate_up) {
    device_select(device);
    LVS_BY_PRECISION(device, backward, layout, width, gate_up, dh, d_gate_up);
}
