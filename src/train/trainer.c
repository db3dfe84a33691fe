/* The loop of training steps over a pack. A step is one fixed sequence of operations whose inputs all lie on the device
 * and are found by a device step counter, so that it can be recorded once and replayed. The host only looks at the
 * losses from time to time, by the clock; how often never changes a number.
 * Invariant: an update is done by exactly the trials in `active`, each at its own step. */
#include "train_internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "lvsweep/clock.h"
#include "lvsweep/log.h"

/* Seconds between two looks at the losses and at stop(). */
#define LOOK_SECONDS 0.5
/* Steps enqueued at most between two looks, however short they are. */
#define LOOK_STEPS_MAX 4096

/* ---- one step ---- */

static void enqueue_step(struct trainer *trainer) {
    const struct backend *backend = trainer->compute->backend;
    struct device *device = trainer->compute->device;
    const struct pack_layout *layout = pass_layout(trainer->pass);
    const struct trainer_tables *tables = &trainer->tables;
    const int32_t table_stride = trainer->shape.table_stride;
    const struct batch_call batch = {
        .window_ids = tables->window_ids,
        .window_labels = tables->window_labels,
        .order = tables->order,
        .order_stride = table_stride * trainer->shape.batch,
        .batch = trainer->shape.batch,
        .step = tables->step,
        .ids = pass_ids(trainer->pass),
        .labels = pass_labels(trainer->pass),
        .label_weight = pass_label_weight(trainer->pass),
    };
    const struct optimizer_call update = {
        .adapters = &trainer->training,
        .m = tables->m,
        .v = tables->v,
        .n_params = trainer->lora.n_params,
        .settings = tables->optimizer,
        .learning_rate = tables->learning_rate,
        .gradient_norm = tables->gradient_norm,
        .table_stride = table_stride,
    };
    backend->batch_gather(device, layout, &batch);
    pass_forward(trainer->pass, &trainer->training);
    pass_loss(trainer->pass, &trainer->training);
    backend->loss_reduce(device, layout, pass_row_loss(trainer->pass), pass_label_weight(trainer->pass), tables->step,
                         table_stride, tables->loss);
    pass_backward(trainer->pass, &trainer->training);
    backend->adam(device, layout, &update);
    backend->step_advance(device, layout, tables->step);
}

static void drop_graph(struct trainer *trainer) {
    if (trainer->graph) trainer->compute->backend->graph_destroy(trainer->compute->device, trainer->graph);
    trainer->graph = NULL;
}

/* A failed recording costs speed, never a result: the steps are then enqueued one by one. */
static void record_graph(struct trainer *trainer) {
    const struct backend *backend = trainer->compute->backend;
    struct lvs_error reason = {0};
    backend->graph_begin(trainer->compute->device);
    enqueue_step(trainer);
    if (backend->graph_end(trainer->compute->device, &trainer->graph, &reason) == LVS_OK) return;
    log_warning("a training step could not be recorded as a graph (%s); steps are enqueued one by one", reason.text);
    trainer->graph = NULL;
    trainer->no_graph = true;
}

/* `n_done` steps were enqueued since the active trials last changed: the first of them runs as it is (operations choose
 * and allocate on their first call), then one is recorded. */
static void enqueue_steps(struct trainer *trainer, int32_t count, int32_t n_done) {
    const struct backend *backend = trainer->compute->backend;
    bool graphs = backend->graph_begin && backend->graph_end && backend->graph_launch;
    for (int32_t i = 0; i < count; i++) {
        bool first = n_done + i == 0;
        if (graphs && !first && !trainer->graph && !trainer->no_graph) record_graph(trainer);
        if (trainer->graph && !first)
            backend->graph_launch(trainer->compute->device, trainer->graph);
        else
            enqueue_step(trainer);
    }
}

/* ---- looking ---- */

