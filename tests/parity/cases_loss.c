/* Cases: cross-entropy over the vocabulary, loss and gradients, with and without a head bias and a trained head. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "parity.h"
#include "reference.h"

enum { N_ADAPTERS = 4, SKIPPED_FROM = 256, SKIPPED_TO = 512 };

struct loss_shape {
    int32_t n_slots, n_sequences, context, n_in, vocabulary;
    bool bias, dhead;
    bool skip; /* tiles: the second one's logits vanish and no label lies in it */
};

/* Host values as double, and where the adapters keep the bias. */
struct loss_fixture {
    struct loss_shape shape;
    struct parity_rows rows;
    int64_t stride, bias_offset;
    double *x, *head, *params; /* [n_rows][n_in], [vocabulary][n_in], [N_ADAPTERS][stride] */
    const int32_t *labels;
    const float *label_weight;
};

/* Logits of one row with the slot's bias. */
static void row_logits(const struct loss_fixture *f, int64_t row, double *logits) {
    int32_t adapter = f->rows.adapter[row / f->rows.layout.slot_rows];
    for (int32_t id = 0; id < f->shape.vocabulary; id++) {
        logits[id] = f->shape.bias ? f->params[adapter * f->stride + f->bias_offset + id] : 0;
        for (int32_t i = 0; i < f->shape.n_in; i++)
            logits[id] += f->x[row * f->shape.n_in + i] * f->head[(int64_t)id * f->shape.n_in + i];
    }
}

/* Σ row_loss · label_weight. */
static double total_loss(const void *context) {
    const struct loss_fixture *f = context;
    double *logits = calloc((size_t)f->shape.vocabulary, sizeof *logits), sum = 0;
    for (int64_t row = 0; row < f->rows.layout.n_rows; row++) {
        if (f->labels[row] < 0) continue;
        row_logits(f, row, logits);
        sum += (double)f->label_weight[row / f->rows.layout.slot_rows] *
               reference_cross_entropy(f->shape.vocabulary, logits, f->labels[row]);
    }
    free(logits);
    return sum;
}

/* What the call should give. */
struct loss_expected {
    double *row_loss, *dx, *dbias, *dhead; /* dbias [N_ADAPTERS][stride]; dhead added to its start */
};

static void reference_loss(const struct loss_fixture *f, struct loss_expected *e) {
    int64_t n_in = f->shape.n_in, vocabulary = f->shape.vocabulary;
    double *logits = calloc((size_t)vocabulary, sizeof *logits);
    for (int64_t row = 0; row < f->rows.layout.n_rows; row++) {
        int64_t slot = row / f->rows.layout.slot_rows, adapter = f->rows.adapter[slot];
        if (f->labels[row] < 0) continue;
        row_logits(f, row, logits);
        double loss = reference_cross_entropy(vocabulary, logits, f->labels[row]);
        double lse = loss + logits[f->labels[row]];
        e->row_loss[row] = loss;
        for (int64_t id = 0; id < vocabulary; id++) {
            double d = (exp(logits[id] - lse) - (id == f->labels[row])) * (double)f->label_weight[slot];
            e->dbias[adapter * f->stride + f->bias_offset + id] += d;
            for (int64_t i = 0; i < n_in; i++) {
                e->dx[row * n_in + i] += d * f->head[id * n_in + i];
                e->dhead[id * n_in + i] += d * f->x[row * n_in + i];
            }
        }
    }
    free(logits);
}

static void gradients_check(struct parity *parity, struct loss_fixture *f, const struct loss_call *call,
                            const struct loss_expected *e, const float *dhead_start, const char *text) {
    int64_t count = (int64_t)f->rows.layout.n_rows * f->shape.n_in, size = (int64_t)f->shape.vocabulary * f->shape.n_in;
    bool small = count * f->shape.vocabulary < 2000000;
    const float *dx = parity_act_read(parity, call->dx, count);
    parity_compare(parity, "loss dx", text, e->dx, dx, count, 1);
    if (small) parity_differences(parity, "loss dx", text, f->x, count, dx, total_loss, f, 2);
    for (int32_t slot = 0; f->shape.bias && slot < f->shape.n_slots; slot++) {
        int64_t at = f->rows.adapter[slot] * f->stride + f->bias_offset;
        const float *grads = parity_floats_read(parity, call->adapters->grads, N_ADAPTERS * f->stride);
        parity_compare(parity, "loss bias gradient", text, e->dbias + at, grads + at, f->shape.vocabulary, 1);
        if (small)
            parity_differences(parity, "loss bias gradient", text, f->params + at, f->shape.vocabulary, grads + at,
                               total_loss, f, 2);
    }
    if (!f->shape.dhead) return;
    float *dhead = parity_floats_read(parity, call->dhead, size);
    parity_compare(parity, "loss dhead", text, e->dhead, dhead, size, 1);
    for (int64_t i = 0; i < size; i++)
        dhead[i] -= dhead_start[i];
    if (small) parity_differences(parity, "loss dhead", text, f->head, size, dhead, total_loss, f, 2);
}

