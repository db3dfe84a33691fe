/* The loop over a pack on a small random model: refusals first; then that a trial's numbers do not depend on its pack,
 * on interruptions or on threads, and that a trial that diverges or ends leaves the others alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "pack_fixture.h"

static struct pack_fixture fixture;

static int open_fixture(void **state) {
    (void)state;
    pack_fixture_open(&fixture, 2);
    return 0;
}

static int close_fixture(void **state) {
    (void)state;
    pack_fixture_close(&fixture);
    return 0;
}

/* Three trials as different as a pack allows; the second one ends early. */
static void make_pack(struct trial trials[3]) {
    for (int32_t k = 0; k < 3; k++)
        trials[k] = pack_trial(k);
    trials[0].settings.lora_rank = 2;
    trials[0].settings.dropout = 0.2;
    trials[1].settings.steps.value = 7;
    trials[1].settings.optimizer = OPTIMIZER_ADAMW;
    trials[1].settings.weight_decay = 0.1;
    trials[1].settings.clip_norm = 0.05;
    trials[1].settings.schedule = SCHEDULE_ONECYCLE;
    trials[1].settings.warmup_percent = 30;
    trials[2].settings.lora_rank = 8;
    trials[2].settings.learning_rate = 3e-3;
    trials[2].settings.schedule = SCHEDULE_COSINE;
    trials[2].settings.alpha_value = 1;
    trials[2].settings.weight_decay = 0.01;
}

static void run(struct trainer *trainer, int32_t until) {
    struct lvs_error err = {0};
    if (trainer_run(trainer, until, NULL, NULL, &err) != LVS_OK) fail_msg("%s", err.text);
}

static void expect_refusal(struct trial *trials, int32_t n_trials, const struct window_set *windows,
                           enum lvs_status status, const char *words) {
    const struct trial *pointers[PACK_MAX];
    for (int32_t k = 0; k < n_trials; k++)
        pointers[k] = &trials[k];
    const struct trainer_options options = {
        .model = fixture.model, .windows = windows, .trials = pointers, .n_trials = n_trials};
    struct trainer *trainer;
    struct lvs_error err = {0};
    assert_int_equal(trainer_create(&options, &trainer, &err), status);
    assert_null(trainer);
    if (!strstr(err.text, words)) fail_msg("\"%s\" is not in: %s", words, err.text);
}

static void refusals(void **state) {
    (void)state;
    struct trial trials[3];
    struct window_set none = {.context = fixture.windows.context}, longer = {.context = 99, .n_windows = 1};
    make_pack(trials);
    expect_refusal(trials, 0, &fixture.windows, LVS_BUG, "pack of 0");
    expect_refusal(trials, 3, &none, LVS_INPUT, "no window of 24 tokens");
    expect_refusal(trials, 3, &longer, LVS_BUG, "windows of 99");
    trials[1].settings.batch = 2;
    expect_refusal(trials, 3, &fixture.windows, LVS_BUG, "cannot share a pack");
    make_pack(trials);
    trials[2].settings.steps.unit = AMOUNT_FILL;
    expect_refusal(trials, 3, &fixture.windows, LVS_BUG, "steps = fill");
    trials[2].settings.steps = (struct amount){.unit = AMOUNT_COUNT, .value = 1e9};
    expect_refusal(trials, 3, &fixture.windows, LVS_USAGE, "steps");
    make_pack(trials);
    for (int k = 0; k < 3; k++)
        trials[k].settings.head = HEAD_WEIGHT;
    expect_refusal(trials, 3, &fixture.windows, LVS_BUG, "one trial at a time");
}

/* 7 × 10⁸ steps of batch 3 in a pack of four: 34 GB for the order alone, refused in words before anything is touched.
 */
static void too_large_is_said_in_words(void **state) {
    (void)state;
    struct trial trials[PACK_MAX];
    for (int32_t k = 0; k < PACK_MAX; k++) {
        trials[k] = pack_trial(k);
        trials[k].settings.steps.value = 7e8;
    }
    const int64_t order_bytes = (int64_t)700000000 * 3 * PACK_MAX * 4;
    assert_true(trainer_bytes(model_config(fixture.model), &trials[0].settings, 19, PACK_MAX, 4) > order_bytes);
    struct device_description description;
    struct lvs_error err = {0};
    assert_int_equal(fixture.compute.backend->describe(fixture.compute.device, &description, &err), LVS_OK);
    if (description.memory_total >= order_bytes) skip();
    expect_refusal(trials, PACK_MAX, &fixture.windows, LVS_LAUNCH,
                   "the order of the windows (4 trials, up to 700000000 steps");
}

static void training_lowers_the_loss(void **state) {
    (void)state;
    struct trial trial = pack_trial(0);
    trial.settings.steps.value = 60;
    struct pack_result result = pack_train_alone(&fixture, &trial);
    assert_int_equal(result.step, 60);
    assert_true(fabs(result.loss[0] - log(19)) < 0.2); /* random weights know nothing of 19 tokens */
    double last = 0;
    for (int i = 50; i < 60; i++)
        last += result.loss[i] / 10;
    assert_true(last < result.loss[0] - 0.05);
    for (int i = 0; i < 60; i++)
        assert_true(isfinite(result.gradient_norm[i]) && result.gradient_norm[i] > 0);
    pack_result_free(&result);
}

