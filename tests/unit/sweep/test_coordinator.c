/* The coordinator: orders, budgets, retries, resumes, and a thousand random histories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "simulated_sweep.h"

static void run_whole(struct simulation *s) {
    struct lvs_error err = {0};
    assert_true(simulation_run(s, &err));
    assert_false(s->over_cap);
    assert_false(s->double_settled);
    assert_false(s->unknown_assignment);
    assert_false(s->unequal_ledgers);
    if (s->stop_after == 0) assert_true(coordinator_ledger(s->coordinator)->reserved == 0);
}

static void test_longest_first(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {14}, .price = 100};
    struct planner planner = synthetic_planner(&grid);
    struct simulation s = {.coordinator = simulation_coordinator(&planner, 1, 3, 0, 0), .n_workers = 3};
    run_whole(&s);
    assert_int_equal(s.n_log, 14);
    for (int32_t i = 1; i < s.n_log; i++) {
        int64_t before = coordinator_trial(s.coordinator, s.log[i - 1])->price.counted;
        assert_true(before >= coordinator_trial(s.coordinator, s.log[i])->price.counted);
    }
    simulation_free(&s);
}

/* Prices 100, 200 … 700 under 1000: in enumeration order 100+200+300+400 fit, the rest is cut whatever runs first. */
static void test_admission_in_enumeration_order(void **state) {
    (void)state;
    for (int32_t workers = 1; workers <= 9; workers += 4) {
        struct synthetic_grid grid = {.points = {7}, .price = 100};
        struct planner planner = synthetic_planner(&grid);
        struct simulation s = {.coordinator = simulation_coordinator(&planner, 1, workers, 1000, 0),
                               .n_workers = workers};
        run_whole(&s);
        for (int32_t i = 0; i < 7; i++)
            assert_int_equal(coordinator_record(s.coordinator, i)->status, i < 4 ? TRIAL_DONE : TRIAL_CUT);
        assert_true(coordinator_ledger(s.coordinator)->spent == 1000);
        simulation_free(&s);
    }
}

static void test_stages_and_reuse(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {5, 3, 2}, .price = 10, .shared_first = true};
    struct planner planner = synthetic_planner(&grid);
    struct simulation s = {.coordinator = simulation_coordinator(&planner, 3, 2, 0, 0), .n_workers = 2};
    run_whole(&s);
    assert_int_equal(coordinator_n_trials(s.coordinator), 5 + 2 + 1);
    assert_int_equal(s.n_assignments, 8);
    assert_true(coordinator_in_stage(s.coordinator, 0, 0) && coordinator_in_stage(s.coordinator, 0, 1));
    simulation_free(&s);
}

static bool is_exact(const struct settings *settings) {
    (void)settings;
    return true;
}

/* 9 equal-context trials in packs of at most 7: shared out over the workers that are
 * there (3, then 2, 2, 1, 1 over three: the tail stays short), or always as wide as can be; one by one when
 * nothing is known of the bits and nobody asked for packs. Trials of another kind are passed over. */
