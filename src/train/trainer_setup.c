/* Making a trainer: the pack is checked, device memory taken, and everything that the steps read is written there once.
 * No step runs here. */
#include "train_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/clock.h"
#include "optimizer.h"

/* ---- checks ---- */

static bool same_shape(const struct settings *a, const struct settings *b) {
    return a->context == b->context && a->batch == b->batch && a->lora_targets == b->lora_targets && a->head == b->head;
}

static enum lvs_status check_steps(const struct settings *settings, struct lvs_error *err) {
    if (settings->steps.unit != AMOUNT_COUNT)
        return lvs_fail(err, LVS_BUG, "the number of steps was not settled before training (steps = fill)");
    double steps = settings->steps.value;
    if (!(steps >= 0) || steps * settings->batch > INT32_MAX)
        return lvs_fail(err, LVS_USAGE, "steps = %.0f with batch = %d: steps × batch must not exceed %d", steps,
                        settings->batch, INT32_MAX);
    return LVS_OK;
}

static enum lvs_status check_options(const struct trainer_options *options, struct lvs_error *err) {
    const struct settings *first = &options->trials[0]->settings;
    for (int32_t k = 0; k < options->n_trials; k++) {
        const struct settings *settings = &options->trials[k]->settings;
        LVS_TRY(check_steps(settings, err));
        if (!same_shape(first, settings))
            return lvs_fail(err, LVS_BUG,
                            "trials %s and %s cannot share a pack: context, batch, targets or head differ",
                            options->trials[0]->name, options->trials[k]->name);
    }
    if (first->batch < 1 || options->windows->context != first->context)
        return lvs_fail(err, LVS_BUG, "batch %d, context %d, windows of %d tokens", first->batch, first->context,
                        options->windows->context);
    if (first->head == HEAD_WEIGHT && options->n_trials > 1)
        return lvs_fail(err, LVS_BUG, "head = weight trains one trial at a time, not %d", options->n_trials);
    if (options->windows->n_windows < 1)
        return lvs_fail(err, LVS_INPUT,
                        "the training split gives no window of %d tokens; give it more series or a shorter context",
                        first->context);
    return LVS_OK;
}

/* ---- what the steps read ---- */

static struct lora_layout pack_lora(const struct trainer_options *options, const struct model *model) {
    int32_t rank = 0;
    for (int32_t k = 0; k < options->n_trials; k++)
        if (options->trials[k]->settings.lora_rank > rank) rank = options->trials[k]->settings.lora_rank;
    const struct settings *settings = &options->trials[0]->settings;
    struct lora_layout lora;
    lora_layout_make(model_config(model), model_vocabulary(model), settings->lora_targets, lora_padded_rank(rank),
                     settings->head, &lora);
    return lora;
}

static const struct model *whole_model(const struct trainer_options *options) {
    return options->whole ? options->whole : options->model;
}

static void make_layouts(struct trainer *trainer, const struct trainer_options *options) {
    trainer->lora = pack_lora(options, options->model);
    trainer->whole = pack_lora(options, whole_model(options));
    if (!options->whole) return;
    const size_t bytes = (size_t)trainer->lora.n_vocabulary * sizeof *trainer->kept;
    trainer->kept = memcpy(lvs_malloc(bytes), options->kept, bytes);
}

static void upload(const struct trainer *trainer, void *target, const void *source, size_t bytes) {
    trainer->compute->backend->upload(trainer->compute->device, target, source, bytes);
}

static void upload_windows(const struct trainer *trainer, const struct window_set *windows) {
    size_t bytes = (size_t)windows->n_windows * (size_t)windows->context * sizeof(int32_t);
    upload(trainer, trainer->tables.window_ids, windows->ids, bytes);
    upload(trainer, trainer->tables.window_labels, windows->labels, bytes);
}

static enum lvs_status no_host_memory(int32_t n_steps, struct lvs_error *err) {
    return lvs_fail(err, LVS_LAUNCH, "no memory on the host for the tables of %d steps", n_steps);
}

