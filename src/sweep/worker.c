/* A worker: passes assignments to its trainer and the trainer's words to rank 0. It never trains; when the trainer dies
 * it says so for every trial that was under way, and starts a new trainer for the next assignment. With in_process the
 * runner is called directly (for debuggers): a crash then ends the rank. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/log.h"
#include "lvsweep/train.h"
#include "sweep_internal.h"

struct worker {
    struct strbuf setup; /* as sent to every new trainer */
    char output[LVS_PATH_MAX];
    bool in_process;
    struct worker_outbox outbox;
    struct trainer_link trainer;
    bool has_trainer, ready; /* ready: the trainer waits for work */
    bool sent;               /* the trainer was given the assignment */
    int32_t idle_deaths;     /* trainers in a row that died without work */
    bool refused;            /* the trainer said why it cannot go on */
    struct assignment *assignment;
    bool settled[ASSIGNMENT_MAX];
    int32_t step[ASSIGNMENT_MAX]; /* last step heard of */
    /* A trainer says where it is about twice a second while it trains; silence for many times the longest gap is a
     * hang. */
    double heard, longest_gap; /* seconds */
    bool training, hung;
    /* in_process */
    struct config *config;
    const struct runner *runner;
    void *state;
    bool stop;
};

static void upward(struct worker *worker, enum message_kind kind, const void *payload, size_t length) {
    worker->outbox.send(worker->outbox.context, kind, payload, length);
}

static void refuse(struct worker *worker, const struct lvs_error *err) {
    worker->refused = true;
    upward(worker, MESSAGE_REFUSED, err, error_bytes(err));
}

/* ---- in this process ---- */

static void direct_progress(void *context, const struct progress *progress) {
    upward(context, MESSAGE_PROGRESS, progress, sizeof *progress);
}

static void direct_record(void *context, const struct record *record, bool transient) {
    struct record_message message = {.record = *record, .transient = transient};
    upward(context, MESSAGE_RECORD, &message, sizeof message);
}

static void direct_baseline(void *context, const struct baseline *baseline) {
    upward(context, MESSAGE_BASELINE, baseline, sizeof *baseline);
}

static bool direct_should_stop(void *context) {
    const struct worker *worker = context;
    return worker->stop;
}

static void hello_direct(struct worker *worker) {
    struct worker_hello hello = {0};
    protocol_host(hello.host, sizeof hello.host);
    worker->runner->describe(worker->state, &hello.device);
    upward(worker, MESSAGE_HELLO, &hello, sizeof hello);
    upward(worker, MESSAGE_READY, NULL, 0);
}

static void run_direct(struct worker *worker) {
    struct runner_sink sink = {.context = worker,
                               .progress = direct_progress,
                               .record = direct_record,
                               .baseline = direct_baseline,
                               .should_stop = direct_should_stop};
    struct lvs_error err = {0};
    if (worker->runner->run(worker->state, worker->assignment, &sink, &err) != LVS_OK) log_error("%s", err.text);
    upward(worker, MESSAGE_READY, NULL, 0);
    free(worker->assignment);
    worker->assignment = NULL;
}

/* ---- through the trainer ---- */

#define IDLE_DEATHS_MOST   3
#define HANG_SECONDS_LEAST 60.0
#define HANG_GAPS          20.0

static double hang_limit(const struct worker *worker) {
    const char *given = getenv("LVSWEEP_HANG_SECONDS");
    double least = given && atof(given) > 0 ? atof(given) : HANG_SECONDS_LEAST;
    double gaps = HANG_GAPS * worker->longest_gap;
    return gaps > least ? gaps : least;
}

static void note_heard(struct worker *worker, const struct message *message) {
    double now = clock_steady(), gap = now - worker->heard;
    if (worker->training && gap > worker->longest_gap) worker->longest_gap = gap;
    worker->heard = now;
    if (message->kind == MESSAGE_PROGRESS)
        worker->training = ((const struct progress *)(const void *)message->payload)->phase == PHASE_TRAINING;
    else
        worker->training = false;
}