static void test_packs_spread_over_workers(void **state) {
    (void)state;
    static const struct {
        int32_t workers;
        bool exact;
        int32_t assignments, rows; /* rows: most of a step; a trial has 512 */
        int32_t kinds;             /* trials of different kinds cannot share a pack, and stand in turn */
    } cases[] = {{1, true, 2, 0, 0},    {3, true, 5, 0, 0},     {9, true, 9, 0, 0},    {9, false, 2, 0, 0},
                 {1, true, 2, 8192, 0}, {1, true, 5, 1535, 0},  {3, true, 6, 1024, 0}, {1, true, 9, 256, 0},
                 {2, true, 4, 2048, 0}, {1, false, 9, 8192, 0}, {1, true, 2, 0, 2},    {1, false, 3, 0, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct synthetic_grid grid = {.points = {9}, .price = 10, .kinds = cases[i].kinds};
        struct planner planner = synthetic_planner(&grid);
        static const double share[1];
        static const bool from_best[1];
        struct coordinator_options options = {.n_stages = 1,
                                              .n_workers = cases[i].workers,
                                              .stage_share = share,
                                              .stage_from_best = from_best,
                                              .pack = 7,
                                              .pack_rows = cases[i].rows,
                                              .packs_exactly = cases[i].exact ? is_exact : NULL,
                                              .n_channel = 1,
                                              .metric = "val_loss"};
        struct coordinator *coordinator;
        struct lvs_error err = {0};
        const struct coordinator_action *actions;
        int32_t n, assignments = 0, assigned = 0;
        assert_int_equal(coordinator_create(&options, &planner, &coordinator, &err), LVS_OK);
        struct coordinator_event event = {.kind = EVENT_START};
        assert_int_equal(coordinator_handle(coordinator, &event, &actions, &n, &err), LVS_OK);
        for (int32_t w = 0; assigned < 9; w = (w + 1) % cases[i].workers) {
            event = (struct coordinator_event){.kind = EVENT_WORKER_READY, .worker = w};
            assert_int_equal(coordinator_handle(coordinator, &event, &actions, &n, &err), LVS_OK);
            for (int32_t a = 0; a < n; a++) {
                if (actions[a].kind != ACTION_ASSIGN) continue;
                assignments++;
                assigned += actions[a].n_trials;
            }
        }
        assert_int_equal(assignments, cases[i].assignments);
        coordinator_destroy(coordinator);
    }
}

static void test_retries_are_bounded(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {4}, .price = 10};
    struct planner planner = synthetic_planner(&grid);
    struct simulation s = {
        .coordinator = simulation_coordinator(&planner, 1, 2, 1000, 2), .n_workers = 2, .death_rate = 1};
    run_whole(&s);
    assert_int_equal(s.n_assignments, 4 * 3);
    for (int32_t i = 0; i < 4; i++) {
        assert_int_equal(coordinator_record(s.coordinator, i)->status, TRIAL_FAILED);
        assert_int_equal(coordinator_record(s.coordinator, i)->attempt, 3);
    }
    assert_true(coordinator_ledger(s.coordinator)->spent == 0);
    simulation_free(&s);
}

/* Stop in the middle, hand the records to a new coordinator: only what is missing runs, and the ledger is the same. */
static void test_resume_runs_only_what_is_missing(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 10};
    struct planner planner = synthetic_planner(&grid);
    struct simulation whole = {.coordinator = simulation_coordinator(&planner, 1, 4, 600, 0), .n_workers = 4};
    run_whole(&whole);
    struct simulation first = {
        .coordinator = simulation_coordinator(&planner, 1, 4, 600, 0), .n_workers = 4, .stop_after = 5};
    run_whole(&first);
    struct simulation second = {.coordinator = simulation_coordinator(&planner, 1, 4, 600, 0), .n_workers = 4};
    for (int32_t i = 0; i < coordinator_n_trials(first.coordinator); i++)
        simulation_hand_over(&second, &first, i);
    run_whole(&second);
    assert_int_equal(first.n_records + second.n_records, whole.n_records);
    assert_true(coordinator_ledger(second.coordinator)->spent == coordinator_ledger(whole.coordinator)->spent);
    assert_true(coordinator_ledger(second.coordinator)->outside == 0);
    for (int32_t i = 0; i < coordinator_n_trials(whole.coordinator); i++)
        assert_int_equal(coordinator_record(second.coordinator, i)->status,
                         coordinator_record(whole.coordinator, i)->status);
    simulation_free(&whole);
    simulation_free(&first);
    simulation_free(&second);
}

/* ---- [budget] trials ---- */

static const struct coordinator_options five_trials = {
    .n_stages = 2, .n_workers = 3, .trials_cap = 5, .retries = 1, .pack = 1};

static void assert_equal_statuses(const struct coordinator *a, const struct coordinator *b) {
    assert_int_equal(coordinator_n_trials(a), coordinator_n_trials(b));
    for (int32_t i = 0; i < coordinator_n_trials(a); i++)
        assert_int_equal(coordinator_record(a, i)->status, coordinator_record(b, i)->status);
}

/* Stopped after every number of records: together the runs begin the trials of an undisturbed one, and the same ones.
 * A sweep that is over begins nothing more. */
