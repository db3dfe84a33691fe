/* Which series are evaluated: unions of first, worst and random ones; ascending, each once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "lvsweep/evaluate.h"

#define N 8
static const int32_t rows[N] = {40, 10, 70, 20, 60, 30, 0, 50}; /* a split in its own order */
static const double score[N] = {5, 1, NAN, 9, 2, 9, 0, 3};

static void check(struct series_choice choice, const int32_t *expected, int32_t n_expected) {
    int32_t chosen[N];
    int32_t n = series_choice_apply(&choice, rows, N, score, 1, chosen);
    assert_int_equal(n, n_expected);
    assert_memory_equal(chosen, expected, (size_t)n_expected * sizeof *expected);
}

static void all_when_nothing_is_said(void **state) {
    (void)state;
    check((struct series_choice){0}, (int32_t[]){0, 10, 20, 30, 40, 50, 60, 70}, 8);
}

static void first_of_the_split(void **state) {
    (void)state;
    check((struct series_choice){.first = 3}, (int32_t[]){10, 40, 70}, 3);
    check((struct series_choice){.first = 99}, (int32_t[]){0, 10, 20, 30, 40, 50, 60, 70}, 8);
}

/* No score at all is the worst; ties go to the earlier one. */
static void worst_by_score(void **state) {
    (void)state;
    check((struct series_choice){.worst = 1}, (int32_t[]){70}, 1);
    check((struct series_choice){.worst = 2}, (int32_t[]){20, 70}, 2);
    check((struct series_choice){.worst = 4}, (int32_t[]){20, 30, 40, 70}, 4);
    check((struct series_choice){.worst = 2, .first = 1}, (int32_t[]){20, 40, 70}, 3);
    check((struct series_choice){.worst = 2, .first = 3}, (int32_t[]){10, 20, 40, 70}, 4);
}

/* worst:w + random:r is always w + r series, the random ones among the rest, by the seed alone. */
static void random_comes_on_top(void **state) {
    (void)state;
    int differing = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        const struct series_choice choice = {.worst = 3, .random = 2};
        int32_t first[N], second[N], worst[N];
        assert_int_equal(series_choice_apply(&choice, rows, N, score, seed, first), 5);
        assert_int_equal(series_choice_apply(&choice, rows, N, score, seed, second), 5);
        assert_memory_equal(first, second, 5 * sizeof *first);
        for (int i = 1; i < 5; i++)
            assert_true(first[i] > first[i - 1]);
        series_choice_apply(&(struct series_choice){.worst = 3}, rows, N, score, seed, worst);
        int found = 0;
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 3; j++)
                found += first[i] == worst[j];
        assert_int_equal(found, 3);
        series_choice_apply(&choice, rows, N, score, 0, second);
        differing += memcmp(first, second, 5 * sizeof *first) != 0;
    }
    assert_true(differing > 5);
}

/* Against the choice itself, with each row in turn the worst and those after it the next. */
static void least_over_all_scores(void **state) {
    (void)state;
    for (int32_t k = 0; k < 10 * 10 * 10; k++) {
        const struct series_choice choice = {.first = k % 10, .worst = k / 10 % 10, .random = k / 100};
        int32_t least = N, chosen[N];
        for (int worst = 0; worst < N; worst++) {
            double scores[N];
            for (int i = 0; i < N; i++)
                scores[(worst + i) % N] = N - i;
            int32_t n = series_choice_apply(&choice, rows, N, scores, 1, chosen);
            if (n < least) least = n;
        }
        assert_int_equal(series_choice_least(&choice, N), least);
    }
}

static void edges(void **state) {
    (void)state;
    int32_t chosen[N];
    const struct series_choice choice = {.first = 1, .worst = 1, .random = 1};
    assert_int_equal(series_choice_apply(&choice, rows, 0, score, 1, chosen), 0);
    assert_int_equal(series_choice_apply(&choice, rows, 1, score, 1, chosen), 1);
    assert_int_equal(series_choice_apply(&(struct series_choice){.random = 99}, rows, N, NULL, 1, chosen), N);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_when_nothing_is_said), cmocka_unit_test(first_of_the_split),
        cmocka_unit_test(worst_by_score),           cmocka_unit_test(random_comes_on_top),
        cmocka_unit_test(least_over_all_scores),    cmocka_unit_test(edges),
    };
    return cmocka_run_group_tests_name("evaluate/series_choice", tests, NULL, NULL);
}
