/* Choosing the best trial by a metric: pure functions over the table. */
#include "results_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct metric_column metric_column(const struct results *results, const char *name) {
    const struct metric *metric = metric_find(name, NULL);
    const int32_t n = results->n_channel;
    return (struct metric_column){.field = metric ? field_find(metric->column) : NULL,
                                  .channel = metric_channel(name, results->channel_name, n)};
}

static double value_of(struct metric_column column, const struct results *results, const struct result_row *row) {
    if (!column.field || column.channel == METRIC_NO_CHANNEL) return NAN;
    if (column.channel >= 0) return field_number(column.field, results, row, column.channel);
    int32_t width = column.field->axes == AXES_TRIAL_CHANNEL ? results->n_channel : 1;
    double sum = 0;
    for (int32_t k = 0; k < width; k++)
        sum += field_number(column.field, results, row, k);
    return width ? sum / width : NAN;
}

double metric_value(const struct results *results, const struct result_row *row, const char *name) {
    return value_of(metric_column(results, name), results, row);
}

static bool is_one_of(const char *name, const char *const *list) {
    for (; *list; list++)
        if (strcmp(*list, name) == 0) return true;
    return false;
}

bool metric_comparable(const char *name, const char *axis) {
    static const char *const token_losses[] = {"val_loss", "val_loss_masked", "val_perplexity",
                                               "val_forecast_cross_entropy", NULL};
    static const char *const padded[] = {"val_loss", "val_perplexity", NULL};
    static const char *const writings[] = {"decimals", "vocabulary", "decimal_point", NULL};
    static const char *const forecasts[] = {"history", "horizon", "series", "narrow", NULL};
    const struct metric *metric = metric_find(name, NULL);
    if (!metric) return true;
    if (is_one_of(axis, writings)) return !is_one_of(metric->column, token_losses);
    if (strcmp(axis, "padding") == 0) return !is_one_of(metric->column, padded);
    return metric->need == METRIC_NEEDS_LOSS || !is_one_of(axis, forecasts);
}

uint64_t settings_group(const struct settings *settings) {
    static const struct settings none;
    struct settings copy = *settings;
    struct strbuf text;
    copy.seed = 0;
    strbuf_init(&text);
    members_write(settings_members, &copy, &none, &text);
    uint64_t group = XXH64(text.text, text.length, 0);
    strbuf_free(&text);
    return group;
}

/* ---- results_best ---- */

struct candidate {
    uint64_t group;
    double value;
    int64_t flops; /* of training */
    int32_t index;
    bool first_pass;
};

static int by_group(const void *a, const void *b) {
    const struct candidate *left = a, *right = b;
    if (left->group != right->group) return left->group < right->group ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

void choices_init(struct choices *choices, const char *metric, int32_t n_channel) {
    const struct results nameless = {.n_channel = n_channel};
    *choices = (struct choices){.metric = metric, .column = metric_column(&nameless, metric), .n_channel = n_channel};
}

void choices_free(struct choices *choices) {
    free(choices->all);
    *choices = (struct choices){0};
}

void choices_add(struct choices *choices, const struct result_row *row) {
    const struct results results = {.n_channel = choices->n_channel};
    if (row->record.status != TRIAL_DONE) return;
    double value = value_of(choices->column, &results, row);
    bool first_pass = row->trial.settings.narrow_first > 0;
    choices->second_pass = choices->second_pass || !first_pass;
    if (isnan(value)) return;
    if (choices->n == choices->capacity) {
        choices->capacity = choices->capacity ? 2 * choices->capacity : 64;
        choices->all = lvs_realloc(choices->all, (size_t)choices->capacity * sizeof *choices->all);
    }
    choices->all[choices->n++] = (struct candidate){.group = settings_group(&row->trial.settings),
                                                    .value = metric_highest(choices->metric) ? -value : value,
                                                    .flops = row->record.flops_training,
                                                    .index = row->trial.index,
                                                    .first_pass = first_pass};
}

/* Numbers over the few series of a first pass do not compare with those of the second. */
static void sort_by_group(struct choices *choices) {
    int32_t n = 0;
    for (int32_t i = 0; i < choices->n; i++)
        if (!choices->second_pass || !choices->all[i].first_pass) choices->all[n++] = choices->all[i];
    choices->n = n;
    if (n > 0) qsort(choices->all, (size_t)n, sizeof *choices->all, by_group);
}

static struct choices choices_of(const struct results *results, int32_t stage, const char *metric) {
    struct choices choices;
    choices_init(&choices, metric, results->n_channel);
    choices.column = metric_column(results, metric);
    for (int32_t i = 0; i < results->n_rows; i++) {
        const struct result_row *row = &results->rows[i];
        if (!row->outside && (stage < 0 || (row->stages >> stage & 1u))) choices_add(&choices, row);
    }
    return choices;
}

static bool is_better(double value, int64_t flops, int32_t index, double than, int64_t than_flops, int32_t than_index) {
    if (value != than) return value < than;
    return flops != than_flops ? flops < than_flops : index < than_index;
}

static double mean_of(const struct candidate *group, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += group[i].value;
    return sum / n;
}

static double deviation_of(const struct candidate *group, int32_t n, double mean) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (group[i].value - mean) * (group[i].value - mean);
    return n > 1 ? sqrt(sum / (n - 1)) : NAN;
}

