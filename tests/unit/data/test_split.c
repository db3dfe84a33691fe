/* Splits: sizes that add up, parts that do not overlap, determinism, refused files and shares, and that a stratified
 * split keeps the proportions of kinds. */
#include "data_fixture.h"

static double wave(int32_t s, int32_t t, int32_t c) {
    /* Three kinds of series by s mod 10: fast, slow and large, and one rare kind. */
    int32_t kind = s % 10 < 6 ? 0 : s % 10 < 9 ? 1 : 2;
    const double period[] = {8, 20, 11}, size[] = {1, 3, 12};
    return size[kind] * (1.5 + sin(6.283185307179586 * (t + 0.01 * s + 2 * c) / period[kind]));
}

static int32_t kind_of(int32_t s) {
    return s % 10 < 6 ? 0 : s % 10 < 9 ? 1 : 2;
}

static void check_disjoint(const struct split *split, int32_t n_series) {
    int8_t *seen = lvs_calloc((size_t)n_series, 1);
    for (int part = 0; part < SPLIT_COUNT; part++)
        for (int32_t i = 0; i < split->n[part]; i++) {
            int32_t row = split->rows[part][i];
            assert_in_range(row, 0, n_series - 1);
            assert_int_equal(seen[row]++, 0);
        }
    free(seen);
}

static void test_refused_shares(void **state) {
    (void)state;
    struct series_set set = fixture_set(40, 12, 1, wave);
    struct config config = fixture_config();
    strcpy(config.data_file, "anomalies.h5");
    struct split split;
    config.split_parts[2] = 0.2;
    assert_fails(split_make(&config, &set, &split, &fixture_error), LVS_USAGE, "add up to at most 1");
    config.split_parts[2] = -0.1;
    assert_fails(split_make(&config, &set, &split, &fixture_error), LVS_USAGE, "0 or more");
    config.split_parts[2] = NAN;
    assert_fails(split_make(&config, &set, &split, &fixture_error), LVS_USAGE, "0 or more");
    config.split_parts[2] = 0.001;
    assert_fails(split_make(&config, &set, &split, &fixture_error), LVS_USAGE, "test part 0, at least 1 needed");
    config.split = SPLIT_TIME;
    config.split_parts[2] = 0.15;
    assert_fails(split_make(&config, &set, &split, &fixture_error), LVS_USAGE,
                 "time points gives the validation part 2");
    config.split = SPLIT_INDEX;
    memcpy(config.split_parts, (double[]){700, 200, 100}, sizeof config.split_parts);
    assert_fails(split_make(&config, &set, &split, &fixture_error), LVS_USAGE,
                 "index:700/200/100 needs 1000 series, anomalies.h5 has 40; use random:0.70/0.15/0.15, or time:");
    config.split_parts[0] = 20.5;
    assert_fails(split_make(&config, &set, &split, &fixture_error), LVS_USAGE, "whole numbers");
    memcpy(config.split_parts, (double[]){0, 10, 10}, sizeof config.split_parts);
    assert_fails(split_make(&config, &set, &split, &fixture_error), LVS_USAGE, "training part 0");
    series_free(&set);
}

static void test_random(void **state) {
    (void)state;
    static const struct {
        int32_t n_series;
        double shares[3];
        int32_t n[3];
    } cases[] = {
        {1000, {0.70, 0.15, 0.15}, {700, 150, 150}},
        {1000, {0.90, 0.05, 0.05}, {900, 50, 50}},
        {40, {0.70, 0.15, 0.15}, {28, 6, 6}},
        {7, {0.70, 0.15, 0.15}, {5, 1, 1}},
        {10, {0.5, 0.25, 0.25}, {5, 3, 2}}, /* 7.5 rounds up */
        {10, {0.5, 0.1, 0}, {5, 1, 0}},
        {3, {1.0 / 3, 1.0 / 3, 1.0 / 3}, {1, 1, 1}},
    };
    for (int32_t i = 0; i < COUNT_OF(cases); i++) {
        struct series_set set = fixture_set(cases[i].n_series, 4, 1, wave);
        struct config config = fixture_config();
        memcpy(config.split_parts, cases[i].shares, sizeof config.split_parts);
        struct split first, again, other;
        assert_ok(split_make(&config, &set, &first, &fixture_error));
        for (int part = 0; part < SPLIT_COUNT; part++)
            assert_int_equal(first.n[part], cases[i].n[part]);
        assert_int_equal(first.time_cut[0], 0);
        check_disjoint(&first, set.n_series);
        assert_ok(split_make(&config, &set, &again, &fixture_error));
        assert_memory_equal(first.rows[0], again.rows[0], (size_t)first.n[0] * sizeof(int32_t));
        config.split_seed = 1;
        assert_ok(split_make(&config, &set, &other, &fixture_error));
        if (set.n_series >= 40)
            assert_memory_not_equal(first.rows[0], other.rows[0], (size_t)first.n[0] * sizeof(int32_t));
        split_free(&first);
        split_free(&again);
        split_free(&other);
        series_free(&set);
    }
}

