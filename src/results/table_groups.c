/* The closing table's groups: the rows of a stage with equal settings but for the seed, and what is said of one. */
#include "results_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_group(const void *a, const void *b) {
    const struct keyed_row *left = a, *right = b;
    if (left->group != right->group) return left->group < right->group ? -1 : 1;
    return left->row->trial.index < right->row->trial.index ? -1 : 1;
}

static int by_first(const void *a, const void *b) {
    const struct keyed_row *left = a, *right = b;
    if (left->first != right->first) return left->first < right->first ? -1 : 1;
    return left->row->trial.index < right->row->trial.index ? -1 : 1;
}

struct keyed_row *group_rows(const struct results *results, int32_t stage, int32_t *n) {
    struct keyed_row *keyed = lvs_calloc((size_t)results->n_rows + 1, sizeof *keyed);
    *n = 0;
    for (int32_t r = 0; r < results->n_rows; r++) {
        const struct result_row *row = &results->rows[r];
        if (row->outside || !(row->stages >> stage & 1u)) continue;
        keyed[(*n)++] = (struct keyed_row){.group = settings_group(&row->trial.settings), .row = row};
    }
    qsort(keyed, (size_t)*n, sizeof *keyed, by_group);
    for (int32_t i = 0; i < *n; i++)
        keyed[i].first = i && keyed[i].group == keyed[i - 1].group ? keyed[i - 1].first : keyed[i].row->trial.index;
    qsort(keyed, (size_t)*n, sizeof *keyed, by_first);
    return keyed;
}

void group_mean(const struct results *results, const struct keyed_row *group, int32_t n, const char *metric,
                double *mean, double *deviation) {
    double sum = 0, squares = 0;
    int32_t count = 0;
    *mean = *deviation = NAN;
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < n; i++) {
            double value = metric_value(results, group[i].row, metric);
            if (group[i].row->record.status != TRIAL_DONE || isnan(value)) continue;
            if (pass == 0)
                sum += value, count++;
            else
                squares += (value - sum / count) * (value - sum / count);
        }
    if (count > 0) *mean = sum / count;
    if (count > 1) *deviation = sqrt(squares / (count - 1));
}

void group_seeds(const struct keyed_row *group, int32_t n, char out[64]) {
    bool is_range = true;
    for (int32_t i = 1; i < n; i++)
        is_range = is_range && group[i].row->trial.settings.seed == group[i - 1].row->trial.settings.seed + 1;
    long long first = group[0].row->trial.settings.seed, last = group[n - 1].row->trial.settings.seed;
    if (n == 1)
        snprintf(out, 64, "%lld", first);
    else if (is_range)
        snprintf(out, 64, "%lld-%lld", first, last);
    else
        snprintf(out, 64, "%d seeds", n);
}

void group_status(const struct keyed_row *group, int32_t n, struct strbuf *out) {
    int32_t counts[TRIAL_STATUS_COUNT] = {0};
    for (int32_t i = 0; i < n; i++)
        counts[group[i].row->record.status]++;
    if (counts[TRIAL_DONE]) strbuf_add(out, "done");
    if (counts[TRIAL_DONE] && n > 1) strbuf_printf(out, " %d/%d", counts[TRIAL_DONE], n);
    for (int32_t status = 0; status < TRIAL_STATUS_COUNT; status++) {
        if (status == TRIAL_DONE || counts[status] == 0) continue;
        if (out->length) strbuf_add(out, ", ");
        if (n > 1) strbuf_printf(out, "%d ", counts[status]);
        strbuf_add(out, trial_status_name(status));
        for (int32_t i = 0; i < n && (status == TRIAL_DIVERGED || status == TRIAL_STOPPED); i++)
            if (group[i].row->record.status == status) {
                strbuf_printf(out, " (step %d)", group[i].row->record.steps_done);
                break;
            }
    }
    if (n == 1 && group->row->record.status == TRIAL_FAILED) strbuf_printf(out, ": %s", group->row->record.error);
    if (n == 1 && group->row->record.status == TRIAL_CUT && group->row->cut_reason[0])
        strbuf_printf(out, ": %s", group->row->cut_reason);
}

bool group_holds_best(const struct results *results, int32_t stage, const struct keyed_row *group, int32_t n) {
    int32_t last = results->n_stages - 1;
    while (last >= 0 && results->stage_best[last] < 0)
        last--;
    for (int32_t i = 0; i < n && stage == last; i++)
        if (group[i].row->trial.index == results->stage_best[last]) return true;
    return false;
}

double group_mean_of(const struct results *results, const struct keyed_row *group, int32_t n, const char *name) {
    double sum = 0;
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++) {
        double value = field_number(field_find(name), results, group[i].row, 0);
        if (!isnan(value)) sum += value, count++;
    }
    return count ? sum / count : NAN;
}
