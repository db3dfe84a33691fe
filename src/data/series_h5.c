/* Reading series from HDF5, serially: finds the data set, checks its type and sizes, takes names, units and time from
 * attributes or dimension scales. Untrusted input: sizes are checked before memory is asked for, links out of the file
 * are not followed, and HDF5's own error output is silenced, so that a user sees one sentence.
 *
 * Layout read: one float32 or float64 dataset (series, time, channel), by default the only one of the file. Time: a
 * one-dimensional scale attached to its second dimension, else a dataset `time` beside it, else /time, else 0, 1, 2, …
 * Series names: a scale of strings on the first dimension. Channel names: attribute `variables` (n_channel strings),
 * else a scale of strings on the third dimension. Units:
 * attribute `units` (one string, or one a channel); of the time: its own attribute `units`. */
#include "data_internal.h"

#include <hdf5.h>
#include <hdf5_hl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "series_h5_strings.h"

#define LISTED_MAX  12    /* datasets named in an error text */
#define VISITED_MAX 10000 /* links looked at */
#define LABELS_MAX  1000000
#define H5_NAME_MAX 1024

struct h5_source {
    const char *path;
    hid_t file, dataset;
    char name[H5_NAME_MAX];                 /* of the dataset, "/trajectories" */
    char where[LVS_PATH_MAX + H5_NAME_MAX]; /* "FILE: /trajectories" */
};

/* ---- finding the dataset ---- */

struct h5_search {
    struct strbuf listing, candidates;
    int32_t n_listed, n_candidates, n_visited;
    char first[H5_NAME_MAX];
};

static void describe_type(hid_t type, char *out, size_t capacity) {
    unsigned bits = (unsigned)H5Tget_size(type) * 8;
    switch (H5Tget_class(type)) {
    case H5T_FLOAT:
        snprintf(out, capacity, "float%u", bits);
        break;
    case H5T_INTEGER:
        snprintf(out, capacity, "%sint%u", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bits);
        break;
    case H5T_STRING:
        snprintf(out, capacity, "string");
        break;
    case H5T_COMPOUND:
        snprintf(out, capacity, "compound");
        break;
    default:
        snprintf(out, capacity, "other");
    }
}

/* "/time float64 (100)" */
static void describe_dataset(hid_t dataset, const char *name, struct strbuf *out) {
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    hsize_t sizes[H5S_MAX_RANK] = {0};
    int rank = H5Sget_simple_extent_dims(space, sizes, NULL);
    char type_text[32];
    describe_type(type, type_text, sizeof type_text);
    strbuf_printf(out, "%s %s (", name, type_text);
    for (int i = 0; i < rank; i++)
        strbuf_printf(out, "%s%llu", i ? ", " : "", (unsigned long long)sizes[i]);
    strbuf_add(out, ")");
    H5Sclose(space);
    H5Tclose(type);
}

static bool is_series_type(hid_t dataset) {
    hid_t type = H5Dget_type(dataset);
    size_t size = H5Tget_size(type);
    bool suitable = H5Tget_class(type) == H5T_FLOAT && (size == 4 || size == 8);
    H5Tclose(type);
    return suitable;
}

static int rank_of(hid_t dataset) {
    hid_t space = H5Dget_space(dataset);
    int rank = H5Sget_simple_extent_ndims(space);
    H5Sclose(space);
    return rank;
}

static herr_t visit_link(hid_t group, const char *link, const H5L_info_t *info, void *context) {
    struct h5_search *search = context;
    if (++search->n_visited > VISITED_MAX) return 1;
    if (info->type != H5L_TYPE_HARD) return 0;
    hid_t object = H5Oopen(group, link, H5P_DEFAULT);
    if (object < 0) return 0;
    if (H5Iget_type(object) == H5I_DATASET) {
        char name[H5_NAME_MAX];
        snprintf(name, sizeof name, "/%s", link);
        if (search->n_listed++ < LISTED_MAX) {
            if (search->listing.length) strbuf_add(&search->listing, ", ");
            describe_dataset(object, name, &search->listing);
        }
        if (is_series_type(object) && rank_of(object) == 3) {
            if (search->n_candidates++ == 0) lvs_copy(search->first, sizeof search->first, name);
            if (search->n_candidates <= LISTED_MAX)
                strbuf_printf(&search->candidates, "%s%s", search->candidates.length ? ", " : "", name);
        }
    }
    H5Oclose(object);
    return 0;
}

