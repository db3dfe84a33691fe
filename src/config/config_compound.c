/* Types of several parts: amounts with a unit, alpha, warm-up, choices of series, narrowing, stages.
 * Each parses to one normal form, so that equal values are written alike. */
#include <string.h>

#include "config_internal.h"

/* ---- amounts: a number whose unit is in the text ---- */

enum amount_forms {
    FORM_PERCENT = 1,        /* 50% */
    FORM_TOKENS_PERCENT = 2, /* tokens:70% */
    FORM_TOKENS = 4,         /* tokens:100 */
    FORM_PLAIN_COUNT = 8,    /* 600, the unit of a bare number */
    FORM_PLAIN_POINTS = 16,
    FORM_PLAIN_TOKENS = 32,
    FORM_REST = 64,
    FORM_FILL = 128,
};

/* "70%" with 0 < value, and value < 100 or value ≤ 100. */
static bool parse_percent(const char *text, bool whole_allowed, double *out) {
    char number[64];
    size_t length = strlen(text);
    if (length < 2 || length >= sizeof number || text[length - 1] != '%') return false;
    lvs_copy(number, length, text);
    word_strip(number);
    return number_parse(number, out) && *out > 0 && (whole_allowed ? *out <= 100 : *out < 100);
}

static bool parse_count(const char *text, double *out) {
    int64_t value;
    if (!number_parse_whole(text, &value) || value < 1 || value > POINTS_MAX) return false;
    *out = (double)value;
    return true;
}

static bool parse_amount(const char *text, unsigned forms, struct amount *out) {
    static const char tokens[] = "tokens:";
    struct amount amount = {0};
    bool named = strncmp(text, tokens, strlen(tokens)) == 0;
    const char *number = named ? text + strlen(tokens) : text;
    bool percent = number[0] && number[strlen(number) - 1] == '%';
    bool good;
    if (forms & FORM_REST && strcmp(text, "rest") == 0) {
        amount.unit = AMOUNT_REST;
        good = true;
    } else if (forms & FORM_FILL && strcmp(text, "fill") == 0) {
        amount.unit = AMOUNT_FILL;
        good = true;
    } else if (percent) {
        amount.unit = named ? AMOUNT_TOKENS_PERCENT : AMOUNT_PERCENT;
        good = forms & (named ? FORM_TOKENS_PERCENT : FORM_PERCENT) &&
               parse_percent(number, forms & FORM_PLAIN_TOKENS, &amount.value);
    } else {
        amount.unit = named || forms & FORM_PLAIN_TOKENS ? AMOUNT_TOKENS
                      : forms & FORM_PLAIN_POINTS        ? AMOUNT_POINTS
                                                         : AMOUNT_COUNT;
        good = (!named || forms & FORM_TOKENS) && parse_count(number, &amount.value);
    }
    if (good) *out = amount;
    return good;
}

static void format_amount(const struct amount *amount, struct strbuf *out) {
    if (amount->unit == AMOUNT_REST) {
        strbuf_add(out, "rest");
        return;
    }
    if (amount->unit == AMOUNT_FILL) {
        strbuf_add(out, "fill");
        return;
    }
    if (amount->unit == AMOUNT_PERCENT || amount->unit == AMOUNT_TOKENS_PERCENT) {
        number_format(amount->value, out);
        strbuf_add(out, "%");
    } else {
        strbuf_printf(out, "%.0f", amount->value);
    }
}

static const struct amount *amount_of(const struct config_key *key, const void *base) {
    return (const struct amount *)((const char *)base + key->offset);
}

static enum lvs_status amount_parse(const struct config_key *key, void *base, const char *text, unsigned forms,
                                    struct lvs_error *err) {
    if (!parse_amount(text, forms, (struct amount *)((char *)base + key->offset)))
        return lvs_fail(err, LVS_USAGE, "\"%.80s\" cannot be read", text);
    return LVS_OK;
}

static enum lvs_status steps_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    return amount_parse(key, base, text, FORM_PLAIN_COUNT | FORM_FILL, err);
}

static enum lvs_status stride_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    return amount_parse(key, base, text, FORM_PERCENT | FORM_PLAIN_TOKENS, err);
}