static void test_index_and_time(void **state) {
    (void)state;
    struct series_set set = fixture_set(20, 40, 2, wave);
    struct config config = fixture_config();
    struct split split;
    config.split = SPLIT_INDEX;
    memcpy(config.split_parts, (double[]){10, 4, 5}, sizeof config.split_parts);
    assert_ok(split_make(&config, &set, &split, &fixture_error));
    assert_int_equal(split.rows[SPLIT_TRAIN][9], 9);
    assert_int_equal(split.rows[SPLIT_VALIDATION][0], 10);
    assert_int_equal(split.rows[SPLIT_TEST][4], 18);
    split_free(&split);
    config.split = SPLIT_TIME;
    memcpy(config.split_parts, (double[]){0.7, 0.15, 0.15}, sizeof config.split_parts);
    assert_ok(split_make(&config, &set, &split, &fixture_error));
    for (int part = 0; part < SPLIT_COUNT; part++) {
        assert_int_equal(split.n[part], 20);
        assert_int_equal(split.rows[part][19], 19);
    }
    assert_int_equal(split.time_cut[0], 28);
    assert_int_equal(split.time_cut[1], 34);
    split_free(&split);
    series_free(&set);
}

/* ---- files ---- */

static enum lvs_status split_text(const struct series_set *set, const char *json, const char *member,
                                  struct split *split) {
    struct config config = fixture_config();
    config.split = SPLIT_FILE;
    snprintf(config.split_file, sizeof config.split_file, "%s", fixture_write("splits.json", json));
    snprintf(config.split_member, sizeof config.split_member, "%s", member);
    return split_make(&config, set, split, &fixture_error);
}

static void test_file_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *member, *words;
    } cases[] = {
        {"{\"train\":[0", "", "no JSON"},
        {"[0,1]", "", "no lists \"train\""},
        {"{}", "", "no lists \"train\""},
        {"{\"train\":5}", "", "no lists \"train\""},
        {"{\"train\":[]}", "", "names no series"},
        {"{\"train\":[0,1.0]}", "", "train[1] is no whole number"},
        {"{\"train\":[\"0\"]}", "", "train[0] is no whole number"},
        {"{\"train\":[0],\"val\":{}}", "", "\"validation\" is no list"},
        {"{\"train\":[0,40]}", "", "train[1] is series 40; the data have series 0 to 39"},
        {"{\"train\":[0,-1]}", "", "train[1] is series -1"},
        {"{\"train\":[0,9999999999]}", "", "series 9999999999"},
        {"{\"train\":[0,3,0]}", "", "series 0 is in \"train\" and again in \"train\""},
        {"{\"train\":[0,3],\"validation\":[1],\"test\":[2,3]}", "", "series 3 is in \"train\" and again in \"test\""},
        {"{\"train\":[0],\"train\":[1]}", "", "duplicate"},
        {"{\"b\":{\"train\":[0]},\"c\":{\"train\":[1]}}", "", "members with splits: b, c"},
        {"{\"b\":{\"train\":[0]},\"c\":{\"train\":[1]}}", "d", "no split in member d; members with splits: b, c"},
    };
    struct series_set set = fixture_set(40, 4, 1, wave);
    for (int32_t i = 0; i < COUNT_OF(cases); i++) {
        struct split split;
        print_message("%s\n", cases[i].words);
        assert_fails(split_text(&set, cases[i].json, cases[i].member, &split), LVS_INPUT, cases[i].words);
        assert_null(split.rows[0]);
    }
    struct config config = fixture_config();
    struct split split;
    config.split = SPLIT_FILE;
    strcpy(config.split_file, "/nonexistent/splits.json");
    assert_fails(split_make(&config, &set, &split, &fixture_error), LVS_INPUT, "/nonexistent/splits.json: cannot open");
    series_free(&set);
}

