/* Attention's entry: the tensor-core kernels for bf16 and head sizes 64 and 128, the plain ones otherwise; keys and
 * values into the cache; and the row sums that the backward kernels need. */
#include <cmath>

#include "attention.cuh"

struct attention_map attention_map_make(const struct pack_layout *layout, const struct attention_shape *shape) {
    struct attention_map map = {};
    map.n_slots = layout->n_slots, map.n_sequences = layout->n_sequences, map.context = layout->context;
    map.slot_rows = layout->slot_rows, map.n_rows = layout->n_rows;
    map.n_heads = shape->n_heads, map.n_kv_heads = shape->n_kv_heads, map.head_size = shape->head_size;
    map.group = shape->n_heads / shape->n_kv_heads;
    map.width = attention_qkv_width(shape);
    map.scale = 1.0f / std::sqrt(static_cast<float>(shape->head_size));
    return map;
}

static bool is_flash(const struct device *device, const struct attention_map *map) {
    return device->precision == PRECISION_KIND_BF16 && (map->head_size == 64 || map->head_size == 128);
}

void cuda_attention_forward(struct device *device, const struct pack_layout *layout,
                            const struct attention_shape *shape, const void *qkv, void *out, float *lse) {
    device_select(device);
    struct attention_map map = attention_map_make(layout, shape);
    if (is_flash(device, &map))
        attention_forward_flash(device, &map, qkv, out, lse);
    else
        attention_forward_generic(device, &map, qkv, out, lse);
}

void cuda_attention_backward(struct device *device, const struct pack_layout *layout,
                             const struct attention_shape *shape, const void *qkv, const void *out, const float *lse,
                             const void *dout, void *dqkv) {
    device_select(device);
    struct attention_map map = attention_map_make(layout, shape);
    if (is_flash(device, &map))
        attention_backward_flash(device, &map, qkv, out, lse, dout, dqkv);
    else
        attention_backward_generic(device, &map, qkv, out, lse, dout, dqkv);
}

/* A warp a (row, head). */
template <typename T>
__global__ void delta_kernel(struct attention_map map, const T *out, const T *dout, float *delta) {
    int64_t pair = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    if (pair >= static_cast<int64_t>(map.n_rows) * map.n_heads) return;
    float sum = 0;
    for (int32_t i = static_cast<int32_t>(threadIdx.x) % 32; i < map.head_size; i += 32)
        sum += to_float(out[pair * map.head_size + i]) * to_float(dout[pair * map.head_size + i]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[pair] = sum;
}

template <typename T>
static void delta_run(struct device *device, const struct attention_map *map, const void *out, const void *dout,
                      float *delta) {
    int64_t warps = static_cast<int64_t>(map->n_rows) * map->n_heads;
    kernel_launch(device, "attention_delta", delta_kernel<T>, static_cast<unsigned>(ceil_div(warps, 4)), 128, 0, *map,
                  static_cast<const T *>(out), static_cast<const T *>(dout), delta);
}

void attention_delta(struct device *device, const struct attention_map *map, const void *out, const void *dout,
                     float *delta) {
    LVS_BY_PRECISION(device, delta_run, map, out, dout, delta);
}

/* Eight columns of a head a piece, LANES pieces a head; a thread takes a few pieces, their loads together. */
#define SUMS_THREADS 256
#define SUMS_PIECES  2
template <int LANES>
__global__ void query_sums_kernel(struct attention_map map, const bf16 *out, const bf16 *dout, const float *lse,
                                  float *sums) {
    int64_t pairs = static_cast<int64_t>(map.n_rows) * map.n_heads;
    int64_t first = static_cast<int64_t>(blockIdx.x) * (SUMS_THREADS * SUMS_PIECES) + threadIdx.x;
    uint4 a[SUMS_PIECES], b[SUMS_PIECES];
    float log_sum[SUMS_PIECES];
#pragma unroll
    for (int k = 0; k < SUMS_PIECES; k++) {
        int64_t at = first + k * SUMS_THREADS;
        bool exists = at / LANES < pairs;
        a[k] = b[k] = make_uint4(0, 0, 0, 0), log_sum[k] = 0;
        if (exists) a[k] = reinterpret_cast<const uint4 *>(out)[at], b[k] = reinterpret_cast<const uint4 *>(dout)[at];
        if (exists && at % LANES == 0) log_sum[k] = lse[at / LANES];
    }
#pragma unroll
    for (int k = 0; k < SUMS_PIECES; k++) {
        int64_t at = first + k * SUMS_THREADS, pair = at / LANES;
        float x[8], y[8], delta = 0;
        unpack8(a[k], x);
        unpack8(b[k], y);
#pragma unroll
        for (int i = 0; i < 8; i++)
            delta += x[i] * y[i];
#pragma unroll
        for (int offset = LANES / 2; offset > 0; offset /= 2)
            delta += __shfl_xor_sync(0xffffffffu, delta, offset);
        if (pair >= pairs || at % LANES != 0) continue;
        float *target = sums + pair % map.n_heads * map.n_rows + pair / map.n_heads;
        target[0] = log_sum[k] * LOG2_E;
        target[pairs] = delta;
    }
}

void attention_query_sums(struct device *device, const struct attention_map *map, const void *out, const void *dout,
                          const float *lse, float *sums) {
    int64_t pieces = static_cast<int64_t>(map->n_rows) * map->n_heads * (map->head_size / 8);
    kernel_launch(device, "attention_delta", map->head_size == 64 ? query_sums_kernel<8> : query_sums_kernel<16>,
                  static_cast<unsigned>(ceil_div(pieces, SUMS_THREADS * SUMS_PIECES)), SUMS_THREADS, 0, *map,
                  static_cast<const bf16 *>(out), static_cast<const bf16 *>(dout), lse, sums);
}

/* One block a row. */
template <typename T>
__global__ void kv_store_kernel(struct attention_map map, const T *qkv, T *k, T *v, int32_t capacity) {
    int64_t row = blockIdx.x;
    int32_t position = row_position(map, row), kv_width = map.n_kv_heads * map.head_size;
    if (position < 0) return;
    int64_t slot = row / map.slot_rows, sequence = slot * map.n_sequences + row % map.slot_rows / map.context;
    const T *source = qkv + row * map.width + map.n_heads * map.head_size;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < kv_width; i += static_cast<int32_t>(blockDim.x)) {
        int64_t head = sequence * map.n_kv_heads + i / map.head_size;
        int64_t target = (head * capacity + position) * map.head_size + i % map.head_size;
        k[target] = source[i];
        v[target] = source[kv_width + i];
    }
}

template <typename T>
static void kv_store(struct device *device, const struct attention_map *map, const void *qkv,
                     const struct kv_cache_layer *cache) {
    kernel_launch(device, "kv_store", kv_store_kernel<T>, map->n_rows, 128, 0, *map, static_cast<const T *>(qkv),
                  static_cast<T *>(cache->k), static_cast<T *>(cache->v), cache->capacity);
}

void cuda_kv_store(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                   const void *qkv, const struct kv_cache_layer *cache) {
    assert(layout->context <= cache->capacity);
    device_select(device);
    struct attention_map map = attention_map_make(layout, shape);
    LVS_BY_PRECISION(device, kv_store, &map, qkv, cache);
}
