/* Scaling: one factor a series and channel, so that a chosen percentile of the magnitudes becomes scale_to.
 * Percentiles are NumPy's (method linear) over |value|, in double: for data without negative values that is the
 * percentile of the values. Nothing is shifted, so zero stays zero.
 * Invariant: every factor is finite and above zero. */
#include "data_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* numpy.percentile of sorted values; _lerp from the nearer end, so that both ends are exact. */
static double percentile_of_sorted(const double *sorted, int32_t count, double percentile) {
    assert(percentile >= 0 && percentile <= 100);
    double position = percentile / 100 * (count - 1);
    int32_t below = (int32_t)floor(position);
    int32_t above = below + 1 < count ? below + 1 : below;
    double low = sorted[below], high = sorted[above], part = position - below;
    return part >= 0.5 ? high - (high - low) * (1 - part) : low + (high - low) * part;
}

void percentiles_linear(const double *values, int32_t count, const double *percentiles, int32_t n, double *out) {
    assert(count > 0);
    double *sorted = lvs_malloc((size_t)count * sizeof *sorted);
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
    for (int32_t i = 0; i < n; i++)
        out[i] = percentile_of_sorted(sorted, count, percentiles[i]);
    free(sorted);
}

double percentile_linear(const double *values, int32_t count, double percentile) {
    double result;
    percentiles_linear(values, count, &percentile, 1, &result);
    return result;
}

/* |value| of `n_time` points of one series into out; channel -1 = all of them. Returns how many. */
static int32_t gather(const struct series_set *set, int32_t series, int32_t channel, int32_t n_time, double *out) {
    const double *values = set->values + (int64_t)series * set->n_time * set->n_channel;
    int32_t count = 0;
    for (int32_t t = 0; t < n_time; t++)
        for (int32_t c = 0; c < set->n_channel; c++)
            if (channel < 0 || c == channel) out[count++] = fabs(values[(int64_t)t * set->n_channel + c]);
    return count;
}

static void fill_factors(const struct config *config, const struct series_set *set, int32_t n_time, double *work,
                         struct scaling *out) {
    for (int32_t s = 0; s < set->n_series; s++) {
        double *factor = out->factor + (int64_t)s * set->n_channel, largest = 0;
        for (int32_t c = 0; c < set->n_channel; c++) {
            int32_t channel = config->scale_over == SCALE_SERIES ? -1 : c;
            int32_t count = gather(set, s, channel, n_time, work);
            factor[c] = percentile_linear(work, count, config->scale_percentile) / config->scale_to;
            largest = fmax(largest, factor[c]);
        }
        if (config->scale_over != SCALE_SERIES_MAX) continue;
        for (int32_t c = 0; c < set->n_channel; c++)
            factor[c] = largest;
    }
}

/* One factor for everything, from all values of the training series; of a split along time only the training points. */
static enum lvs_status fill_train_factor(const struct config *config, const struct series_set *set,
                                         const struct split *split, int32_t n_time, struct scaling *out,
                                         struct lvs_error *err) {
    if (split->time_cut[0] > 0 && split->time_cut[0] < n_time) n_time = split->time_cut[0];
    int64_t per_series = (int64_t)n_time * set->n_channel, total = per_series * split->n[SPLIT_TRAIN];
    if (total == 0) return lvs_fail(err, LVS_INPUT, "scale_over = train: the training split is empty");
    if (total > INT32_MAX)
        return lvs_fail(err, LVS_INPUT, "scale_over = train: %lld training values, more than 2^31; use variable",
                        (long long)total);
    double *all = lvs_malloc((size_t)total * sizeof *all);
    for (int32_t i = 0; i < split->n[SPLIT_TRAIN]; i++)
        gather(set, split->rows[SPLIT_TRAIN][i], -1, n_time, all + i * per_series);
    double factor = percentile_linear(all, (int32_t)total, config->scale_percentile) / config->scale_to;
    free(all);
    for (int64_t i = 0; i < (int64_t)set->n_series * set->n_channel; i++)
        out->factor[i] = factor;
    return LVS_OK;
}

static enum lvs_status check_factors(const struct config *config, const struct series_set *set, int32_t n_time,
                                     const struct scaling *out, struct lvs_error *err) {
    for (int64_t i = 0; i < (int64_t)set->n_series * set->n_channel; i++) {
        if (out->factor[i] > 0 && isfinite(out->factor[i]) && isfinite(1 / out->factor[i])) continue;
        const char *ways = config->scale_points == SCALE_POINTS_HISTORY ? "scale_points = all, " : "";
        return lvs_fail(err, LVS_INPUT,
                        "%s%sseries %lld, channel %s: percentile %g of the first %d points is %g, nothing to scale by; "
                        "use %sa higher "
                        "scale_percentile, or scale_over = series_max or train",
                        config->data_file, config->data_file[0] ? ": " : "", (long long)set->id[i / set->n_channel],
                        set->channel_name[i % set->n_channel], config->scale_percentile, n_time,
                        out->factor[i] * config->scale_to, ways);
    }
    return LVS_OK;
}

enum lvs_status scaling_make(const struct config *config, const struct series_set *set, const struct split *split,
                             int32_t history_points, struct scaling *out, struct lvs_error *err) {
    int32_t n_time = set->n_time;
    if (config->scale_points == SCALE_POINTS_HISTORY && history_points < n_time) n_time = history_points;
    *out = (struct scaling){.n_series = set->n_series, .n_channel = set->n_channel};
    if (n_time < 1) return lvs_fail(err, LVS_INPUT, "scale_points = history, but the history has no points");
    out->factor = lvs_calloc((size_t)set->n_series * (size_t)set->n_channel, sizeof *out->factor);
    enum lvs_status status = LVS_OK;
    if (config->scale_over == SCALE_TRAIN) {
        status = fill_train_factor(config, set, split, n_time, out, err);
    } else {
        double *work = lvs_malloc((size_t)n_time * (size_t)set->n_channel * sizeof *work);
        fill_factors(config, set, n_time, work, out);
        free(work);
    }
    if (status == LVS_OK) status = check_factors(config, set, n_time, out, err);
    if (status != LVS_OK) scaling_free(out);
    return status;
}

void scaling_free(struct scaling *scaling) {
    free(scaling->factor);
    *scaling = (struct scaling){0};
}
