/* Whole training steps: every trial alone, then all of them in one pack that one trial leaves half way. Parameters and
 * losses of a trial must be equal byte for byte, with the trials' ranks equal and mixed, and however often it is
 * repeated. Checks no values (golden and parity tests do).
 *   test_packs cpu|cuda [--wide] [--layers N] [--context N] [--batch N] [--repeats N] [--skip-tiles] [--bias]
 *              [--vocabulary N] [--dropout P]
 * --wide: the widths and the vocabulary of Qwen2.5-0.5B instead of small ones. --bias: a trained head bias. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/model.h"
#include "lvsweep/rng.h"

enum { TRIALS = 9, STEPS = 12, HALF = 6, LEAVES = 3, WINDOWS = 16, IDS = 32 };
static const int32_t equal_ranks[TRIALS] = {8, 8, 8, 8, 8, 8, 8, 8, 8};
static const int32_t mixed_ranks[TRIALS] = {8, 2, 16, 4, 8, 6, 1, 8, 16};

struct bench {
    struct compute compute;
    struct model *model;
    struct qwen2_config config;
    int32_t batch, context;
    bool skip_tiles;
    int32_t head; /* enum head_mode */
    float dropout;
};

/* What a trial is compared by. */
struct outcome {
    uint64_t params, losses; /* hashes */
};

static void must(enum lvs_status status, const struct lvs_error *err) {
    if (status == LVS_OK) return;
    fprintf(stderr, "%s\n", err->text);
    exit(2);
}

static void *device_array(const struct bench *bench, const void *values, size_t bytes) {
    struct lvs_error err = {0};
    void *memory = NULL;
    must(bench->compute.backend->allocate(bench->compute.device, bytes, &memory, &err), &err);
    if (values) bench->compute.backend->upload(bench->compute.device, memory, values, bytes);
    must(bench->compute.backend->synchronize(bench->compute.device, &err), &err);
    return memory;
}

/* FNV-1a. */
static uint64_t hash_add(uint64_t hash, const void *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    return hash;
}

/* ---- one run of some trials ---- */

struct run {
    const struct bench *bench;
    const int32_t *ranks;
    int32_t n, trial[TRIALS];
    struct lora_layout lora;
    struct pass *pass;
    struct adapters adapters;
    struct batch_call batch;
    struct optimizer_call optimizer;
    float *losses; /* [n][STEPS] */
    struct device_graph *graph;
};

/* Rows of A and columns of B within the trial's own rank, and the head's bias; what() sees each stretch of floats. */
static void own_floats(const struct run *run, int32_t k, float *adapter,
                       void (*what)(void *context, float *values, int64_t count), void *context) {
    const struct lora_layout *lora = &run->lora;
    int32_t rank = run->ranks[run->trial[k]];
    for (int32_t l = 0; l < lora->n_layers; l++)
        for (int32_t t = 0; t < LORA_TARGET_COUNT; t++) {
            if (!(lora->targets >> t & 1u)) continue;
            float *block = adapter + l * lora->layer_floats;
            what(context, block + lora->site_a[t], (int64_t)rank * lora->n_in[t]);
            for (int32_t o = 0; o < lora->n_out[t]; o++)
                what(context, block + lora->site_b[t] + (int64_t)o * lora->rank, rank);
        }
    if (lora->bias_offset >= 0) what(context, adapter + lora->bias_offset, lora->n_vocabulary);
}

static void fill_floats(void *context, float *values, int64_t count) {
    struct rng *rng = context;
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(0.06 * rng_uniform(rng) - 0.03);
}

static void hash_floats(void *context, float *values, int64_t count) {
    uint64_t *hash = context;
    *hash = hash_add(*hash, values, (size_t)count * sizeof *values);
}

