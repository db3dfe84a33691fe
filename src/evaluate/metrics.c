/* Metrics of a forecast set: every metric first within a series over its valid values, then over the series that have
 * one. A series without any valid value counts in the success rate only; so does every forecast that is not whole when
 * the set asks for whole ones.
 * Invariant: a metric is finite as soon as one series has a valid value for it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate_internal.h"

/* Columns of the table [metric][series] that the means are taken from. */
enum score {
    SCORE_MSE,
    SCORE_MAE,
    SCORE_MSE_SCALED,
    SCORE_MAE_SCALED,
    SCORE_R2,
    SCORE_CRPS,
    SCORE_COUNT,
};

struct score_table {
    double *all;     /* [SCORE_COUNT][n_series]: over all channels of a series */
    double *channel; /* [SCORE_COUNT][n_channel][n_series] */
};

/* One series and channel, in a row. */
struct strip {
    double *observed, *predicted, *error; /* [horizon] scaled */
    double *samples;                      /* [samples] of one point */
    bool *counts;                         /* [samples] the forecast may enter errors */
};

static const double *score_row(const struct score_table *table, const struct forecast_set *set, enum score score,
                               int32_t channel) {
    return table->channel + ((int64_t)score * set->n_channel + channel) * set->n_series;
}

/* Every value that is compared, and none too many. */
static bool is_whole(const struct forecast_set *set, int32_t sample, int32_t series) {
    const int64_t n = (int64_t)set->horizon * set->n_channel;
    const double *observed = set->observed + (int64_t)series * n, *values = forecast_set_values(set, sample, series);
    bool whole = set->decoded[(int64_t)sample * set->n_series + series].n_surplus == 0;
    for (int64_t v = 0; v < n && whole; v++)
        whole = !isfinite(observed[v]) || isfinite(values[v]);
    return whole;
}

/* Valid samples of one value in strip->samples; returns how many. */
static int32_t gather_samples(const struct forecast_set *set, int32_t series, int64_t at, struct strip *strip) {
    int32_t n = 0;
    for (int32_t s = 0; s < set->samples; s++) {
        double value = forecast_set_values(set, s, series)[at];
        if (strip->counts[s] && isfinite(value)) strip->samples[n++] = value;
    }
    return n;
}

/* Point forecasts (the median of several samples), and the mean CRPS of the strip. */
static double fill_strip(const struct forecast_set *set, int32_t series, int32_t channel, struct strip *strip) {
    const double *observed = set->observed + (int64_t)series * set->horizon * set->n_channel;
    for (int32_t p = 0; p < set->horizon; p++) {
        int64_t at = (int64_t)p * set->n_channel + channel;
        int32_t n = gather_samples(set, series, at, strip);
        strip->observed[p] = observed[at];
        strip->predicted[p] = n == 1 ? strip->samples[0] : median_finite(strip->samples, n);
        strip->error[p] = isfinite(observed[at]) ? crps_fair(strip->samples, n, observed[at]) : NAN;
    }
    return mean_finite(strip->error, set->horizon);
}

static double strip_mean_error(const struct forecast_set *set, struct strip *strip, bool squared) {
    for (int32_t p = 0; p < set->horizon; p++) {
        double error = strip->predicted[p] - strip->observed[p];
        strip->error[p] = squared ? error * error : fabs(error);
    }
    return mean_finite(strip->error, set->horizon);
}

static int32_t strip_valid(const struct forecast_set *set, const struct strip *strip) {
    int32_t n = 0;
    for (int32_t p = 0; p < set->horizon; p++)
        n += isfinite(strip->predicted[p]) && isfinite(strip->observed[p]);
    return n;
}

/* Scores of one series by channel, and over its channels: errors weigh every valid value alike, R² and CRPS every
 * channel. */
static void score_series(const struct forecast_set *set, const struct scaling *scaling, int32_t series,
                         struct strip *strip, const struct score_table *table) {
    double sum[SCORE_COUNT] = {0}, weight[SCORE_COUNT] = {0};
    for (int32_t s = 0; s < set->samples; s++)
        strip->counts[s] = !set->whole_only || is_whole(set, s, series);
    for (int32_t c = 0; c < set->n_channel; c++) {
        double factor = scaling->factor[(int64_t)set->rows[series] * set->n_channel + c], value[SCORE_COUNT];
        value[SCORE_CRPS] = fill_strip(set, series, c, strip);
        value[SCORE_MSE_SCALED] = strip_mean_error(set, strip, true);
        value[SCORE_MAE_SCALED] = strip_mean_error(set, strip, false);
        value[SCORE_MSE] = value[SCORE_MSE_SCALED] * factor * factor;
        value[SCORE_MAE] = value[SCORE_MAE_SCALED] * factor;
        value[SCORE_R2] = r_squared(strip->observed, strip->predicted, set->horizon);
        int32_t n_valid = strip_valid(set, strip);
        for (int score = 0; score < SCORE_COUNT; score++) {
            table->channel[((int64_t)score * set->n_channel + c) * set->n_series + series] = value[score];
            if (!isfinite(value[score])) continue;
            double w = score == SCORE_R2 || score == SCORE_CRPS ? 1 : n_valid;
            sum[score] += w * value[score];
            weight[score] += w;
        }
    }
    for (int score = 0; score < SCORE_COUNT; score++)
        table->all[(int64_t)score * set->n_series + series] = weight[score] > 0 ? sum[score] / weight[score] : NAN;
}

