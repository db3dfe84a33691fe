/* Which series are evaluated: the union of the first, the worst and some random ones of a split. Pure. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "evaluate_internal.h"
#include "lvsweep/rng.h"

/* A series with its score; no score at all (no readable forecast) is the worst there is. */
struct scored {
    double score;
    int32_t at;
};

static int worse_first(const void *left, const void *right) {
    const struct scored *a = left, *b = right;
    double x = isnan(a->score) ? INFINITY : a->score, y = isnan(b->score) ? INFINITY : b->score;
    if (x != y) return x > y ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at);
}

static void choose_worst(int32_t count, const double *score, int32_t n, uint8_t *chosen) {
    if (count <= 0) return;
    assert(score != NULL);
    struct scored *order = lvs_malloc(((size_t)n + 1) * sizeof *order);
    for (int32_t i = 0; i < n; i++)
        order[i] = (struct scored){.score = score[i], .at = i};
    qsort(order, (size_t)n, sizeof *order, worse_first);
    for (int32_t i = 0; i < n && i < count; i++)
        chosen[order[i].at] = 1;
    free(order);
}

/* Among those not chosen yet, so that worst:20+random:5 is 25 series. */
static void choose_random(int32_t count, uint64_t seed, int32_t n, uint8_t *chosen) {
    if (count <= 0) return;
    int32_t *left = lvs_malloc(((size_t)n + 1) * sizeof *left), n_left = 0;
    for (int32_t i = 0; i < n; i++)
        if (!chosen[i]) left[n_left++] = i;
    struct rng rng = rng_make(seed, RNG_STREAM_SUBSET);
    rng_shuffle(&rng, left, n_left);
    for (int32_t i = 0; i < n_left && i < count; i++)
        chosen[left[i]] = 1;
    free(left);
}

static int ascending(const void *left, const void *right) {
    const int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;
    return (a > b) - (a < b);
}

int32_t series_choice_least(const struct series_choice *choice, int32_t n) {
    int64_t least = (choice->worst > choice->first ? choice->worst : choice->first) + (int64_t)choice->random;
    return least <= 0 || least > n ? n : (int32_t)least;
}

int32_t series_choice_apply(const struct series_choice *choice, const int32_t *rows, int32_t n, const double *score,
                            uint64_t seed, int32_t *out) {
    bool all = choice->first <= 0 && choice->worst <= 0 && choice->random <= 0;
    uint8_t *chosen = lvs_calloc((size_t)n + 1, 1);
    for (int32_t i = 0; i < n && (all || i < choice->first); i++)
        chosen[i] = 1;
    choose_worst(choice->worst, score, n, chosen);
    choose_random(choice->random, seed, n, chosen);
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        if (chosen[i]) out[count++] = rows[i];
    free(chosen);
    qsort(out, (size_t)count, sizeof *out, ascending);
    return count;
}
