/* Causal attention on Hopper's warpgroup products, bf16, head size 64, forward and backward: the blocks, roles and
 * orders of sums of attention_forward.cu and attention_backward.cu with a warpgroup where those have four warps. The
 * weights never leave registers: they come out of one product and go into the next. */
#include <cmath>

#include "attention.cuh"
#include "wgmma.cuh"

#define HEAD 64
#define TILE (FLASH_TILE * HEAD * 2u) /* bytes */

__device__ __forceinline__ uint32_t tiles_base(unsigned char *shared) {
    return (shared_address(shared) + 1023u) & ~1023u;
}

/* out (64 × 64) = rows of `a` times rows of `b`, both tiles. */
__device__ __forceinline__ void rows_by_rows(float out[8][4], uint32_t a, uint32_t b) {
    uint32_t left = wgmma_tile(a), right = wgmma_tile(b);
#pragma unroll
    for (int step = 0; step < HEAD / 16; step++)
        wgmma_64<false>(out, wgmma_operand(left, step * 32), wgmma_operand(right, step * 32), step > 0);
}

/* sum (64 × 64) += weights (64 × 64 in registers) · tile. */
__device__ __forceinline__ void weights_by_tile(float sum[8][4], const uint32_t weights[4][4], uint32_t tile) {
    uint32_t right = wgmma_tile(tile);
#pragma unroll
    for (int step = 0; step < FLASH_TILE / 16; step++)
        wgmma_64<true>(sum, weights[step], wgmma_operand(right, step * 2048), true);
}

__device__ __forceinline__ void weights_pack(const float weights[8][4], uint32_t out[4][4]) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
        out[step][0] = pack_bf16(weights[2 * step][0], weights[2 * step][1]);
        out[step][1] = pack_bf16(weights[2 * step][2], weights[2 * step][3]);
        out[step][2] = pack_bf16(weights[2 * step + 1][0], weights[2 * step + 1][1]);
        out[step][3] = pack_bf16(weights[2 * step + 1][2], weights[2 * step + 1][3]);
    }
}

/* On the diagonal tile: −∞ where the key comes after the query. KEYS: the rows are keys, else queries; `row` is this
 * thread's first. */
template <bool KEYS> __device__ __forceinline__ void diagonal_mask(float scores[8][4], int row) {
    int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int j = 0; j < 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int along = j * 8 + column + i % 2, down = row + i / 2 * 8;
            if (KEYS ? down > along : along > down) scores[j][i] = -INFINITY;
        }
    }
}

/* A 64 × 64 sum times the factors of the thread's rows to `target`, bf16, by way of a tile in shared memory that nobody
 * reads any more, so that whole rows go out. */
__device__ __forceinline__ void sum_store(const float sum[8][4], const float factor[2], uint32_t tile, bf16 *target,
                                          int64_t ld, int valid) {
    int lane = static_cast<int>(threadIdx.x) % 32, first = static_cast<int>(threadIdx.x) / 32 * 16;
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int j = 0; j < 8; j++)
            shared_store(tile + tile_offset<HEAD>(first + lane / 4 + h * 8, j) + lane % 4 * 4,
                         pack_bf16(sum[j][2 * h] * factor[h], sum[j][2 * h + 1] * factor[h]));
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = first + i * 4 + lane / 8, piece = lane % 8;
        uint4 words = shared_load(tile + tile_offset<HEAD>(row, piece));
        if (row < valid) *reinterpret_cast<uint4 *>(target + row * ld + piece * 8) = words;
    }
}

/* ---- forward ---- */

