/* Prompts of different lengths into a key/value cache: padded right, a group at a time, through a pass without
 * backward. Samples of a prompt share its keys by copies, and each draws its own first token. */
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

#define PREFILL_ROWS 4096 /* rows of a pass: enough to fill a device, a few hundred MB of activations at 0.5B */

int32_t kv_cache_prefill_chunk(int32_t n_prompts, int32_t longest) {
    int32_t chunk = PREFILL_ROWS / longest;
    return chunk < 1 ? 1 : chunk > n_prompts ? n_prompts : chunk;
}

/* The prompts of one call. */
struct prompts {
    const int32_t *ids;
    const int64_t *offset; /* [count + 1] */
    int32_t count, longest;
};

static int32_t prompt_length(const struct prompts *prompts, int32_t p) {
    return (int32_t)(prompts->offset[p + 1] - prompts->offset[p]);
}

static enum lvs_status check_prompts(const struct kv_cache *cache, struct prompts *prompts, struct lvs_error *err) {
    if (prompts->count != cache->options.n_sequences / cache->options.samples)
        return lvs_fail(err, LVS_BUG, "%d prompts for a cache of %d sequences, %d samples each", prompts->count,
                        cache->options.n_sequences, cache->options.samples);
    for (int32_t p = 0; p < prompts->count; p++) {
        int64_t length = prompts->offset[p + 1] - prompts->offset[p];
        if (length < 1 || length >= cache->options.capacity)
            return lvs_fail(err, LVS_USAGE, "prompt %d has %lld tokens; 1 to %d leave room for an answer", p,
                            (long long)length, cache->options.capacity - 1);
        if (length > prompts->longest) prompts->longest = (int32_t)length;
    }
    return LVS_OK;
}

/* Token rows, lengths, and nothing finished. */
static void reset_state(struct kv_cache *cache, const struct prompts *prompts) {
    const struct compute *compute = &cache->model->compute;
    size_t n = (size_t)cache->options.n_sequences, stride = (size_t)cache->token_stride;
    int32_t *tokens = lvs_calloc(n * stride, sizeof *tokens);
    memset(cache->host_finished, 0, n);
    for (size_t i = 0; i < n; i++) {
        int32_t p = (int32_t)i / cache->options.samples;
        cache->host_length[i] = prompt_length(prompts, p);
        memcpy(tokens + i * stride, prompts->ids + prompts->offset[p], (size_t)cache->host_length[i] * sizeof *tokens);
    }
    compute->backend->upload(compute->device, cache->tokens, tokens, n * stride * sizeof *tokens);
    free(tokens);
    if (cache->shared)
        compute->backend->upload(compute->device, cache->shared, cache->host_length, n * sizeof *cache->host_length);
    kv_cache_upload_state(cache);
}

static void upload_ids(struct pass *pass, const struct prompts *prompts, int32_t first) {
    const struct compute *compute = &pass->model->compute;
    size_t n_rows = (size_t)pass->layout.n_rows;
    int32_t *ids = lvs_calloc(n_rows, sizeof *ids);
    for (int32_t j = 0; j < pass->layout.n_sequences; j++)
        memcpy(ids + (size_t)j * (size_t)pass->layout.context, prompts->ids + prompts->offset[first + j],
               (size_t)prompt_length(prompts, first + j) * sizeof *ids);
    compute->backend->upload(compute->device, pass->ids, ids, n_rows * sizeof *ids);
    free(ids);
}

/* hidden rows of the prompts' last tokens, one for each sample, into the decoding step's hidden rows. */
static void gather_last(struct kv_cache *cache, struct pass *pass, const struct prompts *prompts, int32_t first,
                        int32_t *index_memory) {
    const struct compute *compute = &cache->model->compute;
    int32_t samples = cache->options.samples, count = pass->layout.n_sequences * samples;
    int32_t hidden = cache->model->config.hidden;
    int32_t *index = lvs_malloc((size_t)count * sizeof *index);
    for (int32_t i = 0; i < count; i++) {
        int32_t j = i / samples;
        index[i] = j * pass->layout.context + prompt_length(prompts, first + j) - 1;
    }
    compute->backend->upload(compute->device, index_memory, index, (size_t)count * sizeof *index);
    free(index);
    size_t place = (size_t)first * (size_t)samples * (size_t)hidden * compute->act_size;
    compute->backend->gather_rows(compute->device, count, hidden, pass->hidden, index_memory,
                                  (unsigned char *)cache->decode->hidden + place);
}