static void end_hung_trainer(struct worker *worker) {
    if (!worker->training || worker->hung || clock_steady() - worker->heard < hang_limit(worker)) return;
    worker->hung = true;
    trainer_kill(&worker->trainer, SIGKILL);
}

static enum lvs_status start_trainer(struct worker *worker, struct lvs_error *err) {
    worker->ready = false;
    LVS_TRY(trainer_spawn(&worker->trainer, err));
    worker->has_trainer = true;
    LVS_TRY(trainer_send(&worker->trainer, MESSAGE_SETUP, worker->setup.text, worker->setup.length, err));
    return worker->stop ? trainer_send(&worker->trainer, MESSAGE_STOP, NULL, 0, err) : LVS_OK;
}

static void send_assignment(struct worker *worker) {
    struct lvs_error err = {0};
    worker->ready = false;
    worker->sent = true;
    /* A trainer that died meanwhile is noticed by the next poll. */
    trainer_send(&worker->trainer, MESSAGE_ASSIGNMENT, worker->assignment, assignment_bytes(worker->assignment), &err);
}

static int32_t slot_of_trial(const struct worker *worker, int32_t index) {
    for (int32_t i = 0; worker->assignment && i < worker->assignment->n_trials; i++)
        if (worker->assignment->trials[i].index == index) return i;
    return -1;
}

/* What a new attempt must do again. */
static int32_t steps_beyond_checkpoint(const struct worker *worker, int32_t slot) {
    char folder[LVS_PATH_MAX];
    const struct trial *trial = &worker->assignment->trials[slot];
    int32_t kept = -1;
    if (trial_folder(folder, worker->output, trial->name, NULL) == LVS_OK)
        kept = checkpoint_step(folder, trial->train_key);
    int32_t lost = worker->step[slot] - (kept > 0 ? kept : 0);
    return lost > 0 ? lost : 0;
}

static void report_death(struct worker *worker, const char *cause) {
    if (!worker->assignment) return;
    char lines[256];
    trainer_last_lines(lines, sizeof lines);
    for (int32_t i = 0; i < worker->assignment->n_trials; i++) {
        if (worker->settled[i]) continue;
        const struct trial *trial = &worker->assignment->trials[i];
        struct record_message message = {.transient = 1};
        record_init(&message.record, trial);
        message.record.status = TRIAL_FAILED;
        message.record.steps_done = worker->step[i];
        message.record.flops_lost = (int64_t)steps_beyond_checkpoint(worker, i) * trial->price.step;
        snprintf(message.record.error, sizeof message.record.error,
                 "the trainer process ended by %s at about step %d%s%s", cause, worker->step[i],
                 lines[0] ? "; its last lines: " : "", lines);
        upward(worker, MESSAGE_RECORD, &message, sizeof message);
    }
    free(worker->assignment);
    worker->assignment = NULL;
}

static void trainer_died(struct worker *worker) {
    char cause[96];
    trainer_reap(&worker->trainer, cause, sizeof cause);
    if (worker->hung)
        snprintf(cause, sizeof cause, "us, as it made no step for %.0f s (hang)", clock_steady() - worker->heard);
    worker->hung = worker->training = false;
    worker->has_trainer = false;
    if (worker->refused) return;
    bool had_work = worker->assignment && worker->sent;
    if (had_work) report_death(worker, cause);
    worker->idle_deaths = had_work ? 0 : worker->idle_deaths + 1;
    struct lvs_error err = {0};
    if (worker->idle_deaths >= IDLE_DEATHS_MOST) {
        lvs_fail(&err, LVS_LAUNCH, "%d trainer processes in a row ended before they took any work, the last by %s",
                 worker->idle_deaths, cause);
        refuse(worker, &err);
    } else if (start_trainer(worker, &err) != LVS_OK) {
        refuse(worker, &err);
    }
}

