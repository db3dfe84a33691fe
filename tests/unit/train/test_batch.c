/* The order of windows: permutations epoch by epoch, no window lost at an epoch's end, the same beginning for any
 * length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lvsweep/train.h"

static void every_epoch_is_a_permutation(void **state) {
    (void)state;
    enum { N_WINDOWS = 13, BATCH = 4, N_STEPS = 26 }; /* eight epochs exactly */
    int32_t order[N_STEPS * BATCH];
    struct settings settings = {.batch = BATCH, .shuffle = 1, .seed = 7};
    batch_order(&settings, N_WINDOWS, N_STEPS, order);
    int differing = 0;
    for (int epoch = 0; epoch < N_STEPS * BATCH / N_WINDOWS; epoch++) {
        int seen[N_WINDOWS] = {0};
        for (int i = 0; i < N_WINDOWS; i++) {
            int32_t window = order[epoch * N_WINDOWS + i];
            assert_in_range(window, 0, N_WINDOWS - 1);
            seen[window]++;
            differing += window != order[i];
        }
        for (int i = 0; i < N_WINDOWS; i++)
            assert_int_equal(seen[i], 1);
    }
    assert_true(differing > 50);
}

static void beginning_does_not_depend_on_length(void **state) {
    (void)state;
    int32_t few[5 * 3], many[500 * 3];
    struct settings settings = {.batch = 3, .shuffle = 1, .seed = -1};
    batch_order(&settings, 4, 5, few);
    batch_order(&settings, 4, 500, many);
    assert_memory_equal(few, many, sizeof few);
}

static void seeds_differ(void **state) {
    (void)state;
    int32_t a[100], b[100];
    struct settings settings = {.batch = 1, .shuffle = 1, .seed = 0};
    batch_order(&settings, 100, 100, a);
    settings.seed = 1;
    batch_order(&settings, 100, 100, b);
    assert_memory_not_equal(a, b, sizeof a);
}

static void file_order_runs_on(void **state) {
    (void)state;
    int32_t order[8];
    struct settings settings = {.batch = 2, .shuffle = 0};
    batch_order(&settings, 3, 4, order);
    assert_memory_equal(order, ((int32_t[]){0, 1, 2, 0, 1, 2, 0, 1}), sizeof order);
}

static void edges(void **state) {
    (void)state;
    int32_t order[6] = {9, 9, 9, 9, 9, 9};
    struct settings settings = {.batch = 3, .shuffle = 1};
    batch_order(&settings, 1, 2, order); /* fewer windows than a batch */
    assert_memory_equal(order, ((int32_t[6]){0}), sizeof order);
    batch_order(&settings, 5, 0, order);
    assert_int_equal(order[0], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_epoch_is_a_permutation),
        cmocka_unit_test(beginning_does_not_depend_on_length),
        cmocka_unit_test(seeds_differ),
        cmocka_unit_test(file_order_runs_on),
        cmocka_unit_test(edges),
    };
    return cmocka_run_group_tests_name("train/batch", tests, NULL, NULL);
}
