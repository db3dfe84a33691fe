/* What the report shows, gathered once: which settings vary, curves reduced to what a picture can hold, forecasts of
 * the best trial, and what colours mean. Reads the trials' folders; a missing or damaged file costs that curve only. */
#include "report_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CURVE_POINTS_ALL   120000 /* training points on a page */
#define CURVE_POINTS_MOST  120    /* a curve */
#define CURVE_POINTS_LEAST 50

/* ---- settings that vary ---- */

void report_setting_text(const struct report *report, const struct field *field, int32_t row,
                         char out[REPORT_LABEL_MAX]) {
    const struct result_row *at = &report->results->rows[row];
    const struct config_key *key =
        config_key_find_setting(strcmp(field->name, "lora_rank") == 0 ? "rank" : field->name);
    struct strbuf text;
    strbuf_init(&text);
    if (key && strcmp(field->name, "steps") != 0)
        settings_get(&at->trial.settings, key, &text);
    else
        field_write_cell(field, report->results, at, 0, &text);
    lvs_copy(out, REPORT_LABEL_MAX, text.text ? text.text : "");
    if (field->type == FIELD_F64 && strlen(out) > 9) number_write(field_number(field, report->results, at, 0), 4, out);
    strbuf_free(&text);
}

struct value {
    double number;
    char label[REPORT_LABEL_MAX];
    bool is_text;
};

static int by_value(const void *a, const void *b) {
    const struct value *x = a, *y = b;
    if (x->is_text) return strcmp(x->label, y->label);
    return (x->number > y->number) - (x->number < y->number);
}

static struct value value_of(const struct report *report, const struct field *field, int32_t row) {
    struct value value = {.is_text = field->type == FIELD_TEXT};
    report_setting_text(report, field, row, value.label);
    if (!value.is_text) value.number = field_number(field, report->results, &report->results->rows[row], 0);
    if (isnan(value.number)) value.number = 0; /* "none" of clip_norm */
    return value;
}

static bool axis_make(const struct report *report, const struct field *field, struct report_axis *out) {
    int32_t n_rows = report->results->n_rows, n = 0;
    struct value *values = lvs_malloc((size_t)n_rows * sizeof *values);
    for (int32_t i = 0; i < n_rows; i++)
        values[i] = value_of(report, field, i);
    qsort(values, (size_t)n_rows, sizeof *values, by_value);
    for (int32_t i = 0; i < n_rows; i++)
        if (n == 0 || by_value(&values[i], &values[n - 1]) != 0) values[n++] = values[i];
    *out = (struct report_axis){.field = field, .is_text = field->type == FIELD_TEXT, .n = n};
    if (n >= 2) {
        out->number = lvs_malloc((size_t)n * sizeof *out->number);
        out->label = lvs_malloc((size_t)n * sizeof *out->label);
        out->of_row = lvs_malloc((size_t)n_rows * sizeof *out->of_row);
        for (int32_t i = 0; i < n; i++) {
            out->number[i] = out->is_text ? i : values[i].number;
            lvs_copy(out->label[i], sizeof out->label[i], values[i].label);
        }
        for (int32_t i = 0; i < n_rows; i++) {
            struct value wanted = value_of(report, field, i);
            struct value *found = bsearch(&wanted, values, (size_t)n, sizeof *values, by_value);
            out->of_row[i] = (int32_t)(found - values);
        }
    }
    free(values);
    return n >= 2;
}

/* Alpha that follows the rank says nothing of its own. */
static bool follows_rank(const struct report *report, const struct field *field) {
    if (strcmp(field->name, "alpha") != 0) return false;
    for (int32_t i = 0; i < report->results->n_rows; i++)
        if (!report->results->rows[i].trial.settings.alpha_times_rank) return false;
    return true;
}

/* The columns of settings stand together in the list, from lora_rank up to steps_done. */
static void gather_axes(struct report *report) {
    int32_t i = 0;
    while (i < field_count() && strcmp(field_at(i)->name, "lora_rank") != 0)
        i++;
    for (; i < field_count() && strcmp(field_at(i)->name, "steps_done") != 0; i++) {
        struct report_axis axis;
        if (report->results->n_rows == 0 || follows_rank(report, field_at(i)) || !axis_make(report, field_at(i), &axis))
            continue;
        if (report->n_axes < REPORT_MAX_AXES) {
            report->axes[report->n_axes++] = axis;
        } else {
            report->n_axes_left_out++;
            free(axis.number);
            free(axis.label);
            free(axis.of_row);
        }
    }
}

