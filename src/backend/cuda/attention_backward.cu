/* Causal attention backward on tensor cores, bf16, head sizes 64 and 128, without atomics. Blocks of two roles in one
 * launch, both recomputing the weights from lse: a block of keys goes over the queries after it (dK and dV of one query
 * head), a block of queries goes over the keys before it (dQ). The query heads that share keys are then folded in
 * order.
 */
#include <cmath>

#include "attention.cuh"

/* What both roles know of their (head, sequence). */
struct backward_place {
    const bf16 *queries, *keys, *values, *grads; /* of position 0 */
    int64_t row, grad_ld;
    int32_t head;
};
template <int HEAD>
__device__ __forceinline__ struct backward_place backward_place_make(const struct attention_map &map,
                                                                     const struct backward_arrays &arrays,
                                                                     const struct block_place &block) {
    struct backward_place place;
    place.head = block.head;
    place.row = sequence_row(map, block.sequence);
    place.queries = arrays.qkv + place.row * map.width + place.head * HEAD;
    place.keys = arrays.qkv + place.row * map.width + (map.n_heads + place.head / map.group) * HEAD;
    place.values = place.keys + map.n_kv_heads * HEAD;
    place.grad_ld = map.n_heads * HEAD;
    place.grads = arrays.dout + place.row * place.grad_ld + place.head * HEAD;
    return place;
}

/* Tiles on their way from position `first`: queries and the gradients of their outputs; keys and values. */
template <int HEAD>
__device__ __forceinline__ void queries_load(const struct attention_map &map, const struct backward_place &place,
                                             int32_t first, uint32_t target) {
    tile_load<HEAD>(target, place.queries + static_cast<int64_t>(first) * map.width, map.width, map.context - first);
    tile_load<HEAD>(target + FLASH_TILE * HEAD * 2, place.grads + first * place.grad_ld, place.grad_ld,
                    map.context - first);
}
template <int HEAD>
__device__ __forceinline__ void keys_load(const struct attention_map &map, const struct backward_place &place,
                                          int32_t first, uint32_t target) {
    tile_load<HEAD>(target, place.keys + static_cast<int64_t>(first) * map.width, map.width, map.context - first);
    tile_load<HEAD>(target + FLASH_TILE * HEAD * 2, place.values + static_cast<int64_t>(first) * map.width, map.width,
                    map.context - first);
}

/* out[j] (16 rows of the fragments; columns 8j+2t of 32 rows of `tile` from `row`) = fragments · tileᵀ. */
template <int HEAD>
__device__ __forceinline__ void half_product(const uint32_t a[HEAD / 16][4], uint32_t tile, int row, float out[4][4]) {
#pragma unroll
    for (int j = 0; j < 4; j++)
        out[j][0] = out[j][1] = out[j][2] = out[j][3] = 0;
#pragma unroll
    for (int step = 0; step < HEAD / 16; step++) {
#pragma unroll
        for (int pair = 0; pair < 2; pair++) {
            uint32_t b[4];
            matrix_load(b, fragment_b_rows<HEAD>(tile, row + pair * 16, step));
            mma_step(out[2 * pair], a[step], b[0], b[1]);
            mma_step(out[2 * pair + 1], a[step], b[2], b[3]);
        }
    }
}

/* On the diagonal tile: −∞ where the key comes after the query. The scores' rows begin at `row`, their columns at
 * `column`; KEYS: the rows are keys, else queries. */
template <bool KEYS> __device__ __forceinline__ void scores_mask(float scores[4][4], int column, int row) {
    int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int along = column + j * 8 + lane % 4 * 2 + i % 2, down = row + lane / 4 + i / 2 * 8;
            if (KEYS ? down > along : along > down) scores[j][i] = -INFINITY;
        }
    }
}

