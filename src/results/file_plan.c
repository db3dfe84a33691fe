/* What results.h5 holds beside the columns: extents of the curves, the union of all forecasts, and blocks of rows read
 * from the trials' folders. Memory and files of a trial only; no HDF5 here. */
#include "results_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/log.h"

#define PREDICTED_MAX_BYTES ((int64_t)256 << 20) /* above, predictions stay in the trials' folders */
#define BLOCK_MAX_BYTES     ((int64_t)64 << 20)
#define BLOCK_MAX_ROWS      4096

/* ---- files of a trial ---- */

static bool may_have_files(const struct result_row *row) {
    int32_t status = row->record.status;
    return status != TRIAL_PENDING && status != TRIAL_CUT && row->trial.name[0];
}

static bool row_forecasts(const struct results *results, const struct result_row *row, struct trial_forecast *parts,
                          int32_t *count) {
    char folder[LVS_PATH_MAX];
    struct lvs_error err = {0};
    *count = 0;
    if (!may_have_files(row) || (row->record.val.n_series <= 0 && row->record.test.n_series <= 0)) return false;
    enum lvs_status status = trial_folder(folder, results->output, row->trial.name, &err);
    if (status == LVS_OK) status = trial_forecast_read(folder, row->trial.eval_key, parts, count, &err);
    if (status != LVS_OK) log_warning("%s: left out of " RESULTS_FILE, err.text);
    return *count > 0;
}

static bool row_curves(const struct results *results, const struct result_row *row, struct trial_curves *out) {
    char folder[LVS_PATH_MAX], path[LVS_PATH_MAX];
    struct lvs_error err = {0};
    *out = (struct trial_curves){0};
    if (!may_have_files(row)) return false;
    enum lvs_status status = trial_folder(folder, results->output, row->trial.name, &err);
    if (status == LVS_OK) status = file_join(path, folder, "curves.bin", &err);
    if (status == LVS_OK && !file_exists(path)) return false;
    if (status == LVS_OK) status = trial_curves_read(folder, out, &err);
    if (status != LVS_OK) log_warning("%s: left out of " RESULTS_FILE, err.text);
    return status == LVS_OK;
}

static void free_parts(struct trial_forecast *parts, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        trial_forecast_free(&parts[i]);
}

/* ---- the plan ---- */