static enum lvs_status upload_trial_tables(const struct trainer *trainer, int32_t k, struct lvs_error *err) {
    const struct trainer_shape *shape = &trainer->shape;
    const struct settings *settings = &trainer->trials[k].trial.settings;
    const int32_t n_steps = trainer->trials[k].n_steps;
    const int64_t row = (int64_t)k * shape->table_stride;
    const size_t n_order = (size_t)n_steps * (size_t)shape->batch, n_rates = (size_t)n_steps;
    int32_t *order = malloc((n_order + 1) * sizeof *order);
    float *rates = malloc((n_rates + 1) * sizeof *rates);
    if (order && rates) {
        batch_order(settings, shape->n_windows, n_steps, order);
        upload(trainer, trainer->tables.order + row * shape->batch, order, n_order * sizeof *order);
        for (int32_t i = 0; i < n_steps; i++)
            rates[i] = (float)schedule_learning_rate(settings, i, n_steps);
        upload(trainer, trainer->tables.learning_rate + row, rates, n_rates * sizeof *rates);
    }
    enum lvs_status status = order && rates ? LVS_OK : no_host_memory(n_steps, err);
    free(order);
    free(rates);
    return status;
}

/* Losses and norms as the host has seen them. */
static enum lvs_status make_curves(struct trainer_trial *mine, struct lvs_error *err) {
    mine->loss = calloc((size_t)mine->n_steps + 1, sizeof *mine->loss);
    mine->gradient_norm = calloc((size_t)mine->n_steps + 1, sizeof *mine->gradient_norm);
    return mine->loss && mine->gradient_norm ? LVS_OK : no_host_memory(mine->n_steps, err);
}

static void upload_trial_constants(const struct trainer *trainer, int32_t k) {
    const struct settings *settings = &trainer->trials[k].trial.settings;
    const struct trainer_tables *tables = &trainer->tables;
    float scale = (float)settings_lora_scale(settings), dropout = (float)settings->dropout;
    uint64_t seed = (uint64_t)settings->seed;
    struct optimizer_settings constants;
    optimizer_find(settings->optimizer)->constants(settings, &constants);
    upload(trainer, tables->scale + k, &scale, sizeof scale);
    upload(trainer, tables->dropout + k, &dropout, sizeof dropout);
    upload(trainer, tables->seed + k, &seed, sizeof seed);
    upload(trainer, tables->optimizer + k, &constants, sizeof constants);
}

static enum lvs_status start_adapter(struct trainer *trainer, const struct trainer_options *options, int32_t k,
                                     struct lvs_error *err) {
    if (options->start && options->start[k]) return trainer_write_adapter(trainer, k, options->start[k], err);
    float *params = lvs_calloc((size_t)trainer->whole.stride, sizeof *params);
    enum lvs_status status =
        lora_init(whole_model(options), &trainer->whole, &trainer->trials[k].trial.settings, params, err);
    if (status == LVS_OK) status = trainer_write_adapter(trainer, k, params, err);
    free(params);
    return status;
}

/* ---- life ---- */

static void make_views(struct trainer *trainer) {
    const struct trainer_tables *tables = &trainer->tables;
    bool any_dropout = false;
    for (int32_t k = 0; k < trainer->shape.n_trials; k++)
        any_dropout |= trainer->trials[k].trial.settings.dropout > 0;
    trainer->training = (struct adapters){
        .params = tables->params,
        .grads = tables->grads,
        .stride = trainer->lora.stride,
        .scale = tables->scale,
        .dropout = any_dropout ? tables->dropout : NULL,
        .seed = tables->seed,
        .step = tables->step,
    };
    trainer->trained = trainer->training;
    trainer->trained.grads = NULL;
    trainer->trained.dropout = NULL;
    trainer->evaluation = trainer->trained;
    trainer->evaluation.params = tables->whole ? tables->whole : tables->params;
    trainer->evaluation.stride = trainer->whole.stride;
}

