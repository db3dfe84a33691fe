/* Results of a sweep: the columns (one list for HDF5, CSV, JSON, tables), the journal that is the truth, the table in
 * memory that replaying it gives, what a trial leaves in its folder, results.h5, and the choice of the best trial.
 * Layout and schema: docs/results-format.md. Knows no trainer, no sweep; `struct results` is plain memory. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "lvsweep/config.h"
#include "lvsweep/flops.h"
#include "lvsweep/metric.h"
#include "lvsweep/record.h"
#include "lvsweep/strbuf.h"
#include "lvsweep/text.h"
#include "lvsweep/tokenizer.h"

#define RESULTS_SCHEMA_VERSION "1.0"
#define RESULTS_JOURNAL        "journal.jsonl"
#define RESULTS_FILE           "results.h5"

/* ---- the table in memory ---- */

/* A baseline of the sweep. The untrained model's numbers depend on context and decimals, so there may be several. */
struct baseline {
    int32_t kind; /* enum baseline_kind */
    int32_t context, decimals;
    int32_t reserved;
    char key[LVS_HASH_TEXT]; /* what it was measured under: equal key = the same baseline */
    struct loss_metrics val_loss, test_loss;
    struct forecast_metrics val, test;
    int64_t flops_evaluation, flops_executed; /* counted by the convention; run */
    double seconds;
};
/* NaN, -1 and empty. */
void baseline_init(struct baseline *baseline, enum baseline_kind kind);
const char *baseline_name(int32_t kind); /* "untrained", "last_value", "mean" */

/* Where a trial paused for [stop] rule. */
enum rung_verdict { RUNG_WAITS, RUNG_GOES_ON, RUNG_STOPPED };
#define RUNGS_MAX 8
struct rung {
    int32_t step;    /* updates done */
    int32_t verdict; /* enum rung_verdict */
    double loss;     /* validation loss there, nats a token */
    int64_t flops;   /* counted of the trial up to there, and charged */
};
struct rung_list {
    int32_t n, reserved;
    struct rung rung[RUNGS_MAX]; /* [n], ascending steps */
};
/* Adds a rung, or replaces the one of its step; a full list loses its lowest. */
void rung_list_set(struct rung_list *list, const struct rung *rung);
/* The rung at a step; NULL = none. */
const struct rung *rung_list_find(const struct rung_list *list, int32_t step);

/* One row of results.h5. */
struct result_row {
    struct trial trial;
    struct record record;   /* the last one; status is the row's status */
    uint32_t stages;        /* bit per stage the trial is a member of (in_stage) */
    int32_t outside;        /* bool: not in the present grid */
    int32_t status_before;  /* enum trial_status: what a superseded row was */
    int64_t reserved;       /* FLOPs held for it in the ledger now */
    int64_t charged;        /* FLOPs spent on it: flops_counted */
    int64_t charged_before; /* of them, before it was run again from nothing */
    char cut_reason[128];   /* why it was cut; "" = it was not */
    struct rung_list rungs;
};

struct provenance_pair {
    char name[64];
    char *value; /* owned */
};

/* Time that the runs of an output folder took, for [budget] hours and gpu_hours: of each run from its first journal
 * line to its last, so neither the time between runs nor, of a run that was killed, what came after its last line. */
struct time_used {
    double seconds, worker_seconds; /* sums over the runs; worker_seconds: of each, times its workers */
};
/* A journal being followed. */
struct run_clock {
    struct time_used before;  /* of the runs that are over */
    double begin, last;       /* lines of the present run, seconds since 1970; begin = 0: there is none */
    int32_t ranks, n_workers; /* of the present run, as its provenance has told so far */
};

struct results {
    char output[LVS_PATH_MAX]; /* the OUTPUT folder */
    char name[64], metric[64], convention[32];
    char stop_rule[16];                    /* [stop] rule of the last run; "" = none */
    char *config_given, *config_effective; /* INI texts, owned */
    char data_hash[LVS_HASH_TEXT], model_hash[LVS_HASH_TEXT];
    int32_t n_stages;
    char stage_name[CONFIG_MAX_STAGES][64];
    int32_t stage_best[CONFIG_MAX_STAGES]; /* trial index, -1 = none yet */
    int32_t n_channel;
    char channel_name[LVS_MAX_CHANNELS][64], channel_unit[LVS_MAX_CHANNELS][32];
    char time_unit[32];
    int32_t n_rows, capacity;
    struct result_row *rows; /* [n_rows], rows[i].trial.index == i, owned */
    int32_t n_baselines;
    struct baseline *baselines; /* owned */
    int32_t n_provenance;
    struct provenance_pair *provenance; /* owned, in order of first appearance */
    struct ledger ledger;
    double created, changed; /* seconds since 1970 UTC, of the first and the last event */
    struct run_clock clock;
    int64_t n_events;
    int32_t state; /* enum sweep_state */
};