static void the_pack_changes_no_bit(void **state) {
    (void)state;
    struct trial trials[3];
    make_pack(trials);
    struct trainer *trainer = pack_trainer(&fixture, trials, 3);
    run(trainer, INT32_MAX);
    for (int32_t k = 0; k < 3; k++) {
        struct pack_result packed = pack_result_read(trainer, k, &trials[k]);
        struct pack_result alone = pack_train_alone(&fixture, &trials[k]);
        assert_int_equal(packed.step, k == 1 ? 7 : 12);
        pack_result_assert_equal(&packed, &alone, trials[k].name);
        assert_true(trainer_flops_executed(trainer, k) > 0);
        pack_result_free(&packed);
        pack_result_free(&alone);
    }
    trainer_destroy(trainer);
}

static void head_bias_trains_in_a_pack(void **state) {
    (void)state;
    struct trial trials[2] = {pack_trial(0), pack_trial(1)};
    for (int k = 0; k < 2; k++)
        trials[k].settings.head = HEAD_BIAS;
    struct trainer *trainer = pack_trainer(&fixture, trials, 2);
    run(trainer, INT32_MAX);
    const struct lora_layout *layout = trainer_lora(trainer);
    assert_true(layout->bias_offset >= 0);
    for (int32_t k = 0; k < 2; k++) {
        struct pack_result packed = pack_result_read(trainer, k, &trials[k]);
        struct pack_result alone = pack_train_alone(&fixture, &trials[k]);
        pack_result_assert_equal(&packed, &alone, trials[k].name);
        float moved = 0;
        for (int i = 1; i <= 19; i++)
            moved += fabsf(packed.adapter[packed.n_floats - i]);
        assert_true(moved > 0.01f);
        pack_result_free(&packed);
        pack_result_free(&alone);
    }
    trainer_destroy(trainer);
}

/* Stops and goes on at every step; one trial is told to leave on the way. */
static void pieces_give_the_whole(void **state) {
    (void)state;
    struct trial trials[3];
    make_pack(trials);
    struct trainer *trainer = pack_trainer(&fixture, trials, 3);
    for (int32_t until = 0; until <= 20; until++) {
        run(trainer, until);
        assert_int_equal(trainer_step(trainer, 0), until < 12 ? until : 12);
        assert_int_equal(trainer_step(trainer, 1), until < 7 ? until : 7);
        assert_int_equal(trainer_step(trainer, 2), until < 4 ? until : 4);
        float loss[12], norm[12];
        assert_int_equal(trainer_curves(trainer, 0, loss, norm, NULL), LVS_OK);
        if (until == 0) assert_true(isnan(trainer_loss(trainer, 0)));
        if (until > 0) assert_true(trainer_loss(trainer, 0) == loss[trainer_step(trainer, 0) - 1]);
        if (until == 4) trainer_leave(trainer, 2);
    }
    for (int32_t k = 0; k < 2; k++) {
        struct pack_result pieces = pack_result_read(trainer, k, &trials[k]);
        struct pack_result whole = pack_train_alone(&fixture, &trials[k]);
        pack_result_assert_equal(&pieces, &whole, trials[k].name);
        pack_result_free(&pieces);
        pack_result_free(&whole);
    }
    trainer_destroy(trainer);
}

static void divergence_ends_one_trial_only(void **state) {
    (void)state;
    struct trial trials[3];
    make_pack(trials);
    trials[1].settings.learning_rate = 1e30;
    trials[1].settings.schedule = SCHEDULE_CONSTANT;
    trials[1].settings.warmup_percent = -1;
    struct trainer *trainer = pack_trainer(&fixture, trials, 3);
    run(trainer, INT32_MAX);
    assert_true(trainer_diverged(trainer, 1));
    int32_t step = trainer_step(trainer, 1);
    assert_in_range(step, 1, 3);
    float loss[7], norm[7];
    assert_int_equal(trainer_curves(trainer, 1, loss, norm, NULL), LVS_OK);
    assert_true(trainer_loss(trainer, 1) == loss[step - 1]); /* the last that is a number */
    for (int32_t i = 0; i < 7; i++) {
        assert_true((isfinite(loss[i]) != 0) == (i < step));
        assert_true((isfinite(norm[i]) != 0) == (i < step));
    }
    for (int32_t k = 0; k < 3; k += 2) {
        assert_false(trainer_diverged(trainer, k));
        struct pack_result packed = pack_result_read(trainer, k, &trials[k]);
        struct pack_result alone = pack_train_alone(&fixture, &trials[k]);
        pack_result_assert_equal(&packed, &alone, trials[k].name);
        pack_result_free(&packed);
        pack_result_free(&alone);
    }
    run(trainer, INT32_MAX); /* nothing is left to do */
    assert_int_equal(trainer_step(trainer, 1), step);
    trainer_destroy(trainer);
}

