/* Everything that is written from the table: the effective INI, the text that keys hash, templates, documentation.
 * What config_write writes parses back to an equal config. */
#include <ctype.h>
#include <string.h>

#include "config_internal.h"

/* ---- the effective configuration ---- */

/* Quoted where iniparser would cut or strip; text never holds a double quote. */
static void write_value(const char *value, struct strbuf *out) {
    size_t length = strlen(value);
    bool quote = length > 0 && (strpbrk(value, ";#'\\") || isspace((unsigned char)value[0]) ||
                                isspace((unsigned char)value[length - 1]));
    strbuf_printf(out, quote ? "\"%s\"" : "%s", value);
}

static void write_line(const char *name, const char *value, struct strbuf *out) {
    strbuf_printf(out, "%s =%s", name, value[0] ? " " : "");
    write_value(value, out);
    strbuf_add(out, "\n");
}

static void write_key(const struct config_key *key, const void *base, struct strbuf *out) {
    struct strbuf value;
    strbuf_init(&value);
    strbuf_add(&value, "");
    key->type->format(key, base, &value);
    write_line(key->name, value.text, out);
    strbuf_free(&value);
}

static void write_stage(const struct config_stage *stage, struct strbuf *out) {
    strbuf_printf(out, "\n[stage.%s]\n", stage->name);
    for (int i = 0; i < config_key_count; i++)
        if (config_keys[i].base == KEY_BASE_STAGE) write_key(&config_keys[i], stage, out);
    for (int32_t a = 0; a < stage->n_axes; a++) {
        struct strbuf values;
        strbuf_init(&values);
        for (int32_t v = 0; v < stage->axes[a].n_values; v++)
            strbuf_printf(&values, "%s%s", v ? ", " : "", stage->axes[a].values[v]);
        write_line(stage->axes[a].key->name, values.text, out);
        strbuf_free(&values);
    }
}

/* "[section]" before its first key. */
static void write_section(int i, struct strbuf *out) {
    if (i > 0 && strcmp(config_keys[i].section, config_keys[i - 1].section) == 0) return;
    strbuf_printf(out, "%s[%s]\n", i ? "\n" : "", config_keys[i].section);
}

void config_write(const struct config *config, struct strbuf *out) {
    for (int i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->base == KEY_BASE_STAGE) continue;
        write_section(i, out);
        write_key(key, key->base == KEY_BASE_CONFIG ? (const void *)config : &config->defaults, out);
    }
    for (int32_t s = 0; s < config->n_stages; s++)
        write_stage(&config->stages[s], out);
}

/* ---- the text of keys ---- */

/* Some evaluation rows change the weights too, and belong to both texts then: with keep = best the evaluations during
 * training decide which weights are kept, and with scale_points = history the history decides the scale of the text. */
static unsigned effect_of(const struct config_key *key, const struct config *config, const struct settings *settings) {
    bool keeps = key->flags & KEY_DECIDES_BEST && settings->keep == KEEP_BEST;
    bool scales = config && config->scale_points == SCALE_POINTS_HISTORY && strcmp(key->name, "history") == 0;
    return key->effect | (keeps || scales ? KEY_EFFECT_TRAIN : 0);
}

static void write_lines(const struct config *config, const struct settings *settings, unsigned effects,
                        unsigned without_default, struct strbuf *out) {
    struct strbuf value;
    strbuf_init(&value);
    for (int i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        bool here = key->base == KEY_BASE_SETTINGS || (key->base == KEY_BASE_CONFIG && config);
        if (!here || !(effect_of(key, config, settings) & effects)) continue;
        strbuf_clear(&value);
        strbuf_add(&value, "");
        key->type->format(key, key->base == KEY_BASE_CONFIG ? (const void *)config : settings, &value);
        if (key->flags & without_default && strcmp(value.text, key->initial) == 0) continue;
        strbuf_printf(out, "%s=%s\n", key->name, value.text);
    }
    strbuf_free(&value);
}

void config_write_effective(const struct config *config, const struct settings *settings, unsigned effects,
                            struct strbuf *out) {
    write_lines(config, settings, effects, 0, out);
}

void config_write_hashed(const struct config *config, const struct settings *settings, unsigned effects,
                         struct strbuf *out) {
    write_lines(config, settings, effects, KEY_LATER, out);
}

/* ---- templates ---- */

#define WRAP_COLUMN 110

