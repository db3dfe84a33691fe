/* Causal attention for any head size up to 256 and both precisions: one warp a row and head, keys one after another.
 * Plain and slow; the reference of the tensor-core kernels on the card. */
#include <cmath>

#include "attention.cuh"

#define GENERIC_WARPS 4
#define LANE_VALUES   8 /* head_size ≤ 32 · LANE_VALUES */

template <typename T> __device__ __forceinline__ void lane_load(const T *source, int32_t size, float out[LANE_VALUES]) {
#pragma unroll
    for (int i = 0; i < LANE_VALUES; i++) {
        int32_t at = i * 32 + static_cast<int32_t>(threadIdx.x) % 32;
        out[i] = at < size ? to_float(source[at]) : 0.0f;
    }
}
template <typename T> __device__ __forceinline__ void lane_store(T *target, int32_t size, const float in[LANE_VALUES]) {
#pragma unroll
    for (int i = 0; i < LANE_VALUES; i++) {
        int32_t at = i * 32 + static_cast<int32_t>(threadIdx.x) % 32;
        if (at < size) target[at] = from_float<T>(in[i]);
    }
}
__device__ __forceinline__ float lane_dot(const float a[LANE_VALUES], const float b[LANE_VALUES]) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < LANE_VALUES; i++)
        sum += a[i] * b[i];
    return warp_sum(sum);
}
__device__ __forceinline__ void lane_add(float target[LANE_VALUES], float factor, const float source[LANE_VALUES]) {
#pragma unroll
    for (int i = 0; i < LANE_VALUES; i++)
        target[i] += factor * source[i];
}

/* The warp's (row, head); false beyond the end. */
__device__ __forceinline__ bool warp_place(const struct attention_map &map, int32_t n_heads, int64_t *row,
                                           int32_t *head) {
    int64_t warp = static_cast<int64_t>(blockIdx.x) * GENERIC_WARPS + threadIdx.x / 32;
    *row = warp / n_heads;
    *head = static_cast<int32_t>(warp % n_heads);
    return *row < map.n_rows;
}

template <typename T>
__global__ void forward_generic_kernel(struct attention_map map, const T *qkv, T *out, float *lse) {
    int64_t row;
    int32_t head;
    if (!warp_place(map, map.n_heads, &row, &head)) return;
    int32_t position = row_position(map, row), size = map.head_size;
    float q[LANE_VALUES], sum[LANE_VALUES] = {}, highest = -INFINITY, total = 0;
    lane_load(qkv + row * map.width + head * size, size, q);
    const T *keys = qkv + (row - position) * map.width + (map.n_heads + head / map.group) * size;
    for (int32_t key = 0; key <= position; key++) {
        float k[LANE_VALUES], v[LANE_VALUES];
        lane_load(keys + key * static_cast<int64_t>(map.width), size, k);
        lane_load(keys + key * static_cast<int64_t>(map.width) + map.n_kv_heads * size, size, v);
        float score = lane_dot(q, k) * map.scale, top = fmaxf(highest, score);
        float keep = expf(highest - top), weight = expf(score - top);
        total = total * keep + weight;
#pragma unroll
        for (int i = 0; i < LANE_VALUES; i++)
            sum[i] = sum[i] * keep + weight * v[i];
        highest = top;
    }
#pragma unroll
    for (int i = 0; i < LANE_VALUES; i++)
        sum[i] = position < 0 ? 0.0f : sum[i] / total;
    lane_store(out + (row * map.n_heads + head) * size, size, sum);
    if (lse != nullptr && threadIdx.x % 32 == 0)
        lse[row * map.n_heads + head] = position < 0 ? 0.0f : highest + logf(total);
}

template <typename T>
__global__ void backward_query_kernel(struct attention_map map, const T *qkv, const float *lse, const float *delta,
                                      const T *dout, T *dqkv) {
    int64_t row;
    int32_t head;
    if (!warp_place(map, map.n_heads, &row, &head)) return;
    int32_t position = row_position(map, row), size = map.head_size;
    float q[LANE_VALUES], grad[LANE_VALUES], dq[LANE_VALUES] = {};
    lane_load(qkv + row * map.width + head * size, size, q);
    lane_load(dout + (row * map.n_heads + head) * size, size, grad);
    const T *keys = qkv + (row - position) * map.width + (map.n_heads + head / map.group) * size;
    float log_sum = lse[row * map.n_heads + head], mean = delta[row * map.n_heads + head];
    for (int32_t key = 0; key <= position; key++) {
        float k[LANE_VALUES], v[LANE_VALUES];
        lane_load(keys + key * static_cast<int64_t>(map.width), size, k);
        lane_load(keys + key * static_cast<int64_t>(map.width) + map.n_kv_heads * size, size, v);
        float weight = expf(lane_dot(q, k) * map.scale - log_sum);
        lane_add(dq, weight * (lane_dot(grad, v) - mean) * map.scale, k);
    }
    lane_store(dqkv + row * map.width + head * size, size, dq);
}

