/* Rank 0's loop. Order within a turn: take all waiting messages, write the journal once, then send assignments: what a
 * worker was given is on disk before it starts. */
#include "driver.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/fault.h"
#include "lvsweep/log.h"

#define PUBLISH_SECONDS 30.0
#define PUBLISH_SHARE   20.0 /* at least so many times as long as a publication takes lies between two */
#define TELL_SECONDS    5.0

static enum lvs_status handle(struct driver *driver, const struct coordinator_event *event, struct lvs_error *err) {
    const struct coordinator_action *actions;
    int32_t n;
    LVS_TRY(coordinator_handle(driver->coordinator, event, &actions, &n, err));
    return driver_carry_out(driver, actions, n, err);
}

/* ---- messages of workers ---- */

static enum lvs_status take_hello(struct driver *driver, int32_t worker, const struct message *message,
                                  struct lvs_error *err) {
    if (message->length != sizeof driver->hellos[worker])
        return lvs_fail(err, LVS_BUG, "hello of %zu bytes from worker %d", message->length, worker);
    memcpy(&driver->hellos[worker], message->payload, message->length);
    bool first = !driver->has_hello[worker];
    driver->has_hello[worker] = true;
    if (first) LVS_TRY(provenance_note_worker(driver, worker, err));
    log_debug("worker %d on %s: %s", worker, driver->hellos[worker].host, driver->hellos[worker].device.name);
    if (!first || driver->config->oversubscribe_gpu || strcmp(driver->setup->head.backend, "cuda") != 0) return LVS_OK;
    struct worker_hello *known = lvs_malloc((size_t)driver->n_workers * sizeof *known);
    int32_t *ranks = lvs_malloc((size_t)driver->n_workers * sizeof *ranks), n = 0;
    for (int32_t w = 0; w < driver->n_workers; w++) {
        if (!driver->has_hello[w]) continue;
        known[n] = driver->hellos[w];
        ranks[n++] = driver->first_rank + w;
    }
    enum lvs_status status = placement_check_unique(known, ranks, n, err);
    free(known);
    free(ranks);
    return status;
}

static enum lvs_status take_baseline(struct driver *driver, const struct message *message, struct lvs_error *err) {
    struct baseline baseline;
    if (message->length != sizeof baseline) return lvs_fail(err, LVS_BUG, "baseline of %zu bytes", message->length);
    memcpy(&baseline, message->payload, sizeof baseline);
    for (int32_t i = 0; i < driver->results.n_baselines; i++)
        if (strcmp(driver->results.baselines[i].key, baseline.key) == 0 &&
            driver->results.baselines[i].kind == baseline.kind)
            return LVS_OK;
    struct journal_event event = journal_event_make(JOURNAL_BASELINE);
    event.baseline = &baseline;
    return driver_note(driver, &event, err);
}

/* The trials of a pack share their worker's time: it is the worker that is measured. */
static void worker_rests(struct driver *driver, int32_t worker) {
    if (driver->busy_since[worker] > 0) driver->busy_seconds += clock_steady() - driver->busy_since[worker];
    driver->busy_since[worker] = 0;
}

static enum lvs_status take_record(struct driver *driver, int32_t worker, const struct message *message,
                                   struct lvs_error *err) {
    struct record_message came;
    fault_hit("event_record");
    if (message->length != sizeof came) return lvs_fail(err, LVS_BUG, "record of %zu bytes", message->length);
    memcpy(&came, message->payload, sizeof came);
    came.record.worker = driver->first_rank + worker;
    lvs_copy(came.record.host, sizeof came.record.host, driver->hellos[worker].host);
    if (!came.record.device[0])
        lvs_copy(came.record.device, sizeof came.record.device, driver->hellos[worker].device.name);
    struct coordinator_event event = {
        .kind = EVENT_RECORD, .worker = worker, .transient = came.transient, .record = &came.record};
    return handle(driver, &event, err);
}

/* A worker that cannot open its device, model or data: before the first hello of any kind that is the user's to mend.
 */
