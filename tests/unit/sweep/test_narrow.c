/* [evaluate] narrow: which series the first and the second pass are forecast on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "sweep_internal.h"

static void test_choices(void **state) {
    (void)state;
    static const struct {
        struct series_choice series, first, second;
        int32_t narrow_first, narrow_then;
    } cases[] = {
        /* report D: 5 worst, then 15 more of the 20 worst */
        {{.worst = 20, .random = 5}, {.worst = 5}, {.worst = 20}, 5, 15},
        {{.worst = 20, .random = 5}, {.worst = 20, .random = 2}, {.worst = 20, .random = 5}, 22, 15},
        {{0}, {.first = 5}, {.first = 20}, 5, 15},
        {{.first = 10}, {.first = 5}, {.first = 10}, 5, 15},
        {{.random = 30}, {.random = 1}, {.random = 3}, 1, 2},
        {{.worst = 2, .first = 3, .random = 4}, {.worst = 2, .first = 2}, {.worst = 2, .first = 3, .random = 3}, 4, 4},
        {{.worst = 7}, {.worst = 7}, {.worst = 7}, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct settings settings = {
            .series = cases[i].series, .narrow_first = cases[i].narrow_first, .narrow_then = cases[i].narrow_then};
        struct series_choice first = narrow_choice(&settings);
        assert_memory_equal(&first, &cases[i].first, sizeof first);
        narrow_second_pass(&settings);
        assert_memory_equal(&settings.series, &cases[i].second, sizeof first);
        assert_int_equal(settings.narrow_first, 0);
        struct series_choice again = narrow_choice(&settings);
        assert_memory_equal(&again, &cases[i].second, sizeof again);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_choices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
