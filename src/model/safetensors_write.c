/* Writing safetensors: float tensors, as F32 or rounded to BF16, into one file that is whole or absent. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

static int64_t tensor_elements(const struct safetensors_tensor *tensor) {
    int64_t count = 1;
    for (int32_t i = 0; i < tensor->n_dims; i++)
        count *= tensor->shape[i];
    return count;
}

static json_t *tensor_json(const struct safetensors_tensor *tensor, int64_t *offset) {
    json_t *shape = json_array();
    for (int32_t i = 0; i < tensor->n_dims; i++)
        json_array_append_new(shape, json_integer(tensor->shape[i]));
    int64_t begin = *offset;
    *offset += tensor_elements(tensor) * (int64_t)tensor_type_size(tensor->type);
    json_t *offsets = json_array();
    json_array_append_new(offsets, json_integer(begin));
    json_array_append_new(offsets, json_integer(*offset));
    json_t *object = json_object();
    json_object_set_new(object, "dtype", json_string(tensor_type_name(tensor->type)));
    json_object_set_new(object, "shape", shape);
    json_object_set_new(object, "data_offsets", offsets);
    return object;
}

/* Length and JSON, padded with spaces so that the data starts at a multiple of 8. */
static void header_make(const struct safetensors_tensor *tensors, int32_t count, const char *const *metadata,
                        struct strbuf *out) {
    json_t *root = json_object();
    if (metadata) {
        json_t *pairs = json_object();
        for (; metadata[0]; metadata += 2)
            json_object_set_new(pairs, metadata[0], json_string(metadata[1]));
        json_object_set_new(root, "__metadata__", pairs);
    }
    int64_t offset = 0;
    for (int32_t i = 0; i < count; i++)
        json_object_set_new(root, tensors[i].name, tensor_json(&tensors[i], &offset));
    char *text = json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(root);
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    char prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (char)(padded >> (8 * i) & 0xff);
    strbuf_add_bytes(out, prefix, sizeof prefix);
    strbuf_add_bytes(out, text, length);
    for (; length < padded; length++)
        strbuf_add(out, " ");
    free(text);
}

static bool write_data(FILE *stream, const struct safetensors_tensor *tensor) {
    int64_t count = tensor_elements(tensor);
    if (tensor->type == TENSOR_F32) return fwrite(tensor->data, sizeof(float), (size_t)count, stream) == (size_t)count;
    uint16_t buffer[4096];
    for (int64_t done = 0; done < count;) {
        size_t n = count - done < 4096 ? (size_t)(count - done) : 4096;
        for (size_t i = 0; i < n; i++)
            buffer[i] = tensor_bf16_from_float(tensor->data[done + (int64_t)i]);
        if (fwrite(buffer, sizeof buffer[0], n, stream) != n) return false;
        done += (int64_t)n;
    }
    return true;
}

static enum lvs_status write_stream(const char *path, const struct safetensors_tensor *tensors, int32_t count,
                                    const char *const *metadata, struct lvs_error *err) {
    FILE *stream = fopen(path, "wbe");
    if (!stream) return lvs_fail(err, LVS_OUTPUT, "%s: cannot create: %s", path, strerror(errno));
    struct strbuf header;
    strbuf_init(&header);
    header_make(tensors, count, metadata, &header);
    bool good = fwrite(header.text, 1, header.length, stream) == header.length;
    strbuf_free(&header);
    for (int32_t i = 0; good && i < count; i++)
        good = write_data(stream, &tensors[i]);
    int code = good ? 0 : errno;
    if (fclose(stream) != 0 && good) {
        good = false;
        code = errno;
    }
    return good ? LVS_OK : lvs_fail(err, LVS_OUTPUT, "%s: cannot write: %s", path, strerror(code));
}

enum lvs_status safetensors_write(const char *path, const struct safetensors_tensor *tensors, int32_t count,
                                  const char *const *metadata, struct lvs_error *err) {
    char aside[LVS_PATH_MAX + 32];
    snprintf(aside, sizeof aside, "%s.tmp.%ld", path, (long)getpid());
    enum lvs_status status = write_stream(aside, tensors, count, metadata, err);
    if (status == LVS_OK) status = file_publish(aside, path, err);
    if (status != LVS_OK) unlink(aside);
    return status;
}
