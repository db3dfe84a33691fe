/* Teacher-forced loss of the true continuation: what the model gives to the tokens that really follow the history,
 * whatever it would have generated. */
#include <math.h>
#include <stdlib.h>

#include "evaluate_internal.h"

/* One window a series, padded right: labels only where the next token belongs to the continuation. */
static enum lvs_status fill_window(const struct tokenizer *tokenizer, const struct forecast_plan *plan, int32_t w,
                                   struct window_set *windows, struct lvs_error *err) {
    const size_t context = (size_t)windows->context;
    int32_t *ids = windows->ids + (size_t)w * context, *labels = windows->labels + (size_t)w * context;
    LVS_TRY(tokenizer_encode(tokenizer, plan->text, plan->end, ids, err));
    for (size_t t = plan->end; t < context; t++)
        ids[t] = tokenizer_pad(tokenizer);
    for (size_t t = 0; t < context; t++)
        labels[t] = t + 1 >= plan->prompt && t + 1 < plan->end ? ids[t + 1] : WINDOW_IGNORED;
    return LVS_OK;
}

static enum lvs_status make_windows(const struct forecast_task *task, const struct forecast_plan *plans,
                                    struct window_set *out, struct lvs_error *err) {
    size_t longest = 2;
    for (int32_t i = 0; i < task->n_rows; i++)
        if (plans[i].end > longest) longest = plans[i].end;
    *out = (struct window_set){.n_windows = task->n_rows, .context = (int32_t)longest};
    size_t count = (size_t)task->n_rows * longest + 1;
    out->ids = lvs_malloc(count * sizeof *out->ids);
    out->labels = lvs_malloc(count * sizeof *out->labels);
    out->is_pad = lvs_calloc(count, 1);
    out->series = lvs_calloc((size_t)task->n_rows + 1, sizeof *out->series);
    for (int32_t i = 0; i < task->n_rows; i++)
        LVS_TRY(fill_window(task->tokenizer, &plans[i], i, out, err));
    return LVS_OK;
}

enum lvs_status continuation_loss(const struct evaluated *evaluated, const struct forecast_task *task,
                                  const struct forecast_plan *plans, double *out, struct lvs_error *err) {
    struct window_set windows;
    struct window_loss *losses = lvs_calloc((size_t)task->n_rows + 1, sizeof *losses);
    enum lvs_status status = make_windows(task, plans, &windows, err);
    if (status == LVS_OK) status = window_losses(evaluated, &windows, task->settings->batch, losses, err);
    for (int32_t i = 0; i < task->n_rows && status == LVS_OK; i++)
        out[i] = losses[i].n_labels > 0 ? losses[i].sum / (double)losses[i].n_labels : NAN;
    window_set_free(&windows);
    free(losses);
    return status;
}
