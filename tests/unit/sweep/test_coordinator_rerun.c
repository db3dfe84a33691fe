/* --rerun: a trial from nothing, whatever had become of it, with the others' results and the ledger as they were; and
 * evaluations of known weights, which a resume must not turn into trainings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "simulated_sweep.h"

static const struct coordinator_options halving = {
    .n_stages = 1, .n_workers = 3, .pack = 1, .stop_rule = STOP_HALVING, .stop_factor = 3, .stop_min_steps = 10};

static void run_whole(struct simulation *s) {
    struct lvs_error err = {0};
    if (!simulation_run(s, &err)) fail_msg("%s", err.text);
    assert_false(s->over_cap || s->double_settled || s->unknown_assignment || s->unequal_ledgers);
}

static void rerun(struct simulation *s, int32_t trial) {
    struct lvs_error err = {0};
    if (coordinator_rerun(s->coordinator, coordinator_trial(s->coordinator, trial)->name, &err) != LVS_OK)
        fail_msg("%s", err.text);
}

static int32_t first_with(const struct coordinator *coordinator, int32_t status, int32_t n_rungs) {
    for (int32_t i = 0; i < coordinator_n_trials(coordinator); i++)
        if (coordinator_record(coordinator, i)->status == status && coordinator_rungs(coordinator, i)->n == n_rungs)
            return i;
    fail_msg("no trial of status %d with %d rungs", status, n_rungs);
    return -1;
}

/* Everything but charges, and the seconds of the trial that ran again. */
static void assert_equal_results(const struct coordinator *a, const struct coordinator *b) {
    assert_int_equal(coordinator_n_trials(a), coordinator_n_trials(b));
    for (int32_t i = 0; i < coordinator_n_trials(a); i++) {
        const struct record *x = coordinator_record(a, i), *y = coordinator_record(b, i);
        assert_int_equal(x->status, y->status);
        assert_int_equal(x->steps_done, y->steps_done);
        assert_int_equal(x->flops_training, y->flops_training);
        assert_memory_equal(&x->val_loss, &y->val_loss, sizeof x->val_loss);
        const struct rung_list *r = coordinator_rungs(a, i), *q = coordinator_rungs(b, i);
        assert_int_equal(r->n, q->n);
        assert_memory_equal(r->rung, q->rung, (size_t)r->n * sizeof r->rung[0]);
    }
}

/* The survivor, one that the second rung stopped and one that the first did: each comes from step 0 to where it had
 * come, at the price of that, by the same decisions; nobody else moves. Stopped in the middle and resumed without
 * --rerun: the same. */
static void test_a_race_is_run_again_by_one(void **state) {
    (void)state;
    static const int32_t statuses[] = {TRIAL_DONE, TRIAL_STOPPED, TRIAL_STOPPED}, rungs[] = {2, 2, 1};
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = halving;
    options.flops_cap = 60000;
    struct simulation whole = simulation_of(&planner, &options);
    run_whole(&whole);
    for (int k = 0; k < 3; k++) {
        int32_t trial = first_with(whole.coordinator, statuses[k], rungs[k]);
        int64_t once = coordinator_record(whole.coordinator, trial)->flops_training;
        for (int32_t stop_after = 0; stop_after <= rungs[k]; stop_after++) {
            struct simulation again = simulation_resumed(&planner, &options, &whole);
            rerun(&again, trial);
            again.stop_after = stop_after;
            run_whole(&again);
            struct simulation rest = simulation_resumed(&planner, &options, &again);
            run_whole(&rest);
            assert_int_equal(again.n_assignments + rest.n_assignments, rungs[k] + (statuses[k] == TRIAL_DONE));
            for (int32_t i = 0; i < again.n_log; i++)
                assert_int_equal(again.log[i], trial);
            assert_equal_results(whole.coordinator, rest.coordinator);
            assert_true(coordinator_ledger(rest.coordinator)->spent ==
                        coordinator_ledger(whole.coordinator)->spent + once);
            assert_int_equal(rest.row_charged[trial], 2 * once);
            simulation_free(&again);
            simulation_free(&rest);
        }
    }
    simulation_free(&whole);
}

