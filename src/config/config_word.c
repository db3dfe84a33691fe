/* Types made of words: choices, flags joined by '+', free text, names, paths. Text never holds a double quote or a
 * control character, so that config_write can always quote it. */
#include <ctype.h>
#include <string.h>

#include "config_internal.h"

void word_strip(char *text) {
    size_t start = 0, length = strlen(text);
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        length--;
    while (start < length && isspace((unsigned char)text[start]))
        start++;
    memmove(text, text + start, length - start);
    text[length - start] = '\0';
}

bool word_next(const char **cursor, char separator, char *out, size_t capacity) {
    if (!*cursor) return false;
    const char *end = strchr(*cursor, separator);
    size_t length = end ? (size_t)(end - *cursor) : strlen(*cursor);
    size_t kept = length < capacity - 1 ? length : capacity - 1;
    memcpy(out, *cursor, kept);
    out[kept] = '\0';
    word_strip(out);
    *cursor = end ? end + 1 : NULL;
    return true;
}

bool word_at(const char *choices, int index, char out[64]) {
    const char *cursor = choices;
    for (int i = 0; word_next(&cursor, '|', out, 64); i++)
        if (i == index) return true;
    out[0] = '\0';
    return false;
}

int word_index(const char *choices, const char *word) {
    char choice[64];
    const char *cursor = choices;
    for (int i = 0; word_next(&cursor, '|', choice, sizeof choice); i++)
        if (choice[0] && strcmp(choice, word) == 0) return i;
    return -1;
}

/* ---- one of several words ---- */

static enum lvs_status choice_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    int index = word_index(key->choices, text);
    if (index < 0) return lvs_fail(err, LVS_USAGE, "\"%.80s\" is not a choice here", text);
    *(int32_t *)((char *)base + key->offset) = index;
    return LVS_OK;
}

static void choice_format(const struct config_key *key, const void *base, struct strbuf *out) {
    char word[64];
    word_at(key->choices, *(const int32_t *)((const char *)base + key->offset), word);
    strbuf_add(out, word);
}

static void choice_allowed(const struct config_key *key, struct strbuf *out) {
    char word[64];
    const char *cursor = key->choices;
    for (int n = 0; word_next(&cursor, '|', word, sizeof word); n++)
        strbuf_printf(out, "%s%s", n ? " | " : "", word);
}

static enum lvs_status choice_text_parse(const struct config_key *key, void *base, const char *text,
                                         struct lvs_error *err) {
    if (word_index(key->choices, text) < 0) return lvs_fail(err, LVS_USAGE, "\"%.80s\" is not a choice here", text);
    char *member = (char *)base + key->offset;
    memset(member, 0, key->size);
    lvs_copy(member, key->size, text);
    return LVS_OK;
}

static void text_format(const struct config_key *key, const void *base, struct strbuf *out) {
    strbuf_add(out, (const char *)base + key->offset);
}

static enum lvs_status yes_no_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    int index = word_index("no|yes", text);
    if (index < 0) return lvs_fail(err, LVS_USAGE, "\"%.80s\" is neither yes nor no", text);
    *(int32_t *)((char *)base + key->offset) = index;
    return LVS_OK;
}

static void yes_no_format(const struct config_key *key, const void *base, struct strbuf *out) {
    strbuf_add(out, *(const int32_t *)((const char *)base + key->offset) ? "yes" : "no");
}

static void yes_no_allowed(const struct config_key *key, struct strbuf *out) {
    strbuf_add(out, strcmp(key->initial, "yes") == 0 ? "yes | no" : "no | yes");
}

/* ---- several words joined by '+', as bits ---- */

static enum lvs_status flags_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    uint32_t bits = 0;
    char word[64];
    const char *cursor = text;
    bool none = key->zero && strcmp(text, key->zero) == 0;
    while (!none && word_next(&cursor, '+', word, sizeof word)) {
        int index = word_index(key->choices, word);
        if (index < 0) return lvs_fail(err, LVS_USAGE, "\"%s\" is not a choice here", word);
        if (bits >> index & 1) return lvs_fail(err, LVS_USAGE, "%s is there twice", word);
        bits |= 1u << index;
    }
    *(uint32_t *)((char *)base + key->offset) = bits;
    return LVS_OK;
}

static void flags_format(const struct config_key *key, const void *base, struct strbuf *out) {
    uint32_t bits = *(const uint32_t *)((const char *)base + key->offset);
    char word[64];
    const char *joint = "";
    if (!bits) strbuf_add(out, key->zero ? key->zero : "");
    for (int i = 0; word_at(key->choices, i, word); i++) {
        if (!(bits >> i & 1)) continue;
        strbuf_printf(out, "%s%s", joint, word);
        joint = "+";
    }
}