static void loss_check(struct parity *parity, struct loss_shape shape) {
    const struct compute *compute = &parity->compute;
    struct loss_fixture f = {.shape = shape, .bias_offset = 3, .stride = shape.vocabulary + 8};
    if (shape.skip) f.bias_offset = 4; /* as layouts are: read several at a time */
    f.rows = parity_layout(parity, shape.n_slots, shape.n_sequences, shape.context, N_ADAPTERS);
    int64_t n_rows = f.rows.layout.n_rows, count = n_rows * shape.n_in, size = (int64_t)shape.vocabulary * shape.n_in;
    float *x = parity_normal(parity, count, 1), *head_host = parity_normal(parity, size, 3 / sqrt(shape.n_in));
    float *params = parity_normal(parity, N_ADAPTERS * f.stride, 1), *dhead_start = parity_normal(parity, size, 0.1);
    float *label_weight = parity_host(parity, (size_t)shape.n_slots * 4);
    int32_t *labels = parity_below(parity, n_rows, shape.vocabulary);
    for (int64_t row = 0; row < n_rows; row++)
        if (row % 5 == 1 || row % f.rows.layout.slot_rows >= (int64_t)shape.n_sequences * shape.context)
            labels[row] = LVS_LABEL_IGNORED;
    for (int32_t slot = 0; slot < shape.n_slots; slot++)
        label_weight[slot] = (float)(1.0 / (10 + 7 * slot));
    bool two_tiles = shape.skip && shape.vocabulary > SKIPPED_TO;
    for (int64_t row = 0; two_tiles && row < n_rows; row++)
        if (labels[row] >= SKIPPED_FROM && labels[row] < SKIPPED_TO) labels[row] -= SKIPPED_FROM;
    for (int64_t i = SKIPPED_FROM * shape.n_in; two_tiles && i < SKIPPED_TO * shape.n_in; i++)
        head_host[i] *= 0.01f;
    struct weight *head = parity_weight(parity, head_host, shape.vocabulary, shape.n_in, TENSOR_BF16, 1);
    struct adapters adapters = {.params = parity_floats(parity, params, N_ADAPTERS * f.stride),
                                .grads = parity_floats(parity, NULL, N_ADAPTERS * f.stride),
                                .stride = f.stride};
    struct loss_call call = {
        .x = parity_act(parity, x, count),
        .head = head,
        .adapters = shape.bias ? &adapters : NULL,
        .bias_offset = shape.bias ? f.bias_offset : -1,
        .labels = parity_ints(parity, labels, n_rows),
        .row_loss = parity_floats(parity, NULL, n_rows),
        .skip_tiles = shape.skip,
        .label_weight = parity_floats(parity, label_weight, shape.n_slots),
    };
    f.x = parity_widen(parity, x, count);
    f.head = parity_widen(parity, head_host, size);
    f.params = parity_widen(parity, params, N_ADAPTERS * f.stride);
    f.labels = labels;
    f.label_weight = label_weight;
    struct loss_expected e = {
        .row_loss = parity_host(parity, (size_t)n_rows * 8),
        .dx = parity_host(parity, (size_t)count * 8),
        .dbias = parity_host(parity, (size_t)(N_ADAPTERS * f.stride) * 8),
        .dhead = parity_widen(parity, dhead_start, size),
    };
    reference_loss(&f, &e);
    const char *text =
        parity_text("%d×%d rows, %d of %d%s%s", shape.n_slots, (int)f.rows.layout.slot_rows, shape.vocabulary,
                    shape.n_in, shape.bias ? ", bias" : "", shape.skip ? ", tiles skipped" : "");
    compute->backend->loss(compute->device, &f.rows.layout, &call);
    parity_compare(parity, "loss", text, e.row_loss, parity_floats_read(parity, call.row_loss, n_rows), n_rows, 1);
    call.row_loss = parity_floats(parity, NULL, n_rows);
    call.dx = parity_act_poisoned(parity, count);
    call.dhead = shape.dhead ? parity_floats(parity, dhead_start, size) : NULL;
    compute->backend->loss(compute->device, &f.rows.layout, &call);
    parity_compare(parity, "loss (with dx)", text, e.row_loss, parity_floats_read(parity, call.row_loss, n_rows),
                   n_rows, 1);
    gradients_check(parity, &f, &call, &e, dhead_start, text);
    parity_weight_free(parity, head);
    parity_reset(parity);
}

void case_loss(struct parity *parity) {
    static const struct loss_shape shapes[] = {
        {1, 1, 9, 24, 16, false, false, false},     {1, 2, 40, 64, 16, true, true, false},
        {3, 2, 37, 32, 300, true, false, false},    {1, 1, 200, 128, 1000, false, true, false},
        {2, 1, 128, 72, 523, false, false, false},  {1, 1, 256, 8, 70000, true, false, false},
        {2, 1, 256, 128, 1000, false, false, true}, {2, 1, 256, 128, 1000, true, false, true},
        {3, 1, 128, 128, 16, true, false, false},   {2, 1, 128, 128, 16, true, false, true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        loss_check(parity, shapes[i]);
}
