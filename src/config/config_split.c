/* split = random:0.70/0.15/0.15 | index:700/200/100 | time:… | stratified:… | file:splits.json */
#include <math.h>
#include <string.h>

#include "config_internal.h"

static const char split_kinds[] = "random|index|time|stratified|file";

static enum lvs_status parse_parts(const char *text, bool counts, double parts[3], struct lvs_error *err) {
    char part[64];
    const char *cursor = text;
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        if (!word_next(&cursor, '/', part, sizeof part))
            return lvs_fail(err, LVS_USAGE, "\"%.80s\" has fewer than three parts", text);
        if (!number_parse(part, &parts[i]) || parts[i] < 0)
            return lvs_fail(err, LVS_USAGE, "\"%.60s\" is not a part of a split", part);
        if (counts && (parts[i] != floor(parts[i]) || parts[i] > POINTS_MAX))
            return lvs_fail(err, LVS_USAGE, "\"%.60s\" is not a number of series", part);
        sum += parts[i];
    }
    if (cursor) return lvs_fail(err, LVS_USAGE, "\"%.80s\" has more than three parts", text);
    if (parts[0] <= 0) return lvs_fail(err, LVS_USAGE, "the first part, the training set, is empty");
    if (!counts && sum > 1 + 1e-9) return lvs_fail(err, LVS_USAGE, "the shares %.80s add up to more than 1", text);
    return LVS_OK;
}

/* "splits.json:b" is member b of splits.json; a ':' before a '/' belongs to the path. */
static void take_split_member(const char *text, char file[CONFIG_TEXT_MAX], char member[64]) {
    lvs_copy(file, CONFIG_TEXT_MAX, text);
    char *mark = strrchr(file, ':');
    if (!mark || strchr(mark, '/')) return;
    lvs_copy(member, 64, mark + 1);
    *mark = '\0';
}

static enum lvs_status split_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err) {
    struct config *config = base;
    char word[64], path[LVS_PATH_MAX] = "";
    const char *cursor = text;
    char file[CONFIG_TEXT_MAX], member[sizeof config->split_member] = "";
    double parts[3] = {0};
    (void)key;
    word_next(&cursor, ':', word, sizeof word);
    int kind = word_index(split_kinds, word);
    if (kind < 0 || !cursor) return lvs_fail(err, LVS_USAGE, "\"%.80s\" cannot be read", text);
    while (*cursor == ' ')
        cursor++;
    if (kind == SPLIT_FILE) {
        if (!*cursor || strpbrk(cursor, "\"\t")) return lvs_fail(err, LVS_USAGE, "\"%.80s\" names no file", text);
        take_split_member(cursor, file, member);
        LVS_TRY(file_resolve(path, config->folder, file, err));
    } else {
        LVS_TRY(parse_parts(cursor, kind == SPLIT_INDEX, parts, err));
    }
    config->split = kind;
    memcpy(config->split_parts, parts, sizeof parts);
    memcpy(config->split_file, path, sizeof path);
    memcpy(config->split_member, member, sizeof member);
    return LVS_OK;
}

static void split_format(const struct config_key *key, const void *base, struct strbuf *out) {
    const struct config *config = base;
    char word[64];
    (void)key;
    word_at(split_kinds, config->split, word);
    strbuf_printf(out, "%s:", word);
    if (config->split == SPLIT_FILE) {
        strbuf_add(out, path_unresolve(config->folder, config->split_file));
        if (config->split_member[0]) strbuf_printf(out, ":%s", config->split_member);
        return;
    }
    for (int i = 0; i < 3; i++) {
        if (i > 0) strbuf_add(out, "/");
        if (config->split == SPLIT_INDEX)
            strbuf_printf(out, "%.0f", config->split_parts[i]);
        else
            number_format(config->split_parts[i], out);
    }
}

static void split_allowed(const struct config_key *key, struct strbuf *out) {
    (void)key;
    strbuf_add(out, "random:0.70/0.15/0.15, time:… or stratified:… (shares of training/validation/test), "
                    "index:700/200/100 (numbers of series), or file:splits.json");
}

const struct config_type type_split = {"split", 4, split_parse, split_format, split_allowed};
