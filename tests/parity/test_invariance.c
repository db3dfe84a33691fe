/* Bits that must not change: one chain of operations is run with one, two and three threads, with its trials packed in
 * several orders, and each trial alone with its rank not padded. Every output of a trial must be equal byte for byte.
 * Checks no values (test_parity does). `test_invariance cpu|cuda` */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parity.h"

enum {
    TRIALS = 3,
    CONTEXT = 70,
    SEQUENCES = 3,
    HIDDEN = 96,
    WIDE = 200,
    VOCABULARY = 1300,
    PADDED_RANK = 8,
    SITES = 2,
};
static const int32_t own_rank[TRIALS] = {2, 8, 5};
static const struct attention_shape heads = {3, 1, 32};

/* Outputs of one trial, in the order in which the chain writes them. */
struct outcome {
    float *values;
    size_t count;
};

/* Frozen matrices, the same for every run. */
struct frozen {
    float *qkv, *wide, *head, *gain, *bias;
};

static struct frozen frozen_make(struct parity *parity) {
    int32_t width = attention_qkv_width(&heads);
    return (struct frozen){
        .qkv = parity_normal(parity, (int64_t)width * HIDDEN, 0.2),
        .wide = parity_normal(parity, 2 * (int64_t)WIDE * HIDDEN, 0.2),
        .head = parity_normal(parity, (int64_t)VOCABULARY * HIDDEN, 0.2),
        .gain = parity_normal(parity, HIDDEN, 1),
        .bias = parity_normal(parity, width, 1),
    };
}

/* One run: which trials, in which slots, under which padded rank. */
struct run {
    struct parity *parity;
    const struct frozen *frozen;
    int32_t n_slots, trial[TRIALS], rank;
    struct pack_layout layout;
    struct lora_group group;
    struct adapters adapters;
    int64_t n_params;
    struct outcome outcome[TRIALS];
};

static void outcome_add(struct outcome *outcome, const float *values, size_t count) {
    outcome->values = lvs_realloc(outcome->values, (outcome->count + count) * sizeof *values);
    memcpy(outcome->values + outcome->count, values, count * sizeof *values);
    outcome->count += count;
}

/* Keeps the rows of each slot. */
static void keep_rows(struct run *run, const void *act, int64_t cols) {
    const float *values = parity_act_read(run->parity, act, run->layout.n_rows * cols);
    size_t count = (size_t)(run->layout.slot_rows * cols);
    for (int32_t slot = 0; slot < run->n_slots; slot++)
        outcome_add(&run->outcome[slot], values + (size_t)slot * count, count);
}

static void keep_float_rows(struct run *run, const float *device, int64_t cols) {
    const float *values = parity_floats_read(run->parity, device, run->layout.n_rows * cols);
    size_t count = (size_t)(run->layout.slot_rows * cols);
    for (int32_t slot = 0; slot < run->n_slots; slot++)
        outcome_add(&run->outcome[slot], values + (size_t)slot * count, count);
}

/* Rows of xa and t: a trial's own ranks only. */
static void keep_low_rank(struct run *run, const float *device) {
    int64_t width = (int64_t)SITES * run->rank;
    const float *values = parity_floats_read(run->parity, device, run->layout.n_rows * width);
    for (int64_t row = 0; row < run->layout.n_rows; row++) {
        int32_t slot = (int32_t)(row / run->layout.slot_rows);
        for (int32_t site = 0; site < SITES; site++)
            outcome_add(&run->outcome[slot], values + row * width + site * run->rank,
                        (size_t)own_rank[run->trial[slot]]);
    }
}

/* A, B and the head's bias of every trial, without the padding. */
static void keep_params(struct run *run, const float *device) {
    const float *values = parity_floats_read(run->parity, device, TRIALS * run->adapters.stride);
    for (int32_t slot = 0; slot < run->n_slots; slot++) {
        int32_t trial = run->trial[slot];
        const float *params = values + trial * run->adapters.stride;
        for (int32_t i = 0; i < SITES; i++) {
            const struct lora_site *site = &run->group.site[i];
            outcome_add(&run->outcome[slot], params + site->a_offset, (size_t)own_rank[trial] * (size_t)site->n_in);
            for (int32_t o = 0; o < site->n_out; o++)
                outcome_add(&run->outcome[slot], params + site->b_offset + o * site->rank, (size_t)own_rank[trial]);
        }
        outcome_add(&run->outcome[slot], params + run->n_params - VOCABULARY, VOCABULARY);
    }
}