enum sweep_state { SWEEP_STATE_NEW, SWEEP_STATE_RUNNING, SWEEP_STATE_INTERRUPTED, SWEEP_STATE_FINISHED };

void results_init(struct results *results, const char *output);
void results_free(struct results *results);
/* Of all runs, the last one too. */
struct time_used results_time_used(const struct results *results);
/* Row of a train_key (and eval_key unless NULL); -1 = none. */
int32_t results_find(const struct results *results, const char *train_key, const char *eval_key);
/* Replays OUTPUT/journal.jsonl. LVS_INPUT when there is none or it is corrupt. Never writes: a torn last line (a writer
 * at work, or killed) is left out; so is a damaged one, with a warning. */
enum lvs_status results_read(const char *output, struct results *out, struct lvs_error *err);
/* The same for who goes on from there: a damaged end is LVS_INPUT. */
enum lvs_status results_read_whole(const char *output, struct results *out, struct lvs_error *err);

/* ---- journal ---- */

enum journal_kind {
    JOURNAL_SWEEP,    /* a run starts or resumes: `sweep`; reservations of an earlier run end here */
    JOURNAL_TRIAL,    /* a trial of the grid: `trial`; row trial->index is made (or must hold the same train_key) */
    JOURNAL_MEMBER,   /* trial `index` also belongs to `stage` (reused) */
    JOURNAL_ADMITTED, /* trial `index`: `flops` reserved */
    JOURNAL_CUT,      /* trial `index` does not fit: `text` why */
    JOURNAL_ASSIGNED, /* trial `index` goes to `worker`: attempt, host, device in `record`-like members below */
    JOURNAL_PROGRESS, /* trial `index` is at `step` with training loss `value`; not needed to resume */
    JOURNAL_RECORD,   /* `record` came back */
    JOURNAL_SETTLE,   /* trial `index`: `flops` charged, what was reserved for it is released; `lost` repeated steps */
    JOURNAL_STATUS,   /* trial `index` has `status` now (interrupted, superseded, pending again), `text` why; pending:
                         from nothing, its record and its rungs are void */
    JOURNAL_RUNG, /* trial `index` paused at `step` with validation loss `value`, `flops` counted up to there; `status`
                     = enum rung_verdict, `text` = the verdict in words */
    JOURNAL_OUTSIDE,    /* trial `index` left the grid; its charges stay spent */
    JOURNAL_BEST,       /* trial `index` is the best of `stage` (-1 = of the sweep) by the metric, with `value` */
    JOURNAL_BASELINE,   /* `baseline` was measured; `flops` charged for it */
    JOURNAL_PROVENANCE, /* `name` = `text` */
    JOURNAL_INTERRUPTED,
    JOURNAL_FINISHED, /* `status` = exit code */
    JOURNAL_KIND_COUNT,
};
const char *journal_kind_name(int32_t kind);

/* What a run is about; written at its start. Pointers are borrowed. */
struct journal_sweep {
    const char *version;   /* of the program; NULL = this one's */
    const char *stop_rule; /* [stop] rule; NULL = none */
    const char *name, *metric, *convention, *config_given, *config_effective, *data_hash, *model_hash, *command;
    double flops_cap; /* 0 = none */
    int32_t n_stages;
    const char *const *stage_name; /* [n_stages] */
    int32_t n_channel;
    const char *const *channel_name, *const *channel_unit; /* [n_channel] */
    const char *time_unit;
};

/* One event; only the members that its kind names are written and read. On replay every pointer is valid during the
 * callback only. */
struct journal_event {
    int32_t kind; /* enum journal_kind */
    double time;  /* seconds since 1970 UTC; 0 = journal_append takes the clock */
    int32_t index, stage, worker, attempt, step, status;
    int64_t flops, lost;
    double value;
    const char *host, *device, *name, *text;
    const struct journal_sweep *sweep;
    const struct trial *trial;
    const struct record *record;
    const struct baseline *baseline;
    int64_t number; /* line of the journal, from 1; set on append and replay */
};
/* A kind with everything else unknown (-1, NaN, NULL, 0 FLOPs). */
struct journal_event journal_event_make(enum journal_kind kind);

