/* Marks: escaped text, numbers as people write them, SVG elements with coordinates to a tenth of a pixel. */
#include "report_internal.h"
#include "results_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- text ---- */

static void add_escaped(struct strbuf *out, const char *utf8) {
    for (const char *at = utf8; *at;) {
        size_t plain = strcspn(at, "&<>\"'\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14"
                                   "\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f");
        strbuf_add_bytes(out, at, plain);
        at += plain;
        if (*at == '\0') break;
        strbuf_add(out, *at == '&'    ? "&amp;"
                        : *at == '<'  ? "&lt;"
                        : *at == '>'  ? "&gt;"
                        : *at == '"'  ? "&quot;"
                        : *at == '\'' ? "&#39;"
                                      : "\xEF\xBF\xBD");
        at++;
    }
}

void markup_add(struct strbuf *out, const char *text) {
    struct strbuf utf8;
    strbuf_init(&utf8);
    text_add_utf8(&utf8, text);
    if (utf8.text) add_escaped(out, utf8.text);
    strbuf_free(&utf8);
}

static void markup_add_list(struct strbuf *out, const char *format, va_list arguments) {
    char text[4096];
    vsnprintf(text, sizeof text, format, arguments);
    markup_add(out, text);
}

void markup_printf(struct strbuf *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    markup_add_list(out, format, arguments);
    va_end(arguments);
}

double text_width(const char *text) {
    double width = 0;
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if ((*at & 0xC0) == 0x80) continue; /* the rest of a character */
        width += strchr("iljtf.,:;|!'()[] -", (char)*at)     ? 4.5
                 : strchr("mwMW", (char)*at)                 ? 11
                 : (*at >= 'A' && *at <= 'Z') || *at >= 0x80 ? 8.4
                                                             : 7.4;
    }
    return width;
}

/* ---- numbers ---- */

static void trim_zeros(char *text) {
    char *exponent = strchr(text, 'e');
    char *end = exponent ? exponent : text + strlen(text);
    if (strchr(text, '.') && strchr(text, '.') < end) {
        char *last = end;
        while (last[-1] == '0')
            last--;
        if (last[-1] == '.') last--;
        memmove(last, end, strlen(end) + 1);
        exponent = strchr(text, 'e');
    }
    if (!exponent) return;
    int value = atoi(exponent + 1);
    snprintf(exponent + 1, 8, "%d", value);
}

void number_write(double value, int digits, char out[32]) {
    if (isnan(value)) {
        lvs_copy(out, 32, "–");
        return;
    }
    if (value == 0) value = 0; /* no minus sign */
    double size = fabs(value);
    if (size != 0 && (size < 1e-3 || size >= 1e5)) {
        snprintf(out, 32, "%.*e", digits - 1, value);
    } else {
        int before = size >= 1 ? (int)floor(log10(size)) + 1 : 1;
        int after = size != 0 && size < 1 ? digits + (int)-floor(log10(size)) - 1 : digits - before;
        snprintf(out, 32, "%.*f", after > 0 ? after : 0, value);
    }
    if (strchr(out, '.')) trim_zeros(out);
    if (strchr(out, 'e')) trim_zeros(out);
}

void duration_write(double seconds, char out[32]) {
    if (!isfinite(seconds) || seconds < 0) {
        lvs_copy(out, 32, "–");
        return;
    }
    long long whole = (long long)(seconds + 0.5);
    if (seconds < 10)
        snprintf(out, 32, "%.1f s", seconds);
    else if (whole < 60)
        snprintf(out, 32, "%lld s", whole);
    else if (whole < 3600)
        snprintf(out, 32, "%lld min %lld s", whole / 60, whole % 60);
    else
        snprintf(out, 32, "%lld h %lld min", whole / 3600, whole / 60 % 60);
}

void time_write(double seconds, char out[32]) {
    time_t whole = (time_t)seconds;
    struct tm broken;
    if (seconds <= 0 || !gmtime_r(&whole, &broken) || !strftime(out, 32, "%Y-%m-%d %H:%M UTC", &broken))
        lvs_copy(out, 32, "–");
}

/* ---- elements ---- */

/* A coordinate to a tenth, without a needless ".0". */
static void add_coordinate(struct strbuf *out, double value) {
    char text[32];
    snprintf(text, sizeof text, "%.1f", value);
    char *dot = strchr(text, '.');
    if (dot && dot[1] == '0') *dot = '\0';
    strbuf_add(out, strcmp(text, "-0") == 0 ? "0" : text);
}

static void add_attribute(struct strbuf *out, const char *name, double value) {
    strbuf_printf(out, " %s=\"", name);
    add_coordinate(out, value);
    strbuf_add(out, "\"");
}

void svg_text(struct strbuf *out, double x, double y, const char *class, const char *format, ...) {
    va_list arguments;
    strbuf_printf(out, "<text class=\"%s\"", class);
    add_attribute(out, "x", x);
    add_attribute(out, "y", y);
    strbuf_add(out, ">");
    va_start(arguments, format);
    markup_add_list(out, format, arguments);
    va_end(arguments);
    strbuf_add(out, "</text>\n");
}

void svg_line(struct strbuf *out, double x1, double y1, double x2, double y2, const char *class) {
    strbuf_printf(out, "<path class=\"%s\" d=\"M", class);
    add_coordinate(out, x1);
    strbuf_add(out, " ");
    add_coordinate(out, y1);
    strbuf_add(out, "L");
    add_coordinate(out, x2);
    strbuf_add(out, " ");
    add_coordinate(out, y2);
    strbuf_add(out, "\"/>\n");
}

void svg_rect(struct strbuf *out, double x, double y, double width, double height, const char *class) {
    strbuf_printf(out, "<rect class=\"%s\"", class);
    add_attribute(out, "x", x);
    add_attribute(out, "y", y);
    add_attribute(out, "width", width > 0 ? width : 0);
    add_attribute(out, "height", height > 0 ? height : 0);
    strbuf_add(out, "/>\n");
}

/* One integer number of tenths, relative to the last point: half the bytes of absolute coordinates. */
static void add_step(struct strbuf *out, long step, bool first) {
    bool negative = step < 0;
    long size = negative ? -step : step;
    if (!negative && !first) strbuf_add(out, " ");
    if (negative) strbuf_add(out, "-");
    if (size % 10)
        size < 10 ? strbuf_printf(out, ".%ld", size) : strbuf_printf(out, "%ld.%ld", size / 10, size % 10);
    else
        strbuf_printf(out, "%ld", size / 10);
}

void svg_path(struct strbuf *out, const double *x, const double *y, int32_t n) {
    bool pen_down = false;
    long last_x = 0, last_y = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i])) {
            pen_down = false;
            continue;
        }
        long px = lround(x[i] * 10), py = lround(y[i] * 10);
        bool alone = !pen_down && (i + 1 == n || !isfinite(x[i + 1]) || !isfinite(y[i + 1]));
        strbuf_add(out, pen_down ? "l" : "M");
        add_step(out, pen_down ? px - last_x : px, true);
        add_step(out, pen_down ? py - last_y : py, false);
        if (alone) strbuf_add(out, "h.1"); /* a point between gaps is still seen */
        pen_down = !alone;
        last_x = px;
        last_y = py;
    }
}
