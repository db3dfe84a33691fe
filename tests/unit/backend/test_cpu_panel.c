/* Products by the register kernels: each that this processor runs, and BLAS, against sums in double; and that a row's
 * bits do not depend on where it lies. Cases of test_cpu. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu_matmul.h"
#include "lvsweep/rng.h"

void panel_strips_handle_every_remainder(void **state);
void products_agree_for_every_kernel(void **state);
void rows_do_not_depend_on_their_strip(void **state);

static float *normals(uint64_t seed, int64_t count) {
    float *values = malloc((size_t)count * sizeof *values);
    struct rng rng = rng_make(seed, RNG_STREAM_TEST);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)rng_normal(&rng);
    return values;
}

/* One strip with every number of rows and columns, terms that fill no square, both ways of packing, plain and added. */
static void strips_agree(const struct panel_kernel *kernel) {
    enum { ROWS = 12, WIDE = 32, TERMS = 37, GUARD = 40 };
    float *a = normals(1, ROWS * TERMS), *source = normals(2, TERMS * TERMS), c[ROWS * GUARD];
    float *panel = aligned_alloc(CPU_ALIGNMENT, TERMS * WIDE * 2 * sizeof *panel);
    const void *ahead[] = {a, source, c};
    for (int32_t at = 0; at < kernel->width * 4; at++) {
        int32_t columns = at / 4 + 1;
        bool turned = at & 1, add = at & 2;
        (turned ? kernel->pack_turned : kernel->pack)(source, TERMS, TERMS, columns, panel);
        for (int32_t rows = kernel->row_unit; rows <= kernel->height; rows += kernel->row_unit) {
            for (int32_t i = 0; i < ROWS * GUARD; i++)
                c[i] = 3;
            struct panel_strip strip = {rows, columns, TERMS, a, TERMS, panel, c, GUARD, add, ahead, 3};
            kernel->multiply(&strip);
            for (int32_t i = 0; i < ROWS * GUARD; i++) {
                int32_t row = i / GUARD, column = i % GUARD;
                double sum = 0;
                for (int32_t term = 0; term < TERMS && column < columns; term++)
                    sum += (double)a[row * TERMS + term] *
                           (double)source[turned ? column * TERMS + term : term * TERMS + column];
                bool inside = row < rows && column < columns;
                assert_true(fabs((inside ? sum + (add ? 3 : 0) : 3) - (double)c[i]) < 2e-5);
            }
        }
    }
    free(a);
    free(source);
    free(panel);
}

void panel_strips_handle_every_remainder(void **state) {
    (void)state;
    for (const struct panel_kernel *const *kernel = cpu_panel_kernels(); *kernel; kernel++)
        strips_agree(*kernel);
}

/* A frozen matrix of one type in two parts, and the same values as float. */
struct matrix {
    struct weight *weight;
    void *stored;
    float *values;
};

static struct matrix matrix_make(struct device *device, enum tensor_type type, int64_t rows, int64_t cols) {
    int64_t count = rows * cols, size = type == TENSOR_F32 ? 4 : 2, first = rows / 3;
    struct matrix matrix = {.stored = malloc((size_t)(count * size)), .values = malloc((size_t)count * sizeof(float))};
    float *random = normals(3, count);
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &random[i], sizeof bits);
        uint16_t half =
            (uint16_t)(type == TENSOR_BF16 ? bits >> 16 : (bits >> 16 & 0x8000) | 0x3000 | (bits >> 7 & 0xFFF));
        memcpy((char *)matrix.stored + i * size, type == TENSOR_F32 ? (void *)&bits : (void *)&half, (size_t)size);
    }
    cpu_widen(type, matrix.stored, 0, matrix.values, count);
    struct host_tensor parts[] = {{matrix.stored, type, first, cols},
                                  {(char *)matrix.stored + first * cols * size, type, rows - first, cols}};
    struct lvs_error err = {0};
    assert_int_equal(cpu_weight_create(device, parts, 2, &matrix.weight, &err), LVS_OK);
    free(random);
    return matrix;
}