/* Its first assignment begins at step 0, with nothing charged before it. */
static void test_it_begins_at_step_0(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct simulation whole = simulation_of(&planner, &halving);
    run_whole(&whole);
    int32_t trial = first_with(whole.coordinator, TRIAL_DONE, 2), n;
    struct simulation again = simulation_resumed(&planner, &halving, &whole);
    const struct coordinator_action *actions;
    struct lvs_error err = {0};
    struct coordinator_event start = {.kind = EVENT_START};
    rerun(&again, trial);
    assert_int_equal(coordinator_handle(again.coordinator, &start, &actions, &n, &err), LVS_OK);
    int32_t at = 0;
    while (at < n && actions[at].kind != ACTION_AGAIN)
        at++;
    assert_true(at + 1 < n);
    assert_int_equal(actions[at].trial, trial);
    assert_int_equal(actions[at + 1].kind, ACTION_ADMITTED);
    struct trial_segment segment = coordinator_segment(again.coordinator, trial);
    assert_int_equal(segment.from, 0);
    assert_int_equal(segment.until, 11);
    assert_int_equal(segment.charged, 0);
    simulation_free(&whole);
    simulation_free(&again);
}

/* Killed before its first rung, under a budget that holds the trial but not once more the dearest race that might have
 * been: a resume goes on with it. */
static void test_a_killed_rerun_stays_in_the_race(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000, .key_base = 2}; /* the last point survives */
    struct planner planner = synthetic_planner(&grid);
    struct simulation whole = simulation_of(&planner, &halving);
    run_whole(&whole);
    const int32_t trial = 19;
    int32_t n;
    assert_int_equal(coordinator_record(whole.coordinator, trial)->status, TRIAL_DONE);
    struct coordinator_options options = halving;
    options.flops_cap = (double)(coordinator_ledger(whole.coordinator)->spent +
                                 coordinator_record(whole.coordinator, trial)->flops_training);
    struct simulation killed = simulation_resumed(&planner, &options, &whole);
    const struct coordinator_action *actions;
    struct lvs_error err = {0};
    const enum coordinator_event_kind kinds[] = {EVENT_START, EVENT_WORKER_READY};
    rerun(&killed, trial);
    for (int k = 0; k < 2; k++) {
        struct coordinator_event event = {.kind = kinds[k]};
        assert_int_equal(coordinator_handle(killed.coordinator, &event, &actions, &n, &err), LVS_OK);
    }
    assert_int_equal(coordinator_record(killed.coordinator, trial)->status, TRIAL_RUNNING);
    memcpy(killed.row_before, killed.row_charged, 20 * sizeof *killed.row_before);
    struct simulation rest = simulation_resumed(&planner, &options, &killed);
    run_whole(&rest);
    assert_equal_results(whole.coordinator, rest.coordinator);
    simulation_free(&whole);
    simulation_free(&killed);
    simulation_free(&rest);
}

/* What a trial cost before it was run again is no room for a wider grid. The dearest race of 21 costs 32 990: 840 · 11
 * steps, 440 · 22, 210 · 67. */
static void test_old_charges_are_no_room(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000}, wider = {.points = {21}, .price = 1000};
    struct planner planner = synthetic_planner(&grid), wider_planner = synthetic_planner(&wider);
    struct simulation whole = simulation_of(&planner, &halving);
    run_whole(&whole);
    int32_t trial = first_with(whole.coordinator, TRIAL_DONE, 2);
    for (int32_t more = 0; more < 2; more++) {
        struct coordinator_options options = halving;
        options.flops_cap = (double)(32989 + more + coordinator_record(whole.coordinator, trial)->flops_training);
        struct simulation again = simulation_resumed(&wider_planner, &options, &whole);
        rerun(&again, trial);
        run_whole(&again);
        assert_int_equal(coordinator_record(again.coordinator, 20)->status == TRIAL_CUT, !more);
        for (int32_t i = 0; i < 20; i++)
            assert_false(coordinator_lacks_flops(again.coordinator, i));
        simulation_free(&again);
    }
    simulation_free(&whole);
}

