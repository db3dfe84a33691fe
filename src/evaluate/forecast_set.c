/* The container of forecasts, and how generated text becomes numbers in it. No model, no metrics. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate_internal.h"

void forecast_set_make(const struct forecast_task *task, const struct forecast_plan *plans, int32_t samples,
                       struct forecast_set *out) {
    const int32_t n = task->n_rows, n_channel = task->set->n_channel;
    *out = (struct forecast_set){.n_series = n, .n_channel = n_channel, .samples = samples};
    out->whole_only = task->settings->partial == PARTIAL_DROP;
    for (int32_t i = 0; i < n; i++)
        if (plans[i].horizon > out->horizon) out->horizon = plans[i].horizon;
    if (n > 0) out->history = plans[0].first;
    const int64_t block = (int64_t)out->horizon * n_channel;
    out->rows = lvs_malloc(((size_t)n + 1) * sizeof *out->rows);
    memcpy(out->rows, task->rows, (size_t)n * sizeof *out->rows);
    out->observed = lvs_malloc((size_t)(n * block + 1) * sizeof *out->observed);
    out->predicted = lvs_malloc((size_t)(samples * n * block + 1) * sizeof *out->predicted);
    out->decoded = lvs_calloc((size_t)samples * (size_t)n + 1, sizeof *out->decoded);
    out->cross_entropy = lvs_malloc(((size_t)n + 1) * sizeof *out->cross_entropy);
    for (int64_t i = 0; i < samples * n * block; i++)
        out->predicted[i] = NAN;
    for (int32_t i = 0; i < n; i++) {
        out->cross_entropy[i] = NAN;
        for (int64_t v = 0; v < block; v++)
            out->observed[i * block + v] = v < (int64_t)plans[i].horizon * n_channel ? plans[i].observed[v] : NAN;
    }
}

void forecast_set_free(struct forecast_set *set) {
    free(set->rows);
    free(set->observed);
    free(set->predicted);
    free(set->decoded);
    free(set->cross_entropy);
    *set = (struct forecast_set){0};
}

double *forecast_set_values(const struct forecast_set *set, int32_t sample, int32_t series) {
    return set->predicted + ((int64_t)sample * set->n_series + series) * set->horizon * set->n_channel;
}

/* The known beginning of the first point, if any, then what was generated; values that are not compared stay NaN. A
 * last point that the horizon cuts is read as far as it goes and is not missed. */
void forecast_set_read(struct forecast_set *set, const struct forecast_task *task, const struct forecast_plan *plan,
                       int32_t sample, int32_t series, const char *text, size_t length) {
    double *values = forecast_set_values(set, sample, series);
    struct text_decoded *decoded = &set->decoded[(int64_t)sample * set->n_series + series];
    struct strbuf whole;
    strbuf_init(&whole);
    strbuf_add_bytes(&whole, plan->text + plan->tail, plan->prompt - plan->tail);
    strbuf_add_bytes(&whole, text, length);
    text_decode(task->format, whole.text, whole.length, plan->horizon, values, decoded);
    strbuf_free(&whole);
    int32_t read = plan->horizon - decoded->n_missing;
    decoded->n_missing = read < plan->whole ? plan->whole - read : 0;
    decoded->success = decoded->n_missing == 0 && decoded->n_malformed == 0 && decoded->n_points >= plan->whole;
    for (int64_t v = 0; v < (int64_t)plan->horizon * set->n_channel; v++)
        if (isnan(plan->observed[v])) values[v] = NAN;
}
