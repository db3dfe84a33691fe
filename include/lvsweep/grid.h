/* The grid of one stage: its points in enumeration order (rank; learning_rate; context; other axes by key name; the
 * last varies fastest), and the identity of a trial: folder name and keys. Results are joined by key, never by
 * position or name. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "lvsweep/config.h"
#include "lvsweep/tokenizer.h"

#define GRID_MAX_POINTS 1000000

/* Raised whenever a change of the code changes a trial's numbers: finished trials are then no longer reused. */
#define LVS_NUMERICS_VERSION 1

struct grid_points {
    int32_t n_points, n_axes;
    struct settings *settings;       /* [n_points], owned */
    const struct config_axis **axes; /* [n_axes] keys with several values; the array is owned, its items the config's */
    int32_t *values;                 /* [n_points][n_axes] which of axes[a]->values, owned */
};

/* Points of config->stages[stage] without those that `skip` leaves out. `base` is what the stage's own keys are set on:
 * NULL for config->defaults, the best trial's settings for from = best. (A from_adapter = best of the base is not
 * handed down: it named another parent.) LVS_USAGE when no point is left or there are more than GRID_MAX_POINTS. The
 * caller frees *out also after an error. */
enum lvs_status grid_stage_trials(const struct config *config, int32_t stage, const struct settings *base,
                                  struct grid_points *out, struct lvs_error *err);
void grid_points_free(struct grid_points *points);
/* Appends "rank=8 learning_rate=1e-4": the axes of one point, for messages; public for tests, which compare a grid's
 * points by it. Nothing for a stage without axes. */
void grid_point_text(const struct grid_points *points, int32_t point, struct strbuf *out);

/* What beside the settings decides a trial's numbers. Hashes are hash.h's; "" = not known or not there. */
struct trial_identity {
    char data_hash[LVS_HASH_TEXT];    /* of the series as read */
    char split_hash[LVS_HASH_TEXT];   /* of the rows of each part, so that a changed split file is seen */
    char weights_hash[LVS_HASH_TEXT]; /* of the frozen model */
    char parent_key[LVS_HASH_TEXT]; /* train_key whose adapter it starts from, or the hash of a PEFT folder's weights */
    char backend[16], precision[16]; /* the effective ones: cpu, fp32 */
    char ends[TOKENIZER_ENDS_TEXT];  /* as tokenizer_write_ends has them; changes the evaluation only */
};

/* Appends the text that train_key (or eval_key) is the hash of, one "name=value" a line, so that two texts show which
 * key differs. The evaluation's text starts with trial->train_key, which must be made before. */
void trial_key_text(const struct config *config, const struct trial *trial, const struct trial_identity *identity,
                    bool evaluate, struct strbuf *out);
/* Fills trial->train_key and trial->eval_key from its settings and pack_width. [train] steps must be a count. */
void trial_keys_make(const struct config *config, struct trial *trial, const struct trial_identity *identity);
/* Fills trial->name: r8-lr1e-4-c512-s0-8f3a2c, with the other axes of any stage before the first 6 digits of train_key
 * (-d3 for decimals, else -key=value), only letters, digits and . _ + - =. It depends on the axes of the whole INI, so
 * a trial known from an earlier run keeps the name that it has in the journal. */
void trial_name_make(const struct config *config, struct trial *trial);
