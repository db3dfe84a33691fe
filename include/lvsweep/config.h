/* The INI file as one const struct. Parsed by one table of rows (config_keys.c): a row is a key's section, name, type,
 * bounds, default and help, and serves parsing, error texts, `init --all`, documentation, hashing and results.h5.
 * All errors are found in one pass and reported together. */
#pragma once
#include <stddef.h>
#include <stdio.h>

#include "lvsweep/file.h"
#include "lvsweep/strbuf.h"
#include "lvsweep/trial.h"

#define CONFIG_TEXT_MAX   256
#define CONFIG_MAX_STAGES 32

enum over_mode { OVER_REFUSE, OVER_SKIP, OVER_STOP };
enum count_mode { COUNT_TRAINING, COUNT_TRAINING_EVALUATION };
enum lost_mode { LOST_REPORT, LOST_CHARGE };
enum split_kind { SPLIT_RANDOM, SPLIT_INDEX, SPLIT_TIME, SPLIT_STRATIFIED, SPLIT_FILE };
enum missing_mode { MISSING_REFUSE, MISSING_DROP_SERIES, MISSING_INTERPOLATE };
enum scale_over { SCALE_VARIABLE, SCALE_SERIES_MAX, SCALE_SERIES, SCALE_TRAIN };
enum scale_points { SCALE_POINTS_HISTORY, SCALE_POINTS_ALL };
enum vocabulary_kind { VOCABULARY_FULL, VOCABULARY_TEXT };
enum stop_rule { STOP_NONE, STOP_HALVING, STOP_ASHA, STOP_MEDIAN };
enum runner_kind { RUNNER_LORA, RUNNER_FAKE };
enum backend_choice { BACKEND_AUTO, BACKEND_CPU, BACKEND_CUDA };
enum precision_choice { PRECISION_AUTO, PRECISION_FP32, PRECISION_BF16 };
enum coordinator_choice { COORDINATOR_AUTO, COORDINATOR_OWN_RANK, COORDINATOR_SHARED };
enum head_rows { HEAD_ROWS_ALL, HEAD_ROWS_TEXT };

/* One key of one section; rows live in config_keys.c. */
struct config_key;

/* A stage's key with one value (a setting) or several (an axis), each kept as the text of one value. */
struct config_axis {
    const struct config_key *key;
    int32_t n_values;
    char (*values)[CONFIG_TEXT_MAX]; /* [n_values], owned by the config */
};

struct config_stage {
    char name[64];     /* "search" of [stage.search] */
    int32_t from_best; /* bool */
    double share;      /* % of the budget; 0 = not given */
    int32_t n_axes;
    struct config_axis *axes;   /* in enumeration order: rank, learning_rate, context, then by key name; owned */
    char skip[CONFIG_TEXT_MAX]; /* "none" or `rank=2 & learning_rate=1e-5 | …` */
};

struct config {
    char path[LVS_PATH_MAX];   /* of the INI as given; "-" when parsed from text */
    char folder[LVS_PATH_MAX]; /* that relative paths are seen from */
    char *text;                /* the INI as given, owned */
    /* [sweep] */
    char name[64];
    char output[LVS_PATH_MAX]; /* resolved */
    char metric[64];           /* a column of results.h5 */
    /* [budget] */
    double flops_cap;                            /* 0 = none; whole FLOPs, at most 9e18 */
    double trials_cap, hours_cap, gpu_hours_cap; /* 0 = none */
    char convention[32];
    int32_t count, over, lost;
    /* [data]; decimals is in `defaults` */
    char data_file[LVS_PATH_MAX];    /* resolved */
    char dataset[CONFIG_TEXT_MAX];   /* "" = the only three-dimensional float one */
    char variables[CONFIG_TEXT_MAX]; /* names with + between them; "" = the file's own */
    char units[CONFIG_TEXT_MAX];     /* one for all or one a channel with +; "" = the file's own */
    int32_t split, missing, scale_over, scale_points;
    double split_parts[3];         /* random, stratified: shares; index: counts; time: shares */
    char split_file[LVS_PATH_MAX]; /* resolved */
    char split_member[64];         /* of file:splits.json:b, which of several splits; \"\" = the whole document */
    int64_t split_seed;
    double scale_percentile, scale_to;
    int32_t decimal_point, negative_refuse; /* bools */
    double clip;                            /* scaled values above are clipped to it; 0 = none */
    /* [model] */
    char model_path[LVS_PATH_MAX]; /* resolved folder, or hf:owner/name as given */
    char model_name[128];
    int32_t vocabulary;
    /* [stop] */
    int32_t stop_rule, stop_factor, stop_min_steps, trend_skip;
    /* [run] */
    int32_t runner, backend, precision, coordinator, head_rows, skip_tiles, oversubscribe_gpu;
    int32_t pack;    /* 0 = auto */
    int32_t threads; /* a worker; 0 = the cores of the node shared out */
    int32_t retries, quarantine_after;
    double checkpoint_every;    /* seconds */
    double time_limit;          /* seconds; 0 = auto */
    char fake[CONFIG_TEXT_MAX]; /* programme of runner = fake */

