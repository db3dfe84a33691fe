/* What the evaluations of a trial came to, through the bytes of a checkpoint: round trips, other lengths refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lora_pack.h"

enum { N = 3, ADAPTER = 5 };
static const int32_t steps[N] = {2, 4, 6};
static const double loss[N] = {1.5, 1.25, NAN}, mae[N] = {0.5, NAN, 0.25}, mse[N] = {NAN, 0.75, 0.0625};
static float best[ADAPTER] = {1, 2, 3, 4, 5};

static struct pack_trial trial_with(int32_t n_evaluation, bool has_best) {
    struct pack_trial one = {.best_score = 0.25,
                             .best = has_best ? best : NULL,
                             .flops_periodic = 7000000000,
                             .flops_baseline = 11,
                             .rung_step = 4,
                             .seconds_training = 1.75,
                             .seconds_evaluation = 0.125};
    one.record.best_step = 6;
    one.record.head_gap = (struct head_gap_record){.first = 0.5, .last = 0.25, .largest = 2};
    pack_grow_curves(&one, n_evaluation);
    one.curves.n_evaluation = n_evaluation;
    for (int32_t i = 0; i < n_evaluation; i++) {
        one.curves.evaluation_step[i] = steps[i];
        one.curves.val_loss[i] = loss[i];
        one.curves.val_mae_scaled[i] = mae[i];
        one.curves.val_mse_scaled[i] = mse[i];
    }
    return one;
}

static void free_read(struct pack_trial *one) {
    free(one->best);
    trial_curves_free(&one->curves);
}

static void check_state(const struct pack_trial *found, int32_t n_evaluation, bool has_best, bool has_mse) {
    assert_int_equal(found->curves.n_evaluation, n_evaluation);
    for (int32_t i = 0; i < n_evaluation; i++) {
        assert_int_equal(found->curves.evaluation_step[i], steps[i]);
        assert_memory_equal(&found->curves.val_loss[i], &loss[i], sizeof loss[i]);
        assert_memory_equal(&found->curves.val_mae_scaled[i], &mae[i], sizeof mae[i]);
        if (has_mse)
            assert_memory_equal(&found->curves.val_mse_scaled[i], &mse[i], sizeof mse[i]);
        else
            assert_true(isnan(found->curves.val_mse_scaled[i]));
    }
    assert_int_equal(found->best != NULL, has_best);
    if (has_best) assert_memory_equal(found->best, best, sizeof best);
    assert_true(found->best_score == 0.25 && found->record.best_step == 6 && found->rung_step == 4);
    assert_true(found->flops_periodic == 7000000000 && found->flops_baseline == 11);
    assert_true(found->seconds_training == 1.75 && found->seconds_evaluation == 0.125);
    assert_true(found->record.head_gap.last == 0.25);
}

static void comes_back(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        int32_t n = i & 1 ? N : 0;
        struct pack_trial one = trial_with(n, i & 2), found = {0};
        struct strbuf bytes;
        strbuf_init(&bytes);
        pack_state_write(&one, sizeof best, &bytes);
        assert_true(pack_state_read(&found, sizeof best, bytes.text, bytes.length));
        check_state(&found, n, i & 2, true);
        strbuf_free(&bytes);
        trial_curves_free(&one.curves);
        free_read(&found);
    }
}

/* Bytes as they are without the squared error: its values stand before the best adapter. */
static size_t without_mse(const struct strbuf *bytes, bool has_best, char *out) {
    size_t behind = has_best ? sizeof best : 0, before = bytes->length - behind - sizeof mse;
    memcpy(out, bytes->text, before);
    memcpy(out + before, bytes->text + before + sizeof mse, behind);
    return before + behind;
}

static void one_without_the_squared_error_is_read(void **state) {
    (void)state;
    for (int has_best = 0; has_best < 2; has_best++) {
        struct pack_trial one = trial_with(N, has_best), found = {0};
        struct strbuf bytes;
        char short_of[512];
        strbuf_init(&bytes);
        pack_state_write(&one, sizeof best, &bytes);
        assert_true(bytes.length <= sizeof short_of);
        size_t length = without_mse(&bytes, has_best, short_of);
        assert_true(pack_state_read(&found, sizeof best, short_of, length));
        check_state(&found, N, has_best, false);
        strbuf_free(&bytes);
        trial_curves_free(&one.curves);
        free_read(&found);
    }
}

static void other_lengths_are_refused(void **state) {
    (void)state;
    struct pack_trial one = trial_with(N, true);
    struct strbuf bytes;
    strbuf_init(&bytes);
    pack_state_write(&one, sizeof best, &bytes);
    size_t length = bytes.length;
    strbuf_add_bytes(&bytes, "12345678", 8);
    for (size_t other = 0; other <= length + 8; other++) {
        struct pack_trial found = {0};
        if (other == length || other == length - sizeof mse) continue; /* without the squared error */
        assert_false(pack_state_read(&found, sizeof best, bytes.text, other));
        assert_true(!found.best && !found.curves.evaluation_step && found.flops_periodic == 0);
    }
    strbuf_free(&bytes);
    trial_curves_free(&one.curves);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(comes_back),
                                       cmocka_unit_test(one_without_the_squared_error_is_read),
                                       cmocka_unit_test(other_lengths_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