/* The running maximum and sum of the thread's two rows, and the factor for what was summed before. */
__device__ __forceinline__ void softmax_step(float scores[8][4], float scale, float highest[2], float total[2],
                                             float factor[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = highest[h], sum = 0;
#pragma unroll
        for (int j = 0; j < 8; j++)
            top = fmaxf(top, fmaxf(scores[j][2 * h], scores[j][2 * h + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        factor[h] = exp2_fast((highest[h] - top) * scale);
        highest[h] = top;
        float shift = top * scale;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            scores[j][2 * h] = exp2_fast(scores[j][2 * h] * scale - shift);
            scores[j][2 * h + 1] = exp2_fast(scores[j][2 * h + 1] * scale - shift);
            sum += scores[j][2 * h] + scores[j][2 * h + 1];
        }
        total[h] = total[h] * factor[h] + sum;
    }
}

/* Turns: query tiles, the longest first. */
__global__ void __launch_bounds__(FLASH_THREADS, 4)
    hopper_forward_kernel(struct attention_map map, const bf16 *qkv, bf16 *out, float *lse) {
    extern __shared__ unsigned char shared[];
    uint32_t base = tiles_base(shared), stage0 = base + TILE;
    struct block_place place = block_place_make(map);
    if (!place.exists) return;
    int32_t head = place.head, tile = static_cast<int32_t>(gridDim.y) - 1 - place.turn;
    int64_t row = sequence_row(map, place.sequence);
    int32_t first = tile * FLASH_TILE, lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t mine = static_cast<int32_t>(threadIdx.x) / 32 * 16 + lane / 4;
    const bf16 *keys = qkv + row * map.width + (map.n_heads + head / map.group) * HEAD;
    const bf16 *values = keys + map.n_kv_heads * HEAD;
    tile_load<HEAD>(base, qkv + (row + first) * map.width + head * HEAD, map.width, map.context - first);
    tile_load<HEAD>(stage0, keys, map.width, map.context);
    tile_load<HEAD>(stage0 + TILE, values, map.width, map.context);
    copy_async_commit();
    float sum[8][4] = {}, highest[2] = {-INFINITY, -INFINITY}, total[2] = {}, factor[2];
    for (int32_t t = 0; t <= tile; t++) {
        uint32_t stage = stage0 + static_cast<uint32_t>(t % 2) * 2 * TILE;
        copy_async_wait<0>();
        wgmma_publish();
        __syncthreads();
        float scores[8][4];
        wgmma_fence();
        rows_by_rows(scores, base, stage);
        wgmma_commit();
        if (t < tile) {
            uint32_t next = stage0 + static_cast<uint32_t>((t + 1) % 2) * 2 * TILE;
            int64_t offset = static_cast<int64_t>(t + 1) * FLASH_TILE * map.width;
            tile_load<HEAD>(next, keys + offset, map.width, map.context - (t + 1) * FLASH_TILE);
            tile_load<HEAD>(next + TILE, values + offset, map.width, map.context - (t + 1) * FLASH_TILE);
        }
        copy_async_commit();
        wgmma_wait<0>();
        if (t == tile) diagonal_mask<false>(scores, mine);
        softmax_step(scores, map.scale * LOG2_E, highest, total, factor);
        uint32_t weights[4][4];
        weights_pack(scores, weights);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sum[j][0] *= factor[0], sum[j][1] *= factor[0];
            sum[j][2] *= factor[1], sum[j][3] *= factor[1];
        }
        wgmma_fence();
        weights_by_tile(sum, weights, stage + TILE);
        wgmma_commit();
        wgmma_wait<0>();
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        total[h] += __shfl_xor_sync(0xffffffffu, total[h], 1);
        total[h] += __shfl_xor_sync(0xffffffffu, total[h], 2);
        int32_t at = first + mine + h * 8;
        if (lse != nullptr && lane % 4 == 0 && at < map.context)
            lse[(row + at) * map.n_heads + head] = highest[h] * map.scale + logf(total[h]);
        factor[h] = 1.0f / total[h];
    }
    int64_t ld = static_cast<int64_t>(map.n_heads) * HEAD;
    __syncthreads();
    sum_store(sum, factor, base, out + (row + first) * ld + head * HEAD, ld, map.context - first);
}

void attention_forward_hopper(struct device *device, const struct attention_map *map, const void *qkv, void *out,
                              float *lse) {
    dim3 grid = block_grid(device, map, map->width, ceil_div(map->context, FLASH_TILE));
    kernel_launch(device, "attention_forward", hopper_forward_kernel, grid, FLASH_THREADS, 5 * TILE + 1024, *map,
                  static_cast<const bf16 *>(qkv), static_cast<bf16 *>(out), lse);
}

/* ---- backward ---- */

/* A block of keys that takes several query heads keeps the sums of dK and dV over them by thread, four numbers a piece:
 * the first pieces in shared memory, what is left there by three blocks a multiprocessor, the others in arrays.kept. */
#define KEPT_SHARED 12
#define KEPT_APART  4
static_assert(KEPT_SHARED + KEPT_APART == 2 * 64 / 8, "a piece for eight columns of dK and of dV");

struct kept_sums {
    float4 *shared, *apart; /* the thread's first of each, FLASH_THREADS apart */
};
__device__ __forceinline__ float4 *kept_place(const struct kept_sums &kept, int piece) {
    return piece < KEPT_SHARED ? kept.shared + piece * FLASH_THREADS
                               : kept.apart + (piece - KEPT_SHARED) * FLASH_THREADS;
}
/* One query head's part, rounded as it would be stored, onto what is kept from piece `from` on; the last head's stays
 * in `part`, which is zero after the others. */
__device__ __forceinline__ void kept_add(const struct kept_sums &kept, int from, float factor, bool first, bool last,
                                         float part[8][4]) {
#pragma unroll
    for (int j = 0; j < 8; j++) {
        float4 *place = kept_place(kept, from + j), sum = make_float4(0, 0, 0, 0);
        float2 top = unpack_bf16(pack_bf16(part[j][0] * factor, part[j][1] * factor));
        float2 bottom = unpack_bf16(pack_bf16(part[j][2] * factor, part[j][3] * factor));
        if (!first) sum = *place;
        sum = make_float4(sum.x + top.x, sum.y + top.y, sum.z + bottom.x, sum.w + bottom.y);
        if (!last) *place = sum;
        part[j][0] = last ? sum.x : 0, part[j][1] = last ? sum.y : 0;
        part[j][2] = last ? sum.z : 0, part[j][3] = last ? sum.w : 0;
    }
}

/* Keys stay, queries stream; scores are transposed: keys down, queries along. FOLDS: of all heads that share the keys,
 * one after the other, and what they give is folded; else of one. */
template <bool FOLDS>
__device__ __forceinline__ void keys_backward(const struct attention_map &map, const struct backward_arrays &arrays,
                                              struct backward_place place, int32_t tile, uint32_t base, float *room,
                                              const struct kept_sums &kept) {
    int32_t first = tile * FLASH_TILE, lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t mine = static_cast<int32_t>(threadIdx.x) / 32 * 16 + lane / 4;
    int32_t n_tiles = (map.context + FLASH_TILE - 1) / FLASH_TILE, heads = FOLDS ? map.group : 1;
    uint32_t stage0 = base + 2 * TILE, parity = 0;
    float sums_next = query_sum(map, arrays, place.row, place.head, first);
    keys_load<HEAD>(map, place, first, base);
    queries_load<HEAD>(map, place, first, stage0);
    copy_async_commit();
    query_sum_store(sums_next, room);
    float dk[8][4] = {}, dv[8][4] = {};
    for (int32_t head = 0, t = tile; head < heads;) {
        uint32_t stage = stage0 + parity * 2 * TILE;
        const float *sums = room + parity * 2 * FLASH_TILE + lane % 4 * 2;
        bool ends = t + 1 == n_tiles, diagonal = t == tile;
        copy_async_wait<0>();
        wgmma_publish();
        __syncthreads();
        float weights[8][4], grads[8][4];
        wgmma_fence();
        rows_by_rows(weights, base, stage);
        wgmma_commit();
        rows_by_rows(grads, base + TILE, stage + TILE);
        wgmma_commit();
        t = ends ? tile : t + 1;
        if (FOLDS && ends) place.head++, place.queries += HEAD, place.grads += HEAD;
        if (!ends || (FOLDS && head + 1 < heads)) {
            sums_next = query_sum(map, arrays, place.row, place.head, t * FLASH_TILE);
            queries_load<HEAD>(map, place, t * FLASH_TILE, stage0 + (1 - parity) * 2 * TILE);
        }
        copy_async_commit();
        wgmma_wait<1>();
        if (diagonal) diagonal_mask<true>(weights, mine);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float2 log_sum = *reinterpret_cast<const float2 *>(sums + j * 8);
#pragma unroll
            for (int i = 0; i < 4; i++)
                weights[j][i] = exp2_fast(weights[j][i] * (map.scale * LOG2_E) - (i % 2 == 0 ? log_sum.x : log_sum.y));
        }
        wgmma_wait<0>();
        uint32_t operand[4][4], changes[4][4];
        weights_pack(weights, operand);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float2 mean = *reinterpret_cast<const float2 *>(sums + FLASH_TILE + j * 8);
#pragma unroll
            for (int i = 0; i < 4; i++)
                grads[j][i] = weights[j][i] * (grads[j][i] - (i % 2 == 0 ? mean.x : mean.y));
        }
        weights_pack(grads, changes);
        wgmma_fence();
        weights_by_tile(dv, operand, stage + TILE);
        weights_by_tile(dk, changes, stage);
        wgmma_commit();
        parity = 1 - parity;
        query_sum_store(sums_next, room + parity * 2 * FLASH_TILE);
        wgmma_wait<0>();
        if (FOLDS && ends) {
            kept_add(kept, 0, map.scale, head == 0, head + 1 == heads, dk);
            kept_add(kept, 8, 1.0f, head == 0, head + 1 == heads, dv);
        }
        head += ends ? 1 : 0;
    }
    const float scale[2] = {map.scale, map.scale}, one[2] = {1, 1};
    __syncthreads();
    if constexpr (FOLDS) {
        bf16 *target =
            arrays.dqkv + (place.row + first) * map.width + (map.n_heads + place.head / map.group - 1) * HEAD;
        sum_store(dk, one, base, target, map.width, map.context - first);
        sum_store(dv, one, base + TILE, target + map.n_kv_heads * HEAD, map.width, map.context - first);
    } else {
        int64_t target = (place.row + first) * place.grad_ld + place.head * HEAD;
        sum_store(dk, scale, base, arrays.dk + target, place.grad_ld, map.context - first);
        sum_store(dv, one, base + TILE, arrays.dv + target, place.grad_ld, map.context - first);
    }
}

