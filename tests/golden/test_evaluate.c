/* Evaluation against transformers on the embedded checkpoint: the loss of windows padded right, by window and as means
 * with pads counted and masked, and greedy forecasts of recorded prompts, with and without an adapter.
 * Limits: losses 1e-5 nats a token; forecasts equal as long as the recorded largest two logits are 1e-4 apart. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "evaluate_internal.h"
#include "golden/golden_files.h"

#define LIMIT       1e-5
#define SAFE_GAP    1e-4f
#define ALL_TARGETS ((1u << LORA_TARGET_COUNT) - 1)
#define BATCH       4

struct golden_evaluation {
    struct golden_model model;
    struct golden_adapter adapter;
    struct evaluated base, adapted;
    struct tokenizer tokenizer;
};

static int open_all(void **state) {
    static struct golden_evaluation all;
    struct lvs_error err = {0};
    all.model = golden_model_open();
    all.adapter = golden_adapter_make(&all.model, "adapter_all", ALL_TARGETS, 4, 8, HEAD_FROZEN);
    all.base = (struct evaluated){.model = all.model.model};
    all.adapted = (struct evaluated){
        .model = all.model.model, .lora = &all.adapter.layout, .adapters = &all.adapter.adapters, .adapter = 0};
    golden_ok(tokenizer_read(LVS_SOURCE_DIR "/sweeps/quickstart/model", false, model_config(all.model.model)->pad_id,
                             &all.tokenizer, &err),
              &err);
    *state = &all;
    return 0;
}

static int close_all(void **state) {
    struct golden_evaluation *all = *state;
    golden_adapter_free(&all->adapter);
    golden_model_close(&all->model);
    return 0;
}

/* ---- losses ---- */

static void make_windows(const struct golden *golden, int32_t padding, struct window_set *windows) {
    struct token_set tokens = {0};
    int64_t n_offsets;
    struct lvs_error err = {0};
    int32_t *offset = golden_integers(golden, "series_offset", &n_offsets);
    tokens.n_series = (int32_t)n_offsets - 1;
    tokens.ids = golden_integers(golden, "series_ids", NULL);
    tokens.offset = lvs_malloc((size_t)n_offsets * sizeof *tokens.offset);
    for (int64_t i = 0; i < n_offsets; i++)
        tokens.offset[i] = offset[i];
    const int32_t context = (int32_t)golden_number("validation", "context");
    golden_ok(window_set_make(&tokens, context, context, padding, (int32_t)golden_number("validation", "pad_id"),
                              windows, &err),
              &err);
    free(offset);
    token_set_free(&tokens);
    int64_t n_ids;
    int32_t *ids = golden_integers(golden, "input_ids", &n_ids);
    assert_int_equal(n_ids, (int64_t)windows->n_windows * context);
    assert_memory_equal(ids, windows->ids, (size_t)n_ids * sizeof *ids);
    free(ids);
}

/* Recorded sums of one kind against those of every window, found as sums or as masked sums. */
static void check_windows(const struct golden *golden, const char *model, const char *kind,
                          const struct window_loss *losses, int32_t n_windows, bool masked) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s.loss_sum", model, kind);
    float *sums = golden_floats(golden, name, NULL);
    snprintf(name, sizeof name, "%s.%s.n_labels", model, kind);
    int32_t *counts = golden_integers(golden, name, NULL);
    double worst = 0;
    for (int32_t w = 0; w < n_windows; w++) {
        double sum = masked ? losses[w].sum_masked : losses[w].sum;
        assert_int_equal(masked ? losses[w].n_labels_masked : losses[w].n_labels, counts[w]);
        worst = fmax(worst, fabs(sum - (double)sums[w]) / (counts[w] ? counts[w] : 1));
    }
    printf("%s %s: worst window %.1e nats a token\n", model, kind, worst);
    assert_true(worst <= LIMIT);
    free(sums);
    free(counts);
}

static void check_validation(const struct evaluated *evaluated, const char *model) {
    struct golden golden = golden_open("validation");
    struct window_set counted, masked;
    make_windows(&golden, PADDING_RIGHT_COUNTED, &counted);
    make_windows(&golden, PADDING_RIGHT_MASKED, &masked);
    struct window_loss *losses = lvs_calloc((size_t)counted.n_windows, sizeof *losses);
    struct lvs_error err = {0};
    golden_ok(window_losses(evaluated, &counted, BATCH, losses, &err), &err);
    check_windows(&golden, model, "counted", losses, counted.n_windows, false);
    check_windows(&golden, model, "masked", losses, counted.n_windows, true);
    golden_ok(window_losses(evaluated, &masked, BATCH, losses, &err), &err);
    check_windows(&golden, model, "masked", losses, masked.n_windows, false);
    char path[64];
    snprintf(path, sizeof path, "%s.counted", model);
    double mean_counted = golden_number("validation", path);
    snprintf(path, sizeof path, "%s.masked", model);
    double mean_masked = golden_number("validation", path);
    struct loss_metrics metrics;
    golden_ok(validation_loss(evaluated, &counted, 500, BATCH, &metrics, &err), &err);
    golden_check_number("loss, pads counted", metrics.loss, mean_counted, LIMIT);
    golden_check_number("loss, pads masked", metrics.loss_masked, mean_masked, LIMIT);
    golden_ok(validation_loss(evaluated, &masked, 500, BATCH, &metrics, &err), &err);
    golden_check_number("loss of masked windows", metrics.loss, mean_masked, LIMIT);
    assert_true(metrics.loss == metrics.loss_masked);
    free(losses);
    window_set_free(&counted);
    window_set_free(&masked);
    golden_close(&golden);
}

