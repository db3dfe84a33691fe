/* The works that bench times, through the same calls that a sweep makes: steps of a trainer, the loss over windows, and
 * key/value-cached decoding. Weights and ids are random: speed does not depend on them. A repetition ends with the
 * device idle; warm-up comes before the first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_internal.h"
#include "lvsweep/clock.h"
#include "lvsweep/evaluate.h"
#include "lvsweep/rng.h"

#define BENCH_WINDOWS  64 /* training windows to draw batches from */
#define PROFILE_STEPS  8
#define PROFILE_TOKENS 32
#define WARM_TOKENS    8

struct bench {
    const struct bench_place *place;
    const struct bench_request *request;
    struct bench_results *results;
    struct lvs_error *err;
};

static double executed(const struct bench *bench) {
    const struct compute *compute = &bench->place->compute;
    return compute->backend->flops_executed(compute->device);
}

void bench_results_free(struct bench_results *results) {
    for (int32_t i = 0; i < results->n; i++)
        strbuf_free(&results->items[i].profile);
    free(results->items);
}

/* ---- a result ---- */

/* Valid until the next one is added. */
static struct bench_result *result_add(struct bench *bench, const char *what, const char *unit, double units) {
    struct bench_results *results = bench->results;
    results->items = lvs_realloc(results->items, (size_t)(results->n + 1) * sizeof *results->items);
    struct bench_result *result = &results->items[results->n++];
    *result = (struct bench_result){.units = units, .memory = NAN};
    lvs_copy(result->what, sizeof result->what, what);
    lvs_copy(result->unit, sizeof result->unit, unit);
    strbuf_init(&result->profile);
    return result;
}

static void result_time(struct bench_result *result, double seconds, double flops) {
    result->milliseconds[result->n++] = 1e3 * seconds / result->units;
    result->flops = flops;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const double *values, int32_t n) {
    double sorted[BENCH_MAX_REPEAT];
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
    return n % 2 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
}

static double memory_used(const struct bench *bench) {
    const struct compute *compute = &bench->place->compute;
    struct device_description now;
    if (compute->backend->describe(compute->device, &now, bench->err) != LVS_OK) return NAN;
    return compute_memory_used(compute, &now);
}

static void result_end(const struct bench *bench, struct bench_result *result) {
    result->median = median_of(result->milliseconds, result->n);
    result->memory = memory_used(bench);
}

static bool profile_begin(const struct bench *bench) {
    const struct compute *compute = &bench->place->compute;
    if (!bench->request->profile || !compute->backend->profile_begin) return false;
    compute->backend->profile_begin(compute->device);
    return true;
}

static void profile_end(const struct bench *bench, struct bench_result *result, int32_t units) {
    const struct compute *compute = &bench->place->compute;
    compute->backend->profile_write(compute->device, &result->profile);
    result->profiled = units;
}

/* ---- inputs ---- */

/* Ids as numbers written in text have: a dozen of them. */
static int32_t random_id(struct rng *rng, int32_t n_vocabulary) {
    int32_t first = n_vocabulary > 32 ? 11 : 0, last = n_vocabulary > 32 ? 26 : n_vocabulary - 1;
    return first + (int32_t)rng_below(rng, (uint32_t)(last - first + 1));
}

static void windows_make(const struct bench *bench, int32_t n_windows, int32_t context, struct window_set *out) {
    struct rng rng = rng_make(1, RNG_STREAM_TEST);
    const int32_t n_vocabulary = model_vocabulary(bench->place->model);
    const size_t count = (size_t)n_windows * (size_t)context;
    *out = (struct window_set){.n_windows = n_windows, .context = context};
    out->ids = lvs_malloc(count * sizeof *out->ids);
    out->labels = lvs_malloc(count * sizeof *out->labels);
    out->is_pad = lvs_calloc(count, 1);
    out->series = lvs_calloc((size_t)n_windows, sizeof *out->series);
    for (size_t i = 0; i < count; i++) {
        out->ids[i] = random_id(&rng, n_vocabulary);
        out->labels[i] = random_id(&rng, n_vocabulary);
    }
}