static void flags_allowed(const struct config_key *key, struct strbuf *out) {
    char word[64];
    const char *joint = "";
    for (int i = 0; word_at(key->choices, i, word); i++) {
        if (!word[0]) continue;
        strbuf_printf(out, "%s%s", joint, word);
        joint = ", ";
    }
    strbuf_add(out, " (several joined by +)");
    if (key->zero) strbuf_printf(out, ", or %s", key->zero);
}

/* ---- free text ---- */

static enum lvs_status text_check(const char *text, size_t capacity, struct lvs_error *err) {
    size_t length = strlen(text);
    if (length >= capacity)
        return lvs_fail(err, LVS_USAGE, "%zu characters are more than the %zu allowed", length, capacity - 1);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '"') return lvs_fail(err, LVS_USAGE, "a value cannot hold a double quote");
        if (iscntrl((unsigned char)text[i])) return lvs_fail(err, LVS_USAGE, "a value cannot hold a control character");
    }
    return LVS_OK;
}

static enum lvs_status text_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    LVS_TRY(text_check(text, key->size, err));
    char *member = (char *)base + key->offset;
    memset(member, 0, key->size); /* settings are compared and hashed as bytes */
    lvs_copy(member, key->size, text);
    return LVS_OK;
}

static void text_allowed(const struct config_key *key, struct strbuf *out) {
    if (key->choices)
        strbuf_add(out, key->choices);
    else
        strbuf_printf(out, "text of at most %zu characters", key->size - 1);
}

/* Names with '+' between them, one a channel, all different. */
static enum lvs_status names_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    char name[CONFIG_TEXT_MAX], rest[CONFIG_TEXT_MAX];
    const char *cursor = text[0] ? text : NULL;
    int count = 0;
    while (word_next(&cursor, '+', name, sizeof name)) {
        if (!name[0]) return lvs_fail(err, LVS_USAGE, "an empty name stands before or after a +");
        if (strlen(name) > (size_t)key->max)
            return lvs_fail(err, LVS_USAGE, "\"%.40s…\" is longer than %d characters", name, (int)key->max);
        if (++count > LVS_MAX_CHANNELS)
            return lvs_fail(err, LVS_USAGE, "more than %d names, the most channels there can be", LVS_MAX_CHANNELS);
        for (const char *later = cursor; key->min > 0 && word_next(&later, '+', rest, sizeof rest);)
            if (strcmp(rest, name) == 0) return lvs_fail(err, LVS_USAGE, "%s is there twice", name);
    }
    return text_parse(key, base, text, err);
}

static void names_allowed(const struct config_key *key, struct strbuf *out) {
    strbuf_printf(out, "up to %d %snames of at most %d characters, joined by +", LVS_MAX_CHANNELS,
                  key->min > 0 ? "different " : "", (int)key->max);
}

/* ---- paths: kept resolved against the INI's folder, written as they were given ---- */

static enum lvs_status path_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    struct config *config = base;
    char *member = (char *)base + key->offset;
    LVS_TRY(text_check(text, LVS_PATH_MAX, err));
    if (key->choices && strncmp(text, key->choices, strlen(key->choices)) == 0) {
        lvs_copy(member, LVS_PATH_MAX, text);
        return LVS_OK;
    }
    char resolved[LVS_PATH_MAX];
    if (text[0]) {
        LVS_TRY(file_resolve(resolved, config->folder, text, err));
        lvs_copy(member, LVS_PATH_MAX, resolved);
    } else {
        member[0] = '\0';
    }
    return LVS_OK;
}

const char *path_unresolve(const char *folder, const char *path) {
    size_t length = strlen(folder);
    if (length == 0 || strcmp(folder, ".") == 0 || strncmp(path, folder, length) != 0 || path[length] != '/')
        return path;
    /* what is left must be read as relative again */
    const char *rest = path + length + 1;
    return rest[0] == '/' || strncmp(rest, "~/", 2) == 0 || rest[0] == '\0' ? path : rest;
}

static void path_format(const struct config_key *key, const void *base, struct strbuf *out) {
    const struct config *config = base;
    strbuf_add(out, path_unresolve(config->folder, (const char *)base + key->offset));
}

static void path_allowed(const struct config_key *key, struct strbuf *out) {
    strbuf_add(out, "a path, seen from the INI's folder when relative");
    if (key->choices) strbuf_printf(out, ", or %sowner/name", key->choices);
}

const struct config_type type_choice = {"choice", 4, choice_parse, choice_format, choice_allowed};
const struct config_type type_choice_text = {"choice text", 0, choice_text_parse, text_format, choice_allowed};
const struct config_type type_yes_no = {"yes or no", 4, yes_no_parse, yes_no_format, yes_no_allowed};
const struct config_type type_flags = {"flags", 4, flags_parse, flags_format, flags_allowed};
const struct config_type type_text = {"text", 0, text_parse, text_format, text_allowed};
const struct config_type type_path = {"path", LVS_PATH_MAX, path_parse, path_format, path_allowed};
const struct config_type type_names = {"names", 0, names_parse, text_format, names_allowed};
