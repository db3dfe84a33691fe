/* The planner: a stage's points as trials with names, keys and prices. */
#include <stdlib.h>
#include <string.h>

#include "facts_internal.h"
#include "lvsweep/grid.h"

/* Rows of a step (batch · context · trials) beyond which a device gains nothing: 16 trials of 4 windows of 128. */
#define PACK_AUTO_ROWS   8192
#define PACK_AUTO_TRIALS 16

void stage_points_free(struct stage_points *points) {
    free(points->trials);
    free(points->values);
    *points = (struct stage_points){0};
}

static enum lvs_status adapter_hash(const struct config *config, const char *folder, char out[LVS_HASH_TEXT],
                                    struct lvs_error *err) {
    char whole[LVS_PATH_MAX], file[LVS_PATH_MAX];
    LVS_TRY(file_resolve(whole, config->folder, folder, err));
    LVS_TRY(file_join(file, whole, "adapter_model.safetensors", err));
    return hash_file(file, out, err);
}

static void split_hash(const struct split *split, char out[LVS_HASH_TEXT]) {
    struct strbuf bytes;
    strbuf_init(&bytes);
    for (int part = 0; part < SPLIT_COUNT; part++) {
        strbuf_add_bytes(&bytes, (const char *)&split->n[part], sizeof split->n[part]);
        strbuf_add_bytes(&bytes, (const char *)split->rows[part], (size_t)split->n[part] * sizeof(int32_t));
    }
    strbuf_add_bytes(&bytes, (const char *)split->time_cut, sizeof split->time_cut);
    hash_bytes(bytes.text, bytes.length, out);
    strbuf_free(&bytes);
}

static enum lvs_status identity_make(const struct sweep_planner *planner, const struct settings *settings,
                                     const struct trial *best, struct trial_identity *out, struct lvs_error *err) {
    const struct sweep_facts *facts = planner->facts;
    memset(out, 0, sizeof *out);
    lvs_copy(out->data_hash, sizeof out->data_hash, facts->material.set.hash);
    split_hash(&facts->material.split, out->split_hash);
    lvs_copy(out->weights_hash, sizeof out->weights_hash, facts->weights_hash);
    lvs_copy(out->backend, sizeof out->backend, facts->backend);
    lvs_copy(out->precision, sizeof out->precision, facts->precision);
    tokenizer_write_ends(&facts->material.tokenizer, out->ends);
    if (strcmp(settings->from_adapter, "none") == 0 || !settings->from_adapter[0]) return LVS_OK;
    if (strcmp(settings->from_adapter, "best") != 0)
        return adapter_hash(planner->config, settings->from_adapter, out->parent_key, err);
    if (best) lvs_copy(out->parent_key, sizeof out->parent_key, best->train_key);
    return LVS_OK;
}

/* Whether a trial is the first of its context and decimals that wants the bare model measured. */
static bool measures_baseline(const struct sweep_planner *planner, const struct settings *settings) {
    if (!(settings->baselines >> BASELINE_UNTRAINED & 1)) return false;
    for (int32_t i = 0; i < planner->n_measured; i++)
        if (planner->measured[i].context == settings->context && planner->measured[i].decimals == settings->decimals)
            return false;
    return planner->n_measured < PLANNER_MAX_BASELINES;
}

/* What a trial is charged for the bare model beside its own evaluation. */
static enum lvs_status baseline_price(const struct sweep_planner *planner, const struct settings *settings,
                                      int64_t *out, struct lvs_error *err) {
    struct settings bare = *settings;
    *out = 0;
    if (!measures_baseline(planner, settings)) return LVS_OK;
    narrow_second_pass(&bare);
    return evaluation_price(planner->config, planner->facts, &bare, false, out, err);
}

/* Every `every`-th step is followed by an evaluation of its own. */
static __int128 steps_bought(__int128 room, const struct trial_price *price, int32_t every) {
    if (every <= 0) return room / price->step;
    __int128 round = (__int128)price->step * every + price->periodic, rest = room % round / price->step;
    return room / round * every + (rest < every ? rest : every - 1);
}

