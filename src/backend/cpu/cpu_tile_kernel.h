/* The kernel of cpu_tile.c for one instruction set, a template: included with KERNEL (name), TARGET (attribute), LANES
 * (floats of a register), HEIGHT (rows of a tile, ≤ CPU_TILE_ROWS). A tile is HEIGHT rows × two registers. */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b)  JOIN_(a, b)
#define LOCAL(name) JOIN(name, KERNEL)

typedef float LOCAL(lanes) __attribute__((vector_size(4 * LANES)));
typedef float LOCAL(lanes_anywhere) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define LOAD(pointer) (*(const LOCAL(lanes_anywhere) *)(pointer))

/* Stores the first `columns` sums of one row. */
TARGET static inline void LOCAL(store)(const struct tile_product *p, float *c, int64_t columns, LOCAL(lanes) sum) {
    LOCAL(lanes) scaled = p->scale * sum;
    if (columns == LANES) {
        if (p->accumulate) scaled += LOAD(c);
        *(LOCAL(lanes_anywhere) *)c = scaled;
        return;
    }
    for (int64_t i = 0; i < columns; i++)
        c[i] = p->accumulate ? c[i] + scaled[i] : scaled[i];
}

/* HEIGHT rows from `first` on, the last one repeated where there are fewer, × 2·LANES columns. */
TARGET static void LOCAL(tile)(const struct tile_product *p, int64_t first, int64_t column) {
    LOCAL(lanes) left[HEIGHT], right[HEIGHT];
    const float *a[HEIGHT], *b = p->b + column;
    int64_t rows = cpu_min(HEIGHT, p->rows - first), a_term = p->a_term, ldb = p->ldb, at = 0;
#pragma GCC unroll 8
    for (int r = 0; r < HEIGHT; r++) {
        a[r] = p->a + (first + (r < rows ? r : rows - 1)) * p->a_row;
        left[r] = right[r] = (LOCAL(lanes)){0};
    }
    for (int64_t term = 0; term < p->terms; term++, b += ldb, at += a_term) {
        LOCAL(lanes) b_left = LOAD(b), b_right = LOAD(b + LANES);
#pragma GCC unroll 8
        for (int r = 0; r < HEIGHT; r++) {
            left[r] += a[r][at] * b_left;
            right[r] += a[r][at] * b_right;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < HEIGHT; r++) {
        if (r >= rows) continue;
        float *c = p->c + (first + r) * p->ldc + column;
        LOCAL(store)(p, c, LANES, left[r]);
        LOCAL(store)(p, c + LANES, LANES, right[r]);
    }
}

/* As tile, one register wide; `columns` are stored, the rest of the register only has to be readable in b. */
TARGET static void LOCAL(narrow_tile)(const struct tile_product *p, int64_t first, int64_t column, int64_t columns) {
    LOCAL(lanes) sum[HEIGHT];
    const float *a[HEIGHT], *b = p->b + column;
    int64_t rows = cpu_min(HEIGHT, p->rows - first), a_term = p->a_term, ldb = p->ldb, at = 0;
#pragma GCC unroll 8
    for (int r = 0; r < HEIGHT; r++) {
        a[r] = p->a + (first + (r < rows ? r : rows - 1)) * p->a_row;
        sum[r] = (LOCAL(lanes)){0};
    }
    for (int64_t term = 0; term < p->terms; term++, b += ldb, at += a_term) {
        LOCAL(lanes) terms = LOAD(b);
#pragma GCC unroll 8
        for (int r = 0; r < HEIGHT; r++)
            sum[r] += a[r][at] * terms;
    }
#pragma GCC unroll 8
    for (int r = 0; r < HEIGHT; r++)
        if (r < rows) LOCAL(store)(p, p->c + (first + r) * p->ldc + column, columns, sum[r]);
}

/* Columns that fill no register, where b cannot be read beyond them. */
TARGET static void LOCAL(rest)(const struct tile_product *p, int64_t column) {
    for (int64_t row = 0; row < p->rows; row++)
        for (int64_t j = column; j < p->columns; j++) {
            float sum = 0, *c = p->c + row * p->ldc + j;
            for (int64_t term = 0; term < p->terms; term++)
                sum += p->a[row * p->a_row + term * p->a_term] * p->b[term * p->ldb + j];
            *c = p->accumulate ? *c + p->scale * sum : p->scale * sum;
        }
}

TARGET static void LOCAL(product)(const struct tile_product *p) {
    int64_t column = 0, left = p->columns;
    for (; left >= 2 * LANES; column += 2 * LANES, left -= 2 * LANES)
        for (int64_t row = 0; row < p->rows; row += HEIGHT)
            LOCAL(tile)(p, row, column);
    for (; left >= LANES || (left > 0 && p->padded); column += LANES, left -= LANES)
        for (int64_t row = 0; row < p->rows; row += HEIGHT)
            LOCAL(narrow_tile)(p, row, column, cpu_min(left, LANES));
    if (left > 0) LOCAL(rest)(p, column);
}

#undef JOIN_
#undef JOIN
#undef LOCAL
#undef LOAD
#undef KERNEL
#undef TARGET
#undef LANES
#undef HEIGHT
