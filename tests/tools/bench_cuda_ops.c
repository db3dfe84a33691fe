/* Times of the CUDA backend on random weights of Qwen2.5-0.5B's shape: recorded training steps of packs, evaluation
 * passes, decoding, and the time of every operation. Run by hand on a card; checks nothing.
 *   bench_cuda_ops train SLOTS BATCH CONTEXT | eval SEQUENCES CONTEXT | decode SEQUENCES PROMPT STEPS   … several in a
 * row options before them: --profile, --skip-tiles, --layers N, --steps N, --tuning FILE (read and written),
 * --vocabulary N (16: the head and embedding of a text's characters), --samples N (drawn, of each prompt: decode),
 * --bias (a trained head bias), --dropout P (of LoRA's inputs) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/clock.h"
#include "lvsweep/model.h"
#include "lvsweep/rng.h"

#define N_WINDOWS 64
#define N_STEPS   4096

struct bench {
    struct compute compute;
    struct model *model;
    struct qwen2_config config;
    struct lora_layout lora;
    bool profile, skip_tiles;
    int32_t steps, samples; /* samples 0: greedy, one a prompt */
    int32_t head;           /* enum head_mode */
    float dropout;
};

static void must(enum lvs_status status, const struct lvs_error *err) {
    if (status == LVS_OK) return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static void wait_all(const struct bench *bench) {
    struct lvs_error err = {0};
    must(bench->compute.backend->synchronize(bench->compute.device, &err), &err);
}

static void *device_array(const struct bench *bench, const void *values, size_t bytes) {
    struct lvs_error err = {0};
    void *memory = NULL;
    must(bench->compute.backend->allocate(bench->compute.device, bytes, &memory, &err), &err);
    if (values) bench->compute.backend->upload(bench->compute.device, memory, values, bytes);
    return memory;
}

static float *device_floats(const struct bench *bench, int64_t count, double scale, float shift, uint64_t seed) {
    struct rng rng = rng_make(seed, RNG_STREAM_TEST);
    float *values = lvs_calloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = shift + (float)(scale * (rng_uniform(&rng) * 2 - 1));
    float *memory = device_array(bench, values, (size_t)count * sizeof *values);
    wait_all(bench);
    free(values);
    return memory;
}

static int32_t *device_ids(const struct bench *bench, int64_t count, int32_t below, uint64_t seed) {
    struct rng rng = rng_make(seed, RNG_STREAM_TEST);
    int32_t *values = lvs_calloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (int32_t)rng_below(&rng, (uint32_t)below);
    int32_t *memory = device_array(bench, values, (size_t)count * sizeof *values);
    wait_all(bench);
    free(values);
    return memory;
}

static struct adapters adapters_make(const struct bench *bench, int32_t n) {
    uint64_t *seeds = lvs_calloc((size_t)n, sizeof *seeds);
    struct adapters adapters = {.stride = bench->lora.stride};
    adapters.params = device_floats(bench, n * bench->lora.stride, 0.03, 0, 1);
    adapters.grads = device_array(bench, NULL, (size_t)(n * bench->lora.stride) * sizeof(float));
    adapters.scale = device_floats(bench, n, 0, 1, 2);
    adapters.seed = device_array(bench, seeds, (size_t)n * sizeof *seeds);
    adapters.step = device_array(bench, NULL, (size_t)n * sizeof(int32_t));
    if (bench->dropout > 0) adapters.dropout = device_floats(bench, n, 0, bench->dropout, 8);
    wait_all(bench);
    free(seeds);
    return adapters;
}

static void adapters_free(const struct bench *bench, struct adapters *adapters) {
    const struct backend *backend = bench->compute.backend;
    backend->release(bench->compute.device, adapters->params);
    backend->release(bench->compute.device, adapters->grads);
    backend->release(bench->compute.device, (void *)adapters->scale);
    backend->release(bench->compute.device, (void *)adapters->seed);
    backend->release(bench->compute.device, (void *)adapters->step);
    backend->release(bench->compute.device, (void *)adapters->dropout);
}

/* ---- training ---- */
struct training {
    struct pass *pass;
    struct adapters adapters;
    struct batch_call batch;
    struct optimizer_call optimizer;
    float *losses;
};

static void training_step(const struct bench *bench, const struct training *training) {
    const struct backend *backend = bench->compute.backend;
    struct device *device = bench->compute.device;
    const struct pack_layout *layout = pass_layout(training->pass);
    backend->batch_gather(device, layout, &training->batch);
    pass_forward(training->pass, &training->adapters);
    pass_loss(training->pass, &training->adapters);
    pass_backward(training->pass, &training->adapters);
    backend->loss_reduce(device, layout, pass_row_loss(training->pass), pass_label_weight(training->pass),
                         training->adapters.step, N_STEPS, training->losses);
    backend->adam(device, layout, &training->optimizer);
    backend->step_advance(device, layout, (int32_t *)training->adapters.step);
}

static void batch_fill(const struct bench *bench, int32_t slots, int32_t batch, int32_t context,
                       struct training *training) {
    const int32_t n_ids = bench->config.vocab_size < 32 ? bench->config.vocab_size : 32;
    training->batch = (struct batch_call){.order_stride = N_STEPS * batch, .batch = batch};
    training->batch.window_ids = device_ids(bench, (int64_t)N_WINDOWS * context, n_ids, 3);
    training->batch.window_labels = device_ids(bench, (int64_t)N_WINDOWS * context, n_ids, 4);
    training->batch.order = device_ids(bench, (int64_t)slots * N_STEPS * batch, N_WINDOWS, 5);
    training->batch.step = training->adapters.step;
    training->batch.ids = pass_ids(training->pass);
    training->batch.labels = pass_labels(training->pass);
    training->batch.label_weight = pass_label_weight(training->pass);
}

static void optimizer_fill(const struct bench *bench, int32_t slots, struct training *training) {
    struct optimizer_settings *settings = lvs_calloc((size_t)slots, sizeof *settings);
    for (int32_t s = 0; s < slots; s++)
        settings[s] = (struct optimizer_settings){.beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .clip_norm = 1};
    size_t bytes = (size_t)(slots * bench->lora.stride) * sizeof(float);
    training->optimizer = (struct optimizer_call){
        .adapters = &training->adapters,
        .m = device_array(bench, NULL, bytes),
        .v = device_array(bench, NULL, bytes),
        .n_params = bench->lora.n_params,
        .settings = device_array(bench, settings, (size_t)slots * sizeof *settings),
        .learning_rate = device_floats(bench, (int64_t)slots * N_STEPS, 0, 1e-4f, 6),
        .gradient_norm = device_array(bench, NULL, (size_t)slots * N_STEPS * sizeof(float)),
        .table_stride = N_STEPS,
    };
    training->losses = device_array(bench, NULL, (size_t)slots * N_STEPS * sizeof(float));
    wait_all(bench);
    free(settings);
}

static void training_free(const struct bench *bench, struct training *training) {
    const struct backend *backend = bench->compute.backend;
    struct device *device = bench->compute.device;
    backend->release(device, (void *)training->batch.window_ids);
    backend->release(device, (void *)training->batch.window_labels);
    backend->release(device, (void *)training->batch.order);
    backend->release(device, training->optimizer.m);
    backend->release(device, training->optimizer.v);
    backend->release(device, (void *)training->optimizer.settings);
    backend->release(device, (void *)training->optimizer.learning_rate);
    backend->release(device, training->optimizer.gradient_norm);
    backend->release(device, training->losses);
    pass_destroy(training->pass);
    adapters_free(bench, &training->adapters);
}

static void profile_print(const struct bench *bench, const struct training *training) {
    struct strbuf text;
    strbuf_init(&text);
    training_step(bench, training);
    wait_all(bench);
    bench->compute.backend->profile_begin(bench->compute.device);
    training_step(bench, training);
    bench->compute.backend->profile_write(bench->compute.device, &text);
    printf("%s", text.text ? text.text : "");
    strbuf_free(&text);
}

/* FNV-1a of the first adapter: equal for any pack that holds the same trial. */
static uint64_t adapter_hash(const struct bench *bench, const struct adapters *adapters) {
    size_t bytes = (size_t)bench->lora.n_params * sizeof(float);
    unsigned char *host = lvs_malloc(bytes);
    uint64_t hash = 14695981039346656037u;
    bench->compute.backend->download(bench->compute.device, host, adapters->params, bytes);
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ host[i]) * 1099511628211u;
    free(host);
    return hash;
}

