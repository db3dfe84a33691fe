/* The fused projection's end in one pass, bf16: bias, the B side of LoRA, and rotary positions, in place. A thread owns
 * two columns of a head's first half and their partners in the second half, with their rows of B in registers, and goes
 * over the rows of its block. Other shapes are composed from the plain kernels. */
#include "lora.cuh"

#define FINISH_ROWS 8 /* rows a block … */
#define BATCH_ROWS  4 /* … and so many on their way at once */

struct finish_arrays {
    const float *params, *scale, *xa, *bias;
    int64_t stride;
    bf16 *qkv;
    int32_t width;
};

/* A column's row of B, times the adapter's scale. */
template <int RANK> __device__ __forceinline__ void b_load(const float *b, float scale, float out[RANK]) {
#pragma unroll
    for (int r = 0; r < RANK; r += 2) {
        float2 two = *reinterpret_cast<const float2 *>(b + r);
        out[r] = scale * two.x, out[r + 1] = scale * two.y;
    }
}
template <int RANK> __device__ __forceinline__ float b_times(const float b[RANK], const float *xa) {
    float sum = 0;
#pragma unroll
    for (int r = 0; r < RANK; r++)
        sum += b[r] * xa[r];
    return sum;
}

/* Where B's row of column `col` begins in an adapter; by comparison, so that the group stays in parameter memory. */
__device__ __forceinline__ int64_t site_b(const struct lora_group &group, int32_t site, int32_t col, int32_t rank) {
    int64_t place = 0;
#pragma unroll
    for (int32_t s = 0; s < LVS_MAX_SITES; s++)
        if (s == site) place = group.site[s].b_offset + static_cast<int64_t>(col - group.site[s].column) * rank;
    return place;
}

/* Which pair's columns hold `col`; −1 for none. */
__device__ __forceinline__ int32_t site_of(const struct lora_group &group, int32_t col) {
    int32_t found = -1;
#pragma unroll
    for (int32_t s = 0; s < LVS_MAX_SITES; s++)
        if (s < group.n && col >= group.site[s].column && col < group.site[s].column + group.site[s].n_out) found = s;
    return found;
}

