/* The loss over a split: sum of token losses / number of labels over all windows, with and without pads as labels. */
#include <math.h>
#include <stdlib.h>

#include "evaluate_internal.h"

enum lvs_status validation_loss(const struct evaluated *evaluated, const struct window_set *windows, int64_t n_values,
                                int32_t batch, struct loss_metrics *out, struct lvs_error *err) {
    *out = (struct loss_metrics){.loss = NAN, .loss_masked = NAN, .nats_per_value = NAN};
    struct window_loss *losses = lvs_calloc((size_t)windows->n_windows + 1, sizeof *losses), total = {0};
    enum lvs_status status = window_losses(evaluated, windows, batch, losses, err);
    for (int32_t w = 0; w < windows->n_windows && status == LVS_OK; w++) {
        total.sum += losses[w].sum;
        total.sum_masked += losses[w].sum_masked;
        total.n_labels += losses[w].n_labels;
        total.n_labels_masked += losses[w].n_labels_masked;
    }
    free(losses);
    if (total.n_labels > 0) out->loss = total.sum / (double)total.n_labels;
    if (total.n_labels_masked > 0) out->loss_masked = total.sum_masked / (double)total.n_labels_masked;
    if (total.n_labels_masked > 0 && n_values > 0) out->nats_per_value = total.sum_masked / (double)n_values;
    return status;
}
