/* The facts' members, for facts.c, trial_price.c and plan.c. */
#pragma once
#include "sweep_internal.h"

/* Tokens of every series under one (decimals, history). */
struct token_lengths {
    int32_t decimals, history;
    int64_t *tokens[SPLIT_COUNT]; /* [split.n[part]], owned by the facts */
};

/* What decides how many positions forecasts take: at least n_chosen of `series` are forecast. */
struct forecast_question {
    struct amount history, horizon;
    struct series_choice series;
    int32_t decimals, part, n_chosen;
};

struct sweep_facts {
    char model_folder[LVS_PATH_MAX];
    struct qwen2_config model;
    struct material material;
    bool has_material;
    char weights_hash[LVS_HASH_TEXT], backend[16], precision[8];
    int32_t vocabulary; /* rows of the head */
    struct token_lengths *lengths;
    int32_t n_lengths;
    struct forecast_question *fitting; /* [n_fitting] that the model has room for, owned */
    int32_t n_fitting;
};
enum lvs_status facts_lengths(struct sweep_facts *facts, const struct settings *settings,
                              const struct token_lengths **out, struct lvs_error *err);
/* Price of evaluating once, without periodic evaluations: what the untrained baseline costs too. */
enum lvs_status evaluation_price(const struct config *config, struct sweep_facts *facts,
                                 const struct settings *settings, bool adapted, int64_t *out, struct lvs_error *err);
/* Are there positions enough for the trial's context and its forecasts? LVS_INPUT, LVS_USAGE in words. */
enum lvs_status facts_check_room(const struct config *config, struct sweep_facts *facts,
                                 const struct settings *settings, struct lvs_error *err);