/* A comment, broken between words. */
static void write_comment(const char *text, struct strbuf *out) {
    size_t column = 0;
    const char *cursor = text;
    while (*cursor) {
        size_t word = strcspn(cursor, " ");
        if (column == 0 || column + word + 1 > WRAP_COLUMN) {
            strbuf_add(out, column ? "\n; " : "; ");
            column = 2;
        } else {
            strbuf_add(out, " ");
            column++;
        }
        strbuf_add_bytes(out, cursor, word);
        column += word;
        cursor += word + strspn(cursor + word, " ");
    }
    strbuf_add(out, "\n");
}

/* An example for keys that have no default, and values that show more than the default does. */
static const char *example_of(const struct config_key *key) {
    static const struct {
        const char *section, *name, *value;
    } examples[] = {
        {"data", "file", "data.h5"},
        {"model", "path", "model"},
        {"budget", "flops", "1e17"},
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++)
        if (strcmp(key->section, examples[i].section) == 0 && strcmp(key->name, examples[i].name) == 0)
            return examples[i].value;
    return key->initial;
}

static void template_key(const struct config_key *key, struct strbuf *out) {
    struct strbuf text;
    strbuf_init(&text);
    strbuf_printf(&text, "%s Allowed: ", key->help);
    key_allowed(key, &text);
    write_comment(text.text, out);
    strbuf_free(&text);
    const char *value = example_of(key);
    strbuf_printf(out, "%s%s =%s%s\n", value[0] ? "" : "; ", key->name, value[0] ? " " : "", value);
}

static void template_sections(bool every_key, struct strbuf *out) {
    const char *section = "";
    for (int i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->base == KEY_BASE_STAGE || (!every_key && !(key->flags & KEY_SHORT))) continue;
        if (strcmp(section, key->section) != 0) strbuf_printf(out, "\n[%s]\n", key->section);
        section = key->section;
        template_key(key, out);
    }
}

static void template_stages(bool every_key, struct strbuf *out) {
    strbuf_add(out, "\n[stage.search]\n");
    write_comment("A stage trains every combination of the values given. It may set any key of [lora], [train], "
                  "[evaluate] and decimals for itself; a comma separates the values of a grid.",
                  out);
    for (int i = 0; every_key && i < config_key_count; i++)
        if (config_keys[i].base == KEY_BASE_STAGE) template_key(&config_keys[i], out);
    strbuf_add(out, "rank = 2, 4, 8\nlearning_rate = 1e-5, 5e-5, 1e-4\n");
    strbuf_add(out, "\n[stage.final]\n");
    write_comment("The best trial's settings, with those given here.", out);
    strbuf_add(out, "from = best\nsteps = 6000\n");
}

void config_write_template(bool every_key, struct strbuf *out) {
    write_comment("lvsweep: a sweep of LoRA fine-tuning under a FLOP budget. Paths are seen from this file's folder. "
                  "A comma separates the values of a grid, + joins parts of one value, ; starts a comment.",
                  out);
    template_sections(every_key, out);
    template_stages(every_key, out);
}

/* ---- documentation ---- */

/* Table cells: '|' would end the cell. */
static void write_cell(const char *text, struct strbuf *out) {
    for (; *text; text++) {
        if (*text == '|') strbuf_add(out, "\\");
        strbuf_add_bytes(out, text, 1);
    }
}

static void reference_row(const struct config_key *key, struct strbuf *out) {
    struct strbuf allowed;
    strbuf_init(&allowed);
    key_allowed(key, &allowed);
    strbuf_printf(out, "| `%s` | ", key->name);
    if (key->initial[0]) strbuf_printf(out, "`%s`", key->initial);
    strbuf_printf(out, " | %s | ", key->base == KEY_BASE_CONFIG ? "" : "yes");
    write_cell(allowed.text, out);
    strbuf_add(out, " | ");
    write_cell(key->help, out);
    strbuf_add(out, " |\n");
    strbuf_free(&allowed);
}

void config_write_reference(struct strbuf *out) {
    for (int i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (i == 0 || strcmp(key->section, config_keys[i - 1].section) != 0) {
            strbuf_printf(out, "%s### [%s%s]\n\n", i ? "\n" : "", key->section,
                          key->base == KEY_BASE_STAGE ? ".NAME" : "");
            strbuf_add(out, "| key | default | in a stage | allowed | meaning |\n|---|---|---|---|---|\n");
        }
        reference_row(key, out);
    }
}
