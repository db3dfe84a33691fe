/* [stage.NAME] sections: axes (a setting with its values, kept as canonical text, in enumeration order) and `skip`.
 * A stage's values have all been parsed once here, so later settings_set of the same text cannot fail. */
#include <stdlib.h>
#include <string.h>

#include "config_internal.h"

#define AXIS_VALUES_MAX 1000

struct stage_reader {
    const struct ini *ini;
    struct config_errors *errors;
};

static bool axis_has(const struct config_axis *axis, const char *value) {
    for (int32_t i = 0; i < axis->n_values; i++)
        if (strcmp(axis->values[i], value) == 0) return true;
    return false;
}

/* Adds one value in canonical form; the message is complete but for its place. */
static enum lvs_status axis_add(struct config_axis *axis, const char *value, struct lvs_error *err) {
    struct settings scratch;
    memset(&scratch, 0, sizeof scratch);
    struct strbuf text;
    LVS_TRY(settings_set(&scratch, axis->key, value, err));
    strbuf_init(&text);
    settings_get(&scratch, axis->key, &text);
    enum lvs_status status = LVS_OK;
    if (axis_has(axis, text.text))
        status = lvs_fail(err, LVS_USAGE, "%.80s is there twice; keep one", value);
    else if (axis->n_values == AXIS_VALUES_MAX)
        status = lvs_fail(err, LVS_USAGE, "more than %d values; split the stage", AXIS_VALUES_MAX);
    else {
        axis->values = lvs_realloc(axis->values, (size_t)(axis->n_values + 1) * sizeof *axis->values);
        lvs_copy(axis->values[axis->n_values++], CONFIG_TEXT_MAX, text.text);
    }
    strbuf_free(&text);
    return status;
}

static void read_axis(struct stage_reader *reader, struct config_stage *stage, const struct config_key *key,
                      const struct ini_entry *entry) {
    struct config_axis axis = {.key = key};
    char value[CONFIG_TEXT_MAX];
    const char *cursor = entry->value;
    while (word_next(&cursor, ',', value, sizeof value)) {
        struct lvs_error err;
        if (axis_add(&axis, value, &err) != LVS_OK)
            ini_error(reader->errors, reader->ini, entry, "%s%s", err.text, list_hint(value));
    }
    if (axis.n_values == 0) {
        free(axis.values);
        return;
    }
    stage->axes = lvs_realloc(stage->axes, (size_t)(stage->n_axes + 1) * sizeof *stage->axes);
    stage->axes[stage->n_axes++] = axis;
}

static int compare_axes(const void *left, const void *right) {
    const struct config_axis *a = left, *b = right;
    return key_axis_compare(a->key, b->key);
}

static const struct config_axis *find_axis(const struct config_stage *stage, const char *name) {
    for (int32_t i = 0; i < stage->n_axes; i++)
        if (strcmp(stage->axes[i].key->name, name) == 0) return &stage->axes[i];
    return NULL;
}

/* ---- skip = rank=2 & learning_rate=1e-5 | rank=8 ---- */

/* "key=value" into its two parts. */
static bool split_condition(const char *condition, char name[64], char value[CONFIG_TEXT_MAX]) {
    const char *cursor = condition;
    if (!word_next(&cursor, '=', name, 64) || !cursor) return false;
    lvs_copy(value, CONFIG_TEXT_MAX, cursor);
    word_strip(value);
    return name[0] && value[0];
}

