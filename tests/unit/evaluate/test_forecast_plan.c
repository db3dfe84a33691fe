/* Where a series' text is cut. The amounts of the settings first, then every possible cut of one series against an
 * independent reading of its text: the truth, fed back as a forecast, must come out as itself. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "evaluate_internal.h"
#include "forecast_fixture.h"

static struct forecast_fixture fixture;

static int open_fixture(void **state) {
    (void)state;
    forecast_fixture_open(&fixture);
    return 0;
}

static int close_fixture(void **state) {
    (void)state;
    forecast_fixture_close(&fixture);
    return 0;
}

static void set_amounts(int32_t history_unit, double history, int32_t horizon_unit, double horizon) {
    fixture.settings.history = (struct amount){.unit = history_unit, .value = history};
    fixture.settings.horizon = (struct amount){.unit = horizon_unit, .value = horizon};
}

static void extents(void **state) {
    (void)state;
    static const struct {
        struct amount history, horizon;
        int32_t n_time, expected_history, expected_horizon;
    } cases[] = {
        {{.unit = AMOUNT_PERCENT, .value = 50}, {.unit = AMOUNT_REST}, 100, 50, 50},
        {{.unit = AMOUNT_PERCENT, .value = 80}, {.unit = AMOUNT_REST}, 100, 80, 20},
        {{.unit = AMOUNT_PERCENT, .value = 70}, {.unit = AMOUNT_POINTS, .value = 3}, 10, 7, 3},
        {{.unit = AMOUNT_PERCENT, .value = 50}, {.unit = AMOUNT_REST}, 7, 3, 4},
        {{.unit = AMOUNT_POINTS, .value = 50}, {.unit = AMOUNT_POINTS, .value = 10}, 100, 50, 10},
        {{.unit = AMOUNT_POINTS, .value = 50}, {.unit = AMOUNT_POINTS, .value = 80}, 100, 50, 50},
        {{.unit = AMOUNT_TOKENS_PERCENT, .value = 70}, {.unit = AMOUNT_TOKENS, .value = 100}, 100, 70, 30},
        {{.unit = AMOUNT_POINTS, .value = 200}, {.unit = AMOUNT_REST}, 100, 100, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct settings settings = {.history = cases[i].history, .horizon = cases[i].horizon};
        int32_t history, horizon;
        forecast_extent(&settings, cases[i].n_time, &history, &horizon);
        assert_int_equal(history, cases[i].expected_history);
        assert_int_equal(horizon, cases[i].expected_horizon);
    }
}

static void refusals_name_the_series(void **state) {
    (void)state;
    static const struct {
        int32_t history_unit;
        double history;
        int32_t horizon_unit;
        double horizon;
    } cases[] = {
        {AMOUNT_POINTS, 0, AMOUNT_REST, 0},           {AMOUNT_POINTS, 12, AMOUNT_REST, 0},
        {AMOUNT_PERCENT, 100, AMOUNT_REST, 0},        {AMOUNT_POINTS, 6, AMOUNT_POINTS, 0},
        {AMOUNT_POINTS, 6, AMOUNT_TOKENS, 2},         {AMOUNT_TOKENS_PERCENT, 100, AMOUNT_REST, 0},
        {AMOUNT_TOKENS_PERCENT, 0.1, AMOUNT_REST, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct forecast_plan plan;
        struct lvs_error err = {0};
        set_amounts(cases[i].history_unit, cases[i].history, cases[i].horizon_unit, cases[i].horizon);
        assert_int_equal(forecast_plan_make(&fixture.task, 2, &plan, &err), LVS_USAGE);
        assert_non_null(strstr(err.text, "series 102"));
        assert_null(plan.text);
    }
}

static void a_value_that_cannot_be_written_is_refused(void **state) {
    (void)state;
    struct forecast_plan plan;
    struct lvs_error err = {0};
    set_amounts(AMOUNT_PERCENT, 50, AMOUNT_REST, 0);
    double kept = fixture.set.values[3];
    fixture.set.values[3] = -1;
    assert_int_equal(forecast_plan_make(&fixture.task, 0, &plan, &err), LVS_INPUT);
    assert_non_null(strstr(err.text, "series 100"));
    fixture.set.values[3] = kept;
}

/* What a forecast of these rows takes. */
static int32_t positions_of(uint32_t subset) {
    struct forecast_task task = fixture.task;
    int32_t rows[FIXTURE_SERIES], capacity, token_limit;
    struct forecast_plan *plans;
    task.rows = rows;
    task.n_rows = 0;
    for (int32_t i = 0; i < FIXTURE_SERIES; i++)
        if (subset >> i & 1) rows[task.n_rows++] = fixture.rows[i];
    assert_int_equal(forecast_plans_make(&task, &plans, NULL), LVS_OK);
    assert_int_equal(forecast_plans_capacity(plans, task.n_rows, INT32_MAX, &capacity, &token_limit, NULL), LVS_OK);
    forecast_plans_free(plans, task.n_rows);
    return capacity;
}

