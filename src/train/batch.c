/* Which windows a step takes: epochs of a seeded permutation, run on into one another, so that no window is left out at
 * an epoch's end. Pure: the order is a function of (seed, number of windows) and its beginning never depends on how
 * many steps follow. */
#include <assert.h>
#include <stdlib.h>

#include "lvsweep/rng.h"
#include "lvsweep/train.h"

/* Epoch e draws from position e · 2³² on: a permutation needs less than that, so any epoch can be drawn alone. */
static void epoch_permutation(uint64_t seed, int64_t epoch, int32_t n_windows, int32_t *windows) {
    for (int32_t i = 0; i < n_windows; i++)
        windows[i] = i;
    struct rng rng = rng_make(seed, RNG_STREAM_SHUFFLE);
    rng.position = (uint64_t)epoch << 32;
    rng_shuffle(&rng, windows, n_windows);
}

void batch_order(const struct settings *settings, int32_t n_windows, int32_t n_steps, int32_t *order) {
    assert(n_windows > 0);
    int64_t count = (int64_t)n_steps * settings->batch;
    if (!settings->shuffle) {
        for (int64_t i = 0; i < count; i++)
            order[i] = (int32_t)(i % n_windows);
        return;
    }
    int32_t *windows = lvs_malloc((size_t)n_windows * sizeof *windows);
    for (int64_t i = 0; i < count; i++) {
        if (i % n_windows == 0) epoch_permutation((uint64_t)settings->seed, i / n_windows, n_windows, windows);
        order[i] = windows[i % n_windows];
    }
    free(windows);
}
