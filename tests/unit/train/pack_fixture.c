/* Implementation of pack_fixture.h. */
#include "pack_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lvsweep/rng.h"

#define VOCABULARY 19
#define CONTEXT    24
#define N_WINDOWS  10

void pack_fixture_open(struct pack_fixture *fixture, int32_t threads) {
    pack_fixture_open_wrapped(fixture, threads, NULL);
}

void pack_fixture_open_wrapped(struct pack_fixture *fixture, int32_t threads,
                               const struct backend *(*wrap)(const struct backend *own)) {
    static const struct qwen2_config config = {
        .vocab_size = VOCABULARY,
        .hidden = 48,
        .intermediate = 80,
        .n_layers = 2,
        .n_heads = 3,
        .n_kv_heads = 1,
        .head_size = 16,
        .max_position = 64,
        .rms_epsilon = 1e-6f,
        .rope_theta = 10000,
        .tied = true,
        .pad_id = -1,
        .eos_id = -1,
    };
    const struct device_options options = {.threads = threads, .precision = PRECISION_KIND_FP32};
    struct lvs_error err = {0};
    memset(fixture, 0, sizeof *fixture);
    const char *backend = getenv("LVSWEEP_TEST_BACKEND");
    if (compute_open(backend ? backend : "cpu", &options, &fixture->compute, &err) != LVS_OK) fail_msg("%s", err.text);
    if (wrap) fixture->compute.backend = wrap(fixture->compute.backend);
    if (model_random(&fixture->compute, &config, 5, &fixture->model, &err) != LVS_OK) fail_msg("%s", err.text);
    const int64_t count = N_WINDOWS * CONTEXT;
    fixture->windows = (struct window_set){.n_windows = N_WINDOWS, .context = CONTEXT};
    fixture->windows.ids = lvs_calloc((size_t)count, sizeof(int32_t));
    fixture->windows.labels = lvs_calloc((size_t)count, sizeof(int32_t));
    struct rng rng = rng_make(3, RNG_STREAM_TEST);
    for (int64_t i = 0; i < count; i++)
        fixture->windows.ids[i] = (int32_t)rng_below(&rng, VOCABULARY);
    for (int64_t i = 0; i < count; i++) {
        bool ends = i % CONTEXT == CONTEXT - 1;
        fixture->windows.labels[i] = ends || rng_below(&rng, 9) == 0 ? WINDOW_IGNORED : fixture->windows.ids[i + 1];
    }
}

void pack_fixture_close(struct pack_fixture *fixture) {
    free(fixture->windows.ids);
    free(fixture->windows.labels);
    model_close(fixture->model);
    compute_close(&fixture->compute);
}

struct trial pack_trial(int32_t number) {
    struct trial trial;
    memset(&trial, 0, sizeof trial);
    snprintf(trial.name, sizeof trial.name, "trial-%d", number);
    snprintf(trial.train_key, sizeof trial.train_key, "key-%d", number);
    trial.settings = (struct settings){
        .lora_rank = 4,
        .lora_targets = 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V,
        .alpha_value = 2,
        .alpha_times_rank = 1,
        .learning_rate = 1e-2,
        .context = CONTEXT,
        .batch = 3,
        .steps = {.unit = AMOUNT_COUNT, .value = 12},
        .seed = number,
        .warmup_percent = -1,
        .warmup_steps = -1,
        .onecycle_div = 25,
        .onecycle_final_div = 1e4,
        .shuffle = 1,
    };
    return trial;
}

struct trainer *pack_trainer(const struct pack_fixture *fixture, const struct trial *trials, int32_t n_trials) {
    const struct trial *pointers[PACK_MAX];
    assert_in_range(n_trials, 1, PACK_MAX);
    for (int32_t k = 0; k < n_trials; k++)
        pointers[k] = &trials[k];
    const struct trainer_options options = {
        .model = fixture->model,
        .windows = &fixture->windows,
        .trials = pointers,
        .n_trials = n_trials,
    };
    struct trainer *trainer;
    struct lvs_error err = {0};
    if (trainer_create(&options, &trainer, &err) != LVS_OK) fail_msg("%s", err.text);
    return trainer;
}

