/* Small products that stay in registers and first caches, for attention, where BLAS would pack every operand anew for
 * a few dozen rows. Each output is one sum over its terms in ascending order. */
#pragma once
#include "cpu_internal.h"

enum { CPU_TILE_ROWS = 8 /* rows of c that are computed together at most */ };

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
};
void cpu_tile_product(const struct tile_product *product);
