/* Names and starting values of the two plain structs that cross ranks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/record.h"
#include "lvsweep/strbuf.h"

double settings_lora_scale(const struct settings *settings) {
    return settings->alpha_times_rank ? settings->alpha_value : settings->alpha_value / settings->lora_rank;
}

const char *trial_status_name(int32_t status) {
    static const char *const names[TRIAL_STATUS_COUNT] = {
        [TRIAL_PENDING] = "pending", [TRIAL_RUNNING] = "running",         [TRIAL_DONE] = "done",
        [TRIAL_FAILED] = "failed",   [TRIAL_DIVERGED] = "diverged",       [TRIAL_STOPPED] = "stopped",
        [TRIAL_CUT] = "cut",         [TRIAL_INTERRUPTED] = "interrupted", [TRIAL_SUPERSEDED] = "superseded",
    };
    return status >= 0 && status < TRIAL_STATUS_COUNT ? names[status] : "unknown";
}

static struct loss_metrics unknown_loss(void) {
    return (struct loss_metrics){.loss = NAN, .loss_masked = NAN, .nats_per_value = NAN};
}

static struct forecast_metrics unknown_forecast(void) {
    struct forecast_metrics metrics = {
        .mae_mean = NAN,
        .mae_median = NAN,
        .mae_scaled_mean = NAN,
        .mae_scaled_median = NAN,
        .mse_mean = NAN,
        .mse_scaled_mean = NAN,
        .r2_mean = NAN,
        .mse_median = NAN,
        .mse_scaled_median = NAN,
        .r2_median = NAN,
        .crps = NAN,
        .success_rate = NAN,
        .cross_entropy = NAN,
        .n_series = -1,
        .n_malformed = -1,
        .n_missing = -1,
        .n_negative = -1,
    };
    double *const by_channel[] = {metrics.mse,
                                  metrics.mae,
                                  metrics.r2,
                                  metrics.mse_scaled,
                                  metrics.mae_scaled,
                                  metrics.mse_channel_median,
                                  metrics.mae_channel_median,
                                  metrics.r2_channel_median,
                                  metrics.mse_scaled_channel_median,
                                  metrics.mae_scaled_channel_median};
    for (size_t i = 0; i < sizeof by_channel / sizeof *by_channel; i++)
        for (int c = 0; c < LVS_MAX_CHANNELS; c++)
            by_channel[i][c] = NAN;
    return metrics;
}

void record_init(struct record *record, const struct trial *trial) {
    /* memset first: the bytes are hashed and sent, padding included. */
    memset(record, 0, sizeof *record);
    record->index = trial->index;
    record->status = TRIAL_PENDING;
    record->worker = -1;
    record->best_step = -1;
    record->pack_width = 1;
    memcpy(record->train_key, trial->train_key, sizeof record->train_key);
    memcpy(record->eval_key, trial->eval_key, sizeof record->eval_key);
    record->train_loss = NAN;
    record->head_gap = (struct head_gap_record){.first = NAN, .last = NAN, .largest = NAN};
    record->val_loss = unknown_loss();
    record->test_loss = unknown_loss();
    record->val = unknown_forecast();
    record->test = unknown_forecast();
    record->seconds = record->seconds_training = record->seconds_evaluation = NAN;
    record->tokens_per_second = record->start_time = record->end_time = record->peak_memory = NAN;
}
