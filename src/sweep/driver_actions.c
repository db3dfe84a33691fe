/* Actions of the coordinator as journal events and as assignments. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "lvsweep/log.h"
#include "lvsweep/train.h"

enum lvs_status driver_note(struct driver *driver, struct journal_event *event, struct lvs_error *err) {
    LVS_TRY(journal_append(driver->journal, event, err));
    driver->changed = true;
    return results_apply(&driver->results, event, err);
}

/* A row the first time it is seen: rows are numbered in the coordinator's order. */
static enum lvs_status note_rows(struct driver *driver, int32_t last, struct lvs_error *err) {
    while (driver->results.n_rows <= last) {
        struct journal_event made = journal_event_make(JOURNAL_TRIAL);
        made.index = driver->results.n_rows;
        made.trial = coordinator_trial(driver->coordinator, made.index);
        made.stage = made.trial->stage;
        LVS_TRY(driver_note(driver, &made, err));
    }
    return LVS_OK;
}

/* The row and its membership in the stage. */
static enum lvs_status note_member(struct driver *driver, int32_t index, int32_t stage, struct lvs_error *err) {
    LVS_TRY(note_rows(driver, index, err));
    if (driver->results.rows[index].stages >> stage & 1 && !driver->results.rows[index].outside) return LVS_OK;
    struct journal_event member = journal_event_make(JOURNAL_MEMBER);
    member.index = index;
    member.stage = stage;
    return driver_note(driver, &member, err);
}

static enum lvs_status note_admitted(struct driver *driver, const struct coordinator_action *action,
                                     struct lvs_error *err) {
    LVS_TRY(note_member(driver, action->trial, action->stage, err));
    struct journal_event event = journal_event_make(JOURNAL_ADMITTED);
    event.index = action->trial;
    event.flops = action->reserved;
    return driver_note(driver, &event, err);
}

/* --rerun: the trial has no result any more. Its checkpoints go after that is on disk: a kill in between leaves a trial
 * that goes on from there, to the same numbers. */
static enum lvs_status note_again(struct driver *driver, const struct coordinator_action *action,
                                  struct lvs_error *err) {
    const struct trial *trial = coordinator_trial(driver->coordinator, action->trial);
    struct journal_event made = journal_event_make(JOURNAL_TRIAL), status = journal_event_make(JOURNAL_STATUS);
    char folder[LVS_PATH_MAX];
    made.index = status.index = action->trial;
    made.trial = trial;
    made.stage = trial->stage;
    status.status = TRIAL_PENDING;
    status.text = "run again from nothing (--rerun)";
    LVS_TRY(driver_note(driver, &made, err));
    LVS_TRY(driver_note(driver, &status, err));
    LVS_TRY(journal_flush(driver->journal, err));
    if (coordinator_evaluate_only(driver->coordinator, action->trial)) return LVS_OK;
    LVS_TRY(trial_folder(folder, driver->config->output, trial->name, err));
    checkpoint_remove(folder);
    return LVS_OK;
}

static enum lvs_status note_cut(struct driver *driver, const struct coordinator_action *action, struct lvs_error *err) {
    LVS_TRY(note_member(driver, action->trial, action->stage, err));
    if (driver->results.rows[action->trial].record.status == TRIAL_CUT) return LVS_OK;
    char reason[128];
    const struct trial *trial = coordinator_trial(driver->coordinator, action->trial);
    const struct record *record = coordinator_record(driver->coordinator, action->trial);
    double share = driver->config->stages[action->stage].share;
    if (action->cause == CUT_BY_TREND)
        lvs_copy(reason, sizeof reason, record->error);
    else if (action->cause == CUT_BY_TRIALS)
        snprintf(reason, sizeof reason, "[budget] trials = %.0f leaves no further one", driver->config->trials_cap);
    else
        snprintf(reason, sizeof reason, "%.4g FLOPs do not fit what was left of the budget%s",
                 (double)trial->price.counted, share > 0 ? " or of the stage's share" : "");
    struct journal_event event = journal_event_make(JOURNAL_CUT);
    event.index = action->trial;
    event.text = reason;
    return driver_note(driver, &event, err);
}

