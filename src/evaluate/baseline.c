/* Forecasts without a model: the last value held, and the mean of the history. Scaled space, like any forecast, so that
 * the same metrics apply. */
#include <math.h>

#include "evaluate_internal.h"

/* A channel's level from the points that are wholly known; NaN when there is none. */
static double history_level(enum baseline_kind kind, const struct forecast_task *task, int32_t row, int32_t n_points,
                            int32_t channel) {
    const int32_t n_channel = task->set->n_channel;
    const double *values = task->set->values + (int64_t)row * task->set->n_time * n_channel;
    const double factor = task->scaling->factor[(int64_t)row * n_channel + channel];
    if (n_points == 0) return NAN;
    if (kind == BASELINE_LAST_VALUE) return values[(int64_t)(n_points - 1) * n_channel + channel] / factor;
    double sum = 0;
    for (int32_t p = 0; p < n_points; p++)
        sum += values[(int64_t)p * n_channel + channel];
    return sum / n_points / factor;
}

static void hold_level(enum baseline_kind kind, const struct forecast_task *task, const struct forecast_plan *plan,
                       int32_t series, struct forecast_set *out) {
    const int32_t n_channel = out->n_channel;
    double *values = forecast_set_values(out, 0, series);
    bool success = true;
    for (int32_t c = 0; c < n_channel; c++) {
        double level = history_level(kind, task, task->rows[series], plan->first, c);
        success &= isfinite(level) != 0;
        for (int32_t p = 0; p < plan->horizon; p++) {
            int64_t at = (int64_t)p * n_channel + c;
            values[at] = isnan(plan->observed[at]) ? NAN : level;
        }
    }
    out->decoded[series] = (struct text_decoded){
        .n_points = success ? plan->whole : 0,
        .n_missing = success ? 0 : plan->whole,
        .success = success,
    };
}

enum lvs_status forecast_baseline(enum baseline_kind kind, const struct forecast_task *task, struct forecast_set *out,
                                  struct lvs_error *err) {
    *out = (struct forecast_set){0};
    if (kind != BASELINE_LAST_VALUE && kind != BASELINE_MEAN)
        return lvs_fail(err, LVS_BUG, "the untrained baseline is forecast_make without an adapter");
    struct forecast_plan *plans;
    LVS_TRY(forecast_plans_make(task, &plans, err));
    forecast_set_make(task, plans, 1, out);
    for (int32_t i = 0; i < task->n_rows; i++)
        hold_level(kind, task, &plans[i], i, out);
    forecast_plans_free(plans, task->n_rows);
    return LVS_OK;
}
