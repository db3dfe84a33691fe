/* The layout of results.h5: every scale, column, baseline and forecast, made by one process from the list of columns.
 * Rows of numeric columns are h5_file_rows.c's, what the file says of the sweep as a whole h5_file_about.c's. */
#include "h5_file_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- scales ---- */

static void write_scales(struct writer *w) {
    const struct results *results = w->results;
    const char *stages[CONFIG_MAX_STAGES], *channels[LVS_MAX_CHANNELS];
    for (int32_t i = 0; i < results->n_stages; i++)
        stages[i] = results->stage_name[i];
    for (int32_t i = 0; i < results->n_channel; i++)
        channels[i] = results->channel_name[i];
    int64_t *steps = lvs_malloc(((size_t)w->plan->n_step + 1) * sizeof *steps);
    int32_t *evaluations = lvs_malloc(((size_t)w->plan->n_evaluation + 1) * sizeof *evaluations);
    for (int32_t k = 0; k < w->plan->n_step; k++)
        steps[k] = (int64_t)k * w->plan->step_stride;
    for (int32_t k = 0; k < w->plan->n_evaluation; k++)
        evaluations[k] = k;
    int32_t *trials = lvs_malloc(((size_t)results->n_rows + 1) * sizeof *trials);
    row_block_column(field_find("trial"), results, results->rows, results->n_rows, trials);
    h5_scale(w, w->file, AXIS_TRIAL, "trial", H5T_NATIVE_INT32, trials, field_find("trial")->long_name, NULL);
    h5_scale(w, w->file, AXIS_STAGE, "stage", w->string, stages, "stage of the sweep", NULL);
    h5_scale(w, w->file, AXIS_CHANNEL, "channel", w->string, channels, "variable of the series", NULL);
    h5_scale(w, w->file, AXIS_STEP, "step", H5T_NATIVE_INT64, steps, "updates done before", "1");
    h5_scale(w, w->file, AXIS_EVALUATION, "evaluation", H5T_NATIVE_INT32, evaluations, "number of the evaluation", "1");
    free(steps);
    free(evaluations);
    free(trials);
}

/* ---- columns ---- */

hid_t h5_field_type(const struct writer *w, const struct field *field) {
    switch (field->type) {
    case FIELD_F64:
        return H5T_NATIVE_DOUBLE;
    case FIELD_F32:
        return H5T_NATIVE_FLOAT;
    case FIELD_I64:
        return H5T_NATIVE_INT64;
    case FIELD_I32:
        return H5T_NATIVE_INT32;
    case FIELD_U8:
        return H5T_NATIVE_UINT8;
    default:
        return w->string;
    }
}

/* Units of the data when all channels share them; NULL when they differ (variable channel_unit has them). */
static const char *field_units(const struct results *results, const struct field *field, char out[40]) {
    if (!field->units || strncmp(field->units, "data", 4) != 0) return field->units;
    for (int32_t c = 1; c < results->n_channel; c++)
        if (strcmp(results->channel_unit[c], results->channel_unit[0]) != 0) return NULL;
    if (results->n_channel == 0 || results->channel_unit[0][0] == '\0') return "1";
    snprintf(out, 40, "%s%s", results->channel_unit[0], field->units + 4); /* "data2" is the square */
    return out;
}

static void missing_value(struct writer *w, hid_t id, const struct field *field) {
    const double nan_double = NAN;
    const float nan_float = NAN;
    const int32_t none = -1;
    if (field->type == FIELD_F64) h5_attribute_values(w, id, "_FillValue", H5T_NATIVE_DOUBLE, &nan_double, 1);
    if (field->type == FIELD_F32) h5_attribute_values(w, id, "_FillValue", H5T_NATIVE_FLOAT, &nan_float, 1);
    if (field->type == FIELD_I32 && (field->flags & FIELD_OPTIONAL))
        h5_attribute_values(w, id, "_FillValue", H5T_NATIVE_INT32, &none, 1);
}

static void flags(struct writer *w, hid_t id, const struct field *field) {
    uint8_t values[TRIAL_STATUS_COUNT];
    struct strbuf meanings;
    bool is_status = strcmp(field->name, "status") == 0;
    int count = is_status ? TRIAL_STATUS_COUNT : 2;
    strbuf_init(&meanings);
    for (int i = 0; i < count; i++) {
        values[i] = (uint8_t)i;
        strbuf_printf(&meanings, "%s%s", i ? " " : "", is_status ? trial_status_name(i) : i ? "yes" : "no");
    }
    h5_attribute_values(w, id, "flag_values", H5T_NATIVE_UINT8, values, (hsize_t)count);
    h5_attribute(w, id, "flag_meanings", meanings.text);
    strbuf_free(&meanings);
}

