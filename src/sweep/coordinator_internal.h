/* The coordinator's state, shared by its files: events (coordinator.c), who gets what (coordinator_dispatch.c), stages
 * (coordinator_stage.c), the phases of a stage (coordinator_phase.c), rungs (coordinator_rungs.c), trends
 * (coordinator_trend.c), one trial again (coordinator_rerun.c) and the trials with their look-up
 * (coordinator_trials.c). */
#pragma once
#include "lvsweep/sweep.h"

struct trial_state {
    struct trial trial;
    struct record record;
    int64_t reserved;        /* FLOPs held in the ledger for it */
    int64_t segment;         /* what is reserved for an attempt at its present steps */
    int32_t until;           /* step at which it pauses; 0 = at its end */
    int32_t known_stage;     /* of an earlier run that it was charged in; -1 = none */
    uint32_t stages;         /* bit per stage it belongs to; 0 = of an earlier grid */
    int64_t charged;         /* FLOPs the ledger took for it, in earlier runs too */
    int32_t attempts;        /* sent so far */
    int32_t attempts_before; /* of them, before its present admission */
    int32_t avoid;           /* worker of the failed attempt; -1 = none */
    bool evaluate_only;      /* the weights are known, only the evaluation is new */
    bool queued, admitted;   /* admitted: by this run */
    bool again;              /* --rerun: it begins from nothing when it is admitted */
    int64_t charged_before;  /* of charged, before it was run again */
    bool begun;              /* its training counts as one of trials_cap (of the first row of a train_key) */
    struct rung_list rungs;  /* where it paused, in earlier runs too */
};

enum worker_phase { WORKER_ABSENT, WORKER_IDLE, WORKER_BUSY, WORKER_GONE };
struct worker_state {
    enum worker_phase phase;
    int32_t n_assigned, n_open, failures_in_row;
    bool assignment_failed;           /* its present assignment counts in failures_in_row already */
    int32_t assigned[ASSIGNMENT_MAX]; /* as sent */
    bool open[ASSIGNMENT_MAX];        /* no record yet */
};

/* The cost lies beside the row: the rows themselves are too far apart to be compared in a sort of many. */
struct queued_trial {
    __int128 cost; /* planned FLOPs */
    int32_t row;
};

#define TRIALS_A_BLOCK 512
#define NARROW_LEADING 3 /* points of the second pass */
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
    int32_t best, best_point;     /* best_point: the row whose settings the next stage takes */
    int32_t n_axes, *axis_values; /* of the stage's points, [n_points · n_axes]; the points are its first rows */
    char axis_name[STAGE_AXES_MAX][32];
    int32_t n_points, wave, n_waves;   /* trend_skip: values of the first axis, one after another */
    int32_t rung, n_rungs;             /* halving: the rung that is run to; n_rungs = the ends */
    int32_t *contenders, n_contenders; /* rows that are still in the race, in enumeration order */
    bool narrowed;                     /* the second pass has been opened */
    int32_t n_begun;                   /* trainings that were ever begun, for trials_cap */
    int32_t n_failed_first;            /* trials whose first attempt failed, while nothing succeeded */

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
/* Whether trials_cap lets the row's training begin, or it has begun already; an evaluation alone is never held back. */
bool coordinator_may_begin(const struct coordinator *coordinator, int32_t row);
void coordinator_begin(struct coordinator *coordinator, int32_t row);
/* What the ledger is charged for a record. */
int64_t coordinator_counted(const struct coordinator *coordinator, const struct record *record);

/* ---- queue ---- */
void coordinator_enqueue(struct coordinator *coordinator, int32_t row);
int32_t coordinator_dequeue(struct coordinator *coordinator); /* the longest; the queue must not be empty */

/* ---- dispatch ---- */
/* The worker, whose phase is WORKER_IDLE, can take an assignment. */
void dispatch_idle(struct coordinator *coordinator, int32_t worker);
/* Sends waiting trials to idle workers, one ACTION_ASSIGN each, until one of both runs out; nothing while stopping. */
void dispatch_queued(struct coordinator *coordinator);

/* ---- stages ---- */
/* Opens stages from `stage` on until one has work to do or none is left. */
enum lvs_status coordinator_open_stages(struct coordinator *coordinator, int32_t stage, struct lvs_error *err);
/* Goes on with the stage when nothing of it is open: its next phase, else the next stage. */
enum lvs_status coordinator_end_stage_if_done(struct coordinator *coordinator, struct lvs_error *err);
/* A known row that needs no further run. */
bool coordinator_is_settled(const struct coordinator *coordinator, const struct trial_state *state);
/* Adds a point to the stage: its row, a member. *to_run: it is not settled and waits nowhere. */
int32_t coordinator_place(struct coordinator *coordinator, const struct trial *point, bool *to_run);
/* What the stage may still spend: of the budget and of its share; negative = no limit. `charged` was spent by it. */
__int128 coordinator_room(const struct coordinator *coordinator, __int128 charged);
/* Rows are admitted in order as the budget allows; the others are cut. */
void coordinator_admit_rows(struct coordinator *coordinator, const int32_t *rows, int32_t n);
/* Queues a row whose price is reserved already, for its steps up to `until`. */
void coordinator_admit(struct coordinator *coordinator, int32_t row, int32_t until, int64_t price);
void coordinator_cut(struct coordinator *coordinator, int32_t row, enum cut_cause cause);
/* The stage's finished trials (first pass or all) as a table; rows are the caller's to free. */
struct results coordinator_table(const struct coordinator *coordinator);

/* ---- phases ---- */
/* What a stage does with its placed points, [n] of them to run; then, again and again when nothing is open. */
void coordinator_first_phase(struct coordinator *coordinator, const int32_t *to_run, int32_t n);
/* false = the stage is over */
enum lvs_status coordinator_next_phase(struct coordinator *coordinator, bool *opened, struct lvs_error *err);

/* ---- rungs ---- */
/* Rungs of the stage's race: 0 = none. */
int32_t rungs_of_stage(const struct coordinator *coordinator);
void rungs_start(struct coordinator *coordinator, const int32_t *to_run, int32_t n);
/* Decides at the present rung and sends those that go on to the next; false after the last. */
bool rungs_next(struct coordinator *coordinator);
/* The next step of the row's race beyond those where it paused; 0 = its end. */
int32_t rungs_target(const struct coordinator *coordinator, const struct trial_state *state);
/* FLOPs counted for the steps from its last rung up to `until`. */
int64_t rungs_price(const struct coordinator *coordinator, const struct trial_state *state, int32_t until);
/* asha, median: all that is left of a row, with every rung. */
int64_t rungs_price_left(const struct coordinator *coordinator, const struct trial_state *state);
/* asha, median: decides of a paused row at once; it goes on in the queue, or is settled. */
void rungs_decide_now(struct coordinator *coordinator, int32_t row);
bool rungs_at_once(const struct coordinator *coordinator);
static inline int32_t rungs_last_step(const struct trial_state *state) {
    return state->rungs.n > 0 ? state->rungs.rung[state->rungs.n - 1].step : 0;
}
/* FLOPs counted for the row up to its last rung. */
static inline int64_t rungs_charged(const struct trial_state *state) {
    return state->rungs.n > 0 ? state->rungs.rung[state->rungs.n - 1].flops : 0;
}

/* ---- trends ---- */
/* Why a point of a later wave is not worth running; false = it is. */
bool trend_is_hopeless(const struct coordinator *coordinator, int32_t point, char *why, size_t capacity);
