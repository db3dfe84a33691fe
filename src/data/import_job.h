/* A table on its way to series: what import_csv.c and import_columns.c share. Private to this folder. */
#pragma once
#include <stdbool.h>

#include "csv.h"
#include "lvsweep/import.h"

#define IMPORT_GUESS_MAX 160

struct import_row {
    const char *label;
    double time;
    int64_t row;    /* of the table */
    int32_t series; /* in order of first appearance */
};

struct import_job {
    const char *name;
    const struct import_options *options;
    struct csv_table table;
    int32_t series_column, time_column; /* -1 = none */
    int32_t n_channel, channel[LVS_MAX_CHANNELS];
    bool dates, decimal_comma;
    struct import_row *rows; /* [table.n_rows], owned; sorted by series and time */
    int32_t n_series;
    int64_t *first; /* [n_series + 1] into rows, owned */
    double *grid;   /* [n_time] times, owned */
    int32_t n_time;
};

const char *import_cell_at(const struct import_job *job, int64_t row, int32_t column);
/* Where a text stops being UTF-8; NULL = nowhere. */
const char *import_no_utf8(const char *text);

/* Fills series_column, time_column and channel. LVS_INPUT for names that are missing, ambiguous or no UTF-8. */
enum lvs_status import_find_columns(struct import_job *job, struct lvs_error *err);
/* "--series site --time year": what columns that are not chosen yet look like; "" when they look like nothing. */
void import_guess_columns(const struct import_job *job, char out[IMPORT_GUESS_MAX]);
