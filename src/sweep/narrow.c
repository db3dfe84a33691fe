/* [evaluate] narrow = 5/15: which series a trial's row is forecast on. A row with `narrow` is of the first pass and
 * sees the first 5 of its choice; the row of the second pass names its 20 series itself and has no `narrow` any more,
 * so that each row's settings say what its numbers are over. Order within a choice: the worst, the first, the random
 * ones. */
#include "sweep_internal.h"

static int32_t take(int32_t *room, int32_t wanted) {
    int32_t taken = wanted < *room ? wanted : *room;
    *room -= taken;
    return taken;
}

/* The first n series of a choice, as a choice. */
static struct series_choice first_of(const struct series_choice *choice, int32_t n) {
    bool all = choice->first <= 0 && choice->worst <= 0 && choice->random <= 0;
    if (all) return (struct series_choice){.first = n};
    struct series_choice out = {0};
    out.worst = take(&n, choice->worst);
    out.first = take(&n, choice->first);
    out.random = take(&n, choice->random);
    return out;
}

struct series_choice narrow_choice(const struct settings *settings) {
    return settings->narrow_first > 0 ? first_of(&settings->series, settings->narrow_first) : settings->series;
}

void narrow_second_pass(struct settings *settings) {
    if (settings->narrow_first <= 0) return;
    settings->series = first_of(&settings->series, settings->narrow_first + settings->narrow_then);
    settings->narrow_first = settings->narrow_then = 0;
}
