/* The next id of every sequence: logits of one row a sequence, the processors in the order of transformers (repetition
 * penalty, temperature, top-k, top-p), then the highest or a draw. One thread works on one row. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "cpu_matmul.h"
#include "lvsweep/rng.h"

/* An id with its score, for top-k and top-p. */
struct candidate {
    float score;
    int32_t id;
};

/* A thread's scratch for one row. */
struct row_scratch {
    struct candidate *heap; /* [vocabulary] */
    uint8_t *seen;          /* [vocabulary], zero between rows */
};

/* ---- candidates in order: highest score first; ties: the lower id first ---- */

static bool candidate_before(struct candidate a, struct candidate b) {
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

static void heap_sink(struct candidate *heap, int32_t count, int32_t at) {
    struct candidate moved = heap[at];
    for (int32_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && candidate_before(heap[child + 1], heap[child])) child++;
        if (!candidate_before(heap[child], moved)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* A heap of all ids that are still possible; returns how many. */
static int32_t heap_make(const float *scores, int32_t vocabulary, struct candidate *heap) {
    int32_t count = 0;
    for (int32_t id = 0; id < vocabulary; id++)
        if (scores[id] > -INFINITY) heap[count++] = (struct candidate){scores[id], id};
    for (int32_t at = count / 2 - 1; at >= 0; at--)
        heap_sink(heap, count, at);
    return count;
}

static struct candidate heap_pop(struct candidate *heap, int32_t *count) {
    struct candidate first = heap[0];
    heap[0] = heap[--*count];
    if (*count > 0) heap_sink(heap, *count, 0);
    return first;
}

/* ---- processors ---- */

/* Every id of the sequence once: positive scores are divided, negative ones multiplied. */
static void penalise(float penalty, const int32_t *tokens, int32_t count, uint8_t *seen, float *scores) {
    if (penalty == 1) return;
    for (int32_t i = 0; i < count; i++) {
        int32_t id = tokens[i];
        if (seen[id]) continue;
        seen[id] = 1;
        scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
    }
    for (int32_t i = 0; i < count; i++)
        seen[tokens[i]] = 0;
}

static int32_t highest(const float *scores, int32_t vocabulary) {
    int32_t best = 0;
    for (int32_t id = 1; id < vocabulary; id++)
        if (scores[id] > scores[best]) best = id;
    return best;
}

/* Scores below the k-th highest are removed; those equal to it stay. */
static void keep_top_k(int32_t top_k, int32_t vocabulary, struct candidate *heap, float *scores) {
    int32_t count = heap_make(scores, vocabulary, heap);
    if (count <= top_k) return;
    float least = 0;
    for (int32_t i = 0; i < top_k; i++)
        least = heap_pop(heap, &count).score;
    for (int32_t id = 0; id < vocabulary; id++)
        if (scores[id] < least) scores[id] = -INFINITY;
}

/* The fewest candidates whose probabilities reach top_p stay; at least one. */
static void keep_top_p(float top_p, int32_t vocabulary, struct candidate *heap, float *scores) {
    if (top_p >= 1) return;
    float max = scores[highest(scores, vocabulary)];
    double total = cpu_exp_total(scores, 1, max, vocabulary), reached = 0;
    int32_t count = heap_make(scores, vocabulary, heap);
    if (count == 0) return; /* nothing but NaN */
    struct candidate last;
    do {
        last = heap_pop(heap, &count);
        reached += exp((double)last.score - (double)max);
    } while (count > 0 && reached < (double)top_p * total);
    for (int32_t i = 0; i < count; i++)
        scores[heap[i].id] = -INFINITY;
}

/* Inverse of the cumulative distribution in id order. The scores become exponentials. */
static int32_t draw(float *scores, int32_t vocabulary, uint64_t seed, uint64_t index) {
    uint32_t words[4];
    rng_block(seed, RNG_STREAM_SAMPLING, index, words);
    double uniform = (double)(((uint64_t)words[0] << 32 | words[1]) >> 11) * 0x1p-53, reached = 0;
    double total = cpu_exp_sum(scores, 1, scores[highest(scores, vocabulary)], vocabulary);
    int32_t last = 0;
    for (int32_t id = 0; id < vocabulary; id++) {
        if (!(scores[id] > 0)) continue;
        last = id;
        reached += (double)scores[id];
        if (reached > uniform * total) return id;
    }
    return last;
}

static int32_t row_choose(const struct sample_call *call, int64_t sequence, float *scores,
                          const struct row_scratch *scratch) {
    const struct sampling *sampling = &call->sampling;
    int32_t vocabulary = (int32_t)call->head->rows, length = call->length[sequence];
    const int32_t *tokens = call->tokens + sequence * call->token_stride;
    penalise(sampling->repetition_penalty, tokens, length, scratch->seen, scores);
    if (call->allowed)
        for (int32_t id = 0; id < vocabulary; id++)
            if (!call->allowed[id]) scores[id] = -INFINITY;
    if (sampling->greedy) return highest(scores, vocabulary);
    for (int32_t id = 0; id < vocabulary; id++)
        scores[id] = scores[id] / sampling->temperature;
    if (sampling->top_k > 0) keep_top_k(sampling->top_k, vocabulary, scratch->heap, scores);
    keep_top_p(sampling->top_p, vocabulary, scratch->heap, scores);
    return draw(scores, vocabulary, call->seed, (uint64_t)sequence << 32 | (uint32_t)length);
}

/* `scores` are the row's logits. Padding rows get id 0. */
static void row_sample(const struct pack_layout *layout, const struct sample_call *call, int64_t row, float *scores,
                       const struct row_scratch *scratch) {
    int64_t slot = row / layout->slot_rows, place = row % layout->slot_rows;
    call->ids[row] = 0;
    if (place >= layout->n_sequences) return;
    int64_t sequence = slot * layout->n_sequences + place;
    int32_t *tokens = call->tokens + sequence * call->token_stride, length = call->length[sequence], id;
    assert(length > 0 && length < call->token_stride);
    const struct adapters *adapters = call->adapters;
    if (adapters && call->bias_offset >= 0)
        cpu_axpy(1, adapters->params + layout->adapter[slot] * adapters->stride + call->bias_offset, scores,
                 call->head->rows);
    bool repeat = call->finished && call->finished[sequence];
    id = repeat ? tokens[length - 1] : row_choose(call, sequence, scores, scratch);
    tokens[length] = id;
    call->length[sequence] = length + 1;
    call->ids[row] = id;
}

/* Rows [row, row + rows): their logits, then one thread a row. */
static void rows_sample(struct device *device, const struct pack_layout *layout, const struct sample_call *call,
                        int64_t row, int64_t rows, float *logits, float *tiles, char *threads) {
    int64_t vocabulary = call->head->rows;
    size_t heap = cpu_align((size_t)vocabulary * sizeof(struct candidate)), seen = cpu_align((size_t)vocabulary);
    struct product product =
        cpu_product_make(layout, (const float *)call->x + row * call->head->cols, call->head, logits, tiles);
    product.n_rows = product.slot_rows = rows;
    cpu_product_forward(device, &product);
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < rows; i++) {
        char *own = threads + (size_t)omp_get_thread_num() * (heap + seen);
        struct row_scratch scratch = {(struct candidate *)own, (uint8_t *)(own + heap)};
        row_sample(layout, call, row + i, logits + i * vocabulary, &scratch);
    }
}

void cpu_sample(struct device *device, const struct pack_layout *layout, const struct sample_call *call) {
    double start = cpu_profile_start(device);
    assert(layout->context == 1 && (call->sampling.greedy || call->sampling.temperature > 0));
    int64_t vocabulary = call->head->rows, slot_rows = layout->slot_rows;
    int64_t rows = cpu_logits_rows(vocabulary, slot_rows, layout->row_block);
    size_t tiles = cpu_align(cpu_tiles_size(device)), logits = cpu_align((size_t)(rows * vocabulary) * sizeof(float));
    size_t own = cpu_align((size_t)vocabulary * sizeof(struct candidate)) + cpu_align((size_t)vocabulary);
    char *scratch = cpu_scratch(device, tiles + logits + (size_t)device->threads * own);
    if (!scratch) return;
    char *threads = scratch + tiles + logits;
    memset(threads, 0, (size_t)device->threads * own);
    for (int64_t slot_row = 0; slot_row < layout->n_rows; slot_row += slot_rows)
        for (int64_t first = 0; first < slot_rows; first += rows)
            rows_sample(device, layout, call, slot_row + first, cpu_min(rows, slot_rows - first),
                        (float *)(scratch + tiles), (float *)scratch, threads);
    cpu_profile_stop(device, "sample", start);
}
