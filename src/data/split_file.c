/* Splits from JSON: {"train": [ids], "validation" (or "val"): [ids], "test": [ids]}, or a member of that shape that the
 * config names (file:splits.json:b). Ids are rows of the data file, counted from 0. Untrusted input: every id is
 * checked for type and range, and may be in one list once. Series that missing = drop_series left out are skipped;
 * every other unknown id is an error. */
#include "data_internal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define SPLIT_FILE_MAX ((size_t)256 << 20)

struct split_source {
    char path[LVS_PATH_MAX], member[CONFIG_TEXT_MAX]; /* member "" = the whole document */
    int64_t n_file;                                   /* ids are 0 … n_file − 1 */
    int32_t *row_of;                                  /* [n_file] row of the set, -1 = dropped */
    signed char *part_of;                             /* [n_file] part that took the id, -1 = none yet */
};

static const char *const list_names[SPLIT_COUNT][2] = {{"train", NULL}, {"validation", "val"}, {"test", NULL}};

static json_t *list_of(json_t *object, int part) {
    for (int i = 0; i < 2; i++) {
        json_t *list = list_names[part][i] ? json_object_get(object, list_names[part][i]) : NULL;
        if (list) return list;
    }
    return NULL;
}

static bool has_lists(json_t *object) {
    return json_is_array(list_of(object, SPLIT_TRAIN));
}

/* "b, c": the members that hold lists. */
static void name_members(json_t *root, struct strbuf *out) {
    const char *name;
    json_t *value;
    strbuf_add(out, "");
    json_object_foreach(root, name, value) if (has_lists(value))
        strbuf_printf(out, "%s%.60s", out->length ? ", " : "", name);
}

static enum lvs_status choose_object(const struct split_source *source, json_t *root, json_t **out,
                                     struct lvs_error *err) {
    *out = source->member[0] ? json_object_get(root, source->member) : root;
    if (has_lists(*out)) return LVS_OK;
    struct strbuf members;
    strbuf_init(&members);
    name_members(root, &members);
    if (members.length > 0)
        lvs_fail(err, LVS_INPUT, "%s: %s%s; members with splits: %s. Choose one with [data] split = file:%s:NAME",
                 source->path, source->member[0] ? "no split in member " : "no list \"train\"", source->member,
                 members.text, source->path);
    else
        lvs_fail(err, LVS_INPUT, "%s: no lists \"train\", \"validation\" and \"test\" of series numbers", source->path);
    strbuf_free(&members);
    return LVS_INPUT;
}

static enum lvs_status read_list(struct split_source *source, json_t *object, int part, struct split *out,
                                 struct lvs_error *err) {
    json_t *list = list_of(object, part), *item;
    const char *name = list_names[part][0];
    if (list && !json_is_array(list)) return lvs_fail(err, LVS_INPUT, "%s: \"%s\" is no list", source->path, name);
    out->rows[part] = lvs_malloc(json_array_size(list) * sizeof *out->rows[part]);
    size_t index;
    json_array_foreach(list, index, item) {
        if (!json_is_integer(item))
            return lvs_fail(err, LVS_INPUT, "%s: %s[%zu] is no whole number", source->path, name, index);
        int64_t id = json_integer_value(item);
        if (id < 0 || id >= source->n_file)
            return lvs_fail(err, LVS_INPUT, "%s: %s[%zu] is series %lld; the data have series 0 to %lld", source->path,
                            name, index, (long long)id, (long long)source->n_file - 1);
        if (source->part_of[id] >= 0)
            return lvs_fail(err, LVS_INPUT, "%s: series %lld is in \"%s\" and again in \"%s\"; once is allowed",
                            source->path, (long long)id, list_names[source->part_of[id]][0], name);
        source->part_of[id] = (signed char)part;
        if (source->row_of[id] >= 0) out->rows[part][out->n[part]++] = source->row_of[id];
    }
    if (part == SPLIT_TRAIN && out->n[part] == 0)
        return lvs_fail(err, LVS_INPUT, "%s: the list \"train\" names no series that is there", source->path);
    return LVS_OK;
}

static enum lvs_status read_document(struct split_source *source, struct split *out, struct lvs_error *err) {
    char *bytes = NULL;
    size_t length = 0;
    LVS_TRY(file_read(source->path, SPLIT_FILE_MAX, &bytes, &length, err));
    json_error_t fault;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &fault), *object = NULL;
    free(bytes);
    if (!root) return lvs_fail(err, LVS_INPUT, "%s:%d: no JSON: %s", source->path, fault.line, fault.text);
    enum lvs_status status = choose_object(source, root, &object, err);
    for (int part = 0; part < SPLIT_COUNT && status == LVS_OK; part++)
        status = read_list(source, object, part, out, err);
    json_decref(root);
    return status;
}

enum lvs_status split_from_file(const struct config *config, const struct series_set *set, struct split *out,
                                struct lvs_error *err) {
    struct split_source source = {.n_file = set->n_file};
    lvs_copy(source.path, sizeof source.path, config->split_file);
    lvs_copy(source.member, sizeof source.member, config->split_member);
    for (int32_t s = 0; s < set->n_series; s++)
        if (set->id[s] >= source.n_file) source.n_file = set->id[s] + 1;
    source.row_of = lvs_malloc((size_t)source.n_file * sizeof *source.row_of);
    source.part_of = lvs_malloc((size_t)source.n_file);
    memset(source.row_of, 0xff, (size_t)source.n_file * sizeof *source.row_of); /* -1 */
    memset(source.part_of, 0xff, (size_t)source.n_file);
    for (int32_t s = 0; s < set->n_series; s++)
        source.row_of[set->id[s]] = s;
    enum lvs_status status = read_document(&source, out, err);
    free(source.row_of);
    free(source.part_of);
    if (status != LVS_OK) split_free(out);
    return status;
}
