/* The report's parts: numbers as people write them, escaped text, scales and ticks, and every figure of every made-up
 * sweep. Whether the pictures are XML and fit their frames: tests/cli/test_report_files.py, test_report_browser.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lvsweep/describe.h"
#include "report_fixture.h"
#include "report_internal.h"
#include "unit/own_folder.h"

static char folder[LVS_PATH_MAX];

static void test_markup_is_escaped(void **state) {
    (void)state;
    static const char *const table[][2] = {
        {"", ""},
        {"plain é", "plain é"},
        {"<script>&\"'", "&lt;script&gt;&amp;&quot;&#39;"},
        {"a\x01\x1b[31m", "a\xEF\xBF\xBD\xEF\xBF\xBD[31m"},
        {"\xff", "\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct strbuf out;
        strbuf_init(&out);
        strbuf_add(&out, "");
        markup_add(&out, table[i][0]);
        assert_string_equal(out.text, table[i][1]);
        strbuf_free(&out);
    }
}

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        double value;
        int digits;
        const char *text;
    } table[] = {
        {NAN, 3, "–"},           {0, 4, "0"},           {-0.0, 4, "0"},    {1, 3, "1"},
        {0.61474, 4, "0.6147"},  {1.5, 4, "1.5"},       {100, 3, "100"},   {12345, 4, "12345"},
        {1e5, 3, "1e5"},         {1.3e16, 4, "1.3e16"}, {1e-4, 3, "1e-4"}, {0.00123, 2, "0.0012"},
        {-2.5e-7, 3, "-2.5e-7"}, {99.96, 3, "100"},     {600, 4, "600"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[32];
        number_write(table[i].value, table[i].digits, text);
        assert_string_equal(text, table[i].text);
    }
}

static void test_durations(void **state) {
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } table[] = {{NAN, "–"}, {-1, "–"}, {1.25, "1.2 s"}, {59, "59 s"}, {61, "1 min 1 s"}, {11520, "3 h 12 min"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[32];
        duration_write(table[i].seconds, text);
        assert_string_equal(text, table[i].text);
    }
}

/* Ticks lie inside, ascend, and there are at least two of them. */
static void check_ticks(double low, double high, double log_from) {
    struct range range = {.low = low, .high = high};
    struct scale scale = scale_make(range, log_from, 0, 100);
    double ticks[12];
    int32_t n = scale_ticks(&scale, 6, ticks);
    assert_in_range(n, 2, 12);
    assert_true(scale.low <= low && scale.high >= high);
    for (int32_t i = 0; i < n; i++) {
        double at = scale_at(&scale, ticks[i]);
        assert_true(at >= -1e-6 && at <= 100 + 1e-6);
        if (i) assert_true(ticks[i] > ticks[i - 1]);
    }
}

static void test_ticks(void **state) {
    (void)state;
    static const double ranges[][2] = {{0, 1},       {0.58, 1.13}, {-3, 17},    {1e-9, 2e-9}, {5, 5},
                                       {-1e12, 1e3}, {0, 6000},    {0.003, 12}, {1, 1.0001},  {1e-8, 1e9}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        check_ticks(ranges[i][0], ranges[i][1], 0);
        check_ticks(ranges[i][0], ranges[i][1], 3);
    }
}

static void test_scale_refuses_what_has_no_place(void **state) {
    (void)state;
    struct scale logarithmic = scale_make((struct range){1, 1000}, 3, 0, 100);
    assert_true(logarithmic.is_log);
    assert_true(isnan(scale_at(&logarithmic, 0)));
    assert_true(isnan(scale_at(&logarithmic, NAN)));
    assert_true(isfinite(scale_at(&logarithmic, 10)));
    struct range empty = range_none();
    range_add(&empty, INFINITY);
    assert_true(isnan(empty.low));
    struct scale scale = scale_make(empty, 3, 0, 100);
    assert_true(scale.low < scale.high);
}

static void test_path_has_gaps(void **state) {
    (void)state;
    const double x[] = {0, 10, 20, 30, 40}, y[] = {5, 6.5, NAN, 1, 1};
    struct strbuf out;
    strbuf_init(&out);
    svg_path(&out, x, y, 5);
    assert_string_equal(out.text, "M0 5l10 1.5M30 1l10 0");
    strbuf_clear(&out);
    const double lonely[] = {NAN, 2, NAN};
    svg_path(&out, x, lonely, 3);
    assert_string_equal(out.text, "M10 2h.1");
    strbuf_free(&out);
}

static void test_end_labels_do_not_overlap(void **state) {
    (void)state;
    struct end_label labels[] = {{50, 0, "a"}, {51, 1, "b"}, {52, 2, "c"}, {99, 3, "d"}, {100, 4, "e"}};
    struct strbuf out;
    strbuf_init(&out);
    end_labels_write(&out, labels, 5, 0, 0, 100);
    for (int i = 1; i < 5; i++)
        assert_true(labels[i].y - labels[i - 1].y >= 14 - 1e-9);
    assert_true(labels[4].y <= 100);
    strbuf_free(&out);
}

