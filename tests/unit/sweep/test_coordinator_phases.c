/* What a stage does after its first records: rungs, waves, the second pass. Decisions must be those of the rule worked
 * out by hand, for any number of workers, any deaths and any resume. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "simulated_sweep.h"

static void run_whole(struct simulation *s) {
    struct lvs_error err = {0};
    assert_true(simulation_run(s, &err));
    assert_false(s->over_cap || s->double_settled || s->unknown_assignment || s->unequal_ledgers);
}

static int32_t count_status(const struct coordinator *coordinator, int32_t status) {
    int32_t n = 0;
    for (int32_t i = 0; i < coordinator_n_trials(coordinator); i++)
        n += coordinator_record(coordinator, i)->status == status;
    return n;
}

static void assert_equal_sweeps(const struct coordinator *a, const struct coordinator *b) {
    assert_int_equal(coordinator_n_trials(a), coordinator_n_trials(b));
    for (int32_t i = 0; i < coordinator_n_trials(a); i++) {
        const struct record *x = coordinator_record(a, i), *y = coordinator_record(b, i);
        assert_int_equal(x->status, y->status);
        assert_int_equal(x->flops_training, y->flops_training);
        const struct rung_list *r = coordinator_rungs(a, i), *q = coordinator_rungs(b, i);
        assert_int_equal(r->n, q->n);
        for (int32_t k = 0; k < r->n; k++) {
            assert_int_equal(r->rung[k].step, q->rung[k].step);
            assert_int_equal(r->rung[k].verdict, q->rung[k].verdict);
            assert_true(r->rung[k].loss == q->rung[k].loss);
        }
    }
    assert_true(coordinator_ledger(a)->spent == coordinator_ledger(b)->spent);
}

/* ---- halving ---- */

static const struct coordinator_options halving = {.n_stages = 1,
                                                   .n_workers = 1,
                                                   .retries = 100,
                                                   .pack = 1,
                                                   .stop_rule = STOP_HALVING,
                                                   .stop_factor = 3,
                                                   .stop_min_steps = 10};

struct at_rung {
    double loss;
    int32_t row;
};

static int by_loss(const void *left, const void *right) {
    const struct at_rung *a = left, *b = right;
    if (a->loss != b->loss) return a->loss < b->loss ? -1 : 1;
    return a->row - b->row;
}

/* The rule by hand: 20 at step 11, 7 at step 33, 3 to the end. */
static void test_the_best_go_on(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct simulation s = simulation_of(&planner, &halving);
    run_whole(&s);
    static const int32_t steps[] = {11, 33}, kept[] = {7, 3};
    struct at_rung race[20];
    int32_t n = 20;
    for (int32_t i = 0; i < n; i++)
        race[i].row = i;
    for (int rung = 0; rung < 2; rung++) {
        for (int32_t i = 0; i < n; i++)
            race[i].loss = synthetic_loss(coordinator_trial(s.coordinator, race[i].row), steps[rung]);
        qsort(race, (size_t)n, sizeof race[0], by_loss);
        for (int32_t i = 0; i < n; i++) {
            const struct rung *at = rung_list_find(coordinator_rungs(s.coordinator, race[i].row), steps[rung]);
            assert_non_null(at);
            assert_true(at->loss == race[i].loss);
            assert_int_equal(at->verdict, i < kept[rung] ? RUNG_GOES_ON : RUNG_STOPPED);
            if (i < kept[rung]) continue;
            const struct record *record = coordinator_record(s.coordinator, race[i].row);
            const struct trial *trial = coordinator_trial(s.coordinator, race[i].row);
            assert_int_equal(record->status, TRIAL_STOPPED);
            assert_int_equal(record->steps_done, steps[rung]);
            assert_int_equal(record->flops_training, steps[rung] * trial->price.step);
        }
        n = kept[rung];
    }
    for (int32_t i = 0; i < n; i++)
        assert_int_equal(coordinator_record(s.coordinator, race[i].row)->status, TRIAL_DONE);
    assert_int_equal(s.n_assignments, 20 + 7 + 3);
    simulation_free(&s);
}

