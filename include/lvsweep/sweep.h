/* The sweep: facts → plan → coordinator → assignments → records. Rank 0 coordinates; every worker owns a device through
 * a trainer process. Only protocol.c sends messages, only trainer_process.c forks; the coordinator is a pure state
 * machine (event in, actions out: no MPI, no clock, no files). */
#pragma once
#include "lvsweep/config.h"
#include "lvsweep/evaluate.h"
#include "lvsweep/flops.h"
#include "lvsweep/model.h"
#include "lvsweep/record.h"
#include "lvsweep/results.h"

/* ---- facts: what pricing and keys need of the data and the model, gathered once on rank 0 ---- */

struct sweep_facts;
/* Reads the data file, tokenizer, config.json and hashes; no weights, no device. `backend` and `precision` are the
 * effective ones ("cpu", "fp32"). */
enum lvs_status sweep_facts_make(const struct config *config, struct sweep_facts **out, struct lvs_error *err);
void sweep_facts_destroy(struct sweep_facts *facts);
const struct qwen2_config *sweep_facts_model(const struct sweep_facts *facts);
const struct series_set *sweep_facts_series(const struct sweep_facts *facts);
const struct split *sweep_facts_split(const struct sweep_facts *facts);
const char *sweep_facts_backend(const struct sweep_facts *facts);
const char *sweep_facts_precision(const struct sweep_facts *facts);
const char *sweep_facts_weights_hash(const struct sweep_facts *facts);
int32_t sweep_facts_vocabulary(const struct sweep_facts *facts);

/* For config_source.inspect: whether the data file can be split as the INI says. */
enum lvs_status sweep_inspect_data(const struct config *config, struct lvs_error *err);

/* What a trial's settings mean on this data: for plan's table. */
struct trial_extent {
    int64_t training_windows, validation_windows, test_windows;
    double tokens_per_series; /* mean over the training series */
    double points_per_window; /* context / tokens a point */
    double epochs;
    int32_t n_forecasts[SPLIT_COUNT];
};
enum lvs_status trial_extent_make(const struct config *config, struct sweep_facts *facts,
                                  const struct settings *settings, struct trial_extent *out, struct lvs_error *err);
/* Prices a trial under the config's convention. LVS_USAGE when a number does not fit. */
enum lvs_status trial_price_make(const struct config *config, struct sweep_facts *facts,
                                 const struct settings *settings, struct trial_price *out, struct lvs_error *err);

/* ---- plan: the points of a stage as trials with names, keys and prices ---- */

#define STAGE_AXES_MAX 16
struct stage_points {
    struct trial *trials; /* [n] in enumeration order, owned; index is not yet set */
    int32_t n;
    int32_t n_axes;  /* axes with several values, the first one outermost */
    int32_t *values; /* [n · n_axes] which value of each axis a point has, owned; NULL = not known */
    char axis_name[STAGE_AXES_MAX][32];
};
void stage_points_free(struct stage_points *points);
/* What a stage with steps = fill may spend. On a resume its own charges, and those of later stages, are part of what is
 * spent already; the steps must come out as in the earlier run when that was the same sweep. */
struct fill_room {
    __int128 left;           /* FLOPs left of the budget now */
    const __int128 *earlier; /* [n_earlier] what may have been left when the stage began in an earlier run */
    int32_t n_earlier;
    const struct coordinator *known; /* `earlier` holds where it leads to a trial of an earlier run; NULL without any */
};
/* Where the coordinator gets a stage's points from; the real one is sweep_planner, tests give their own. */
struct planner {
    void *context;
    /* `best` is the trial that `from = best` takes its settings from, NULL without; `room` resolves steps = fill. */
    enum lvs_status (*stage_points)(void *context, int32_t stage, const struct trial *best,
                                    const struct fill_room *room, struct stage_points *out, struct lvs_error *err);
    /* The second evaluation of a trial whose settings say `narrow`; NULL where none does. */
    enum lvs_status (*second_pass)(void *context, const struct trial *first, struct trial *out, struct lvs_error *err);
};
#define PLANNER_MAX_BASELINES 64
struct sweep_planner {
    const struct config *config;
    struct sweep_facts *facts;
    int32_t n_measured; /* (context, decimals) whose untrained model an earlier trial measures */
    struct {
        int32_t context, decimals;
    } measured[PLANNER_MAX_BASELINES];
};
struct planner sweep_planner_make(struct sweep_planner *context);

/* What the sweep would do, found by driving the real coordinator with workers that finish at once: the same code admits
 * runs. Stages with from = best are priced with the dearest trial of the stage before as the best. */
