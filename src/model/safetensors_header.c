/* The header of a safetensors file: u64 length, JSON, then the tensors' bytes without holes.
 * Everything in it is taken as hostile: lengths, products and offsets are checked before they are used, and the tensors
 * must cover the data exactly, each byte once. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

#define HEADER_MAX     100000000u /* bytes, the format's own limit */
#define STRUCTURE_MAX  2000000    /* brackets and commas: bounds what the parser may allocate */
#define TENSORS_MAX    100000
#define NAME_MAX_BYTES 512

/* Sizes of all element types that the format knows with whole bytes. */
static const struct {
    const char *name;
    int32_t bytes;
    int32_t type; /* enum tensor_type or -1 */
} dtypes[] = {
    {"F32", 4, TENSOR_F32}, {"BF16", 2, TENSOR_BF16}, {"F16", 2, TENSOR_F16}, {"F64", 8, -1},
    {"I64", 8, -1},         {"I32", 4, -1},           {"I16", 2, -1},         {"I8", 1, -1},
    {"U64", 8, -1},         {"U32", 4, -1},           {"U16", 2, -1},         {"U8", 1, -1},
    {"BOOL", 1, -1},        {"F8_E4M3", 1, -1},       {"F8_E5M2", 1, -1},     {"F8_E8M0", 1, -1},
    {"C64", 8, -1},
};

/* Bytes of an element; 0 = unknown name. `type` is -1 for what cannot be a weight. */
static int32_t type_find(const char *dtype, enum tensor_type *type) {
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtype, dtypes[i].name) == 0) {
            *type = (enum tensor_type)dtypes[i].type;
            return dtypes[i].bytes;
        }
    return 0;
}

/* What is being read, for messages. */
struct header {
    const struct safetensors_map *map;
    const char *json; /* not NUL-ended */
    size_t json_length;
    uint64_t data_length;
};

static enum lvs_status header_locate(const struct safetensors_map *map, struct header *out, struct lvs_error *err) {
    if (map->length < 8)
        return lvs_fail(err, LVS_INPUT, "%s: %zu bytes, too short for a safetensors file", map->path, map->length);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | map->bytes[i];
    if (length > HEADER_MAX)
        return lvs_fail(err, LVS_INPUT, "%s: the header claims %llu bytes, more than the format's %u", map->path,
                        (unsigned long long)length, HEADER_MAX);
    if (length > map->length - 8)
        return lvs_fail(err, LVS_INPUT, "%s: the header claims %llu bytes, the file has %zu: truncated?", map->path,
                        (unsigned long long)length, map->length);
    *out = (struct header){.map = map,
                           .json = (const char *)map->bytes + 8,
                           .json_length = (size_t)length,
                           .data_length = map->length - 8 - length};
    if (length == 0 || out->json[0] != '{')
        return lvs_fail(err, LVS_INPUT, "%s: the header does not start with '{': not a safetensors file", map->path);
    size_t structure = 0;
    for (size_t i = 0; i < out->json_length; i++)
        structure += out->json[i] == '{' || out->json[i] == '[' || out->json[i] == ',';
    if (structure > STRUCTURE_MAX)
        return lvs_fail(err, LVS_INPUT, "%s: the header has %zu brackets and commas, more than the %d allowed",
                        map->path, structure, STRUCTURE_MAX);
    return LVS_OK;
}

static enum lvs_status tensor_fail(const struct header *header, const char *name, struct lvs_error *err,
                                   const char *what) {
    char text[PRINTABLE_MAX];
    return lvs_fail(err, LVS_INPUT, "%s: tensor \"%s\": %s", header->map->path, json_printable(name, text), what);
}

/* A non-negative integer of the array at `index`. */
static bool take_size(const json_t *array, size_t index, uint64_t *out) {
    const json_t *value = json_array_get(array, index);
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* shape and element size → bytes, without overflow. */
static enum lvs_status read_shape(const struct header *header, const char *name, const json_t *shape,
                                  struct safetensors_entry *entry, uint64_t *bytes, struct lvs_error *err) {
    if (!json_is_array(shape)) return tensor_fail(header, name, err, "\"shape\" must be a list");
    if (json_array_size(shape) > 4) return tensor_fail(header, name, err, "more than 4 dimensions");
    entry->n_dims = (int32_t)json_array_size(shape);
    for (int32_t i = 0; i < entry->n_dims; i++) {
        uint64_t extent;
        if (!take_size(shape, (size_t)i, &extent))
            return tensor_fail(header, name, err, "\"shape\" must hold integers of 0 or more");
        if (__builtin_mul_overflow(*bytes, extent, bytes))
            return tensor_fail(header, name, err, "the shape's product overflows");
        entry->shape[i] = (int64_t)extent;
    }
    return LVS_OK;
}

static enum lvs_status read_offsets(const struct header *header, const char *name, const json_t *offsets,
                                    uint64_t bytes, struct safetensors_entry *entry, struct lvs_error *err) {
    uint64_t begin, end;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !take_size(offsets, 0, &begin) ||
        !take_size(offsets, 1, &end))
        return tensor_fail(header, name, err, "\"data_offsets\" must be two integers of 0 or more");
    if (end < begin) return tensor_fail(header, name, err, "\"data_offsets\" run backwards");
    if (end > header->data_length) return tensor_fail(header, name, err, "\"data_offsets\" pass the end of the file");
    if (end - begin != bytes)
        return tensor_fail(header, name, err, "\"data_offsets\" do not fit \"shape\" and \"dtype\"");
    entry->data = header->json + header->json_length + begin;
    entry->bytes = (size_t)bytes;
    return LVS_OK;
}

