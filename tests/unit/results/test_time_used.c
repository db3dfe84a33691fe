/* What runs took, read from journals: killed ones, pauses between runs, clocks that go back, numbers of workers. */
#include "../../../src/results/results_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void take(struct results *results, enum journal_kind kind, double time, const char *name, const char *text) {
    struct journal_event event = journal_event_make(kind);
    event.time = time;
    event.name = name;
    event.text = text;
    run_clock_take(&results->clock, &event);
}

static void begin(struct results *results, double time, const char *ranks) {
    take(results, JOURNAL_SWEEP, time, NULL, NULL);
    if (ranks) take(results, JOURNAL_PROVENANCE, time, "ranks", ranks);
}

static void hello(struct results *results, double time, int32_t rank) {
    char name[32];
    snprintf(name, sizeof name, "worker_%d", rank);
    take(results, JOURNAL_PROVENANCE, time, name, "host; device");
}

static void expect(const struct results *results, double seconds, double worker_seconds) {
    struct time_used used = results_time_used(results);
    assert_true(used.seconds == seconds);
    assert_true(used.worker_seconds == worker_seconds);
}

static void runs_are_added_without_the_pauses(void **state) {
    (void)state;
    struct results results;
    results_init(&results, "out");
    expect(&results, 0, 0);
    begin(&results, 1000, "3");
    expect(&results, 0, 0);
    hello(&results, 1001, 1);
    hello(&results, 1001, 2);
    take(&results, JOURNAL_PROGRESS, 1100, NULL, NULL);
    expect(&results, 100, 200); /* killed: up to its last line */
    begin(&results, 90000, "3");
    expect(&results, 100, 200);
    hello(&results, 90001, 0);
    hello(&results, 90001, 1);
    hello(&results, 90001, 2);
    take(&results, JOURNAL_INTERRUPTED, 90010, NULL, NULL);
    expect(&results, 110, 230);
    begin(&results, 200000, "1");
    take(&results, JOURNAL_FINISHED, 200005, NULL, NULL);
    expect(&results, 115, 235);
    results_free(&results);
}

static void workers_that_were_not_heard_count(void **state) {
    (void)state;
    static const struct {
        const char *ranks;
        int32_t n_hellos;
        double workers;
    } cases[] = {{"9", 0, 8},  {"9", 9, 9}, {"9", 8, 8}, {"1", 0, 1},  {NULL, 0, 1},
                 {NULL, 2, 2}, {"", 0, 1},  {"x", 1, 1}, {"-7", 0, 1}, {"99999999999999999999", 0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct results results;
        results_init(&results, "out");
        begin(&results, 50, cases[i].ranks);
        for (int32_t worker = 0; worker < cases[i].n_hellos; worker++)
            hello(&results, 50, worker);
        take(&results, JOURNAL_PROGRESS, 60, NULL, NULL);
        expect(&results, 10, 10 * cases[i].workers);
        results_free(&results);
    }
}

static void times_that_are_none_take_nothing_away(void **state) {
    (void)state;
    struct results results;
    results_init(&results, "out");
    take(&results, JOURNAL_PROGRESS, 500, NULL, NULL); /* before any run */
    begin(&results, 1000, NULL);
    take(&results, JOURNAL_PROGRESS, 1010, NULL, NULL);
    take(&results, JOURNAL_PROGRESS, 900, NULL, NULL);
    take(&results, JOURNAL_PROGRESS, NAN, NULL, NULL);
    take(&results, JOURNAL_PROGRESS, INFINITY, NULL, NULL);
    expect(&results, 10, 10);
    begin(&results, 800, NULL); /* the clock was set back */
    take(&results, JOURNAL_PROGRESS, 804, NULL, NULL);
    expect(&results, 14, 14);
    begin(&results, NAN, NULL);
    take(&results, JOURNAL_PROGRESS, 1000, NULL, NULL);
    expect(&results, 14, 14);
    results_free(&results);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_added_without_the_pauses),
        cmocka_unit_test(workers_that_were_not_heard_count),
        cmocka_unit_test(times_that_are_none_take_nothing_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