static void coordinates(struct writer *w, hid_t id) {
    struct strbuf names;
    strbuf_init(&names);
    for (int32_t i = 0; i < field_count(); i++)
        if (field_at(i)->flags & FIELD_COORDINATE)
            strbuf_printf(&names, "%s%s", names.length ? " " : "", field_at(i)->name);
    h5_attribute(w, id, "coordinates", names.text);
    strbuf_free(&names);
}

bool h5_is_scale(const struct field *field) {
    return strcmp(field->name, "trial") == 0;
}

static void column_create(struct writer *w, const struct field *field) {
    static const enum axis second[] = {[AXES_TRIAL] = AXIS_TRIAL,
                                       [AXES_TRIAL_CHANNEL] = AXIS_CHANNEL,
                                       [AXES_TRIAL_STAGE] = AXIS_STAGE,
                                       [AXES_TRIAL_STEP] = AXIS_STEP,
                                       [AXES_TRIAL_EVALUATION] = AXIS_EVALUATION};
    const enum axis axes[] = {AXIS_TRIAL, second[field->axes]};
    char units[40];
    if (h5_is_scale(field)) return;
    hid_t id = h5_variable(w, w->file, field->name, h5_field_type(w, field), field->axes == AXES_TRIAL ? 1 : 2, axes,
                           field->long_name, field_units(w->results, field, units));
    if (id < 0) return;
    missing_value(w, id, field);
    if (field->type == FIELD_U8) flags(w, id, field);
    if (!(field->flags & FIELD_COORDINATE)) coordinates(w, id);
    if (field->type != FIELD_TEXT) {
        h5_check(w, H5Dclose(id) >= 0, "close", field->name);
        return;
    }
    const char **texts = lvs_calloc((size_t)w->results->n_rows + 1, sizeof *texts);
    struct strbuf *cells = lvs_calloc((size_t)w->results->n_rows + 1, sizeof *cells);
    for (int32_t r = 0; r < w->results->n_rows; r++) {
        strbuf_init(&cells[r]);
        field_text(field, w->results, &w->results->rows[r], &cells[r]);
        texts[r] = cells[r].text ? cells[r].text : "";
    }
    h5_write_all(w, id, field->name, w->string, texts, (hsize_t)w->results->n_rows);
    for (int32_t r = 0; r < w->results->n_rows; r++)
        strbuf_free(&cells[r]);
    free(cells);
    free(texts);
}

static void write_stage_and_channel(struct writer *w) {
    const struct results *results = w->results;
    const enum axis stage = AXIS_STAGE, channel = AXIS_CHANNEL;
    const char *units[LVS_MAX_CHANNELS];
    const int32_t none = -1;
    for (int32_t c = 0; c < results->n_channel; c++)
        units[c] = results->channel_unit[c];
    hid_t id =
        h5_variable(w, w->file, "best_trial", H5T_NATIVE_INT32, 1, &stage, "best trial of the stage by metric", NULL);
    if (id >= 0) h5_attribute_values(w, id, "_FillValue", H5T_NATIVE_INT32, &none, 1);
    h5_write_all(w, id, "best_trial", H5T_NATIVE_INT32, results->stage_best, (hsize_t)results->n_stages);
    id = h5_variable(w, w->file, "channel_unit", w->string, 1, &channel, "units of the variable", NULL);
    h5_write_all(w, id, "channel_unit", w->string, units, (hsize_t)results->n_channel);
}

/* ---- baselines ---- */

/* "untrained", or with context and decimals when there are several of the kind. */
static void baseline_label(const struct results *results, int32_t i, char out[64]) {
    const struct baseline *baseline = &results->baselines[i];
    int32_t equal = 0;
    for (int32_t k = 0; k < results->n_baselines; k++)
        equal += results->baselines[k].kind == baseline->kind;
    if (equal == 1)
        lvs_copy(out, 64, baseline_name(baseline->kind));
    else
        snprintf(out, 64, "%s c%d d%d %.6s", baseline_name(baseline->kind), baseline->context, baseline->decimals,
                 baseline->key);
}

