/* Types of single numbers: whole, real, duration. Reading is strict (the whole text, finite, no hexadecimal, no
 * overflow); writing gives the shortest text that reads back to the same bits, so equal values have equal text. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config_internal.h"

#define SECONDS_MAX 31536000.0 /* a year: no run is longer, and a misread unit is found */

/* [+-] digits [. digits] [e [+-] digits], at least one digit before the exponent. */
static bool is_decimal(const char *text) {
    const char *c = text;
    size_t digits = 0;
    if (*c == '+' || *c == '-') c++;
    for (; isdigit((unsigned char)*c); c++)
        digits++;
    if (*c == '.') c++;
    for (; isdigit((unsigned char)*c); c++)
        digits++;
    if (digits == 0) return false;
    if (*c == 'e' || *c == 'E') {
        c++;
        if (*c == '+' || *c == '-') c++;
        if (!isdigit((unsigned char)*c)) return false;
        while (isdigit((unsigned char)*c))
            c++;
    }
    return *c == '\0';
}

bool number_parse(const char *text, double *out) {
    if (!is_decimal(text)) return false;
    errno = 0;
    double value = strtod(text, NULL);
    if (errno != 0 || !isfinite(value)) return false;
    *out = value == 0 ? 0.0 : value; /* no minus zero: it would have a text of its own */
    return true;
}

bool number_parse_whole(const char *text, int64_t *out) {
    double value;
    if (!number_parse(text, &value)) return false;
    if (strpbrk(text, ".eE") == NULL) {
        errno = 0;
        *out = strtoll(text, NULL, 10);
        return errno == 0;
    }
    /* 1e4 is a whole number too, as far as doubles are exact */
    if (value != floor(value) || fabs(value) > 9007199254740992.0) return false;
    *out = (int64_t)value;
    return true;
}

/* The digits of the shortest "%.*e" that reads back, and its decimal exponent. */
static int shortest_digits(double value, char digits[24], int *exponent) {
    char text[40];
    for (int precision = 0; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value) break;
    }
    int count = 0;
    const char *c = text;
    for (; *c && *c != 'e'; c++)
        if (isdigit((unsigned char)*c) && count < 23) digits[count++] = *c;
    *exponent = *c == 'e' ? atoi(c + 1) : 0;
    while (count > 1 && digits[count - 1] == '0')
        count--;
    digits[count] = '\0';
    return count;
}

static void format_fixed(const char *digits, int count, int exponent, struct strbuf *out) {
    int whole = exponent + 1; /* digits before the point */
    if (whole <= 0) strbuf_add(out, "0.");
    for (int i = whole; i < 0; i++)
        strbuf_add(out, "0");
    for (int i = 0; i < count; i++) {
        if (i == whole && i > 0) strbuf_add(out, ".");
        strbuf_add_bytes(out, &digits[i], 1);
    }
    for (int i = count; i < whole; i++)
        strbuf_add(out, "0");
}

void number_format(double value, struct strbuf *out) {
    if (value == 0) {
        strbuf_add(out, "0");
        return;
    }
    char digits[24];
    int exponent, count = shortest_digits(fabs(value), digits, &exponent);
    if (value < 0) strbuf_add(out, "-");
    struct strbuf scientific, fixed;
    strbuf_init(&scientific);
    strbuf_init(&fixed);
    strbuf_printf(&scientific, count > 1 ? "%c.%se%d" : "%c%se%d", digits[0], digits + 1, exponent);
    if (exponent > -40 && exponent < 40) format_fixed(digits, count, exponent, &fixed);
    /* 1e-4 but 0.001; 1e4 but 1000 */
    bool plain = fixed.length > 0 && fixed.length <= scientific.length + 1;
    strbuf_add(out, plain ? fixed.text : scientific.text);
    strbuf_free(&scientific);
    strbuf_free(&fixed);
}

static bool has_bounds(const struct config_key *key) {
    return key->min != 0 || key->max != 0 || key->flags & (KEY_ABOVE_MIN | KEY_BELOW_MAX);
}

static bool within(const struct config_key *key, double value) {
    if (!has_bounds(key)) return true;
    bool low = key->flags & KEY_ABOVE_MIN ? value > key->min : value >= key->min;
    bool high = key->flags & KEY_BELOW_MAX ? value < key->max : value <= key->max;
    return low && high;
}

static void allowed_bounds(const struct config_key *key, const char *what, struct strbuf *out) {
    strbuf_add(out, what);
    if (has_bounds(key)) {
        strbuf_add(out, key->flags & KEY_ABOVE_MIN ? " above " : " from ");
        number_format(key->min, out);
        if (key->max > 0) {
            strbuf_add(out, key->flags & KEY_BELOW_MAX   ? " and below "
                            : key->flags & KEY_ABOVE_MIN ? ", at most "
                                                         : " to ");
            number_format(key->max, out);
        }
    }
    if (key->zero) strbuf_printf(out, ", or %s", key->zero);
}

/* The number of a row that may have a word for 0; the message says which of its rules was broken. */
static enum lvs_status parse_number(const struct config_key *key, const char *text, double *out,
                                    struct lvs_error *err) {
    if (key->zero && strcmp(text, key->zero) == 0) {
        *out = 0;
        return LVS_OK;
    }
    if (!number_parse(text, out)) return lvs_fail(err, LVS_USAGE, "\"%.80s\" is not a number", text);
    if (!within(key, *out)) return lvs_fail(err, LVS_USAGE, "%.80s is out of range", text);
    return LVS_OK;
}

