/* The reducer: what events do to the table, and the contradictions it refuses. */
#include "sample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lvsweep/rng.h"

static enum lvs_status apply(struct results *results, struct journal_event event) {
    struct lvs_error err = {0};
    event.time = 1;
    enum lvs_status status = results_apply(results, &event, &err);
    assert_true(status == LVS_OK || err.text[0]);
    return status;
}

static struct journal_event of_trial(enum journal_kind kind, int32_t index, int64_t flops) {
    struct journal_event event = journal_event_make(kind);
    event.index = index;
    event.flops = flops;
    event.stage = 0;
    event.status = TRIAL_SUPERSEDED;
    return event;
}

static void contradictions_are_refused(void **state) {
    (void)state;
    struct results results;
    sample_results(&results, "out", 3);
    for (int kind = JOURNAL_MEMBER; kind <= JOURNAL_OUTSIDE; kind++) {
        if (kind == JOURNAL_RECORD) continue;
        assert_int_equal(apply(&results, of_trial(kind, 3, 0)), LVS_INPUT);
        assert_int_equal(apply(&results, of_trial(kind, -1, 0)), LVS_INPUT);
    }
    assert_int_equal(apply(&results, of_trial(JOURNAL_SETTLE, 0, 1)), LVS_INPUT); /* nothing is reserved */
    assert_int_equal(apply(&results, of_trial(JOURNAL_ADMITTED, 0, -1)), LVS_INPUT);
    assert_int_equal(apply(&results, of_trial(JOURNAL_ADMITTED, 0, 10)), LVS_OK);
    assert_int_equal(apply(&results, of_trial(JOURNAL_ADMITTED, 0, 10)), LVS_INPUT); /* twice */
    assert_int_equal(apply(&results, of_trial(JOURNAL_SETTLE, 0, 11)), LVS_INPUT);
    assert_int_equal(apply(&results, of_trial(JOURNAL_SETTLE, 0, 4)), LVS_OK);
    struct trial trial;
    struct record record;
    sample_trial(1, 0, &trial);
    sample_record(&trial, &record);
    struct journal_event event = journal_event_make(JOURNAL_TRIAL);
    event.trial = &trial;
    trial.index = 5;
    assert_int_equal(apply(&results, event), LVS_INPUT); /* 3 is the next */
    trial.index = 2;
    assert_int_equal(apply(&results, event), LVS_INPUT); /* another key */
    trial.index = 3;
    trial.stage = 2;
    assert_int_equal(apply(&results, event), LVS_INPUT);
    trial.stage = 0;
    trial.parent = 3;
    assert_int_equal(apply(&results, event), LVS_INPUT);
    event = journal_event_make(JOURNAL_RECORD);
    event.record = &record;
    event.index = record.index = 2;
    assert_int_equal(apply(&results, event), LVS_INPUT); /* another key */
    event.index = record.index = 1;
    record.status = TRIAL_STATUS_COUNT;
    assert_int_equal(apply(&results, event), LVS_INPUT);
    assert_int_equal(results.n_rows, 3);
    results_free(&results);
}

static void a_new_run_ends_reservations(void **state) {
    (void)state;
    struct results results;
    struct journal_sweep sweep;
    sample_results(&results, "out", 3);
    struct journal_event assigned = of_trial(JOURNAL_ASSIGNED, 1, 0);
    assigned.worker = 4;
    assigned.attempt = 2;
    assert_int_equal(apply(&results, of_trial(JOURNAL_ADMITTED, 1, 1000)), LVS_OK);
    assert_int_equal(apply(&results, assigned), LVS_OK);
    assert_int_equal(results.rows[1].record.status, TRIAL_RUNNING);
    __int128 spent = results.ledger.spent;
    assert_true(results.ledger.reserved == 1000);
    assert_int_equal(apply(&results, sample_sweep_event(1e12, &sweep)), LVS_OK);
    assert_true(results.ledger.reserved == 0 && results.ledger.spent == spent);
    assert_int_equal(results.rows[1].record.status, TRIAL_INTERRUPTED);
    assert_int_equal(results.rows[1].reserved, 0);
    assert_int_equal(results.rows[1].stages, 1);
    results_free(&results);
}

