/* XXH3-128 as text. */
#include "lvsweep/hash.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static void hash_text(XXH128_hash_t hash, char out[LVS_HASH_TEXT]) {
    snprintf(out, LVS_HASH_TEXT, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

void hash_bytes(const void *bytes, size_t length, char out[LVS_HASH_TEXT]) {
    hash_text(XXH3_128bits(bytes, length), out);
}

enum lvs_status hash_file(const char *path, char out[LVS_HASH_TEXT], struct lvs_error *err) {
    FILE *file = fopen(path, "rb");
    if (!file) return lvs_fail(err, LVS_INPUT, "%s: cannot open: %s", path, strerror(errno));
    XXH3_state_t *state = XXH3_createState();
    XXH3_128bits_reset(state);
    char block[1 << 16];
    size_t got;
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        XXH3_128bits_update(state, block, got);
    int failed = ferror(file);
    fclose(file);
    hash_text(XXH3_128bits_digest(state), out);
    XXH3_freeState(state);
    return failed ? lvs_fail(err, LVS_INPUT, "%s: cannot read", path) : LVS_OK;
}