/* ---- whole sweeps ---- */

struct opened {
    struct results results;
    struct report *report;
};

static void open_kind(const char *kind, struct opened *out) {
    char output[LVS_PATH_MAX + 32];
    struct lvs_error err = {0};
    snprintf(output, sizeof output, "%s/%s", folder, kind);
    if (!file_exists(output)) assert_true(report_fixture_write(kind, output));
    if (results_read(output, &out->results, &err) != LVS_OK) fail_msg("%s", err.text);
    out->report = report_create(&out->results);
}

static void close_kind(struct opened *opened) {
    report_destroy(opened->report);
    results_free(&opened->results);
}

static int32_t count_of(const char *text, const char *word) {
    int32_t n = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

static void test_what_is_gathered(void **state) {
    (void)state;
    struct opened full;
    open_kind("full", &full);
    const struct report *report = full.report;
    assert_int_equal(report->best_stage, 2);
    assert_int_equal(report->best.index, 21);
    assert_int_equal(report->count[TRIAL_DONE], 20);
    assert_int_equal(report->n_damaged, 0);
    static const char *const axes[] = {"lora_rank", "learning_rate", "context", "seed", "steps"};
    assert_int_equal(report->n_axes, 5); /* alpha follows the rank and is none */
    for (int i = 0; i < 5; i++)
        assert_string_equal(report->axes[i].field->name, axes[i]);
    const struct report_axis *rate = report_axis_find(report, "learning_rate");
    assert_int_equal(rate->n, 3);
    assert_string_equal(rate->label[0], "1e-5");
    assert_int_equal(report->color_axis, 1);
    assert_true(report->curves[0].bin == 5 && report->curves[0].n == 120);
    assert_true(report_untrained(report, 128, 2) > report_untrained(report, 768, 2));
    assert_true(isnan(report_untrained(report, 64, 2)));
    close_kind(&full);
}

static void test_every_figure_of_a_full_sweep(void **state) {
    (void)state;
    struct opened full;
    struct lvs_error err = {0};
    open_kind("full", &full);
    struct series_features features[3] = {{.period = {30}, .maximum = {4}, .initial = {1}, .final = {2}},
                                          {.period = {42}, .maximum = {9}, .initial = {1.1}, .final = {0.5}},
                                          {.period = {NAN}, .initial = {0.9}, .final = {1}}};
    int32_t kinds[3] = {0, 1, 0};
    struct description data = {.n_series = 3, .n_channel = 1, .n_clusters = 2, .n_encodings = 1};
    data.features = features;
    data.cluster_of = kinds;
    data.cluster[0].share = 2.0 / 3;
    data.cluster[1].share = 1.0 / 3;
    data.encoding[0] = (struct encoding_description){.decimals = 2, .tokens = {.mean = 999}};
    strcpy(data.channel_name[0], "prey");
    report_set_data(full.report, &data);
    for (int32_t i = 0; i < report_figure_count(); i++) {
        struct strbuf out;
        strbuf_init(&out);
        assert_int_equal(report_write_figure(full.report, report_figures[i].name, &out, &err), LVS_OK);
        assert_null(strstr(out.text, "nan"));
        assert_null(strstr(out.text, "inf"));
        assert_null(strstr(out.text, "var(--"));
        strbuf_free(&out);
    }
    close_kind(&full);
}

static void test_figures_say_why_they_are_empty(void **state) {
    (void)state;
    static const struct {
        const char *kind, *figure, *why;
    } table[] = {{"empty", "workers", "No trial has started"},
                 {"empty", "training", "No trial has left"},
                 {"full", "data", "could not be read"},
                 {"one", "heatmap", "No stage varies"},
                 {"one", "forecast", "not in the sweep's folder"},
                 {"one", "parallel", "two finished trials"},
                 {"broken", "cost", "two finished trials"},
                 {"full", "nonsense", "there are heatmap, training"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct opened opened;
        struct strbuf out;
        struct lvs_error err = {0};
        open_kind(table[i].kind, &opened);
        strbuf_init(&out);
        assert_int_equal(report_write_figure(opened.report, table[i].figure, &out, &err), LVS_USAGE);
        if (!strstr(err.text, table[i].why)) fail_msg("%s", err.text);
        strbuf_free(&out);
        close_kind(&opened);
    }
}

static void test_forecasts_nobody_asked_for(void **state) {
    (void)state;
    struct opened one;
    struct strbuf out;
    struct lvs_error err = {0};
    open_kind("one", &one);
    one.results.rows[one.report->best.index].trial.settings.forecast_on = 0;
    strbuf_init(&out);
    assert_int_equal(report_write_figure(one.report, "forecast", &out, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "not asked for forecasts"));
    strbuf_free(&out);
    close_kind(&one);
}

static void test_heat_map_means_over_seeds(void **state) {
    (void)state;
    struct opened full;
    struct panels panels = {0};
    open_kind("full", &full);
    figure_heatmap(full.report, &panels);
    assert_int_equal(panels.n, 2);                                  /* one map and its colours */
    double sum = full.report->metric[16] + full.report->metric[17]; /* rank 8, 1e-4, two seeds */
    char mean[32];
    snprintf(mean, sizeof mean, ">%.3f<", sum / 2);
    assert_non_null(strstr(panels.items[0].body.text, mean));
    assert_int_equal(count_of(panels.items[0].body.text, "class=\"frame\""), 1);
    panels_free(&panels);
    close_kind(&full);
}

static void test_budget_parts_are_the_ledger(void **state) {
    (void)state;
    struct opened full;
    struct panels panels = {0};
    open_kind("full", &full);
    const struct ledger *ledger = &full.results.ledger;
    double left = 100 * (double)ledger_left(ledger) / (double)ledger->cap;
    char number[32], text[64];
    figure_budget(full.report, &panels);
    number_write(left, 3, number);
    snprintf(text, sizeof text, "(%s %%)", number);
    assert_non_null(strstr(panels.items[0].body.text, text));
    assert_non_null(strstr(panels.note.text, "1 trial did not fit"));
    panels_free(&panels);
    close_kind(&full);
}

static void test_damaged_files_cost_only_themselves(void **state) {
    (void)state;
    struct opened one;
    struct lvs_error err = {0};
    char path[2 * LVS_PATH_MAX];
    open_kind("one", &one);
    snprintf(path, sizeof path, "%s/trials/%s/curves.bin", one.results.output, one.results.rows[0].trial.name);
    close_kind(&one);
    assert_int_equal(file_write_whole(path, "no curves", 9, &err), LVS_OK);
    open_kind("one", &one);
    assert_int_equal(one.report->n_damaged, 1);
    struct strbuf page;
    strbuf_init(&page);
    report_write_page(one.report, &page);
    assert_non_null(strstr(page.text, "1 file of trials could not be read and is left out"));
    assert_non_null(strstr(page.text, "No trial has left a training curve"));
    strbuf_free(&page);
    close_kind(&one);
}

static void test_stopped_trials_say_what_was_saved(void **state) {
    (void)state;
    struct opened full;
    struct strbuf page;
    open_kind("full", &full);
    struct result_row *row = &full.results.rows[0];
    row->record.status = TRIAL_STOPPED;
    row->record.steps_done = 67;
    row->record.flops_training = row->trial.price.training - 1250000000;
    rung_list_set(&row->rungs, &(struct rung){.step = 22, .verdict = RUNG_GOES_ON, .loss = 1.5});
    rung_list_set(&row->rungs, &(struct rung){.step = 67, .verdict = RUNG_STOPPED, .loss = 1.25});
    lvs_copy(full.results.stop_rule, sizeof full.results.stop_rule, "halving");
    report_destroy(full.report);
    full.report = report_create(&full.results);
    strbuf_init(&page);
    report_write_page(full.report, &page);
    assert_non_null(strstr(page.text, "1 trial stopped early by halving"));
    assert_non_null(strstr(page.text, "after 67 of 600 steps, validation loss 1.25 at its last rung, 1.25e9 FLOPs"));
    strbuf_free(&page);
    close_kind(&full);
}

static void test_hostile_texts_stay_texts(void **state) {
    (void)state;
    struct opened hostile;
    struct strbuf page;
    open_kind("hostile", &hostile);
    strbuf_init(&page);
    report_write_page(hostile.report, &page);
    assert_int_equal(count_of(page.text, "<script>"), 1); /* the page's own */
    assert_null(strstr(page.text, "<img"));
    assert_null(strchr(page.text, '\x1b'));
    strbuf_free(&page);
    close_kind(&hostile);
}

static void test_page_has_no_address(void **state) {
    (void)state;
    struct opened full;
    struct strbuf page;
    open_kind("full", &full);
    strbuf_init(&page);
    report_write_page(full.report, &page);
    assert_int_equal(count_of(page.text, "http"), 1); /* the SVG name space, in the script */
    assert_int_equal(count_of(page.text, "<svg"), count_of(page.text, "</svg>"));
    strbuf_free(&page);
    close_kind(&full);
}

static int make_folder(void **state) {
    (void)state;
    own_folder_make(folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    own_folder_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_markup_is_escaped),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_ticks),
        cmocka_unit_test(test_scale_refuses_what_has_no_place),
        cmocka_unit_test(test_path_has_gaps),
        cmocka_unit_test(test_end_labels_do_not_overlap),
        cmocka_unit_test(test_what_is_gathered),
        cmocka_unit_test(test_every_figure_of_a_full_sweep),
        cmocka_unit_test(test_figures_say_why_they_are_empty),
        cmocka_unit_test(test_forecasts_nobody_asked_for),
        cmocka_unit_test(test_heat_map_means_over_seeds),
        cmocka_unit_test(test_budget_parts_are_the_ledger),
        cmocka_unit_test(test_damaged_files_cost_only_themselves),
        cmocka_unit_test(test_stopped_trials_say_what_was_saved),
        cmocka_unit_test(test_hostile_texts_stay_texts),
        cmocka_unit_test(test_page_has_no_address),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
