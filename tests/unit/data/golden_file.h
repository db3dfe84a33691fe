/* Reads recorded tensors (safetensors: a length, a JSON header, the bytes) and JSON files of tests/golden. Only what
 * the tests of data/ need; trusts its input. */
#pragma once
#include <jansson.h>

#include "lvsweep/file.h"

struct golden_file {
    char *bytes;    /* the whole .safetensors, owned */
    json_t *header; /* owned */
    const char *data;
};

static inline struct golden_file golden_open(const char *name) {
    char path[LVS_PATH_MAX];
    size_t length;
    struct golden_file file;
    snprintf(path, sizeof path, "%s/tests/golden/%s", LVS_SOURCE_DIR, name);
    assert_ok(file_read(path, (size_t)1 << 26, &file.bytes, &length, &fixture_error));
    uint64_t header_length;
    memcpy(&header_length, file.bytes, sizeof header_length);
    file.header = json_loadb(file.bytes + 8, header_length, 0, NULL);
    assert_non_null(file.header);
    file.data = file.bytes + 8 + header_length;
    return file;
}

static inline void golden_close(struct golden_file *file) {
    json_decref(file->header);
    free(file->bytes);
}

/* The values of a float32 or float64 tensor as doubles; *count gets how many. Free them. */
static inline double *golden_values(const struct golden_file *file, const char *name, int32_t *count) {
    json_t *tensor = json_object_get(file->header, name), *range = json_object_get(tensor, "data_offsets");
    assert_non_null(range);
    size_t from = (size_t)json_integer_value(json_array_get(range, 0));
    size_t bytes = (size_t)json_integer_value(json_array_get(range, 1)) - from;
    bool single = strcmp(json_string_value(json_object_get(tensor, "dtype")), "F32") == 0;
    *count = (int32_t)(bytes / (single ? 4 : 8));
    double *values = lvs_malloc((size_t)*count * sizeof *values);
    for (int32_t i = 0; i < *count; i++) {
        float narrow;
        if (single) {
            memcpy(&narrow, file->data + from + 4 * (size_t)i, 4);
            values[i] = (double)narrow;
        } else {
            memcpy(&values[i], file->data + from + 8 * (size_t)i, 8);
        }
    }
    return values;
}
