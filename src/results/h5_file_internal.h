/* Pieces of results.h5: a writer that notes its first failure, objects with their scales and attributes, the layout,
 * the rows. Only the h5_file*.c files include this, and with it HDF5. */
#pragma once
#include "results_internal.h"

#include <hdf5.h>
#include <hdf5_hl.h>

enum axis {
    AXIS_TRIAL,
    AXIS_CHANNEL,
    AXIS_STAGE,
    AXIS_STEP,
    AXIS_EVALUATION,
    AXIS_BASELINE,
    AXIS_SERIES,
    AXIS_TIME,
    AXIS_COUNT
};

struct writer {
    const char *path;
    const struct results *results;
    const struct file_plan *plan;
    hid_t file, string, scales[AXIS_COUNT];
    struct lvs_error *err;
    bool failed;
};

/* ---- h5_file_objects.c ---- */

/* `string` of a writer: variable-length UTF-8. */
hid_t h5_text_type(void);
hid_t h5_create(const char *path);
/* Notes the first failure; later calls go on with what they have (collective calls must be made all the same). */
bool h5_check(struct writer *w, bool good, const char *what, const char *name);
void h5_attribute(struct writer *w, hid_t object, const char *name, const char *text);
void h5_attribute_values(struct writer *w, hid_t object, const char *name, hid_t type, const void *values,
                         hsize_t count);
hsize_t h5_extent(const struct writer *w, enum axis axis);
/* A dataset, allocated at once and not filled; n_dims 0 = a scalar. */
hid_t h5_place(struct writer *w, hid_t where, const char *name, hid_t type, int n_dims, const hsize_t *dims);
void h5_describe(struct writer *w, hid_t id, const char *long_name, const char *units);
/* A variable over axes, with their scales attached. */
hid_t h5_variable(struct writer *w, hid_t where, const char *name, hid_t type, int n_axes, const enum axis *axes,
                  const char *long_name, const char *units);
/* Writes all values (one process) and closes; nothing for an invalid id. */
void h5_write_all(struct writer *w, hid_t id, const char *name, hid_t type, const void *values, hsize_t count);
/* A scale is a variable named as its axis, over itself. */
void h5_scale(struct writer *w, hid_t where, enum axis axis, const char *name, hid_t type, const void *values,
              const char *long_name, const char *units);
void h5_scalar_text(struct writer *w, hid_t where, const char *name, const char *text);
hid_t h5_group(struct writer *w, const char *name);

/* ---- h5_file_layout.c ---- */

/* Every dataset, scale, attribute and text; the rows of numeric columns are left unwritten. One process. */
void h5_write_layout(struct writer *w);
hid_t h5_field_type(const struct writer *w, const struct field *field);
bool h5_is_scale(const struct field *field);

struct forecast_column {
    const char *name, *long_name;
    bool bands, over_time;
};
enum { N_FORECAST_COLUMNS = 4 };
extern const struct forecast_column forecast_columns[N_FORECAST_COLUMNS];
bool h5_has_forecast_column(const struct file_plan *plan, const struct forecast_column *column);

/* ---- h5_file_about.c: one process ---- */

void h5_write_root(struct writer *w);   /* attributes of the file */
void h5_write_ledger(struct writer *w); /* the group ledger */
void h5_write_texts(struct writer *w);  /* the groups config and provenance */

/* ---- h5_file_rows.c ---- */

/* How rows are written: which of the table, how many at once, in how many rounds. */
struct row_range {
    int32_t first, count, block, rounds;
    hid_t transfer;
};
/* The numeric columns of the range, whose rows are `rows`. Collective when `transfer` is: every rank makes every call
 * in every round, with no rows too. */
void h5_write_rows(struct writer *w, const struct row_range *range, const struct result_row *rows);
/* Rounds that `rows` rows take. */
int32_t h5_rounds(int32_t rows, int32_t block);
