/* Sample data for the tests of results/. */
#include "sample.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sample_trial(int32_t index, int32_t stage, struct trial *out) {
    static const int32_t ranks[] = {2, 4, 8};
    static const double rates[] = {1e-5, 5e-5, 1e-4};
    memset(out, 0, sizeof *out);
    out->index = index;
    out->stage = stage;
    out->parent = stage ? 0 : -1;
    out->pack_width = 1;
    struct settings *s = &out->settings;
    s->lora_rank = ranks[index / 3 % 3];
    s->learning_rate = rates[index % 3];
    s->lora_targets = 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V;
    s->alpha_value = 1;
    s->alpha_times_rank = 1;
    lvs_copy(s->from_adapter, sizeof s->from_adapter, "none");
    s->context = 512;
    s->batch = 4;
    s->steps = (struct amount){.unit = AMOUNT_COUNT, .value = 600};
    s->seed = index / 9;
    s->warmup_percent = s->warmup_steps = -1;
    s->onecycle_div = 25;
    s->onecycle_final_div = 1e4;
    s->stride = (struct amount){.unit = AMOUNT_PERCENT, .value = 50};
    s->shuffle = s->loss = 1;
    s->history = (struct amount){.unit = AMOUNT_PERCENT, .value = 50};
    s->horizon = (struct amount){.unit = AMOUNT_REST};
    s->loss_on = s->forecast_on = 1u << SPLIT_VALIDATION;
    s->temperature = s->top_p = s->repetition_penalty = 1;
    s->samples = 1;
    s->end = END_NEVER;
    s->partial = PARTIAL_DROP;
    s->baselines = 7;
    s->decimals = 2;
    snprintf(out->name, sizeof out->name, "r%d-lr%g-c512-s%lld-%06x", s->lora_rank, s->learning_rate,
             (long long)s->seed, (unsigned)index);
    hash_bytes(out->name, strlen(out->name), out->train_key);
    hash_bytes(out->train_key, 32, out->eval_key);
    out->price = (struct trial_price){
        .step = 1000003, .training = 600001800, .evaluation = 7000000 + index, .counted = 600001800};
}

static void sample_forecast(double base, struct forecast_metrics *out) {
    for (int c = 0; c < 2; c++) {
        out->mse[c] = base * (1 + c) / 3;
        out->mae[c] = base * (1 + c) / 7;
        out->r2[c] = 1 - base / (3 + c);
        out->mse_scaled[c] = base * (1 + c) / 11;
        out->mae_scaled[c] = base * (1 + c) / 13;
        out->mse_channel_median[c] = base * (1 + c) / 4;
        out->mae_channel_median[c] = base * (1 + c) / 8;
        out->r2_channel_median[c] = 1 - base / (4 + c);
        out->mse_scaled_channel_median[c] = base * (1 + c) / 12;
        out->mae_scaled_channel_median[c] = base * (1 + c) / 14;
    }
    out->mae_mean = base / 7;
    out->mae_median = base / 8;
    out->mae_scaled_mean = base / 13;
    out->mae_scaled_median = base / 14;
    out->mse_mean = base / 3;
    out->mse_scaled_mean = base / 11;
    out->r2_mean = 1 - base / 3;
    out->mse_median = base / 4;
    out->mse_scaled_median = base / 12;
    out->r2_median = 1 - base / 4;
    out->success_rate = 0.96;
    out->n_series = 25;
    out->n_malformed = 1;
    out->n_missing = 2;
    out->n_negative = 0;
}

