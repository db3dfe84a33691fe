/* Causal attention backward on Hopper's warpgroup products, bf16, head size 64: attention_backward.cu's roles, and
 * where there are sequences enough, blocks of keys that take all query heads that share them. */
#include "attention_hopper.cuh"

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
__device__ __forceinline__ void keys_backward(const struct attention_tiles &from, const struct attention_map &map,
                                              const struct backward_arrays &arrays, struct head_place place,
                                              int32_t tile, const struct block_tiles &tiles, float *room,
                                              const struct kept_sums &kept) {
    int32_t first = tile * FLASH_TILE, lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t mine = static_cast<int32_t>(threadIdx.x) / 32 * 16 + lane / 4;
    int32_t n_tiles = (map.context + FLASH_TILE - 1) / FLASH_TILE, heads = FOLDS ? map.group : 1;
    uint32_t base = tiles.base, stage0 = base + 2 * TILE, step = 0;
    float sums_next = query_sum(map, arrays, place.row, place.head, first);
    if (threadIdx.x == 0) {
        copy_barrier_expect(tiles.barrier, 4 * TILE);
        keys_copy(map, from, place, first, base, tiles.barrier);
        queries_copy(from, place, first, stage0, tiles.barrier);
    }
    query_sum_store(sums_next, room);
    float dk[8][4] = {}, dv[8][4] = {};
    for (int32_t head = 0, t = tile; head < heads;) {
        uint32_t stage = stage0 + step % 2 * 2 * TILE;
        const float *sums = room + step % 2 * 2 * FLASH_TILE + lane % 4 * 2;
        bool ends = t + 1 == n_tiles, diagonal = t == tile;
        stage_wait(tiles, step);
        __syncthreads(); /* everyone is done with the stage that is filled next */
        step++;
        float weights[8][4], grads[8][4];
        wgmma_fence();
        rows_by_rows(weights, base, stage);
        wgmma_commit();
        rows_by_rows(grads, base + TILE, stage + TILE);
        wgmma_commit();
        t = ends ? tile : t + 1;
        if (FOLDS && ends) place.head++;
        if (!ends || (FOLDS && head + 1 < heads)) {
            sums_next = query_sum(map, arrays, place.row, place.head, t * FLASH_TILE);
            if (threadIdx.x == 0) {
                uint32_t barrier = tiles.barrier + step % 2 * 8;
                copy_barrier_expect(barrier, 2 * TILE);
                queries_copy(from, place, t * FLASH_TILE, stage0 + step % 2 * 2 * TILE, barrier);
            }
        }
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
        query_sum_store(sums_next, room + step % 2 * 2 * FLASH_TILE);
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
        int64_t ld = map.n_heads * HEAD, target = (place.row + first) * ld + place.head * HEAD;
        sum_store(dk, scale, base, arrays.dk + target, ld, map.context - first);
        sum_store(dv, one, base + TILE, arrays.dv + target, ld, map.context - first);
    }
}

