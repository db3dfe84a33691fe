/* Forecasts: refusals first; then, with the embedded checkpoint, whose text can be read, that a series' forecast does
 * not depend on its neighbours or on the number of samples, that samples follow the seed, that a constrained forecast
 * of a random model has only the format's characters, and that the loss of the continuation is the one of its own
 * windows. The ids of transformers are in tests/golden. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "forecast_fixture.h"

static struct forecast_fixture fixture;
static struct fixture_adapters adapters;

static int open_random(void **state) {
    (void)state;
    forecast_fixture_open(&fixture);
    forecast_fixture_add_model(&fixture);
    fixture_adapters_open(&fixture, 2, &adapters);
    return 0;
}

static int open_checkpoint(void **state) {
    (void)state;
    forecast_fixture_open(&fixture);
    forecast_fixture_add_checkpoint(&fixture);
    fixture_adapters_open(&fixture, 2, &adapters);
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

static struct forecast_set make(const struct evaluated *evaluated, bool cross_entropy) {
    struct forecast_set set;
    struct lvs_error err = {0};
    if (forecast_make(evaluated, &fixture.task, cross_entropy, &set, &err) != LVS_OK) fail_msg("%s", err.text);
    return set;
}

static int32_t count_read(const struct forecast_set *set) {
    int32_t n = 0;
    for (int64_t i = 0; i < (int64_t)set->samples * set->n_series * set->horizon * set->n_channel; i++)
        n += isfinite(set->predicted[i]) != 0;
    return n;
}

static void too_long_is_said_in_words(void **state) {
    (void)state;
    const struct evaluated bare = {.model = fixture.model};
    struct forecast_set set;
    struct lvs_error err = {0};
    fixture.settings.history = (struct amount){.unit = AMOUNT_POINTS, .value = 1};
    fixture.format.decimals = 6;
    assert_int_equal(forecast_make(&bare, &fixture.task, false, &set, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "192 positions"));
    assert_null(set.rows);
    fixture.format.decimals = 2;
    fixture.settings.history = (struct amount){.unit = AMOUNT_POINTS, .value = 12};
    assert_int_equal(forecast_make(&bare, &fixture.task, false, &set, &err), LVS_USAGE);
    assert_null(set.rows);
}

static void no_series_is_no_error(void **state) {
    (void)state;
    const struct evaluated bare = {.model = fixture.model};
    fixture.task.n_rows = 0;
    struct forecast_set set = make(&bare, true);
    assert_int_equal(set.n_series, 0);
    forecast_set_free(&set);
}

static void take_share(void *context, double share) {
    double *last = context;
    assert_true(share > *last && share <= 1);
    *last = share;
}

static void progress_rises_to_all(void **state) {
    (void)state;
    const struct evaluated bare = {.model = fixture.model};
    double last = 0;
    fixture.task.progress = take_share;
    fixture.task.context = &last;
    struct forecast_set set = make(&bare, false);
    assert_true(last == 1);
    forecast_set_free(&set);
}

/* All six together, and each one alone: the same values and counts to the bit. */
static void neighbours_change_nothing(void **state) {
    (void)state;
    for (int32_t adapter = 0; adapter < 2; adapter++) {
        fixture.settings.constrained = 1;
        fixture.settings.decoding = DECODING_GREEDY;
        const struct evaluated evaluated = evaluate_adapter(adapter);
        struct forecast_set all = make(&evaluated, true);
        assert_true(count_read(&all) > FIXTURE_SERIES * 6);
        const size_t block = (size_t)all.horizon * 2 * sizeof(double);
        int64_t prompts = 0, new_tokens = 0;
        for (int32_t s = 0; s < FIXTURE_SERIES; s++) {
            fixture.task.rows = &fixture.rows[s];
            fixture.task.n_rows = 1;
            struct forecast_set one = make(&evaluated, true);
            assert_int_equal(one.horizon, all.horizon);
            assert_memory_equal(one.predicted, all.predicted + (int64_t)s * all.horizon * 2, block);
            assert_memory_equal(one.observed, all.observed + (int64_t)s * all.horizon * 2, block);
            assert_memory_equal(&one.decoded[0], &all.decoded[s], sizeof *one.decoded);
            assert_true(fabs(one.cross_entropy[0] - all.cross_entropy[s]) < 1e-6);
            prompts += one.n_prompt_tokens;
            new_tokens += one.n_new_tokens;
            forecast_set_free(&one);
        }
        assert_int_equal(prompts, all.n_prompt_tokens);
        assert_int_equal(new_tokens, all.n_new_tokens);
        fixture.task.rows = fixture.rows;
        fixture.task.n_rows = FIXTURE_SERIES;
        forecast_set_free(&all);
    }
}

