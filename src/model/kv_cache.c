/* Keys and values of many sequences that grow one token a step, each at its own length, and the step itself.
 * Lengths are known on the host without asking the device: a growing sequence gains one token a step. The prompts are
 * brought in by kv_cache_prefill.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

#define LENGTH_BUCKET 64 /* tokens: a step is recorded once for each multiple of this */

static int32_t min_int(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* ---- create and destroy ---- */

static size_t sequence_bytes(const struct qwen2_config *config, int32_t capacity, size_t act_size) {
    return (size_t)config->n_kv_heads * (size_t)capacity * (size_t)config->head_size * act_size;
}

static struct pass_options decode_options(const struct kv_cache_options *options) {
    return (struct pass_options){
        .n_slots = 1, .n_sequences = options->n_sequences, .context = 1, .lora = options->lora};
}

int64_t kv_cache_bytes(const struct qwen2_config *config, const struct kv_cache_options *options, size_t act_size) {
    struct pass_options decode = decode_options(options), prefill = decode;
    prefill.context = options->capacity;
    prefill.n_sequences = kv_cache_prefill_chunk(options->n_sequences / options->samples, options->capacity);
    size_t keys = 2 * (size_t)config->n_layers * (size_t)options->n_sequences *
                  sequence_bytes(config, options->capacity, act_size);
    int64_t tokens = (int64_t)options->n_sequences * (options->capacity + LENGTH_BUCKET) * (int64_t)sizeof(int32_t);
    return (int64_t)keys + tokens + pass_bytes(config, &decode, act_size) + pass_bytes(config, &prefill, act_size);
}

/* The small device arrays, one allocation each: they are few and made once. */
static enum lvs_status allocate_state(struct kv_cache *cache, struct lvs_error *err) {
    const struct compute *compute = &cache->model->compute;
    size_t n_rows = (size_t)cache->decode->layout.n_rows, n = (size_t)cache->options.n_sequences;
    const struct {
        void **array;
        size_t bytes;
    } rows[] = {
        {(void **)&cache->tokens, n * (size_t)cache->token_stride * sizeof(int32_t)},
        {(void **)&cache->length, n_rows * sizeof(int32_t)},
        {(void **)&cache->cached, (n_rows + 1) * sizeof(int32_t)},
        {(void **)&cache->growing, n * sizeof(int32_t)},
        {(void **)&cache->shared, cache->options.samples > 1 ? n * sizeof(int32_t) : 0},
        {(void **)&cache->finished, n},
        {(void **)&cache->allowed, cache->options.allowed ? (size_t)cache->model->n_vocabulary : 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].bytes > 0) LVS_TRY(compute->backend->allocate(compute->device, rows[i].bytes, rows[i].array, err));
    if (cache->allowed)
        compute->backend->upload(compute->device, cache->allowed, cache->options.allowed,
                                 (size_t)cache->model->n_vocabulary);
    return LVS_OK;
}

static enum lvs_status allocate_layers(struct kv_cache *cache, struct lvs_error *err) {
    const struct compute *compute = &cache->model->compute;
    size_t part = (size_t)cache->options.n_sequences * cache->sequence_bytes;
    int32_t n_layers = cache->model->config.n_layers;
    LVS_TRY(compute->backend->allocate(compute->device, 2 * (size_t)n_layers * part, &cache->memory, err));
    unsigned char *place = cache->memory;
    for (int32_t l = 0; l < n_layers; l++, place += 2 * part)
        cache->layers[l] = (struct kv_cache_layer){.k = place,
                                                   .v = place + part,
                                                   .capacity = cache->options.capacity,
                                                   .length = cache->cached,
                                                   .samples = cache->options.samples,
                                                   .shared = cache->shared};
    return LVS_OK;
}

static enum lvs_status allocate_all(struct kv_cache *cache, struct lvs_error *err) {
    struct pass_options decode = decode_options(&cache->options);
    LVS_TRY(pass_create_for(cache->model, &decode, cache->options.capacity, &cache->decode, err));
    LVS_TRY(allocate_state(cache, err));
    LVS_TRY(allocate_layers(cache, err));
    cache->decode->rope.position = cache->cached;
    return LVS_OK;
}

enum lvs_status kv_cache_create(const struct model *model, const struct kv_cache_options *options,
                                struct kv_cache **out, struct lvs_error *err) {
    assert(options->n_sequences >= 1 && options->samples >= 1 && options->n_sequences % options->samples == 0);
    struct kv_cache *cache = lvs_calloc(1, sizeof *cache);
    size_t n = (size_t)options->n_sequences;
    cache->model = model;
    cache->options = *options;
    if (options->lora) {
        cache->lora = *options->lora;
        cache->options.lora = &cache->lora;
    }
    cache->sequence_bytes = sequence_bytes(&model->config, options->capacity, model->compute.act_size);
    cache->token_stride = options->capacity + LENGTH_BUCKET;
    cache->layers = lvs_calloc((size_t)model->config.n_layers, sizeof *cache->layers);
    cache->host_length = lvs_calloc(n, sizeof *cache->host_length);
    cache->host_finished = lvs_calloc(n, sizeof *cache->host_finished);
    cache->n_buckets = options->capacity / LENGTH_BUCKET + 2;
    cache->graphs = lvs_calloc((size_t)cache->n_buckets, sizeof *cache->graphs);
    enum lvs_status status = allocate_all(cache, err);
    if (status != LVS_OK) {
        kv_cache_destroy(cache);
        return lvs_error_prefix(err, "keys and values of %d sequences of %d tokens", options->n_sequences,
                                options->capacity);
    }
    *out = cache;
    return LVS_OK;
}

static void drop_graphs(struct kv_cache *cache) {
    const struct compute *compute = &cache->model->compute;
    for (int32_t i = 0; i < cache->n_buckets; i++) {
        if (cache->graphs[i]) compute->backend->graph_destroy(compute->device, cache->graphs[i]);
        cache->graphs[i] = NULL;
    }
}

void kv_cache_destroy(struct kv_cache *cache) {
    if (!cache) return;
    const struct compute *compute = &cache->model->compute;
    drop_graphs(cache);
    void *const arrays[] = {cache->memory,  cache->tokens, cache->length,   cache->cached,
                            cache->growing, cache->shared, cache->finished, cache->allowed};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        if (arrays[i]) compute->backend->release(compute->device, arrays[i]);
    pass_destroy(cache->decode);
    free(cache->layers);
    free(cache->host_length);
    free(cache->host_finished);
    free(cache->graphs);
    free(cache);
}

/* ---- state ---- */

static bool grows(const struct kv_cache *cache, int32_t i) {
    return !cache->host_finished[i] && cache->host_length[i] < cache->options.capacity;
}

int32_t kv_cache_upload_state(struct kv_cache *cache) {
    const struct compute *compute = &cache->model->compute;
    int32_t n = cache->options.n_sequences, spare = cache->decode->layout.n_rows, n_growing = 0;
    size_t bytes = (size_t)n * sizeof(int32_t);
    int32_t *cached = lvs_malloc(bytes), *growing = lvs_malloc(bytes);
    uint8_t *finished = lvs_malloc((size_t)n);
    for (int32_t i = 0; i < n; i++) {
        cached[i] = cache->host_length[i] - 1; /* all but the token that the next step reads */
        finished[i] = !grows(cache, i);
        growing[i] = finished[i] ? spare : i; /* the spare counter takes the steps of those that do not grow */
        n_growing += !finished[i];
    }
    compute->backend->upload(compute->device, cache->length, cache->host_length, bytes);
    compute->backend->upload(compute->device, cache->cached, cached, bytes);
    compute->backend->upload(compute->device, cache->growing, growing, bytes);
    compute->backend->upload(compute->device, cache->finished, finished, (size_t)n);
    free(cached);
    free(growing);
    free(finished);
    return n_growing;
}

enum lvs_status kv_cache_set_finished(struct kv_cache *cache, const uint8_t *finished, struct lvs_error *err) {
    (void)err;
    for (int32_t i = 0; i < cache->options.n_sequences; i++)
        cache->host_finished[i] = finished[i] != 0;
    return LVS_OK;
}

enum lvs_status kv_cache_tokens(struct kv_cache *cache, int32_t *tokens, int32_t *length, struct lvs_error *err) {
    const struct compute *compute = &cache->model->compute;
    size_t n = (size_t)cache->options.n_sequences, stride = (size_t)cache->token_stride;
    size_t capacity = (size_t)cache->options.capacity;
    int32_t *all = lvs_malloc(n * stride * sizeof *all);
    compute->backend->download(compute->device, all, cache->tokens, n * stride * sizeof *all);
    memset(tokens, 0, n * capacity * sizeof *tokens);
    for (size_t i = 0; i < n; i++)
        memcpy(tokens + i * capacity, all + i * stride, (size_t)cache->host_length[i] * sizeof *tokens);
    memcpy(length, cache->host_length, n * sizeof *length);
    free(all);
    return compute->backend->synchronize(compute->device, err);
}

/* ---- steps ---- */

void kv_cache_sample(struct kv_cache *cache, const struct adapters *adapters, const void *hidden) {
    const struct compute *compute = &cache->model->compute;
    struct sample_call call = {
        .x = hidden,
        .head = pass_head(cache->decode, adapters),
        .adapters = adapters,
        .bias_offset = pass_bias_offset(cache->decode, adapters),
        .allowed = cache->allowed,
        .sampling = cache->options.sampling,
        .seed = cache->options.seed,
        .tokens = cache->tokens,
        .token_stride = cache->token_stride,
        .length = cache->length,
        .ids = cache->decode->ids,
        .finished = cache->finished,
    };
    compute->backend->sample(compute->device, &cache->decode->layout, &call);
}

/* The last token of every sequence → its keys, the next token. */
static void step(struct kv_cache *cache, const struct adapters *adapters, int32_t length_bound) {
    const struct compute *compute = &cache->model->compute;
    struct pass_cache keys = {.layers = cache->layers, .append = true, .length_bound = length_bound};
    pass_forward_cached(cache->decode, adapters, &keys);
    struct pack_layout counters = pack_layout_make(cache->options.n_sequences, 1, 1);
    counters.adapter = cache->growing;
    compute->backend->step_advance(compute->device, &counters, cache->cached);
    kv_cache_sample(cache, adapters, cache->decode->hidden);
}

/* Recorded after the first step of a bucket has run as it is; a backend without graphs runs all steps so. */
static enum lvs_status run_steps(struct kv_cache *cache, const struct adapters *adapters, int32_t bucket,
                                 int32_t length_bound, int32_t count, struct lvs_error *err) {
    const struct compute *compute = &cache->model->compute;
    const struct backend *backend = compute->backend;
    struct device_graph **graph = &cache->graphs[bucket];
    for (int32_t i = 0; i < count; i++) {
        if (*graph) {
            backend->graph_launch(compute->device, *graph);
            continue;
        }
        step(cache, adapters, length_bound);
        if (!backend->graph_begin || i + 1 == count) continue;
        backend->graph_begin(compute->device);
        step(cache, adapters, length_bound);
        LVS_TRY(backend->graph_end(compute->device, graph, err));
    }
    return LVS_OK;
}

/* Graphs hold addresses: other adapters make them useless. */
static void check_graphs(struct kv_cache *cache, const struct adapters *adapters) {
    struct adapters used = adapters ? *adapters : (struct adapters){0};
    if (memcmp(&used, &cache->graph_adapters, sizeof used) != 0) drop_graphs(cache);
    cache->graph_adapters = used;
}

/* Steps until a sequence that grows is full or passes its length bucket; the bucket covers all sequences. */
static int32_t next_stretch(const struct kv_cache *cache, int32_t steps, int32_t *bucket, int32_t *length_bound) {
    int32_t longest = 0, longest_growing = 0, capacity = cache->options.capacity;
    for (int32_t i = 0; i < cache->options.n_sequences; i++) {
        int32_t length = cache->host_length[i];
        if (length > longest) longest = length;
        if (grows(cache, i) && length > longest_growing) longest_growing = length;
    }
    *bucket = (longest + LENGTH_BUCKET - 1) / LENGTH_BUCKET;
    *length_bound = min_int(*bucket * LENGTH_BUCKET, capacity);
    int32_t room = min_int(capacity - longest_growing, *length_bound - longest_growing + 1);
    return min_int(steps, min_int(room, LENGTH_BUCKET));
}

enum lvs_status kv_cache_decode(struct kv_cache *cache, const struct adapters *adapters, int32_t steps,
                                struct lvs_error *err) {
    check_graphs(cache, adapters);
    while (steps > 0 && kv_cache_upload_state(cache) > 0) {
        int32_t bucket, length_bound;
        int32_t stretch = next_stretch(cache, steps, &bucket, &length_bound);
        LVS_TRY(run_steps(cache, adapters, bucket, length_bound, stretch, err));
        for (int32_t i = 0; i < cache->options.n_sequences; i++)
            if (grows(cache, i)) cache->host_length[i] += stretch;
        steps -= stretch;
    }
    return cache->model->compute.backend->synchronize(cache->model->compute.device, err);
}
