/* The most that a race can cost: one in `factor` goes on at each rung, and nobody knows yet who, so of every segment
 * between rungs the dearest ones that may run it are summed. Knows prices only, neither trials nor a ledger. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "lvsweep/results.h"

/* How many of n that set out for a rung go on from there: ceil(n / factor). */
int32_t race_kept(int32_t n, int32_t factor);

/* The segment prices of one rung, dearest first, and the sum of the `kept` dearest: those that may run it. */
struct dearest {
    int64_t *price; /* [n] */
    int32_t kept;
    __int128 sum;
};
struct race_bound {
    int32_t n, factor, n_segments; /* trials that are in; one in factor goes on; rungs and the end */
    struct dearest segment[RUNGS_MAX + 1];
};
/* Without trials, with room for `most`; n_segments is at most RUNGS_MAX + 1. */
void race_bound_init(struct race_bound *bound, int32_t factor, int32_t n_segments, int32_t most);
/* Takes a trial's segments[n_segments] in when the bound then stays within the room (negative = no limit), or always.
 * false = it stayed out. */
bool race_bound_add(struct race_bound *bound, const int64_t *segments, __int128 room, bool always);
void race_bound_free(struct race_bound *bound);
