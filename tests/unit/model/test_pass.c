/* Passes: refusals; a pack against single runs, bit for bit; a pack that shrinks; the walk backward that ends early
 * against one that does not; a head without adapters below it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "lvsweep/strbuf.h"
#include "unit/model/model_files.h"

#define BIT(target) (1u << (target))
#define ALL         (BIT(LORA_TARGET_COUNT) - 1)

enum { CONTEXT = 40, SEQUENCES = 3, SLOTS = 3, SLOT_ROWS = CONTEXT * SEQUENCES };

static struct compute compute;
static struct model *model;

/* Ids and next-token labels of slot s; the last row of a sequence and every ninth are ignored. */
static void slot_batch(int32_t slot, int32_t *ids, int32_t *labels) {
    for (int32_t i = 0; i < SLOT_ROWS; i++)
        ids[i] = (i * (7 + slot) + i * i / 3 + slot) % 14;
    for (int32_t i = 0; i < SLOT_ROWS; i++)
        labels[i] = i % CONTEXT == CONTEXT - 1 || i % 9 == 4 ? LVS_LABEL_IGNORED : ids[i + 1];
}

static void fill_slot(struct pass *pass, int32_t place, int32_t slot) {
    int32_t ids[SLOT_ROWS], labels[SLOT_ROWS], counted = 0;
    slot_batch(slot, ids, labels);
    for (int32_t i = 0; i < SLOT_ROWS; i++)
        counted += labels[i] >= 0;
    float weight = 1.0f / (float)counted;
    int32_t row = place * pass_layout(pass)->slot_rows;
    compute.backend->upload(compute.device, pass_ids(pass) + row, ids, sizeof ids);
    compute.backend->upload(compute.device, pass_labels(pass) + row, labels, sizeof labels);
    compute.backend->upload(compute.device, pass_label_weight(pass) + place, &weight, sizeof weight);
}

static struct pass *make_pass(const struct lora_layout *layout, int32_t slots, bool backward) {
    struct pass_options options = {
        .n_slots = slots, .n_sequences = SEQUENCES, .context = CONTEXT, .backward = backward, .lora = layout};
    struct pass *pass;
    struct lvs_error err;
    ok(pass_create(model, &options, &pass, &err), &err);
    return pass;
}

static void run_pass(struct pass *pass, const struct adapters *adapters, bool backward) {
    struct lvs_error err;
    pass_forward(pass, adapters);
    pass_loss(pass, adapters);
    if (backward) pass_backward(pass, adapters);
    ok(compute.backend->synchronize(compute.device, &err), &err);
}

/* Row losses of the slot at `place`. */
static void read_losses(struct pass *pass, int32_t place, float out[SLOT_ROWS]) {
    compute.backend->download(compute.device, out, pass_row_loss(pass) + place * pass_layout(pass)->slot_rows,
                              SLOT_ROWS * sizeof *out);
}

static float *read_grads(const struct adapter_set *set, int32_t adapter) {
    size_t bytes = (size_t)set->layout.stride * sizeof(float);
    float *grads = lvs_malloc(bytes);
    compute.backend->download(compute.device, grads, set->adapters.grads + adapter * set->layout.stride, bytes);
    return grads;
}

static double largest_difference(const float *a, const float *b, int64_t count, double *largest) {
    double difference = 0;
    *largest = 0;
    for (int64_t i = 0; i < count; i++) {
        difference = fmax(difference, fabs((double)a[i] - (double)b[i]));
        *largest = fmax(*largest, fabs((double)b[i]));
    }
    return difference;
}

