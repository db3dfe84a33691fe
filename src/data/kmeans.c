/* K-means: k-means++ start (Arthur, Vassilvitskii, SODA 2007) and Lloyd's iterations, on small tables.
 * Deterministic: one random stream of the seed, ties go to the lower cluster, sums in row order. */
#include "data_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 200

struct clustering {
    const double *table; /* [n_rows][n_columns] */
    int32_t n_rows, n_columns, k;
    double *centre;   /* [k][n_columns], owned */
    double *distance; /* [n_rows] squared, to the nearest centre, owned */
    int32_t *cluster; /* [n_rows], the caller's */
};

static double squared_distance(const double *left, const double *right, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (left[i] - right[i]) * (left[i] - right[i]);
    return sum;
}

static const double *row_of(const struct clustering *state, int32_t row) {
    return state->table + (int64_t)row * state->n_columns;
}

static void set_centre(struct clustering *state, int32_t k, int32_t row) {
    memcpy(state->centre + (int64_t)k * state->n_columns, row_of(state, row),
           (size_t)state->n_columns * sizeof *state->centre);
}

/* Each further centre is a row drawn with probability in proportion to its squared distance from those chosen. */
static void choose_start(struct clustering *state, uint64_t seed) {
    struct rng rng = rng_make(seed, RNG_STREAM_SUBSET);
    set_centre(state, 0, (int32_t)rng_below(&rng, (uint32_t)state->n_rows));
    for (int32_t i = 0; i < state->n_rows; i++)
        state->distance[i] = INFINITY;
    for (int32_t k = 1; k < state->k; k++) {
        double total = 0;
        for (int32_t i = 0; i < state->n_rows; i++) {
            const double *newest = state->centre + (int64_t)(k - 1) * state->n_columns;
            state->distance[i] = fmin(state->distance[i], squared_distance(row_of(state, i), newest, state->n_columns));
            total += state->distance[i];
        }
        double drawn = rng_uniform(&rng) * total;
        int32_t row = 0;
        while (row + 1 < state->n_rows && drawn >= state->distance[row])
            drawn -= state->distance[row++];
        set_centre(state, k, row);
    }
}

/* Returns whether any row changed its cluster. */
static bool assign_rows(struct clustering *state) {
    bool changed = false;
    for (int32_t i = 0; i < state->n_rows; i++) {
        int32_t nearest = 0;
        double least = INFINITY;
        for (int32_t k = 0; k < state->k; k++) {
            double distance =
                squared_distance(row_of(state, i), state->centre + (int64_t)k * state->n_columns, state->n_columns);
            if (distance < least) {
                least = distance;
                nearest = k;
            }
        }
        changed |= state->cluster[i] != nearest;
        state->cluster[i] = nearest;
        state->distance[i] = least;
    }
    return changed;
}

/* Centres become means; an empty cluster takes the row furthest from its centre. */
static void move_centres(struct clustering *state) {
    for (int32_t k = 0; k < state->k; k++) {
        double *centre = state->centre + (int64_t)k * state->n_columns;
        int32_t count = 0, furthest = 0;
        memset(centre, 0, (size_t)state->n_columns * sizeof *centre);
        for (int32_t i = 0; i < state->n_rows; i++) {
            if (state->distance[i] > state->distance[furthest]) furthest = i;
            if (state->cluster[i] != k) continue;
            for (int32_t j = 0; j < state->n_columns; j++)
                centre[j] += row_of(state, i)[j];
            count++;
        }
        if (count == 0) {
            set_centre(state, k, furthest);
            state->distance[furthest] = 0;
        }
        for (int32_t j = 0; j < state->n_columns && count > 0; j++)
            centre[j] /= count;
    }
}

/* Numbers clusters by falling size, ties by their first row. */
static void number_clusters(struct clustering *state) {
    int32_t *size = lvs_calloc((size_t)state->k * 3, sizeof *size), *first = size + state->k,
            *number = first + state->k;
    for (int32_t i = state->n_rows - 1; i >= 0; i--) {
        size[state->cluster[i]]++;
        first[state->cluster[i]] = i;
    }
    for (int32_t k = 0; k < state->k; k++)
        for (int32_t other = 0; other < state->k; other++)
            number[k] += size[other] > size[k] || (size[other] == size[k] && first[other] < first[k]);
    for (int32_t i = 0; i < state->n_rows; i++)
        state->cluster[i] = number[state->cluster[i]];
    free(size);
}

double kmeans(const double *table, int32_t n_rows, int32_t n_columns, int32_t k, uint64_t seed, int32_t *cluster) {
    struct clustering state = {.table = table, .n_rows = n_rows, .n_columns = n_columns, .k = k, .cluster = cluster};
    state.centre = lvs_calloc((size_t)k * (size_t)n_columns, sizeof *state.centre);
    state.distance = lvs_calloc((size_t)n_rows, sizeof *state.distance);
    memset(cluster, 0xff, (size_t)n_rows * sizeof *cluster); /* -1 */
    choose_start(&state, seed);
    for (int round = 0; round < ROUNDS_MAX && assign_rows(&state); round++)
        move_centres(&state);
    double sum = 0;
    for (int32_t i = 0; i < n_rows; i++)
        sum += state.distance[i];
    number_clusters(&state);
    free(state.centre);
    free(state.distance);
    return sum;
}
