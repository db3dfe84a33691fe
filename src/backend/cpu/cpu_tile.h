/* Small products that stay in registers and first caches: attention, where BLAS would pack every operand anew for a
 * few dozen rows, and low-rank pairs, whose one side is too short for it. Each output is one sum over its terms in
 * ascending order, whatever tile it falls into, so zero padding changes no bit. */
#pragma once
#include "cpu_internal.h"

enum {
    CPU_TILE_ROWS = 8,   /* rows of c computed together at most */
    CPU_TILE_LANES = 16, /* columns are padded to this where `padded` is set */
};

/* c [rows][columns] = scale · Σ a(row, term) · b [term][columns], or += for accumulate. */
struct tile_product {
    int64_t rows, columns, terms;
    const float *a; /* a(row, term) at a[row·a_row + term·a_term] */
    int64_t a_row, a_term;
    const float *b; /* rows ldb apart */
    int64_t ldb;
    float *c; /* rows ldc apart */
    int64_t ldc;
    float scale;
    bool accumulate;
    bool padded; /* b can be read up to whole CPU_TILE_LANES columns */
};
void cpu_tile_product(const struct tile_product *product);

/* Columns rounded up to whole lanes. */
static inline int64_t cpu_tile_padded(int64_t columns) {
    return cpu_blocks(columns, CPU_TILE_LANES) * CPU_TILE_LANES;
}
