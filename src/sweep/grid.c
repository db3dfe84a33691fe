/* From a stage's axes to its points, and from a trial's settings to its name and keys. Pure: no clock, no disk, no
 * messages. The values were parsed with the config, so setting them here cannot fail. */
#include "lvsweep/grid.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- points ---- */

static void set_value(struct settings *settings, const struct config_axis *axis, int32_t value) {
    enum lvs_status status = settings_set(settings, axis->key, axis->values[value], NULL);
    assert(status == LVS_OK);
    (void)status;
}

/* What the stage's points have in common: the base and the keys with one value. */
static void common_settings(const struct config *config, const struct config_stage *stage, const struct settings *base,
                            struct settings *out) {
    memcpy(out, base ? base : &config->defaults, sizeof *out);
    if (strcmp(out->from_adapter, "best") == 0)
        memcpy(out->from_adapter, config->defaults.from_adapter, sizeof out->from_adapter);
    for (int32_t a = 0; a < stage->n_axes; a++)
        if (stage->axes[a].n_values == 1) set_value(out, &stage->axes[a], 0);
}

static enum lvs_status count_points(const struct config_stage *stage, int64_t *n_points, int32_t *n_axes,
                                    struct lvs_error *err) {
    *n_points = 1;
    *n_axes = 0;
    for (int32_t a = 0; a < stage->n_axes; a++) {
        *n_axes += stage->axes[a].n_values > 1;
        *n_points *= stage->axes[a].n_values;
        if (*n_points > GRID_MAX_POINTS)
            return lvs_fail(err, LVS_USAGE, "[stage.%s] has more than %d points; split it, or give fewer values",
                            stage->name, GRID_MAX_POINTS);
    }
    return LVS_OK;
}

/* Which value of each axis point number `point` of the full grid has. */
static void point_values(const struct grid_points *points, int64_t point, int32_t *values) {
    for (int32_t a = points->n_axes - 1; a >= 0; a--) {
        values[a] = (int32_t)(point % points->axes[a]->n_values);
        point /= points->axes[a]->n_values;
    }
}

static int compare_settings(const void *left, const void *right) {
    return memcmp(*(const struct settings *const *)left, *(const struct settings *const *)right,
                  sizeof(struct settings));
}

/* Settings are zeroed before they are filled, so equal points are equal bytes. */
static enum lvs_status refuse_duplicates(const struct grid_points *points, const char *stage, struct lvs_error *err) {
    const struct settings **sorted = lvs_malloc((size_t)points->n_points * sizeof *sorted);
    int32_t twin = -1;
    for (int32_t i = 0; i < points->n_points; i++)
        sorted[i] = &points->settings[i];
    qsort(sorted, (size_t)points->n_points, sizeof *sorted, compare_settings);
    for (int32_t i = 1; i < points->n_points && twin < 0; i++)
        if (compare_settings(&sorted[i - 1], &sorted[i]) == 0) twin = (int32_t)(sorted[i] - points->settings);
    free(sorted);
    if (twin < 0) return LVS_OK;
    struct strbuf text;
    strbuf_init(&text);
    grid_point_text(points, twin, &text);
    lvs_fail(err, LVS_USAGE, "[stage.%s]: the point %s is there twice", stage, text.text ? text.text : "");
    strbuf_free(&text);
    return LVS_USAGE;
}

enum lvs_status grid_stage_trials(const struct config *config, int32_t stage, const struct settings *base,
                                  struct grid_points *out, struct lvs_error *err) {
    assert(stage >= 0 && stage < config->n_stages);
    const struct config_stage *here = &config->stages[stage];
    struct settings common;
    int64_t n_points;
    *out = (struct grid_points){0};
    LVS_TRY(count_points(here, &n_points, &out->n_axes, err));
    common_settings(config, here, base, &common);
    out->axes = lvs_calloc((size_t)out->n_axes, sizeof *out->axes);
    out->values = lvs_calloc((size_t)n_points * (size_t)out->n_axes, sizeof *out->values);
    out->settings = lvs_calloc((size_t)n_points, sizeof *out->settings);
    for (int32_t a = 0, n = 0; a < here->n_axes; a++)
        if (here->axes[a].n_values > 1) out->axes[n++] = &here->axes[a];
    for (int64_t point = 0; point < n_points; point++) {
        struct settings *settings = &out->settings[out->n_points];
        int32_t *values = &out->values[(size_t)out->n_points * (size_t)out->n_axes];
        memcpy(settings, &common, sizeof common);
        point_values(out, point, values);
        for (int32_t a = 0; a < out->n_axes; a++)
            set_value(settings, out->axes[a], values[a]);
        if (!config_stage_skips(here, settings)) out->n_points++;
    }
    if (out->n_points == 0)
        return lvs_fail(err, LVS_USAGE, "[stage.%s] skip leaves out every point (%s)", here->name, here->skip);
    return refuse_duplicates(out, here->name, err);
}

void grid_points_free(struct grid_points *points) {
    free(points->settings);
    free(points->axes);
    free(points->values);
    *points = (struct grid_points){0};
}