const struct report_axis *report_axis_find(const struct report *report, const char *field) {
    for (int32_t i = 0; i < report->n_axes; i++)
        if (strcmp(report->axes[i].field->name, field) == 0) return &report->axes[i];
    return NULL;
}

static int32_t choose_color_axis(const struct report *report) {
    static const char *const wanted[] = {"learning_rate", "lora_rank", "context"};
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        for (int32_t i = 0; i < report->n_axes; i++)
            if (strcmp(report->axes[i].field->name, wanted[k]) == 0) return i;
    return report->n_axes ? 0 : -1;
}

int32_t report_color(const struct report *report, int32_t row) {
    if (report->color_axis < 0) return 0;
    const struct report_axis *axis = &report->axes[report->color_axis];
    int32_t k = axis->of_row[row];
    return axis->n <= REPORT_COLORS ? k : (int32_t)((int64_t)k * REPORT_COLORS / axis->n);
}

bool report_in_stage(const struct report *report, int32_t row, int32_t stage) {
    return report->results->rows[row].stages >> stage & 1u;
}

uint64_t report_group_without_context(const struct settings *settings) {
    struct settings copy = *settings;
    copy.context = 0;
    return settings_group(&copy);
}

/* ---- the metric ---- */

/* `channel` < 0: what all channels share. */
static const char *unit_of(const struct report *report, const struct field *field, int32_t channel) {
    if (!field || !field->units || strcmp(field->units, "1") == 0) return "";
    if (strcmp(field->units, "nat token-1") == 0) return "nat/token";
    if (strcmp(field->units, "nat value-1") == 0) return "nat/value";
    bool squared = strcmp(field->units, "data2") == 0;
    if (!squared && strcmp(field->units, "data") != 0) return field->units;
    const char *unit = report->results->channel_unit[channel < 0 ? 0 : channel];
    for (int32_t c = 1; c < report->results->n_channel && channel < 0; c++)
        if (strcmp(unit, report->results->channel_unit[c]) != 0) return squared ? "units²" : "units";
    return squared ? "squared units" : unit;
}

const char *report_unit(const struct report *report, const char *column) {
    return unit_of(report, field_find(column), METRIC_ALL_CHANNELS);
}

const char *report_metric_unit(const struct report *report) {
    struct metric_column column = metric_column(report->results, report->results->metric);
    return unit_of(report, column.field, column.channel);
}

double report_untrained(const struct report *report, int32_t context, int32_t decimals) {
    const char *metric = report->results->metric;
    for (int32_t i = 0; i < report->results->n_baselines; i++) {
        const struct baseline *baseline = &report->results->baselines[i];
        if (baseline->kind != BASELINE_UNTRAINED) continue;
        if (baseline->context != context || baseline->decimals != decimals) continue;
        struct result_row row;
        memset(&row, 0, sizeof row);
        row.record.val_loss = baseline->val_loss;
        row.record.val = baseline->val;
        return metric_value(report->results, &row, metric);
    }
    return NAN;
}

/* ---- curves ---- */

static void curve_reduce(const struct trial_curves *from, int32_t most, struct report_curve *out) {
    out->bin = from->n_step > most ? (from->n_step + most - 1) / most : 1;
    int32_t n = out->bin ? (from->n_step + out->bin - 1) / out->bin : 0;
    out->step = lvs_malloc((size_t)n * sizeof *out->step);
    out->loss = lvs_malloc((size_t)n * sizeof *out->loss);
    for (int32_t i = 0; i < n; i++) {
        int32_t begin = i * out->bin, end = begin + out->bin < from->n_step ? begin + out->bin : from->n_step;
        double sum = 0;
        int32_t finite = 0;
        for (int32_t k = begin; k < end; k++) {
            if (!isfinite(from->train_loss[k])) continue;
            sum += from->train_loss[k];
            finite++;
        }
        out->step[i] = (float)(begin + end + 1) / 2; /* steps count from 1 */
        out->loss[i] = finite ? (float)(sum / finite) : NAN;
    }
    out->n = n;
}

