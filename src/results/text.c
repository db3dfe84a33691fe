/* Numbers and strings as text that reads back the same, valid UTF-8 whatever the bytes were. */
#include "results_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the well-formed UTF-8 sequence at `bytes` (RFC 3629), 0 when there is none. */
static size_t utf8_length(const unsigned char *bytes) {
    unsigned char first = bytes[0];
    if (first < 0x80) return first != 0;
    size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                    : (first & 0xF0) == 0xE0         ? 3
                    : first >= 0xF0 && first <= 0xF4 ? 4
                                                     : 0;
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;  /* no overlong forms */
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF; /* no surrogates, at most U+10FFFF */
    if (length && (bytes[1] < low || bytes[1] > high)) return 0;
    for (size_t i = 2; i < length; i++)
        if ((bytes[i] & 0xC0) != 0x80) return 0;
    return length;
}

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

static void add_utf8(struct strbuf *out, const char *text, bool json) {
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        size_t length = utf8_length(at), plain = 0;
        while (at[plain] >= 0x20 && at[plain] < 0x7F && at[plain] != '"' && at[plain] != '\\')
            plain++;
        if (plain)
            strbuf_add_bytes(out, (const char *)at, length = plain);
        else if (length == 0)
            strbuf_add_bytes(out, REPLACEMENT, 3);
        else if (json && (*at == '"' || *at == '\\'))
            strbuf_add_bytes(out, (const char[]){'\\', (char)*at}, 2);
        else if (json && *at < 0x20)
            strbuf_printf(out, "\\u%04x", *at);
        else
            strbuf_add_bytes(out, (const char *)at, length);
        at += length ? length : 1;
    }
}

void text_add_json(struct strbuf *out, const char *text) {
    strbuf_add_bytes(out, "\"", 1);
    add_utf8(out, text, true);
    strbuf_add_bytes(out, "\"", 1);
}

void text_add_utf8(struct strbuf *out, const char *text) {
    add_utf8(out, text, false);
}

void text_add_double(struct strbuf *out, double value) {
    char text[40];
    if (isnan(value))
        strbuf_add(out, "null");
    else if (isinf(value))
        strbuf_add(out, value > 0 ? "\"inf\"" : "\"-inf\"");
    else if (value == 0 && signbit(value))
        strbuf_add(out, "-0.0"); /* "-0" would read back as the integer 0 */
    else
        strbuf_add_bytes(out, text, (size_t)snprintf(text, sizeof text, "%.17g", value));
}

void text_add_integer(struct strbuf *out, int64_t value) {
    char text[24];
    char *at = text + sizeof text;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        *--at = (char)('0' + left % 10);
    } while (left /= 10);
    if (value < 0) *--at = '-';
    strbuf_add_bytes(out, at, (size_t)(text + sizeof text - at));
}

void text_add_shortest(struct strbuf *out, double value) {
    char text[40];
    if (isnan(value)) return;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    strbuf_add(out, text);
}