static enum lvs_status parse_whole(const struct config_key *key, const char *text, int64_t *out,
                                   struct lvs_error *err) {
    double real;
    LVS_TRY(parse_number(key, text, &real, err));
    if (key->zero && strcmp(text, key->zero) == 0) {
        *out = 0;
        return LVS_OK;
    }
    if (!number_parse_whole(text, out)) return lvs_fail(err, LVS_USAGE, "%.80s is not a whole number", text);
    return LVS_OK;
}

static enum lvs_status int32_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    int64_t value = 0;
    LVS_TRY(parse_whole(key, text, &value, err));
    if (value < INT32_MIN || value > INT32_MAX) return lvs_fail(err, LVS_USAGE, "%.80s is out of range", text);
    *(int32_t *)((char *)base + key->offset) = (int32_t)value;
    return LVS_OK;
}

static enum lvs_status int64_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    int64_t value = 0;
    LVS_TRY(parse_whole(key, text, &value, err));
    *(int64_t *)((char *)base + key->offset) = value;
    return LVS_OK;
}

static void format_whole(const struct config_key *key, int64_t value, struct strbuf *out) {
    if (key->zero && value == 0)
        strbuf_add(out, key->zero);
    else
        strbuf_printf(out, "%lld", (long long)value);
}

static void int32_format(const struct config_key *key, const void *base, struct strbuf *out) {
    format_whole(key, *(const int32_t *)((const char *)base + key->offset), out);
}

static void int64_format(const struct config_key *key, const void *base, struct strbuf *out) {
    format_whole(key, *(const int64_t *)((const char *)base + key->offset), out);
}

static void whole_allowed(const struct config_key *key, struct strbuf *out) {
    allowed_bounds(key, "a whole number", out);
}

static enum lvs_status real_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    double value = 0;
    LVS_TRY(parse_number(key, text, &value, err));
    *(double *)((char *)base + key->offset) = value;
    return LVS_OK;
}

static void real_format(const struct config_key *key, const void *base, struct strbuf *out) {
    double value = *(const double *)((const char *)base + key->offset);
    if (key->zero && value == 0)
        strbuf_add(out, key->zero);
    else
        number_format(value, out);
}

static void real_allowed(const struct config_key *key, struct strbuf *out) {
    allowed_bounds(key, "a number", out);
}

/* A whole number kept as a double: FLOPs pass 2^53, and 1e17 is how people write them. */
static enum lvs_status whole_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    double value = 0;
    LVS_TRY(parse_number(key, text, &value, err));
    if (value != floor(value)) return lvs_fail(err, LVS_USAGE, "%.80s is not a whole number", text);
    *(double *)((char *)base + key->offset) = value;
    return LVS_OK;
}

/* "8:00:00" as a scheduler writes it. */
static bool parse_clock(const char *text, double *seconds) {
    unsigned hours, minutes, rest;
    int end = 0;
    if (sscanf(text, "%4u:%2u:%2u%n", &hours, &minutes, &rest, &end) != 3 || text[end] != '\0') return false;
    if (!isdigit((unsigned char)text[0]) || minutes > 59 || rest > 59) return false;
    *seconds = hours * 3600.0 + minutes * 60.0 + rest;
    return true;
}

static enum lvs_status duration_parse(const struct config_key *key, void *base, const char *text,
                                      struct lvs_error *err) {
    double *member = (double *)((char *)base + key->offset), seconds = 0;
    char number[64];
    static const struct {
        char letter;
        double seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    double unit = 1;
    size_t length = strlen(text);
    if (key->zero && strcmp(text, key->zero) == 0) {
        *member = 0;
        return LVS_OK;
    }
    lvs_copy(number, sizeof number, text);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (length > 0 && length < sizeof number && text[length - 1] == units[i].letter) {
            unit = units[i].seconds;
            number[length - 1] = '\0';
        }
    word_strip(number);
    if (!parse_clock(text, &seconds)) {
        if (length >= sizeof number || !number_parse(number, &seconds))
            return lvs_fail(err, LVS_USAGE, "\"%.80s\" is not a time", text);
        seconds *= unit;
    }
    if (seconds <= 0 || seconds > SECONDS_MAX) return lvs_fail(err, LVS_USAGE, "%.80s is out of range", text);
    *member = seconds;
    return LVS_OK;
}

static void duration_format(const struct config_key *key, const void *base, struct strbuf *out) {
    real_format(key, base, out);
    if (*(const double *)((const char *)base + key->offset) != 0 || !key->zero) strbuf_add(out, "s");
}

static void duration_allowed(const struct config_key *key, struct strbuf *out) {
    strbuf_add(out, "a time above 0 and up to a year such as 60s, 5m, 1.5h, 2d or 8:00:00");
    if (key->zero) strbuf_printf(out, ", or %s", key->zero);
}

const struct config_type type_int32 = {"int32", 4, int32_parse, int32_format, whole_allowed};
const struct config_type type_int64 = {"int64", 8, int64_parse, int64_format, whole_allowed};
const struct config_type type_whole = {"whole", 8, whole_parse, real_format, whole_allowed};
const struct config_type type_real = {"real", 8, real_parse, real_format, real_allowed};
const struct config_type type_duration = {"duration", 8, duration_parse, duration_format, duration_allowed};