static void test_order_changes_nothing(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct simulation one = simulation_of(&planner, &halving);
    run_whole(&one);
    for (int32_t workers = 2; workers < 12; workers += 3) {
        struct coordinator_options options = halving;
        options.n_workers = workers;
        struct simulation many = simulation_of(&planner, &options);
        many.rng = rng_make((uint64_t)workers, RNG_STREAM_TEST);
        many.death_rate = 0.3;
        run_whole(&many);
        assert_true(many.n_retries > 0);
        assert_equal_sweeps(one.coordinator, many.coordinator);
        simulation_free(&many);
    }
    simulation_free(&one);
}

/* Stopped after every number of records, and resumed. */
static void test_resume_decides_alike(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = halving;
    options.n_workers = 3;
    options.flops_cap = 50000;
    struct simulation whole = simulation_of(&planner, &options);
    run_whole(&whole);
    for (int32_t stop_after = 1; stop_after < whole.n_records; stop_after++) {
        struct simulation first = simulation_of(&planner, &options);
        first.stop_after = stop_after;
        run_whole(&first);
        struct simulation second = simulation_resumed(&planner, &options, &first);
        run_whole(&second);
        assert_equal_sweeps(whole.coordinator, second.coordinator);
        assert_int_equal(first.n_records + second.n_records, whole.n_records);
        assert_true(coordinator_ledger(second.coordinator)->outside == 0);
        simulation_free(&first);
        simulation_free(&second);
    }
    simulation_free(&whole);
}

/* Whole, the 20 cost 77 000; as a race at most 770 · 11 steps, then the dearest 7 for 22 steps (420 · 22), then the
 * dearest 3 for 67 (200 · 67): 31 110. */
static void test_a_race_is_priced_as_one(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    static const struct {
        double cap;
        int32_t rule, n_cut;
    } cases[] = {{77000, STOP_NONE, 0},    {76999, STOP_NONE, 1},    {0, STOP_HALVING, 0},
                 {31110, STOP_HALVING, 0}, {31109, STOP_HALVING, 1}, {1, STOP_HALVING, 20}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct coordinator_options options = halving;
        options.flops_cap = cases[i].cap;
        options.stop_rule = (enum stop_rule)cases[i].rule;
        struct simulation s = simulation_of(&planner, &options);
        run_whole(&s);
        assert_int_equal(count_status(s.coordinator, TRIAL_CUT), cases[i].n_cut);
        simulation_free(&s);
    }
}

/* Every cap: what was admitted can be run to the end of the race, whoever wins it. */
static void test_an_admitted_race_ends(void **state) {
    (void)state;
    for (int32_t cap = 1000; cap < 40000; cap += 777) {
        struct synthetic_grid grid = {.points = {20}, .price = 1000, .key_base = cap % 13};
        struct planner planner = synthetic_planner(&grid);
        struct coordinator_options options = halving;
        options.flops_cap = cap;
        options.n_workers = 4;
        struct simulation s = simulation_of(&planner, &options);
        run_whole(&s);
        int32_t admitted = 20 - count_status(s.coordinator, TRIAL_CUT), kept = admitted;
        bool race = admitted > 1;
        if (race) kept = (((admitted + 2) / 3) + 2) / 3;
        if (admitted > 0) assert_int_equal(count_status(s.coordinator, TRIAL_DONE), kept);
        assert_int_equal(count_status(s.coordinator, TRIAL_STOPPED), admitted - kept);
        simulation_free(&s);
    }
}

