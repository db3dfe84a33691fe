/* The series set between its file and its users: sizes, names, missing values, constant series, hash.
 * Knows no file format. Invariant after series_finish: every value is finite and no series is constant. */
#include "data_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void series_free(struct series_set *set) {
    free(set->values);
    free(set->time);
    free(set->id);
    free(set->label);
    *set = (struct series_set){0};
}

enum lvs_status series_check_sizes(const char *where, uint64_t n_series, uint64_t n_time, uint64_t n_channel,
                                   struct lvs_error *err) {
    uint64_t points = 0, bytes = 0;
    if (n_series == 0) return lvs_fail(err, LVS_INPUT, "%s holds no series", where);
    if (n_channel < 1 || n_channel > LVS_MAX_CHANNELS)
        return lvs_fail(err, LVS_INPUT, "%s has %llu channels (its third dimension); 1 to %d are allowed", where,
                        (unsigned long long)n_channel, LVS_MAX_CHANNELS);
    if (n_time < SERIES_MIN_POINTS)
        return lvs_fail(err, LVS_INPUT,
                        "%s has %llu time points a series (its second dimension); at least %d are needed", where,
                        (unsigned long long)n_time, SERIES_MIN_POINTS);
    bool overflow = __builtin_mul_overflow(n_series, n_time, &points) ||
                    __builtin_mul_overflow(points, n_channel * sizeof(double), &bytes);
    if (overflow || bytes > SERIES_MAX_BYTES || n_series > INT32_MAX || n_time > INT32_MAX / LVS_MAX_CHANNELS)
        return lvs_fail(err, LVS_INPUT, "%s is %llu x %llu x %llu values; at most 4 GiB (as float64) are read", where,
                        (unsigned long long)n_series, (unsigned long long)n_time, (unsigned long long)n_channel);
    return LVS_OK;
}

enum lvs_status series_allocate(struct series_set *set, int32_t n_series, int32_t n_time, int32_t n_channel,
                                struct lvs_error *err) {
    *set = (struct series_set){.n_series = n_series, .n_time = n_time, .n_channel = n_channel, .n_file = n_series};
    set->values = malloc((size_t)n_series * (size_t)n_time * (size_t)n_channel * sizeof *set->values);
    if (!set->values)
        return lvs_fail(err, LVS_LAUNCH, "no memory for %d x %d x %d values", n_series, n_time, n_channel);
    set->time = lvs_malloc((size_t)n_time * sizeof *set->time);
    set->id = lvs_malloc((size_t)n_series * sizeof *set->id);
    for (int32_t t = 0; t < n_time; t++)
        set->time[t] = t;
    for (int32_t s = 0; s < n_series; s++)
        set->id[s] = s;
    return LVS_OK;
}

/* ---- names ---- */

/* Splits "a+b+c" into at most `capacity` names of `width` bytes; returns how many there are, or -1 when one is empty or
 * too long. */
static int32_t split_names(const char *text, char *names, size_t width, int32_t capacity) {
    int32_t count = 0;
    for (const char *at = text;; count++) {
        size_t length = strcspn(at, "+");
        if (length == 0 || length >= width) return -1;
        if (count < capacity) {
            memcpy(names + (size_t)count * width, at, length);
            names[(size_t)count * width + length] = '\0';
        }
        if (at[length] == '\0') return count + 1;
        at += length + 1;
    }
}

static enum lvs_status names_from_config(const struct config *config, struct series_set *set, struct lvs_error *err) {
    if (!config->variables[0]) return LVS_OK;
    int32_t n = split_names(config->variables, set->channel_name[0], sizeof set->channel_name[0], LVS_MAX_CHANNELS);
    if (n < 0)
        return lvs_fail(err, LVS_USAGE, "[data] variables = %s: an empty name or one of more than %zu bytes",
                        config->variables, sizeof set->channel_name[0] - 1);
    if (n != set->n_channel)
        return lvs_fail(err, LVS_USAGE, "[data] variables = %s names %d channels, the data have %d", config->variables,
                        n, set->n_channel);
    for (int32_t c = 0; c < n; c++)
        for (int32_t other = 0; other < c; other++)
            if (strcmp(set->channel_name[c], set->channel_name[other]) == 0)
                return lvs_fail(err, LVS_USAGE, "[data] variables = %s: %s is there twice", config->variables,
                                set->channel_name[c]);
    return LVS_OK;
}

