/* What the files of evaluate/ share: losses by window, and where a series' text is cut into prompt and truth. */
#pragma once
#include "lvsweep/evaluate.h"

/* ---- window_losses.c ---- */

/* The evaluated adapter alone, as adapter 0 of *view, without dropout; NULL for the bare model. */
const struct adapters *evaluated_view(const struct evaluated *evaluated, struct adapters *view);

/* Sums over the labels of one window; `masked` leaves out labels that are pads. */
struct window_loss {
    double sum, sum_masked; /* nats */
    int64_t n_labels, n_labels_masked;
};
/* Losses of all windows, `batch` a pass: out [n_windows]. */
enum lvs_status window_losses(const struct evaluated *evaluated, const struct window_set *windows, int32_t batch,
                              struct window_loss *out, struct lvs_error *err);

/* ---- forecast_plan.c ---- */

/* One series' text and its cut. One character is one token. Points are counted in the series.
 *     text: history … | continuation … | what nobody asks for
 *           0      prompt             end                      length
 * A history given in tokens may end within a point; that point is then the first one of the forecast, and its values
 * that begin before the cut are not compared. */
struct forecast_plan {
    char *text; /* of the whole series, owned */
    size_t length;
    size_t prompt;       /* characters given */
    size_t end;          /* end of the true continuation */
    size_t tail;         /* where point `first` begins: = prompt, or before it when the cut is within that point */
    int32_t first;       /* the first point of the forecast; those before it are wholly known */
    int32_t horizon;     /* points with a value whose text lies wholly within the continuation */
    int32_t whole;       /* of these, points that end within it: what a forecast must have to succeed */
    int32_t token_limit; /* new tokens at most */
    double *observed;    /* [horizon][n_channel] scaled truth, NaN where not compared; owned */
};
/* One plan, for forecast_plans_make and tests. LVS_USAGE when history and horizon leave nothing to forecast. */
enum lvs_status forecast_plan_make(const struct forecast_task *task, int32_t row, struct forecast_plan *out,
                                   struct lvs_error *err);
void forecast_plan_free(struct forecast_plan *plan);
/* Plans of all rows of the task; free with forecast_plans_free. */
enum lvs_status forecast_plans_make(const struct forecast_task *task, struct forecast_plan **out,
                                    struct lvs_error *err);
void forecast_plans_free(struct forecast_plan *plans, int32_t count);
/* Positions that plans[count] take together: the longest prompt and the most new tokens. LVS_USAGE in words when there
 * are more than `max_position`. */
enum lvs_status forecast_plans_capacity(const struct forecast_plan *plans, int32_t count, int32_t max_position,
                                        int32_t *capacity, int32_t *token_limit, struct lvs_error *err);

/* ---- forecast_set.c ---- */

/* Memory for the plans' forecasts, observed values filled in, everything predicted NaN. */
void forecast_set_make(const struct forecast_task *task, const struct forecast_plan *plans, int32_t samples,
                       struct forecast_set *out);
/* Predicted values of one sample of one series: [horizon][n_channel]. */
double *forecast_set_values(const struct forecast_set *set, int32_t sample, int32_t series);
/* Reads what was generated for a series into its place. `text`: the new characters. */
void forecast_set_read(struct forecast_set *set, const struct forecast_task *task, const struct forecast_plan *plan,
                       int32_t sample, int32_t series, const char *text, size_t length);

/* ---- continuation_loss.c ---- */

/* Mean loss of each plan's true continuation given its history, nats a token: out [n_plans]. */
enum lvs_status continuation_loss(const struct evaluated *evaluated, const struct forecast_task *task,
                                  const struct forecast_plan *plans, double *out, struct lvs_error *err);

/* ---- scores.c ---- */

/* Over the finite ones of values[count]; NaN when there are none. */
double mean_finite(const double *values, int32_t count);
double median_finite(const double *values, int32_t count);
