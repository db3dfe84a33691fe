/* How a pack begins: folders, trainer, restored checkpoints; and the checkpoints themselves. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/fault.h"
#include "lvsweep/log.h"
#include "lora_pack.h"

/* ---- checkpoints ---- */

static size_t best_bytes(const struct pack_run *run) {
    return (size_t)trainer_lora(run->trainer)->stride * sizeof(float);
}

enum lvs_status pack_checkpoint(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    struct strbuf extra;
    strbuf_init(&extra);
    pack_state_write(one, best_bytes(run), &extra);
    enum lvs_status status = checkpoint_write(one->folder, run->trainer, k, extra.text, extra.length, err);
    strbuf_free(&extra);
    return status;
}

enum lvs_status pack_checkpoint_all(struct pack_run *run, struct lvs_error *err) {
    for (int32_t k = 0; k < run->n_trials; k++)
        if (!run->trials[k].closed) LVS_TRY(pack_checkpoint(run, k, err));
    run->checkpoint_due = clock_steady() + run->runner->config->checkpoint_every;
    return LVS_OK;
}

/* ---- starting ---- */

static enum lvs_status start_from_adapter(struct pack_run *run, int32_t k, const char *folder, struct lvs_error *err) {
    const struct lora_layout *lora = trainer_lora(run->trainer);
    float *params = lvs_calloc((size_t)lora->stride, sizeof *params);
    enum lvs_status status = lora_read(folder, lora, &run->trials[k].trial->settings, params, err);
    if (status == LVS_OK) status = trainer_write_adapter(run->trainer, k, params, err);
    free(params);
    return status;
}

/* Step at which the assignment ends for the trial: its rung, or its last step. */
int32_t pack_end_step(const struct pack_run *run, int32_t k) {
    int32_t steps = (int32_t)run->trials[k].trial->settings.steps.value, until = run->assignment->until[k];
    return until > 0 && until < steps ? until : steps;
}

/* What earlier assignments evaluated, and a checkpoint would tell of had it not been lost, counts as it did. */
static void count_lost_rungs(struct pack_run *run, int32_t k) {
    struct pack_trial *one = &run->trials[k];
    const int32_t *rungs = run->assignment->rungs[k];
    for (int32_t i = 0; i < RUNGS_MAX && rungs[i] > 0 && rungs[i] <= run->assignment->from[k]; i++)
        if (rungs[i] > one->first_step && pack_rung_is_own(one, rungs[i]))
            one->flops_periodic += one->trial->price.rung;
}

/* Goes on from the trial's checkpoint. Steps that an earlier assignment had come to and the checkpoint has not are done
 * again, and so are those of a checkpoint beyond the rung at which the loss is wanted. */
static enum lvs_status restore_trial(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    int32_t there = checkpoint_step(one->folder, one->trial->train_key), from = run->assignment->from[k];
    bool found = false;
    void *extra = NULL;
    size_t length = 0;
    if (there <= pack_end_step(run, k))
        LVS_TRY(checkpoint_read(one->folder, run->trainer, k, &found, &extra, &length, err));
    else
        checkpoint_remove(one->folder);
    if (found) {
        if (!pack_state_read(one, best_bytes(run), extra, length))
            log_warning("%s: the evaluations in its checkpoint are another version's and left out", one->trial->name);
        one->first_step = trainer_step(run->trainer, k);
        log_info("%s: goes on from its checkpoint at step %d", one->trial->name, one->first_step);
    }
    free(extra);
    if (from <= one->first_step) return LVS_OK;
    one->steps_again = from - one->first_step;
    count_lost_rungs(run, k);
    return LVS_OK;
}

/* The adapter a trial begins with: its own (evaluate only), its parent's, a PEFT folder's, or lora_init's. */
static enum lvs_status start_trial(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    const char *from = one->trial->settings.from_adapter;
    char folder[LVS_PATH_MAX], parent[LVS_PATH_MAX];
    if (run->assignment->evaluate_only) {
        LVS_TRY(file_join(folder, one->folder, "adapter", err));
        return start_from_adapter(run, k, folder, err);
    }
    if (strcmp(from, "best") == 0 && one->trial->parent_name[0]) {
        LVS_TRY(trial_folder(parent, run->runner->place.output, one->trial->parent_name, err));
        LVS_TRY(file_join(folder, parent, "adapter", err));
        LVS_TRY(start_from_adapter(run, k, folder, err));
    } else if (strcmp(from, "none") != 0 && strcmp(from, "best") != 0 && from[0]) {
        LVS_TRY(file_resolve(folder, run->runner->config->folder, from, err));
        LVS_TRY(start_from_adapter(run, k, folder, err));
    }
    return restore_trial(run, k, err);
}

/* A failpoint of the device's or the disk's. */
enum lvs_status pack_pass(struct pack_run *run, const char *point, const char *what, struct lvs_error *err) {
    const struct compute *compute = &run->runner->compute;
    enum fault_action action = fault_hit(point);
    if (action == FAULT_BREAK && compute->backend->break_context)
        compute->backend->break_context(compute->device);
    else if (action != FAULT_NONE)
        return lvs_fail(err, LVS_LAUNCH, "%s: %s", what, strerror(errno));
    return LVS_OK;
}

enum lvs_status pack_look_at_head(struct pack_run *run, int32_t k, struct lvs_error *err) {
    struct pack_trial *one = &run->trials[k];
    int32_t step = trainer_step(run->trainer, k);
    if (run->assignment->evaluate_only || one->looked_step == step) return LVS_OK;
    one->looked_step = step;
    return lora_head_look(run->runner, run->trainer, k, one->trial, &one->record.head_gap, err);
}

enum lvs_status pack_open(struct pack_run *run, struct lvs_error *err) {
    const struct settings *settings = &run->assignment->trials[0].settings;
    const struct trial *pointers[ASSIGNMENT_MAX];
    const struct window_cache *windows;
    LVS_TRY(lora_runner_windows(run->runner, settings, SPLIT_TRAIN, &windows, err));
    run->started = clock_steady();
    for (int32_t k = 0; k < run->n_trials; k++) {
        struct pack_trial *one = &run->trials[k];
        one->trial = pointers[k] = &run->assignment->trials[k];
        one->best_score = INFINITY;
        one->looked_step = -1;
        record_init(&one->record, one->trial);
        one->record.start_time = clock_now();
        one->record.attempt = run->assignment->attempt;
        one->record.pack_width = run->n_trials;
        LVS_TRY(trial_folder(one->folder, run->runner->place.output, one->trial->name, err));
        LVS_TRY(file_make_folder(one->folder, err));
    }
    const struct model *text = run->runner->text;
    struct trainer_options options = {.model = text ? text : run->runner->model,
                                      .whole = text ? run->runner->model : NULL,
                                      .kept = run->runner->material.tokenizer.kept,
                                      .windows = &windows->windows,
                                      .trials = pointers,
                                      .n_trials = run->n_trials,
                                      .skip_tiles = run->runner->config->skip_tiles};
    LVS_TRY(pack_pass(run, "allocate", "device memory for the pack", err));
    LVS_TRY(trainer_create(&options, &run->trainer, err));
    for (int32_t k = 0; k < run->n_trials; k++) {
        LVS_TRY(start_trial(run, k, err));
        if (run->trials[k].first_step == 0) LVS_TRY(pack_look_at_head(run, k, err));
    }
    run->checkpoint_due = clock_steady() + run->runner->config->checkpoint_every;
    return LVS_OK;
}