static enum lvs_status units_from_config(const struct config *config, struct series_set *set, struct lvs_error *err) {
    if (!config->units[0]) return LVS_OK;
    int32_t n = split_names(config->units, set->channel_unit[0], sizeof set->channel_unit[0], LVS_MAX_CHANNELS);
    if (n < 0)
        return lvs_fail(err, LVS_USAGE, "[data] units = %s: an empty unit or one of more than %zu bytes", config->units,
                        sizeof set->channel_unit[0] - 1);
    if (n != 1 && n != set->n_channel)
        return lvs_fail(err, LVS_USAGE,
                        "[data] units = %s gives %d units, the data have %d channels; give one for all or "
                        "one for each",
                        config->units, n, set->n_channel);
    for (int32_t c = 1; c < set->n_channel && n == 1; c++)
        memcpy(set->channel_unit[c], set->channel_unit[0], sizeof set->channel_unit[0]);
    return LVS_OK;
}

/* Channels of a file without usable names are called 1, 2, … */
static void number_channels(struct series_set *set) {
    bool usable = true;
    for (int32_t c = 0; c < set->n_channel; c++) {
        usable &= set->channel_name[c][0] != '\0';
        for (int32_t other = 0; other < c; other++)
            usable &= strcmp(set->channel_name[c], set->channel_name[other]) != 0;
    }
    for (int32_t c = 0; c < set->n_channel && !usable; c++)
        snprintf(set->channel_name[c], sizeof set->channel_name[c], "%d", c + 1);
}

enum lvs_status series_apply_names(const struct config *config, struct series_set *set, struct lvs_error *err) {
    LVS_TRY(names_from_config(config, set, err));
    LVS_TRY(units_from_config(config, set, err));
    number_channels(set);
    return LVS_OK;
}

/* ---- missing values ---- */

static double *value_at(const struct series_set *set, int32_t series, int32_t time, int32_t channel) {
    return set->values + ((int64_t)series * set->n_time + time) * set->n_channel + channel;
}

static bool has_missing(const struct series_set *set, int32_t series) {
    const double *values = value_at(set, series, 0, 0);
    for (int64_t i = 0; i < (int64_t)set->n_time * set->n_channel; i++)
        if (!isfinite(values[i])) return true;
    return false;
}

static enum lvs_status refuse_missing(const char *where, const struct series_set *set, struct lvs_error *err) {
    int64_t per_series = (int64_t)set->n_time * set->n_channel, first = -1, n_missing = 0;
    int32_t n_series = 0;
    for (int64_t i = 0; i < per_series * set->n_series; i++)
        if (!isfinite(set->values[i])) {
            if (first < 0) first = i;
            n_missing++;
        }
    if (n_missing == 0) return LVS_OK;
    for (int32_t s = 0; s < set->n_series; s++)
        n_series += has_missing(set, s);
    return lvs_fail(
        err, LVS_INPUT,
        "%s: series %lld, channel %s, point %lld (counted from 0) is %s; %lld such value%s in %d of %d series. "
        "Use [data] missing = drop_series or missing = interpolate, or mend the file",
        where, (long long)set->id[first / per_series], set->channel_name[first % set->n_channel],
        (long long)(first % per_series / set->n_channel), isnan(set->values[first]) ? "NaN" : "infinite",
        (long long)n_missing, n_missing == 1 ? "" : "s", n_series, set->n_series);
}