/* A trial's numbers come from its own stream, whatever slot it has. */
static void *trial_acts(struct run *run, int64_t cols, uint64_t what) {
    int64_t count = run->layout.slot_rows * cols;
    float *values = parity_host(run->parity, (size_t)(count * run->n_slots) * sizeof *values);
    for (int32_t slot = 0; slot < run->n_slots; slot++) {
        struct rng rng = rng_make(1000 * what + (uint64_t)run->trial[slot], RNG_STREAM_TEST);
        for (int64_t i = 0; i < count; i++)
            values[slot * count + i] = (float)rng_normal(&rng);
    }
    return parity_act(run->parity, values, count * run->n_slots);
}

static struct adapters adapters_make(struct run *run) {
    static const uint64_t seed[TRIALS] = {11, 22, 33};
    static const int32_t step[TRIALS] = {0, 3, 1};
    static const float scale[TRIALS] = {1, 0.5f, 2}, dropout[TRIALS] = {0, 0.25f, 0.1f};
    int64_t offset = 0;
    int32_t n_out[SITES] = {heads.n_heads * heads.head_size, heads.n_kv_heads * heads.head_size};
    run->group = (struct lora_group){.n = SITES};
    for (int32_t i = 0; i < SITES; i++) {
        struct lora_site *site = &run->group.site[i];
        *site = (struct lora_site){.n_in = HIDDEN, .n_out = n_out[i], .rank = run->rank, .site_id = i};
        site->column = i == 0 ? 0 : (heads.n_heads + heads.n_kv_heads) * heads.head_size;
        site->a_offset = offset;
        site->b_offset = offset + (int64_t)run->rank * HIDDEN;
        offset = site->b_offset + (int64_t)n_out[i] * run->rank;
    }
    run->n_params = offset + VOCABULARY;
    float *params = parity_host(run->parity, (size_t)(TRIALS * run->n_params) * sizeof *params);
    for (int32_t trial = 0; trial < TRIALS; trial++)
        for (int32_t i = 0; i < SITES; i++) {
            const struct lora_site *site = &run->group.site[i];
            struct rng rng = rng_make(77 + (uint64_t)(trial * SITES + i), RNG_STREAM_TEST);
            for (int32_t r = 0; r < own_rank[trial] && r < run->rank; r++)
                for (int32_t c = 0; c < HIDDEN; c++)
                    params[trial * run->n_params + site->a_offset + r * HIDDEN + c] = (float)rng_normal(&rng);
            for (int32_t o = 0; o < site->n_out; o++)
                for (int32_t r = 0; r < own_rank[trial] && r < run->rank; r++)
                    params[trial * run->n_params + site->b_offset + o * site->rank + r] = (float)rng_normal(&rng);
        }
    return (struct adapters){
        .params = parity_floats(run->parity, params, TRIALS * run->n_params),
        .grads = parity_raw(run->parity, params, (size_t)(TRIALS * run->n_params) * sizeof *params),
        .stride = run->n_params,
        .scale = parity_floats(run->parity, scale, TRIALS),
        .dropout = parity_floats(run->parity, dropout, TRIALS),
        .seed = parity_raw(run->parity, seed, sizeof seed),
        .step = parity_ints(run->parity, step, TRIALS),
    };
}

/* ---- the chain ---- */

