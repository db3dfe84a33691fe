/* Gradients of adapters from partial sums, added in a fixed order that does not know the pack. */
#include "lora.cuh"

#define REDUCE_ELEMENTS 32
#define REDUCE_GROUPS   8

struct lora_segments lora_segments_a(const struct lora_group *group) {
    struct lora_segments segments = {};
    for (int32_t s = 0; s < group->n; s++) {
        segments.from[s] = segments.total;
        segments.to[s] = group->site[s].a_offset;
        segments.count[s] = static_cast<int64_t>(group->site[s].rank) * group->site[s].n_in;
        segments.total += segments.count[s];
    }
    segments.n = group->n;
    return segments;
}

struct lora_segments lora_segments_b(const struct lora_group *group) {
    struct lora_segments segments = {};
    for (int32_t s = 0; s < group->n; s++) {
        segments.from[s] = segments.total;
        segments.to[s] = group->site[s].b_offset;
        segments.count[s] = static_cast<int64_t>(group->site[s].rank) * group->site[s].n_out;
        segments.total += segments.count[s];
    }
    segments.n = group->n;
    return segments;
}

float *lora_partial_take(struct device *device, const struct pack_layout *layout, const struct lora_segments *segments,
                         const char *what) {
    size_t count = static_cast<size_t>(layout->n_slots) * static_cast<size_t>(lora_partials(layout));
    return static_cast<float *>(
        scratch_take(device, SCRATCH_LORA, count * static_cast<size_t>(segments->total) * sizeof(float), what));
}

/* Grid: (elements, slots). A block's groups of threads each add a stretch of the partials, then the stretches are added
 * in order. */
__global__ void __launch_bounds__(REDUCE_ELEMENTS *REDUCE_GROUPS)
    lora_reduce_kernel(const int32_t *adapter_of, float *grads, int64_t stride, struct lora_segments segments,
                       int32_t n_partials, const float *partial) {
    __shared__ float room[REDUCE_GROUPS][REDUCE_ELEMENTS];
    int32_t group = static_cast<int32_t>(threadIdx.y);
    int64_t element = static_cast<int64_t>(blockIdx.x) * REDUCE_ELEMENTS + threadIdx.x;
    int32_t length = (n_partials + REDUCE_GROUPS - 1) / REDUCE_GROUPS;
    int32_t first = group * length, end = min(first + length, n_partials);
    const float *source = partial + static_cast<int64_t>(blockIdx.y) * n_partials * segments.total + element;
    float sum = 0;
    if (element < segments.total) {
#pragma unroll 8
        for (int32_t i = first; i < end; i++)
            sum += source[i * segments.total];
    }
    room[group][threadIdx.x] = sum;
    __syncthreads();
    if (group != 0 || element >= segments.total) return;
#pragma unroll
    for (int g = 1; g < REDUCE_GROUPS; g++)
        sum += room[g][threadIdx.x];
    float *target = grads + adapter_of[blockIdx.y] * stride;
#pragma unroll
    for (int32_t s = 0; s < LVS_MAX_SITES; s++) {
        int64_t at = element - segments.from[s];
        if (s < segments.n && at >= 0 && at < segments.count[s]) target[segments.to[s] + at] = sum;
    }
}

void lora_reduce(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                 const struct lora_segments *segments, const float *partial) {
    dim3 grid(static_cast<unsigned>(ceil_div(segments->total, REDUCE_ELEMENTS)),
              static_cast<unsigned>(layout->n_slots));
    dim3 block(REDUCE_ELEMENTS, REDUCE_GROUPS);
    kernel_launch(device, "lora_reduce", lora_reduce_kernel, grid, block, 0, layout->adapter, adapters->grads,
                  adapters->stride, *segments, lora_partials(layout), partial);
}

bool lora_is_fused_b(const struct device *device, const struct adapters *adapters, const struct lora_group *group) {
    if (device->precision != PRECISION_KIND_BF16 || adapters->stride % 4 != 0) return false;
    for (int32_t s = 0; s < group->n; s++) {
        const struct lora_site *site = &group->site[s];
        bool rank_fits = site->rank == 2 || site->rank == 4 || site->rank == 8 || site->rank == 16;
        if (!rank_fits || site->a_offset % 4 != 0 || site->b_offset % 4 != 0) return false;
        if (site->n_in != group->site[0].n_in || site->rank != group->site[0].rank) return false;
    }
    return true;
}

bool lora_is_fused_a(const struct device *device, const struct adapters *adapters, const struct lora_group *group) {
    return adapters->dropout == nullptr && lora_is_fused_b(device, adapters, group);
}
