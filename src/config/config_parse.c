/* From INI text to struct config: defaults, then the file's entries, then --set, then stages, then checks.
 * Depends on nothing but its arguments (and, with check_files, the disk): every rank that parses the same text gets the
 * same config. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "config_internal.h"

#define INI_BYTES_MAX 65536

static void set_place(struct config *config, const struct config_source *source) {
    lvs_copy(config->path, sizeof config->path, source->path ? source->path : "-");
    if (source->folder)
        lvs_copy(config->folder, sizeof config->folder, source->folder);
    else if (source->path)
        file_folder_of(config->folder, source->path);
    else
        lvs_copy(config->folder, sizeof config->folder, ".");
}

/* Every member zero or its default; the defaults of the table must parse, or the table is wrong. */
static enum lvs_status set_defaults(struct config *config, struct lvs_error *err) {
    for (int i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        void *base = key_base_of(key, config);
        if (!base) continue;
        if (key_parse(key, base, key->initial, err) != LVS_OK) {
            lvs_error_prefix(err, "default of [%s] %s", key->section, key->name);
            return LVS_BUG;
        }
    }
    return LVS_OK;
}

/* The INI's name without folder and ending. */
static void stem_of(const char *path, char out[64]) {
    const char *slash = strrchr(path, '/');
    lvs_copy(out, 64, slash ? slash + 1 : path);
    char *dot = strrchr(out, '.');
    if (dot && dot != out) *dot = '\0';
    if (!out[0] || strcmp(out, "-") == 0) lvs_copy(out, 64, "sweep");
}

static void name_output(struct config *config, struct config_errors *errors) {
    char stem[64], output[96];
    struct lvs_error err;
    stem_of(config->path, stem);
    if (!config->name[0]) lvs_copy(config->name, sizeof config->name, stem);
    if (config->output[0]) return;
    snprintf(output, sizeof output, "%s.lvsweep", stem);
    if (file_resolve(config->output, config->folder, output, &err) != LVS_OK)
        errors_add(errors, 0, "[sweep] output: %s", err.text);
}

static void read_entry(struct config *config, const struct ini *ini, const struct ini_entry *entry,
                       struct config_errors *errors) {
    const char *section = ini->sections[entry->section].name;
    const struct config_key *key = key_find(section, entry->key);
    struct lvs_error err;
    if (entry->refused) return;
    if (!key) {
        struct strbuf hint;
        strbuf_init(&hint);
        suggest_key(section, entry->key, errors, &hint);
        ini_error(errors, ini, entry, "unknown key%s", hint.text);
        strbuf_free(&hint);
    } else if (key->base == KEY_BASE_SETTINGS && strchr(entry->value, ',')) {
        ini_error(errors, ini, entry, "\"%.80s\" is a list; a list of grid values belongs into a [stage.…] section",
                  entry->value);
    } else if (key_parse(key, key_base_of(key, config), entry->value, &err) != LVS_OK) {
        ini_error(errors, ini, entry, "%s%s", err.text, key->base == KEY_BASE_SETTINGS ? list_hint(entry->value) : "");
    }
}

static void read_entries(struct config *config, const struct ini *ini, struct config_errors *errors) {
    for (int i = 0; i < ini->n_entries; i++) {
        const struct ini_entry *entry = &ini->entries[i];
        if (strncmp(ini->sections[entry->section].name, "stage.", 6) != 0) read_entry(config, ini, entry, errors);
    }
}

static enum lvs_status read_text(const struct config_source *source, struct config *config, size_t *length,
                                 struct lvs_error *err) {
    const char *kind;
    if (source->text) {
        config->text = lvs_strdup(source->text);
        *length = strlen(source->text);
        if (*length <= INI_BYTES_MAX) return LVS_OK;
        lvs_fail(err, LVS_USAGE, "%s: %zu bytes; an INI has at most %d", config->path, *length, INI_BYTES_MAX);
    } else if ((kind = file_kind(source->path)) != NULL) {
        lvs_fail(err, LVS_USAGE, "%s: is no INI; it looks like %s", source->path, kind);
    } else if (file_read(source->path, INI_BYTES_MAX, &config->text, length, err) == LVS_OK) {
        return LVS_OK;
    }
    struct lvs_error found;
    lvs_copy(found.text, sizeof found.text, err ? err->text : "");
    return lvs_fail(err, LVS_USAGE, "%.1900s\n1 error, nothing was started (exit 2)", found.text);
}

static enum lvs_status parse_into(const struct config_source *source, struct config *config, struct lvs_error *err) {
    size_t length = 0;
    set_place(config, source);
    LVS_TRY(set_defaults(config, err));
    LVS_TRY(read_text(source, config, &length, err));
    struct config_errors errors = {.path = config->path};
    struct ini ini;
    ini_read(config->text, length, &ini, &errors);
    for (int32_t i = 0; i < source->n_sets; i++)
        ini_set(&ini, source->sets[i], &errors);
    read_entries(config, &ini, &errors);
    name_output(config, &errors);
    stages_read(config, &ini, &errors);
    if (!ini.cut) checks_run(config, &ini, source->check_files, &errors);
    if (!ini.cut && source->check_files && source->inspect) check_data(source, config, &ini, &errors);
    enum lvs_status status = errors.n ? errors_report(&errors, err) : LVS_OK;
    errors_free(&errors);
    ini_free(&ini);
    return status;
}

enum lvs_status config_parse(const struct config_source *source, struct config **out, struct lvs_error *err) {
    assert(source->path || source->text);
    struct lvs_error own;
    struct config *config = lvs_calloc(1, sizeof *config);
    enum lvs_status status = parse_into(source, config, err ? err : &own);
    if (status != LVS_OK) {
        config_destroy(config);
        config = NULL;
    }
    *out = config;
    return status;
}