static enum lvs_status read_tensor(const struct header *header, const char *name, const json_t *object,
                                   struct safetensors_entry *entry, struct lvs_error *err) {
    if (!json_is_object(object))
        return tensor_fail(header, name, err, "an object {dtype, shape, data_offsets} is expected");
    if (json_object_size(object) != 3)
        return tensor_fail(header, name, err, "exactly dtype, shape and data_offsets are allowed");
    const char *dtype = json_string_value(json_object_get(object, "dtype"));
    int32_t size = dtype ? type_find(dtype, &entry->type) : 0;
    if (size == 0) return tensor_fail(header, name, err, "\"dtype\" is none of the format's names");
    uint64_t bytes = (uint64_t)size;
    LVS_TRY(read_shape(header, name, json_object_get(object, "shape"), entry, &bytes, err));
    return read_offsets(header, name, json_object_get(object, "data_offsets"), bytes, entry, err);
}

static enum lvs_status check_metadata(const struct header *header, const json_t *metadata, struct lvs_error *err) {
    const char *key;
    json_t *value;
    bool good = json_is_object(metadata);
    if (good) json_object_foreach((json_t *)metadata, key, value) good = good && json_is_string(value);
    if (!good) return lvs_fail(err, LVS_INPUT, "%s: \"__metadata__\" must map text to text", header->map->path);
    return LVS_OK;
}

static int by_place(const void *left, const void *right) {
    const struct safetensors_entry *a = left, *b = right;
    if (a->data != b->data) return a->data < b->data ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes); /* empty tensors first */
}

/* Every byte after the header belongs to exactly one tensor. Sorts the entries by place. */
static enum lvs_status check_cover(const struct header *header, struct safetensors_entry *entries, int32_t count,
                                   struct lvs_error *err) {
    if (count > 0) qsort(entries, (size_t)count, sizeof *entries, by_place);
    const char *data = header->json + header->json_length, *expected = data;
    for (int32_t i = 0; i < count; i++) {
        const char *begin = entries[i].data;
        if (begin < expected) return tensor_fail(header, entries[i].name, err, "overlaps another tensor");
        if (begin > expected) return tensor_fail(header, entries[i].name, err, "a hole lies before it");
        expected = begin + entries[i].bytes;
    }
    if (expected != data + header->data_length)
        return lvs_fail(err, LVS_INPUT, "%s: %llu bytes after the last tensor belong to none", header->map->path,
                        (unsigned long long)(data + header->data_length - expected));
    return LVS_OK;
}

static enum lvs_status read_entries(const struct header *header, json_t *root, struct safetensors_entry **entries,
                                    int32_t *count, struct lvs_error *err) {
    size_t n = json_object_size(root);
    if (n > TENSORS_MAX)
        return lvs_fail(err, LVS_INPUT, "%s: %zu tensors, more than the %d allowed", header->map->path, n, TENSORS_MAX);
    struct safetensors_entry *grown = lvs_realloc(*entries, ((size_t)*count + n + 1) * sizeof *grown);
    *entries = grown;
    struct safetensors_entry *own = grown + *count;
    int32_t first = *count;
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            LVS_TRY(check_metadata(header, value, err));
            continue;
        }
        if (name[0] == '\0' || strlen(name) > NAME_MAX_BYTES)
            return tensor_fail(header, name, err, "a name has 1 to 512 bytes");
        struct safetensors_entry entry = {0};
        LVS_TRY(read_tensor(header, name, value, &entry, err));
        entry.name = lvs_strdup(name);
        grown[(*count)++] = entry;
    }
    return check_cover(header, own, *count - first, err);
}

enum lvs_status safetensors_header_read(const struct safetensors_map *map, struct safetensors_entry **entries,
                                        int32_t *count, struct lvs_error *err) {
    struct header header;
    LVS_TRY(header_locate(map, &header, err));
    json_error_t where;
    json_t *root = json_loadb(header.json, header.json_length, JSON_REJECT_DUPLICATES, &where);
    char text[PRINTABLE_MAX];
    if (!root)
        return lvs_fail(err, LVS_INPUT, "%s: header, byte %d: %s", map->path, where.position,
                        json_printable(where.text, text));
    enum lvs_status status = read_entries(&header, root, entries, count, err);
    json_decref(root);
    return status;
}
