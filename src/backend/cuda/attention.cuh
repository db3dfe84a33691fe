/* What the attention kernels share: where a sequence's rows lie, tiles in shared memory, and the entry points of the
 * tensor-core and the plain kernels. */
#pragma once
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

#define FLASH_THREADS 128 /* four warps, each with its own rows */
#define FLASH_TILE    64  /* keys a tile */

/* Rows and heads as kernels see them. */
struct attention_map {
    int32_t n_slots, n_sequences, context, slot_rows, n_rows;
    int32_t n_heads, n_kv_heads, head_size, group; /* group: query heads a key/value head */
    int32_t width;                                 /* columns of qkv */
    float scale;                                   /* 1/sqrt(head_size) */
};
struct attention_map attention_map_make(const struct pack_layout *layout, const struct attention_shape *shape);
__device__ __forceinline__ int64_t sequence_row(const struct attention_map &map, int32_t sequence) {
    return static_cast<int64_t>(sequence / map.n_sequences) * map.slot_rows +
           static_cast<int64_t>(sequence % map.n_sequences) * map.context;
}
/* Position in its sequence, or −1 for a row outside sequences. */
__device__ __forceinline__ int32_t row_position(const struct attention_map &map, int64_t row) {
    int32_t in_slot = static_cast<int32_t>(row % map.slot_rows);
    return in_slot < map.n_sequences * map.context ? in_slot % map.context : -1;
}

/* What a block of the flash kernels works on. Grid: heads of some sequences, their tiles, and such groups of sequences:
 * what a group reads stays in the L2 cache until its last tile. `turn` counts a group's tiles. */
struct block_place {
    int32_t head, sequence, turn;
    bool exists; /* the last group may be smaller */
};
__device__ __forceinline__ struct block_place block_place_at(const struct attention_map &map, int32_t width, int32_t x,
                                                             int32_t turn, int32_t of_group) {
    struct block_place place;
    place.head = x % map.n_heads, place.turn = turn;
    place.sequence = of_group * (width / map.n_heads) + x / map.n_heads;
    place.exists = place.sequence < map.n_slots * map.n_sequences;
    return place;
}
__device__ __forceinline__ struct block_place block_place_make(const struct attention_map &map) {
    return block_place_at(map, static_cast<int32_t>(gridDim.x), static_cast<int32_t>(blockIdx.x),
                          static_cast<int32_t>(blockIdx.y), static_cast<int32_t>(blockIdx.z));
}
/* columns: bf16 that a row has in all arrays that are read. */
static inline dim3 block_grid(const struct device *device, const struct attention_map *map, int32_t columns,
                              int64_t turns) {
    int64_t sequences = static_cast<int64_t>(map->n_slots) * map->n_sequences;
    int64_t bytes = sequences * map->context * columns * static_cast<int64_t>(sizeof(bf16));
    if (bytes == 0) return dim3(0, 0, 0);
    int64_t at_once = ceil_div(sequences, ceil_div(bytes, device->cache_bytes / 4 + 1));
    return dim3(static_cast<unsigned>(map->n_heads * at_once), static_cast<unsigned>(turns),
                static_cast<unsigned>(ceil_div(sequences, at_once)));
}

/* Byte offset of 16-byte piece `piece` of `row` in a tile of HEAD columns; pieces are swapped within a row so that
 * eight rows of one column fall into different banks. */
template <int HEAD> __device__ __forceinline__ uint32_t tile_offset(int row, int piece) {
    return static_cast<uint32_t>(row * HEAD * 2 + ((piece ^ (row & 7)) * 16));
}
/* 64 rows of HEAD columns from global memory, `ld` elements apart; rows from `valid` on become zeros. */
template <int HEAD>
__device__ __forceinline__ void tile_load(uint32_t target, const bf16 *source, int64_t ld, int valid) {
    constexpr int PIECES = HEAD / 8;
    constexpr int ROWS_AT_ONCE = FLASH_THREADS / PIECES;
    int row = static_cast<int>(threadIdx.x) / PIECES, piece = static_cast<int>(threadIdx.x) % PIECES;
    const bf16 *from = source + row * ld + piece * 8;
    target += tile_offset<HEAD>(row, piece);
    if (valid >= FLASH_TILE) {
#pragma unroll
        for (int i = 0; i < FLASH_TILE / ROWS_AT_ONCE; i++)
            copy_async(target + i * ROWS_AT_ONCE * HEAD * 2, from + i * ROWS_AT_ONCE * ld, true);
        return;
    }
#pragma unroll 1
    for (int i = 0; i < FLASH_TILE / ROWS_AT_ONCE; i++) {
        bool exists = row + i * ROWS_AT_ONCE < valid;
        copy_async(target + i * ROWS_AT_ONCE * HEAD * 2, exists ? from + i * ROWS_AT_ONCE * ld : source, exists);
    }
}
/* Fragments of a tile for mma_step, by lane: A (16 rows from `row`, 16 columns from 16·step); B with the tile's rows as
 * n (two n-tiles of 8 from `row`); B with the tile's rows as k (16 from `row`) and columns 8·piece … as n (two
 * n-tiles).
 */
