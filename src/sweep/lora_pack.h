/* A pack on its way through a trainer process: opened and checkpointed by lora_pack_open.c, its trials ended by
 * lora_pack_close.c, driven step by step by lora_trial.c; what their evaluations came to is in lora_pack_state.c. `k`
 * is a trial's place in the pack. */
#pragma once
#include "runner_lora_internal.h"

/* One trial of the pack. */
struct pack_trial {
    const struct trial *trial;
    struct record record;
    char folder[LVS_PATH_MAX];
    bool closed;
    int32_t first_step;  /* where this attempt began: 0, or its checkpoint's step */
    int32_t steps_again; /* that an earlier assignment had done already */
    double best_score;   /* of the periodic evaluations; lower is better */
    float *best;         /* [stride] adapter of best_score with keep = best, NULL = none yet; owned */
    struct trial_curves curves;
    int32_t curve_capacity;
    int64_t flops_periodic, flops_baseline;
    int32_t rung_step;   /* last rung whose loss is in flops_periodic */
    int32_t looked_step; /* at which the head's left-out rows were looked at last; -1 = never */
    double seconds_training, seconds_evaluation;
};

struct pack_run {
    struct lora_runner *runner;
    const struct runner_sink *sink;
    const struct assignment *assignment;
    struct trainer *trainer;
    struct pack_trial *trials; /* [n_trials] */
    int32_t n_trials;
    double started, checkpoint_due; /* of the steady clock */
    bool stop;
};

static inline struct evaluated pack_evaluated(struct pack_run *run, int32_t k) {
    return (struct evaluated){.model = run->runner->model,
                              .lora = trainer_lora(run->trainer),
                              .adapters = trainer_adapters(run->trainer),
                              .adapter = k};
}

/* ---- lora_pack_open.c ---- */

/* Folders, the trainer, and every trial where its checkpoint or its parent's adapter left it. */
enum lvs_status pack_open(struct pack_run *run, struct lvs_error *err);
enum lvs_status pack_checkpoint(struct pack_run *run, int32_t k, struct lvs_error *err);
enum lvs_status pack_checkpoint_all(struct pack_run *run, struct lvs_error *err);
/* The step at which this assignment of the trial ends: its rung, or its last. */
int32_t pack_end_step(const struct pack_run *run, int32_t k);
/* A failpoint: an error in words, or a broken device, where it is armed. */
enum lvs_status pack_pass(struct pack_run *run, const char *point, const char *what, struct lvs_error *err);
/* Measures what head_rows = text leaves out, once a step. */
enum lvs_status pack_look_at_head(struct pack_run *run, int32_t k, struct lvs_error *err);

/* ---- lora_pack_state.c ---- */

/* Makes room for `needed` periodic evaluations. */
void pack_grow_curves(struct pack_trial *one, int32_t needed);
/* The evaluation state that a checkpoint carries; best_bytes of an adapter. */
void pack_state_write(const struct pack_trial *one, size_t best_bytes, struct strbuf *out);
/* False, and nothing changed, when the bytes are no such state. One without val_mse_scaled is read as if NaN stood
 * there. */
bool pack_state_read(struct pack_trial *one, size_t best_bytes, const char *bytes, size_t length);

/* ---- lora_pack_close.c ---- */

void pack_fill_record(struct pack_run *run, int32_t k);
/* Sends the record; the trial is closed. */
void pack_close_trial(struct pack_run *run, int32_t k, int32_t status, bool transient);
/* Evaluates, leaves the folder behind, closes. */
enum lvs_status pack_finish_trial(struct pack_run *run, int32_t k, struct lvs_error *err);
/* The loss is not finite: the curves are kept, the trial is closed. */
enum lvs_status pack_give_up_diverged(struct pack_run *run, int32_t k, struct lvs_error *err);
/* A loss of its own is measured at this rung, beside the periodic evaluations. */
bool pack_rung_is_own(const struct pack_trial *one, int32_t step);
/* At its rung: a checkpoint, the validation loss, and the record goes up. */
enum lvs_status pack_pause_trial(struct pack_run *run, int32_t k, struct lvs_error *err);