/* Diverged trials take no place of those that go on, before and after a resume. */
static void test_diverged_trials_drop_out(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {10}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct simulation whole = simulation_of(&planner, &halving);
        whole.rng = rng_make(seed, RNG_STREAM_TEST);
        whole.diverge_rate = 0.4;
        run_whole(&whole);
        struct simulation again = simulation_of(&planner, &halving);
        for (int32_t i = 0; i < 10; i++)
            simulation_hand_over(&again, &whole, i);
        run_whole(&again);
        assert_int_equal(again.n_assignments, 0);
        assert_int_equal(again.n_stopped, 0); /* no verdict is a new one */
        assert_equal_sweeps(whole.coordinator, again.coordinator);
        simulation_free(&whole);
        simulation_free(&again);
    }
}

/* A rule that is taken away, and a wider grid: what was stopped goes on from where it paused. */
static void test_stopped_trials_can_go_on(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    struct simulation first = simulation_of(&planner, &halving);
    run_whole(&first);
    struct coordinator_options none = halving;
    none.stop_rule = STOP_NONE;
    struct simulation second = simulation_of(&planner, &none);
    for (int32_t i = 0; i < 20; i++)
        simulation_hand_over(&second, &first, i);
    run_whole(&second);
    assert_int_equal(second.n_assignments, 17);
    assert_int_equal(count_status(second.coordinator, TRIAL_DONE), 20);
    assert_true(coordinator_ledger(second.coordinator)->spent == 77000);
    simulation_free(&first);
    simulation_free(&second);
}

/* A race under [budget] trials: the same ones race after a stop at any moment, and nobody joins them. */
static void test_a_resumed_race_takes_nobody_in(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {20}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    for (int rule = STOP_HALVING; rule <= STOP_MEDIAN; rule++) {
        struct coordinator_options options = halving;
        options.stop_rule = (enum stop_rule)rule;
        options.n_workers = 3;
        options.trials_cap = 7;
        struct simulation whole = simulation_of(&planner, &options);
        run_whole(&whole);
        assert_int_equal(count_status(whole.coordinator, TRIAL_CUT), 13);
        for (int32_t stop_after = 1; stop_after < whole.n_records; stop_after++) {
            struct simulation first = simulation_of(&planner, &options);
            first.stop_after = stop_after;
            run_whole(&first);
            struct simulation second = simulation_resumed(&planner, &options, &first);
            run_whole(&second);
            for (int32_t i = 0; i < 20; i++)
                assert_int_equal(coordinator_record(second.coordinator, i)->status == TRIAL_CUT, i >= 7);
            if (rule == STOP_HALVING) assert_equal_sweeps(whole.coordinator, second.coordinator);
            simulation_free(&first);
            simulation_free(&second);
        }
        simulation_free(&whole);
    }
}

/* ---- asha, median ---- */

static void test_rules_at_once(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {40}, .price = 1000};
    struct planner planner = synthetic_planner(&grid);
    for (int rule = STOP_ASHA; rule <= STOP_MEDIAN; rule++) {
        struct coordinator_options options = halving;
        options.stop_rule = (enum stop_rule)rule;
        options.n_workers = 3;
        options.flops_cap = 1e6;
        struct simulation whole = simulation_of(&planner, &options);
        run_whole(&whole);
        int32_t done = count_status(whole.coordinator, TRIAL_DONE);
        assert_int_equal(done + count_status(whole.coordinator, TRIAL_STOPPED), 40);
        assert_true(done > 0 && done < 40);
        for (int32_t stop_after = 1; stop_after < 60; stop_after += 7) {
            struct simulation first = simulation_of(&planner, &options);
            first.stop_after = stop_after;
            run_whole(&first);
            struct simulation second = simulation_resumed(&planner, &options, &first);
            run_whole(&second);
            assert_int_equal(
                count_status(second.coordinator, TRIAL_DONE) + count_status(second.coordinator, TRIAL_STOPPED), 40);
            assert_true(coordinator_ledger(second.coordinator)->reserved == 0);
            simulation_free(&first);
            simulation_free(&second);
        }
        simulation_free(&whole);
    }
}