/* Linear in time between the neighbours that are there, the nearest one at both ends. */
static enum lvs_status interpolate_channel(const char *where, struct series_set *set, int32_t series, int32_t channel,
                                           struct lvs_error *err) {
    int32_t before = -1;
    for (int32_t t = 0; t < set->n_time; t++) {
        if (!isfinite(*value_at(set, series, t, channel))) continue;
        double right = *value_at(set, series, t, channel);
        double left = before < 0 ? right : *value_at(set, series, before, channel);
        double span = before < 0 ? 1 : set->time[t] - set->time[before];
        for (int32_t gap = before + 1; gap < t; gap++) {
            double part = before < 0 ? 0 : (set->time[gap] - set->time[before]) / span;
            *value_at(set, series, gap, channel) = left + (right - left) * part;
        }
        before = t;
    }
    if (before < 0)
        return lvs_fail(
            err, LVS_INPUT,
            "%s: series %lld, channel %s has no value at all, nothing to interpolate from; use [data] missing "
            "= drop_series",
            where, (long long)set->id[series], set->channel_name[channel]);
    for (int32_t t = before + 1; t < set->n_time; t++)
        *value_at(set, series, t, channel) = *value_at(set, series, before, channel);
    return LVS_OK;
}

/* ---- constant series ---- */

static bool is_constant(const struct series_set *set, int32_t series) {
    for (int32_t t = 1; t < set->n_time; t++)
        for (int32_t c = 0; c < set->n_channel; c++)
            if (*value_at(set, series, t, c) != *value_at(set, series, 0, c)) return false;
    return true;
}

/* Removes the series for which `unwanted` holds. */
static void drop_series(struct series_set *set, bool (*unwanted)(const struct series_set *, int32_t)) {
    int32_t kept = 0;
    size_t bytes = (size_t)set->n_time * (size_t)set->n_channel * sizeof *set->values;
    for (int32_t s = 0; s < set->n_series; s++) {
        if (unwanted(set, s)) continue;
        if (kept < s) memcpy(value_at(set, kept, 0, 0), value_at(set, s, 0, 0), bytes);
        if (kept < s && set->label) memcpy(set->label[kept], set->label[s], sizeof set->label[s]);
        set->id[kept++] = set->id[s];
    }
    set->n_series = kept;
}

static enum lvs_status refuse_constant(const char *where, const struct series_set *set, struct lvs_error *err) {
    int32_t first = -1, count = 0;
    for (int32_t s = 0; s < set->n_series; s++)
        if (is_constant(set, s)) {
            if (first < 0) first = s;
            count++;
        }
    if (count == 0) return LVS_OK;
    return lvs_fail(
        err, LVS_INPUT,
        "%s: series %lld is constant (%g at every point; %d such series of %d): nothing to learn or to scale. "
        "Use [data] missing = drop_series to leave them out",
        where, (long long)set->id[first], *value_at(set, first, 0, 0), count, set->n_series);
}

/* ---- the end of reading ---- */

void series_hash(struct series_set *set) {
    char values[LVS_HASH_TEXT], ids[LVS_HASH_TEXT], text[160];
    hash_bytes(set->values, (size_t)set->n_series * (size_t)set->n_time * (size_t)set->n_channel * sizeof *set->values,
               values);
    hash_bytes(set->id, (size_t)set->n_series * sizeof *set->id, ids);
    int length =
        snprintf(text, sizeof text, "series %d %d %d %s %s", set->n_series, set->n_time, set->n_channel, values, ids);
    hash_bytes(text, (size_t)length, set->hash);
}

enum lvs_status series_finish(const struct config *config, const char *where, struct series_set *set,
                              struct lvs_error *err) {
    if (config->missing == MISSING_REFUSE) LVS_TRY(refuse_missing(where, set, err));
    if (config->missing == MISSING_INTERPOLATE)
        for (int32_t s = 0; s < set->n_series; s++)
            for (int32_t c = 0; c < set->n_channel; c++)
                LVS_TRY(interpolate_channel(where, set, s, c, err));
    if (config->missing == MISSING_DROP_SERIES) {
        drop_series(set, has_missing);
        drop_series(set, is_constant);
        if (set->n_series == 0)
            return lvs_fail(err, LVS_INPUT, "%s: missing = drop_series leaves none of the %d series", where,
                            set->n_file);
    }
    LVS_TRY(refuse_constant(where, set, err));
    series_hash(set);
    return LVS_OK;
}