/* sum (16 × HEAD) += weights (16 × 32, rounded to bf16) · 32 rows of `tile` from `row`. */
template <int HEAD>
__device__ __forceinline__ void half_add(const float weights[4][4], uint32_t tile, int row, float sum[HEAD / 8][4]) {
#pragma unroll
    for (int step = 0; step < 2; step++) {
        uint32_t a[4] = {pack_bf16(weights[2 * step][0], weights[2 * step][1]),
                         pack_bf16(weights[2 * step][2], weights[2 * step][3]),
                         pack_bf16(weights[2 * step + 1][0], weights[2 * step + 1][1]),
                         pack_bf16(weights[2 * step + 1][2], weights[2 * step + 1][3])};
#pragma unroll
        for (int pair = 0; pair < HEAD / 16; pair++) {
            uint32_t b[4];
            matrix_load_transposed(b, fragment_b_columns<HEAD>(tile, row + step * 16, pair * 2));
            mma_step(sum[2 * pair], a, b[0], b[1]);
            mma_step(sum[2 * pair + 1], a, b[2], b[3]);
        }
    }
}

template <int HEAD> __device__ __forceinline__ void fragments_load(uint32_t tile, int row, uint32_t out[HEAD / 16][4]) {
#pragma unroll
    for (int step = 0; step < HEAD / 16; step++)
        matrix_load(out[step], fragment_a<HEAD>(tile, row, step));
}

/* Rows g and g+8 of a 16 × HEAD sum, bf16, `ld` elements apart. */
template <int HEAD>
__device__ __forceinline__ void sum_store(const float sum[HEAD / 8][4], float factor, bf16 *target, int64_t ld,
                                          int32_t valid) {
    int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int r = lane / 4 + h * 8;
        if (r >= valid) continue;
#pragma unroll
        for (int j = 0; j < HEAD / 8; j++)
            *reinterpret_cast<uint32_t *>(target + r * ld + j * 8 + lane % 4 * 2) =
                pack_bf16(sum[j][2 * h] * factor, sum[j][2 * h + 1] * factor);
    }
}

/* Keys stay, queries stream: the products are those of the transposed scores, so that the weights are an operand as
 * they come out of the tensor core. */
template <int HEAD>
__device__ __forceinline__ void keys_backward(const struct attention_map &map, const struct backward_arrays &arrays,
                                              const struct backward_place &place, int32_t tile, uint32_t base,
                                              float *room) {
    constexpr uint32_t TILE = FLASH_TILE * HEAD * 2;
    int32_t first = tile * FLASH_TILE, lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t mine = static_cast<int32_t>(threadIdx.x) / 32 * 16, n_tiles = (map.context + FLASH_TILE - 1) / FLASH_TILE;
    uint32_t stage0 = base + 2 * TILE;
    keys_load<HEAD>(map, place, first, base);
    queries_load<HEAD>(map, place, first, stage0);
    copy_async_commit();
    query_sum_store(query_sum(map, arrays, place.row, place.head, first), room);
    uint32_t k[HEAD / 16][4], v[HEAD / 16][4];
    float dk[HEAD / 8][4] = {}, dv[HEAD / 8][4] = {};
    for (int32_t t = tile; t < n_tiles; t++) {
        uint32_t parity = static_cast<uint32_t>(t - tile) % 2, stage = stage0 + parity * 2 * TILE;
        const float *sums = room + parity * 2 * FLASH_TILE;
        copy_async_wait<0>();
        __syncthreads();
        if (t == tile) {
            fragments_load<HEAD>(base, mine, k);
            fragments_load<HEAD>(base + TILE, mine, v);
        }
        if (t + 1 < n_tiles) {
            int32_t start = (t + 1) * FLASH_TILE;
            queries_load<HEAD>(map, place, start, stage0 + (1 - parity) * 2 * TILE);
            query_sum_store(query_sum(map, arrays, place.row, place.head, start), room + (1 - parity) * 2 * FLASH_TILE);
        }
        copy_async_commit();
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            float weights[4][4], grads[4][4];
            half_product<HEAD>(k, stage, half * 32, weights);
            half_product<HEAD>(v, stage + TILE, half * 32, grads);
            if (t == tile) scores_mask<true>(weights, half * 32, mine);
#pragma unroll
            for (int j = 0; j < 4; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int query = half * 32 + j * 8 + lane % 4 * 2 + i % 2;
                    float weight = exp2_fast(weights[j][i] * (map.scale * LOG2_E) - sums[query]);
                    weights[j][i] = weight;
                    grads[j][i] = weight * (grads[j][i] - sums[FLASH_TILE + query]);
                }
            }
            half_add<HEAD>(weights, stage + TILE, half * 32, dv);
            half_add<HEAD>(grads, stage, half * 32, dk);
        }
    }
    int64_t target = ((place.row + first + mine) * map.n_heads + place.head) * HEAD;
    sum_store<HEAD>(dk, map.scale, arrays.dk + target, place.grad_ld, map.context - first - mine);
    sum_store<HEAD>(dv, 1.0f, arrays.dv + target, place.grad_ld, map.context - first - mine);
}

