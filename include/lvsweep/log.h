/* Log lines on standard error, one write a line: "lvsweep[3]: warning: …". Not for results or tables (standard output).
 */
#pragma once
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Lines above `level` are dropped; the default is LOG_LEVEL_INFO, or what LVSWEEP_LOG names (error|warning|info|debug).
 */
void log_set_level(enum log_level level);

/* The number shown in brackets: the MPI rank, or -1 for none. */
void log_set_rank(int rank);

/* The last lines that a process logged, where another can read them after its death (shared memory). */
struct log_tail {
    uint32_t length;
    char text[1024]; /* whole lines, the oldest dropped first */
};
/* Lines are kept in `tail` too from now on; NULL = no longer. One process writes. */
void log_set_tail(struct log_tail *tail);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
