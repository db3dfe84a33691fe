/* Cells of a table as numbers and times. Private to this folder. */
#pragma once
#include <stdbool.h>

/* A number, or NaN for a cell that says "missing" (empty, NA, N/A, NaN, null, none; any case). `decimal_comma`: "1,5"
 * is one and a half. False when it is neither, or infinite. */
bool cell_number(const char *cell, bool decimal_comma, double *out);
/* Days since 1970-01-01 of 2024-01-31, 2024-01-31T12:00, 2024-01-31 12:00:30 (a Z may follow); false for anything else.
 */
bool cell_date(const char *cell, double *out);
