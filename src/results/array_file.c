/* Named arrays in one binary file with a checksum: curves and forecasts of a trial. Little-endian: 8 bytes magic,
 * count, 0 (uint32), then one 72-byte entry an array (name[24], type, n_dims, shape[4], offset), the data on 8-byte
 * borders, last the XXH64 of everything before it. Reading trusts nothing. */
#include "results_internal.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC      "LVSWARR1"
#define MAX_ARRAYS 64
#define MAX_BYTES  ((size_t)1 << 34)

struct file_head {
    char magic[8];
    uint32_t count, zero;
};
struct file_entry {
    char name[24];
    int32_t type, n_dims;
    int64_t shape[4];
    uint64_t offset; /* from the start of the file */
};
_Static_assert(sizeof(struct file_head) == 16 && sizeof(struct file_entry) == 72, "written as they are");

static size_t type_bytes(int32_t type) {
    switch (type) {
    case ARRAY_F32:
    case ARRAY_I32:
        return 4;
    case ARRAY_F64:
    case ARRAY_I64:
        return 8;
    default:
        return 0;
    }
}

/* Bytes of an array; false when type, dimensions or product are out of bounds. */
static bool array_bytes(int32_t type, int32_t n_dims, const int64_t shape[4], uint64_t *bytes) {
    *bytes = type_bytes(type);
    if (*bytes == 0 || n_dims < 1 || n_dims > 4) return false;
    for (int32_t i = 0; i < n_dims; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(*bytes, (uint64_t)shape[i], bytes)) return false;
    return *bytes <= MAX_BYTES;
}

static void add_padding(struct strbuf *out) {
    static const char zeros[8];
    strbuf_add_bytes(out, zeros, (8 - out->length % 8) % 8);
}

enum lvs_status array_file_write(const char *path, const struct array *arrays, int32_t count, struct lvs_error *err) {
    struct file_head head = {.magic = MAGIC, .count = (uint32_t)count};
    uint64_t offset = sizeof head + (uint64_t)count * sizeof(struct file_entry), bytes;
    struct strbuf out;
    strbuf_init(&out);
    strbuf_add_bytes(&out, (const char *)&head, sizeof head);
    for (int32_t i = 0; i < count; i++) {
        struct file_entry entry = {.type = arrays[i].type, .n_dims = arrays[i].n_dims, .offset = offset};
        lvs_copy(entry.name, sizeof entry.name, arrays[i].name);
        memcpy(entry.shape, arrays[i].shape, sizeof entry.shape);
        strbuf_add_bytes(&out, (const char *)&entry, sizeof entry);
        if (count > MAX_ARRAYS || !array_bytes(entry.type, entry.n_dims, entry.shape, &bytes)) {
            strbuf_free(&out);
            return lvs_fail(err, LVS_BUG, "%s: array %s cannot be written", path, arrays[i].name);
        }
        offset += (bytes + 7) / 8 * 8;
    }
    for (int32_t i = 0; i < count; i++) {
        array_bytes(arrays[i].type, arrays[i].n_dims, arrays[i].shape, &bytes);
        if (bytes) strbuf_add_bytes(&out, arrays[i].data, bytes);
        add_padding(&out);
    }
    uint64_t check = XXH64(out.text, out.length, 0);
    strbuf_add_bytes(&out, (const char *)&check, sizeof check);
    enum lvs_status status = file_write_whole(path, out.text, out.length, err);
    strbuf_free(&out);
    return status;
}

static bool entry_take(const char *bytes, size_t length, uint32_t index, uint32_t count, struct array *out) {
    struct file_entry entry;
    uint64_t size, end;
    memcpy(&entry, bytes + sizeof(struct file_head) + index * sizeof entry, sizeof entry);
    if (!memchr(entry.name, '\0', sizeof entry.name)) return false;
    if (!array_bytes(entry.type, entry.n_dims, entry.shape, &size)) return false;
    if (entry.offset % 8 || entry.offset < sizeof(struct file_head) + count * sizeof entry) return false;
    if (__builtin_add_overflow(entry.offset, size, &end) || end > length - sizeof(uint64_t)) return false;
    memcpy(out->name, entry.name, sizeof out->name);
    memcpy(out->shape, entry.shape, sizeof out->shape);
    out->type = entry.type;
    out->n_dims = entry.n_dims;
    out->data = bytes + entry.offset;
    return true;
}

static bool file_take(const char *bytes, size_t length, struct array *arrays, int32_t capacity, int32_t *count) {
    struct file_head head;
    uint64_t check;
    if (length < sizeof head + sizeof check) return false;
    memcpy(&head, bytes, sizeof head);
    memcpy(&check, bytes + length - sizeof check, sizeof check);
    if (memcmp(head.magic, MAGIC, sizeof head.magic) != 0) return false;
    if (XXH64(bytes, length - sizeof check, 0) != check) return false;
    if (head.count > MAX_ARRAYS || head.count > (uint32_t)capacity) return false;
    if (length - sizeof head - sizeof check < head.count * sizeof(struct file_entry)) return false;
    for (uint32_t i = 0; i < head.count; i++)
        if (!entry_take(bytes, length, i, head.count, &arrays[i])) return false;
    *count = (int32_t)head.count;
    return true;
}

enum lvs_status array_file_read(const char *path, struct array *arrays, int32_t capacity, int32_t *count, char **bytes,
                                struct lvs_error *err) {
    size_t length;
    *bytes = NULL;
    LVS_TRY(file_read(path, MAX_BYTES, bytes, &length, err));
    if (file_take(*bytes, length, arrays, capacity, count)) return LVS_OK;
    free(*bytes);
    *bytes = NULL;
    return lvs_fail(err, LVS_INPUT, "%s: damaged, or not a file of this program", path);
}

enum lvs_status array_file_find(const char *path, const struct array *arrays, int32_t count, const char *name,
                                int32_t type, int32_t n_dims, const struct array **out, struct lvs_error *err) {
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(arrays[i].name, name) != 0 || arrays[i].type != type || arrays[i].n_dims != n_dims) continue;
        *out = &arrays[i];
        return LVS_OK;
    }
    return lvs_fail(err, LVS_INPUT, "%s: no array \"%s\" of %d dimensions", path, name, n_dims);
}

void *array_copy(const struct array *array) {
    uint64_t bytes = 0;
    array_bytes(array->type, array->n_dims, array->shape, &bytes);
    void *copy = lvs_calloc(1, bytes ? bytes : 8);
    if (bytes) memcpy(copy, array->data, bytes);
    return copy;
}
