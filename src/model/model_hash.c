/* The identity of a checkpoint: a hash over config.json and every weight file's content, not over names or times of the
 * folder. A file that was hashed before and has not changed size or time since is not read again. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

#define INDEX_MAX_BYTES (64u << 20)
#define REMEMBERED      64 /* files; later ones are simply read each time */

struct remembered {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified;
    char hash[LVS_HASH_TEXT];
};

static struct {
    pthread_mutex_t lock;
    struct remembered files[REMEMBERED];
    int32_t count;
} memory = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool is_same(const struct remembered *file, const struct stat *info) {
    return file->device == info->st_dev && file->inode == info->st_ino && file->size == info->st_size &&
           file->modified.tv_sec == info->st_mtim.tv_sec && file->modified.tv_nsec == info->st_mtim.tv_nsec;
}

static bool recall(const struct stat *info, char out[LVS_HASH_TEXT]) {
    bool found = false;
    pthread_mutex_lock(&memory.lock);
    for (int32_t i = 0; i < memory.count && !found; i++)
        if (is_same(&memory.files[i], info)) {
            memcpy(out, memory.files[i].hash, LVS_HASH_TEXT);
            found = true;
        }
    pthread_mutex_unlock(&memory.lock);
    return found;
}

static void remember(const struct stat *info, const char hash[LVS_HASH_TEXT]) {
    pthread_mutex_lock(&memory.lock);
    if (memory.count < REMEMBERED) {
        struct remembered *file = &memory.files[memory.count++];
        *file = (struct remembered){
            .device = info->st_dev, .inode = info->st_ino, .size = info->st_size, .modified = info->st_mtim};
        memcpy(file->hash, hash, LVS_HASH_TEXT);
    }
    pthread_mutex_unlock(&memory.lock);
}

/* Appends "name hash\n". */
static enum lvs_status add_file(const char *folder, const char *name, struct strbuf *out, struct lvs_error *err) {
    char path[LVS_PATH_MAX], hash[LVS_HASH_TEXT];
    struct stat info;
    LVS_TRY(file_join(path, folder, name, err));
    if (stat(path, &info) != 0) return lvs_fail(err, LVS_INPUT, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) return lvs_fail(err, LVS_INPUT, "%s: not a regular file", path);
    if (!recall(&info, hash)) {
        LVS_TRY(hash_file(path, hash, err));
        remember(&info, hash);
    }
    strbuf_printf(out, "%s %s\n", name, hash);
    return LVS_OK;
}

static int by_text(const void *left, const void *right) {
    const char *const *a = left, *const *b = right;
    return strcmp(*a, *b);
}

/* Every shard once, in order of its name. */
static enum lvs_status add_shards(const char *folder, const json_t *weight_map, struct strbuf *out,
                                  struct lvs_error *err) {
    const char **names = lvs_malloc((json_object_size(weight_map) + 1) * sizeof *names);
    size_t n = 0;
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)weight_map, tensor, value) {
        const char *name = json_string_value(value);
        if (name && !strchr(name, '/')) names[n++] = name;
    }
    qsort(names, n, sizeof *names, by_text);
    enum lvs_status status = LVS_OK;
    for (size_t i = 0; i < n && status == LVS_OK; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0) status = add_file(folder, names[i], out, err);
    free(names);
    return status;
}

static enum lvs_status add_weights(const char *folder, struct strbuf *out, struct lvs_error *err) {
    char whole[LVS_PATH_MAX], index[LVS_PATH_MAX];
    LVS_TRY(file_join(whole, folder, "model.safetensors", err));
    if (file_exists(whole)) return add_file(folder, "model.safetensors", out, err);
    LVS_TRY(file_join(index, folder, "model.safetensors.index.json", err));
    if (!file_exists(index)) return safetensors_missing(folder, err);
    json_t *root;
    LVS_TRY(json_file_read(index, INDEX_MAX_BYTES, &root, err));
    enum lvs_status status = add_file(folder, "model.safetensors.index.json", out, err);
    if (status == LVS_OK) status = add_shards(folder, json_object_get(root, "weight_map"), out, err);
    json_decref(root);
    return status;
}

enum lvs_status model_hash(const char *folder, char out[LVS_HASH_TEXT], struct lvs_error *err) {
    struct strbuf list;
    strbuf_init(&list);
    enum lvs_status status = add_file(folder, "config.json", &list, err);
    if (status == LVS_OK) status = add_weights(folder, &list, err);
    if (status == LVS_OK) hash_bytes(list.text, list.length, out);
    strbuf_free(&list);
    return status;
}
