/* The table: one row for every key of the INI, in the order in which they are written and documented.
 * A new setting is a member in trial.h or config.h and one row here; parsing, messages, templates, documentation and
 * hashes follow. Members are zeroed before the defaults are parsed into them, so every row needs a default that parses.
 */
#include <string.h>

#include "config_internal.h"

#define MEMBER_SIZE(type, member) sizeof(((type *)0)->member)
#define CONFIG(member)            KEY_BASE_CONFIG, offsetof(struct config, member), MEMBER_SIZE(struct config, member)
#define SETTING(member)           KEY_BASE_SETTINGS, offsetof(struct settings, member), MEMBER_SIZE(struct settings, member)
#define STAGE(member)             KEY_BASE_STAGE, offsetof(struct config_stage, member), MEMBER_SIZE(struct config_stage, member)

#define TRAIN    KEY_EFFECT_TRAIN
#define EVALUATE KEY_EFFECT_EVALUATE
#define NONE     KEY_EFFECT_NONE

#define INT_LARGE 2147483647.0

/* clang-format off */
const struct config_key config_keys[] = {
    /* [sweep] */
    {"sweep", "name", &type_text, CONFIG(name), "", NONE,
     .help = "Name of the sweep in tables and reports; default: the INI's name without its ending.",
     .flags = KEY_EMPTY},
    {"sweep", "output", &type_path, CONFIG(output), "", NONE,
     .help = "Folder for journal, results.h5 and adapters; default: the INI's name with .lvsweep.", .flags = KEY_EMPTY},
    {"sweep", "stages", &type_stages, CONFIG(stages), "", NONE,
     .help = "Stages to run and their order; default: all [stage.…] sections as they stand.", .flags = KEY_EMPTY},
    {"sweep", "metric", &type_text, CONFIG(metric), "val_loss", NONE,
     .help = "Column of results.h5 by which from = best chooses; lowest wins, highest for R2 and val_success_rate.",
     .choices = "a validation column such as val_loss, val_mae_median or val_crps, or one channel of it as val_mae.prey"},

    /* [budget] */
    {"budget", "flops", &type_whole, CONFIG(flops_cap), "none", NONE,
     .help = "Cap on the counted FLOPs of all trials together, e.g. 1e17.",
     .zero = "none", .min = 1, .max = 9e18, .flags = KEY_SHORT},
    {"budget", "trials", &type_whole, CONFIG(trials_cap), "none", NONE,
     .help = "Cap on the number of trials that are begun, by all runs of the output folder together.", .zero = "none", .min = 1, .max = 1e9},
    {"budget", "hours", &type_real, CONFIG(hours_cap), "none", NONE,
     .help = "Cap on the hours that all runs of the output folder take together.", .zero = "none", .max = 1e6, .flags = KEY_ABOVE_MIN},
    {"budget", "gpu_hours", &type_real, CONFIG(gpu_hours_cap), "none", NONE,
     .help = "Cap on the hours of all runs of the output folder, each times its workers.", .zero = "none", .max = 1e9, .flags = KEY_ABOVE_MIN},
    {"budget", "convention", &type_choice_text, CONFIG(convention), "table1", NONE,
     .help = "Price list by which FLOPs are counted.", .choices = "table1|report_a|report_b|report_c"},
    {"budget", "count", &type_choice, CONFIG(count), "training", NONE,
     .help = "What the cap counts.", .choices = "training|training+evaluation"},
    {"budget", "over", &type_choice, CONFIG(over), "refuse", NONE,
     .help = "When the plan passes the cap: refuse to start if a whole stage is cut, skip what does not fit, or "
     "stop there.",
     .choices = "refuse|skip|stop"},
    {"budget", "lost", &type_choice, CONFIG(lost), "report", NONE,
     .help = "Steps repeated after a death: only reported, or charged to the cap.", .choices = "report|charge"},

    /* [data] */
    {"data", "file", &type_path, CONFIG(data_file), "", NONE,
     .help = "HDF5 file with the series.", .flags = KEY_SHORT | KEY_EMPTY},
    {"data", "dataset", &type_text, CONFIG(dataset), "", NONE,
     .help = "Dataset (series, time, channel) in the file; default: the only three-dimensional float one.",
     .flags = KEY_EMPTY},
    {"data", "variables", &type_names, CONFIG(variables), "", NONE,
     .help = "Names of the channels, e.g. prey+predator; default: the file's own, else their numbers.",
     .min = 1, .max = 63, .flags = KEY_EMPTY},
    {"data", "units", &type_names, CONFIG(units), "", NONE,
     .help = "Unit of all channels, or one a channel; default: the file's own.", .max = 31, .flags = KEY_EMPTY},
    {"data", "split", &type_split, CONFIG(split), "random:0.70/0.15/0.15", TRAIN,
     .help = "Training, validation and test part: by seeded draw, by index, by time, by strata, or from a file "
     "of indices."},
    {"data", "split_seed", &type_int64, CONFIG(split_seed), "0", TRAIN,
     .help = "Seed of random and stratified splits.", .max = 9e15},
    {"data", "missing", &type_choice, CONFIG(missing), "refuse", TRAIN,
     .help = "NaN in the data: refuse the file, drop the series, or interpolate in time.",
     .choices = "refuse|drop_series|interpolate"},
    {"data", "scale_percentile", &type_real, CONFIG(scale_percentile), "95", TRAIN,
     .help = "Percentile of the values that is scaled to scale_to.", .max = 100, .flags = KEY_ABOVE_MIN},
    {"data", "scale_over", &type_choice, CONFIG(scale_over), "variable", TRAIN,
     .help = "One factor for each variable of a series, for the largest of a series' variables, for all values "
     "of a series, or "
     "for the training set.", .choices = "variable|series_max|series|train"},
    {"data", "scale_points", &type_choice, CONFIG(scale_points), "history", TRAIN,
     .help = "Points the percentile is taken over: the history that a forecast sees, or all (which looks into "
     "the future).",
     .choices = "history|all"},
    {"data", "scale_to", &type_real, CONFIG(scale_to), "10", TRAIN,
     .help = "Value that the percentile becomes.", .max = 1e6, .flags = KEY_ABOVE_MIN},
    {"data", "decimals", &type_int32, SETTING(decimals), "2", TRAIN,
     .help = "Decimals written of each scaled value.", .max = 6},
    {"data", "decimal_point", &type_yes_no, CONFIG(decimal_point), "yes", TRAIN,
     .help = "Write the decimal point (no: 1.20 becomes 120)."},
    {"data", "clip", &type_real, CONFIG(clip), "none", TRAIN,
     .help = "Scaled values above this are written as this.", .zero = "none", .max = 1e6, .flags = KEY_ABOVE_MIN},
    {"data", "negative", &type_choice, CONFIG(negative_refuse), "minus", TRAIN,
     .help = "Values below zero: written with a minus of its own token, or refused.", .choices = "minus|refuse"},

    /* [model] */
    {"model", "path", &type_path, CONFIG(model_path), "", NONE,
     .help = "Hugging Face folder of the frozen model, or hf:owner/name from the local cache (nothing is downloaded).",
     .choices = "hf:", .flags = KEY_SHORT | KEY_EMPTY},
    {"model", "name", &type_text, CONFIG(model_name), "", NONE,
     .help = "Name of the model in reports; default: the folder's.", .flags = KEY_EMPTY},
    {"model", "vocabulary", &type_choice, CONFIG(vocabulary), "full", TRAIN,
     .help = "All tokens of the model, or only those that the text of numbers uses.", .choices = "full|text"},

    /* [lora] */
    {"lora", "rank", &type_int32, SETTING(lora_rank), "8", TRAIN,
     .help = "Rank of the adapter's matrices.", .min = 1, .max = LVS_MAX_LORA_RANK},
    {"lora", "targets", &type_flags, SETTING(lora_targets), "q_proj+v_proj", TRAIN,
     .help = "Projections that get an adapter.", .choices = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"},
    {"lora", "alpha", &type_alpha, SETTING(alpha_value), "rank", TRAIN,
     .help = "Scale of the adapter is alpha / rank."},
    {"lora", "dropout", &type_real, SETTING(dropout), "0", TRAIN,
     .help = "Share of the adapter's inputs set to zero in training.", .max = 1, .flags = KEY_BELOW_MAX},
    {"lora", "head", &type_choice, SETTING(head), "frozen", TRAIN,
     .help = "Output head: frozen, with a trained bias a token, or trained itself.", .choices = "frozen|bias|weight"},
    {"lora", "init", &type_choice, SETTING(lora_init), "kaiming_normal", TRAIN,
     .help = "Start of the matrix A: normal with std 1/sqrt(in), or uniform within that; B starts at zero.",
     .choices = "kaiming_normal|kaiming_uniform"},
    {"lora", "from_adapter", &type_text, SETTING(from_adapter), "none", TRAIN,
     .help = "Start from a PEFT folder, or (in a stage with from = best) from the best trial's adapter.",
     .choices = "none, best, or a PEFT folder seen from the INI's folder (at most 255 characters)"},

    /* [train] */
    {"train", "learning_rate", &type_real, SETTING(learning_rate), "1e-4", TRAIN,
     .help = "Learning rate of the optimiser, the peak where a schedule changes it.",
     .max = 10, .flags = KEY_ABOVE_MIN},
    {"train", "context", &type_int32, SETTING(context), "512", TRAIN,
     .help = "Tokens of a training window.", .min = 2, .max = 1048576, .flags = KEY_SHORT},
    {"train", "steps", &type_steps, SETTING(steps), "600", TRAIN,
     .help = "Optimiser steps of a trial; fill spends the stage's share of the budget.", .flags = KEY_SHORT},
    {"train", "seed", &type_int64, SETTING(seed), "0", TRAIN,
     .help = "Seed of the adapter's start, the order of windows, dropout and sampling.", .max = 9e15},
    {"train", "batch", &type_int32, SETTING(batch), "4", TRAIN,
     .help = "Windows a step.", .min = 1, .max = 65536},
    {"train", "optimizer", &type_choice, SETTING(optimizer), "adam", TRAIN,
     .help = "Adam (weight decay in the gradient) or AdamW (decay apart).", .choices = "adam|adamw"},
    {"train", "weight_decay", &type_real, SETTING(weight_decay), "0", TRAIN,
     .help = "Weight decay.", .max = 10},
    {"train", "clip_norm", &type_real, SETTING(clip_norm), "none", TRAIN,
     .help = "Gradients are scaled down to this norm.", .zero = "none", .max = 1e9, .flags = KEY_ABOVE_MIN},
    {"train", "schedule", &type_choice, SETTING(schedule), "constant", TRAIN,
     .help = "Course of the learning rate after the warm-up.", .choices = "constant|linear|cosine|onecycle"},
    {"train", "warmup", &type_warmup, SETTING(warmup_percent), "0", TRAIN,
     .help = "Steps in which the learning rate rises."},
    {"train", "onecycle_div", &type_real, SETTING(onecycle_div), "25", TRAIN,
     .help = "onecycle starts at learning_rate / onecycle_div.", .min = 1, .max = 1e9},
    {"train", "onecycle_final_div", &type_real, SETTING(onecycle_final_div), "1e4", TRAIN,
     .help = "onecycle ends at its start / onecycle_final_div.", .min = 1, .max = 1e12},
    {"train", "onecycle_anneal", &type_choice, SETTING(onecycle_anneal), "cosine", TRAIN,
     .help = "Shape of onecycle's two halves.", .choices = "cosine|linear"},
    {"train", "shuffle", &type_yes_no, SETTING(shuffle), "yes", TRAIN,
     .help = "Draw the windows of each epoch in a seeded random order."},
    {"train", "stride", &type_stride, SETTING(stride), "50%", TRAIN,
     .help = "Distance between the starts of two training windows of a series."},
    {"train", "padding", &type_choice, SETTING(padding), "right_masked", TRAIN,
     .help = "Windows shorter than the context: padded right (pads are labels or not), padded left, or dropped.",
     .choices = "right_masked|right_counted|left_masked|drop"},

    /* [evaluate] */
    {"evaluate", "loss", &type_yes_no, SETTING(loss), "yes", EVALUATE,
     .help = "Measure the loss over the splits of loss_on."},
    {"evaluate", "every", &type_int32, SETTING(every), "none", EVALUATE,
     .help = "Steps between evaluations during training.", .zero = "none", .min = 1, .max = INT_LARGE,
     .flags = KEY_DECIDES_BEST},
    {"evaluate", "keep", &type_choice, SETTING(keep), "last", TRAIN,
     .help = "Weights that are kept: after the last step, or the best of the evaluations during training.",
     .choices = "last|best"},
    {"evaluate", "history", &type_history, SETTING(history), "50%", EVALUATE,
     .help = "Part of a series that a forecast sees.", .flags = KEY_DECIDES_BEST},
    {"evaluate", "horizon", &type_horizon, SETTING(horizon), "rest", EVALUATE,
     .help = "Part of a series that is forecast.", .flags = KEY_DECIDES_BEST},
    {"evaluate", "loss_on", &type_flags, SETTING(loss_on), "validation", EVALUATE,
     .help = "Splits whose loss is measured.", .choices = "|validation|test", .zero = "none"},
    {"evaluate", "forecast_on", &type_flags, SETTING(forecast_on), "validation", EVALUATE,
     .help = "Splits that are forecast.", .choices = "|validation|test", .zero = "none"},
    {"evaluate", "series", &type_series, SETTING(series), "all", EVALUATE,
     .help = "Series of a split that are forecast."},
    {"evaluate", "narrow", &type_narrow, SETTING(narrow_first), "none", EVALUATE,
     .help = "Forecast all points of a stage on the first few series, then the best three on those and more."},
    {"evaluate", "every_metric", &type_choice, SETTING(every_metric), "loss", EVALUATE,
     .help = "What is measured during training.", .choices = "loss|forecast", .flags = KEY_DECIDES_BEST},
    {"evaluate", "every_horizon", &type_int32, SETTING(every_horizon), "3", EVALUATE,
     .help = "Points that forecasts during training reach ahead.",
     .min = 1, .max = INT_LARGE, .flags = KEY_DECIDES_BEST},
    {"evaluate", "every_series", &type_series, SETTING(every_series), "random:30", EVALUATE,
     .help = "Series that are forecast during training.", .flags = KEY_DECIDES_BEST},
    {"evaluate", "decoding", &type_choice, SETTING(decoding), "greedy", EVALUATE,
     .help = "How forecasts choose a token.", .choices = "greedy|sample", .flags = KEY_DECIDES_BEST},
    {"evaluate", "temperature", &type_real, SETTING(temperature), "1", EVALUATE,
     .help = "Logits are divided by this before sampling.", .max = 100, .flags = KEY_ABOVE_MIN | KEY_DECIDES_BEST},
    {"evaluate", "top_p", &type_real, SETTING(top_p), "1", EVALUATE,
     .help = "Sample from the likeliest tokens that reach this probability together.",
     .max = 1, .flags = KEY_ABOVE_MIN | KEY_DECIDES_BEST},
    {"evaluate", "top_k", &type_int32, SETTING(top_k), "none", EVALUATE,
     .help = "Sample from this many likeliest tokens.",
     .zero = "none", .min = 1, .max = INT_LARGE, .flags = KEY_DECIDES_BEST},
    {"evaluate", "repetition_penalty", &type_real, SETTING(repetition_penalty), "1", EVALUATE,
     .help = "Logits of tokens that were there before are divided (or, below zero, multiplied) by this.",
     .max = 100, .flags = KEY_ABOVE_MIN | KEY_DECIDES_BEST},
    {"evaluate", "samples", &type_int32, SETTING(samples), "1", EVALUATE,
     .help = "Forecasts a series; CRPS and quantiles need several.", .min = 1, .max = 65536, .flags = KEY_DECIDES_BEST},
    {"evaluate", "constrained", &type_yes_no, SETTING(constrained), "no", EVALUATE,
     .help = "Let forecasts choose digits and separators only.", .flags = KEY_DECIDES_BEST},
    {"evaluate", "end", &type_choice, SETTING(end), "stop", EVALUATE,
     .help = "Any end of text of the model in a forecast: it stops the forecast for good, or can never be chosen, so that "
     "points or tokens alone end one.",
     .choices = "stop|never", .flags = KEY_DECIDES_BEST | KEY_LATER},
    {"evaluate", "partial", &type_choice, SETTING(partial), "count", EVALUATE,
     .help = "Forecasts with fewer or more values than asked for: errors and CRPS count their readable values, or "
     "leave them out whole.",
     .choices = "count|drop", .flags = KEY_DECIDES_BEST | KEY_LATER},
    {"evaluate", "baselines", &type_flags, SETTING(baselines), "untrained+last_value+mean", NONE,
     .help = "Forecasts to compare with.", .choices = "untrained|last_value|mean", .zero = "none"},

    /* [stop] */
    {"stop", "rule", &type_choice, CONFIG(stop_rule), "none", NONE,
     .help = "Stop hopeless trials early, by validation loss at rungs; asha and median depend on the order in which "
     "trials come.",
     .choices = "none|halving|asha|median"},
    {"stop", "factor", &type_int32, CONFIG(stop_factor), "3", NONE,
     .help = "One in so many trials goes on at a rung; rungs lie at steps / factor, steps / factor^2 and so on.", .min = 2, .max = 1000},
    {"stop", "min_steps", &type_int32, CONFIG(stop_min_steps), "100", NONE,
     .help = "The lowest rung: no trial is stopped before this step.", .min = 1, .max = INT_LARGE},
    {"stop", "trend_skip", &type_yes_no, CONFIG(trend_skip), "no", NONE,
     .help = "Leave out points that lost in every finished value of the first axis (docs/config.md has the rule)."},

    /* [run] */
    {"run", "runner", &type_choice, CONFIG(runner), "lora", TRAIN,
     .help = "What a worker does with a trial: train it, or (for tests) follow the programme in fake.",
     .choices = "lora|fake"},
    {"run", "backend", &type_choice, CONFIG(backend), "auto", NONE,
     .help = "Device type; auto takes CUDA where a device is found.", .choices = "auto|cpu|cuda"},
    {"run", "precision", &type_choice, CONFIG(precision), "auto", NONE,
     .help = "Arithmetic of the frozen model; auto is bf16 on CUDA and fp32 on the CPU.", .choices = "auto|fp32|bf16"},
    {"run", "pack", &type_int32, CONFIG(pack), "auto", NONE,
     .help = "Trials that train together on one device. auto: on a GPU up to 16 trials and 8192 tokens a step where "
             "that is known to change no bit (bf16, context up to 768; a trained head: its bias, with skip_tiles or "
             "vocabulary = text), else 1.",
     .zero = "auto", .min = 1, .max = 1024},
    {"run", "coordinator", &type_choice, CONFIG(coordinator), "auto", NONE,
     .help = "Whether rank 0 only coordinates, or works too; auto works too when its node has a device to spare.",
     .choices = "auto|own_rank|shared"},
    {"run", "oversubscribe_gpu", &type_yes_no, CONFIG(oversubscribe_gpu), "no", NONE,
     .help = "Allow more workers than GPUs on a node."},
    {"run", "head_rows", &type_choice, CONFIG(head_rows), "all", TRAIN,
     .help = "Rows of the output head that are computed: all, or those of the text's tokens with a measured "
     "error bound.",
     .choices = "all|text"},
    {"run", "skip_tiles", &type_yes_no, CONFIG(skip_tiles), "no", TRAIN,
     .help = "Skip tiles of the head's gradient that are below the precision of bf16."},
    {"run", "threads", &type_int32, CONFIG(threads), "auto", NONE,
     .help = "Threads a worker on the CPU; auto shares out the cores of the node.",
     .zero = "auto", .min = 1, .max = 4096},
    {"run", "retries", &type_int32, CONFIG(retries), "2", NONE,
     .help = "Further attempts at a trial whose trainer died.", .max = 1000},
    {"run", "quarantine_after", &type_int32, CONFIG(quarantine_after), "3", NONE,
     .help = "Failures in a row after which a device gets no more work.", .min = 1, .max = 1000},
    {"run", "checkpoint_every", &type_duration, CONFIG(checkpoint_every), "60s", NONE,
     .help = "Time between checkpoints inside a trial."},
    {"run", "time_limit", &type_duration, CONFIG(time_limit), "auto", NONE,
     .help = "Time the job may take; auto asks the scheduler.", .zero = "auto"},
    {"run", "fake", &type_text, CONFIG(fake), "", NONE,
     .help = "Programme of runner = fake, for tests.", .flags = KEY_EMPTY},

    /* [stage.NAME]; beside these, every setting of a trial (the rows that stand in struct settings) */
    {"stage", "from", &type_choice, STAGE(from_best), "none", NONE,
     .help = "best: take the settings of the best trial of the nearest earlier stage but for those set here.",
     .choices = "none|best"},
    {"stage", "share", &type_real, STAGE(share), "none", NONE,
     .help = "Percent of the budget that this stage may spend.", .zero = "none", .max = 100, .flags = KEY_ABOVE_MIN},
    {"stage", "skip", &type_text, STAGE(skip), "none", NONE,
     .help = "Points of the grid to leave out.",
     .choices = "none, or conditions such as rank=2 & learning_rate=1e-5 | rank=8"},
};
/* clang-format on */

const int config_key_count = sizeof config_keys / sizeof config_keys[0];

const struct config_key *key_find(const char *section, const char *name) {
    for (int i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

bool key_is_section(const char *section) {
    for (int i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].section, section) == 0) return config_keys[i].base != KEY_BASE_STAGE;
    return false;
}

void key_allowed(const struct config_key *key, struct strbuf *out) {
    key->type->allowed(key, out);
}

enum lvs_status key_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    struct lvs_error found = {.status = LVS_OK};
    enum lvs_status status;
    if (text[0] == '\0' && !(key->flags & KEY_EMPTY))
        status = lvs_fail(&found, LVS_USAGE, "the value is missing");
    else
        status = key->type->parse(key, base, text, &found);
    if (status == LVS_OK) return LVS_OK;
    struct strbuf allowed;
    strbuf_init(&allowed);
    key_allowed(key, &allowed);
    lvs_fail(err, LVS_USAGE, "%s; allowed: %s", found.text, allowed.text);
    strbuf_free(&allowed);
    return LVS_USAGE;
}

