/* Decoding: one query row a sequence over the cache. The row's key and value are appended first. On bf16 with head
 * sizes 64 and 128 the query heads of one key/value head are the rows of a tensor-core tile, so the cache is read once;
 * four warps take every fourth tile of 16 tokens and are merged in order. A plain kernel serves the rest. */
#include <cmath>

#include "attention.cuh"

#define CACHED_TOKENS 16
#define CACHED_STAGES 3
#define CACHED_WARPS  4

struct cached_arrays {
    const void *qkv;
    void *k, *v, *out;
    const int32_t *length, *shared;
    int32_t capacity, samples;
};

/* Keys (or values) of a sequence: the first `shared` tokens are read where its first sample keeps them. */
struct cached_tokens {
    const bf16 *own, *first;
    int32_t shared;
};

/* The sequence of a row, or −1 for padding. */
__device__ __forceinline__ int32_t row_sequence(const struct attention_map &map, int32_t row) {
    int32_t in_slot = row % map.slot_rows;
    return in_slot < map.n_sequences ? row / map.slot_rows * map.n_sequences + in_slot : -1;
}

template <int HEAD>
__device__ __forceinline__ void tokens_load(uint32_t target, const struct cached_tokens &tokens, int32_t first,
                                            int32_t count) {
#pragma unroll
    for (int i = 0; i < CACHED_TOKENS * HEAD / 8 / 32; i++) {
        int at = i * 32 + static_cast<int>(threadIdx.x) % 32, row = at / (HEAD / 8), piece = at % (HEAD / 8);
        bool exists = first + row < count;
        const bf16 *source = first + row < tokens.shared ? tokens.first : tokens.own;
        copy_async(target + tile_offset<HEAD>(row, piece),
                   source + (exists ? static_cast<int64_t>(first + row) * HEAD + piece * 8 : 0), exists);
    }
}

/* A warp's running softmax over its tiles: rows g of the tile are heads (g+8 stay empty). */
template <int HEAD> struct cached_state { float sum[HEAD / 8][4], highest, total; };

template <int HEAD>
__device__ __forceinline__ void tokens_add(const uint32_t q[HEAD / 16][4], uint32_t keys, uint32_t values,
                                           int32_t remaining, float scale, cached_state<HEAD> *state) {
    float scores[2][4] = {};
    int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int step = 0; step < HEAD / 16; step++) {
        uint32_t b[4];
        matrix_load(b, fragment_b_rows<HEAD>(keys, 0, step));
        mma_step(scores[0], q[step], b[0], b[1]);
        mma_step(scores[1], q[step], b[2], b[3]);
    }
    float top = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i / 2 * 8 + column + i % 2 >= remaining) scores[i / 2][i % 2] = -INFINITY;
        top = fmaxf(top, scores[i / 2][i % 2]);
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    top = fmaxf(top, state->highest);
    float factor = exp2_fast((state->highest - top) * scale), added = 0;
    state->highest = top;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        scores[i / 2][i % 2] = exp2_fast((scores[i / 2][i % 2] - top) * scale);
        added += scores[i / 2][i % 2];
    }
    state->total = state->total * factor + added;
    uint32_t a[4] = {pack_bf16(scores[0][0], scores[0][1]), 0, pack_bf16(scores[1][0], scores[1][1]), 0};
#pragma unroll
    for (int pair = 0; pair < HEAD / 16; pair++) {
        uint32_t b[4];
        state->sum[2 * pair][0] *= factor, state->sum[2 * pair][1] *= factor;
        state->sum[2 * pair + 1][0] *= factor, state->sum[2 * pair + 1][1] *= factor;
        matrix_load_transposed(b, fragment_b_columns<HEAD>(values, 0, pair * 2));
        mma_step(state->sum[2 * pair], a, b[0], b[1]);
        mma_step(state->sum[2 * pair + 1], a, b[2], b[3]);
    }
}

