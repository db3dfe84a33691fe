/* Log lines on standard error, one write a line: "lvsweep[3]: warning: …". Not for results or tables (standard output).
 * LVSWEEP_LOG (error|warning|info|debug, looked at once, by the first line) names the last level that is shown; info
 * else. */
#pragma once
#include <stdint.h>

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
