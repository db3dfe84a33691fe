/* What the files of `lvsweep bench` share: a request, an opened device with a random model, and what was measured. */
#pragma once
#include "cli_internal.h"
#include "lvsweep/train.h"

#define BENCH_MAX_CONTEXTS 8
#define BENCH_MAX_REPEAT   100

enum bench_what { BENCH_STEP = 1, BENCH_PACK = 2, BENCH_VALIDATION = 4, BENCH_FORECAST = 8 };

struct bench_request {
    unsigned what; /* bits of enum bench_what */
    int32_t n_contexts, contexts[BENCH_MAX_CONTEXTS];
    int32_t batch, rank, pack, steps, warmup, repeat;
    int32_t series, series_tokens; /* validation: windows = series × ⌈series_tokens / context⌉ */
    int32_t prompt, tokens, samples;
    bool profile;
    const struct config *config; /* settings that no option names: --set */
};

struct bench_place {
    struct compute compute;
    struct model *model;
    struct device_description device;
};

/* One measured piece of work. Times are of one repetition divided by `units`. */
struct bench_result {
    char what[16];                         /* "step", "pack", "validation", "forecast", "prefill", "decode" */
    char size[48];                         /* "9 x 4 x 512" */
    char unit[16];                         /* what `milliseconds` is for: "step", "run", "token" */
    double units;                          /* of it a repetition */
    double tokens;                         /* a repetition */
    double flops;                          /* of products, a repetition */
    int32_t n;                             /* repetitions */
    double milliseconds[BENCH_MAX_REPEAT]; /* a unit, in order of measurement */
    double median;
    double memory; /* bytes on the device in use (GPU) or the process's largest resident size (CPU) */
    struct strbuf profile;
    int32_t profiled; /* units that the profile covers; 0 = there is none */
};

struct bench_results {
    struct bench_result *items; /* owned, with their profiles */
    int32_t n;
};
void bench_results_free(struct bench_results *results);

/* The shape of a named model, or of a folder's config.json. */
enum lvs_status bench_shape(const char *name, struct qwen2_config *out, struct lvs_error *err);
/* Runs what the request asks for, in the order step, pack, validation, forecast for each context. */
enum lvs_status bench_measure(const struct bench_place *place, const struct bench_request *request,
                              struct bench_results *out, struct lvs_error *err);