/* Not the code under test: an own walk over the layout, element by element. */
static void strip_padding(const struct lora_layout *layout, int32_t rank, const float *params,
                          struct pack_result *out) {
    out->adapter = lvs_calloc((size_t)layout->n_params + 1, sizeof(float));
    for (int32_t layer = 0; layer < layout->n_layers; layer++)
        for (int t = 0; t < LORA_TARGET_COUNT; t++) {
            if (layout->site_a[t] < 0) continue;
            const float *block = params + layer * layout->layer_floats;
            for (int32_t r = 0; r < layout->rank; r++)
                for (int32_t i = 0; i < layout->n_in[t]; i++) {
                    float value = block[layout->site_a[t] + (int64_t)r * layout->n_in[t] + i];
                    if (r < rank)
                        out->adapter[out->n_floats++] = value;
                    else
                        assert_true(value == 0);
                }
            for (int32_t o = 0; o < layout->n_out[t]; o++)
                for (int32_t r = 0; r < layout->rank; r++) {
                    float value = block[layout->site_b[t] + (int64_t)o * layout->rank + r];
                    if (r < rank)
                        out->adapter[out->n_floats++] = value;
                    else
                        assert_true(value == 0);
                }
        }
    for (int32_t i = 0; layout->bias_offset >= 0 && i < layout->n_vocabulary; i++)
        out->adapter[out->n_floats++] = params[layout->bias_offset + i];
}

struct pack_result pack_result_read(struct trainer *trainer, int32_t k, const struct trial *trial) {
    struct pack_result result = {
        .step = trainer_step(trainer, k),
        .n_steps = (int32_t)trial->settings.steps.value,
        .rank = trial->settings.lora_rank,
    };
    struct lvs_error err = {0};
    result.loss = lvs_calloc((size_t)result.n_steps + 1, sizeof(float));
    result.gradient_norm = lvs_calloc((size_t)result.n_steps + 1, sizeof(float));
    if (trainer_curves(trainer, k, result.loss, result.gradient_norm, &err) != LVS_OK) fail_msg("%s", err.text);
    const struct lora_layout *layout = trainer_lora(trainer);
    float *params = lvs_calloc((size_t)layout->stride, sizeof *params);
    if (trainer_read_adapter(trainer, k, params, &err) != LVS_OK) fail_msg("%s", err.text);
    strip_padding(layout, result.rank, params, &result);
    free(params);
    return result;
}

void pack_result_free(struct pack_result *result) {
    free(result->loss);
    free(result->gradient_norm);
    free(result->adapter);
}

static void assert_same_floats(const float *a, const float *b, int64_t count, const char *what, const char *which) {
    for (int64_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: %s[%lld] is %.9g and %.9g", what, which, (long long)i, (double)a[i], (double)b[i]);
}

void pack_result_assert_equal(const struct pack_result *a, const struct pack_result *b, const char *what) {
    if (a->step != b->step) fail_msg("%s: %d and %d steps", what, a->step, b->step);
    assert_int_equal(a->n_floats, b->n_floats);
    assert_same_floats(a->loss, b->loss, a->step, what, "loss");
    assert_same_floats(a->gradient_norm, b->gradient_norm, a->step, what, "gradient_norm");
    assert_same_floats(a->adapter, b->adapter, a->n_floats, what, "adapter");
}

struct pack_result pack_train_alone(const struct pack_fixture *fixture, const struct trial *trial) {
    struct trainer *trainer = pack_trainer(fixture, trial, 1);
    struct lvs_error err = {0};
    if (trainer_run(trainer, INT32_MAX, NULL, NULL, &err) != LVS_OK) fail_msg("%s", err.text);
    struct pack_result result = pack_result_read(trainer, 0, trial);
    trainer_destroy(trainer);
    return result;
}