/* Queries stay, keys stream. */
__device__ __forceinline__ void queries_backward(const struct attention_map &map, const struct backward_arrays &arrays,
                                                 const struct backward_place &place, int32_t tile, uint32_t base,
                                                 float *room) {
    int32_t first = tile * FLASH_TILE, lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t mine = static_cast<int32_t>(threadIdx.x) / 32 * 16 + lane / 4;
    uint32_t stage0 = base + 2 * TILE;
    float sums = query_sum(map, arrays, place.row, place.head, first);
    queries_load<HEAD>(map, place, first, base);
    keys_load<HEAD>(map, place, 0, stage0);
    copy_async_commit();
    query_sum_store(sums, room);
    float dq[8][4] = {}, log_sum[2] = {}, mean[2] = {};
    for (int32_t t = 0; t <= tile; t++) {
        uint32_t parity = static_cast<uint32_t>(t) % 2, stage = stage0 + parity * 2 * TILE;
        copy_async_wait<0>();
        wgmma_publish();
        __syncthreads();
        float weights[8][4], grads[8][4];
        wgmma_fence();
        rows_by_rows(weights, base, stage);
        wgmma_commit();
        rows_by_rows(grads, base + TILE, stage + TILE);
        wgmma_commit();
        if (t == 0) {
#pragma unroll
            for (int h = 0; h < 2; h++)
                log_sum[h] = room[mine + h * 8], mean[h] = room[FLASH_TILE + mine + h * 8];
        }
        if (t < tile) keys_load<HEAD>(map, place, (t + 1) * FLASH_TILE, stage0 + (1 - parity) * 2 * TILE);
        copy_async_commit();
        wgmma_wait<1>();
        if (t == tile) diagonal_mask<false>(weights, mine);
#pragma unroll
        for (int j = 0; j < 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                weights[j][i] = exp2_fast(weights[j][i] * (map.scale * LOG2_E) - log_sum[i / 2]);
        }
        wgmma_wait<0>();
#pragma unroll
        for (int j = 0; j < 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                grads[j][i] = weights[j][i] * (grads[j][i] - mean[i / 2]);
        }
        uint32_t changes[4][4];
        weights_pack(grads, changes);
        wgmma_fence();
        weights_by_tile(dq, changes, stage);
        wgmma_commit();
        wgmma_wait<0>();
    }
    const float scale[2] = {map.scale, map.scale};
    __syncthreads();
    sum_store(dq, scale, base, arrays.dqkv + (place.row + first) * map.width + place.head * HEAD, map.width,
              map.context - first);
}

