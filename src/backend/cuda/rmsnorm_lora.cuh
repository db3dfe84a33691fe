/* What the two directions of RMSNorm fused with the A side of LoRA share: the rows of A by column of xa, the arrays,
 * and the choice of a kernel instance. A and t are float and enter the tensor cores as two bf16 each, so that float's
 * accuracy is kept. */
#pragma once
#include "lora.cuh"

#define TILE_ROWS       16
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
    return cols % 128 == 0 && cols <= 2048 && columns > 0 && columns <= 48;
}

/* Chooses the instance by the columns of xa; call<NT, others…>. */
#define BY_COLUMNS(call, device, layout, arrays, rows, ...)               \
    switch (COLUMN_TILES((rows)->columns)) {                              \
    case 1:                                                               \
        call<1 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    case 2:                                                               \
        call<2 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    case 3:                                                               \
        call<3 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    case 4:                                                               \
        call<4 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    default:                                                              \
        call<6 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    }