enum plan_verdict { PLAN_RUN, PLAN_KEPT, PLAN_CUT };
enum cut_cause { CUT_BY_FLOPS, CUT_BY_TRIALS, CUT_BY_TREND };
struct plan_row {
    int32_t trial, stage;
    enum plan_verdict verdict; /* KEPT: finished already, or equal to a trial of an earlier stage */
    enum cut_cause cause;      /* CUT */
    int32_t from, until;       /* RUN: steps that this row of the plan does; until 0 = all */
    int64_t flops;             /* RUN: reserved for them; KEPT, CUT: planned */
    __int128 total;            /* FLOPs reserved and spent up to this row */
};
struct plan {
    struct coordinator *coordinator; /* at the end of the simulated sweep, owned */
    struct plan_row *rows;           /* [n_rows] in enumeration order, owned */
    int32_t n_rows, rows_capacity;
    int32_t n_run[CONFIG_MAX_STAGES], n_cut[CONFIG_MAX_STAGES], n_kept[CONFIG_MAX_STAGES];
    int32_t n_cut_by_trials[CONFIG_MAX_STAGES]; /* of n_cut */
};
/* `known`: results of an earlier run of the same OUTPUT, or NULL; `rerun`: --rerun, or NULL. */
enum lvs_status plan_make(const struct config *config, struct sweep_facts *facts, const struct results *known,
                          const char *rerun, struct plan *out, struct lvs_error *err);
void plan_free(struct plan *plan);
/* LVS_BUDGET in words when [budget] over = refuse and a whole stage is cut. Warns of what is allowed and hardly
 * meant, such as a metric that does not compare what a stage varies. */
enum lvs_status plan_check(const struct config *config, const struct sweep_facts *facts, const struct plan *plan,
                           struct lvs_error *err);
/* LVS_BUDGET in words when the plan has something to run and earlier runs (NULL = none) have used [budget] hours or
 * gpu_hours up. */
enum lvs_status plan_check_time(const struct config *config, const struct plan *plan, const struct results *known,
                                struct lvs_error *err);

/* What the trials that the plan runs cost under a convention, whichever the budget counts by; FLOPs. */
struct plan_cost {
    __int128 training, evaluation;
    __int128 counted; /* what [budget] count says of both */
};
enum lvs_status plan_cost_make(const struct config *config, struct sweep_facts *facts, const struct plan *plan,
                               const char *convention, struct plan_cost *out, struct lvs_error *err);

/* ---- budget: pure policy ---- */

enum admission { ADMISSION_RUN, ADMISSION_CUT };
/* A walk over a stage's prices in order, from {ledger, over, limit}; `limit` is the stage's share (negative = none). */
struct budget_walk {
    struct ledger *ledger;
    enum over_mode over;
    __int128 limit, taken;
    bool stopped; /* something did not fit, and `over` says that nothing may after it */
};
/* Reserves the next price when it fits. Verdicts as `over` says: SKIP leaves out what does not fit and goes on, STOP
 * leaves out everything from the first one on; REFUSE acts as SKIP here (the refusal of a stage that is cut whole comes
 * before the start, from the plan). */
enum admission budget_admit(struct budget_walk *walk, int64_t price);

/* ---- coordinator ---- */

enum coordinator_event_kind {
    EVENT_START,        /* once, after the known records were given */
    EVENT_WORKER_READY, /* worker can take an assignment */
    EVENT_RECORD,       /* worker finished one trial of its assignment: done, diverged, failed, interrupted, or pending:
                           paused at the step it was to come to, with the validation loss there */
    EVENT_WORKER_LOST,  /* worker takes no more work; what it had comes back */
    EVENT_STOP,         /* wind down: nothing new is sent */
};
struct coordinator_event {
    enum coordinator_event_kind kind;
    int32_t worker;
    bool transient; /* EVENT_RECORD with TRIAL_FAILED: another attempt may succeed */
    const struct record *record;
};

