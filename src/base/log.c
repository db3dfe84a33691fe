/* Log lines: formatted whole and written by one call, so that ranks do not mix within a line. */
#include "lvsweep/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static int current_rank = -1;
static struct log_tail *current_tail;

void log_set_rank(int rank) {
    current_rank = rank;
}

void log_set_tail(struct log_tail *tail) {
    current_tail = tail;
}

static void keep_line(struct log_tail *tail, const char *line, size_t length) {
    size_t used = tail->length <= sizeof tail->text ? tail->length : 0;
    if (length > sizeof tail->text) length = sizeof tail->text;
    while (used + length > sizeof tail->text) {
        const char *end = memchr(tail->text, '\n', used);
        size_t dropped = end ? (size_t)(end - tail->text) + 1 : used;
        memmove(tail->text, tail->text + dropped, used - dropped);
        used -= dropped;
    }
    memcpy(tail->text + used, line, length);
    tail->length = (uint32_t)(used + length);
}

static enum log_level level_now(void) {
    static bool known;
    static enum log_level level = LOG_LEVEL_INFO;
    if (known) return level;
    known = true;
    const char *wanted = getenv("LVSWEEP_LOG");
    for (int i = 0; wanted && i <= LOG_LEVEL_DEBUG; i++)
        if (strcmp(wanted, level_names[i]) == 0) level = (enum log_level)i;
    return level;
}

static void log_line(enum log_level level, const char *format, va_list arguments) {
    if (level > level_now()) return;
    char line[4096];
    int used = current_rank < 0 ? snprintf(line, sizeof line, "lvsweep: ")
                                : snprintf(line, sizeof line, "lvsweep[%d]: ", current_rank);
    if (level != LOG_LEVEL_INFO) used += snprintf(line + used, sizeof line - (size_t)used, "%s: ", level_names[level]);
    int text = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, arguments);
    size_t length = (size_t)used + (text > 0 ? (size_t)text : 0);
    if (length > sizeof line - 2) length = sizeof line - 2;
    line[length++] = '\n';
    if (current_tail) keep_line(current_tail, line, length);
    ssize_t ignored = write(STDERR_FILENO, line, length);
    (void)ignored;
}

#define LOG_FUNCTION(name, level)           \
    void name(const char *format, ...) {    \
        va_list arguments;                  \
        va_start(arguments, format);        \
        log_line(level, format, arguments); \
        va_end(arguments);                  \
    }
LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