/* One condition, checked against the stage's axes and appended in canonical form. */
static enum lvs_status check_condition(const struct stage_reader *reader, const struct config_stage *stage,
                                       const char *condition, struct strbuf *out, struct lvs_error *err) {
    char name[64], value[CONFIG_TEXT_MAX], section[80];
    if (!split_condition(condition, name, value))
        return lvs_fail(err, LVS_USAGE,
                        "\"%.80s\" is no condition; allowed: none, or conditions such as rank=2 & "
                        "learning_rate=1e-5 | rank=8",
                        condition);
    const struct config_axis *axis = find_axis(stage, name);
    snprintf(section, sizeof section, "stage.%s", stage->name);
    if (!axis && ini_find(reader->ini, section, name)) return LVS_OK; /* its values were errors already */
    if (!axis) return lvs_fail(err, LVS_USAGE, "%s is not set in this stage; allowed: keys that the stage sets", name);
    struct settings scratch;
    memset(&scratch, 0, sizeof scratch);
    struct lvs_error found;
    if (settings_set(&scratch, axis->key, value, &found) != LVS_OK)
        return lvs_fail(err, LVS_USAGE, "%s: %.1800s", name, found.text);
    size_t start = out->length + strlen(name) + 1;
    strbuf_printf(out, "%s=", name);
    settings_get(&scratch, axis->key, out);
    if (axis_has(axis, out->text + start)) return LVS_OK;
    struct strbuf values;
    strbuf_init(&values);
    for (int32_t i = 0; i < axis->n_values; i++)
        strbuf_printf(&values, "%s%s", i ? ", " : "", axis->values[i]);
    lvs_fail(err, LVS_USAGE, "%s=%s is no value of this stage; allowed: %.1500s", name, out->text + start, values.text);
    strbuf_free(&values);
    return LVS_USAGE;
}

static enum lvs_status check_skip(const struct stage_reader *reader, const struct config_stage *stage,
                                  struct strbuf *out, struct lvs_error *err) {
    char point[CONFIG_TEXT_MAX], condition[CONFIG_TEXT_MAX];
    const char *points = stage->skip;
    for (int p = 0; word_next(&points, '|', point, sizeof point); p++) {
        if (p > 0) strbuf_add(out, " | ");
        const char *conditions = point;
        for (int c = 0; word_next(&conditions, '&', condition, sizeof condition); c++) {
            if (c > 0) strbuf_add(out, " & ");
            LVS_TRY(check_condition(reader, stage, condition, out, err));
        }
    }
    if (out->length >= sizeof stage->skip)
        return lvs_fail(err, LVS_USAGE, "%zu characters are more than the %zu allowed", out->length,
                        sizeof stage->skip - 1);
    return LVS_OK;
}

/* Checks skip and rewrites it in canonical form, so that reading what was written gives the same. */
static void read_skip(struct stage_reader *reader, struct config_stage *stage, const struct ini_entry *entry) {
    if (!entry || strcmp(stage->skip, "none") == 0) return;
    struct strbuf canonical;
    struct lvs_error err;
    strbuf_init(&canonical);
    strbuf_add(&canonical, "");
    if (check_skip(reader, stage, &canonical, &err) != LVS_OK)
        ini_error(reader->errors, reader->ini, entry, "%s", err.text);
    else
        lvs_copy(stage->skip, sizeof stage->skip, canonical.text);
    strbuf_free(&canonical);
}

static bool condition_holds(const struct settings *settings, const char *condition) {
    char name[64], value[CONFIG_TEXT_MAX];
    if (!split_condition(condition, name, value)) return false;
    const struct config_key *key = config_key_find_setting(name);
    if (!key) return false;
    struct strbuf text;
    strbuf_init(&text);
    settings_get(settings, key, &text);
    bool equal = strcmp(text.text, value) == 0;
    strbuf_free(&text);
    return equal;
}

bool config_stage_skips(const struct config_stage *stage, const struct settings *settings) {
    char point[CONFIG_TEXT_MAX], condition[CONFIG_TEXT_MAX];
    const char *points = strcmp(stage->skip, "none") == 0 ? NULL : stage->skip;
    while (word_next(&points, '|', point, sizeof point)) {
        bool holds = true;
        const char *conditions = point;
        while (holds && word_next(&conditions, '&', condition, sizeof condition))
            holds = condition_holds(settings, condition);
        if (holds) return true;
    }
    return false;
}

/* ---- stages ---- */

static void stage_free(struct config_stage *stage) {
    for (int32_t i = 0; i < stage->n_axes; i++)
        free(stage->axes[i].values);
    free(stage->axes);
    memset(stage, 0, sizeof *stage);
}

void config_destroy(struct config *config) {
    if (!config) return;
    for (int32_t i = 0; i < config->n_stages; i++)
        stage_free(&config->stages[i]);
    free(config->text);
    free(config);
}