enum coordinator_action_kind {
    ACTION_ASSIGN,      /* send trials[n_trials] to the worker, as attempt `attempt` */
    ACTION_AGAIN,       /* trial runs from nothing (--rerun): journal it, and what it kept for going on is void */
    ACTION_ADMITTED,    /* trial: journal it */
    ACTION_REUSED,      /* trial is in the stage, its record is known already */
    ACTION_CUT,         /* trial: journal it */
    ACTION_SETTLED,     /* trial: its record is final; journal it */
    ACTION_RETRY,       /* trial goes back to the queue; journal the failed attempt's record */
    ACTION_PAUSED,      /* trial has come to a rung: journal its record, the rung and the charge */
    ACTION_RUNG,        /* what was decided of the trial at its rung: journal it */
    ACTION_STAGE_BEGIN, /* stage */
    ACTION_STAGE_END,   /* stage, trial = its best (-1 none) */
    ACTION_QUARANTINE,  /* worker failed too often in a row: it gets nothing more */
    ACTION_GIVE_UP,     /* every worker fails and nothing ever succeeded: the sweep winds down; trial = the last one */
    ACTION_FINISHED,    /* the sweep is over */
};
#define ASSIGNMENT_MAX 64
struct coordinator_action {
    enum coordinator_action_kind kind;
    int32_t worker, trial, stage;
    int32_t n_trials;
    const int32_t *trials; /* ACTION_ASSIGN: [n_trials], valid as long as the action */
    int32_t attempt;
    enum cut_cause cause;    /* ACTION_CUT */
    int64_t charged, lost;   /* ACTION_SETTLED, ACTION_RETRY, ACTION_PAUSED: what the ledger took for it, FLOPs */
    int64_t reserved;        /* ACTION_ADMITTED, ACTION_RETRY: what the ledger holds for it now */
    const struct rung *rung; /* ACTION_PAUSED, ACTION_RUNG: valid as long as the coordinator changes nothing */
    int32_t place, n_at_rung, n_kept; /* ACTION_RUNG: place-th of n_at_rung by loss, n_kept go on; 0 = not ranked */
    bool reversed;                    /* ACTION_RUNG: it had been decided otherwise */
};

struct coordinator;
struct coordinator_options {
    int32_t n_stages, n_workers; /* workers are numbered 0 … n_workers-1 */
    const double *stage_share;   /* [n_stages] % of the budget, 0 = none */
    const bool *stage_from_best; /* [n_stages] */
    double flops_cap;            /* 0 = none */
    int32_t trials_cap;          /* of trainings that are begun, earlier runs' too; 0 = none */
    enum over_mode over;
    enum lost_mode lost;
    bool count_evaluation; /* evaluation is charged too */
    int32_t retries, quarantine_after;
    int32_t pack;      /* most trials an assignment, same context and batch; 1 … ASSIGNMENT_MAX */
    int32_t pack_rows; /* pack = auto: most rows of a step (batch · context · trials) beyond one trial; 0 = not auto */
    /* Packing a trial of these settings changes no bit, so pack_rows and idle workers may decide; NULL = of no trial.
     */
    bool (*packs_exactly)(const struct settings *settings);
    char metric[64];      /* chooses the best of a stage */
    int32_t n_channel;    /* that metrics of several channels are averaged over */
    bool dearest_is_best; /* plan: the dearest trial of a stage stands for its best */
    enum stop_rule stop_rule;
    int32_t stop_factor, stop_min_steps;
    bool trend_skip;
    bool retry_failed;
};
/* The options that a configuration means, for n_workers workers. The arrays are owned (coordinator_options_free). */
void coordinator_options_make(const struct config *config, const struct sweep_facts *facts, int32_t n_workers,
                              struct coordinator_options *out);
void coordinator_options_free(struct coordinator_options *options);
enum lvs_status coordinator_create(const struct coordinator_options *options, const struct planner *planner,
                                   struct coordinator **out, struct lvs_error *err);
void coordinator_destroy(struct coordinator *coordinator);
/* A trial of an earlier run of the same OUTPUT with its last record, its rungs and what its ledger entries add up to;
 * in the journal's order, before EVENT_START. */
void coordinator_add_row(struct coordinator *coordinator, const struct result_row *row);
/* FLOPs lost in earlier runs, all in all. */
void coordinator_set_lost(struct coordinator *coordinator, __int128 flops);
/* All rows of an earlier run, in their order, and what it lost. */
void coordinator_add_results(struct coordinator *coordinator, const struct results *known);
/* --rerun: the trial of this name, or of the only train_key that begins so, has no result any more; between the rows
 * and EVENT_START. LVS_USAGE when there is none, or several. */
enum lvs_status coordinator_rerun(struct coordinator *coordinator, const char *key, struct lvs_error *err);
bool trial_is_called(const struct trial *trial, const char *key);
/* The budget kept the trial from its end: it was cut, or left where it paused although it was to go on. */
bool coordinator_lacks_flops(const struct coordinator *coordinator, int32_t index);
/* Takes one event; *actions (owned by the coordinator, valid until the next call) are to be carried out in order. */
enum lvs_status coordinator_handle(struct coordinator *coordinator, const struct coordinator_event *event,
                                   const struct coordinator_action **actions, int32_t *n_actions,
                                   struct lvs_error *err);
int32_t coordinator_n_trials(const struct coordinator *coordinator);
const struct trial *coordinator_trial(const struct coordinator *coordinator, int32_t index);
const struct record *coordinator_record(const struct coordinator *coordinator, int32_t index);
/* true when the trial belongs to the stage (reused ones belong to several). */
bool coordinator_in_stage(const struct coordinator *coordinator, int32_t index, int32_t stage);
bool coordinator_evaluate_only(const struct coordinator *coordinator, int32_t index);
/* Whether a trial of this train_key is among the known and the enumerated ones. */
bool coordinator_has_trained(const struct coordinator *coordinator, const char *train_key);
/* What the trial's assignment does: steps (from, until], until 0 = all that are left; at most `price` FLOPs beside the
 * `charged` that count for its earlier steps. */
