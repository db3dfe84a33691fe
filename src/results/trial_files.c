/* What a worker leaves in OUTPUT/trials/<name>/ beside the adapter: curves.bin and forecast.bin. The collective write
 * of results.h5 reads them again. Whole or absent; read back with a checksum. */
#include "results_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CURVES_FILE   "curves.bin"
#define FORECAST_FILE "forecast.bin"

enum lvs_status trial_folder(char out[LVS_PATH_MAX], const char *output, const char *trial_name,
                             struct lvs_error *err) {
    if (trial_name[0] == '\0' || trial_name[0] == '.' || strchr(trial_name, '/'))
        return lvs_fail(err, LVS_INPUT, "\"%s\" is no name of a trial", trial_name);
    char trials[LVS_PATH_MAX];
    LVS_TRY(file_join(trials, output, "trials", err));
    return file_join(out, trials, trial_name, err);
}

/* ---- curves ---- */

void trial_curves_free(struct trial_curves *curves) {
    free(curves->train_loss);
    free(curves->gradient_norm);
    free(curves->evaluation_step);
    free(curves->val_loss);
    free(curves->val_mae_scaled);
    free(curves->val_mse_scaled);
    *curves = (struct trial_curves){0};
}

enum lvs_status trial_curves_write(const char *folder, const struct trial_curves *curves, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    int64_t n = curves->n_step, m = curves->n_evaluation;
    const struct array arrays[] = {
        {"train_loss", ARRAY_F32, 1, {n}, curves->train_loss},
        {"gradient_norm", ARRAY_F32, 1, {n}, curves->gradient_norm},
        {"evaluation_step", ARRAY_I32, 1, {m}, curves->evaluation_step},
        {"val_loss", ARRAY_F64, 1, {m}, curves->val_loss},
        {"val_mae_scaled", ARRAY_F64, 1, {m}, curves->val_mae_scaled},
        {"val_mse_scaled", ARRAY_F64, 1, {m}, curves->val_mse_scaled},
    };
    LVS_TRY(file_make_folder(folder, err));
    LVS_TRY(file_join(path, folder, CURVES_FILE, err));
    return array_file_write(path, arrays, sizeof arrays / sizeof *arrays, err);
}

static enum lvs_status curves_check(const char *path, const struct array *const found[6], struct lvs_error *err) {
    bool equal = found[0]->shape[0] == found[1]->shape[0] && found[2]->shape[0] == found[3]->shape[0] &&
                 found[2]->shape[0] == found[4]->shape[0] && (!found[5] || found[2]->shape[0] == found[5]->shape[0]);
    bool small = found[0]->shape[0] <= INT32_MAX && found[2]->shape[0] <= INT32_MAX;
    return equal && small ? LVS_OK : lvs_fail(err, LVS_INPUT, "%s: curves of unequal length", path);
}

static bool has_array(const struct array *arrays, int32_t count, const char *name) {
    for (int32_t i = 0; i < count; i++)
        if (strcmp(arrays[i].name, name) == 0) return true;
    return false;
}

/* Of `found`, or NaN where the file has no such curve. */
static double *curve_or_nan(const struct array *found, int64_t n) {
    if (found) return array_copy(found);
    double *values = lvs_malloc((size_t)n * sizeof *values + 1);
    for (int64_t i = 0; i < n; i++)
        values[i] = NAN;
    return values;
}

/* The curves of a file in the order of struct trial_curves; the last stays NULL where the file has none. */
static enum lvs_status curves_find(const char *path, const struct array *arrays, int32_t count,
                                   const struct array *found[6], struct lvs_error *err) {
    static const char *const names[] = {"train_loss", "gradient_norm",  "evaluation_step",
                                        "val_loss",   "val_mae_scaled", "val_mse_scaled"};
    static const int32_t types[] = {ARRAY_F32, ARRAY_F32, ARRAY_I32, ARRAY_F64, ARRAY_F64, ARRAY_F64};
    int n = has_array(arrays, count, names[5]) ? 6 : 5;
    for (int i = 0; i < n; i++)
        LVS_TRY(array_file_find(path, arrays, count, names[i], types[i], 1, &found[i], err));
    return curves_check(path, found, err);
}

