/* Generation with cached keys and values: filling the cache from a prompt, and one new row a sequence attending over
 * it. A head reads its key/value head's contiguous [capacity][head_size] rows. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "cpu_internal.h"

/* First float of key/value head `kv` of a sequence in the cache. */
static int64_t cache_offset(const struct attention_shape *shape, const struct kv_cache_layer *cache, int64_t sequence,
                            int32_t kv) {
    return (sequence * shape->n_kv_heads + kv) * cache->capacity * shape->head_size;
}

/* Copies the key and value of one row to `position` of the sequence's cache. */
static void row_store(const struct attention_shape *shape, const float *qkv_row, const struct kv_cache_layer *cache,
                      int64_t sequence, int64_t position) {
    int64_t size = shape->head_size;
    const float *k = qkv_row + shape->n_heads * size, *v = k + shape->n_kv_heads * size;
    for (int32_t kv = 0; kv < shape->n_kv_heads; kv++) {
        int64_t target = cache_offset(shape, cache, sequence, kv) + position * size;
        memcpy((float *)cache->k + target, k + kv * size, (size_t)size * sizeof(float));
        memcpy((float *)cache->v + target, v + kv * size, (size_t)size * sizeof(float));
    }
}

static int64_t sequence_row(const struct pack_layout *layout, int64_t sequence) {
    return sequence / layout->n_sequences * layout->slot_rows + sequence % layout->n_sequences * layout->context;
}

void cpu_kv_store(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                  const void *qkv, const struct kv_cache_layer *cache) {
    double start = cpu_profile_start(device);
    assert(layout->context <= cache->capacity);
    int64_t width = attention_qkv_width(shape), n_sequences = (int64_t)layout->n_slots * layout->n_sequences;
#pragma omp parallel for num_threads(device->threads)
    for (int64_t sequence = 0; sequence < n_sequences; sequence++)
        for (int64_t i = 0; i < layout->context; i++)
            row_store(shape, (const float *)qkv + (sequence_row(layout, sequence) + i) * width, cache, sequence, i);
    cpu_profile_stop(device, "kv_store", start);
}

static void attend(const struct attention_shape *shape, const float *q, const float *k, const float *v, int64_t tokens,
                   float *scores, float *out) {
    int64_t size = shape->head_size;
    float scale = (float)(1.0 / sqrt((double)size));
    for (int64_t i = 0; i < tokens; i++)
        scores[i] = scale * cpu_dot(q, k + i * size, size);
    float max = cpu_max(scores, tokens);
    double sum = cpu_exp_sum(scores, 1, max, tokens);
    memset(out, 0, (size_t)size * sizeof *out);
    for (int64_t i = 0; i < tokens; i++)
        cpu_axpy(scores[i], v + i * size, out, size);
    cpu_scale((float)(1.0 / sum), out, size);
}

void cpu_attention_cached(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                          const void *qkv, const struct kv_cache_layer *cache, int32_t length_bound, void *out) {
    double start = cpu_profile_start(device);
    assert(layout->context == 1);
    int64_t size = shape->head_size, width = attention_qkv_width(shape), out_width = shape->n_heads * size;
    int64_t n_sequences = (int64_t)layout->n_slots * layout->n_sequences, terms = 0;
    int32_t group = shape->n_heads / shape->n_kv_heads;
    size_t scores = cpu_align((size_t)(length_bound + 1) * sizeof(float));
    char *scratch = cpu_scratch(device, (size_t)device->threads * scores);
    if (!scratch) return;
    memset(out, 0, (size_t)(layout->n_rows * out_width) * sizeof(float));
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1) reduction(+ : terms)
    for (int64_t sequence = 0; sequence < n_sequences; sequence++) {
        int32_t length = cache->length[sequence];
        assert(length >= 0 && length <= length_bound && length < cache->capacity);
        int64_t row = sequence_row(layout, sequence);
        const float *values = (const float *)qkv + row * width;
        row_store(shape, values, cache, sequence, length);
        for (int32_t head = 0; head < shape->n_heads; head++) {
            int64_t offset = cache_offset(shape, cache, sequence, head / group);
            attend(shape, values + head * size, (const float *)cache->k + offset, (const float *)cache->v + offset,
                   (int64_t)length + 1, (float *)(scratch + (size_t)omp_get_thread_num() * scores),
                   (float *)out + row * out_width + head * size);
        }
        terms += length + 1;
    }
    device->flops += 4.0 * (double)terms * (double)out_width;
    cpu_profile_stop(device, "attention_cached", start);
}