static void bench_train(const struct bench *bench, int32_t slots, int32_t batch, int32_t context) {
    const struct backend *backend = bench->compute.backend;
    struct device *device = bench->compute.device;
    struct lvs_error err = {0};
    struct training training = {0};
    struct device_graph *graph = NULL;
    struct pass_options options = {.n_slots = slots, .n_sequences = batch, .context = context, .backward = true};
    options.skip_tiles = bench->skip_tiles;
    options.lora = &bench->lora;
    must(pass_create(bench->model, &options, &training.pass, &err), &err);
    training.adapters = adapters_make(bench, slots);
    batch_fill(bench, slots, batch, context, &training);
    optimizer_fill(bench, slots, &training);
    training_step(bench, &training);
    wait_all(bench);
    backend->graph_begin(device);
    training_step(bench, &training);
    must(backend->graph_end(device, &graph, &err), &err);
    for (int i = 0; i < 3; i++)
        backend->graph_launch(device, graph);
    wait_all(bench);
    double flops = backend->flops_executed(device), start = clock_steady();
    for (int32_t i = 0; i < bench->steps; i++)
        backend->graph_launch(device, graph);
    wait_all(bench);
    double seconds = (clock_steady() - start) / bench->steps;
    flops = (backend->flops_executed(device) - flops) / bench->steps;
    float losses[8] = {0};
    struct device_description description;
    backend->download(device, losses, training.losses, sizeof losses);
    must(backend->describe(device, &description, &err), &err);
    printf("train slots=%d batch=%d context=%d: %.3f ms a step, %.0f tokens/s, products %.1f TFLOP/s, memory %.1f GiB, "
           "losses %.5f %.5f %.5f %.5f, first adapter %016llx\n",
           slots, batch, context, seconds * 1e3, slots * batch * context / seconds, flops / seconds * 1e-12,
           (double)(description.memory_total - description.memory_free) / 0x1p30, (double)losses[0], (double)losses[1],
           (double)losses[2], (double)losses[3], (unsigned long long)adapter_hash(bench, &training.adapters));
    if (bench->profile) profile_print(bench, &training);
    fflush(stdout);
    backend->graph_destroy(device, graph);
    training_free(bench, &training);
}

