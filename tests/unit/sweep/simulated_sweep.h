/* The coordinator driven through whole histories without MPI, files or clocks: a synthetic planner and workers whose
 * deaths, refusals and order come from one seed. */
#pragma once
#include "lvsweep/rng.h"
#include "lvsweep/sweep.h"

#define SYNTHETIC_STEPS 100

struct synthetic_grid {
    int32_t points[4];                 /* per stage */
    int64_t price;                     /* of the cheapest trial; point i costs price · (1 + i mod 7) */
    int32_t key_base;                  /* trials of different bases have different keys */
    bool shared_first;                 /* the first point of every later stage equals the best trial */
    int32_t narrow_first, narrow_then; /* of every point; 0 = none */
    int32_t kinds;                     /* of decimals that points have in turn; 0 = one */
};
/* Of a trial after so many steps. */
double synthetic_loss(const struct trial *trial, int32_t step);
struct planner synthetic_planner(struct synthetic_grid *grid);

struct simulation {
    struct coordinator *coordinator;
    struct rng rng;
    double death_rate;   /* chance that an assignment fails in a transient way */
    double diverge_rate; /* chance that a trial diverges */
    double lost_rate;    /* chance that a worker is lost for good */
    int32_t n_workers;
    int32_t bad_workers; /* the first so many fail whatever they are given */
    int32_t stop_after;  /* records after which EVENT_STOP comes; 0 = never */
    /* counted while it runs */
    int64_t n_records, n_assignments, n_admitted, n_settled, n_retries;
    int64_t *row_charged;   /* [settled_capacity] by trial */
    int64_t *row_before;    /* [settled_capacity] of row_charged, before it was run again */
    __int128 spent_before;  /* by earlier runs that were handed over */
    __int128 charged, lost; /* added up from the actions, as the journal is */
    int64_t n_paused, n_stopped;
    bool gave_up, unequal_ledgers, over_cap, double_settled, unknown_assignment;
    bool *settled; /* [capacity] */
    int32_t settled_capacity;
    int32_t *log; /* assigned trials in order, [n_log] */
    int32_t n_log, log_capacity;
};
/* Runs to the end; false when it got stuck. */
bool simulation_run(struct simulation *simulation, struct lvs_error *err);
/* Gives trial `index` of an ended simulation to a new one, as a resume does from the journal. */
void simulation_hand_over(struct simulation *to, const struct simulation *from, int32_t index);
void simulation_free(struct simulation *simulation);
struct coordinator *simulation_coordinator(const struct planner *planner, int32_t n_stages, int32_t n_workers,
                                           double cap, int32_t retries);
/* The same with more to choose: all but shares, from_best, over, n_channel and metric are used. */
struct coordinator *simulation_coordinator_with(const struct planner *planner,
                                                const struct coordinator_options *wanted);
struct simulation simulation_of(const struct planner *planner, const struct coordinator_options *options);
/* A new one that is given every trial of `before`. */
struct simulation simulation_resumed(const struct planner *planner, const struct coordinator_options *options,
                                     const struct simulation *before);
