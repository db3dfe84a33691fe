/* Features of known waves, clusters of known kinds, token counts of known texts, and both outputs. */
#include "data_fixture.h"

#include <jansson.h>

#include "lvsweep/describe.h"

#define TWO_PI 6.283185307179586

/* Even series: period 20 (10 points), size 1, lag 4 behind; odd ones: period 36, size 5, lag 6. Times are 0, 2, 4, … */
static double waves(int32_t s, int32_t t, int32_t c) {
    double period = s % 2 ? 36 : 20, size = s % 2 ? 5 : 1, lag = s % 2 ? 6 : 4;
    return size * (2 + 0.01 * s + sin(TWO_PI * (2 * t - lag * c) / period));
}

static void test_features(void **state) {
    (void)state;
    struct series_set set = fixture_set(4, 100, 2, waves);
    struct series_features features;
    features_of_series(&set, 0, &features);
    assert_near(features.period[0], 20, 0.02);
    assert_near(features.period[1], 20, 0.02);
    assert_near(features.lag[1], 4, 0.05);
    assert_true(features.lag[0] == 0);
    assert_int_equal(features.n_peaks[0], 10);
    assert_near(features.mean[0], 2, 1e-9);
    assert_near(features.maximum[0] - features.minimum[0], 2, 0.1);
    assert_true(features.initial[1] == waves(0, 0, 1) && features.final[1] == waves(0, 99, 1));
    features_of_series(&set, 3, &features);
    assert_near(features.period[0], 36, 0.05);
    assert_near(features.lag[1], 6, 0.1);
    series_free(&set);
}

static double ripples(int32_t s, int32_t t, int32_t c) {
    (void)c;
    if (s == 0) return t;                                                 /* no peak */
    if (s == 1) return t == 10 || t == 11 || t == 12 ? 5 : 1 + (t == 30); /* a flat peak and a small one */
    return sin(TWO_PI * t / 50) + 0.02 * (t % 2);                         /* one wave in ripples of 1 % */
}

static void test_peaks(void **state) {
    (void)state;
    struct series_set set = fixture_set(3, 60, 1, ripples);
    struct series_features features;
    features_of_series(&set, 0, &features);
    assert_int_equal(features.n_peaks[0], 0);
    assert_true(isnan(features.period[0]));
    features_of_series(&set, 1, &features);
    assert_int_equal(features.n_peaks[0], 2);
    assert_near(features.period[0], 40, 2.1);
    features_of_series(&set, 2, &features);
    assert_int_equal(features.n_peaks[0], 1);
    series_free(&set);
}

static struct description describe(const struct series_set *set, struct config *config, int32_t n_clusters) {
    struct scaling scaling;
    struct description description;
    config->scale_points = SCALE_POINTS_ALL;
    assert_ok(scaling_make(config, set, NULL, 0, &scaling, &fixture_error));
    assert_ok(describe_make(config, set, &scaling, n_clusters, &description, &fixture_error));
    scaling_free(&scaling);
    return description;
}

static void test_clusters(void **state) {
    (void)state;
    struct series_set set = fixture_set(30, 100, 2, waves);
    struct config config = fixture_config();
    config.defaults.decimals = 2;
    struct description d = describe(&set, &config, 2);
    assert_int_equal(d.n_clusters, 2);
    for (int32_t k = 0; k < 2; k++) {
        assert_int_equal(d.cluster[k].n_series, 15);
        assert_near(d.cluster[k].share, 0.5, 1e-15);
    }
    for (int32_t s = 0; s < 30; s++)
        assert_int_equal(d.cluster_of[s], d.cluster_of[s % 2]);
    int32_t even = d.cluster_of[0];
    assert_near(d.cluster[even].period[0], 20, 0.02);
    assert_near(d.cluster[1 - even].period[1], 36, 0.05);
    assert_near(d.cluster[1 - even].lag[1], 6, 0.1);
    assert_int_equal(d.channel[0].period.count, 30);
    assert_near(d.channel[0].period.mean, 28, 0.05);
    describe_free(&d);
    d = describe(&set, &config, 8);
    assert_int_equal(d.n_clusters, 8);
    describe_free(&d);
    struct scaling none = {0};
    assert_fails(describe_make(&config, &set, &none, 9, &d, &fixture_error), LVS_USAGE, "1 to 8 are allowed");
    series_free(&set);
}

