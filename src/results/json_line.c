/* A strict reader of one line of compact JSON: no spaces, no trees, no allocation. Only for lines whose checksum was
 * good; still, any bytes at all are read without harm. Other JSON files go through Jansson. */
#include "results_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 16

bool cursor_fail(struct json_cursor *cursor, const char *why) {
    if (!cursor->why) cursor->why = why;
    return false;
}

bool cursor_take(struct json_cursor *cursor, char wanted) {
    if (cursor->at >= cursor->end || *cursor->at != wanted) return false;
    cursor->at++;
    return true;
}

/* ---- strings ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The four digits after \u as UTF-8, appended at *out (at most 3 bytes for 6 read). */
static bool escaped_unit(struct json_cursor *cursor, char **out) {
    unsigned unit = 0;
    if (cursor->end - cursor->at < 4) return cursor_fail(cursor, "holds half an escape");
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*cursor->at++);
        if (digit < 0) return cursor_fail(cursor, "holds a wrong \\u escape");
        unit = unit << 4 | (unsigned)digit;
    }
    if (unit == 0 || (unit >= 0xD800 && unit <= 0xDFFF)) return cursor_fail(cursor, "holds a wrong \\u escape");
    if (unit < 0x80) {
        *(*out)++ = (char)unit;
    } else if (unit < 0x800) {
        *(*out)++ = (char)(0xC0 | unit >> 6);
        *(*out)++ = (char)(0x80 | (unit & 0x3F));
    } else {
        *(*out)++ = (char)(0xE0 | unit >> 12);
        *(*out)++ = (char)(0x80 | (unit >> 6 & 0x3F));
        *(*out)++ = (char)(0x80 | (unit & 0x3F));
    }
    return true;
}

static bool escaped(struct json_cursor *cursor, char **out) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (cursor->at >= cursor->end) return cursor_fail(cursor, "holds half an escape");
    char name = *cursor->at++;
    if (name == 'u') return escaped_unit(cursor, out);
    const char *found = name ? strchr(names, name) : NULL;
    if (!found) return cursor_fail(cursor, "holds an unknown escape");
    *(*out)++ = values[found - names];
    return true;
}

bool cursor_string(struct json_cursor *cursor, const char **text, size_t *length) {
    if (!cursor_take(cursor, '"')) return cursor_fail(cursor, "must be a text");
    char *out = cursor->texts;
    *text = out;
    while (cursor->at < cursor->end) {
        char c = *cursor->at++;
        if (c == '"') {
            *length = (size_t)(out - *text);
            *out++ = '\0'; /* the room of the quote */
            cursor->texts = out;
            return true;
        }
        if ((unsigned char)c < 0x20) return cursor_fail(cursor, "holds a control character");
        if (c != '\\')
            *out++ = c;
        else if (!escaped(cursor, &out))
            return false;
    }
    return cursor_fail(cursor, "is a text without an end");
}

/* ---- numbers ---- */

static bool is_number_byte(char c) {
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

static size_t number_length(const struct json_cursor *cursor) {
    size_t length = 0, left = (size_t)(cursor->end - cursor->at);
    while (length < left && is_number_byte(cursor->at[length]))
        length++;
    return length;
}

bool cursor_integer(struct json_cursor *cursor, int64_t *value) {
    size_t length = number_length(cursor), i = length && cursor->at[0] == '-';
    bool negative = i;
    if (i == length) return cursor_fail(cursor, "must be an integer");
    int64_t sum = 0;
    for (; i < length; i++) {
        int digit = cursor->at[i] - '0';
        if (digit < 0 || digit > 9) return cursor_fail(cursor, "must be an integer");
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, negative ? -digit : digit, &sum))
            return cursor_fail(cursor, "does not fit 64 bits");
    }
    cursor->at += length;
    *value = sum;
    return true;
}

/* Digits with at most one point that make an integer below 2^53 over a power of ten up to 10^22: one correctly rounded
 * division (Clinger 1990). */
static bool short_decimal(const char *text, size_t length, double *value) {
    static const double powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    size_t i = text[0] == '-', decimals = 0;
    uint64_t sum = 0;
    bool point = false;
    if (length - i > 16 || length == i) return false;
    for (; i < length; i++) {
        if (text[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (text[i] < '0' || text[i] > '9') return false;
        sum = sum * 10 + (uint64_t)(text[i] - '0');
        decimals += point;
    }
    if (decimals > 15 || sum > (UINT64_C(1) << 53)) return false;
    *value = (double)sum / powers[decimals];
    if (text[0] == '-') *value = -*value;
    return true;
}

static bool word(struct json_cursor *cursor, const char *wanted) {
    size_t length = strlen(wanted);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, wanted, length) != 0) return false;
    cursor->at += length;
    return true;
}

bool cursor_double(struct json_cursor *cursor, double *value) {
    size_t length = number_length(cursor);
    if (length > 0 && length < 64) {
        char text[64], *end;
        memcpy(text, cursor->at, length);
        text[length] = '\0';
        if (!short_decimal(text, length, value)) {
            *value = strtod(text, &end);
            if (end != text + length) return cursor_fail(cursor, "must be a number");
        }
        cursor->at += length;
        return true;
    }
    if (word(cursor, "null"))
        *value = NAN;
    else if (word(cursor, "\"inf\""))
        *value = INFINITY;
    else if (word(cursor, "\"-inf\""))
        *value = -INFINITY;
    else
        return cursor_fail(cursor, "must be a number, null, \"inf\" or \"-inf\"");
    return true;
}

/* ---- what nobody asked for ---- */

static bool skip_list(struct json_cursor *cursor, char close, int depth);

static bool skip_value(struct json_cursor *cursor, int depth) {
    const char *text;
    size_t length;
    double number;
    if (depth > MAX_DEPTH) return cursor_fail(cursor, "is nested too deeply");
    if (cursor->at < cursor->end && *cursor->at == '"') return cursor_string(cursor, &text, &length);
    if (cursor_take(cursor, '{')) return skip_list(cursor, '}', depth + 1);
    if (cursor_take(cursor, '[')) return skip_list(cursor, ']', depth + 1);
    return word(cursor, "true") || word(cursor, "false") || cursor_double(cursor, &number);
}

static bool skip_list(struct json_cursor *cursor, char close, int depth) {
    if (cursor_take(cursor, close)) return true;
    for (;;) {
        const char *name;
        size_t length;
        if (close == '}' && !(cursor_string(cursor, &name, &length) && cursor_take(cursor, ':')))
            return cursor_fail(cursor, "must have names");
        if (!skip_value(cursor, depth)) return false;
        if (cursor_take(cursor, close)) return true;
        if (!cursor_take(cursor, ',')) return cursor_fail(cursor, "lacks a ','");
    }
}

bool cursor_skip(struct json_cursor *cursor) {
    return skip_value(cursor, 0);
}
