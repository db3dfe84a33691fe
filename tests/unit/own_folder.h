/* A folder of a test's own, empty at first, under TMPDIR. A program that cannot have one ends. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "lvsweep/file.h"

static inline void own_folder_make(char out[LVS_PATH_MAX]) {
    const char *base = getenv("TMPDIR");
    snprintf(out, LVS_PATH_MAX, "%s/lvsweep-test-XXXXXX", base && *base ? base : "/tmp");
    if (mkdtemp(out)) return;
    perror(out);
    abort();
}

/* With all that is in it. */
static inline void own_folder_remove(const char *folder) {
    char command[LVS_PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) fprintf(stderr, "%s is left\n", folder);
}
