/* Choosing: direction by metric, mean over seeds, ties, NaN, statuses; the same choice for any order of rows. */
#include "sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lvsweep/rng.h"

enum { N = 6 };

/* Rows with settings of group g (by learning rate) and one seed each. */
static struct results table(struct result_row rows[N], const int groups[N], const double values[N]) {
    int64_t seeds[N] = {0};
    for (int i = 0; i < N; i++) {
        memset(&rows[i], 0, sizeof rows[i]);
        sample_trial(0, 0, &rows[i].trial);
        rows[i].trial.index = i;
        rows[i].trial.settings.learning_rate = 1e-5 * (1 + groups[i]);
        rows[i].trial.settings.seed = seeds[groups[i]]++;
        record_init(&rows[i].record, &rows[i].trial);
        rows[i].record.status = TRIAL_DONE;
        rows[i].record.val_loss.loss = values[i];
        rows[i].record.val.r2[0] = rows[i].record.val.r2[1] = values[i];
        rows[i].stages = 1;
        rows[i].record.flops_training = 100;
    }
    return (struct results){.rows = rows, .n_rows = N, .n_channel = 2, .n_stages = 1};
}

static void the_mean_over_seeds_decides(void **state) {
    (void)state;
    struct result_row rows[N];
    /* group 0: mean 2; group 1: one lucky seed, mean 3; group 2: mean 2.5 */
    struct results results = table(rows, (int[]){0, 1, 2, 0, 1, 2}, (double[]){2.5, 1, 2, 1.5, 5, 3});
    struct best_choice best = results_best(&results, -1, "val_loss");
    assert_int_equal(best.index, 3); /* the better seed of group 0 */
    assert_int_equal(best.n_seeds, 2);
    assert_float_equal(best.mean, 2, 1e-12);
    assert_float_equal(best.deviation, sqrt(0.5), 1e-12);
    best = results_best(&results, -1, "val_r2"); /* the highest */
    assert_int_equal(best.index, 4);
    assert_float_equal(best.mean, 3, 1e-12);
    assert_int_equal(results_best(&results, 0, "val_loss").index, 3);
    assert_int_equal(results_best(&results, 1, "val_loss").index, -1);
}

static void the_leading_come_in_order_with_all_seeds(void **state) {
    (void)state;
    struct result_row rows[N];
    struct results results = table(rows, (int[]){0, 1, 2, 0, 1, 2}, (double[]){2.5, 1, 2, 1.5, 5, 3});
    int32_t indices[N];
    assert_int_equal(results_leading(&results, -1, "val_loss", 2, indices), 4);
    assert_memory_equal(indices, ((int32_t[]){0, 3, 2, 5}), 4 * sizeof *indices);
    assert_int_equal(results_leading(&results, -1, "val_r2", 1, indices), 2);
    assert_memory_equal(indices, ((int32_t[]){1, 4}), 2 * sizeof *indices);
    assert_int_equal(results_leading(&results, -1, "val_loss", 9, indices), N);
}

/* Numbers over a few series are lower here, and do not count beside those over all. */
static void a_first_pass_does_not_win(void **state) {
    (void)state;
    struct result_row rows[N];
    struct results results = table(rows, (int[]){0, 1, 2, 3, 4, 5}, (double[]){1, 2, 3, 4, 5, 6});
    for (int i = 0; i < N; i++)
        rows[i].trial.settings.narrow_first = i < 4 ? 5 : 0;
    assert_int_equal(results_best(&results, -1, "val_loss").index, 4);
    rows[4].record.status = rows[5].record.status = TRIAL_CUT;
    assert_int_equal(results_best(&results, -1, "val_loss").index, 0);
}

/* Of training, by the record: what the ledger took also for deaths, reruns and the baseline decides nothing. */
static void ties_go_to_fewer_flops_then_lower_index(void **state) {
    (void)state;
    struct result_row rows[N];
    struct results results = table(rows, (int[]){0, 1, 2, 3, 4, 5}, (double[]){1, 1, 1, 1, 1, 1});
    assert_int_equal(results_best(&results, -1, "val_loss").index, 0);
    rows[4].record.flops_training = 50;
    assert_int_equal(results_best(&results, -1, "val_loss").index, 4);
    rows[2].record.flops_training = 50;
    assert_int_equal(results_best(&results, -1, "val_loss").index, 2);
    rows[2].charged = 1000;
    rows[2].record.flops_lost = rows[2].record.flops_evaluation = 500;
    assert_int_equal(results_best(&results, -1, "val_loss").index, 2);
}

