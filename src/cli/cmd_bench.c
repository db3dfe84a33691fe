/* lvsweep bench: how fast the parts of a sweep are on this machine, on random weights of a named shape. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_internal.h"

struct bench_options {
    struct bench_request request;
    const char *model, *backend, *precision;
    int32_t threads, vocabulary;
    double peak; /* TFLOP/s; 0 = not given */
    bool json;
    struct cli_sets sets;
};

/* ---- options ---- */

static bool take_what(const char *text, unsigned *what) {
    static const struct {
        const char *name;
        unsigned bit;
    } words[] = {
        {"step", BENCH_STEP}, {"pack", BENCH_PACK}, {"validation", BENCH_VALIDATION}, {"forecast", BENCH_FORECAST}};
    *what = 0;
    while (*text) {
        size_t length = strcspn(text, ","), i = 0;
        while (i < 4 && (strlen(words[i].name) != length || strncmp(words[i].name, text, length) != 0))
            i++;
        if (i == 4) break;
        *what |= words[i].bit;
        text += length + (text[length] == ',');
    }
    if (*what && !*text) return true;
    cli_usage(&command_bench, "--what %s: expected step, pack, validation, forecast, or several with commas", text);
    return false;
}

static bool take_contexts(const char *text, struct bench_request *request) {
    char one[32];
    request->n_contexts = 0;
    while (*text && request->n_contexts < BENCH_MAX_CONTEXTS) {
        size_t length = strcspn(text, ",");
        int64_t number;
        snprintf(one, sizeof one, "%.*s", (int)(length < sizeof one ? length : sizeof one - 1), text);
        if (!cli_integer(&command_bench, "--context", one, 1, 32768, &number)) return false;
        request->contexts[request->n_contexts++] = (int32_t)number;
        text += length + (text[length] == ',');
    }
    if (!*text) return true;
    cli_usage(&command_bench, "--context takes at most %d values", BENCH_MAX_CONTEXTS);
    return false;
}

static bool take_number(struct bench_options *options, int option) {
    struct bench_request *request = &options->request;
    const struct {
        int option;
        const char *name;
        int64_t least, most;
        int32_t *value;
    } numbers[] = {
        {'B', "--batch", 1, 4096, &request->batch},
        {'r', "--rank", 1, LVS_MAX_LORA_RANK, &request->rank},
        {'P', "--pack", 2, 64, &request->pack},
        {'n', "--steps", 1, 100000, &request->steps},
        {'W', "--warmup", 0, 100000, &request->warmup},
        {'R', "--repeat", 1, BENCH_MAX_REPEAT, &request->repeat},
        {'S', "--series", 1, 100000, &request->series},
        {'L', "--length", 1, 100000, &request->series_tokens},
        {'q', "--prompt", 1, 32768, &request->prompt},
        {'k', "--tokens", 2, 32768, &request->tokens},
        {'a', "--samples", 1, 1024, &request->samples},
        {'t', "--threads", 0, 4096, &options->threads},
        {'v', "--vocabulary", 2, 1000000, &options->vocabulary},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        int64_t number;
        if (numbers[i].option != option) continue;
        if (!cli_integer(&command_bench, numbers[i].name, optarg, numbers[i].least, numbers[i].most, &number))
            return false;
        *numbers[i].value = (int32_t)number;
    }
    return true;
}

static bool take_option(struct bench_options *options, int option) {
    switch (option) {
    case 'w':
        return take_what(optarg, &options->request.what);
    case 'x':
        return take_contexts(optarg, &options->request);
    case 'm':
        options->model = optarg;
        return true;
    case 'b':
        options->backend = optarg;
        return true;
    case 'p':
        options->precision = optarg;
        return true;
    case 'K':
        return cli_number(&command_bench, "--peak", optarg, 1e-3, 1e6, &options->peak);
    case 'f':
        return options->request.profile = true;
    case 'j':
        return options->json = true;
    case 's':
        cli_sets_add(&options->sets, optarg);
        return true;
    default:
        return take_number(options, option);
    }
}

/* ---- opening ---- */

static enum lvs_status pick_backend(const struct bench_options *options, struct device_options *device,
                                    const char **name, struct lvs_error *err) {
    const struct backend *backend;
    LVS_TRY(backend_find(options->backend, &backend, err));
    *name = backend->name;
    bool cuda = strcmp(backend->name, "cuda") == 0;
    const char *precision = strcmp(options->precision, "auto") != 0 ? options->precision : cuda ? "bf16" : "fp32";
    if (strcmp(precision, "fp32") != 0 && strcmp(precision, "bf16") != 0)
        return lvs_fail(err, LVS_USAGE, "--precision %s: expected auto, fp32 or bf16", precision);
    device->precision = strcmp(precision, "bf16") == 0 ? PRECISION_KIND_BF16 : PRECISION_KIND_FP32;
    device->threads = options->threads;
    return LVS_OK;
}

