/* Where the text of a series is cut: what a forecast is given, what it is compared with. Pure text and numbers; no
 * model.
 * Invariant: a value is compared only when all of its characters lie within the continuation, so no compared value was
 * partly given. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate_internal.h"

/* Room above the widest expected value: a forecast may open with a stray character or two. */
#define TOKEN_SLACK 16

/* Part of n that a percentage means; the small addition keeps 70 % of 10 at 7. */
static int64_t percent_of(int64_t n, double percent) {
    return (int64_t)floor((double)n * percent / 100 + 1e-9);
}

void forecast_extent(const struct settings *settings, int32_t n_time, int32_t *history, int32_t *horizon) {
    const struct amount *given = &settings->history, *asked = &settings->horizon;
    bool share = given->unit == AMOUNT_PERCENT || given->unit == AMOUNT_TOKENS_PERCENT;
    double points = share ? (double)percent_of(n_time, given->value) : given->value;
    *history = points < 0 ? 0 : points > n_time ? n_time : (int32_t)points;
    int32_t rest = n_time - *history;
    bool counted = asked->unit == AMOUNT_POINTS || asked->unit == AMOUNT_COUNT;
    *horizon = counted && asked->value < rest ? (int32_t)asked->value : rest;
}

/* ---- positions ---- */

/* Where values begin and points end in a text; a point's end is its ';' or the text's end. */
struct positions {
    size_t *value; /* [n_time · n_channel] */
    size_t *point; /* [n_time] */
};

static void mark_positions(const struct forecast_plan *plan, int32_t n_time, int32_t n_channel, struct positions *out) {
    out->value = lvs_malloc((size_t)n_time * (size_t)n_channel * sizeof *out->value);
    out->point = lvs_malloc((size_t)n_time * sizeof *out->point);
    int64_t value = 0, point = 0;
    for (size_t at = 0; at <= plan->length; at++) {
        char before = at == 0 ? ';' : plan->text[at - 1];
        if ((before == ';' || before == ',') && at < plan->length) out->value[value++] = at;
        if (at == plan->length || plan->text[at] == ';') out->point[point++] = at;
    }
    assert(value == (int64_t)n_time * n_channel && point == n_time);
}

static size_t value_end(const struct positions *positions, int32_t n_channel, int32_t point, int32_t channel) {
    if (channel == n_channel - 1) return positions->point[point];
    return positions->value[(int64_t)point * n_channel + channel + 1] - 1;
}

/* ---- the cut ---- */

static void cut_history(const struct settings *settings, const struct positions *positions, int32_t n_time,
                        int32_t n_channel, struct forecast_plan *plan) {
    int32_t history, horizon;
    forecast_extent(settings, n_time, &history, &horizon);
    if (settings->history.unit == AMOUNT_TOKENS_PERCENT)
        plan->prompt = (size_t)percent_of((int64_t)plan->length, settings->history.value);
    else
        plan->prompt = history < n_time ? positions->value[(int64_t)history * n_channel] : plan->length;
    while (plan->first < n_time && positions->point[plan->first] < plan->prompt)
        plan->first++;
    bool cut = plan->first < n_time && positions->value[(int64_t)plan->first * n_channel] < plan->prompt;
    plan->tail = cut ? positions->value[(int64_t)plan->first * n_channel] : plan->prompt;
}

static void cut_horizon(const struct settings *settings, const struct positions *positions, int32_t n_time,
                        struct forecast_plan *plan) {
    const struct amount *asked = &settings->horizon;
    plan->end = plan->length;
    if (asked->unit == AMOUNT_TOKENS && asked->value < (double)(plan->length - plan->prompt))
        plan->end = plan->prompt + (size_t)asked->value;
    bool counted = asked->unit == AMOUNT_POINTS || asked->unit == AMOUNT_COUNT;
    if (counted && asked->value < n_time - plan->first)
        plan->end = asked->value < 1 ? plan->prompt : positions->point[plan->first + (int32_t)asked->value - 1];
}