/* Warps' sums of eight heads side by side in shared memory, then merged in order. */
template <int HEAD>
__device__ __forceinline__ void warps_merge(const cached_state<HEAD> &state, float scale, float *room, int32_t n_heads,
                                            bf16 *out) {
    int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4;
    float *sums = room + warp * 8 * (HEAD + 2);
    float total = state.total;
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    if (lane % 4 == 0) {
        sums[g * (HEAD + 2) + HEAD] = state.highest;
        sums[g * (HEAD + 2) + HEAD + 1] = total;
    }
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++) {
        sums[g * (HEAD + 2) + j * 8 + lane % 4 * 2] = state.sum[j][0];
        sums[g * (HEAD + 2) + j * 8 + lane % 4 * 2 + 1] = state.sum[j][1];
    }
    __syncthreads();
    for (int at = static_cast<int>(threadIdx.x); at < n_heads * HEAD; at += CACHED_WARPS * 32) {
        const float *own = room + at / HEAD * (HEAD + 2);
        float top = -INFINITY, sum = 0, weight = 0;
        for (int w = 0; w < CACHED_WARPS; w++)
            top = fmaxf(top, own[w * 8 * (HEAD + 2) + HEAD]);
        for (int w = 0; w < CACHED_WARPS; w++) {
            const float *part = own + w * 8 * (HEAD + 2);
            float factor = exp2_fast((part[HEAD] - top) * scale);
            sum += factor * part[at % HEAD];
            weight += factor * part[HEAD + 1];
        }
        out[at] = from_float<bf16>(sum / weight);
    }
}

/* Grid: (rows, key/value heads). Needs group ≤ 8. */
template <int HEAD>
__global__ void __launch_bounds__(CACHED_WARPS * 32)
    cached_flash_kernel(struct attention_map map, struct cached_arrays arrays) {
    extern __shared__ __align__(128) unsigned char shared[];
    constexpr uint32_t TILE = CACHED_TOKENS * HEAD * 2;
    int32_t row = static_cast<int32_t>(blockIdx.x), kv_head = static_cast<int32_t>(blockIdx.y);
    int32_t sequence = row_sequence(map, row), warp = static_cast<int32_t>(threadIdx.x) / 32;
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, first_head = kv_head * map.group;
    bf16 *out = static_cast<bf16 *>(arrays.out) + (static_cast<int64_t>(row) * map.n_heads + first_head) * HEAD;
    if (sequence < 0) {
        for (int at = static_cast<int>(threadIdx.x); at < map.group * HEAD; at += CACHED_WARPS * 32)
            out[at] = from_float<bf16>(0.0f);
        return;
    }
    const bf16 *qkv = static_cast<const bf16 *>(arrays.qkv) + static_cast<int64_t>(row) * map.width;
    int64_t sequence_size = static_cast<int64_t>(map.n_kv_heads) * arrays.capacity * HEAD;
    int64_t cache = sequence * sequence_size + static_cast<int64_t>(kv_head) * arrays.capacity * HEAD;
    int64_t back = arrays.shared != nullptr ? sequence % arrays.samples * sequence_size : 0; /* to the first sample */
    bf16 *keys = static_cast<bf16 *>(arrays.k) + cache, *values = static_cast<bf16 *>(arrays.v) + cache;
    int32_t length = arrays.length[sequence], n_shared = arrays.shared != nullptr ? arrays.shared[sequence] : 0;
    struct cached_tokens all_keys = {keys, keys - back, n_shared}, all_values = {values, values - back, n_shared};
    if (static_cast<int>(threadIdx.x) < HEAD / 8) {
        const bf16 *own = qkv + (map.n_heads + kv_head) * HEAD + threadIdx.x * 8;
        int64_t target = static_cast<int64_t>(length) * HEAD + threadIdx.x * 8;
        *reinterpret_cast<uint4 *>(keys + target) = *reinterpret_cast<const uint4 *>(own);
        *reinterpret_cast<uint4 *>(values + target) = *reinterpret_cast<const uint4 *>(own + map.n_kv_heads * HEAD);
        __threadfence();
    }
    uint32_t q[HEAD / 16][4];
    bool is_head = lane / 4 < map.group;
    const uint32_t *query = reinterpret_cast<const uint32_t *>(qkv + (first_head + (is_head ? lane / 4 : 0)) * HEAD);
#pragma unroll
    for (int step = 0; step < HEAD / 16; step++) {
        q[step][0] = is_head ? query[step * 8 + lane % 4] : 0;
        q[step][2] = is_head ? query[step * 8 + lane % 4 + 4] : 0;
        q[step][1] = q[step][3] = 0;
    }
    __syncthreads();
    uint32_t base = shared_address(shared) + static_cast<uint32_t>(warp) * CACHED_STAGES * 2 * TILE;
    int32_t count = length + 1, n_tiles = (count + CACHED_TOKENS - 1) / CACHED_TOKENS;
    cached_state<HEAD> state = {};
    state.highest = -INFINITY;
    for (int s = 0; s < CACHED_STAGES - 1; s++) {
        int32_t tile = warp + s * CACHED_WARPS;
        if (tile < n_tiles) {
            tokens_load<HEAD>(base + s * 2 * TILE, all_keys, tile * CACHED_TOKENS, count);
            tokens_load<HEAD>(base + s * 2 * TILE + TILE, all_values, tile * CACHED_TOKENS, count);
        }
        copy_async_commit();
    }
    int32_t turn = 0;
    for (int32_t tile = warp; tile < n_tiles; tile += CACHED_WARPS, turn++) {
        int32_t ahead = tile + (CACHED_STAGES - 1) * CACHED_WARPS;
        uint32_t stage = base + static_cast<uint32_t>(turn % CACHED_STAGES) * 2 * TILE;
        uint32_t next = base + static_cast<uint32_t>((turn + CACHED_STAGES - 1) % CACHED_STAGES) * 2 * TILE;
        if (ahead < n_tiles) {
            tokens_load<HEAD>(next, all_keys, ahead * CACHED_TOKENS, count);
            tokens_load<HEAD>(next + TILE, all_values, ahead * CACHED_TOKENS, count);
        }
        copy_async_commit();
        copy_async_wait<CACHED_STAGES - 1>();
        __syncwarp();
        tokens_add<HEAD>(q, stage, stage + TILE, count - tile * CACHED_TOKENS, map.scale * LOG2_E, &state);
        __syncwarp();
    }
    copy_async_wait<0>();
    __syncthreads();
    warps_merge<HEAD>(state, map.scale * LOG2_E, reinterpret_cast<float *>(shared), map.group, out);
}

