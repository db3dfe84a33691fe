/* The page's tables: trials, failures, baselines. Every text from the sweep goes through markup_add. */
#include "report_internal.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void cell(struct strbuf *out, const char *class, const char *text) {
    strbuf_printf(out, "<td%s%s%s>", class[0] ? " class=\"" : "", class, class[0] ? "\"" : "");
    markup_add(out, text);
    strbuf_add(out, "</td>");
}

static void number_cell(struct strbuf *out, double value, int digits) {
    char text[32] = "";
    if (!isnan(value)) number_write(value, digits, text);
    cell(out, "n", text);
}

static void head_cell(struct strbuf *out, const char *class, const char *text, const char *unit) {
    strbuf_printf(out, "<th scope=\"col\"%s%s%s>", class[0] ? " class=\"" : "", class, class[0] ? "\"" : "");
    for (const char *rest = text, *end; *rest; rest = end) { /* may be broken after an underscore */
        char part[64];
        end = rest + strcspn(rest, "_");
        end += *end == '_';
        snprintf(part, sizeof part, "%.*s", (int)(end - rest), rest);
        markup_add(out, part);
        if (*end) strbuf_add(out, "<wbr>");
    }
    if (unit[0]) {
        strbuf_add(out, " <small>");
        markup_add(out, unit);
        strbuf_add(out, "</small>");
    }
    strbuf_add(out, "</th>");
}

/* ---- trials ---- */

struct order {
    const struct report *report;
    int32_t row, stage;
    double value;
};

