/* A trial: one training run and its evaluation, by value. Crosses ranks as bytes, so fixed-width members and no
 * pointers. `struct settings` holds every key that may differ between trials; the rest of the INI is `struct config`.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "lvsweep/hash.h"

#define LVS_MAX_CHANNELS  8
#define LVS_MAX_LORA_RANK 256
#define LVS_NAME_MAX      96

enum amount_unit {
    AMOUNT_NONE,
    AMOUNT_COUNT,   /* steps or windows or series, as the key says */
    AMOUNT_PERCENT, /* 0–100 */
    AMOUNT_POINTS,  /* time points */
    AMOUNT_TOKENS,
    AMOUNT_TOKENS_PERCENT, /* tokens:70% */
    AMOUNT_REST,           /* all that is left */
    AMOUNT_FILL,           /* as many as the budget share buys */
};

/* A number with its unit, for keys such as `history = 50% | 50 | tokens:70%`. */
struct amount {
    int32_t unit; /* enum amount_unit */
    int32_t reserved;
    double value;
};

enum lora_target {
    LORA_TARGET_Q,
    LORA_TARGET_K,
    LORA_TARGET_V,
    LORA_TARGET_O,
    LORA_TARGET_GATE,
    LORA_TARGET_UP,
    LORA_TARGET_DOWN,
    LORA_TARGET_COUNT,
};

enum head_mode { HEAD_FROZEN, HEAD_BIAS, HEAD_WEIGHT };
enum lora_init { LORA_INIT_KAIMING_NORMAL, LORA_INIT_KAIMING_UNIFORM };
enum optimizer_kind { OPTIMIZER_ADAM, OPTIMIZER_ADAMW };
enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_ONECYCLE };
enum anneal_kind { ANNEAL_COSINE, ANNEAL_LINEAR };
enum padding_mode { PADDING_RIGHT_MASKED, PADDING_RIGHT_COUNTED, PADDING_LEFT_MASKED, PADDING_DROP };
enum keep_mode { KEEP_LAST, KEEP_BEST };
enum metric_kind_every { EVERY_METRIC_LOSS, EVERY_METRIC_FORECAST };
enum decoding_kind { DECODING_GREEDY, DECODING_SAMPLE };
enum end_mode { END_STOP, END_NEVER };
enum partial_mode { PARTIAL_COUNT, PARTIAL_DROP };

enum split_part { SPLIT_TRAIN, SPLIT_VALIDATION, SPLIT_TEST, SPLIT_COUNT }; /* masks: 1 << part */
enum baseline_kind { BASELINE_UNTRAINED, BASELINE_LAST_VALUE, BASELINE_MEAN, BASELINE_COUNT };

/* `all | 10 | worst:20+random:5`: with all three counts zero, every series. */
struct series_choice {
    int32_t first;  /* the first n of the split */
    int32_t worst;  /* the n worst of a baseline run of the untrained model */
    int32_t random; /* n drawn with the sweep's seed */
    int32_t reserved;
};

struct settings {
    /* [lora] */
    int32_t lora_rank;
    uint32_t lora_targets;    /* bit per enum lora_target */
    double alpha_value;       /* times the rank when alpha_times_rank */
    int32_t alpha_times_rank; /* bool */
    int32_t head;             /* enum head_mode */
    int32_t lora_init;        /* enum lora_init */
    double dropout;           /* 0 ≤ p < 1 */
    char from_adapter[256];   /* "none", "best" or a PEFT folder as given (seen from the INI's) */
    /* [train] */
    double learning_rate;
    int32_t context;     /* tokens a window */
    int32_t batch;       /* windows a step */
    struct amount steps; /* COUNT or FILL; FILL is resolved to COUNT when the stage is admitted */
    int64_t seed;
    int32_t optimizer, schedule, onecycle_anneal, padding; /* the enums above */
    double weight_decay;
    double clip_norm;      /* 0 = none */
    double warmup_percent; /* of the steps; negative = not given */
    double warmup_steps;   /* negative = not given; with both, the smaller */
    double onecycle_div, onecycle_final_div;
    struct amount stride; /* PERCENT of the context, or TOKENS */
    int32_t shuffle;      /* bool */
    /* [evaluate] */
    int32_t loss;  /* bool: the loss over the splits of loss_on */
    int32_t every; /* steps between periodic evaluations; 0 = none */
    int32_t keep, every_metric, every_horizon;
    struct amount history, horizon;
    uint32_t loss_on, forecast_on; /* bits of enum split_part */
    struct series_choice series, every_series;
    int32_t narrow_first, narrow_then; /* 0/0 = none */
    int32_t decoding, top_k;           /* top_k 0 = none */
    double temperature, top_p, repetition_penalty;
    int32_t samples;
    int32_t constrained; /* bool: digits and separators only */
    int32_t end;         /* enum end_mode */
    int32_t partial;     /* enum partial_mode */
    uint32_t baselines;  /* bits of enum baseline_kind */
    /* [data] */
    int32_t decimals;
};

/* Planned FLOPs of one trial under the sweep's convention (what the budget sees). */
struct trial_price {
    int64_t step;       /* one training step */
    int64_t training;   /* all steps */
    int64_t evaluation; /* everything evaluated, whether or not the budget counts it */
    int64_t counted;    /* what is reserved: training, plus evaluation when [budget] count says so */
    int64_t periodic;   /* one evaluation of `every`; part of evaluation */
    int64_t rung;       /* one validation loss at a rung of [stop] rule, beside evaluation */
    int64_t baseline;   /* measuring the untrained model at its first end; part of evaluation */
};

struct trial {
    int32_t index;                  /* row in results.h5, over all stages */
    int32_t stage;                  /* the stage that enumerated it first */
    int32_t parent;                 /* the trial that `from = best` took its settings from, or -1 */
    int32_t pack_width;             /* trials trained together when the width is part of the key; 1 otherwise */
    int32_t baseline;               /* bool: its worker measures the untrained model under the same settings first */
    char name[LVS_NAME_MAX];        /* r8-lr1e-4-c512-s0-8f3a2c */
    char train_key[LVS_HASH_TEXT];  /* of everything that changes the weights */
    char eval_key[LVS_HASH_TEXT];   /* train_key and everything that changes the evaluation */
    char parent_name[LVS_NAME_MAX]; /* folder whose adapter from_adapter = best starts from; "" = none */
    struct settings settings;
    struct trial_price price;
};

/* alpha / rank, the factor of B·A */
double settings_lora_scale(const struct settings *settings);
