/* What a person sees while the sweep runs: one line that rewrites itself on a terminal, plain lines elsewhere. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "driver.h"

/* The last words of a worker about a trial that still runs; NULL = none. */
static const struct progress *running_progress(const struct driver *driver, int32_t worker) {
    const struct progress *progress = &driver->progress[worker];
    if (progress->n_steps <= 0 || progress->trial < 0 || progress->trial >= coordinator_n_trials(driver->coordinator))
        return NULL;
    return coordinator_record(driver->coordinator, progress->trial)->status == TRIAL_RUNNING ? progress : NULL;
}

static double flops_done(const struct driver *driver) {
    double done = (double)coordinator_ledger(driver->coordinator)->spent;
    for (int32_t w = 0; w < driver->n_workers; w++) {
        const struct progress *progress = running_progress(driver, w);
        if (!progress) continue;
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

#define BAR_CELLS_LEAST 5
#define BAR_CELLS_MOST  20

static int terminal_width(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

/* A line beside its bar: parts are left out whole where they would take the bar's room. */
struct bar_line {
    char text[256];
    int width; /* columns for text and bar */
};

static void add_part(struct bar_line *line, const char *part) {
    size_t used = strlen(line->text), room = sizeof line->text - used;
    if ((int)(used + strlen(part)) + BAR_CELLS_LEAST + 2 > line->width) return;
    snprintf(line->text + used, room, "%s", part);
}

/* Best of the last stage that has one, as `watch` shows it. */
static void add_best(const struct driver *driver, struct bar_line *line) {
    char part[64];
    struct best_choice best = results_best_so_far(&driver->results);
    if (best.index < 0) return;
    snprintf(part, sizeof part, "  best %.24s %.4g", driver->results.metric, best.mean);
    add_part(line, part);
}

/* The training losses at work: from the least to the greatest; of a single one its step, too. */
static void add_training(const struct driver *driver, struct bar_line *line) {
    double least = INFINITY, greatest = -INFINITY;
    const struct progress *last = NULL;
    char part[64];
    int32_t n = 0;
    for (int32_t w = 0; w < driver->n_workers; w++) {
        const struct progress *progress = running_progress(driver, w);
        if (!progress || !isfinite(progress->loss)) continue;
        least = fmin(least, progress->loss);
        greatest = fmax(greatest, progress->loss);
        last = progress;
        n++;
    }
    if (n == 0) return;
    snprintf(part, sizeof part, "  loss %.4g", least);
    if (n > 1) snprintf(part + strlen(part), sizeof part - strlen(part), " to %.4g", greatest);
    add_part(line, part);
    snprintf(part, sizeof part, "  step %d/%d", last->step, last->n_steps);
    if (n == 1) add_part(line, part);
}

static void draw(const struct driver *driver, double done, double all, const char *eta) {
    char bar[BAR_CELLS_MOST + 1], part[64];
    double share = all > 0 && done < all ? done / all : all > 0;
    struct bar_line line = {.width = terminal_width() - 1};
    snprintf(line.text, sizeof line.text, " %3.0f %%  %d settled, %d open  ETA %s", 100 * share, driver->n_settled,
             coordinator_open_trials(driver->coordinator), eta);
    add_best(driver, &line);
    add_training(driver, &line);
    snprintf(part, sizeof part, "  %.3g FLOPs of %.3g", done, all);
    add_part(&line, part);
    int cells = line.width - 2 - (int)strlen(line.text);
    cells = cells > BAR_CELLS_MOST ? BAR_CELLS_MOST : cells < BAR_CELLS_LEAST ? BAR_CELLS_LEAST : cells;
    for (int i = 0; i < cells; i++)
        bar[i] = i < (int)(share * cells) ? '#' : '.';
    bar[cells] = '\0';
    int columns = line.width > cells + 2 ? line.width - cells - 2 : 0;
    fprintf(stderr, "\r\033[K[%s]%.*s", bar, columns, line.text);
    fflush(stderr);
}

/* The bar is of the stages begun so far: what later ones take is not known before their best is. */
void progress_line(const struct driver *driver, bool last) {
    static double shown;
    static double flops_at_start = -1;
    if (!isatty(STDERR_FILENO)) return;
    double now = clock_steady();
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