/* ---- refusals ---- */

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    struct pass *pass;
    struct lvs_error err;
    struct lora_layout head;
    struct pass_options options = {.n_slots = 1, .n_sequences = 1, .context = model_config(model)->max_position + 1};
    refused(pass_create(model, &options, &pass, &err), LVS_INPUT, &err, "max_position_embeddings");
    options = (struct pass_options){.n_slots = 30000, .n_sequences = 1000, .context = 1000};
    refused(pass_create(model, &options, &pass, &err), LVS_USAGE, &err, "too many for one pass");
    lora_layout_make(model_config(model), model_vocabulary(model), ALL, 8, HEAD_WEIGHT, &head);
    options = (struct pass_options){.n_slots = 2, .n_sequences = 1, .context = 8, .lora = &head};
    refused(pass_create(model, &options, &pass, &err), LVS_USAGE, &err, "head = weight");
    pass = make_pass(NULL, 2, false);
    int32_t slots[3] = {0, 1, 2};
    refused(pass_set_slots(pass, slots, 3, &err), LVS_BUG, &err, "3 slots");
    refused(pass_set_slots(pass, slots, 0, &err), LVS_BUG, &err, "0 slots");
    pass_destroy(pass);
}

/* ---- packs ---- */

/* Slot s of a pack with adapter s gives what the same batch and adapter give alone. */
static void packs_equal_single_runs(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, ALL, 8, HEAD_BIAS, SLOTS);
    struct pass *pack = make_pass(&set.layout, SLOTS, true), *single = make_pass(&set.layout, 1, true);
    struct lvs_error err;
    float packed[SLOTS][SLOT_ROWS], alone[SLOT_ROWS], *packed_grads[SLOTS];
    for (int32_t s = 0; s < SLOTS; s++)
        fill_slot(pack, s, s);
    run_pass(pack, &set.adapters, true);
    for (int32_t s = 0; s < SLOTS; s++) {
        read_losses(pack, s, packed[s]);
        packed_grads[s] = read_grads(&set, s);
    }
    for (int32_t s = 0; s < SLOTS; s++) {
        fill_slot(single, 0, s);
        ok(pass_set_slots(single, &s, 1, &err), &err);
        run_pass(single, &set.adapters, true);
        read_losses(single, 0, alone);
        assert_memory_equal(packed[s], alone, sizeof alone);
        float *grads = read_grads(&set, s);
        assert_memory_equal(packed_grads[s], grads, (size_t)set.layout.n_params * sizeof *grads);
        free(grads);
        free(packed_grads[s]);
    }
    pass_destroy(pack);
    pass_destroy(single);
    adapter_set_free(&set);
}

/* A trial leaves: the others move up and keep their adapters. */
static void packs_shrink(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, ALL, 4, HEAD_FROZEN, SLOTS);
    struct pass *pack = make_pass(&set.layout, SLOTS, true);
    struct lvs_error err;
    float before[SLOT_ROWS], after[SLOT_ROWS];
    for (int32_t s = 0; s < SLOTS; s++)
        fill_slot(pack, s, s);
    run_pass(pack, &set.adapters, true);
    read_losses(pack, 2, before);
    float *grads_before = read_grads(&set, 2);
    compute.backend->fill_zero(compute.device, set.adapters.grads, SLOTS * (size_t)set.layout.stride * sizeof(float));
    int32_t left[2] = {0, 2};
    ok(pass_set_slots(pack, left, 2, &err), &err);
    assert_int_equal(pass_layout(pack)->n_slots, 2);
    fill_slot(pack, 1, 2);
    run_pass(pack, &set.adapters, true);
    read_losses(pack, 1, after);
    float *grads_after = read_grads(&set, 2), *gone = read_grads(&set, 1);
    assert_memory_equal(before, after, sizeof before);
    assert_memory_equal(grads_before, grads_after, (size_t)set.layout.n_params * sizeof *gone);
    for (int64_t i = 0; i < set.layout.n_params; i++)
        assert_true(gone[i] == 0.0f);
    free(grads_before);
    free(grads_after);
    free(gone);
    pass_destroy(pack);
    adapter_set_free(&set);
}