/* The metrics of a column of trials, as baseline_<name>. */
static void baseline_metrics(struct writer *w, const struct field *field, const struct result_row *rows) {
    const enum axis axes[] = {AXIS_BASELINE, AXIS_CHANNEL};
    int32_t n = w->results->n_baselines, width = field_width(field, w->results);
    char name[80], units[40];
    double *values = lvs_malloc((size_t)n * (size_t)width * sizeof *values + 1);
    snprintf(name, sizeof name, "baseline_%s", field->name);
    row_block_column(field, w->results, rows, n, values);
    hid_t id = h5_variable(w, w->file, name, H5T_NATIVE_DOUBLE, field->axes == AXES_TRIAL ? 1 : 2, axes,
                           field->long_name, field_units(w->results, field, units));
    if (id >= 0) missing_value(w, id, field);
    h5_write_all(w, id, name, H5T_NATIVE_DOUBLE, values, (hsize_t)n * (hsize_t)width);
    free(values);
}

static void baseline_numbers(struct writer *w) {
    const enum axis axis = AXIS_BASELINE;
    int32_t n = w->results->n_baselines;
    int32_t *context = lvs_malloc((size_t)n * 4 + 1), *decimals = lvs_malloc((size_t)n * 4 + 1);
    int64_t *counted = lvs_malloc((size_t)n * 8 + 1), *executed = lvs_malloc((size_t)n * 8 + 1);
    double *seconds = lvs_malloc((size_t)n * 8 + 1);
    for (int32_t i = 0; i < n; i++) {
        const struct baseline *baseline = &w->results->baselines[i];
        context[i] = baseline->context;
        decimals[i] = baseline->decimals;
        counted[i] = baseline->flops_evaluation;
        executed[i] = baseline->flops_executed;
        seconds[i] = baseline->seconds;
    }
    const struct {
        const char *name, *long_name, *units;
        hid_t type;
        const void *values;
    } all[] = {
        {"baseline_context", "tokens of a window, -1 where it does not matter", "token", H5T_NATIVE_INT32, context},
        {"baseline_decimals", "decimals, -1 where they do not matter", "1", H5T_NATIVE_INT32, decimals},
        {"baseline_flops_evaluation", "FLOPs of the evaluation, by the convention", "FLOP", H5T_NATIVE_INT64, counted},
        {"baseline_flops_executed", "FLOPs of the products that ran", "FLOP", H5T_NATIVE_INT64, executed},
        {"baseline_seconds", "time of the evaluation", "s", H5T_NATIVE_DOUBLE, seconds},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        hid_t id = h5_variable(w, w->file, all[i].name, all[i].type, 1, &axis, all[i].long_name, all[i].units);
        h5_write_all(w, id, all[i].name, all[i].type, all[i].values, (hsize_t)n);
    }
    free(context);
    free(decimals);
    free(counted);
    free(executed);
    free(seconds);
}

static void write_baselines(struct writer *w) {
    int32_t n = w->results->n_baselines;
    char(*labels)[64] = lvs_calloc((size_t)n + 1, sizeof *labels);
    const char **names = lvs_calloc((size_t)n + 1, sizeof *names);
    struct result_row *rows = lvs_calloc((size_t)n + 1, sizeof *rows);
    for (int32_t i = 0; i < n; i++) {
        baseline_label(w->results, i, labels[i]);
        names[i] = labels[i];
        rows[i].record.val_loss = w->results->baselines[i].val_loss;
        rows[i].record.test_loss = w->results->baselines[i].test_loss;
        rows[i].record.val = w->results->baselines[i].val;
        rows[i].record.test = w->results->baselines[i].test;
    }
    h5_scale(w, w->file, AXIS_BASELINE, "baseline", w->string, names, "forecast or model that trials are compared with",
             NULL);
    for (int32_t i = 0; i < field_count(); i++) {
        const struct field *field = field_at(i);
        bool is_metric = strncmp(field->name, "val_", 4) == 0 || strncmp(field->name, "test_", 5) == 0;
        if (is_metric && field->type == FIELD_F64 && field->axes <= AXES_TRIAL_CHANNEL)
            baseline_metrics(w, field, rows);
    }
    baseline_numbers(w);
    free(labels);
    free(names);
    free(rows);
}

/* ---- forecasts ---- */