/* ---- narrowing ---- */

static void test_the_best_three_see_more(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {9, 2}, .price = 1000, .narrow_first = 5, .narrow_then = 15};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {.n_stages = 2, .n_workers = 4, .trials_cap = 11, .pack = 1};
    struct simulation s =
        simulation_of(&planner, &options); /* the second pass trains nothing: it is no further trial */
    run_whole(&s);
    struct at_rung race[9];
    for (int32_t i = 0; i < 9; i++)
        race[i] = (struct at_rung){synthetic_loss(coordinator_trial(s.coordinator, i), SYNTHETIC_STEPS), i};
    qsort(race, 9, sizeof race[0], by_loss);
    for (int32_t i = 0; i < 3; i++) {
        const struct trial *second = coordinator_trial(s.coordinator, 9 + i);
        assert_int_equal(second->parent, race[i].row);
        assert_string_equal(second->train_key, coordinator_trial(s.coordinator, race[i].row)->train_key);
        assert_int_equal(second->settings.series.first, 20);
        assert_int_equal(second->settings.narrow_first, 0);
        assert_true(coordinator_evaluate_only(s.coordinator, 9 + i));
        const struct record *first = coordinator_record(s.coordinator, race[i].row);
        assert_true(coordinator_record(s.coordinator, 9 + i)->val_loss.loss == first->val_loss.loss);
    }
    /* the second stage narrows anew: two points, both see more, and the best is one of those */
    assert_int_equal(coordinator_n_trials(s.coordinator), 9 + 3 + 2 + 2);
    assert_int_equal(coordinator_trial(s.coordinator, 12)->settings.narrow_first, 5);
    assert_true(coordinator_best(s.coordinator) >= 14);
    struct simulation again = simulation_of(&planner, &options);
    for (int32_t i = 0; i < 16; i++)
        simulation_hand_over(&again, &s, i);
    run_whole(&again);
    assert_int_equal(again.n_assignments, 0);
    assert_int_equal(coordinator_best(again.coordinator), coordinator_best(s.coordinator));
    simulation_free(&s);
    simulation_free(&again);
}

/* ---- trends ---- */

/* Report A's published losses by rank and learning rate; NAN = it has none. */
struct table {
    int32_t n_ranks, ranks[3];
    double loss[3][3]; /* [rank][1e-5, 5e-5, 1e-4] */
};

static enum lvs_status table_points(void *context, int32_t stage, const struct trial *best,
                                    const struct fill_room *room, struct stage_points *out, struct lvs_error *err) {
    (void)stage, (void)best, (void)room, (void)err;
    const struct table *table = context;
    struct synthetic_grid grid = {.points = {9}, .price = 100};
    struct planner planner = synthetic_planner(&grid);
    LVS_TRY(planner.stage_points(planner.context, 0, NULL, 0, out, err));
    out->n = 3 * table->n_ranks;
    out->n_axes = 2;
    out->values = malloc((size_t)out->n * 2 * sizeof *out->values);
    strcpy(out->axis_name[0], "rank");
    strcpy(out->axis_name[1], "learning_rate");
    for (int32_t i = 0; i < out->n; i++) {
        out->values[2 * i] = i / 3;
        out->values[2 * i + 1] = i % 3;
    }
    return LVS_OK;
}

