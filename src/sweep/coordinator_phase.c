/* The phases of a stage: its points all at once, or wave by wave (trend_skip), or rung by rung (halving); then the
 * second pass of `narrow`. A phase is opened when nothing of the one before is open, and what it holds is a function of
 * the settled rows alone: a resume that is given those rows opens the same phases. */
#include <stdlib.h>
#include <string.h>

#include "coordinator_internal.h"

/* ---- waves ---- */

static int32_t wave_of(const struct coordinator *c, int32_t point) {
    return c->axis_values[(size_t)point * (size_t)c->n_axes];
}

static void open_wave(struct coordinator *c) {
    int32_t *rows = lvs_malloc((size_t)c->n_points * sizeof *rows + 1), n = 0;
    for (int32_t i = 0; i < c->n_points; i++) {
        if (c->n_waves > 1 && wave_of(c, i) != c->wave) continue;
        struct trial_state *state = coordinator_at(c, c->stage_rows[i]);
        if (coordinator_is_settled(c, state) || state->queued) continue;
        char why[sizeof state->record.error];
        if (c->wave > 0 && trend_is_hopeless(c, i, why, sizeof why)) {
            lvs_copy(state->record.error, sizeof state->record.error, why);
            coordinator_cut(c, c->stage_rows[i], CUT_BY_TREND);
            continue;
        }
        rows[n++] = c->stage_rows[i];
    }
    coordinator_admit_rows(c, rows, n);
    free(rows);
}

static void count_waves(struct coordinator *c) {
    if (!c->options.trend_skip || c->n_axes < 2) return;
    for (int32_t i = 0; i < c->n_points; i++)
        if (wave_of(c, i) >= c->n_waves) c->n_waves = wave_of(c, i) + 1;
}

/* ---- the second pass ---- */

/* What a plan takes for the leading rows when nothing is measured: the dearest. */
static int32_t dearest_rows(const struct results *table, int32_t most, int32_t *indices) {
    int32_t n = 0;
    for (int32_t i = 0; i < table->n_rows; i++) {
        const struct result_row *row = &table->rows[i];
        if (row->trial.settings.narrow_first == 0) continue;
        int32_t at = n < most ? n++ : most;
        for (; at > 0; at--) {
            const struct result_row *before = &table->rows[indices[at - 1]];
            if (before->trial.price.evaluation >= row->trial.price.evaluation) break;
            if (at < most) indices[at] = indices[at - 1];
        }
        if (at < most) indices[at] = i;
    }
    for (int32_t i = 0; i < n; i++)
        indices[i] = table->rows[indices[i]].trial.index;
    return n;
}

/* The first pass's rows that go on, in the order of their rank. */
static int32_t leading_rows(const struct coordinator *c, int32_t *indices) {
    struct results table = coordinator_table(c);
    int32_t kept = 0;
    for (int32_t i = 0; i < table.n_rows; i++)
        if (table.rows[i].trial.settings.narrow_first > 0) table.rows[kept++] = table.rows[i];
    table.n_rows = kept;
    int32_t n = results_leading(&table, -1, c->options.metric, NARROW_LEADING, indices);
    if (n == 0 && c->options.dearest_is_best) n = dearest_rows(&table, NARROW_LEADING, indices);
    free(table.rows);
    return n;
}

static enum lvs_status open_second_pass(struct coordinator *c, struct lvs_error *err) {
    int32_t *leading = lvs_malloc((size_t)c->n_stage_rows * sizeof *leading + 1), n = 0;
    int32_t n_leading = leading_rows(c, leading), *to_run = lvs_malloc((size_t)n_leading * sizeof *to_run + 1);
    enum lvs_status status = LVS_OK;
    for (int32_t i = 0; i < n_leading && status == LVS_OK; i++) {
        struct trial second;
        bool runs;
        status = c->planner.second_pass(c->planner.context, &coordinator_at(c, leading[i])->trial, &second, err);
        if (status != LVS_OK) break;
        second.stage = c->stage;
        second.parent = leading[i];
        int32_t row = coordinator_place(c, &second, &runs);
        if (runs) to_run[n++] = row;
    }
    if (status == LVS_OK) coordinator_admit_rows(c, to_run, n);
    free(leading);
    free(to_run);
    return status;
}

static bool narrows(const struct coordinator *c) {
    for (int32_t i = 0; c->planner.second_pass && i < c->n_points; i++)
        if (coordinator_at(c, c->stage_rows[i])->trial.settings.narrow_first > 0) return true;
    return false;
}

/* ---- one after another ---- */

void coordinator_first_phase(struct coordinator *c, const int32_t *to_run, int32_t n) {
    c->n_rungs = rungs_of_stage(c);
    count_waves(c);
    if (c->n_rungs > 0)
        rungs_start(c, to_run, n);
    else if (c->n_waves > 1)
        open_wave(c);
    else
        coordinator_admit_rows(c, to_run, n);
}

enum lvs_status coordinator_next_phase(struct coordinator *c, bool *opened, struct lvs_error *err) {
    *opened = true;
    if (rungs_next(c)) return LVS_OK;
    if (c->wave + 1 < c->n_waves) {
        c->wave++;
        open_wave(c);
        return LVS_OK;
    }
    *opened = !c->narrowed && narrows(c);
    c->narrowed = true;
    return *opened ? open_second_pass(c, err) : LVS_OK;
}
