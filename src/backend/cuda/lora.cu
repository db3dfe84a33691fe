/* LoRA pairs for any width and rank, with and without dropout: plain kernels in fixed order. They serve fp32, and bf16
 * where the fused kernels (rmsnorm_lora.cu, qkv_finish.cu) do not fit. */
#include "lora.cuh"

#define LORA_THREADS 128

/* One block a row, one warp a column of xa. */
template <typename T>
__global__ void lora_a_forward_kernel(struct row_map rows, struct adapters adapters, struct lora_group group,
                                      const T *x, float *xa) {
    int32_t row = static_cast<int32_t>(blockIdx.x), lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t adapter = rows.adapter[row / rows.slot_rows], rank = group.site[0].rank, columns = group.n * rank;
    float probability = dropout_probability(adapters, adapter);
    for (int32_t c = static_cast<int32_t>(threadIdx.x) / 32; c < columns; c += LORA_THREADS / 32) {
        const struct lora_site &site = group.site[c / rank];
        const float *a =
            adapters.params + adapter * adapters.stride + site.a_offset + static_cast<int64_t>(c % rank) * site.n_in;
        const T *values = x + static_cast<int64_t>(row) * site.n_in;
        struct dropout_state state = {};
        if (probability > 0) state = dropout_make(adapters, adapter, site.site_id, probability);
        float sum = 0;
        for (int32_t k = lane; k < site.n_in; k += 32) {
            if (probability > 0 && !dropout_keeps(state, row % rows.slot_rows, k)) continue;
            sum += to_float(values[k]) * a[k];
        }
        sum = warp_sum(sum);
        if (probability > 0) sum *= state.factor;
        if (lane == 0) xa[static_cast<int64_t>(row) * columns + c] = sum;
    }
}

/* blockIdx.y is the site; a thread an element of the site's columns. */
template <typename T>
__global__ void lora_b_forward_kernel(struct row_map rows, struct adapters adapters, struct lora_group group,
                                      const float *xa, int32_t ld_y, T *y) {
    const struct lora_site &site = group.site[blockIdx.y];
    int32_t row = static_cast<int32_t>(blockIdx.x), adapter = rows.adapter[row / rows.slot_rows];
    const float *b = adapters.params + adapter * adapters.stride + site.b_offset;
    const float *inner =
        xa + static_cast<int64_t>(row) * group.n * site.rank + static_cast<int32_t>(blockIdx.y) * site.rank;
    float scale = adapters.scale[adapter];
    for (int32_t col = static_cast<int32_t>(threadIdx.x); col < site.n_out; col += LORA_THREADS) {
        float sum = 0;
        for (int32_t r = 0; r < site.rank; r++)
            sum += inner[r] * b[static_cast<int64_t>(col) * site.rank + r];
        T *target = y + static_cast<int64_t>(row) * ld_y + site.column + col;
        *target = from_float<T>(to_float(*target) + scale * sum);
    }
}

/* One block a row, one warp a column of t. */
template <typename T>
__global__ void lora_t_kernel(struct row_map rows, struct adapters adapters, struct lora_group group, const T *dy,
                              int32_t ld_dy, float *t) {
    int32_t row = static_cast<int32_t>(blockIdx.x), lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t adapter = rows.adapter[row / rows.slot_rows], rank = group.site[0].rank, columns = group.n * rank;
    for (int32_t c = static_cast<int32_t>(threadIdx.x) / 32; c < columns; c += LORA_THREADS / 32) {
        const struct lora_site &site = group.site[c / rank];
        const float *b = adapters.params + adapter * adapters.stride + site.b_offset + c % rank;
        const T *grad = dy + static_cast<int64_t>(row) * ld_dy + site.column;
        float sum = 0;
        for (int32_t col = lane; col < site.n_out; col += 32)
            sum += to_float(grad[col]) * b[static_cast<int64_t>(col) * rank];
        sum = warp_sum(sum);
        if (lane == 0) t[static_cast<int64_t>(row) * columns + c] = adapters.scale[adapter] * sum;
    }
}

