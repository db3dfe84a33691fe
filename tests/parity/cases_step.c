/* Cases: the optimizer's step, and the choice of the next id. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "parity.h"
#include "reference.h"

/* ---- adam ---- */

enum { N_ADAPTERS = 4, TABLE_STRIDE = 6 };

/* One adapter's step in double, as torch.optim.Adam and AdamW define it. */
static double reference_adam(const struct optimizer_settings *s, double learning_rate, int32_t step, int64_t count,
                             const double *g, double *m, double *v, double *p) {
    double norm = 0, b1 = (double)s->beta1, b2 = (double)s->beta2;
    for (int64_t i = 0; i < count; i++)
        norm += g[i] * g[i];
    norm = sqrt(norm);
    double clip = s->clip_norm > 0 ? fmin(1, (double)s->clip_norm / (norm + 1e-6)) : 1;
    for (int64_t i = 0; i < count; i++) {
        double gradient = g[i] * clip, decay = (double)s->weight_decay;
        if (s->decoupled)
            p[i] *= 1 - learning_rate * decay;
        else
            gradient += decay * p[i];
        m[i] = b1 * m[i] + (1 - b1) * gradient;
        v[i] = b2 * v[i] + (1 - b2) * gradient * gradient;
        double unbiased = sqrt(v[i]) / sqrt(1 - pow(b2, step + 1)) + (double)s->epsilon;
        p[i] -= learning_rate / (1 - pow(b1, step + 1)) * m[i] / unbiased;
    }
    return norm;
}

static void adam_check(struct parity *parity, int32_t n_slots, int64_t n_params, const int32_t *first_step) {
    static const struct optimizer_settings settings[N_ADAPTERS] = {
        {0.9f, 0.999f, 1e-8f, 0, 0, 0},
        {0.9f, 0.999f, 1e-8f, 0.1f, 0.5f, 1},
        {0.8f, 0.99f, 1e-6f, 0.2f, 0, 0},
        {0.9f, 0.95f, 1e-8f, 0, 1e6f, 1},
    };
    const struct compute *compute = &parity->compute;
    struct parity_rows rows = parity_layout(parity, n_slots, 1, 8, N_ADAPTERS);
    int64_t stride = n_params + 3, count = N_ADAPTERS * stride, entries = N_ADAPTERS * TABLE_STRIDE;
    float *params = parity_normal(parity, count, 1), *grads = parity_normal(parity, count, 1);
    float *m = parity_normal(parity, count, 0.1), *v = parity_normal(parity, count, 0.1);
    float *rates = parity_normal(parity, entries, 0.1), *norms = parity_normal(parity, entries, 1);
    for (int64_t i = 0; i < count; i++)
        v[i] = v[i] * v[i] + 1e-3f;
    int32_t *step = parity_host(parity, N_ADAPTERS * 4);
    memcpy(step, first_step, N_ADAPTERS * 4);
    struct adapters adapters = {.params = parity_floats(parity, params, count),
                                .grads = parity_floats(parity, grads, count),
                                .stride = stride,
                                .step = parity_ints(parity, step, N_ADAPTERS)};
    struct optimizer_call call = {
        .adapters = &adapters,
        .m = parity_floats(parity, m, count),
        .v = parity_floats(parity, v, count),
        .n_params = n_params,
        .settings = parity_raw(parity, settings, sizeof settings),
        .learning_rate = parity_floats(parity, rates, entries),
        .gradient_norm = parity_floats(parity, norms, entries),
        .table_stride = TABLE_STRIDE,
    };
    compute->backend->adam(compute->device, &rows.layout, &call);
    double *p_wide = parity_widen(parity, params, count), *g_wide = parity_widen(parity, grads, count);
    double *m_wide = parity_widen(parity, m, count), *v_wide = parity_widen(parity, v, count);
    double *norms_wide = parity_widen(parity, norms, entries);
    for (int32_t slot = 0; slot < n_slots; slot++) {
        int32_t k = rows.adapter[slot];
        int64_t at = k * stride, entry = k * TABLE_STRIDE + step[k];
        norms_wide[entry] = reference_adam(&settings[k], (double)rates[entry], step[k], n_params, g_wide + at,
                                           m_wide + at, v_wide + at, p_wide + at);
    }
    const char *text = parity_text("%d slots, %d parameters", n_slots, (int)n_params);
    parity_compare(parity, "adam parameters", text, p_wide, parity_floats_read(parity, adapters.params, count), count,
                   1);
    parity_compare(parity, "adam m", text, m_wide, parity_floats_read(parity, call.m, count), count, 1);
    parity_compare(parity, "adam v", text, v_wide, parity_floats_read(parity, call.v, count), count, 1);
    parity_compare(parity, "adam gradient norm", text, norms_wide,
                   parity_floats_read(parity, call.gradient_norm, entries), entries, 1);
    parity_reset(parity);
}

void case_adam(struct parity *parity) {
    const double kept = parity->tolerance;
    parity->tolerance = 1e-5; /* the optimizer's state is float with every precision */
    adam_check(parity, 1, 7, (int32_t[]){0, 1, 0, 3});
    adam_check(parity, 3, 5000, (int32_t[]){5, 0, 2, 4});
    adam_check(parity, 3, 70001, (int32_t[]){0, 3, 1, 0});
    parity->tolerance = kept;
}

