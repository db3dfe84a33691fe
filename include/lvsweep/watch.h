/* A running sweep at a glance, from its journal alone: who runs what, the best so far, FLOPs spent and left, when it
 * will be done. Safe beside the running sweep: nothing is written and a torn last line is left out. */
#pragma once
#include "lvsweep/results.h"

/* A worker that has been seen. */
struct watch_worker {
    int32_t worker; /* rank */
    int32_t trial;  /* row that it runs, the first of a pack; -1 = idle */
    int32_t n_trials;
    int32_t step, n_steps;   /* step -1 = not told yet */
    double steps_per_second; /* NaN = not known */
    double loss;             /* of the last step that was told; NaN = not told */
    double since;            /* seconds since 1970 UTC: start of the trial, or end of the last one */
    char host[64], device[96];
};

struct watch {
    struct results results; /* owned */
    int32_t n_workers;
    struct watch_worker *workers; /* [n_workers] by rank, owned */
    int32_t count[TRIAL_STATUS_COUNT];
    int64_t damaged_line; /* of the journal's end, which is left out; 0 = none */
    int32_t best;         /* row, -1 = none */
    double best_value;
    double flops_done;     /* charged, and what running trials have done */
    double flops_open;     /* reserved and not yet done */
    double eta, eta_error; /* seconds for flops_open from the last event on; NaN = not known */
};

/* LVS_INPUT when there is no journal or it is corrupt. Free with watch_free. */
enum lvs_status watch_read(const char *output, struct watch *out, struct lvs_error *err);
void watch_free(struct watch *watch);

/* The table of a terminal `width` columns wide with at most `height` lines (0 = as many as it takes). `now` in seconds
 * since 1970 UTC. Texts of the journal are printed without control characters. */
void watch_write_table(const struct watch *watch, double now, int32_t width, int32_t height, struct strbuf *out);
/* One line for each trial whose status differs from `before` (NULL = none was known). */
void watch_write_changes(const struct watch *before, const struct watch *watch, struct strbuf *out);
/* One line: state, trials by status, FLOPs, best, ETA, where the first few workers are. */
void watch_write_line(const struct watch *watch, struct strbuf *out);
/* One JSON object on one line; unknown numbers are null. */
void watch_write_json(const struct watch *watch, double now, struct strbuf *out);
