/* A record: what came of one attempt at one trial, by value. Crosses ranks as bytes, like struct trial.
 * Values that were not measured are NaN (doubles) or -1 (counts). */
#pragma once
#include <stdint.h>

#include "lvsweep/trial.h"

/* The numbers in results.h5 and the journal; never renumbered. */
enum trial_status {
    TRIAL_PENDING = 0,
    TRIAL_RUNNING = 1,
    TRIAL_DONE = 2,
    TRIAL_FAILED = 3,
    TRIAL_DIVERGED = 4,
    TRIAL_STOPPED = 5,
    TRIAL_CUT = 6,
    TRIAL_INTERRUPTED = 7,
    TRIAL_SUPERSEDED = 8,
    TRIAL_STATUS_COUNT,
};
const char *trial_status_name(int32_t status);

/* Losses over one split. Nats a token. */
struct loss_metrics {
    double loss;           /* follows `padding`: pads count as labels when right_counted */
    double loss_masked;    /* pads never count */
    double nats_per_value; /* sum of token losses without pads / number of values written */
};

/* Forecasts of one split; means over series of the mean over valid values within a series. */
struct forecast_metrics {
    double mse[LVS_MAX_CHANNELS], mae[LVS_MAX_CHANNELS], r2[LVS_MAX_CHANNELS]; /* in the data's units */
    double mse_scaled[LVS_MAX_CHANNELS], mae_scaled[LVS_MAX_CHANNELS];
    double mae_mean, mae_median;               /* over series, all channels, units of the data */
    double mae_scaled_mean, mae_scaled_median; /* the same in scaled space */
    double mse_mean, mse_scaled_mean, r2_mean;
    double mse_median, mse_scaled_median, r2_median; /* over series, all channels */
    /* Medians over series of what mse … mae_scaled are the means of. */
    double mse_channel_median[LVS_MAX_CHANNELS], mae_channel_median[LVS_MAX_CHANNELS];
    double r2_channel_median[LVS_MAX_CHANNELS];
    double mse_scaled_channel_median[LVS_MAX_CHANNELS], mae_scaled_channel_median[LVS_MAX_CHANNELS];
    double crps;          /* fair estimator, mean over points, scaled space; NaN with one sample */
    double success_rate;  /* share of series whose forecast has every point, all well-formed */
    double cross_entropy; /* of the true continuation's tokens, nats a token; NaN when not asked for */
    int32_t n_series, n_malformed, n_missing, n_negative;
};

/* head_rows = text: loss over all rows of the head minus loss over the text's, nats a token (evaluate.h). */
struct head_gap_record {
    double first, last; /* mean over the first and the last batch of training */
    double largest;     /* of one token, in all batches that were looked at */
};

struct record {
    int32_t index;   /* of the trial */
    int32_t status;  /* enum trial_status */
    int32_t attempt; /* 1 = first */
    int32_t worker;  /* rank that ran it; -1 = none */
    int32_t steps_done;
    int32_t n_evaluation; /* points of the validation curve */
    int32_t best_step;    /* of the kept adapter */
    int32_t pack_width;   /* trials that trained together with it, itself included */
    char train_key[LVS_HASH_TEXT], eval_key[LVS_HASH_TEXT];
    double train_loss; /* at the last step */
    struct head_gap_record head_gap;
    struct loss_metrics val_loss, test_loss;
    struct forecast_metrics val, test;
    int64_t flops_training, flops_evaluation; /* counted, by the convention, for what was really done */
    int64_t flops_lost;                       /* steps repeated after a death */
    int64_t flops_executed;                   /* 2·m·n·k over the products that ran */
    double seconds, seconds_training, seconds_evaluation, tokens_per_second;
    double start_time, end_time; /* seconds since 1970 UTC */
    double peak_memory;          /* bytes; see compute_memory_used */
    char host[64], device[96];
    char error[512]; /* cause, for a person; "" = none */
};

/* Everything unknown: NaN, -1 or empty. */
void record_init(struct record *record, const struct trial *trial);
