/* What the files of this folder share: series on their way from a file, features of series, clusters.
 * Private: no other module includes it. */
#pragma once
#include "lvsweep/describe.h"
#include "lvsweep/rng.h"
#include "lvsweep/series.h"
#include "lvsweep/tokenizer.h"

/* ---- series.c: what a reader hands over, whatever the format ---- */

#define SERIES_MIN_POINTS 4                   /* two to read, two to forecast */
#define SERIES_MAX_BYTES  ((uint64_t)4 << 30) /* of values as doubles */

/* LVS_INPUT in words when the sizes cannot be a data set; `where` is "FILE: DATASET". */
enum lvs_status series_check_sizes(const char *where, uint64_t n_series, uint64_t n_time, uint64_t n_channel,
                                   struct lvs_error *err);
/* Allocates values, time (0, 1, 2, …) and id (0, 1, 2, …) for checked sizes. LVS_LAUNCH when memory is out. */
enum lvs_status series_allocate(struct series_set *set, int32_t n_series, int32_t n_time, int32_t n_channel,
                                struct lvs_error *err);
/* Names and units of the config over those of the file; numbers where there are none. */
enum lvs_status series_apply_names(const struct config *config, struct series_set *set, struct lvs_error *err);
/* Fills set->hash from sizes, values and ids. */
void series_hash(struct series_set *set);
/* NaN and Inf by [data] missing, then constant series refused or dropped, then the hash. */
enum lvs_status series_finish(const struct config *config, const char *where, struct series_set *set,
                              struct lvs_error *err);

/* ---- scaling.c ---- */

/* percentile_linear for n percentiles of the same values. */
void percentiles_linear(const double *values, int32_t count, const double *percentiles, int32_t n, double *out);

/* ---- split_file.c ---- */
enum lvs_status split_from_file(const struct config *config, const struct series_set *set, struct split *out,
                                struct lvs_error *err);

/* ---- split_stratified.c ---- */
/* Like SPLIT_RANDOM with sizes n[SPLIT_COUNT], drawn proportionally from clusters of like series. */
void split_stratified(const struct series_set *set, const int32_t n[SPLIT_COUNT], uint64_t seed, struct split *out);

/* ---- features.c ---- */

/* Feature vectors for clustering: mean, amplitude, period of each channel and lag of each after the first, each scaled
 * to mean 0 and deviation 1 over the set; not measurable = 0. Returns the number of columns;
 * *out is [n_series][columns], owned by the caller. */
int32_t features_table(const struct series_set *set, double **out);

/* ---- kmeans.c ---- */

/* Lloyd's algorithm from a k-means++ start, deterministic in `seed`. cluster[n_rows] gets 0 … k−1, clusters numbered by
 * falling size (ties by their first row). k ≤ n_rows. Returns the sum of squared distances. */
double kmeans(const double *table, int32_t n_rows, int32_t n_columns, int32_t k, uint64_t seed, int32_t *cluster);

/* ---- tokenizer.c ---- */

/* tokenizer_read on bytes already in memory; `path` is for messages. Not static for its fuzz target. */
enum lvs_status tokenizer_parse(const char *path, const char *bytes, size_t length, bool text_only, int32_t hint_pad,
                                struct tokenizer *out, struct lvs_error *err);
