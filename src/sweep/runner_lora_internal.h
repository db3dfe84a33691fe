/* The LoRA runner's insides: what all trials of a trainer process share, and one trial's way through it. */
#pragma once
#include "lvsweep/train.h"
#include "sweep_internal.h"

/* Windows of the last settings asked for, by split part; trials of one stage mostly share them. */
struct window_cache {
    bool filled;
    int32_t context, stride, padding, decimals, history;
    struct window_set windows;
    int64_t n_values;
};

/* The bare model's error on every series of a part, for series = worst:n, under what it depends on. */
struct untrained_scores {
    struct amount history, horizon;
    double repetition_penalty;
    int32_t constrained, end;
    double *score; /* [split.n[part]] scaled MAE, owned; NULL = not yet */
    int64_t flops; /* counted */
};

struct lora_runner {
    const struct config *config;
    struct worker_place place;
    struct compute compute;
    char model_folder[LVS_PATH_MAX], weights_hash[LVS_HASH_TEXT];
    struct model *model;
    struct model *text; /* head_rows = text: the model with the text's rows, which steps compute with; else NULL */
    struct qwen2_config shape;
    struct material material;
    bool has_compute, has_material;
    struct window_cache cache[SPLIT_COUNT];
    struct untrained_scores scores[SPLIT_COUNT];
};

/* Windows of a part under the settings; owned by the runner, valid until the next call for the part. Training windows
 * hold ids of runner->text where there is one. */
enum lvs_status lora_runner_windows(struct lora_runner *runner, const struct settings *settings, enum split_part part,
                                    const struct window_cache **out, struct lvs_error *err);

/* ---- lora_head.c: head_rows = text ---- */

enum lvs_status lora_head_open(struct lora_runner *runner, struct lvs_error *err);
/* Ids of the whole vocabulary to indices of the kept rows, in place. */
enum lvs_status lora_head_localize(const struct tokenizer *tokenizer, struct window_set *windows,
                                   struct lvs_error *err);
/* Measures what the left-out rows add to the loss of the batch at hand, says it and notes it. Nothing without
 * runner->text. */
enum lvs_status lora_head_look(struct lora_runner *runner, struct trainer *trainer, int32_t k,
                               const struct trial *trial, struct head_gap_record *gap, struct lvs_error *err);

/* What one evaluation gave, beside the metrics in the record. */
struct evaluation {
    struct loss_metrics loss[SPLIT_COUNT];
    struct forecast_metrics metrics[SPLIT_COUNT];
    struct trial_forecast forecasts[SPLIT_COUNT];
    int32_t n_forecasts;
    int64_t flops; /* counted */
};
void evaluation_free(struct evaluation *evaluation);
/* The whole final evaluation that the settings ask for. */
enum lvs_status evaluation_run(struct lora_runner *runner, const struct evaluated *evaluated,
                               const struct settings *settings, struct evaluation *out, struct lvs_error *err);
/* What a periodic evaluation gave; NaN = not measured. */
struct periodic_scores {
    double loss;                   /* of the validation split */
    double mae_scaled, mse_scaled; /* of forecasts of every_horizon points on every_series */
};
/* A periodic one: the loss, or the errors of forecasts. *flops grows by what was counted. */
enum lvs_status evaluation_periodic(struct lora_runner *runner, const struct evaluated *evaluated,
                                    const struct settings *settings, struct periodic_scores *scores, int64_t *flops,
                                    struct lvs_error *err);
/* At a rung of [stop] rule: the validation loss. Adds to *flops what it counts. */
enum lvs_status evaluation_rung(struct lora_runner *runner, const struct evaluated *evaluated,
                                const struct settings *settings, double *loss, int64_t *flops, struct lvs_error *err);
/* Measures the baselines that the settings name and gives them to the sink. *flops grows by what was counted. */
enum lvs_status evaluation_baselines(struct lora_runner *runner, const struct trial *trial,
                                     const struct runner_sink *sink, int64_t *flops, struct lvs_error *err);

/* An assignment, whole. */
enum lvs_status lora_pack_run(struct lora_runner *runner, const struct assignment *assignment,
                              const struct runner_sink *sink, struct lvs_error *err);