/* blockIdx: (elements of B, site, slot); rows are added one after another in double. */
template <typename T>
__global__ void lora_grad_b_kernel(struct row_map rows, struct adapters adapters, struct lora_group group, const T *dy,
                                   int32_t ld_dy, const float *xa) {
    const struct lora_site &site = group.site[blockIdx.y];
    int32_t element = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x), rank = site.rank;
    if (element >= site.n_out * rank) return;
    int32_t adapter = rows.adapter[blockIdx.z], col = element % site.n_out, r = element / site.n_out;
    int64_t first = static_cast<int64_t>(blockIdx.z) * rows.slot_rows;
    double sum = 0;
    for (int64_t row = first; row < first + rows.slot_rows; row++) {
        float grad = to_float(dy[row * ld_dy + site.column + col]);
        sum += static_cast<double>(grad) * static_cast<double>(xa[(row * group.n + blockIdx.y) * rank + r]);
    }
    float *target = adapters.grads + adapter * adapters.stride + site.b_offset;
    target[static_cast<int64_t>(col) * rank + r] =
        static_cast<float>(static_cast<double>(adapters.scale[adapter]) * sum);
}

/* blockIdx: (elements of A, site, slot). */
template <typename T>
__global__ void lora_grad_a_kernel(struct row_map rows, struct adapters adapters, struct lora_group group,
                                   const float *t, const T *x) {
    const struct lora_site &site = group.site[blockIdx.y];
    int32_t element = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x), rank = site.rank;
    if (element >= site.n_in * rank) return;
    int32_t adapter = rows.adapter[blockIdx.z], col = element % site.n_in, r = element / site.n_in;
    int64_t first = static_cast<int64_t>(blockIdx.z) * rows.slot_rows;
    float probability = dropout_probability(adapters, adapter);
    struct dropout_state state = {};
    if (probability > 0) state = dropout_make(adapters, adapter, site.site_id, probability);
    double sum = 0;
    for (int32_t row = 0; row < rows.slot_rows; row++) {
        if (probability > 0 && !dropout_keeps(state, row, col)) continue;
        float value = to_float(x[(first + row) * site.n_in + col]);
        sum += static_cast<double>(value) * static_cast<double>(t[((first + row) * group.n + blockIdx.y) * rank + r]);
    }
    if (probability > 0) sum *= static_cast<double>(state.factor);
    adapters.grads[adapter * adapters.stride + site.a_offset + static_cast<int64_t>(r) * site.n_in + col] =
        static_cast<float>(sum);
}

/* dx += dropout'(t·A), one block a row. */
template <typename T>
__global__ void lora_dx_kernel(struct row_map rows, struct adapters adapters, struct lora_group group, const float *t,
                               T *dx) {
    int32_t row = static_cast<int32_t>(blockIdx.x), adapter = rows.adapter[row / rows.slot_rows];
    int32_t rank = group.site[0].rank, n_in = group.site[0].n_in;
    float probability = dropout_probability(adapters, adapter);
    const float *inner = t + static_cast<int64_t>(row) * group.n * rank;
    for (int32_t col = static_cast<int32_t>(threadIdx.x); col < n_in; col += LORA_THREADS) {
        float total = 0;
        for (int32_t s = 0; s < group.n; s++) {
            const struct lora_site &site = group.site[s];
            const float *a = adapters.params + adapter * adapters.stride + site.a_offset + col;
            float sum = 0;
            for (int32_t r = 0; r < rank; r++)
                sum += inner[s * rank + r] * a[static_cast<int64_t>(r) * n_in];
            if (probability > 0) {
                struct dropout_state state = dropout_make(adapters, adapter, site.site_id, probability);
                sum = dropout_keeps(state, row % rows.slot_rows, col) ? sum * state.factor : 0.0f;
            }
            total += sum;
        }
        T *target = dx + static_cast<int64_t>(row) * n_in + col;
        *target = from_float<T>(to_float(*target) + total);
    }
}