template <int RANK>
__global__ void __launch_bounds__(768)
    qkv_finish_kernel(struct row_map map, struct attention_shape shape, struct lora_group group,
                      struct rope_tables rope, struct finish_arrays arrays) {
    __shared__ float xa[FINISH_ROWS * LVS_MAX_SITES * RANK];
    int32_t half = shape.head_size / 2, thread = static_cast<int32_t>(threadIdx.x);
    int32_t head = thread * 2 / half, in_head = thread * 2 % half, columns = group.n * RANK;
    int32_t first = head * shape.head_size + in_head, second = first + half, s = site_of(group, first);
    int64_t row0 = static_cast<int64_t>(blockIdx.x) * FINISH_ROWS;
    for (int32_t at = thread; at < FINISH_ROWS * columns; at += static_cast<int32_t>(blockDim.x))
        xa[at] = arrays.xa[row0 * columns + at];
    float b[4][RANK] = {};
    float2 bias_low = make_float2(0, 0), bias_high = bias_low;
    bool exists = thread < arrays.width / 4;
    if (exists && s >= 0) {
        int32_t adapter = map.adapter[row0 / map.slot_rows];
        float scale = arrays.scale[adapter];
        const float *source = arrays.params + adapter * arrays.stride + site_b(group, s, first, RANK);
        b_load<RANK>(source, scale, b[0]);
        b_load<RANK>(source + RANK, scale, b[1]);
        b_load<RANK>(source + static_cast<int64_t>(half) * RANK, scale, b[2]);
        b_load<RANK>(source + static_cast<int64_t>(half + 1) * RANK, scale, b[3]);
    }
    if (exists && arrays.bias != nullptr) {
        bias_low = make_float2(arrays.bias[first], arrays.bias[first + 1]);
        bias_high = make_float2(arrays.bias[second], arrays.bias[second + 1]);
    }
    __syncthreads();
    if (!exists) return;
    bool turned = head < shape.n_heads + shape.n_kv_heads;
    const float *own = xa + (s >= 0 ? s : 0) * RANK;
#pragma unroll 1
    for (int32_t start = 0; start < FINISH_ROWS; start += BATCH_ROWS) {
        bf16 *base = arrays.qkv + (row0 + start) * arrays.width;
        uint32_t low[BATCH_ROWS], high[BATCH_ROWS];
        float2 cosine[BATCH_ROWS], sine[BATCH_ROWS];
#pragma unroll
        for (int i = 0; i < BATCH_ROWS; i++) {
            low[i] = *reinterpret_cast<const uint32_t *>(base + i * arrays.width + first);
            high[i] = *reinterpret_cast<const uint32_t *>(base + i * arrays.width + second);
            cosine[i] = make_float2(1, 1), sine[i] = make_float2(0, 0);
            if (!turned) continue;
            int64_t place = static_cast<int64_t>(rope.position[row0 + start + i]) * half + in_head;
            cosine[i] = *reinterpret_cast<const float2 *>(rope.cosine + place);
            sine[i] = *reinterpret_cast<const float2 *>(rope.sine + place);
        }
#pragma unroll
        for (int i = 0; i < BATCH_ROWS; i++) {
            float2 x = unpack_bf16(low[i]), y = unpack_bf16(high[i]);
            x.x += bias_low.x, x.y += bias_low.y, y.x += bias_high.x, y.y += bias_high.y;
            if (s >= 0) {
                const float *inner = own + (start + i) * columns;
                x.x += b_times<RANK>(b[0], inner), x.y += b_times<RANK>(b[1], inner);
                y.x += b_times<RANK>(b[2], inner), y.y += b_times<RANK>(b[3], inner);
            }
            *reinterpret_cast<uint32_t *>(base + i * arrays.width + first) =
                pack_bf16(x.x * cosine[i].x - y.x * sine[i].x, x.y * cosine[i].y - y.y * sine[i].y);
            *reinterpret_cast<uint32_t *>(base + i * arrays.width + second) =
                pack_bf16(y.x * cosine[i].x + x.x * sine[i].x, y.y * cosine[i].y + x.y * sine[i].y);
        }
    }
}

/* Every pair covers whole heads, so that a thread's columns belong to one pair. */
static bool sites_fit(const struct attention_shape *shape, const struct lora_group *group) {
    for (int32_t s = 0; s < group->n; s++)
        if (group->site[s].column % shape->head_size != 0 || group->site[s].n_out % shape->head_size != 0) return false;
    return true;
}

template <int RANK>
static void launch(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                   const struct lora_group *group, const struct rope_tables *rope, const struct finish_arrays *arrays) {
    int32_t threads = arrays->width / 4;
    kernel_launch(device, "qkv_finish", qkv_finish_kernel<RANK>, layout->n_rows / FINISH_ROWS, (threads + 31) / 32 * 32,
                  0, row_map_make(layout), *shape, *group, *rope, *arrays);
}

void cuda_qkv_finish(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                     const struct adapters *adapters, const struct lora_group *group, const float *xa,
                     const float *bias, const struct rope_tables *rope, void *qkv) {
    device_select(device);
    int32_t width = attention_qkv_width(shape);
    bool fused = shape->head_size % 4 == 0 && width / 4 <= 512 && sites_fit(shape, group) &&
                 device->precision == PRECISION_KIND_BF16 &&
                 (group->n == 0 || lora_is_fused(device, adapters, group));
    if (!fused) {
        cuda_lora_b_forward(device, layout, adapters, group, xa, width, qkv);
        cuda_qkv_bias_rope(device, layout, shape, bias, rope, qkv);
        return;
    }
    struct finish_arrays arrays = {};
    if (group->n > 0)
        arrays.params = adapters->params, arrays.scale = adapters->scale, arrays.stride = adapters->stride;
    arrays.xa = xa, arrays.bias = bias, arrays.qkv = static_cast<bf16 *>(qkv), arrays.width = width;
    if (group->n == 0 || group->site[0].rank == 8)
        launch<8>(device, layout, shape, group, rope, &arrays);
    else
        launch<16>(device, layout, shape, group, rope, &arrays);
}
