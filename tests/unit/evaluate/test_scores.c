/* CRPS, R², mean and median: values by hand and printed by NumPy, and what is not finite. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "evaluate_internal.h"

static void assert_close(double value, double expected) {
    if (!(fabs(value - expected) <= 1e-12 * fmax(1, fabs(expected))))
        fail_msg("%.17g, expected %.17g", value, expected);
}

static void crps_by_hand(void **state) {
    (void)state;
    assert_true(isnan(crps_fair(NULL, 0, 1)));
    assert_true(isnan(crps_fair((double[]){3}, 1, 1)));
    /* mean |x − 1| = 1; the only pair is 2 apart: 1 − 2 / 2 = 0 */
    assert_close(crps_fair((double[]){0, 2}, 2, 1), 0);
    /* mean |x − 5| = 4; pairs 1, 2, 1: 4 − 2·4 / (2·3·2) */
    assert_close(crps_fair((double[]){2, 0, 1}, 3, 5), 4 - 8.0 / 12);
    assert_close(crps_fair((double[]){4, 4, 4, 4}, 4, 1.5), 2.5);
}

/* numpy: mean(|x − y|) − sum(|xi − xj|) / (2·n·(n−1)) */
static void crps_as_numpy(void **state) {
    (void)state;
    const double samples[] = {-0.802, -1.324, -0.248, 0.42, 1.136, 0.11, -0.553};
    assert_close(crps_fair(samples, 7, 0.25), 0.2324761904761905);
}

/* The mean over many draws of the fair estimator does not depend on how many samples each has. */
static void crps_is_fair(void **state) {
    (void)state;
    const double population[] = {0, 1, 3, 8};
    double pairs = 0, all = 0;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            if (i == j) continue;
            double two[] = {population[i], population[j]};
            pairs += crps_fair(two, 2, 2) / 12;
            for (int k = 0; k < 4; k++)
                if (k != i && k != j) {
                    double three[] = {population[i], population[j], population[k]};
                    all += crps_fair(three, 3, 2) / 24;
                }
        }
    assert_close(pairs, crps_fair(population, 4, 2));
    assert_close(all, crps_fair(population, 4, 2));
}

static void r_squared_by_hand(void **state) {
    (void)state;
    const double y[] = {1, 2, 3};
    assert_close(r_squared(y, y, 3), 1);
    assert_close(r_squared(y, (double[]){2, 2, 2}, 3), 0);
    assert_close(r_squared(y, (double[]){1, 2, 5}, 3), 1 - 4.0 / 2);
    /* a missing forecast leaves its pair out: y = 1, 3 with mean 2 */
    assert_close(r_squared(y, (double[]){1, NAN, 2}, 3), 1 - 1.0 / 2);
    assert_true(isnan(r_squared((double[]){0.1, 0.1, 0.1}, y, 3)));
    assert_true(isnan(r_squared(y, (double[]){NAN, NAN, NAN}, 3)));
    assert_true(isnan(r_squared(y, (double[]){1, NAN, NAN}, 3)));
    assert_true(isnan(r_squared(y, y, 0)));
}

static void means_skip_what_is_not_finite(void **state) {
    (void)state;
    assert_true(isnan(mean_finite(NULL, 0)) && isnan(median_finite(NULL, 0)));
    assert_true(isnan(mean_finite((double[]){NAN, INFINITY}, 2)) && isnan(median_finite((double[]){NAN}, 1)));
    assert_close(mean_finite((double[]){NAN, 1, 4, -INFINITY}, 4), 2.5);
    assert_close(median_finite((double[]){9, NAN, 1, 2}, 4), 2);
    assert_close(median_finite((double[]){9, 1, 2, 4}, 4), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crps_by_hand),
        cmocka_unit_test(crps_as_numpy),
        cmocka_unit_test(crps_is_fair),
        cmocka_unit_test(r_squared_by_hand),
        cmocka_unit_test(means_skip_what_is_not_finite),
    };
    return cmocka_run_group_tests_name("evaluate/scores", tests, NULL, NULL);
}
