/* Metrics of forecast sets: everything there (values printed by NumPy), then forecasts full of holes, several samples,
 * and none at all. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lvsweep/evaluate.h"

static void assert_close(double value, double expected) {
    if (!(fabs(value - expected) <= 1e-12 * fmax(1, fabs(expected))))
        fail_msg("%.17g, expected %.17g", value, expected);
}

/* A set that borrows the caller's arrays. */
static struct forecast_set make_set(int32_t n_series, int32_t horizon, int32_t samples, int32_t *rows, double *observed,
                                    double *predicted, struct text_decoded *decoded, double *cross_entropy) {
    return (struct forecast_set){.n_series = n_series,
                                 .n_channel = 2,
                                 .history = 3,
                                 .horizon = horizon,
                                 .samples = samples,
                                 .rows = rows,
                                 .observed = observed,
                                 .predicted = predicted,
                                 .decoded = decoded,
                                 .cross_entropy = cross_entropy};
}

static double observed[2 * 5 * 2] = {0.45, 0.49, 9.99, 6.52, 2.35, 4.35, 9.74, 8.98, 8.44, 3.92,
                                     4.93, 6.77, 0.61, 5.56, 2.71, 8.8,  0.64, 6.79, 8.7,  2.27};
static const double predicted[2 * 5 * 2] = {0.19, -0.49, 9.82, 5.23, 2.37, 4.31, 9.44, 7.93, 8.04, 2.83,
                                            3.57, 6.99,  -0.5, 6.73, 3.43, 6.8,  0.91, 5.69, 8.73, 2.31};
/* Factors by row of the data set; the forecasts are of rows 4 and 1. */
static double factors[6 * 2] = {9, 9, 10, 1, 9, 9, 9, 9, 2, 0.5, 9, 9};
static const struct scaling scaling = {.n_series = 6, .n_channel = 2, .factor = factors};
static int32_t rows[2] = {4, 1};

static void complete_forecasts_as_numpy(void **state) {
    (void)state;
    double copy[20], entropy[2] = {1.5, 0.5}, series_mae[2];
    struct text_decoded decoded[2] = {{.n_points = 5, .success = true},
                                      {.n_points = 5, .n_negative = 1, .success = true}};
    memcpy(copy, predicted, sizeof copy);
    struct forecast_set set = make_set(2, 5, 1, rows, observed, copy, decoded, entropy);
    struct forecast_metrics out;
    forecast_measure(&set, &scaling, &out, series_mae);
    assert_close(out.mse[0], 36.877759999999995);
    assert_close(out.mse[1], 0.7858075000000004);
    assert_close(out.mae[0], 3.7200000000000015);
    assert_close(out.mae[1], 0.6755000000000002);
    assert_close(out.r2[0], 0.9580991721388372);
    assert_close(out.r2[1], 0.7953615945820547);
    assert_close(out.r2_mean, 0.876730383360446);
    assert_close(out.mae_mean, 2.197750000000001);
    assert_close(out.mae_median, 2.197750000000001);
    assert_close(out.mae_scaled_mean, 0.6810000000000003);
    assert_close(out.mse_mean, 18.831783749999996);
    assert_close(out.mse_scaled_mean, 0.7783200000000001);
    assert_close(out.cross_entropy, 1);
    assert_close(out.success_rate, 1);
    assert_close((series_mae[0] + series_mae[1]) / 2, 0.6810000000000003);
    assert_true(isnan(out.crps) && isnan(out.mse[2]) && isnan(out.mae_scaled[LVS_MAX_CHANNELS - 1]));
    assert_int_equal(out.n_series, 2);
    assert_int_equal(out.n_negative, 1);
}