static void matrix_free(struct device *device, struct matrix *matrix) {
    cpu_weight_destroy(device, matrix->weight);
    free(matrix->stored);
    free(matrix->values);
}

/* Both directions with `kernel` (NULL: BLAS) for a matrix of 701 × 430, large enough to stay as it is stored. */
static void products_agree(enum tensor_type type, const struct panel_kernel *kernel, bool accumulate) {
    enum { ROWS = 48, N = 701, K = 430 };
    struct device device = {.threads = 2};
    struct matrix matrix = matrix_make(&device, type, N, K);
    float *a = normals(4, ROWS * N), *c = malloc(ROWS * N * sizeof *c);
    float *tiles = cpu_scratch(&device, cpu_tiles_size(&device));
    struct pack_layout layout = pack_layout_make(1, 1, ROWS);
    layout.row_block = LVS_ROW_BLOCK_SMALL, layout.slot_rows = layout.n_rows = ROWS;
    for (int turned = 0; turned < 2; turned++) {
        int64_t columns = turned ? N : K, terms = turned ? K : N;
        struct product product = cpu_product_make(&layout, a, matrix.weight, c, tiles);
        product.kernel = kernel;
        product.accumulate = accumulate;
        for (int64_t i = 0; i < ROWS * columns; i++)
            c[i] = 3;
        (turned ? cpu_product_forward : cpu_product_backward)(&device, &product);
        for (int64_t i = 0; i < ROWS * columns; i++) {
            int64_t row = i / columns, column = i % columns;
            double sum = accumulate ? 3 : 0, size = 1;
            for (int64_t term = 0; term < terms; term++) {
                double w = (double)matrix.values[turned ? column * K + term : term * K + column];
                sum += (double)a[row * terms + term] * w;
                size += fabs((double)a[row * terms + term] * w);
            }
            assert_true(fabs(sum - (double)c[i]) < 3e-7 * size);
        }
    }
    matrix_free(&device, &matrix);
    free(device.scratch);
    free(a);
    free(c);
}

void products_agree_for_every_kernel(void **state) {
    (void)state;
    const struct panel_kernel *const *kernels = cpu_panel_kernels();
    for (enum tensor_type type = TENSOR_F32; type <= TENSOR_F16; type++) {
        products_agree(type, NULL, type == TENSOR_BF16);
        for (int32_t i = 0; kernels[i]; i++)
            products_agree(type, kernels[i], type == TENSOR_BF16);
    }
}

/* 16 equal rows: different strips, same bits. */
void rows_do_not_depend_on_their_strip(void **state) {
    enum { ROWS = 16, N = 300, K = 1000 };
    (void)state;
    struct device device = {.threads = 1};
    struct matrix matrix = matrix_make(&device, TENSOR_BF16, N, K);
    float *row = normals(5, K), *a = malloc(ROWS * K * sizeof *a), *c = malloc(ROWS * N * sizeof *c);
    float *tiles = cpu_scratch(&device, cpu_tiles_size(&device));
    for (int32_t i = 0; i < ROWS; i++)
        memcpy(a + i * K, row, K * sizeof *a);
    struct pack_layout layout = pack_layout_make(1, 1, ROWS);
    for (const struct panel_kernel *const *kernel = cpu_panel_kernels(); *kernel; kernel++) {
        struct product product = cpu_product_make(&layout, a, matrix.weight, c, tiles);
        product.kernel = *kernel;
        cpu_product_forward(&device, &product);
        for (int32_t i = 1; i < ROWS; i++)
            assert_memory_equal(c, c + i * N, N * sizeof *c);
    }
    matrix_free(&device, &matrix);
    free(device.scratch);
    free(row);
    free(a);
    free(c);
}