template <int HEAD> __device__ __forceinline__ uint32_t fragment_a(uint32_t tile, int row, int step) {
    int lane = static_cast<int>(threadIdx.x) % 32;
    return tile + tile_offset<HEAD>(row + lane % 8 + (lane / 8 % 2) * 8, step * 2 + lane / 16);
}
template <int HEAD> __device__ __forceinline__ uint32_t fragment_b_rows(uint32_t tile, int row, int step) {
    int lane = static_cast<int>(threadIdx.x) % 32;
    return tile + tile_offset<HEAD>(row + lane % 8 + (lane / 16) * 8, step * 2 + lane / 8 % 2);
}
template <int HEAD> __device__ __forceinline__ uint32_t fragment_b_columns(uint32_t tile, int row, int piece) {
    int lane = static_cast<int>(threadIdx.x) % 32;
    return tile + tile_offset<HEAD>(row + lane % 8 + (lane / 8 % 2) * 8, piece + lane / 16);
}

/* Eight columns from `col` of k's and v's gradients side by side: their query heads added in order. */
__device__ __forceinline__ void fold_sum(const struct pending_fold &fold, int64_t row, int32_t group, int32_t col,
                                         float sum[8]) {
    int32_t size = fold.head_size, kv_width = fold.n_kv_heads * size, in = col % kv_width;
    const bf16 *source =
        (col < kv_width ? fold.dk : fold.dv) + (row * fold.n_heads + in / size * group) * size + in % size;
#pragma unroll
    for (int j = 0; j < 8; j++)
        sum[j] = 0;
#pragma unroll 7
    for (int32_t i = 0; i < group; i++) {
        float part[8];
        load8(source + i * size, part);
#pragma unroll
        for (int j = 0; j < 8; j++)
            sum[j] += part[j];
    }
}

/* What backward reads and writes, on warpgroup products or not. */
struct backward_arrays {
    const bf16 *qkv, *dout;
    const float *sums; /* of attention_query_sums */
    bf16 *dqkv;        /* dQ is written here */
    bf16 *dk, *dv;     /* [n_rows][n_heads][head_size], before folding; NULL: blocks of keys fold */
    float4 *kept;      /* where they keep what has no room in shared memory: [blocks of keys][KEPT_APART][threads] */
};

/* Of 64 queries from `first`: lse to the first 64 threads, delta to the others; beyond the sequence the weights vanish.
 * Asked for early and stored late. */
__device__ __forceinline__ float query_sum(const struct attention_map &map, const struct backward_arrays &arrays,
                                           int64_t row, int32_t head, int32_t first) {
    int i = static_cast<int>(threadIdx.x) % FLASH_TILE;
    bool is_lse = threadIdx.x < FLASH_TILE;
    const float *source =
        arrays.sums + static_cast<int64_t>(is_lse ? head : map.n_heads + head) * map.n_rows + row + first + i;
    return first + i < map.context ? *source : is_lse ? INFINITY : 0.0f;
}
__device__ __forceinline__ void query_sum_store(float sum, float *room) {
    room[threadIdx.x] = sum;
}

/* ---- entry points ---- */
void attention_forward_flash(struct device *device, const struct attention_map *map, const void *qkv, void *out,
                             float *lse);
void attention_backward_flash(struct device *device, const struct attention_map *map, const void *qkv, const void *out,
                              const float *lse, const void *dout, void *dqkv);
/* The same on warpgroup products (attention_hopper.cu). */
static inline bool attention_is_hopper(const struct device *device, const struct attention_map *map) {
    return device->major == 9 && map->head_size == 64;
}
void attention_forward_hopper(struct device *device, const struct attention_map *map, const void *qkv, void *out,
                              float *lse);
void attention_backward_hopper(struct device *device, const struct attention_map *map,
                               const struct backward_arrays *arrays);
/* Bytes of `kept` that blocks need to take all query heads of their keys one after the other and to fold what those
 * give, in the same order and with the same bits as fold_sum; 0: a block takes one head, since there are too few
 * sequences for blocks that long. */
size_t attention_kept_bytes(const struct device *device, const struct attention_map *map);
void attention_forward_generic(struct device *device, const struct attention_map *map, const void *qkv, void *out,
                               float *lse);
void attention_backward_generic(struct device *device, const struct attention_map *map, const void *qkv,
                                const void *out, const float *lse, const void *dout, void *dqkv);
/* What the flash kernels backwards subtract, [2][n_heads][n_rows]: lse in units of log2, and Σ out·dout over a head. */
void attention_query_sums(struct device *device, const struct attention_map *map, const void *out, const void *dout,
                          const float *lse, float *sums);
/* The second of them alone for the plain kernels: delta [n_rows][n_heads]. */
void attention_delta(struct device *device, const struct attention_map *map, const void *out, const void *dout,
                     float *delta);