static void nan_and_unfinished_never_win(void **state) {
    (void)state;
    struct result_row rows[N];
    struct results results = table(rows, (int[]){0, 1, 2, 3, 4, 5}, (double[]){NAN, 0.1, 0.2, 0.3, 0.4, INFINITY});
    rows[1].record.status = TRIAL_DIVERGED;
    rows[2].record.status = TRIAL_STOPPED;
    rows[3].outside = 1;
    assert_int_equal(results_best(&results, -1, "val_loss").index, 4);
    rows[4].record.status = TRIAL_FAILED;
    assert_int_equal(results_best(&results, -1, "val_loss").index, 5); /* infinite, but finished */
    rows[5].record.val_loss.loss = NAN;
    struct best_choice best = results_best(&results, -1, "val_loss");
    assert_int_equal(best.index, -1);
    assert_true(isnan(best.mean));
    assert_int_equal(results_best(&results, -1, "no_such_metric").index, -1);
}

/* A seed that diverged does not hide the others of its settings. */
static void a_diverged_seed_is_left_out_of_the_mean(void **state) {
    (void)state;
    struct result_row rows[N];
    struct results results = table(rows, (int[]){0, 0, 0, 1, 1, 1}, (double[]){1, 1.2, NAN, 2, 2, 2});
    rows[2].record.status = TRIAL_DIVERGED;
    struct best_choice best = results_best(&results, -1, "val_loss");
    assert_int_equal(best.index, 0);
    assert_int_equal(best.n_seeds, 2);
    assert_float_equal(best.mean, 1.1, 1e-12);
}

static void order_of_rows_does_not_matter(void **state) {
    (void)state;
    struct rng rng = rng_make(5, RNG_STREAM_TEST);
    for (int round = 0; round < 500; round++) {
        struct result_row rows[N], shuffled[N];
        int groups[N];
        double values[N];
        int32_t order[N];
        for (int i = 0; i < N; i++) {
            groups[i] = (int)rng_below(&rng, 3);
            values[i] = rng_below(&rng, 4) ? (double)rng_below(&rng, 3) : NAN;
            order[i] = i;
        }
        struct results results = table(rows, groups, values);
        for (int i = 0; i < N; i++)
            rows[i].record.flops_training = rng_below(&rng, 2);
        rng_shuffle(&rng, order, N);
        for (int i = 0; i < N; i++)
            shuffled[i] = rows[order[i]];
        struct best_choice first = results_best(&results, -1, "val_loss");
        results.rows = shuffled;
        struct best_choice second = results_best(&results, -1, "val_loss");
        assert_int_equal(first.index, second.index);
        assert_int_equal(first.n_seeds, second.n_seeds);
    }
}

/* The list of metrics holds every number of the validation split that a trial ends with, and nothing else. */
static void every_validation_column_may_choose(void **state) {
    (void)state;
    int32_t n = 0;
    for (int32_t i = 0; i < field_count(); i++) {
        const struct field *field = field_at(i);
        const bool may =
            field->type == FIELD_F64 && field->axes <= AXES_TRIAL_CHANNEL && strncmp(field->name, "val_", 4) == 0;
        const struct metric *metric = metric_find(field->name, NULL);
        if (may != (metric != NULL)) fail_msg("%s", field->name);
        if (!may) continue;
        n++;
        const bool more = strstr(field->name, "_r2") || strstr(field->name, "success_rate");
        assert_int_equal(metric->highest, more);
        assert_int_equal(metric->by_channel, field->axes == AXES_TRIAL_CHANNEL);
    }
    assert_int_equal(metric_count(), n);
}