static void threads_change_no_bit(void **state) {
    (void)state;
    struct pack_fixture single;
    struct trial trials[3];
    make_pack(trials);
    pack_fixture_open(&single, 1);
    for (int32_t k = 0; k < 3; k++) {
        struct pack_result one = pack_train_alone(&single, &trials[k]);
        struct pack_result two = pack_train_alone(&fixture, &trials[k]);
        pack_result_assert_equal(&one, &two, trials[k].name);
        pack_result_free(&one);
        pack_result_free(&two);
    }
    pack_fixture_close(&single);
}

static void no_steps_leave_the_start(void **state) {
    (void)state;
    struct trial trials[2] = {pack_trial(0), pack_trial(0)};
    trials[0].settings.steps.value = 0;
    struct trainer *trainer = pack_trainer(&fixture, trials, 2);
    struct pack_result before = pack_result_read(trainer, 1, &trials[1]);
    run(trainer, INT32_MAX);
    assert_int_equal(trainer_step(trainer, 0), 0);
    assert_int_equal(trainer_step(trainer, 1), 12);
    struct pack_result untrained = pack_result_read(trainer, 0, &trials[0]); /* the same seed, so the same start */
    pack_result_assert_equal(&untrained, &before, "adapter before training");
    pack_result_free(&before);
    pack_result_free(&untrained);
    trainer_destroy(trainer);
}

static bool count_and_stop(void *context) {
    *(int *)context += 1;
    return true;
}

static void stop_is_asked_and_heeded(void **state) {
    (void)state;
    struct trial trial = pack_trial(0);
    trial.settings.steps.value = 1000000;
    struct trainer *trainer = pack_trainer(&fixture, &trial, 1);
    struct lvs_error err = {0};
    int asked = 0;
    assert_int_equal(trainer_run(trainer, INT32_MAX, count_and_stop, &asked, &err), LVS_OK);
    assert_int_equal(asked, 1);
    assert_in_range(trainer_step(trainer, 0), 1, 999999);
    trainer_destroy(trainer);
}

static void adapters_go_in_and_out(void **state) {
    (void)state;
    struct trial trials[2] = {pack_trial(0), pack_trial(1)};
    struct trainer *trainer = pack_trainer(&fixture, trials, 2);
    const size_t count = (size_t)trainer_lora(trainer)->stride;
    float *written = lvs_calloc(count, sizeof *written), *read = lvs_calloc(count, sizeof *read);
    for (size_t i = 0; i < count; i++)
        written[i] = (float)i;
    assert_int_equal(trainer_write_adapter(trainer, 1, written, NULL), LVS_OK);
    assert_int_equal(trainer_read_adapter(trainer, 1, read, NULL), LVS_OK);
    assert_memory_equal(read, written, count * sizeof *read);
    const struct adapters *view = trainer_adapters(trainer);
    assert_null(view->dropout);
    assert_null(view->grads);
    assert_int_equal(view->stride, count);
    free(written);
    free(read);
    trainer_destroy(trainer);
}

static void start_is_taken(void **state) {
    (void)state;
    struct trial trials[2] = {pack_trial(0), pack_trial(1)};
    struct trainer *first = pack_trainer(&fixture, trials, 2);
    run(first, 5);
    const size_t count = (size_t)trainer_lora(first)->stride;
    float *adapter = lvs_calloc(count, sizeof *adapter), *read = lvs_calloc(count, sizeof *read);
    assert_int_equal(trainer_read_adapter(first, 1, adapter, NULL), LVS_OK);
    const struct trial *pointers[2] = {&trials[0], &trials[1]};
    const float *start[2] = {NULL, adapter};
    const struct trainer_options options = {
        .model = fixture.model, .windows = &fixture.windows, .trials = pointers, .n_trials = 2, .start = start};
    struct trainer *second;
    assert_int_equal(trainer_create(&options, &second, NULL), LVS_OK);
    assert_int_equal(trainer_read_adapter(second, 1, read, NULL), LVS_OK);
    assert_memory_equal(read, adapter, count * sizeof *read);
    assert_int_equal(trainer_read_adapter(second, 0, read, NULL), LVS_OK);
    assert_memory_not_equal(read, adapter, count * sizeof *read);
    free(adapter);
    free(read);
    trainer_destroy(first);
    trainer_destroy(second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals),
        cmocka_unit_test(too_large_is_said_in_words),
        cmocka_unit_test(training_lowers_the_loss),
        cmocka_unit_test(the_pack_changes_no_bit),
        cmocka_unit_test(head_bias_trains_in_a_pack),
        cmocka_unit_test(pieces_give_the_whole),
        cmocka_unit_test(divergence_ends_one_trial_only),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(no_steps_leave_the_start),
        cmocka_unit_test(stop_is_asked_and_heeded),
        cmocka_unit_test(adapters_go_in_and_out),
        cmocka_unit_test(start_is_taken),
    };
    return cmocka_run_group_tests_name("train/trainer", tests, open_fixture, close_fixture);
}