static void test_a_resume_counts_trials_of_earlier_runs(void **state) {
    (void)state;
    for (int32_t points = 4; points <= 9; points += 5) { /* the second stage has one trial left, or none */
        struct synthetic_grid grid = {.points = {points, 3}, .price = 10};
        struct planner planner = synthetic_planner(&grid);
        struct simulation whole = simulation_of(&planner, &five_trials);
        run_whole(&whole);
        assert_int_equal(whole.n_admitted, 5);
        for (int32_t stop_after = 1; stop_after <= 5; stop_after++) {
            struct simulation first = simulation_of(&planner, &five_trials);
            first.stop_after = stop_after;
            run_whole(&first);
            struct simulation second = simulation_resumed(&planner, &five_trials, &first);
            run_whole(&second);
            struct simulation third = simulation_resumed(&planner, &five_trials, &second);
            run_whole(&third);
            assert_equal_statuses(whole.coordinator, second.coordinator);
            assert_equal_statuses(whole.coordinator, third.coordinator);
            assert_int_equal(third.n_assignments, 0);
            simulation_free(&first);
            simulation_free(&second);
            simulation_free(&third);
        }
        simulation_free(&whole);
    }
}

static void give(struct coordinator *coordinator, struct coordinator_event event) {
    const struct coordinator_action *actions;
    struct lvs_error err = {0};
    int32_t n;
    assert_int_equal(coordinator_handle(coordinator, &event, &actions, &n, &err), LVS_OK);
}

/* Killed with one trial done and two at work, the dearest ones, which are not the first: those go on, and two more are
 * begun. */
static void test_trials_at_work_before_a_kill_count(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {9, 0}, .price = 10};
    struct planner planner = synthetic_planner(&grid);
    struct simulation killed = simulation_of(&planner, &five_trials);
    struct record done;
    give(killed.coordinator, (struct coordinator_event){.kind = EVENT_START});
    for (int32_t w = 0; w < 3; w++)
        give(killed.coordinator, (struct coordinator_event){.kind = EVENT_WORKER_READY, .worker = w});
    record_init(&done, coordinator_trial(killed.coordinator, 4));
    done.status = TRIAL_DONE;
    give(killed.coordinator, (struct coordinator_event){.kind = EVENT_RECORD, .record = &done});
    for (int32_t i = 2; i < 4; i++)
        assert_int_equal(coordinator_record(killed.coordinator, i)->status, TRIAL_RUNNING);
    struct simulation s = simulation_resumed(&planner, &five_trials, &killed);
    run_whole(&s);
    assert_int_equal(s.n_assignments, 4);
    for (int32_t i = 0; i < 9; i++)
        assert_int_equal(coordinator_record(s.coordinator, i)->status, i < 5 ? TRIAL_DONE : TRIAL_CUT);
    simulation_free(&killed);
    simulation_free(&s);
}

/* Failed for good, diverged, of an earlier grid: they were begun. Tried again they are no further ones. */
static void test_failed_and_foreign_trials_count(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {9, 0}, .price = 10},
                          other = {.points = {9, 0}, .price = 10, .key_base = 1};
    struct planner planner = synthetic_planner(&grid), other_planner = synthetic_planner(&other);
    struct coordinator_options retry = five_trials;
    retry.retry_failed = true;
    struct simulation first = simulation_of(&planner, &five_trials);
    first.death_rate = 1;
    run_whole(&first);
    struct simulation again = simulation_resumed(&planner, &five_trials, &first);
    run_whole(&again);
    assert_int_equal(again.n_assignments, 0);
    struct simulation retried = simulation_resumed(&planner, &retry, &first);
    run_whole(&retried);
    assert_int_equal(retried.n_assignments, 5);
    for (int32_t i = 0; i < 9; i++)
        assert_int_equal(coordinator_record(retried.coordinator, i)->status, i < 5 ? TRIAL_DONE : TRIAL_CUT);
    struct simulation elsewhere = simulation_resumed(&other_planner, &five_trials, &first);
    run_whole(&elsewhere);
    assert_int_equal(elsewhere.n_assignments, 0);
    simulation_free(&first);
    simulation_free(&again);
    simulation_free(&retried);
    simulation_free(&elsewhere);
}

/* What does not fit the FLOPs takes no trial's place. */
static void test_cut_trials_do_not_count(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {9, 0}, .price = 100};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = five_trials;
    options.flops_cap = 700; /* 100 + 200 + 300, then only the eighth, which costs 100 */
    struct simulation s = simulation_of(&planner, &options);
    run_whole(&s);
    for (int32_t i = 0; i < 9; i++)
        assert_int_equal(coordinator_record(s.coordinator, i)->status, i < 3 || i == 7 ? TRIAL_DONE : TRIAL_CUT);
    simulation_free(&s);
}

