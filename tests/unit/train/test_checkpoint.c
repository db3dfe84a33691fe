/* Checkpoints through a trainer: a run that ends at any step and goes on from its checkpoint equals the uninterrupted
 * one to the bit, alone, packed, and in a pack of other ranks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "pack_fixture.h"
#include "unit/own_folder.h"

static struct pack_fixture fixture;
static char folder[LVS_PATH_MAX];

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

static int make_folder(void **state) {
    (void)state;
    own_folder_make(folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    own_folder_remove(folder);
    return 0;
}

static void run(struct trainer *trainer, int32_t until) {
    struct lvs_error err = {0};
    if (trainer_run(trainer, until, NULL, NULL, &err) != LVS_OK) fail_msg("%s", err.text);
}

static void write_checkpoint(struct trainer *trainer, int32_t k, const char *extra) {
    struct lvs_error err = {0};
    if (checkpoint_write(folder, trainer, k, extra, extra ? strlen(extra) : 0, &err) != LVS_OK)
        fail_msg("%s", err.text);
}

static bool read_checkpoint(struct trainer *trainer, int32_t k, const char *expected_extra) {
    struct lvs_error err = {0};
    bool found;
    void *extra;
    size_t extra_bytes;
    if (checkpoint_read(folder, trainer, k, &found, &extra, &extra_bytes, &err) != LVS_OK) fail_msg("%s", err.text);
    size_t expected = found && expected_extra ? strlen(expected_extra) : 0;
    assert_int_equal(extra_bytes, expected);
    if (expected) assert_memory_equal(extra, expected_extra, expected);
    free(extra);
    return found;
}

/* A trial whose every part has state that could be lost: dropout, a schedule, decay, clipping. */
static struct trial stateful_trial(int32_t number) {
    struct trial trial = pack_trial(number);
    trial.settings.dropout = 0.1;
    trial.settings.schedule = SCHEDULE_LINEAR;
    trial.settings.warmup_steps = 3;
    trial.settings.optimizer = OPTIMIZER_ADAMW;
    trial.settings.weight_decay = 0.01;
    trial.settings.clip_norm = 0.1;
    trial.settings.head = HEAD_BIAS;
    return trial;
}

static void equal_to(struct trainer *trainer, int32_t k, const struct trial *trial, const struct pack_result *whole) {
    struct pack_result resumed = pack_result_read(trainer, k, trial);
    pack_result_assert_equal(&resumed, whole, trial->name);
    pack_result_free(&resumed);
}

static void killed_at_every_step(void **state) {
    (void)state;
    struct trial trial = stateful_trial(1);
    struct pack_result whole = pack_train_alone(&fixture, &trial);
    for (int32_t cut = 0; cut <= 12; cut++) {
        struct trainer *first = pack_trainer(&fixture, &trial, 1);
        if (cut > 2) { /* an older one lies beside it */
            run(first, cut - 2);
            write_checkpoint(first, 0, "older");
        }
        run(first, cut);
        write_checkpoint(first, 0, "newest");
        double flops = trainer_flops_executed(first, 0);
        trainer_destroy(first);
        assert_int_equal(checkpoint_step(folder, trial.train_key), cut);
        struct trainer *second = pack_trainer(&fixture, &trial, 1);
        assert_true(read_checkpoint(second, 0, "newest"));
        assert_int_equal(trainer_step(second, 0), cut);
        assert_true(trainer_flops_executed(second, 0) == flops);
        run(second, INT32_MAX);
        equal_to(second, 0, &trial, &whole);
        trainer_destroy(second);
        checkpoint_remove(folder);
    }
    pack_result_free(&whole);
}

/* Both trials of a pack are cut at different steps and go on together: the one behind catches up alone. */
static void packed_and_killed_at_every_step(void **state) {
    (void)state;
    struct trial trials[2] = {stateful_trial(1), stateful_trial(2)};
    trials[1].settings.lora_rank = 7;
    trials[1].settings.steps.value = 9;
    struct pack_result whole[2];
    for (int32_t k = 0; k < 2; k++)
        whole[k] = pack_train_alone(&fixture, &trials[k]);
    for (int32_t cut = 0; cut <= 9; cut++) {
        int32_t behind = cut / 2;
        struct trainer *first = pack_trainer(&fixture, trials, 2);
        char folders[2][LVS_PATH_MAX];
        struct lvs_error err = {0};
        for (int32_t k = 0; k < 2; k++) {
            run(first, k == 0 ? behind : cut);
            assert_int_equal(file_join(folders[k], folder, trials[k].name, &err), LVS_OK);
            assert_int_equal(checkpoint_write(folders[k], first, k, NULL, 0, &err), LVS_OK);
        }
        trainer_destroy(first);
        struct trainer *second = pack_trainer(&fixture, trials, 2);
        for (int32_t k = 0; k < 2; k++) {
            bool found;
            void *extra;
            size_t extra_bytes;
            assert_int_equal(checkpoint_read(folders[k], second, k, &found, &extra, &extra_bytes, &err), LVS_OK);
            assert_true(found);
            free(extra);
        }
        assert_int_equal(trainer_step(second, 0), behind);
        assert_int_equal(trainer_step(second, 1), cut);
        run(second, INT32_MAX);
        for (int32_t k = 0; k < 2; k++) {
            equal_to(second, k, &trials[k], &whole[k]);
            file_remove_folder(folders[k]);
        }
        trainer_destroy(second);
    }
    for (int32_t k = 0; k < 2; k++)
        pack_result_free(&whole[k]);
}