/* ---- sample ---- */

enum { N_IN = 48, VOCABULARY = 400, TOKEN_STRIDE = 20 };

struct sample_fixture {
    struct parity_rows rows;
    struct sampling sampling;
    const double *x, *head, *bias; /* bias [N_ADAPTERS][VOCABULARY + 4] or NULL */
    const uint8_t *allowed;
    const int32_t *tokens, *length;
    uint64_t seed;
};

/* Scores of one row after every processor, −∞ where an id is out. */
static void reference_scores(const struct sample_fixture *f, int64_t row, int64_t sequence, double *scores) {
    const struct sampling *s = &f->sampling;
    int32_t adapter = f->rows.adapter[row / f->rows.layout.slot_rows];
    bool seen[VOCABULARY] = {false};
    for (int32_t i = 0; i < f->length[sequence]; i++)
        seen[f->tokens[sequence * TOKEN_STRIDE + i]] = true;
    for (int32_t id = 0; id < VOCABULARY; id++) {
        double score = f->bias ? f->bias[adapter * (VOCABULARY + 4) + id] : 0, penalty = (double)s->repetition_penalty;
        for (int32_t i = 0; i < N_IN; i++)
            score += f->x[row * N_IN + i] * f->head[id * N_IN + i];
        if (seen[id]) score = score < 0 ? score * penalty : score / penalty;
        scores[id] = f->allowed && !f->allowed[id] ? -INFINITY : score / (s->greedy ? 1 : (double)s->temperature);
    }
}

/* Number of ids with a higher score, ties counted by the lower id. */
static int32_t place(const double *scores, int32_t id) {
    int32_t ahead = 0;
    for (int32_t other = 0; other < VOCABULARY; other++)
        ahead += scores[other] > scores[id] || (scores[other] == scores[id] && other < id);
    return ahead;
}

/* Top-k and top-p by their definitions, with the probabilities of what is left. */
static void reference_probabilities(const struct sampling *s, double *scores, double *p) {
    double max = -INFINITY, total = 0, kept[VOCABULARY];
    int32_t by_place[VOCABULARY];
    for (int32_t id = 0; id < VOCABULARY; id++)
        by_place[place(scores, id)] = id;
    if (s->top_k > 0 && s->top_k < VOCABULARY) {
        double least = scores[by_place[s->top_k - 1]];
        for (int32_t id = 0; id < VOCABULARY; id++)
            if (scores[id] < least) scores[id] = -INFINITY;
    }
    max = scores[by_place[0]];
    for (int32_t id = 0; id < VOCABULARY; id++)
        total += exp(scores[id] - max);
    double before = 0, left = 0;
    for (int32_t i = 0; i < VOCABULARY; i++) {
        double probability = exp(scores[by_place[i]] - max) / total;
        kept[by_place[i]] = i == 0 || before < (double)s->top_p ? probability : 0;
        left += kept[by_place[i]];
        before += probability;
    }
    for (int32_t id = 0; id < VOCABULARY; id++)
        p[id] = kept[id] / left;
}

/* Whether `id` is right: the highest score, or the interval of the distribution that the uniform falls into, within
 * what rounding of the scores explains. */
static bool choice_holds(const struct parity *parity, const struct sample_fixture *f, int64_t row, int64_t sequence,
                         int32_t id) {
    double scores[VOCABULARY], p[VOCABULARY], slack = 10 * parity->tolerance, below = 0;
    uint32_t words[4];
    if (id < 0 || id >= VOCABULARY) return false;
    reference_scores(f, row, sequence, scores);
    if (f->sampling.greedy) {
        for (int32_t other = 0; other < VOCABULARY; other++)
            if (scores[other] > scores[id] + slack) return false;
        return isfinite(scores[id]);
    }
    reference_probabilities(&f->sampling, scores, p);
    rng_block(f->seed, RNG_STREAM_SAMPLING, (uint64_t)sequence << 32 | (uint32_t)f->length[sequence], words);
    double uniform = (double)(((uint64_t)words[0] << 32 | words[1]) >> 11) * 0x1p-53;
    for (int32_t other = 0; other < id; other++)
        below += p[other];
    return uniform >= below - slack && uniform <= below + p[id] + slack && p[id] > 0;
}

