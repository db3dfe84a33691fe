/* How much a head of the text's rows leaves out: the same positions with all rows of the head and with some. The loss
 * over all rows is larger by −log of the probability that all of them give to the text's tokens, so the difference is
 * never negative but for rounding, and both passes differ in the head alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate_internal.h"

static enum lvs_status row_losses(const struct evaluated *evaluated, const int32_t *ids, const int32_t *labels,
                                  int32_t n_windows, int32_t context, float *out, struct lvs_error *err) {
    const struct pass_options options = {
        .n_slots = 1, .n_sequences = n_windows, .context = context, .lora = evaluated->lora};
    const struct compute *compute = model_compute(evaluated->model);
    const size_t count = (size_t)n_windows * (size_t)context;
    struct pass *pass;
    LVS_TRY(pass_create(evaluated->model, &options, &pass, err));
    struct adapters view;
    const struct adapters *adapters = evaluated_view(evaluated, &view);
    compute->backend->upload(compute->device, pass_ids(pass), ids, count * sizeof *ids);
    compute->backend->upload(compute->device, pass_labels(pass), labels, count * sizeof *labels);
    pass_forward(pass, adapters);
    pass_loss(pass, adapters);
    compute->backend->download(compute->device, out, pass_row_loss(pass), count * sizeof *out);
    enum lvs_status status = compute->backend->synchronize(compute->device, err);
    pass_destroy(pass);
    return status;
}

static int32_t row_of(const int32_t *kept, int32_t id) {
    return id == WINDOW_IGNORED ? WINDOW_IGNORED : kept[id];
}

static void measure(const float *whole, const float *text, const int32_t *labels, size_t count, struct head_gap *out) {
    double sum = 0, largest = -INFINITY;
    int64_t n_labels = 0;
    for (size_t i = 0; i < count; i++) {
        if (labels[i] == WINDOW_IGNORED) continue;
        double gap = (double)whole[i] - (double)text[i];
        sum += gap;
        largest = fmax(largest, gap);
        n_labels++;
    }
    *out = (struct head_gap){.mean = n_labels ? sum / (double)n_labels : NAN, .largest = n_labels ? largest : NAN};
}

enum lvs_status head_gap_measure(const struct evaluated *whole, const struct evaluated *text, const int32_t *kept,
                                 const struct window_set *windows, const int32_t *chosen, int32_t n_chosen,
                                 struct head_gap *out, struct lvs_error *err) {
    const size_t context = (size_t)windows->context, count = (size_t)n_chosen * context;
    int32_t *ids = lvs_malloc(4 * count * sizeof *ids), *labels = ids + count;
    int32_t *whole_ids = labels + count, *whole_labels = whole_ids + count;
    float *losses = lvs_malloc(2 * count * sizeof *losses);
    for (int32_t w = 0; w < n_chosen; w++) {
        size_t from = (size_t)chosen[w] * context, to = (size_t)w * context;
        memcpy(ids + to, windows->ids + from, context * sizeof *ids);
        memcpy(labels + to, windows->labels + from, context * sizeof *labels);
    }
    for (size_t i = 0; i < count; i++) {
        whole_ids[i] = kept[ids[i]];
        whole_labels[i] = row_of(kept, labels[i]);
    }
    enum lvs_status status = row_losses(whole, whole_ids, whole_labels, n_chosen, windows->context, losses, err);
    if (status == LVS_OK) status = row_losses(text, ids, labels, n_chosen, windows->context, losses + count, err);
    if (status == LVS_OK) measure(losses, losses + count, labels, count, out);
    free(ids);
    free(losses);
    return status;
}
