/* Implementation of forecast_fixture.h. */
#include "forecast_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lvsweep/rng.h"

void forecast_fixture_open(struct forecast_fixture *fixture) {
    struct lvs_error err = {0};
    memset(fixture, 0, sizeof *fixture);
    const int64_t count = FIXTURE_SERIES * FIXTURE_TIME * FIXTURE_CHANNEL;
    struct series_set *set = &fixture->set;
    *set = (struct series_set){.n_series = FIXTURE_SERIES, .n_time = FIXTURE_TIME, .n_channel = FIXTURE_CHANNEL};
    set->values = lvs_calloc((size_t)count, sizeof *set->values);
    set->time = lvs_calloc(FIXTURE_TIME, sizeof *set->time);
    set->id = lvs_calloc(FIXTURE_SERIES, sizeof *set->id);
    fixture->scaling = (struct scaling){.n_series = FIXTURE_SERIES, .n_channel = FIXTURE_CHANNEL};
    fixture->scaling.factor = lvs_calloc(FIXTURE_SERIES * FIXTURE_CHANNEL, sizeof(double));
    for (int s = 0; s < FIXTURE_SERIES; s++)
        for (int c = 0; c < FIXTURE_CHANNEL; c++) {
            double factor = 0.5 + s + 0.25 * c;
            fixture->scaling.factor[s * FIXTURE_CHANNEL + c] = factor;
            for (int t = 0; t < FIXTURE_TIME; t++)
                set->values[(s * FIXTURE_TIME + t) * FIXTURE_CHANNEL + c] =
                    factor * (7 + 6.9 * sin(0.9 * t + 1.7 * s + 2.1 * c));
        }
    for (int s = 0; s < FIXTURE_SERIES; s++) {
        set->id[s] = 100 + s;
        fixture->rows[s] = s;
    }
    fixture->format = (struct text_format){.decimals = 2, .n_channel = FIXTURE_CHANNEL, .decimal_point = true};
    if (tokenizer_read(LVS_SOURCE_DIR "/sweeps/quickstart/model", false, -1, &fixture->tokenizer, &err) != LVS_OK)
        fail_msg("%s", err.text);
    fixture->settings = (struct settings){
        .batch = 4,
        .history = {.unit = AMOUNT_PERCENT, .value = 50},
        .horizon = {.unit = AMOUNT_REST},
        .decoding = DECODING_GREEDY,
        .temperature = 1,
        .top_p = 1,
        .repetition_penalty = 1,
        .samples = 1,
        .decimals = 2,
    };
    fixture->task = (struct forecast_task){
        .set = set,
        .scaling = &fixture->scaling,
        .format = &fixture->format,
        .tokenizer = &fixture->tokenizer,
        .rows = fixture->rows,
        .n_rows = FIXTURE_SERIES,
        .settings = &fixture->settings,
    };
}

static void open_device(struct forecast_fixture *fixture) {
    const struct device_options options = {.threads = 2, .precision = PRECISION_KIND_FP32};
    struct lvs_error err = {0};
    const char *backend = getenv("LVSWEEP_TEST_BACKEND");
    if (compute_open(backend ? backend : "cpu", &options, &fixture->compute, &err) != LVS_OK) fail_msg("%s", err.text);
}

void forecast_fixture_add_model(struct forecast_fixture *fixture) {
    static const struct qwen2_config config = {
        .vocab_size = 16,
        .hidden = 48,
        .intermediate = 80,
        .n_layers = 2,
        .n_heads = 3,
        .n_kv_heads = 1,
        .head_size = 16,
        .max_position = 192,
        .rms_epsilon = 1e-6f,
        .rope_theta = 10000,
        .tied = true,
        .pad_id = -1,
        .eos_id = -1,
    };
    struct lvs_error err = {0};
    open_device(fixture);
    if (model_random(&fixture->compute, &config, 11, &fixture->model, &err) != LVS_OK) fail_msg("%s", err.text);
}

void forecast_fixture_add_checkpoint(struct forecast_fixture *fixture) {
    const struct model_source source = {.folder = LVS_SOURCE_DIR "/sweeps/quickstart/model"};
    struct lvs_error err = {0};
    open_device(fixture);
    if (model_open(&fixture->compute, &source, &fixture->model, &err) != LVS_OK) fail_msg("%s", err.text);
}

void forecast_fixture_close(struct forecast_fixture *fixture) {
    if (fixture->model) model_close(fixture->model);
    if (fixture->model) compute_close(&fixture->compute);
    series_free(&fixture->set);
    scaling_free(&fixture->scaling);
}

double forecast_fixture_scaled(const struct forecast_fixture *fixture, int32_t row, int32_t point, int32_t channel) {
    double value = fixture->set.values[(row * FIXTURE_TIME + point) * FIXTURE_CHANNEL + channel];
    return value / fixture->scaling.factor[row * FIXTURE_CHANNEL + channel];
}

void fixture_adapters_open(const struct forecast_fixture *fixture, int32_t n, struct fixture_adapters *out) {
    const struct compute *compute = &fixture->compute;
    struct lvs_error err = {0};
    lora_layout_make(model_config(fixture->model), 16, 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V, lora_padded_rank(4),
                     HEAD_FROZEN, &out->lora);
    const size_t floats = (size_t)n * (size_t)out->lora.stride;
    float *params = lvs_calloc(floats, sizeof *params), *scale = lvs_calloc((size_t)n, sizeof *scale);
    struct rng rng = rng_make(1, RNG_STREAM_TEST);
    for (size_t i = 0; i < floats; i++)
        params[i] = (float)(0.05 * rng_normal(&rng));
    for (int32_t k = 0; k < n; k++)
        scale[k] = 1.0f + (float)k;
    for (int i = 0; i < 2; i++)
        if (compute->backend->allocate(compute->device, (i ? (size_t)n : floats) * sizeof(float), &out->memory[i],
                                       &err) != LVS_OK)
            fail_msg("%s", err.text);
    compute->backend->upload(compute->device, out->memory[0], params, floats * sizeof(float));
    compute->backend->upload(compute->device, out->memory[1], scale, (size_t)n * sizeof(float));
    assert_int_equal(compute->backend->synchronize(compute->device, &err), LVS_OK);
    out->adapters = (struct adapters){.params = out->memory[0], .stride = out->lora.stride, .scale = out->memory[1]};
    free(params);
    free(scale);
}

void fixture_adapters_close(const struct forecast_fixture *fixture, struct fixture_adapters *adapters) {
    for (int i = 0; i < 2; i++)
        fixture->compute.backend->release(fixture->compute.device, adapters->memory[i]);
}
