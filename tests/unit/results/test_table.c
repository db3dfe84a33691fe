/* The closing table: its lines, seeds together, statuses, widths. */
#include "sample.h"
#include "results_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct results_summary summary = {
    .n_devices = 8, .device_word = "GPUs", .busy_percent = 87, .wall_seconds = 2460, .n_retries = 1};

static char *table_of(struct results *results, int32_t width) {
    struct strbuf out;
    strbuf_init(&out);
    results_write_table(results, &summary, width, &out);
    return strbuf_take(&out);
}

static void require_line(const char *text, const char *line) {
    if (!strstr(text, line)) fail_msg("no line \"%s\" in:\n%s", line, text);
}

static void rows_baselines_budget_and_places(void **state) {
    (void)state;
    struct results results;
    sample_results(&results, "run.lvsweep", 9);
    char *text = table_of(&results, 0);
    require_line(text, "stage     rank  rate  context  seed  val_loss  val_mae prey  FLOPs  %budget  time  status\n");
    require_line(text, "search    2     1e-5  512      0     0.500     0.071         6e8    0.1      12s   done   "
                       "<- best by val_loss\n");
    require_line(text, "final     8     1e-4  512      0     0.594     0.085         6e8    0.1      12s   done\n");
    require_line(text, "baseline  untrained, context 512     1.200     0.114\n");
    require_line(text, "baseline  last_value                 -         0.257\n");
    require_line(text, "budget 5.4e9 FLOPs of 1e12 (table1)   8 GPUs, 87 % busy, 41m00   1 retry\n");
    require_line(text, "results  run.lvsweep/results.h5   adapter run.lvsweep/best/adapter   next: lvsweep report "
                       "run.lvsweep -o report.html\n");
    free(text);
    results_free(&results);
}

/* Two lines of the untrained model tell what differs. */
static void baselines_of_several_decimals(void **state) {
    (void)state;
    struct results results;
    struct lvs_error err = {0};
    sample_results(&results, "run.lvsweep", 9);
    struct baseline baseline = results.baselines[0];
    assert_int_equal(baseline.kind, BASELINE_UNTRAINED);
    baseline.decimals = 3;
    snprintf(baseline.key, sizeof baseline.key, "three");
    struct journal_event event = {.kind = JOURNAL_BASELINE, .baseline = &baseline};
    assert_int_equal(results_apply(&results, &event, &err), LVS_OK);
    char *text = table_of(&results, 0);
    require_line(text, "baseline  untrained, context 512, decimals 2  1.200     0.114\n");
    require_line(text, "baseline  untrained, context 512, decimals 3  1.200     0.114\n");
    free(text);
    results_free(&results);
}

/* After an interruption the last line names what is there: no best trial before one has finished, no link before its
 * stage is over. */
static void places_are_there(void **state) {
    (void)state;
    struct results results;
    sample_results(&results, "run", 9);
    results.state = SWEEP_STATE_INTERRUPTED;
    char *text = table_of(&results, 0);
    require_line(text, "results  run/results.h5   adapter run/best/adapter   next: the same command goes on\n");
    free(text);
    results.stage_best[0] = results.stage_best[1] = -1;
    for (int32_t i = 3; i < 9; i++)
        results.rows[i].record.status = i == 3 ? TRIAL_INTERRUPTED : TRIAL_PENDING;
    text = table_of(&results, 0);
    char wanted[256];
    snprintf(wanted, sizeof wanted, "results  run/results.h5   best so far run/trials/%s/adapter   next: the same",
             results.rows[0].trial.name);
    require_line(text, wanted);
    free(text);
    for (int32_t i = 0; i < 3; i++)
        results.rows[i].record.val_loss.loss = NAN;
    text = table_of(&results, 0);
    require_line(text, "results  run/results.h5   no best: no finished trial has val_loss   next: the same");
    free(text);
    for (int32_t i = 0; i < 3; i++)
        results.rows[i].record.status = TRIAL_PENDING;
    text = table_of(&results, 0);
    require_line(text,
                 "results  run/results.h5   no adapter: no trial has finished   next: the same command goes on\n");
    assert_null(strstr(text, "best"));
    free(text);
    results.state = SWEEP_STATE_FINISHED;
    text = table_of(&results, 0);
    require_line(text, "no trial has finished   next: lvsweep report run -o report.html\n");
    free(text);
    results_free(&results);
}

