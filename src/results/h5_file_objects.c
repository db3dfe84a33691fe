/* HDF5 objects as results.h5 uses them: datasets allocated at once, scales on every axis, UTF-8 texts of variable
 * length. A failure is noted once in the writer, never thrown. */
#include "h5_file_internal.h"

#include <string.h>

/* ---- errors ---- */

static herr_t first_message(unsigned level, const H5E_error2_t *error, void *out) {
    if (level == 0) lvs_copy(out, 256, error->desc ? error->desc : "");
    return 0;
}

bool h5_check(struct writer *w, bool good, const char *what, const char *name) {
    if (good || w->failed) return good;
    char why[256] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_message, why);
    w->failed = true;
    lvs_fail(w->err, LVS_OUTPUT, "%s: cannot %s %s: %s", w->path, what, name, why);
    return false;
}

/* ---- attributes and texts ---- */

void h5_attribute(struct writer *w, hid_t object, const char *name, const char *text) {
    struct strbuf clean;
    strbuf_init(&clean);
    text_add_utf8(&clean, text);
    const char *value = clean.text ? clean.text : "";
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t id = H5Acreate2(object, name, w->string, space, H5P_DEFAULT, H5P_DEFAULT);
    h5_check(w, id >= 0 && H5Awrite(id, w->string, &value) >= 0, "write attribute", name);
    H5Aclose(id);
    H5Sclose(space);
    strbuf_free(&clean);
}

void h5_attribute_values(struct writer *w, hid_t object, const char *name, hid_t type, const void *values,
                         hsize_t count) {
    hid_t space = count == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &count, NULL);
    hid_t id = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    h5_check(w, id >= 0 && H5Awrite(id, type, values) >= 0, "write attribute", name);
    H5Aclose(id);
    H5Sclose(space);
}

/* ---- datasets ---- */

hsize_t h5_extent(const struct writer *w, enum axis axis) {
    const hsize_t extents[AXIS_COUNT] = {
        [AXIS_TRIAL] = (hsize_t)w->results->n_rows,         [AXIS_CHANNEL] = (hsize_t)w->results->n_channel,
        [AXIS_STAGE] = (hsize_t)w->results->n_stages,       [AXIS_STEP] = (hsize_t)w->plan->n_step,
        [AXIS_EVALUATION] = (hsize_t)w->plan->n_evaluation, [AXIS_BASELINE] = (hsize_t)w->results->n_baselines,
        [AXIS_SERIES] = (hsize_t)w->plan->n_series,         [AXIS_TIME] = (hsize_t)w->plan->n_time,
    };
    return extents[axis];
}

hid_t h5_place(struct writer *w, hid_t where, const char *name, hid_t type, int n_dims, const hsize_t *dims) {
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
    bool is_text = H5Tis_variable_str(type) > 0; /* must have a fill value; written by one process anyway */
    H5Pset_fill_time(create, is_text ? H5D_FILL_TIME_IFSET : H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(create, false);
    hid_t space = n_dims ? H5Screate_simple(n_dims, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t id = H5Dcreate2(where, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    h5_check(w, id >= 0, "create", name);
    H5Sclose(space);
    H5Pclose(create);
    return id;
}

void h5_describe(struct writer *w, hid_t id, const char *long_name, const char *units) {
    h5_attribute(w, id, "long_name", long_name);
    if (units) h5_attribute(w, id, "units", units);
}

hid_t h5_variable(struct writer *w, hid_t where, const char *name, hid_t type, int n_axes, const enum axis *axes,
                  const char *long_name, const char *units) {
    hsize_t dims[4] = {0};
    for (int i = 0; i < n_axes; i++)
        dims[i] = h5_extent(w, axes[i]);
    hid_t id = h5_place(w, where, name, type, n_axes, dims);
    if (id < 0) return id;
    for (int i = 0; i < n_axes; i++)
        h5_check(w, H5DSattach_scale(id, w->scales[axes[i]], (unsigned)i) >= 0, "attach a scale to", name);
    h5_describe(w, id, long_name, units);
    return id;
}

void h5_write_all(struct writer *w, hid_t id, const char *name, hid_t type, const void *values, hsize_t count) {
    if (id < 0) return;
    if (count > 0) h5_check(w, H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0, "write", name);
    h5_check(w, H5Dclose(id) >= 0, "close", name);
}

void h5_scale(struct writer *w, hid_t where, enum axis axis, const char *name, hid_t type, const void *values,
              const char *long_name, const char *units) {
    hsize_t count = h5_extent(w, axis);
    hid_t id = h5_place(w, where, name, type, 1, &count);
    if (id < 0) return;
    if (count > 0 && values) h5_check(w, H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0, "write", name);
    h5_describe(w, id, long_name, units);
    h5_check(w, H5DSset_scale(id, name) >= 0, "make a scale of", name);
    w->scales[axis] = id;
}

void h5_scalar_text(struct writer *w, hid_t where, const char *name, const char *text) {
    struct strbuf clean;
    strbuf_init(&clean);
    text_add_utf8(&clean, text ? text : "");
    const char *value = clean.text ? clean.text : "";
    h5_write_all(w, h5_place(w, where, name, w->string, 0, NULL), name, w->string, &value, 1);
    strbuf_free(&clean);
}

hid_t h5_group(struct writer *w, const char *name) {
    hid_t create = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_link_creation_order(create, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    hid_t id = H5Gcreate2(w->file, name, H5P_DEFAULT, create, H5P_DEFAULT);
    h5_check(w, id >= 0, "create group", name);
    H5Pclose(create);
    return id;
}

/* ---- the file ---- */

hid_t h5_text_type(void) {
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

hid_t h5_create(const char *path) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    H5Pset_link_creation_order(create, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    H5Pclose(create);
    H5Pclose(access);
    return file;
}