static void tokens_are_bounded(void **state) {
    (void)state;
    const struct evaluated bare = {.model = fixture.model};
    fixture.settings.history = (struct amount){.unit = AMOUNT_TOKENS_PERCENT, .value = 70};
    fixture.settings.horizon = (struct amount){.unit = AMOUNT_TOKENS, .value = 21};
    struct forecast_set set = make(&bare, true);
    assert_true(set.n_new_tokens <= FIXTURE_SERIES * 21 && set.n_new_tokens >= FIXTURE_SERIES);
    for (int s = 0; s < FIXTURE_SERIES; s++)
        assert_true(set.cross_entropy[s] > 0 && set.cross_entropy[s] < log(16)); /* better than a guess */
    struct forecast_metrics metrics;
    forecast_measure(&set, &fixture.scaling, &metrics, NULL);
    assert_true(isfinite(metrics.cross_entropy) && isfinite(metrics.success_rate));
    forecast_set_free(&set);
}

static void samples_follow_the_seed(void **state) {
    (void)state;
    const struct evaluated evaluated = evaluate_adapter(0);
    fixture.settings.decoding = DECODING_SAMPLE;
    fixture.settings.temperature = 0.9;
    fixture.settings.top_p = 0.95;
    fixture.settings.samples = 5;
    fixture.settings.constrained = 1;
    fixture.settings.seed = 3;
    struct forecast_set first = make(&evaluated, false), again = make(&evaluated, false);
    const size_t bytes = (size_t)first.samples * FIXTURE_SERIES * (size_t)first.horizon * 2 * sizeof(double);
    assert_int_equal(first.samples, 5);
    assert_memory_equal(first.predicted, again.predicted, bytes);
    assert_true(isnan(first.cross_entropy[0]));
    fixture.settings.seed = 4;
    struct forecast_set other = make(&evaluated, false);
    assert_memory_not_equal(first.predicted, other.predicted, bytes);
    const size_t sample = bytes / 5;
    assert_memory_not_equal(first.predicted, (char *)first.predicted + sample, sample);
    struct forecast_metrics metrics;
    forecast_measure(&first, &fixture.scaling, &metrics, NULL);
    assert_true(metrics.n_series == FIXTURE_SERIES && metrics.success_rate >= 0 && metrics.success_rate <= 1);
    forecast_set_free(&first);
    forecast_set_free(&again);
    forecast_set_free(&other);
}

/* Greedy samples are all what one alone would be. */
static void greedy_samples_are_equal(void **state) {
    (void)state;
    const struct evaluated evaluated = evaluate_adapter(1);
    struct forecast_set one = make(&evaluated, false);
    fixture.settings.samples = 3;
    struct forecast_set set = make(&evaluated, false);
    const size_t sample = (size_t)FIXTURE_SERIES * (size_t)set.horizon * 2 * sizeof(double);
    assert_true(count_read(&one) > FIXTURE_SERIES * 6);
    for (int s = 0; s < 3; s++)
        assert_memory_equal(one.predicted, (char *)set.predicted + (size_t)s * sample, sample);
    assert_int_equal(set.n_prompt_tokens, one.n_prompt_tokens); /* prefilled once */
    assert_int_equal(set.n_new_tokens, 3 * one.n_new_tokens);
    forecast_set_free(&one);
    forecast_set_free(&set);
}