static void adapters_fill(struct run *run) {
    float *params = lvs_calloc((size_t)(run->n * run->lora.stride), sizeof *params), scale[TRIALS];
    uint64_t seed[TRIALS];
    int32_t step[TRIALS] = {0};
    for (int32_t k = 0; k < run->n; k++) {
        seed[k] = 300 + (uint64_t)run->trial[k];
        struct rng rng = rng_make(100 + (uint64_t)run->trial[k], RNG_STREAM_TEST);
        own_floats(run, k, params + k * run->lora.stride, fill_floats, &rng);
        scale[k] = 1 + 0.25f * (float)run->trial[k];
    }
    size_t n = (size_t)run->n, bytes = n * (size_t)run->lora.stride * sizeof(float);
    run->adapters = (struct adapters){.params = device_array(run->bench, params, bytes),
                                      .grads = device_array(run->bench, NULL, bytes),
                                      .stride = run->lora.stride,
                                      .scale = device_array(run->bench, scale, n * sizeof *scale),
                                      .seed = device_array(run->bench, seed, n * sizeof *seed),
                                      .step = device_array(run->bench, step, n * sizeof *step)};
    float dropout[TRIALS];
    for (int32_t k = 0; k < run->n; k++)
        dropout[k] = run->bench->dropout;
    if (run->bench->dropout > 0) run->adapters.dropout = device_array(run->bench, dropout, n * sizeof *dropout);
    run->optimizer.m = device_array(run->bench, NULL, bytes);
    run->optimizer.v = device_array(run->bench, NULL, bytes);
    free(params);
}

static void optimizer_fill(struct run *run) {
    struct optimizer_settings settings[TRIALS];
    float rate[TRIALS * STEPS];
    for (int32_t k = 0; k < run->n; k++) {
        settings[k] = (struct optimizer_settings){.beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .clip_norm = 1};
        for (int32_t i = 0; i < STEPS; i++)
            rate[k * STEPS + i] = 1e-4f * (float)(1 + run->trial[k]);
    }
    size_t n = (size_t)run->n;
    run->optimizer.adapters = &run->adapters;
    run->optimizer.n_params = run->lora.n_params;
    run->optimizer.settings = device_array(run->bench, settings, n * sizeof *settings);
    run->optimizer.learning_rate = device_array(run->bench, rate, n * STEPS * sizeof *rate);
    run->optimizer.gradient_norm = device_array(run->bench, NULL, n * STEPS * sizeof(float));
    run->optimizer.table_stride = STEPS;
    run->losses = device_array(run->bench, NULL, n * STEPS * sizeof(float));
}

/* Windows are everybody's, their order is the trial's. */
static void batch_fill(struct run *run) {
    const struct bench *bench = run->bench;
    struct rng common = rng_make(1, RNG_STREAM_TEST);
    int32_t count = WINDOWS * bench->context, a_trial = STEPS * bench->batch;
    uint32_t n_ids = bench->config.vocab_size < IDS ? (uint32_t)bench->config.vocab_size : IDS;
    int32_t *ids = lvs_malloc((size_t)count * sizeof *ids), *labels = lvs_malloc((size_t)count * sizeof *labels);
    int32_t *order = lvs_malloc((size_t)(run->n * a_trial) * sizeof *order);
    for (int32_t i = 0; i < count; i++)
        ids[i] = (int32_t)rng_below(&common, n_ids);
    for (int32_t i = 0; i < count; i++)
        labels[i] = i % 61 == 0 ? LVS_LABEL_IGNORED : (int32_t)rng_below(&common, n_ids);
    for (int32_t k = 0; k < run->n; k++) {
        struct rng own = rng_make(200 + (uint64_t)run->trial[k], RNG_STREAM_TEST);
        for (int32_t i = 0; i < a_trial; i++)
            order[k * a_trial + i] = (int32_t)rng_below(&own, WINDOWS);
    }
    run->batch = (struct batch_call){.order_stride = a_trial, .batch = bench->batch, .step = run->adapters.step};
    run->batch.window_ids = device_array(bench, ids, (size_t)count * sizeof *ids);
    run->batch.window_labels = device_array(bench, labels, (size_t)count * sizeof *labels);
    run->batch.order = device_array(bench, order, (size_t)(run->n * a_trial) * sizeof *order);
    run->batch.ids = pass_ids(run->pass);
    run->batch.labels = pass_labels(run->pass);
    run->batch.label_weight = pass_label_weight(run->pass);
    free(ids);
    free(labels);
    free(order);
}