/* asha and median judge it anew; the others' results stand. Without a rule it trains whole. */
static void test_other_rules(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {40}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    for (int rule = STOP_NONE; rule <= STOP_MEDIAN; rule++) {
        struct coordinator_options options = halving;
        options.stop_rule = (enum stop_rule)rule;
        struct simulation whole = simulation_of(&planner, &options);
        run_whole(&whole);
        for (int32_t trial = 0; trial < 40; trial += 3) {
            struct simulation again = simulation_resumed(&planner, &options, &whole);
            rerun(&again, trial);
            run_whole(&again);
            int32_t n = coordinator_rungs(again.coordinator, trial)->n;
            const struct record *record = coordinator_record(again.coordinator, trial);
            assert_true(again.n_assignments > 0);
            assert_true(record->status == TRIAL_DONE || record->status == TRIAL_STOPPED);
            assert_int_equal(again.n_assignments, n + (record->status == TRIAL_DONE));
            assert_int_equal(again.charged, record->flops_training);
            for (int32_t i = 0; i < 40; i++)
                if (i != trial)
                    assert_memory_equal(coordinator_record(again.coordinator, i),
                                        coordinator_record(whole.coordinator, i), sizeof(struct record));
            simulation_free(&again);
        }
        simulation_free(&whole);
    }
}

/* A result is not given up for one that cannot be paid for: that it would be is seen beforehand. */
static void test_the_budget_must_hold_it(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct simulation whole = simulation_of(&planner, &halving);
    run_whole(&whole);
    int32_t trial = first_with(whole.coordinator, TRIAL_DONE, 2);
    int64_t once = coordinator_record(whole.coordinator, trial)->flops_training;
    for (int64_t room = 0; room <= once; room += once / 4) {
        struct coordinator_options options = halving;
        options.flops_cap = (double)(coordinator_ledger(whole.coordinator)->spent + room);
        struct simulation again = simulation_resumed(&planner, &options, &whole);
        assert_false(coordinator_lacks_flops(again.coordinator, trial));
        rerun(&again, trial);
        run_whole(&again);
        assert_int_equal(coordinator_lacks_flops(again.coordinator, trial), room < once);
        simulation_free(&again);
    }
    simulation_free(&whole);
}

/* Named by name, however long, or by the start of one train_key. A trial without a result just goes on. */
static void test_names(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {3}, .price = 100};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {.n_stages = 1, .n_workers = 1, .pack = 1};
    struct simulation s = simulation_of(&planner, &options);
    struct lvs_error err = {0};
    struct result_row row = {.record = {.status = TRIAL_DONE, .attempt = 4, .flops_lost = 7}};
    static const char *const keys[] = {"aabbcc00", "aabbdd00", "ee000000"};
    for (int32_t i = 0; i < 3; i++) {
        memset(&row.trial, 0, sizeof row.trial);
        row.trial.index = i;
        snprintf(row.trial.name, sizeof row.trial.name, "r8-lr1e-4-c512-s0-batch=4-dropout=0.5-%s", keys[i]);
        lvs_copy(row.trial.train_key, sizeof row.trial.train_key, keys[i]);
        lvs_copy(row.trial.eval_key, sizeof row.trial.eval_key, keys[i]);
        coordinator_add_row(s.coordinator, &row);
    }
    assert_int_equal(coordinator_rerun(s.coordinator, "r8-lr1e-4", &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "no trial"));
    assert_int_equal(coordinator_rerun(s.coordinator, "", &err), LVS_USAGE);
    assert_int_equal(coordinator_rerun(s.coordinator, "aabb", &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "fits"));
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(coordinator_record(s.coordinator, i)->status, TRIAL_DONE);
    assert_int_equal(coordinator_rerun(s.coordinator, "aabbd", &err), LVS_OK);
    assert_int_equal(coordinator_rerun(s.coordinator, "r8-lr1e-4-c512-s0-batch=4-dropout=0.5-ee000000", &err), LVS_OK);
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(coordinator_record(s.coordinator, i)->status, i == 0 ? TRIAL_DONE : TRIAL_PENDING);
    assert_int_equal(coordinator_record(s.coordinator, 1)->attempt, 4);
    assert_int_equal(coordinator_record(s.coordinator, 1)->flops_lost, 7); /* they were lost */
    simulation_free(&s);
}