static void metrics_are_checked(void **state) {
    (void)state;
    static const char names[2][64] = {"prey", "predator"};
    struct lvs_error err = {0};
    char text[64];
    assert_int_equal(metric_check("val_loss", names, 2, &err), LVS_OK);
    assert_int_equal(metric_check("val_mae_scaled", names, 2, &err), LVS_OK);
    assert_int_equal(metric_check("val_forecast_cross_entropy", NULL, 0, &err), LVS_OK);
    assert_int_equal(metric_check("val_mae.predator", names, 2, &err), LVS_OK);
    assert_int_equal(metric_check("val_mae.anything", NULL, 0, &err), LVS_OK);
    static const char *const refused[] = {"test_loss", "val_n_series",  "seconds",  "val_loss_curve", "lora_rank",  "",
                                          "loss",      "val_crps.prey", "val_mae.", "val_loss.prey",  "val_ma.prey"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(metric_check(refused[i], names, 2, &err), LVS_USAGE);
        assert_non_null(strstr(err.text, "allowed: val_loss, "));
    }
    assert_int_equal(metric_check("val_r2.pray", names, 2, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "no such channel; allowed: val_r2.prey, val_r2.predator"));
    metric_number_channel("val_mae.predator", names, 2, text, sizeof text);
    assert_string_equal(text, "val_mae.#1");
    assert_int_equal(metric_channel(text, NULL, 2), 1);
    assert_int_equal(metric_channel(text, NULL, 1), METRIC_NO_CHANNEL);
    assert_int_equal(metric_channel(text, names, 2), METRIC_NO_CHANNEL);
    assert_int_equal(metric_channel("val_mae.prey", names, 2), 0);
    assert_int_equal(metric_channel("val_mae", names, 2), METRIC_ALL_CHANNELS);
    metric_number_channel("val_loss", names, 2, text, sizeof text);
    assert_string_equal(text, "val_loss");
    assert_true(metric_highest("val_r2") && metric_highest("val_success_rate") && metric_highest("val_r2_mean"));
    assert_true(metric_highest("val_r2.prey"));
    assert_false(metric_highest("val_loss") || metric_highest("val_mae") || metric_highest("val_mae._r2"));
    assert_false(metric_comparable("val_loss", "decimals"));
    assert_true(metric_comparable("val_nats_per_value", "decimals"));
    assert_false(metric_comparable("val_loss", "padding"));
    assert_true(metric_comparable("val_loss_masked", "padding"));
    assert_true(metric_comparable("val_loss", "rank"));
    assert_false(metric_comparable("val_mae", "horizon"));
    assert_false(metric_comparable("val_mae.loss", "horizon"));
}

/* One channel, by name or number, or the mean of all; R2 the highest. */
static void channels_choose(void **state) {
    (void)state;
    static const char *const metrics[] = {"val_mae", "val_mae.prey", "val_mae.predator", "val_mae.#1",
                                          "val_r2.predator"};
    static const int32_t best_of[] = {2, 0, 1, 1, 2};
    const int groups[N] = {0, 1, 2};
    const double values[N] = {0}, errors[3][2] = {{1, 9}, {8, 2}, {2, 3}};
    struct result_row rows[N];
    struct results results = table(rows, groups, values);
    results.n_rows = 3;
    results.n_channel = 2;
    for (int i = 0; i < 3; i++)
        for (int c = 0; c < 2; c++) {
            rows[i].record.val.mae[c] = errors[i][c];
            rows[i].record.val.r2[c] = i * 0.1 - c;
        }
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        const bool numbered = strchr(metrics[i], '#');
        lvs_copy(results.channel_name[0], 64, numbered ? "" : "prey");
        lvs_copy(results.channel_name[1], 64, numbered ? "" : "predator");
        const struct best_choice best = results_best(&results, -1, metrics[i]);
        assert_int_equal(best.index, best_of[i]);
    }
    assert_true(metric_value(&results, &rows[0], "val_mae.predator") == 9);
    assert_true(metric_value(&results, &rows[0], "val_mae") == 5);
    assert_true(isnan(metric_value(&results, &rows[0], "val_mae.pray")));
}

static void groups_are_settings_without_the_seed(void **state) {
    (void)state;
    struct trial trial;
    sample_trial(0, 0, &trial);
    uint64_t group = settings_group(&trial.settings);
    trial.settings.seed = 99;
    assert_true(settings_group(&trial.settings) == group);
    trial.settings.decimals = 3;
    assert_false(settings_group(&trial.settings) == group);
    trial.settings.decimals = 2;
    trial.settings.dropout = 1e-9;
    assert_false(settings_group(&trial.settings) == group);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mean_over_seeds_decides),
        cmocka_unit_test(the_leading_come_in_order_with_all_seeds),
        cmocka_unit_test(a_first_pass_does_not_win),
        cmocka_unit_test(ties_go_to_fewer_flops_then_lower_index),
        cmocka_unit_test(nan_and_unfinished_never_win),
        cmocka_unit_test(a_diverged_seed_is_left_out_of_the_mean),
        cmocka_unit_test(order_of_rows_does_not_matter),
        cmocka_unit_test(every_validation_column_may_choose),
        cmocka_unit_test(metrics_are_checked),
        cmocka_unit_test(channels_choose),
        cmocka_unit_test(groups_are_settings_without_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