static void collect_observed(const double *scaled, const struct positions *positions, int32_t n_time, int32_t n_channel,
                             struct forecast_plan *plan) {
    int64_t room = (int64_t)(n_time - plan->first) * n_channel;
    plan->observed = lvs_malloc((size_t)(room + 1) * sizeof *plan->observed);
    for (int32_t p = plan->first; p < n_time; p++) {
        for (int32_t c = 0; c < n_channel; c++) {
            bool compared = positions->value[(int64_t)p * n_channel + c] >= plan->prompt &&
                            value_end(positions, n_channel, p, c) <= plan->end;
            plan->observed[(int64_t)(p - plan->first) * n_channel + c] =
                compared ? scaled[(int64_t)p * n_channel + c] : NAN;
            if (compared) plan->horizon = p - plan->first + 1;
        }
        if (positions->point[p] <= plan->end) plan->whole = p - plan->first + 1;
    }
    if (plan->whole > plan->horizon) plan->whole = plan->horizon;
}

int32_t forecast_token_cap(const struct settings *settings, const struct text_format *format, int32_t horizon) {
    if (settings->horizon.unit == AMOUNT_TOKENS) return (int32_t)settings->horizon.value;
    int64_t limit = (int64_t)horizon * format->n_channel * (format->decimals + 4) + TOKEN_SLACK;
    return limit > INT32_MAX ? INT32_MAX : (int32_t)limit;
}

static void limit_tokens(const struct forecast_task *task, struct forecast_plan *plan) {
    int32_t cap = forecast_token_cap(task->settings, task->format, plan->horizon);
    size_t left = plan->end - plan->prompt;
    bool in_tokens = task->settings->horizon.unit == AMOUNT_TOKENS;
    plan->token_limit = in_tokens && (size_t)cap > left ? (int32_t)left : cap;
}

static enum lvs_status check_plan(const struct forecast_task *task, int32_t row, const struct forecast_plan *plan,
                                  struct lvs_error *err) {
    long long id = (long long)task->set->id[row];
    if (plan->prompt == 0)
        return lvs_fail(err, LVS_USAGE,
                        "series %lld: [evaluate] history leaves nothing of its %d points to forecast from; give at "
                        "least one point",
                        id, task->set->n_time);
    if (plan->horizon == 0)
        return lvs_fail(err, LVS_USAGE,
                        "series %lld: [evaluate] history and horizon leave no whole value to forecast after %zu of "
                        "its %zu tokens (%d points); a shorter history or a longer horizon does",
                        id, plan->prompt, plan->length, task->set->n_time);
    return LVS_OK;
}

static enum lvs_status encode(const struct forecast_task *task, const double *scaled, int32_t row,
                              struct forecast_plan *plan, struct lvs_error *err) {
    struct strbuf text;
    strbuf_init(&text);
    enum lvs_status status = text_encode(task->format, scaled, task->set->n_time, &text, err);
    plan->length = text.length;
    plan->text = strbuf_take(&text);
    if (status != LVS_OK) lvs_error_prefix(err, "series %lld", (long long)task->set->id[row]);
    return status;
}

enum lvs_status forecast_plan_make(const struct forecast_task *task, int32_t row, struct forecast_plan *out,
                                   struct lvs_error *err) {
    const int32_t n_time = task->set->n_time, n_channel = task->set->n_channel;
    const double *values = task->set->values + (int64_t)row * n_time * n_channel;
    const double *factor = task->scaling->factor + (int64_t)row * n_channel;
    *out = (struct forecast_plan){0};
    double *scaled = lvs_malloc((size_t)n_time * (size_t)n_channel * sizeof *scaled);
    for (int64_t i = 0; i < (int64_t)n_time * n_channel; i++)
        scaled[i] = values[i] / factor[i % n_channel];
    enum lvs_status status = encode(task, scaled, row, out, err);
    if (status == LVS_OK) {
        struct positions positions;
        mark_positions(out, n_time, n_channel, &positions);
        cut_history(task->settings, &positions, n_time, n_channel, out);
        cut_horizon(task->settings, &positions, n_time, out);
        collect_observed(scaled, &positions, n_time, n_channel, out);
        limit_tokens(task, out);
        free(positions.value);
        free(positions.point);
        status = check_plan(task, row, out, err);
    }
    free(scaled);
    if (status != LVS_OK) forecast_plan_free(out);
    return status;
}

void forecast_plan_free(struct forecast_plan *plan) {
    free(plan->text);
    free(plan->observed);
    *plan = (struct forecast_plan){0};
}

