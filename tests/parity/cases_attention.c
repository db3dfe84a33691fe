/* Cases: causal attention of whole sequences and over a cache: head sizes, grouped heads, odd contexts, padded slots.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "parity.h"
#include "reference.h"

struct attention_case {
    int32_t n_slots, n_sequences, context;
    struct attention_shape shape;
};

static const struct attention_case cases[] = {
    {1, 1, 1, {2, 1, 64}},
    {1, 2, 5, {4, 2, 32}},
    {3, 2, 37, {2, 1, 64}},
    {1, 1, 130, {14, 2, 64}},
    {2, 1, 65, {2, 2, 128}},
    {1, 3, 64, {3, 1, 32}},
    {1, 1, 200, {2, 1, 6}},
    {1, 1, 300, {2, 1, 64}},
    /* sequences enough for blocks that take all heads of their keys */
    {3, 30, 70, {4, 2, 64}},
    {2, 25, 130, {6, 2, 64}},
    {2, 26, 190, {4, 2, 64}},
};

static const char *case_text(const struct attention_case *c) {
    return parity_text("%d×%d×%d, %d/%d heads of %d", c->n_slots, c->n_sequences, c->context, c->shape.n_heads,
                       c->shape.n_kv_heads, c->shape.head_size);
}

/* First row of sequence i over all slots. */
static int64_t sequence_row(const struct pack_layout *layout, int64_t i) {
    return i / layout->n_sequences * layout->slot_rows + i % layout->n_sequences * layout->context;
}

/* ---- whole sequences ---- */

/* Σ dout ∘ out of one sequence as a function of qkv. */
struct attention_loss {
    const struct attention_case *c;
    const double *qkv, *dout;
    double *out;
};

static double attention_loss(const void *context) {
    const struct attention_loss *loss = context;
    double sum = 0;
    reference_attention(&loss->c->shape, loss->c->context, loss->qkv, loss->out, NULL);
    for (int64_t i = 0; i < (int64_t)loss->c->context * loss->c->shape.n_heads * loss->c->shape.head_size; i++)
        sum += loss->dout[i] * loss->out[i];
    return sum;
}

static void attention_check(struct parity *parity, const struct attention_case *c) {
    const struct compute *compute = &parity->compute;
    struct parity_rows rows = parity_layout(parity, c->n_slots, c->n_sequences, c->context, 4);
    const struct pack_layout *layout = &rows.layout;
    int32_t width = attention_qkv_width(&c->shape), out_width = c->shape.n_heads * c->shape.head_size;
    int64_t n_rows = layout->n_rows, heads = c->shape.n_heads;
    float *qkv = parity_normal(parity, n_rows * width, 1.5), *dout = parity_normal(parity, n_rows * out_width, 1);
    void *qkv_device = parity_act(parity, qkv, n_rows * width),
         *dout_device = parity_act(parity, dout, n_rows * out_width);
    void *out = parity_act_poisoned(parity, n_rows * out_width), *dqkv = parity_act_poisoned(parity, n_rows * width);
    float *lse = parity_floats(parity, NULL, n_rows * heads);
    compute->backend->attention_forward(compute->device, layout, &c->shape, qkv_device, out, lse);
    compute->backend->attention_backward(compute->device, layout, &c->shape, qkv_device, out, lse, dout_device, dqkv);

    double *qkv_wide = parity_widen(parity, qkv, n_rows * width),
           *dout_wide = parity_widen(parity, dout, n_rows * out_width);
    double *expected = parity_host(parity, (size_t)(n_rows * out_width) * 8);
    double *expected_lse = parity_host(parity, (size_t)(n_rows * heads) * 8);
    double *expected_d = parity_host(parity, (size_t)(n_rows * width) * 8);
    for (int64_t i = 0; i < (int64_t)c->n_slots * c->n_sequences; i++) {
        int64_t row = sequence_row(layout, i);
        reference_attention(&c->shape, c->context, qkv_wide + row * width, expected + row * out_width,
                            expected_lse + row * heads);
        reference_attention_backward(&c->shape, c->context, qkv_wide + row * width, dout_wide + row * out_width,
                                     expected_d + row * width);
    }
    float *lse_got = parity_floats_read(parity, lse, n_rows * heads);
    for (int64_t row = 0; row < n_rows; row++)
        if (row % layout->slot_rows >= (int64_t)c->n_sequences * c->context)
            memset(lse_got + row * heads, 0, (size_t)heads * 4); /* of no sequence: not defined */
    const char *text = case_text(c);
    const float *got = parity_act_read(parity, dqkv, n_rows * width);
    parity_compare(parity, "attention_forward", text, expected, parity_act_read(parity, out, n_rows * out_width),
                   n_rows * out_width, 1);
    parity_compare(parity, "attention_forward lse", text, expected_lse, lse_got, n_rows * heads, 1);
    parity_compare(parity, "attention_backward", text, expected_d, got, n_rows * width, 2);
    void *again = parity_act_poisoned(parity, n_rows * out_width);
    compute->backend->attention_forward(compute->device, layout, &c->shape, qkv_device, again, NULL);
    parity_compare(parity, "attention_forward (no lse)", text, expected,
                   parity_act_read(parity, again, n_rows * out_width), n_rows * out_width, 1);
    int64_t last = sequence_row(layout, (int64_t)c->n_slots * c->n_sequences - 1);
    if (c->context > 100) return;
    struct attention_loss loss = {c, qkv_wide + last * width, dout_wide + last * out_width, expected};
    parity_differences(parity, "attention_backward", text, qkv_wide + last * width, (int64_t)c->context * width,
                       got + last * width, attention_loss, &loss, 4);
}