struct journal;
/* Opens for appending, creating the file when it is missing. A torn end (half a line; lines that are empty, or hold
 * a sector of zeros, which never came to the disk) is cut off with a warning; any other line that does not match its
 * checksum was whole once and is LVS_INPUT with its number, the last one too. Replays what is there into `apply` (may
 * be NULL). One writer a journal: the caller holds the sweep's lock. */
typedef enum lvs_status (*journal_visitor)(void *context, const struct journal_event *event, struct lvs_error *err);
enum lvs_status journal_open(const char *path, journal_visitor apply, void *context, struct journal **out,
                             struct lvs_error *err);
/* Queues one event (memory only). */
enum lvs_status journal_append(struct journal *journal, struct journal_event *event, struct lvs_error *err);
/* All queued events in one write() and one fdatasync(). On failure (LVS_OUTPUT) the file is cut back to its last whole
 * line, and the events stay queued. Nothing queued: nothing done. */
enum lvs_status journal_flush(struct journal *journal, struct lvs_error *err);
/* Flushes and frees, also when the flush fails. */
enum lvs_status journal_close(struct journal *journal, struct lvs_error *err);
/* What follows the last good line. */
struct journal_end {
    size_t good;          /* bytes before it */
    int64_t damaged_line; /* its first line, when some of it was whole once; 0 = nothing, or torn */
};
/* Reads only, stops before the end that follows the last good line. A damaged end is told in *end, or with NULL refused
 * as journal_open does. */
enum lvs_status journal_replay(const char *path, journal_visitor apply, void *context, struct journal_end *end,
                               struct lvs_error *err);
/* What readers say of a damaged end: one line on standard error. */
void journal_warn_of(const char *path, const struct journal_end *end);
/* The same over bytes in memory; `path` for messages. */
enum lvs_status journal_replay_bytes(const char *path, const char *bytes, size_t length, journal_visitor apply,
                                     void *context, struct journal_end *end, struct lvs_error *err);

/* The reducer: what an event does to the table. context is a struct results; a journal_visitor. LVS_INPUT for an event
 * that contradicts the table (a trial that is not there, more charged than reserved). */
enum lvs_status results_apply(void *results, const struct journal_event *event, struct lvs_error *err);

/* ---- columns ---- */

enum field_type { FIELD_F64, FIELD_F32, FIELD_I64, FIELD_I32, FIELD_U8, FIELD_TEXT };
enum field_axes { AXES_TRIAL, AXES_TRIAL_CHANNEL, AXES_TRIAL_STAGE, AXES_TRIAL_STEP, AXES_TRIAL_EVALUATION };

/* One row of the list: HDF5 variable, CSV column, JSON member, table heading. The members after `flags` are the list's
 * own; read cells through the functions below. */
enum field_flag {
    FIELD_COORDINATE = 1, /* a CF coordinate of every other column */
    FIELD_TIMING = 2,     /* a time, host or worker: may differ between equal runs */
    FIELD_OPTIONAL = 4,   /* an integer whose -1 means "not known" (_FillValue) */
};
struct field {
    const char *name, *long_name;
    const char *units; /* NULL = none (texts, names, flags); "1" for pure numbers; "data", "data2" = the channel's
                          units, squared */
    int32_t type;      /* enum field_type */
    int32_t axes;      /* enum field_axes */
    uint32_t flags;    /* bits of enum field_flag */
    uint32_t member;   /* how `offset` is read, 0 = by `number`, `integer` or `words` */
    size_t offset;     /* into struct result_row */
    double (*number)(const struct results *results, const struct result_row *row, int32_t k);
    int64_t (*integer)(const struct results *results, const struct result_row *row, int32_t k);
    void (*words)(const struct results *results, const struct result_row *row, struct strbuf *out);
    const char *key; /* a setting whose canonical text is the cell */
};
int32_t field_count(void);
const struct field *field_at(int32_t index);
const struct field *field_find(const char *name); /* NULL = none */
/* One cell; k is the channel or the stage, 0 otherwise. Not for curves. field_number for every numeric type,
 * field_integer for the integer ones, field_text (appends) for texts. */
