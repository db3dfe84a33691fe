/* Token losses of many windows, summed by window. Batches go through one pass without waiting for each other; the last
 * one is filled up with windows that have no label. Sums are in double, by position: the order is fixed. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate_internal.h"

/* Rows whose ids, labels and losses are on the device at a time: 12 MiB. */
#define STAGED_ROWS (1 << 20)

const struct adapters *evaluated_view(const struct evaluated *evaluated, struct adapters *view) {
    if (!evaluated->adapters) return NULL;
    *view = (struct adapters){
        .params = evaluated->adapters->params + evaluated->adapter * evaluated->adapters->stride,
        .stride = evaluated->adapters->stride,
        .scale = evaluated->adapters->scale + evaluated->adapter,
    };
    return view;
}

/* A stretch of batches on the device: [n_batches][rows]. */
struct stage {
    const struct compute *compute;
    struct pass *pass;
    int32_t rows, max_batches; /* rows of a batch, padding included */
    int32_t *ids, *labels;     /* device */
    float *loss;               /* device */
    int32_t *host_ids, *host_labels;
    float *host_loss;
};

static enum lvs_status stage_allocate(struct stage *stage, int32_t n_batches, struct lvs_error *err) {
    const struct compute *compute = stage->compute;
    stage->rows = pass_layout(stage->pass)->n_rows;
    int32_t fit = STAGED_ROWS / stage->rows;
    stage->max_batches = fit < 1 ? 1 : fit < n_batches ? fit : n_batches;
    size_t count = (size_t)stage->max_batches * (size_t)stage->rows;
    stage->host_ids = lvs_malloc(count * sizeof(int32_t));
    stage->host_labels = lvs_malloc(count * sizeof(int32_t));
    stage->host_loss = lvs_malloc(count * sizeof(float));
    LVS_TRY(compute->backend->allocate(compute->device, count * sizeof(int32_t), (void **)&stage->ids, err));
    LVS_TRY(compute->backend->allocate(compute->device, count * sizeof(int32_t), (void **)&stage->labels, err));
    return compute->backend->allocate(compute->device, count * sizeof(float), (void **)&stage->loss, err);
}

static void stage_free(struct stage *stage) {
    void *device[] = {stage->ids, stage->labels, stage->loss};
    for (int i = 0; i < 3; i++)
        if (device[i]) stage->compute->backend->release(stage->compute->device, device[i]);
    free(stage->host_ids);
    free(stage->host_labels);
    free(stage->host_loss);
}

/* Windows [first, end) as whole batches; what is left over has id 0 and no label. */
static void stage_fill(struct stage *stage, const struct window_set *windows, int32_t batch, int32_t first,
                       int32_t end) {
    const size_t context = (size_t)windows->context;
    const int32_t n_batches = (end - first + batch - 1) / batch;
    const size_t count = (size_t)n_batches * (size_t)stage->rows;
    memset(stage->host_ids, 0, count * sizeof(int32_t));
    for (size_t i = 0; i < count; i++)
        stage->host_labels[i] = LVS_LABEL_IGNORED;
    for (int32_t w = first; w < end; w++) {
        size_t to = (size_t)((w - first) / batch) * (size_t)stage->rows + (size_t)((w - first) % batch) * context;
        memcpy(stage->host_ids + to, windows->ids + (size_t)w * context, context * sizeof(int32_t));
        memcpy(stage->host_labels + to, windows->labels + (size_t)w * context, context * sizeof(int32_t));
    }
}

static void stage_run(struct stage *stage, const struct adapters *adapters, int32_t n_batches) {
    const struct backend *backend = stage->compute->backend;
    struct device *device = stage->compute->device;
    const size_t rows = (size_t)stage->rows, count = (size_t)n_batches * rows;
    backend->upload(device, stage->ids, stage->host_ids, count * sizeof(int32_t));
    backend->upload(device, stage->labels, stage->host_labels, count * sizeof(int32_t));
    for (size_t b = 0; b < (size_t)n_batches; b++) {
        backend->copy(device, pass_ids(stage->pass), stage->ids + b * rows, rows * sizeof(int32_t));
        backend->copy(device, pass_labels(stage->pass), stage->labels + b * rows, rows * sizeof(int32_t));
        pass_forward(stage->pass, adapters);
        pass_loss(stage->pass, adapters);
        backend->copy(device, stage->loss + b * rows, pass_row_loss(stage->pass), rows * sizeof(float));
    }
    backend->download(device, stage->host_loss, stage->loss, count * sizeof(float));
}

static void stage_sum(const struct stage *stage, const struct window_set *windows, int32_t batch, int32_t first,
                      int32_t end, struct window_loss *out) {
    const size_t context = (size_t)windows->context;
    for (int32_t w = first; w < end; w++) {
        size_t from = (size_t)((w - first) / batch) * (size_t)stage->rows + (size_t)((w - first) % batch) * context;
        out[w] = (struct window_loss){0};
        for (size_t t = 0; t < context; t++) {
            if (windows->labels[(size_t)w * context + t] == WINDOW_IGNORED) continue;
            double loss = stage->host_loss[from + t];
            out[w].sum += loss;
            out[w].n_labels++;
            if (windows->is_pad[(size_t)w * context + t]) continue;
            out[w].sum_masked += loss;
            out[w].n_labels_masked++;
        }
    }
}

static enum lvs_status run_all(struct stage *stage, const struct evaluated *evaluated, const struct window_set *windows,
                               int32_t batch, struct window_loss *out, struct lvs_error *err) {
    const int32_t n_batches = (int32_t)(((int64_t)windows->n_windows + batch - 1) / batch);
    LVS_TRY(stage_allocate(stage, n_batches, err));
    struct adapters view;
    const struct adapters *adapters = evaluated_view(evaluated, &view);
    for (int32_t b = 0; b < n_batches; b += stage->max_batches) {
        int32_t count = b + stage->max_batches < n_batches ? stage->max_batches : n_batches - b;
        int64_t end = (int64_t)(b + count) * batch;
        int32_t first = b * batch, last = end < windows->n_windows ? (int32_t)end : windows->n_windows;
        stage_fill(stage, windows, batch, first, last);
        stage_run(stage, adapters, count);
        LVS_TRY(stage->compute->backend->synchronize(stage->compute->device, err));
        stage_sum(stage, windows, batch, first, last, out);
    }
    return LVS_OK;
}

enum lvs_status window_losses(const struct evaluated *evaluated, const struct window_set *windows, int32_t batch,
                              struct window_loss *out, struct lvs_error *err) {
    assert(batch >= 1);
    if (windows->n_windows == 0) return LVS_OK;
    const struct pass_options options = {
        .n_slots = 1,
        .n_sequences = batch,
        .context = windows->context,
        .lora = evaluated->adapters ? evaluated->lora : NULL,
    };
    struct stage stage = {.compute = model_compute(evaluated->model)};
    LVS_TRY(pass_create(evaluated->model, &options, &stage.pass, err));
    enum lvs_status status = run_all(&stage, evaluated, windows, batch, out, err);
    stage_free(&stage);
    pass_destroy(stage.pass);
    return status;
}
