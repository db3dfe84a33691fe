/* LLMTIME text: scaled numbers ⇄ characters, "1.20,3.40;1.10,3.50" (',' between channels, ';' between time points).
 * Rounding is to the nearest (ties to even in binary, as printf and Python's format do). */
#pragma once
#include "lvsweep/config.h"

struct text_format {
    int32_t decimals; /* 0–6 */
    int32_t n_channel;
    bool decimal_point; /* false: 1.20 is written 120 */
    bool negative;      /* false: a value below zero is refused */
    double clip;        /* 0 = none */
};
struct text_format text_format_make(const struct config *config, int32_t decimals, int32_t n_channel);

#define TEXT_CHARACTERS_MAX 16
/* The characters this format can write, as a string: digits, '.', ',' (several channels), ';', and '-' when the format
 * allows it and `any_negative` says that the data have a value below zero. For tokenizer_keep. */
void text_format_characters(const struct text_format *format, bool any_negative, char out[TEXT_CHARACTERS_MAX]);

/* Appends the text of values[n_time][n_channel] (already scaled); no trailing ';'. LVS_INPUT for a refused value. */
enum lvs_status text_encode(const struct text_format *format, const double *values, int32_t n_time, struct strbuf *out,
                            struct lvs_error *err);

/* What a tolerant reading of generated text found. */
struct text_decoded {
    int32_t n_points;    /* complete points read, at most the capacity asked for */
    int32_t n_malformed; /* pieces that are no number, or points with a wrong number of channels */
    int32_t n_missing;   /* points asked for and not there, or cut off by the end of the text */
    int32_t n_negative;
    int32_t n_surplus; /* readable values beyond the channels of their points; each point is malformed too */
    bool success;      /* every point there and well-formed */
};
/* Reads up to n_time points from generated text into values[n_time][n_channel]; a value that cannot be read is NaN.
 * Every ';' ends a point, so a malformed one keeps its place in time; what follows the n_time-th point is ignored.
 * `text` continues a prompt that ended with ';'. */
void text_decode(const struct text_format *format, const char *text, size_t length, int32_t n_time, double *values,
                 struct text_decoded *out);