/* Fails with what the file holds; the sentence before it is `problem`. */
static enum lvs_status fail_with_listing(const struct h5_source *source, const struct h5_search *search,
                                         const char *problem, struct lvs_error *err) {
    if (search->n_listed == 0) return lvs_fail(err, LVS_INPUT, "%s: %s; it holds no dataset", source->path, problem);
    return lvs_fail(err, LVS_INPUT, "%s: %s; it holds %s%s", source->path, problem, search->listing.text,
                    search->n_listed > LISTED_MAX ? ", …" : "");
}

static enum lvs_status choose_dataset(const struct config *config, const struct h5_search *search,
                                      struct h5_source *source, struct lvs_error *err) {
    char problem[H5_NAME_MAX + 64];
    if (config->dataset[0]) {
        snprintf(source->name, sizeof source->name, "%s%s", config->dataset[0] == '/' ? "" : "/", config->dataset);
        source->dataset = H5Dopen2(source->file, source->name, H5P_DEFAULT);
        snprintf(problem, sizeof problem, "no dataset %s ([data] dataset)", source->name);
    } else if (search->n_candidates > 1) {
        return lvs_fail(err, LVS_INPUT, "%s: %d three-dimensional float datasets (%s); choose one with [data] dataset",
                        source->path, search->n_candidates, search->candidates.text);
    } else if (search->n_candidates == 1) {
        lvs_copy(source->name, sizeof source->name, search->first);
        source->dataset = H5Dopen2(source->file, source->name, H5P_DEFAULT);
        snprintf(problem, sizeof problem, "cannot open dataset %s", source->name);
    } else {
        snprintf(problem, sizeof problem, "no three-dimensional float dataset (series, time, channel)");
    }
    if (source->dataset < 0) return fail_with_listing(source, search, problem, err);
    snprintf(source->where, sizeof source->where, "%s: %s", source->path, source->name);
    return LVS_OK;
}

static enum lvs_status find_dataset(const struct config *config, struct h5_source *source, struct lvs_error *err) {
    struct h5_search search = {0};
    H5Lvisit(source->file, H5_INDEX_NAME, H5_ITER_INC, visit_link, &search);
    enum lvs_status status = choose_dataset(config, &search, source, err);
    strbuf_free(&search.listing);
    strbuf_free(&search.candidates);
    return status;
}

/* ---- values ---- */

static enum lvs_status check_dataset(const struct h5_source *source, struct lvs_error *err) {
    bool three = rank_of(source->dataset) == 3;
    if (!three || !is_series_type(source->dataset)) {
        struct strbuf found;
        strbuf_init(&found);
        describe_dataset(source->dataset, source->name, &found);
        lvs_fail(err, LVS_INPUT, "%s: %s; %s (series, time, channel)", source->path, found.text,
                 three ? "float32 or float64 values are needed" : "three dimensions are needed");
        strbuf_free(&found);
        return LVS_INPUT;
    }
    hid_t properties = H5Dget_create_plist(source->dataset);
    bool elsewhere = H5Pget_external_count(properties) > 0 || H5Pget_layout(properties) == H5D_VIRTUAL;
    H5Pclose(properties);
    if (elsewhere)
        return lvs_fail(err, LVS_INPUT, "%s keeps its values in other files; copy it into one (h5repack)",
                        source->where);
    return LVS_OK;
}