static void test_unfinished_trials_go_on(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct simulation whole = simulation_of(&planner, &halving), first = simulation_of(&planner, &halving);
    run_whole(&whole);
    first.stop_after = 21; /* one has gone on from the first rung */
    run_whole(&first);
    int32_t trial = first_with(whole.coordinator, TRIAL_DONE, 2);
    assert_int_equal(coordinator_record(first.coordinator, trial)->status, TRIAL_PENDING);
    struct simulation second = simulation_resumed(&planner, &halving, &first);
    rerun(&second, trial);
    run_whole(&second);
    assert_equal_results(whole.coordinator, second.coordinator);
    assert_int_equal(first.n_records + second.n_records, whole.n_records);
    simulation_free(&whole);
    simulation_free(&first);
    simulation_free(&second);
}

/* Stopped between the evaluations of the second pass: what is left is evaluated, not trained, at that price. */
static void test_a_resumed_second_pass_trains_nothing(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {9}, .price = 1000, .narrow_first = 5, .narrow_then = 15};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {.n_stages = 1, .n_workers = 1, .pack = 1};
    for (int32_t stop_after = 9; stop_after < 12; stop_after++) {
        struct simulation first = simulation_of(&planner, &options);
        first.stop_after = stop_after;
        run_whole(&first);
        struct simulation second = simulation_resumed(&planner, &options, &first);
        run_whole(&second);
        assert_int_equal(coordinator_n_trials(second.coordinator), 12);
        for (int32_t i = 9; i < 12; i++) {
            assert_int_equal(coordinator_record(second.coordinator, i)->status, TRIAL_DONE);
            assert_int_equal(coordinator_trial(second.coordinator, i)->price.training, 0);
        }
        for (int32_t i = 0; i < second.n_log; i++)
            assert_true(coordinator_evaluate_only(second.coordinator, second.log[i]));
        simulation_free(&first);
        simulation_free(&second);
    }
}

/* A trial that the second pass evaluated once more: trained once, evaluated twice. */
static void test_further_evaluations_follow(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {9}, .price = 1000, .narrow_first = 5, .narrow_then = 15};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {.n_stages = 1, .n_workers = 2, .pack = 1};
    struct simulation whole = simulation_of(&planner, &options);
    run_whole(&whole);
    int32_t parent = coordinator_trial(whole.coordinator, 10)->parent;
    struct simulation again = simulation_resumed(&planner, &options, &whole);
    rerun(&again, parent);
    run_whole(&again);
    assert_int_equal(again.n_log, 2);
    assert_int_equal(again.log[0], parent);
    assert_int_equal(again.log[1], 10);
    assert_false(coordinator_evaluate_only(again.coordinator, parent));
    assert_true(coordinator_evaluate_only(again.coordinator, 10));
    assert_equal_results(whole.coordinator, again.coordinator);
    simulation_free(&whole);
    simulation_free(&again);
}

/* Only an evaluation of it is in the grid, the row that trained it is not: that one trains then, at a training's price.
 */
static void test_weights_are_trained_again(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {1}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {.n_stages = 1, .n_workers = 1, .flops_cap = 5000, .pack = 1};
    struct stage_points points = {0};
    struct lvs_error err = {0};
    struct result_row row = {.record = {.status = TRIAL_DONE, .attempt = 1}, .charged = 1000};
    assert_int_equal(planner.stage_points(planner.context, 0, NULL, NULL, &points, &err), LVS_OK);
    struct simulation s = simulation_of(&planner, &options);
    row.trial = points.trials[0];
    strcpy(row.trial.eval_key, "of an earlier grid");
    coordinator_add_row(s.coordinator, &row);
    row.trial = points.trials[0];
    row.trial.index = 1;
    row.trial.price.training = row.trial.price.counted = row.charged = 0;
    coordinator_add_row(s.coordinator, &row);
    rerun(&s, 1);
    run_whole(&s);
    assert_int_equal(s.n_assignments, 1);
    assert_false(coordinator_evaluate_only(s.coordinator, 1));
    assert_int_equal(s.charged, 1000);
    stage_points_free(&points);
    simulation_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_race_is_run_again_by_one),
        cmocka_unit_test(test_it_begins_at_step_0),
        cmocka_unit_test(test_a_killed_rerun_stays_in_the_race),
        cmocka_unit_test(test_old_charges_are_no_room),
        cmocka_unit_test(test_other_rules),
        cmocka_unit_test(test_the_budget_must_hold_it),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_unfinished_trials_go_on),
        cmocka_unit_test(test_a_resumed_second_pass_trains_nothing),
        cmocka_unit_test(test_further_evaluations_follow),
        cmocka_unit_test(test_weights_are_trained_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
