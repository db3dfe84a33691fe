/* Stratified splits: series are clustered by their features (mean, amplitude, period, phase lag), shuffled within their
 * cluster, and dealt to the parts in proportion. Deterministic in the seed.
 * Dealing: going through the clusters one after another, each series goes to the part that is furthest behind its
 * share; so every cluster is shared out within one series of proportion, and the sizes are exact. */
#include "data_internal.h"

#include <stdlib.h>

#define STRATA 4 /* report B's analysis of the reference data found four kinds */

/* The part furthest behind; SPLIT_COUNT = in none (what the shares leave over). */
static int most_behind(const int32_t n[SPLIT_COUNT + 1], const int32_t dealt[SPLIT_COUNT + 1], int32_t next,
                       int32_t total) {
    int chosen = -1;
    int64_t worst = 0;
    for (int part = 0; part <= SPLIT_COUNT; part++) {
        if (dealt[part] == n[part]) continue;
        /* share · (next + 1) − dealt, times total to stay in whole numbers */
        int64_t behind = (int64_t)n[part] * (next + 1) - (int64_t)dealt[part] * total;
        if (chosen < 0 || behind > worst) {
            worst = behind;
            chosen = part;
        }
    }
    return chosen;
}

/* Rows by cluster, shuffled within each. */
static int32_t *rows_by_cluster(const struct series_set *set, const int32_t *cluster, struct rng *rng) {
    int32_t *order = lvs_malloc((size_t)set->n_series * sizeof *order);
    int32_t filled = 0;
    for (int32_t k = 0; k < STRATA; k++) {
        int32_t first = filled;
        for (int32_t s = 0; s < set->n_series; s++)
            if (cluster[s] == k) order[filled++] = s;
        rng_shuffle(rng, order + first, filled - first);
    }
    return order;
}

void split_stratified(const struct series_set *set, const int32_t n[SPLIT_COUNT], uint64_t seed, struct split *out) {
    double *table;
    int32_t n_columns = features_table(set, &table);
    int32_t *cluster = lvs_malloc((size_t)set->n_series * sizeof *cluster);
    int32_t k = set->n_series < STRATA ? set->n_series : STRATA;
    kmeans(table, set->n_series, n_columns, k, seed, cluster);
    free(table);

    struct rng rng = rng_make(seed, RNG_STREAM_SPLIT);
    int32_t *order = rows_by_cluster(set, cluster, &rng);
    int32_t size[SPLIT_COUNT + 1] = {n[0], n[1], n[2], set->n_series - n[0] - n[1] - n[2]};
    int32_t dealt[SPLIT_COUNT + 1] = {0};
    for (int32_t i = 0; i < set->n_series; i++) {
        int part = most_behind(size, dealt, i, set->n_series);
        if (part < SPLIT_COUNT) out->rows[part][dealt[part]] = order[i];
        dealt[part]++;
    }
    /* The first few of a part shall not all be of the first cluster. */
    for (int part = 0; part < SPLIT_COUNT; part++)
        rng_shuffle(&rng, out->rows[part], n[part]);
    free(order);
    free(cluster);
}
