/* libFuzzer target: any bytes as a safetensors file. Either refused in words, or tensors that lie inside the file, in
 * order of name, each byte of the data in exactly one of them. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lvsweep/model.h"

/* The file lives in memory; its path is the descriptor's. */
static void write_input(int fd, const uint8_t *data, size_t size) {
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
}

static void check(const struct safetensors *file, size_t size) {
    size_t covered = 0;
    uint32_t sum = 0;
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_entry *entry = safetensors_at(file, i);
        if (i > 0 && strcmp(entry->name, safetensors_at(file, i - 1)->name) <= 0) abort();
        if (safetensors_find(file, entry->name) != entry || entry->n_dims < 0 || entry->n_dims > 4) abort();
        for (size_t b = 0; b < entry->bytes; b++)
            sum += ((const uint8_t *)entry->data)[b];
        covered += entry->bytes;
        if ((int)entry->type >= 0 && entry->bytes > 0) {
            float first;
            tensor_to_float(entry->data, entry->type, 1, &first);
            sum += first > 0;
        }
    }
    if (covered + 8 > size || sum == UINT32_MAX) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    write_input(fd, data, size);
    struct safetensors *file = NULL;
    struct lvs_error err = {0};
    enum lvs_status status = safetensors_open(path, &file, &err);
    if (status == LVS_OK) {
        check(file, size);
        safetensors_close(file);
    } else if (status != LVS_INPUT || err.text[0] == '\0') {
        abort();
    }
    return 0;
}