/* The pack that goes on pads its ranks to another size; the state is the same. */
static void goes_on_beside_a_larger_rank(void **state) {
    (void)state;
    struct trial trials[2] = {stateful_trial(1), stateful_trial(2)};
    trials[1].settings.lora_rank = 20;
    struct trainer *first = pack_trainer(&fixture, trials, 1);
    run(first, 5);
    write_checkpoint(first, 0, NULL);
    struct trainer *second = pack_trainer(&fixture, trials, 2);
    assert_true(trainer_lora(second)->rank > trainer_lora(first)->rank);
    assert_true(read_checkpoint(second, 0, NULL));
    struct pack_result before = pack_result_read(first, 0, &trials[0]);
    equal_to(second, 0, &trials[0], &before);
    run(second, INT32_MAX);
    assert_int_equal(trainer_step(second, 0), 12);
    pack_result_free(&before);
    trainer_destroy(first);
    trainer_destroy(second);
}

static void other_shapes_and_keys_are_not_taken(void **state) {
    (void)state;
    struct trial trial = stateful_trial(1), other = trial;
    struct trainer *first = pack_trainer(&fixture, &trial, 1);
    run(first, 4);
    write_checkpoint(first, 0, "x");
    other.settings.lora_rank = 5;
    struct trainer *second = pack_trainer(&fixture, &other, 1);
    assert_false(read_checkpoint(second, 0, NULL));
    trainer_destroy(second);
    other = trial;
    other.settings.steps.value = 11;
    second = pack_trainer(&fixture, &other, 1);
    assert_false(read_checkpoint(second, 0, NULL));
    trainer_destroy(second);
    other = trial;
    lvs_copy(other.train_key, sizeof other.train_key, "another key");
    second = pack_trainer(&fixture, &other, 1);
    assert_false(read_checkpoint(second, 0, NULL));
    assert_int_equal(trainer_step(second, 0), 0);
    trainer_destroy(second);
    trainer_destroy(first);
}

static void files_alternate_and_leftovers_go(void **state) {
    (void)state;
    struct trial trial = stateful_trial(1);
    struct trainer *trainer = pack_trainer(&fixture, &trial, 1);
    char path[2][LVS_PATH_MAX], left[LVS_PATH_MAX];
    for (int which = 0; which < 2; which++)
        assert_int_equal(file_join(path[which], folder, which ? "checkpoint.1" : "checkpoint.0", NULL), LVS_OK);
    assert_int_equal(file_join(left, folder, "checkpoint.0.tmp.99999", NULL), LVS_OK);
    assert_int_equal(file_write_whole(left, "x", 1, NULL), LVS_OK);
    char before[2][LVS_HASH_TEXT] = {"", ""};
    for (int32_t step = 0; step < 6; step++) {
        run(trainer, step);
        write_checkpoint(trainer, 0, NULL);
        char after[2][LVS_HASH_TEXT] = {"", ""};
        for (int which = 0; which < 2; which++)
            if (file_exists(path[which])) assert_int_equal(hash_file(path[which], after[which], NULL), LVS_OK);
        assert_string_not_equal(before[step % 2], after[step % 2]);
        assert_string_equal(before[1 - step % 2], after[1 - step % 2]);
        memcpy(before, after, sizeof before);
        assert_int_equal(checkpoint_step(folder, trial.train_key), step);
    }
    assert_false(file_exists(left));
    trainer_destroy(trainer);
}

static void a_folder_that_cannot_be_written_is_said(void **state) {
    (void)state;
    struct trial trial = stateful_trial(1);
    struct trainer *trainer = pack_trainer(&fixture, &trial, 1);
    char path[LVS_PATH_MAX];
    struct lvs_error err = {0};
    assert_int_equal(file_join(path, folder, "file", NULL), LVS_OK);
    assert_int_equal(file_write_whole(path, "x", 1, NULL), LVS_OK);
    assert_int_equal(checkpoint_write(path, trainer, 0, NULL, 0, &err), LVS_OUTPUT);
    assert_non_null(strstr(err.text, path));
    trainer_destroy(trainer);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(killed_at_every_step),
        TEST(packed_and_killed_at_every_step),
        TEST(goes_on_beside_a_larger_rank),
        TEST(other_shapes_and_keys_are_not_taken),
        TEST(files_alternate_and_leftovers_go),
        TEST(a_folder_that_cannot_be_written_is_said),
    };
    return cmocka_run_group_tests_name("train/checkpoint", tests, open_fixture, close_fixture);
}