void case_attention(struct parity *parity) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        attention_check(parity, &cases[i]);
        parity_reset(parity);
    }
}

/* ---- cache ---- */

/* Every sequence of `samples` in a row begins as the first one does; they may be read from it. */
static void samples_make_alike(const struct parity_rows *prompt, int64_t n, int32_t samples, int32_t width,
                               float *qkv) {
    int64_t sequence_size = (int64_t)prompt->layout.context * width;
    for (int64_t i = 0; i < n; i++)
        if (i % samples > 0)
            memcpy(qkv + sequence_row(&prompt->layout, i) * width,
                   qkv + sequence_row(&prompt->layout, i - i % samples) * width, (size_t)sequence_size * sizeof *qkv);
}

/* A prompt of `context` tokens goes into the cache, then two more tokens one by one, after sequence i was shortened
 * to length context − i % 2 (as prompts of unequal length are). */
static void cache_check(struct parity *parity, const struct attention_case *c, int32_t samples) {
    const struct compute *compute = &parity->compute;
    enum { STEPS = 2 };
    struct parity_rows prompt = parity_layout(parity, c->n_slots, c->n_sequences, c->context, 4);
    struct parity_rows one = parity_layout(parity, c->n_slots, c->n_sequences, 1, 4);
    int32_t width = attention_qkv_width(&c->shape), size = c->shape.head_size, out_width = c->shape.n_heads * size;
    int64_t n = (int64_t)c->n_slots * c->n_sequences, capacity = c->context + STEPS, total = c->context + STEPS;
    int64_t cache_count = n * c->shape.n_kv_heads * capacity * size;
    double *history = parity_host(parity, (size_t)(n * total * width) * 8); /* [n][total][width] */
    int32_t *length = parity_host(parity, (size_t)n * 4);
    float *qkv = parity_normal(parity, prompt.layout.n_rows * (int64_t)width, 1);
    samples_make_alike(&prompt, n, samples, width, qkv);
    void *qkv_device = parity_act(parity, qkv, prompt.layout.n_rows * (int64_t)width);
    struct kv_cache_layer cache = {.samples = samples,
                                   .k = parity_act_poisoned(parity, cache_count),
                                   .v = parity_act_poisoned(parity, cache_count),
                                   .capacity = (int32_t)capacity};
    compute->backend->kv_store(compute->device, &prompt.layout, &c->shape, qkv_device, &cache);
    for (int64_t i = 0; i < n; i++) {
        length[i] = c->context > 1 ? c->context - (int32_t)(i % 2) : c->context;
        for (int64_t at = 0; at < (int64_t)length[i] * width; at++)
            history[i * total * width + at] = (double)qkv[sequence_row(&prompt.layout, i) * width + at];
    }
    if (samples > 1) {
        int32_t *shared = parity_host(parity, (size_t)n * 4);
        for (int64_t i = 0; i < n; i++)
            shared[i] = c->context - 1;
        cache.shared = parity_ints(parity, shared, n);
    }
    for (int32_t step = 0; step < STEPS; step++) {
        int64_t count = one.layout.n_rows * (int64_t)width, out_count = one.layout.n_rows * (int64_t)out_width;
        float *row = parity_normal(parity, count, 1);
        void *row_device = parity_act(parity, row, count), *out = parity_act_poisoned(parity, out_count);
        cache.length = parity_ints(parity, length, n);
        compute->backend->attention_cached(compute->device, &one.layout, &c->shape, row_device, &cache,
                                           c->context + step, out);
        double *expected = parity_host(parity, (size_t)out_count * 8);
        double *all = parity_host(parity, (size_t)(total * out_width) * 8);
        float *got = parity_act_read(parity, out, out_count);
        for (int64_t i = 0; i < n; i++) {
            int64_t at = sequence_row(&one.layout, i);
            double *sequence = history + i * total * width;
            for (int32_t j = 0; j < width; j++)
                sequence[(int64_t)length[i] * width + j] = (double)row[at * width + j];
            reference_attention(&c->shape, length[i] + 1, sequence, all, NULL);
            memcpy(expected + at * out_width, all + (int64_t)length[i] * out_width, (size_t)out_width * 8);
            length[i]++;
        }
        for (int64_t at = 0; at < one.layout.n_rows; at++)
            if (at % one.layout.slot_rows >= c->n_sequences)
                memset(got + at * out_width, 0, (size_t)out_width * 4); /* padding */
        parity_compare(parity, "attention_cached", case_text(c), expected, got, out_count, 1);
    }
}

void case_cache(struct parity *parity) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cache_check(parity, &cases[i], 1);
        parity_reset(parity);
    }
    cache_check(parity, &(struct attention_case){2, 20, 17, {4, 2, 32}}, 1);
    parity_reset(parity);
    cache_check(parity, &(struct attention_case){1, 12, 70, {14, 2, 64}}, 4);
    parity_reset(parity);
    cache_check(parity, &(struct attention_case){2, 6, 33, {4, 2, 128}}, 3);
}
