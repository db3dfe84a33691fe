/* The coordinator's state, shared by its three files: events (coordinator.c), stages (coordinator_stage.c) and the
 * trials with their look-up (coordinator_trials.c). */
#pragma once
#include "lvsweep/sweep.h"

struct trial_state {
    struct trial trial;
    struct record record;
    int64_t reserved;        /* FLOPs held in the ledger for it */
    uint32_t stages;         /* bit per stage it belongs to; 0 = of an earlier grid */
    int64_t charged;         /* FLOPs the ledger took for it, in earlier runs too */
    int32_t attempts;        /* sent so far */
    int32_t attempts_before; /* of them, before its present admission */
    int32_t avoid;           /* worker of the failed attempt; -1 = none */
    bool evaluate_only;      /* the weights are known, only the evaluation is new */
    bool queued, admitted;   /* admitted: by this run */
};

enum worker_phase { WORKER_ABSENT, WORKER_IDLE, WORKER_BUSY, WORKER_GONE };
struct worker_state {
    enum worker_phase phase;
    int32_t n_assigned, n_open, failures_in_row;
    int32_t assigned[ASSIGNMENT_MAX]; /* as sent */
    bool open[ASSIGNMENT_MAX];        /* no record yet */
};

/* The cost lies beside the row: the rows themselves are too far apart to be compared in a sort of many. */
struct queued_trial {
    __int128 cost; /* planned FLOPs */
    int32_t row;
};

#define TRIALS_A_BLOCK 512
struct coordinator {
    struct coordinator_options options;
    double *stage_share;
    bool *stage_from_best;
    struct planner planner;
    struct ledger ledger;

    struct trial_state **blocks; /* [n_blocks] of TRIALS_A_BLOCK: a row never moves, however many come after it */
    int32_t n_trials, n_blocks;
    int32_t *by_eval_key, *by_train_key; /* open addressing, -1 = free */
    uint32_t table_size;                 /* a power of two */

    int32_t stage;       /* current one; -1 before the start */
    int32_t *stage_rows; /* [n_stage_rows] trials of the stage in enumeration order */
    int32_t n_stage_rows, n_open;
    struct queued_trial *queue; /* [n_queue] heap of waiting trials, longest first */
    int32_t n_queue, queue_capacity;
    int32_t best;
    int32_t n_run;          /* trials admitted so far, for trials_cap */
    int32_t n_failed_first; /* trials whose first attempt failed, while nothing succeeded */

    struct worker_state *workers;
    int32_t *idle; /* ring of idle workers, oldest first */
    int32_t idle_head, n_idle, n_busy, n_alive;
    bool any_success, stopping, finished;

    struct coordinator_action *actions;
    int32_t n_actions, actions_capacity;
};

struct coordinator_action *coordinator_emit(struct coordinator *coordinator, enum coordinator_action_kind kind);

/* ---- trials ---- */
static inline struct trial_state *coordinator_at(const struct coordinator *c, int32_t row) {
    return &c->blocks[row / TRIALS_A_BLOCK][row % TRIALS_A_BLOCK];
}
/* Room in the look-up tables for n trials in all. */
void coordinator_expect_trials(struct coordinator *coordinator, int64_t n);
int32_t coordinator_append(struct coordinator *coordinator, const struct trial *trial);
/* Row of a key, or -1. */
int32_t coordinator_find_eval(const struct coordinator *coordinator, const char *eval_key);
int32_t coordinator_find_train(const struct coordinator *coordinator, const char *train_key);
/* What the ledger is charged for a record. */
int64_t coordinator_counted(const struct coordinator *coordinator, const struct record *record);

/* ---- queue ---- */
void coordinator_enqueue(struct coordinator *coordinator, int32_t row);
int32_t coordinator_dequeue(struct coordinator *coordinator); /* the longest; the queue must not be empty */

/* ---- stages ---- */
/* Opens stages from `stage` on until one has work to do or none is left. */
enum lvs_status coordinator_open_stages(struct coordinator *coordinator, int32_t stage, struct lvs_error *err);
/* Ends the stage when nothing of it is open, and opens the next. */
enum lvs_status coordinator_end_stage_if_done(struct coordinator *coordinator, struct lvs_error *err);