static void validation_of_the_checkpoint(void **state) {
    struct golden_evaluation *all = *state;
    check_validation(&all->base, "base");
}

static void validation_with_an_adapter(void **state) {
    struct golden_evaluation *all = *state;
    check_validation(&all->adapted, "adapter_all");
}

/* ---- forecasts ---- */

/* Text of ids; free it. */
static char *text_of(const struct tokenizer *tokenizer, const int32_t *ids, int64_t count) {
    struct strbuf text;
    strbuf_init(&text);
    tokenizer_decode(tokenizer, ids, (int32_t)count, &text);
    return strbuf_take(&text);
}

/* A series whose text begins with the prompt, followed by made-up points of ten characters each. */
static void make_series(const char *prompt, const struct text_format *format, int32_t n_more, struct series_set *set) {
    int32_t n_points = 0;
    for (const char *at = prompt; *at; at++)
        n_points += *at == ';';
    *set = (struct series_set){.n_series = 1, .n_time = n_points + n_more, .n_channel = 2};
    set->values = lvs_calloc((size_t)set->n_time * 2, sizeof *set->values);
    set->id = lvs_calloc(1, sizeof *set->id);
    struct text_decoded decoded;
    text_decode(format, prompt, strlen(prompt), n_points, set->values, &decoded);
    assert_true(decoded.success);
    for (int32_t i = n_points * 2; i < set->n_time * 2; i++)
        set->values[i] = 1;
}

/* Recorded text up to the first token whose choice was not safe. */
static size_t safe_length(const struct golden *golden, const char *model, int prompt, int64_t count) {
    char name[64];
    snprintf(name, sizeof name, "%s.gap_%d", model, prompt);
    float *gap = golden_floats(golden, name, NULL);
    size_t length = 0;
    while (length < (size_t)count && gap[length] > SAFE_GAP)
        length++;
    free(gap);
    return length;
}

static void check_forecast(const struct golden_evaluation *all, const struct evaluated *evaluated, const char *model,
                           int prompt) {
    struct golden golden = golden_open("greedy");
    const struct text_format format = {.decimals = 2, .n_channel = 2, .decimal_point = true};
    char name[64];
    int64_t n_prompt, n_new;
    snprintf(name, sizeof name, "prompt_%d", prompt);
    int32_t *ids = golden_integers(&golden, name, &n_prompt);
    char *text = text_of(&all->tokenizer, ids, n_prompt);
    free(ids);
    snprintf(name, sizeof name, "%s.ids_%d", model, prompt);
    ids = golden_integers(&golden, name, &n_new);
    char *recorded = text_of(&all->tokenizer, ids, n_new);
    free(ids);
    struct series_set set;
    make_series(text, &format, (int32_t)n_new / 10 + 1, &set);
    double unit[2] = {1, 1};
    const struct scaling scaling = {.n_series = 1, .n_channel = 2, .factor = unit};
    const struct settings settings = {
        .batch = BATCH,
        .history = {.unit = AMOUNT_POINTS, .value = set.n_time - (double)n_new / 10 - 1},
        .horizon = {.unit = AMOUNT_TOKENS, .value = (double)n_new},
        .decoding = DECODING_GREEDY,
        .temperature = 1,
        .top_p = 1,
        .repetition_penalty = 1,
        .samples = 1,
    };
    const int32_t row = 0;
    const struct forecast_task task = {.set = &set,
                                       .scaling = &scaling,
                                       .format = &format,
                                       .tokenizer = &all->tokenizer,
                                       .rows = &row,
                                       .n_rows = 1,
                                       .settings = &settings};
    struct forecast_set forecast;
    struct lvs_error err = {0};
    golden_ok(forecast_make(evaluated, &task, false, &forecast, &err), &err);
    assert_int_equal(forecast.n_prompt_tokens, n_prompt);
    double values[64];
    struct text_decoded decoded;
    assert_in_range(forecast.horizon, 1, 32);
    size_t length = safe_length(&golden, model, prompt, n_new);
    text_decode(&format, recorded, length, forecast.horizon, values, &decoded);
    int32_t n_points = forecast.horizon - decoded.n_missing, n_equal = 0;
    for (int32_t v = 0; v < n_points * 2; v++)
        n_equal += forecast.predicted[v] == values[v] || (isnan(forecast.predicted[v]) && isnan(values[v]));
    printf("%s, prompt %d: %d of %d values equal (%zu of %lld tokens safe)\n", model, prompt, n_equal, n_points * 2,
           length, (long long)n_new);
    assert_int_equal(n_equal, n_points * 2);
    assert_true(n_points >= 3 || length < (size_t)n_new);
    forecast_set_free(&forecast);
    free(set.values);
    free(set.id);
    free(text);
    free(recorded);
    golden_close(&golden);
}

static void greedy_forecasts(void **state) {
    struct golden_evaluation *all = *state;
    for (int prompt = 0; prompt < 3; prompt++) {
        check_forecast(all, &all->base, "base", prompt);
        check_forecast(all, &all->adapted, "adapter_all", prompt);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(validation_of_the_checkpoint),
        cmocka_unit_test(validation_with_an_adapter),
        cmocka_unit_test(greedy_forecasts),
    };
    return cmocka_run_group_tests_name("golden/evaluate", tests, open_all, close_all);
}
