/* OUTPUT/journal.jsonl: append-only, one JSON object a line with a number and a checksum, the truth of a sweep. Knows
 * lines and files; what events mean is results.c's. Invariant: everything before the end of the last good line is as
 * it was written, and nothing after it was, or the journal is refused: it may have been the result of a trial. */
#include "results_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "lvsweep/clock.h"
#include "lvsweep/fault.h"
#include "lvsweep/log.h"

/* ---- lines ---- */

#define CHECK_START    ",\"crc\":\""
#define CHECK_BYTES    (sizeof CHECK_START - 1 + 16 + 2) /* ,"crc":"0123456789abcdef"} */
#define LINE_MAX_BYTES ((size_t)1 << 28)

static void check_text(const char *bytes, size_t length, char out[CHECK_BYTES + 1]) {
    snprintf(out, CHECK_BYTES + 1, CHECK_START "%016llx\"}", (unsigned long long)XXH64(bytes, length, 0));
}

/* `line` without its newline: does its end hold the checksum of the rest? */
static bool line_is_whole(const char *line, size_t length) {
    if (length <= CHECK_BYTES) return false;
    char check[CHECK_BYTES + 1];
    check_text(line, length - CHECK_BYTES, check);
    return memcmp(line + length - CHECK_BYTES, check, CHECK_BYTES) == 0;
}

#define HOLE_BYTES 512 /* a sector */

/* A bad line with its end: where a write was torn it is empty, or holds zeros for sectors that never came to the disk.
 * Any other was whole once. */
static bool line_was_whole(const char *line, size_t length) {
    size_t zeros = 0;
    for (size_t i = 0; i < length && zeros < HOLE_BYTES; i++)
        zeros = line[i] ? 0 : zeros + 1;
    return length > 0 && zeros < HOLE_BYTES;
}

/* A reader of lines: replays good ones, remembers where the first bad one was. */
struct scan {
    const char *path;
    journal_visitor apply;
    void *context;
    int64_t line;        /* lines seen */
    int64_t bad_line;    /* first bad one, 0 = none */
    bool damaged;        /* one of those was whole once */
    size_t offset, good; /* bytes seen; bytes of good lines */
    int64_t n_good;      /* good lines */
    struct strbuf held;  /* lines that count only with the next one, each with its '\n' */
    int32_t n_held;
    struct journal_scratch scratch;
};

static void scan_free(struct scan *scan) {
    free(scan->scratch.texts);
    strbuf_free(&scan->held);
}

static enum lvs_status scan_event(struct scan *scan, const char *line, size_t length, int64_t number,
                                  struct lvs_error *err) {
    struct journal_event event;
    enum lvs_status status = journal_event_read(line, length - CHECK_BYTES, &event, &scan->scratch, err);
    if (status == LVS_OK && event.number != number)
        status = lvs_fail(err, LVS_INPUT, "the line carries number %lld; lines are missing or were added",
                          (long long)event.number);
    if (status == LVS_OK && scan->apply) status = scan->apply(scan->context, &event, err);
    if (status != LVS_OK) lvs_error_prefix(err, "%s:%lld", scan->path, (long long)number);
    return status;
}

/* A record counts only with the line after it, which charges the ledger: torn between the two, the result would have
 * cost nothing. So do a rung, whose charge or consequence follows. */
static bool waits_for_next(const char *line, size_t length) {
    static const char *const kinds[] = {"\"e\":\"record\"", "\"e\":\"rung\""};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        size_t n = strlen(kinds[k]);
        for (size_t i = 0; i < 64 && i + n <= length; i++)
            if (memcmp(line + i, kinds[k], n) == 0) return true;
    }
    return false;
}

/* The lines that waited for line number `next`. */
static enum lvs_status scan_held(struct scan *scan, int64_t next, struct lvs_error *err) {
    const char *line = scan->held.text;
    size_t left = scan->held.length;
    for (int64_t number = next - scan->n_held; number < next; number++) {
        size_t length = (size_t)((const char *)memchr(line, '\n', left) - line);
        LVS_TRY(scan_event(scan, line, length, number, err));
        line += length + 1;
        left -= length + 1;
    }
    strbuf_clear(&scan->held);
    scan->n_held = 0;
    return LVS_OK;
}

static enum lvs_status scan_line(struct scan *scan, const char *line, size_t length, struct lvs_error *err) {
    scan->line++;
    scan->offset += length + 1;
    if (!line_is_whole(line, length)) {
        if (!scan->bad_line) scan->bad_line = scan->line;
        scan->damaged = scan->damaged || line_was_whole(line, length);
        return LVS_OK;
    }
    if (scan->bad_line)
        return lvs_fail(err, LVS_INPUT,
                        "%s:%lld: the line does not match its checksum and good lines follow; the journal was damaged "
                        "or edited. Restore it from a copy, or start anew with --fresh",
                        scan->path, (long long)scan->bad_line);
    if (waits_for_next(line, length)) {
        strbuf_add_bytes(&scan->held, line, length);
        strbuf_add(&scan->held, "\n");
        scan->n_held++;
        return LVS_OK;
    }
    LVS_TRY(scan_held(scan, scan->line, err));
    LVS_TRY(scan_event(scan, line, length, scan->line, err));
    scan->good = scan->offset;
    scan->n_good = scan->line;
    return LVS_OK;
}

