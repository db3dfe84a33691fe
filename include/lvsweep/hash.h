/* 128-bit content hashes (XXH3) as 32 hexadecimal digits: keys of trials, data and weights. Not cryptographic. */
#pragma once
#include <stddef.h>

#include "lvsweep/status.h"

#define LVS_HASH_TEXT 33 /* 32 digits and the NUL */

void hash_bytes(const void *bytes, size_t length, char out[LVS_HASH_TEXT]);
enum lvs_status hash_file(const char *path, char out[LVS_HASH_TEXT], struct lvs_error *err);
