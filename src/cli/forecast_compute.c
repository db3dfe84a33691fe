/* A forecast past the end of given series. forecast_make compares with a known future; here the series are lengthened
 * by `horizon` points that nothing looks at, so that the same code writes the prompts and reads the answers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "forecast_internal.h"
#include "lvsweep/clock.h"
#include "lvsweep/log.h"

void forecast_table_free(struct forecast_table *table) {
    free(table->values);
    free(table->time);
    *table = (struct forecast_table){0};
}

/* Factors as in training, from the points that are known now. */
static enum lvs_status make_scaling(const struct adapter_info *info, const struct series_set *set, struct scaling *out,
                                    struct lvs_error *err) {
    const struct cli_sets none = {0};
    struct config *config = NULL;
    if (info->scale_over == SCALE_TRAIN) {
        *out = (struct scaling){.n_series = set->n_series, .n_channel = set->n_channel};
        out->factor = lvs_malloc((size_t)set->n_series * (size_t)set->n_channel * sizeof *out->factor);
        for (int64_t i = 0; i < (int64_t)set->n_series * set->n_channel; i++)
            out->factor[i] = info->train_factor[i % set->n_channel];
        return LVS_OK;
    }
    LVS_TRY(cli_default_config(&none, &config, err));
    config->scale_over = info->scale_over;
    config->scale_points = SCALE_POINTS_ALL;
    config->scale_percentile = info->scale_percentile;
    config->scale_to = info->scale_to;
    enum lvs_status status = scaling_make(config, set, NULL, set->n_time, out, err);
    config_destroy(config);
    return status;
}

/* ---- how much of the past fits ---- */

/* Last points of one series whose text, each with its ';', has at most `room` characters. *tokens: of the points taken
 * of it, at most `history`. */
static enum lvs_status points_that_fit(const struct opened_adapter *adapter, const struct series_set *set,
                                       const double *factor, int32_t series, int32_t history, int64_t room,
                                       int32_t *points, int64_t *tokens, struct lvs_error *err) {
    const int32_t n_channel = set->n_channel;
    const double *values = set->values + (int64_t)series * set->n_time * n_channel;
    double scaled[LVS_MAX_CHANNELS];
    struct strbuf text;
    enum lvs_status status = LVS_OK;
    strbuf_init(&text);
    *points = 0, *tokens = 0;
    for (int32_t t = set->n_time - 1; t >= set->n_time - history && status == LVS_OK; t--) {
        for (int32_t c = 0; c < n_channel; c++)
            scaled[c] = values[(int64_t)t * n_channel + c] / factor[c];
        strbuf_clear(&text);
        status = text_encode(&adapter->info.format, scaled, 1, &text, err);
        int64_t more = *tokens + (int64_t)text.length + 1;
        if (more > room) break;
        *tokens = more;
        ++*points;
    }
    strbuf_free(&text);
    if (status != LVS_OK) lvs_error_prefix(err, "series %lld", (long long)set->id[series]);
    return status;
}

/* One length for all series: what the one with the longest text can give. */
static enum lvs_status choose_history(const struct forecast_request *request, const struct opened_adapter *adapter,
                                      const struct series_set *set, const struct scaling *scaling,
                                      const struct settings *settings, struct forecast_table *out,
                                      struct lvs_error *err) {
    const int32_t most = model_config(adapter->model)->max_position;
    const int64_t room = most - forecast_token_cap(settings, &adapter->info.format, request->horizon);
    int32_t history = request->history > 0 && request->history < set->n_time ? request->history : set->n_time;
    const int32_t wanted = history;
    int64_t longest = 0;
    for (int32_t s = 0; s < set->n_series; s++) {
        int32_t points;
        int64_t tokens;
        LVS_TRY(points_that_fit(adapter, set, scaling->factor + (int64_t)s * set->n_channel, s, history, room, &points,
                                &tokens, err));
        if (points < history) history = points;
        if (tokens > longest) longest = tokens;
    }
    if (history < 1)
        return lvs_fail(err, LVS_USAGE,
                        "--horizon %d needs up to %d tokens, the model knows %d positions: give a shorter one",
                        request->horizon, forecast_token_cap(settings, &adapter->info.format, request->horizon), most);
    if (history < wanted)
        log_warning("the last %d of %d points are given to the model, which knows %d positions", history, wanted, most);
    if (longest > adapter->info.context && request->history == 0)
        log_info("the history is up to %lld tokens; the adapter was trained on windows of %d (--history %lld points)",
                 (long long)longest, adapter->info.context,
                 (long long)((int64_t)history * adapter->info.context / longest));
    out->history = history;
    out->prompt_tokens = (int32_t)longest;
    return LVS_OK;
}

/* ---- the lengthened series ---- */

static double time_step(const struct series_set *set) {
    double span = set->time[set->n_time - 1] - set->time[0];
    return set->n_time > 1 && span > 0 ? span / (set->n_time - 1) : 1;
}