enum lvs_status forecast_plans_make(const struct forecast_task *task, struct forecast_plan **out,
                                    struct lvs_error *err) {
    *out = lvs_calloc((size_t)task->n_rows + 1, sizeof **out);
    for (int32_t i = 0; i < task->n_rows; i++) {
        enum lvs_status status = forecast_plan_make(task, task->rows[i], &(*out)[i], err);
        if (status == LVS_OK) continue;
        forecast_plans_free(*out, i);
        *out = NULL;
        return status;
    }
    return LVS_OK;
}

void forecast_plans_free(struct forecast_plan *plans, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        forecast_plan_free(&plans[i]);
    free(plans);
}

/* ---- room ---- */

static enum lvs_status check_positions(size_t prompt, size_t token_limit, int32_t max_position, struct lvs_error *err) {
    size_t all = prompt + token_limit;
    if (all <= (size_t)max_position) return LVS_OK;
    return lvs_fail(err, LVS_USAGE,
                    "a forecast needs up to %zu tokens (%zu of history, %zu new), the model knows %d positions; a "
                    "shorter [evaluate] history or horizon, or fewer decimals, fits",
                    all, prompt, token_limit, max_position);
}

enum lvs_status forecast_plans_capacity(const struct forecast_plan *plans, int32_t count, int32_t max_position,
                                        int32_t *capacity, int32_t *token_limit, struct lvs_error *err) {
    size_t prompt = 0;
    *token_limit = 0;
    for (int32_t i = 0; i < count; i++) {
        if (plans[i].prompt > prompt) prompt = plans[i].prompt;
        if (plans[i].token_limit > *token_limit) *token_limit = plans[i].token_limit;
    }
    LVS_TRY(check_positions(prompt, (size_t)*token_limit, max_position, err));
    *capacity = (int32_t)(prompt + (size_t)*token_limit);
    return LVS_OK;
}

/* What the rows that can be forecast need, each list ascending. */
struct row_needs {
    size_t *prompt, *token_limit; /* [n] */
    int32_t n;
};

static int ascending(const void *left, const void *right) {
    const size_t a = *(const size_t *)left, b = *(const size_t *)right;
    return (a > b) - (a < b);
}

/* Returns why the first of the other rows cannot be forecast. */
static enum lvs_status row_needs_make(const struct forecast_task *task, struct row_needs *out, struct lvs_error *err) {
    const size_t bytes = ((size_t)task->n_rows + 1) * sizeof(size_t);
    enum lvs_status refused = LVS_OK;
    *out = (struct row_needs){.prompt = lvs_malloc(bytes), .token_limit = lvs_malloc(bytes)};
    for (int32_t i = 0; i < task->n_rows; i++) {
        struct forecast_plan plan;
        enum lvs_status status = forecast_plan_make(task, task->rows[i], &plan, refused == LVS_OK ? err : NULL);
        if (refused == LVS_OK) refused = status;
        if (status != LVS_OK) continue;
        out->prompt[out->n] = plan.prompt;
        out->token_limit[out->n++] = (size_t)plan.token_limit;
        forecast_plan_free(&plan);
    }
    qsort(out->prompt, (size_t)out->n, sizeof *out->prompt, ascending);
    qsort(out->token_limit, (size_t)out->n, sizeof *out->token_limit, ascending);
    return refused;
}

/* The longest prompt of any n rows is no shorter than the n-th shortest of all; so are their new tokens. A refusal
 * tells what all rows need: with that much room every choice fits. */
static enum lvs_status row_needs_check(const struct row_needs *needs, int32_t n_chosen, int32_t max_position,
                                       struct lvs_error *err) {
    if (n_chosen < 1) return LVS_OK;
    size_t least = needs->prompt[n_chosen - 1] + needs->token_limit[n_chosen - 1];
    if (least <= (size_t)max_position) return LVS_OK;
    return check_positions(needs->prompt[needs->n - 1], needs->token_limit[needs->n - 1], max_position, err);
}

enum lvs_status forecast_check_room(const struct forecast_task *task, int32_t n_chosen, int32_t max_position,
                                    struct lvs_error *err) {
    struct row_needs needs;
    enum lvs_status status = row_needs_make(task, &needs, err);
    if (n_chosen <= needs.n) status = row_needs_check(&needs, n_chosen, max_position, err);
    free(needs.prompt);
    free(needs.token_limit);
    return status;
}