/* Ten points 0 … 9 of one channel, scaled by 1: known lengths. */
static double steps(int32_t s, int32_t t, int32_t c) {
    (void)c;
    return t == 3 ? 0.004 : t + 10 * s;
}

static void test_encodings(void **state) {
    (void)state;
    struct series_set set = fixture_set(2, 10, 1, steps);
    struct config config = fixture_config();
    config.scale_over = SCALE_SERIES;
    config.scale_percentile = 100;
    config.defaults.decimals = 2;
    config.clip = 8.5;
    struct scaling scaling = {.n_series = 2, .n_channel = 1, .factor = (double[]){1, 10}};
    struct description d;
    assert_ok(describe_make(&config, &set, &scaling, 4, &d, &fixture_error));
    assert_int_equal(d.n_clusters, 2); /* no more than series */
    assert_int_equal(d.n_encodings, 4);
    assert_true(d.encoding[0].decimals == 2 && d.encoding[0].decimal_point);
    assert_true(d.encoding[0].tokens.minimum == 49 && d.encoding[0].tokens.maximum == 49); /* 10 × "d.dd" and 9 × ';' */
    assert_near(d.encoding[0].tokens_a_point, 5, 1e-12);
    assert_near(d.encoding[0].zero_share, 2.0 / 20, 1e-12); /* 0.004 twice, once scaled to 0.0004 */
    assert_near(d.encoding[0].clipped_share, 1.0 / 20, 1e-12);
    assert_true(d.encoding[1].decimals == 3 && d.encoding[1].tokens.mean == 59);
    assert_true(d.encoding[2].decimals == 2 && !d.encoding[2].decimal_point);
    /* 0;100;200;0;400;…;850 and 100;110;120;0;140;… */
    assert_true(d.encoding[2].tokens.minimum == 2 + 8 * 3 + 9 && d.encoding[2].tokens.maximum == 1 + 9 * 3 + 9);
    describe_free(&d);
    config.negative_refuse = 1;
    set.id[1] = 12;
    set.values[15] = -1;
    assert_fails(describe_make(&config, &set, &scaling, 4, &d, &fixture_error), LVS_INPUT, "series 12: point 5");
    assert_null(d.features);
    series_free(&set);
}

static void test_outputs(void **state) {
    (void)state;
    struct series_set set = fixture_set(30, 100, 2, waves);
    strcpy(set.channel_name[0], "prey");
    strcpy(set.channel_unit[0], "1000 \"heads\"");
    strcpy(set.channel_name[1], "caf\xe9"); /* not UTF-8 */
    struct config config = fixture_config();
    config.defaults.decimals = 1;
    struct description d = describe(&set, &config, 4);
    struct strbuf text, json;
    strbuf_init(&text);
    strbuf_init(&json);
    describe_write_text(&d, &text);
    assert_non_null(strstr(text.text, "30 series, 100 points, 2 channels, time 0 to 198\n"));
    assert_non_null(strstr(text.text, "prey (1000 \"heads\")"));
    assert_non_null(strstr(text.text, "lag to prey"));
    assert_non_null(strstr(text.text, "2, no point"));
    for (char *line = strtok(text.text, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 100);
    describe_write_json(&d, &json);
    json_t *root = json_loads(json.text, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "series")), 30);
    assert_int_equal(json_array_size(json_object_get(root, "cluster_of_series")), 30);
    assert_int_equal(json_array_size(json_object_get(root, "encodings")), 5);
    json_t *channel = json_array_get(json_object_get(root, "channels"), 1);
    assert_string_equal(json_string_value(json_object_get(channel, "name")), "2");
    assert_near(json_real_value(json_object_get(json_object_get(channel, "period"), "mean")), 28, 0.05);
    json_decref(root);
    strbuf_free(&text);
    strbuf_free(&json);
    describe_free(&d);
    series_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features),  cmocka_unit_test(test_peaks),   cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_encodings), cmocka_unit_test(test_outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
