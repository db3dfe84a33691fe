/* Numeric series: a (series, time, channel) array with names and units, its scaling and its splits. */
#pragma once
#include "lvsweep/config.h"

#define SERIES_LABEL_MAX 64

struct series_set {
    int32_t n_series, n_time, n_channel;
    double *values; /* [n_series][n_time][n_channel], owned; never NaN after series_read */
    double *time;   /* [n_time], owned */
    int64_t *id;    /* [n_series] row in the file (drop_series leaves gaps), owned */
    char channel_name[LVS_MAX_CHANNELS][64], channel_unit[LVS_MAX_CHANNELS][32];
    char time_unit[32];
    int32_t n_file; /* series in the file, those that missing = drop_series left out included; 0 = not from a file */
    char hash[LVS_HASH_TEXT];        /* of the values as read */
    char (*label)[SERIES_LABEL_MAX]; /* [n_series] names of the series, owned; NULL when the file has none */
};

/* Reads the data file of the config ([data] file, dataset, variables, units, missing). LVS_INPUT with the series,
 * channel and point named: no such dataset, wrong rank or type, NaN or Inf (by `missing`), constant series
 * (no channel ever changes), too few points, a truncated file. Names and units without usable ones in file and config
 * are 1, 2, … and "". The layout is described in series_h5.c. */
enum lvs_status series_read(const struct config *config, struct series_set *out, struct lvs_error *err);
void series_free(struct series_set *set);
/* What series_read ends with, for series from elsewhere (import_csv): NaN and Inf by [data] missing, constant series
 * refused or dropped, the hash. `where` is for messages. */
enum lvs_status series_finish(const struct config *config, const char *where, struct series_set *set,
                              struct lvs_error *err);
/* Writes the layout of the reference data set: /trajectories float32 [series][time][channel], /time float64, names,
 * units. */
enum lvs_status series_write(const char *path, const struct series_set *set, struct lvs_error *err);

/* The three parts as rows of the set. Sizes from shares: boundaries are the shares added up, times the count, rounded
 * half up. */
struct split {
    int32_t *rows[SPLIT_COUNT]; /* [n[part]], owned; in the split's own order */
    int32_t n[SPLIT_COUNT];
    int32_t time_cut[2]; /* split = time: first point of validation and of test, else 0 */
};
enum lvs_status split_make(const struct config *config, const struct series_set *set, struct split *out,
                           struct lvs_error *err);
void split_free(struct split *split);

/* scaled = value / factor. Percentiles by NumPy's linear interpolation, of |value| (the same for data without negative
 * values), in double. scale_over: variable = a factor for each series and channel; series_max = the largest of a
 * series' channels; series = all values of a series together; train = all values of the training split together. */
struct scaling {
    int32_t n_series, n_channel;
    double *factor; /* [n_series][n_channel], owned, > 0 */
};
/* history_points: the first points used when scale_points = history; ignored for `all`. */
enum lvs_status scaling_make(const struct config *config, const struct series_set *set, const struct split *split,
                             int32_t history_points, struct scaling *out, struct lvs_error *err);
void scaling_free(struct scaling *scaling);
/* NumPy's percentile, method linear; sorts a copy. percentile in 0–100. */
double percentile_linear(const double *values, int32_t count, double percentile);

/* Lotka–Volterra systems: prey' = a·prey − b·prey·predator, predator' = −c·predator + d·prey·predator. */
struct lotka_volterra {
    double a, b, c, d, prey, predator; /* rates a unit of time; starting populations */
};
/* Integrates (adaptive Dormand–Prince 5(4), relative tolerance 1e-9) and writes n_time × 2 values at `time`.
 * lotka_volterra_generate solves with it; public for the tests, which know systems whose solution is known. */
enum lvs_status lotka_volterra_solve(const struct lotka_volterra *system, const double *time, int32_t n_time,
                                     double *values, struct lvs_error *err);
/* `n_series` random systems of one seed, 100 points over 0–200 by default; system i depends on (seed, i) only.
 * noise: standard deviation of the logarithm of each value (0 = none). Values are float32 numbers, as a file keeps
 * them. */
enum lvs_status lotka_volterra_generate(int32_t n_series, int32_t n_time, double time_end, double noise, int64_t seed,
                                        struct series_set *out, struct lvs_error *err);