static void seeds_are_one_line(void **state) {
    (void)state;
    struct results results;
    sample_results(&results, "run", 27); /* nine settings, three seeds; the last row is in stage final */
    results.rows[11].record.status = TRIAL_DIVERGED;
    results.rows[11].record.steps_done = 212;
    results.stage_best[1] = 26;
    char *text = table_of(&results, 0);
    require_line(text, "0-2   0.55");
    require_line(text, "done 2/3, 1 diverged (step 212)\n");
    require_line(text, "done 3/3\n");
    require_line(text, "done   <- best by val_loss\n");
    require_line(text, ", 1 diverged\n");
    free(text);
    results_free(&results);
}

static void deviations_show_a_digit(void **state) {
    (void)state;
    static const struct {
        double first, second;
        const char *shown;
    } cases[] = {{0.6, 0.61, "0.605±.007"},
                 {1.02170, 1.02176, "1.02173±.00004"},
                 {5, 5, "5.000±0.000"},
                 {20, 30, "25.000±7.071"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct results results;
        sample_results(&results, "run", 18); /* two seeds */
        results.rows[0].record.val_loss.loss = cases[i].first;
        results.rows[9].record.val_loss.loss = cases[i].second;
        char *text = table_of(&results, 0);
        require_line(text, cases[i].shown);
        free(text);
        results_free(&results);
    }
}

static void other_axes_get_a_column(void **state) {
    (void)state;
    struct results results;
    sample_results(&results, "run", 4);
    results.rows[1].trial.settings.decimals = 3;
    results.rows[2].record.status = TRIAL_CUT;
    results.rows[2].charged = 0;
    lvs_copy(results.rows[2].cut_reason, 128, "6e8 FLOPs do not fit");
    char *text = table_of(&results, 0);
    require_line(text, "context  decimals  seed");
    require_line(text, "cut: 6e8 FLOPs do not fit\n");
    require_line(text, ", 1 trial cut (r2-lr0.0001-c512-s0-000002)");
    free(text);
    results_free(&results);
}

static void lines_fit_the_terminal(void **state) {
    (void)state;
    struct results results;
    sample_results(&results, "run", 9);
    lvs_copy(results.channel_name[0], 64, "Beute übrig");
    for (int32_t width = 20; width < 140; width += 13) {
        char *text = table_of(&results, width), *rest = text;
        for (char *line; (line = strsep(&rest, "\n")) && *line;)
            assert_true(text_columns(line) <= width);
        free(text);
    }
    results_free(&results);
}

static void cutting_keeps_whole_characters(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int32_t width;
        const char *cut;
    } cases[] = {{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöüß", 4, "äöüß"}, {"äöüß", 3, "äö…"},
                 {"é", 1, "é"},     {"éa", 1, "…"},     {"abc", 0, "abc"},   {"", 5, ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct strbuf out;
        strbuf_init(&out);
        text_add_cut(&out, cases[i].text, cases[i].width);
        assert_string_equal(out.text ? out.text : "", cases[i].cut);
        strbuf_free(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_baselines_budget_and_places),
        cmocka_unit_test(baselines_of_several_decimals),
        cmocka_unit_test(places_are_there),
        cmocka_unit_test(seeds_are_one_line),
        cmocka_unit_test(deviations_show_a_digit),
        cmocka_unit_test(other_axes_get_a_column),
        cmocka_unit_test(lines_fit_the_terminal),
        cmocka_unit_test(cutting_keeps_whole_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