static void curve_load(struct report *report, int32_t row, int32_t most) {
    char folder[LVS_PATH_MAX], path[LVS_PATH_MAX];
    struct lvs_error ignored;
    struct trial_curves curves;
    const char *name = report->results->rows[row].trial.name;
    if (trial_folder(folder, report->results->output, name, &ignored) != LVS_OK ||
        file_join(path, folder, "curves.bin", &ignored) != LVS_OK || !file_exists(path))
        return;
    if (trial_curves_read(folder, &curves, &ignored) != LVS_OK) {
        report->n_damaged++;
        return;
    }
    struct report_curve *out = &report->curves[row];
    curve_reduce(&curves, most, out);
    out->n_evaluation = curves.n_evaluation;
    out->evaluation_step = curves.evaluation_step;
    out->val_loss = curves.val_loss;
    curves.evaluation_step = NULL;
    curves.val_loss = NULL;
    trial_curves_free(&curves);
}

static void load_curves(struct report *report) {
    int32_t n_rows = report->results->n_rows;
    int32_t most = n_rows ? CURVE_POINTS_ALL / n_rows : 0;
    most = most > CURVE_POINTS_MOST ? CURVE_POINTS_MOST : most < CURVE_POINTS_LEAST ? CURVE_POINTS_LEAST : most;
    report->curves = lvs_calloc((size_t)n_rows, sizeof *report->curves);
    for (int32_t i = 0; i < n_rows; i++)
        curve_load(report, i, most);
}

static void load_forecasts(struct report *report) {
    char folder[LVS_PATH_MAX];
    struct lvs_error ignored;
    if (report->best.index < 0) return;
    const struct trial *best = &report->results->rows[report->best.index].trial;
    if (trial_folder(folder, report->results->output, best->name, &ignored) != LVS_OK) return;
    if (trial_forecast_read(folder, best->eval_key, report->forecasts, &report->n_forecasts, &ignored) == LVS_OK)
        return;
    report->n_forecasts = 0;
    report->n_damaged++;
}

/* ---- all of it ---- */

static void gather_rows(struct report *report) {
    const struct results *results = report->results;
    report->metric = lvs_malloc((size_t)results->n_rows * sizeof *report->metric);
    struct range times = range_none();
    for (int32_t i = 0; i < results->n_rows; i++) {
        const struct result_row *row = &results->rows[i];
        bool measured = row->record.status == TRIAL_DONE || row->record.status == TRIAL_SUPERSEDED;
        report->metric[i] = measured ? metric_value(results, row, results->metric) : NAN;
        range_add(&times, row->record.start_time);
        range_add(&times, row->record.status == TRIAL_RUNNING ? results->changed : row->record.end_time);
        if (row->record.status >= 0 && row->record.status < TRIAL_STATUS_COUNT) report->count[row->record.status]++;
    }
    report->begin = times.low;
    report->end = times.high;
}

struct report *report_create(const struct results *results) {
    struct report *report = lvs_calloc(1, sizeof *report);
    report->results = results;
    report->best.index = report->best_stage = -1;
    for (int32_t stage = results->n_stages - 1; stage >= 0 && report->best.index < 0; stage--) {
        report->best = results_best(results, stage, results->metric);
        report->best_stage = report->best.index >= 0 ? stage : -1;
    }
    gather_rows(report);
    gather_axes(report);
    report->color_axis = choose_color_axis(report);
    load_curves(report);
    load_forecasts(report);
    return report;
}

void report_destroy(struct report *report) {
    if (!report) return;
    for (int32_t i = 0; i < report->n_axes; i++) {
        free(report->axes[i].number);
        free(report->axes[i].label);
        free(report->axes[i].of_row);
    }
    for (int32_t i = 0; i < report->results->n_rows; i++) {
        free(report->curves[i].step);
        free(report->curves[i].loss);
        free(report->curves[i].evaluation_step);
        free(report->curves[i].val_loss);
    }
    for (int32_t i = 0; i < report->n_forecasts; i++)
        trial_forecast_free(&report->forecasts[i]);
    free(report->curves);
    free(report->metric);
    free(report);
}