enum lvs_status trial_curves_read(const char *folder, struct trial_curves *out, struct lvs_error *err) {
    char path[LVS_PATH_MAX], *bytes;
    struct array arrays[16];
    const struct array *found[6] = {0};
    int32_t count;
    *out = (struct trial_curves){0};
    LVS_TRY(file_join(path, folder, CURVES_FILE, err));
    LVS_TRY(array_file_read(path, arrays, 16, &count, &bytes, err));
    enum lvs_status status = curves_find(path, arrays, count, found, err);
    if (status == LVS_OK)
        *out = (struct trial_curves){.n_step = (int32_t)found[0]->shape[0],
                                     .train_loss = array_copy(found[0]),
                                     .gradient_norm = array_copy(found[1]),
                                     .n_evaluation = (int32_t)found[2]->shape[0],
                                     .evaluation_step = array_copy(found[2]),
                                     .val_loss = array_copy(found[3]),
                                     .val_mae_scaled = array_copy(found[4]),
                                     .val_mse_scaled = curve_or_nan(found[5], found[2]->shape[0])};
    free(bytes);
    return status;
}

/* ---- forecasts ---- */

#define ARRAYS_A_PART 6

void trial_forecast_free(struct trial_forecast *forecast) {
    free(forecast->series);
    free(forecast->time);
    free(forecast->observed);
    free(forecast->predicted);
    free(forecast->low);
    free(forecast->high);
    *forecast = (struct trial_forecast){0};
}

static void part_array(struct array *out, const char *name, int32_t part, int32_t type, int32_t n_dims,
                       const int64_t *shape, const void *data) {
    *out = (struct array){.type = type, .n_dims = n_dims, .data = data};
    memcpy(out->shape, shape, (size_t)n_dims * sizeof *shape);
    lvs_copy(out->name, sizeof out->name, name);
    char digit[] = {(char)('0' + part), '\0'};
    strcat(out->name, digit); /* "predicted_1": names are short */
}

static int32_t part_arrays(const struct trial_forecast *f, struct array *out) {
    const int64_t cube[] = {f->n_series, f->n_time, f->n_channel}, times[] = {f->n_time}, rows[] = {f->n_series};
    part_array(&out[0], "series_", f->part, ARRAY_I64, 1, rows, f->series);
    part_array(&out[1], "time_", f->part, ARRAY_F64, 1, times, f->time);
    part_array(&out[2], "observed_", f->part, ARRAY_F64, 3, cube, f->observed);
    part_array(&out[3], "predicted_", f->part, ARRAY_F64, 3, cube, f->predicted);
    if (!f->low || !f->high) return 4;
    part_array(&out[4], "low_", f->part, ARRAY_F64, 3, cube, f->low);
    part_array(&out[5], "high_", f->part, ARRAY_F64, 3, cube, f->high);
    return 6;
}

static enum lvs_status again_path(const char *folder, const char *eval_key, char path[LVS_PATH_MAX],
                                  struct lvs_error *err) {
    char name[48];
    snprintf(name, sizeof name, "forecast-%.12s.bin", eval_key);
    return file_join(path, folder, name, err);
}

static enum lvs_status forecast_write(const char *folder, const char *path, const struct trial_forecast *parts,
                                      int32_t count, struct lvs_error *err) {
    struct array arrays[SPLIT_COUNT * ARRAYS_A_PART];
    int32_t n = 0;
    if (count > SPLIT_COUNT) return lvs_fail(err, LVS_BUG, "%d forecast parts", count);
    for (int32_t i = 0; i < count; i++)
        n += part_arrays(&parts[i], arrays + n);
    LVS_TRY(file_make_folder(folder, err));
    return array_file_write(path, arrays, n, err);
}

enum lvs_status trial_forecast_write(const char *folder, const struct trial_forecast *parts, int32_t count,
                                     struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, folder, FORECAST_FILE, err));
    return forecast_write(folder, path, parts, count, err);
}

enum lvs_status trial_forecast_write_again(const char *folder, const char *eval_key, const struct trial_forecast *parts,
                                           int32_t count, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    LVS_TRY(again_path(folder, eval_key, path, err));
    return forecast_write(folder, path, parts, count, err);
}

