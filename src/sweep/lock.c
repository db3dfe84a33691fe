/* One sweep an output folder. OUTPUT/lock names the owner; its modification time is a heartbeat. Only link,
 * rename and times are used, which NFS keeps; a lock is stale when its owner is known to be dead, when the same job was
 * restarted, or when the heartbeat is older than LOCK_STALE_SECONDS. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lvsweep/fault.h"
#include "lvsweep/hash.h"
#include "lvsweep/log.h"
#include "sweep_internal.h"

#define LOCK_STALE_SECONDS  120.0
#define LOCK_BEAT_SECONDS   20.0
#define LOCK_TEXT_MAX_BYTES 4096
#define LOCK_ATTEMPTS       20 /* 100 ms apart: a killed owner may still be on its way out */

struct lock_owner {
    char host[64], boot[64], job[64];
    long pid;
    long long start; /* of the process, clock ticks since boot; 0 = not known */
    int restart;
    double since, beat; /* seconds since 1970 */
    bool known;         /* false: the lock is there and does not say whose it is */
};

static void read_line(const char *path, char *out, size_t capacity) {
    FILE *file = fopen(path, "r");
    out[0] = '\0';
    if (!file) return;
    if (fgets(out, (int)capacity, file)) out[strcspn(out, "\n")] = '\0';
    fclose(file);
}

/* When a living process of this machine started, in clock ticks since boot; 0 = it is gone, or dead and not yet reaped.
 */
static long long process_start(long pid) {
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    read_line(path, line, sizeof line);
    const char *rest = strrchr(line, ')'); /* the name before it may hold anything */
    char state = 'X';
    long long start = 0;
    if (!rest || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lld",
                        &state, &start) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : start;
}

static bool process_is_gone(const struct lock_owner *owner) {
    if (owner->pid <= 0 || !file_exists("/proc/self/stat")) return false;
    long long start = process_start(owner->pid);
    return start == 0 || (owner->start > 0 && start != owner->start);
}

static struct lock_owner own_identity(void) {
    struct lock_owner own = {.pid = (long)getpid(), .since = clock_now()};
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    gethostname(own.host, sizeof own.host - 1);
    read_line("/proc/sys/kernel/random/boot_id", own.boot, sizeof own.boot);
    lvs_copy(own.job, sizeof own.job, job ? job : "");
    own.restart = restart ? atoi(restart) : 0;
    own.start = process_start(own.pid);
    return own;
}

static void parse_owner(const char *text, struct lock_owner *out) {
    json_t *document = json_loads(text, 0, NULL);
    const char *host = "", *boot = "", *job = "";
    json_int_t pid = 0, start = 0;
    out->known = json_unpack(document, "{s:s, s:I, s?s, s?s, s?I, s?i, s?F}", "host", &host, "pid", &pid, "boot", &boot,
                             "job", &job, "start", &start, "restart", &out->restart, "since", &out->since) == 0;
    if (out->known) {
        lvs_copy(out->host, sizeof out->host, host);
        lvs_copy(out->boot, sizeof out->boot, boot);
        lvs_copy(out->job, sizeof out->job, job);
        out->pid = (long)pid;
        out->start = start;
    }
    json_decref(document);
}

/* false = there is no lock. */
static bool read_owner(const char *path, struct lock_owner *out) {
    struct stat info;
    struct lvs_error ignored;
    char *text = NULL;
    size_t length;
    memset(out, 0, sizeof *out);
    if (stat(path, &info) != 0) return false;
    out->beat = (double)info.st_mtim.tv_sec + 1e-9 * (double)info.st_mtim.tv_nsec;
    out->since = out->beat;
    if (file_read(path, LOCK_TEXT_MAX_BYTES, &text, &length, &ignored) == LVS_OK) parse_owner(text, out);
    free(text);
    return true;
}

/* Why the lock may be broken, or NULL when its owner may be alive. */
static const char *stale_reason(const struct lock_owner *owner, const struct lock_owner *own) {
    bool same_host = strcmp(owner->host, own->host) == 0;
    if (same_host && owner->boot[0] && strcmp(owner->boot, own->boot) != 0) return "its machine was restarted";
    if (same_host && process_is_gone(owner)) return "its process is gone";
    if (own->job[0] && strcmp(owner->job, own->job) == 0 && own->restart > owner->restart)
        return "its job was requeued and this is the restart";
    if (own->since - owner->beat > LOCK_STALE_SECONDS) return "its heartbeat is older than two minutes";
    return NULL;
}

static enum lvs_status refuse(const char *path, const struct lock_owner *owner, struct lvs_error *err) {
    char since[32];
    double age = clock_now() - owner->beat;
    if (!owner->known)
        return lvs_fail(err, LVS_OUTPUT,
                        "%s: the lock cannot be read (empty, damaged, or no file of this program), so nobody knows "
                        "whether another lvsweep works on this output; it was last touched %.0f s ago. The same "
                        "command takes it over when that is more than two minutes; if certainly nobody works here, "
                        "add --break-lock (exit 6)",
                        path, age > 0 ? age : 0);
    time_t start = (time_t)owner->since;
    strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S", localtime(&start));
    return lvs_fail(
        err, LVS_OUTPUT,
        "%s: another lvsweep works on this output: host %s, pid %ld%s%s, since %s, last heartbeat %.0f s ago. "
        "Wait for it, choose another --output, or, if it is certainly dead, add --break-lock (exit 6)",
        path, owner->host, owner->pid, owner->job[0] ? ", job " : "", owner->job, since, age);
}