/* Three series of unlike errors: medians over series by channel and over all channels, printed by NumPy. */
static void medians_as_numpy(void **state) {
    (void)state;
    double truth[3 * 4 * 2] = {6.25, 8.97, 7.76, 2.25, 3.0,  8.74, 0.05, 8.21, 7.97, 4.68, 3.03, 2.78,
                               2.55, 4.45, 5.05, 5.53, 9.96, 7.93, 6.22, 9.89, 2.15, 1.6,  6.13, 0.44};
    double guess[3 * 4 * 2] = {6.33, 8.78, 6.5,  1.71, 2.98,  8.85, -0.72, 7.73,  6.99, 3.06,  4.09, 1.16,
                               2.52, 6.22, 4.47, 5.31, 10.29, 8.31, 2.54,  10.35, 6.23, -7.68, 8.71, 1.16};
    double unit[3 * 2] = {2, 0.5, 10, 1, 3, 4}, entropy[3] = {NAN, NAN, NAN};
    const struct scaling factor = {.n_series = 3, .n_channel = 2, .factor = unit};
    struct text_decoded decoded[3] = {{.success = true}, {.success = true}, {.success = true}};
    int32_t row[3] = {0, 1, 2};
    struct forecast_set set = make_set(3, 4, 1, row, truth, guess, decoded, entropy);
    struct forecast_metrics out;
    forecast_measure(&set, &factor, &out, NULL);
    assert_close(out.mse[0], 48.62217499999999);
    assert_close(out.mse_channel_median[0], 60.53249999999999);
    assert_close(out.mse_channel_median[1], 2.1075249999999994);
    assert_close(out.mae_channel_median[0], 6.624999999999998);
    assert_close(out.mae_channel_median[1], 1.3074999999999999);
    assert_close(out.r2_channel_median[0], 0.8670842299415924);
    assert_close(out.r2_channel_median[1], -0.3415353678038786);
    assert_close(out.mse_scaled_channel_median[0], 0.6053249999999999);
    assert_close(out.mse_scaled_channel_median[1], 2.1075249999999994);
    assert_close(out.mae_scaled_channel_median[0], 0.6624999999999999);
    assert_close(out.mae_scaled_channel_median[1], 1.3074999999999999);
    assert_close(out.mse_median, 31.320012499999997);
    assert_close(out.mae_median, 3.966249999999999);
    assert_close(out.r2_median, -0.12663445326704215);
    assert_close(out.mse_scaled_median, 1.3564249999999998);
    assert_close(out.mae_scaled_median, 0.9849999999999999);
    assert_true(isnan(out.r2_channel_median[2]) && isnan(out.mae_scaled_channel_median[LVS_MAX_CHANNELS - 1]));
    decoded[0].n_surplus = decoded[1].n_surplus = 1; /* partial = drop: the median of the third alone */
    set.whole_only = true;
    forecast_measure(&set, &factor, &out, NULL);
    assert_close(out.mse_median, out.mse_mean);
    assert_close(out.mae_channel_median[1], out.mae[1]);
}

/* Series 0 reads only one prey value (off by 1), series 1 nothing at all. */
static void holes_leave_finite_metrics(void **state) {
    (void)state;
    double holes[20], entropy[2] = {NAN, 0.5}, series_mae[2];
    struct text_decoded decoded[2] = {{.n_points = 0, .n_malformed = 3, .n_missing = 4},
                                      {.n_missing = 5, .n_malformed = 1}};
    for (int i = 0; i < 20; i++)
        holes[i] = NAN;
    holes[2] = observed[2] + 1;
    struct forecast_set set = make_set(2, 5, 1, rows, observed, holes, decoded, entropy);
    struct forecast_metrics out;
    forecast_measure(&set, &scaling, &out, series_mae);
    assert_close(out.mse_scaled[0], 1);
    assert_close(out.mse[0], 4); /* row 4, prey: factor 2 */
    assert_close(out.mae[0], 2);
    assert_close(out.mae_mean, 2);
    assert_close(out.mae_median, 2);
    assert_close(out.cross_entropy, 0.5);
    assert_close(out.success_rate, 0);
    assert_true(isnan(out.mse[1]) && isnan(out.r2[0]) && isnan(out.r2_mean)); /* one point has no variance */
    assert_close(series_mae[0], 1);
    assert_true(isnan(series_mae[1]));
    assert_int_equal(out.n_malformed, 4);
    assert_int_equal(out.n_missing, 9);
}

