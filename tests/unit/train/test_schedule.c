/* Learning rates against values printed by PyTorch and transformers for short runs; edges by hand. The long recorded
 * arrays are in tests/golden. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "train_internal.h"

static struct settings make_settings(int32_t schedule, double warmup_steps) {
    return (struct settings){
        .learning_rate = 1e-3,
        .schedule = schedule,
        .warmup_steps = warmup_steps,
        .warmup_percent = -1,
        .onecycle_div = 25,
        .onecycle_final_div = 100,
    };
}

static void check_rates(const struct settings *settings, int32_t n_steps, const double *expected) {
    for (int32_t k = 0; k < n_steps; k++) {
        double rate = schedule_learning_rate(settings, k, n_steps);
        if (fabs(rate - expected[k]) > 1e-15) fail_msg("step %d: %.17g, expected %.17g", k, rate, expected[k]);
    }
}

static void warmup_is_the_smaller_of_percent_and_steps(void **state) {
    (void)state;
    static const struct {
        double percent, steps;
        int32_t n_steps, expected;
    } cases[] = {
        {-1, -1, 600, 0},   {10, -1, 600, 60},    {10, -1, 605, 60},   {10, -1, 30, 3},   {-1, 100, 600, 100},
        {10, 100, 600, 60}, {10, 100, 6000, 100}, {-1, 700, 600, 600}, {100, -1, 10, 10}, {0, -1, 10, 0},
        {-1, 0, 10, 0},     {10, -1, 0, 0},       {7, -1, 100, 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct settings settings = {.warmup_percent = cases[i].percent, .warmup_steps = cases[i].steps};
        assert_int_equal(schedule_warmup_steps(&settings, cases[i].n_steps), cases[i].expected);
    }
}

static void constant(void **state) {
    (void)state;
    struct settings settings = make_settings(SCHEDULE_CONSTANT, 3);
    check_rates(&settings, 5, (double[]){0, 0.001 / 3, 0.002 / 3, 0.001, 0.001});
    settings.warmup_steps = 0;
    check_rates(&settings, 2, (double[]){0.001, 0.001});
}

static void linear(void **state) {
    (void)state;
    struct settings settings = make_settings(SCHEDULE_LINEAR, 2);
    check_rates(&settings, 7, (double[]){0, 0.0005, 0.001, 0.0008, 0.0006, 0.0004, 0.0002});
    settings.warmup_steps = 7; /* never reaches the peak */
    check_rates(&settings, 7, (double[]){0, 1e-3 / 7, 2e-3 / 7, 3e-3 / 7, 4e-3 / 7, 5e-3 / 7, 6e-3 / 7});
}

static void cosine(void **state) {
    (void)state;
    struct settings settings = make_settings(SCHEDULE_COSINE, 2);
    check_rates(&settings, 7,
                (double[]){0, 0.0005, 0.001, 0.0009045084971874737, 0.0006545084971874737, 0.00034549150281252633,
                           9.549150281252633e-05});
}

static void onecycle_linear(void **state) {
    (void)state;
    struct settings settings = make_settings(SCHEDULE_ONECYCLE, 3);
    settings.onecycle_anneal = ANNEAL_LINEAR;
    check_rates(
        &settings, 10,
        (double[]){4e-05, 0.00052, 0.001, 0.0008572, 0.0007144, 0.0005716, 0.0004288, 0.000286, 0.0001432, 4e-07});
}

static void onecycle_cosine(void **state) {
    (void)state;
    struct settings settings = make_settings(SCHEDULE_ONECYCLE, 4);
    settings.onecycle_div = 10;
    settings.onecycle_final_div = 1e4;
    check_rates(&settings, 10,
                (double[]){0.0001, 0.000325, 0.000775, 0.001, 0.0009330133717652007, 0.0007500025, 0.000500005,
                           0.0002500075, 6.699662823479957e-05, 1e-08});
    settings = make_settings(SCHEDULE_ONECYCLE, 0);
    settings.onecycle_final_div = 1e4;
    check_rates(
        &settings, 5,
        (double[]){0.0009045088791534849, 0.0006545098791534849, 0.0003454941208465151, 9.549512084651507e-05, 4e-09});
}

/* Every schedule, warm-up and length: finite, between zero and the peak. */
static void edges_stay_within_the_peak(void **state) {
    (void)state;
    for (int32_t schedule = SCHEDULE_CONSTANT; schedule <= SCHEDULE_ONECYCLE; schedule++)
        for (int32_t n_steps = 1; n_steps <= 6; n_steps++)
            for (int32_t warmup = 0; warmup <= n_steps + 1; warmup++)
                for (int32_t kind = ANNEAL_COSINE; kind <= ANNEAL_LINEAR; kind++)
                    for (int32_t k = 0; k < n_steps; k++) {
                        struct settings settings = make_settings(schedule, warmup);
                        settings.onecycle_anneal = kind;
                        double rate = schedule_learning_rate(&settings, k, n_steps);
                        assert_true(isfinite(rate) && rate >= 0 && rate <= 1e-3 * (1 + 1e-12));
                    }
    struct settings one = make_settings(SCHEDULE_ONECYCLE, 1);
    assert_true(schedule_learning_rate(&one, 0, 4) == 1e-3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warmup_is_the_smaller_of_percent_and_steps),
        cmocka_unit_test(constant),
        cmocka_unit_test(linear),
        cmocka_unit_test(cosine),
        cmocka_unit_test(onecycle_linear),
        cmocka_unit_test(onecycle_cosine),
        cmocka_unit_test(edges_stay_within_the_peak),
    };
    return cmocka_run_group_tests_name("train/schedule", tests, NULL, NULL);
}