static enum lvs_status read_values(const struct h5_source *source, struct series_set *set, struct lvs_error *err) {
    LVS_TRY(check_dataset(source, err));
    hsize_t sizes[3] = {0};
    hid_t space = H5Dget_space(source->dataset);
    H5Sget_simple_extent_dims(space, sizes, NULL);
    H5Sclose(space);
    LVS_TRY(series_check_sizes(source->where, sizes[0], sizes[1], sizes[2], err));
    LVS_TRY(series_allocate(set, (int32_t)sizes[0], (int32_t)sizes[1], (int32_t)sizes[2], err));
    if (H5Dread(source->dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, set->values) < 0)
        return lvs_fail(err, LVS_INPUT,
                        "%s: its values cannot be read: the file is damaged, or packed by a filter that "
                        "is not installed (h5dump shows which)",
                        source->where);
    return LVS_OK;
}

/* ---- time ---- */

struct time_request {
    const struct h5_source *source;
    struct series_set *set;
    struct lvs_error *err;
    enum lvs_status status;
    bool found;
};

/* Values of a one-dimensional dataset of numbers; -1 of any other one. */
static int64_t count_numbers(hid_t dataset) {
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    H5T_class_t kind = H5Tget_class(type);
    bool numbers = (kind == H5T_FLOAT || kind == H5T_INTEGER) && H5Sget_simple_extent_ndims(space) == 1;
    int64_t count = numbers ? (int64_t)H5Sget_simple_extent_npoints(space) : -1;
    H5Sclose(space);
    H5Tclose(type);
    return count;
}

/* Takes the time from a dataset when it is one: n_time numbers. */
static void take_time(struct time_request *request, hid_t dataset, const char *name) {
    struct series_set *set = request->set;
    if (count_numbers(dataset) != set->n_time ||
        H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, set->time) < 0)
        return;
    request->found = true;
    h5_strings_attribute(dataset, "units", set->time_unit, sizeof set->time_unit, 1);
    for (int32_t t = 0; t < set->n_time; t++)
        if (!isfinite(set->time[t]) || (t > 0 && set->time[t] <= set->time[t - 1])) {
            request->status = lvs_fail(request->err, LVS_INPUT,
                                       "%s: %s: point %d (counted from 0) is %g; times must be finite and rising",
                                       request->source->path, name, t, set->time[t]);
            return;
        }
}

static herr_t visit_time_scale(hid_t dataset, unsigned dimension, hid_t scale, void *context) {
    struct time_request *request = context;
    (void)dataset, (void)dimension;
    char name[80] = "";
    H5DSget_scale_name(scale, name, sizeof name);
    /* netCDF's mark of a dimension without values */
    if (strncmp(name, "This is a netCDF dimension but not", 34) == 0) return 0;
    int64_t count = count_numbers(scale);
    if (count >= 0 && count != request->set->n_time) {
        request->status =
            lvs_fail(request->err, LVS_INPUT, "%s: the time scale has %lld values, the series have %d points",
                     request->source->where, (long long)count, request->set->n_time);
        return 1;
    }
    take_time(request, scale, "the time scale");
    return request->found;
}

static enum lvs_status read_time(const struct h5_source *source, struct series_set *set, struct lvs_error *err) {
    struct time_request request = {.source = source, .set = set, .err = err};
    char beside[H5_NAME_MAX + 8];
    lvs_copy(beside, H5_NAME_MAX, source->name);
    strcpy(strrchr(beside, '/'), "/time");
    H5DSiterate_scales(source->dataset, 1, NULL, visit_time_scale, &request);
    const char *const names[] = {beside, "/time"};
    for (int i = 0; i < 2 && !request.found && request.status == LVS_OK; i++) {
        hid_t dataset = H5Dopen2(source->file, names[i], H5P_DEFAULT);
        if (dataset < 0) continue;
        take_time(&request, dataset, names[i]);
        H5Dclose(dataset);
    }
    for (int32_t t = 0; t < set->n_time && !request.found; t++)
        set->time[t] = t;
    return request.status;
}

/* ---- names ---- */