/* What a wild reader may hand over must not reach a mean. */
static void infinite_values_count_as_unread(void **state) {
    (void)state;
    double wild[20], entropy[2] = {NAN, NAN};
    struct text_decoded decoded[2] = {{0}, {0}};
    memcpy(wild, predicted, sizeof wild);
    for (int i = 0; i < 10; i++)
        wild[i] = i % 2 ? INFINITY : -INFINITY;
    struct forecast_set set = make_set(2, 5, 1, rows, observed, wild, decoded, entropy);
    struct forecast_metrics out;
    forecast_measure(&set, &scaling, &out, NULL);
    assert_true(isfinite(out.mse_mean) && isfinite(out.mae[0]) && isfinite(out.mae[1]) && isfinite(out.r2_mean));
    assert_true(isnan(out.cross_entropy));
}

/* Errors weigh values, not channels: prey reads two points (errors 1 and 3), predator one (error 8). */
static void within_a_series_values_weigh_alike(void **state) {
    (void)state;
    double truth[4] = {1, 2, 3, 5}, guess[4] = {2, 10, 6, NAN}, entropy[1] = {NAN};
    struct text_decoded decoded[1] = {{.n_points = 1, .n_malformed = 1}};
    double unit[2] = {1, 1};
    const struct scaling one = {.n_series = 1, .n_channel = 2, .factor = unit};
    int32_t row[1] = {0};
    struct forecast_set set = make_set(1, 2, 1, row, truth, guess, decoded, entropy);
    struct forecast_metrics out;
    forecast_measure(&set, &one, &out, NULL);
    assert_close(out.mae[0], 2);
    assert_close(out.mae[1], 8);
    assert_close(out.mae_mean, 4);
    assert_close(out.mse_mean, (1 + 9 + 64) / 3.0);
}

/* Three samples: the point forecast is the median of the readable ones, CRPS needs two of them. */
static void several_samples(void **state) {
    (void)state;
    double truth[4] = {5, 1, 2, NAN}, entropy[1] = {NAN}, unit[2] = {2, 1};
    double guess[3 * 4] = {4, 1, NAN, 7, 9, NAN, NAN, 7, 6, NAN, 3, 7};
    struct text_decoded decoded[3] = {{.success = true}, {.n_malformed = 2}, {.success = true}};
    const struct scaling one = {.n_series = 1, .n_channel = 2, .factor = unit};
    int32_t row[1] = {0};
    struct forecast_set set = make_set(1, 2, 3, row, truth, guess, decoded, entropy);
    struct forecast_metrics out;
    forecast_measure(&set, &one, &out, NULL);
    assert_close(out.mae_scaled[0], (1 + 1) / 2.0); /* median(4, 9, 6) = 6 against 5, then 3 against 2 */
    assert_close(out.mae_scaled[1], 0);
    assert_close(out.mae[0], 2);
    const double three[] = {4, 9, 6};
    assert_close(out.crps, crps_fair(three, 3, 5)); /* every other value has one sample or no truth */
    assert_close(out.success_rate, 2.0 / 3);
}