/* Later stages first, as the best is looked for; within one by the metric, unmeasured last. */
static int by_merit(const void *a, const void *b) {
    const struct order *x = a, *y = b;
    if (x->stage != y->stage) return y->stage - x->stage;
    if (isnan(x->value) != isnan(y->value)) return isnan(x->value) ? 1 : -1;
    if (!isnan(x->value) && x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->row - y->row;
}

static struct order *order_rows(const struct report *report) {
    int32_t n = report->results->n_rows;
    struct order *order = lvs_malloc((size_t)n * sizeof *order);
    double sign = metric_highest(report->results->metric) ? -1 : 1;
    for (int32_t i = 0; i < n; i++) {
        const struct result_row *row = &report->results->rows[i];
        order[i] =
            (struct order){.row = i, .stage = row->outside ? -1 : row->trial.stage, .value = sign * report->metric[i]};
    }
    qsort(order, (size_t)n, sizeof *order, by_merit);
    return order;
}

static bool any_finite(const struct report *report, const char *name) {
    const struct field *field = field_find(name);
    for (int32_t i = 0; field && i < report->results->n_rows; i++)
        if (isfinite(field_number(field, report->results, &report->results->rows[i], 0))) return true;
    return false;
}

/* Measured columns that are shown when a trial has them, beside the metric. */
static const struct {
    const char *name, *heading;
    int digits;
} measured[] = {
    {"val_loss", "val_loss", 4},   {"val_mae_mean", "val MAE", 4},   {"val_r2_mean", "val R²", 3},
    {"test_loss", "test_loss", 4}, {"test_mae_mean", "test MAE", 4},
};
#define N_MEASURED ((int)(sizeof measured / sizeof *measured))

static bool is_shown(const struct report *report, int k) {
    return strcmp(measured[k].name, report->results->metric) != 0 && any_finite(report, measured[k].name);
}

/* A column's numbers with as many decimals as show `digits` digits of the smallest, so that points stand below each
 * other; -1 = sizes too far apart for that, or no number. */
static int32_t column_decimals(double smallest, double largest, int digits) {
    if (!(smallest > 1e-3) || smallest > largest || largest >= 1e5) return -1;
    int before = smallest >= 1 ? (int)floor(log10(smallest)) + 1 : 0;
    return digits > before ? digits - before : 0;
}

static void range_sizes(double value, double *smallest, double *largest) {
    if (!isfinite(value)) return;
    *smallest = fmin(*smallest, fabs(value));
    *largest = fmax(*largest, fabs(value));
}

struct trial_columns {
    bool shown[N_MEASURED];
    int32_t metric, measured[N_MEASURED]; /* decimals */
};

static struct trial_columns columns_make(const struct report *report) {
    struct trial_columns columns;
    double smallest = INFINITY, largest = 0;
    for (int32_t i = 0; i < report->results->n_rows; i++)
        range_sizes(report->metric[i], &smallest, &largest);
    columns.metric = column_decimals(smallest, largest, 5);
    for (int k = 0; k < N_MEASURED; k++) {
        const struct field *field = field_find(measured[k].name);
        columns.shown[k] = is_shown(report, k);
        smallest = INFINITY, largest = 0;
        for (int32_t i = 0; i < report->results->n_rows && columns.shown[k]; i++)
            range_sizes(field_number(field, report->results, &report->results->rows[i], 0), &smallest, &largest);
        columns.measured[k] = column_decimals(smallest, largest, measured[k].digits);
    }
    return columns;
}

static void column_cell(struct strbuf *out, double value, int digits, int32_t decimals) {
    char text[32];
    if (decimals < 0 || !isfinite(value)) {
        number_cell(out, value, digits);
        return;
    }
    snprintf(text, sizeof text, "%.*f", (int)decimals, value);
    cell(out, "n", text);
}

static void trials_head(const struct report *report, const struct trial_columns *columns, struct strbuf *out) {
    strbuf_add(out, "<thead><tr>");
    head_cell(out, "", "stage", "");
    head_cell(out, "", "trial", "");
    for (int32_t a = 0; a < report->n_axes; a++)
        head_cell(out, "n", report->axes[a].field->name, "");
    head_cell(out, "n", report->results->metric, report_metric_unit(report));
    for (int k = 0; k < N_MEASURED; k++)
        if (columns->shown[k]) head_cell(out, "n", measured[k].heading, report_unit(report, measured[k].name));
    head_cell(out, "n", "FLOPs", "counted");
    if (report->results->ledger.capped) head_cell(out, "n", "budget", "%");
    head_cell(out, "n", "time", "");
    head_cell(out, "", "status", "");
    strbuf_add(out, "</tr></thead>\n");
}

static void trial_row(const struct report *report, const struct trial_columns *columns, int32_t i, struct strbuf *out) {
    const struct results *results = report->results;
    const struct result_row *row = &results->rows[i];
    strbuf_printf(out, "<tr data-t=\"%d\" tabindex=\"0\"%s>", i, i == report->best.index ? " class=\"best\"" : "");
    cell(out, "", row->outside ? "outside" : row->trial.stage >= 0 ? results->stage_name[row->trial.stage] : "");
    cell(out, "name", row->trial.name);
    for (int32_t a = 0; a < report->n_axes; a++)
        cell(out, "n", report->axes[a].label[report->axes[a].of_row[i]]);
    column_cell(out, report->metric[i], 5, columns->metric);
    for (int k = 0; k < N_MEASURED; k++)
        if (columns->shown[k])
            column_cell(out, field_number(field_find(measured[k].name), results, row, 0), measured[k].digits,
                        columns->measured[k]);
    number_cell(out, row->charged ? (double)row->charged : NAN, 3);
    if (results->ledger.capped)
        column_cell(out, row->charged ? ledger_percent(&results->ledger, row->charged) : NAN, 3, 2);
    char text[96] = "";
    if (isfinite(row->record.seconds)) duration_write(row->record.seconds, text);
    cell(out, "n", text);
    snprintf(text, sizeof text, "%s", i == report->best.index ? "best" : trial_status_name(row->record.status));
    char class[16];
    snprintf(class, sizeof class, "st%d", row->record.status);
    cell(out, class, text);
    strbuf_add(out, "</tr>\n");
}

void page_trials(struct report *report, struct strbuf *out) {
    if (!report->results->n_rows) {
        strbuf_add(out, "<p class=\"empty\">The sweep has no trials yet.</p>\n");
        return;
    }
    const struct trial_columns columns = columns_make(report);
    struct order *order = order_rows(report);
    strbuf_printf(out, "<div class=\"scroll%s\"><table class=\"trials\">\n",
                  report->results->n_rows > 30 ? " tall" : "");
    trials_head(report, &columns, out);
    strbuf_add(out, "<tbody>\n");
    for (int32_t i = 0; i < report->results->n_rows; i++)
        trial_row(report, &columns, order[i].row, out);
    strbuf_add(out, "</tbody></table></div>\n");
    free(order);
}

/* ---- failures ---- */

static bool is_failure(int32_t status) {
    return status == TRIAL_FAILED || status == TRIAL_DIVERGED || status == TRIAL_INTERRUPTED;
}

static void failure_row(const struct report *report, const struct result_row *row, struct strbuf *out) {
    char text[96];
    strbuf_printf(out, "<tr data-t=\"%d\">", row->trial.index);
    cell(out, "name", row->trial.name);
    snprintf(text, sizeof text, "st%d", row->record.status);
    cell(out, text, trial_status_name(row->record.status));
    snprintf(text, sizeof text, "%d", row->record.steps_done > 0 ? row->record.steps_done : 0);
    cell(out, "n", text);
    snprintf(text, sizeof text, "%d", row->record.attempt > 0 ? row->record.attempt : 0);
    cell(out, "n", text);
    snprintf(text, sizeof text, row->record.worker >= 0 ? "rank %d %.60s" : "", row->record.worker, row->record.host);
    cell(out, "", text);
    const char *cause = row->record.error;
    cell(out, "cause", cause[0] ? cause : row->record.status == TRIAL_INTERRUPTED ? "stopped on request" : "not known");
    strbuf_add(out, "</tr>\n");
    (void)report;
}

static void cut_list(const struct report *report, struct strbuf *out) {
    int32_t n = report->count[TRIAL_CUT];
    if (!n) return;
    strbuf_printf(out, "<details%s><summary>%d trial%s cut by the budget</summary><ul>\n", n <= 12 ? " open" : "", n,
                  n == 1 ? "" : "s");
    for (int32_t i = 0; i < report->results->n_rows; i++) {
        const struct result_row *row = &report->results->rows[i];
        if (row->record.status != TRIAL_CUT) continue;
        strbuf_add(out, "<li><code>");
        markup_add(out, row->trial.name);
        strbuf_add(out, "</code> ");
        markup_add(out, row->cut_reason);
        strbuf_add(out, "</li>\n");
    }
    strbuf_add(out, "</ul></details>\n");
}

/* Early stopping: how far a trial came, its last rung, and the training FLOPs that went back to the budget. */
static void stopped_list(const struct report *report, struct strbuf *out) {
    const struct results *results = report->results;
    int32_t n = report->count[TRIAL_STOPPED];
    if (!n) return;
    strbuf_printf(out, "<details%s><summary>%d trial%s stopped early", n <= 12 ? " open" : "", n, n == 1 ? "" : "s");
    if (results->stop_rule[0]) strbuf_add(out, " by ");
    markup_add(out, results->stop_rule);
    strbuf_add(out, "</summary><ul>\n");
    for (int32_t i = 0; i < results->n_rows; i++) {
        const struct result_row *row = &results->rows[i];
        const struct rung *last = row->rungs.n ? &row->rungs.rung[row->rungs.n - 1] : NULL;
        char loss[40], saved[40];
        if (row->record.status != TRIAL_STOPPED) continue;
        number_write(last ? last->loss : NAN, 5, loss);
        number_write((double)(row->trial.price.training - row->record.flops_training), 4, saved);
        strbuf_printf(out, "<li data-t=\"%d\"><code>", row->trial.index);
        markup_add(out, row->trial.name);
        strbuf_printf(out, "</code> after %d of %.0f steps, ", row->record.steps_done, row->trial.settings.steps.value);
        if (last) strbuf_printf(out, "validation loss %s at its last rung, ", loss);
        strbuf_printf(out, "%s FLOPs of training saved</li>\n", saved);
    }
    strbuf_add(out, "</ul></details>\n");
}

void page_failures(struct report *report, struct strbuf *out) {
    int32_t n = report->count[TRIAL_FAILED] + report->count[TRIAL_DIVERGED] + report->count[TRIAL_INTERRUPTED];
    if (!n) {
        strbuf_add(out, "<p class=\"empty\">No trial failed, diverged or was interrupted.</p>\n");
    } else {
        strbuf_add(out, "<div class=\"scroll\"><table><thead><tr>");
        head_cell(out, "", "trial", "");
        head_cell(out, "", "status", "");
        head_cell(out, "n", "step", "");
        head_cell(out, "n", "attempts", "");
        head_cell(out, "", "worker", "");
        head_cell(out, "", "cause", "");
        strbuf_add(out, "</tr></thead><tbody>\n");
        for (int32_t i = 0; i < report->results->n_rows; i++)
            if (is_failure(report->results->rows[i].record.status)) failure_row(report, &report->results->rows[i], out);
        strbuf_add(out, "</tbody></table></div>\n");
    }
    stopped_list(report, out);
    cut_list(report, out);
}

/* ---- baselines ---- */

/* Columns of the table; those that no baseline has are left out. */
static const struct {
    const char *heading, *column; /* column: the trials' one with the same unit */
    size_t offset;                /* of a double in struct baseline */
    int digits;
} baseline_columns[] = {
    {"val_loss", "val_loss", offsetof(struct baseline, val_loss.loss), 5},
    {"val MAE", "val_mae_mean", offsetof(struct baseline, val.mae_mean), 4},
    {"val MAE scaled", "val_mae_scaled_mean", offsetof(struct baseline, val.mae_scaled_mean), 4},
    {"val R²", "val_r2_mean", offsetof(struct baseline, val.r2_mean), 3},
    {"test_loss", "test_loss", offsetof(struct baseline, test_loss.loss), 5},
    {"test MAE", "test_mae_mean", offsetof(struct baseline, test.mae_mean), 4},
    {"test MAE scaled", "test_mae_scaled_mean", offsetof(struct baseline, test.mae_scaled_mean), 4},
    {"test R²", "test_r2_mean", offsetof(struct baseline, test.r2_mean), 3},
};
#define N_BASELINE_COLUMNS ((int)(sizeof baseline_columns / sizeof *baseline_columns))

static double baseline_number(const struct baseline *baseline, int column) {
    double value;
    memcpy(&value, (const char *)baseline + baseline_columns[column].offset, sizeof value);
    return value;
}

static bool is_measured(const struct results *results, int column) {
    for (int32_t i = 0; i < results->n_baselines; i++)
        if (!isnan(baseline_number(&results->baselines[i], column))) return true;
    return false;
}

void page_baselines(struct report *report, struct strbuf *out) {
    const struct results *results = report->results;
    if (!results->n_baselines) {
        strbuf_add(out, "<p class=\"empty\">No baseline was measured ([evaluate] baselines).</p>\n");
        return;
    }
    strbuf_add(out, "<div class=\"scroll\"><table><thead><tr>");
    head_cell(out, "", "baseline", "");
    head_cell(out, "n", "context", "");
    head_cell(out, "n", "decimals", "");
    for (int k = 0; k < N_BASELINE_COLUMNS; k++)
        if (is_measured(results, k))
            head_cell(out, "n", baseline_columns[k].heading, report_unit(report, baseline_columns[k].column));
    strbuf_add(out, "</tr></thead><tbody>\n");
    for (int32_t i = 0; i < results->n_baselines; i++) {
        const struct baseline *baseline = &results->baselines[i];
        strbuf_add(out, "<tr>");
        cell(out, "", baseline_name(baseline->kind));
        number_cell(out, baseline->context > 0 ? (double)baseline->context : NAN, 6);
        number_cell(out, baseline->decimals >= 0 ? (double)baseline->decimals : NAN, 6);
        for (int k = 0; k < N_BASELINE_COLUMNS; k++)
            if (is_measured(results, k)) number_cell(out, baseline_number(baseline, k), baseline_columns[k].digits);
        strbuf_add(out, "</tr>\n");
    }
    strbuf_add(out, "</tbody></table></div>\n");
}
