/* Rank 0's loop: messages become events, actions become journal lines and messages. Owns the journal and the results.
 */
#pragma once
#include "sweep_internal.h"

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
    const struct setup *setup;     /* what workers are given; place differs */
    int32_t n_workers, first_rank; /* worker w is rank first_rank + w */
    struct worker *local;          /* rank 0's own worker, NULL without */
    struct message *inbox;         /* the local worker's messages, in order */
    int32_t n_inbox, inbox_capacity;
    struct outgoing *outgoing;
    int32_t n_outgoing, outgoing_capacity;
    struct worker_hello *hellos;                   /* [n_workers] */
    bool *has_hello, *is_lost;                     /* [n_workers] */
    struct progress *progress;                     /* [n_workers] last words */
    double started, published, told, busy_seconds; /* told: progress was journaled */
    double deadline;                               /* seconds since 1970 at which the sweep stops itself, resumable */
    int32_t n_retries, n_settled;
    bool gave_up;           /* nothing succeeded anywhere */
    bool stopping, changed; /* changed: something to publish */
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

/* ---- sweep_prepare.c ---- */
struct prepared {
    struct config *config;
    struct sweep_facts *facts;
    struct results known; /* replayed from an earlier run; n_rows = 0 without */
    bool resumes;
    struct sweep_lock lock;
    int64_t worker_bytes; /* host memory that one CPU worker needs for the largest trial of the plan */
};
/* Launch mistakes that the environment shows. */
enum lvs_status sweep_check_launch(struct lvs_error *err);
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

/* ---- stop requests (signals) ---- */
void stop_install(bool coordinates);
bool stop_requested(void);