/* The least that any n of the rows take. */
static int32_t least_positions(int32_t n) {
    int32_t least = INT32_MAX;
    for (uint32_t subset = 1; subset < 1u << FIXTURE_SERIES; subset++)
        if (__builtin_popcount(subset) == n && positions_of(subset) < least) least = positions_of(subset);
    return least;
}

static void a_choice_that_may_fit_is_not_refused(void **state) {
    (void)state;
    static const struct {
        int32_t history_unit;
        double history;
        bool exact; /* all rows may generate the same number of tokens: what fits in no choice is refused */
    } cases[] = {{AMOUNT_PERCENT, 50, true}, {AMOUNT_POINTS, 9, true}, {AMOUNT_TOKENS_PERCENT, 37, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_amounts(cases[i].history_unit, cases[i].history, AMOUNT_REST, 0);
        for (int32_t n = 1; n <= FIXTURE_SERIES; n++) {
            int32_t least = least_positions(n);
            assert_int_equal(forecast_check_room(&fixture.task, n, least, NULL), LVS_OK);
            if (cases[i].exact || n == FIXTURE_SERIES)
                assert_int_equal(forecast_check_room(&fixture.task, n, least - 1, NULL), LVS_USAGE);
        }
        assert_true(least_positions(1) < least_positions(FIXTURE_SERIES));
    }
}

static void a_refusal_tells_what_every_choice_fits_in(void **state) {
    (void)state;
    struct lvs_error err = {0};
    char words[64];
    set_amounts(AMOUNT_PERCENT, 50, AMOUNT_REST, 0);
    snprintf(words, sizeof words, "needs up to %d tokens", least_positions(FIXTURE_SERIES));
    assert_int_equal(forecast_check_room(&fixture.task, 1, 10, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, words));
    double kept = fixture.set.values[3];
    fixture.set.values[3] = -1; /* series 100 can no longer be written */
    assert_int_equal(forecast_check_room(&fixture.task, FIXTURE_SERIES - 1, 1000, &err), LVS_OK);
    assert_int_equal(forecast_check_room(&fixture.task, FIXTURE_SERIES, 1000, &err), LVS_INPUT);
    assert_non_null(strstr(err.text, "series 100"));
    fixture.set.values[3] = kept;
}

static void halves_are_whole_points(void **state) {
    (void)state;
    struct forecast_plan plan;
    set_amounts(AMOUNT_PERCENT, 50, AMOUNT_REST, 0);
    assert_int_equal(forecast_plan_make(&fixture.task, 1, &plan, NULL), LVS_OK);
    assert_int_equal(plan.first, 6);
    assert_int_equal(plan.horizon, 6);
    assert_int_equal(plan.whole, 6);
    assert_int_equal(plan.tail, plan.prompt);
    assert_int_equal(plan.end, plan.length);
    assert_int_equal(plan.text[plan.prompt - 1], ';');
    int separators = 0;
    for (size_t i = 0; i < plan.prompt; i++)
        separators += plan.text[i] == ';';
    assert_int_equal(separators, 6);
    assert_int_equal(plan.token_limit, 6 * 2 * (2 + 4) + 16);
    for (int p = 0; p < 6; p++)
        for (int c = 0; c < 2; c++)
            assert_true(plan.observed[p * 2 + c] == forecast_fixture_scaled(&fixture, 1, 6 + p, c));
    forecast_plan_free(&plan);
    set_amounts(AMOUNT_POINTS, 4, AMOUNT_POINTS, 3);
    assert_int_equal(forecast_plan_make(&fixture.task, 1, &plan, NULL), LVS_OK);
    assert_int_equal(plan.first, 4);
    assert_int_equal(plan.horizon, 3);
    assert_int_equal(plan.text[plan.end], ';');
    forecast_plan_free(&plan);
}

/* An own reading: value v of the text is characters [from[v], to[v]). */
static int32_t read_ranges(const char *text, size_t length, size_t *from, size_t *to) {
    int32_t n = 0;
    for (size_t at = 0; at < length;) {
        from[n] = at;
        while (at < length && text[at] != ',' && text[at] != ';')
            at++;
        to[n++] = at++;
    }
    return n;
}

static void check_cut(size_t prompt, int32_t tokens) {
    struct forecast_plan plan;
    struct forecast_set set;
    const struct forecast_plan *plans = &plan;
    assert_int_equal(forecast_plan_make(&fixture.task, 3, &plan, NULL), LVS_OK);
    assert_int_equal(plan.prompt, prompt);
    size_t from[FIXTURE_TIME * 2], to[FIXTURE_TIME * 2], end = prompt + (size_t)tokens;
    if (end > plan.length) end = plan.length;
    assert_int_equal(plan.end, end);
    assert_int_equal(plan.token_limit, end - prompt);
    assert_int_equal(read_ranges(plan.text, plan.length, from, to), FIXTURE_TIME * 2);
    struct forecast_task one = fixture.task;
    const int32_t row = 3;
    one.rows = &row;
    one.n_rows = 1;
    forecast_set_make(&one, plans, 1, &set);
    forecast_set_read(&set, &one, &plan, 0, 0, plan.text + prompt, end - prompt);
    int32_t compared = 0;
    for (int32_t v = 0; v < FIXTURE_TIME * 2; v++) {
        bool within = from[v] >= prompt && to[v] <= end;
        int64_t at = v - plan.first * 2;
        compared += within;
        if (!within) {
            if (at >= 0 && at < plan.horizon * 2) assert_true(isnan(set.observed[at]) && isnan(set.predicted[at]));
            continue;
        }
        assert_true(at >= 0 && at < plan.horizon * 2);
        assert_true(set.observed[at] == forecast_fixture_scaled(&fixture, 3, v / 2, v % 2));
        if (!(fabs(set.predicted[at] - set.observed[at]) <= 0.005000001))
            fail_msg("prompt %zu, %d tokens, value %d: read %g, true %g", prompt, tokens, v, set.predicted[at],
                     set.observed[at]);
    }
    assert_true(compared > 0);
    if (!set.decoded[0].success)
        fail_msg("prompt %zu, %d tokens: the truth itself was no success (%d missing, %d malformed)", prompt, tokens,
                 set.decoded[0].n_missing, set.decoded[0].n_malformed);
    forecast_set_free(&set);
    forecast_plan_free(&plan);
}

/* Every cut position with several numbers of tokens, with and without a decimal point. */
static void every_cut_reads_the_truth_back(void **state) {
    (void)state;
    for (int pointless = 0; pointless < 2; pointless++) {
        struct forecast_plan plan;
        fixture.format.decimal_point = !pointless;
        set_amounts(AMOUNT_PERCENT, 50, AMOUNT_REST, 0);
        assert_int_equal(forecast_plan_make(&fixture.task, 3, &plan, NULL), LVS_OK);
        size_t length = plan.length;
        forecast_plan_free(&plan);
        for (size_t prompt = 1; prompt + 14 < length; prompt++)
            for (int32_t tokens = 12; tokens < 40; tokens++) {
                set_amounts(AMOUNT_TOKENS_PERCENT, 100.0 * (double)prompt / (double)length, AMOUNT_TOKENS, tokens);
                check_cut(prompt, tokens);
            }
    }
    fixture.format.decimal_point = true;
}

static void set_is_as_long_as_its_longest(void **state) {
    (void)state;
    struct forecast_plan *plans;
    struct forecast_set set;
    set_amounts(AMOUNT_TOKENS_PERCENT, 50, AMOUNT_TOKENS, 30);
    assert_int_equal(forecast_plans_make(&fixture.task, &plans, NULL), LVS_OK);
    forecast_set_make(&fixture.task, plans, 2, &set);
    int32_t longest = 0;
    for (int i = 0; i < FIXTURE_SERIES; i++)
        if (plans[i].horizon > longest) longest = plans[i].horizon;
    assert_int_equal(set.horizon, longest);
    assert_false(set.whole_only);
    for (int i = 0; i < FIXTURE_SERIES; i++) {
        assert_true(isnan(set.cross_entropy[i]));
        for (int p = plans[i].horizon; p < longest; p++)
            assert_true(isnan(set.observed[(i * longest + p) * 2]));
        for (int s = 0; s < 2; s++)
            assert_true(isnan(forecast_set_values(&set, s, i)[0]));
    }
    forecast_set_free(&set);
    forecast_plans_free(plans, FIXTURE_SERIES);
}

static void sets_ask_for_whole_forecasts(void **state) {
    (void)state;
    struct forecast_plan *plans;
    struct forecast_set set;
    fixture.settings.partial = PARTIAL_DROP;
    assert_int_equal(forecast_plans_make(&fixture.task, &plans, NULL), LVS_OK);
    forecast_set_make(&fixture.task, plans, 1, &set);
    assert_true(set.whole_only);
    fixture.settings.partial = PARTIAL_COUNT;
    forecast_set_free(&set);
    forecast_plans_free(plans, FIXTURE_SERIES);
}

static void short_forecasts_are_missing(void **state) {
    (void)state;
    struct forecast_plan *plans;
    struct forecast_set set;
    set_amounts(AMOUNT_PERCENT, 50, AMOUNT_POINTS, 3);
    assert_int_equal(forecast_plans_make(&fixture.task, &plans, NULL), LVS_OK);
    forecast_set_make(&fixture.task, plans, 1, &set);
    static const struct {
        const char *text;
        int32_t n_missing;
        bool success;
    } cases[] = {
        {"", 3, false},
        {"1.00,2.00;", 2, false},
        {"1.00,2.00;3.00,4.00;5.00,6.00;", 0, true},
        {"1.00,2.00;3.00,4.00;5.00,6.00", 0, true},
        {"1.00,2.00;3.00,4.00;5.00,6.", 1, false},
        {"1.00,2.00;3.00;5.00,6.00;", 0, false},
        {"1.00,2.00;3.00,4.00;5.00,6.00;7.00,8.00;", 0, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        forecast_set_read(&set, &fixture.task, &plans[1], 0, 1, cases[i].text, strlen(cases[i].text));
        assert_int_equal(set.decoded[1].n_missing, cases[i].n_missing);
        assert_int_equal(set.decoded[1].success, cases[i].success);
    }
    forecast_set_free(&set);
    forecast_plans_free(plans, FIXTURE_SERIES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents),
        cmocka_unit_test(refusals_name_the_series),
        cmocka_unit_test(a_value_that_cannot_be_written_is_refused),
        cmocka_unit_test(a_choice_that_may_fit_is_not_refused),
        cmocka_unit_test(a_refusal_tells_what_every_choice_fits_in),
        cmocka_unit_test(halves_are_whole_points),
        cmocka_unit_test(every_cut_reads_the_truth_back),
        cmocka_unit_test(set_is_as_long_as_its_longest),
        cmocka_unit_test(sets_ask_for_whole_forecasts),
        cmocka_unit_test(short_forecasts_are_missing),
    };
    return cmocka_run_group_tests_name("evaluate/forecast_plan", tests, open_fixture, close_fixture);
}
