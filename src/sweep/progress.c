/* What a person sees while the sweep runs: one line that rewrites itself on a terminal, plain lines elsewhere. */
#include <stdio.h>
#include <unistd.h>

#include "driver.h"

static double flops_done(const struct driver *driver) {
    double done = (double)coordinator_ledger(driver->coordinator)->spent;
    for (int32_t w = 0; w < driver->n_workers; w++) {
        const struct progress *progress = &driver->progress[w];
        if (progress->n_steps <= 0 || progress->trial < 0 ||
            progress->trial >= coordinator_n_trials(driver->coordinator))
            continue;
        if (coordinator_record(driver->coordinator, progress->trial)->status != TRIAL_RUNNING) continue;
        const struct trial *trial = coordinator_trial(driver->coordinator, progress->trial);
        done += (double)trial->price.step * progress->step;
    }
    return done;
}

static void write_duration(double seconds, char out[32]) {
    int whole = (int)(seconds + 0.5);
    if (whole >= 3600)
        snprintf(out, 32, "%dh%02d", whole / 3600, whole / 60 % 60);
    else
        snprintf(out, 32, "%dm%02d", whole / 60, whole % 60);
}

void progress_line(const struct driver *driver, bool last) {
    static double shown;
    static double flops_at_start = -1;
    if (!isatty(STDERR_FILENO)) return;
    double now = clock_now();
    if (!last && now - shown < 0.5) return;
    shown = now;
    if (last) {
        fprintf(stderr, "\r\033[K");
        return;
    }
    const struct ledger *ledger = coordinator_ledger(driver->coordinator);
    double done = flops_done(driver);
    if (flops_at_start < 0) flops_at_start = done;
    double open = (double)(ledger->spent + ledger->reserved) - done;
    double rate = (done - flops_at_start) / (now - driver->started + 1e-9);
    char eta[32] = "?";
    if (rate > 0) write_duration(open / rate, eta);
    fprintf(stderr, "\r\033[K%d trials open, %d settled, %.3g FLOPs of %.3g in this stage, ETA of the stage %s",
            coordinator_open_trials(driver->coordinator), driver->n_settled, done,
            (double)(ledger->spent + ledger->reserved), eta);
    fflush(stderr);
}

void progress_settled(const struct driver *driver, const struct trial *trial, const struct record *record) {
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
    fprintf(stderr, "%-12s %-28s %-11s", driver->config->stages[trial->stage].name, trial->name,
            trial_status_name(record->status));
    if (record->val_loss.loss == record->val_loss.loss) fprintf(stderr, " val_loss %.4f", record->val_loss.loss);
    if (record->seconds == record->seconds) fprintf(stderr, "  %.1f s", record->seconds);
    if (record->error[0]) fprintf(stderr, "  %s", record->error);
    fputc('\n', stderr);
}