    struct settings defaults; /* [lora], [train], [evaluate], data.decimals */
    int32_t n_stages;
    struct config_stage stages[CONFIG_MAX_STAGES]; /* in the order of [sweep] stages */
};

/* What the caller wants checked: a plan on a laptop needs no data file on disk, a run does. */
struct config_source {
    const char *path; /* INI file; NULL when `text` is given */
    const char *text; /* INI text (a broadcast one), with `folder` and `path` for messages */
    const char *folder;
    const char *const *sets; /* n_sets strings "section.key=value" of --set */
    int32_t n_sets;
    bool check_files; /* report missing data files and model folders as errors too */
    /* With check_files, once the data file is there: what it says against the INI (LVS_USAGE, "[data] key …") becomes
     * an error like the others, with its line; what else it returns is left for whoever reads the file. NULL = none. */
    enum lvs_status (*inspect)(const struct config *config, struct lvs_error *err);
};

/* Parses. On errors returns LVS_USAGE; err->text holds all of them, one a line `file:line: [section] key: …`, then
 * `N errors, nothing was started (exit 2)`. On success *out is owned by the caller (config_destroy). */
enum lvs_status config_parse(const struct config_source *source, struct config **out, struct lvs_error *err);
void config_destroy(struct config *config);

/* Whether the stage's `skip` leaves the point out (settings as grid.c made them). */
bool config_stage_skips(const struct config_stage *stage, const struct settings *settings);

/* The effective configuration: every key with its value, as INI text that parses back to the same config. */
void config_write(const struct config *config, struct strbuf *out);
/* A complete INI with every key commented (init --all), or with the few keys everyone sets. */
void config_write_template(bool every_key, struct strbuf *out);
/* docs/config.md's table, from the same rows. */
void config_write_reference(struct strbuf *out);

/* "Did you mean": the nearest word of a NULL-ended list, or NULL. */
const char *suggest_word(const char *word, const char *const *list);

/* ---- settings: used by grid.c, keys and columns ---- */

/* Which hash a key belongs to. */
enum key_effect { KEY_EFFECT_TRAIN = 1, KEY_EFFECT_EVALUATE = 2, KEY_EFFECT_NONE = 4 };

const char *config_key_name(const struct config_key *key);    /* "learning_rate" */
const char *config_key_section(const struct config_key *key); /* "train" */
/* Row of a trial setting by name ("rank", "learning_rate", …), NULL when unknown. */
const struct config_key *config_key_find_setting(const char *name);
/* Parses one value's text into `settings`; LVS_USAGE with "what was found; what is allowed" in err. */
enum lvs_status settings_set(struct settings *settings, const struct config_key *key, const char *value,
                             struct lvs_error *err);
/* The canonical text of one setting: equal settings give equal text ("0.0001" and "1e-4" both "1e-4"). */
void settings_get(const struct settings *settings, const struct config_key *key, struct strbuf *out);
/* Appends "key=value\n" for every setting (and every config row) whose effect is in `effects`, in table order.
 * `config` may be NULL for settings alone. Rows of the evaluation that decide which weights are kept (keep = best) or
 * how the training text is scaled (history) count as training too. */
void config_write_effective(const struct config *config, const struct settings *settings, unsigned effects,
                            struct strbuf *out);
/* The same, as train_key and eval_key hash it: rows that came after sweeps had been run are left out at their default,
 * so that the keys of those sweeps stay. */
void config_write_hashed(const struct config *config, const struct settings *settings, unsigned effects,
                         struct strbuf *out);
