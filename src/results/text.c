/* Numbers and strings as text that reads back the same, valid UTF-8 whatever the bytes were. */
#include "results_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

static void add_utf8(struct strbuf *out, const char *text, bool json) {
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        size_t length = lvs_utf8_length((const char *)at), plain = 0;
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