/* Trials that left the grid keep their charge. */
static void test_changed_grid_keeps_charges(void **state) {
    (void)state;
    struct synthetic_grid old = {.points = {3}, .price = 100}, changed = {.points = {3}, .price = 100, .key_base = 1};
    struct planner old_planner = synthetic_planner(&old), new_planner = synthetic_planner(&changed);
    struct simulation first = {.coordinator = simulation_coordinator(&old_planner, 1, 1, 1000, 0), .n_workers = 1};
    run_whole(&first);
    struct simulation second = {.coordinator = simulation_coordinator(&new_planner, 1, 1, 1000, 0), .n_workers = 1};
    for (int32_t i = 0; i < 3; i++)
        simulation_hand_over(&second, &first, i);
    run_whole(&second);
    const struct ledger *ledger = coordinator_ledger(second.coordinator);
    assert_true(ledger->outside == 600);
    assert_true(ledger->spent == 900); /* 100 + 200 more fit under 1000 */
    assert_int_equal(coordinator_record(second.coordinator, 5)->status, TRIAL_CUT);
    simulation_free(&first);
    simulation_free(&second);
}

/* One bad worker of three: the trials that fail there are taken by others, and it is set aside. */
static void test_retries_go_elsewhere(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {30}, .price = 10};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {
        .n_stages = 1, .n_workers = 3, .retries = 1, .quarantine_after = 3, .pack = 1};
    struct simulation s = {
        .coordinator = simulation_coordinator_with(&planner, &options), .n_workers = 3, .bad_workers = 1};
    run_whole(&s);
    assert_int_equal(s.n_retries, 3);
    for (int32_t i = 0; i < 30; i++)
        assert_int_equal(coordinator_record(s.coordinator, i)->status, TRIAL_DONE);
    simulation_free(&s);
}

/* Every worker is bad: the sweep ends long before it has failed 60 times over. */
static void test_gives_up_when_all_fail(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {60}, .price = 10};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {
        .n_stages = 1, .n_workers = 4, .retries = 2, .quarantine_after = 3, .pack = 1};
    struct simulation s = {
        .coordinator = simulation_coordinator_with(&planner, &options), .n_workers = 4, .bad_workers = 4};
    struct lvs_error err = {0};
    assert_true(simulation_run(&s, &err));
    assert_true(s.gave_up);
    assert_true(s.n_assignments < 60);
    assert_true(coordinator_ledger(s.coordinator)->spent == 0);
    simulation_free(&s);
}

static bool handle(struct coordinator *c, const struct coordinator_event *event, struct coordinator_action *assigned) {
    const struct coordinator_action *actions;
    int32_t n;
    struct lvs_error err = {0};
    assert_int_equal(coordinator_handle(c, event, &actions, &n, &err), LVS_OK);
    bool gave_up = false;
    for (int32_t i = 0; i < n; i++) {
        if (actions[i].kind == ACTION_ASSIGN) *assigned = actions[i];
        gave_up |= actions[i].kind == ACTION_GIVE_UP;
    }
    return gave_up;
}

/* A pack of eight that dies of one cause is one failure of its worker: the sweep goes on, and all are tried again. */
static void test_a_pack_fails_once(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {8}, .price = 10};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {
        .n_stages = 1, .n_workers = 1, .retries = 1, .quarantine_after = 3, .pack = 8};
    struct coordinator *c = simulation_coordinator_with(&planner, &options);
    struct coordinator_action pack = {0};
    assert_false(handle(c, &(struct coordinator_event){.kind = EVENT_START}, &pack));
    for (int attempt = 1; attempt <= 2; attempt++) {
        assert_false(handle(c, &(struct coordinator_event){.kind = EVENT_WORKER_READY}, &pack));
        assert_int_equal(pack.n_trials, 8);
        assert_int_equal(pack.attempt, attempt);
        int32_t rows[8];
        memcpy(rows, pack.trials, sizeof rows);
        for (int i = 0; i < 8; i++) {
            struct record record;
            record_init(&record, coordinator_trial(c, rows[i]));
            record.status = attempt == 1 ? TRIAL_FAILED : TRIAL_DONE;
            assert_false(handle(
                c, &(struct coordinator_event){.kind = EVENT_RECORD, .transient = attempt == 1, .record = &record},
                &pack));
        }
    }
    handle(c, &(struct coordinator_event){.kind = EVENT_WORKER_READY}, &pack);
    assert_true(coordinator_finished(c));
    for (int32_t i = 0; i < 8; i++)
        assert_int_equal(coordinator_record(c, i)->status, TRIAL_DONE);
    coordinator_destroy(c);
}

