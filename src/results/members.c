/* Members of the plain structs by name: what the journal and lvsweep.json hold of a trial, a record, a baseline. A new
 * member of those structs gets its row here. Members equal to "unknown" are not written, so lines stay short. */
#include "results_internal.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define F64  MEMBER_F64_OF
#define F64S MEMBER_F64S_OF
#define I32  MEMBER_I32_OF
#define U32  MEMBER_U32_OF
#define I64  MEMBER_I64_OF
#define TEXT MEMBER_TEXT_OF
#define PART MEMBER_PART_OF
#define END  MEMBER_LAST

static const struct member amount_members[] = {I32(struct amount, unit), F64(struct amount, value), END};

static const struct member choice_members[] = {I32(struct series_choice, first), I32(struct series_choice, worst),
                                               I32(struct series_choice, random), END};

const struct member settings_members[] = {
    I32(struct settings, lora_rank),
    U32(struct settings, lora_targets),
    F64(struct settings, alpha_value),
    I32(struct settings, alpha_times_rank),
    I32(struct settings, head),
    I32(struct settings, lora_init),
    F64(struct settings, dropout),
    TEXT(struct settings, from_adapter),
    F64(struct settings, learning_rate),
    I32(struct settings, context),
    I32(struct settings, batch),
    PART(struct settings, steps, amount_members),
    I64(struct settings, seed),
    I32(struct settings, optimizer),
    I32(struct settings, schedule),
    I32(struct settings, onecycle_anneal),
    I32(struct settings, padding),
    F64(struct settings, weight_decay),
    F64(struct settings, clip_norm),
    F64(struct settings, warmup_percent),
    F64(struct settings, warmup_steps),
    F64(struct settings, onecycle_div),
    F64(struct settings, onecycle_final_div),
    PART(struct settings, stride, amount_members),
    I32(struct settings, shuffle),
    I32(struct settings, loss),
    I32(struct settings, every),
    I32(struct settings, keep),
    I32(struct settings, every_metric),
    I32(struct settings, every_horizon),
    PART(struct settings, history, amount_members),
    PART(struct settings, horizon, amount_members),
    U32(struct settings, loss_on),
    U32(struct settings, forecast_on),
    PART(struct settings, series, choice_members),
    PART(struct settings, every_series, choice_members),
    I32(struct settings, narrow_first),
    I32(struct settings, narrow_then),
    I32(struct settings, decoding),
    I32(struct settings, top_k),
    F64(struct settings, temperature),
    F64(struct settings, top_p),
    F64(struct settings, repetition_penalty),
    I32(struct settings, samples),
    I32(struct settings, constrained),
    I32(struct settings, end),
    I32(struct settings, partial),
    U32(struct settings, baselines),
    I32(struct settings, decimals),
    END,
};

static const struct member price_members[] = {
    I64(struct trial_price, step),       I64(struct trial_price, training),
    I64(struct trial_price, evaluation), I64(struct trial_price, counted),
    I64(struct trial_price, periodic),   I64(struct trial_price, rung),
    I64(struct trial_price, baseline),   END,
};

const struct member trial_members[] = {
    I32(struct trial, index),
    I32(struct trial, stage),
    I32(struct trial, parent),
    I32(struct trial, pack_width),
    I32(struct trial, baseline),
    TEXT(struct trial, name),
    TEXT(struct trial, train_key),
    TEXT(struct trial, eval_key),
    TEXT(struct trial, parent_name),
    PART(struct trial, settings, settings_members),
    PART(struct trial, price, price_members),
    END,
};

static const struct member loss_members[] = {
    F64(struct loss_metrics, loss),
    F64(struct loss_metrics, loss_masked),
    F64(struct loss_metrics, nats_per_value),
    END,
};

