/* What attention's two directions share on Hopper's warpgroup products, bf16, head size 64: tiles that the copy engine
 * brings, the products of tiles, the mask, and sums on their way out. The blocks, roles and orders of sums are those of
 * attention_forward.cu and attention_backward.cu with a warpgroup where those have four warps; the weights never leave
 * registers: they come out of one product and go into the next. */
#pragma once
#include <cmath>

#include "attention.cuh"
#include "tensor_copy.cuh"

#define HEAD 64
#define TILE (FLASH_TILE * HEAD * 2u) /* bytes */

/* How the copy engine sees what is read: qkv, and backwards the gradients of the heads' outputs. */
struct attention_tiles {
    CUtensorMap qkv, dout;
};

/* A block's tiles in shared memory: what stays (one tile forwards, two backwards), then two stages of two that stream.
 * Each stage has a barrier for what is on its way; the first one counts what stays as well. */
struct block_tiles {
    uint32_t base, barrier;
};
__device__ __forceinline__ struct block_tiles block_tiles_make(unsigned char *shared, uint64_t barriers[2]) {
    struct block_tiles tiles = {(shared_address(shared) + 1023u) & ~1023u, shared_address(barriers)};
    if (threadIdx.x == 0) {
        copy_barrier_init(tiles.barrier);
        copy_barrier_init(tiles.barrier + 8);
        wgmma_publish();
    }
    __syncthreads();
    return tiles;
}
__device__ __forceinline__ void stage_wait(const struct block_tiles &tiles, uint32_t step) {
    copy_barrier_wait(tiles.barrier + step % 2 * 8, step / 2 % 2);
}

/* A sequence and a query head as the copies name them. */
struct head_place {
    struct tensor_place sequence;
    int64_t row; /* of position 0 */
    int32_t head;
};
__device__ __forceinline__ struct head_place head_place_make(const struct attention_map &map,
                                                             const struct block_place &block) {
    struct head_place place;
    place.sequence = {block.sequence % map.n_sequences, block.sequence / map.n_sequences};
    place.row = sequence_row(map, block.sequence);
    place.head = block.head;
    return place;
}

/* By one thread: keys and values from position `first`, with the bytes that the caller says are to come. */
__device__ __forceinline__ void keys_copy(const struct attention_map &map, const struct attention_tiles &from,
                                          const struct head_place &place, int32_t first, uint32_t target,
                                          uint32_t barrier) {
    int32_t column = (map.n_heads + place.head / map.group) * HEAD;
    tensor_copy(target, from.qkv, column, first, place.sequence, barrier);
    tensor_copy(target + TILE, from.qkv, column + map.n_kv_heads * HEAD, first, place.sequence, barrier);
}
/* Queries and the gradients of their outputs. */
__device__ __forceinline__ void queries_copy(const struct attention_tiles &from, const struct head_place &place,
                                             int32_t first, uint32_t target, uint32_t barrier) {
    tensor_copy(target, from.qkv, place.head * HEAD, first, place.sequence, barrier);
    tensor_copy(target + TILE, from.dout, place.head * HEAD, first, place.sequence, barrier);
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

/* For the copy engine: `columns` bf16 a row as [slot][sequence][position][column]; false and the device's error when
 * the driver refuses (attention_hopper.cu). */
bool tiles_describe(struct device *device, const struct attention_map *map, const void *data, int32_t columns,
                    CUtensorMap *out);
