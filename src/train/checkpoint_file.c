/* The two checkpoint files of a trial: which of them is whole, which is newest, which is written next. Knows nothing of
 * a device. A file that is torn, foreign or of another key is as good as absent; why is said at debug level only,
 * because the other file, or starting again, is the remedy. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lvsweep/file.h"
#include "lvsweep/hash.h"
#include "lvsweep/log.h"
#include "train_internal.h"

#define CHECKPOINT_MAGIC "LVSCKPT1"

static enum lvs_status checkpoint_path(const char *folder, int which, char path[LVS_PATH_MAX], struct lvs_error *err) {
    char name[32];
    snprintf(name, sizeof name, "checkpoint.%d", which);
    return file_join(path, folder, name, err);
}

/* All 40 bytes of the field, so that a change in any byte of the header shows. */
static void header_hash(const struct checkpoint_header *header, char out[sizeof header->header_hash]) {
    struct checkpoint_header copy = *header;
    memset(copy.header_hash, 0, sizeof copy.header_hash);
    memset(out, 0, sizeof copy.header_hash);
    hash_bytes(&copy, sizeof copy, out);
}

int64_t checkpoint_payload_bytes(const struct checkpoint_header *header) {
    int64_t vectors, total;
    if (header->n_floats < 0 || header->step < 0 || header->extra_bytes < 0) return -1;
    if (__builtin_mul_overflow(header->n_floats, 3 * (int64_t)sizeof(float), &vectors)) return -1;
    if (__builtin_add_overflow(vectors, 2 * (int64_t)sizeof(float) * header->step, &total)) return -1;
    if (__builtin_add_overflow(total, header->extra_bytes, &total)) return -1;
    return total;
}

void checkpoint_seal(struct checkpoint_header *header, char *bytes) {
    memcpy(header->magic, CHECKPOINT_MAGIC, sizeof header->magic);
    header->payload_bytes = checkpoint_payload_bytes(header);
    hash_bytes(bytes + sizeof *header, (size_t)header->payload_bytes, header->payload_hash);
    header_hash(header, header->header_hash);
    memcpy(bytes, header, sizeof *header);
}

/* NULL when the header is one of ours and of the key, else what is wrong with it. */
static const char *header_fault(const struct checkpoint_header *header, const char *train_key, int64_t file_bytes) {
    char hash[sizeof header->header_hash];
    if (memcmp(header->magic, CHECKPOINT_MAGIC, sizeof header->magic) != 0) return "not a checkpoint of this version";
    header_hash(header, hash);
    if (memcmp(hash, header->header_hash, sizeof hash) != 0) return "the header's checksum is wrong";
    if (strcmp(header->train_key, train_key) != 0) return "another trial's";
    int64_t payload = checkpoint_payload_bytes(header);
    if (payload < 0 || payload != header->payload_bytes) return "sizes do not agree";
    if (file_bytes - (int64_t)sizeof *header != payload) return "cut short";
    return NULL;
}

static bool read_header(const char *path, const char *train_key, struct checkpoint_header *header) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno != ENOENT) log_debug("%s: skipped: %s", path, strerror(errno));
        return false;
    }
    struct stat info;
    const char *fault = "shorter than a header";
    if (fstat(fd, &info) == 0 && read(fd, header, sizeof *header) == (ssize_t)sizeof *header)
        fault = header_fault(header, train_key, (int64_t)info.st_size);
    close(fd);
    if (fault) log_debug("%s: skipped: %s", path, fault);
    return fault == NULL;
}

/* Header and payload, both checked. */
static bool read_whole(const char *path, const char *train_key, struct checkpoint_file *file) {
    struct lvs_error reason = {0};
    size_t length = 0;
    char hash[LVS_HASH_TEXT];
    *file = (struct checkpoint_file){0};
    if (!read_header(path, train_key, &file->header)) return false;
    size_t expected = sizeof file->header + (size_t)file->header.payload_bytes;
    if (file_read(path, expected, &file->bytes, &length, &reason) != LVS_OK) {
        log_debug("skipped: %s", reason.text);
        return false;
    }
    bool whole = length == expected && memcmp(file->bytes, &file->header, sizeof file->header) == 0;
    if (whole) hash_bytes(file->bytes + sizeof file->header, (size_t)file->header.payload_bytes, hash);
    if (whole && memcmp(hash, file->header.payload_hash, sizeof hash) == 0) return true;
    log_debug("%s: skipped: the content's checksum is wrong", path);
    free(file->bytes);
    *file = (struct checkpoint_file){0};
    return false;
}

/* More steps are newer: they can be repeated to the bit, so a higher step is never worse. */
static bool is_newer(const struct checkpoint_header *a, const struct checkpoint_header *b) {
    return a->step != b->step ? a->step > b->step : a->sequence > b->sequence;
}

bool checkpoint_newest(const char *folder, const char *train_key, struct checkpoint_file *file) {
    bool found = false;
    for (int which = 0; which < 2; which++) {
        char path[LVS_PATH_MAX];
        struct checkpoint_file other;
        if (checkpoint_path(folder, which, path, NULL) != LVS_OK || !read_whole(path, train_key, &other)) continue;
        if (found && !is_newer(&other.header, &file->header)) {
            free(other.bytes);
            continue;
        }
        if (found) free(file->bytes);
        *file = other;
        found = true;
    }
    return found;
}

enum lvs_status checkpoint_next(const char *folder, const char *train_key, char path[LVS_PATH_MAX], uint64_t *sequence,
                                struct lvs_error *err) {
    struct checkpoint_header header[2];
    bool good[2];
    *sequence = 1;
    for (int which = 0; which < 2; which++) {
        LVS_TRY(checkpoint_path(folder, which, path, err));
        good[which] = read_header(path, train_key, &header[which]);
        if (good[which] && header[which].sequence >= *sequence) *sequence = header[which].sequence + 1;
    }
    int target = !good[0] ? 0 : !good[1] ? 1 : is_newer(&header[0], &header[1]);
    return checkpoint_path(folder, target, path, err);
}