template <typename T>
__global__ void backward_key_kernel(struct attention_map map, const T *qkv, const float *lse, const float *delta,
                                    const T *dout, T *dqkv) {
    int64_t row;
    int32_t kv_head;
    if (!warp_place(map, map.n_kv_heads, &row, &kv_head)) return;
    int32_t position = row_position(map, row), size = map.head_size;
    float k[LANE_VALUES], v[LANE_VALUES], dk[LANE_VALUES] = {}, dv[LANE_VALUES] = {};
    int64_t k_place = row * map.width + (map.n_heads + kv_head) * size, v_place = k_place + map.n_kv_heads * size;
    lane_load(qkv + k_place, size, k);
    lane_load(qkv + v_place, size, v);
    int64_t end = position < 0 ? row : row - position + map.context;
    for (int32_t head = kv_head * map.group; head < (kv_head + 1) * map.group; head++) {
        for (int64_t query = row; query < end; query++) {
            float q[LANE_VALUES], grad[LANE_VALUES];
            lane_load(qkv + query * map.width + head * size, size, q);
            lane_load(dout + (query * map.n_heads + head) * size, size, grad);
            int64_t pair = query * map.n_heads + head;
            float weight = expf(lane_dot(q, k) * map.scale - lse[pair]);
            lane_add(dv, weight, grad);
            lane_add(dk, weight * (lane_dot(grad, v) - delta[pair]) * map.scale, q);
        }
    }
    lane_store(dqkv + k_place, size, dk);
    lane_store(dqkv + v_place, size, dv);
}

static unsigned warp_blocks(const struct attention_map *map, int32_t n_heads) {
    assert(map->head_size <= 32 * LANE_VALUES);
    return static_cast<unsigned>(ceil_div(static_cast<int64_t>(map->n_rows) * n_heads, GENERIC_WARPS));
}

template <typename T>
static void forward(struct device *device, const struct attention_map *map, const void *qkv, void *out, float *lse) {
    kernel_launch(device, "attention_forward", forward_generic_kernel<T>, warp_blocks(map, map->n_heads),
                  GENERIC_WARPS * 32, 0, *map, static_cast<const T *>(qkv), static_cast<T *>(out), lse);
}

void attention_forward_generic(struct device *device, const struct attention_map *map, const void *qkv, void *out,
                               float *lse) {
    LVS_BY_PRECISION(device, forward, map, qkv, out, lse);
}

template <typename T>
static void backward(struct device *device, const struct attention_map *map, const void *qkv, const float *lse,
                     const float *delta, const void *dout, void *dqkv) {
    kernel_launch(device, "attention_backward", backward_query_kernel<T>, warp_blocks(map, map->n_heads),
                  GENERIC_WARPS * 32, 0, *map, static_cast<const T *>(qkv), lse, delta, static_cast<const T *>(dout),
                  static_cast<T *>(dqkv));
    kernel_launch(device, "attention_backward", backward_key_kernel<T>, warp_blocks(map, map->n_kv_heads),
                  GENERIC_WARPS * 32, 0, *map, static_cast<const T *>(qkv), lse, delta, static_cast<const T *>(dout),
                  static_cast<T *>(dqkv));
}

void attention_backward_generic(struct device *device, const struct attention_map *map, const void *qkv,
                                const void *out, const float *lse, const void *dout, void *dqkv) {
    size_t bytes = static_cast<size_t>(map->n_rows) * static_cast<size_t>(map->n_heads) * sizeof(float);
    float *delta = static_cast<float *>(scratch_take(device, SCRATCH_ATTENTION, bytes, "attention_backward"));
    if (delta == nullptr) return;
    attention_delta(device, map, out, dout, delta);
    LVS_BY_PRECISION(device, backward, map, qkv, lse, delta, dout, dqkv);
}