static enum lvs_status trainer_make(const struct bench *bench, const struct window_set *windows, int32_t n_trials,
                                    int32_t batch, int32_t steps, struct trainer **out) {
    struct trial *trials = lvs_calloc((size_t)n_trials, sizeof *trials);
    const struct trial **pointers = lvs_malloc((size_t)n_trials * sizeof *pointers);
    for (int32_t k = 0; k < n_trials; k++) {
        struct settings *settings = &trials[k].settings;
        *settings = bench->request->config->defaults;
        settings->lora_rank = bench->request->rank;
        settings->context = windows->context;
        settings->batch = batch;
        settings->steps = (struct amount){.unit = AMOUNT_COUNT, .value = steps};
        settings->seed = k;
        snprintf(trials[k].name, sizeof trials[k].name, "bench-%d", k);
        pointers[k] = &trials[k];
    }
    const struct trainer_options options = {.model = bench->place->model,
                                            .windows = windows,
                                            .trials = pointers,
                                            .n_trials = n_trials,
                                            .skip_tiles = bench->request->config->skip_tiles};
    enum lvs_status status = trainer_create(&options, out, bench->err);
    free(pointers);
    free(trials);
    return status;
}

/* ---- training steps ---- */

static enum lvs_status time_steps(const struct bench *bench, struct trainer *trainer, struct bench_result *result) {
    const struct bench_request *request = bench->request;
    int32_t until = request->warmup;
    LVS_TRY(trainer_run(trainer, until, NULL, NULL, bench->err));
    for (int32_t i = 0; i < request->repeat; i++) {
        double flops = executed(bench), start = clock_steady();
        until += request->steps;
        LVS_TRY(trainer_run(trainer, until, NULL, NULL, bench->err));
        result_time(result, clock_steady() - start, executed(bench) - flops);
    }
    result_end(bench, result);
    return LVS_OK;
}

/* A trainer that takes one step a call never records a graph, so that every operation is seen. */
static enum lvs_status profile_steps(const struct bench *bench, const struct window_set *windows, int32_t n_trials,
                                     struct bench_result *result) {
    struct trainer *trainer = NULL;
    int32_t until = 2;
    LVS_TRY(trainer_make(bench, windows, n_trials, bench->request->batch, until + PROFILE_STEPS, &trainer));
    enum lvs_status status = trainer_run(trainer, 1, NULL, NULL, bench->err);
    if (status == LVS_OK) status = trainer_run(trainer, until, NULL, NULL, bench->err);
    if (status == LVS_OK && profile_begin(bench)) {
        for (int32_t i = 0; i < PROFILE_STEPS && status == LVS_OK; i++)
            status = trainer_run(trainer, ++until, NULL, NULL, bench->err);
        profile_end(bench, result, PROFILE_STEPS);
    }
    trainer_destroy(trainer);
    return status;
}

static enum lvs_status measure_training(struct bench *bench, int32_t context, int32_t n_trials) {
    const struct bench_request *request = bench->request;
    struct bench_result *result = result_add(bench, n_trials > 1 ? "pack" : "step", "step", request->steps);
    struct trainer *trainer = NULL;
    struct window_set windows;
    result->tokens = (double)request->steps * n_trials * request->batch * context;
    if (n_trials > 1)
        snprintf(result->size, sizeof result->size, "%d x %d x %d", n_trials, request->batch, context);
    else
        snprintf(result->size, sizeof result->size, "%d x %d", request->batch, context);
    windows_make(bench, BENCH_WINDOWS, context, &windows);
    enum lvs_status status = trainer_make(bench, &windows, n_trials, request->batch,
                                          request->warmup + request->steps * request->repeat, &trainer);
    if (status == LVS_OK) status = time_steps(bench, trainer, result);
    trainer_destroy(trainer);
    if (status == LVS_OK && request->profile) status = profile_steps(bench, &windows, n_trials, result);
    window_set_free(&windows);
    return status;
}

/* ---- validation ---- */