static bool same_shape(const struct array *a, const struct array *b) {
    return memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

static bool is_ascending(const struct trial_forecast *f) {
    for (int32_t i = 1; i < f->n_series; i++)
        if (f->series[i] <= f->series[i - 1]) return false;
    for (int32_t i = 1; i < f->n_time; i++)
        if (!(f->time[i] > f->time[i - 1])) return false;
    return true;
}

static enum lvs_status part_read(const char *path, const struct array *arrays, int32_t count, int32_t part,
                                 struct trial_forecast *out, struct lvs_error *err) {
    struct array wanted[ARRAYS_A_PART];
    const struct array *found[ARRAYS_A_PART] = {0};
    static const double nothing;
    struct trial_forecast named = {.part = part, .low = (double *)&nothing, .high = (double *)&nothing};
    part_arrays(&named, wanted);
    for (int i = 0; i < 4; i++)
        LVS_TRY(array_file_find(path, arrays, count, wanted[i].name, wanted[i].type, wanted[i].n_dims, &found[i], err));
    struct lvs_error absent;
    bool bands = array_file_find(path, arrays, count, wanted[4].name, ARRAY_F64, 3, &found[4], &absent) == LVS_OK &&
                 array_file_find(path, arrays, count, wanted[5].name, ARRAY_F64, 3, &found[5], &absent) == LVS_OK;
    const int64_t *cube = found[2]->shape;
    bool fits = cube[0] == found[0]->shape[0] && cube[1] == found[1]->shape[0] && cube[2] <= LVS_MAX_CHANNELS &&
                cube[0] <= INT32_MAX && cube[1] <= INT32_MAX && same_shape(found[2], found[3]) &&
                (!bands || (same_shape(found[2], found[4]) && same_shape(found[2], found[5])));
    if (!fits) return lvs_fail(err, LVS_INPUT, "%s: arrays of unequal shape", path);
    *out = (struct trial_forecast){.part = part,
                                   .n_series = (int32_t)cube[0],
                                   .n_time = (int32_t)cube[1],
                                   .n_channel = (int32_t)cube[2],
                                   .series = array_copy(found[0]),
                                   .time = array_copy(found[1]),
                                   .observed = array_copy(found[2]),
                                   .predicted = array_copy(found[3]),
                                   .low = bands ? array_copy(found[4]) : NULL,
                                   .high = bands ? array_copy(found[5]) : NULL};
    if (is_ascending(out)) return LVS_OK;
    trial_forecast_free(out);
    return lvs_fail(err, LVS_INPUT, "%s: series or times are not ascending", path);
}

static bool has_part(const struct array *arrays, int32_t count, int32_t part) {
    char name[] = {'s', 'e', 'r', 'i', 'e', 's', '_', (char)('0' + part), '\0'};
    return has_array(arrays, count, name);
}

enum lvs_status trial_forecast_read(const char *folder, const char *eval_key, struct trial_forecast *parts,
                                    int32_t *count, struct lvs_error *err) {
    char path[LVS_PATH_MAX], *bytes;
    struct array arrays[SPLIT_COUNT * ARRAYS_A_PART];
    int32_t n;
    *count = 0;
    path[0] = '\0';
    if (eval_key) LVS_TRY(again_path(folder, eval_key, path, err));
    if (!path[0] || !file_exists(path)) LVS_TRY(file_join(path, folder, FORECAST_FILE, err));
    if (!file_exists(path)) return LVS_OK;
    LVS_TRY(array_file_read(path, arrays, SPLIT_COUNT * ARRAYS_A_PART, &n, &bytes, err));
    enum lvs_status status = LVS_OK;
    for (int32_t part = 0; part < SPLIT_COUNT && status == LVS_OK; part++) {
        if (!has_part(arrays, n, part)) continue;
        status = part_read(path, arrays, n, part, &parts[*count], err);
        if (status == LVS_OK) ++*count;
    }
    if (status != LVS_OK)
        while (*count > 0)
            trial_forecast_free(&parts[--*count]);
    free(bytes);
    return status;
}