static enum lvs_status take_refusal(struct driver *driver, int32_t worker, const struct message *message,
                                    struct lvs_error *err) {
    struct lvs_error why;
    error_unpack(message->payload, message->length, &why);
    driver->is_lost[worker] = true;
    worker_rests(driver, worker);
    if (!driver->has_hello[worker]) {
        *err = why;
        return why.status;
    }
    log_error("rank %d takes no more work: %s", driver->first_rank + worker, why.text);
    struct coordinator_event event = {.kind = EVENT_WORKER_LOST, .worker = worker};
    return handle(driver, &event, err);
}

static enum lvs_status take_message(struct driver *driver, const struct message *message, struct lvs_error *err) {
    int32_t worker = message->source - driver->first_rank;
    if (worker < 0 || worker >= driver->n_workers)
        return lvs_fail(err, LVS_BUG, "%s message from rank %d, which is no worker", message_name(message->kind),
                        message->source);
    struct coordinator_event ready = {.kind = EVENT_WORKER_READY, .worker = worker};
    switch (message->kind) {
    case MESSAGE_HELLO:
        return take_hello(driver, worker, message, err);
    case MESSAGE_READY:
        worker_rests(driver, worker);
        return handle(driver, &ready, err);
    case MESSAGE_PROGRESS:
        if (message->length == sizeof *driver->progress)
            memcpy(&driver->progress[worker], message->payload, message->length);
        return LVS_OK;
    case MESSAGE_RECORD:
        return take_record(driver, worker, message, err);
    case MESSAGE_BASELINE:
        return take_baseline(driver, message, err);
    case MESSAGE_REFUSED:
        return take_refusal(driver, worker, message, err);
    default:
        return lvs_fail(err, LVS_BUG, "unexpected %s message", message_name(message->kind));
    }
}

static bool next_message(struct driver *driver, struct message *out) {
    if (driver->n_inbox > 0) {
        *out = driver->inbox[0];
        memmove(driver->inbox, driver->inbox + 1, (size_t)--driver->n_inbox * sizeof *driver->inbox);
        return true;
    }
    return protocol_receive(out);
}

static enum lvs_status take_messages(struct driver *driver, bool *had_something, struct lvs_error *err) {
    struct message message;
    enum lvs_status status = LVS_OK;
    if (driver->local) *had_something |= worker_poll(driver->local);
    while (status == LVS_OK && next_message(driver, &message)) {
        *had_something = true;
        status = take_message(driver, &message, err);
        free(message.payload);
    }
    return status;
}

/* ---- a turn ---- */

static enum lvs_status send_outgoing(struct driver *driver, struct lvs_error *err) {
    enum lvs_status status = LVS_OK;
    for (int32_t i = 0; i < driver->n_outgoing; i++) {
        struct outgoing *out = &driver->outgoing[i];
        int rank = driver->first_rank + out->worker;
        fault_hit("event_assigned");
        if (rank == 0)
            worker_assign(driver->local, out->assignment);
        else if (status == LVS_OK)
            status = protocol_send(rank, MESSAGE_ASSIGNMENT, out->assignment, assignment_bytes(out->assignment), err);
        free(out->assignment);
    }
    driver->n_outgoing = 0;
    return status;
}

#define GO_ON "run the same command again to go on"

static enum lvs_status begin_stop(struct driver *driver, const char *reason, const char *way_on,
                                  struct lvs_error *err) {
    driver->stopping = true;
    log_info("%s: trials under way write a checkpoint; %s", reason, way_on);
    if (driver->local) worker_stop(driver->local);
    for (int32_t w = driver->first_rank == 0 ? 1 : 0; w < driver->n_workers; w++)
        if (!driver->is_lost[w]) LVS_TRY(protocol_send(driver->first_rank + w, MESSAGE_STOP, NULL, 0, err));
    struct coordinator_event event = {.kind = EVENT_STOP};
    return handle(driver, &event, err);
}

