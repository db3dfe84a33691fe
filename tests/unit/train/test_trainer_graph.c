/* How the trainer uses recorded steps, on the CPU behind a table that pretends to record: what would change the trial's
 * state is held back between begin and end, and a launch only counts. So numbers are checked where recording fails, and
 * the protocol where it works; the numbers of real graphs are checked by test_trainer on a GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "pack_fixture.h"

static struct {
    const struct backend *own;
    struct backend table;
    bool recording, fails;
    int n_begun, n_made, n_destroyed, n_launched, n_updates;
} fake;

static int graph_object;

static void fake_begin(struct device *device) {
    (void)device;
    assert_false(fake.recording);
    fake.recording = true;
    fake.n_begun++;
}

static enum lvs_status fake_end(struct device *device, struct device_graph **out, struct lvs_error *err) {
    (void)device;
    assert_true(fake.recording);
    fake.recording = false;
    if (fake.fails) return lvs_fail(err, LVS_LAUNCH, "this table refuses to record");
    fake.n_made++;
    *out = (struct device_graph *)&graph_object;
    return LVS_OK;
}

static void fake_launch(struct device *device, struct device_graph *graph) {
    (void)device;
    assert_ptr_equal(graph, &graph_object);
    assert_int_equal(fake.n_made, fake.n_destroyed + 1); /* the one alive */
    fake.n_launched++;
}

static void fake_destroy(struct device *device, struct device_graph *graph) {
    (void)device;
    assert_ptr_equal(graph, &graph_object);
    fake.n_destroyed++;
}

static void fake_adam(struct device *device, const struct pack_layout *layout, const struct optimizer_call *call) {
    if (fake.recording) return;
    fake.n_updates++;
    fake.own->adam(device, layout, call);
}

static void fake_advance(struct device *device, const struct pack_layout *layout, int32_t *step) {
    if (!fake.recording) fake.own->step_advance(device, layout, step);
}

static void fake_reduce(struct device *device, const struct pack_layout *layout, const float *row_loss,
                        const float *label_weight, const int32_t *step, int32_t table_stride, float *table) {
    if (!fake.recording) fake.own->loss_reduce(device, layout, row_loss, label_weight, step, table_stride, table);
}

static const struct backend *wrap(const struct backend *own) {
    memset(&fake, 0, sizeof fake);
    fake.own = own;
    fake.table = *own;
    fake.table.graph_begin = fake_begin;
    fake.table.graph_end = fake_end;
    fake.table.graph_launch = fake_launch;
    fake.table.graph_destroy = fake_destroy;
    fake.table.adam = fake_adam;
    fake.table.step_advance = fake_advance;
    fake.table.loss_reduce = fake_reduce;
    return &fake.table;
}

static struct trainer *run_pack(const struct pack_fixture *fixture, struct trial trials[3], int32_t until) {
    for (int32_t k = 0; k < 3; k++)
        trials[k] = pack_trial(k);
    trials[1].settings.steps.value = 7;
    struct trainer *trainer = pack_trainer(fixture, trials, 3);
    struct lvs_error err = {0};
    if (trainer_run(trainer, until, NULL, NULL, &err) != LVS_OK) fail_msg("%s", err.text);
    return trainer;
}

/* 12, 7 and 12 steps: one step as it is and six launches, then again for the five steps of the two that are left. */
static void one_recording_a_pack(void **state) {
    (void)state;
    struct pack_fixture fixture;
    struct trial trials[3];
    pack_fixture_open_wrapped(&fixture, 1, wrap);
    struct trainer *trainer = run_pack(&fixture, trials, INT32_MAX);
    assert_int_equal(trainer_step(trainer, 0), 12);
    assert_int_equal(trainer_step(trainer, 1), 7);
    assert_int_equal(fake.n_begun, 2);
    assert_int_equal(fake.n_made, 2);
    assert_int_equal(fake.n_updates, 2);
    assert_int_equal(fake.n_launched, 6 + 4);
    assert_int_equal(fake.n_destroyed, 1);
    trainer_destroy(trainer);
    assert_int_equal(fake.n_destroyed, 2);
    pack_fixture_close(&fixture);
}

/* Pauses of the same pack go on with the recording they have. */
static void a_pause_keeps_the_recording(void **state) {
    (void)state;
    struct pack_fixture fixture;
    struct trial trials[3];
    pack_fixture_open_wrapped(&fixture, 1, wrap);
    struct trainer *trainer = run_pack(&fixture, trials, 2);
    for (int32_t until = 3; until <= 6; until++)
        assert_int_equal(trainer_run(trainer, until, NULL, NULL, NULL), LVS_OK);
    assert_int_equal(fake.n_begun, 1);
    assert_int_equal(fake.n_updates, 1);
    assert_int_equal(fake.n_launched, 5);
    trainer_destroy(trainer);
    pack_fixture_close(&fixture);
}

static void a_failed_recording_costs_no_bit(void **state) {
    (void)state;
    struct pack_fixture plain, refusing;
    struct trial trials[3];
    pack_fixture_open(&plain, 1);
    pack_fixture_open_wrapped(&refusing, 1, wrap);
    fake.fails = true;
    struct trainer *expected = run_pack(&plain, trials, INT32_MAX), *found = run_pack(&refusing, trials, INT32_MAX);
    assert_int_equal(fake.n_begun, 1); /* not tried again */
    assert_int_equal(fake.n_updates, 12);
    assert_int_equal(fake.n_launched, 0);
    for (int32_t k = 0; k < 3; k++) {
        struct pack_result a = pack_result_read(expected, k, &trials[k]), b = pack_result_read(found, k, &trials[k]);
        pack_result_assert_equal(&a, &b, trials[k].name);
        pack_result_free(&a);
        pack_result_free(&b);
    }
    trainer_destroy(expected);
    trainer_destroy(found);
    pack_fixture_close(&plain);
    pack_fixture_close(&refusing);
}

int main(void) {
    setenv("LVSWEEP_LOG", "error", 1); /* a refused recording is warned of */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_recording_a_pack),
        cmocka_unit_test(a_pause_keeps_the_recording),
        cmocka_unit_test(a_failed_recording_costs_no_bit),
    };
    return cmocka_run_group_tests_name("train/trainer_graph", tests, NULL, NULL);
}