static void write_forecast_coordinates(struct writer *w, hid_t where) {
    const enum axis series = AXIS_SERIES;
    static const uint8_t values[] = {SPLIT_TRAIN, SPLIT_VALIDATION, SPLIT_TEST};
    uint8_t *parts = lvs_malloc((size_t)w->plan->n_series + 1);
    for (int32_t s = 0; s < w->plan->n_series; s++)
        parts[s] = (uint8_t)w->plan->part[s];
    h5_scale(w, where, AXIS_SERIES, "series", H5T_NATIVE_INT64, w->plan->series, "row of the series in the data file",
             NULL);
    h5_scale(w, where, AXIS_TIME, "time", H5T_NATIVE_DOUBLE, w->plan->time, "time of the point",
             w->results->time_unit[0] ? w->results->time_unit : NULL);
    hid_t id = h5_variable(w, where, "split", H5T_NATIVE_UINT8, 1, &series, "split that the series belongs to", NULL);
    if (id >= 0) h5_attribute_values(w, id, "flag_values", H5T_NATIVE_UINT8, values, 3);
    if (id >= 0) h5_attribute(w, id, "flag_meanings", "train validation test");
    h5_write_all(w, id, "split", H5T_NATIVE_UINT8, parts, (hsize_t)w->plan->n_series);
    free(parts);
}

const struct forecast_column forecast_columns[N_FORECAST_COLUMNS] = {
    {"predicted", "forecast; the median with several samples", false, true},
    {"predicted_q05", "5 % quantile of the samples", true, true},
    {"predicted_q95", "95 % quantile of the samples", true, true},
    {"mae", "mean absolute error of the forecast", false, false},
};

bool h5_has_forecast_column(const struct file_plan *plan, const struct forecast_column *column) {
    return !column->over_time || (plan->keep_predicted && (!column->bands || plan->has_bands));
}

static void write_forecast(struct writer *w) {
    static const struct field data = {.units = "data", .type = FIELD_F64};
    const enum axis cube[] = {AXIS_SERIES, AXIS_TIME, AXIS_CHANNEL},
                    of_trial[] = {AXIS_TRIAL, AXIS_SERIES, AXIS_TIME, AXIS_CHANNEL},
                    errors[] = {AXIS_TRIAL, AXIS_SERIES, AXIS_CHANNEL};
    char text[40];
    const char *units = field_units(w->results, &data, text);
    hid_t where = h5_group(w, "forecast");
    if (where < 0) return;
    write_forecast_coordinates(w, where);
    hid_t id = h5_variable(w, where, "observed", H5T_NATIVE_DOUBLE, 3, cube, "value of the series", units);
    if (id >= 0) missing_value(w, id, &data);
    h5_write_all(w, id, "observed", H5T_NATIVE_DOUBLE, w->plan->observed,
                 h5_extent(w, AXIS_SERIES) * h5_extent(w, AXIS_TIME) * h5_extent(w, AXIS_CHANNEL));
    for (int i = 0; i < N_FORECAST_COLUMNS; i++) {
        const struct forecast_column *column = &forecast_columns[i];
        if (!h5_has_forecast_column(w->plan, column)) continue;
        id = h5_variable(w, where, column->name, H5T_NATIVE_DOUBLE, column->over_time ? 4 : 3,
                         column->over_time ? of_trial : errors, column->long_name, units);
        if (id >= 0) missing_value(w, id, &data);
        if (id >= 0) h5_check(w, H5Dclose(id) >= 0, "close", column->name);
    }
    if (!w->plan->keep_predicted)
        h5_attribute(w, where, "comment",
                     "predictions are too large for this file: trials/<name>/forecast.bin has them");
    H5Dclose(w->scales[AXIS_SERIES]);
    H5Dclose(w->scales[AXIS_TIME]);
    H5Gclose(where);
}

void h5_write_layout(struct writer *w) {
    h5_write_root(w);
    write_scales(w);
    for (int32_t i = 0; i < field_count(); i++)
        column_create(w, field_at(i));
    write_stage_and_channel(w);
    write_baselines(w);
    write_forecast(w);
    h5_write_ledger(w);
    h5_write_texts(w);
    for (int axis = AXIS_TRIAL; axis <= AXIS_BASELINE; axis++)
        if (w->scales[axis] >= 0) H5Dclose(w->scales[axis]);
}