static void make_trials(struct trainer *trainer, const struct trainer_options *options) {
    const int32_t n = options->n_trials;
    trainer->trials = lvs_calloc((size_t)n, sizeof *trainer->trials);
    trainer->active = lvs_calloc((size_t)n, sizeof *trainer->active);
    const struct settings *first = &options->trials[0]->settings;
    trainer->shape = (struct trainer_shape){
        .n_trials = n,
        .n_windows = options->windows->n_windows,
        .context = first->context,
        .batch = first->batch,
        .table_stride = 1,
        .stride = trainer->lora.stride,
        .whole_stride = trainer->kept && first->head != HEAD_FROZEN ? trainer->whole.stride : 0,
    };
    for (int32_t k = 0; k < n; k++) {
        struct trainer_trial *mine = &trainer->trials[k];
        mine->trial = *options->trials[k];
        mine->n_steps = (int32_t)mine->trial.settings.steps.value;
        if (mine->n_steps > trainer->shape.table_stride) trainer->shape.table_stride = mine->n_steps;
    }
}

static enum lvs_status fill(struct trainer *trainer, const struct trainer_options *options, struct lvs_error *err) {
    const struct pass_options pass = {
        .n_slots = options->n_trials,
        .n_sequences = trainer->shape.batch,
        .context = trainer->shape.context,
        .backward = true,
        .skip_tiles = options->skip_tiles,
        .lora = &trainer->lora,
    };
    LVS_TRY(tables_allocate(trainer->compute, &trainer->shape, &trainer->tables, err));
    LVS_TRY(pass_create(options->model, &pass, &trainer->pass, err));
    make_views(trainer);
    upload_windows(trainer, options->windows);
    for (int32_t k = 0; k < options->n_trials; k++) {
        LVS_TRY(make_curves(&trainer->trials[k], err));
        LVS_TRY(upload_trial_tables(trainer, k, err));
        upload_trial_constants(trainer, k);
        LVS_TRY(start_adapter(trainer, options, k, err));
    }
    return trainer->compute->backend->synchronize(trainer->compute->device, err);
}

enum lvs_status trainer_create(const struct trainer_options *options, struct trainer **out, struct lvs_error *err) {
    *out = NULL;
    if (options->n_trials < 1) return lvs_fail(err, LVS_BUG, "a pack of %d trials", options->n_trials);
    LVS_TRY(check_options(options, err));
    struct trainer *trainer = lvs_calloc(1, sizeof *trainer);
    trainer->compute = model_compute(options->model);
    make_layouts(trainer, options);
    trainer->chunk_steps = 1;
    trainer->asked = clock_steady();
    make_trials(trainer, options);
    enum lvs_status status = fill(trainer, options, err);
    if (status != LVS_OK) {
        trainer_destroy(trainer);
        return status;
    }
    *out = trainer;
    return LVS_OK;
}

void trainer_destroy(struct trainer *trainer) {
    if (!trainer) return;
    if (trainer->graph) trainer->compute->backend->graph_destroy(trainer->compute->device, trainer->graph);
    if (trainer->pass) pass_destroy(trainer->pass);
    tables_release(trainer->compute, &trainer->tables);
    for (int32_t k = 0; k < trainer->shape.n_trials; k++) {
        free(trainer->trials[k].loss);
        free(trainer->trials[k].gradient_norm);
    }
    free(trainer->trials);
    free(trainer->active);
    free(trainer->kept);
    free(trainer);
}

int64_t trainer_bytes(const struct qwen2_config *config, const struct settings *settings, int32_t n_vocabulary,
                      int32_t n_trials, size_t act_size) {
    struct lora_layout lora;
    lora_layout_make(config, n_vocabulary, settings->lora_targets, lora_padded_rank(settings->lora_rank),
                     settings->head, &lora);
    double steps = settings->steps.unit == AMOUNT_COUNT ? settings->steps.value : 0;
    const struct trainer_shape shape = {
        .n_trials = n_trials,
        .context = settings->context,
        .batch = settings->batch,
        .table_stride = steps < 1           ? 1
                        : steps > INT32_MAX ? INT32_MAX
                                            : (int32_t)steps,
        .stride = lora.stride,
    };
    const struct pass_options pass = {
        .n_slots = n_trials,
        .n_sequences = settings->batch,
        .context = settings->context,
        .backward = true,
        .lora = &lora,
    };
    return tables_bytes(&shape) + pass_bytes(config, &pass, act_size);
}