/* All whole lines of bytes[length]; *used = bytes of them. */
static enum lvs_status scan_lines(struct scan *scan, const char *bytes, size_t length, size_t *used,
                                  struct lvs_error *err) {
    *used = 0;
    for (const char *end; (end = memchr(bytes + *used, '\n', length - *used));) {
        size_t line = (size_t)(end - (bytes + *used));
        LVS_TRY(scan_line(scan, bytes + *used, line, err));
        *used += line + 1;
    }
    return LVS_OK;
}

/* What is left after the last '\n': half a line, unless its '\n' is another byte now. `end` NULL: damage is refused. */
static enum lvs_status scan_end(struct scan *scan, const char *rest, size_t length, struct journal_end *end,
                                struct lvs_error *err) {
    bool damaged = scan->damaged || (length > 0 && line_is_whole(rest, length - 1));
    int64_t line = scan->bad_line ? scan->bad_line : scan->line + 1;
    if (end) *end = (struct journal_end){.good = scan->good, .damaged_line = damaged ? line : 0};
    if (end || !damaged) return LVS_OK;
    return lvs_fail(err, LVS_INPUT,
                    "%s:%lld: the end of the journal does not match its checksum and was no torn write: it was damaged "
                    "or edited. Restore the journal from a copy; without one, sed -i '%lld,$d' %s cuts the end off, "
                    "and what it said happens again: a trial whose result that was runs again",
                    scan->path, (long long)line, (long long)line, scan->path);
}

enum lvs_status journal_replay_bytes(const char *path, const char *bytes, size_t length, journal_visitor apply,
                                     void *context, struct journal_end *end, struct lvs_error *err) {
    struct scan scan = {.path = path, .apply = apply, .context = context};
    size_t used = 0;
    enum lvs_status status = length ? scan_lines(&scan, bytes, length, &used, err) : LVS_OK;
    if (status == LVS_OK) status = scan_end(&scan, bytes + used, length - used, end, err);
    scan_free(&scan);
    return status;
}

/* ---- reading a file ---- */

static enum lvs_status scan_file(struct scan *scan, int fd, struct journal_end *end, struct lvs_error *err) {
    size_t capacity = (size_t)1 << 20, held = 0;
    char *buffer = lvs_malloc(capacity);
    enum lvs_status status = LVS_OK;
    while (status == LVS_OK) {
        if (held == capacity) {
            if (capacity >= LINE_MAX_BYTES) break; /* no line of ours: a torn tail of one piece */
            buffer = lvs_realloc(buffer, capacity *= 2);
        }
        ssize_t got = read(fd, buffer + held, capacity - held);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) status = lvs_fail(err, LVS_INPUT, "%s: cannot read: %s", scan->path, strerror(errno));
        if (got <= 0) break;
        held += (size_t)got;
        size_t used;
        status = scan_lines(scan, buffer, held, &used, err);
        memmove(buffer, buffer + used, held -= used);
    }
    if (status == LVS_OK) status = scan_end(scan, buffer, held, end, err);
    free(buffer);
    return status;
}

enum lvs_status journal_replay(const char *path, journal_visitor apply, void *context, struct journal_end *end,
                               struct lvs_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lvs_fail(err, LVS_INPUT, "%s: cannot open: %s", path, strerror(errno));
    struct scan scan = {.path = path, .apply = apply, .context = context};
    enum lvs_status status = scan_file(&scan, fd, end, err);
    close(fd);
    scan_free(&scan);
    return status;
}

void journal_warn_of(const char *path, const struct journal_end *end) {
    if (end->damaged_line)
        log_warning(
            "%s:%lld: the end of the journal does not match its checksum and is left out here: it was damaged or "
            "edited, and no run goes on from it (lvsweep check says more)",
            path, (long long)end->damaged_line);
}

/* ---- appending ---- */

struct journal {
    char path[LVS_PATH_MAX];
    int fd;
    off_t length;    /* bytes that are written and synced */
    int64_t n_lines; /* of them, and the queued ones */
    bool dirty;      /* a failed write may have left bytes beyond `length` */
    struct strbuf queue;
};

static enum lvs_status cut_tail(struct journal *journal, const struct scan *scan, off_t size, struct lvs_error *err) {
    journal->length = (off_t)scan->good;
    if (size == journal->length) return LVS_OK;
    log_warning("%s: a torn end was cut off (%lld bytes after line %lld)", journal->path,
                (long long)(size - journal->length), (long long)journal->n_lines);
    if (fault_fails("journal_cut") || ftruncate(journal->fd, journal->length) != 0 || fsync(journal->fd) != 0)
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot cut off its torn end: %s", journal->path, strerror(errno));
    return LVS_OK;
}