void *key_base_of(const struct config_key *key, struct config *config) {
    return key->base == KEY_BASE_CONFIG ? (void *)config : key->base == KEY_BASE_SETTINGS ? &config->defaults : NULL;
}

int key_axis_compare(const struct config_key *a, const struct config_key *b) {
    static const char *const first[] = {"rank", "learning_rate", "context"};
    for (int i = 0; i < 3; i++) {
        bool is_a = strcmp(a->name, first[i]) == 0, is_b = strcmp(b->name, first[i]) == 0;
        if (is_a != is_b) return is_a ? -1 : 1;
    }
    return strcmp(a->name, b->name);
}

/* ---- the public face of a row ---- */

const char *config_key_name(const struct config_key *key) {
    return key->name;
}

const char *config_key_section(const struct config_key *key) {
    return key->section;
}

const struct config_key *config_key_find_setting(const char *name) {
    for (int i = 0; i < config_key_count; i++)
        if (config_keys[i].base == KEY_BASE_SETTINGS && strcmp(config_keys[i].name, name) == 0) return &config_keys[i];
    return NULL;
}

enum lvs_status settings_set(struct settings *settings, const struct config_key *key, const char *value,
                             struct lvs_error *err) {
    return key_parse(key, settings, value, err);
}

void settings_get(const struct settings *settings, const struct config_key *key, struct strbuf *out) {
    key->type->format(key, settings, out);
}