static enum lvs_status open_place(const struct bench_options *options, struct bench_place *place,
                                  struct lvs_error *err) {
    struct qwen2_config shape;
    struct device_options device = {0};
    const char *backend;
    LVS_TRY(bench_shape(options->model, &shape, err));
    if (options->vocabulary > 0) shape.vocab_size = options->vocabulary;
    LVS_TRY(pick_backend(options, &device, &backend, err));
    LVS_TRY(compute_open(backend, &device, &place->compute, err));
    LVS_TRY(place->compute.backend->describe(place->compute.device, &place->device, err));
    return model_random(&place->compute, &shape, 1, &place->model, err);
}

/* ---- text ---- */

static double teraflops(const struct bench_result *result) {
    return result->flops / (result->median * 1e-3 * result->units) / 1e12;
}
static double tokens_per_second(const struct bench_result *result) {
    return result->tokens / (result->median * 1e-3 * result->units);
}

static void print_result(const struct bench_options *options, const struct bench_result *result) {
    double least = result->milliseconds[0], most = least;
    for (int32_t i = 1; i < result->n; i++) {
        least = fmin(least, result->milliseconds[i]);
        most = fmax(most, result->milliseconds[i]);
    }
    printf("%-10s %-18s %10.3f /%-5s %10.3f %10.3f %12.0f %9.3f", result->what, result->size, result->median,
           result->unit, least, most, tokens_per_second(result), teraflops(result));
    if (options->peak > 0) printf(" %6.1f", 100 * teraflops(result) / options->peak);
    printf(" %8.2f\n", result->memory / 1073741824.0);
}

static void print_profile(const struct bench_result *result) {
    if (result->profiled == 0) return;
    printf("\n%s %s: operations of %d %s%s\n%s", result->what, result->size, result->profiled, result->unit,
           result->profiled == 1 ? "" : "s", result->profile.text ? result->profile.text : "");
}

static void print_text(const struct bench_options *options, const struct bench_place *place,
                       const struct bench_results *results) {
    const struct qwen2_config *model = model_config(place->model);
    printf("device  %s (%s), %s, %s\n", place->device.name, place->device.driver, place->compute.backend->name,
           place->compute.precision == PRECISION_KIND_BF16 ? "bf16" : "fp32");
    printf("model   %s: %d layers, hidden %d, vocabulary %d, random weights; LoRA rank %d\n", options->model,
           model->n_layers, model->hidden, model->vocab_size, options->request.rank);
    printf("times   median, least and most of %d, after warm-up\n\n", options->request.repeat);
    printf("%-10s %-18s %10s %-6s %10s %10s %12s %9s", "work", "size", "ms", "", "least", "most", "tokens/s",
           "TFLOP/s");
    printf("%s %8s\n", options->peak > 0 ? " % peak" : "", "GiB");
    for (int32_t i = 0; i < results->n; i++)
        print_result(options, &results->items[i]);
    for (int32_t i = 0; i < results->n; i++)
        print_profile(&results->items[i]);
}

/* ---- JSON ---- */

static json_t *profile_json(const struct bench_result *result) {
    json_t *list = json_array();
    char *text = lvs_strdup(result->profile.text ? result->profile.text : ""), *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char name[64];
        long long calls;
        double milliseconds;
        if (sscanf(line, "%63s %lld calls %lf ms", name, &calls, &milliseconds) == 3)
            json_array_append_new(list, json_pack("{s:s, s:I, s:f}", "operation", name, "calls", (json_int_t)calls,
                                                  "milliseconds", milliseconds));
    }
    free(text);
    return list;
}

static json_t *result_json(const struct bench_options *options, const struct bench_result *result) {
    json_t *times = json_array();
    for (int32_t i = 0; i < result->n; i++)
        json_array_append_new(times, json_real(result->milliseconds[i]));
    json_t *object = json_pack("{s:s, s:s, s:s, s:f, s:o, s:f, s:f, s:f}", "what", result->what, "size", result->size,
                               "unit", result->unit, "milliseconds", result->median, "milliseconds_all", times,
                               "tokens_per_second", tokens_per_second(result), "flops", result->flops / result->units,
                               "tflops_per_second", teraflops(result));
    if (options->peak > 0) json_object_set_new(object, "peak_share", json_real(teraflops(result) / options->peak));
    if (isfinite(result->memory)) json_object_set_new(object, "memory_bytes", json_real(result->memory));
    if (result->profiled > 0) {
        json_object_set_new(object, "profile_units", json_integer(result->profiled));
        json_object_set_new(object, "profile", profile_json(result));
    }
    return object;
}

