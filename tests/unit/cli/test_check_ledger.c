/* check_ledger over journals made event by event: a good one, and ones in which the account is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "check_internal.h"
#include "unit/results/sample.h"

struct fixture {
    char folder[64];
    struct journal *journal;
    struct lvs_error err;
};

#define ASSERT_OK(call) assert_int_equal(call, LVS_OK)

static void note(struct fixture *f, struct journal_event event) {
    ASSERT_OK(journal_append(f->journal, &event, &f->err));
}

static void note_run(struct fixture *f, double cap) {
    struct journal_sweep sweep;
    note(f, sample_sweep_event(cap, &sweep));
}

static void note_again(struct fixture *f, int32_t index, int64_t flops) {
    struct journal_event again = journal_event_make(JOURNAL_ADMITTED);
    again.index = index;
    again.flops = flops;
    note(f, again);
}

static void note_admitted(struct fixture *f, int32_t index, int64_t price) {
    struct trial trial;
    sample_trial(index, 0, &trial);
    struct journal_event made = journal_event_make(JOURNAL_TRIAL);
    made.trial = &trial;
    note(f, made);
    note_again(f, index, price);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    char path[128];
    strcpy(f->folder, "/tmp/lvsweep-check-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(path, sizeof path, "%s/" RESULTS_JOURNAL, f->folder);
    ASSERT_OK(journal_open(path, NULL, NULL, &f->journal, &f->err));
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/" RESULTS_JOURNAL, f->folder);
    unlink(path);
    rmdir(f->folder);
    free(f);
    return 0;
}

/* Problems found in what was noted. */
static int32_t problems_under(struct fixture *f, bool with_evaluation, enum lost_mode lost) {
    struct config config = {.count = with_evaluation ? COUNT_TRAINING_EVALUATION : COUNT_TRAINING, .lost = lost};
    struct check check = {.output = f->folder, .config = &config};
    ASSERT_OK(journal_close(f->journal, &f->err));
    ASSERT_OK(results_read(f->folder, &check.results, &f->err));
    int32_t problems = check_ledger(&check);
    results_free(&check.results);
    return problems;
}

static int32_t problems_of(struct fixture *f, bool with_evaluation) {
    return problems_under(f, with_evaluation, LOST_REPORT);
}

/* A record of `counted` FLOPs and its settlement; rung >= 0: a pause there between the two. */
static void note_settled(struct fixture *f, int32_t index, int32_t status, int64_t counted, int32_t rung,
                         int64_t charged, int64_t lost) {
    struct trial trial;
    struct record record;
    sample_trial(index, 0, &trial);
    record_init(&record, &trial);
    record.status = status;
    record.flops_training = counted;
    record.flops_evaluation = 7;
    record.flops_lost = lost;
    struct journal_event came = journal_event_make(JOURNAL_RECORD), settle = journal_event_make(JOURNAL_SETTLE);
    struct journal_event paused = journal_event_make(JOURNAL_RUNG);
    came.index = settle.index = paused.index = index;
    came.record = &record;
    paused.step = rung;
    paused.status = RUNG_WAITS;
    paused.value = 1;
    paused.flops = counted;
    paused.text = "";
    settle.flops = charged;
    settle.lost = lost;
    note(f, came);
    if (rung >= 0) note(f, paused);
    note(f, settle);
}

static void note_done(struct fixture *f, int32_t index, int64_t counted, int64_t charged) {
    note_settled(f, index, TRIAL_DONE, counted, -1, charged, 0);
}

/* A death that cost 11, charged; then the whole trial, with 5 repeated on the way: 60 + 5. */
static void lost_steps(struct fixture *f) {
    note_run(f, 200);
    note_admitted(f, 0, 70);
    note_settled(f, 0, TRIAL_PENDING, 0, -1, 11, 11);
    note_again(f, 0, 70);
    note_settled(f, 0, TRIAL_DONE, 60, -1, 65, 5);
}

static void test_lost_steps_are_charged(void **state) {
    lost_steps(*state);
    assert_int_equal(problems_under(*state, false, LOST_CHARGE), 0);
}

static void test_lost_steps_are_only_reported(void **state) {
    lost_steps(*state);
    assert_int_equal(problems_under(*state, false, LOST_REPORT), 2);
}

/* Each settlement takes what its record counts beyond the rung before. */
static void race(struct fixture *f, int64_t second) {
    note_run(f, 100);
    note_admitted(f, 0, 20);
    note_settled(f, 0, TRIAL_PENDING, 20, 2, 20, 0);
    note_again(f, 0, 25);
    note_settled(f, 0, TRIAL_INTERRUPTED, 30, -1, 0, 0);
    note_again(f, 0, 25);
    note_settled(f, 0, TRIAL_PENDING, 45, 5, second, 0);
    note_settled(f, 0, TRIAL_STOPPED, 45, -1, 0, 0);
}

static void test_rungs(void **state) {
    race(*state, 25);
    assert_int_equal(problems_of(*state, false), 0);
}

/* Stopped at a rung, then run again: nothing that was charged before counts for it. */
static void run_again(struct fixture *f, int64_t charged) {
    struct journal_event pending = journal_event_make(JOURNAL_STATUS);
    race(f, 25);
    pending.index = 0;
    pending.status = TRIAL_PENDING;
    pending.text = "run again";
    note(f, pending);
    note_again(f, 0, 20);
    note_settled(f, 0, TRIAL_PENDING, 20, 2, charged, 0);
}

static void test_run_again(void **state) {
    run_again(*state, 20);
    assert_int_equal(problems_of(*state, false), 0);
}

static void test_run_again_for_nothing(void **state) {
    run_again(*state, 0);
    assert_int_equal(problems_of(*state, false), 1);
}

static void test_rung_charged_wrongly(void **state) {
    race(*state, 24);
    assert_int_equal(problems_of(*state, false), 1);
}

static void test_good(void **state) {
    struct fixture *f = *state;
    note_run(f, 100);
    note_admitted(f, 0, 60);
    note_admitted(f, 1, 40);
    note_done(f, 0, 60, 60);
    note_run(f, 100); /* a resume lets go of what was held */
    note_again(f, 1, 40);
    note_done(f, 1, 25, 25);
    assert_int_equal(problems_of(f, false), 0);
}

static void test_cap_passed(void **state) {
    struct fixture *f = *state;
    note_run(f, 100);
    note_admitted(f, 0, 60);
    note_admitted(f, 1, 41);
    assert_int_equal(problems_of(f, false), 1);
}

static void test_charge_is_not_the_record(void **state) {
    struct fixture *f = *state;
    note_run(f, 0);
    note_admitted(f, 0, 60);
    note_done(f, 0, 60, 50);
    assert_int_equal(problems_of(f, false), 1);
}

static void test_evaluation_counts(void **state) {
    struct fixture *f = *state;
    note_run(f, 0);
    note_admitted(f, 0, 60);
    note_done(f, 0, 40, 40); /* its evaluation of 7 is missing */
    assert_int_equal(problems_of(f, true), 1);
}

static void test_no_journal(void **state) {
    struct fixture *f = *state;
    struct check check = {.output = "/nonexistent"};
    ASSERT_OK(journal_close(f->journal, &f->err));
    assert_int_equal(check_ledger(&check), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cap_passed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_charge_is_not_the_record, setup, teardown),
        cmocka_unit_test_setup_teardown(test_evaluation_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_steps_are_charged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_steps_are_only_reported, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rungs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rung_charged_wrongly, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run_again_for_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_journal, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