static void sample_check(struct parity *parity, int32_t n_slots, int32_t n_sequences, struct sampling sampling,
                         bool biased, bool restricted, const char *text) {
    const struct compute *compute = &parity->compute;
    struct sample_fixture f = {.rows = parity_layout(parity, n_slots, n_sequences, 1, N_ADAPTERS),
                               .sampling = sampling};
    const struct pack_layout *layout = &f.rows.layout;
    int64_t n = (int64_t)n_slots * n_sequences, n_rows = layout->n_rows, stride = VOCABULARY + 4;
    float *x = parity_normal(parity, n_rows * N_IN, 1), *head = parity_normal(parity, VOCABULARY * N_IN, 0.5);
    float *bias = parity_normal(parity, N_ADAPTERS * stride, 1);
    memcpy(head + 78 * N_IN, head + 77 * N_IN, N_IN * sizeof *head);
    for (int32_t i = 0; i < N_IN; i++) /* the first row's best two ids are equal: the lower one wins */
        head[77 * N_IN + i] = head[78 * N_IN + i] = x[i] * 2;
    for (int32_t k = 0; k < N_ADAPTERS; k++)
        bias[k * stride + 78] = bias[k * stride + 77];
    uint8_t *allowed = parity_host(parity, VOCABULARY), *finished = parity_host(parity, (size_t)n);
    for (int32_t id = 0; id < VOCABULARY; id++)
        allowed[id] = id % 7 != 3;
    int32_t *tokens = parity_below(parity, n * TOKEN_STRIDE, VOCABULARY),
            *length = parity_below(parity, n, TOKEN_STRIDE - 2);
    for (int64_t i = 0; i < n; i++) {
        length[i]++;
        finished[i] = i % 4 == 3;
    }
    struct weight *weight = parity_weight(parity, head, VOCABULARY, N_IN, TENSOR_BF16, 1);
    struct adapters adapters = {.params = parity_floats(parity, bias, N_ADAPTERS * stride), .stride = stride};
    f.seed = (uint64_t)rng_u32(&parity->rng) << 32 | 12345;
    struct sample_call call = {
        .x = parity_act(parity, x, n_rows * N_IN),
        .head = weight,
        .adapters = biased ? &adapters : NULL,
        .bias_offset = biased ? 0 : -1,
        .allowed = restricted ? parity_raw(parity, allowed, VOCABULARY) : NULL,
        .sampling = sampling,
        .seed = f.seed,
        .tokens = parity_ints(parity, tokens, n * TOKEN_STRIDE),
        .token_stride = TOKEN_STRIDE,
        .length = parity_ints(parity, length, n),
        .ids = parity_ints(parity, NULL, n_rows),
        .finished = parity_raw(parity, finished, (size_t)n),
    };
    f.x = parity_widen(parity, x, n_rows * N_IN);
    f.head = parity_widen(parity, head, VOCABULARY * N_IN);
    f.bias = biased ? parity_widen(parity, bias, N_ADAPTERS * stride) : NULL;
    f.allowed = restricted ? allowed : NULL;
    f.tokens = tokens;
    f.length = length;
    compute->backend->sample(compute->device, layout, &call);
    const int32_t *got = parity_ints_read(parity, call.tokens, n * TOKEN_STRIDE);
    const int32_t *got_length = parity_ints_read(parity, call.length, n),
                  *ids = parity_ints_read(parity, call.ids, n_rows);
    bool chosen = true, placed = true, repeated = true;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = i / n_sequences * layout->slot_rows + i % n_sequences;
        int32_t id = ids[row], last = length[i];
        placed = placed && got[i * TOKEN_STRIDE + last] == id && got_length[i] == last + 1;
        if (finished[i])
            repeated = repeated && id == tokens[i * TOKEN_STRIDE + last - 1];
        else
            chosen = chosen && choice_holds(parity, &f, row, i, id);
        for (int32_t at = 0; at < TOKEN_STRIDE; at++)
            placed = placed && (at == last || got[i * TOKEN_STRIDE + at] == tokens[i * TOKEN_STRIDE + at]);
    }
    parity_expect(parity, "sample", text, chosen, "an id was chosen that the processed scores do not give");
    parity_expect(parity, "sample bookkeeping", text, placed, "tokens, lengths or ids are not as they should be");
    parity_expect(parity, "sample finished", text, repeated, "a finished sequence did not repeat its last id");
    if (sampling.greedy && sampling.repetition_penalty == 1 && !finished[0])
        parity_expect(parity, "sample ties", text, ids[0] == 77, "of two equal scores the higher id was taken");
    parity_weight_free(parity, weight);
    parity_reset(parity);
}

void case_sample(struct parity *parity) {
    sample_check(parity, 1, 1, (struct sampling){1, 0, 1, 1, 1}, false, false, "greedy");
    sample_check(parity, 3, 20, (struct sampling){1, 0, 1, 1, 1}, true, false, "greedy, bias, 3×20");
    sample_check(parity, 2, 5, (struct sampling){1, 0, 1, 1, 1.7f}, false, true, "greedy, penalty, restricted");
    sample_check(parity, 2, 40, (struct sampling){0, 0, 1, 1, 1}, false, false, "draw");
    sample_check(parity, 2, 40, (struct sampling){0, 0, 0.6f, 1, 1.3f}, true, true, "temperature, penalty, restricted");
    sample_check(parity, 2, 40, (struct sampling){0, 5, 1.4f, 1, 1}, false, false, "top-k");
    sample_check(parity, 2, 40, (struct sampling){0, 0, 1, 0.7f, 1}, false, false, "top-p");
    sample_check(parity, 1, 150, (struct sampling){0, 30, 1.2f, 0.9f, 1.1f}, false, false, "all of them, 150 rows");
}