/* Queries stay, keys stream. */
template <int HEAD>
__device__ __forceinline__ void queries_backward(const struct attention_map &map, const struct backward_arrays &arrays,
                                                 const struct backward_place &place, int32_t tile, uint32_t base,
                                                 float *room) {
    constexpr uint32_t TILE = FLASH_TILE * HEAD * 2;
    int32_t first = tile * FLASH_TILE, lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t mine = static_cast<int32_t>(threadIdx.x) / 32 * 16;
    uint32_t stage0 = base + 2 * TILE;
    queries_load<HEAD>(map, place, first, base);
    keys_load<HEAD>(map, place, 0, stage0);
    copy_async_commit();
    query_sum_store(query_sum(map, arrays, place.row, place.head, first), room);
    uint32_t q[HEAD / 16][4], grad[HEAD / 16][4];
    float dq[HEAD / 8][4] = {}, log_sum[2], mean[2];
    for (int32_t t = 0; t <= tile; t++) {
        uint32_t parity = static_cast<uint32_t>(t) % 2, stage = stage0 + parity * 2 * TILE;
        copy_async_wait<0>();
        __syncthreads();
        if (t == 0) {
            fragments_load<HEAD>(base, mine, q);
            fragments_load<HEAD>(base + TILE, mine, grad);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                log_sum[h] = room[mine + lane / 4 + h * 8];
                mean[h] = room[FLASH_TILE + mine + lane / 4 + h * 8];
            }
        }
        if (t < tile) keys_load<HEAD>(map, place, (t + 1) * FLASH_TILE, stage0 + (1 - parity) * 2 * TILE);
        copy_async_commit();
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            float weights[4][4], grads[4][4];
            half_product<HEAD>(q, stage, half * 32, weights);
            half_product<HEAD>(grad, stage + TILE, half * 32, grads);
            if (t == tile) scores_mask<false>(weights, half * 32, mine);
#pragma unroll
            for (int j = 0; j < 4; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    float weight = exp2_fast(weights[j][i] * (map.scale * LOG2_E) - log_sum[i / 2]);
                    grads[j][i] = weight * (grads[j][i] - mean[i / 2]);
                }
            }
            half_add<HEAD>(grads, stage, half * 32, dq);
        }
    }
    bf16 *target = arrays.dqkv + (place.row + first + mine) * map.width + place.head * HEAD;
    sum_store<HEAD>(dq, map.scale, target, map.width, map.context - first - mine);
}

/* Turns: 2·tiles; the roles alternate, the longest of each first. */
template <int HEAD>
__global__ void __launch_bounds__(FLASH_THREADS, HEAD == 64 ? 3 : 2)
    flash_backward_kernel(struct attention_map map, struct backward_arrays arrays) {
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ float room[4 * FLASH_TILE];
    struct block_place block = block_place_make(map);
    if (!block.exists) return;
    struct backward_place place = backward_place_make<HEAD>(map, arrays, block);
    int32_t n_tiles = static_cast<int32_t>(gridDim.y) / 2, tile = block.turn / 2;
    if (block.turn % 2 == 0)
        keys_backward<HEAD>(map, arrays, place, tile, shared_address(shared), room);
    else
        queries_backward<HEAD>(map, arrays, place, n_tiles - 1 - tile, shared_address(shared), room);
}

