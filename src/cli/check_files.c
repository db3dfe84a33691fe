/* What finished trials left behind, read whole: checksums of curves and forecasts, every number of the adapters, and
 * whether they are of the trial that the journal says. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_internal.h"

static int32_t check_curves(const char *folder, const struct result_row *row) {
    struct trial_curves curves;
    struct lvs_error err = {0};
    int32_t problems = 0;
    if (trial_curves_read(folder, &curves, &err) != LVS_OK) return check_problem("%s", err.text);
    const int32_t n = curves.n_step, done = row->record.steps_done;
    if (n != done)
        problems += check_problem("%s/curves.bin: %d steps, the journal has %d", folder, n, done);
    else if (n > 0 && !isnan(row->record.train_loss) && (double)curves.train_loss[n - 1] != row->record.train_loss)
        problems += check_problem("%s/curves.bin: its last training loss is %g, the journal has %g", folder,
                                  (double)curves.train_loss[n - 1], row->record.train_loss);
    trial_curves_free(&curves);
    return problems;
}

static int32_t check_forecast(const char *folder, const char *eval_key) {
    struct trial_forecast parts[SPLIT_COUNT];
    struct lvs_error err = {0};
    int32_t count = 0;
    if (trial_forecast_read(folder, eval_key, parts, &count, &err) != LVS_OK) return check_problem("%s", err.text);
    for (int32_t i = 0; i < count; i++)
        trial_forecast_free(&parts[i]);
    return 0;
}

static int32_t count_bad_numbers(const struct safetensors_entry *entry) {
    int64_t count = 1;
    int32_t bad = 0;
    for (int32_t d = 0; d < entry->n_dims; d++)
        count *= entry->shape[d];
    float *values = lvs_malloc((size_t)(count + 1) * sizeof *values);
    tensor_to_float(entry->data, entry->type, count, values);
    for (int64_t i = 0; i < count; i++)
        bad += !isfinite(values[i]);
    free(values);
    return bad;
}

static int32_t check_tensors(const char *adapter) {
    char path[LVS_PATH_MAX];
    struct safetensors *file;
    struct lvs_error err = {0};
    int32_t problems = 0;
    if (file_join(path, adapter, "adapter_model.safetensors", &err) != LVS_OK ||
        safetensors_open(path, &file, &err) != LVS_OK)
        return check_problem("%s", err.text);
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_entry *entry = safetensors_at(file, i);
        bool weights = entry->type == TENSOR_F32 || entry->type == TENSOR_BF16 || entry->type == TENSOR_F16;
        if (!weights || count_bad_numbers(entry) > 0)
            problems += check_problem("%s: %s holds values that are no numbers", path, entry->name);
    }
    if (safetensors_count(file) == 0) problems += check_problem("%s: holds no tensors", path);
    safetensors_close(file);
    return problems;
}

static int32_t check_adapter(const char *folder, const struct result_row *row) {
    char adapter[LVS_PATH_MAX];
    struct lvs_error err = {0};
    struct adapter_info *info = lvs_malloc(sizeof *info);
    int32_t problems = 0;
    if (file_join(adapter, folder, "adapter", &err) != LVS_OK || adapter_info_read(adapter, info, &err) != LVS_OK)
        problems += check_problem("%s", err.text);
    else if (strcmp(info->train_key, row->trial.train_key) != 0)
        problems += check_problem("%s: the adapter of trial %.8s, the journal has %.8s", adapter, info->train_key,
                                  row->trial.train_key);
    free(info);
    return problems > 0 ? problems : check_tensors(adapter);
}

/* Several evaluations of one training share a folder. */
static bool is_first_of_folder(const struct results *results, int32_t index) {
    for (int32_t i = 0; i < index; i++)
        if (strcmp(results->rows[i].trial.name, results->rows[index].trial.name) == 0) return false;
    return true;
}

static int32_t check_results_file(const struct check *check) {
    static const char signature[8] = "\x89HDF\r\n\x1a\n";
    char path[LVS_PATH_MAX], head[8];
    struct lvs_error err = {0};
    if (file_join(path, check->output, RESULTS_FILE, &err) != LVS_OK) return check_problem("%s", err.text);
    FILE *file = fopen(path, "rb");
    if (!file) {
        printf("results   no results.h5 yet: it is written after the first finished trial, and again by a resume\n");
        return 0;
    }
    bool good = fread(head, 1, sizeof head, file) == sizeof head && memcmp(head, signature, sizeof head) == 0;
    fclose(file);
    return good ? 0 : check_problem("%s: not an HDF5 file; a resume or `lvsweep run` writes it again", path);
}

int32_t check_files(const struct check *check) {
    const struct results *results = &check->results;
    bool fake = check->config && check->config->runner == RUNNER_FAKE;
    int32_t problems = check_results_file(check), n = 0;
    for (int32_t i = 0; i < results->n_rows; i++) {
        const struct result_row *row = &results->rows[i];
        int32_t status = row->record.status == TRIAL_SUPERSEDED ? row->status_before : row->record.status;
        char folder[LVS_PATH_MAX];
        struct lvs_error err = {0};
        if (status != TRIAL_DONE || fake || !is_first_of_folder(results, i)) continue;
        n++;
        if (trial_folder(folder, check->output, row->trial.name, &err) != LVS_OK)
            problems += check_problem("%s", err.text);
        else
            problems +=
                check_curves(folder, row) + check_forecast(folder, row->trial.eval_key) + check_adapter(folder, row);
    }
    printf("files     curves, forecasts and adapters of %d finished trial%s read\n", n, n == 1 ? "" : "s");
    return problems;
}
