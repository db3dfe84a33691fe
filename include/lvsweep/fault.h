/* Failpoints: named places where a test makes the program die, or a system call fail, on demand.
 * LVSWEEP_FAULT=point:n:action[,point:n:action …] acts at the n-th passage of the point, counted over a rank and its
 * trainers together, so that a fault comes once and not again in the next trainer. Without the variable a passage costs
 * one test of a static bool. The points are one table (docs/reliability.md); LVSWEEP_FAULT=list prints it, and with
 * LVSWEEP_FAULT=count a rank that ends well says how often it passed each. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum fault_action {
    FAULT_NONE,
    FAULT_KILL,  /* SIGKILL to this process */
    FAULT_EXIT,  /* _exit(99) */
    FAULT_ERROR, /* the call fails with EIO */
    FAULT_FULL,  /* the call fails with ENOSPC */
    FAULT_SHORT, /* half of the bytes are written and reported as written */
    FAULT_TORN,  /* half of the bytes are written, then SIGKILL */
    FAULT_DELAY, /* 50 ms pass */
    FAULT_BREAK, /* the device is given a write to an address that is nobody's */
    FAULT_ACTION_COUNT,
};

extern bool fault_armed; /* set before main; const afterwards */
/* Use fault_hit. An unknown point is a bug and ends the program. */
enum fault_action fault_pass(const char *point);

/* Passes a point. Dying and delays happen inside. FAULT_ERROR, FAULT_FULL (errno is set: act as if the call had
 * failed), FAULT_SHORT and FAULT_BREAK come back where the table has them; otherwise FAULT_NONE. */
static inline enum fault_action fault_hit(const char *point) {
    return fault_armed ? fault_pass(point) : FAULT_NONE;
}
/* true when the call at the point is to fail; errno says why. */
static inline bool fault_fails(const char *point) {
    enum fault_action action = fault_hit(point);
    return action == FAULT_ERROR || action == FAULT_FULL;
}

/* write(), fsync() and rename() with a point in front. */
ssize_t fault_write(const char *point, int fd, const void *bytes, size_t count);
int fault_fsync(const char *point, int fd);
int fault_rename(const char *point, const char *from, const char *to);