/* dK and dV: the query heads of each key/value head added in order. A thread eight columns of one row. */
__global__ void fold_kernel(struct pending_fold fold) {
    int64_t row = blockIdx.x;
    int32_t size = fold.head_size, kv_width = fold.n_kv_heads * size, group = fold.n_heads / fold.n_kv_heads;
    bf16 *target = fold.dqkv + row * (fold.n_heads * size + 2 * kv_width) + fold.n_heads * size;
    for (int32_t piece = static_cast<int32_t>(threadIdx.x); piece < 2 * kv_width / 8;
         piece += static_cast<int32_t>(blockDim.x)) {
        float sum[8];
        fold_sum(fold, row, group, piece * 8, sum);
        store8(target + piece * 8, sum);
    }
}

void attention_fold(struct device *device, const struct pending_fold *fold) {
    kernel_launch(device, "attention_fold", fold_kernel, fold->n_rows, 64, 0, *fold);
}

/* Rows outside sequences, after the fold. */
__global__ void outside_zero_kernel(struct attention_map map, bf16 *dqkv) {
    int64_t row = blockIdx.x;
    float zeros[8] = {};
    if (row_position(map, row) >= 0) return;
    for (int32_t piece = static_cast<int32_t>(threadIdx.x); piece < map.width / 8;
         piece += static_cast<int32_t>(blockDim.x))
        store8(dqkv + row * map.width + piece * 8, zeros);
}

template <int HEAD>
static void launch(struct device *device, const struct attention_map *map, const struct backward_arrays *arrays) {
    dim3 grid = block_grid(device, map, map->width + map->n_heads * HEAD, 2 * ceil_div(map->context, FLASH_TILE));
    kernel_launch(device, "attention_backward", flash_backward_kernel<HEAD>, grid, FLASH_THREADS,
                  static_cast<size_t>(6) * FLASH_TILE * HEAD * 2, *map, *arrays);
}

void attention_backward_flash(struct device *device, const struct attention_map *map, const void *qkv, const void *out,
                              const float *lse, const void *dout, void *dqkv) {
    size_t pairs = static_cast<size_t>(map->n_rows) * static_cast<size_t>(map->n_heads);
    size_t part = pairs * static_cast<size_t>(map->head_size), kept = attention_kept_bytes(device, map);
    size_t bytes = kept > 0 ? kept : 2 * part * sizeof(bf16);
    char *memory = static_cast<char *>(
        scratch_take(device, SCRATCH_ATTENTION, bytes + 2 * pairs * sizeof(float), "attention_backward"));
    if (memory == nullptr) return;
    float *sums = reinterpret_cast<float *>(memory + bytes);
    struct backward_arrays arrays = {};
    arrays.qkv = static_cast<const bf16 *>(qkv), arrays.dout = static_cast<const bf16 *>(dout);
    arrays.dqkv = static_cast<bf16 *>(dqkv), arrays.sums = sums;
    if (kept > 0)
        arrays.kept = reinterpret_cast<float4 *>(memory);
    else
        arrays.dk = reinterpret_cast<bf16 *>(memory), arrays.dv = arrays.dk + part;
    attention_query_sums(device, map, out, dout, lse, sums);
    if (attention_is_hopper(device, map))
        attention_backward_hopper(device, map, &arrays);
    else if (map->head_size == 64)
        launch<64>(device, map, &arrays);
    else
        launch<128>(device, map, &arrays);
    if (kept == 0)
        device->fold = {arrays.dk, arrays.dv, arrays.dqkv, map->n_rows, map->n_heads, map->n_kv_heads, map->head_size};
    if (map->n_sequences * map->context == map->slot_rows) return;
    device_select(device);
    kernel_launch(device, "attention_outside", outside_zero_kernel, map->n_rows, 64, 0, *map, arrays.dqkv);
}