static int by_number(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/* Merges ascending `from` into the ascending, growing list. */
static void merge_times(struct file_plan *plan, const double *from, int32_t count) {
    int32_t old = plan->n_time;
    for (int32_t i = 0; i < count; i++) {
        if (old && bsearch(&from[i], plan->time, (size_t)old, sizeof *from, by_number)) continue;
        plan->time = lvs_realloc(plan->time, (size_t)(plan->n_time + 1) * sizeof *plan->time);
        plan->time[plan->n_time++] = from[i];
    }
    if (plan->n_time > old) qsort(plan->time, (size_t)plan->n_time, sizeof *plan->time, by_number);
}

struct series_key {
    int32_t part;
    int64_t series;
};

static int by_part(const void *a, const void *b) {
    const struct series_key *left = a, *right = b;
    if (left->part != right->part) return left->part < right->part ? -1 : 1;
    return left->series < right->series ? -1 : left->series > right->series;
}

struct key_list {
    struct series_key *keys;
    int32_t n;
};

static void merge_series(struct key_list *list, const struct trial_forecast *part) {
    int32_t old = list->n;
    for (int32_t i = 0; i < part->n_series; i++) {
        struct series_key key = {.part = part->part, .series = part->series[i]};
        if (old && bsearch(&key, list->keys, (size_t)old, sizeof key, by_part)) continue;
        list->keys = lvs_realloc(list->keys, (size_t)(list->n + 1) * sizeof *list->keys);
        list->keys[list->n++] = key;
    }
    if (list->n > old) qsort(list->keys, (size_t)list->n, sizeof *list->keys, by_part);
}

static int32_t series_position(const struct file_plan *plan, int32_t part, int64_t series) {
    int32_t low = 0, high = plan->n_series - 1;
    struct series_key key = {.part = part, .series = series};
    while (low <= high) {
        int32_t middle = low + (high - low) / 2;
        struct series_key at = {.part = plan->part[middle], .series = plan->series[middle]};
        int order = by_part(&at, &key);
        if (order == 0) return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

static int32_t time_position(const struct file_plan *plan, double time) {
    const double *found = bsearch(&time, plan->time, (size_t)plan->n_time, sizeof time, by_number);
    return found ? (int32_t)(found - plan->time) : -1;
}

/* Copies a part's values to their places in out [n_series][n_time][n_channel]. */
static void scatter_part(const struct file_plan *plan, const struct trial_forecast *part, int32_t n_channel,
                         const double *values, double *out) {
    int32_t channels = part->n_channel < n_channel ? part->n_channel : n_channel;
    for (int32_t s = 0; s < part->n_series; s++) {
        int32_t row = series_position(plan, part->part, part->series[s]);
        for (int32_t t = 0; row >= 0 && t < part->n_time; t++) {
            int32_t column = time_position(plan, part->time[t]);
            if (column < 0) continue;
            const double *from = values + ((int64_t)s * part->n_time + t) * part->n_channel;
            double *to = out + ((int64_t)row * plan->n_time + column) * n_channel;
            for (int32_t c = 0; c < channels; c++)
                if (!isnan(from[c])) to[c] = from[c];
        }
    }
}

static void fill_nan(double *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        values[i] = NAN;
}

static int64_t cube_size(const struct file_plan *plan, int32_t n_channel) {
    return (int64_t)plan->n_series * plan->n_time * n_channel;
}

static bool is_complete(const double *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (isnan(values[i])) return false;
    return true;
}

static void plan_observed(const struct results *results, struct file_plan *plan) {
    int64_t size = cube_size(plan, results->n_channel);
    plan->observed = lvs_malloc((size_t)size * sizeof *plan->observed + 1);
    fill_nan(plan->observed, size);
    for (int32_t r = 0; r < results->n_rows && !is_complete(plan->observed, size); r++) {
        struct trial_forecast parts[SPLIT_COUNT];
        int32_t count;
        if (!row_forecasts(results, &results->rows[r], parts, &count)) continue;
        for (int32_t i = 0; i < count; i++)
            scatter_part(plan, &parts[i], results->n_channel, parts[i].observed, plan->observed);
        free_parts(parts, count);
    }
}

static void plan_forecasts(const struct results *results, struct file_plan *plan) {
    struct key_list list = {0};
    for (int32_t r = 0; r < results->n_rows; r++) {
        struct trial_forecast parts[SPLIT_COUNT];
        int32_t count;
        if (!row_forecasts(results, &results->rows[r], parts, &count)) continue;
        for (int32_t i = 0; i < count; i++) {
            merge_series(&list, &parts[i]);
            merge_times(plan, parts[i].time, parts[i].n_time);
            plan->has_bands |= parts[i].low != NULL;
        }
        free_parts(parts, count);
    }
    plan->n_series = list.n;
    plan->series = lvs_malloc((size_t)list.n * sizeof *plan->series + 1);
    plan->part = lvs_malloc((size_t)list.n * sizeof *plan->part + 1);
    for (int32_t i = 0; i < list.n; i++) {
        plan->series[i] = list.keys[i].series;
        plan->part[i] = list.keys[i].part;
    }
    free(list.keys);
    int64_t bytes = cube_size(plan, results->n_channel) * (int64_t)sizeof(double);
    plan->keep_predicted = results->n_rows == 0 || bytes <= PREDICTED_MAX_BYTES / results->n_rows;
    if (plan->n_series > 0) plan_observed(results, plan);
}

void file_plan_make(const struct results *results, struct file_plan *out) {
    *out = (struct file_plan){.step_stride = 1};
    int32_t most = 0;
    for (int32_t r = 0; r < results->n_rows; r++) {
        const struct result_row *row = &results->rows[r];
        int32_t steps = (int32_t)field_integer(field_find("n_step"), results, row, 0);
        if (steps > most) most = steps;
        if (row->record.n_evaluation > out->n_evaluation) out->n_evaluation = row->record.n_evaluation;
    }
    if (most > STEPS_AS_THEY_ARE) out->step_stride = (most + STEPS_AS_THEY_ARE - 1) / STEPS_AS_THEY_ARE;
    out->n_step = (most + out->step_stride - 1) / out->step_stride;
    plan_forecasts(results, out);
}

void file_plan_free(struct file_plan *plan) {
    free(plan->series);
    free(plan->part);
    free(plan->time);
    free(plan->observed);
    *plan = (struct file_plan){0};
}

int32_t file_plan_block(const struct file_plan *plan, int32_t n_channel) {
    int64_t row = 12 * (int64_t)plan->n_step + 28 * (int64_t)plan->n_evaluation +
                  (plan->keep_predicted ? 24 * cube_size(plan, n_channel) : 0) + 1;
    int64_t rows = BLOCK_MAX_BYTES / row;
    return rows < 1 ? 1 : rows > BLOCK_MAX_ROWS ? BLOCK_MAX_ROWS : (int32_t)rows;
}

/* ---- blocks of rows ---- */

/* As the optimiser scales it, which is PyTorch's way. */
static float norm_clipped(float norm, double clip) {
    return clip > 0 ? norm * (float)fmin(1, clip / ((double)norm + 1e-6)) : norm;
}

static void curves_fill(const struct file_plan *plan, const struct trial_curves *curves, double clip, int32_t i,
                        struct row_block *out) {
    for (int32_t k = 0; k < plan->n_step; k++) {
        int64_t step = (int64_t)k * plan->step_stride;
        bool there = step < curves->n_step;
        int64_t at = (int64_t)i * plan->n_step + k;
        out->train_loss[at] = there ? curves->train_loss[step] : NAN;
        out->gradient_norm[at] = there ? curves->gradient_norm[step] : NAN;
        out->clipped_norm[at] = norm_clipped(out->gradient_norm[at], clip);
    }
    for (int32_t k = 0; k < plan->n_evaluation; k++) {
        int64_t at = (int64_t)i * plan->n_evaluation + k;
        bool there = k < curves->n_evaluation;
        out->evaluation_step[at] = there ? curves->evaluation_step[k] : -1;
        out->val_loss[at] = there ? curves->val_loss[k] : NAN;
        out->val_mae_scaled[at] = there ? curves->val_mae_scaled[k] : NAN;
        out->val_mse_scaled[at] = there ? curves->val_mse_scaled[k] : NAN;
    }
}

/* Mean over points of |predicted − observed|, points without a value left out. */
static void mae_fill(const struct file_plan *plan, const struct trial_forecast *part, int32_t n_channel, double *out) {
    for (int32_t s = 0; s < part->n_series; s++) {
        int32_t row = series_position(plan, part->part, part->series[s]);
        for (int32_t c = 0; row >= 0 && c < part->n_channel && c < n_channel; c++) {
            double sum = 0;
            int32_t count = 0;
            for (int32_t t = 0; t < part->n_time; t++) {
                int64_t at = ((int64_t)s * part->n_time + t) * part->n_channel + c;
                double error = fabs(part->predicted[at] - part->observed[at]);
                if (!isnan(error)) sum += error, count++;
            }
            out[(int64_t)row * n_channel + c] = count ? sum / count : NAN;
        }
    }
}

static void forecasts_fill(const struct results *results, const struct file_plan *plan, const struct result_row *row,
                           int32_t i, struct row_block *out) {
    struct trial_forecast parts[SPLIT_COUNT];
    int32_t count, n_channel = results->n_channel;
    int64_t cube = cube_size(plan, n_channel) * i;
    if (plan->n_series == 0 || !row_forecasts(results, row, parts, &count)) return;
    for (int32_t p = 0; p < count; p++) {
        mae_fill(plan, &parts[p], n_channel, out->mae + (int64_t)i * plan->n_series * n_channel);
        if (out->predicted) scatter_part(plan, &parts[p], n_channel, parts[p].predicted, out->predicted + cube);
        if (out->low && parts[p].low) scatter_part(plan, &parts[p], n_channel, parts[p].low, out->low + cube);
        if (out->high && parts[p].high) scatter_part(plan, &parts[p], n_channel, parts[p].high, out->high + cube);
    }
    free_parts(parts, count);
}

static double *nan_array(int64_t count) {
    double *values = lvs_malloc((size_t)count * sizeof *values + 1);
    fill_nan(values, count);
    return values;
}

void row_block_make(const struct results *results, const struct file_plan *plan, const struct result_row *rows,
                    int32_t count, struct row_block *out) {
    size_t steps = (size_t)count * (size_t)plan->n_step, points = (size_t)count * (size_t)plan->n_evaluation;
    int64_t cube = count * cube_size(plan, results->n_channel);
    bool keeps = plan->keep_predicted;
    *out = (struct row_block){.train_loss = lvs_malloc(steps * sizeof(float) + 1),
                              .gradient_norm = lvs_malloc(steps * sizeof(float) + 1),
                              .clipped_norm = lvs_malloc(steps * sizeof(float) + 1),
                              .evaluation_step = lvs_malloc(points * sizeof(int32_t) + 1),
                              .val_loss = lvs_malloc(points * sizeof(double) + 1),
                              .val_mae_scaled = lvs_malloc(points * sizeof(double) + 1),
                              .val_mse_scaled = lvs_malloc(points * sizeof(double) + 1),
                              .mae = nan_array((int64_t)count * plan->n_series * results->n_channel),
                              .predicted = keeps ? nan_array(cube) : NULL,
                              .low = keeps && plan->has_bands ? nan_array(cube) : NULL,
                              .high = keeps && plan->has_bands ? nan_array(cube) : NULL};
    for (int32_t i = 0; i < count; i++) {
        struct trial_curves curves;
        row_curves(results, &rows[i], &curves);
        curves_fill(plan, &curves, rows[i].trial.settings.clip_norm, i, out);
        trial_curves_free(&curves);
        forecasts_fill(results, plan, &rows[i], i, out);
    }
}

void row_block_free(struct row_block *block) {
    free(block->train_loss);
    free(block->gradient_norm);
    free(block->clipped_norm);
    free(block->evaluation_step);
    free(block->val_loss);
    free(block->val_mae_scaled);
    free(block->val_mse_scaled);
    free(block->predicted);
    free(block->low);
    free(block->high);
    free(block->mae);
    *block = (struct row_block){0};
}

size_t field_bytes(const struct field *field) {
    switch (field->type) {
    case FIELD_F64:
    case FIELD_I64:
        return 8;
    case FIELD_U8:
        return 1;
    default:
        return 4;
    }
}

void row_block_column(const struct field *field, const struct results *results, const struct result_row *rows,
                      int32_t count, void *out) {
    int32_t width = field_width(field, results);
    for (int32_t i = 0; i < count; i++)
        for (int32_t k = 0; k < width; k++) {
            int64_t at = (int64_t)i * width + k;
            if (field->type == FIELD_F64)
                ((double *)out)[at] = field_number(field, results, &rows[i], k);
            else if (field->type == FIELD_I64)
                ((int64_t *)out)[at] = field_integer(field, results, &rows[i], k);
            else if (field->type == FIELD_U8)
                ((uint8_t *)out)[at] = (uint8_t)field_integer(field, results, &rows[i], k);
            else
                ((int32_t *)out)[at] = (int32_t)field_integer(field, results, &rows[i], k);
        }
}