struct trial_segment {
    int32_t from, until;
    int64_t price, charged;
};
const struct rung_list *coordinator_rungs(const struct coordinator *coordinator, int32_t index);
struct trial_segment coordinator_segment(const struct coordinator *coordinator, int32_t index);
int32_t coordinator_best(const struct coordinator *coordinator); /* of the last ended stage; -1 = none */
const struct ledger *coordinator_ledger(const struct coordinator *coordinator);
bool coordinator_finished(const struct coordinator *coordinator);
/* The stage that is open; n_stages when all are over. */
int32_t coordinator_stage(const struct coordinator *coordinator);
/* Trials still to finish in this stage, for progress. */
int32_t coordinator_open_trials(const struct coordinator *coordinator);

/* ---- runner: what turns an assignment into records ---- */

struct assignment {
    int32_t n_trials, attempt;
    int32_t evaluate_only; /* bool: the adapters are there, only the evaluation is new */
    int32_t reserved;
    int32_t from[ASSIGNMENT_MAX];             /* step that the trial has come to in earlier assignments */
    int32_t until[ASSIGNMENT_MAX];            /* step to pause at, 0 = none */
    int32_t rungs[ASSIGNMENT_MAX][RUNGS_MAX]; /* steps at which it paused in earlier assignments, then 0 */
    struct trial trials[ASSIGNMENT_MAX];
};
enum progress_phase { PHASE_LOADING, PHASE_TRAINING, PHASE_EVALUATING };
struct progress {
    int32_t trial, step, n_steps; /* step of n_steps */
    int32_t phase;                /* enum progress_phase */
    double loss;                  /* training loss of the last step that is known; NaN = none yet */
};
/* Where a worker runs. */
struct worker_place {
    int32_t worker;                   /* its number */
    int32_t local_index, local_count; /* among the workers of its node */
    int32_t device_index, threads;
    char output[LVS_PATH_MAX];
};
/* Upward traffic of a runner. */
struct runner_sink {
    void *context;
    void (*progress)(void *context, const struct progress *progress);
    void (*record)(void *context, const struct record *record, bool transient);
    void (*baseline)(void *context, const struct baseline *baseline);
    bool (*should_stop)(void *context);
};
/* A runner. `open` is called once in a trainer process, before the first assignment, and loads what all trials share;
 * `run` yields one record a trial and returns an error when the trainer as a whole should go on no longer: another one
 * is started. */
struct runner {
    const char *name;
    enum lvs_status (*open)(const struct config *config, const struct worker_place *place, void **state,
                            struct lvs_error *err);
    /* The opened device, for the worker's hello; may be called only after open. */
    void (*describe)(void *state, struct device_description *out);
    enum lvs_status (*run)(void *state, const struct assignment *assignment, const struct runner_sink *sink,
                           struct lvs_error *err);
    void (*close)(void *state);
};
extern const struct runner runner_lora; /* the real one */
extern const struct runner runner_fake; /* programmable time, loss and failure (docs/architecture.md) */
const struct runner *runner_of(const struct config *config);

/* ---- processes ---- */

/* Forks the helper that later forks trainers. Call first thing in main, before MPI starts and before any thread. */
enum lvs_status trainer_helper_start(struct lvs_error *err);
void trainer_helper_end(void);

/* ---- the launch, for doctor: of the running MPI program ---- */

int protocol_rank(void);
int protocol_size(void);
void protocol_host(char *out, size_t capacity);
void protocol_library(char *out, size_t capacity); /* "Open MPI v4.1.4" */
/* Collective: index and number of the ranks of this node that say `is_worker`. */
void protocol_local(bool is_worker, int32_t *index, int32_t *count);
/* LVS_LAUNCH, with the cure, when the environment shows that processes that should be ranks have not met. */
enum lvs_status sweep_check_launch(struct lvs_error *err);
/* Collective: true when every rank gave the same text (its first 255 bytes). */
bool protocol_same_text(const char *text);
/* Collective: results.h5 by all ranks; rank 0 gives the results, the others NULL. */
enum lvs_status protocol_publish(const struct results *results, struct lvs_error *err);

struct sweep_options {
    const char *ini;
    const char *const *sets;
    int32_t n_sets;
    const char *output; /* --output, NULL = the INI's */
    bool fresh, retry_failed, break_lock, in_process;
    const char *rerun; /* NULL = none */
};
/* Runs or resumes; collective over all ranks. Returns the exit code; rank 0 has printed tables and messages. */
enum lvs_status sweep_run(const struct sweep_options *options);
