/* Status codes and error texts: every module returns `enum lvs_status` and writes the words into the caller's box.
 * The codes are the program's exit codes; library code never exits. */
#pragma once

enum lvs_status {
    LVS_OK = 0,
    LVS_BUG = 1,           /* a broken invariant of our own */
    LVS_USAGE = 2,         /* command line or configuration */
    LVS_FAILED_TRIALS = 3, /* the sweep ended, some trials failed or diverged */
    LVS_BUDGET = 4,        /* the budget cannot hold the plan, or its hours are used up */
    LVS_INPUT = 5,         /* model or data refused */
    LVS_OUTPUT = 6,        /* output not writable */
    LVS_LAUNCH = 7,        /* launch or environment: MPI, devices, memory */
    LVS_INTERRUPTED = 75,  /* stopped on request, resumable */
};

/* The caller's box for an error: words for a person, complete with place and way out. */
struct lvs_error {
    enum lvs_status status;
    char text[8192]; /* all errors of an INI come at once */
};

/* Writes the text (printf rules) and returns `status`, so that `return lvs_fail(…)` is one line. `err` may be NULL. */
enum lvs_status lvs_fail(struct lvs_error *err, enum lvs_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the text already in `err` and returns its status. */
enum lvs_status lvs_error_prefix(struct lvs_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define LVS_TRY(call)                                          \
    do {                                                       \
        enum lvs_status lvs_try_status_ = (call);              \
        if (lvs_try_status_ != LVS_OK) return lvs_try_status_; \
    } while (0)