/* Turns: 2·tiles; the roles alternate, the longest of each first. */
__global__ void __launch_bounds__(FLASH_THREADS, 3)
    hopper_backward_kernel(struct attention_map map, struct backward_arrays arrays) {
    extern __shared__ unsigned char shared[];
    __shared__ __align__(16) float room[4 * FLASH_TILE];
    struct block_place block = block_place_make(map);
    if (!block.exists) return;
    struct backward_place place = backward_place_make<HEAD>(map, arrays, block);
    int32_t n_tiles = static_cast<int32_t>(gridDim.y) / 2, tile = block.turn / 2;
    if (block.turn % 2 == 0)
        keys_backward<false>(map, arrays, place, tile, tiles_base(shared), room, {});
    else
        queries_backward(map, arrays, place, n_tiles - 1 - tile, tiles_base(shared), room);
}

/* The blocks of the kernel whose keys are shared: first those of keys, a sequence after the other, then those of
 * queries, which are short and fill what is left, by groups of sequences as block_grid has them. */
struct shared_order {
    int32_t n_tiles, n_keys, width; /* width: block_grid's first */
};

__global__ void __launch_bounds__(FLASH_THREADS, 3)
    hopper_backward_shared_kernel(struct attention_map map, struct backward_arrays arrays, struct shared_order order) {
    extern __shared__ unsigned char shared[];
    __shared__ __align__(16) float room[4 * FLASH_TILE];
    uint32_t base = tiles_base(shared);
    int32_t index = static_cast<int32_t>(blockIdx.x), n_tiles = order.n_tiles;
    if (index < order.n_keys) {
        int32_t pair = index / n_tiles;
        struct block_place block = {pair % map.n_kv_heads * map.group, pair / map.n_kv_heads, 0, true};
        float4 *kept = reinterpret_cast<float4 *>(shared + (base - shared_address(shared)) + 6 * TILE);
        keys_backward<true>(map, arrays, backward_place_make<HEAD>(map, arrays, block), index % n_tiles, base, room,
                            {kept + threadIdx.x, arrays.kept + index * KEPT_APART * FLASH_THREADS + threadIdx.x});
        return;
    }
    index -= order.n_keys;
    int32_t row = index / order.width;
    struct block_place block = block_place_at(map, order.width, index % order.width, row % n_tiles, row / n_tiles);
    if (!block.exists) return;
    queries_backward(map, arrays, backward_place_make<HEAD>(map, arrays, block), n_tiles - 1 - block.turn, base, room);
}