static enum lvs_status queue_assignment(struct driver *driver, const struct coordinator_action *action,
                                        struct lvs_error *err) {
    struct assignment *assignment = lvs_calloc(1, sizeof *assignment);
    assignment->n_trials = action->n_trials;
    assignment->attempt = action->attempt;
    assignment->evaluate_only = coordinator_evaluate_only(driver->coordinator, action->trials[0]);
    for (int32_t i = 0; i < action->n_trials; i++)
        assignment->trials[i] = *coordinator_trial(driver->coordinator, action->trials[i]);
    for (int32_t i = 0; i < action->n_trials; i++) {
        struct trial_segment segment = coordinator_segment(driver->coordinator, action->trials[i]);
        assignment->from[i] = segment.from;
        assignment->until[i] = segment.until;
        const struct rung_list *rungs = coordinator_rungs(driver->coordinator, action->trials[i]);
        for (int32_t k = 0; k < rungs->n; k++)
            assignment->rungs[i][k] = rungs->rung[k].step;
    }
    if (driver->n_outgoing == driver->outgoing_capacity) {
        driver->outgoing_capacity = driver->outgoing_capacity ? driver->outgoing_capacity * 2 : 16;
        driver->outgoing = lvs_realloc(driver->outgoing, (size_t)driver->outgoing_capacity * sizeof *driver->outgoing);
    }
    driver->outgoing[driver->n_outgoing++] = (struct outgoing){.worker = action->worker, .assignment = assignment};
    driver->busy_since[action->worker] = clock_steady();
    for (int32_t i = 0; i < action->n_trials; i++) {
        struct journal_event event = journal_event_make(JOURNAL_ASSIGNED);
        event.index = action->trials[i];
        event.worker = driver->first_rank + action->worker;
        event.attempt = action->attempt;
        event.host = driver->hellos[action->worker].host;
        event.device = driver->hellos[action->worker].device.name;
        LVS_TRY(driver_note(driver, &event, err));
    }
    return LVS_OK;
}

static enum lvs_status note_settled(struct driver *driver, const struct coordinator_action *action,
                                    struct lvs_error *err) {
    struct record record = *coordinator_record(driver->coordinator, action->trial);
    struct journal_event came = journal_event_make(JOURNAL_RECORD);
    came.index = action->trial;
    came.record = &record;
    LVS_TRY(driver_note(driver, &came, err));
    struct journal_event settle = journal_event_make(JOURNAL_SETTLE);
    settle.index = action->trial;
    settle.flops = action->charged;
    settle.lost = action->lost;
    LVS_TRY(driver_note(driver, &settle, err));
    driver->n_settled++;
    progress_settled(driver, coordinator_trial(driver->coordinator, action->trial), &record);
    return LVS_OK;
}

static enum lvs_status note_retry(struct driver *driver, const struct coordinator_action *action,
                                  struct lvs_error *err) {
    const struct record *record = coordinator_record(driver->coordinator, action->trial);
    const struct trial *trial = coordinator_trial(driver->coordinator, action->trial);
    log_warning("%s: attempt %d failed: %s; it is tried again", trial->name, record->attempt, record->error);
    driver->n_retries++;
    struct journal_event event = journal_event_make(JOURNAL_RECORD);
    event.index = action->trial;
    event.record = record;
    LVS_TRY(driver_note(driver, &event, err));
    struct journal_event settle = journal_event_make(JOURNAL_SETTLE);
    settle.index = action->trial;
    settle.flops = action->charged;
    settle.lost = action->lost;
    LVS_TRY(driver_note(driver, &settle, err));
    struct journal_event again = journal_event_make(JOURNAL_ADMITTED);
    again.index = action->trial;
    again.flops = action->reserved;
    return driver_note(driver, &again, err);
}

static void fill_rung(const struct coordinator_action *action, struct journal_event *event) {
    event->index = action->trial;
    event->step = action->rung->step;
    event->value = action->rung->loss;
    event->flops = action->rung->flops;
}

