/* The programmable runner: time, loss and failure without a model, so that the whole sweep (MPI, trainers, journal,
 * ledger) is tested in milliseconds. Its programme is [run] fake, parts joined by '+':
 *   step:1e-4        seconds a step takes (0)
 *   loss:0.5         offset of the loss surface, whose best point is rank 8 at 1e-4 (0.5)
 *   fail:3:kill      trial 3 ends its trainer by SIGKILL in its first attempt; also exit, abort, error, nan, hang
 *   fail:3:kill:0    … in every attempt (a count: in the first so many)
 * Numbers depend on the settings only: equal for any number of ranks. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lvsweep/log.h"
#include "sweep_internal.h"

#define MAX_FAILURES 64

enum failure_kind {
    FAILURE_KILL,
    FAILURE_EXIT,
    FAILURE_ABORT,
    FAILURE_ERROR,
    FAILURE_NAN,
    FAILURE_HANG,
    FAILURE_COUNT
};
static const char *const failure_names[FAILURE_COUNT] = {"kill", "exit", "abort", "error", "nan", "hang"};

struct failure {
    int32_t trial, attempts; /* attempts 0 = always */
    enum failure_kind kind;
};

struct fake {
    double step_seconds, loss;
    int32_t n_failures, worker;
    struct failure failures[MAX_FAILURES];
};

static enum lvs_status parse_failure(struct fake *fake, const char *part, struct lvs_error *err) {
    char kind[16] = "";
    int trial, attempts = 1;
    if (sscanf(part, "fail:%d:%15[a-z]:%d", &trial, kind, &attempts) < 2 || fake->n_failures == MAX_FAILURES)
        return lvs_fail(err, LVS_USAGE, "[run] fake: %s: expected fail:TRIAL:KIND[:ATTEMPTS]", part);
    for (int k = 0; k < FAILURE_COUNT; k++) {
        if (strcmp(kind, failure_names[k]) != 0) continue;
        fake->failures[fake->n_failures++] =
            (struct failure){.trial = trial, .attempts = attempts, .kind = (enum failure_kind)k};
        return LVS_OK;
    }
    return lvs_fail(err, LVS_USAGE, "[run] fake: %s: kinds are kill, exit, abort, error, nan, hang", part);
}

static enum lvs_status parse_part(struct fake *fake, const char *part, struct lvs_error *err) {
    if (strncmp(part, "fail:", 5) == 0) return parse_failure(fake, part, err);
    if (sscanf(part, "step:%lf", &fake->step_seconds) == 1) return LVS_OK;
    if (sscanf(part, "loss:%lf", &fake->loss) == 1) return LVS_OK;
    return lvs_fail(err, LVS_USAGE, "[run] fake: %s: parts are step:SECONDS, loss:NATS, fail:TRIAL:KIND", part);
}

static enum lvs_status fake_open(const struct config *config, const struct worker_place *place, void **state,
                                 struct lvs_error *err) {
    struct fake *fake = lvs_calloc(1, sizeof *fake);
    fake->loss = 0.5;
    fake->worker = place->worker;
    char text[CONFIG_TEXT_MAX];
    lvs_copy(text, sizeof text, config->fake);
    char *rest = text;
    enum lvs_status status = LVS_OK;
    for (char *part; status == LVS_OK && (part = strsep(&rest, "+")) != NULL;)
        if (part[0] && strcmp(part, "none") != 0) status = parse_part(fake, part, err);
    if (status != LVS_OK)
        free(fake);
    else
        *state = fake;
    return status;
}

static void fake_describe(void *state, struct device_description *out) {
    const struct fake *fake = state;
    snprintf(out->name, sizeof out->name, "fake device");
    snprintf(out->uuid, sizeof out->uuid, "fake-%d", fake->worker);
}

static double fake_loss(const struct fake *fake, const struct settings *settings, double done) {
    double distance = fabs(log10(settings->learning_rate) + 4) + fabs(log2(settings->lora_rank) - 3) / 4;
    double seed_noise = (double)(settings->seed % 7) * 1e-3;
    return fake->loss + 0.1 * distance + 20.0 / settings->context + seed_noise + 1.5 * exp(-4 * done);
}

/* NULL: the attempt goes well. */
static const struct failure *failure_of(const struct fake *fake, int32_t trial, int32_t attempt) {
    for (int32_t i = 0; i < fake->n_failures; i++) {
        const struct failure *failure = &fake->failures[i];
        if (failure->trial == trial && (failure->attempts == 0 || attempt <= failure->attempts)) return failure;
    }
    return NULL;
}

