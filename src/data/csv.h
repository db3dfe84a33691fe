/* A text table in memory: rows of cells, quoted cells opened. Private to this folder. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "lvsweep/status.h"

#define CSV_MAX_COLUMNS 4096

struct csv_table {
    char separator;
    int32_t n_columns;
    int64_t n_rows;
    const char **header; /* [n_columns], owned (the texts are the caller's) */
    const char **cell;   /* [n_rows][n_columns], owned (the texts are the caller's) */
    int64_t *line;       /* [n_rows] line of the file, from 1, owned */
};

/* Cuts `text` (length bytes and a NUL after them) into cells, in place: the table's texts point into it. The separator
 * is the most frequent of ',', ';' and tab in the first line. Cells are trimmed of spaces; empty lines are left out.
 * LVS_INPUT with the line for rows of the wrong length, open quotes and NUL bytes; `name` is for messages. */
enum lvs_status csv_parse(const char *name, char *text, size_t length, struct csv_table *out, struct lvs_error *err);
void csv_free(struct csv_table *table);
