/* Draws against the distributions that transformers' logits processors give (penalty, temperature, top-k, top-p): only
 * ids of the recorded set, and for each draw the id whose stretch of the recorded cumulative distribution holds the
 * draw's random number. The head is the identity, so that the recorded logits are the logits.
 * Limits: a random number closer than 1e-6 to the end of a stretch may fall on either side. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "golden_files.h"
#include "lvsweep/rng.h"

#define ROWS     4
#define DRAWS    4096 /* of each recorded row */
#define SETTINGS 3
#define EDGE     1e-6
#define SEED     77

struct draws {
    int32_t vocabulary, n_seen;
    float *logits;      /* [ROWS][vocabulary] */
    int32_t *seen;      /* [ROWS][n_seen] */
    int32_t *kept;      /* [ROWS][vocabulary] */
    float *probability; /* [ROWS][vocabulary] */
    int32_t *tokens;    /* [ROWS · DRAWS], what was drawn */
    struct sampling sampling;
};

static struct golden_model model;

static int open_model(void **state) {
    (void)state;
    model = golden_model_open();
    return 0;
}

static int close_model(void **state) {
    (void)state;
    golden_model_close(&model);
    return 0;
}

static void *device_copy(const void *source, size_t bytes) {
    struct lvs_error err = {0};
    void *memory;
    golden_ok(model.compute.backend->allocate(model.compute.device, bytes, &memory, &err), &err);
    if (source) model.compute.backend->upload(model.compute.device, memory, source, bytes);
    return memory;
}

static struct sampling read_setting(int32_t index) {
    static const char *const names[] = {"repetition_penalty", "temperature", "top_p"};
    float values[3];
    char path[64];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "settings.%d.%s", index, names[i]);
        values[i] = (float)golden_number("sampling", path);
    }
    static const int32_t top_k[SETTINGS] = {20, 0, 3}; /* null is none */
    return (struct sampling){
        .top_k = top_k[index], .repetition_penalty = values[0], .temperature = values[1], .top_p = values[2]};
}

/* One row of one token for every draw; draw i is of recorded row i % ROWS. */
static void draw_all(struct draws *draws) {
    const int32_t n = ROWS * DRAWS, V = draws->vocabulary, stride = draws->n_seen + 1;
    const struct compute *compute = &model.compute;
    struct pack_layout layout = pack_layout_make(1, n, 1);
    float *x = calloc((size_t)layout.n_rows * (size_t)V, sizeof *x), *identity = calloc((size_t)(V * V), sizeof *x);
    int32_t *tokens = calloc((size_t)(n * stride), sizeof *tokens), *length = calloc((size_t)n, sizeof *length);
    for (int32_t i = 0; i < n; i++) {
        memcpy(x + (ptrdiff_t)i * V, draws->logits + (ptrdiff_t)(i % ROWS) * V, (size_t)V * sizeof *x);
        memcpy(tokens + (ptrdiff_t)i * stride, draws->seen + (ptrdiff_t)(i % ROWS) * draws->n_seen,
               (size_t)draws->n_seen * sizeof *tokens);
        length[i] = draws->n_seen;
    }
    for (int32_t v = 0; v < V; v++)
        identity[v * V + v] = 1;
    const struct host_tensor host = {.data = identity, .type = TENSOR_F32, .rows = V, .cols = V};
    const int32_t zero = 0;
    struct weight *head;
    struct lvs_error err = {0};
    golden_ok(compute->backend->weight_create(compute->device, &host, 1, &head, &err), &err);
    layout.adapter = device_copy(&zero, sizeof zero);
    struct sample_call call = {
        .x = device_copy(x, (size_t)layout.n_rows * (size_t)V * sizeof *x),
        .head = head,
        .bias_offset = -1,
        .sampling = draws->sampling,
        .seed = SEED,
        .tokens = device_copy(tokens, (size_t)(n * stride) * sizeof *tokens),
        .token_stride = stride,
        .length = device_copy(length, (size_t)n * sizeof *length),
        .ids = device_copy(NULL, (size_t)layout.n_rows * sizeof(int32_t)),
    };
    compute->backend->sample(compute->device, &layout, &call);
    compute->backend->download(compute->device, draws->tokens, call.ids, (size_t)n * sizeof(int32_t));
    golden_ok(compute->backend->synchronize(compute->device, &err), &err);
    void *const memory[] = {(void *)layout.adapter, (void *)call.x, call.tokens, call.length, call.ids};
    for (int i = 0; i < 5; i++)
        compute->backend->release(compute->device, memory[i]);
    compute->backend->weight_destroy(compute->device, head);
    free(x);
    free(identity);
    free(tokens);
    free(length);
}