template <typename T>
static void a_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                      const struct lora_group *group, const void *x, float *xa) {
    kernel_launch(device, "lora_a_forward", lora_a_forward_kernel<T>, layout->n_rows, LORA_THREADS, 0,
                  row_map_make(layout), *adapters, *group, static_cast<const T *>(x), xa);
}

void cuda_lora_a_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                         const struct lora_group *group, const void *x, float *xa) {
    if (group->n == 0) return;
    device_select(device);
    LVS_BY_PRECISION(device, a_forward, layout, adapters, group, x, xa);
}

template <typename T>
static void b_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                      const struct lora_group *group, const float *xa, int32_t ld_y, void *y) {
    dim3 grid(static_cast<unsigned>(layout->n_rows), static_cast<unsigned>(group->n));
    kernel_launch(device, "lora_b_forward", lora_b_forward_kernel<T>, grid, LORA_THREADS, 0, row_map_make(layout),
                  *adapters, *group, xa, ld_y, static_cast<T *>(y));
}

void cuda_lora_b_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                         const struct lora_group *group, const float *xa, int32_t ld_y, void *y) {
    if (group->n == 0) return;
    device_select(device);
    LVS_BY_PRECISION(device, b_forward, layout, adapters, group, xa, ld_y, y);
}

static int32_t largest(const struct lora_group *group, bool outputs) {
    int32_t most = 0;
    for (int32_t s = 0; s < group->n; s++) {
        int32_t n = outputs ? group->site[s].n_out : group->site[s].n_in;
        most = n > most ? n : most;
    }
    return most;
}

template <typename T>
static void b_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                       const struct lora_group *group, const void *dy, int32_t ld_dy, const float *xa, float *t) {
    const T *grad = static_cast<const T *>(dy);
    int64_t elements = static_cast<int64_t>(largest(group, true)) * group->site[0].rank;
    dim3 grid(static_cast<unsigned>(ceil_div(elements, LORA_THREADS)), static_cast<unsigned>(group->n),
              static_cast<unsigned>(layout->n_slots));
    kernel_launch(device, "lora_b_backward", lora_t_kernel<T>, layout->n_rows, LORA_THREADS, 0, row_map_make(layout),
                  *adapters, *group, grad, ld_dy, t);
    kernel_launch(device, "lora_b_backward", lora_grad_b_kernel<T>, grid, LORA_THREADS, 0, row_map_make(layout),
                  *adapters, *group, grad, ld_dy, xa);
}

void cuda_lora_b_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                          const struct lora_group *group, const void *dy, int32_t ld_dy, const float *xa, float *t) {
    if (group->n == 0) return;
    device_select(device);
    LVS_BY_PRECISION(device, b_backward, layout, adapters, group, dy, ld_dy, xa, t);
}

template <typename T>
static void a_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                       const struct lora_group *group, const float *t, const void *x, void *dx) {
    int64_t elements = static_cast<int64_t>(largest(group, false)) * group->site[0].rank;
    dim3 grid(static_cast<unsigned>(ceil_div(elements, LORA_THREADS)), static_cast<unsigned>(group->n),
              static_cast<unsigned>(layout->n_slots));
    kernel_launch(device, "lora_a_backward", lora_grad_a_kernel<T>, grid, LORA_THREADS, 0, row_map_make(layout),
                  *adapters, *group, t, static_cast<const T *>(x));
    kernel_launch(device, "lora_a_backward", lora_dx_kernel<T>, layout->n_rows, LORA_THREADS, 0, row_map_make(layout),
                  *adapters, *group, t, static_cast<T *>(dx));
}

void cuda_lora_a_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                          const struct lora_group *group, const float *t, const void *x, void *dx) {
    if (group->n == 0) return;
    device_select(device);
    if (lora_a_backward_fused(device, layout, adapters, group, t, x, dx)) return;
    LVS_BY_PRECISION(device, a_backward, layout, adapters, group, t, x, dx);
}
