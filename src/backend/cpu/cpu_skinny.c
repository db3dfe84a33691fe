/* The three products of a low-rank pair. Not parallel: callers share out rows or columns. Invariant: every output is
 * one sum over k (or m) in ascending order, whatever the tile it is computed in. */
#include "cpu_skinny.h"

#include "cpu_lanes.h"

enum { PROJECT_ROWS = 8, EXPAND_ROWS = 4, OUTER_RANK = 8 };

/* Up to PROJECT_ROWS rows × one group of lanes; the missing rows of a short tile repeat the last. */
CPU_CLONES static void project_tile(int64_t rows, int64_t columns, int64_t k, float alpha, const float *a, int64_t lda,
                                    const float *b, int64_t ldb, float *c, int64_t ldc) {
    const float *row[PROJECT_ROWS];
    cpu_lanes sum[PROJECT_ROWS];
    for (int r = 0; r < PROJECT_ROWS; r++) {
        row[r] = a + (r < rows ? r : rows - 1) * lda;
        sum[r] = (cpu_lanes){0};
    }
    for (int64_t i = 0; i < k; i++) {
        cpu_lanes terms = CPU_LANES_LOAD(b + i * ldb);
#pragma GCC unroll 8
        for (int r = 0; r < PROJECT_ROWS; r++)
            sum[r] += row[r][i] * terms;
    }
    for (int r = 0; r < rows; r++) {
        float values[CPU_LANES];
        CPU_LANES_STORE(values, alpha * sum[r]);
        memcpy(c + r * ldc, values, (size_t)columns * sizeof *c);
    }
}

void cpu_skinny_project(int64_t m, int64_t n_out, int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                        int64_t ldb, float *c, int64_t ldc) {
    for (int64_t column = 0; column < n_out; column += CPU_LANES)
        for (int64_t row = 0; row < m; row += PROJECT_ROWS)
            project_tile(cpu_min(PROJECT_ROWS, m - row), cpu_min(CPU_LANES, n_out - column), k, alpha, a + row * lda,
                         lda, b + column, ldb, c + row * ldc + column, ldc);
}

CPU_CLONES static void expand_tile(int64_t rows, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                                   const float *b, int64_t ldb, float *c, int64_t ldc) {
    int64_t whole = n / CPU_LANES * CPU_LANES;
    const float *factor[EXPAND_ROWS];
    for (int r = 0; r < EXPAND_ROWS; r++)
        factor[r] = a + (r < rows ? r : rows - 1) * lda;
    for (int64_t column = 0; column < whole; column += CPU_LANES) {
        cpu_lanes sum[EXPAND_ROWS] = {{0}};
        for (int64_t i = 0; i < k; i++) {
            cpu_lanes terms = CPU_LANES_LOAD(b + i * ldb + column);
#pragma GCC unroll 4
            for (int r = 0; r < EXPAND_ROWS; r++)
                sum[r] += factor[r][i] * terms;
        }
        for (int r = 0; r < rows; r++) {
            float *target = c + r * ldc + column;
            CPU_LANES_STORE(target, CPU_LANES_LOAD(target) + alpha * sum[r]);
        }
    }
    for (int64_t column = whole; column < n; column++)
        for (int r = 0; r < rows; r++) {
            float sum = 0;
            for (int64_t i = 0; i < k; i++)
                sum += factor[r][i] * b[i * ldb + column];
            c[r * ldc + column] += alpha * sum;
        }
}

void cpu_skinny_expand(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                       int64_t ldb, float *c, int64_t ldc) {
    for (int64_t row = 0; row < m; row += EXPAND_ROWS)
        expand_tile(cpu_min(EXPAND_ROWS, m - row), n, k, alpha, a + row * lda, lda, b, ldb, c + row * ldc, ldc);
}

/* Up to OUTER_RANK rows of c × two groups of lanes. */
CPU_CLONES static void outer_tile(int64_t m, int64_t rank, const float *a, int64_t lda, const float *b, int64_t ldb,
                                  float *c, int64_t ldc) {
    cpu_lanes left[OUTER_RANK] = {{0}}, right[OUTER_RANK] = {{0}};
    if (rank == OUTER_RANK)
        for (int64_t i = 0; i < m; i++) {
            cpu_lanes first = CPU_LANES_LOAD(b + i * ldb), second = CPU_LANES_LOAD(b + i * ldb + CPU_LANES);
#pragma GCC unroll 8
            for (int r = 0; r < OUTER_RANK; r++) {
                left[r] += a[i * lda + r] * first;
                right[r] += a[i * lda + r] * second;
            }
        }
    else
        for (int64_t i = 0; i < m; i++) {
            cpu_lanes first = CPU_LANES_LOAD(b + i * ldb), second = CPU_LANES_LOAD(b + i * ldb + CPU_LANES);
#pragma GCC unroll 8
            for (int r = 0; r < OUTER_RANK; r++) {
                float factor = r < rank ? a[i * lda + r] : 0;
                left[r] += factor * first;
                right[r] += factor * second;
            }
        }
    for (int r = 0; r < rank; r++) {
        float *target = c + r * ldc;
        CPU_LANES_STORE(target, CPU_LANES_LOAD(target) + left[r]);
        CPU_LANES_STORE(target + CPU_LANES, CPU_LANES_LOAD(target + CPU_LANES) + right[r]);
    }
}

CPU_CLONES static void outer_rest(int64_t m, int64_t n, int64_t rank, const float *a, int64_t lda, const float *b,
                                  int64_t ldb, float *c, int64_t ldc) {
    for (int64_t r = 0; r < rank; r++)
        for (int64_t column = 0; column < n; column++) {
            float sum = 0;
            for (int64_t i = 0; i < m; i++)
                sum += a[i * lda + r] * b[i * ldb + column];
            c[r * ldc + column] += sum;
        }
}

void cpu_skinny_outer(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                      float *c, int64_t ldc) {
    int64_t whole = n / (2 * CPU_LANES) * (2 * CPU_LANES);
    for (int64_t r = 0; r < k; r += OUTER_RANK) {
        int64_t rank = cpu_min(OUTER_RANK, k - r);
        for (int64_t column = 0; column < whole; column += 2 * CPU_LANES)
            outer_tile(m, rank, a + r, lda, b + column, ldb, c + r * ldc + column, ldc);
        if (whole < n) outer_rest(m, n - whole, rank, a + r, lda, b + whole, ldb, c + r * ldc + whole, ldc);
    }
}