static void fill_table(const struct forecast_set *set, const struct scaling *scaling, struct score_table *table) {
    const size_t series = (size_t)set->n_series + 1, horizon = (size_t)set->horizon + 1;
    table->all = lvs_malloc(SCORE_COUNT * series * sizeof *table->all);
    table->channel = lvs_malloc(SCORE_COUNT * (size_t)set->n_channel * series * sizeof *table->channel);
    struct strip strip = {
        .observed = lvs_malloc(horizon * sizeof(double)),
        .predicted = lvs_malloc(horizon * sizeof(double)),
        .error = lvs_malloc(horizon * sizeof(double)),
        .samples = lvs_malloc(((size_t)set->samples + 1) * sizeof(double)),
        .counts = lvs_malloc(((size_t)set->samples + 1) * sizeof(bool)),
    };
    for (int32_t i = 0; i < set->n_series; i++)
        score_series(set, scaling, i, &strip, table);
    free(strip.observed);
    free(strip.predicted);
    free(strip.error);
    free(strip.samples);
    free(strip.counts);
}

static void count_pieces(const struct forecast_set *set, struct forecast_metrics *out) {
    int64_t n_forecasts = (int64_t)set->samples * set->n_series, n_success = 0;
    out->n_series = set->n_series;
    out->n_malformed = out->n_missing = out->n_negative = 0;
    for (int64_t i = 0; i < n_forecasts; i++) {
        out->n_malformed += set->decoded[i].n_malformed;
        out->n_missing += set->decoded[i].n_missing;
        out->n_negative += set->decoded[i].n_negative;
        n_success += set->decoded[i].success;
    }
    out->success_rate = n_forecasts > 0 ? (double)n_success / (double)n_forecasts : NAN;
}

/* Over series: mean and median of one score by channel. */
static void over_series(const struct forecast_set *set, const struct score_table *table, enum score score,
                        double mean[LVS_MAX_CHANNELS], double median[LVS_MAX_CHANNELS]) {
    for (int32_t c = 0; c < LVS_MAX_CHANNELS; c++) {
        const double *row = c < set->n_channel ? score_row(table, set, score, c) : NULL;
        mean[c] = row ? mean_finite(row, set->n_series) : NAN;
        median[c] = row ? median_finite(row, set->n_series) : NAN;
    }
}

static void channel_metrics(const struct forecast_set *set, const struct score_table *table,
                            struct forecast_metrics *out) {
    over_series(set, table, SCORE_MSE, out->mse, out->mse_channel_median);
    over_series(set, table, SCORE_MAE, out->mae, out->mae_channel_median);
    over_series(set, table, SCORE_R2, out->r2, out->r2_channel_median);
    over_series(set, table, SCORE_MSE_SCALED, out->mse_scaled, out->mse_scaled_channel_median);
    over_series(set, table, SCORE_MAE_SCALED, out->mae_scaled, out->mae_scaled_channel_median);
}

static void series_metrics(const struct forecast_set *set, const struct score_table *table,
                           struct forecast_metrics *out) {
    const struct {
        enum score score;
        double *mean, *median;
    } all[] = {
        {SCORE_MSE, &out->mse_mean, &out->mse_median},
        {SCORE_MAE, &out->mae_mean, &out->mae_median},
        {SCORE_R2, &out->r2_mean, &out->r2_median},
        {SCORE_MSE_SCALED, &out->mse_scaled_mean, &out->mse_scaled_median},
        {SCORE_MAE_SCALED, &out->mae_scaled_mean, &out->mae_scaled_median},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const double *row = table->all + (int64_t)all[i].score * set->n_series;
        *all[i].mean = mean_finite(row, set->n_series);
        *all[i].median = median_finite(row, set->n_series);
    }
    out->crps = mean_finite(table->all + (int64_t)SCORE_CRPS * set->n_series, set->n_series);
}

void forecast_measure(const struct forecast_set *set, const struct scaling *scaling, struct forecast_metrics *out,
                      double *series_mae_scaled) {
    memset(out, 0, sizeof *out); /* bytes that are sent and hashed, padding included */
    const int32_t n = set->n_series;
    struct score_table table;
    fill_table(set, scaling, &table);
    count_pieces(set, out);
    channel_metrics(set, &table, out);
    series_metrics(set, &table, out);
    out->cross_entropy = mean_finite(set->cross_entropy, n);
    if (series_mae_scaled)
        memcpy(series_mae_scaled, table.all + (int64_t)SCORE_MAE_SCALED * n, (size_t)n * sizeof(double));
    free(table.all);
    free(table.channel);
}