/* 500 samples of six series are more sequences than one cache takes: the second group goes on where the first ends. */
static void groups_change_nothing(void **state) {
    (void)state;
    const struct evaluated bare = {.model = fixture.model};
    fixture.settings.horizon = (struct amount){.unit = AMOUNT_TOKENS, .value = 20};
    fixture.settings.constrained = 1;
    struct forecast_set one = make(&bare, false);
    fixture.settings.samples = 500;
    struct forecast_set set = make(&bare, false);
    assert_int_equal(set.n_prompt_tokens, one.n_prompt_tokens);
    assert_int_equal(set.n_new_tokens, 500 * one.n_new_tokens);
    for (int32_t sample = 0; sample < 500; sample++) {
        int64_t at = (int64_t)sample * FIXTURE_SERIES;
        assert_memory_equal(set.decoded + at, one.decoded, FIXTURE_SERIES * sizeof *one.decoded);
        assert_memory_equal(set.predicted + at * set.horizon * 2, one.predicted,
                            (size_t)(FIXTURE_SERIES * set.horizon * 2) * sizeof(double));
    }
    forecast_set_free(&one);
    forecast_set_free(&set);
}

/* A random model left alone ends its text early now and then; held to the format's characters it cannot. */
static void constrained_has_only_the_formats_characters(void **state) {
    (void)state;
    const struct evaluated bare = {.model = fixture.model};
    fixture.settings.decoding = DECODING_SAMPLE;
    fixture.settings.horizon = (struct amount){.unit = AMOUNT_TOKENS, .value = 60};
    struct forecast_set open = make(&bare, false);
    fixture.settings.constrained = 1;
    struct forecast_set held = make(&bare, false);
    int32_t n_held = 0;
    for (int s = 0; s < FIXTURE_SERIES; s++)
        n_held += held.decoded[s].n_negative;
    assert_true(open.n_new_tokens < FIXTURE_SERIES * 60); /* some met an end of text */
    assert_true(held.n_new_tokens > open.n_new_tokens);   /* which is not in the format */
    assert_int_equal(n_held, 0);
    forecast_set_free(&open);
    forecast_set_free(&held);
}

#define OTHER_END 15

/* An adapter without A and B, whose head's bias makes an end of text the only choice, or none. */
static void open_bias(int32_t end, float of_end, struct fixture_adapters *out) {
    const struct compute *compute = &fixture.compute;
    const float one = 1;
    struct lvs_error err = {0};
    *out = (struct fixture_adapters){0};
    lora_layout_make(model_config(fixture.model), 16, 1u << LORA_TARGET_Q, lora_padded_rank(4), HEAD_BIAS, &out->lora);
    const size_t bytes = (size_t)out->lora.stride * sizeof(float);
    float *params = lvs_calloc((size_t)out->lora.stride, sizeof *params);
    params[out->lora.bias_offset + end] = of_end;
    for (int i = 0; i < 2; i++) {
        const size_t room = i ? sizeof one : bytes;
        assert_int_equal(compute->backend->allocate(compute->device, room, &out->memory[i], &err), LVS_OK);
        compute->backend->upload(compute->device, out->memory[i], i ? (const void *)&one : params, room);
    }
    assert_int_equal(compute->backend->synchronize(compute->device, &err), LVS_OK);
    out->adapters = (struct adapters){.params = out->memory[0], .stride = out->lora.stride, .scale = out->memory[1]};
    free(params);
}

static struct forecast_set make_biased(int32_t end, float of_end) {
    struct fixture_adapters biased;
    open_bias(end, of_end, &biased);
    const struct evaluated evaluated = {.model = fixture.model, .lora = &biased.lora, .adapters = &biased.adapters};
    struct forecast_set set = make(&evaluated, false);
    fixture_adapters_close(&fixture, &biased);
    return set;
}

/* A model that wants to end at once: end = stop takes its word, end = never gives what it would write if it could not,
 * for greedy and sampled forecasts, held to the format's characters or not; whichever of the ends it is. */
