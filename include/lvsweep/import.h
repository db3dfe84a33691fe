/* Series from a wide table in a text file: one row a series and time, one column a channel. */
#pragma once
#include "lvsweep/series.h"

enum import_unequal {
    IMPORT_UNEQUAL_REFUSE, /* series must begin and end at the same times */
    IMPORT_UNEQUAL_CUT,    /* keep the stretch of time that all series cover */
};

struct import_options {
    const char *series_column; /* NULL or "": all rows are one series */
    const char *time_column;   /* NULL or "": rows of a series are in order, times 0, 1, 2, … */
    const char *channels;      /* "hare+lynx"; NULL or "": every other column, in file order */
    enum import_unequal unequal;
    bool every_column; /* a column that is neither series nor time nor channel is an error */
};

/* Reads the file (at most 1 GiB); "-" is standard input. Separators ',', ';' (numbers may then have a decimal comma) or
 * tab, by the header; quoted cells, CRLF and a byte-order mark are understood. Times are numbers or dates
 * (2024-01-31, or 2024-01-31T12:00[:00]; days since 1970-01-01 are kept). Series are in order of first appearance,
 * their names in out->label. Empty cells and NA, NaN, null become NaN, and so do rows missing between a series' first
 * and last: series_read's `missing` decides about them. LVS_INPUT names line and column. out->hash is of the values
 * with NaN. */
enum lvs_status import_csv(const char *path, const struct import_options *options, struct series_set *out,
                           struct lvs_error *err);
/* The same from memory; `name` is for messages. The text is changed. */
enum lvs_status import_csv_text(const char *name, char *text, size_t length, const struct import_options *options,
                                struct series_set *out, struct lvs_error *err);