static enum lvs_status history_parse(const struct config_key *key, void *base, const char *text,
                                     struct lvs_error *err) {
    return amount_parse(key, base, text, FORM_PERCENT | FORM_PLAIN_POINTS | FORM_TOKENS_PERCENT, err);
}

static enum lvs_status horizon_parse(const struct config_key *key, void *base, const char *text,
                                     struct lvs_error *err) {
    return amount_parse(key, base, text, FORM_REST | FORM_PLAIN_POINTS | FORM_TOKENS, err);
}

static void amount_format(const struct config_key *key, const void *base, struct strbuf *out) {
    format_amount(amount_of(key, base), out);
}

static void tokens_format(const struct config_key *key, const void *base, struct strbuf *out) {
    const struct amount *amount = amount_of(key, base);
    if (amount->unit == AMOUNT_TOKENS || amount->unit == AMOUNT_TOKENS_PERCENT) strbuf_add(out, "tokens:");
    format_amount(amount, out);
}

static void steps_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "a whole number of steps from 1, or fill (until the stage's share of the budget is spent)");
}

static void stride_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "a share of the context such as 50%, or a whole number of tokens from 1");
}

static void history_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "a share of the points such as 50%, a whole number of points from 1, or tokens:70% (below 100%)");
}

static void horizon_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "rest, a whole number of points from 1, or tokens:100");
}

/* ---- alpha = rank | 2rank | 16 ---- */

static enum lvs_status alpha_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    struct settings *settings = base;
    char number[64];
    size_t length = strlen(text);
    (void)key;
    bool times_rank = length >= 4 && length < sizeof number && strcmp(text + length - 4, "rank") == 0;
    double value = 1;
    lvs_copy(number, times_rank ? length - 3 : sizeof number, text);
    word_strip(number);
    bool bare = times_rank && number[0] == '\0';
    if (length >= sizeof number || (!bare && !number_parse(number, &value)))
        return lvs_fail(err, LVS_USAGE, "\"%.80s\" cannot be read", text);
    if (value <= 0 || value > 1e6) return lvs_fail(err, LVS_USAGE, "%.80s is out of range", text);
    settings->alpha_value = value;
    settings->alpha_times_rank = times_rank;
    return LVS_OK;
}

static void alpha_format(const struct config_key *key, const void *base, struct strbuf *out) {
    const struct settings *settings = base;
    (void)key;
    if (!settings->alpha_times_rank || settings->alpha_value != 1) number_format(settings->alpha_value, out);
    if (settings->alpha_times_rank) strbuf_add(out, "rank");
}

static void alpha_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "rank, a multiple such as 2rank, or a number above 0, at most 1e6");
}

/* ---- warmup = 0 | 10% | 100 | 10%+100 ---- */

static enum lvs_status warmup_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    struct settings *settings = base;
    double percent = -1, steps = -1;
    char part[64];
    const char *cursor = text;
    (void)key;
    while (word_next(&cursor, '+', part, sizeof part)) {
        size_t length = strlen(part);
        bool is_percent = length > 0 && part[length - 1] == '%';
        int64_t whole = -1;
        double value = -1;
        if (is_percent) part[length - 1] = '\0';
        bool good = is_percent ? number_parse(part, &value) && value >= 0 && value <= 100 && percent < 0
                               : number_parse_whole(part, &whole) && whole >= 0 && whole <= POINTS_MAX && steps < 0;
        if (!good) return lvs_fail(err, LVS_USAGE, "\"%.80s\" cannot be read", text);
        if (is_percent)
            percent = value;
        else
            steps = (double)whole;
    }
    /* the smaller of both counts, so one zero is all of it */
    bool zero = percent == 0 || steps == 0;
    settings->warmup_percent = zero ? -1 : percent;
    settings->warmup_steps = zero ? 0 : steps;
    return LVS_OK;
}

static void warmup_format(const struct config_key *key, const void *base, struct strbuf *out) {
    const struct settings *settings = base;
    (void)key;
    if (settings->warmup_percent >= 0) {
        number_format(settings->warmup_percent, out);
        strbuf_add(out, "%");
    }
    if (settings->warmup_steps >= 0)
        strbuf_printf(out, "%s%.0f", settings->warmup_percent >= 0 ? "+" : "", settings->warmup_steps);
}

static void warmup_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "0, a share of the steps such as 10%, a number of steps, or both as 10%+100 (the smaller counts)");
}