static herr_t visit_channel_scale(hid_t dataset, unsigned dimension, hid_t scale, void *context) {
    struct series_set *set = context;
    (void)dataset, (void)dimension;
    return h5_strings_dataset(scale, set->channel_name[0], sizeof set->channel_name[0], set->n_channel) ==
           set->n_channel;
}

/* Names of the series: a scale of strings on the first dimension. */
static herr_t visit_series_scale(hid_t dataset, unsigned dimension, hid_t scale, void *context) {
    struct series_set *set = context;
    (void)dataset, (void)dimension;
    if (set->n_series > LABELS_MAX) return 0;
    set->label = lvs_calloc((size_t)set->n_series, sizeof *set->label);
    if (h5_strings_dataset(scale, set->label[0], sizeof set->label[0], set->n_series) == set->n_series) return 1;
    free(set->label);
    set->label = NULL;
    return 0;
}

static void read_names(const struct h5_source *source, struct series_set *set) {
    int32_t n = h5_strings_attribute(source->dataset, "variables", set->channel_name[0], sizeof set->channel_name[0],
                                     set->n_channel);
    if (n != set->n_channel) {
        memset(set->channel_name, 0, sizeof set->channel_name);
        H5DSiterate_scales(source->dataset, 2, NULL, visit_channel_scale, set);
    }
    H5DSiterate_scales(source->dataset, 0, NULL, visit_series_scale, set);
    n = h5_strings_attribute(source->dataset, "units", set->channel_unit[0], sizeof set->channel_unit[0],
                             set->n_channel);
    if (n != set->n_channel && n != 1) memset(set->channel_unit, 0, sizeof set->channel_unit);
    for (int32_t c = 1; c < set->n_channel && n == 1; c++)
        memcpy(set->channel_unit[c], set->channel_unit[0], sizeof set->channel_unit[0]);
}

/* ---- the whole ---- */

static enum lvs_status open_source(const struct config *config, struct h5_source *source, struct lvs_error *err) {
    const char *path = source->path;
    if (!file_exists(path)) return lvs_fail(err, LVS_INPUT, "%s: no such file ([data] file)", path);
    if (file_is_folder(path)) return lvs_fail(err, LVS_INPUT, "%s: is a folder; [data] file needs an HDF5 file", path);
    htri_t is_hdf5 = H5Fis_hdf5(path);
    if (is_hdf5 <= 0)
        return lvs_fail(err, LVS_INPUT,
                        "%s: not an HDF5 file, or one cut off before it was finished (CSV tables become one "
                        "with `lvsweep import`)",
                        path);
    source->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (source->file < 0) return lvs_fail(err, LVS_INPUT, "%s: a truncated or damaged HDF5 file", path);
    return find_dataset(config, source, err);
}

static enum lvs_status read_source(const struct config *config, struct h5_source *source, struct series_set *out,
                                   struct lvs_error *err) {
    LVS_TRY(open_source(config, source, err));
    LVS_TRY(read_values(source, out, err));
    LVS_TRY(read_time(source, out, err));
    read_names(source, out);
    LVS_TRY(series_apply_names(config, out, err));
    return series_finish(config, source->where, out, err);
}

enum lvs_status series_read(const struct config *config, struct series_set *out, struct lvs_error *err) {
    struct h5_source source = {.path = config->data_file, .file = -1, .dataset = -1};
    *out = (struct series_set){0};
    /* Locks fail on many cluster file systems and protect nothing in a file that is only read. */
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
    H5E_auto2_t old_print;
    void *old_context;
    H5Eget_auto2(H5E_DEFAULT, &old_print, &old_context);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    enum lvs_status status = read_source(config, &source, out, err);
    if (source.dataset >= 0) H5Dclose(source.dataset);
    if (source.file >= 0) H5Fclose(source.file);
    H5Eset_auto2(H5E_DEFAULT, old_print, old_context);
    if (status != LVS_OK) series_free(out);
    return status;
}
