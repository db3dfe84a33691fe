/* What a race costs at most, kept up to date trial by trial. Pure: prices in, yes or no out. */
#include "race_bound.h"

#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"

int32_t race_kept(int32_t n, int32_t factor) {
    return n / factor + (n % factor != 0);
}

static int32_t place_of(const struct dearest *list, int32_t n, int64_t price) {
    int32_t low = 0, high = n;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (list->price[middle] >= price)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The sum with one price more, of which `kept` count: as many as now, or one more. */
static __int128 sum_with(const struct dearest *list, int32_t n, int32_t kept, int64_t price) {
    bool more = kept > list->kept;
    if (place_of(list, n, price) < kept) return list->sum + price - (more ? 0 : list->price[list->kept - 1]);
    return more ? list->sum + list->price[list->kept] : list->sum;
}

static void dearest_add(struct dearest *list, int32_t n, int32_t kept, int64_t price) {
    int32_t at = place_of(list, n, price);
    list->sum = sum_with(list, n, kept, price);
    list->kept = kept;
    memmove(list->price + at + 1, list->price + at, (size_t)(n - at) * sizeof *list->price);
    list->price[at] = price;
}

void race_bound_init(struct race_bound *bound, int32_t factor, int32_t n_segments, int32_t most) {
    *bound = (struct race_bound){.factor = factor, .n_segments = n_segments};
    for (int32_t k = 0; k < n_segments; k++)
        bound->segment[k].price = lvs_malloc((size_t)most * sizeof(int64_t) + 1);
}

void race_bound_free(struct race_bound *bound) {
    for (int32_t k = 0; k < bound->n_segments; k++)
        free(bound->segment[k].price);
}

bool race_bound_add(struct race_bound *bound, const int64_t *segments, __int128 room, bool always) {
    __int128 total = 0;
    int32_t kept = bound->n + 1;
    for (int32_t k = 0; k < bound->n_segments; k++, kept = race_kept(kept, bound->factor))
        total += sum_with(&bound->segment[k], bound->n, kept, segments[k]);
    if (!always && room >= 0 && total > room) return false;
    kept = bound->n + 1;
    for (int32_t k = 0; k < bound->n_segments; k++, kept = race_kept(kept, bound->factor))
        dearest_add(&bound->segment[k], bound->n, kept, segments[k]);
    bound->n++;
    return true;
}