static void test_file(void **state) {
    (void)state;
    struct series_set set = fixture_set(10, 4, 1, wave);
    struct split split;
    assert_ok(split_text(&set, "{\"train\":[7,2,3],\"val\":[9],\"test\":[0,1]}", "", &split));
    assert_int_equal(split.n[SPLIT_TRAIN], 3);
    assert_int_equal(split.rows[SPLIT_TRAIN][0], 7);
    assert_int_equal(split.rows[SPLIT_VALIDATION][0], 9);
    assert_int_equal(split.rows[SPLIT_TEST][1], 1);
    split_free(&split);
    const char *two = "{\"about\":\"x\",\"b\":{\"train\":[1]},\"c\":{\"train\":[5,6],\"validation\":[2]}}";
    assert_ok(split_text(&set, two, "c", &split));
    assert_int_equal(split.n[SPLIT_TRAIN], 2);
    assert_int_equal(split.n[SPLIT_TEST], 0);
    assert_int_equal(split.rows[SPLIT_TRAIN][1], 6);
    split_free(&split);
    series_free(&set);
}

/* Ids are rows of the file: those that missing = drop_series left out are skipped. */
static void test_file_after_dropping(void **state) {
    (void)state;
    struct series_set set = fixture_set(3, 4, 1, wave);
    set.n_file = 6;
    memcpy(set.id, (int64_t[]){1, 2, 4}, 3 * sizeof *set.id);
    struct split split;
    assert_ok(split_text(&set, "{\"train\":[0,1,2,5],\"test\":[3,4]}", "", &split));
    assert_int_equal(split.n[SPLIT_TRAIN], 2);
    assert_int_equal(split.rows[SPLIT_TRAIN][1], 1);
    assert_int_equal(split.n[SPLIT_TEST], 1);
    assert_int_equal(split.rows[SPLIT_TEST][0], 2);
    split_free(&split);
    assert_fails(split_text(&set, "{\"train\":[1,6]}", "", &split), LVS_INPUT, "series 0 to 5");
    assert_fails(split_text(&set, "{\"train\":[0,3]}", "", &split), LVS_INPUT, "names no series");
    series_free(&set);
}

/* ---- stratified ---- */

static void test_stratified(void **state) {
    (void)state;
    struct series_set set = fixture_set(200, 60, 2, wave);
    struct config config = fixture_config();
    config.split = SPLIT_STRATIFIED;
    struct split split, again;
    assert_ok(split_make(&config, &set, &split, &fixture_error));
    check_disjoint(&split, 200);
    const int32_t sizes[] = {140, 30, 30};
    const double shares[] = {0.6, 0.3, 0.1};
    for (int part = 0; part < SPLIT_COUNT; part++) {
        assert_int_equal(split.n[part], sizes[part]);
        int32_t kinds[3] = {0};
        for (int32_t i = 0; i < split.n[part]; i++)
            kinds[kind_of(split.rows[part][i])]++;
        /* A kind may be two clusters: one off for each. */
        for (int kind = 0; kind < 3; kind++)
            assert_true(fabs(kinds[kind] - shares[kind] * sizes[part]) <= 2);
    }
    assert_ok(split_make(&config, &set, &again, &fixture_error));
    for (int part = 0; part < SPLIT_COUNT; part++)
        assert_memory_equal(split.rows[part], again.rows[part], (size_t)split.n[part] * sizeof(int32_t));
    split_free(&split);
    split_free(&again);
    series_free(&set);
}

/* Fewer series than kinds, equal series, and shares that leave some over. */
static void test_stratified_small(void **state) {
    (void)state;
    struct config config = fixture_config();
    config.split = SPLIT_STRATIFIED;
    memcpy(config.split_parts, (double[]){0.4, 0.3, 0.3}, sizeof config.split_parts);
    struct split split;
    struct series_set set = fixture_set(3, 5, 1, wave);
    assert_ok(split_make(&config, &set, &split, &fixture_error));
    check_disjoint(&split, 3);
    split_free(&split);
    for (int32_t i = 5; i < 15; i++)
        set.values[i] = set.values[i - 5];
    assert_ok(split_make(&config, &set, &split, &fixture_error));
    check_disjoint(&split, 3);
    split_free(&split);
    series_free(&set);
    set = fixture_set(50, 30, 1, wave);
    memcpy(config.split_parts, (double[]){0.2, 0.2, 0.2}, sizeof config.split_parts);
    assert_ok(split_make(&config, &set, &split, &fixture_error));
    for (int part = 0; part < SPLIT_COUNT; part++)
        assert_int_equal(split.n[part], 10);
    check_disjoint(&split, 50);
    split_free(&split);
    series_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_shares), cmocka_unit_test(test_random),
        cmocka_unit_test(test_index_and_time), cmocka_unit_test(test_file_refused),
        cmocka_unit_test(test_file),           cmocka_unit_test(test_file_after_dropping),
        cmocka_unit_test(test_stratified),     cmocka_unit_test(test_stratified_small),
    };
    return cmocka_run_group_tests(tests, fixture_make_folder, fixture_remove_folder);
}