/* A pass that keeps nothing for backward computes the same. */
static void passes_without_backward_compute_the_same(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, ALL, 8, HEAD_BIAS, 1);
    struct pass *keeping = make_pass(&set.layout, 1, true), *light = make_pass(&set.layout, 1, false);
    float a[SLOT_ROWS], b[SLOT_ROWS];
    fill_slot(keeping, 0, 1);
    fill_slot(light, 0, 1);
    run_pass(keeping, &set.adapters, false);
    run_pass(light, &set.adapters, false);
    read_losses(keeping, 0, a);
    read_losses(light, 0, b);
    assert_memory_equal(a, b, sizeof a);
    struct pass_options options = {
        .n_slots = 1, .n_sequences = SEQUENCES, .context = CONTEXT, .backward = true, .lora = &set.layout};
    int64_t bytes = pass_bytes(model_config(model), &options, compute.act_size);
    options.backward = false;
    assert_true(pass_bytes(model_config(model), &options, compute.act_size) * 2 < bytes);
    pass_destroy(keeping);
    pass_destroy(light);
    adapter_set_free(&set);
}

static void adapters_of_zeros_are_the_bare_model(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, ALL, 8, HEAD_FROZEN, 1);
    struct pass *pass = make_pass(&set.layout, 1, false), *bare = make_pass(NULL, 1, false);
    float with[SLOT_ROWS], without[SLOT_ROWS], other[SLOT_ROWS];
    fill_slot(pass, 0, 0);
    fill_slot(bare, 0, 0);
    run_pass(pass, &set.adapters, false);
    read_losses(pass, 0, other);
    run_pass(pass, NULL, false);
    read_losses(pass, 0, with);
    run_pass(bare, NULL, false);
    read_losses(bare, 0, without);
    assert_memory_equal(with, without, sizeof with);
    assert_true(memcmp(with, other, sizeof with) != 0);
    memset(set.host, 0, (size_t)set.layout.stride * sizeof(float));
    adapter_set_upload(&set);
    run_pass(pass, &set.adapters, false);
    read_losses(pass, 0, with);
    assert_memory_equal(with, without, sizeof with);
    pass_destroy(pass);
    pass_destroy(bare);
    adapter_set_free(&set);
}

/* ---- where the walk backward ends ---- */

/* Copies the pairs of `targets` from one layout to another of the same rank. */
static void copy_targets(const struct lora_layout *from, const float *source, const struct lora_layout *to,
                         float *target, uint32_t targets) {
    for (int32_t l = 0; l < from->n_layers; l++)
        for (int32_t t = 0; t < LORA_TARGET_COUNT; t++) {
            if (!(targets >> t & 1u)) continue;
            memcpy(target + l * to->layer_floats + to->site_a[t], source + l * from->layer_floats + from->site_a[t],
                   (size_t)from->rank * (size_t)from->n_in[t] * sizeof *source);
            memcpy(target + l * to->layer_floats + to->site_b[t], source + l * from->layer_floats + from->site_b[t],
                   (size_t)from->rank * (size_t)from->n_out[t] * sizeof *source);
        }
}

/* What lies behind the pairs: bias, head, or nothing. */
static void copy_head(const struct lora_layout *from, const float *source, const struct lora_layout *to,
                      float *target) {
    int64_t first = from->n_layers * from->layer_floats;
    memcpy(target + to->n_layers * to->layer_floats, source + first, (size_t)(from->n_params - first) * sizeof *source);
}

/* Some targets alone, against all targets with zeros in the others: the same model, another way of computing it. */
static void check_targets(uint32_t targets, int32_t head) {
    struct adapter_set few = adapter_set_make(model, targets, 8, head, 1),
                       all = adapter_set_make(model, ALL, 8, head, 1);
    memset(all.host, 0, (size_t)(all.layout.n_layers * all.layout.layer_floats) * sizeof(float));
    copy_targets(&few.layout, few.host, &all.layout, all.host, targets);
    copy_head(&few.layout, few.host, &all.layout, all.host);
    adapter_set_upload(&all);
    struct pass *short_walk = make_pass(&few.layout, 1, true), *long_walk = make_pass(&all.layout, 1, true);
    fill_slot(short_walk, 0, 2);
    fill_slot(long_walk, 0, 2);
    run_pass(short_walk, &few.adapters, true);
    run_pass(long_walk, &all.adapters, true);
    float *found = read_grads(&few, 0), *whole = read_grads(&all, 0);
    float *expected = lvs_calloc((size_t)few.layout.stride, sizeof *expected);
    copy_targets(&all.layout, whole, &few.layout, expected, targets);
    copy_head(&all.layout, whole, &few.layout, expected);
    double largest, difference = largest_difference(found, expected, few.layout.n_params, &largest);
    if (!(largest > 0 && difference <= 2e-6 * largest))
        fail_msg("targets %x, head %d: %g of %g", targets, head, difference, largest);
    free(found);
    free(whole);
    free(expected);
    pass_destroy(short_walk);
    pass_destroy(long_walk);
    adapter_set_free(&few);
    adapter_set_free(&all);
}