/* The random number that the contract of backend.h gives to a draw. */
static double uniform_of(int32_t sequence, int32_t length) {
    uint32_t words[4];
    rng_block(SEED, RNG_STREAM_SAMPLING, (uint64_t)sequence << 32 | (uint32_t)length, words);
    return (double)(((uint64_t)words[0] << 32 | words[1]) >> 11) * 0x1p-53;
}

/* Whether the recorded distribution gives `id` for the random number, but for its edges. */
static bool is_drawn(const struct draws *draws, int32_t row, int32_t id, double uniform) {
    const float *probability = draws->probability + (ptrdiff_t)row * draws->vocabulary;
    double before = 0, total = 0;
    for (int32_t v = 0; v < draws->vocabulary; v++) {
        if (v < id) before += (double)probability[v];
        total += (double)probability[v];
    }
    return uniform >= before / total - EDGE && uniform <= (before + (double)probability[id]) / total + EDGE;
}

static void check_row(const struct draws *draws, int32_t row, const char *what) {
    const int32_t *kept = draws->kept + (ptrdiff_t)row * draws->vocabulary;
    const float *probability = draws->probability + (ptrdiff_t)row * draws->vocabulary;
    int32_t count[64] = {0};
    for (int32_t i = row; i < ROWS * DRAWS; i += ROWS) {
        int32_t id = draws->tokens[i];
        assert_in_range(id, 0, draws->vocabulary - 1);
        if (!kept[id]) fail_msg("%s, row %d: id %d is outside the recorded set", what, row, id);
        if (!is_drawn(draws, row, id, uniform_of(i, draws->n_seen)))
            fail_msg("%s, row %d, draw %d: id %d is not what the recorded probabilities give", what, row, i, id);
        count[id]++;
    }
    for (int32_t v = 0; v < draws->vocabulary; v++)
        if (kept[v] && (double)probability[v] > 20.0 / DRAWS) assert_true(count[v] > 0);
}

static void check_source(const char *source) {
    struct golden golden = golden_open("sampling");
    struct draws draws = {0};
    char name[64], what[96];
    int64_t count;
    snprintf(name, sizeof name, "%s.logits", source);
    draws.logits = golden_floats(&golden, name, &count);
    draws.vocabulary = (int32_t)(count / ROWS);
    assert_in_range(draws.vocabulary, 2, 64);
    snprintf(name, sizeof name, "%s.seen_ids", source);
    draws.seen = golden_integers(&golden, name, &count);
    draws.n_seen = (int32_t)(count / ROWS);
    draws.tokens = calloc(ROWS * DRAWS, sizeof *draws.tokens);
    for (int32_t i = 0; i < SETTINGS; i++) {
        snprintf(name, sizeof name, "%s.kept_%d", source, i);
        draws.kept = golden_integers(&golden, name, NULL);
        snprintf(name, sizeof name, "%s.probability_%d", source, i);
        draws.probability = golden_floats(&golden, name, NULL);
        draws.sampling = read_setting(i);
        draw_all(&draws);
        snprintf(what, sizeof what, "%s, settings %d", source, i);
        for (int32_t row = 0; row < ROWS; row++)
            check_row(&draws, row, what);
        free(draws.kept);
        free(draws.probability);
    }
    free(draws.logits);
    free(draws.seen);
    free(draws.tokens);
    golden_close(&golden);
}

static void rows_of_the_checkpoint(void **state) {
    (void)state;
    check_source("model");
}

static void random_rows(void **state) {
    (void)state;
    check_source("random");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_of_the_checkpoint), cmocka_unit_test(random_rows)};
    return cmocka_run_group_tests_name("golden/sampling", tests, open_model, close_model);
}
