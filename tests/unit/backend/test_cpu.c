/* The CPU's own arithmetic: the exponential against the library's, number formats bit by bit, sums that must not
 * depend on where the array lies, dropout masks against the generator. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu_dropout.h"
#include "cpu_internal.h"
#include "cpu_tile.h"
#include "cpu_vector.h"
#include "lvsweep/rng.h"

/* test_cpu_panel.c */
void panel_strips_handle_every_remainder(void **state);
void products_agree_for_every_kernel(void **state);
void rows_do_not_depend_on_their_strip(void **state);

/* Distance in units of the last place of the exact value. */
static double ulps(float got, double exact) {
    float rounded = (float)exact;
    return fabs((double)got - exact) / (double)(nextafterf(rounded, INFINITY) - rounded);
}

static void exponential_is_accurate(void **state) {
    double worst = 0;
    (void)state;
    for (int32_t i = 0; i <= 4000000; i++) {
        float x = (float)(-87.33 + 175.6 * i / 4000000);
        double error = ulps(cpu_exp(x), exp((double)x));
        worst = error > worst ? error : worst;
    }
    assert_true(worst <= 2);
    assert_true(cpu_exp(0) == 1 && cpu_exp(-0.0f) == 1);
    assert_true(cpu_exp(-88) == 0 && cpu_exp(-1e30f) == 0 && cpu_exp(-INFINITY) == 0);
    assert_true(isfinite(cpu_exp(1000)) && cpu_exp(1000) > 1e38f);
    assert_true(isnan(cpu_exp(NAN)));
}

static void sigmoid_is_accurate(void **state) {
    (void)state;
    for (int32_t i = -200000; i <= 200000; i++) {
        float x = (float)i * 1e-3f;
        double exact = 1 / (1 + exp(-(double)x));
        if (exact > 1e-37) assert_true(ulps(cpu_sigmoid(x), exact) <= 4);
    }
    assert_true(cpu_sigmoid(-INFINITY) == 0 && cpu_sigmoid(INFINITY) == 1 && isnan(cpu_sigmoid(NAN)));
}

static void halves_are_widened_exactly(void **state) {
    enum { ALL = 1 << 16 };
    uint16_t *halves = malloc(ALL * sizeof *halves);
    float *wide = malloc(ALL * sizeof *wide);
    (void)state;
    for (uint32_t i = 0; i < ALL; i++)
        halves[i] = (uint16_t)i;
    cpu_widen(TENSOR_BF16, halves, 0, wide, ALL);
    for (uint32_t i = 0; i < ALL; i++)
        assert_int_equal(cpu_bits_of_float(wide[i]), i << 16);
    cpu_widen(TENSOR_F16, halves, 0, wide, ALL);
    for (uint32_t i = 0; i < ALL; i++) {
        int32_t exponent = (int32_t)(i >> 10 & 31), fraction = (int32_t)(i & 1023);
        double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        if (exponent == 31) magnitude = fraction ? (double)NAN : (double)INFINITY;
        assert_int_equal(signbit(wide[i]) != 0, i >> 15);
        if (exponent == 31 && fraction)
            assert_true(isnan(wide[i]));
        else
            assert_true(fabs((double)wide[i]) == magnitude);
    }
    free(halves);
    free(wide);
}

/* The same numbers at every offset from an aligned address give the same bits. */
static void sums_do_not_depend_on_alignment(void **state) {
    enum { COUNT = 1000 };
    float values[COUNT], *room = aligned_alloc(64, (COUNT + 24) * sizeof *room);
    struct rng rng = rng_make(1, RNG_STREAM_TEST);
    (void)state;
    for (int32_t i = 0; i < COUNT; i++)
        values[i] = (float)rng_normal(&rng);
    for (int64_t count = 1; count <= COUNT; count += 37) {
        double total = 0, sum = 0;
        float dot = 0;
        for (int32_t offset = 0; offset < 16; offset++) {
            memcpy(room + offset, values, sizeof values);
            double this_total = cpu_exp_total(room + offset, 1, 3, count);
            float this_dot = cpu_dot(room + offset, values, count);
            double this_sum = cpu_exp_sum(room + offset, 1, 3, count);
            if (offset > 0) assert_true(this_total == total && this_sum == sum && this_dot == dot);
            total = this_total, sum = this_sum, dot = this_dot;
        }
    }
    free(room);
}