static void print_json(const struct bench_options *options, const struct bench_place *place,
                       const struct bench_results *results) {
    const struct qwen2_config *model = model_config(place->model);
    json_t *list = json_array();
    for (int32_t i = 0; i < results->n; i++)
        json_array_append_new(list, result_json(options, &results->items[i]));
    json_t *document =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:o}", "device", place->device.name, "driver",
                  place->device.driver, "backend", place->compute.backend->name, "precision",
                  place->compute.precision == PRECISION_KIND_BF16 ? "bf16" : "fp32", "model", options->model, "layers",
                  model->n_layers, "hidden", model->hidden, "vocabulary", model->vocab_size, "lora_rank",
                  options->request.rank, "threads", options->threads, "works", list);
    json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(document);
}

/* ---- the command ---- */

static enum lvs_status bench_run(struct bench_options *options, struct lvs_error *err) {
    struct bench_place place = {0};
    struct bench_results results = {0};
    struct config *config = NULL;
    enum lvs_status status = cli_default_config(&options->sets, &config, err);
    options->request.config = config;
    if (status == LVS_OK) status = open_place(options, &place, err);
    if (status == LVS_OK) status = bench_measure(&place, &options->request, &results, err);
    if (status == LVS_OK && options->json) print_json(options, &place, &results);
    if (status == LVS_OK && !options->json) print_text(options, &place, &results);
    bench_results_free(&results);
    model_close(place.model);
    if (place.compute.backend) compute_close(&place.compute);
    config_destroy(config);
    return status;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"what", required_argument, NULL, 'w'},
                                            {"model", required_argument, NULL, 'm'},
                                            {"backend", required_argument, NULL, 'b'},
                                            {"precision", required_argument, NULL, 'p'},
                                            {"batch", required_argument, NULL, 'B'},
                                            {"context", required_argument, NULL, 'x'},
                                            {"rank", required_argument, NULL, 'r'},
                                            {"pack", required_argument, NULL, 'P'},
                                            {"steps", required_argument, NULL, 'n'},
                                            {"warmup", required_argument, NULL, 'W'},
                                            {"repeat", required_argument, NULL, 'R'},
                                            {"series", required_argument, NULL, 'S'},
                                            {"length", required_argument, NULL, 'L'},
                                            {"prompt", required_argument, NULL, 'q'},
                                            {"tokens", required_argument, NULL, 'k'},
                                            {"samples", required_argument, NULL, 'a'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"peak", required_argument, NULL, 'K'},
                                            {"vocabulary", required_argument, NULL, 'v'},
                                            {"set", required_argument, NULL, 's'},
                                            {"profile", no_argument, NULL, 'f'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    struct bench_options wanted = {.model = "qwen2.5-0.5b",
                                   .backend = "auto",
                                   .precision = "auto",
                                   .request = {.what = BENCH_STEP,
                                               .n_contexts = 1,
                                               .contexts = {512},
                                               .batch = 4,
                                               .rank = 8,
                                               .pack = 9,
                                               .steps = 10,
                                               .warmup = 3,
                                               .repeat = 5,
                                               .series = 200,
                                               .series_tokens = 999,
                                               .prompt = 500,
                                               .tokens = 500,
                                               .samples = 1}};
    bool done;
    struct lvs_error err = {0};
    for (int option; (option = cli_next_option(&command_bench, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (!take_option(&wanted, option)) return LVS_USAGE;
    }
    if (optind != argc) return cli_usage(&command_bench, "%s: only options are taken", argv[optind]);
    enum lvs_status status = bench_run(&wanted, &err);
    free(wanted.sets.items);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_bench = {
    .name = "bench",
    .summary = "time steps, packs, validation, forecasts on random weights",
    .help = "lvsweep bench [options]\n\n"
            "  --what LIST        of step (default), pack, validation, forecast\n"
            "  --model NAME       qwen2.5-0.5b (default), -1.5b, -3b, -7b, tiny, or a\n"
            "                     folder's shape\n"
            "  --vocabulary N     rows of the head instead of the model's\n"
            "  --backend NAME     auto, cpu, cuda;   --precision auto, fp32, bf16\n"
            "  --threads N        of the CPU\n"
            "  --batch N          windows a step (4), also of validation;   --rank N  (8)\n"
            "  --context LIST     tokens a window (512); several with commas in turn\n"
            "  --pack N           trials of a pack (9)\n"
            "  --steps N          steps a repetition (10);   --warmup N  steps before (3)\n"
            "  --repeat N         repetitions (5), the median is shown\n"
            "  --series N         validation and forecast: series (200)\n"
            "  --length N         tokens each (999)\n"
            "  --prompt N         tokens before (500), --tokens N after (500),\n"
            "                     --samples N a series (1)\n"
            "  --peak TFLOPS      of the device: shows the share of it\n"
            "  --set SECTION.KEY=V  any [lora] or [train] key, e.g. train.clip_norm=1\n"
            "  --profile          time by operation too, steps not recorded as graphs\n"
            "  --json\n",
    .run = run,
};
