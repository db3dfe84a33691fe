/* The state of a running sweep, gathered while the journal is replayed. Speeds come from progress events where the
 * sweep writes them; the time left from what finished trials took. */
#include "lvsweep/watch.h"
#include "results_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- replay ---- */

/* Progress of a trial since it was last assigned. */
struct trial_progress {
    double first_time, last_time;
    int32_t first_step, last_step, n_told;
};
struct replay {
    struct watch *watch;
    struct trial_progress *progress; /* [capacity], owned */
    int32_t capacity;
};

static struct trial_progress *progress_of(struct replay *replay, int32_t index) {
    if (index < 0) return NULL;
    if (index >= replay->capacity) {
        int32_t capacity = index + 64;
        replay->progress = lvs_realloc(replay->progress, (size_t)capacity * sizeof *replay->progress);
        memset(replay->progress + replay->capacity, 0,
               (size_t)(capacity - replay->capacity) * sizeof *replay->progress);
        replay->capacity = capacity;
    }
    return &replay->progress[index];
}

static enum lvs_status visit(void *context, const struct journal_event *event, struct lvs_error *err) {
    struct replay *replay = context;
    LVS_TRY(results_apply(&replay->watch->results, event, err));
    if (event->kind == JOURNAL_ASSIGNED) {
        *progress_of(replay, event->index) = (struct trial_progress){.first_time = event->time};
        struct record *record = &replay->watch->results.rows[event->index].record;
        record->steps_done = 0;
        record->train_loss = NAN;
    }
    if (event->kind != JOURNAL_PROGRESS) return LVS_OK;
    struct trial_progress *progress = progress_of(replay, event->index);
    if (progress->n_told++ == 0) {
        progress->first_time = event->time;
        progress->first_step = event->step;
    }
    progress->last_time = event->time;
    progress->last_step = event->step;
    return LVS_OK;
}

/* ---- what follows from it ---- */

static struct watch_worker *worker_of(struct watch *watch, int32_t rank) {
    for (int32_t i = 0; i < watch->n_workers; i++)
        if (watch->workers[i].worker == rank) return &watch->workers[i];
    watch->workers = lvs_realloc(watch->workers, (size_t)(watch->n_workers + 1) * sizeof *watch->workers);
    struct watch_worker *worker = &watch->workers[watch->n_workers++];
    *worker = (struct watch_worker){
        .worker = rank, .trial = -1, .step = -1, .steps_per_second = NAN, .loss = NAN, .since = NAN};
    return worker;
}

static void take_running(struct watch *watch, const struct replay *replay, const struct result_row *row) {
    struct watch_worker *worker = worker_of(watch, row->record.worker);
    const struct trial_progress *progress = &replay->progress[row->trial.index];
    if (worker->n_trials++ > 0 && (worker->step >= 0 || !progress->n_told)) return; /* one of a pack stands for all */
    worker->trial = row->trial.index;
    worker->since = row->record.start_time;
    worker->n_steps = (int32_t)row->trial.settings.steps.value;
    lvs_copy(worker->host, sizeof worker->host, row->record.host);
    lvs_copy(worker->device, sizeof worker->device, row->record.device);
    if (!progress->n_told) return;
    worker->step = progress->last_step;
    worker->loss = row->record.train_loss;
    if (progress->last_time > progress->first_time)
        worker->steps_per_second =
            (progress->last_step - progress->first_step) / (progress->last_time - progress->first_time);
}

static void take_finished(struct watch *watch, const struct result_row *row) {
    struct watch_worker *worker = worker_of(watch, row->record.worker);
    if (worker->trial >= 0) return;
    if (isnan(worker->since) || row->record.end_time > worker->since) worker->since = row->record.end_time;
    lvs_copy(worker->host, sizeof worker->host, row->record.host);
    lvs_copy(worker->device, sizeof worker->device, row->record.device);
}

static int by_rank(const void *a, const void *b) {
    return ((const struct watch_worker *)a)->worker - ((const struct watch_worker *)b)->worker;
}

static void gather_workers(struct watch *watch, const struct replay *replay) {
    for (int pass = 0; pass < 2; pass++) /* running trials first: they own their workers */
        for (int32_t i = 0; i < watch->results.n_rows; i++) {
            const struct result_row *row = &watch->results.rows[i];
            bool is_running = row->record.status == TRIAL_RUNNING;
            if (row->record.worker < 0 || is_running != (pass == 0)) continue;
            if (is_running)
                take_running(watch, replay, row);
            else
                take_finished(watch, row);
        }
    if (watch->n_workers) qsort(watch->workers, (size_t)watch->n_workers, sizeof *watch->workers, by_rank);
}

