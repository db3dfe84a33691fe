/* What a head of the text's rows leaves out, against probabilities from the whole model's own logits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "forecast_fixture.h"

#define CONTEXT  20
#define WINDOWS  5
#define N_KEPT   7
#define N_WHOLE  16
#define N_CHOSEN 3

static struct forecast_fixture fixture;
static struct fixture_adapters adapters;
static struct model *text;
static const int32_t kept[N_KEPT] = {14, 2, 5, 3, 11, 9, 6}, chosen[N_CHOSEN] = {4, 0, 2};
static int32_t ids[WINDOWS * CONTEXT], labels[WINDOWS * CONTEXT];
static const struct window_set windows = {.n_windows = WINDOWS, .context = CONTEXT, .ids = ids, .labels = labels};

static int open_fixture(void **state) {
    (void)state;
    struct lvs_error err = {0};
    forecast_fixture_open(&fixture);
    forecast_fixture_add_model(&fixture);
    fixture_adapters_open(&fixture, 2, &adapters);
    if (model_open_rows(fixture.model, kept, N_KEPT, &text, &err) != LVS_OK) fail_msg("%s", err.text);
    for (int i = 0; i < WINDOWS * CONTEXT; i++)
        ids[i] = (i * i + i / 3) % N_KEPT;
    for (int i = 0; i < WINDOWS * CONTEXT; i++)
        labels[i] = i % CONTEXT == CONTEXT - 1 || i % 11 == 0 ? WINDOW_IGNORED : ids[i + 1];
    return 0;
}

static int close_fixture(void **state) {
    (void)state;
    model_close(text);
    fixture_adapters_close(&fixture, &adapters);
    forecast_fixture_close(&fixture);
    return 0;
}

/* −log of the mass that the whole softmax gives to the kept rows at every label. */
static void reference(const struct evaluated *evaluated, double *mean, double *largest) {
    const struct pass_options options = {
        .n_slots = 1, .n_sequences = 1, .context = CONTEXT, .lora = evaluated->adapters ? evaluated->lora : NULL};
    struct pass *pass;
    struct lvs_error err = {0};
    int32_t rows[CONTEXT], whole[CONTEXT], n = 0;
    float logits[CONTEXT * N_WHOLE];
    assert_int_equal(pass_create(fixture.model, &options, &pass, &err), LVS_OK);
    *mean = 0;
    *largest = -1;
    for (int c = 0; c < N_CHOSEN; c++) {
        for (int t = 0; t < CONTEXT; t++) {
            rows[t] = t;
            whole[t] = kept[ids[chosen[c] * CONTEXT + t]];
        }
        fixture.compute.backend->upload(fixture.compute.device, pass_ids(pass), whole, sizeof whole);
        pass_forward(pass, evaluated->adapters);
        assert_int_equal(pass_logits(pass, evaluated->adapters, rows, CONTEXT, logits, &err), LVS_OK);
        for (int t = 0; t < CONTEXT; t++) {
            double all = 0, some = 0;
            if (labels[chosen[c] * CONTEXT + t] == WINDOW_IGNORED) continue;
            for (int v = 0; v < N_WHOLE; v++)
                all += exp((double)logits[t * N_WHOLE + v]);
            for (int i = 0; i < N_KEPT; i++)
                some += exp((double)logits[t * N_WHOLE + kept[i]]);
            *mean += log(all / some);
            *largest = fmax(*largest, log(all / some));
            n++;
        }
    }
    *mean /= n;
    pass_destroy(pass);
}

static void the_gap_is_minus_log_of_the_mass(void **state) {
    (void)state;
    for (int trained = 0; trained < 2; trained++) {
        struct evaluated whole = {.model = fixture.model}, some = {.model = text};
        struct lora_layout lora = adapters.lora;
        lora.n_vocabulary = N_KEPT;
        if (trained) { /* a frozen head: the same parameters under both */
            whole.lora = &adapters.lora;
            some.lora = &lora;
            whole.adapters = some.adapters = &adapters.adapters;
        }
        double mean, largest;
        struct head_gap gap;
        struct lvs_error err = {0};
        reference(&whole, &mean, &largest);
        if (head_gap_measure(&whole, &some, kept, &windows, chosen, N_CHOSEN, &gap, &err) != LVS_OK)
            fail_msg("%s", err.text);
        assert_true(mean > 0.1 && largest > mean);
        assert_true(fabs(gap.mean - mean) < 2e-6);
        assert_true(fabs(gap.largest - largest) < 5e-6);
    }
}

static void nothing_to_count_is_unknown(void **state) {
    (void)state;
    struct evaluated whole = {.model = fixture.model}, some = {.model = text};
    struct head_gap gap;
    struct lvs_error err = {0};
    int32_t none[CONTEXT];
    for (int t = 0; t < CONTEXT; t++)
        none[t] = WINDOW_IGNORED;
    struct window_set unlabelled = {.n_windows = 1, .context = CONTEXT, .ids = ids, .labels = none};
    const int32_t first = 0;
    assert_int_equal(head_gap_measure(&whole, &some, kept, &unlabelled, &first, 1, &gap, &err), LVS_OK);
    assert_true(isnan(gap.mean) && isnan(gap.largest));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gap_is_minus_log_of_the_mass),
        cmocka_unit_test(nothing_to_count_is_unknown),
    };
    return cmocka_run_group_tests_name("evaluate/head_gap", tests, open_fixture, close_fixture);
}
