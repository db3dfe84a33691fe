/* The list of columns: one row = one HDF5 variable, CSV column, JSON member. A new column is one row here (and one
 * member of struct record); everything that shows results follows. Names are part of schema 1.0: never changed, only
 * added to. */
#include "fields_internal.h"

#include <stddef.h>

/* clang-format off */
#define ROW(kind, part) .member = kind, .offset = offsetof(struct result_row, part)
#define F64(part)       .type = FIELD_F64, ROW(MEMBER_F64, part)
#define I32(part)       .type = FIELD_I32, ROW(MEMBER_I32, part)
#define I64(part)       .type = FIELD_I64, ROW(MEMBER_I64, part)
#define BOOL(part)      .type = FIELD_U8, ROW(MEMBER_I32, part)
#define TEXT(part)      .type = FIELD_TEXT, ROW(MEMBER_TEXT, part)
#define KEY(name)       .type = FIELD_TEXT, .key = name
#define SETTING(part)   trial.settings.part
#define PER_CHANNEL     .axes = AXES_TRIAL_CHANNEL
#define COORDINATE      .flags = FIELD_COORDINATE
#define TIMING          .flags = FIELD_TIMING
#define OPTIONAL        .flags = FIELD_OPTIONAL

/* Losses of one split. */
#define LOSSES(split, words, part) \
    {split "_loss", words " loss, mean over labels as padding says", "nat token-1", F64(record.part.loss)}, \
    {split "_loss_masked", words " loss, pads never counted", "nat token-1", F64(record.part.loss_masked)}, \
    {split "_perplexity", words " perplexity, exp of the loss", "1", .type = FIELD_F64, \
     .number = field_##part##_perplexity}, \
    {split "_nats_per_value", words " loss a number written", "nat value-1", F64(record.part.nats_per_value)}

/* Forecast metrics of one split. */
#define FORECASTS(split, words, part) \
    {split "_mse", words " forecasts: mean squared error", "data2", F64(record.part.mse), PER_CHANNEL}, \
    {split "_mae", words " forecasts: mean absolute error", "data", F64(record.part.mae), PER_CHANNEL}, \
    {split "_r2", words " forecasts: coefficient of determination, mean over series", "1", \
     F64(record.part.r2), PER_CHANNEL}, \
    {split "_mse_scaled", words " forecasts: mean squared error in scaled space", "1", \
     F64(record.part.mse_scaled), PER_CHANNEL}, \
    {split "_mae_scaled", words " forecasts: mean absolute error in scaled space", "1", \
     F64(record.part.mae_scaled), PER_CHANNEL}, \
    {split "_mae_mean", words " forecasts: mean over series of the absolute error, all channels", "data", \
     F64(record.part.mae_mean)}, \
    {split "_mae_median", words " forecasts: median over series of the absolute error, all channels", "data", \
     F64(record.part.mae_median)}, \
    {split "_mae_scaled_mean", words " forecasts: mean over series of the absolute error in scaled space", "1", \
     F64(record.part.mae_scaled_mean)}, \
    {split "_mae_scaled_median", words " forecasts: median over series of the absolute error in scaled space", "1", \
     F64(record.part.mae_scaled_median)}, \
    {split "_mse_mean", words " forecasts: mean over series of the squared error, all channels", "data2", \
     F64(record.part.mse_mean)}, \
    {split "_mse_scaled_mean", words " forecasts: mean over series of the squared error in scaled space", "1", \
     F64(record.part.mse_scaled_mean)}, \
    {split "_r2_mean", words " forecasts: coefficient of determination, all channels", "1", \
     F64(record.part.r2_mean)}, \
    {split "_mse_median", words " forecasts: median over series of the squared error, all channels", "data2", \
     F64(record.part.mse_median)}, \
    {split "_mse_scaled_median", words " forecasts: median over series of the squared error in scaled space", "1", \
     F64(record.part.mse_scaled_median)}, \
    {split "_r2_median", words " forecasts: median over series of the coefficient of determination, all channels", \
     "1", F64(record.part.r2_median)}, \
    {split "_mse_channel_median", words " forecasts: median over series of the squared error", "data2", \
     F64(record.part.mse_channel_median), PER_CHANNEL}, \
    {split "_mae_channel_median", words " forecasts: median over series of the absolute error", "data", \
     F64(record.part.mae_channel_median), PER_CHANNEL}, \
    {split "_r2_channel_median", words " forecasts: median over series of the coefficient of determination", "1", \
     F64(record.part.r2_channel_median), PER_CHANNEL}, \
    {split "_mse_scaled_channel_median", words " forecasts: median over series of the squared error in scaled space, " \
     "by channel", "1", F64(record.part.mse_scaled_channel_median), PER_CHANNEL}, \
    {split "_mae_scaled_channel_median", words " forecasts: median over series of the absolute error in scaled " \
     "space, by channel", "1", F64(record.part.mae_scaled_channel_median), PER_CHANNEL}, \
    {split "_crps", words " forecasts: continuous ranked probability score in scaled space, fair estimator", "1", \
     F64(record.part.crps)}, \
    {split "_success_rate", words " forecasts: share of series with every point well-formed", "1", \
     F64(record.part.success_rate)}, \
    {split "_forecast_cross_entropy", words " forecasts: loss of the true continuation", "nat token-1", \
     F64(record.part.cross_entropy)}, \
    {split "_n_series", words " forecasts: series", "1", I32(record.part.n_series), OPTIONAL}, \
    {split "_n_malformed", words " forecasts: pieces that are no number", "1", \
     I32(record.part.n_malformed), OPTIONAL}, \
    {split "_n_missing", words " forecasts: points that are missing", "1", I32(record.part.n_missing), OPTIONAL}, \
    {split "_n_negative", words " forecasts: values below zero", "1", I32(record.part.n_negative), OPTIONAL}
/* clang-format on */

static const struct field fields[] = {
    /* what the trial is */
    {"trial", "row of the trial", NULL, I32(trial.index)},
    {"name", "name of the trial and of its folder", NULL, TEXT(trial.name)},
    {"trial_stage", "stage that enumerated the trial first", NULL, .type = FIELD_TEXT, .words = field_trial_stage},
    {"in_stage", "the trial belongs to the stage", NULL, .type = FIELD_U8, .axes = AXES_TRIAL_STAGE,
     .integer = field_in_stage},
    {"status", "what came of the trial", NULL, BOOL(record.status)},
    {"parent", "trial that settings were taken from", NULL, I32(trial.parent), OPTIONAL},
    /* its settings */
    {"lora_rank", "rank of the LoRA adapter", "1", I32(SETTING(lora_rank)), COORDINATE},
    {"learning_rate", "peak learning rate", "1", F64(SETTING(learning_rate)), COORDINATE},
    {"context", "tokens of a training window", "token", I32(SETTING(context)), COORDINATE},
    {"seed", "seed of initial values, order and dropout", NULL, I64(SETTING(seed)), COORDINATE},
    {"decimals", "decimals that values are written with", "1", I32(SETTING(decimals))},
    {"alpha", "LoRA alpha: the adapter is scaled by alpha / rank", "1", .type = FIELD_F64, .number = field_alpha},
    {"dropout", "share of the adapter's inputs set to zero", "1", F64(SETTING(dropout))},
    {"targets", "matrices that have an adapter", NULL, KEY("targets")},
    {"lora_head", "what is trained of the head", NULL, KEY("head")},
    {"lora_init", "starting values of A", NULL, KEY("init")},
    {"from_adapter", "adapter that training starts from", NULL, KEY("from_adapter")},
    {"batch", "windows a step", "1", I32(SETTING(batch))},
    {"steps", "planned training steps", "1", .type = FIELD_I64, .integer = field_steps},
    {"optimizer", "optimizer", NULL, KEY("optimizer")},
    {"weight_decay", "decoupled weight decay", "1", F64(SETTING(weight_decay))},
    {"clip_norm", "gradient norm that is clipped to", "1", .type = FIELD_F64, .number = field_clip_norm},
    {"schedule", "schedule of the learning rate", NULL, KEY("schedule")},
    {"warmup", "warm-up of the learning rate", NULL, KEY("warmup")},
    {"onecycle_div", "peak over first learning rate (onecycle)", "1", F64(SETTING(onecycle_div))},
    {"onecycle_final_div", "first over last learning rate (onecycle)", "1", F64(SETTING(onecycle_final_div))},
    {"onecycle_anneal", "shape of the schedule (onecycle)", NULL, KEY("onecycle_anneal")},
    {"shuffle", "windows are drawn in seeded order", NULL, BOOL(SETTING(shuffle))},
    {"stride", "distance of training windows", NULL, KEY("stride")},
    {"padding", "short windows: where pads go and whether they count", NULL, KEY("padding")},
    {"keep", "adapter that is kept", NULL, KEY("keep")},
    {"evaluate_every", "steps between evaluations, 0 = none", "1", I32(SETTING(every))},
    {"every_metric", "what periodic evaluations measure", NULL, KEY("every_metric")},
    {"every_horizon", "points of a periodic forecast", "1", I32(SETTING(every_horizon))},
    {"every_series", "series of periodic forecasts", NULL, KEY("every_series")},
    {"loss_on", "splits that the loss is measured on", NULL, KEY("loss_on")},
    {"forecast_on", "splits that are forecast", NULL, KEY("forecast_on")},
    {"evaluate_series", "series that are forecast", NULL, KEY("series")},
    {"narrow", "series of the first and the second pass", NULL, KEY("narrow")},
    {"history", "part of a series that a forecast sees", NULL, KEY("history")},
    {"horizon", "part of a series that is forecast", NULL, KEY("horizon")},
    {"decoding", "how a token is chosen", NULL, KEY("decoding")},
    {"temperature", "temperature of sampling", "1", F64(SETTING(temperature))},
    {"top_p", "probability mass that is sampled from", "1", F64(SETTING(top_p))},
    {"top_k", "most likely tokens that are sampled from, 0 = all", "1", I32(SETTING(top_k))},
    {"repetition_penalty", "divisor of the logits of tokens seen", "1", F64(SETTING(repetition_penalty))},
    {"samples", "forecasts a series", "1", I32(SETTING(samples))},
    {"constrained", "only characters of numbers can be chosen", NULL, BOOL(SETTING(constrained))},
    {"evaluate_end", "what an end of text does to a forecast", NULL, KEY("end")},
    {"evaluate_partial", "whether forecasts with other than the values asked for count in errors", NULL,
     KEY("partial")},
    /* how far it came */
    {"steps_done", "training steps done", "1", I32(record.steps_done)},
    {"best_step", "step of the adapter that was kept", "1", I32(record.best_step), OPTIONAL},
    {"n_step", "steps with a training loss", "1", .type = FIELD_I32, .integer = field_n_step},
    {"n_rungs", "rungs of [stop] rule that the trial came to", "1", I32(rungs.n)},
    {"rung_step", "step of the last of them", "1", .type = FIELD_I32, .integer = field_rung_step, OPTIONAL},
    {"rung_loss", "validation loss at the last of them", "nat token-1", .type = FIELD_F64, .number = field_rung_loss},
    {"stopped_at_step", "step at which [stop] rule ended the trial", "1", .type = FIELD_I32,
     .integer = field_stopped_at, OPTIONAL},
    {"n_evaluation", "points of the validation curve", "1", I32(record.n_evaluation)},
    {"train_loss_last", "training loss at the last step", "nat token-1", F64(record.train_loss)},
    {"train_loss", "training loss before the update", "nat token-1", .type = FIELD_F32, .axes = AXES_TRIAL_STEP},
    {"gradient_norm", "norm of the gradient before clipping", "1", .type = FIELD_F32, .axes = AXES_TRIAL_STEP},
    {"gradient_norm_clipped", "norm of the gradient after clipping", "1", .type = FIELD_F32, .axes = AXES_TRIAL_STEP},
    {"evaluation_step", "updates done at an evaluation", "1", .type = FIELD_I32, .axes = AXES_TRIAL_EVALUATION,
     OPTIONAL},
    {"val_loss_curve", "validation loss during training", "nat token-1", .type = FIELD_F64,
     .axes = AXES_TRIAL_EVALUATION},
    {"val_mae_scaled_curve", "mean absolute error of validation forecasts during training, scaled space", "1",
     .type = FIELD_F64, .axes = AXES_TRIAL_EVALUATION},
    {"val_mse_scaled_curve", "mean squared error of validation forecasts during training, scaled space", "1",
     .type = FIELD_F64, .axes = AXES_TRIAL_EVALUATION},
    {"head_gap_first", "loss over all rows of the head minus over the text's, first batch (head_rows = text)",
     "nat token-1", F64(record.head_gap.first)},
    {"head_gap_last", "loss over all rows of the head minus over the text's, last batch (head_rows = text)",
     "nat token-1", F64(record.head_gap.last)},
    {"head_gap_largest", "the same, largest of one token in all batches looked at", "nat token-1",
     F64(record.head_gap.largest)},
    /* what was measured */
    LOSSES("val", "validation", val_loss),
    LOSSES("test", "test", test_loss),
    FORECASTS("val", "validation", val),
    FORECASTS("test", "test", test),
    /* what it cost */
    {"flops_planned", "FLOPs reserved by plan, by the convention", "FLOP", I64(trial.price.counted)},
    {"flops_counted", "FLOPs charged to the budget, by the convention", "FLOP", I64(charged)},
    {"flops_training", "FLOPs of training, by the convention", "FLOP", I64(record.flops_training)},
    {"flops_evaluation", "FLOPs of evaluation, by the convention", "FLOP", I64(record.flops_evaluation)},
    {"flops_lost", "FLOPs of steps repeated after a death, by the convention", "FLOP", I64(record.flops_lost)},
    {"flops_executed", "FLOPs of the products that ran", "FLOP", I64(record.flops_executed)},
    {"flops_saved", "FLOPs of training that stopping the trial saved, by the convention", "FLOP", .type = FIELD_I64,
     .integer = field_flops_saved},
    {"budget_percent", "share of the budget", "%", .type = FIELD_F64, .number = field_budget_percent},
    {"seconds", "time of the trial", "s", F64(record.seconds), TIMING},
    {"seconds_training", "time of training", "s", F64(record.seconds_training), TIMING},
    {"seconds_evaluation", "time of evaluation", "s", F64(record.seconds_evaluation), TIMING},
    {"tokens_per_second", "training tokens a second", "token s-1", F64(record.tokens_per_second), TIMING},
    {"start_time", "start of the last attempt", "seconds since 1970-01-01 00:00:00", F64(record.start_time), TIMING},
    {"end_time", "end of the last attempt", "seconds since 1970-01-01 00:00:00", F64(record.end_time), TIMING},
    {"peak_memory", "memory in use at the end on a GPU, most held so far by the worker's process on a CPU", "byte",
     F64(record.peak_memory), TIMING},
    /* where and how */
    {"worker", "rank that ran the trial", NULL, I32(record.worker), .flags = FIELD_TIMING | FIELD_OPTIONAL},
    {"attempt", "attempts made", "1", I32(record.attempt), TIMING},
    {"pack_width", "trials trained together", "1", I32(record.pack_width), TIMING},
    {"host", "host of the worker", NULL, TEXT(record.host), TIMING},
    {"device", "device of the worker", NULL, TEXT(record.device), TIMING},
    {"error", "why the trial failed", NULL, TEXT(record.error)},
    {"cut_reason", "why the trial was cut", NULL, TEXT(cut_reason)},
    {"outside", "the trial is not in the present grid", NULL, BOOL(outside)},
    {"train_key", "hash of everything that changes the weights", NULL, TEXT(trial.train_key)},
    {"eval_key", "hash of everything that changes the evaluation", NULL, TEXT(trial.eval_key)},
};

int32_t field_count(void) {
    return (int32_t)(sizeof fields / sizeof *fields);
}

const struct field *field_at(int32_t index) {
    return index >= 0 && index < field_count() ? &fields[index] : NULL;
}
