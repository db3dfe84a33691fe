/* The register kernel of cpu_tile.h: a few rows of c times one or two groups of lanes, compiled for the register files
 * of AVX-512, AVX2 and anything else. Sums do not depend on the place of a tile, only on its terms. */
#include "cpu_tile.h"

#include "cpu_lanes.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* `height` rows (the last one repeated beyond `rows`) × `groups` groups of lanes, from `column` on. Both are constants
 * where this is inlined, so that sums live in registers. */
static ALWAYS_INLINE void tile(const struct tile_product *p, int64_t first, int64_t column, const int height,
                               const int groups) {
    cpu_lanes sum[CPU_TILE_ROWS * 2];
    const float *a[CPU_TILE_ROWS], *b = p->b + column;
    int64_t rows = cpu_min(height, p->rows - first), a_term = p->a_term, ldb = p->ldb;
#pragma GCC unroll 8
    for (int r = 0; r < height; r++)
        a[r] = p->a + (first + (r < rows ? r : rows - 1)) * p->a_row;
#pragma GCC unroll 16
    for (int i = 0; i < height * groups; i++)
        sum[i] = (cpu_lanes){0};
    for (int64_t term = 0; term < p->terms; term++, b += ldb) {
        cpu_lanes left = CPU_LANES_LOAD(b), right = left;
        if (groups == 2) right = CPU_LANES_LOAD(b + CPU_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < height; r++) {
            float factor = a[r][term * a_term];
            sum[r * groups] += factor * left;
            if (groups == 2) sum[r * groups + 1] += factor * right;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < height; r++)
#pragma GCC unroll 2
        for (int g = 0; g < groups; g++) {
            if (r >= rows) continue;
            float *c = p->c + (first + r) * p->ldc + column + g * CPU_LANES;
            cpu_lanes value = p->scale * sum[r * groups + g];
            if (p->accumulate) value += CPU_LANES_LOAD(c);
            CPU_LANES_STORE(c, value);
        }
}

/* Columns that fill no group of lanes. */
static ALWAYS_INLINE void rest(const struct tile_product *p, int64_t column) {
    for (int64_t row = 0; row < p->rows; row++)
        for (int64_t j = column; j < p->columns; j++) {
            float sum = 0, *c = p->c + row * p->ldc + j;
            for (int64_t term = 0; term < p->terms; term++)
                sum += p->a[row * p->a_row + term * p->a_term] * p->b[term * p->ldb + j];
            *c = p->accumulate ? *c + p->scale * sum : p->scale * sum;
        }
}

static ALWAYS_INLINE void product(const struct tile_product *p, const int height, const int groups) {
    int64_t column = 0;
    for (; column + groups * CPU_LANES <= p->columns; column += groups * CPU_LANES)
        for (int64_t row = 0; row < p->rows; row += height)
            tile(p, row, column, height, groups);
    for (; column + CPU_LANES <= p->columns; column += CPU_LANES)
        for (int64_t row = 0; row < p->rows; row += height)
            tile(p, row, column, height, 1);
    rest(p, column);
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx512f"))) static void product_avx512(const struct tile_product *p) {
    product(p, 8, 2);
}

__attribute__((target("avx2,fma"))) static void product_avx2(const struct tile_product *p) {
    product(p, 4, 1);
}
#endif

static void product_any(const struct tile_product *p) {
    product(p, 2, 1);
}

void cpu_tile_product(const struct tile_product *p) {
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx512f")) {
        product_avx512(p);
        return;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        product_avx2(p);
        return;
    }
#endif
    product_any(p);
}