double field_number(const struct field *field, const struct results *results, const struct result_row *row, int32_t k);
int64_t field_integer(const struct field *field, const struct results *results, const struct result_row *row,
                      int32_t k);
void field_text(const struct field *field, const struct results *results, const struct result_row *row,
                struct strbuf *out);
/* Extent of the second axis for this table; 1 when there is none. Not for curves. */
int32_t field_width(const struct field *field, const struct results *results);
/* One cell as text: shortest form that reads back the same; "" for NaN. Not for curves. */
void field_write_cell(const struct field *field, const struct results *results, const struct result_row *row, int32_t k,
                      struct strbuf *out);

/* ---- choosing ---- */

/* What a metric (metric.h) is read from: no field, or METRIC_NO_CHANNEL, when these results have no such thing. Of a
 * column by channel without a channel's name: the mean over channels, NaN when one of them is. */
struct metric_column {
    const struct field *field;
    int32_t channel; /* METRIC_ALL_CHANNELS, or which */
};
struct metric_column metric_column(const struct results *results, const char *name);
double metric_value(const struct results *results, const struct result_row *row, const char *name);
/* "a metric that is not comparable over an axis is warned of": false when trials that differ in decimals, vocabulary or
 * padding cannot be ordered by it. */
bool metric_comparable(const char *name, const char *axis);

struct best_choice {
    int32_t index;          /* of the chosen trial; -1 = none */
    int32_t n_seeds;        /* finished trials that the mean is over */
    double mean, deviation; /* of the metric over seeds; deviation NaN with one (n - 1 in the denominator) */
};
/* The best done trial of `stage` (-1 = all): lowest (metric_highest: highest) mean over trials that differ only in seed
 * or row; ties by fewer FLOPs of training, as the record has them, then lower index. What was charged beside (a death,
 * a rerun, the untrained baseline that the first trial measures) decides nothing: it differs between equal sweeps.
 * Within the seeds: the best one by the same rules. NaN never wins; rows of other statuses and rows outside the grid do
 * not count, and rows that saw the first series of `narrow` only do not when there are others. The coordinator and
 * every reader choose by this one rule. */
struct best_choice results_best(const struct results *results, int32_t stage, const char *metric);
/* By the sweep's metric, of the last stage that has one, whether or not the stage is over. */
struct best_choice results_best_so_far(const struct results *results);
/* The same where there is no table: every row is added (rows that are not done count for nothing), then the best is
 * asked for once. `metric` must outlive the choices; a channel in it is a number (metric_number_channel). */
struct choices {
    const char *metric;
    struct metric_column column;
    int32_t n_channel, n, capacity;
    bool second_pass;
    struct candidate *all; /* [n], owned */
};
void choices_init(struct choices *choices, const char *metric, int32_t n_channel);
void choices_free(struct choices *choices);
void choices_add(struct choices *choices, const struct result_row *row);
struct best_choice choices_best(struct choices *choices);
/* The best `most` sets of settings (seeds together) by the same rules: all their trials as indices[≤ n_rows], the best
 * set first. Returns how many indices. */
int32_t results_leading(const struct results *results, int32_t stage, const char *metric, int32_t most,
                        int32_t *indices);
/* 64-bit identity of a trial's settings without the seed: equal = averaged together. */
uint64_t settings_group(const struct settings *settings);

/* ---- a trial's folder: OUTPUT/trials/<name>/ ---- */

enum lvs_status trial_folder(char out[LVS_PATH_MAX], const char *output, const char *trial_name, struct lvs_error *err);

/* Curves: written by the worker when a trial ends. */
struct trial_curves {
    int32_t n_step;
    float *train_loss, *gradient_norm; /* [n_step]: before update k, k = 0 …; owned */
    int32_t n_evaluation;
    int32_t *evaluation_step; /* [n_evaluation] updates done; owned */
    double *val_loss;         /* [n_evaluation], NaN = not measured; owned */
    double *val_mae_scaled;   /* [n_evaluation], periodic forecasts, NaN = not measured; owned */
    double *val_mse_scaled;   /* [n_evaluation], of the same forecasts; owned */
};
void trial_curves_free(struct trial_curves *curves);
/* FOLDER/curves.bin, whole or absent. One without val_mse_scaled is read as if NaN stood there. */
enum lvs_status trial_curves_write(const char *folder, const struct trial_curves *curves, struct lvs_error *err);
enum lvs_status trial_curves_read(const char *folder, struct trial_curves *out, struct lvs_error *err);