static enum lvs_status time_validation(const struct bench *bench, const struct evaluated *evaluated,
                                       const struct window_set *windows, struct bench_result *result) {
    struct loss_metrics loss;
    for (int32_t i = -1; i < bench->request->repeat; i++) { /* the first one warms up */
        double flops = executed(bench), start = clock_steady();
        LVS_TRY(validation_loss(evaluated, windows, 1, bench->request->batch, &loss, bench->err));
        if (i >= 0) result_time(result, clock_steady() - start, executed(bench) - flops);
    }
    result_end(bench, result);
    if (!profile_begin(bench)) return LVS_OK;
    LVS_TRY(validation_loss(evaluated, windows, 1, bench->request->batch, &loss, bench->err));
    profile_end(bench, result, 1);
    return LVS_OK;
}

/* A small trainer is where the adapter on the device comes from. */
static enum lvs_status adapter_make(const struct bench *bench, struct trainer **out, struct evaluated *evaluated) {
    struct window_set windows;
    windows_make(bench, 1, 16, &windows);
    enum lvs_status status = trainer_make(bench, &windows, 1, 1, 1, out);
    window_set_free(&windows);
    if (status != LVS_OK) return status;
    *evaluated = (struct evaluated){
        .model = bench->place->model, .lora = trainer_lora(*out), .adapters = trainer_adapters(*out)};
    return LVS_OK;
}

static enum lvs_status measure_validation(struct bench *bench, int32_t context) {
    const struct bench_request *request = bench->request;
    const int32_t n_windows = request->series * ((request->series_tokens + context - 1) / context);
    struct bench_result *result = result_add(bench, "validation", "run", 1);
    struct trainer *trainer = NULL;
    struct evaluated evaluated;
    struct window_set windows;
    result->tokens = (double)n_windows * context;
    snprintf(result->size, sizeof result->size, "%d x %d", n_windows, context);
    LVS_TRY(adapter_make(bench, &trainer, &evaluated));
    windows_make(bench, n_windows, context, &windows);
    enum lvs_status status = time_validation(bench, &evaluated, &windows, result);
    window_set_free(&windows);
    trainer_destroy(trainer);
    return status;
}

/* ---- forecast ---- */

struct forecast_bench {
    struct kv_cache *cache;
    const struct adapters *adapters;
    int32_t *ids;    /* [series][prompt] */
    int64_t *offset; /* [series + 1] */
};

static enum lvs_status forecast_open(const struct bench *bench, const struct evaluated *evaluated,
                                     struct forecast_bench *forecast) {
    const struct bench_request *request = bench->request;
    const size_t count = (size_t)request->series * (size_t)request->prompt;
    struct rng rng = rng_make(2, RNG_STREAM_TEST);
    const struct kv_cache_options options = {
        .n_sequences = request->series * request->samples,
        .capacity = request->prompt + request->tokens,
        .samples = request->samples,
        .lora = evaluated->lora,
        .sampling = {.greedy = request->samples == 1, .temperature = 1, .top_p = 1, .repetition_penalty = 1}};
    forecast->adapters = evaluated->adapters;
    forecast->ids = lvs_malloc(count * sizeof *forecast->ids);
    forecast->offset = lvs_malloc((size_t)(request->series + 1) * sizeof *forecast->offset);
    for (size_t i = 0; i < count; i++)
        forecast->ids[i] = random_id(&rng, model_vocabulary(bench->place->model));
    for (int32_t i = 0; i <= request->series; i++)
        forecast->offset[i] = (int64_t)i * request->prompt;
    return kv_cache_create(bench->place->model, &options, &forecast->cache, bench->err);
}

static void forecast_close(struct forecast_bench *forecast) {
    kv_cache_destroy(forecast->cache);
    free(forecast->ids);
    free(forecast->offset);
}

static enum lvs_status prefill(const struct bench *bench, const struct forecast_bench *forecast) {
    const struct compute *compute = &bench->place->compute;
    LVS_TRY(kv_cache_prefill(forecast->cache, forecast->adapters, forecast->ids, forecast->offset,
                             bench->request->series, bench->err));
    return compute->backend->synchronize(compute->device, bench->err);
}

