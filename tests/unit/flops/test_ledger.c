/* The ledger under random sequences of reserve, settle and release: never past the cap, nothing lost, 128-bit sums. */
#include "lvsweep/flops.h"
#include "lvsweep/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void cap_is_never_passed(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct rng rng = rng_make(seed, RNG_STREAM_TEST);
        struct ledger ledger;
        int64_t cap = 1 + (int64_t)rng_below(&rng, 1000000);
        ledger_init(&ledger, (double)cap);
        int64_t held[64], spent = 0, reserved = 0;
        int n = 0, refused = 0;
        for (int step = 0; step < 2000; step++) {
            if (n < 64 && rng_below(&rng, 2)) {
                int64_t flops = rng_below(&rng, (uint32_t)cap / 8 + 2);
                bool fits = spent + reserved + flops <= cap;
                assert_int_equal(ledger_reserve(&ledger, flops), fits);
                if (fits) reserved += held[n++] = flops;
                refused += !fits;
            } else if (n > 0) {
                int pick = (int)rng_below(&rng, (uint32_t)n);
                int64_t charged = rng_below(&rng, 4) ? rng_below(&rng, (uint32_t)held[pick] + 1) / 8 : held[pick];
                ledger_settle(&ledger, held[pick], charged);
                reserved -= held[pick];
                spent += charged;
                held[pick] = held[--n];
            }
            assert_true(ledger.spent == spent && ledger.reserved == reserved);
            assert_true(ledger.spent + ledger.reserved <= ledger.cap);
            assert_true(ledger_left(&ledger) == cap - spent - reserved);
        }
        assert_true(refused > 0);
    }
}

static void exactly_the_cap_fits(void **state) {
    (void)state;
    struct ledger ledger;
    ledger_init(&ledger, 1e17);
    assert_true(ledger_reserve(&ledger, 100000000000000000));
    assert_false(ledger_reserve(&ledger, 1));
    assert_true(ledger_reserve(&ledger, 0));
    ledger_settle(&ledger, 100000000000000000, 99999999999999999);
    assert_true(ledger_reserve(&ledger, 1));
    assert_false(ledger_reserve(&ledger, 1));
}

static void sums_do_not_overflow(void **state) {
    (void)state;
    struct ledger ledger;
    ledger_init(&ledger, 0);
    for (int i = 0; i < 1000; i++) {
        assert_true(ledger_reserve(&ledger, INT64_MAX));
        ledger_settle(&ledger, INT64_MAX, INT64_MAX);
    }
    assert_true(ledger.spent == (__int128)INT64_MAX * 1000);
    assert_true(isnan(ledger_percent(&ledger, 1)));
    struct ledger capped;
    ledger_init(&capped, 9e18);
    assert_true(ledger_reserve(&capped, 9000000000000000000));
    assert_false(ledger_reserve(&capped, INT64_MAX));
}

static void lost_and_outside(void **state) {
    (void)state;
    struct ledger ledger;
    ledger_init(&ledger, 100);
    ledger_add_lost(&ledger, 1000);
    assert_true(ledger_left(&ledger) == 100);
    ledger_add_outside(&ledger, 30);
    assert_true(ledger.spent == 30 && ledger.outside == 30 && ledger_left(&ledger) == 70);
    assert_float_equal(ledger_percent(&ledger, 30), 30.0, 1e-12);
    ledger_add_outside(&ledger, 100); /* a cap lowered since */
    assert_true(ledger_left(&ledger) == 0);
    assert_false(ledger_reserve(&ledger, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cap_is_never_passed),
        cmocka_unit_test(exactly_the_cap_fits),
        cmocka_unit_test(sums_do_not_overflow),
        cmocka_unit_test(lost_and_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
