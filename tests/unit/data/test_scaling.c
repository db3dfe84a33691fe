/* Percentiles against NumPy's recorded ones, every scale_over, the history, and what cannot be scaled. */
#include "data_fixture.h"

#include "golden_file.h"
#include "lvsweep/text.h"

static void test_percentile(void **state) {
    (void)state;
    const double values[] = {3, 1, 4, 1, 5};
    assert_true(percentile_linear(values, 5, 0) == 1);
    assert_true(percentile_linear(values, 5, 50) == 3);
    assert_true(percentile_linear(values, 5, 100) == 5);
    assert_true(percentile_linear(values, 5, 90) == 4.6);
    assert_true(percentile_linear(values, 1, 33) == 3);
    assert_true(values[0] == 3 && values[4] == 5); /* the input keeps its order */
}

/* values[6][40][2] of the recording as a set; the last series has values below zero. */
static struct series_set golden_set(const struct golden_file *golden) {
    int32_t count;
    struct series_set set = {.n_series = 6, .n_time = 40, .n_channel = 2};
    set.values = golden_values(golden, "values", &count);
    assert_int_equal(count, 480);
    set.id = lvs_calloc(6, sizeof *set.id);
    return set;
}

/* Percentile of points [0, n_time) of channel c of a series, signs kept. */
static double percentile_of(const struct series_set *set, int32_t s, int32_t c, int32_t n_time, double percentile) {
    double values[40];
    for (int32_t t = 0; t < n_time; t++)
        values[t] = set->values[(s * 40 + t) * 2 + c];
    return percentile_linear(values, n_time, percentile);
}

/* Equal to the last bit. */
static void test_percentiles_as_numpy(void **state) {
    (void)state;
    struct golden_file golden = golden_open("scaling.safetensors");
    struct series_set set = golden_set(&golden);
    static const struct {
        const char *name;
        double percentile;
        int32_t n_time;
    } recorded[] = {
        {"percentile_90", 90, 40},
        {"percentile_95", 95, 40},
        {"percentile_99", 99, 40},
        {"percentile_95_first_20_points", 95, 20},
    };
    for (int32_t i = 0; i < COUNT_OF(recorded); i++) {
        int32_t count;
        double *expected = golden_values(&golden, recorded[i].name, &count);
        assert_int_equal(count, 12);
        for (int32_t k = 0; k < 12; k++) {
            double got = percentile_of(&set, k / 2, k % 2, recorded[i].n_time, recorded[i].percentile);
            assert_true(got == expected[k]);
        }
        free(expected);
    }
    series_free(&set);
    golden_close(&golden);
}

static struct scaling make_scaling(const struct config *config, const struct series_set *set, const struct split *split,
                                   int32_t history) {
    struct scaling scaling;
    assert_ok(scaling_make(config, set, split, history, &scaling, &fixture_error));
    assert_int_equal(scaling.n_series, set->n_series);
    assert_int_equal(scaling.n_channel, set->n_channel);
    return scaling;
}

/* The five series without negative values: factors and texts as recorded. */
static void check_recorded(const struct golden_file *golden, int32_t over, double percentile, const char *factors,
                           const char *texts, int32_t decimals) {
    struct series_set set = golden_set(golden);
    set.n_series = 5;
    struct config config = fixture_config();
    config.scale_over = over;
    config.scale_percentile = percentile;
    config.scale_points = SCALE_POINTS_ALL;
    struct scaling scaling = make_scaling(&config, &set, NULL, 1);
    int32_t count;
    double *expected = golden_values(golden, factors, &count);
    for (int32_t i = 0; i < 10; i++)
        assert_true(scaling.factor[i] == expected[count == 6 ? i / 2 : i]);
    json_t *root = json_load_file(LVS_SOURCE_DIR "/tests/golden/scaling.json", 0, NULL);
    json_t *list = json_object_get(json_object_get(root, "text"), texts);
    struct text_format format = text_format_make(&config, decimals, 2);
    for (int32_t s = 0; s < 5; s++) {
        double scaled[80];
        struct strbuf text;
        strbuf_init(&text);
        for (int32_t i = 0; i < 80; i++)
            scaled[i] = set.values[s * 80 + i] / scaling.factor[2 * s + i % 2];
        assert_ok(text_encode(&format, scaled, 40, &text, &fixture_error));
        assert_string_equal(text.text, json_string_value(json_array_get(list, (size_t)s)));
        strbuf_free(&text);
    }
    json_decref(root);
    free(expected);
    scaling_free(&scaling);
    series_free(&set);
}

static void test_texts_as_recorded(void **state) {
    (void)state;
    struct golden_file golden = golden_open("scaling.safetensors");
    check_recorded(&golden, SCALE_SERIES_MAX, 95, "factor_series_max_95_to_10", "decimals_1", 1);
    check_recorded(&golden, SCALE_SERIES_MAX, 95, "factor_series_max_95_to_10", "decimals_2", 2);
    check_recorded(&golden, SCALE_SERIES_MAX, 95, "factor_series_max_95_to_10", "decimals_3", 3);
    check_recorded(&golden, SCALE_VARIABLE, 99, "factor_variable_99_to_10", "decimals_2_variable_99", 2);
    golden_close(&golden);
}