/* Prefill draws the first token, decoding the others; `results` are the whole, its prefill and its decoding. */
static enum lvs_status time_forecast(const struct bench *bench, const struct forecast_bench *forecast,
                                     struct bench_result *results) {
    const int32_t more = bench->request->tokens - 1;
    LVS_TRY(prefill(bench, forecast));
    LVS_TRY(kv_cache_decode(forecast->cache, forecast->adapters, more < WARM_TOKENS ? more : WARM_TOKENS, bench->err));
    for (int32_t i = 0; i < bench->request->repeat; i++) {
        double flops[3], times[3];
        times[0] = clock_steady(), flops[0] = executed(bench);
        LVS_TRY(prefill(bench, forecast));
        times[1] = clock_steady(), flops[1] = executed(bench);
        LVS_TRY(kv_cache_decode(forecast->cache, forecast->adapters, more, bench->err));
        times[2] = clock_steady(), flops[2] = executed(bench);
        result_time(&results[0], times[2] - times[0], flops[2] - flops[0]);
        result_time(&results[1], times[1] - times[0], flops[1] - flops[0]);
        result_time(&results[2], times[2] - times[1], flops[2] - flops[1]);
    }
    for (int i = 0; i < 3; i++)
        result_end(bench, &results[i]);
    return LVS_OK;
}

/* One token a call: no graph is recorded, so that every operation is seen. */
static enum lvs_status profile_forecast(const struct bench *bench, const struct evaluated *evaluated,
                                        struct bench_result *results) {
    struct forecast_bench forecast = {0};
    int32_t more = bench->request->tokens - 1;
    if (more > PROFILE_TOKENS) more = PROFILE_TOKENS;
    enum lvs_status status = forecast_open(bench, evaluated, &forecast);
    if (status == LVS_OK && profile_begin(bench)) {
        status = prefill(bench, &forecast);
        profile_end(bench, &results[1], 1);
    }
    if (status == LVS_OK && more > 0 && profile_begin(bench)) {
        for (int32_t i = 0; i < more && status == LVS_OK; i++)
            status = kv_cache_decode(forecast.cache, forecast.adapters, 1, bench->err);
        profile_end(bench, &results[2], more);
    }
    forecast_close(&forecast);
    return status;
}

static enum lvs_status measure_forecast(struct bench *bench) {
    const struct bench_request *request = bench->request;
    const double n = (double)request->series * request->samples;
    struct forecast_bench forecast = {0};
    struct trainer *trainer = NULL;
    struct evaluated evaluated;
    result_add(bench, "forecast", "run", 1)->tokens = n * request->tokens;
    result_add(bench, "prefill", "run", 1)->tokens = (double)request->series * request->prompt;
    result_add(bench, "decode", "token", request->tokens - 1)->tokens = n * (request->tokens - 1);
    struct bench_result *results = &bench->results->items[bench->results->n - 3];
    snprintf(results[0].size, sizeof results[0].size, "%.0f x (%d+%d)", n, request->prompt, request->tokens);
    snprintf(results[1].size, sizeof results[1].size, "%d x %d", request->series, request->prompt);
    snprintf(results[2].size, sizeof results[2].size, "%.0f x %d", n, request->tokens - 1);
    LVS_TRY(adapter_make(bench, &trainer, &evaluated));
    enum lvs_status status = forecast_open(bench, &evaluated, &forecast);
    if (status == LVS_OK) status = time_forecast(bench, &forecast, results);
    forecast_close(&forecast);
    if (status == LVS_OK && request->profile) status = profile_forecast(bench, &evaluated, results);
    trainer_destroy(trainer);
    return status;
}

/* ---- all of it ---- */

enum lvs_status bench_measure(const struct bench_place *place, const struct bench_request *request,
                              struct bench_results *out, struct lvs_error *err) {
    struct bench bench = {.place = place, .request = request, .results = out, .err = err};
    *out = (struct bench_results){0};
    for (int32_t i = 0; i < request->n_contexts; i++) {
        int32_t context = request->contexts[i];
        if (request->what & BENCH_STEP) LVS_TRY(measure_training(&bench, context, 1));
        if (request->what & BENCH_PACK) LVS_TRY(measure_training(&bench, context, request->pack));
        if (request->what & BENCH_VALIDATION) LVS_TRY(measure_validation(&bench, context));
    }
    return request->what & BENCH_FORECAST ? measure_forecast(&bench) : LVS_OK;
}
