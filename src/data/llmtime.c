/* LLMTIME text (Gruver et al., "Large language models are zero-shot time series forecasters", 2023): scaled numbers
 * to characters and, tolerantly, back. Knows nothing of tokens or scaling.
 * Without a decimal point a number is the integer of its rounded digits, without leading zeros: 1.20 is 120, 0.05 is 5,
 * 0.00 is 0 at two decimals; reading divides by 10^decimals. A zero never carries a sign.
 * Invariant: text_decode gives back every value that text_encode wrote, rounded to the format's decimals. */
#include "lvsweep/text.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Digits of a number with its decimals, both ways: so many survive the trip through a double exactly. */
#define TEXT_DIGITS     15
#define TEXT_NUMBER_MAX 40 /* sign, digits, point and the NUL fit well */

struct text_format text_format_make(const struct config *config, int32_t decimals, int32_t n_channel) {
    assert(decimals >= 0 && decimals <= 6);
    return (struct text_format){
        .decimals = decimals,
        .n_channel = n_channel,
        .decimal_point = config->decimal_point != 0,
        .negative = !config->negative_refuse,
        .clip = config->clip,
    };
}

void text_format_characters(const struct text_format *format, bool any_negative, char out[TEXT_CHARACTERS_MAX]) {
    char *end = out;
    for (char digit = '0'; digit <= '9'; digit++)
        *end++ = digit;
    if (format->decimal_point && format->decimals > 0) *end++ = '.';
    if (format->n_channel > 1) *end++ = ',';
    *end++ = ';';
    if (format->negative && any_negative) *end++ = '-';
    *end = '\0';
}

/* "-1.20" → "-120", "0.05" → "5", "0.00" → "0" */
static void drop_point(char *number) {
    char *digits = number + (*number == '-');
    char *point = strchr(digits, '.');
    if (point) memmove(point, point + 1, strlen(point));
    size_t zeros = strspn(digits, "0");
    if (zeros > 0 && digits[zeros] == '\0') zeros--;
    memmove(digits, digits + zeros, strlen(digits + zeros) + 1);
}

static void write_number(const struct text_format *format, double value, char out[TEXT_NUMBER_MAX]) {
    snprintf(out, TEXT_NUMBER_MAX, "%.*f", (int)format->decimals, value);
    if (out[0] == '-' && strspn(out + 1, "0.") == strlen(out + 1)) memmove(out, out + 1, strlen(out));
    if (!format->decimal_point) drop_point(out);
}

static enum lvs_status check_value(const struct text_format *format, double value, int32_t point, int32_t channel,
                                   struct lvs_error *err) {
    if (!isfinite(value))
        return lvs_fail(err, LVS_INPUT, "point %d, channel %d of %d: %s cannot be written as text", point, channel + 1,
                        format->n_channel, isnan(value) ? "NaN" : "an infinite value");
    if (value < 0 && !format->negative)
        return lvs_fail(err, LVS_INPUT,
                        "point %d, channel %d of %d: %g is below zero, which [data] negative = refuse forbids", point,
                        channel + 1, format->n_channel, value);
    if (fabs(value) >= pow(10, TEXT_DIGITS - format->decimals) - 1)
        return lvs_fail(
            err, LVS_INPUT,
            "point %d, channel %d of %d: %g after scaling has more than %d digits at %d decimals; scale it down "
            "([data] scale_to, scale_points = all) or set [data] clip",
            point, channel + 1, format->n_channel, value, TEXT_DIGITS, format->decimals);
    return LVS_OK;
}

enum lvs_status text_encode(const struct text_format *format, const double *values, int32_t n_time, struct strbuf *out,
                            struct lvs_error *err) {
    char number[TEXT_NUMBER_MAX];
    for (int32_t t = 0; t < n_time; t++)
        for (int32_t c = 0; c < format->n_channel; c++) {
            double value = values[(int64_t)t * format->n_channel + c];
            if (format->clip > 0 && value > format->clip && isfinite(value)) value = format->clip;
            LVS_TRY(check_value(format, value, t, c, err));
            write_number(format, value, number);
            if (c > 0)
                strbuf_add_bytes(out, ",", 1);
            else if (t > 0)
                strbuf_add_bytes(out, ";", 1);
            strbuf_add(out, number);
        }
    return LVS_OK;
}