static void take_message(struct worker *worker, const struct message *message) {
    note_heard(worker, message);
    switch (message->kind) {
    case MESSAGE_PROGRESS: {
        const struct progress *progress = (const void *)message->payload;
        int32_t slot = slot_of_trial(worker, progress->trial);
        if (slot >= 0) worker->step[slot] = progress->step;
        break;
    }
    case MESSAGE_RECORD: {
        const struct record_message *record = (const void *)message->payload;
        int32_t slot = slot_of_trial(worker, record->record.index);
        if (slot >= 0) worker->settled[slot] = true;
        break;
    }
    case MESSAGE_READY:
        worker->ready = true;
        if (worker->assignment && !worker->sent) { /* it came while this trainer was starting */
            send_assignment(worker);
            return;
        }
        free(worker->assignment);
        worker->assignment = NULL;
        break;
    case MESSAGE_REFUSED:
        worker->refused = true;
        break;
    default:
        break;
    }
    upward(worker, (enum message_kind)message->kind, message->payload, message->length);
}

/* ---- the worker as others see it ---- */

static enum lvs_status open_direct(struct worker *worker, const struct setup *setup, struct lvs_error *err) {
    LVS_TRY(setup_parse_config(setup, &worker->config, err));
    worker->runner = runner_of(worker->config);
    LVS_TRY(worker->runner->open(worker->config, &setup->head.place, &worker->state, err));
    hello_direct(worker);
    return LVS_OK;
}

enum lvs_status worker_create(const struct setup *setup, const struct worker_outbox *outbox, struct worker **out,
                              struct lvs_error *err) {
    struct worker *worker = lvs_calloc(1, sizeof *worker);
    worker->outbox = *outbox;
    worker->in_process = setup->head.in_process;
    lvs_copy(worker->output, sizeof worker->output, setup->output);
    worker->trainer.socket = -1;
    setup_pack(setup, &worker->setup);
    enum lvs_status status = worker->in_process ? open_direct(worker, setup, err) : start_trainer(worker, err);
    if (status != LVS_OK) {
        worker_destroy(worker);
        return status;
    }
    *out = worker;
    return LVS_OK;
}

void worker_destroy(struct worker *worker) {
    if (!worker) return;
    if (worker->has_trainer) {
        char cause[96];
        struct lvs_error err;
        if (worker->assignment) trainer_send(&worker->trainer, MESSAGE_STOP, NULL, 0, &err);
        trainer_send(&worker->trainer, MESSAGE_END, NULL, 0, &err);
        trainer_reap(&worker->trainer, cause, sizeof cause);
    }
    if (worker->runner && worker->state) worker->runner->close(worker->state);
    config_destroy(worker->config);
    strbuf_free(&worker->setup);
    strbuf_free(&worker->trainer.inbox);
    free(worker->assignment);
    free(worker);
}

void worker_assign(struct worker *worker, const struct assignment *assignment) {
    free(worker->assignment);
    worker->assignment = lvs_calloc(1, sizeof *worker->assignment);
    worker->sent = false;
    memcpy(worker->assignment, assignment, assignment_bytes(assignment));
    memset(worker->settled, 0, sizeof worker->settled);
    memset(worker->step, 0, sizeof worker->step);
    if (!worker->in_process && worker->ready) send_assignment(worker);
}

void worker_stop(struct worker *worker) {
    struct lvs_error err;
    worker->stop = true;
    if (worker->has_trainer) trainer_send(&worker->trainer, MESSAGE_STOP, NULL, 0, &err);
}

bool worker_poll(struct worker *worker) {
    if (worker->in_process) {
        if (!worker->assignment) return false;
        run_direct(worker);
        return true;
    }
    if (!worker->has_trainer) return false;
    struct message message = {0};
    enum trainer_event event = trainer_receive(&worker->trainer, &message);
    if (event == TRAINER_QUIET) end_hung_trainer(worker);
    if (event == TRAINER_DEAD) trainer_died(worker);
    if (event == TRAINER_MESSAGE) {
        take_message(worker, &message);
        free(message.payload);
    }
    return event != TRAINER_QUIET;
}
