/* One Adam step of every adapter of a pack: the gradient's norm in a fixed order, clipping, update. Two launches, no
 * atomics; all constants are read on the device, so a recorded step needs no change between replays. */
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

#define ADAM_THREADS 256
#define ADAM_PIECE   (ADAM_THREADS * 8) /* parameters a block */

__global__ void gradient_norm_kernel(const int32_t *adapter_of, const float *grads, int64_t stride, int64_t n_params,
                                     double *partial) {
    __shared__ double room[ADAM_THREADS];
    const float *g = grads + adapter_of[blockIdx.y] * stride;
    double sum = 0;
    for (int i = 0; i < 8; i++) {
        int64_t at = static_cast<int64_t>(blockIdx.x) * ADAM_PIECE + i * ADAM_THREADS + threadIdx.x;
        if (at < n_params) sum += static_cast<double>(g[at]) * static_cast<double>(g[at]);
    }
    room[threadIdx.x] = sum;
    for (int half = ADAM_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half) room[threadIdx.x] += room[threadIdx.x + half];
    }
    if (threadIdx.x == 0) partial[static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] = room[0];
}

struct adam_constants {
    float rate, root_correction, clip;
    struct optimizer_settings settings;
};

/* Thread 0's work: the norm from the pieces in order, bias corrections in double. */
__device__ void constants_make(const struct optimizer_call &call, int32_t adapter, int32_t step, double norm,
                               struct adam_constants *out) {
    out->settings = call.settings[adapter];
    double rate = static_cast<double>(call.learning_rate[static_cast<int64_t>(adapter) * call.table_stride + step]);
    double first = 1.0 - pow(static_cast<double>(out->settings.beta1), step + 1.0);
    double second = 1.0 - pow(static_cast<double>(out->settings.beta2), step + 1.0);
    out->rate = static_cast<float>(rate / first);
    out->root_correction = static_cast<float>(sqrt(second));
    double limit = static_cast<double>(out->settings.clip_norm);
    double factor = limit > 0 ? limit / (norm + 1e-6) : 1.0;
    out->clip = factor < 1.0 || isnan(factor) ? static_cast<float>(factor) : 1.0f;
}

__device__ __forceinline__ void parameter_update(const struct adam_constants &c, float full_rate, float gradient,
                                                 float *p, float *m, float *v) {
    float decay = c.settings.weight_decay, g = gradient * c.clip;
    if (c.settings.decoupled != 0)
        *p *= 1.0f - full_rate * decay;
    else
        g += decay * *p;
    *m = *m + (g - *m) * (1.0f - c.settings.beta1);
    *v = *v * c.settings.beta2 + (1.0f - c.settings.beta2) * g * g;
    *p -= c.rate * (*m / (sqrtf(*v) / c.root_correction + c.settings.epsilon));
}

__global__ void adam_kernel(const int32_t *adapter_of, struct adapters adapters, struct optimizer_call call,
                            const double *partial) {
    __shared__ double room[ADAM_THREADS];
    __shared__ struct adam_constants constants;
    int32_t adapter = adapter_of[blockIdx.y], step = adapters.step[adapter];
    double sum = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += ADAM_THREADS)
        sum += partial[static_cast<int64_t>(blockIdx.y) * gridDim.x + i];
    room[threadIdx.x] = sum;
    for (int half = ADAM_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (static_cast<int>(threadIdx.x) < half) room[threadIdx.x] += room[threadIdx.x + half];
    }
    if (threadIdx.x == 0) {
        double norm = sqrt(room[0]);
        constants_make(call, adapter, step, norm, &constants);
        if (blockIdx.x == 0 && call.gradient_norm != nullptr)
            call.gradient_norm[static_cast<int64_t>(adapter) * call.table_stride + step] = static_cast<float>(norm);
    }
    __syncthreads();
    float full_rate = call.learning_rate[static_cast<int64_t>(adapter) * call.table_stride + step];
    int64_t base = adapter * adapters.stride;
    for (int i = 0; i < 8; i++) {
        int64_t at = static_cast<int64_t>(blockIdx.x) * ADAM_PIECE + i * ADAM_THREADS + threadIdx.x;
        if (at >= call.n_params) break;
        parameter_update(constants, full_rate, adapters.grads[base + at], adapters.params + base + at,
                         call.m + base + at, call.v + base + at);
    }
}

void cuda_adam(struct device *device, const struct pack_layout *layout, const struct optimizer_call *call) {
    device_select(device);
    lora_reduce_finish(device);
    unsigned pieces = static_cast<unsigned>(ceil_div(call->n_params, ADAM_PIECE));
    dim3 grid(pieces, static_cast<unsigned>(layout->n_slots));
    size_t bytes = static_cast<size_t>(pieces) * static_cast<size_t>(layout->n_slots) * sizeof(double);
    double *partial = static_cast<double *>(scratch_take(device, SCRATCH_SMALL, bytes, "adam"));
    if (partial == nullptr) return;
    kernel_launch(device, "adam", gradient_norm_kernel, grid, ADAM_THREADS, 0, layout->adapter, call->adapters->grads,
                  call->adapters->stride, call->n_params, partial);
    kernel_launch(device, "adam", adam_kernel, grid, ADAM_THREADS, 0, layout->adapter, *call->adapters, *call, partial);
}
