/* The baselines without a model: what they predict, and that metrics take them like any forecast. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "forecast_fixture.h"

static struct forecast_fixture fixture;

static int open_fixture(void **state) {
    (void)state;
    forecast_fixture_open(&fixture);
    return 0;
}

static int close_fixture(void **state) {
    (void)state;
    forecast_fixture_close(&fixture);
    return 0;
}

static void untrained_needs_a_model(void **state) {
    (void)state;
    struct forecast_set set;
    struct lvs_error err = {0};
    assert_int_equal(forecast_baseline(BASELINE_UNTRAINED, &fixture.task, &set, &err), LVS_BUG);
    assert_null(set.rows);
}

static void levels_are_held(void **state) {
    (void)state;
    for (int kind = BASELINE_LAST_VALUE; kind <= BASELINE_MEAN; kind++) {
        struct forecast_set set;
        assert_int_equal(forecast_baseline((enum baseline_kind)kind, &fixture.task, &set, NULL), LVS_OK);
        assert_int_equal(set.horizon, 6);
        assert_int_equal(set.history, 6);
        assert_int_equal(set.samples, 1);
        for (int s = 0; s < FIXTURE_SERIES; s++) {
            assert_true(set.decoded[s].success && set.decoded[s].n_points == 6);
            for (int c = 0; c < 2; c++) {
                double mean = 0, last = forecast_fixture_scaled(&fixture, s, 5, c);
                for (int t = 0; t < 6; t++)
                    mean += forecast_fixture_scaled(&fixture, s, t, c) / 6;
                for (int p = 0; p < 6; p++) {
                    double value = set.predicted[(s * 6 + p) * 2 + c];
                    assert_true(fabs(value - (kind == BASELINE_MEAN ? mean : last)) < 1e-12);
                }
            }
        }
        struct forecast_metrics metrics;
        forecast_measure(&set, &fixture.scaling, &metrics, NULL);
        assert_true(metrics.success_rate == 1 && isfinite(metrics.mae_mean) && metrics.mse_mean > 0);
        if (kind == BASELINE_MEAN) assert_true(metrics.r2_mean < 0.5);
        forecast_set_free(&set);
    }
}

/* 3 % of the tokens end within the first point: there is no history to hold. */
static void no_whole_point_is_no_success(void **state) {
    (void)state;
    struct forecast_set set;
    struct forecast_metrics metrics;
    fixture.settings.history = (struct amount){.unit = AMOUNT_TOKENS_PERCENT, .value = 3};
    fixture.settings.horizon = (struct amount){.unit = AMOUNT_TOKENS, .value = 40};
    assert_int_equal(forecast_baseline(BASELINE_MEAN, &fixture.task, &set, NULL), LVS_OK);
    assert_false(set.decoded[0].success);
    forecast_measure(&set, &fixture.scaling, &metrics, NULL);
    assert_true(metrics.success_rate == 0 && isnan(metrics.mae_mean));
    forecast_set_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(untrained_needs_a_model, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(levels_are_held, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(no_whole_point_is_no_success, open_fixture, close_fixture),
    };
    return cmocka_run_group_tests_name("evaluate/baseline", tests, NULL, NULL);
}