static enum lvs_status stop_in_time(struct driver *driver, struct lvs_error *err) {
    const struct deadline *deadline = &driver->deadline;
    char reason[64];
    if (clock_steady() < deadline->at) return LVS_OK;
    if (!deadline->cap) return begin_stop(driver, "the time limit is near", GO_ON, err);
    driver->used_up = true;
    snprintf(reason, sizeof reason, "[budget] %s = %.6g is used up", deadline->cap, deadline->hours);
    return begin_stop(driver, reason, "raise it and " GO_ON, err);
}

static void publish_now_and_then(struct driver *driver) {
    double now = clock_steady();
    double wanted = fmax(PUBLISH_SECONDS, PUBLISH_SHARE * driver->publish_seconds);
    if (!driver->changed || driver->n_settled == 0 || now - driver->published < wanted) return;
    struct lvs_error err = {0};
    if (results_publish(&driver->results, &err) != LVS_OK) log_warning("%s", err.text);
    driver->published = clock_steady();
    driver->publish_seconds = driver->published - now;
    driver->changed = false;
}

/* For `watch`: how far the running trials are, now and then. Nothing that resuming or results.h5 needs. */
static enum lvs_status note_progress(struct driver *driver, struct lvs_error *err) {
    double now = clock_steady();
    if (now - driver->told < TELL_SECONDS) return LVS_OK;
    driver->told = now;
    for (int32_t w = 0; w < driver->n_workers; w++) {
        const struct progress *progress = &driver->progress[w];
        if (progress->n_steps <= 0 || progress->trial < 0 || progress->trial >= driver->results.n_rows) continue;
        const struct record *record = &driver->results.rows[progress->trial].record;
        if (record->status != TRIAL_RUNNING || record->steps_done == progress->step) continue;
        struct journal_event event = journal_event_make(JOURNAL_PROGRESS);
        event.index = progress->trial;
        event.step = progress->step;
        event.value = progress->loss;
        LVS_TRY(journal_append(driver->journal, &event, err));
        LVS_TRY(results_apply(&driver->results, &event, err));
    }
    return LVS_OK;
}

static enum lvs_status turn(struct driver *driver, struct backoff *backoff, struct lvs_error *err) {
    bool had_something = false;
    LVS_TRY(take_messages(driver, &had_something, err));
    if (!driver->stopping && stop_requested()) LVS_TRY(begin_stop(driver, "stopping", GO_ON, err));
    if (!driver->stopping) LVS_TRY(stop_in_time(driver, err));
    LVS_TRY(note_progress(driver, err));
    LVS_TRY(journal_flush(driver->journal, err));
    LVS_TRY(send_outgoing(driver, err));
    publish_now_and_then(driver);
    lock_beat(driver->lock);
    progress_line(driver, false);
    backoff_wait(backoff, had_something);
    return LVS_OK;
}

/* The coordinator's account and the journal's are kept by different code from the same actions. */
static void check_ledgers(const struct driver *driver) {
    const struct ledger *decided = coordinator_ledger(driver->coordinator), *journaled = &driver->results.ledger;
    (void)decided, (void)journaled;
    assert(decided->spent == journaled->spent);
    assert(decided->reserved == journaled->reserved);
    assert(decided->lost == journaled->lost);
}

enum lvs_status driver_loop(struct driver *driver, struct lvs_error *err) {
    struct backoff backoff = {0};
    driver->started = driver->published = clock_steady();
    driver->deadline = deadline_find(driver->config, &driver->earlier, driver->started, driver->n_workers);
    while (!coordinator_finished(driver->coordinator)) {
        enum lvs_status status = turn(driver, &backoff, err);
        if (status != LVS_OK) {
            struct lvs_error ignored;
            journal_flush(driver->journal, &ignored);
            return status;
        }
    }
    for (int32_t worker = 0; worker < driver->n_workers; worker++)
        worker_rests(driver, worker);
    progress_line(driver, true);
    check_ledgers(driver);
    return journal_flush(driver->journal, err);
}