static void run_layer(struct run *run, const struct weight *qkv_weight, const struct weight *wide_weight) {
    struct parity *parity = run->parity;
    const struct backend *backend = parity->compute.backend;
    struct device *device = parity->compute.device;
    const struct pack_layout *layout = &run->layout;
    int32_t width = attention_qkv_width(&heads), out_width = heads.n_heads * heads.head_size;
    int64_t rows = layout->n_rows;
    float *gain = parity_floats(parity, run->frozen->gain, HIDDEN), *rstd = parity_floats(parity, NULL, rows);
    float *xa = parity_floats(parity, NULL, rows * SITES * run->rank);
    float *t = parity_floats(parity, NULL, rows * SITES * run->rank),
          *lse = parity_floats(parity, NULL, rows * heads.n_heads);
    void *x = trial_acts(run, HIDDEN, 1), *y = parity_act_poisoned(parity, rows * HIDDEN);
    void *qkv = parity_act_poisoned(parity, rows * width), *out = parity_act_poisoned(parity, rows * out_width);
    void *dqkv = parity_act_poisoned(parity, rows * width), *dy = parity_act_poisoned(parity, rows * HIDDEN);
    void *gate_up = parity_act_poisoned(parity, rows * 2 * WIDE), *h = parity_act_poisoned(parity, rows * WIDE);

    backend->rmsnorm_forward(device, layout, HIDDEN, x, gain, 1e-6f, y, rstd);
    backend->lora_a_forward(device, layout, &run->adapters, &run->group, y, xa);
    backend->matmul_forward(device, layout, y, qkv_weight, false, qkv);
    backend->lora_b_forward(device, layout, &run->adapters, &run->group, xa, width, qkv);
    backend->attention_forward(device, layout, &heads, qkv, out, lse);
    backend->attention_backward(device, layout, &heads, qkv, out, lse, trial_acts(run, out_width, 2), dqkv);
    backend->lora_b_backward(device, layout, &run->adapters, &run->group, dqkv, width, xa, t);
    backend->matmul_backward(device, layout, dqkv, qkv_weight, false, dy);
    backend->lora_a_backward(device, layout, &run->adapters, &run->group, t, y, dy);
    keep_low_rank(run, xa);
    keep_low_rank(run, t);
    keep_rows(run, qkv, width);
    keep_rows(run, out, out_width);
    keep_rows(run, dqkv, width);
    keep_rows(run, dy, HIDDEN);
    backend->rmsnorm_backward(device, layout, HIDDEN, dy, x, gain, rstd, x);
    backend->matmul_forward(device, layout, x, wide_weight, false, gate_up);
    backend->swiglu_forward(device, layout, WIDE, gate_up, h);
    backend->swiglu_backward(device, layout, WIDE, gate_up, h, gate_up);
    backend->matmul_backward(device, layout, gate_up, wide_weight, true, x);
    keep_rows(run, h, WIDE);
    keep_rows(run, x, HIDDEN);
}

static void run_end(struct run *run, const struct weight *head) {
    struct parity *parity = run->parity;
    const struct backend *backend = parity->compute.backend;
    struct device *device = parity->compute.device;
    int64_t rows = run->layout.n_rows, count = TRIALS * run->n_params;
    enum { STEPS = 5 };
    static const struct optimizer_settings settings[TRIALS] = {
        {0.9f, 0.999f, 1e-8f, 0, 1, 0}, {0.9f, 0.999f, 1e-8f, 0.1f, 0, 1}, {0.9f, 0.99f, 1e-8f, 0, 0.1f, 0}};
    int32_t *labels = parity_host(parity, (size_t)rows * sizeof *labels);
    for (int64_t row = 0; row < rows; row++) {
        int64_t place = row % run->layout.slot_rows;
        labels[row] = place % 9 == 0 || place >= SEQUENCES * CONTEXT ? -1 : (int32_t)(place * 31 % VOCABULARY);
    }
    float weight[TRIALS] = {0.01f, 0.01f, 0.01f}, rates[TRIALS * STEPS];
    for (int32_t i = 0; i < TRIALS * STEPS; i++)
        rates[i] = 0.01f;
    float *table = parity_floats(parity, rates, TRIALS * STEPS);
    struct loss_call loss = {.x = trial_acts(run, HIDDEN, 3),
                             .head = head,
                             .adapters = &run->adapters,
                             .bias_offset = run->n_params - VOCABULARY,
                             .labels = parity_ints(parity, labels, rows),
                             .row_loss = parity_floats(parity, NULL, rows),
                             .label_weight = parity_floats(parity, weight, run->n_slots),
                             .dx = parity_act_poisoned(parity, rows * HIDDEN)};
    float *zeros = parity_host(parity, (size_t)count * sizeof *zeros);
    struct optimizer_call adam = {.adapters = &run->adapters,
                                  .m = parity_floats(parity, zeros, count),
                                  .v = parity_floats(parity, zeros, count),
                                  .n_params = run->n_params,
                                  .settings = parity_raw(parity, settings, sizeof settings),
                                  .learning_rate = parity_floats(parity, rates, TRIALS * STEPS),
                                  .gradient_norm = parity_floats(parity, rates, TRIALS * STEPS),
                                  .table_stride = STEPS};
    backend->loss(device, &run->layout, &loss);
    backend->loss_reduce(device, &run->layout, loss.row_loss, loss.label_weight, run->adapters.step, STEPS, table);
    keep_float_rows(run, loss.row_loss, 1);
    keep_rows(run, loss.dx, HIDDEN);
    keep_params(run, run->adapters.grads);
    backend->adam(device, &run->layout, &adam);
    keep_params(run, run->adapters.params);
    const float *losses = parity_floats_read(parity, table, TRIALS * STEPS);
    const float *norms = parity_floats_read(parity, adam.gradient_norm, TRIALS * STEPS);
    for (int32_t slot = 0; slot < run->n_slots; slot++) {
        outcome_add(&run->outcome[slot], losses + run->trial[slot] * STEPS, STEPS);
        outcome_add(&run->outcome[slot], norms + run->trial[slot] * STEPS, STEPS);
    }
}

