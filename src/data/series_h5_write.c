/* Writing a series set in the layout of the reference data set, with names: /trajectories float32 (series, time,
 * channel) with the attributes `variables` and `units`, /time float64 with `units`, and dimension scales /series
 * (names, or row numbers), /time and /channel (names), so that xarray opens the file with named axes. NaN stays NaN.
 * The file appears whole or not at all. */
#include "data_internal.h"

#include <hdf5.h>
#include <hdf5_hl.h>
#include <stdlib.h>
#include <unistd.h>

#include "series_h5_strings.h"

static herr_t attach_text(hid_t object, const char *name, const char *text) {
    return h5_strings_attach(object, name, &text, 1, 1);
}

/* A one-dimensional dataset that is a dimension scale; negative on failure. */
static hid_t create_scale(hid_t file, const char *name, hid_t file_type, hid_t memory_type, int32_t count,
                          const void *values) {
    hsize_t size = (hsize_t)count;
    hid_t space = H5Screate_simple(1, &size, NULL);
    hid_t dataset = H5Dcreate2(file, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Sclose(space);
    if (dataset < 0) return dataset;
    if (H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0 || H5DSset_scale(dataset, name) < 0) {
        H5Dclose(dataset);
        return -1;
    }
    return dataset;
}

static hid_t create_names_scale(hid_t file, const char *name, const char *const *texts, int32_t count) {
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    hid_t scale = create_scale(file, name, type, type, count, texts);
    H5Tclose(type);
    return scale;
}

static hid_t create_series_scale(hid_t file, const struct series_set *set) {
    const size_t n_series = (size_t)set->n_series;
    if (set->label) {
        const char **texts = lvs_malloc(n_series * sizeof *texts);
        for (size_t s = 0; s < n_series; s++)
            texts[s] = set->label[s];
        hid_t scale = create_names_scale(file, "series", texts, set->n_series);
        free(texts);
        return scale;
    }
    int64_t *rows = lvs_malloc(n_series * sizeof *rows);
    for (size_t s = 0; s < n_series; s++)
        rows[s] = (int64_t)s;
    hid_t scale = create_scale(file, "series", H5T_STD_I64LE, H5T_NATIVE_INT64, set->n_series, rows);
    free(rows);
    return scale;
}

static hid_t create_time_scale(hid_t file, const struct series_set *set) {
    hid_t scale = create_scale(file, "time", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, set->n_time, set->time);
    if (scale >= 0 && set->time_unit[0] && attach_text(scale, "units", set->time_unit) < 0) {
        H5Dclose(scale);
        return -1;
    }
    return scale;
}

/* The values and their attributes; negative on failure. */
static hid_t create_values(hid_t file, const struct series_set *set, const char *const *names) {
    hsize_t sizes[3] = {(hsize_t)set->n_series, (hsize_t)set->n_time, (hsize_t)set->n_channel};
    const char *units[LVS_MAX_CHANNELS];
    bool any_unit = false;
    for (int32_t c = 0; c < set->n_channel; c++) {
        units[c] = set->channel_unit[c];
        any_unit |= units[c][0] != '\0';
    }
    hid_t space = H5Screate_simple(3, sizes, NULL);
    hid_t values = H5Dcreate2(file, "trajectories", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Sclose(space);
    if (values < 0) return values;
    bool failed = H5Dwrite(values, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, set->values) < 0 ||
                  h5_strings_attach(values, "variables", names, set->n_channel, 0) < 0 ||
                  (any_unit && h5_strings_attach(values, "units", units, set->n_channel, 0) < 0);
    if (!failed) return values;
    H5Dclose(values);
    return -1;
}

static bool write_file(hid_t file, const struct series_set *set) {
    char numbers[LVS_MAX_CHANNELS][16];
    const char *names[LVS_MAX_CHANNELS];
    for (int32_t c = 0; c < set->n_channel; c++) {
        snprintf(numbers[c], sizeof numbers[c], "%d", c + 1);
        names[c] = set->channel_name[c][0] ? set->channel_name[c] : numbers[c];
    }
    hid_t values = create_values(file, set, names);
    hid_t scales[3] = {create_series_scale(file, set), create_time_scale(file, set),
                       create_names_scale(file, "channel", names, set->n_channel)};
    bool fine = values >= 0 && attach_text(file, "title", "series as written by lvsweep") >= 0;
    for (unsigned i = 0; i < 3; i++) {
        fine = fine && scales[i] >= 0 && H5DSattach_scale(values, scales[i], i) >= 0;
        if (scales[i] >= 0) H5Dclose(scales[i]);
    }
    if (values >= 0) H5Dclose(values);
    return fine;
}

enum lvs_status series_write(const char *path, const struct series_set *set, struct lvs_error *err) {
    char temporary[LVS_PATH_MAX + 32];
    snprintf(temporary, sizeof temporary, "%s.tmp.%ld", path, (long)getpid());
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
    H5E_auto2_t old_print;
    void *old_context;
    H5Eget_auto2(H5E_DEFAULT, &old_print, &old_context);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t file = H5Fcreate(temporary, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    bool fine = file >= 0 && write_file(file, set);
    if (file >= 0 && H5Fclose(file) < 0) fine = false;
    H5Eset_auto2(H5E_DEFAULT, old_print, old_context);
    if (file < 0) return lvs_fail(err, LVS_OUTPUT, "%s: cannot create the file (folder missing or not writable)", path);
    enum lvs_status status = LVS_OK;
    if (!fine)
        status = lvs_fail(err, LVS_OUTPUT, "%s: cannot write the file (disk full?)", path);
    else
        status = file_publish(temporary, path, err);
    if (status != LVS_OK) unlink(temporary);
    return status;
}