/* Record, rung and charge count only together (journal.c holds the first two back). */
static enum lvs_status note_paused(struct driver *driver, const struct coordinator_action *action,
                                   struct lvs_error *err) {
    struct record record = *coordinator_record(driver->coordinator, action->trial);
    struct journal_event came = journal_event_make(JOURNAL_RECORD), rung = journal_event_make(JOURNAL_RUNG);
    record.status = TRIAL_PENDING; /* what was decided of it since has its own event */
    came.index = action->trial;
    came.record = &record;
    LVS_TRY(driver_note(driver, &came, err));
    fill_rung(action, &rung);
    rung.status = RUNG_WAITS;
    rung.text = "";
    LVS_TRY(driver_note(driver, &rung, err));
    struct journal_event settle = journal_event_make(JOURNAL_SETTLE);
    settle.index = action->trial;
    settle.flops = action->charged;
    settle.lost = action->lost;
    return driver_note(driver, &settle, err);
}

static enum lvs_status note_rung(struct driver *driver, const struct coordinator_action *action,
                                 struct lvs_error *err) {
    char text[96];
    struct journal_event event = journal_event_make(JOURNAL_RUNG);
    bool stopped = action->rung->verdict == RUNG_STOPPED;
    fill_rung(action, &event);
    event.status = action->rung->verdict;
    snprintf(text, sizeof text, "number %d of %d by validation loss", action->place, action->n_at_rung);
    if (action->n_kept > 0) snprintf(text + strlen(text), sizeof text - strlen(text), ", %d go on", action->n_kept);
    event.text = text;
    const char *name = coordinator_trial(driver->coordinator, action->trial)->name;
    log_debug("%s at step %d: %s: %s", name, event.step, text, stopped ? "stopped" : "goes on");
    if (action->reversed)
        log_info("%s: %s at step %d after all (%s), where an earlier run decided otherwise", name,
                 stopped ? "stopped" : "goes on", event.step, text);
    return driver_note(driver, &event, err);
}

static void give_up(struct driver *driver, const struct coordinator_action *action) {
    driver->gave_up = true;
    log_error(
        "every worker failed again and again and no trial succeeded; the sweep ends here. The last failure: %s: %s. "
        "Mend the cause and run the same command again: nothing is lost (exit 7)",
        coordinator_trial(driver->coordinator, action->trial)->name,
        coordinator_record(driver->coordinator, action->trial)->error);
}

static enum lvs_status note_best(struct driver *driver, const struct coordinator_action *action,
                                 struct lvs_error *err) {
    if (driver->results.stage_best[action->stage] == action->trial) return LVS_OK;
    struct journal_event event = journal_event_make(JOURNAL_BEST);
    event.stage = action->stage;
    event.index = action->trial;
    if (action->trial >= 0)
        event.value = metric_value(&driver->results, &driver->results.rows[action->trial], driver->config->metric);
    return driver_note(driver, &event, err);
}

static enum lvs_status carry_out_one(struct driver *driver, const struct coordinator_action *action,
                                     struct lvs_error *err) {
    switch (action->kind) {
    case ACTION_ASSIGN:
        return queue_assignment(driver, action, err);
    case ACTION_AGAIN:
        return note_again(driver, action, err);
    case ACTION_ADMITTED:
        return note_admitted(driver, action, err);
    case ACTION_REUSED:
        return note_member(driver, action->trial, action->stage, err);
    case ACTION_CUT:
        return note_cut(driver, action, err);
    case ACTION_SETTLED:
        return note_settled(driver, action, err);
    case ACTION_RETRY:
        return note_retry(driver, action, err);
    case ACTION_PAUSED:
        return note_paused(driver, action, err);
    case ACTION_RUNG:
        return note_rung(driver, action, err);
    case ACTION_STAGE_END:
        return note_best(driver, action, err);
    case ACTION_QUARANTINE:
        log_warning("rank %d failed too often in a row while others succeeded: it gets no more work",
                    driver->first_rank + action->worker);
        return LVS_OK;
    case ACTION_GIVE_UP:
        give_up(driver, action);
        return LVS_OK;
    case ACTION_STAGE_BEGIN:
    case ACTION_FINISHED:
        return LVS_OK;
    }
    return LVS_OK;
}

enum lvs_status driver_carry_out(struct driver *driver, const struct coordinator_action *actions, int32_t n,
                                 struct lvs_error *err) {
    for (int32_t i = 0; i < n; i++)
        LVS_TRY(carry_out_one(driver, &actions[i], err));
    return LVS_OK;
}