static void run_chain(struct run *run) {
    struct parity *parity = run->parity;
    run->layout = pack_layout_make(run->n_slots, SEQUENCES, CONTEXT);
    run->layout.adapter = parity_ints(parity, run->trial, run->n_slots);
    run->adapters = adapters_make(run);
    struct weight *qkv = parity_weight(parity, run->frozen->qkv, attention_qkv_width(&heads), HIDDEN, TENSOR_F32, 3);
    struct weight *wide = parity_weight(parity, run->frozen->wide, 2 * WIDE, HIDDEN, TENSOR_BF16, 2);
    struct weight *head = parity_weight(parity, run->frozen->head, VOCABULARY, HIDDEN, TENSOR_F16, 1);
    run_layer(run, qkv, wide);
    run_end(run, head);
    parity_weight_free(parity, qkv);
    parity_weight_free(parity, wide);
    parity_weight_free(parity, head);
}

/* ---- comparisons ---- */

static int32_t compare(const char *what, const struct run *got, const struct outcome *expected) {
    int32_t failed = 0;
    for (int32_t slot = 0; slot < got->n_slots; slot++) {
        const struct outcome *a = &expected[got->trial[slot]], *b = &got->outcome[slot];
        size_t at = 0;
        bool equal = a->count == b->count && memcmp(a->values, b->values, a->count * sizeof *a->values) == 0;
        while (!equal && at < a->count && memcmp(a->values + at, b->values + at, sizeof *a->values) == 0)
            at++;
        printf("%-6s %-36s trial %d, %zu numbers", equal ? "ok" : "FAILED", what, (int)got->trial[slot], b->count);
        printf(equal ? "\n" : ", first difference at %zu\n", at);
        failed += !equal;
    }
    return failed;
}

static void outcomes_free(struct run *run) {
    for (int32_t slot = 0; slot < TRIALS; slot++)
        free(run->outcome[slot].values);
}

int main(int argc, char **argv) {
    static const struct {
        const char *what;
        int32_t threads, n_slots, trial[TRIALS], rank;
    } runs[] = {
        {"one thread, packed", 1, 3, {0, 1, 2}, PADDED_RANK},
        {"two threads", 2, 3, {0, 1, 2}, PADDED_RANK},
        {"three threads", 3, 3, {0, 1, 2}, PADDED_RANK},
        {"two threads, another order", 2, 3, {2, 0, 1}, PADDED_RANK},
        {"two threads, pack of two", 2, 2, {2, 1}, PADDED_RANK},
        {"alone", 2, 1, {0}, PADDED_RANK},
        {"alone", 1, 1, {1}, PADDED_RANK},
        {"alone", 3, 1, {2}, PADDED_RANK},
        {"alone, rank not padded", 2, 1, {0}, 2},
        {"alone, rank not padded", 2, 1, {2}, 5},
    };
    const char *backend = argc > 1 ? argv[1] : "cpu";
    struct run first = {0};
    int32_t failed = 0;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct parity parity;
        parity_open(&parity, backend, PRECISION_KIND_FP32, runs[i].threads, 5);
        struct frozen frozen = frozen_make(&parity);
        struct run run = {.parity = &parity, .frozen = &frozen, .n_slots = runs[i].n_slots, .rank = runs[i].rank};
        memcpy(run.trial, runs[i].trial, sizeof run.trial);
        run_chain(&run);
        if (i == 0)
            first = run;
        else {
            failed += compare(runs[i].what, &run, first.outcome);
            outcomes_free(&run);
        }
        parity_close(&parity);
    }
    outcomes_free(&first);
    return failed ? 1 : 0;
}