/* Lost steps are charged when asked for, and the budget still holds. */
static void test_lost_steps_are_charged(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {4}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {
        .n_stages = 1, .n_workers = 2, .flops_cap = 20000, .lost = LOST_CHARGE, .retries = 2, .pack = 1};
    struct simulation s = {
        .coordinator = simulation_coordinator_with(&planner, &options), .n_workers = 2, .death_rate = 0.5};
    s.rng = rng_make(4, RNG_STREAM_TEST);
    run_whole(&s);
    const struct ledger *ledger = coordinator_ledger(s.coordinator);
    int64_t counted = 0;
    for (int32_t i = 0; i < 4; i++)
        counted += coordinator_record(s.coordinator, i)->flops_training;
    assert_true(ledger->lost > 0);
    assert_true(ledger->spent == counted + ledger->lost);
    simulation_free(&s);
}

static void one_history(uint64_t seed) {
    struct rng rng = rng_make(seed, RNG_STREAM_TEST);
    struct synthetic_grid grid = {.points = {1 + (int32_t)rng_below(&rng, 60), (int32_t)rng_below(&rng, 30), 1},
                                  .price = 7,
                                  .shared_first = rng_below(&rng, 2)};
    struct planner planner = synthetic_planner(&grid);
    int32_t workers = 1 + (int32_t)rng_below(&rng, 16);
    double cap = rng_below(&rng, 3) ? 50 + (double)rng_below(&rng, 2000) : 0;
    struct simulation s = {.coordinator =
                               simulation_coordinator(&planner, 3, workers, cap, (int32_t)rng_below(&rng, 3)),
                           .n_workers = workers,
                           .rng = rng,
                           .death_rate = 0.2,
                           .diverge_rate = 0.1,
                           .lost_rate = rng_below(&rng, 4) == 0 ? 0.05 : 0};
    struct lvs_error err = {0};
    assert_true(simulation_run(&s, &err));
    assert_false(s.over_cap || s.double_settled || s.unknown_assignment || s.unequal_ledgers);
    int64_t spent = 0;
    for (int32_t i = 0; i < coordinator_n_trials(s.coordinator); i++)
        spent += coordinator_record(s.coordinator, i)->flops_training;
    assert_true(coordinator_ledger(s.coordinator)->spent == spent);
    simulation_free(&s);
}

static void test_random_histories(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 1000; seed++)
        one_history(seed);
}

static void test_rate(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {200000}, .price = 100};
    struct planner planner = synthetic_planner(&grid);
    struct simulation s = {.coordinator = simulation_coordinator(&planner, 1, 64, 0, 0), .n_workers = 64};
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    run_whole(&s);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double seconds = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    printf("coordinator alone: %.0f trials/s\n", (double)s.n_settled / seconds);
    assert_int_equal(s.n_settled, 200000);
    simulation_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_longest_first),
        cmocka_unit_test(test_admission_in_enumeration_order),
        cmocka_unit_test(test_stages_and_reuse),
        cmocka_unit_test(test_packs_spread_over_workers),
        cmocka_unit_test(test_retries_are_bounded),
        cmocka_unit_test(test_resume_runs_only_what_is_missing),
        cmocka_unit_test(test_a_resume_counts_trials_of_earlier_runs),
        cmocka_unit_test(test_trials_at_work_before_a_kill_count),
        cmocka_unit_test(test_failed_and_foreign_trials_count),
        cmocka_unit_test(test_cut_trials_do_not_count),
        cmocka_unit_test(test_changed_grid_keeps_charges),
        cmocka_unit_test(test_retries_go_elsewhere),
        cmocka_unit_test(test_gives_up_when_all_fail),
        cmocka_unit_test(test_a_pack_fails_once),
        cmocka_unit_test(test_lost_steps_are_charged),
        cmocka_unit_test(test_random_histories),
        cmocka_unit_test(test_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