static void ends_can_be_ruled_out(void **state) {
    (void)state;
    fixture.settings.seed = 5;
    for (int kind = 0; kind < 12; kind++) {
        const int32_t pad = tokenizer_pad(&fixture.tokenizer), other = OTHER_END;
        const int32_t end = kind < 4 ? pad : other; /* the pad, the checkpoint's first end, a further one */
        fixture.tokenizer.eos_id = kind < 8 ? other : pad;
        if (kind == 8) tokenizer_take_ends(&fixture.tokenizer, -1, &other, 1);
        fixture.settings.decoding = kind & 1 ? DECODING_SAMPLE : DECODING_GREEDY;
        fixture.settings.constrained = kind >> 1 & 1;
        fixture.settings.end = END_STOP;
        struct forecast_set stopped = make_biased(end, 100);
        fixture.settings.end = END_NEVER;
        struct forecast_set held = make_biased(end, 100), free_of_bias = make_biased(end, -100);
        if (!fixture.settings.constrained) {
            assert_int_equal(stopped.n_new_tokens, FIXTURE_SERIES); /* the ends themselves */
            assert_int_equal(count_read(&stopped), 0);
        }
        const size_t bytes = (size_t)(FIXTURE_SERIES * held.horizon * 2) * sizeof(double);
        assert_memory_equal(held.predicted, free_of_bias.predicted, bytes);
        assert_int_equal(held.n_new_tokens, free_of_bias.n_new_tokens);
        for (int s = 0; s < FIXTURE_SERIES; s++)
            assert_int_equal(held.decoded[s].n_missing, 0);
        forecast_set_free(&stopped);
        forecast_set_free(&held);
        forecast_set_free(&free_of_bias);
    }
}

/* Labels of exactly the continuation's characters, through validation_loss. */
static void cross_entropy_is_the_loss_of_the_continuation(void **state) {
    (void)state;
    const struct evaluated evaluated = evaluate_adapter(0);
    struct forecast_set set = make(&evaluated, true);
    for (int32_t s = 0; s < FIXTURE_SERIES; s++) {
        struct token_set tokens;
        struct window_set windows;
        struct lvs_error err = {0};
        assert_int_equal(token_set_make(&fixture.set, &fixture.scaling, &fixture.format, &fixture.tokenizer, &s, 1, 0,
                                        FIXTURE_TIME, &tokens, &err),
                         LVS_OK);
        const int32_t length = (int32_t)tokens.offset[1];
        assert_int_equal(window_set_make(&tokens, length, length, PADDING_RIGHT_MASKED,
                                         tokenizer_pad(&fixture.tokenizer), &windows, &err),
                         LVS_OK);
        assert_int_equal(windows.n_windows, 1);
        int32_t separator, seen = 0;
        assert_int_equal(tokenizer_encode(&fixture.tokenizer, ";", 1, &separator, &err), LVS_OK);
        for (int32_t t = 0; t < length; t++) {
            seen += windows.ids[t] == separator;
            if (seen < 6) windows.labels[t] = WINDOW_IGNORED; /* its label still belongs to the history */
        }
        struct loss_metrics loss;
        assert_int_equal(validation_loss(&evaluated, &windows, 12, 1, &loss, &err), LVS_OK);
        assert_true(fabs(loss.loss - set.cross_entropy[s]) < 1e-6);
        window_set_free(&windows);
        token_set_free(&tokens);
    }
    forecast_set_free(&set);
}

int main(void) {
#define TEST(name, model) cmocka_unit_test_setup_teardown(name, open_##model, close_fixture)
    const struct CMUnitTest tests[] = {
        TEST(too_long_is_said_in_words, random),
        TEST(no_series_is_no_error, random),
        TEST(progress_rises_to_all, random),
        TEST(constrained_has_only_the_formats_characters, random),
        TEST(groups_change_nothing, random),
        TEST(neighbours_change_nothing, checkpoint),
        TEST(tokens_are_bounded, checkpoint),
        TEST(samples_follow_the_seed, checkpoint),
        TEST(ends_can_be_ruled_out, checkpoint),
        TEST(greedy_samples_are_equal, checkpoint),
        TEST(cross_entropy_is_the_loss_of_the_continuation, checkpoint),
    };
    return cmocka_run_group_tests_name("evaluate/generate", tests, NULL, NULL);
}