/* Queries stay, keys stream. */
__device__ __forceinline__ void queries_backward(const struct attention_tiles &from, const struct attention_map &map,
                                                 const struct backward_arrays &arrays, const struct head_place &place,
                                                 int32_t tile, const struct block_tiles &tiles, float *room) {
    int32_t first = tile * FLASH_TILE, lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t mine = static_cast<int32_t>(threadIdx.x) / 32 * 16 + lane / 4;
    uint32_t base = tiles.base, stage0 = base + 2 * TILE;
    float sums = query_sum(map, arrays, place.row, place.head, first);
    if (threadIdx.x == 0) {
        copy_barrier_expect(tiles.barrier, 4 * TILE);
        queries_copy(from, place, first, base, tiles.barrier);
        keys_copy(map, from, place, 0, stage0, tiles.barrier);
    }
    query_sum_store(sums, room);
    float dq[8][4] = {}, log_sum[2] = {}, mean[2] = {};
    for (int32_t t = 0; t <= tile; t++) {
        uint32_t step = static_cast<uint32_t>(t), stage = stage0 + step % 2 * 2 * TILE;
        stage_wait(tiles, step);
        __syncthreads(); /* everyone is done with the stage that is filled next */
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
        if (t < tile && threadIdx.x == 0) {
            uint32_t next = (step + 1) % 2, barrier = tiles.barrier + next * 8;
            copy_barrier_expect(barrier, 2 * TILE);
            keys_copy(map, from, place, (t + 1) * FLASH_TILE, stage0 + next * 2 * TILE, barrier);
        }
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
    hopper_backward_kernel(const __grid_constant__ struct attention_tiles from, struct attention_map map,
                           struct backward_arrays arrays) {
    extern __shared__ unsigned char shared[];
    __shared__ __align__(16) float room[4 * FLASH_TILE];
    __shared__ uint64_t barriers[2];
    struct block_tiles tiles = block_tiles_make(shared, barriers);
    struct block_place block = block_place_make(map);
    if (!block.exists) return;
    struct head_place place = head_place_make(map, block);
    int32_t n_tiles = static_cast<int32_t>(gridDim.y) / 2, tile = block.turn / 2;
    if (block.turn % 2 == 0)
        keys_backward<false>(from, map, arrays, place, tile, tiles, room, {});
    else
        queries_backward(from, map, arrays, place, n_tiles - 1 - tile, tiles, room);
}

/* The blocks of the kernel whose keys are shared: first those of keys, a sequence after the other, then those of
 * queries, which are short and fill what is left, by groups of sequences as block_grid has them. */
struct shared_order {
    int32_t n_tiles, n_keys, width; /* width: block_grid's first */
};

__global__ void __launch_bounds__(FLASH_THREADS, 3)
    hopper_backward_shared_kernel(const __grid_constant__ struct attention_tiles from, struct attention_map map,
                                  struct backward_arrays arrays, struct shared_order order) {
    extern __shared__ unsigned char shared[];
    __shared__ __align__(16) float room[4 * FLASH_TILE];
    __shared__ uint64_t barriers[2];
    struct block_tiles tiles = block_tiles_make(shared, barriers);
    int32_t index = static_cast<int32_t>(blockIdx.x), n_tiles = order.n_tiles;
    if (index < order.n_keys) {
        int32_t pair = index / n_tiles;
        struct block_place block = {pair % map.n_kv_heads * map.group, pair / map.n_kv_heads, 0, true};
        float4 *kept = reinterpret_cast<float4 *>(shared + (tiles.base - shared_address(shared)) + 6 * TILE);
        keys_backward<true>(from, map, arrays, head_place_make(map, block), index % n_tiles, tiles, room,
                            {kept + threadIdx.x, arrays.kept + index * KEPT_APART * FLASH_THREADS + threadIdx.x});
        return;
    }
    index -= order.n_keys;
    int32_t row = index / order.width;
    struct block_place block = block_place_at(map, order.width, index % order.width, row % n_tiles, row / n_tiles);
    if (!block.exists) return;
    queries_backward(from, map, arrays, head_place_make(map, block), n_tiles - 1 - block.turn, tiles, room);
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
    struct attention_tiles from = {};
    dim3 queries = block_grid(device, map, columns, n_tiles);
    if (queries.x == 0 || !tiles_describe(device, map, arrays->qkv, map->width, &from.qkv) ||
        !tiles_describe(device, map, arrays->dout, map->n_heads * HEAD, &from.dout))
        return;
    if (arrays->kept == nullptr) {
        kernel_launch(device, "attention_backward", hopper_backward_kernel, dim3(queries.x, 2 * queries.y, queries.z),
                      FLASH_THREADS, bytes, from, *map, *arrays);
        return;
    }
    struct shared_order order = {n_tiles, static_cast<int32_t>(key_blocks(map)), static_cast<int32_t>(queries.x)};
    unsigned blocks = static_cast<unsigned>(order.n_keys) + queries.x * queries.y * queries.z;
    kernel_launch(device, "attention_backward", hopper_backward_shared_kernel, blocks, FLASH_THREADS,
                  bytes + KEPT_SHARED * FLASH_THREADS * sizeof(float4), from, *map, *arrays, order);
}