/* Steps since its last rung, which those before were charged at. */
static int32_t uncharged_steps(const struct result_row *row, const struct trial_progress *progress) {
    int32_t n = row->rungs.n, charged = n > 0 ? row->rungs.rung[n - 1].step : 0;
    return progress->last_step > charged ? progress->last_step - charged : 0;
}

static void gather_flops(struct watch *watch, const struct replay *replay) {
    const struct ledger *ledger = &watch->results.ledger;
    double running = 0;
    for (int32_t i = 0; i < watch->results.n_rows; i++) {
        const struct result_row *row = &watch->results.rows[i];
        if (row->record.status >= 0 && row->record.status < TRIAL_STATUS_COUNT) watch->count[row->record.status]++;
        if (row->record.status != TRIAL_RUNNING || !replay->progress[i].n_told) continue;
        double done = (double)row->trial.price.step * uncharged_steps(row, &replay->progress[i]);
        running += fmin(done, (double)row->reserved);
    }
    watch->flops_done = (double)ledger->spent + running;
    watch->flops_open = (double)ledger->reserved - running;
}

/* Mean and standard deviation of the workers' FLOP/s over finished trials. */
static int32_t measure_rate(const struct watch *watch, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    int32_t n = 0;
    for (int32_t i = 0; i < watch->results.n_rows; i++) {
        const struct result_row *row = &watch->results.rows[i];
        int64_t charged = row->charged - row->charged_before;
        if (row->record.status != TRIAL_DONE || !(row->record.seconds > 0) || charged <= 0) continue;
        double rate = (double)charged * (row->record.pack_width > 1 ? row->record.pack_width : 1) / row->record.seconds;
        sum += rate;
        squares += rate * rate;
        n++;
    }
    if (!n) return 0;
    *mean = sum / n;
    *deviation = n > 1 ? sqrt(fmax(squares / n - *mean * *mean, 0) * n / (n - 1)) : NAN;
    return n;
}

/* Before the first trial is done: the mean of what the workers' steps say, which knows nothing of evaluation. */
static int32_t measure_running(const struct watch *watch, double *mean, double *deviation) {
    double sum = 0;
    int32_t n = 0;
    for (int32_t i = 0; i < watch->n_workers; i++) {
        const struct watch_worker *worker = &watch->workers[i];
        if (worker->trial < 0 || !(worker->steps_per_second > 0)) continue;
        sum +=
            worker->steps_per_second * (double)watch->results.rows[worker->trial].trial.price.step * worker->n_trials;
        n++;
    }
    if (!n) return 0;
    *mean = sum / n;
    *deviation = NAN;
    return n;
}

static void estimate(struct watch *watch) {
    double mean, deviation;
    watch->eta = watch->eta_error = NAN;
    if (watch->flops_open <= 0) return;
    if (!measure_rate(watch, &mean, &deviation) && !measure_running(watch, &mean, &deviation)) return;
    int32_t open = watch->count[TRIAL_RUNNING] + watch->count[TRIAL_PENDING];
    int32_t at_work = watch->n_workers < open ? watch->n_workers : open;
    watch->eta = watch->flops_open / (mean * (at_work > 0 ? at_work : 1));
    watch->eta_error = watch->eta * deviation / mean;
}

static void find_best(struct watch *watch) {
    struct best_choice best = results_best_so_far(&watch->results);
    watch->best = best.index;
    watch->best_value = best.mean;
}

enum lvs_status watch_read(const char *output, struct watch *out, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    struct replay replay = {.watch = out};
    *out = (struct watch){.best = -1};
    results_init(&out->results, output);
    enum lvs_status status = file_join(path, output, RESULTS_JOURNAL, err);
    if (status == LVS_OK && !file_exists(path)) status = results_absent(output, err);
    struct journal_end end;
    if (status == LVS_OK) status = journal_replay(path, visit, &replay, &end, err);
    if (status == LVS_OK) {
        journal_warn_of(path, &end);
        out->damaged_line = end.damaged_line;
        progress_of(&replay, out->results.n_rows);
        gather_flops(out, &replay);
        gather_workers(out, &replay);
        estimate(out);
        find_best(out);
    } else {
        watch_free(out);
    }
    free(replay.progress);
    return status;
}

void watch_free(struct watch *watch) {
    results_free(&watch->results);
    free(watch->workers);
    *watch = (struct watch){.best = -1};
}