/* ---- any head size ---- */
template <typename T> __global__ void cached_append_kernel(struct attention_map map, struct cached_arrays arrays) {
    int32_t row = static_cast<int32_t>(blockIdx.x), sequence = row_sequence(map, row);
    if (sequence < 0) return;
    const T *own =
        static_cast<const T *>(arrays.qkv) + static_cast<int64_t>(row) * map.width + map.n_heads * map.head_size;
    int32_t kv_width = map.n_kv_heads * map.head_size;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < kv_width; i += static_cast<int32_t>(blockDim.x)) {
        int64_t head = static_cast<int64_t>(sequence) * map.n_kv_heads + i / map.head_size;
        int64_t target = (head * arrays.capacity + arrays.length[sequence]) * map.head_size + i % map.head_size;
        static_cast<T *>(arrays.k)[target] = own[i];
        static_cast<T *>(arrays.v)[target] = own[kv_width + i];
    }
}

/* A block a (row, head): scores in shared memory [length_bound + 1 and a vector's slack], then weights, then the sum, a
 * thread a column. */
template <typename T> __global__ void cached_plain_kernel(struct attention_map map, struct cached_arrays arrays) {
    extern __shared__ float scores[];
    __shared__ float room[32];
    int32_t row = static_cast<int32_t>(blockIdx.x), head = static_cast<int32_t>(blockIdx.y), size = map.head_size;
    int32_t sequence = row_sequence(map, row), thread = static_cast<int32_t>(threadIdx.x);
    T *out = static_cast<T *>(arrays.out) + (static_cast<int64_t>(row) * map.n_heads + head) * size;
    if (sequence < 0) {
        for (int32_t i = thread; i < size; i += static_cast<int32_t>(blockDim.x))
            out[i] = from_float<T>(0.0f);
        return;
    }
    const T *query = static_cast<const T *>(arrays.qkv) + static_cast<int64_t>(row) * map.width + head * size;
    int64_t cache = (static_cast<int64_t>(sequence) * map.n_kv_heads + head / map.group) * arrays.capacity * size;
    const T *keys = static_cast<const T *>(arrays.k) + cache, *values = static_cast<const T *>(arrays.v) + cache;
    int32_t count = arrays.length[sequence] + 1;
    float top = -INFINITY, total = 0;
    for (int32_t key = thread; key < count; key += static_cast<int32_t>(blockDim.x)) {
        float score = 0;
        for (int32_t i = 0; i < size; i++)
            score += to_float(query[i]) * to_float(keys[static_cast<int64_t>(key) * size + i]);
        scores[key] = score * map.scale;
        top = fmaxf(top, scores[key]);
    }
    top = warp_max(top);
    if (thread % 32 == 0) room[thread / 32] = top;
    __syncthreads();
    for (int w = 0; w < static_cast<int>(blockDim.x) / 32; w++)
        top = fmaxf(top, room[w]);
    __syncthreads();
    for (int32_t key = thread; key < count; key += static_cast<int32_t>(blockDim.x)) {
        scores[key] = expf(scores[key] - top);
        total += scores[key];
    }
    total = block_sum(total, room);
    for (int32_t i = thread; i < size; i += static_cast<int32_t>(blockDim.x)) {
        float sum = 0;
        for (int32_t key = 0; key < count; key++)
            sum += scores[key] * to_float(values[static_cast<int64_t>(key) * size + i]);
        out[i] = from_float<T>(sum / total);
    }
}

