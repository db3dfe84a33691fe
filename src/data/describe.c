/* Measuring a data set for `describe`: spreads, clusters of like series, token counts of encodings. No output here.
 * Invariant: clusters are those of the stratified split with seed 0. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data_internal.h"
#include "lvsweep/text.h"

/* Of the finite values; sorts them to the front of `values`. */
static struct spread spread_of(double *values, int64_t count) {
    struct spread spread = {0, NAN, NAN, NAN, NAN, NAN, NAN};
    double sum = 0;
    int64_t finite = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(values[i])) {
            values[finite++] = values[i];
            sum += values[i];
        }
    if (finite == 0 || finite > INT32_MAX) return spread;
    spread.count = (int32_t)finite;
    double percentile[5];
    percentiles_linear(values, spread.count, (const double[]){0, 5, 50, 95, 100}, 5, percentile);
    spread.minimum = percentile[0];
    spread.p5 = percentile[1];
    spread.median = percentile[2];
    spread.p95 = percentile[3];
    spread.maximum = percentile[4];
    spread.mean = sum / (double)finite;
    return spread;
}

/* ---- channels ---- */

/* One member of series_features, for channel `channel`, over all series. */
static struct spread spread_of_feature(const struct description *d, size_t member, int32_t channel, double *work) {
    for (int32_t s = 0; s < d->n_series; s++) {
        const char *features = (const char *)&d->features[s];
        memcpy(&work[s], features + member + (size_t)channel * sizeof(double), sizeof(double));
    }
    return spread_of(work, d->n_series);
}

static void describe_channel(const struct series_set *set, int32_t channel, struct description *d) {
    struct channel_description *out = &d->channel[channel];
    int64_t count = (int64_t)set->n_series * set->n_time;
    double *work = lvs_malloc((size_t)count * sizeof *work);
    for (int64_t i = 0; i < count; i++)
        work[i] = set->values[i * set->n_channel + channel];
    out->values = spread_of(work, count);
    out->initial = spread_of_feature(d, offsetof(struct series_features, initial), channel, work);
    out->final = spread_of_feature(d, offsetof(struct series_features, final), channel, work);
    out->period = spread_of_feature(d, offsetof(struct series_features, period), channel, work);
    out->lag = spread_of_feature(d, offsetof(struct series_features, lag), channel, work);
    free(work);
}

/* ---- clusters ---- */

static double mean_in_cluster(const struct description *d, int32_t cluster,
                              double (*value)(const struct series_features *, int32_t), int32_t channel) {
    double sum = 0;
    int32_t count = 0;
    for (int32_t s = 0; s < d->n_series; s++) {
        double one = d->cluster_of[s] == cluster ? value(&d->features[s], channel) : NAN;
        if (!isfinite(one)) continue;
        sum += one;
        count++;
    }
    return count ? sum / count : NAN;
}

static double mean_of(const struct series_features *features, int32_t channel) {
    return features->mean[channel];
}

static double amplitude_of(const struct series_features *features, int32_t channel) {
    return features->maximum[channel] - features->minimum[channel];
}

static double period_of(const struct series_features *features, int32_t channel) {
    return features->period[channel];
}

static double lag_of(const struct series_features *features, int32_t channel) {
    return features->lag[channel];
}

static void describe_clusters(const struct series_set *set, int32_t n_clusters, struct description *d) {
    double *table;
    int32_t n_columns = features_table(set, &table);
    d->n_clusters = n_clusters < set->n_series ? n_clusters : set->n_series;
    kmeans(table, set->n_series, n_columns, d->n_clusters, 0, d->cluster_of);
    free(table);
    for (int32_t k = 0; k < d->n_clusters; k++) {
        struct cluster_description *out = &d->cluster[k];
        for (int32_t s = 0; s < set->n_series; s++)
            out->n_series += d->cluster_of[s] == k;
        out->share = (double)out->n_series / set->n_series;
        for (int32_t c = 0; c < set->n_channel; c++) {
            out->mean[c] = mean_in_cluster(d, k, mean_of, c);
            out->amplitude[c] = mean_in_cluster(d, k, amplitude_of, c);
            out->period[c] = mean_in_cluster(d, k, period_of, c);
            out->lag[c] = mean_in_cluster(d, k, lag_of, c);
        }
    }
}

/* ---- encodings ---- */