/* Downloads what `count` more steps of an active trial gave; the first loss or norm that is not finite ends it. */
static void look_at_trial(struct trainer *trainer, int32_t k, int32_t count) {
    struct trainer_trial *mine = &trainer->trials[k];
    const struct backend *backend = trainer->compute->backend;
    const int64_t at = (int64_t)k * trainer->shape.table_stride + mine->step;
    const size_t bytes = (size_t)count * sizeof(float);
    backend->download(trainer->compute->device, mine->loss + mine->step, trainer->tables.loss + at, bytes);
    backend->download(trainer->compute->device, mine->gradient_norm + mine->step, trainer->tables.gradient_norm + at,
                      bytes);
    int32_t end = mine->step + count;
    while (mine->step < end && isfinite(mine->loss[mine->step]) && isfinite(mine->gradient_norm[mine->step]))
        mine->step++;
    if (mine->step == end) return;
    mine->diverged = mine->left = true;
    log_debug("%s: loss %g, gradient norm %g at step %d: diverged", mine->trial.name, (double)mine->loss[mine->step],
              (double)mine->gradient_norm[mine->step], mine->step);
}

/* Runs `count` steps, waits, and books what they gave. */
static enum lvs_status run_steps(struct trainer *trainer, int32_t count, int32_t n_done, bool *diverged,
                                 struct lvs_error *err) {
    const struct compute *compute = trainer->compute;
    double before = compute->backend->flops_executed(compute->device), started = clock_steady();
    enqueue_steps(trainer, count, n_done);
    LVS_TRY(compute->backend->synchronize(compute->device, err));
    double share = (compute->backend->flops_executed(compute->device) - before) / trainer->n_active;
    for (int32_t slot = 0; slot < trainer->n_active; slot++) {
        struct trainer_trial *mine = &trainer->trials[trainer->active[slot]];
        look_at_trial(trainer, trainer->active[slot], count);
        mine->flops += share;
        *diverged |= mine->diverged;
    }
    double seconds = clock_steady() - started, wanted = count * LOOK_SECONDS / fmax(seconds, 1e-9);
    /* Four times more at most: a first step with its warm-up says little about the next. */
    trainer->chunk_steps = fmax(1, fmin(fmin(wanted, 4.0 * count), LOOK_STEPS_MAX));
    return LVS_OK;
}

/* ---- the loop ---- */

static int32_t steps_left(const struct trainer_trial *mine, int32_t until) {
    if (mine->left) return 0;
    int32_t end = mine->n_steps < until ? mine->n_steps : until;
    return end > mine->step ? end - mine->step : 0;
}

/* Puts the trials that have steps to do into the pass. *n_steps: how many all of them can do together. */
static enum lvs_status activate(struct trainer *trainer, int32_t until, int32_t *n_steps, struct lvs_error *err) {
    int32_t n_active = 0;
    bool changed = false;
    *n_steps = INT32_MAX;
    for (int32_t k = 0; k < trainer->shape.n_trials; k++) {
        int32_t left = steps_left(&trainer->trials[k], until);
        if (left == 0) continue;
        if (left < *n_steps) *n_steps = left;
        changed |= n_active >= trainer->n_active || trainer->active[n_active] != k;
        trainer->active[n_active++] = k;
    }
    changed |= n_active != trainer->n_active;
    if (n_active == 0 || !changed) return LVS_OK;
    drop_graph(trainer);
    trainer->n_active = n_active;
    return pass_set_slots(trainer->pass, trainer->active, n_active, err);
}

static bool nothing_left(const struct trainer *trainer, int32_t until) {
    for (int32_t k = 0; k < trainer->shape.n_trials; k++)
        if (steps_left(&trainer->trials[k], until) > 0) return false;
    return true;
}

static bool asked_to_stop(struct trainer *trainer, bool (*stop)(void *context), void *context) {
    double now = clock_steady();
    if (!stop || now - trainer->asked < 0.9 * LOOK_SECONDS) return false;
    trainer->asked = now;
    return stop(context);
}

