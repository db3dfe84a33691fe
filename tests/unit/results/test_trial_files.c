/* Files of a trial's folder: round trips; every truncated or changed file is refused. */
#include "sample.h"
#include "unit/own_folder.h"
#include "results_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char folder[LVS_PATH_MAX];

static int set_up(void **state) {
    (void)state;
    own_folder_make(folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    own_folder_remove(folder);
    return 0;
}

static char *bytes_of(const char *name, size_t *length) {
    char path[LVS_PATH_MAX], *bytes = NULL;
    struct lvs_error err = {0};
    assert_int_equal(file_join(path, folder, name, &err), LVS_OK);
    assert_int_equal(file_read(path, 1 << 20, &bytes, length, &err), LVS_OK);
    return bytes;
}

static void put_bytes(const char *name, const char *bytes, size_t length) {
    char path[LVS_PATH_MAX];
    struct lvs_error err = {0};
    assert_int_equal(file_join(path, folder, name, &err), LVS_OK);
    assert_int_equal(file_write_whole(path, bytes, length, &err), LVS_OK);
}

static void curves_come_back(void **state) {
    (void)state;
    float loss[] = {2.5f, 1.5f, NAN}, norm[] = {1, 2, 3};
    int32_t steps[] = {2, 3};
    double val[] = {0.75, NAN}, mae[] = {NAN, 0.1}, mse[] = {NAN, 0.02};
    struct trial_curves curves = {3, loss, norm, 2, steps, val, mae, mse}, back;
    struct lvs_error err = {0};
    assert_int_equal(trial_curves_write(folder, &curves, &err), LVS_OK);
    assert_int_equal(trial_curves_read(folder, &back, &err), LVS_OK);
    assert_int_equal(back.n_step, 3);
    assert_int_equal(back.n_evaluation, 2);
    assert_memory_equal(back.train_loss, loss, sizeof loss);
    assert_memory_equal(back.gradient_norm, norm, sizeof norm);
    assert_memory_equal(back.evaluation_step, steps, sizeof steps);
    assert_memory_equal(back.val_loss, val, sizeof val);
    assert_memory_equal(back.val_mae_scaled, mae, sizeof mae);
    assert_memory_equal(back.val_mse_scaled, mse, sizeof mse);
    trial_curves_free(&back);
    curves = (struct trial_curves){0}; /* stopped before the first step */
    assert_int_equal(trial_curves_write(folder, &curves, &err), LVS_OK);
    assert_int_equal(trial_curves_read(folder, &back, &err), LVS_OK);
    assert_int_equal(back.n_step, 0);
    trial_curves_free(&back);
}

/* A curve without the squared error has NaN there; one with another one than is meant is no curve. */
static void curves_without_the_squared_error(void **state) {
    (void)state;
    static const float loss[] = {2.5f};
    static const int32_t steps[] = {2, 3};
    static const double values[] = {0.5, 0.25};
    struct array arrays[] = {
        {"train_loss", ARRAY_F32, 1, {1}, loss},       {"gradient_norm", ARRAY_F32, 1, {1}, loss},
        {"evaluation_step", ARRAY_I32, 1, {2}, steps}, {"val_loss", ARRAY_F64, 1, {2}, values},
        {"val_mae_scaled", ARRAY_F64, 1, {2}, values}, {"val_mse_scaled", ARRAY_F64, 1, {1}, values},
    };
    struct trial_curves back;
    struct lvs_error err = {0};
    char path[LVS_PATH_MAX];
    assert_int_equal(file_join(path, folder, "curves.bin", &err), LVS_OK);
    assert_int_equal(array_file_write(path, arrays, 5, &err), LVS_OK);
    assert_int_equal(trial_curves_read(folder, &back, &err), LVS_OK);
    assert_memory_equal(back.val_mae_scaled, values, sizeof values);
    assert_true(back.n_evaluation == 2 && isnan(back.val_mse_scaled[0]) && isnan(back.val_mse_scaled[1]));
    trial_curves_free(&back);
    assert_int_equal(array_file_write(path, arrays, 6, &err), LVS_OK);
    assert_int_equal(trial_curves_read(folder, &back, &err), LVS_INPUT);
    arrays[5] = (struct array){"val_mse_scaled", ARRAY_I32, 1, {2}, steps};
    assert_int_equal(array_file_write(path, arrays, 6, &err), LVS_OK);
    assert_int_equal(trial_curves_read(folder, &back, &err), LVS_INPUT);
}

static void make_forecast(struct trial_forecast parts[2]) {
    struct results results;
    char trial[LVS_PATH_MAX];
    struct lvs_error err = {0};
    int32_t count;
    sample_results(&results, folder, 1);
    sample_files(&results);
    assert_int_equal(trial_folder(trial, folder, results.rows[0].trial.name, &err), LVS_OK);
    if (trial_forecast_read(trial, NULL, parts, &count, &err) != LVS_OK) fail_msg("%s", err.text);
    assert_int_equal(count, 2);
    results_free(&results);
}

static void forecasts_come_back(void **state) {
    (void)state;
    struct trial_forecast parts[SPLIT_COUNT], back[SPLIT_COUNT];
    struct lvs_error err = {0};
    int32_t count;
    assert_int_equal(trial_forecast_read(folder, NULL, back, &count, &err), LVS_OK);
    assert_int_equal(count, 0); /* no file: nothing was forecast */
    make_forecast(parts);
    assert_int_equal(parts[0].part, SPLIT_VALIDATION);
    assert_int_equal(parts[1].part, SPLIT_TEST);
    assert_non_null(parts[0].low);
    assert_null(parts[1].low);
    assert_true(isnan(parts[0].predicted[7]));
    assert_int_equal(trial_forecast_write(folder, parts, 2, &err), LVS_OK);
    assert_int_equal(trial_forecast_read(folder, NULL, back, &count, &err), LVS_OK);
    for (int p = 0; p < 2; p++) {
        size_t size = (size_t)parts[p].n_series * (size_t)parts[p].n_time * (size_t)parts[p].n_channel * sizeof(double);
        assert_memory_equal(parts[p].series, back[p].series, (size_t)parts[p].n_series * sizeof(int64_t));
        assert_memory_equal(parts[p].observed, back[p].observed, size);
        assert_memory_equal(parts[p].predicted, back[p].predicted, size);
        trial_forecast_free(&back[p]);
        trial_forecast_free(&parts[p]);
    }
}

/* A further evaluation of the same adapter leaves the first one's forecasts as they are. */
static void evaluations_have_their_own(void **state) {
    (void)state;
    struct trial_forecast parts[SPLIT_COUNT], back[SPLIT_COUNT];
    struct lvs_error err = {0};
    int32_t count;
    make_forecast(parts);
    assert_int_equal(trial_forecast_write(folder, parts, 2, &err), LVS_OK);
    assert_int_equal(trial_forecast_write_again(folder, "0123456789abcdef", parts, 1, &err), LVS_OK);
    static const struct {
        const char *key;
        int32_t count;
    } cases[] = {{NULL, 2}, {"0123456789abcdef", 1}, {"1123456789abcdef", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(trial_forecast_read(folder, cases[i].key, back, &count, &err), LVS_OK);
        assert_int_equal(count, cases[i].count);
        for (int32_t p = 0; p < count; p++)
            trial_forecast_free(&back[p]);
    }
    for (int p = 0; p < 2; p++)
        trial_forecast_free(&parts[p]);
}

static void rows_out_of_order_are_refused(void **state) {
    (void)state;
    struct trial_forecast parts[SPLIT_COUNT], back[SPLIT_COUNT];
    struct lvs_error err = {0};
    int32_t count;
    make_forecast(parts);
    parts[0].series[1] = parts[0].series[0];
    assert_int_equal(trial_forecast_write(folder, parts, 2, &err), LVS_OK);
    assert_int_equal(trial_forecast_read(folder, NULL, back, &count, &err), LVS_INPUT);
    assert_int_equal(count, 0);
    parts[0].series[1]++;
    parts[1].time[2] = NAN;
    assert_int_equal(trial_forecast_write(folder, parts, 2, &err), LVS_OK);
    assert_int_equal(trial_forecast_read(folder, NULL, back, &count, &err), LVS_INPUT);
    for (int p = 0; p < 2; p++)
        trial_forecast_free(&parts[p]);
}

static void every_change_is_seen(void **state) {
    (void)state;
    float loss[] = {2.5f, 1.5f}, norm[] = {1, 2};
    int32_t steps[] = {2};
    double val[] = {0.75}, mae[] = {0.5}, mse[] = {0.25};
    struct trial_curves curves = {2, loss, norm, 1, steps, val, mae, mse}, back;
    struct lvs_error err = {0};
    size_t length;
    assert_int_equal(trial_curves_write(folder, &curves, &err), LVS_OK);
    char *bytes = bytes_of("curves.bin", &length), *changed = malloc(length + 1);
    for (size_t at = 0; at < length; at++) {
        memcpy(changed, bytes, length);
        changed[at] = (char)(changed[at] ^ 0x40);
        put_bytes("curves.bin", changed, length);
        assert_int_equal(trial_curves_read(folder, &back, &err), LVS_INPUT);
    }
    for (size_t cut = 0; cut < length; cut++) {
        put_bytes("curves.bin", bytes, cut);
        assert_int_equal(trial_curves_read(folder, &back, &err), LVS_INPUT);
    }
    memcpy(changed, bytes, length);
    changed[length] = 0;
    put_bytes("curves.bin", changed, length + 1);
    assert_int_equal(trial_curves_read(folder, &back, &err), LVS_INPUT);
    free(changed);
    free(bytes);
}

/* Entries that lie, with a good checksum. */
static void hostile_entries_are_refused(void **state) {
    (void)state;
    static const double values[4] = {1, 2, 3, 4};
    static const struct array good = {"a", ARRAY_F64, 1, {4}, values};
    struct array arrays[4];
    struct lvs_error err = {0};
    char path[LVS_PATH_MAX], *bytes;
    int32_t count;
    assert_int_equal(file_join(path, folder, "x", &err), LVS_OK);
    const struct array bad[] = {
        {"a", 9, 1, {4}, values},
        {"a", ARRAY_F64, 0, {0}, values},
        {"a", ARRAY_F64, 5, {1, 1, 1, 1}, values},
        {"a", ARRAY_F64, 1, {-1}, values},
        {"a", ARRAY_F64, 4, {INT64_MAX, INT64_MAX, 2, 2}, values},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(array_file_write(path, &bad[i], 1, &err), LVS_BUG);
    assert_int_equal(array_file_write(path, &good, 1, &err), LVS_OK);
    assert_int_equal(array_file_read(path, arrays, 4, &count, &bytes, &err), LVS_OK);
    free(bytes);
    assert_int_equal(array_file_read(path, arrays, 0, &count, &bytes, &err), LVS_INPUT);
    assert_null(bytes);
}

static void names_of_trials_stay_in_their_folder(void **state) {
    (void)state;
    char path[LVS_PATH_MAX];
    struct lvs_error err = {0};
    static const char *const bad[] = {"", ".", "..", "../x", "a/b", ".hidden"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(trial_folder(path, "out", bad[i], &err), LVS_INPUT);
    assert_int_equal(trial_folder(path, "out", "r8-lr1e-4", &err), LVS_OK);
    assert_string_equal(path, "out/trials/r8-lr1e-4");
}

int main(void) {
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(curves_come_back),
        WITH_FOLDER(curves_without_the_squared_error),
        WITH_FOLDER(forecasts_come_back),
        WITH_FOLDER(rows_out_of_order_are_refused),
        WITH_FOLDER(evaluations_have_their_own),
        WITH_FOLDER(every_change_is_seen),
        WITH_FOLDER(hostile_entries_are_refused),
        cmocka_unit_test(names_of_trials_stay_in_their_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