/* ---- reading ---- */

/* What a piece of text between separators is. */
enum piece_kind {
    PIECE_NUMBER,     /* readable, and as long as the format writes it */
    PIECE_UNFINISHED, /* the beginning of a number: whole only when a separator follows */
    PIECE_MALFORMED,
};

/* Reads `[-]digits[.digits]`, at least one digit, at most as many before the point as are
 * ever written. Between separators any number of
 * decimals is accepted (as a tolerant reader should); the kind says whether it could still be growing. */
static enum piece_kind read_piece(const struct text_format *format, const char *text, size_t length, double *value) {
    char number[2 * TEXT_NUMBER_MAX];
    size_t at = length > 0 && text[0] == '-', whole = 0, fraction = 0;
    bool point = false;
    *value = NAN;
    for (; at < length; at++) {
        if (text[at] >= '0' && text[at] <= '9')
            *(point ? &fraction : &whole) += 1;
        else if (text[at] == '.' && format->decimal_point && !point)
            point = true;
        else
            return PIECE_MALFORMED;
    }
    /* Without a point the decimals are among the digits before it. */
    size_t allowed = (size_t)(TEXT_DIGITS - (format->decimal_point ? format->decimals : 0));
    if (length >= sizeof number || whole > allowed) return PIECE_MALFORMED;
    if (whole + fraction == 0) return PIECE_UNFINISHED;
    memcpy(number, text, length);
    number[length] = '\0';
    *value = strtod(number, NULL);
    if (!format->decimal_point) *value /= pow(10, format->decimals);
    bool finished = !format->decimal_point || (int32_t)fraction >= format->decimals;
    return finished ? PIECE_NUMBER : PIECE_UNFINISHED;
}

/* One point's text, without its ';'. `ended`: a ';' follows; only the last point of a text may lack it. */
struct point_text {
    const char *text;
    size_t length;
    bool ended;
};

/* Fills values[n_channel]. Returns true when the point was cut off by the end of the text. */
static bool read_point(const struct text_format *format, const struct point_text *point, double *values,
                       struct text_decoded *out) {
    int32_t n_pieces = 0, n_bad = 0, n_good = 0;
    bool cut = false;
    const char *piece = point->text, *end = point->text + point->length;
    for (;; n_pieces++) {
        const char *comma = memchr(piece, ',', (size_t)(end - piece));
        const char *stop = comma ? comma : end;
        bool may_grow = !comma && !point->ended && n_pieces < format->n_channel;
        double value;
        enum piece_kind kind = read_piece(format, piece, (size_t)(stop - piece), &value);
        if (kind == PIECE_UNFINISHED && may_grow) {
            cut = true;
            value = NAN;
        } else if (isnan(value)) {
            n_bad++;
        } else {
            out->n_negative += value < 0;
            n_good++;
        }
        if (n_pieces < format->n_channel)
            values[n_pieces] = value;
        else
            out->n_surplus += !isnan(value);
        if (!comma) break;
        piece = comma + 1;
    }
    n_pieces++;
    out->n_malformed += n_bad;
    if (!point->ended && n_bad == 0 && n_pieces < format->n_channel) cut = true;
    if (cut) return true;
    bool right_count = n_pieces == format->n_channel;
    out->n_malformed += !right_count;
    out->n_points += right_count && n_good == format->n_channel;
    return false;
}

void text_decode(const struct text_format *format, const char *text, size_t length, int32_t n_time, double *values,
                 struct text_decoded *out) {
    *out = (struct text_decoded){0};
    for (int64_t i = 0; i < (int64_t)n_time * format->n_channel; i++)
        values[i] = NAN;
    int32_t n_read = 0;
    const char *at = text, *end = text + length;
    while (n_read < n_time && at < end) {
        const char *semicolon = memchr(at, ';', (size_t)(end - at));
        struct point_text point = {.text = at, .ended = semicolon != NULL};
        point.length = (size_t)((semicolon ? semicolon : end) - at);
        double *row = values + (int64_t)n_read * format->n_channel;
        bool cut = read_point(format, &point, row, out);
        n_read += !cut;
        if (!semicolon) break;
        at = semicolon + 1;
    }
    out->n_missing = n_time - n_read;
    out->success = out->n_missing == 0 && out->n_malformed == 0 && out->n_points == n_time;
}
