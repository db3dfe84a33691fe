/* The parts of `lvsweep check`: the account, the files, and what a resume would do. Each prints what it found and
 * returns the number of problems, told on standard error. Nothing is written. */
#pragma once
#include "cli_internal.h"

struct check {
    const char *output;
    struct results results;
    struct config *config; /* as the last run had it; NULL when it no longer parses */
};

/* One problem, one line. */
int32_t check_problem(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Journal and ledger: every line's checksum, and charges and reservations added up anew, event by event. */
int32_t check_ledger(const struct check *check);
/* Curves, forecast and adapter of every finished trial; results.h5. */
int32_t check_files(const struct check *check);
/* Drives the coordinator over what is known and says which trials a run of `config` would start, and why. *status is
 * LVS_BUDGET when a whole stage is cut, or no hours are left. */
int32_t check_resume(const struct config *config, const struct results *known, enum lvs_status *status);