/* ---- series = all | 10 | worst:20+random:5 ---- */

static enum lvs_status series_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    struct series_choice choice = {0};
    char part[64];
    const char *cursor = strcmp(text, "all") == 0 ? NULL : text;
    while (word_next(&cursor, '+', part, sizeof part)) {
        int32_t *count = strncmp(part, "worst:", 6) == 0    ? &choice.worst
                         : strncmp(part, "random:", 7) == 0 ? &choice.random
                                                            : &choice.first;
        const char *number = count == &choice.worst ? part + 6 : count == &choice.random ? part + 7 : part;
        double value;
        if (!parse_count(number, &value) || *count != 0)
            return lvs_fail(err, LVS_USAGE, "\"%.80s\" cannot be read", text);
        *count = (int32_t)value;
    }
    *(struct series_choice *)((char *)base + key->offset) = choice;
    return LVS_OK;
}

static void series_format(const struct config_key *key, const void *base, struct strbuf *out) {
    const struct series_choice *choice = (const struct series_choice *)((const char *)base + key->offset);
    const char *joint = "";
    if (!choice->first && !choice->worst && !choice->random) strbuf_add(out, "all");
    if (choice->first) {
        strbuf_printf(out, "%d", choice->first);
        joint = "+";
    }
    if (choice->worst) {
        strbuf_printf(out, "%sworst:%d", joint, choice->worst);
        joint = "+";
    }
    if (choice->random) strbuf_printf(out, "%srandom:%d", joint, choice->random);
}

static void series_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "all, the first so many such as 10, worst:20, random:5, or several of them joined by +");
}

/* ---- narrow = none | 5/15 ---- */

static enum lvs_status narrow_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    struct settings *settings = base;
    double first = 0, then = 0;
    char part[64];
    const char *cursor = text;
    (void)key;
    if (strcmp(text, "none") != 0) {
        bool good = word_next(&cursor, '/', part, sizeof part) && parse_count(part, &first) &&
                    word_next(&cursor, '/', part, sizeof part) && parse_count(part, &then) && !cursor;
        if (!good) return lvs_fail(err, LVS_USAGE, "\"%.80s\" cannot be read", text);
    }
    settings->narrow_first = (int32_t)first;
    settings->narrow_then = (int32_t)then;
    return LVS_OK;
}

static void narrow_format(const struct config_key *key, const void *base, struct strbuf *out) {
    const struct settings *settings = base;
    (void)key;
    if (settings->narrow_first)
        strbuf_printf(out, "%d/%d", settings->narrow_first, settings->narrow_then);
    else
        strbuf_add(out, "none");
}

static void narrow_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "none, or two counts such as 5/15 (all points on 5 series, then the best three on 15 more)");
}

/* ---- [sweep] stages: the order itself is in config->stages, made by stages_read ---- */

static enum lvs_status stages_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    (void)key, (void)base, (void)text, (void)err;
    return LVS_OK;
}

static void stages_format(const struct config_key *key, const void *base, struct strbuf *out) {
    const struct config *config = base;
    (void)key;
    for (int i = 0; i < config->n_stages; i++)
        strbuf_printf(out, "%s%s", i ? "+" : "", config->stages[i].name);
}

static void stages_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "names of [stage.…] sections in the order they run, such as search+final");
}

const struct config_type type_steps = {"steps", sizeof(struct amount), steps_parse, amount_format, steps_allowed};
const struct config_type type_stride = {"stride", sizeof(struct amount), stride_parse, amount_format, stride_allowed};
const struct config_type type_history = {"history", sizeof(struct amount), history_parse, tokens_format,
                                         history_allowed};
const struct config_type type_horizon = {"horizon", sizeof(struct amount), horizon_parse, tokens_format,
                                         horizon_allowed};
const struct config_type type_alpha = {"alpha", 8, alpha_parse, alpha_format, alpha_allowed};
const struct config_type type_warmup = {"warmup", 8, warmup_parse, warmup_format, warmup_allowed};
const struct config_type type_series = {"series", sizeof(struct series_choice), series_parse, series_format,
                                        series_allowed};
const struct config_type type_narrow = {"narrow", 4, narrow_parse, narrow_format, narrow_allowed};
const struct config_type type_stages = {"stages", 0, stages_parse, stages_format, stages_allowed};