void sample_record(const struct trial *trial, struct record *out) {
    record_init(out, trial);
    double base = 0.5 + 0.1 * fmod(trial->index * 0.618034, 1.0);
    out->status = TRIAL_DONE;
    out->attempt = 1;
    out->worker = 1 + trial->index % 3;
    out->steps_done = out->best_step = 600;
    out->n_evaluation = 2;
    out->train_loss = base * 0.9;
    out->val_loss = (struct loss_metrics){.loss = base, .loss_masked = base * 1.01, .nats_per_value = base * 4.1};
    sample_forecast(base, &out->val);
    out->flops_training = trial->price.training;
    out->flops_evaluation = trial->price.evaluation;
    out->flops_lost = trial->index % 5 ? 0 : 3 * trial->price.step;
    out->flops_executed = trial->price.training - 12345;
    out->seconds = 12.25;
    out->seconds_training = 10.5;
    out->seconds_evaluation = 1.75;
    out->tokens_per_second = 1234567.875;
    out->start_time = 1.7e9 + trial->index;
    out->end_time = out->start_time + 12.25;
    out->peak_memory = 1u << 30;
    lvs_copy(out->host, sizeof out->host, "node-17");
    lvs_copy(out->device, sizeof out->device, "NVIDIA H200 ⟨GPU-5ab1⟩ \"0\"");
}

static void apply(struct results *results, struct journal_event *event) {
    struct lvs_error err = {0};
    event->time = 1.7e9 + (double)results->n_events;
    if (results_apply(results, event, &err) != LVS_OK) {
        fprintf(stderr, "sample: %s\n", err.text);
        abort();
    }
}

struct journal_event sample_sweep_event(double flops_cap, struct journal_sweep *sweep) {
    static const char *const stages[] = {"search", "final"}, *const channels[] = {"prey", "predator"},
                             *const units[] = {"km\xC2\xB2", ""};
    *sweep = (struct journal_sweep){.name = "s",
                                    .metric = "val_loss",
                                    .convention = "table1",
                                    .config_given = "[a]\nb = \"c\\d\"\t; é\n",
                                    .config_effective = "",
                                    .data_hash = "d",
                                    .model_hash = "m",
                                    .command = "lvsweep a b",
                                    .flops_cap = flops_cap,
                                    .n_stages = 2,
                                    .stage_name = stages,
                                    .n_channel = 2,
                                    .channel_name = channels,
                                    .channel_unit = units,
                                    .time_unit = "d"};
    struct journal_event event = journal_event_make(JOURNAL_SWEEP);
    event.sweep = sweep;
    return event;
}

static void apply_sweep(struct results *out) {
    static const char *const units[] = {"individuals", "individuals"};
    struct journal_sweep sweep;
    struct journal_event event = sample_sweep_event(1e12, &sweep);
    sweep.name = "sample";
    sweep.channel_unit = units;
    apply(out, &event);
}

static void apply_trial(struct results *out, int32_t index, int32_t stage) {
    struct trial trial;
    struct record record;
    sample_trial(index, stage, &trial);
    sample_record(&trial, &record);
    struct journal_event event = journal_event_make(JOURNAL_TRIAL);
    event.trial = &trial;
    apply(out, &event);
    event = journal_event_make(JOURNAL_ADMITTED);
    event.index = index;
    event.flops = trial.price.counted;
    apply(out, &event);
    event = journal_event_make(JOURNAL_RECORD);
    event.index = index;
    event.record = &record;
    apply(out, &event);
    event = journal_event_make(JOURNAL_SETTLE);
    event.index = index;
    event.flops = trial.price.counted;
    event.lost = record.flops_lost;
    apply(out, &event);
}