void grid_point_text(const struct grid_points *points, int32_t point, struct strbuf *out) {
    for (int32_t a = 0; a < points->n_axes; a++) {
        const struct config_axis *axis = points->axes[a];
        int32_t value = points->values[(size_t)point * (size_t)points->n_axes + (size_t)a];
        strbuf_printf(out, "%s%s=%s", a ? " " : "", config_key_name(axis->key), axis->values[value]);
    }
}

/* ---- keys ---- */

static void add_line(const char *name, const char *value, struct strbuf *out) {
    if (value[0]) strbuf_printf(out, "%s=%s\n", name, value);
}

void trial_key_text(const struct config *config, const struct trial *trial, const struct trial_identity *identity,
                    bool evaluate, struct strbuf *out) {
    if (evaluate) {
        add_line("train_key", trial->train_key, out);
        add_line("ends", identity->ends, out);
        config_write_hashed(config, &trial->settings, KEY_EFFECT_EVALUATE, out);
        return;
    }
    strbuf_printf(out, "numerics=%d\n", LVS_NUMERICS_VERSION);
    add_line("data", identity->data_hash, out);
    add_line("split_rows", identity->split_hash, out);
    add_line("weights", identity->weights_hash, out);
    add_line("parent", identity->parent_key, out);
    add_line("backend", identity->backend, out);
    add_line("precision", identity->precision, out);
    if (trial->pack_width > 1) strbuf_printf(out, "pack_width=%d\n", trial->pack_width);
    config_write_hashed(config, &trial->settings, KEY_EFFECT_TRAIN, out);
}

void trial_keys_make(const struct config *config, struct trial *trial, const struct trial_identity *identity) {
    assert(trial->settings.steps.unit == AMOUNT_COUNT);
    struct strbuf text;
    strbuf_init(&text);
    trial_key_text(config, trial, identity, false, &text);
    hash_bytes(text.text, text.length, trial->train_key);
    strbuf_clear(&text);
    trial_key_text(config, trial, identity, true, &text);
    hash_bytes(text.text, text.length, trial->eval_key);
    strbuf_free(&text);
}

/* ---- names ---- */

static bool is_always_named(const char *key) {
    static const char *const always[] = {"rank", "learning_rate", "context", "seed"};
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++)
        if (strcmp(key, always[i]) == 0) return true;
    return false;
}

static int compare_keys(const void *left, const void *right) {
    return strcmp(config_key_name(*(const struct config_key *const *)left),
                  config_key_name(*(const struct config_key *const *)right));
}

#define NAMED_AXES_MAX 64 /* more than there are settings */

/* Axes of any stage that are not named always, by key name. */
static int32_t other_axes(const struct config *config, const struct config_key *keys[NAMED_AXES_MAX]) {
    int32_t n = 0;
    for (int32_t s = 0; s < config->n_stages; s++) {
        for (int32_t a = 0; a < config->stages[s].n_axes; a++) {
            const struct config_axis *axis = &config->stages[s].axes[a];
            bool known = axis->n_values < 2 || is_always_named(config_key_name(axis->key));
            for (int32_t k = 0; k < n && !known; k++)
                known = keys[k] == axis->key;
            if (!known && n < NAMED_AXES_MAX) keys[n++] = axis->key;
        }
    }
    if (n > 1) qsort(keys, (size_t)n, sizeof keys[0], compare_keys);
    return n;
}

static void add_setting(const struct settings *settings, const char *prefix, const struct config_key *key,
                        struct strbuf *out) {
    size_t start;
    strbuf_add(out, prefix);
    start = out->length;
    settings_get(settings, key, out);
    for (char *c = out->text + start; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._+-=", *c)) *c = '_';
}

#define KEY_DIGITS 6

/* Appends the start of the train_key. With too many axes for a name it is cut, and a hash of all of it put in their
 * place, so that trials which differ in the part that is cut keep their own folders. */
static void finish_name(struct strbuf *name, struct trial *trial) {
    char hash[LVS_HASH_TEXT];
    size_t room = sizeof trial->name - 1 - (KEY_DIGITS + 1);
    if (name->length > room) {
        hash_bytes(name->text, name->length, hash);
        name->length = room - (KEY_DIGITS + 1);
        strbuf_printf(name, "-%.*s", KEY_DIGITS, hash);
    }
    strbuf_printf(name, "-%.*s", KEY_DIGITS, trial->train_key);
    lvs_copy(trial->name, sizeof trial->name, name->text);
}

void trial_name_make(const struct config *config, struct trial *trial) {
    static const struct {
        const char *prefix, *key;
    } first[] = {{"r", "rank"}, {"-lr", "learning_rate"}, {"-c", "context"}, {"-s", "seed"}};
    const struct config_key *keys[NAMED_AXES_MAX];
    struct strbuf name;
    char prefix[80];
    strbuf_init(&name);
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++)
        add_setting(&trial->settings, first[i].prefix, config_key_find_setting(first[i].key), &name);
    int32_t n = other_axes(config, keys);
    for (int32_t k = 0; k < n; k++) {
        const char *key = config_key_name(keys[k]);
        snprintf(prefix, sizeof prefix, strcmp(key, "decimals") == 0 ? "-d" : "-%.60s=", key);
        add_setting(&trial->settings, prefix, keys[k], &name);
    }
    finish_name(&name, trial);
    strbuf_free(&name);
}
