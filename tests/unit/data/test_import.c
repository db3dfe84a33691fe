/* Wide tables: what is refused and in which words (file, line, column), then separators, quotes, dates, gaps, unequal
 * series, and the way of a user's own data into an HDF5 file and back. */
#include "data_fixture.h"

#include "lvsweep/import.h"

static enum lvs_status import(const char *text, const struct import_options *options, struct series_set *set) {
    char *copy = lvs_strdup(text);
    enum lvs_status status = import_csv_text("wide.csv", copy, strlen(text), options, set, &fixture_error);
    free(copy);
    return status;
}

static const struct import_options by_site = {.series_column = "site", .time_column = "year"};

#define SIXTY "123456789.123456789.123456789.123456789.123456789.123456789."

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "wide.csv: empty"},
        {"\n \r\n", "wide.csv: empty"},
        {"site,year,a\n", "a header and no rows"},
        {"place,year,a\nx,1,2\n", "no column site (series); there are place, year, a"},
        {"site,site,year,a\nx,x,1,2\n", "two columns are called site"},
        {"site,year\nx,1\n", "no column beside series and time"},
        {"site,year,a\nx,1,2\nx,2\n", "wide.csv:3: 2 cells, the header has 3"},
        {"site,year,a\nx,1,2\n\nx,2,3,4\n", "wide.csv:4: 4 cells, the header has 3"},
        {"site,year,a\nx,1,2\n,2,3\n", "wide.csv:3: site is empty"},
        {"site,year,a\nx,1,2\nx,2,two\nx,3,1\nx,4,1\n", "wide.csv:3: column a: \"two\" is no number"},
        {"site,year,a\nx,1,2\nx,2,inf\nx,3,1\nx,4,1\n", "\"inf\" is no number"},
        {"site,year,a\nx,1,2\nx,2,0x10\nx,3,1\nx,4,1\n", "\"0x10\" is no number"},
        {"site,year,a\nx,1,2\nx,2,1e999\nx,3,1\nx,4,1\n", "\"1e999\" is no number"},
        {"site,year,a\nx,1,2\nx,2,\"1,5\"\nx,3,1\nx,4,1\n", "\"1,5\" is no number"},
        {"site,year,a\nx,,2\nx,2,3\n", "wide.csv:2: year \"\" is no number and no date"},
        {"site,year,a\nx,spring,2\n", "year \"spring\" is no number and no date (2024-01-31)"},
        {"site,year,a\nx,1,2\nx,2024-01-31,2\n", "wide.csv:3: year \"2024-01-31\" is no number, as in the rows before"},
        {"site,year,a\nx,2024-01-31,2\nx,2025,2\n", "wide.csv:3: year \"2025\" is no date"},
        {"site,year,a\nx,2023-02-29,2\n", "\"2023-02-29\" is no number and no date"},
        {"site,year,a\nx,1,2\ny,1,3\nx,2,4\nx,1,5\n",
         "wide.csv:5: series x has a row for this time already, at line 2"},
        {"site,year,a\nx,1,\"2\nx,2,3\n", "wide.csv:2: a quote is opened and never closed"},
        {"site,year,a\nx,1,\"2\"3\n", "wide.csv:2: text after a closed quote"},
        {"site,year,a,b,c,d,e,f,g,h,i\nx,1,1,1,1,1,1,1,1,1,1\n", "more than 8 columns beside series and time"},
        {"site,year,a\nx,1,2\nx,2,3\nx,3,4\n", "wide.csv has 3 rows a series; at least 4 are needed"},
        {"site,year,a\nx,1,2\nx,2,3\nx,3,4\nx,4,5\ny,2,2\ny,3,3\ny,4,4\n",
         "series of unequal length: x (1 to 4) and y (2 to 4). Fill the rows in, or let lvsweep import --unequal cut"},
        {"site,year,flux,a,flux\nx,1,2,3,4\n", "wide.csv: columns 3 and 5 are both called \"flux\""},
        {"site,year,,\nx,1,2,3\n", "wide.csv: columns 3 and 4 are both called \"\""},
        {"site,year," SIXTY "abcd," SIXTY "abce\nx,1,2,3\n", "columns 3 and 4 are both called"},
        {"site,year,temp\xe9rature\nx,1,2\n", "wide.csv: column 3: byte 5 of its name is 0xE9, which is no UTF-8"},
        {"site,year,a\nx,1,2\ny\xff,1,2\n", "wide.csv:3: site: byte 2 is 0xFF, which is no UTF-8"},
        {"site,year,a\nx,1,2\nx,2,1e300\nx,3,1\nx,4,1\n", "wide.csv:3: column a: 1e300 is too large"},
        {"site,year,a\nx,1,2\nx,2,-3.5e38\nx,3,1\nx,4,1\n", "wide.csv:3: column a: -3.5e38 is too large"},
    };
    for (int32_t i = 0; i < COUNT_OF(cases); i++) {
        struct series_set set;
        print_message("%s\n", cases[i].words);
        assert_fails(import(cases[i].text, &by_site, &set), LVS_INPUT, cases[i].words);
        assert_null(set.values);
    }
    struct series_set set;
    char nul[] = "site,year\0,a\n";
    assert_fails(import_csv_text("wide.csv", nul, sizeof nul - 1, &by_site, &set, &fixture_error), LVS_INPUT,
                 "NUL bytes");
    assert_fails(import_csv("/nonexistent.csv", &by_site, &set, &fixture_error), LVS_INPUT, "cannot open");
}

