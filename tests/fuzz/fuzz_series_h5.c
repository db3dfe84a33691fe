/* libFuzzer target: an HDF5 data file whose names, units, time and scales have any type, shape and content. The bytes
 * say how the file is built; HDF5 itself writes it, so that what is tested is our reading of attributes and not the
 * library's of broken files. Either refused in words, or a set that keeps its promises. */
#include <hdf5.h>
#include <hdf5_hl.h>
#include <math.h>

#include "fuzz_folder.h"
#include "lvsweep/series.h"

#define SERIES 3
#define TIMES  4
#define BYTES  256 /* of an attribute's or scale's content */

static struct {
    const uint8_t *next;
    size_t left;
} input;

static uint8_t take(void) {
    if (input.left == 0) return 0;
    input.left--;
    return *input.next++;
}

static void take_bytes(uint8_t *out, size_t count) {
    for (size_t i = 0; i < count; i++)
        out[i] = take();
}

/* A type and how many bytes an element has; strings of any length, padding and character set. */
static hid_t take_type(size_t *size) {
    uint8_t kind = take();
    hid_t type;
    switch (kind % 5) {
    case 0:
        type = H5Tcopy(H5T_NATIVE_DOUBLE);
        break;
    case 1:
        type = H5Tcopy(H5T_NATIVE_INT32);
        break;
    case 2:
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, H5T_VARIABLE);
        break;
    default:
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, 1 + take() % 64);
        H5Tset_strpad(type, (H5T_str_t)(kind / 5 % 3));
    }
    if (H5Tget_class(type) == H5T_STRING) H5Tset_cset(type, kind & 64 ? H5T_CSET_UTF8 : H5T_CSET_ASCII);
    *size = H5Tis_variable_str(type) > 0 ? 0 : H5Tget_size(type);
    return type;
}

/* Scalar, null, or one or two dimensions of up to seven. */
static hid_t take_space(hsize_t *count) {
    uint8_t kind = take();
    hsize_t sizes[2] = {kind / 4 % 8, 1 + kind / 32 % 4};
    *count = kind % 4 == 0 ? 1 : kind % 4 == 1 ? 0 : kind % 4 == 2 ? sizes[0] : sizes[0] * sizes[1];
    if (kind % 4 == 0) return H5Screate(H5S_SCALAR);
    if (kind % 4 == 1 || *count == 0) return H5Screate(H5S_NULL);
    return H5Screate_simple(kind % 4 == 2 ? 1 : 2, sizes, NULL);
}

static void write_content(hid_t object, bool attribute, hid_t type, size_t size, hsize_t count) {
    uint8_t bytes[BYTES + 1] = {0};
    const char *texts[32];
    take_bytes(bytes, take() % BYTES);
    for (hsize_t i = 0; i < 32; i++)
        texts[i] = (const char *)bytes + i % 8;
    uint8_t *block = lvs_calloc((size_t)count + 1, size ? size : 1);
    for (size_t i = 0; i < size * count; i++)
        block[i] = bytes[i % BYTES];
    const void *content = size ? (const void *)block : texts;
    if (count > 0 && count <= 32) {
        if (attribute)
            H5Awrite(object, type, content);
        else
            H5Dwrite(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, content);
    }
    free(block);
}

static void put_attribute(hid_t object, const char *name) {
    hsize_t count;
    size_t size;
    hid_t type = take_type(&size), space = take_space(&count);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0) {
        write_content(attribute, true, type, size, count);
        H5Aclose(attribute);
    }
    H5Sclose(space);
    H5Tclose(type);
}

static void put_scale(hid_t file, hid_t dataset, unsigned dimension, const char *name, hsize_t length) {
    size_t size;
    hid_t type = take_type(&size);
    hsize_t count = take() & 1 ? length : take() % 8;
    hid_t space = H5Screate_simple(1, &count, NULL);
    hid_t scale = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (scale >= 0) {
        write_content(scale, false, type, size, count);
        if (take() & 1) put_attribute(scale, "units");
        if (take() & 1) H5DSset_scale(scale, take() & 1 ? name : NULL);
        if (take() & 1) H5DSattach_scale(dataset, scale, dimension);
        H5Dclose(scale);
    }
    H5Sclose(space);
    H5Tclose(type);
}

static void build(const char *path) {
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (file < 0) abort();
    hsize_t sizes[3] = {SERIES, TIMES, 1 + take() % 3};
    float values[SERIES * TIMES * 3];
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        values[i] = (float)(i * i % 7) + 1;
    hid_t space = H5Screate_simple(3, sizes, NULL);
    hid_t dataset = H5Dcreate2(file, "values", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (dataset < 0) abort();
    H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    uint8_t parts = take();
    if (parts & 1) put_attribute(dataset, "variables");
    if (parts & 2) put_attribute(dataset, "units");
    if (parts & 4) put_scale(file, dataset, 0, "series", SERIES);
    if (parts & 8) put_scale(file, dataset, 1, "time", TIMES);
    if (parts & 16) put_scale(file, dataset, 2, "channel", sizes[2]);
    if (parts & 32) put_scale(file, dataset, 1, "hours", TIMES);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Fclose(file);
}

static void check_text(const char *text, size_t capacity) {
    size_t length = strnlen(text, capacity);
    if (length == capacity) abort();
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) abort();
}

static void check(const struct series_set *set) {
    if (set->n_series != SERIES || set->n_time != TIMES || set->n_channel < 1 || set->n_channel > 3) abort();
    for (int32_t t = 0; t < set->n_time; t++)
        if (!isfinite(set->time[t]) || (t > 0 && !(set->time[t] > set->time[t - 1]))) abort();
    for (int32_t c = 0; c < set->n_channel; c++) {
        check_text(set->channel_name[c], sizeof set->channel_name[c]);
        check_text(set->channel_unit[c], sizeof set->channel_unit[c]);
        if (set->channel_name[c][0] == '\0') abort();
    }
    check_text(set->time_unit, sizeof set->time_unit);
    for (int32_t i = 0; set->label && i < set->n_series; i++)
        check_text(set->label[i], sizeof set->label[i]);
}

static char folder[64];

static void remove_folder(void) {
    fuzz_folder_remove(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct config *config;
    char path[128];
    if (!folder[0]) {
        fuzz_folder_make(folder);
        atexit(remove_folder);
        H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    }
    snprintf(path, sizeof path, "%s/data.h5", folder);
    if (!config) {
        char text[512];
        snprintf(text, sizeof text,
                 "[data]\nfile = %s\n[model]\npath = m\n[stage.a]\nrank = 2\nlearning_rate = 1e-4\n[budget]\n"
                 "flops = none\n",
                 path);
        struct config_source source = {.text = text, .path = "grid.ini", .folder = folder};
        if (config_parse(&source, &config, NULL) != LVS_OK) abort();
    }
    input.next = data;
    input.left = size;
    build(path);
    struct series_set set;
    struct lvs_error err = {0};
    enum lvs_status status = series_read(config, &set, &err);
    if (status == LVS_OK) {
        check(&set);
        series_free(&set);
    } else if (status != LVS_INPUT || err.text[0] == '\0') {
        abort();
    }
    return 0;
}