/* Forecasts of one split part, in the data's units. */
struct trial_forecast {
    int32_t part; /* enum split_part */
    int32_t n_series, n_time, n_channel;
    int64_t *series;              /* [n_series] row in the data file, ascending; owned */
    double *time;                 /* [n_time] of the forecast points, ascending; owned */
    double *observed, *predicted; /* [n_series][n_time][n_channel], NaN where there is none; owned */
    double *low, *high;           /* the 5 % and 95 % quantiles over samples, or NULL with one sample; owned */
};
void trial_forecast_free(struct trial_forecast *forecast);
/* FOLDER/forecast.bin with `count` parts (0–2), whole or absent. */
enum lvs_status trial_forecast_write(const char *folder, const struct trial_forecast *parts, int32_t count,
                                     struct lvs_error *err);
/* The same for a further evaluation of the trial's adapter: a file of its own, named after its eval_key. */
enum lvs_status trial_forecast_write_again(const char *folder, const char *eval_key, const struct trial_forecast *parts,
                                           int32_t count, struct lvs_error *err);
/* parts [SPLIT_COUNT]; *count = 0 when there is no file. With an eval_key (NULL = none) that has a file of its own,
 * that file's. */
enum lvs_status trial_forecast_read(const char *folder, const char *eval_key, struct trial_forecast *parts,
                                    int32_t *count, struct lvs_error *err);

/* ---- adapters ---- */

/* FOLDER/adapter/lvsweep.json: what `forecast` needs beside the PEFT files. */
struct adapter_info {
    char trial[LVS_NAME_MAX], train_key[LVS_HASH_TEXT];
    char base_model[LVS_PATH_MAX], model_hash[LVS_HASH_TEXT];
    int32_t lora_rank, head; /* enum head_mode: bias and weight need head.safetensors */
    double lora_alpha;
    int32_t context;
    struct text_format format;
    int32_t scale_over, scale_points, history_points;
    double scale_percentile, scale_to;
    double train_factor[LVS_MAX_CHANNELS]; /* scale_over = train: the factor of every series; else NaN */
    char channel_name[LVS_MAX_CHANNELS][64], channel_unit[LVS_MAX_CHANNELS][32];
    char time_unit[32];
    struct tokenizer tokenizer;
};
enum lvs_status adapter_info_write(const char *folder, const struct adapter_info *info, struct lvs_error *err);
enum lvs_status adapter_info_read(const char *folder, struct adapter_info *out, struct lvs_error *err);
/* Copies the adapter folder `from` (regular files only) to `to`, which must not exist: whole or absent. */
enum lvs_status adapter_export(const char *from, const char *to, struct lvs_error *err);

/* ---- results.h5 and exports ---- */

/* Sets HDF5_USE_FILE_LOCKING=FALSE unless the user set it. Call first in main, before any HDF5 call. */
void results_prepare_hdf5(void);
/* Names and versions of the libraries that results are written with, such as "HDF5 1.10.8, Jansson 2.14". */
void results_libraries(char *out, size_t capacity);
/* OUTPUT/results.h5 by one process: built aside, fsync, rename. LVS_OUTPUT; the old file then stands. */
enum lvs_status results_publish(const struct results *results, struct lvs_error *err);
/* The same file by all ranks; collective. `communicator` points to an MPI_Comm. Rank 0 gives `results`, the others
 * NULL. Every rank returns the same status; on failure the file that was there stands. */
enum lvs_status results_publish_parallel(const struct results *results, void *communicator, struct lvs_error *err);

void export_csv(const struct results *results, struct strbuf *out);  /* one line a trial; channels as name.channel */
void export_json(const struct results *results, struct strbuf *out); /* one document; NaN as null */

/* What the closing table says beside the rows. Negative or NaN = unknown, left out. */
struct results_summary {
    int32_t n_devices;
    const char *device_word; /* "GPUs", "CPU ranks" */
    double busy_percent, wall_seconds;
    int32_t n_retries;
};
/* The closing table: rows by settings (seeds together), baselines, budget, where things are. Lines are at most `width`
 * columns (0 = unlimited): the last column is cut with "…". */
void results_write_table(const struct results *results, const struct results_summary *summary, int32_t width,
                         struct strbuf *out);
