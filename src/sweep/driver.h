/* Rank 0's loop: messages become events, actions become journal lines and messages. Owns the journal and the results.
 */
#pragma once
#include "sweep_internal.h"

/* When the sweep stops itself. */
struct deadline {
    double at;       /* of the steady clock, INFINITY = never */
    const char *cap; /* "hours" or "gpu_hours" of [budget], whose end that is; NULL = the job's end or time_limit */
    double hours;    /* the cap's value */
};

struct outgoing {
    int32_t worker;
    struct assignment *assignment; /* owned */
};

struct driver {
    const struct sweep_options *options;
    const struct config *config;
    struct sweep_facts *facts;
    struct coordinator *coordinator;
    struct results results;
    struct journal *journal;
    struct sweep_lock *lock;
    const struct lost_steps *lost; /* to be journaled at the start */
    const struct setup *setup;     /* what workers are given; place differs */
    int32_t n_workers, first_rank; /* worker w is rank first_rank + w */
    struct worker *local;          /* rank 0's own worker, NULL without */
    struct message *inbox;         /* the local worker's messages, in order */
    int32_t n_inbox, inbox_capacity;
    struct outgoing *outgoing;
    int32_t n_outgoing, outgoing_capacity;
    struct worker_hello *hellos;     /* [n_workers] */
    bool *has_hello, *is_lost;       /* [n_workers] */
    struct progress *progress;       /* [n_workers] last words */
    double started, published, told; /* of the steady clock; told: progress was journaled */
    double *busy_since;              /* [n_workers] when its assignment went out, likewise; 0 = it has none */
    double busy_seconds;             /* of all workers with an assignment, those that ended */
    double publish_seconds;          /* that the last publication took */
    struct time_used earlier;        /* by the runs before this one */
    struct deadline deadline;
    int32_t n_retries, n_settled;
    bool gave_up;           /* nothing succeeded anywhere */
    bool stopping, changed; /* changed: something to publish */
    bool used_up;           /* stopping, because a cap on the time of all runs was reached */
    enum lvs_status fatal;
    struct lvs_error fatal_error;
};

/* Journals an event and applies it to the table. */
enum lvs_status driver_note(struct driver *driver, struct journal_event *event, struct lvs_error *err);
/* Carries out the coordinator's actions: journal lines now, assignments queued until the journal is on disk. */
enum lvs_status driver_carry_out(struct driver *driver, const struct coordinator_action *actions, int32_t n,
                                 struct lvs_error *err);
/* Runs until the sweep is finished, stopped or broken. */
enum lvs_status driver_loop(struct driver *driver, struct lvs_error *err);

/* ---- lost_steps.c: of trials that were running when a job ended as a whole ---- */
struct lost_item {
    int32_t trial;
    int64_t lost, charged; /* FLOPs */
    struct record record;  /* as it stands with them */
};
struct lost_steps {
    struct lost_item *item; /* [n], owned */
    int32_t n;
};
/* Enters them into the known results; the same is to be journaled. */
void lost_steps_find(struct results *known, enum lost_mode mode, struct lost_steps *out);
enum lvs_status lost_steps_note(struct driver *driver, const struct lost_steps *lost, struct lvs_error *err);
void lost_steps_free(struct lost_steps *lost);

/* ---- sweep_prepare.c ---- */
struct prepared {
    struct config *config;
    struct sweep_facts *facts;
    struct results known; /* replayed from an earlier run; n_rows = 0 without */
    struct lost_steps lost;
    bool resumes;
    struct sweep_lock lock;
    int64_t worker_bytes; /* host memory that one CPU worker needs for the largest trial of the plan */
};
enum lvs_status sweep_prepare(const struct sweep_options *options, struct prepared *out, struct lvs_error *err);
/* LVS_LAUNCH, naming workers × need, when this node's memory cannot hold its workers. */
enum lvs_status sweep_check_memory(const struct prepared *prepared, int32_t local_workers, struct lvs_error *err);
void prepared_free(struct prepared *prepared);
void prepared_setup(const struct sweep_options *options, const struct prepared *prepared, struct setup *out);

/* ---- sweep_worker.c ---- */
/* Completes a rank's own place: worker number, threads, device. */
enum lvs_status sweep_find_place(struct setup *setup, const struct config *config, int32_t local_index,
                                 int32_t local_count, struct lvs_error *err);
struct message sweep_wait_for_message(void);
/* Serves until rank 0 says END; its payload, which is returned, says whether results.h5 is to be written together. */
int32_t sweep_work(int32_t local_index, int32_t local_count);

/* ---- provenance.c ---- */
enum lvs_status provenance_note(struct driver *driver, struct lvs_error *err);
enum lvs_status provenance_note_worker(struct driver *driver, int32_t worker, struct lvs_error *err);

/* ---- progress.c: what a person sees while it runs ---- */
void progress_line(const struct driver *driver, bool last);
void progress_settled(const struct driver *driver, const struct trial *trial, const struct record *record);

/* ---- deadline.c: INFINITY = none ---- */
/* For a run of n_workers that started at `started` of the steady clock, after runs that took `earlier`. */
struct deadline deadline_find(const struct config *config, const struct time_used *earlier, double started,
                              int32_t n_workers);
/* LVS_BUDGET in words when earlier runs have used [budget] hours or gpu_hours up. */
enum lvs_status deadline_check(const struct config *config, const struct time_used *earlier, struct lvs_error *err);
/* What `scontrol show job` says of the end, in seconds since 1970. */
double deadline_parse_job(const char *text);
/* A tenth of the time before the end, at most `most` seconds. */
double deadline_before(double started, double end, double most);

/* ---- stop requests (signals) ---- */
/* Before MPI: a USR1 that comes while it starts is remembered, where it would end the process by default. */
void stop_remember(void);
void stop_install(bool coordinates);
bool stop_requested(void);
