/* Files: whole reads, and writes that are either complete or absent (written aside, fsync, rename, fsync of the
 * folder). */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "lvsweep/status.h"

#define LVS_PATH_MAX 1024

/* Reads the whole file (at most `limit` bytes) into malloc'd memory with a NUL after it. */
enum lvs_status file_read(const char *path, size_t limit, char **bytes, size_t *length, struct lvs_error *err);
/* Replaces `path` by the bytes in one step. LVS_OUTPUT on failure; `path` is then as it was. */
enum lvs_status file_write_whole(const char *path, const void *bytes, size_t length, struct lvs_error *err);
/* Ends a file built aside: fsync(temporary), rename to `path`, fsync of its folder. */
enum lvs_status file_publish(const char *temporary, const char *path, struct lvs_error *err);
/* mkdir -p */
enum lvs_status file_make_folder(const char *path, struct lvs_error *err);
/* Removes a folder of files. Folders in it and names that begin with a dot stay, and the folder with them; nothing is
 * said of that. */
void file_remove_folder(const char *path);
/* LVS_OUTPUT in words when there is anything at `path` already, a link to nowhere too. */
enum lvs_status file_check_free(const char *path, struct lvs_error *err);
bool file_exists(const char *path);
bool file_is_folder(const char *path);
/* "folder/name" into out; LVS_USAGE when it does not fit LVS_PATH_MAX. */
enum lvs_status file_join(char out[LVS_PATH_MAX], const char *folder, const char *name, struct lvs_error *err);
/* `path` as seen from `folder` when relative; "~/" is the home folder. */
enum lvs_status file_resolve(char out[LVS_PATH_MAX], const char *folder, const char *path, struct lvs_error *err);
/* The folder part of a path ("." when there is none). */
void file_folder_of(char out[LVS_PATH_MAX], const char *path);
