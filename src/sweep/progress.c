/* What a person sees while the sweep runs: one line that rewrites itself on a terminal, plain lines elsewhere. */
#include <stdio.h>
#include <sys/ioctl.h>
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
        int32_t charged = coordinator_segment(driver->coordinator, progress->trial).from; /* steps in `spent` */
        if (progress->step > charged) done += (double)trial->price.step * (progress->step - charged);
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

#define BAR_CELLS 20

static int terminal_width(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

/* Best of the last stage that has one, as `watch` shows it. */
static void write_best(const struct driver *driver, char out[64]) {
    const struct results *results = &driver->results;
    out[0] = '\0';
    for (int32_t stage = results->n_stages - 1; stage >= 0; stage--) {
        struct best_choice best = results_best(results, stage, results->metric);
        if (best.index < 0) continue;
        snprintf(out, 64, "  best %.24s %.4g", results->metric, best.mean);
        return;
    }
}

static void draw(const struct driver *driver, double done, double all, const char *eta) {
    char bar[BAR_CELLS + 1], best[64], line[256];
    double share = all > 0 && done < all ? done / all : all > 0;
    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = i < (int)(share * BAR_CELLS) ? '#' : '.';
    bar[BAR_CELLS] = '\0';
    write_best(driver, best);
    snprintf(line, sizeof line, "[%s] %3.0f %%  %d settled, %d open  ETA %s%s  %.3g FLOPs of %.3g", bar, 100 * share,
             driver->n_settled, coordinator_open_trials(driver->coordinator), eta, best, done, all);
    fprintf(stderr, "\r\033[K%.*s", terminal_width() - 1, line);
    fflush(stderr);
}

/* The bar is of the stages begun so far: what later ones take is not known before their best is. */
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
    double done = flops_done(driver), all = (double)(ledger->spent + ledger->reserved);
    if (flops_at_start < 0) flops_at_start = done;
    double rate = (done - flops_at_start) / (now - driver->started + 1e-9);
    char eta[32] = "?";
    if (rate > 0) write_duration((all - done) / rate, eta);
    draw(driver, done, all, eta);
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