/* Every remainder of rows and columns, a read along rows or along columns, plain, added, and with b padded. */
static void tile_products_handle_every_remainder(void **state) {
    enum { ROWS = 19, COLUMNS = 45, TERMS = 23, WIDE = 48 };
    float a[ROWS * TERMS], b[TERMS * WIDE], c[ROWS * WIDE];
    struct rng rng = rng_make(2, RNG_STREAM_TEST);
    (void)state;
    for (int32_t i = 0; i < ROWS * TERMS; i++)
        a[i] = (float)rng_normal(&rng);
    for (int32_t i = 0; i < TERMS * WIDE; i++)
        b[i] = (float)rng_normal(&rng);
    for (int32_t at = 0; at < ROWS * COLUMNS * 8; at++) {
        int32_t rows = at / 8 % ROWS + 1, columns = at / 8 / ROWS + 1;
        bool turned = at & 1, add = at & 2, padded = at & 4;
        struct tile_product product = {rows, columns, TERMS, a,     turned ? 1 : TERMS, turned ? ROWS : 1, b, WIDE, c,
                                       WIDE, 0.5f,    add,   padded};
        for (int32_t i = 0; i < ROWS * WIDE; i++)
            c[i] = 3;
        cpu_tile_product(&product);
        for (int32_t row = 0; row < ROWS; row++)
            for (int32_t column = 0; column < WIDE; column++) {
                double sum = 0;
                for (int32_t term = 0; term < TERMS; term++)
                    sum += (double)a[turned ? term * ROWS + row : row * TERMS + term] * (double)b[term * WIDE + column];
                bool inside = row < rows && column < columns;
                double expected = inside ? 0.5 * sum + (add ? 3 : 0) : 3;
                assert_true(fabs(expected - (double)c[row * WIDE + column]) < 1e-5);
            }
    }
}

static void dropout_is_a_pure_function_of_place(void **state) {
    enum { COLUMNS = 150, ROW = 1234, SITE = 77 };
    const float probability = 0.3f;
    const uint64_t seed = 0x123456789ABCDEFu;
    const int32_t step = 998;
    struct adapters adapters = {.dropout = &probability, .seed = &seed, .step = &step};
    struct dropout dropout = cpu_dropout_make(&adapters, 0, SITE);
    float ones[COLUMNS], whole[COLUMNS], part[COLUMNS];
    (void)state;
    for (int32_t i = 0; i < COLUMNS; i++)
        ones[i] = 1;
    cpu_dropout_apply(&dropout, ROW, 0, COLUMNS, ones, whole);
    cpu_dropout_apply(&dropout, ROW, 20, COLUMNS - 20, ones + 20, part + 20);
    assert_memory_equal(whole + 20, part + 20, (COLUMNS - 20) * sizeof *part);
    for (int32_t i = 0; i < COLUMNS; i++) {
        uint32_t words[4];
        rng_block(seed, RNG_STREAM_DROPOUT,
                  (uint64_t)step << 44 | (uint64_t)SITE << 34 | (uint64_t)ROW << 16 | (uint64_t)i / 4, words);
        bool dropped = (double)words[i % 4] < floor((double)probability * 0x1p32);
        assert_true(whole[i] == (dropped ? 0 : (float)(1 / (1 - (double)probability))));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exponential_is_accurate),
        cmocka_unit_test(sigmoid_is_accurate),
        cmocka_unit_test(halves_are_widened_exactly),
        cmocka_unit_test(sums_do_not_depend_on_alignment),
        cmocka_unit_test(tile_products_handle_every_remainder),
        cmocka_unit_test(panel_strips_handle_every_remainder),
        cmocka_unit_test(products_agree_for_every_kernel),
        cmocka_unit_test(rows_do_not_depend_on_their_strip),
        cmocka_unit_test(dropout_is_a_pure_function_of_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