static const struct member forecast_members[] = {
    F64S(struct forecast_metrics, mse, LVS_MAX_CHANNELS),
    F64S(struct forecast_metrics, mae, LVS_MAX_CHANNELS),
    F64S(struct forecast_metrics, r2, LVS_MAX_CHANNELS),
    F64S(struct forecast_metrics, mse_scaled, LVS_MAX_CHANNELS),
    F64S(struct forecast_metrics, mae_scaled, LVS_MAX_CHANNELS),
    F64(struct forecast_metrics, mae_mean),
    F64(struct forecast_metrics, mae_median),
    F64(struct forecast_metrics, mae_scaled_mean),
    F64(struct forecast_metrics, mae_scaled_median),
    F64(struct forecast_metrics, mse_mean),
    F64(struct forecast_metrics, mse_scaled_mean),
    F64(struct forecast_metrics, r2_mean),
    F64(struct forecast_metrics, mse_median),
    F64(struct forecast_metrics, mse_scaled_median),
    F64(struct forecast_metrics, r2_median),
    F64S(struct forecast_metrics, mse_channel_median, LVS_MAX_CHANNELS),
    F64S(struct forecast_metrics, mae_channel_median, LVS_MAX_CHANNELS),
    F64S(struct forecast_metrics, r2_channel_median, LVS_MAX_CHANNELS),
    F64S(struct forecast_metrics, mse_scaled_channel_median, LVS_MAX_CHANNELS),
    F64S(struct forecast_metrics, mae_scaled_channel_median, LVS_MAX_CHANNELS),
    F64(struct forecast_metrics, crps),
    F64(struct forecast_metrics, success_rate),
    F64(struct forecast_metrics, cross_entropy),
    I32(struct forecast_metrics, n_series),
    I32(struct forecast_metrics, n_malformed),
    I32(struct forecast_metrics, n_missing),
    I32(struct forecast_metrics, n_negative),
    END,
};

static const struct member head_gap_members[] = {
    F64(struct head_gap_record, first),
    F64(struct head_gap_record, last),
    F64(struct head_gap_record, largest),
    END,
};

const struct member record_members[] = {
    I32(struct record, index),
    I32(struct record, status),
    I32(struct record, attempt),
    I32(struct record, worker),
    I32(struct record, steps_done),
    I32(struct record, n_evaluation),
    I32(struct record, best_step),
    I32(struct record, pack_width),
    TEXT(struct record, train_key),
    TEXT(struct record, eval_key),
    F64(struct record, train_loss),
    PART(struct record, head_gap, head_gap_members),
    PART(struct record, val_loss, loss_members),
    PART(struct record, test_loss, loss_members),
    PART(struct record, val, forecast_members),
    PART(struct record, test, forecast_members),
    I64(struct record, flops_training),
    I64(struct record, flops_evaluation),
    I64(struct record, flops_lost),
    I64(struct record, flops_executed),
    F64(struct record, seconds),
    F64(struct record, seconds_training),
    F64(struct record, seconds_evaluation),
    F64(struct record, tokens_per_second),
    F64(struct record, start_time),
    F64(struct record, end_time),
    F64(struct record, peak_memory),
    TEXT(struct record, host),
    TEXT(struct record, device),
    TEXT(struct record, error),
    END,
};

const struct member baseline_members[] = {
    I32(struct baseline, kind),
    I32(struct baseline, context),
    I32(struct baseline, decimals),
    TEXT(struct baseline, key),
    PART(struct baseline, val_loss, loss_members),
    PART(struct baseline, test_loss, loss_members),
    PART(struct baseline, val, forecast_members),
    PART(struct baseline, test, forecast_members),
    I64(struct baseline, flops_evaluation),
    I64(struct baseline, flops_executed),
    F64(struct baseline, seconds),
    END,
};

static const void *at(const struct member *member, const void *object) {
    return (const char *)object + member->offset;
}

/* ---- writing ---- */

