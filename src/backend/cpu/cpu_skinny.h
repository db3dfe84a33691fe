/* Products with one short side, the rank of an adapter, which BLAS does badly. Each sum runs over its terms in order,
 * one lane an output, so a rank padded with zeros gives the bits of the rank alone. */
#pragma once
#include "cpu_internal.h"

/* c [m][n] = alpha · a [m][k] · b [k][n]; n is a multiple of CPU_LANES in b only: columns of c beyond n_out are not
 * written. */
void cpu_skinny_project(int64_t m, int64_t n_out, int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                        int64_t ldb, float *c, int64_t ldc);
/* c [m][n] += alpha · a [m][k] · b [k][n] with k small. */
void cpu_skinny_expand(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                       int64_t ldb, float *c, int64_t ldc);
/* c [k][n] += a[m][k]ᵀ · b [m][n] with k small; the sum over m is added in one piece. */
void cpu_skinny_outer(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                      float *c, int64_t ldc);
/* Columns rounded up to whole lanes. */
static inline int64_t cpu_lanes_round(int64_t columns) {
    return cpu_blocks(columns, 16) * 16;
}
