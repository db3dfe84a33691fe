/* Strings in HDF5: reading with the file's own character set (the library converts between none), writing as
 * variable-length UTF-8, which every reader of netCDF-4 files understands. */
#include "series_h5_strings.h"

#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"

#define FIXED_MAX 4096 /* bytes of one fixed-length string */

/* Cuts at a UTF-8 boundary and replaces control characters. */
static void copy_clean(char *out, size_t width, const char *text, size_t length) {
    if (length >= width) {
        length = width - 1;
        while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
            length--;
    }
    for (size_t i = 0; i < length; i++)
        out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '_' : text[i];
    out[length] = '\0';
}

static herr_t read_raw(hid_t object, int is_attribute, hid_t type, void *out) {
    return is_attribute ? H5Aread(object, type, out) : H5Dread(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out);
}

static int32_t read_variable(hid_t object, int is_attribute, hid_t type, hid_t space, int32_t count, char *texts,
                             size_t width) {
    char **raw = lvs_calloc((size_t)count, sizeof *raw);
    hid_t memory = H5Tcopy(H5T_C_S1);
    H5Tset_size(memory, H5T_VARIABLE);
    H5Tset_cset(memory, H5Tget_cset(type));
    herr_t status = read_raw(object, is_attribute, memory, raw);
    for (int32_t i = 0; i < count && status >= 0; i++)
        copy_clean(texts + (size_t)i * width, width, raw[i] ? raw[i] : "", raw[i] ? strlen(raw[i]) : 0);
    if (status >= 0) H5Dvlen_reclaim(memory, space, H5P_DEFAULT, raw);
    H5Tclose(memory);
    free(raw);
    return status < 0 ? 0 : count;
}

static int32_t read_fixed(hid_t object, int is_attribute, hid_t type, int32_t count, char *texts, size_t width) {
    size_t size = H5Tget_size(type);
    if (size == 0 || size > FIXED_MAX) return 0;
    char *raw = lvs_calloc((size_t)count, size);
    herr_t status = read_raw(object, is_attribute, type, raw);
    for (int32_t i = 0; i < count && status >= 0; i++) {
        const char *text = raw + (size_t)i * size;
        size_t length = strnlen(text, size);
        while (length > 0 && text[length - 1] == ' ')
            length--;
        copy_clean(texts + (size_t)i * width, width, text, length);
    }
    free(raw);
    return status < 0 ? 0 : count;
}

static int32_t read_strings(hid_t object, int is_attribute, char *texts, size_t width, int32_t capacity) {
    hid_t type = is_attribute ? H5Aget_type(object) : H5Dget_type(object);
    hid_t space = is_attribute ? H5Aget_space(object) : H5Dget_space(object);
    hssize_t points = H5Sget_simple_extent_npoints(space);
    int32_t count = 0;
    if (H5Tget_class(type) == H5T_STRING && points >= 1 && points <= capacity) {
        if (H5Tis_variable_str(type) > 0)
            count = read_variable(object, is_attribute, type, space, (int32_t)points, texts, width);
        else
            count = read_fixed(object, is_attribute, type, (int32_t)points, texts, width);
    }
    H5Sclose(space);
    H5Tclose(type);
    return count;
}

int32_t h5_strings_attribute(hid_t object, const char *name, char *texts, size_t width, int32_t capacity) {
    if (H5Aexists(object, name) <= 0) return 0;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return 0;
    int32_t count = read_strings(attribute, 1, texts, width, capacity);
    H5Aclose(attribute);
    return count;
}

int32_t h5_strings_dataset(hid_t dataset, char *texts, size_t width, int32_t capacity) {
    return read_strings(dataset, 0, texts, width, capacity);
}

herr_t h5_strings_attach(hid_t object, const char *name, const char *const *texts, int32_t count, int scalar) {
    hsize_t size = (hsize_t)count;
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    hid_t space = scalar ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &size, NULL);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t status = attribute < 0 ? -1 : H5Awrite(attribute, type, texts);
    if (attribute >= 0 && H5Aclose(attribute) < 0) status = -1;
    H5Sclose(space);
    H5Tclose(type);
    return status;
}
