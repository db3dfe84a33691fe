/* How long the runs of a journal took, and with how many workers. Invariant: a run lasts from its `sweep` line to its
 * last line, whatever became of it; clocks that go back take no time away. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "results_internal.h"

#define RANKS_MOST 1000000 /* a number that is not ours must not spoil the sum */

/* A worker is journaled when it has said hello. A run that was killed before all had has one rank more than workers at
 * most: the one that only coordinates. */
static int32_t workers_of(const struct run_clock *clock) {
    int32_t workers = clock->n_workers > clock->ranks - 1 ? clock->n_workers : clock->ranks - 1;
    return workers > 1 ? workers : 1;
}

static struct time_used used_by(const struct run_clock *clock) {
    double seconds = clock->last - clock->begin;
    return (struct time_used){.seconds = clock->before.seconds + seconds,
                              .worker_seconds = clock->before.worker_seconds + seconds * workers_of(clock)};
}

static void take_provenance(struct run_clock *clock, const char *name, const char *text) {
    if (strcmp(name, "ranks") == 0) {
        long ranks = strtol(text, NULL, 10);
        clock->ranks = ranks > 0 && ranks <= RANKS_MOST ? (int32_t)ranks : 0;
    }
    if (strncmp(name, "worker_", 7) == 0 && clock->n_workers < RANKS_MOST) clock->n_workers++;
}

void run_clock_take(struct run_clock *clock, const struct journal_event *event) {
    const double now = isfinite(event->time) ? event->time : 0;
    if (event->kind == JOURNAL_SWEEP) *clock = (struct run_clock){.before = used_by(clock), .begin = now, .last = now};
    if (clock->begin > 0 && now > clock->last) clock->last = now;
    if (event->kind == JOURNAL_PROVENANCE && event->name && event->text)
        take_provenance(clock, event->name, event->text);
}

struct time_used results_time_used(const struct results *results) {
    return used_by(&results->clock);
}