static void run_table(struct table *table, bool expected_cut[9]) {
    struct planner planner = {.context = table, .stage_points = table_points};
    struct coordinator_options options = {.n_stages = 1, .n_workers = 1, .pack = 1, .trend_skip = true};
    struct coordinator *coordinator = simulation_coordinator_with(&planner, &options);
    const struct coordinator_action *actions;
    struct lvs_error err = {0};
    struct coordinator_event start = {.kind = EVENT_START}, ready = {.kind = EVENT_WORKER_READY};
    int32_t n;
    assert_int_equal(coordinator_handle(coordinator, &start, &actions, &n, &err), LVS_OK);
    assert_int_equal(coordinator_handle(coordinator, &ready, &actions, &n, &err), LVS_OK);
    while (!coordinator_finished(coordinator)) {
        int32_t row = -1;
        for (int32_t i = 0; i < n; i++)
            if (actions[i].kind == ACTION_ASSIGN) row = actions[i].trial;
        assert_true(row >= 0);
        struct record record;
        record_init(&record, coordinator_trial(coordinator, row));
        double loss = table->loss[row / 3][row % 3];
        record.status = loss == loss ? TRIAL_DONE : TRIAL_DIVERGED;
        record.val_loss.loss = loss;
        struct coordinator_event came = {.kind = EVENT_RECORD, .record = &record};
        assert_int_equal(coordinator_handle(coordinator, &came, &actions, &n, &err), LVS_OK);
        if (!coordinator_finished(coordinator))
            assert_int_equal(coordinator_handle(coordinator, &ready, &actions, &n, &err), LVS_OK);
    }
    for (int32_t i = 0; i < 3 * table->n_ranks; i++) {
        const struct record *record = coordinator_record(coordinator, i);
        assert_int_equal(record->status == TRIAL_CUT, expected_cut[i]);
        if (expected_cut[i]) assert_memory_equal(record->error, "trend_skip: along learning_rate", 31);
    }
    coordinator_destroy(coordinator);
}

/* A left out (8, 1e-5), (2, 1e-5) and (2, 1e-4) by eye. The rule, in the order of the ranks that A ran, leaves out the
 * first two: at rank 4 learning rate 1e-5 lost by 46 %. It keeps (8, 5e-5), which lost by 14 % there and which A ran,
 * and (2, 1e-4), which nothing along the learning rate speaks against. */
static void test_report_a(void **state) {
    (void)state;
    struct table table = {3, {4, 8, 2}, {{0.9555, 0.7444, 0.6551}, {NAN, 0.6788, 0.6147}, {NAN, 0.7899, NAN}}};
    run_table(&table, (bool[9]){false, false, false, true, false, false, true, false, false});
}

/* No trend, no margin, a diverged neighbour, two values only: nothing is left out. */
static void test_no_trend_no_skip(void **state) {
    (void)state;
    struct table cases[] = {
        {2, {4, 8}, {{0.9, 0.5, 0.6}, {1, 1, 1}}},
        {2, {4, 8}, {{0.62, 0.55, 0.5}, {1, 1, 1}}},
        {2, {4, 8}, {{NAN, 0.7, 0.5}, {1, 1, 1}}},
        {3, {4, 8, 2}, {{0.9, 0.7, 0.5}, {1, 0.5, 0.7}, {1, 1, 1}}},
        {3, {4, 8, 2}, {{0.9, 0.6, 0.5}, {1, 0.5, 0.7}, {1, 1, 1}}},
    };
    for (size_t i = 0; i < 3; i++)
        run_table(&cases[i], (bool[9]){false});
    /* what was left out once is left out again, unless a later wave has the opposite trend */
    run_table(&cases[3], (bool[9]){false, false, false, true, true, false, true, true, false});
    run_table(&cases[4], (bool[9]){false, false, false, true, false, false, false, false, false});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_best_go_on),
        cmocka_unit_test(test_order_changes_nothing),
        cmocka_unit_test(test_resume_decides_alike),
        cmocka_unit_test(test_a_race_is_priced_as_one),
        cmocka_unit_test(test_an_admitted_race_ends),
        cmocka_unit_test(test_diverged_trials_drop_out),
        cmocka_unit_test(test_stopped_trials_can_go_on),
        cmocka_unit_test(test_rules_at_once),
        cmocka_unit_test(test_a_resumed_race_takes_nobody_in),
        cmocka_unit_test(test_the_best_three_see_more),
        cmocka_unit_test(test_report_a),
        cmocka_unit_test(test_no_trend_no_skip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
