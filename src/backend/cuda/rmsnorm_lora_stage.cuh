/* What a block of the A side of LoRA backwards has in shared memory: pieces of LORA_PARTIAL_ROWS rows, asked for ahead,
 * and A. Nothing here waits; the kernel does. */
#pragma once
#include "pieces.h"
#include "rmsnorm_lora.cuh"

#define BACKWARD_WARPS   16
#define BACKWARD_THREADS (BACKWARD_WARPS * 32)
#define ROWS             LORA_PARTIAL_ROWS
#define MOST_JOINED      1024 /* columns of x up to which the sums of a pair's two pieces are joined */

/* Whether a thread has registers to keep a piece's sums for `columns` of xa. */
__host__ __device__ constexpr bool joins_fit(int32_t columns) {
    return columns <= 16;
}

/* How shared memory is used; `ld` is a tile's row in elements. */
struct backward_room {
    int32_t ld, stages; /* stages: 1 or 2 tiles of x and dy, so that the next piece is on its way */
    bool holds_a, holds_dx;
    bool joins; /* sums of pairs of pieces are stored once */
    size_t bytes;
};

/* A piece in shared memory. */
struct backward_stage {
    bf16 *x, *dy;    /* [ROWS][ld] */
    float *t, *rstd; /* [ROWS][columns], [ROWS] */
};
__host__ __device__ __forceinline__ size_t stage_bytes(int32_t ld, int32_t columns) {
    return static_cast<size_t>(2 * ROWS * ld) * sizeof(bf16) +
           static_cast<size_t>(ROWS * (columns + 1)) * sizeof(float);
}
__device__ __forceinline__ struct backward_stage stage_at(unsigned char *memory, int32_t ld, int32_t columns) {
    struct backward_stage stage;
    stage.x = reinterpret_cast<bf16 *>(memory), stage.dy = stage.x + ROWS * ld;
    stage.t = reinterpret_cast<float *>(stage.dy + ROWS * ld), stage.rstd = stage.t + ROWS * columns;
    return stage;
}

/* Where a piece lies: its first row, and how many rows its slot has from there on. */
struct backward_piece {
    int64_t row;
    int32_t slot, left;
};
__device__ __forceinline__ struct backward_piece piece_at(const struct row_map &map, int32_t index) {
    int32_t pieces = (map.slot_rows + ROWS - 1) / ROWS, slot = index / pieces, first = index % pieces * ROWS;
    return {static_cast<int64_t>(slot) * map.slot_rows + first, slot, map.slot_rows - first};
}
__device__ __forceinline__ struct backward_piece piece_after(const struct row_map &map,
                                                             const struct backward_piece &piece) {
    if (piece.left > ROWS) return {piece.row + ROWS, piece.slot, piece.left - ROWS};
    return {piece.row + piece.left, piece.slot + 1, map.slot_rows};
}
/* Whether the slot has a piece after this one that makes a pair with it: pairs begin at even pieces of a slot. */
__device__ __forceinline__ bool piece_leads_pair(const struct row_map &map, const struct backward_piece &piece) {
    return (map.slot_rows - piece.left) / ROWS % 2 == 0 && piece.left > ROWS;
}

/* A piece's rows of `source` [n_rows][cols] on their way, a warp a row; rows beyond the slot become zeros. */
__device__ __forceinline__ void rows_request(const bf16 *source, int32_t cols, const struct backward_piece &piece,
                                             bf16 *tile, int32_t ld) {
    static_assert(ROWS == BACKWARD_WARPS, "a warp a row");
    int32_t r = static_cast<int32_t>(threadIdx.x) / 32, col = static_cast<int32_t>(threadIdx.x) % 32 * 8;
    bool exists = r < piece.left;
    const bf16 *from = source + (exists ? piece.row + r : piece.row) * cols + col;
    uint32_t target = shared_address(tile + r * ld + col);
#pragma unroll 1
    for (int32_t base = 0; base < cols; base += 1024) {
#pragma unroll
        for (int32_t k = base; k < base + 1024; k += 256)
            copy_async_if(col + k < cols, target + k * 2, from + k, exists);
    }
}

/* x, dy, t and rstd of a piece on their way. */
template <bool NORM>
__device__ __forceinline__ void piece_request(const struct norm_arrays &arrays, const struct backward_piece &piece,
                                              const struct backward_stage &stage, int32_t ld, int32_t columns) {
    rows_request(arrays.x, arrays.cols, piece, stage.x, ld);
    rows_request(arrays.dy, arrays.cols, piece, stage.dy, ld);
    int32_t at = static_cast<int32_t>(threadIdx.x) * 4;
    if (at < ROWS * columns)
        copy_async(shared_address(stage.t + at), arrays.t + (at < piece.left * columns ? piece.row * columns + at : 0),
                   at < piece.left * columns);
    if (NORM && at < ROWS)
        copy_async(shared_address(stage.rstd + at), arrays.rstd_in + (at < piece.left ? piece.row + at : 0),
                   at < piece.left);
    if (!NORM && at < ROWS) *reinterpret_cast<float4 *>(stage.rstd + at) = make_float4(1, 1, 1, 1);
}

/* A in shared memory as two bf16 a number: [columns][ld] of the main parts, then of the rests. */
__device__ __forceinline__ void a_stage(const struct a_rows &rows, const float *params, int32_t cols, bf16 *a,
                                        int32_t ld) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
#pragma unroll 1
    for (int32_t c = static_cast<int32_t>(threadIdx.x) / 32; c < rows.columns; c += BACKWARD_WARPS) {
        const float *source = a_row(rows, params, c, cols);
#pragma unroll 2
        for (int32_t col = lane * 4; col < cols; col += 128) {
            float4 four = *reinterpret_cast<const float4 *>(source + col);
            uint2 main, rest;
            split_bf16(four.x, four.y, &main.x, &rest.x);
            split_bf16(four.z, four.w, &main.y, &rest.y);
            *reinterpret_cast<uint2 *>(a + c * ld + col) = main;
            *reinterpret_cast<uint2 *>(a + (rows.columns + c) * ld + col) = rest;
        }
    }
}