/* Failures that end or stop the process happen half-way. */
static void fail_process(enum failure_kind kind) {
    log_info("fake: %s, as [run] fake says", failure_names[kind]);
    if (kind == FAILURE_KILL) raise(SIGKILL);
    if (kind == FAILURE_EXIT) _exit(17);
    if (kind == FAILURE_ABORT) abort();
    while (kind == FAILURE_HANG)
        pause();
}

/* Sleeps for the steps (from, until], saying where it is; false when a stop was asked for. */
static bool fake_steps(const struct fake *fake, const struct trial *trial, int32_t from, int32_t until,
                       const struct failure *failure, const struct runner_sink *sink) {
    const int32_t slices = 10, n_steps = (int32_t)trial->settings.steps.value;
    for (int32_t slice = 0; slice < slices; slice++) {
        double seconds = fake->step_seconds * (until - from) / slices;
        if (seconds > 0)
            nanosleep(&(struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)(fmod(seconds, 1) * 1e9)}, NULL);
        if (failure && slice == slices / 2) fail_process(failure->kind);
        int32_t step = from + (int32_t)((until - from) * (slice + 1.0) / slices);
        double done = (double)step / n_steps;
        struct progress progress = {.trial = trial->index,
                                    .step = step,
                                    .n_steps = n_steps,
                                    .phase = PHASE_TRAINING,
                                    .loss = fake_loss(fake, &trial->settings, done)};
        if (fake->step_seconds > 0) sink->progress(sink->context, &progress);
        if (fake->step_seconds > 0 && sink->should_stop(sink->context)) return false;
    }
    return true;
}

/* Steps (from, until] of the trial, until 0 = to its end; it needs no checkpoint to know where it was. */
static void fake_trial(const struct fake *fake, const struct trial *trial, int32_t from, int32_t until, int32_t attempt,
                       const struct runner_sink *sink) {
    int32_t n_steps = (int32_t)trial->settings.steps.value;
    bool pauses = until > 0 && until < n_steps;
    if (!pauses) until = n_steps;
    const struct failure *failure = failure_of(fake, trial->index, attempt);
    struct record record;
    record_init(&record, trial);
    record.start_time = clock_now();
    double before = clock_steady();
    bool whole = fake_steps(fake, trial, from, until, failure, sink);
    record.end_time = clock_now();
    record.seconds = clock_steady() - before;
    record.attempt = attempt;
    snprintf(record.device, sizeof record.device, "fake device");
    gethostname(record.host, sizeof record.host - 1);
    record.status = !whole ? TRIAL_INTERRUPTED : pauses ? TRIAL_PENDING : TRIAL_DONE;
    record.steps_done = whole ? until : from;
    if (whole) {
        record.flops_training = pauses ? until * trial->price.step : trial->price.training;
        record.flops_evaluation = pauses ? 0 : trial->price.evaluation;
        record.train_loss = fake_loss(fake, &trial->settings, (double)until / n_steps);
        record.val_loss.loss = record.val_loss.loss_masked = record.train_loss + 0.01;
    }
    if (failure && failure->kind == FAILURE_NAN) {
        record.status = TRIAL_DIVERGED;
        record.val_loss.loss = record.val_loss.loss_masked = NAN;
        lvs_copy(record.error, sizeof record.error, "the loss was not finite (fake)");
    }
    if (failure && failure->kind == FAILURE_ERROR) {
        record.status = TRIAL_FAILED;
        record.flops_training = record.flops_evaluation = 0;
        lvs_copy(record.error, sizeof record.error, "failed as the programme says (fake)");
    }
    sink->record(sink->context, &record, record.status == TRIAL_FAILED);
}

static enum lvs_status fake_run(void *state, const struct assignment *assignment, const struct runner_sink *sink,
                                struct lvs_error *err) {
    (void)err;
    for (int32_t i = 0; i < assignment->n_trials; i++)
        fake_trial(state, &assignment->trials[i], assignment->from[i], assignment->until[i], assignment->attempt, sink);
    return LVS_OK;
}

static void fake_close(void *state) {
    free(state);
}

const struct runner runner_fake = {
    .name = "fake",
    .open = fake_open,
    .describe = fake_describe,
    .run = fake_run,
    .close = fake_close,
};