/* Values of one scaled series that the text shows as zero, or as the clip. */
static void count_lost(const struct text_format *format, const double *scaled, int64_t count, int64_t lost[2]) {
    double half = 0.5 * pow(10, -format->decimals);
    for (int64_t i = 0; i < count; i++) {
        lost[0] += scaled[i] != 0 && fabs(scaled[i]) < half;
        lost[1] += format->clip > 0 && scaled[i] > format->clip;
    }
}

static enum lvs_status describe_encoding(const struct series_set *set, const struct scaling *scaling,
                                         const struct text_format *format, struct encoding_description *out,
                                         struct lvs_error *err) {
    const int32_t n_channel = set->n_channel;
    int64_t per_series = (int64_t)set->n_time * n_channel, lost[2] = {0, 0};
    double *scaled = lvs_malloc((size_t)per_series * sizeof *scaled);
    double *tokens = lvs_malloc((size_t)set->n_series * sizeof *tokens);
    struct strbuf text;
    strbuf_init(&text);
    enum lvs_status status = LVS_OK;
    for (int32_t s = 0; s < set->n_series && status == LVS_OK; s++) {
        for (int64_t i = 0; i < per_series; i++)
            scaled[i] = set->values[s * per_series + i] / scaling->factor[(int64_t)s * n_channel + i % n_channel];
        strbuf_clear(&text);
        status = text_encode(format, scaled, set->n_time, &text, err);
        if (status != LVS_OK && err) lvs_error_prefix(err, "series %lld", (long long)set->id[s]);
        tokens[s] = (double)text.length;
        count_lost(format, scaled, per_series, lost);
    }
    if (status == LVS_OK) {
        double n_values = (double)per_series * set->n_series;
        out->decimals = format->decimals;
        out->decimal_point = format->decimal_point;
        out->tokens = spread_of(tokens, set->n_series);
        out->tokens_a_point = (out->tokens.mean + 1) / set->n_time;
        out->zero_share = (double)lost[0] / n_values;
        out->clipped_share = (double)lost[1] / n_values;
    }
    strbuf_free(&text);
    free(tokens);
    free(scaled);
    return status;
}

/* The config's own encoding, then the usual four. */
static enum lvs_status describe_encodings(const struct config *config, const struct series_set *set,
                                          const struct scaling *scaling, struct description *d, struct lvs_error *err) {
    struct text_format formats[5];
    formats[0] = text_format_make(config, config->defaults.decimals, set->n_channel);
    for (int32_t i = 0; i < 4; i++) {
        formats[i + 1] = text_format_make(config, 2 + i % 2, set->n_channel);
        formats[i + 1].decimal_point = i < 2;
    }
    for (int32_t i = 0; i < 5; i++) {
        bool known =
            i > 0 && formats[i].decimals == formats[0].decimals && formats[i].decimal_point == formats[0].decimal_point;
        if (known) continue;
        LVS_TRY(describe_encoding(set, scaling, &formats[i], &d->encoding[d->n_encodings], err));
        d->n_encodings++;
    }
    return LVS_OK;
}

enum lvs_status describe_make(const struct config *config, const struct series_set *set, const struct scaling *scaling,
                              int32_t n_clusters, struct description *out, struct lvs_error *err) {
    *out = (struct description){.n_series = set->n_series, .n_time = set->n_time, .n_channel = set->n_channel};
    if (n_clusters < 1 || n_clusters > DESCRIBE_CLUSTERS_MAX)
        return lvs_fail(err, LVS_USAGE, "describe: %d clusters; 1 to %d are allowed", n_clusters,
                        DESCRIBE_CLUSTERS_MAX);
    out->n_file = set->n_file ? set->n_file : set->n_series;
    out->time_first = set->time[0];
    out->time_last = set->time[set->n_time - 1];
    memcpy(out->channel_name, set->channel_name, sizeof out->channel_name);
    memcpy(out->channel_unit, set->channel_unit, sizeof out->channel_unit);
    memcpy(out->time_unit, set->time_unit, sizeof out->time_unit);
    out->features = lvs_malloc((size_t)set->n_series * sizeof *out->features);
    out->cluster_of = lvs_malloc((size_t)set->n_series * sizeof *out->cluster_of);
    for (int32_t s = 0; s < set->n_series; s++)
        features_of_series(set, s, &out->features[s]);
    for (int32_t c = 0; c < set->n_channel; c++)
        describe_channel(set, c, out);
    describe_clusters(set, n_clusters, out);
    enum lvs_status status = describe_encodings(config, set, scaling, out, err);
    if (status != LVS_OK) describe_free(out);
    return status;
}

void describe_free(struct description *description) {
    free(description->features);
    free(description->cluster_of);
    *description = (struct description){0};
}