/* What an unnamed column looks like is told; a table with columns to spare is refused where that was asked for. */
static void test_guesses(void **state) {
    (void)state;
    const char *wide = "site,year,a,b\nsite 0,1,2,3\nsite 0,2,3,4\nsite 0,3,3,4\nsite 1,1,2,3\n";
    const struct {
        const char *text;
        struct import_options options;
        const char *words;
    } cases[] = {
        {wide,
         {0},
         "wide.csv:2: column site: \"site 0\" is no number; did you mean --series site --time year? Else leave"},
        {wide,
         {.channels = "a+b", .every_column = true},
         "wide.csv: site, year would not be used: --series site --time year if that is what they are; --channels a+b "
         "goes without them"},
        {wide,
         {.series_column = "site", .channels = "a", .every_column = true},
         "year, b would not be used: --time year if"},
        {wide,
         {.series_column = "site"},
         "Name the column of times (--time year), or let lvsweep import --unequal cut"},
        {"a,b,note\n1,2,3\n",
         {.channels = "a+b", .every_column = true},
         "note would not be used: --channels a+b goes without it"},
        {"place,When,a\nx,2024-01-31,2\nx,,2\nx,,2\nx,,2\n", {0}, "did you mean --series place --time When?"},
        {"site,n,a\nx,1,2\nx,2,3\ny,1,2\n", {.series_column = "site"}, "Name the column of times (--time COLUMN)"},
        {"a,b\n1,2\n1,x\n1,2\n1,2\n", {0}, "\"x\" is no number; leave it empty"},
        {"a,b\nx,2\n1,2\n1,2\n1,2\n", {.channels = "a"}, "\"x\" is no number; leave it empty"},
        {"a,b\n1,2\n", {.channels = "a+a"}, "channels a+a: a is there twice"},
    };
    for (int32_t i = 0; i < COUNT_OF(cases); i++) {
        struct series_set set;
        assert_fails(import(cases[i].text, &cases[i].options, &set), LVS_INPUT, cases[i].words);
    }
}

static void check_set(const struct series_set *set, int32_t n_series, int32_t n_time, const double *expected) {
    assert_int_equal(set->n_series, n_series);
    assert_int_equal(set->n_time, n_time);
    for (int32_t i = 0; i < n_series * n_time * set->n_channel; i++)
        if (isnan(expected[i]))
            assert_true(isnan(set->values[i]));
        else
            assert_near(set->values[i], expected[i], 0);
}

/* Rows in any order, series in order of appearance, gaps as NaN, negative values. */
static void test_wide(void **state) {
    (void)state;
    struct series_set set;
    assert_ok(import("\xef\xbb\xbfyear, site ,\"hare, wild\",lynx\r\n"
                     "1902,north,3,-3.5\r\n1900,north,1,NA\r\n1901,north,,2\r\n\r\n1903,north,4,4e0\r\n"
                     "1900,\"a \"\"south\"\"\",5,6\r\n1903,\"a \"\"south\"\"\",7,.5\r\n",
                     &by_site, &set));
    assert_int_equal(set.n_channel, 2);
    const double expected[] = {1, NAN, NAN, 2, 3, -3.5, 4, 4, 5, 6, NAN, NAN, NAN, NAN, 7, .5};
    check_set(&set, 2, 4, expected);
    assert_string_equal(set.channel_name[0], "hare, wild");
    assert_string_equal(set.label[0], "north");
    assert_string_equal(set.label[1], "a \"south\"");
    assert_true(set.time[0] == 1900 && set.time[3] == 1903);
    assert_string_equal(set.time_unit, "");
    assert_int_equal(strlen(set.hash), 32);
    series_free(&set);
}

static void test_separators_and_channels(void **state) {
    (void)state;
    struct series_set set;
    struct import_options options = by_site;
    options.channels = "b+a";
    const char *text = "site;year;a;note;b\nx;1;1,5;fine;10\nx;2;2,5;\"a, b; c\";11\nx;3;3;;12\nx;4;-4,25;;13\n";
    assert_ok(import(text, &options, &set));
    const double expected[] = {10, 1.5, 11, 2.5, 12, 3, 13, -4.25};
    check_set(&set, 1, 4, expected);
    assert_string_equal(set.channel_name[0], "b");
    series_free(&set);
    options.channels = "b+c";
    assert_fails(import(text, &options, &set), LVS_INPUT, "no column c (channels); there are site, year, a, note, b");
    assert_fails(import(text, &by_site, &set), LVS_INPUT, "column note: \"fine\" is no number");
    /* Tabs, no series column, no time column. */
    options = (struct import_options){0};
    assert_ok(import("a\tb\n1\t2\n3\t4\n5\t6\n7\t8", &options, &set));
    check_set(&set, 1, 4, (const double[]){1, 2, 3, 4, 5, 6, 7, 8});
    assert_true(set.time[3] == 3);
    assert_null(set.label);
    series_free(&set);
}