static void run_open(struct run *run) {
    struct lvs_error err = {0};
    const struct bench *bench = run->bench;
    int32_t most = 1;
    for (int32_t k = 0; k < run->n; k++)
        if (run->ranks[run->trial[k]] > most) most = run->ranks[run->trial[k]];
    lora_layout_make(&bench->config, bench->config.vocab_size, 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V, most,
                     bench->head, &run->lora);
    struct pass_options options = {.n_slots = run->n, .n_sequences = bench->batch, .context = bench->context};
    options.backward = true, options.skip_tiles = bench->skip_tiles, options.lora = &run->lora;
    must(pass_create(bench->model, &options, &run->pass, &err), &err);
    adapters_fill(run);
    optimizer_fill(run);
    batch_fill(run);
}

static void run_close(struct run *run) {
    const struct backend *backend = run->bench->compute.backend;
    struct device *device = run->bench->compute.device;
    const void *arrays[] = {run->adapters.params,
                            run->adapters.grads,
                            run->adapters.scale,
                            run->adapters.seed,
                            run->adapters.step,
                            run->adapters.dropout,
                            run->optimizer.m,
                            run->optimizer.v,
                            run->optimizer.settings,
                            run->optimizer.learning_rate,
                            run->optimizer.gradient_norm,
                            run->batch.window_ids,
                            run->batch.window_labels,
                            run->batch.order,
                            run->losses};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        backend->release(device, (void *)arrays[i]);
    pass_destroy(run->pass);
}

static void enqueue_step(struct run *run) {
    const struct backend *backend = run->bench->compute.backend;
    struct device *device = run->bench->compute.device;
    const struct pack_layout *layout = pass_layout(run->pass);
    backend->batch_gather(device, layout, &run->batch);
    pass_forward(run->pass, &run->adapters);
    pass_loss(run->pass, &run->adapters);
    backend->loss_reduce(device, layout, pass_row_loss(run->pass), pass_label_weight(run->pass), run->adapters.step,
                         STEPS, run->losses);
    pass_backward(run->pass, &run->adapters);
    backend->adam(device, layout, &run->optimizer);
    backend->step_advance(device, layout, (int32_t *)run->adapters.step);
}

/* The first step as it is, the others recorded where the backend records. */
static void run_steps(struct run *run, int32_t count) {
    const struct backend *backend = run->bench->compute.backend;
    struct device *device = run->bench->compute.device;
    struct lvs_error err = {0};
    struct device_graph *graph = NULL;
    enqueue_step(run);
    for (int32_t i = 1; i < count; i++) {
        if (!backend->graph_begin) {
            enqueue_step(run);
            continue;
        }
        if (!graph) {
            backend->graph_begin(device);
            enqueue_step(run);
            must(backend->graph_end(device, &graph, &err), &err);
        }
        backend->graph_launch(device, graph);
    }
    must(backend->synchronize(device, &err), &err);
    if (graph) backend->graph_destroy(device, graph);
}

static struct outcome outcome_read(const struct run *run, int32_t k, int32_t n_steps) {
    struct outcome outcome = {14695981039346656037u, 14695981039346656037u};
    float losses[STEPS], *params = lvs_malloc((size_t)run->lora.stride * sizeof *params);
    const struct backend *backend = run->bench->compute.backend;
    backend->download(run->bench->compute.device, params, run->adapters.params + k * run->lora.stride,
                      (size_t)run->lora.stride * sizeof *params);
    backend->download(run->bench->compute.device, losses, run->losses + k * STEPS, (size_t)n_steps * sizeof *losses);
    own_floats(run, k, params, hash_floats, &outcome.params);
    hash_floats(&outcome.losses, losses, n_steps);
    free(params);
    return outcome;
}

/* ---- comparisons ---- */

/* Where trial LEAVES ends half way, all others go on to the end. */
static struct outcome trial_alone(const struct bench *bench, const int32_t *ranks, int32_t trial) {
    struct run run = {.bench = bench, .ranks = ranks, .n = 1, .trial = {trial}};
    int32_t n_steps = trial == LEAVES ? HALF : STEPS;
    run_open(&run);
    run_steps(&run, n_steps);
    struct outcome outcome = outcome_read(&run, 0, n_steps);
    run_close(&run);
    return outcome;
}

