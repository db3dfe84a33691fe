/* Rows of results.h5's numeric columns: by one process, or collectively by all ranks, each its own range. */
#include "h5_file_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/fault.h"

/* Rows [first, first + count) of a dataset; every rank calls it for every round, with count 0 too. */
static void rows_write(struct writer *w, const struct row_range *range, const char *name, hid_t type, int32_t first,
                       int32_t count, const void *values) {
    hid_t id = H5Dopen2(w->file, name, H5P_DEFAULT);
    if (!h5_check(w, id >= 0, "open", name)) return;
    hid_t space = H5Dget_space(id);
    hsize_t dims[4] = {0}, start[4] = {0}, size[4];
    int n_dims = H5Sget_simple_extent_dims(space, dims, NULL);
    memcpy(size, dims, sizeof size);
    start[0] = (hsize_t)first;
    size[0] = (hsize_t)count;
    bool empty = count == 0;
    for (int i = 1; i < n_dims; i++)
        empty = empty || dims[i] == 0;
    hid_t memory = H5Screate_simple(n_dims, empty ? dims : size, NULL);
    if (empty) {
        H5Sselect_none(space);
        H5Sselect_none(memory);
    } else {
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL);
    }
    static const char nothing[8];
    bool written = H5Dwrite(id, type, memory, space, range->transfer, values ? values : nothing) >= 0;
    h5_check(w, written && !fault_fails("results_rows"), "write", name);
    H5Sclose(memory);
    H5Sclose(space);
    h5_check(w, H5Dclose(id) >= 0, "close", name);
}

static void columns_write(struct writer *w, const struct row_range *range, const struct result_row *rows, int32_t first,
                          int32_t count) {
    for (int32_t i = 0; i < field_count(); i++) {
        const struct field *field = field_at(i);
        if (field->type == FIELD_TEXT || field->axes > AXES_TRIAL_STAGE || h5_is_scale(field)) continue;
        int32_t width = field_width(field, w->results);
        if (width == 0) continue; /* the same on every rank */
        void *values = lvs_malloc((size_t)count * (size_t)width * field_bytes(field) + 1);
        row_block_column(field, w->results, rows, count, values);
        rows_write(w, range, field->name, h5_field_type(w, field), first, count, values);
        free(values);
    }
}

static void files_write(struct writer *w, const struct row_range *range, const struct result_row *rows, int32_t first,
                        int32_t count) {
    struct row_block block;
    row_block_make(w->results, w->plan, rows, count, &block);
    if (w->plan->n_step > 0) {
        rows_write(w, range, "train_loss", H5T_NATIVE_FLOAT, first, count, block.train_loss);
        rows_write(w, range, "gradient_norm", H5T_NATIVE_FLOAT, first, count, block.gradient_norm);
        rows_write(w, range, "gradient_norm_clipped", H5T_NATIVE_FLOAT, first, count, block.clipped_norm);
    }
    if (w->plan->n_evaluation > 0) {
        rows_write(w, range, "evaluation_step", H5T_NATIVE_INT32, first, count, block.evaluation_step);
        rows_write(w, range, "val_loss_curve", H5T_NATIVE_DOUBLE, first, count, block.val_loss);
        rows_write(w, range, "val_mae_scaled_curve", H5T_NATIVE_DOUBLE, first, count, block.val_mae_scaled);
        rows_write(w, range, "val_mse_scaled_curve", H5T_NATIVE_DOUBLE, first, count, block.val_mse_scaled);
    }
    const double *const forecasts[N_FORECAST_COLUMNS] = {block.predicted, block.low, block.high, block.mae};
    for (int i = 0; i < N_FORECAST_COLUMNS && w->plan->n_series > 0; i++) {
        char name[64];
        snprintf(name, sizeof name, "forecast/%s", forecast_columns[i].name);
        if (h5_has_forecast_column(w->plan, &forecast_columns[i]))
            rows_write(w, range, name, H5T_NATIVE_DOUBLE, first, count, forecasts[i]);
    }
    row_block_free(&block);
}

void h5_write_rows(struct writer *w, const struct row_range *range, const struct result_row *rows) {
    for (int32_t round = 0; round < range->rounds; round++) {
        int32_t done = round * range->block < range->count ? round * range->block : range->count;
        int32_t count = range->count - done < range->block ? range->count - done : range->block;
        columns_write(w, range, rows + done, range->first + done, count);
        files_write(w, range, rows + done, range->first + done, count);
    }
}

int32_t h5_rounds(int32_t rows, int32_t block) {
    return (rows + block - 1) / block;
}
