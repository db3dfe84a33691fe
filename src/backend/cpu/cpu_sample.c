/* The next id of every sequence: logits of one row a sequence, the processors in the order of transformers (repetition
 * penalty, temperature, top-k, top-p), then the highest or a draw. One thread works on one row. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_matmul.h"
#include "lvsweep/rng.h"

/* An id with its probability, for top-p. */
struct candidate {
    float score;
    int32_t id;
};

/* A thread's scratch for one row. */
struct row_scratch {
    struct candidate *sorted; /* [vocabulary] */
    uint8_t *seen;            /* [vocabulary], zero between rows */
};

/* Highest score first; ties: the lower id first. */
static int candidate_compare(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->id < b->id ? -1 : 1;
}

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

/* Candidates that are still possible, highest first. */
static int32_t candidates_sort(const float *scores, int32_t vocabulary, struct candidate *sorted) {
    int32_t count = 0;
    for (int32_t id = 0; id < vocabulary; id++)
        if (scores[id] > -INFINITY) sorted[count++] = (struct candidate){scores[id], id};
    qsort(sorted, (size_t)count, sizeof *sorted, candidate_compare);
    return count;
}

/* Scores below the k-th highest are removed; those equal to it stay. */
static void keep_top_k(int32_t top_k, int32_t vocabulary, struct candidate *sorted, float *scores) {
    int32_t count = candidates_sort(scores, vocabulary, sorted);
    if (top_k <= 0 || count <= top_k) return;
    float least = sorted[top_k - 1].score;
    for (int32_t id = 0; id < vocabulary; id++)
        if (scores[id] < least) scores[id] = -INFINITY;
}

/* The fewest candidates whose probabilities reach top_p stay; at least one. */
static void keep_top_p(float top_p, int32_t vocabulary, struct candidate *sorted, float *scores) {
    if (top_p >= 1) return;
    int32_t count = candidates_sort(scores, vocabulary, sorted);
    double total = 0, before = 0;
    for (int32_t i = 0; i < count; i++)
        total += exp((double)sorted[i].score - (double)sorted[0].score);
    for (int32_t i = 0; i < count; i++) {
        if (i > 0 && before >= (double)top_p * total) scores[sorted[i].id] = -INFINITY;
        before += exp((double)sorted[i].score - (double)sorted[0].score);
    }
}

/* Inverse of the cumulative distribution in id order. */
static int32_t draw(const float *scores, int32_t vocabulary, uint64_t seed, uint64_t index) {
    uint32_t words[4];
    rng_block(seed, RNG_STREAM_SAMPLING, index, words);
    double uniform = (double)(((uint64_t)words[0] << 32 | words[1]) >> 11) * 0x1p-53;
    double max = (double)scores[highest(scores, vocabulary)], total = 0, reached = 0;
    for (int32_t id = 0; id < vocabulary; id++)
        total += exp((double)scores[id] - max);
    int32_t last = 0;
    for (int32_t id = 0; id < vocabulary; id++) {
        double probability = exp((double)scores[id] - max);
        if (probability <= 0) continue;
        last = id;
        reached += probability;
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
    if (sampling->top_k > 0) keep_top_k(sampling->top_k, vocabulary, scratch->sorted, scores);
    keep_top_p(sampling->top_p, vocabulary, scratch->sorted, scores);
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
    size_t sorted = cpu_align((size_t)vocabulary * sizeof(struct candidate)), seen = cpu_align((size_t)vocabulary);
    struct product product =
        cpu_product_make(layout, (const float *)call->x + row * call->head->cols, call->head, logits, tiles);
    product.n_rows = product.slot_rows = rows;
    cpu_product_forward(device, &product);
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < rows; i++) {
        char *own = threads + (size_t)omp_get_thread_num() * (sorted + seen);
        struct row_scratch scratch = {(struct candidate *)own, (uint8_t *)(own + sorted)};
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
