/* Evaluation of one adapter: the loss over a split, forecasts, their metrics and baselines. Knows no trainer. */
#pragma once
#include "lvsweep/model.h"
#include "lvsweep/record.h"
#include "lvsweep/window.h"

/* What is evaluated: the model with adapter `adapter` of `adapters` (NULL = the bare model). */
struct evaluated {
    const struct model *model;
    const struct lora_layout *lora;
    const struct adapters *adapters;
    int32_t adapter;
};

/* Loss over all windows (stride = context): sum of token losses / number of labels; see struct loss_metrics.
 * n_values: numbers written in the windows' series, for nats_per_value. batch: windows a pass (results do not depend on
 * it beyond rounding of the row blocks; it is fixed by the settings, never by memory). */
enum lvs_status validation_loss(const struct evaluated *evaluated, const struct window_set *windows, int64_t n_values,
                                int32_t batch, struct loss_metrics *out, struct lvs_error *err);

/* Loss over all rows of the head minus loss over the text's rows: −log(probability of the text's tokens), nats ≥ 0. */
struct head_gap {
    double mean;    /* over the labels */
    double largest; /* of one label */
};
/* Measures it on windows chosen[n_chosen] of `windows`, whose ids index kept[]. `text` is the model that has these rows
 * only, `whole` the one with all; their adapters differ in the head's rows alone. Costs two forward passes. */
enum lvs_status head_gap_measure(const struct evaluated *whole, const struct evaluated *text, const int32_t *kept,
                                 const struct window_set *windows, const int32_t *chosen, int32_t n_chosen,
                                 struct head_gap *out, struct lvs_error *err);

/* A set of series to forecast: everything scaled and in token space is derived here.
 * The prompt is the text of the history's points with its last ';'. With a history in tokens it is that many characters
 * (one is one token), which may end within a point: the forecast then begins with that point, and a value is compared
 * only when all of its characters lie within the continuation. A horizon in tokens ends the continuation there; one in
 * points is cut to what the series has. */
struct forecast_task {
    const struct series_set *set;
    const struct scaling *scaling;
    const struct text_format *format;
    const struct tokenizer *tokenizer;
    const int32_t *rows; /* [n_rows] series of the set */
    int32_t n_rows;
    const struct settings *settings; /* history, horizon, decoding, samples, constrained, seed … */
    /* Told now and then which share of the new tokens is there, 0 to 1; NULL = nobody. */
    void (*progress)(void *context, double share);
    void *context;
};
/* Points of history and horizon that the settings mean for series of n_time points (tokens:… are resolved per series).
 */
void forecast_extent(const struct settings *settings, int32_t n_time, int32_t *history, int32_t *horizon);

/* Most new tokens that one sequence may generate for `horizon` points: forecast_make stops there, and what is reserved
 * in the ledger is priced with it. */
int32_t forecast_token_cap(const struct settings *settings, const struct text_format *format, int32_t horizon);

/* LVS_USAGE in words when the longest prompt and the most new tokens of n_chosen of the task's rows are more than
 * `max_position`, whichever rows these are. Of fewer than all rows LVS_OK says that there may be room. */
enum lvs_status forecast_check_room(const struct forecast_task *task, int32_t n_chosen, int32_t max_position,
                                    struct lvs_error *err);

/* Forecasts and truth, in scaled space. NaN where a value could not be read. */
struct forecast_set {
    int32_t n_series, n_channel, samples;
    int32_t history;   /* points wholly known before the forecast, of the first series (tokens:… differ by series) */
    int32_t horizon;   /* points of the longest */
    int32_t *rows;     /* [n_series] of the series set, owned */
    double *observed;  /* [n_series][horizon][n_channel] scaled, NaN where not compared, owned */
    double *predicted; /* [samples][n_series][horizon][n_channel] scaled, owned */
    struct text_decoded *decoded; /* [samples][n_series], owned */
    bool whole_only; /* partial = drop: a forecast that lacks a compared value or has one too many is in no error */
    double *cross_entropy; /* [n_series] nats a token of the true continuation, NaN when not asked for, owned */
    int64_t n_prompt_tokens, n_new_tokens; /* for the price: of each prompt once; of all sequences to their ends */
};
void forecast_set_free(struct forecast_set *set);
enum lvs_status forecast_make(const struct evaluated *evaluated, const struct forecast_task *task, bool cross_entropy,
                              struct forecast_set *out, struct lvs_error *err);
/* The baselines as forecasts: last value held, mean of the history. */
enum lvs_status forecast_baseline(enum baseline_kind kind, const struct forecast_task *task, struct forecast_set *out,
                                  struct lvs_error *err);

/* Metrics of a set; `factor` [n_series of the series set][n_channel] turns scaled values into units. With several
 * samples the point forecast is the median over valid samples. series_mae_scaled [n_series], may be NULL: mean over
 * points and channels. */
void forecast_measure(const struct forecast_set *set, const struct scaling *scaling, struct forecast_metrics *out,
                      double *series_mae_scaled);
/* Fair CRPS of `count` samples against y: mean |x−y| − Σ|xi−xj| / (2·count·(count−1)). */
double crps_fair(const double *samples, int32_t count, double y);
/* R² of one series and channel: 1 − Σ(y−p)² / Σ(y−ȳ)²; NaN when y is constant. */
double r_squared(const double *observed, const double *predicted, int32_t count);
/* Rows that `series` chooses from rows[n]: first n, worst by score, random by seed; ascending, no duplicates. */
int32_t series_choice_apply(const struct series_choice *choice, const int32_t *rows, int32_t n, const double *score,
                            uint64_t seed, int32_t *out);
/* How many of n rows `choice` takes at the least, before scores are known: its worst may be its first. */
int32_t series_choice_least(const struct series_choice *choice, int32_t n);
