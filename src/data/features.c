/* What series look like, in a few numbers: means, ranges, periods by peak detection, phase lags. Shared by the
 * stratified split and `describe`.
 * A peak is a point above both neighbours (of a flat top the first point) that stands at least 5 % of the channel's
 * range above the lowest point on each side, up to the next higher point: small ripples are no peaks. Its time is
 * refined by the parabola through it and its neighbours when the three are equally spaced. */
#include "data_internal.h"

#include <math.h>
#include <stdlib.h>

#define PROMINENCE 0.05 /* of max − min */

/* A channel of one series: value(t) = values[t · stride] */
struct channel_view {
    const double *values, *time;
    int32_t n_time, stride;
};

static double view_at(const struct channel_view *view, int32_t t) {
    return view->values[(int64_t)t * view->stride];
}

/* How far the point stands above the lowest one on this side before a higher one (or the end). */
static double drop_towards(const struct channel_view *view, int32_t peak, int32_t step) {
    double top = view_at(view, peak), lowest = top;
    for (int32_t t = peak + step; t >= 0 && t < view->n_time; t += step) {
        double value = view_at(view, t);
        if (value > top) break;
        lowest = fmin(lowest, value);
    }
    return top - lowest;
}

static double refined_time(const struct channel_view *view, int32_t peak) {
    double before = view_at(view, peak - 1), top = view_at(view, peak), after = view_at(view, peak + 1);
    double left = view->time[peak] - view->time[peak - 1], right = view->time[peak + 1] - view->time[peak];
    double curvature = before - 2 * top + after;
    if (fabs(left - right) > 1e-6 * left || curvature >= 0) return view->time[peak];
    return view->time[peak] + 0.5 * left * (before - after) / curvature;
}

/* Times of the peaks into peaks[n_time]; returns how many. */
static int32_t find_peaks(const struct channel_view *view, double range, double *peaks) {
    int32_t count = 0;
    for (int32_t t = 1; t + 1 < view->n_time; t++) {
        if (!(view_at(view, t) > view_at(view, t - 1))) continue;
        int32_t end = t;
        while (end + 1 < view->n_time && view_at(view, end + 1) == view_at(view, t))
            end++;
        if (end + 1 >= view->n_time || view_at(view, end + 1) > view_at(view, t)) continue;
        if (fmin(drop_towards(view, t, -1), drop_towards(view, t, 1)) < PROMINENCE * range) continue;
        peaks[count++] = refined_time(view, t);
    }
    return count;
}

/* Mean delay from each peak of the first channel to the next one of the other, before the first channel peaks again. */
static double mean_lag(const double *first, int32_t n_first, const double *other, int32_t n_other) {
    double sum = 0;
    int32_t count = 0, next = 0;
    for (int32_t i = 0; i < n_first; i++) {
        while (next < n_other && other[next] < first[i])
            next++;
        if (next >= n_other || (i + 1 < n_first && other[next] >= first[i + 1])) continue;
        sum += other[next] - first[i];
        count++;
    }
    return count ? sum / count : NAN;
}

static void measure_range(const struct channel_view *view, int32_t channel, struct series_features *out) {
    double sum = 0;
    out->minimum[channel] = INFINITY;
    out->maximum[channel] = -INFINITY;
    for (int32_t t = 0; t < view->n_time; t++) {
        double value = view_at(view, t);
        sum += value;
        out->minimum[channel] = fmin(out->minimum[channel], value);
        out->maximum[channel] = fmax(out->maximum[channel], value);
    }
    out->mean[channel] = sum / view->n_time;
    out->initial[channel] = view_at(view, 0);
    out->final[channel] = view_at(view, view->n_time - 1);
}

void features_of_series(const struct series_set *set, int32_t series, struct series_features *out) {
    *out = (struct series_features){0};
    double *first = lvs_malloc((size_t)set->n_time * 2 * sizeof *first), *peaks = first + set->n_time;
    for (int32_t c = 0; c < set->n_channel; c++) {
        struct channel_view view = {
            .values = set->values + (int64_t)series * set->n_time * set->n_channel + c,
            .time = set->time,
            .n_time = set->n_time,
            .stride = set->n_channel,
        };
        double *found = c == 0 ? first : peaks;
        measure_range(&view, c, out);
        int32_t n = find_peaks(&view, out->maximum[c] - out->minimum[c], found);
        out->n_peaks[c] = n;
        out->period[c] = n >= 2 ? (found[n - 1] - found[0]) / (n - 1) : NAN;
        out->lag[c] = c == 0 ? 0 : mean_lag(first, out->n_peaks[0], found, n);
    }
    free(first);
}

/* Mean 0 and deviation 1 over the measurable entries of a column; the others become 0. */
static void standardize(double *table, int32_t n_rows, int32_t n_columns, int32_t column) {
    double sum = 0, squares = 0;
    int32_t count = 0;
    for (int32_t i = 0; i < n_rows; i++) {
        double value = table[(int64_t)i * n_columns + column];
        if (!isfinite(value)) continue;
        sum += value;
        count++;
    }
    double mean = count ? sum / count : 0;
    for (int32_t i = 0; i < n_rows; i++) {
        double value = table[(int64_t)i * n_columns + column];
        if (isfinite(value)) squares += (value - mean) * (value - mean);
    }
    double deviation = count ? sqrt(squares / count) : 0;
    for (int32_t i = 0; i < n_rows; i++) {
        double *value = &table[(int64_t)i * n_columns + column];
        *value = isfinite(*value) && deviation > 0 ? (*value - mean) / deviation : 0;
    }
}

int32_t features_table(const struct series_set *set, double **out) {
    const int32_t n_columns = 4 * set->n_channel - 1;
    double *table = lvs_malloc((size_t)set->n_series * (size_t)n_columns * sizeof *table);
    for (int32_t s = 0; s < set->n_series; s++) {
        struct series_features features;
        features_of_series(set, s, &features);
        double *row = table + (int64_t)s * n_columns;
        for (int32_t c = 0; c < set->n_channel; c++) {
            *row++ = features.mean[c];
            *row++ = features.maximum[c] - features.minimum[c];
            *row++ = features.period[c];
            if (c > 0) *row++ = features.lag[c];
        }
    }
    for (int32_t column = 0; column < n_columns; column++)
        standardize(table, set->n_series, n_columns, column);
    *out = table;
    return n_columns;
}