/* ---- evaluation and decoding ---- */
static void bench_eval(const struct bench *bench, int32_t sequences, int32_t context) {
    struct lvs_error err = {0};
    struct pass *pass = NULL;
    struct pass_options options = {.n_slots = 1, .n_sequences = sequences, .context = context, .lora = &bench->lora};
    struct adapters adapters = adapters_make(bench, 1);
    must(pass_create(bench->model, &options, &pass, &err), &err);
    double start = 0;
    for (int32_t i = -2; i < bench->steps / 2; i++) {
        if (i == 0) wait_all(bench);
        if (i == 0) start = clock_steady();
        pass_forward(pass, &adapters);
        pass_loss(pass, &adapters);
    }
    wait_all(bench);
    double seconds = (clock_steady() - start) / (bench->steps / 2);
    printf("eval sequences=%d context=%d: %.3f ms a pass, %.0f tokens/s\n", sequences, context, seconds * 1e3,
           sequences * context / seconds);
    fflush(stdout);
    pass_destroy(pass);
    adapters_free(bench, &adapters);
}

static void decode_profile(const struct bench *bench, struct kv_cache *cache, const struct adapters *adapters) {
    struct lvs_error err = {0};
    struct strbuf text;
    strbuf_init(&text);
    bench->compute.backend->profile_begin(bench->compute.device);
    must(kv_cache_decode(cache, adapters, 1, &err), &err);
    bench->compute.backend->profile_write(bench->compute.device, &text);
    printf("%s", text.text ? text.text : "");
    strbuf_free(&text);
}

static struct kv_cache_options decode_options(const struct bench *bench, int32_t sequences, int32_t prompt,
                                              int32_t steps) {
    struct kv_cache_options options = {
        .n_sequences = sequences, .capacity = prompt + 2 * steps + 2, .lora = &bench->lora};
    options.samples = bench->samples > 0 ? bench->samples : 1;
    options.sampling =
        (struct sampling){.greedy = bench->samples == 0, .temperature = 1, .top_p = 1, .repetition_penalty = 1};
    return options;
}