void sample_results(struct results *out, const char *output, int32_t n_trials) {
    results_init(out, output);
    apply_sweep(out);
    for (int32_t i = 0; i < n_trials; i++)
        apply_trial(out, i, n_trials > 1 && i == n_trials - 1);
    struct baseline baseline;
    for (int32_t kind = 0; kind < BASELINE_COUNT; kind++) {
        baseline_init(&baseline, (enum baseline_kind)kind);
        baseline.decimals = 2;
        if (kind == BASELINE_UNTRAINED) baseline.context = 512;
        if (kind == BASELINE_UNTRAINED)
            baseline.val_loss = (struct loss_metrics){.loss = 1.2, .loss_masked = 1.3, .nats_per_value = 5};
        sample_forecast(0.8 + kind, &baseline.val);
        snprintf(baseline.key, sizeof baseline.key, "k%d", kind);
        struct journal_event event = journal_event_make(JOURNAL_BASELINE);
        event.baseline = &baseline;
        event.flops = 1000 + kind;
        apply(out, &event);
    }
    struct journal_event event = journal_event_make(JOURNAL_PROVENANCE);
    event.name = "git_commit";
    event.text = "0123abc";
    apply(out, &event);
    if (n_trials > 0) {
        event = journal_event_make(JOURNAL_BEST);
        event.index = event.stage = 0;
        event.value = 0.5;
        apply(out, &event);
    }
    event = journal_event_make(JOURNAL_FINISHED);
    event.status = 0;
    apply(out, &event);
}

static void sample_curves(const char *folder, int32_t index) {
    enum { STEPS = 600 };
    float loss[STEPS], norm[STEPS];
    int32_t at[2] = {300, 600};
    double val[2] = {0.7 + index, 0.6 + index}, mae[2] = {NAN, 1.5}, mse[2] = {NAN, 3.25};
    for (int32_t k = 0; k < STEPS; k++) {
        loss[k] = 2.0f / (float)(1 + k) + (float)index;
        norm[k] = 0.5f + (float)k;
    }
    struct trial_curves curves = {.n_step = STEPS,
                                  .train_loss = loss,
                                  .gradient_norm = norm,
                                  .n_evaluation = 2,
                                  .evaluation_step = at,
                                  .val_loss = val,
                                  .val_mae_scaled = mae,
                                  .val_mse_scaled = mse};
    struct lvs_error err = {0};
    if (trial_curves_write(folder, &curves, &err) != LVS_OK) fprintf(stderr, "sample: %s\n", err.text);
}

static void sample_parts(const char *folder, int32_t index) {
    enum { SERIES = 4, TIMES = 5, CHANNELS = 2, SIZE = SERIES * TIMES * CHANNELS };
    int64_t series[SERIES];
    double time[TIMES], observed[SIZE], predicted[SIZE], low[SIZE], high[SIZE];
    for (int s = 0; s < SERIES; s++)
        series[s] = 700 + 3 * s + index % 2;
    for (int t = 0; t < TIMES; t++)
        time[t] = 100.5 + t + index % 3;
    for (int i = 0; i < SIZE; i++) {
        int s = i / (TIMES * CHANNELS), t = i / CHANNELS % TIMES, c = i % CHANNELS;
        observed[i] = (double)series[s] + time[t] / 10 + c;
        predicted[i] = i == 7 ? NAN : observed[i] + 0.01 * (index + 1);
        low[i] = predicted[i] - 1;
        high[i] = predicted[i] + 1;
    }
    struct trial_forecast parts[2];
    for (int p = 0; p < 2; p++)
        parts[p] = (struct trial_forecast){.part = p ? SPLIT_TEST : SPLIT_VALIDATION,
                                           .n_series = SERIES,
                                           .n_time = TIMES,
                                           .n_channel = CHANNELS,
                                           .series = series,
                                           .time = time,
                                           .observed = observed,
                                           .predicted = predicted,
                                           .low = p ? NULL : low,
                                           .high = p ? NULL : high};
    struct lvs_error err = {0};
    if (trial_forecast_write(folder, parts, 2, &err) != LVS_OK) fprintf(stderr, "sample: %s\n", err.text);
}

void sample_files(const struct results *results) {
    for (int32_t i = 0; i < results->n_rows; i++) {
        char folder[LVS_PATH_MAX];
        struct lvs_error err = {0};
        if (trial_folder(folder, results->output, results->rows[i].trial.name, &err) != LVS_OK) abort();
        if (i % 3 != 2) sample_curves(folder, i);
        if (i < 7) sample_parts(folder, i);
    }
}