/* Runs the active trials for n_steps, less when one diverges or stop() says so. */
static enum lvs_status run_segment(struct trainer *trainer, int32_t n_steps, bool (*stop)(void *context), void *context,
                                   bool *stopped, struct lvs_error *err) {
    bool diverged = false;
    for (int32_t done = 0; done < n_steps && !diverged && !*stopped;) {
        int32_t count = (int32_t)trainer->chunk_steps;
        if (count > n_steps - done) count = n_steps - done;
        LVS_TRY(run_steps(trainer, count, trainer->graph ? 1 : done, &diverged, err));
        done += count;
        *stopped = asked_to_stop(trainer, stop, context);
    }
    return LVS_OK;
}

enum lvs_status trainer_run(struct trainer *trainer, int32_t until, bool (*stop)(void *context), void *context,
                            struct lvs_error *err) {
    bool stopped = false;
    while (!stopped && !nothing_left(trainer, until)) {
        int32_t n_steps;
        LVS_TRY(activate(trainer, until, &n_steps, err));
        LVS_TRY(run_segment(trainer, n_steps, stop, context, &stopped, err));
    }
    return LVS_OK;
}

/* ---- reading and writing ---- */

const struct lora_layout *trainer_lora(const struct trainer *trainer) {
    return &trainer->whole;
}

const struct adapters *trainer_adapters(struct trainer *trainer) {
    for (int32_t k = 0; k < trainer->shape.n_trials; k++)
        whole_scatter(trainer, k);
    return &trainer->evaluation;
}

const struct adapters *trainer_trained(struct trainer *trainer, const struct lora_layout **layout) {
    *layout = &trainer->lora;
    return &trainer->trained;
}

enum lvs_status trainer_batch(struct trainer *trainer, int32_t k, int32_t step, int32_t *windows,
                              struct lvs_error *err) {
    const struct compute *compute = trainer->compute;
    const int64_t row = (int64_t)k * trainer->shape.table_stride + step;
    assert(step >= 0 && step < trainer->trials[k].n_steps);
    compute->backend->download(compute->device, windows, trainer->tables.order + row * trainer->shape.batch,
                               (size_t)trainer->shape.batch * sizeof *windows);
    return compute->backend->synchronize(compute->device, err);
}

int32_t trainer_step(const struct trainer *trainer, int32_t k) {
    return trainer->trials[k].step;
}

double trainer_loss(const struct trainer *trainer, int32_t k) {
    const struct trainer_trial *mine = &trainer->trials[k];
    return mine->step > 0 ? mine->loss[mine->step - 1] : NAN;
}

bool trainer_diverged(const struct trainer *trainer, int32_t k) {
    return trainer->trials[k].diverged;
}

void trainer_leave(struct trainer *trainer, int32_t k) {
    trainer->trials[k].left = true;
}

double trainer_flops_executed(const struct trainer *trainer, int32_t k) {
    return trainer->trials[k].flops;
}

enum lvs_status trainer_curves(struct trainer *trainer, int32_t k, float *loss, float *gradient_norm,
                               struct lvs_error *err) {
    (void)err; /* the host keeps what it has looked at */
    const struct trainer_trial *mine = &trainer->trials[k];
    for (int32_t i = 0; i < mine->n_steps; i++) {
        loss[i] = i < mine->step ? mine->loss[i] : NAN;
        gradient_norm[i] = i < mine->step ? mine->gradient_norm[i] : NAN;
    }
    return LVS_OK;
}

enum lvs_status trainer_read_adapter(struct trainer *trainer, int32_t k, float *params, struct lvs_error *err) {
    const struct compute *compute = trainer->compute;
    whole_scatter(trainer, k);
    compute->backend->download(compute->device, params, trainer->evaluation.params + k * trainer->whole.stride,
                               (size_t)trainer->whole.stride * sizeof *params);
    return compute->backend->synchronize(compute->device, err);
}

enum lvs_status trainer_write_adapter(struct trainer *trainer, int32_t k, const float *params, struct lvs_error *err) {
    const struct compute *compute = trainer->compute;
    compute->backend->upload(compute->device, trainer->evaluation.params + k * trainer->whole.stride, params,
                             (size_t)trainer->whole.stride * sizeof *params);
    whole_gather(trainer, k);
    return compute->backend->synchronize(compute->device, err);
}
