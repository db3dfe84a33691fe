/* The kernel of cpu_panel.c for one instruction set, a template: included with KERNEL (name), TARGET (attribute), LANES
 * (floats of a register), HEIGHT (rows of a strip, a multiple of 3). The sums of a strip, HEIGHT rows × two registers,
 * stay in registers over all terms. Not a file by itself. */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b)  JOIN_(a, b)
#define LOCAL(name) JOIN(name, KERNEL)
#define NAME_(name) #name
#define NAME(name)  NAME_(name)

enum { LOCAL(WIDTH) = 2 * LANES, LOCAL(STAGES) = LANES == 16 ? 4 : 3 /* squares of 1, 2, 4 … lanes */ };

typedef float LOCAL(lanes) __attribute__((vector_size(4 * LANES)));
typedef float LOCAL(lanes_anywhere) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t LOCAL(lane_index) __attribute__((vector_size(4 * LANES)));
typedef uint32_t LOCAL(lane_bits) __attribute__((vector_size(4 * LANES)));
typedef uint16_t LOCAL(halves_anywhere) __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

#define LOAD(pointer)         (*(const LOCAL(lanes_anywhere) *)(pointer))
#define STORE(pointer, value) (*(LOCAL(lanes_anywhere) *)(pointer) = (value))

/* ---- the product ---- */

