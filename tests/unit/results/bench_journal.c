/* Not a test: writes a journal of about N lines (default a million; five a trial, as a sweep does) and times writing
 * and replaying it. bench_journal [N] */
#include "sample.h"
#include "unit/own_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static enum lvs_status append(struct journal *journal, enum journal_kind kind, const struct trial *trial,
                              const struct record *record, struct lvs_error *err) {
    struct journal_event event = journal_event_make(kind);
    event.index = trial->index;
    event.flops = trial->price.counted;
    event.lost = 0;
    event.worker = event.attempt = 1;
    event.host = record->host;
    event.device = record->device;
    event.trial = trial;
    event.record = record;
    return journal_append(journal, &event, err);
}

static enum lvs_status write_trials(struct journal *journal, int32_t count, struct lvs_error *err) {
    static const enum journal_kind kinds[] = {JOURNAL_TRIAL, JOURNAL_ADMITTED, JOURNAL_ASSIGNED, JOURNAL_RECORD,
                                              JOURNAL_SETTLE};
    for (int32_t i = 0; i < count; i++) {
        struct trial trial;
        struct record record;
        sample_trial(i, 0, &trial);
        sample_record(&trial, &record);
        for (int k = 0; k < 5; k++)
            LVS_TRY(append(journal, kinds[k], &trial, &record, err));
        if (i % 1000 == 0) LVS_TRY(journal_flush(journal, err));
    }
    return journal_flush(journal, err);
}

static enum lvs_status write_journal(const char *folder, int32_t lines, struct lvs_error *err) {
    static const char *const names[] = {"search"};
    struct journal_sweep sweep = {.name = "bench", .metric = "val_loss", .n_stages = 1, .stage_name = names};
    struct journal_event event = journal_event_make(JOURNAL_SWEEP);
    struct journal *journal;
    char path[LVS_PATH_MAX];
    event.sweep = &sweep;
    LVS_TRY(file_join(path, folder, RESULTS_JOURNAL, err));
    LVS_TRY(journal_open(path, NULL, NULL, &journal, err));
    enum lvs_status status = journal_append(journal, &event, err);
    if (status == LVS_OK) status = write_trials(journal, lines / 5, err);
    enum lvs_status closed = journal_close(journal, err);
    return status == LVS_OK ? closed : status;
}

int main(int argc, char **argv) {
    char folder[LVS_PATH_MAX];
    struct results results = {0};
    struct lvs_error err = {0};
    int32_t lines = argc > 1 ? atoi(argv[1]) : 1000000;
    own_folder_make(folder);
    double start = seconds(CLOCK_MONOTONIC);
    enum lvs_status status = write_journal(folder, lines, &err);
    double written = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (status == LVS_OK) status = results_read(folder, &results, &err);
    if (status == LVS_OK)
        printf("%lld lines, %d trials: written in %.2f s, replayed in %.2f s (%.2f s of CPU)\n",
               (long long)results.n_events, results.n_rows, written - start, seconds(CLOCK_MONOTONIC) - written,
               seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    else
        fprintf(stderr, "%s\n", err.text);
    results_free(&results);
    own_folder_remove(folder);
    return status != LVS_OK;
}
