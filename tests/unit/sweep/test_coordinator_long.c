/* The coordinator at length: ten thousand histories with deaths, lost workers, stops and resumes, and one sweep of 10^6
 * trials on 10^4 workers, each timed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "simulated_sweep.h"

/* Of this process: limits must hold on a busy machine too. */
/* The goals (10 s and 60 s) are for a quiet machine and are printed; the guard finds what has become quadratic. */
#define GUARD_SECONDS 120

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void check(const struct simulation *s) {
    assert_false(s->over_cap || s->double_settled || s->unknown_assignment || s->unequal_ledgers);
}

/* Up to 100 trials and 16 workers; a third of the histories is stopped and resumed until it ends. */
static void one_history(uint64_t seed) {
    struct rng rng = rng_make(seed, RNG_STREAM_TEST);
    struct synthetic_grid grid = {.points = {1 + (int32_t)rng_below(&rng, 70), (int32_t)rng_below(&rng, 29), 1},
                                  .price = 100,
                                  .shared_first = rng_below(&rng, 2)};
    struct planner planner = synthetic_planner(&grid);
    struct coordinator_options options = {.n_stages = 3,
                                          .n_workers = 1 + (int32_t)rng_below(&rng, 16),
                                          .flops_cap = rng_below(&rng, 3) ? 500 + (double)rng_below(&rng, 30000) : 0,
                                          .lost = rng_below(&rng, 2) ? LOST_CHARGE : LOST_REPORT,
                                          .retries = (int32_t)rng_below(&rng, 4),
                                          .quarantine_after = (int32_t)rng_below(&rng, 4),
                                          .stop_rule = (enum stop_rule)(seed % 2 ? seed / 2 % 4 : STOP_NONE),
                                          .stop_factor = 2 + (int32_t)(seed / 8 % 3),
                                          .stop_min_steps = 1 + (int32_t)(seed / 24 % 20),
                                          .pack = 1};
    int32_t stop_after = rng_below(&rng, 3) == 0 ? 1 + (int32_t)rng_below(&rng, 20) : 0;
    struct simulation before = {0};
    for (int run = 0; run < 40; run++) {
        struct simulation s = {.coordinator = simulation_coordinator_with(&planner, &options),
                               .n_workers = options.n_workers,
                               .rng = rng,
                               .death_rate = 0.2,
                               .diverge_rate = 0.1,
                               .lost_rate = seed % 4 == 0 ? 0.05 : 0,
                               .bad_workers = seed % 5 == 0 ? 1 : 0,
                               .stop_after = stop_after};
        for (int32_t i = 0; before.coordinator && i < coordinator_n_trials(before.coordinator); i++)
            simulation_hand_over(&s, &before, i);
        struct lvs_error err = {0};
        assert_true(simulation_run(&s, &err));
        check(&s);
        rng = s.rng;
        bool again = s.stop_after > 0 && s.n_records >= s.stop_after;
        simulation_free(&before);
        before = s;
        if (!again) break;
    }
    simulation_free(&before);
}

static void test_ten_thousand_histories(void **state) {
    (void)state;
    double start = seconds_now();
    for (uint64_t seed = 0; seed < 10000; seed++)
        one_history(seed);
    double seconds = seconds_now() - start;
    printf("10000 histories: %.1f s\n", seconds);
    assert_true(seconds < GUARD_SECONDS);
}

static void test_a_million_trials(void **state) {
    (void)state;
    struct synthetic_grid grid = {.points = {1000000}, .price = 100};
    struct planner planner = synthetic_planner(&grid);
    struct simulation s = {.coordinator = simulation_coordinator(&planner, 1, 10000, 0, 0), .n_workers = 10000};
    struct lvs_error err = {0};
    double start = seconds_now();
    assert_true(simulation_run(&s, &err));
    double seconds = seconds_now() - start;
    check(&s);
    assert_int_equal(s.n_settled, 1000000);
    printf("10^6 trials on 10^4 workers: %.1f s, %.0f trials/s\n", seconds, 1e6 / seconds);
    assert_true(seconds < GUARD_SECONDS);
    simulation_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_thousand_histories),
        cmocka_unit_test(test_a_million_trials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