static const struct candidate *best_seed(const struct candidate *group, int32_t n) {
    const struct candidate *best = group;
    for (int32_t i = 1; i < n; i++)
        if (is_better(group[i].value, group[i].flops, group[i].index, best->value, best->flops, best->index))
            best = &group[i];
    return best;
}

/* A run of candidates that differ in the seed only. */
struct seed_group {
    const struct candidate *first, *best;
    int32_t n;
    double mean;
};

static int by_rank(const void *a, const void *b) {
    const struct seed_group *left = a, *right = b;
    const struct candidate *x = left->best, *y = right->best;
    if (x == y) return 0;
    return is_better(left->mean, x->flops, x->index, right->mean, y->flops, y->index) ? -1 : 1;
}

/* Groups in the order of their rank, owned. */
static struct seed_group *rank_groups(struct choices *choices, int32_t *n_groups) {
    sort_by_group(choices);
    struct seed_group *groups = lvs_calloc((size_t)choices->n + 1, sizeof *groups);
    const struct candidate *all = choices->all;
    int32_t n = choices->n, found = 0;
    for (int32_t i = 0, seeds; i < n; i += seeds) {
        for (seeds = 1; i + seeds < n && all[i + seeds].group == all[i].group;)
            seeds++;
        groups[found++] = (struct seed_group){
            .first = all + i, .best = best_seed(all + i, seeds), .n = seeds, .mean = mean_of(all + i, seeds)};
    }
    qsort(groups, (size_t)found, sizeof *groups, by_rank);
    *n_groups = found;
    return groups;
}

struct best_choice choices_best(struct choices *choices) {
    struct best_choice best = {.index = -1, .mean = NAN, .deviation = NAN};
    int32_t n;
    struct seed_group *groups = rank_groups(choices, &n);
    if (n > 0)
        best = (struct best_choice){.index = groups[0].best->index,
                                    .n_seeds = groups[0].n,
                                    .mean = groups[0].mean,
                                    .deviation = deviation_of(groups[0].first, groups[0].n, groups[0].mean)};
    free(groups);
    if (metric_highest(choices->metric)) best.mean = -best.mean;
    return best;
}

struct best_choice results_best(const struct results *results, int32_t stage, const char *metric) {
    struct choices choices = choices_of(results, stage, metric);
    struct best_choice best = choices_best(&choices);
    choices_free(&choices);
    return best;
}

struct best_choice results_best_so_far(const struct results *results) {
    struct best_choice best = {.index = -1, .mean = NAN, .deviation = NAN};
    for (int32_t stage = results->n_stages - 1; stage >= 0 && best.index < 0; stage--)
        best = results_best(results, stage, results->metric);
    return best;
}

int32_t results_leading(const struct results *results, int32_t stage, const char *metric, int32_t most,
                        int32_t *indices) {
    struct choices choices = choices_of(results, stage, metric);
    int32_t n, count = 0;
    struct seed_group *groups = rank_groups(&choices, &n);
    for (int32_t i = 0; i < n && i < most; i++)
        for (int32_t seed = 0; seed < groups[i].n; seed++)
            indices[count++] = groups[i].first[seed].index;
    free(groups);
    choices_free(&choices);
    return count;
}
