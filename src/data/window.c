/* Token sets and windows: series as ids, cut into rows of equal length with labels already shifted. Knows nothing of
 * models; one place decides what counts as a label.
 * The labels are those of transformers: a label is the next id of the same window, so the first token of a window is
 * never a label and the last position has none; positions whose next one is a masked pad have none either. In a
 * left-padded window the last pad therefore predicts the first token of the text.
 * Invariant: window_set_make gives exactly window_count windows, whatever the lengths. */
#include "lvsweep/window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- token sets ---- */

static enum lvs_status encode_row(const struct series_set *set, const struct scaling *scaling,
                                  const struct text_format *format, int32_t row, int32_t from, int32_t to,
                                  struct strbuf *text, struct lvs_error *err) {
    const int32_t n_channel = set->n_channel;
    const double *values = set->values + ((int64_t)row * set->n_time + from) * n_channel;
    const double *factor = scaling->factor + (int64_t)row * n_channel;
    int64_t n_values = (int64_t)(to - from) * n_channel;
    double *scaled = lvs_malloc((size_t)n_values * sizeof *scaled);
    for (int64_t i = 0; i < n_values; i++)
        scaled[i] = values[i] / factor[i % n_channel];
    strbuf_clear(text);
    enum lvs_status status = text_encode(format, scaled, to - from, text, err);
    free(scaled);
    if (status != LVS_OK && err) {
        lvs_error_prefix(err, "series %lld, counted from point %d", (long long)set->id[row], from);
        return status;
    }
    return status;
}

enum lvs_status token_set_make(const struct series_set *set, const struct scaling *scaling,
                               const struct text_format *format, const struct tokenizer *tokenizer, const int32_t *rows,
                               int32_t n_rows, int32_t from, int32_t to, struct token_set *out, struct lvs_error *err) {
    assert(0 <= from && from <= to && to <= set->n_time);
    assert(format->n_channel == set->n_channel && scaling->n_series == set->n_series);
    *out = (struct token_set){.n_series = n_rows};
    out->offset = lvs_calloc((size_t)n_rows + 1, sizeof *out->offset);
    out->values = lvs_calloc((size_t)n_rows, sizeof *out->values);
    struct strbuf text;
    strbuf_init(&text);
    size_t capacity = 0;
    enum lvs_status status = LVS_OK;
    for (int32_t i = 0; i < n_rows && status == LVS_OK; i++) {
        assert(rows[i] >= 0 && rows[i] < set->n_series);
        status = encode_row(set, scaling, format, rows[i], from, to, &text, err);
        size_t used = (size_t)out->offset[i], needed = used + text.length;
        if (needed > capacity) {
            capacity = needed + needed / 2;
            out->ids = lvs_realloc(out->ids, capacity * sizeof *out->ids);
        }
        if (status == LVS_OK && text.length > 0)
            status = tokenizer_encode(tokenizer, text.text, text.length, out->ids + used, err);
        out->offset[i + 1] = (int64_t)needed;
        out->values[i] = (to - from) * set->n_channel;
    }
    strbuf_free(&text);
    if (status != LVS_OK) token_set_free(out);
    return status;
}

void token_set_free(struct token_set *set) {
    free(set->offset);
    free(set->ids);
    free(set->values);
    *set = (struct token_set){0};
}

/* ---- windows ---- */

int32_t window_stride(const struct amount *stride, int32_t context) {
    double tokens = stride->unit == AMOUNT_PERCENT ? (double)context * stride->value / 100 : stride->value;
    if (tokens >= INT32_MAX) return INT32_MAX;
    return tokens < 1 ? 1 : (int32_t)tokens;
}

static int64_t count_of_length(int64_t length, int32_t context, int32_t stride, int32_t padding) {
    if (length <= 0) return 0;
    if (padding != PADDING_DROP) return (length + stride - 1) / stride;
    return length < context ? 1 : (length - context) / stride + 1;
}

