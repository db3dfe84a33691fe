/* What no single key can know: keys that must be there, keys that need or exclude each other, files on disk.
 * Settings are checked as each stage would have them; what only the best trial decides is taken from the stage before.
 */
#include <stdarg.h>
#include <string.h>

#include "config_internal.h"
#include "lvsweep/metric.h"

#define VALIDATION_BIT (1u << SPLIT_VALIDATION)

struct checker {
    const struct config *config;
    const struct ini *ini;
    struct config_errors *errors;
    int stage; /* whose settings are checked; -1 = those of the sections */
};

/* The place of a key: in the stage, else in its own section, else the stage's (or section's) line. */
static void complain(const struct checker *checker, const char *section, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void complain(const struct checker *checker, const char *section, const char *name, const char *format, ...) {
    char text[2048], stage[80] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (checker->stage >= 0) snprintf(stage, sizeof stage, "stage.%s", checker->config->stages[checker->stage].name);
    const struct ini_entry *entry = stage[0] ? ini_find(checker->ini, stage, name) : NULL;
    if (!entry) entry = ini_find(checker->ini, section, name);
    if (entry) {
        ini_error(checker->errors, checker->ini, entry, "%s", text);
        return;
    }
    int index = ini_find_section(checker->ini, section);
    if (index < 0 && stage[0]) index = ini_find_section(checker->ini, stage);
    errors_add(checker->errors, index >= 0 ? checker->ini->sections[index].line : 0, "[%s] %s: %s", section, name,
               text);
}

/* ---- the metric ---- */

static const char *near_metric(const char *name) {
    const char *list[64];
    char column[64];
    int n = 0;
    snprintf(column, sizeof column, "%.*s", (int)strcspn(name, "."), name);
    for (; n < metric_count() && n < 63; n++)
        list[n] = metric_at(n)->column;
    list[n] = NULL;
    return suggest_word(column, list);
}

static void check_metric_name(const struct checker *checker) {
    const char *metric = checker->config->metric;
    struct strbuf names;
    if (metric_find(metric, NULL)) return; /* whether the series have its channel is known when they are read */
    if (strncmp(metric, "test_", 5) == 0) {
        complain(checker, "sweep", "metric",
                 "%s would choose by the test set, which then says nothing about new series; choose by its val_ twin",
                 metric);
        return;
    }
    strbuf_init(&names);
    metric_write_names(&names);
    const char *near = near_metric(metric);
    complain(checker, "sweep", "metric", "\"%s\" is no column to choose by%s%s%s; allowed: %s", metric,
             near ? "; did you mean " : "", near ? near : "", near ? "?" : "", names.text);
    strbuf_free(&names);
}

static void check_metric_measured(const struct checker *checker, const struct settings *settings) {
    const char *name = checker->config->metric;
    const struct metric *metric = metric_find(name, NULL);
    if (!metric) return;
    bool loss = settings->loss && settings->loss_on & VALIDATION_BIT;
    bool forecast = settings->forecast_on & VALIDATION_BIT;
    if (metric->need == METRIC_NEEDS_LOSS && !loss)
        complain(checker, "sweep", "metric",
                 "%s is not measured; set [evaluate] loss = yes and loss_on = validation, or choose another metric",
                 name);
    if (metric->need != METRIC_NEEDS_LOSS && !forecast)
        complain(checker, "sweep", "metric",
                 "%s is not measured; set [evaluate] forecast_on = validation, or choose another metric", name);
    else if (metric->need == METRIC_NEEDS_SAMPLES && settings->samples < 2)
        complain(checker, "sweep", "metric",
                 "%s needs several forecasts a series; set [evaluate] decoding = sample and samples = 32", name);
}

/* ---- settings of a trial ---- */

static void check_evaluation(const struct checker *checker, const struct settings *settings) {
    if (settings->samples > 1 && settings->decoding == DECODING_GREEDY)
        complain(checker, "evaluate", "samples",
                 "%d forecasts by decoding = greedy are all equal; set decoding = sample, or samples = 1",
                 settings->samples);
    if (settings->keep == KEEP_BEST && settings->every == 0)
        complain(checker, "evaluate", "keep",
                 "best needs evaluations during training; set every to a number of steps, for example every = 100");
    if (settings->narrow_first && !(settings->forecast_on & VALIDATION_BIT))
        complain(checker, "evaluate", "narrow",
                 "narrowing forecasts validation series; set forecast_on = validation, or narrow = none");
    if (settings->loss && settings->loss_on == 0)
        complain(checker, "evaluate", "loss_on", "none, but loss = yes; name a split, or set loss = no");
}

static void check_training(const struct checker *checker, const struct settings *settings) {
    const struct config *config = checker->config;
    bool from_best = checker->stage >= 0 && config->stages[checker->stage].from_best;
    if (settings->steps.unit == AMOUNT_FILL && config->flops_cap == 0)
        complain(checker, "train", "steps",
                 "fill spends a share of the budget, and there is none; set [budget] flops, or a number of steps");
    if (strcmp(settings->from_adapter, "best") == 0 && !from_best)
        complain(checker, "lora", "from_adapter",
                 "best is the adapter of an earlier stage; set it in a stage that has from = best");
    if (settings->head == HEAD_WEIGHT && config->pack > 1)
        complain(
            checker, "lora", "head",
            "weight trains the head itself, which packed trials share; set [run] pack = 1 or auto, or head = bias");
    if (config->stop_rule != STOP_NONE && !(settings->loss && settings->loss_on & VALIDATION_BIT))
        complain(checker, "stop", "rule",
                 "trials are compared by validation loss; set [evaluate] loss = yes and loss_on = validation");
    if (config->stop_rule != STOP_NONE && config->trend_skip)
        complain(checker, "stop", "trend_skip",
                 "yes waits for finished trials and rule ends trials before; set one of them, or rule = none");
}

static void check_settings(const struct checker *checker, const struct settings *settings) {
    check_training(checker, settings);
    check_evaluation(checker, settings);
    check_metric_measured(checker, settings);
}

/* The stage's first point on top of `base`, then every other value of every axis beside it. */
static void check_stage_settings(struct checker *checker, struct settings *base) {
    const struct config_stage *stage = &checker->config->stages[checker->stage];
    for (int32_t a = 0; a < stage->n_axes; a++)
        settings_set(base, stage->axes[a].key, stage->axes[a].values[0], NULL);
    check_settings(checker, base);
    for (int32_t a = 0; a < stage->n_axes; a++) {
        for (int32_t v = 1; v < stage->axes[a].n_values; v++) {
            struct settings point = *base;
            settings_set(&point, stage->axes[a].key, stage->axes[a].values[v], NULL);
            check_settings(checker, &point);
        }
    }
}

static const struct config_axis *axis_of(const struct config_stage *stage, const char *name) {
    for (int32_t a = 0; a < stage->n_axes; a++)
        if (strcmp(config_key_name(stage->axes[a].key), name) == 0) return &stage->axes[a];
    return NULL;
}

static bool same_adapter(const struct config *config, const struct config_key *key, const char *x, const char *y) {
    struct settings left = config->defaults, right = config->defaults;
    settings_set(&left, key, x, NULL);
    if (y) settings_set(&right, key, y, NULL);
    return left.lora_rank == right.lora_rank && left.lora_targets == right.lora_targets;
}

/* Whether a trial before `stage` that is chosen as the best can have the value. */
static bool best_may_have(const struct config *config, int stage, const struct config_key *key, const char *value) {
    for (int s = stage - 1; s >= 0; s--) {
        const struct config_axis *axis = axis_of(&config->stages[s], config_key_name(key));
        for (int32_t v = 0; axis && v < axis->n_values; v++)
            if (same_adapter(config, key, value, axis->values[v])) return true;
        if (axis) return false;
        if (!config->stages[s].from_best) break;
    }
    return same_adapter(config, key, value, NULL);
}

/* An adapter that is gone on with keeps its shape: found here, not when the stages before have been trained. */
static void check_warm_start(const struct checker *checker, const struct settings *base) {
    static const char *const shapes[] = {"rank", "targets"};
    const struct config_stage *stage = &checker->config->stages[checker->stage];
    const struct config_axis *from = axis_of(stage, "from_adapter");
    bool warm = strcmp(base->from_adapter, "best") == 0;
    for (int32_t v = 0; from && v < from->n_values; v++)
        warm = warm || strcmp(from->values[v], "best") == 0;
    for (int i = 0; warm && stage->from_best && i < 2; i++) {
        const struct config_axis *axis = axis_of(stage, shapes[i]);
        if (!axis ||
            (axis->n_values == 1 && best_may_have(checker->config, checker->stage, axis->key, axis->values[0])))
            continue;
        complain(checker, "lora", shapes[i],
                 "from_adapter = best goes on with the best trial's adapter, which keeps its %s; leave %s out here, or "
                 "set from_adapter = none",
                 shapes[i], shapes[i]);
    }
}

static void check_stages(struct checker *checker) {
    const struct config *config = checker->config;
    struct settings base = config->defaults;
    double shares = 0;
    int with_share = -1;
    for (int i = 0; i < config->n_stages; i++) {
        checker->stage = i;
        if (i == 0 && config->stages[0].from_best)
            complain(checker, "stage", "from", "best needs an earlier stage, and this is the first; allowed: none");
        if (config->stages[i].share > 0) {
            shares += config->stages[i].share;
            with_share = i;
        }
        if (!config->stages[i].from_best) base = config->defaults;
        check_stage_settings(checker, &base);
        check_warm_start(checker, &base);
    }
    checker->stage = with_share;
    if (shares > 100 + 1e-9)
        complain(checker, "stage", "share", "the stages' shares add up to %g %%; at most 100", shares);
    if (with_share >= 0 && config->flops_cap == 0)
        complain(checker, "stage", "share", "a share of the budget, and there is none; set [budget] flops");
    checker->stage = -1;
}

/* ---- --set ---- */

/* A setting given on the command line that every stage has its own value of would be passed over in silence. */
static void check_sets(const struct checker *checker) {
    const struct config *config = checker->config;
    for (int i = 0; i < checker->ini->n_entries; i++) {
        const struct ini_entry *entry = &checker->ini->entries[i];
        const struct config_key *key = key_find(checker->ini->sections[entry->section].name, entry->key);
        bool used = !entry->given || !key || key->base != KEY_BASE_SETTINGS || config->n_stages == 0;
        for (int s = 0; s < config->n_stages; s++)
            used = used || (!config->stages[s].from_best && !axis_of(&config->stages[s], entry->key));
        if (!used)
            ini_error(checker->errors, checker->ini, entry,
                      "changes nothing, since every stage has a value of its own; write --set stage.%s.%s=%.60s",
                      config->stages[0].name, entry->key, entry->value);
    }
}

/* ---- the whole ---- */

static int count_names(const char *names) {
    int count = names[0] ? 1 : 0;
    for (const char *c = names; *c; c++)
        count += *c == '+';
    return count;
}

/* Given, though with an error of its own. */
static bool is_given(const struct checker *checker, const char *section, const char *name) {
    const struct ini_entry *entry = ini_find(checker->ini, section, name);
    return entry && (entry->refused || entry->value[0]);
}

static void check_whole(const struct checker *checker) {
    const struct config *config = checker->config;
    bool needed = config->runner != RUNNER_FAKE;
    if (needed && !config->data_file[0] && !is_given(checker, "data", "file"))
        complain(checker, "data", "file", "is missing; the HDF5 file with the series, for example file = data.h5");
    if (needed && !config->model_path[0] && !is_given(checker, "model", "path"))
        complain(checker, "model", "path",
                 "is missing; the model's folder, or hf:owner/name, for example path = hf:Qwen/Qwen2.5-0.5B-Instruct");
    if (config->n_stages == 0)
        errors_add(checker->errors, 0,
                   "there is no stage; write for example [stage.search] with rank = 2, 4, 8 and learning_rate = 1e-5, "
                   "1e-4");
    int variables = count_names(config->variables), units = count_names(config->units);
    if (units > 1 && variables > 0 && units != variables)
        complain(checker, "data", "units", "%d units for %d variables; allowed: one for all, or one a variable", units,
                 variables);
    if (config->backend == BACKEND_CPU && config->precision == PRECISION_BF16)
        complain(checker, "run", "precision", "the CPU computes in fp32; set precision = fp32, or backend = cuda");
    check_metric_name(checker);
}

static bool is_hub_name(const char *text) {
    const char *slash = strchr(text, '/');
    return slash && slash != text && slash[1] && !strchr(slash + 1, '/') && text[0] != '.' && text[0] != '~';
}

/* A --set is typed in the present folder, where a shell completes its path, but means the INI's. */
static void complain_missing(const struct checker *checker, const char *section, const char *name, const char *path) {
    const struct ini_entry *entry = ini_find(checker->ini, section, name);
    char hint[LVS_PATH_MAX] = "";
    if (entry && entry->given && file_exists(entry->value))
        snprintf(hint, sizeof hint, "; it is in the present folder: write \"$PWD/%.600s\"", entry->value);
    else if (entry && strcmp(section, "model") == 0 && is_hub_name(entry->value))
        snprintf(hint, sizeof hint, "; for a model of the Hugging Face cache write hf:%.600s", entry->value);
    complain(checker, section, name, "%.600s does not exist; a relative path is seen from the INI's folder (%.200s)%s",
             path, checker->config->folder, hint);
}

static void check_path(const struct checker *checker, const char *section, const char *name, const char *path,
                       bool folder) {
    if (!path[0]) return;
    if (!file_exists(path))
        complain_missing(checker, section, name, path);
    else if (file_is_folder(path) != folder)
        complain(checker, section, name, "%.600s is %s", path, folder ? "not a folder" : "a folder, not a file");
}

static void check_adapters(struct checker *checker) {
    const struct config *config = checker->config;
    char path[LVS_PATH_MAX];
    for (int i = -1; i < config->n_stages; i++) {
        const struct config_stage *stage = i >= 0 ? &config->stages[i] : NULL;
        checker->stage = i;
        for (int32_t a = 0; a < (stage ? stage->n_axes : 1); a++) {
            if (stage && strcmp(config_key_name(stage->axes[a].key), "from_adapter") != 0) continue;
            for (int32_t v = 0; v < (stage ? stage->axes[a].n_values : 1); v++) {
                const char *value = stage ? stage->axes[a].values[v] : config->defaults.from_adapter;
                if (strcmp(value, "none") == 0 || strcmp(value, "best") == 0) continue;
                if (file_resolve(path, config->folder, value, NULL) == LVS_OK)
                    check_path(checker, "lora", "from_adapter", path, true);
            }
        }
    }
    checker->stage = -1;
}

void checks_run(const struct config *config, const struct ini *ini, bool check_files, struct config_errors *errors) {
    struct checker checker = {config, ini, errors, -1};
    check_whole(&checker);
    check_stages(&checker);
    check_sets(&checker);
    if (!check_files || config->runner == RUNNER_FAKE) return;
    check_path(&checker, "data", "file", config->data_file, false);
    check_path(&checker, "data", "split", config->split_file, false);
    if (strncmp(config->model_path, "hf:", 3) != 0) check_path(&checker, "model", "path", config->model_path, true);
    check_adapters(&checker);
}

/* ---- the data file ---- */

static bool has_data_error(const struct config_errors *errors) {
    for (int i = 0; i < errors->n; i++)
        if (strstr(errors->items[i].text, "[data]")) return true;
    return false;
}

void check_data(const struct config_source *source, const struct config *config, const struct ini *ini,
                struct config_errors *errors) {
    static const char section[] = "[data] ";
    struct lvs_error found = {0};
    char name[64];
    if (!config->data_file[0] || config->runner == RUNNER_FAKE || has_data_error(errors)) return;
    if (source->inspect(config, &found) != LVS_USAGE || strncmp(found.text, section, strlen(section)) != 0) return;
    snprintf(name, sizeof name, "%.*s", (int)strspn(found.text + strlen(section), "abcdefghijklmnopqrstuvwxyz_"),
             found.text + strlen(section));
    const struct ini_entry *entry = ini_find(ini, "data", name);
    if (entry && entry->given)
        errors_add(errors, entry->line, "%s: %s", entry->given, found.text);
    else
        errors_add(errors, entry ? entry->line : 0, "%s", found.text);
}