static int64_t key_blocks(const struct attention_map *map) {
    return static_cast<int64_t>(map->n_slots) * map->n_sequences * map->n_kv_heads * ceil_div(map->context, FLASH_TILE);
}

size_t attention_kept_bytes(const struct device *device, const struct attention_map *map) {
    if (!attention_is_hopper(device, map)) return 0;
    int64_t tiles = ceil_div(map->context, FLASH_TILE), blocks = key_blocks(map);
    /* The steps of all blocks of both roles fill every place for at least as long as the longest block runs. */
    bool many = blocks * (tiles + 1) >= tiles * 3 * device->multiprocessors;
    return many ? static_cast<size_t>(blocks) * KEPT_APART * FLASH_THREADS * sizeof(float4) : 0;
}

void attention_backward_hopper(struct device *device, const struct attention_map *map,
                               const struct backward_arrays *arrays) {
    int32_t columns = map->width + map->n_heads * HEAD,
            n_tiles = static_cast<int32_t>(ceil_div(map->context, FLASH_TILE));
    size_t bytes = 6 * TILE + 1024;
    if (arrays->kept == nullptr) {
        kernel_launch(device, "attention_backward", hopper_backward_kernel,
                      block_grid(device, map, columns, 2 * n_tiles), FLASH_THREADS, bytes, *map, *arrays);
        return;
    }
    dim3 queries = block_grid(device, map, columns, n_tiles);
    struct shared_order order = {n_tiles, static_cast<int32_t>(key_blocks(map)), static_cast<int32_t>(queries.x)};
    unsigned blocks = static_cast<unsigned>(order.n_keys) + queries.x * queries.y * queries.z;
    kernel_launch(device, "attention_backward", hopper_backward_shared_kernel, blocks, FLASH_THREADS,
                  bytes + KEPT_SHARED * FLASH_THREADS * sizeof(float4), *map, *arrays, order);
}