int32_t window_count(const int64_t *lengths, int32_t n_series, int32_t context, int32_t stride, int32_t padding) {
    int64_t count = 0;
    for (int32_t i = 0; i < n_series; i++)
        count += count_of_length(lengths[i], context, stride, padding);
    return count > INT32_MAX ? INT32_MAX : (int32_t)count;
}

/* One row: `n_text` ids of `text`, then or before them pads up to the context. */
static void fill_window(struct window_set *set, int32_t window, const int32_t *text, int32_t n_text, int32_t padding,
                        int32_t pad_id) {
    const int32_t context = set->context;
    int32_t *ids = set->ids + (int64_t)window * context;
    int32_t *labels = set->labels + (int64_t)window * context;
    uint8_t *is_pad = set->is_pad + (int64_t)window * context;
    int32_t first = padding == PADDING_LEFT_MASKED ? context - n_text : 0;
    for (int32_t t = 0; t < context; t++)
        ids[t] = t >= first && t < first + n_text ? text[t - first] : pad_id;
    for (int32_t t = 0; t < context; t++) {
        int32_t next = t + 1;
        bool next_is_text = next >= first && next < first + n_text;
        bool counts = next < context && (next_is_text || padding == PADDING_RIGHT_COUNTED);
        labels[t] = counts ? ids[next] : WINDOW_IGNORED;
        is_pad[t] = counts && !next_is_text;
    }
}

static enum lvs_status allocate_windows(struct window_set *out, int64_t n_windows, struct lvs_error *err) {
    size_t positions = (size_t)n_windows * (size_t)out->context, total;
    bool too_many = n_windows > INT32_MAX || __builtin_mul_overflow(positions, sizeof(int32_t) * 3, &total);
    if (!too_many) {
        out->n_windows = (int32_t)n_windows;
        out->ids = malloc(positions * sizeof *out->ids + 1);
        out->labels = malloc(positions * sizeof *out->labels + 1);
        out->is_pad = malloc(positions + 1);
        out->series = malloc((size_t)n_windows * sizeof *out->series + 1);
    }
    if (too_many || !out->ids || !out->labels || !out->is_pad || !out->series) {
        int32_t context = out->context;
        window_set_free(out);
        return lvs_fail(err, LVS_LAUNCH,
                        "no memory for %lld windows of %d tokens (%.1f GiB); a larger [train] stride makes fewer",
                        (long long)n_windows, context, (double)n_windows * context * 9 / 0x1p30);
    }
    return LVS_OK;
}

enum lvs_status window_set_make(const struct token_set *tokens, int32_t context, int32_t stride, int32_t padding,
                                int32_t pad_id, struct window_set *out, struct lvs_error *err) {
    assert(stride >= 1);
    *out = (struct window_set){.context = context};
    if (context < 2)
        return lvs_fail(err, LVS_USAGE, "context %d: a window needs at least 2 tokens, one to read and one to predict",
                        context);
    int64_t n_windows = 0;
    for (int32_t i = 0; i < tokens->n_series; i++)
        n_windows += count_of_length(tokens->offset[i + 1] - tokens->offset[i], context, stride, padding);
    LVS_TRY(allocate_windows(out, n_windows, err));
    int32_t window = 0;
    for (int32_t i = 0; i < tokens->n_series; i++) {
        int64_t length = tokens->offset[i + 1] - tokens->offset[i];
        int64_t count = count_of_length(length, context, stride, padding);
        for (int64_t k = 0; k < count; k++, window++) {
            int64_t start = k * stride, left = length - start;
            int32_t n_text = left < context ? (int32_t)left : context;
            fill_window(out, window, tokens->ids + tokens->offset[i] + start, n_text, padding, pad_id);
            out->series[window] = i;
        }
    }
    return LVS_OK;
}

void window_set_free(struct window_set *set) {
    free(set->ids);
    free(set->labels);
    free(set->is_pad);
    free(set->series);
    *set = (struct window_set){0};
}
