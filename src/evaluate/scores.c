/* Scores of a few numbers: CRPS, R², mean and median over what is finite. Pure; NaN means "not measured". */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate_internal.h"

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double mean_finite(const double *values, int32_t count) {
    double sum = 0;
    int32_t n = 0;
    for (int32_t i = 0; i < count; i++)
        if (isfinite(values[i])) {
            sum += values[i];
            n++;
        }
    return n > 0 ? sum / n : NAN;
}

double median_finite(const double *values, int32_t count) {
    double *sorted = lvs_malloc(((size_t)count + 1) * sizeof *sorted);
    int32_t n = 0;
    for (int32_t i = 0; i < count; i++)
        if (isfinite(values[i])) sorted[n++] = values[i];
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    double median = n == 0 ? NAN : n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    free(sorted);
    return median;
}

/* Σ over pairs i < j of sorted values of (xj − xi) = Σ (2i − n + 1)·xi, so a sort replaces the square. */
double crps_fair(const double *samples, int32_t count, double y) {
    if (count < 2) return NAN;
    double *sorted = lvs_malloc((size_t)count * sizeof *sorted);
    memcpy(sorted, samples, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, ascending);
    double distance = 0, spread = 0;
    for (int32_t i = 0; i < count; i++) {
        distance += fabs(sorted[i] - y);
        spread += (2.0 * i - count + 1) * sorted[i];
    }
    free(sorted);
    return distance / count - spread / ((double)count * (count - 1));
}

double r_squared(const double *observed, const double *predicted, int32_t count) {
    double sum = 0, least = INFINITY, most = -INFINITY;
    int32_t n = 0;
    for (int32_t i = 0; i < count; i++)
        if (isfinite(observed[i]) && isfinite(predicted[i])) {
            sum += observed[i];
            least = fmin(least, observed[i]);
            most = fmax(most, observed[i]);
            n++;
        }
    if (n == 0 || least == most) return NAN;
    double residual = 0, total = 0, mean = sum / n;
    for (int32_t i = 0; i < count; i++)
        if (isfinite(observed[i]) && isfinite(predicted[i])) {
            residual += (observed[i] - predicted[i]) * (observed[i] - predicted[i]);
            total += (observed[i] - mean) * (observed[i] - mean);
        }
    return 1 - residual / total;
}
