/* The three parts of a data set: by shuffle, by file order, along time, from a file, or stratified.
 * Sizes from shares: part boundaries are the shares added up, times the number of series, rounded half up; so the sizes
 * add up and differ from the exact share by less than one.
 * Invariant: no series is in two parts, except when time is what is split. */
#include "data_internal.h"

#include <math.h>
#include <stdlib.h>

static const char *const part_names[SPLIT_COUNT] = {"training", "validation", "test"};

/* n[part] from shares of `total`. What the shares leave over is in no part. */
static enum lvs_status sizes_from_shares(const double shares[SPLIT_COUNT], int32_t total, int32_t n[SPLIT_COUNT],
                                         struct lvs_error *err) {
    double sum = 0;
    int32_t before = 0;
    for (int part = 0; part < SPLIT_COUNT; part++) {
        sum += shares[part];
        if (!(shares[part] >= 0) || sum > 1 + 1e-9)
            return lvs_fail(err, LVS_USAGE,
                            "[data] split: the shares %g/%g/%g must be 0 or more and add up to at most 1", shares[0],
                            shares[1], shares[2]);
        /* 1e-9: 0.7 + 0.15 times 1000 is 850, whatever the binary sum says. */
        int32_t boundary = (int32_t)floor(sum * total + 0.5 + 1e-9);
        if (boundary > total) boundary = total;
        n[part] = boundary - before;
        before = boundary;
    }
    return LVS_OK;
}

/* A part that was asked for must have something in it. */
static enum lvs_status check_sizes(const struct config *config, const int32_t n[SPLIT_COUNT], int32_t total,
                                   const char *things, int32_t least, const char *way_out, struct lvs_error *err) {
    for (int part = 0; part < SPLIT_COUNT; part++)
        if ((config->split_parts[part] > 0 || part == SPLIT_TRAIN) && n[part] < least)
            return lvs_fail(err, LVS_USAGE,
                            "[data] split %g/%g/%g of %d %s gives the %s part %d, at least %d needed; %s",
                            config->split_parts[0], config->split_parts[1], config->split_parts[2], total, things,
                            part_names[part], n[part], least, way_out);
    return LVS_OK;
}

static void allocate_rows(struct split *out, const int32_t n[SPLIT_COUNT]) {
    for (int part = 0; part < SPLIT_COUNT; part++) {
        out->n[part] = n[part];
        out->rows[part] = lvs_malloc((size_t)n[part] * sizeof *out->rows[part]);
    }
}

/* Consecutive stretches of `order` become the parts. */
static void take_in_order(struct split *out, const int32_t *order, const int32_t n[SPLIT_COUNT]) {
    allocate_rows(out, n);
    for (int part = 0, next = 0; part < SPLIT_COUNT; part++)
        for (int32_t i = 0; i < n[part]; i++)
            out->rows[part][i] = order[next++];
}

static int32_t *rows_in_order(int32_t n_series) {
    int32_t *order = lvs_malloc((size_t)n_series * sizeof *order);
    for (int32_t s = 0; s < n_series; s++)
        order[s] = s;
    return order;
}

static enum lvs_status split_by_shares(const struct config *config, const struct series_set *set, struct split *out,
                                       struct lvs_error *err) {
    int32_t n[SPLIT_COUNT];
    uint64_t seed = (uint64_t)config->split_seed;
    LVS_TRY(sizes_from_shares(config->split_parts, set->n_series, n, err));
    LVS_TRY(check_sizes(config, n, set->n_series, "series", 1, "use more series, or time:0.70/0.15/0.15", err));
    if (config->split == SPLIT_STRATIFIED) {
        allocate_rows(out, n);
        split_stratified(set, n, seed, out);
        return LVS_OK;
    }
    int32_t *order = rows_in_order(set->n_series);
    struct rng rng = rng_make(seed, RNG_STREAM_SPLIT);
    rng_shuffle(&rng, order, set->n_series);
    take_in_order(out, order, n);
    free(order);
    return LVS_OK;
}

static enum lvs_status split_by_index(const struct config *config, const struct series_set *set, struct split *out,
                                      struct lvs_error *err) {
    const double *parts = config->split_parts;
    int32_t n[SPLIT_COUNT];
    double total = 0;
    for (int part = 0; part < SPLIT_COUNT; part++) {
        if (!(parts[part] >= 0) || parts[part] != floor(parts[part]) || parts[part] > INT32_MAX)
            return lvs_fail(err, LVS_USAGE, "[data] split = index:%g/%g/%g: counts of series are whole numbers",
                            parts[0], parts[1], parts[2]);
        n[part] = (int32_t)parts[part];
        total += parts[part];
    }
    if (total > set->n_series)
        return lvs_fail(err, LVS_USAGE,
                        "[data] split = index:%g/%g/%g needs %g series, %s has %d; use random:0.70/0.15/0.15, or "
                        "time:0.70/0.15/0.15",
                        parts[0], parts[1], parts[2], total, config->data_file, set->n_series);
    LVS_TRY(check_sizes(config, n, set->n_series, "series", 1, "use random:0.70/0.15/0.15", err));
    int32_t *order = rows_in_order(set->n_series);
    take_in_order(out, order, n);
    free(order);
    return LVS_OK;
}

static enum lvs_status split_by_time(const struct config *config, const struct series_set *set, struct split *out,
                                     struct lvs_error *err) {
    int32_t points[SPLIT_COUNT], n[SPLIT_COUNT];
    LVS_TRY(sizes_from_shares(config->split_parts, set->n_time, points, err));
    LVS_TRY(check_sizes(config, points, set->n_time, "time points", SERIES_MIN_POINTS,
                        "use longer series, or random:0.70/0.15/0.15", err));
    for (int part = 0; part < SPLIT_COUNT; part++)
        n[part] = points[part] > 0 ? set->n_series : 0;
    allocate_rows(out, n);
    for (int part = 0; part < SPLIT_COUNT; part++)
        for (int32_t s = 0; s < n[part]; s++)
            out->rows[part][s] = s;
    out->time_cut[0] = points[0];
    out->time_cut[1] = points[0] + points[1];
    return LVS_OK;
}

enum lvs_status split_make(const struct config *config, const struct series_set *set, struct split *out,
                           struct lvs_error *err) {
    *out = (struct split){0};
    switch ((enum split_kind)config->split) {
    case SPLIT_RANDOM:
    case SPLIT_STRATIFIED:
        return split_by_shares(config, set, out, err);
    case SPLIT_INDEX:
        return split_by_index(config, set, out, err);
    case SPLIT_TIME:
        return split_by_time(config, set, out, err);
    case SPLIT_FILE:
        return split_from_file(config, set, out, err);
    }
    return lvs_fail(err, LVS_BUG, "split kind %d is unknown", config->split);
}

void split_free(struct split *split) {
    for (int part = 0; part < SPLIT_COUNT; part++)
        free(split->rows[part]);
    *split = (struct split){0};
}
