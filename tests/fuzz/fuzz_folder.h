/* A folder for readers that take a folder: in memory where the system has such a place, removed at the end. */
#pragma once
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lvsweep/strbuf.h"

static inline void fuzz_folder_make(char folder[64]) {
    strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/lvs-fuzz-XXXXXX" : "/tmp/lvs-fuzz-XXXXXX");
    if (!mkdtemp(folder)) abort();
}

static inline void fuzz_folder_put(const char *folder, const char *name, const void *bytes, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) abort();
}

static inline void fuzz_folder_remove(const char *folder) {
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        unlink(path);
    }
    if (entries) closedir(entries);
    rmdir(folder);
}