static void bench_decode(const struct bench *bench, int32_t sequences, int32_t prompt, int32_t steps) {
    struct lvs_error err = {0};
    struct kv_cache *cache = NULL;
    struct kv_cache_options options = decode_options(bench, sequences, prompt, steps);
    struct adapters adapters = adapters_make(bench, 1);
    const int32_t prompts = sequences / options.samples;
    int32_t *ids = lvs_calloc((size_t)prompts * (size_t)prompt, sizeof *ids);
    int64_t *offset = lvs_calloc((size_t)prompts + 1, sizeof *offset);
    for (int32_t i = 0; i < prompts * prompt; i++)
        ids[i] = i % 29 % bench->config.vocab_size;
    for (int32_t i = 0; i <= prompts; i++)
        offset[i] = (int64_t)i * prompt;
    must(kv_cache_create(bench->model, &options, &cache, &err), &err);
    for (int32_t round = 0; round < 2; round++) {
        double start = clock_steady();
        must(kv_cache_prefill(cache, &adapters, ids, offset, prompts, &err), &err);
        wait_all(bench);
        if (bench->profile && round == 0) decode_profile(bench, cache, &adapters);
        double filled = clock_steady();
        must(kv_cache_decode(cache, &adapters, steps, &err), &err);
        wait_all(bench);
        double end = clock_steady();
        printf("decode sequences=%d samples=%d prompt=%d steps=%d (round %d): prefill %.3f s, steps %.3f s (%.3f ms "
               "each), %.0f tokens/s in all\n",
               sequences, bench->samples, prompt, steps, round, filled - start, end - filled,
               (end - filled) / steps * 1e3, sequences * steps / (end - start));
        fflush(stdout);
    }
    kv_cache_destroy(cache);
    adapters_free(bench, &adapters);
    free(ids);
    free(offset);
}

static void tuning_exchange(const struct bench *bench, const char *path, bool write) {
    struct lvs_error err = {0};
    struct strbuf text;
    FILE *file = fopen(path, write ? "w" : "r");
    if (!file) return;
    strbuf_init(&text);
    if (write) {
        bench->compute.backend->tuning_write(bench->compute.device, &text);
        fputs(text.text ? text.text : "", file);
    } else {
        char line[512];
        while (fgets(line, sizeof line, file))
            strbuf_add(&text, line);
        must(bench->compute.backend->tuning_read(bench->compute.device, text.text ? text.text : "", &err), &err);
    }
    strbuf_free(&text);
    fclose(file);
}

int main(int argc, char **argv) {
    struct lvs_error err = {0};
    const char *tuning = NULL;
    struct bench bench = {.steps = 20};
    bench.config = (struct qwen2_config){.vocab_size = 151936,
                                         .hidden = 896,
                                         .intermediate = 4864,
                                         .n_layers = 24,
                                         .n_heads = 14,
                                         .n_kv_heads = 2,
                                         .head_size = 64,
                                         .max_position = 32768,
                                         .rms_epsilon = 1e-6f,
                                         .rope_theta = 1e6,
                                         .tied = true,
                                         .pad_id = -1,
                                         .eos_id = -1};
    struct device_options device = {.precision = PRECISION_KIND_BF16};
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--profile") == 0) bench.profile = true;
        if (strcmp(argv[i], "--skip-tiles") == 0) bench.skip_tiles = true;
        if (strcmp(argv[i], "--layers") == 0) bench.config.n_layers = atoi(argv[++i]);
        if (strcmp(argv[i], "--steps") == 0) bench.steps = atoi(argv[++i]);
        if (strcmp(argv[i], "--vocabulary") == 0) bench.config.vocab_size = atoi(argv[++i]);
        if (strcmp(argv[i], "--samples") == 0) bench.samples = atoi(argv[++i]);
        if (strcmp(argv[i], "--tuning") == 0) tuning = argv[++i];
        if (strcmp(argv[i], "--bias") == 0) bench.head = HEAD_BIAS;
        if (strcmp(argv[i], "--dropout") == 0) bench.dropout = (float)atof(argv[++i]);
    }
    must(compute_open("cuda", &device, &bench.compute, &err), &err);
    if (tuning) tuning_exchange(&bench, tuning, false);
    must(model_random(&bench.compute, &bench.config, 7, &bench.model, &err), &err);
    lora_layout_make(&bench.config, bench.config.vocab_size, 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V, 8, bench.head,
                     &bench.lora);
    while (i < argc) {
        if (strcmp(argv[i], "train") == 0 && i + 3 < argc) {
            bench_train(&bench, atoi(argv[i + 1]), atoi(argv[i + 2]), atoi(argv[i + 3]));
            i += 4;
        } else if (strcmp(argv[i], "eval") == 0 && i + 2 < argc) {
            bench_eval(&bench, atoi(argv[i + 1]), atoi(argv[i + 2]));
            i += 3;
        } else if (strcmp(argv[i], "decode") == 0 && i + 3 < argc) {
            bench_decode(&bench, atoi(argv[i + 1]), atoi(argv[i + 2]), atoi(argv[i + 3]));
            i += 4;
        } else {
            fprintf(stderr, "%s: train, eval or decode with their numbers\n", argv[i]);
            return 2;
        }
    }
    if (tuning) tuning_exchange(&bench, tuning, true);
    model_close(bench.model);
    compute_close(&bench.compute);
    return 0;
}