/* Rows are reached from every third one, so that their addresses need few registers. */
TARGET __attribute__((always_inline)) static inline void LOCAL(rows)(const int rows, const struct panel_strip *p,
                                                                     float *c, int64_t ldc, bool accumulate) {
    LOCAL(lanes) left[HEIGHT], right[HEIGHT];
    const float *panel = p->panel, *third[HEIGHT / 3];
    int64_t lda = p->lda, terms = p->terms;
#pragma GCC unroll 12
    for (int i = 0; i < HEIGHT / 3; i++)
        third[i] = p->a + 3 * i * lda;
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
        left[i] = right[i] = (LOCAL(lanes)){0};
    const void *const *ahead = p->ahead, *const *ahead_end = p->ahead + p->n_ahead;
    int64_t ahead_step = cpu_blocks(p->n_ahead, cpu_blocks(terms, AHEAD_TERMS));
    for (int64_t term = 0; term < terms;) {
        for (int64_t i = 0; i < ahead_step && ahead < ahead_end; i++)
            __builtin_prefetch(*ahead++, 0, 2);
        for (int64_t end = cpu_min(term + AHEAD_TERMS, terms); term < end; term++, panel += LOCAL(WIDTH)) {
            LOCAL(lanes) b_left = LOAD(panel), b_right = LOAD(panel + LANES);
#pragma GCC unroll 12
            for (int i = 0; i < rows; i++) {
                float a = third[i / 3][i % 3 * lda + term];
                left[i] += a * b_left;
                right[i] += a * b_right;
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        float *target = c + i * ldc;
        if (accumulate) {
            left[i] += LOAD(target);
            right[i] += LOAD(target + LANES);
        }
        STORE(target, left[i]);
        STORE(target + LANES, right[i]);
    }
}

TARGET static void LOCAL(rows_whole)(const struct panel_strip *p, float *c, int64_t ldc, bool accumulate) {
    LOCAL(rows)(HEIGHT, p, c, ldc, accumulate);
}

TARGET static void LOCAL(rows_two_thirds)(const struct panel_strip *p, float *c, int64_t ldc, bool accumulate) {
    LOCAL(rows)(HEIGHT / 3 * 2, p, c, ldc, accumulate);
}

TARGET static void LOCAL(rows_third)(const struct panel_strip *p, float *c, int64_t ldc, bool accumulate) {
    LOCAL(rows)(HEIGHT / 3, p, c, ldc, accumulate);
}

TARGET static void LOCAL(multiply)(const struct panel_strip *p) {
    float whole[HEIGHT * LOCAL(WIDTH)];
    bool narrow = p->columns < LOCAL(WIDTH);
    float *c = narrow ? whole : p->c;
    int64_t ldc = narrow ? LOCAL(WIDTH) : p->ldc;
    bool accumulate = p->accumulate && !narrow;
    if (p->rows == HEIGHT)
        LOCAL(rows_whole)(p, c, ldc, accumulate);
    else if (p->rows == HEIGHT / 3 * 2)
        LOCAL(rows_two_thirds)(p, c, ldc, accumulate);
    else
        LOCAL(rows_third)(p, c, ldc, accumulate);
    for (int64_t i = 0; narrow && i < p->rows; i++)
        for (int64_t j = 0; j < p->columns; j++) {
            float sum = whole[i * LOCAL(WIDTH) + j], *target = p->c + i * p->ldc + j;
            *target = p->accumulate ? *target + sum : sum;
        }
}

/* ---- packing ---- */

/* LANES values that begin `index` elements into a matrix of floats or, for `half`, of bf16. */
TARGET __attribute__((always_inline)) static inline LOCAL(lanes)
    LOCAL(load)(const void *source, int64_t index, const bool half) {
    if (!half) return LOAD((const float *)source + index);
    LOCAL(halves_anywhere) stored = *(const LOCAL(halves_anywhere) *)((const uint16_t *)source + index);
    return (LOCAL(lanes))(__builtin_convertvector(stored, LOCAL(lane_bits)) << 16);
}

TARGET __attribute__((always_inline)) static inline float LOCAL(load_one)(const void *source, int64_t index,
                                                                          const bool half) {
    if (!half) return ((const float *)source)[index];
    return cpu_float_of_bits((uint32_t)((const uint16_t *)source)[index] << 16);
}

TARGET __attribute__((always_inline)) static inline void
LOCAL(pack_any)(const void *source, int64_t ld, int64_t terms, int64_t columns, float *panel, const bool half) {
    for (int64_t term = 0; term < terms; term++, panel += LOCAL(WIDTH)) {
        if (columns == LOCAL(WIDTH)) {
            STORE(panel, LOCAL(load)(source, term * ld, half));
            STORE(panel + LANES, LOCAL(load)(source, term * ld + LANES, half));
            continue;
        }
        for (int64_t j = 0; j < LOCAL(WIDTH); j++)
            panel[j] = j < columns ? LOCAL(load_one)(source, term * ld + j, half) : 0;
    }
}

TARGET static void LOCAL(pack)(const float *source, int64_t ld, int64_t terms, int64_t columns, float *panel) {
    LOCAL(pack_any)(source, ld, terms, columns, panel, false);
}

TARGET static void LOCAL(pack_bf16)(const uint16_t *source, int64_t ld, int64_t terms, int64_t columns, float *panel) {
    LOCAL(pack_any)(source, ld, terms, columns, panel, true);
}

/* LANES terms of LANES columns from `first` on: a square turned in registers, by swapping squares of side 1, 2, 4 …
 * across the diagonal. swap[j] are the lanes that rows 2^j apart get, counted through both of them: first the upper
 * row, then the lower. */
TARGET __attribute__((always_inline)) static inline void LOCAL(square_turned)(const LOCAL(lane_index) swap[][2],
                                                                              const void *source, int64_t first,
                                                                              int64_t ld, float *panel,
                                                                              const bool half) {
    LOCAL(lanes) row[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        row[i] = LOCAL(load)(source, first + i * ld, half);
#pragma GCC unroll 4
    for (int j = 0; j < LOCAL(STAGES); j++)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            if (i >> j & 1) continue;
            LOCAL(lanes) upper = row[i], lower = row[i + (1 << j)];
            row[i] = __builtin_shuffle(upper, lower, swap[j][0]);
            row[i + (1 << j)] = __builtin_shuffle(upper, lower, swap[j][1]);
        }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        STORE(panel + i * LOCAL(WIDTH), row[i]);
}

TARGET __attribute__((always_inline)) static inline void
LOCAL(pack_any_turned)(const void *source, int64_t ld, int64_t terms, int64_t columns, float *panel, const bool half) {
    int64_t whole_terms = terms / LANES * LANES, whole_columns = columns / LANES * LANES;
    LOCAL(lane_index) swap[LOCAL(STAGES)][2];
    for (int j = 0; j < LOCAL(STAGES); j++)
        for (int i = 0; i < LANES; i++) {
            swap[j][0][i] = i >> j & 1 ? LANES + i - (1 << j) : i;
            swap[j][1][i] = i >> j & 1 ? LANES + i : i + (1 << j);
        }
    for (int64_t term = 0; term < whole_terms; term += LANES)
        for (int64_t column = 0; column < whole_columns; column += LANES)
            LOCAL(square_turned)(swap, source, column * ld + term, ld, panel + term * LOCAL(WIDTH) + column, half);
    for (int64_t term = 0; term < terms; term++)
        for (int64_t j = term < whole_terms ? whole_columns : 0; j < LOCAL(WIDTH); j++)
            panel[term * LOCAL(WIDTH) + j] = j < columns ? LOCAL(load_one)(source, j * ld + term, half) : 0;
}

TARGET static void LOCAL(pack_turned)(const float *source, int64_t ld, int64_t terms, int64_t columns, float *panel) {
    LOCAL(pack_any_turned)(source, ld, terms, columns, panel, false);
}

TARGET static void LOCAL(pack_bf16_turned)(const uint16_t *source, int64_t ld, int64_t terms, int64_t columns,
                                           float *panel) {
    LOCAL(pack_any_turned)(source, ld, terms, columns, panel, true);
}

static const struct panel_kernel LOCAL(panel_kernel) = {
    .name = NAME(KERNEL),
    .width = LOCAL(WIDTH),
    .height = HEIGHT,
    .row_unit = HEIGHT / 3,
    .multiply = LOCAL(multiply),
    .pack = LOCAL(pack),
    .pack_turned = LOCAL(pack_turned),
    .pack_bf16 = LOCAL(pack_bf16),
    .pack_bf16_turned = LOCAL(pack_bf16_turned),
};

#undef JOIN_
#undef JOIN
#undef LOCAL
#undef NAME_
#undef NAME
#undef LOAD
#undef STORE
#undef KERNEL
#undef TARGET
#undef LANES
#undef HEIGHT