static void short_walks_give_the_same_gradients(void **state) {
    (void)state;
    for (int32_t t = 0; t < LORA_TARGET_COUNT; t++)
        check_targets(BIT(t), HEAD_FROZEN);
    check_targets(BIT(LORA_TARGET_Q) | BIT(LORA_TARGET_V), HEAD_FROZEN);
    check_targets(BIT(LORA_TARGET_O) | BIT(LORA_TARGET_DOWN), HEAD_BIAS);
    check_targets(BIT(LORA_TARGET_GATE) | BIT(LORA_TARGET_UP) | BIT(LORA_TARGET_DOWN), HEAD_FROZEN);
    check_targets(BIT(LORA_TARGET_K) | BIT(LORA_TARGET_UP), HEAD_WEIGHT);
}

/* Only a bias: no layer is walked, and its gradient is that of a run that walks. */
static void a_bias_alone_trains(void **state) {
    (void)state;
    check_targets(0, HEAD_BIAS);
}

/* The trained head's gradient against a finite difference of the loss, with adapters below it. */
static void trained_heads_match_finite_differences(void **state) {
    (void)state;
    struct adapter_set set = adapter_set_make(model, ALL, 4, HEAD_WEIGHT, 1);
    struct pass *pass = make_pass(&set.layout, 1, true);
    fill_slot(pass, 0, 1);
    run_pass(pass, &set.adapters, true);
    float *grads = read_grads(&set, 0), losses[SLOT_ROWS];
    int64_t count = (int64_t)set.layout.n_vocabulary * set.layout.hidden, step = count / 5;
    for (int64_t i = 3; i < count; i += step) {
        double sums[2];
        const float epsilon = 0.005f;
        for (int side = 0; side < 2; side++) {
            float *value = &set.host[set.layout.head_offset + i], kept = *value;
            *value += side ? epsilon : -epsilon;
            adapter_set_upload(&set);
            *value = kept;
            run_pass(pass, &set.adapters, false);
            read_losses(pass, 0, losses);
            sums[side] = 0;
            int32_t counted = 0;
            for (int32_t r = 0; r < SLOT_ROWS; r++) {
                sums[side] += (double)losses[r];
                counted += losses[r] != 0.0f;
            }
            sums[side] /= counted;
        }
        double numeric = (sums[1] - sums[0]) / (2 * (double)epsilon);
        double found = (double)grads[set.layout.head_offset + i];
        if (fabs(numeric - found) > 2e-3 * fmax(0.1, fabs(numeric)))
            fail_msg("number %lld: %g, finite difference %g", (long long)i, found, numeric);
    }
    free(grads);
    pass_destroy(pass);
    adapter_set_free(&set);
}

static int open_model(void **state) {
    (void)state;
    compute = cpu_compute(2);
    model = quickstart_model(&compute);
    return 0;
}

static int close_model(void **state) {
    (void)state;
    model_close(model);
    compute_close(&compute);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(packs_equal_single_runs),
        cmocka_unit_test(packs_shrink),
        cmocka_unit_test(passes_without_backward_compute_the_same),
        cmocka_unit_test(adapters_of_zeros_are_the_bare_model),
        cmocka_unit_test(short_walks_give_the_same_gradients),
        cmocka_unit_test(a_bias_alone_trains),
        cmocka_unit_test(trained_heads_match_finite_differences),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