/* The lock is written aside and linked to its name: it never exists without its owner in it. */
static enum lvs_status write_owner(const char *path, const struct lock_owner *own, struct lvs_error *err) {
    char text[LOCK_TEXT_MAX_BYTES];
    int fd = fault_fails("lock_open") ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return lvs_fail(err, LVS_OUTPUT, "%s: cannot create: %s", path, strerror(errno));
    int length = snprintf(text, sizeof text,
                          "{\"host\": \"%s\", \"pid\": %ld, \"start\": %lld, \"boot\": \"%s\", \"job\": \"%s\", "
                          "\"restart\": %d, \"since\": %.3f}\n",
                          own->host, own->pid, own->start, own->boot, own->job, own->restart, own->since);
    bool written = !fault_fails("lock_write") && write(fd, text, (size_t)length) == length && fsync(fd) == 0;
    int reason = errno;
    close(fd);
    return written ? LVS_OK : lvs_fail(err, LVS_OUTPUT, "%s: cannot write: %s", path, strerror(reason));
}

static enum lvs_status create(const char *path, const struct lock_owner *own, bool *exists, struct lvs_error *err) {
    char aside[LVS_PATH_MAX + 32];
    snprintf(aside, sizeof aside, "%s.new.%ld", path, own->pid);
    enum lvs_status status = write_owner(aside, own, err);
    bool linked = status == LVS_OK && !fault_fails("lock_link") && link(aside, path) == 0;
    *exists = status == LVS_OK && !linked && errno == EEXIST;
    if (status == LVS_OK && !linked && !*exists)
        status = lvs_fail(err, LVS_OUTPUT, "%s: cannot create: %s", path, strerror(errno));
    unlink(aside);
    return status;
}

/* Two starters may both find the lock stale; the slower one would rename the faster one's new lock. What was renamed is
 * looked at again, and put back when it is not the stale one. */
static void break_stale(const char *path, const struct lock_owner *stale, long own_pid) {
    char aside[LVS_PATH_MAX + 32];
    struct lock_owner renamed;
    snprintf(aside, sizeof aside, "%s.stale.%ld", path, own_pid);
    if (rename(path, aside) != 0) return;
    bool same = read_owner(aside, &renamed) && renamed.pid == stale->pid && renamed.since == stale->since &&
                strcmp(renamed.host, stale->host) == 0;
    if (!same && link(aside, path) != 0) log_warning("%s: cannot put a live lock back: %s", path, strerror(errno));
    unlink(aside);
}

/* What killed runs of this output left half made. */
static void remove_leftovers(const char *output) {
    static const char *const prefixes[] = {"lock.new.", "lock.stale.", RESULTS_FILE ".tmp.", "best.new"};
    DIR *entries = opendir(output);
    if (!entries) return;
    for (struct dirent *entry; (entry = readdir(entries));) {
        char path[LVS_PATH_MAX];
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            if (strncmp(entry->d_name, prefixes[i], strlen(prefixes[i])) == 0 &&
                file_join(path, output, entry->d_name, NULL) == LVS_OK)
                unlink(path);
    }
    closedir(entries);
}

enum lvs_status lock_take(const char *output, bool force, struct sweep_lock *out, struct lvs_error *err) {
    struct lock_owner own = own_identity(), owner;
    *out = (struct sweep_lock){0};
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, output, "lock", err));
    for (int attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
        bool exists;
        LVS_TRY(create(path, &own, &exists, err));
        if (!exists) {
            lvs_copy(out->path, sizeof out->path, path);
            out->beat = clock_steady();
            remove_leftovers(output);
            return LVS_OK;
        }
        if (!read_owner(path, &owner)) continue; /* it was released meanwhile */
        const char *reason = force ? "--break-lock was given" : stale_reason(&owner, &own);
        if (!reason && owner.known && strcmp(owner.host, own.host) != 0) break;
        if (!reason) { /* an owner on its way out; what cannot be read may be gone, or whole, at the next look */
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
            continue;
        }
        if (owner.known)
            log_warning("%s of host %s, pid %ld is broken: %s", path, owner.host, owner.pid, reason);
        else
            log_warning("%s, which cannot be read, is broken: %s", path, reason);
        break_stale(path, &owner, own.pid);
    }
    return refuse(path, &owner, err);
}

void lock_beat(struct sweep_lock *lock) {
    double now = clock_steady();
    if (!lock->path[0] || now - lock->beat < LOCK_BEAT_SECONDS) return;
    lock->beat = now;
    fault_hit("lock_beat");
    utimensat(AT_FDCWD, lock->path, NULL, 0);
}

void lock_release(struct sweep_lock *lock) {
    if (lock->path[0]) {
        fault_hit("lock_release");
        unlink(lock->path);
    }
    lock->path[0] = '\0';
}

void lock_fingerprint(const char *output, char out[LVS_HASH_TEXT]) {
    char path[LVS_PATH_MAX], *text;
    size_t length;
    struct lvs_error ignored;
    out[0] = '\0';
    if (file_join(path, output, "lock", &ignored) != LVS_OK) return;
    if (file_read(path, LOCK_TEXT_MAX_BYTES, &text, &length, &ignored) != LVS_OK) return;
    hash_bytes(text, length, out);
    free(text);
}

enum lvs_status lock_check_shared(const char *output, const char *fingerprint, struct lvs_error *err) {
    char own[LVS_HASH_TEXT], host[64] = "";
    for (int attempt = 0; attempt < 50; attempt++) { /* 5 s: another node's new file may take a moment to be seen */
        lock_fingerprint(output, own);
        if (strcmp(own, fingerprint) == 0) return LVS_OK;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    gethostname(host, sizeof host - 1);
    return lvs_fail(
        err, LVS_LAUNCH,
        "launch: %s on %s is not the folder that rank 0 writes to: its lock is not there. Choose an --output "
        "on a file system that all nodes share (exit 7)",
        output, host);
}