/* The last `history` points, then the last one again `horizon` times. */
static void lengthen(const struct series_set *set, int32_t history, int32_t horizon, struct series_set *out) {
    const size_t point = (size_t)set->n_channel, n_time = (size_t)(history + horizon);
    *out = (struct series_set){
        .n_series = set->n_series, .n_time = history + horizon, .n_channel = set->n_channel, .id = set->id};
    out->values = lvs_malloc((size_t)set->n_series * n_time * point * sizeof *out->values);
    for (size_t s = 0; s < (size_t)set->n_series; s++) {
        const double *from = set->values + ((s + 1) * (size_t)set->n_time - (size_t)history) * point;
        double *to = out->values + s * n_time * point;
        memcpy(to, from, (size_t)history * point * sizeof *to);
        for (size_t t = (size_t)history; t < n_time; t++)
            memcpy(to + t * point, to + ((size_t)history - 1) * point, point * sizeof *to);
    }
}

static void fill_settings(const struct forecast_request *request, const struct opened_adapter *adapter,
                          struct settings *out) {
    *out = adapter->settings;
    out->samples = request->samples;
    out->seed = request->seed;
    out->decoding = request->samples == 1 ? DECODING_GREEDY : DECODING_SAMPLE;
    out->temperature = request->temperature;
    out->top_p = request->top_p;
    out->constrained = 1;
    out->horizon = (struct amount){.unit = AMOUNT_POINTS, .value = request->horizon};
}

/* ---- the forecast ---- */

/* Scaled to units; [samples][series][time][channel] in both. */
static void take_values(const struct forecast_set *forecast, const struct scaling *scaling,
                        struct forecast_table *out) {
    const int64_t block = (int64_t)out->n_time * out->n_channel, count = out->samples * out->n_series * block;
    out->values = lvs_malloc((size_t)(count + 1) * sizeof *out->values);
    for (int64_t i = 0; i < count; i++) {
        int64_t series = i / block % out->n_series;
        out->values[i] = forecast->predicted[i] * scaling->factor[series * out->n_channel + i % out->n_channel];
    }
}

#define TELL_SECONDS 5

/* What a person sees who waits: first after TELL_SECONDS, then ever more rarely. */
struct waiting {
    double begun, pause; /* seconds: of a clock; from the beginning to the next words */
};

static void tell_progress(void *context, double share) {
    struct waiting *waiting = context;
    double passed = clock_steady() - waiting->begun, left = passed * (1 / share - 1);
    if (passed < waiting->pause || left < TELL_SECONDS) return;
    log_info("%.0f %% of the forecast is there, about %.0f %s left%s", 100 * share, left < 90 ? left : left / 60,
             left < 90 ? "s" : "min",
             waiting->pause > TELL_SECONDS ? "" : " (a shorter --history or fewer --samples take less)");
    waiting->pause = 2 * passed;
}

static enum lvs_status generate(const struct opened_adapter *adapter, const struct settings *settings,
                                const struct series_set *longer, const struct scaling *scaling,
                                struct forecast_table *out, struct lvs_error *err) {
    const struct evaluated evaluated = adapter_evaluated(adapter);
    struct waiting waiting = {.begun = clock_steady(), .pause = TELL_SECONDS};
    int32_t *rows = lvs_malloc((size_t)longer->n_series * sizeof *rows);
    for (int32_t i = 0; i < longer->n_series; i++)
        rows[i] = i;
    const struct forecast_task task = {.set = longer,
                                       .scaling = scaling,
                                       .format = &adapter->info.format,
                                       .tokenizer = &adapter->info.tokenizer,
                                       .rows = rows,
                                       .n_rows = longer->n_series,
                                       .settings = settings,
                                       .progress = tell_progress,
                                       .context = &waiting};
    struct forecast_set forecast;
    enum lvs_status status = forecast_make(&evaluated, &task, false, &forecast, err);
    if (status == LVS_OK) {
        take_values(&forecast, scaling, out);
        forecast_set_free(&forecast);
    }
    free(rows);
    return status;
}

enum lvs_status forecast_compute(const struct forecast_request *request, const struct opened_adapter *adapter,
                                 const struct series_set *set, struct forecast_table *out, struct lvs_error *err) {
    struct settings settings;
    struct scaling scaling;
    struct series_set longer;
    *out = (struct forecast_table){.n_series = set->n_series,
                                   .n_time = request->horizon,
                                   .n_channel = set->n_channel,
                                   .samples = request->samples};
    fill_settings(request, adapter, &settings);
    LVS_TRY(make_scaling(&adapter->info, set, &scaling, err));
    enum lvs_status status = choose_history(request, adapter, set, &scaling, &settings, out, err);
    if (status == LVS_OK) {
        settings.history = (struct amount){.unit = AMOUNT_POINTS, .value = out->history};
        lengthen(set, out->history, request->horizon, &longer);
        status = generate(adapter, &settings, &longer, &scaling, out, err);
        free(longer.values);
    }
    scaling_free(&scaling);
    if (status != LVS_OK) return status;
    out->time = lvs_malloc((size_t)out->n_time * sizeof *out->time);
    for (int32_t t = 0; t < out->n_time; t++)
        out->time[t] = set->time[set->n_time - 1] + (t + 1) * time_step(set);
    return LVS_OK;
}