static void trials_packed(const struct bench *bench, const int32_t *ranks, struct outcome outcome[TRIALS]) {
    struct lvs_error err = {0};
    struct run run = {.bench = bench, .ranks = ranks, .n = TRIALS};
    int32_t staying[TRIALS - 1], n = 0;
    for (int32_t k = 0; k < TRIALS; k++) {
        run.trial[k] = k;
        if (k != LEAVES) staying[n++] = k;
    }
    run_open(&run);
    run_steps(&run, HALF);
    must(pass_set_slots(run.pass, staying, n, &err), &err);
    run_steps(&run, STEPS - HALF);
    for (int32_t k = 0; k < TRIALS; k++)
        outcome[k] = outcome_read(&run, k, k == LEAVES ? HALF : STEPS);
    run_close(&run);
}

static int32_t compare(const struct bench *bench, const char *what, const int32_t *ranks, int32_t repeats) {
    struct outcome alone[TRIALS], packed[TRIALS];
    int32_t failed = 0, compared = 0;
    for (int32_t k = 0; k < TRIALS; k++)
        alone[k] = trial_alone(bench, ranks, k);
    for (int32_t repeat = 0; repeat < repeats; repeat++) {
        trials_packed(bench, ranks, packed);
        for (int32_t k = 0; k < TRIALS; k++) {
            bool params = packed[k].params == alone[k].params, losses = packed[k].losses == alone[k].losses;
            if (!params || !losses)
                printf("FAILED %s, repeat %d: trial %d (rank %d) differs from the trial alone in%s%s\n", what, repeat,
                       k, ranks[k], params ? "" : " parameters", losses ? "" : " losses");
            failed += !params || !losses;
            compared++;
        }
    }
    printf("%s: %d × %d sequences of %d tokens%s: %d comparisons, %d failed, first trial %016llx\n", what, TRIALS,
           bench->batch, bench->context, bench->skip_tiles ? ", tiles skipped" : "", compared, failed,
           (unsigned long long)alone[0].params);
    fflush(stdout);
    return failed;
}

static struct qwen2_config shape_make(bool wide, int32_t layers) {
    struct qwen2_config shape = {.max_position = 4096, .rms_epsilon = 1e-6f, .rope_theta = 1e6, .tied = true};
    shape.pad_id = shape.eos_id = -1;
    shape.vocab_size = wide ? 151936 : 160;
    shape.hidden = wide ? 896 : 64;
    shape.intermediate = wide ? 4864 : 96;
    shape.n_heads = wide ? 14 : 4;
    shape.n_kv_heads = 2;
    shape.head_size = wide ? 64 : 16;
    shape.n_layers = layers > 0 ? layers : wide ? 24 : 2;
    return shape;
}

int main(int argc, char **argv) {
    struct lvs_error err = {0};
    struct bench bench = {.batch = 2, .context = 24};
    const char *backend = argc > 1 ? argv[1] : "cpu";
    int32_t layers = 0, repeats = 1, vocabulary = 0;
    bool wide = false;
    for (int i = 2; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--wide") == 0) wide = true;
        if (strcmp(argv[i], "--skip-tiles") == 0) bench.skip_tiles = true;
        if (strcmp(argv[i], "--layers") == 0 && more) layers = atoi(argv[++i]);
        if (strcmp(argv[i], "--context") == 0 && more) bench.context = atoi(argv[++i]);
        if (strcmp(argv[i], "--batch") == 0 && more) bench.batch = atoi(argv[++i]);
        if (strcmp(argv[i], "--repeats") == 0 && more) repeats = atoi(argv[++i]);
        if (strcmp(argv[i], "--bias") == 0) bench.head = HEAD_BIAS;
        if (strcmp(argv[i], "--vocabulary") == 0 && more) vocabulary = atoi(argv[++i]);
        if (strcmp(argv[i], "--dropout") == 0 && more) bench.dropout = (float)atof(argv[++i]);
    }
    bool cuda = strcmp(backend, "cuda") == 0;
    struct device_options device = {.precision = cuda ? PRECISION_KIND_BF16 : PRECISION_KIND_FP32, .threads = 2};
    bench.config = shape_make(wide, layers);
    if (vocabulary > 0) bench.config.vocab_size = vocabulary;
    must(compute_open(backend, &device, &bench.compute, &err), &err);
    must(model_random(&bench.compute, &bench.config, 7, &bench.model, &err), &err);
    int32_t failed = compare(&bench, "equal ranks", equal_ranks, repeats);
    failed += compare(&bench, "mixed ranks", mixed_ranks, repeats);
    model_close(bench.model);
    compute_close(&bench.compute);
    return failed ? 1 : 0;
}