/* `fill`: as many steps as what is left for the stage buys, with all evaluations that are charged with them. */
static enum lvs_status resolve_fill(const struct sweep_planner *planner, int32_t stage, __int128 budget_left,
                                    struct settings *settings, struct lvs_error *err) {
    if (settings->steps.unit != AMOUNT_FILL) return LVS_OK;
    struct trial_price price;
    int64_t baseline;
    settings->steps = (struct amount){.unit = AMOUNT_COUNT, .value = 1};
    LVS_TRY(trial_price_make(planner->config, planner->facts, settings, &price, err));
    LVS_TRY(baseline_price(planner, settings, &baseline, err));
    double share = planner->config->stages[stage].share;
    __int128 room = share > 0 ? (__int128)(planner->config->flops_cap * share / 100) : budget_left;
    if (room > budget_left) room = budget_left;
    bool counts = planner->config->count == COUNT_TRAINING_EVALUATION;
    int32_t every = counts ? settings->every : 0;
    if (counts) room -= (__int128)price.evaluation - (every == 1 ? price.periodic : 0) + baseline;
    __int128 steps = steps_bought(room, &price, every);
    if (steps < 1)
        return lvs_fail(err, LVS_BUDGET, "[stage.%s] steps = fill: what is left of the budget does not buy one step",
                        planner->config->stages[stage].name);
    settings->steps.value = steps > 100000000 ? 1e8 : (double)steps;
    return LVS_OK;
}

static bool always(const struct settings *settings) {
    (void)settings;
    return true;
}

/* What tests/parity/test_packs compared on cards, bit by bit (docs/performance.md): every head but a trained one over
 * the whole vocabulary whose gradient leaves out no tile. */
static bool compared_with_biases(const struct settings *settings) {
    return settings->head != HEAD_WEIGHT && settings->context <= 768;
}
static bool compared_frozen(const struct settings *settings) {
    return settings->head == HEAD_FROZEN && settings->context <= 768;
}
static bool never(const struct settings *settings) {
    (void)settings;
    return false;
}

/* Where a pack gives the bits of its trials alone its width is nobody's business; elsewhere it is in the key. */
static bool (*packs_exactly(const struct config *config, const struct sweep_facts *facts))(const struct settings *) {
    if (strcmp(facts->backend, "cpu") == 0) return always;
    if (config->precision == PRECISION_FP32) return never;
    return config->skip_tiles || config->vocabulary == VOCABULARY_TEXT ? compared_with_biases : compared_frozen;
}

/* pack = auto: as many as fill a device, where that changes no bit. A CPU is full with one trial. */
static int32_t widest_pack(const struct config *config, const struct sweep_facts *facts) {
    if (config->pack > 0) return config->pack;
    return strcmp(facts->backend, "cpu") == 0 ? 1 : PACK_AUTO_TRIALS;
}

static enum lvs_status point_of_room(const struct sweep_planner *planner, int32_t stage, const struct trial *best,
                                     __int128 budget_left, const struct settings *settings, struct trial *out,
                                     struct lvs_error *err) {
    memset(out, 0, sizeof *out);
    out->settings = *settings;
    out->stage = stage;
    out->parent = best ? best->index : -1;
    bool exact = packs_exactly(planner->config, planner->facts)(settings);
    out->pack_width = exact || planner->config->pack < 1 ? 1 : planner->config->pack;
    if (best && strcmp(settings->from_adapter, "best") == 0)
        lvs_copy(out->parent_name, sizeof out->parent_name, best->name);
    LVS_TRY(resolve_fill(planner, stage, budget_left, &out->settings, err));
    LVS_TRY(trial_price_make(planner->config, planner->facts, &out->settings, &out->price, err));
    if (facts_check_room(planner->config, planner->facts, &out->settings, err) != LVS_OK)
        return lvs_error_prefix(err, "%s: [stage.%s]", planner->config->path, planner->config->stages[stage].name);
    struct trial_identity identity;
    LVS_TRY(identity_make(planner, &out->settings, best, &identity, err));
    trial_keys_make(planner->config, out, &identity);
    trial_name_make(planner->config, out);
    return LVS_OK;
}

/* steps = fill: as in the earlier run where that leads to one of its trials, else as many as are affordable now. */
static enum lvs_status point_make(const struct sweep_planner *planner, int32_t stage, const struct trial *best,
                                  const struct fill_room *room, const struct settings *settings, struct trial *out,
                                  struct lvs_error *err) {
    for (int32_t i = 0; settings->steps.unit == AMOUNT_FILL && i < room->n_earlier; i++) {
        struct lvs_error ignored;
        enum lvs_status status = point_of_room(planner, stage, best, room->earlier[i], settings, out, &ignored);
        if (status == LVS_OK && coordinator_has_trained(room->known, out->train_key)) return LVS_OK;
    }
    return point_of_room(planner, stage, best, room->left, settings, out, err);
}

/* The first trial of every (context, decimals) in the sweep also measures the untrained model, and pays for it. */
static enum lvs_status add_baselines(struct sweep_planner *planner, struct stage_points *points,
                                     struct lvs_error *err) {
    for (int32_t i = 0; i < points->n; i++) {
        struct trial *trial = &points->trials[i];
        int64_t price;
        if (!measures_baseline(planner, &trial->settings)) continue;
        LVS_TRY(baseline_price(planner, &trial->settings, &price, err));
        planner->measured[planner->n_measured].context = trial->settings.context;
        planner->measured[planner->n_measured++].decimals = trial->settings.decimals;
        trial->baseline = 1;
        trial->price.baseline = price;
        trial->price.evaluation += price;
        if (planner->config->count == COUNT_TRAINING_EVALUATION) trial->price.counted += price;
    }
    return LVS_OK;
}