/* Report C: the training set's maximum becomes 9.99. */
static void test_train(void **state) {
    (void)state;
    struct golden_file golden = golden_open("scaling.safetensors");
    struct series_set set = golden_set(&golden);
    struct config config = fixture_config();
    config.scale_over = SCALE_TRAIN;
    config.scale_percentile = 100;
    config.scale_to = 9.99;
    config.scale_points = SCALE_POINTS_ALL;
    struct split split = {.n = {4, 1, 1}, .rows = {(int32_t[]){3, 1, 0, 2}, (int32_t[]){4}, (int32_t[]){5}}};
    struct scaling scaling = make_scaling(&config, &set, &split, 20);
    int32_t count;
    double *expected = golden_values(&golden, "factor_train_100_to_9.99", &count);
    for (int32_t i = 0; i < 12; i++)
        assert_true(scaling.factor[i] == expected[0]);
    free(expected);
    scaling_free(&scaling);
    split.n[0] = 0;
    assert_fails(scaling_make(&config, &set, &split, 20, &scaling, &fixture_error), LVS_INPUT,
                 "training split is empty");
    series_free(&set);
    golden_close(&golden);
}

static double ramp(int32_t s, int32_t t, int32_t c) {
    return (s + 1) * (c + 1) * t;
}

/* Eleven points 0 … 10 (times 2 for the second channel, times 2 for the second series): percentile p is p/10. */
static void test_over(void **state) {
    (void)state;
    struct series_set set = fixture_set(2, 11, 2, ramp);
    struct config config = fixture_config();
    config.scale_percentile = 50;
    config.scale_points = SCALE_POINTS_ALL;
    static const struct {
        int32_t over;
        double factor[4];
    } cases[] = {
        {SCALE_VARIABLE, {0.5, 1, 1, 2}},
        {SCALE_SERIES_MAX, {1, 1, 2, 2}},
        {SCALE_SERIES, {0.65, 0.65, 1.3, 1.3}}, /* 0 … 10 and 0, 2, … 20 together: between 6 and 7 */
    };
    for (int32_t i = 0; i < COUNT_OF(cases); i++) {
        config.scale_over = cases[i].over;
        struct scaling scaling = make_scaling(&config, &set, NULL, 0);
        for (int32_t k = 0; k < 4; k++)
            assert_near(scaling.factor[k], cases[i].factor[k], 1e-15);
        scaling_free(&scaling);
    }
    series_free(&set);
}

static void test_history(void **state) {
    (void)state;
    struct series_set set = fixture_set(2, 11, 2, ramp);
    struct config config = fixture_config();
    config.scale_percentile = 100;
    config.scale_points = SCALE_POINTS_HISTORY;
    struct scaling scaling = make_scaling(&config, &set, NULL, 6);
    assert_near(scaling.factor[0], 0.5, 1e-15); /* the largest of the first six is 5 */
    scaling_free(&scaling);
    scaling = make_scaling(&config, &set, NULL, 1000);
    assert_near(scaling.factor[0], 1, 1e-15);
    scaling_free(&scaling);
    assert_fails(scaling_make(&config, &set, NULL, 0, &scaling, &fixture_error), LVS_INPUT, "history has no points");
    /* The only point of the history is 0. */
    set.id[0] = 41;
    assert_fails(scaling_make(&config, &set, NULL, 1, &scaling, &fixture_error), LVS_INPUT, "series 41, channel c0");
    lvs_copy(config.data_file, sizeof config.data_file, "d.h5");
    assert_fails(scaling_make(&config, &set, NULL, 1, &scaling, &fixture_error), LVS_INPUT,
                 "d.h5: series 41, channel c0");
    assert_non_null(strstr(fixture_error.text, "scale_points = all"));
    assert_null(scaling.factor);
    series_free(&set);
}

/* A split along time: the training set is the first points of every series. */
static void test_train_of_time_split(void **state) {
    (void)state;
    struct series_set set = fixture_set(2, 11, 2, ramp);
    struct config config = fixture_config();
    config.scale_over = SCALE_TRAIN;
    config.scale_percentile = 100;
    config.scale_points = SCALE_POINTS_ALL;
    int32_t rows[] = {0, 1};
    struct split split = {.n = {2, 2, 2}, .rows = {rows, rows, rows}, .time_cut = {6, 9}};
    struct scaling scaling = make_scaling(&config, &set, &split, 0);
    assert_near(scaling.factor[0], 2.0, 1e-15); /* point 5 of the largest: 5 · 2 · 2, to 10 */
    scaling_free(&scaling);
    series_free(&set);
}

static double negative_ramp(int32_t s, int32_t t, int32_t c) {
    return -ramp(s, t, c);
}

/* Values below zero are scaled by their size: a series and its mirror image have equal factors. */
static void test_negative(void **state) {
    (void)state;
    struct config config = fixture_config();
    struct series_set up = fixture_set(2, 11, 2, ramp), down = fixture_set(2, 11, 2, negative_ramp);
    struct scaling of_up = make_scaling(&config, &up, NULL, 11), of_down = make_scaling(&config, &down, NULL, 11);
    for (int32_t i = 0; i < 4; i++)
        assert_true(of_up.factor[i] == of_down.factor[i] && of_up.factor[i] > 0);
    scaling_free(&of_up);
    scaling_free(&of_down);
    series_free(&up);
    series_free(&down);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentile), cmocka_unit_test(test_percentiles_as_numpy),
        cmocka_unit_test(test_over),       cmocka_unit_test(test_texts_as_recorded),
        cmocka_unit_test(test_train),      cmocka_unit_test(test_history),
        cmocka_unit_test(test_negative),   cmocka_unit_test(test_train_of_time_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
