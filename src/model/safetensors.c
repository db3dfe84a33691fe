/* Reading safetensors: one mapped file, or the shards that an index names. The data is used in place.
 * Not a writer (safetensors_write.c); the header's rules are in safetensors_header.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

#define INDEX_MAX_BYTES (64u << 20)
#define SHARDS_MAX      1024

struct safetensors {
    struct safetensors_map *maps; /* [n_maps] */
    int32_t n_maps;
    struct safetensors_entry *entries; /* [count], sorted by name; names owned */
    int32_t count;
};

/* Opened without waiting, so that a FIFO of that name is refused instead of hanging. */
static enum lvs_status map_open(const char *path, struct safetensors_map *out, struct lvs_error *err) {
    memset(out, 0, sizeof *out);
    lvs_copy(out->path, sizeof out->path, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return lvs_fail(err, LVS_INPUT, "%s: cannot open: %s", path, strerror(errno));
    struct stat before, after;
    enum lvs_status status = LVS_OK;
    if (fstat(fd, &before) != 0 || !S_ISREG(before.st_mode))
        status = lvs_fail(err, LVS_INPUT, "%s: not a regular file", path);
    else if (before.st_size < 8)
        status = lvs_fail(err, LVS_INPUT, "%s: %lld bytes, too short for a safetensors file", path,
                          (long long)before.st_size);
    if (status == LVS_OK) {
        void *bytes = mmap(NULL, (size_t)before.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED) {
            status = lvs_fail(err, LVS_INPUT, "%s: cannot map: %s", path, strerror(errno));
        } else {
            out->bytes = bytes;
            out->length = (size_t)before.st_size;
            if (fstat(fd, &after) != 0 || after.st_size != before.st_size)
                status = lvs_fail(err, LVS_INPUT, "%s: changes while it is read", path);
        }
    }
    close(fd);
    return status;
}

static int by_name(const void *left, const void *right) {
    const struct safetensors_entry *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static void sort_entries(struct safetensors *file) {
    if (file->count > 0) qsort(file->entries, (size_t)file->count, sizeof *file->entries, by_name);
}

/* Maps one more file and adds its tensors. */
static enum lvs_status add_file(struct safetensors *file, const char *path, struct lvs_error *err) {
    file->maps = lvs_realloc(file->maps, ((size_t)file->n_maps + 1) * sizeof *file->maps);
    LVS_TRY(map_open(path, &file->maps[file->n_maps++], err));
    return safetensors_header_read(&file->maps[file->n_maps - 1], &file->entries, &file->count, err);
}

enum lvs_status safetensors_open(const char *path, struct safetensors **out, struct lvs_error *err) {
    struct safetensors *file = lvs_calloc(1, sizeof *file);
    enum lvs_status status = add_file(file, path, err);
    if (status != LVS_OK) {
        safetensors_close(file);
        return status;
    }
    sort_entries(file);
    *out = file;
    return LVS_OK;
}

void safetensors_close(struct safetensors *file) {
    if (!file) return;
    for (int32_t i = 0; i < file->count; i++)
        free((void *)file->entries[i].name);
    for (int32_t i = 0; i < file->n_maps; i++)
        if (file->maps[i].bytes) munmap((void *)file->maps[i].bytes, file->maps[i].length);
    free(file->entries);
    free(file->maps);
    free(file);
}

/* ---- shards ---- */

/* A bare file name: an index may not lead out of its folder. Links in the folder itself are the owner's (a Hugging Face
 * cache is made of them). */
static bool name_is_bare(const char *name) {
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           strlen(name) < 256;
}

static int by_text(const void *left, const void *right) {
    const char *const *a = left, *const *b = right;
    return strcmp(*a, *b);
}

/* The files named in weight_map, each once, sorted; the texts belong to the JSON tree. */
static enum lvs_status list_shards(const char *index, json_t *weight_map, const char ***out, int32_t *count,
                                   struct lvs_error *err) {
    const char **names = lvs_malloc((json_object_size(weight_map) + 1) * sizeof *names);
    size_t n = 0;
    const char *tensor;
    json_t *value;
    *out = names;
    json_object_foreach(weight_map, tensor, value) {
        char text[PRINTABLE_MAX], place[PRINTABLE_MAX];
        const char *name = json_string_value(value);
        if (!name || !name_is_bare(name))
            return lvs_fail(err, LVS_INPUT, "%s: weight_map: \"%s\" lies in \"%s\"; only a bare file name is allowed",
                            index, json_printable(tensor, text), name ? json_printable(name, place) : "(not text)");
        names[n++] = name;
    }
    qsort(names, n, sizeof *names, by_text);
    *count = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0) names[(*count)++] = names[i];
    if (*count == 0 || *count > SHARDS_MAX)
        return lvs_fail(err, LVS_INPUT, "%s: weight_map names %d files; 1 to %d are allowed", index, *count,
                        SHARDS_MAX);
    return LVS_OK;
}

/* Drops the tensors that the index places elsewhere (or nowhere) of those read since `first`. */
static void keep_mapped(struct safetensors *file, int32_t first, json_t *weight_map, const char *shard) {
    int32_t kept = first;
    for (int32_t i = first; i < file->count; i++) {
        const char *place = json_string_value(json_object_get(weight_map, file->entries[i].name));
        if (place && strcmp(place, shard) == 0)
            file->entries[kept++] = file->entries[i];
        else
            free((void *)file->entries[i].name);
    }
    file->count = kept;
}

static enum lvs_status check_all_found(const struct safetensors *file, const char *index, json_t *weight_map,
                                       struct lvs_error *err) {
    const char *tensor;
    json_t *value;
    json_object_foreach(weight_map, tensor, value) {
        char text[PRINTABLE_MAX], place[PRINTABLE_MAX];
        if (!safetensors_find(file, tensor))
            return lvs_fail(err, LVS_INPUT, "%s: tensor \"%s\" is not in %s as the index says", index,
                            json_printable(tensor, text), json_printable(json_string_value(value), place));
    }
    return LVS_OK;
}

static enum lvs_status open_shards(struct safetensors *file, const char *folder, const char *index, json_t *weight_map,
                                   struct lvs_error *err) {
    const char **shards = NULL;
    int32_t n_shards = 0;
    enum lvs_status status = list_shards(index, weight_map, &shards, &n_shards, err);
    for (int32_t i = 0; status == LVS_OK && i < n_shards; i++) {
        char path[LVS_PATH_MAX];
        int32_t first = file->count;
        status = file_join(path, folder, shards[i], err);
        if (status == LVS_OK) status = add_file(file, path, err);
        if (status == LVS_OK) keep_mapped(file, first, weight_map, shards[i]);
    }
    free(shards);
    LVS_TRY(status);
    sort_entries(file);
    return check_all_found(file, index, weight_map, err);
}

static enum lvs_status open_index(const char *folder, const char *index, struct safetensors **out,
                                  struct lvs_error *err) {
    json_t *root;
    LVS_TRY(json_file_read(index, INDEX_MAX_BYTES, &root, err));
    json_t *weight_map = json_object_get(root, "weight_map");
    struct safetensors *file = lvs_calloc(1, sizeof *file);
    enum lvs_status status = json_is_object(weight_map)
                                 ? open_shards(file, folder, index, weight_map, err)
                                 : lvs_fail(err, LVS_INPUT, "%s: no \"weight_map\" object in it", index);
    json_decref(root);
    if (status == LVS_OK)
        *out = file;
    else
        safetensors_close(file);
    return status;
}

enum lvs_status safetensors_missing(const char *folder, struct lvs_error *err) {
    return lvs_fail(err, LVS_INPUT,
                    "%s: no model.safetensors and no model.safetensors.index.json there; weights in other formats "
                    "(pytorch_model.bin, GGUF) are not read: save the model with save_pretrained",
                    folder);
}

enum lvs_status safetensors_open_folder(const char *folder, struct safetensors **out, struct lvs_error *err) {
    char whole[LVS_PATH_MAX], index[LVS_PATH_MAX];
    LVS_TRY(file_join(whole, folder, "model.safetensors", err));
    LVS_TRY(file_join(index, folder, "model.safetensors.index.json", err));
    if (file_exists(whole)) return safetensors_open(whole, out, err);
    if (file_exists(index)) return open_index(folder, index, out, err);
    return safetensors_missing(folder, err);
}

/* ---- lookup ---- */

int32_t safetensors_count(const struct safetensors *file) {
    return file->count;
}

const struct safetensors_entry *safetensors_at(const struct safetensors *file, int32_t index) {
    return index >= 0 && index < file->count ? &file->entries[index] : NULL;
}

const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name) {
    if (file->count == 0) return NULL;
    struct safetensors_entry key = {.name = name};
    return bsearch(&key, file->entries, (size_t)file->count, sizeof key, by_name);
}
