/* Training of a pack: one or more trials of equal context and batch that share the frozen model, each with its own
 * adapter, optimiser state, schedule and data order. The trainer owns the loop of steps, not the sweep. */
#pragma once
#include "lvsweep/model.h"
#include "lvsweep/window.h"

/* learning_rate of 0-based step k of n: PyTorch's and transformers' formulas, named in schedule.c. */
double schedule_learning_rate(const struct settings *settings, int32_t step, int32_t n_steps);
/* Window numbers of all steps: epochs of a seeded permutation (or file order), cut into batches; epochs run on into one
 * another. order [n_steps · batch]. */
void batch_order(const struct settings *settings, int32_t n_windows, int32_t n_steps, int32_t *order);

struct trainer;

struct trainer_options {
    const struct model *model; /* what the steps compute with */
    /* head_rows = text: `model` has rows kept[model_vocabulary(model)] of `whole` (model_open_rows), the windows hold
     * its ids, and adapters are read, written and evaluated as those of `whole`. NULL = of the model itself. */
    const struct model *whole;
    const int32_t *kept;
    const struct window_set *windows;  /* of the pack's context, stride and padding; borrowed */
    const struct trial *const *trials; /* [n_trials], equal context and batch */
    int32_t n_trials;
    const float *const *start; /* [n_trials] adapters to start from (layout of trainer_lora), or NULL: lora_init */
    bool skip_tiles;
};
/* Bytes on the device for a pack of these shapes, for planning. */
int64_t trainer_bytes(const struct qwen2_config *config, const struct settings *settings, int32_t n_vocabulary,
                      int32_t n_trials, size_t act_size);
enum lvs_status trainer_create(const struct trainer_options *options, struct trainer **out, struct lvs_error *err);
void trainer_destroy(struct trainer *trainer);
const struct lora_layout *trainer_lora(const struct trainer *trainer);
/* Device view of all adapters, for evaluation in between (dropout off). Adapter k belongs to trial k. */
const struct adapters *trainer_adapters(struct trainer *trainer);
/* The same as the steps hold them, for trainer_options.model: another layout only with head_rows = text. */
const struct adapters *trainer_trained(struct trainer *trainer, const struct lora_layout **layout);
/* Windows of trial k's batch at a step: [batch]. */
enum lvs_status trainer_batch(struct trainer *trainer, int32_t k, int32_t step, int32_t *windows,
                              struct lvs_error *err);

/* Runs the active trials until each has done min(its steps, `until`) steps, or `stop` returns true (asked about twice a
 * second at most; NULL = never). Each trial keeps its own step count. LVS_DIVERGED never ends the pack: the trial is
 * marked and leaves it. */
enum lvs_status trainer_run(struct trainer *trainer, int32_t until, bool (*stop)(void *context), void *context,
                            struct lvs_error *err);
int32_t trainer_step(const struct trainer *trainer, int32_t k); /* steps done by trial k */
/* Loss of the last of them, which the host has looked at already: nothing waits for the device. NaN before the first.
 */
double trainer_loss(const struct trainer *trainer, int32_t k);
/* The loss or the gradient norm of step trainer_step was not finite; the updates before it were good. */
bool trainer_diverged(const struct trainer *trainer, int32_t k);
void trainer_leave(struct trainer *trainer, int32_t k); /* trial k trains no further */
/* Copies of what step 0 … trainer_step-1 gave: loss before the update, gradient norm before clipping. [n_steps] each.
 */
enum lvs_status trainer_curves(struct trainer *trainer, int32_t k, float *loss, float *gradient_norm,
                               struct lvs_error *err);
/* Trial k's adapter on the host, [trainer_lora()->stride]. */
enum lvs_status trainer_read_adapter(struct trainer *trainer, int32_t k, float *params, struct lvs_error *err);
enum lvs_status trainer_write_adapter(struct trainer *trainer, int32_t k, const float *params, struct lvs_error *err);
double trainer_flops_executed(const struct trainer *trainer, int32_t k); /* its share of the products that ran */

/* A checkpoint of trial k: adapter, optimiser state, step, curves; data order, schedule and dropout follow from the
 * step. Two files FOLDER/checkpoint.0 and .1 are written in turn, each with a checksum; the newest whole one is read.
 * `extra` bytes of the caller (its evaluation state) travel along. */
enum lvs_status checkpoint_write(const char *folder, struct trainer *trainer, int32_t k, const void *extra,
                                 size_t extra_bytes, struct lvs_error *err);
/* LVS_OK with *found = false when there is none that is whole and of this train_key. extra is malloc'd. */
enum lvs_status checkpoint_read(const char *folder, struct trainer *trainer, int32_t k, bool *found, void **extra,
                                size_t *extra_bytes, struct lvs_error *err);
/* Steps of the newest whole checkpoint of a train_key, without a trainer; -1 = none. */
int32_t checkpoint_step(const char *folder, const char *train_key);
void checkpoint_remove(const char *folder);