static void read_key(struct stage_reader *reader, struct config_stage *stage, const struct ini_entry *entry) {
    const struct config_key *key = key_find("stage", entry->key);
    if (entry->refused) return;
    if (key) {
        struct lvs_error err;
        if (key_parse(key, stage, entry->value, &err) != LVS_OK)
            ini_error(reader->errors, reader->ini, entry, "%s", err.text);
    } else if ((key = config_key_find_setting(entry->key))) {
        read_axis(reader, stage, key, entry);
    } else {
        struct strbuf hint;
        strbuf_init(&hint);
        suggest_key(reader->ini->sections[entry->section].name, entry->key, reader->errors, &hint);
        ini_error(reader->errors, reader->ini, entry, "unknown key%s", hint.text);
        strbuf_free(&hint);
    }
}

static void read_stage(struct stage_reader *reader, int section, struct config_stage *stage) {
    const char *name = reader->ini->sections[section].name;
    memset(stage, 0, sizeof *stage);
    lvs_copy(stage->name, sizeof stage->name, name + strlen("stage."));
    for (int i = 0; i < config_key_count; i++)
        if (config_keys[i].base == KEY_BASE_STAGE) key_parse(&config_keys[i], stage, config_keys[i].initial, NULL);
    for (int i = 0; i < reader->ini->n_entries; i++)
        if (reader->ini->entries[i].section == section) read_key(reader, stage, &reader->ini->entries[i]);
    if (stage->n_axes > 1) qsort(stage->axes, (size_t)stage->n_axes, sizeof *stage->axes, compare_axes);
    read_skip(reader, stage, ini_find(reader->ini, name, "skip"));
}

static bool is_stage(const struct ini_section *section) {
    return strncmp(section->name, "stage.", 6) == 0;
}

/* A stage that was moved out has no name any more, and an empty name is none. */
static int find_stage(const struct config_stage *stages, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (name[0] && strcmp(stages[i].name, name) == 0) return i;
    return -1;
}

/* The stages named by [sweep] stages, moved out of `all` into the config. */
static void order_stages(struct stage_reader *reader, struct config *config, struct config_stage *all, int n,
                         const struct ini_entry *entry) {
    char names[CONFIG_TEXT_MAX * 4], name[CONFIG_TEXT_MAX];
    lvs_copy(names, sizeof names, entry->value);
    for (char *c = names; *c; c++)
        if (*c == ',') *c = '+';
    const char *cursor = names;
    while (word_next(&cursor, '+', name, sizeof name)) {
        int found = find_stage(all, n, name);
        if (found < 0) {
            bool twice = find_stage(config->stages, config->n_stages, name) >= 0;
            ini_error(reader->errors, reader->ini, entry, "\"%.63s\" %s; allowed: %s", name,
                      twice ? "is there twice" : "is no stage of this INI",
                      "names of [stage.…] sections in the order they run, such as search+final");
            continue;
        }
        config->stages[config->n_stages++] = all[found];
        memset(&all[found], 0, sizeof all[found]);
    }
}

void stages_read(struct config *config, const struct ini *ini, struct config_errors *errors) {
    struct stage_reader reader = {ini, errors};
    struct config_stage *all = lvs_calloc(CONFIG_MAX_STAGES, sizeof *all);
    int n = 0;
    for (int s = 0; s < ini->n_sections; s++) {
        if (!is_stage(&ini->sections[s])) continue;
        if (n == CONFIG_MAX_STAGES) {
            errors_add(errors, ini->sections[s].line, "[%s]: more than %d stages", ini->sections[s].name,
                       CONFIG_MAX_STAGES);
            break;
        }
        read_stage(&reader, s, &all[n++]);
    }
    const struct ini_entry *order = ini_find(ini, "sweep", "stages");
    if (order && order->value[0]) {
        order_stages(&reader, config, all, n, order);
    } else {
        memcpy(config->stages, all, (size_t)n * sizeof *all);
        memset(all, 0, (size_t)n * sizeof *all);
        config->n_stages = n;
    }
    for (int i = 0; i < n; i++)
        stage_free(&all[i]);
    free(all);
}