static void rows_leave_the_grid_and_come_back(void **state) {
    (void)state;
    struct results results;
    sample_results(&results, "out", 3);
    __int128 spent = results.ledger.spent;
    int64_t charged = results.rows[0].charged;
    assert_int_equal(apply(&results, of_trial(JOURNAL_OUTSIDE, 0, 0)), LVS_OK);
    assert_int_equal(apply(&results, of_trial(JOURNAL_STATUS, 0, 0)), LVS_OK);
    assert_int_equal(results.rows[0].record.status, TRIAL_SUPERSEDED);
    assert_true(results.ledger.outside == charged && results.ledger.spent == spent);
    assert_int_equal(apply(&results, of_trial(JOURNAL_MEMBER, 0, 0)), LVS_OK);
    assert_int_equal(results.rows[0].record.status, TRIAL_DONE);
    assert_int_equal(results.rows[0].outside, 0);
    assert_true(results.ledger.outside == 0 && results.ledger.spent == spent);
    results_free(&results);
}

/* --rerun: no result, no rung, but what it cost. */
static void a_pending_trial_begins_from_nothing(void **state) {
    (void)state;
    struct results results;
    sample_results(&results, "out", 3);
    struct result_row *row = &results.rows[1];
    struct journal_event rung = of_trial(JOURNAL_RUNG, 1, 10), pending = of_trial(JOURNAL_STATUS, 1, 0);
    rung.step = 5;
    rung.status = RUNG_STOPPED;
    pending.status = TRIAL_PENDING;
    assert_int_equal(apply(&results, rung), LVS_OK);
    row->record.attempt = 2;
    row->record.flops_lost = 3;
    __int128 spent = results.ledger.spent;
    int64_t charged = row->charged;
    assert_true(charged > 0 && row->rungs.n == 1 && row->record.steps_done > 0);
    assert_int_equal(apply(&results, pending), LVS_OK);
    assert_int_equal(row->record.status, TRIAL_PENDING);
    assert_int_equal(row->record.steps_done, 0);
    assert_true(isnan(row->record.val_loss.loss));
    assert_true(row->record.attempt == 2 && row->record.flops_lost == 3);
    assert_int_equal(row->rungs.n, 0);
    assert_true(row->charged == charged && row->charged_before == charged && results.ledger.spent == spent);
    results_free(&results);
}

static void stages_are_followed_by_name(void **state) {
    (void)state;
    static const char *const changed[] = {"final", "context", "search"};
    struct results results;
    struct journal_sweep sweep;
    sample_results(&results, "out", 3);
    struct journal_event event = sample_sweep_event(1e12, &sweep);
    sweep.stage_name = changed;
    sweep.n_stages = 3;
    assert_int_equal(apply(&results, event), LVS_OK);
    assert_int_equal(results.rows[0].stages, 1 << 2);
    assert_int_equal(results.rows[0].trial.stage, 2);
    assert_int_equal(results.rows[2].stages, 1 << 0);
    assert_int_equal(results.stage_best[2], 0);
    assert_int_equal(results.stage_best[0], -1);
    results_free(&results);
}

/* Random admissions, settlements and new runs: the ledger is the sum of the rows, and never passes the cap where every
 * admission asked first. */
static void the_ledger_is_the_sum_of_the_rows(void **state) {
    (void)state;
    struct rng rng = rng_make(3, RNG_STREAM_TEST);
    struct results results;
    struct journal_sweep sweep;
    sample_results(&results, "out", 20);
    __int128 before = results.ledger.spent;
    int64_t charged_before[20];
    for (int i = 0; i < 20; i++)
        charged_before[i] = results.rows[i].charged;
    for (int step = 0; step < 20000; step++) {
        int32_t index = (int32_t)rng_below(&rng, 20);
        struct result_row *row = &results.rows[index];
        int64_t flops = rng_below(&rng, 100000000);
        if (rng_below(&rng, 500) == 0)
            assert_int_equal(apply(&results, sample_sweep_event(1e12, &sweep)), LVS_OK);
        else if (row->reserved)
            assert_int_equal(apply(&results, of_trial(JOURNAL_SETTLE, index, flops % (row->reserved + 1))), LVS_OK);
        else if (flops <= ledger_left(&results.ledger))
            assert_int_equal(apply(&results, of_trial(JOURNAL_ADMITTED, index, flops)), LVS_OK);
        __int128 reserved = 0, charged = 0;
        for (int i = 0; i < 20; i++) {
            reserved += results.rows[i].reserved;
            charged += results.rows[i].charged - charged_before[i];
        }
        assert_true(reserved == results.ledger.reserved && charged == results.ledger.spent - before);
        assert_true(results.ledger.spent + results.ledger.reserved <= results.ledger.cap);
    }
    results_free(&results);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contradictions_are_refused),        cmocka_unit_test(a_new_run_ends_reservations),
        cmocka_unit_test(rows_leave_the_grid_and_come_back), cmocka_unit_test(a_pending_trial_begins_from_nothing),
        cmocka_unit_test(stages_are_followed_by_name),       cmocka_unit_test(the_ledger_is_the_sum_of_the_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