static bool same_double(double a, double b) {
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

/* Elements up to the last one that differs from `unknown`. */
static int32_t written_doubles(const struct member *member, const double *value, const double *unknown) {
    int32_t count = member->count;
    while (count > 0 && same_double(value[count - 1], unknown[count - 1]))
        count--;
    return count;
}

static bool members_equal(const struct member *members, const void *object, const void *unknown);

static bool member_equal(const struct member *member, const void *object, const void *unknown) {
    const void *a = at(member, object), *b = at(member, unknown);
    switch (member->type) {
    case MEMBER_F64:
        return written_doubles(member, a, b) == 0;
    case MEMBER_I64:
        return memcmp(a, b, sizeof(int64_t)) == 0;
    case MEMBER_TEXT:
        return strncmp(a, b, (size_t)member->count) == 0;
    case MEMBER_POINTER:
        return *(const char *const *)a == NULL;
    case MEMBER_NAMES:
        return false;
    case MEMBER_STRUCT:
        return members_equal(member->members, a, b);
    default:
        return memcmp(a, b, sizeof(int32_t)) == 0;
    }
}

static bool members_equal(const struct member *members, const void *object, const void *unknown) {
    for (const struct member *member = members; member->type != MEMBER_END; member++)
        if (!member_equal(member, object, unknown)) return false;
    return true;
}

static void doubles_write(const struct member *member, const double *value, const double *unknown, struct strbuf *out) {
    if (member->count == 1) {
        text_add_double(out, *value);
        return;
    }
    int32_t count = written_doubles(member, value, unknown);
    for (int32_t i = 0; i < count; i++) {
        strbuf_add_bytes(out, i ? "," : "[", 1);
        text_add_double(out, value[i]);
    }
    strbuf_add_bytes(out, "]", 1);
}

static void text_write(const struct member *member, const char *text, struct strbuf *out) {
    char copy[LVS_PATH_MAX];
    size_t length = strnlen(text, (size_t)member->count - 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    text_add_json(out, copy);
}

static void names_write(const struct name_list *list, struct strbuf *out) {
    strbuf_add_bytes(out, "[", 1);
    for (int32_t i = 0; i < list->n; i++) {
        if (i) strbuf_add_bytes(out, ",", 1);
        text_add_json(out, list->name[i] ? list->name[i] : "");
    }
    strbuf_add_bytes(out, "]", 1);
}

void member_write(const struct member *member, const void *object, const void *unknown, struct strbuf *out) {
    const void *value = at(member, object);
    switch (member->type) {
    case MEMBER_F64:
        doubles_write(member, value, at(member, unknown), out);
        break;
    case MEMBER_I32:
        text_add_integer(out, *(const int32_t *)value);
        break;
    case MEMBER_U32:
        text_add_integer(out, *(const uint32_t *)value);
        break;
    case MEMBER_I64:
        text_add_integer(out, *(const int64_t *)value);
        break;
    case MEMBER_TEXT:
        text_write(member, value, out);
        break;
    case MEMBER_POINTER:
        text_add_json(out, *(const char *const *)value ? *(const char *const *)value : "");
        break;
    case MEMBER_NAMES:
        names_write(value, out);
        break;
    default:
        members_write(member->members, value, at(member, unknown), out);
    }
}

void members_write(const struct member *members, const void *object, const void *unknown, struct strbuf *out) {
    const char *before = "{\"";
    for (const struct member *member = members; member->type != MEMBER_END; member++) {
        if (member_equal(member, object, unknown)) continue;
        strbuf_add_bytes(out, before, 2);
        strbuf_add(out, member->name);
        strbuf_add_bytes(out, "\":", 2);
        member_write(member, object, unknown, out);
        before = ",\"";
    }
    strbuf_add(out, *before == '{' ? "{}" : "}");
}

/* ---- reading ---- */

static bool doubles_read(const struct member *member, struct json_cursor *cursor, double *out) {
    if (member->count == 1) return cursor_double(cursor, out);
    if (!cursor_take(cursor, '[')) return cursor_fail(cursor, "must be a list of numbers");
    if (cursor_take(cursor, ']')) return true;
    for (int32_t i = 0; i < member->count; i++) {
        if (!cursor_double(cursor, out + i)) return false;
        if (cursor_take(cursor, ']')) return true;
        if (!cursor_take(cursor, ',')) return cursor_fail(cursor, "must be a list of numbers");
    }
    return cursor_fail(cursor, "has more numbers than there are channels");
}

static bool integer_read(const struct member *member, struct json_cursor *cursor, void *out) {
    int64_t value;
    if (!cursor_integer(cursor, &value)) return false;
    if (member->type == MEMBER_I64)
        *(int64_t *)out = value;
    else if (member->type == MEMBER_I32 && value >= INT32_MIN && value <= INT32_MAX)
        *(int32_t *)out = (int32_t)value;
    else if (member->type == MEMBER_U32 && value >= 0 && value <= UINT32_MAX)
        *(uint32_t *)out = (uint32_t)value;
    else
        return cursor_fail(cursor, "must be an integer of 32 bits");
    return true;
}

static bool text_read(const struct member *member, struct json_cursor *cursor, char *out) {
    const char *text;
    size_t length;
    if (!cursor_string(cursor, &text, &length)) return false;
    if (length >= (size_t)member->count) return cursor_fail(cursor, "is a longer text than there is room for");
    memcpy(out, text, length);
    memset(out + length, 0, (size_t)member->count - length);
    return true;
}

static bool names_read(const struct member *member, struct json_cursor *cursor, struct name_list *out) {
    out->n = 0;
    if (!cursor_take(cursor, '[')) return cursor_fail(cursor, "must be a list of names");
    if (cursor_take(cursor, ']')) return true;
    while (out->n < member->count) {
        size_t length;
        if (!cursor_string(cursor, &out->name[out->n++], &length)) return false;
        if (cursor_take(cursor, ']')) return true;
        if (!cursor_take(cursor, ',')) return cursor_fail(cursor, "must be a list of names");
    }
    return cursor_fail(cursor, "holds too many names");
}

bool member_read(const struct member *member, struct json_cursor *cursor, void *object) {
    void *out = (char *)object + member->offset;
    size_t length;
    switch (member->type) {
    case MEMBER_F64:
        return doubles_read(member, cursor, out);
    case MEMBER_TEXT:
        return text_read(member, cursor, out);
    case MEMBER_POINTER:
        return cursor_string(cursor, out, &length);
    case MEMBER_NAMES:
        return names_read(member, cursor, out);
    case MEMBER_STRUCT:
        return members_read(member->members, cursor, out);
    default:
        return integer_read(member, cursor, out);
    }
}

/* Members come in the table's order, so the search starts where the last one was found. */
static const struct member *member_named(const struct member *members, const struct member *from, const char *name) {
    for (const struct member *member = from; member->type != MEMBER_END; member++)
        if (strcmp(member->name, name) == 0) return member;
    for (const struct member *member = members; member != from; member++)
        if (strcmp(member->name, name) == 0) return member;
    return NULL;
}

bool members_read(const struct member *members, struct json_cursor *cursor, void *object) {
    const struct member *next = members;
    if (!cursor_take(cursor, '{')) return cursor_fail(cursor, "must be an object");
    if (cursor_take(cursor, '}')) return true;
    for (;;) {
        const char *name;
        size_t length;
        if (!cursor_string(cursor, &name, &length)) return false;
        if (!cursor_take(cursor, ':')) return cursor_fail(cursor, "lacks a ':'");
        const struct member *member = member_named(members, next, name);
        if (!(member ? member_read(member, cursor, object) : cursor_skip(cursor))) return false;
        if (member) next = member + 1;
        if (cursor_take(cursor, '}')) return true;
        if (!cursor_take(cursor, ',')) return cursor_fail(cursor, "lacks a ',' or '}'");
    }
}