/* partial = drop: series 0 is whole, series 1 lacks a value, and then has one too many. Counters stay. */
static void partial_forecasts_can_be_left_out(void **state) {
    (void)state;
    double guess[20], entropy[2] = {1.5, 0.5}, series_mae[2];
    struct text_decoded decoded[2] = {{.n_points = 5, .success = true}, {.n_points = 4, .n_missing = 1}};
    struct forecast_metrics first, all, out;
    memcpy(guess, predicted, sizeof guess);
    struct forecast_set set = make_set(1, 5, 1, rows, observed, guess, decoded, entropy);
    forecast_measure(&set, &scaling, &first, NULL);
    set = make_set(2, 5, 1, rows, observed, guess, decoded, entropy);
    guess[19] = NAN;
    forecast_measure(&set, &scaling, &all, NULL);
    assert_true(all.mse_mean != first.mse_mean);
    for (int surplus = 0; surplus < 2; surplus++) {
        guess[19] = surplus ? predicted[19] : NAN;
        decoded[1].n_surplus = surplus;
        set.whole_only = true;
        forecast_measure(&set, &scaling, &out, series_mae);
        assert_memory_equal(out.mse, first.mse, sizeof out.mse);
        assert_memory_equal(out.mae_scaled, first.mae_scaled, sizeof out.mae_scaled);
        assert_memory_equal(out.r2, first.r2, sizeof out.r2);
        assert_close(out.mae_median, first.mae_median);
        assert_close(out.success_rate, 0.5);
        assert_close(out.cross_entropy, 1); /* of the truth, not of the forecast */
        assert_true(out.n_missing == 1 && out.n_series == 2 && isnan(series_mae[1]));
    }
    decoded[0].n_surplus = 1;
    forecast_measure(&set, &scaling, &out, NULL);
    assert_true(isnan(out.mse_mean) && isnan(out.mae_median) && isnan(out.r2_mean) && isnan(out.mse[0]));
    set.whole_only = false;
    forecast_measure(&set, &scaling, &out, NULL);
    assert_true(isfinite(out.mse_mean));
}

/* With several samples, whole ones alone make the point forecast and the CRPS; values without truth are not asked for.
 */
static void partial_samples_can_be_left_out(void **state) {
    (void)state;
    double truth[4] = {5, 1, 2, NAN}, entropy[1] = {NAN}, unit[2] = {1, 1};
    double guess[3 * 4] = {4, 1, 3, NAN, 9, NAN, 2, NAN, 7, 1, 3, NAN};
    struct text_decoded decoded[3] = {{.success = true}, {.n_malformed = 1}, {.success = true}};
    const struct scaling one = {.n_series = 1, .n_channel = 2, .factor = unit};
    int32_t row[1] = {0};
    struct forecast_set set = make_set(1, 2, 3, row, truth, guess, decoded, entropy);
    struct forecast_metrics out;
    set.whole_only = true;
    forecast_measure(&set, &one, &out, NULL);
    assert_close(out.mae[0], (0.5 + 1) / 2); /* median(4, 7) against 5, then 3 against 2 */
    const double first[] = {4, 7}, second[] = {3, 3}, other[] = {1, 1};
    const double prey = (crps_fair(first, 2, 5) + crps_fair(second, 2, 2)) / 2;
    assert_close(out.crps, (prey + crps_fair(other, 2, 1)) / 2);
}

static void nothing_to_measure(void **state) {
    (void)state;
    double empty[1] = {NAN};
    struct text_decoded decoded[1] = {{.n_missing = 7}};
    struct forecast_metrics out;
    struct forecast_set none = make_set(0, 0, 1, rows, empty, empty, decoded, empty);
    forecast_measure(&none, &scaling, &out, NULL);
    assert_int_equal(out.n_series, 0);
    assert_int_equal(out.n_missing, 0);
    assert_true(isnan(out.success_rate) && isnan(out.mae_mean) && isnan(out.mae_median) && isnan(out.mse[0]));
    struct forecast_set flat = make_set(1, 0, 1, rows, empty, empty, decoded, empty);
    forecast_measure(&flat, &scaling, &out, NULL);
    assert_int_equal(out.n_missing, 7);
    assert_close(out.success_rate, 0);
    assert_true(isnan(out.mae_mean) && isnan(out.crps));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(complete_forecasts_as_numpy),
        cmocka_unit_test(medians_as_numpy),
        cmocka_unit_test(holes_leave_finite_metrics),
        cmocka_unit_test(infinite_values_count_as_unread),
        cmocka_unit_test(within_a_series_values_weigh_alike),
        cmocka_unit_test(several_samples),
        cmocka_unit_test(partial_forecasts_can_be_left_out),
        cmocka_unit_test(partial_samples_can_be_left_out),
        cmocka_unit_test(nothing_to_measure),
    };
    return cmocka_run_group_tests_name("evaluate/metrics", tests, NULL, NULL);
}
