/* What the two directions of RMSNorm fused with the A side of LoRA share: the rows of A by column of xa, the arrays,
 * and the gain in shared memory. A and t are float and enter the tensor cores as two bf16 each, so that float's
 * accuracy is kept. */
#pragma once
#include "lora.cuh"

#define TILE_ROWS       16
#define MOST_COLS       2048
#define COLUMN_TILES(n) (((n) + 7) / 8)

/* Columns of xa: site·rank + r is row r of the site's A. */
struct a_rows {
    int64_t offset[LVS_MAX_SITES];
    int32_t rank, columns;
};
static inline struct a_rows a_rows_make(const struct lora_group *group) {
    struct a_rows rows = {};
    rows.rank = group->n > 0 ? group->site[0].rank : 1;
    rows.columns = group_columns(group);
    for (int32_t s = 0; s < group->n; s++)
        rows.offset[s] = group->site[s].a_offset;
    return rows;
}
/* Row of A for column c, or NULL beyond the last. */
__device__ __forceinline__ const float *a_row(const struct a_rows &rows, const float *params, int32_t c, int32_t cols) {
    if (c >= rows.columns) return nullptr;
    int32_t site = c / rows.rank;
    int64_t offset = site == 0 ? rows.offset[0] : site == 1 ? rows.offset[1] : rows.offset[2];
    return params + offset + static_cast<int64_t>(c % rows.rank) * cols;
}

struct norm_arrays {
    const bf16 *x;
    const float *gain, *params;
    bf16 *y, *dy, *dx;
    float *rstd, *xa, *partial;
    const float *t, *rstd_in;
    struct dropout_mask mask;
    int64_t stride; /* of params */
    float epsilon;
    int32_t cols;
};

static inline bool norm_lora_fits(int32_t cols, int32_t columns) {
    return cols % 128 == 0 && cols <= MOST_COLS && columns > 0 && columns <= 48;
}

/* The norm's gain in shared memory: the even fours of columns, then the odd ones, so that lanes of eight neighbouring
 * columns each meet different banks. Where `col` lies: */
__device__ __forceinline__ int32_t gain_place(int32_t col, int32_t cols) {
    return col / 4 % 2 * (cols / 2) + col / 8 * 4 + col % 4;
}
__device__ __forceinline__ void gain_request(const float *gain, int32_t cols, float *target) {
    for (int32_t at = static_cast<int32_t>(threadIdx.x) * 4; at < cols; at += static_cast<int32_t>(blockDim.x) * 4)
        copy_async(shared_address(target + gain_place(at, cols)), gain + at, true);
}
/* Eight from `col`. */
__device__ __forceinline__ void gain_load(const float *gain, int32_t cols, int32_t col, float out[8]) {
    float4 a = *reinterpret_cast<const float4 *>(gain + col / 2);
    float4 b = *reinterpret_cast<const float4 *>(gain + cols / 2 + col / 2);
    out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w, out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
}