static enum lvs_status journal_load(struct journal *journal, journal_visitor apply, void *context,
                                    struct lvs_error *err) {
    struct scan scan = {.path = journal->path, .apply = apply, .context = context};
    struct stat info;
    if (fstat(journal->fd, &info) != 0 || !S_ISREG(info.st_mode))
        return lvs_fail(err, LVS_OUTPUT, "%s: not a regular file", journal->path);
    enum lvs_status status = scan_file(&scan, journal->fd, NULL, err);
    scan_free(&scan);
    if (status != LVS_OK) return status;
    if (fstat(journal->fd, &info) != 0)
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot stat: %s", journal->path, strerror(errno));
    journal->n_lines = scan.n_good;
    return cut_tail(journal, &scan, info.st_size, err);
}

static enum lvs_status sync_folder(const char *path, struct lvs_error *err) {
    char folder[LVS_PATH_MAX];
    file_folder_of(folder, path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool failed = fd < 0 || (fsync(fd) != 0 && errno != EINVAL && errno != EROFS);
    int reason = errno;
    if (fd >= 0) close(fd);
    return failed ? lvs_fail(err, LVS_OUTPUT, "%s: cannot sync: %s", folder, strerror(reason)) : LVS_OK;
}

enum lvs_status journal_open(const char *path, journal_visitor apply, void *context, struct journal **out,
                             struct lvs_error *err) {
    *out = NULL;
    if (strlen(path) >= LVS_PATH_MAX) return lvs_fail(err, LVS_USAGE, "%s: path too long", path);
    int fd = fault_fails("journal_open") ? -1 : open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return lvs_fail(err, LVS_OUTPUT, "%s: cannot open for writing: %s", path, strerror(errno));
    struct journal *journal = lvs_calloc(1, sizeof *journal);
    journal->fd = fd;
    lvs_copy(journal->path, sizeof journal->path, path);
    strbuf_init(&journal->queue);
    enum lvs_status status = journal_load(journal, apply, context, err);
    if (status == LVS_OK && journal->length == 0) status = sync_folder(path, err);
    if (status == LVS_OK) {
        *out = journal;
        return LVS_OK;
    }
    close(fd);
    strbuf_free(&journal->queue);
    free(journal);
    return status;
}

enum lvs_status journal_append(struct journal *journal, struct journal_event *event, struct lvs_error *err) {
    if (event->kind < 0 || event->kind >= JOURNAL_KIND_COUNT)
        return lvs_fail(err, LVS_BUG, "journal event of unknown kind %d", event->kind);
    event->number = ++journal->n_lines;
    if (event->time == 0) event->time = clock_now();
    size_t start = journal->queue.length;
    journal_event_write(event, &journal->queue);
    char check[CHECK_BYTES + 1];
    check_text(journal->queue.text + start, journal->queue.length - start, check);
    strbuf_add_bytes(&journal->queue, check, CHECK_BYTES);
    strbuf_add_bytes(&journal->queue, "\n", 1);
    return LVS_OK;
}

static enum lvs_status journal_write(struct journal *journal, struct lvs_error *err) {
    const char *bytes = journal->queue.text;
    size_t left = journal->queue.length;
    while (left > 0) { /* one write() unless the system takes less */
        ssize_t put = fault_write("journal_write", journal->fd, bytes, left);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return lvs_fail(err, LVS_OUTPUT, "%s: cannot write: %s", journal->path, strerror(errno));
        bytes += put;
        left -= (size_t)put;
    }
    if (fault_fails("journal_sync") || fdatasync(journal->fd) != 0)
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot sync: %s", journal->path, strerror(errno));
    return LVS_OK;
}

enum lvs_status journal_flush(struct journal *journal, struct lvs_error *err) {
    if (journal->queue.length == 0) return LVS_OK;
    if (journal->dirty && ftruncate(journal->fd, journal->length) != 0)
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot cut off a torn line: %s", journal->path, strerror(errno));
    journal->dirty = true;
    enum lvs_status status = journal_write(journal, err);
    if (status == LVS_OK) {
        journal->length += (off_t)journal->queue.length;
        strbuf_clear(&journal->queue);
        journal->dirty = false;
    } else if (ftruncate(journal->fd, journal->length) == 0) {
        journal->dirty = false;
    }
    return status;
}

enum lvs_status journal_close(struct journal *journal, struct lvs_error *err) {
    if (!journal) return LVS_OK;
    enum lvs_status status = journal_flush(journal, err);
    if (close(journal->fd) != 0 && status == LVS_OK)
        status = lvs_fail(err, LVS_OUTPUT, "%s: cannot close: %s", journal->path, strerror(errno));
    strbuf_free(&journal->queue);
    free(journal);
    return status;
}