/* The first pass's trial on the series of both: another evaluation of the same weights. */
static enum lvs_status planner_second_pass(void *context, const struct trial *first, struct trial *out,
                                           struct lvs_error *err) {
    struct sweep_planner *planner = context;
    struct trial_identity identity = {0};
    struct strbuf text;
    *out = *first;
    out->baseline = 0;
    narrow_second_pass(&out->settings);
    out->settings.loss = 0; /* equal weights have equal losses: the coordinator hands them on */
    LVS_TRY(trial_price_make(planner->config, planner->facts, &out->settings, &out->price, err));
    tokenizer_write_ends(&planner->facts->material.tokenizer, identity.ends);
    strbuf_init(&text);
    trial_key_text(planner->config, out, &identity, true, &text);
    hash_bytes(text.text, text.length, out->eval_key);
    strbuf_free(&text);
    return LVS_OK;
}

/* Where the points lie in the grid, for rules that look along its axes. */
static void take_axes(const struct grid_points *grid, struct stage_points *out) {
    size_t n = (size_t)grid->n_points * (size_t)grid->n_axes;
    out->n_axes = grid->n_axes;
    out->values = memcpy(lvs_malloc(n * sizeof *out->values + 1), grid->values, n * sizeof *out->values);
    for (int32_t a = 0; a < grid->n_axes && a < STAGE_AXES_MAX; a++)
        lvs_copy(out->axis_name[a], sizeof out->axis_name[a], config_key_name(grid->axes[a]->key));
}

static enum lvs_status planner_points(void *context, int32_t stage, const struct trial *best,
                                      const struct fill_room *room, struct stage_points *out, struct lvs_error *err) {
    struct sweep_planner *planner = context;
    struct grid_points grid = {0};
    enum lvs_status status = grid_stage_trials(planner->config, stage, best ? &best->settings : NULL, &grid, err);
    if (status != LVS_OK) lvs_error_prefix(err, "%s", planner->config->path);
    out->trials = lvs_calloc((size_t)grid.n_points, sizeof *out->trials);
    for (int32_t i = 0; status == LVS_OK && i < grid.n_points; i++) {
        status = point_make(planner, stage, best, room, &grid.settings[i], &out->trials[i], err);
        out->n = i + 1;
    }
    if (status == LVS_OK) take_axes(&grid, out);
    grid_points_free(&grid);
    if (status == LVS_OK) status = add_baselines(planner, out, err);
    if (status != LVS_OK) stage_points_free(out);
    return status;
}

struct planner sweep_planner_make(struct sweep_planner *context) {
    return (struct planner){.context = context, .stage_points = planner_points, .second_pass = planner_second_pass};
}

void coordinator_options_make(const struct config *config, const struct sweep_facts *facts, int32_t n_workers,
                              struct coordinator_options *out) {
    double *share = lvs_calloc((size_t)config->n_stages, sizeof *share);
    bool *from_best = lvs_calloc((size_t)config->n_stages, sizeof *from_best);
    for (int32_t i = 0; i < config->n_stages; i++) {
        share[i] = config->stages[i].share;
        from_best[i] = config->stages[i].from_best;
    }
    *out = (struct coordinator_options){
        .n_stages = config->n_stages,
        .n_workers = n_workers,
        .stage_share = share,
        .stage_from_best = from_best,
        .flops_cap = config->flops_cap,
        .trials_cap = (int32_t)config->trials_cap,
        .over = (enum over_mode)config->over,
        .lost = (enum lost_mode)config->lost,
        .count_evaluation = config->count == COUNT_TRAINING_EVALUATION,
        .retries = config->retries,
        .quarantine_after = config->quarantine_after,
        .pack = widest_pack(config, facts),
        .pack_rows = config->pack > 0 ? 0 : PACK_AUTO_ROWS,
        .packs_exactly = packs_exactly(config, facts),
        .n_channel = facts->material.set.n_channel,
        .stop_rule = (enum stop_rule)config->stop_rule,
        .stop_factor = config->stop_factor,
        .stop_min_steps = config->stop_min_steps,
        .trend_skip = config->trend_skip,
    };
    const struct series_set *set = &facts->material.set;
    metric_number_channel(config->metric, set->channel_name, set->n_channel, out->metric, sizeof out->metric);
}

void coordinator_options_free(struct coordinator_options *options) {
    free((void *)options->stage_share);
    free((void *)options->stage_from_best);
}