template <typename T>
static void plain(struct device *device, const struct attention_map *map, const struct cached_arrays *arrays,
                  int32_t length_bound) {
    dim3 grid(static_cast<unsigned>(map->n_rows), static_cast<unsigned>(map->n_heads));
    kernel_launch(device, "attention_cached", cached_append_kernel<T>, map->n_rows, 128, 0, *map, *arrays);
    kernel_launch(device, "attention_cached", cached_plain_kernel<T>, grid, 128,
                  (static_cast<size_t>(length_bound) + 8) * sizeof(float), *map, *arrays);
}

template <int HEAD>
static void flash(struct device *device, const struct attention_map *map, const struct cached_arrays *arrays) {
    dim3 grid(static_cast<unsigned>(map->n_rows), static_cast<unsigned>(map->n_kv_heads));
    size_t stages = static_cast<size_t>(CACHED_WARPS) * CACHED_STAGES * 2 * CACHED_TOKENS * HEAD * 2;
    size_t merge = static_cast<size_t>(CACHED_WARPS) * 8 * (HEAD + 2) * sizeof(float);
    kernel_launch(device, "attention_cached", cached_flash_kernel<HEAD>, grid, CACHED_WARPS * 32,
                  stages > merge ? stages : merge, *map, *arrays);
}

void cuda_attention_cached(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                           const void *qkv, const struct kv_cache_layer *cache, int32_t length_bound, void *out) {
    assert(layout->context == 1);
    device_select(device);
    struct attention_map map = attention_map_make(layout, shape);
    struct cached_arrays arrays = {qkv,           cache->k, cache->v,        out,
                                   cache->length, nullptr,  cache->capacity, cache->samples};
    if (cache->samples > 1) arrays.shared = cache->shared;
    bool flashes = device->precision == PRECISION_KIND_BF16 && map.group <= 8;
    if (flashes && map.head_size == 64)
        flash<64>(device, &map, &arrays);
    else if (flashes && map.head_size == 128)
        flash<128>(device, &map, &arrays);
    else
        LVS_BY_PRECISION(device, plain, &map, &arrays, length_bound);
}
