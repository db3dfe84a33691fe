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

struct lora_runner {
    const struct config *config;
    struct worker_place place;
    struct compute compute;
    char model_folder[LVS_PATH_MAX], weights_hash[LVS_HASH_TEXT];
    struct model *model;
    struct qwen2_config shape;
    struct material material;
    bool has_compute, has_material;
    struct window_cache cache[SPLIT_COUNT];
    double
        *untrained_scores; /* [split.n[SPLIT_VALIDATION]] MAE of the bare model, for series = worst:n; NULL = not yet */
};

/* Windows of a part under the settings; owned by the runner, valid until the next call for the part. */
enum lvs_status lora_runner_windows(struct lora_runner *runner, const struct settings *settings, enum split_part part,
                                    const struct window_cache **out, struct lvs_error *err);

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
/* A periodic one: the validation loss, or the scaled MAE of every_horizon points on every_series. */
enum lvs_status evaluation_periodic(struct lora_runner *runner, const struct evaluated *evaluated,
                                    const struct settings *settings, double *loss, double *mae_scaled, int64_t *flops,
                                    struct lvs_error *err);
/* Measures the baselines that the settings name and gives them to the sink. */
enum lvs_status evaluation_baselines(struct lora_runner *runner, const struct trial *trial,
                                     const struct runner_sink *sink, struct lvs_error *err);

/* An assignment, whole. */
enum lvs_status lora_pack_run(struct lora_runner *runner, const struct assignment *assignment,
                              const struct runner_sink *sink, struct lvs_error *err);