/* Prompts [first, first + chunk): keys to the cache's sequences of the same numbers. */
static void run_chunk(struct kv_cache *cache, struct pass *pass, const struct adapters *adapters,
                      const struct prompts *prompts, int32_t first, struct kv_cache_layer *shifted, int32_t *index) {
    size_t shift = (size_t)first * cache->sequence_bytes;
    for (int32_t l = 0; l < cache->model->config.n_layers; l++) {
        shifted[l] = cache->layers[l];
        shifted[l].k = (unsigned char *)cache->layers[l].k + shift;
        shifted[l].v = (unsigned char *)cache->layers[l].v + shift;
    }
    struct pass_cache keys = {.layers = shifted};
    upload_ids(pass, prompts, first);
    pass_forward_cached(pass, adapters, &keys);
    gather_last(cache, pass, prompts, first, index);
}

static enum lvs_status run_chunks(struct kv_cache *cache, const struct adapters *adapters,
                                  const struct prompts *prompts, struct lvs_error *err) {
    const struct compute *compute = &cache->model->compute;
    int32_t chunk = kv_cache_prefill_chunk(prompts->count, prompts->longest);
    struct pass_options options = {
        .n_slots = 1, .n_sequences = chunk, .context = prompts->longest, .lora = cache->options.lora};
    struct pass *pass;
    void *index;
    LVS_TRY(pass_create(cache->model, &options, &pass, err));
    size_t index_bytes = (size_t)chunk * (size_t)cache->options.samples * sizeof(int32_t);
    enum lvs_status status = compute->backend->allocate(compute->device, index_bytes, &index, err);
    if (status == LVS_OK) {
        struct kv_cache_layer *shifted = lvs_malloc((size_t)cache->model->config.n_layers * sizeof *shifted);
        /* the last chunk reaches back over prompts already done: equal bits, and never past the cache's end */
        for (int32_t first = 0; first < prompts->count; first += chunk)
            run_chunk(cache, pass, adapters, prompts, first + chunk > prompts->count ? prompts->count - chunk : first,
                      shifted, index);
        free(shifted);
        status = compute->backend->synchronize(compute->device, err);
        compute->backend->release(compute->device, index);
    }
    pass_destroy(pass);
    return status;
}

/* Prompt p's keys lie in sequence p; its samples are sequences p·samples … . From the last prompt down nothing is
 * overwritten that is still needed; within a prompt the copies double. */
static void spread_part(const struct kv_cache *cache, unsigned char *part, int32_t n_prompts) {
    const struct compute *compute = &cache->model->compute;
    size_t bytes = cache->sequence_bytes, samples = (size_t)cache->options.samples;
    for (size_t p = (size_t)n_prompts; p-- > 0;) {
        unsigned char *target = part + p * samples * bytes;
        if (p > 0) compute->backend->copy(compute->device, target, part + p * bytes, bytes);
        for (size_t done = 1; done < samples;) {
            size_t count = done < samples - done ? done : samples - done;
            compute->backend->copy(compute->device, target + done * bytes, target, count * bytes);
            done += count;
        }
    }
}

static void spread_samples(const struct kv_cache *cache, int32_t n_prompts) {
    if (cache->options.samples == 1) return;
    for (int32_t l = 0; l < cache->model->config.n_layers; l++) {
        spread_part(cache, cache->layers[l].k, n_prompts);
        spread_part(cache, cache->layers[l].v, n_prompts);
    }
}

enum lvs_status kv_cache_prefill(struct kv_cache *cache, const struct adapters *adapters, const int32_t *ids,
                                 const int64_t *offset, int32_t n_prompts, struct lvs_error *err) {
    struct prompts prompts = {.ids = ids, .offset = offset, .count = n_prompts};
    LVS_TRY(check_prompts(cache, &prompts, err));
    reset_state(cache, &prompts);
    LVS_TRY(run_chunks(cache, adapters, &prompts, err));
    spread_samples(cache, n_prompts);
    kv_cache_sample(cache, adapters, cache->decode->hidden);
    for (int32_t i = 0; i < cache->options.n_sequences; i++)
        cache->host_length[i]++;
    return cache->model->compute.backend->synchronize(cache->model->compute.device, err);
}
