/* The optimisers' table: one row a kind, PyTorch's constants, decay where each puts it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "optimizer.h"

static void every_kind_has_its_row(void **state) {
    (void)state;
    assert_string_equal(optimizer_find(OPTIMIZER_ADAM)->name, "adam");
    assert_string_equal(optimizer_find(OPTIMIZER_ADAMW)->name, "adamw");
    for (int32_t kind = OPTIMIZER_ADAM; kind <= OPTIMIZER_ADAMW; kind++)
        assert_int_equal(optimizer_find(kind)->kind, kind);
}

static void constants_follow_the_settings(void **state) {
    (void)state;
    const struct settings settings = {.weight_decay = 0.01, .clip_norm = 1.5};
    for (int32_t kind = OPTIMIZER_ADAM; kind <= OPTIMIZER_ADAMW; kind++) {
        struct optimizer_settings constants;
        optimizer_find(kind)->constants(&settings, &constants);
        assert_true(constants.beta1 == 0.9f && constants.beta2 == 0.999f && constants.epsilon == 1e-8f);
        assert_true(constants.weight_decay == 0.01f && constants.clip_norm == 1.5f);
        assert_int_equal(constants.decoupled, kind == OPTIMIZER_ADAMW);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_its_row),
        cmocka_unit_test(constants_follow_the_settings),
    };
    return cmocka_run_group_tests_name("train/optimizer", tests, NULL, NULL);
}
