/* What a data set looks like: ranges, periods, phase lags, kinds of series, and what its text costs in tokens. Reads
 * only; the same features stratify splits. */
#pragma once
#include "lvsweep/series.h"

/* One series in a few numbers; times in the data's units, NaN where not measurable. A peak stands at least 5 % of the
 * channel's range above the valleys beside it. */
struct series_features {
    double mean[LVS_MAX_CHANNELS], minimum[LVS_MAX_CHANNELS], maximum[LVS_MAX_CHANNELS];
    double initial[LVS_MAX_CHANNELS], final[LVS_MAX_CHANNELS];
    double period[LVS_MAX_CHANNELS]; /* mean distance of neighbouring peaks; NaN with fewer than two */
    double lag[LVS_MAX_CHANNELS];    /* mean delay of the peaks behind those of channel 0; lag[0] = 0 */
    int32_t n_peaks[LVS_MAX_CHANNELS];
};
void features_of_series(const struct series_set *set, int32_t series, struct series_features *out);

/* A distribution; NaN everywhere when there is nothing to count. Percentiles as percentile_linear. */
struct spread {
    int32_t count;
    double minimum, p5, median, mean, p95, maximum;
};

struct channel_description {
    struct spread values;         /* of all points of all series */
    struct spread initial, final; /* first and last point, over series */
    struct spread period, lag;    /* over the series in which they can be measured */
};

struct cluster_description {
    int32_t n_series;
    double share; /* of all series */
    /* means over the cluster's series, where measurable */
    double mean[LVS_MAX_CHANNELS], amplitude[LVS_MAX_CHANNELS], period[LVS_MAX_CHANNELS], lag[LVS_MAX_CHANNELS];
};

/* The cost of one way of writing the numbers. A token is a character. */
struct encoding_description {
    int32_t decimals;
    bool decimal_point;
    struct spread tokens;  /* a series */
    double zero_share;     /* of values written as zero though they are not */
    double clipped_share;  /* of values written as [data] clip */
    double tokens_a_point; /* mean, its ';' included */
};

#define DESCRIBE_CLUSTERS_MAX  8
#define DESCRIBE_ENCODINGS_MAX 8

struct description {
    int32_t n_series, n_time, n_channel, n_file;
    double time_first, time_last;
    char channel_name[LVS_MAX_CHANNELS][64], channel_unit[LVS_MAX_CHANNELS][32], time_unit[32];
    struct channel_description channel[LVS_MAX_CHANNELS];
    int32_t n_clusters;
    struct cluster_description cluster[DESCRIBE_CLUSTERS_MAX]; /* largest first */
    int32_t n_encodings;
    struct encoding_description encoding[DESCRIBE_ENCODINGS_MAX];
    struct series_features *features; /* [n_series], owned */
    int32_t *cluster_of;              /* [n_series], owned */
};

/* Looks at a whole set. `scaling` is what the text is made with (scaling_make); `config` gives decimals, decimal_point
 * and clip: the first encoding is the config's own, then 2 and 3 decimals with and without the point. `n_clusters` 1 to
 * 8 (4 is usual); fewer when there are fewer series. LVS_INPUT when a value cannot be written. */
enum lvs_status describe_make(const struct config *config, const struct series_set *set, const struct scaling *scaling,
                              int32_t n_clusters, struct description *out, struct lvs_error *err);
void describe_free(struct description *description);
/* For people: tables of at most 100 columns. */
void describe_write_text(const struct description *description, struct strbuf *out);
/* For programs: one object; what is not measurable is null. */
void describe_write_json(const struct description *description, struct strbuf *out);
