/* head_rows = text: steps over some rows of the vocabulary. Against a trainer of a model that has these rows alone, and
 * against what the whole head must keep: rows left out, order of rows, checkpoints, packs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "pack_fixture.h"
#include "unit/own_folder.h"

#define N_KEPT 6
static const int32_t kept[N_KEPT] = {17, 3, 4, 9, 12, 0}; /* in no order: local id i is row kept[i] */

static struct pack_fixture fixture;
static struct model *text;

static int open_fixture(void **state) {
    (void)state;
    struct lvs_error err = {0};
    pack_fixture_open(&fixture, 1);
    if (model_open_rows(fixture.model, kept, N_KEPT, &text, &err) != LVS_OK) fail_msg("%s", err.text);
    const int64_t count = (int64_t)fixture.windows.n_windows * fixture.windows.context;
    for (int64_t i = 0; i < count; i++) {
        fixture.windows.ids[i] %= N_KEPT;
        if (fixture.windows.labels[i] != WINDOW_IGNORED) fixture.windows.labels[i] %= N_KEPT;
    }
    return 0;
}

static int close_fixture(void **state) {
    (void)state;
    model_close(text);
    pack_fixture_close(&fixture);
    return 0;
}

static struct trial head_trial(int32_t number, int32_t head) {
    struct trial trial = pack_trial(number);
    trial.settings.head = head;
    return trial;
}

/* With `whole`, adapters are those of the whole model; without, the small model is all there is. */
static struct trainer *make(const struct trial *trials, int32_t n_trials, bool whole) {
    const struct trial *pointers[PACK_MAX];
    for (int32_t k = 0; k < n_trials; k++)
        pointers[k] = &trials[k];
    const struct trainer_options options = {.model = text,
                                            .whole = whole ? fixture.model : NULL,
                                            .kept = whole ? kept : NULL,
                                            .windows = &fixture.windows,
                                            .trials = pointers,
                                            .n_trials = n_trials};
    struct trainer *trainer;
    struct lvs_error err = {0};
    if (trainer_create(&options, &trainer, &err) != LVS_OK) fail_msg("%s", err.text);
    return trainer;
}

static void run(struct trainer *trainer, int32_t until) {
    struct lvs_error err = {0};
    if (trainer_run(trainer, until, NULL, NULL, &err) != LVS_OK) fail_msg("%s", err.text);
}

static float *adapter_of(struct trainer *trainer, int32_t k) {
    float *params = lvs_calloc((size_t)trainer_lora(trainer)->stride, sizeof *params);
    assert_int_equal(trainer_read_adapter(trainer, k, params, NULL), LVS_OK);
    return params;
}

static float *curve_of(struct trainer *trainer, int32_t k) {
    float *loss = lvs_calloc(64, sizeof *loss), norm[64];
    assert_int_equal(trainer_curves(trainer, k, loss, norm, NULL), LVS_OK);
    return loss;
}

static void rows_outside_are_refused(void **state) {
    (void)state;
    const int32_t bad[2] = {3, 19};
    struct model *model = NULL;
    struct lvs_error err = {0};
    assert_int_equal(model_open_rows(fixture.model, bad, 2, &model, &err), LVS_INPUT);
    assert_null(model);
    assert_non_null(strstr(err.text, "token id 19 has no row"));
}

/* The head's part of the whole adapter against that of the small one; rows left out against `start`. */
static void check_head(const struct lora_layout *whole_lora, const float *whole, const struct lora_layout *small_lora,
                       const float *small, const float *start) {
    int64_t width = small_lora->bias_offset >= 0 ? 1 : small_lora->hidden;
    int64_t at = width == 1 ? whole_lora->bias_offset : whole_lora->head_offset;
    int64_t from = width == 1 ? small_lora->bias_offset : small_lora->head_offset;
    assert_int_equal(at, from);
    assert_memory_equal(whole, small, (size_t)at * sizeof *whole); /* the matrices of LoRA */
    for (int32_t row = 0; row < whole_lora->n_vocabulary; row++) {
        const float *expected = start + at + row * width;
        for (int32_t i = 0; i < N_KEPT; i++)
            if (kept[i] == row) expected = small + from + i * width;
        assert_memory_equal(whole + at + row * width, expected, (size_t)width * sizeof *whole);
    }
}