static void test_dates(void **state) {
    (void)state;
    struct series_set set;
    assert_ok(import("site,year,a\nx,1970-01-01,1\nx,1969-12-31,0\nx,2000-02-29,2\nx,2000-03-01T12:00,3\n"
                     "x,2024-01-31 06:00:00Z,4\n",
                     &by_site, &set));
    const double days[] = {-1, 0, 11016, 11017.5, 19753.25};
    for (int32_t t = 0; t < 5; t++)
        assert_true(set.time[t] == days[t] && set.values[t] == t);
    assert_string_equal(set.time_unit, "days since 1970-01-01");
    series_free(&set);
}

static void test_unequal(void **state) {
    (void)state;
    struct import_options options = by_site;
    struct series_set set;
    options.unequal = IMPORT_UNEQUAL_CUT;
    assert_ok(import("site,year,a\nx,1,1\nx,2,2\nx,3,3\nx,4,4\nx,5,5\ny,2,20\ny,4,40\ny,5,50\ny,6,60\nx,6,6\nx,7,7\n",
                     &options, &set));
    const double expected[] = {2, 3, 4, 5, 6, 20, NAN, 40, 50, 60};
    check_set(&set, 2, 5, expected);
    assert_true(set.time[0] == 2 && set.time[4] == 6);
    series_free(&set);
    assert_fails(import("site,year,a\nx,1,1\nx,2,2\ny,3,1\ny,4,2\n", &options, &set), LVS_INPUT,
                 "no stretch of time is common to all series: y (3 to 4) and x (1 to 2)");
    /* Without a time column the shortest series decides. */
    options.time_column = NULL;
    options.channels = "a";
    assert_ok(import("site,a\nx,1\nx,2\ny,1\nx,3\nx,4\nx,5\ny,2\ny,3\ny,4\n", &options, &set));
    check_set(&set, 2, 4, (const double[]){1, 2, 3, 4, 1, 2, 3, 4});
    series_free(&set);
    options.unequal = IMPORT_UNEQUAL_REFUSE;
    assert_fails(import("site,a\nx,1\nx,2\ny,1\nx,3\nx,4\n", &options, &set), LVS_INPUT, "x (4 rows) and y (1 rows)");
    /* Every series with times of its own. */
    assert_fails(import("site,year,a\nx,0,1\nx,1,1\nx,9,1\ny,0,1\ny,2,1\ny,9,1\nz,0,1\nz,3,1\nz,9,1\n"
                        "u,0,1\nu,4,1\nu,9,1\nv,0,1\nv,5,1\nv,9,1\n",
                        &by_site, &set),
                 LVS_INPUT, "the series' times do not match: 7 different times, at most 3 in one series");
}

/* 40 series × 250 points × 3 channels with gaps and negative values: CSV → HDF5 → read with the gaps closed. */
static void test_own_data(void **state) {
    (void)state;
    struct strbuf csv;
    strbuf_init(&csv);
    strbuf_add(&csv, "site,day,temperature,rain,level\n");
    for (int32_t s = 0; s < 40; s++)
        for (int32_t t = 0; t < 250; t++) {
            if ((s + t) % 97 == 5 && t > 0 && t < 249) continue; /* a row that is not there */
            strbuf_printf(&csv, "site %d,%d,%.2f,", s, t, 10 * sin(0.1 * t + s));
            if (t % 31 == 7)
                strbuf_add(&csv, ",");
            else
                strbuf_printf(&csv, "%.1f,", 3 + sin(0.3 * t));
            strbuf_printf(&csv, "%.3f\n", 0.01 * t - 1);
        }
    fixture_write("own.csv", csv.text);
    strbuf_free(&csv);
    struct import_options options = {.series_column = "site", .time_column = "day"};
    struct series_set set, read;
    assert_ok(import_csv(fixture_path("own.csv"), &options, &set, &fixture_error));
    assert_int_equal(set.n_series, 40);
    assert_int_equal(set.n_time, 250);
    assert_int_equal(set.n_channel, 3);
    assert_ok(series_write(fixture_path("own.h5"), &set, &fixture_error));
    struct config config = fixture_config();
    lvs_copy(config.data_file, sizeof config.data_file, fixture_path("own.h5"));
    assert_fails(series_read(&config, &read, &fixture_error), LVS_INPUT, "is NaN");
    config.missing = MISSING_INTERPOLATE;
    assert_ok(series_read(&config, &read, &fixture_error));
    assert_string_equal(read.label[39], "site 39");
    assert_string_equal(read.channel_name[2], "level");
    assert_near(read.values[(250 + 7) * 3 + 2], 0.07 - 1, 1e-6);
    series_free(&read);
    series_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_guesses),
        cmocka_unit_test(test_wide),     cmocka_unit_test(test_separators_and_channels),
        cmocka_unit_test(test_dates),    cmocka_unit_test(test_unequal),
        cmocka_unit_test(test_own_data),
    };
    return cmocka_run_group_tests(tests, fixture_make_folder, fixture_remove_folder);
}
