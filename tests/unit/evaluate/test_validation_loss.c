/* The loss over windows on a random model: against a softmax over the pass's own logits, for any batch, for the right
 * adapter, with pads counted and not, and with nothing to count. The values of transformers are in tests/golden. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "forecast_fixture.h"

#define CONTEXT 20
#define WINDOWS 7

static struct forecast_fixture fixture;
static struct fixture_adapters adapters;
static int32_t ids[WINDOWS * CONTEXT], labels[WINDOWS * CONTEXT];
static uint8_t is_pad[WINDOWS * CONTEXT];
static const struct window_set windows = {
    .n_windows = WINDOWS, .context = CONTEXT, .ids = ids, .labels = labels, .is_pad = is_pad};

static int open_fixture(void **state) {
    (void)state;
    forecast_fixture_open(&fixture);
    forecast_fixture_add_model(&fixture);
    fixture_adapters_open(&fixture, 2, &adapters);
    for (int i = 0; i < WINDOWS * CONTEXT; i++)
        ids[i] = (i * i + i / 3) % 14;
    for (int i = 0; i < WINDOWS * CONTEXT; i++) {
        labels[i] = i % CONTEXT == CONTEXT - 1 || i % 11 == 0 ? WINDOW_IGNORED : ids[i + 1];
        is_pad[i] = labels[i] != WINDOW_IGNORED && i % CONTEXT > 15;
    }
    return 0;
}

static int close_fixture(void **state) {
    (void)state;
    fixture_adapters_close(&fixture, &adapters);
    forecast_fixture_close(&fixture);
    return 0;
}

static struct evaluated evaluate_adapter(int32_t k) {
    return (struct evaluated){
        .model = fixture.model, .lora = &adapters.lora, .adapters = &adapters.adapters, .adapter = k};
}

static struct loss_metrics measure(const struct evaluated *evaluated, int32_t batch) {
    struct loss_metrics out;
    struct lvs_error err = {0};
    if (validation_loss(evaluated, &windows, 10, batch, &out, &err) != LVS_OK) fail_msg("%s", err.text);
    return out;
}

/* Losses from logits in double, one window at a time. */
static void reference(double *sum, double *sum_masked, int *n, int *n_masked) {
    const struct pass_options options = {.n_slots = 1, .n_sequences = 1, .context = CONTEXT};
    struct pass *pass;
    struct lvs_error err = {0};
    int32_t rows[CONTEXT];
    float *logits = lvs_calloc(CONTEXT * 16, sizeof *logits);
    assert_int_equal(pass_create(fixture.model, &options, &pass, &err), LVS_OK);
    for (int t = 0; t < CONTEXT; t++)
        rows[t] = t;
    *sum = *sum_masked = 0;
    *n = *n_masked = 0;
    for (int w = 0; w < WINDOWS; w++) {
        fixture.compute.backend->upload(fixture.compute.device, pass_ids(pass), ids + w * CONTEXT,
                                        CONTEXT * sizeof *ids);
        pass_forward(pass, NULL);
        assert_int_equal(pass_logits(pass, NULL, rows, CONTEXT, logits, &err), LVS_OK);
        for (int t = 0; t < CONTEXT; t++) {
            int32_t label = labels[w * CONTEXT + t];
            if (label == WINDOW_IGNORED) continue;
            double total = 0;
            for (int v = 0; v < 16; v++)
                total += exp(logits[t * 16 + v]);
            double loss = log(total) - logits[t * 16 + label];
            *sum += loss;
            *n += 1;
            if (is_pad[w * CONTEXT + t]) continue;
            *sum_masked += loss;
            *n_masked += 1;
        }
    }
    free(logits);
    pass_destroy(pass);
}

static void as_from_logits(void **state) {
    (void)state;
    double sum, sum_masked;
    int n, n_masked;
    reference(&sum, &sum_masked, &n, &n_masked);
    const struct evaluated bare = {.model = fixture.model};
    struct loss_metrics out = measure(&bare, 3);
    assert_true(fabs(out.loss - sum / n) < 1e-6);
    assert_true(fabs(out.loss_masked - sum_masked / n_masked) < 1e-6);
    assert_true(fabs(out.nats_per_value - sum_masked / 10) < 1e-5);
    assert_true(n_masked < n && out.loss != out.loss_masked);
}

static void any_batch(void **state) {
    (void)state;
    struct evaluated evaluated = evaluate_adapter(1);
    struct loss_metrics one = measure(&evaluated, 1);
    for (int32_t batch = 2; batch <= 9; batch++) {
        struct loss_metrics out = measure(&evaluated, batch), again = measure(&evaluated, batch);
        assert_true(fabs(out.loss - one.loss) < 1e-6);
        assert_memory_equal(&out, &again, sizeof out);
    }
}

/* Adapter 1 of two gives what it gives when it is the only one. */
static void the_adapter_is_the_one_asked_for(void **state) {
    (void)state;
    struct evaluated first = evaluate_adapter(0), second = evaluate_adapter(1), bare = {.model = fixture.model};
    struct adapters alone = adapters.adapters;
    alone.params += alone.stride;
    alone.scale += 1;
    struct evaluated moved = {.model = fixture.model, .lora = &adapters.lora, .adapters = &alone, .adapter = 0};
    struct loss_metrics a = measure(&first, 4), b = measure(&second, 4), c = measure(&moved, 4), d = measure(&bare, 4);
    assert_true(b.loss == c.loss);
    assert_true(fabs(a.loss - b.loss) > 1e-6 && fabs(a.loss - d.loss) > 1e-6);
}

static void nothing_to_count(void **state) {
    (void)state;
    const struct evaluated bare = {.model = fixture.model};
    struct window_set none = {.context = CONTEXT}, unlabelled = windows;
    struct loss_metrics out;
    int32_t ignored[WINDOWS * CONTEXT];
    assert_int_equal(validation_loss(&bare, &none, 10, 4, &out, NULL), LVS_OK);
    assert_true(isnan(out.loss) && isnan(out.loss_masked) && isnan(out.nats_per_value));
    for (int i = 0; i < WINDOWS * CONTEXT; i++)
        ignored[i] = WINDOW_IGNORED;
    unlabelled.labels = ignored;
    assert_int_equal(validation_loss(&bare, &unlabelled, 10, 4, &out, NULL), LVS_OK);
    assert_true(isnan(out.loss) && isnan(out.loss_masked) && isnan(out.nats_per_value));
    assert_int_equal(validation_loss(&bare, &windows, 0, 4, &out, NULL), LVS_OK);
    assert_true(isfinite(out.loss) && isnan(out.nats_per_value));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_from_logits),
        cmocka_unit_test(any_batch),
        cmocka_unit_test(the_adapter_is_the_one_asked_for),
        cmocka_unit_test(nothing_to_count),
    };
    return cmocka_run_group_tests_name("evaluate/validation_loss", tests, open_fixture, close_fixture);
}
