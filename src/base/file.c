/* Whole reads and all-or-nothing writes. */
#include "lvsweep/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lvsweep/fault.h"
#include "lvsweep/strbuf.h"

static enum lvs_status read_into(int fd, const char *path, char *bytes, size_t length, struct lvs_error *err) {
    size_t done = 0;
    while (done < length) {
        ssize_t got = read(fd, bytes + done, length - done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return lvs_fail(err, LVS_INPUT, "%s: cannot read: %s", path, got ? strerror(errno) : "file shrank");
        done += (size_t)got;
    }
    bytes[length] = '\0';
    return LVS_OK;
}

enum lvs_status file_read(const char *path, size_t limit, char **bytes, size_t *length, struct lvs_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lvs_fail(err, LVS_INPUT, "%s: cannot open: %s", path, strerror(errno));
    struct stat info;
    enum lvs_status status = LVS_OK;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        status = lvs_fail(err, LVS_INPUT, "%s: not a regular file", path);
    else if ((uint64_t)info.st_size > limit)
        status = lvs_fail(err, LVS_INPUT, "%s: %lld bytes, more than the %zu allowed here", path,
                          (long long)info.st_size, limit);
    if (status == LVS_OK) {
        *length = (size_t)info.st_size;
        *bytes = lvs_malloc(*length + 1);
        status = read_into(fd, path, *bytes, *length, err);
        if (status != LVS_OK) {
            free(*bytes);
            *bytes = NULL;
        }
    }
    close(fd);
    return status;
}

static enum lvs_status sync_folder_of(const char *path, struct lvs_error *err) {
    char folder[LVS_PATH_MAX];
    file_folder_of(folder, path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return lvs_fail(err, LVS_OUTPUT, "%s: cannot open folder: %s", folder, strerror(errno));
    int failed = fault_fsync("folder_sync", fd) != 0 && errno != EINVAL && errno != EROFS;
    close(fd);
    return failed ? lvs_fail(err, LVS_OUTPUT, "%s: fsync: %s", folder, strerror(errno)) : LVS_OK;
}

enum lvs_status file_publish(const char *temporary, const char *path, struct lvs_error *err) {
    int fd = open(temporary, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lvs_fail(err, LVS_OUTPUT, "%s: cannot open: %s", temporary, strerror(errno));
    int failed = fault_fsync("file_sync", fd) != 0;
    int reason = errno;
    close(fd);
    if (failed) return lvs_fail(err, LVS_OUTPUT, "%s: fsync: %s", temporary, strerror(reason));
    if (fault_rename("file_rename", temporary, path) != 0)
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot replace: %s", path, strerror(errno));
    return sync_folder_of(path, err);
}

static enum lvs_status write_all(int fd, const char *path, const char *bytes, size_t length, struct lvs_error *err) {
    size_t done = 0;
    while (done < length) {
        ssize_t put = fault_write("file_write", fd, bytes + done, length - done);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return lvs_fail(err, LVS_OUTPUT, "%s: cannot write: %s", path, strerror(errno));
        done += (size_t)put;
    }
    return LVS_OK;
}

/* Of the file that was asked for, not of the one beside it. */
static enum lvs_status cannot_create(const char *path, int reason, struct lvs_error *err) {
    char folder[LVS_PATH_MAX];
    file_folder_of(folder, path);
    if (reason == ENOENT && !file_exists(folder))
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot create: there is no folder %s", path, folder);
    return lvs_fail(err, LVS_OUTPUT, "%s: cannot create: %s", path, strerror(reason));
}

enum lvs_status file_write_whole(const char *path, const void *bytes, size_t length, struct lvs_error *err) {
    char temporary[LVS_PATH_MAX + 32];
    snprintf(temporary, sizeof temporary, "%s.tmp.%ld", path, (long)getpid());
    int fd = fault_fails("file_open") ? -1 : open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return cannot_create(path, errno, err);
    enum lvs_status status = write_all(fd, path, bytes, length, err);
    if (close(fd) != 0 && status == LVS_OK)
        status = lvs_fail(err, LVS_OUTPUT, "%s: cannot close: %s", path, strerror(errno));
    if (status == LVS_OK) status = file_publish(temporary, path, err);
    if (status != LVS_OK) unlink(temporary);
    return status;
}

enum lvs_status file_make_folder(const char *path, struct lvs_error *err) {
    char part[LVS_PATH_MAX];
    if (strlen(path) >= sizeof part) return lvs_fail(err, LVS_USAGE, "%s: path too long", path);
    for (size_t i = 1; path[i - 1]; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if ((fault_fails("folder_make") || mkdir(part, 0777) != 0) && errno != EEXIST)
            return lvs_fail(err, LVS_OUTPUT, "%s: cannot make folder: %s", part, strerror(errno));
        if (path[i] == '\0') break;
    }
    if (!file_is_folder(path)) return lvs_fail(err, LVS_OUTPUT, "%s: exists and is not a folder", path);
    return LVS_OK;
}

void file_remove_folder(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char file[LVS_PATH_MAX];
        if (entry->d_name[0] != '.' && file_join(file, path, entry->d_name, NULL) == LVS_OK) unlink(file);
    }
    closedir(folder);
    rmdir(path);
}

enum lvs_status file_check_free(const char *path, struct lvs_error *err) {
    struct stat info;
    if (lstat(path, &info) == 0)
        return lvs_fail(err, LVS_OUTPUT, "%s: exists already; give a new folder, or remove it first", path);
    return LVS_OK;
}

bool file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

bool file_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

enum lvs_status file_join(char out[LVS_PATH_MAX], const char *folder, const char *name, struct lvs_error *err) {
    int length = snprintf(out, LVS_PATH_MAX, "%s/%s", folder, name);
    if (length < 0 || length >= LVS_PATH_MAX)
        return lvs_fail(err, LVS_USAGE, "%s/%s: path longer than %d characters", folder, name, LVS_PATH_MAX - 1);
    return LVS_OK;
}

enum lvs_status file_resolve(char out[LVS_PATH_MAX], const char *folder, const char *path, struct lvs_error *err) {
    const char *home = getenv("HOME");
    if (path[0] == '~' && path[1] == '/' && home) return file_join(out, home, path + 2, err);
    if (path[0] != '/' && strcmp(folder, ".") != 0 && folder[0]) return file_join(out, folder, path, err);
    if (strlen(path) >= LVS_PATH_MAX) return lvs_fail(err, LVS_USAGE, "%s: path too long", path);
    lvs_copy(out, LVS_PATH_MAX, path);
    return LVS_OK;
}

void file_folder_of(char out[LVS_PATH_MAX], const char *path) {
    lvs_copy(out, LVS_PATH_MAX, path);
    char *slash = strrchr(out, '/');
    if (!slash)
        lvs_copy(out, LVS_PATH_MAX, ".");
    else if (slash == out)
        out[1] = '\0';
    else
        *slash = '\0';
}