static void steps_are_those_of_the_rows_alone(void **state) {
    (void)state;
    static const int32_t heads[] = {HEAD_FROZEN, HEAD_BIAS, HEAD_WEIGHT};
    for (int i = 0; i < 3; i++) {
        struct trial trial = head_trial(1, heads[i]);
        struct trainer *whole = make(&trial, 1, true), *small = make(&trial, 1, false);
        assert_int_equal(trainer_lora(whole)->n_vocabulary, 19);
        assert_int_equal(trainer_lora(small)->n_vocabulary, N_KEPT);
        float *start = adapter_of(whole, 0);
        run(whole, INT32_MAX);
        run(small, INT32_MAX);
        float *a = curve_of(whole, 0), *b = curve_of(small, 0);
        assert_memory_equal(a, b, 12 * sizeof *a);
        assert_true(fabs(a[0] - log(N_KEPT)) < 0.2 && a[11] < a[0]);
        float *whole_params = adapter_of(whole, 0), *small_params = adapter_of(small, 0);
        if (heads[i] == HEAD_FROZEN)
            assert_memory_equal(whole_params, small_params, (size_t)trainer_lora(small)->stride * sizeof(float));
        else
            check_head(trainer_lora(whole), whole_params, trainer_lora(small), small_params, start);
        float *const owned[] = {start, a, b, whole_params, small_params};
        for (int k = 0; k < 5; k++)
            free(owned[k]);
        trainer_destroy(whole);
        trainer_destroy(small);
    }
}

/* A head bias that came with an earlier adapter: rows that train start from it, the others keep it. */
static void a_whole_head_goes_in_and_out(void **state) {
    (void)state;
    struct trial trials[2] = {head_trial(1, HEAD_BIAS), head_trial(2, HEAD_BIAS)};
    struct trainer *trainer = make(trials, 2, true);
    const struct lora_layout *lora = trainer_lora(trainer), *trained;
    float *given = lvs_calloc((size_t)lora->stride, sizeof *given);
    for (int64_t i = 0; i < lora->n_params; i++)
        given[i] = 1e-3f * (float)(i % 97);
    assert_int_equal(trainer_write_adapter(trainer, 1, given, NULL), LVS_OK);
    float *read = adapter_of(trainer, 1);
    assert_memory_equal(read, given, (size_t)lora->n_params * sizeof *read);
    const struct adapters *view = trainer_trained(trainer, &trained);
    float bias[N_KEPT];
    assert_int_equal(trained->n_vocabulary, N_KEPT);
    fixture.compute.backend->download(fixture.compute.device, bias, view->params + view->stride + trained->bias_offset,
                                      sizeof bias);
    for (int i = 0; i < N_KEPT; i++)
        assert_true(bias[i] == given[lora->bias_offset + kept[i]]);
    run(trainer, 3);
    float *after = adapter_of(trainer, 1);
    assert_true(after[lora->bias_offset + kept[2]] != given[lora->bias_offset + kept[2]]);
    assert_true(after[lora->bias_offset + 1] == given[lora->bias_offset + 1]);
    free(given);
    free(read);
    free(after);
    trainer_destroy(trainer);
}

static void pieces_and_packs_change_no_bit(void **state) {
    (void)state;
    char folder[LVS_PATH_MAX];
    own_folder_make(folder);
    struct trial trials[2] = {head_trial(1, HEAD_BIAS), head_trial(2, HEAD_BIAS)};
    trials[1].settings.lora_rank = 8;
    struct trainer *pack = make(trials, 2, true), *alone = make(&trials[1], 1, true), *resumed;
    struct lvs_error err = {0};
    run(pack, INT32_MAX);
    run(alone, 5);
    assert_int_equal(checkpoint_write(folder, alone, 0, NULL, 0, &err), LVS_OK);
    resumed = make(&trials[1], 1, true);
    bool found;
    void *extra;
    size_t extra_bytes;
    assert_int_equal(checkpoint_read(folder, resumed, 0, &found, &extra, &extra_bytes, &err), LVS_OK);
    assert_true(found);
    free(extra);
    run(resumed, INT32_MAX);
    struct pack_result one = pack_result_read(pack, 1, &trials[1]), other = pack_result_read(resumed, 0, &trials[1]);
    pack_result_assert_equal(&one, &other, "packed and resumed");
    pack_result_free(&one);
    pack_result_free(&other);
    trainer_destroy(pack);
    trainer_destroy(alone);
    trainer_destroy(resumed);
    own_folder_remove(folder);
}

static void batches_are_those_of_the_order(void **state) {
    (void)state;
    struct trial trials[2] = {pack_trial(1), pack_trial(2)};
    struct trainer *trainer = make(trials, 2, true);
    for (int32_t k = 0; k < 2; k++) {
        int32_t order[12 * 3], batch[3];
        batch_order(&trials[k].settings, fixture.windows.n_windows, 12, order);
        for (int32_t step = 0; step < 12; step += 11) {
            assert_int_equal(trainer_batch(trainer, k, step, batch, NULL), LVS_OK);
            assert_memory_equal(batch, order + (ptrdiff_t)step * 3, sizeof batch);
        }
    }
    trainer_destroy(trainer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_outside_are_refused),       cmocka_unit_test(steps_are_those_of_the_rows_alone),
        cmocka_unit_test(a_whole_head_goes_in_and_out),   cmocka_unit_test(pieces_and_packs_change_no_bit),
        cmocka_unit_test(batches_are_those_of_the_order),
    };
    return cmocka_run_group_tests_name("train/trainer_rows", tests, open_fixture, close_fixture);
}
