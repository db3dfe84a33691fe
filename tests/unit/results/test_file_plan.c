/* What results.h5 will hold: extents and strides of curves, the union of forecasts, blocks of rows. */
#include "sample.h"
#include "unit/own_folder.h"
#include "results_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char folder[LVS_PATH_MAX];
static struct results results;

static int set_up(void **state) {
    (void)state;
    own_folder_make(folder);
    sample_results(&results, folder, 9);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    results_free(&results);
    own_folder_remove(folder);
    return 0;
}

static void short_curves_are_kept_whole(void **state) {
    (void)state;
    struct file_plan plan;
    sample_files(&results);
    file_plan_make(&results, &plan);
    assert_int_equal(plan.n_step, 600);
    assert_int_equal(plan.step_stride, 1);
    assert_int_equal(plan.n_evaluation, 2);
    file_plan_free(&plan);
}

static void long_curves_have_a_stride(void **state) {
    (void)state;
    static const struct {
        int32_t steps, stride, points;
    } cases[] = {{20000, 1, 20000}, {20001, 2, 10001}, {45000, 3, 15000}, {1, 1, 1}, {0, 1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct file_plan plan;
        for (int32_t r = 0; r < results.n_rows; r++)
            results.rows[r].record.steps_done = r == 4 ? cases[i].steps : 0;
        file_plan_make(&results, &plan);
        assert_int_equal(plan.step_stride, cases[i].stride);
        assert_int_equal(plan.n_step, cases[i].points);
        file_plan_free(&plan);
    }
}

static void stored_points_are_those_of_the_stride(void **state) {
    (void)state;
    struct file_plan plan = {.n_step = 200, .step_stride = 3, .n_evaluation = 3};
    struct row_block block;
    sample_files(&results);
    results.rows[0].trial.settings.clip_norm = 100;
    row_block_make(&results, &plan, results.rows, 3, &block);
    for (int k = 0; k < 200; k++) {
        float norm = block.gradient_norm[k], clipped = block.clipped_norm[k];
        assert_true(norm < 100 ? clipped == norm : fabsf(clipped - 100) < 1e-4f);
        assert_true(isnan(block.clipped_norm[400 + k]));
        assert_true(block.gradient_norm[k] == 0.5f + 3.0f * (float)k);
        assert_true(isnan(block.gradient_norm[400 + k])); /* trial 2 left no curves */
    }
    assert_int_equal(block.evaluation_step[0], 300);
    assert_int_equal(block.evaluation_step[2], -1);
    assert_true(isnan(block.val_loss[2]) && block.val_loss[4] == 1.6);
    assert_true(isnan(block.val_mae_scaled[0]) && block.val_mae_scaled[1] == 1.5 && isnan(block.val_mae_scaled[2]));
    assert_true(isnan(block.val_mse_scaled[0]) && block.val_mse_scaled[1] == 3.25 && isnan(block.val_mse_scaled[2]));
    row_block_free(&block);
}

static void forecasts_are_united(void **state) {
    (void)state;
    struct file_plan plan;
    sample_files(&results);
    file_plan_make(&results, &plan);
    assert_int_equal(plan.n_series, 16); /* 4 series of even trials, 4 of odd ones, in 2 splits */
    assert_int_equal(plan.n_time, 7);    /* 5 points from 3 starts */
    assert_true(plan.has_bands && plan.keep_predicted);
    for (int s = 1; s < 16; s++)
        assert_true(plan.part[s - 1] < plan.part[s] || plan.series[s - 1] < plan.series[s]);
    for (int t = 0; t < 7; t++)
        assert_true(plan.time[t] == 100.5 + t);
    /* series 701 is forecast by odd trials, which start at 0, 1, 2: all points but none of the last are observed */
    int64_t at = ((int64_t)1 * 7 + 3) * 2;
    assert_int_equal(plan.series[1], 701);
    assert_true(plan.observed[at] == 701 + 103.5 / 10 && plan.observed[at + 1] == 701 + 103.5 / 10 + 1);
    file_plan_free(&plan);
}

static void a_damaged_forecast_is_left_out(void **state) {
    (void)state;
    struct file_plan plan;
    struct row_block block;
    struct lvs_error err = {0};
    char trial[LVS_PATH_MAX], path[LVS_PATH_MAX];
    sample_files(&results);
    assert_int_equal(trial_folder(trial, folder, results.rows[0].trial.name, &err), LVS_OK);
    assert_int_equal(file_join(path, trial, "forecast.bin", &err), LVS_OK);
    assert_int_equal(file_write_whole(path, "damaged", 7, &err), LVS_OK);
    file_plan_make(&results, &plan);
    assert_int_equal(plan.n_series, 16); /* the others' */
    row_block_make(&results, &plan, results.rows, 2, &block);
    assert_true(isnan(block.mae[0]) && isnan(block.predicted[0]));
    assert_true(fabs(block.mae[16 * 2 + 1 * 2] - 0.02) < 1e-12);
    row_block_free(&block);
    file_plan_free(&plan);
}

static void large_predictions_stay_in_the_folders(void **state) {
    (void)state;
    struct file_plan plan;
    sample_files(&results);
    for (int32_t i = 0; i < 200000; i++) { /* 16 · 7 · 2 numbers each: 358 MB */
        struct trial trial;
        struct journal_event event = journal_event_make(JOURNAL_TRIAL);
        sample_trial(results.n_rows, 0, &trial);
        event.trial = &trial;
        if (results_apply(&results, &event, NULL) != LVS_OK) fail();
    }
    file_plan_make(&results, &plan);
    assert_false(plan.keep_predicted);
    assert_int_equal(plan.n_series, 16);
    file_plan_free(&plan);
}

int main(void) {
#define WITH_TABLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_TABLE(short_curves_are_kept_whole),           WITH_TABLE(long_curves_have_a_stride),
        WITH_TABLE(stored_points_are_those_of_the_stride), WITH_TABLE(forecasts_are_united),
        WITH_TABLE(a_damaged_forecast_is_left_out),        WITH_TABLE(large_predictions_stay_in_the_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
