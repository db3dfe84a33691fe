/* Token windows: what one row of a batch is. Built once a (context, stride, padding), const afterwards. */
#pragma once
#include "lvsweep/series.h"
#include "lvsweep/text.h"
#include "lvsweep/tokenizer.h"

/* The token ids of chosen series, one after another. */
struct token_set {
    int32_t n_series;
    int64_t *offset; /* [n_series + 1] into ids, owned */
    int32_t *ids;    /* owned */
    int32_t *values; /* [n_series] numbers written in each series (n_time × n_channel), owned */
};
/* Encodes rows[n_rows] of the set, points [from, to) of each. */
enum lvs_status token_set_make(const struct series_set *set, const struct scaling *scaling,
                               const struct text_format *format, const struct tokenizer *tokenizer, const int32_t *rows,
                               int32_t n_rows, int32_t from, int32_t to, struct token_set *out, struct lvs_error *err);
void token_set_free(struct token_set *set);

#define WINDOW_IGNORED (-1) /* label of a position that does not count */

struct window_set {
    int32_t n_windows, context;
    int32_t *ids;    /* [n_windows][context], owned */
    int32_t *labels; /* [n_windows][context]: the NEXT token (already shifted), or WINDOW_IGNORED; owned */
    uint8_t *is_pad; /* [n_windows][context]: 1 where the label is a pad; owned */
    int32_t *series; /* [n_windows] row of the token set it comes from; owned */
};
/* stride in tokens. Training: windows from every start below the length (padding = drop: whole windows only; a series
 * shorter than a window is padded right and masked). Right padding counts pads as labels when RIGHT_COUNTED, up to the
 * last position that has a next one in the window. Left padding puts pads first, labels masked. */
enum lvs_status window_set_make(const struct token_set *tokens, int32_t context, int32_t stride, int32_t padding,
                                int32_t pad_id, struct window_set *out, struct lvs_error *err);
void window_set_free(struct window_set *set);
/* Tokens between window starts for a setting: PERCENT of the context (at least 1) or TOKENS. */
int32_t window_stride(const struct amount *stride, int32_t context);
/* How many windows window_set_make will give for series of these lengths: pricing needs no text. */
int32_t window_count(const int64_t *lengths, int32_t n_series, int32_t context, int32_t stride, int32_t padding);
