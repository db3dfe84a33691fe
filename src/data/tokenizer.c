/* tokenizer.json (the Hugging Face tokenizers format, BPE) read for the ids of single characters. Merges are never
 * applied: every character of LLMTIME text is one id. Untrusted input: sizes are capped, ids are integers in range and
 * distinct, unknown kinds are refused by name.
 * Invariant after reading: all characters and the pad have distinct ids below n_vocabulary. */
#include "data_internal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/file.h"

/* The largest published vocabularies have about 260,000 entries and files of 35 MB. */
#define TOKENIZER_FILE_MAX ((size_t)256 << 20)
#define TOKENIZER_ID_MAX   (1 << 22)

/* Every id of the file with the text it stands for; the texts belong to the JSON document. */
struct id_table {
    const char *path;
    const char **text; /* [capacity], NULL = no such id; owned */
    int32_t capacity, n_ids;
};

static enum lvs_status id_add(struct id_table *table, const char *where, const char *text, const json_t *number,
                              struct lvs_error *err) {
    if (!json_is_integer(number))
        return lvs_fail(err, LVS_INPUT, "%s: %s: the id of \"%.60s\" is no integer", table->path, where, text);
    json_int_t id = json_integer_value(number);
    if (id < 0 || id >= TOKENIZER_ID_MAX)
        return lvs_fail(err, LVS_INPUT, "%s: %s: the id of \"%.60s\" is %lld; ids are 0 to %d", table->path, where,
                        text, (long long)id, TOKENIZER_ID_MAX - 1);
    if (id >= table->capacity) {
        int32_t capacity = table->capacity ? table->capacity : 1024;
        while (id >= capacity)
            capacity *= 2;
        table->text = lvs_realloc(table->text, (size_t)capacity * sizeof *table->text);
        memset(table->text + table->capacity, 0, (size_t)(capacity - table->capacity) * sizeof *table->text);
        table->capacity = capacity;
    }
    /* An added token may repeat its entry of the vocabulary. */
    if (table->text[id] && strcmp(table->text[id], text) != 0)
        return lvs_fail(err, LVS_INPUT, "%s: %s: \"%.60s\" and \"%.60s\" share the id %lld", table->path, where,
                        table->text[id], text, (long long)id);
    table->text[id] = text;
    if (id >= table->n_ids) table->n_ids = (int32_t)id + 1;
    return LVS_OK;
}

static enum lvs_status read_vocabulary(struct id_table *table, json_t *root, struct lvs_error *err) {
    json_t *model = json_object_get(root, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!type)
        return lvs_fail(err, LVS_INPUT, "%s: no model.type; a Hugging Face BPE tokenizer is needed", table->path);
    if (strcmp(type, "BPE") != 0)
        return lvs_fail(err, LVS_INPUT, "%s: model.type is %.60s; only BPE is read", table->path, type);
    json_t *vocabulary = json_object_get(model, "vocab");
    if (!json_is_object(vocabulary))
        return lvs_fail(err, LVS_INPUT, "%s: model.vocab is no object of texts and ids", table->path);
    const char *text;
    json_t *id;
    json_object_foreach(vocabulary, text, id) LVS_TRY(id_add(table, "model.vocab", text, id, err));
    return LVS_OK;
}

/* Adds the added tokens. An added token that is in the vocabulary too must have the same id there. */
static enum lvs_status read_added(struct id_table *table, json_t *root, struct lvs_error *err) {
    json_t *added = json_object_get(root, "added_tokens");
    json_t *vocabulary = json_object_get(json_object_get(root, "model"), "vocab");
    if (!added || json_is_null(added)) return LVS_OK;
    if (!json_is_array(added)) return lvs_fail(err, LVS_INPUT, "%s: added_tokens is no list", table->path);
    size_t index;
    json_t *token;
    json_array_foreach(added, index, token) {
        const char *text = json_string_value(json_object_get(token, "content"));
        json_t *id = json_object_get(token, "id");
        if (!text) return lvs_fail(err, LVS_INPUT, "%s: added_tokens[%zu] has no content", table->path, index);
        LVS_TRY(id_add(table, "added_tokens", text, id, err));
        json_t *other = json_object_get(vocabulary, text);
        if (other && json_integer_value(other) != json_integer_value(id))
            return lvs_fail(err, LVS_INPUT, "%s: \"%.60s\" has the id %lld in model.vocab and %lld in added_tokens",
                            table->path, text, (long long)json_integer_value(other), (long long)json_integer_value(id));
    }
    return LVS_OK;
}

static enum lvs_status find_characters(const struct id_table *table, json_t *root, struct tokenizer *out,
                                       struct lvs_error *err) {
    json_t *vocabulary = json_object_get(json_object_get(root, "model"), "vocab");
    memset(out->id_of, 0xff, sizeof out->id_of); /* -1 */
    for (const char *c = TOKENIZER_CHARACTERS; *c; c++) {
        json_t *id = json_object_get(vocabulary, (char[2]){*c, '\0'});
        if (!id)
            return lvs_fail(
                err, LVS_INPUT,
                "%s: the character '%c' is no entry of model.vocab; every one of %s must be a token of its own",
                table->path, *c, TOKENIZER_CHARACTERS);
        out->id_of[(unsigned char)*c] = (int32_t)json_integer_value(id);
    }
    return LVS_OK;
}

/* `<|endoftext|>` where there is one, else config.json's hint, else the first added token. */
static enum lvs_status find_pad(const struct id_table *table, json_t *root, int32_t hint, struct tokenizer *out,
                                struct lvs_error *err) {
    json_t *added = json_object_get(root, "added_tokens"), *token;
    json_t *found = json_object_get(json_object_get(json_object_get(root, "model"), "vocab"), "<|endoftext|>");
    size_t index;
    json_array_foreach(added, index, token) if (strcmp(json_string_value(json_object_get(token, "content")),
                                                       "<|endoftext|>") == 0) found = json_object_get(token, "id");
    int64_t pad = hint;
    if (found)
        pad = json_integer_value(found);
    else if (hint < 0 && json_array_size(added) > 0)
        pad = json_integer_value(json_object_get(json_array_get(added, 0), "id"));
    if (pad < 0)
        return lvs_fail(err, LVS_INPUT,
                        "%s: no token to pad with: no <|endoftext|>, no added token, and config.json names no "
                        "pad_token_id or eos_token_id",
                        table->path);
    if (pad >= table->n_ids || !table->text[pad])
        return lvs_fail(err, LVS_INPUT, "%s: config.json's pad or end id %lld is no id of this vocabulary (0 to %d)",
                        table->path, (long long)pad, table->n_ids - 1);
    for (const char *c = TOKENIZER_CHARACTERS; *c; c++)
        if (out->id_of[(unsigned char)*c] == pad)
            return lvs_fail(err, LVS_INPUT, "%s: the id to pad with, %lld, is the character '%c'", table->path,
                            (long long)pad, *c);
    out->pad_id = out->eos_id = (int32_t)pad;
    return LVS_OK;
}

static enum lvs_status read_root(struct id_table *table, json_t *root, int32_t hint_pad, struct tokenizer *out,
                                 struct lvs_error *err) {
    LVS_TRY(read_vocabulary(table, root, err));
    LVS_TRY(read_added(table, root, err));
    LVS_TRY(find_characters(table, root, out, err));
    LVS_TRY(find_pad(table, root, hint_pad, out, err));
    out->n_vocabulary = table->n_ids;
    tokenizer_keep(out, TOKENIZER_CHARACTERS);
    return LVS_OK;
}

enum lvs_status tokenizer_read(const char *folder, bool text_only, int32_t hint_pad, struct tokenizer *out,
                               struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    char *bytes = NULL;
    size_t length = 0;
    *out = (struct tokenizer){0};
    LVS_TRY(file_join(path, folder, "tokenizer.json", err));
    LVS_TRY(file_read(path, TOKENIZER_FILE_MAX, &bytes, &length, err));
    enum lvs_status status = tokenizer_parse(path, bytes, length, text_only, hint_pad, out, err);
    free(bytes);
    return status;
}

enum lvs_status tokenizer_parse(const char *path, const char *bytes, size_t length, bool text_only, int32_t hint_pad,
                                struct tokenizer *out, struct lvs_error *err) {
    *out = (struct tokenizer){.text_only = text_only};
    json_error_t fault;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &fault);
    if (!root) return lvs_fail(err, LVS_INPUT, "%s:%d: not a tokenizer.json: %s", path, fault.line, fault.text);
    struct id_table table = {.path = path};
    enum lvs_status status = read_root(&table, root, hint_pad, out, err);
    free(table.text);
    json_decref(root);
    return status;
}

static bool can_end(const struct tokenizer *tokenizer, int32_t id) {
    for (const char *c = TOKENIZER_CHARACTERS; *c; c++)
        if (tokenizer->id_of[(unsigned char)*c] == id) return false;
    return id >= 0 && id < tokenizer->n_vocabulary;
}

/* In the checkpoint's vocabulary. */
static bool ends_already(const struct tokenizer *tokenizer, int32_t id) {
    bool found = id == tokenizer->pad_id || id == tokenizer->eos_id;
    for (int32_t i = 0; i < tokenizer->n_more_ends; i++)
        found |= id == tokenizer->more_ends[i];
    return found;
}

void tokenizer_take_ends(struct tokenizer *tokenizer, int32_t eos_id, const int32_t *more, int32_t n_more) {
    if (can_end(tokenizer, eos_id)) tokenizer->eos_id = eos_id;
    for (int32_t i = 0; i < n_more && tokenizer->n_more_ends < TOKENIZER_MORE_ENDS; i++)
        if (can_end(tokenizer, more[i]) && !ends_already(tokenizer, more[i]))
            tokenizer->more_ends[tokenizer->n_more_ends++] = more[i];
}

bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id) {
    return tokenizer->text_only ? id == tokenizer_pad(tokenizer) : ends_already(tokenizer, id);
}

void tokenizer_write_ends(const struct tokenizer *tokenizer, char out[TOKENIZER_ENDS_TEXT]) {
    int length = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < tokenizer->n_more_ends && !tokenizer->text_only; i++)
        length +=
            snprintf(out + length, TOKENIZER_ENDS_TEXT - (size_t)length, "%s%d", i ? "," : "", tokenizer->more_ends[i]);
}

void tokenizer_keep(struct tokenizer *tokenizer, const char *characters) {
    tokenizer->n_kept = 0;
    for (const char *c = TOKENIZER_CHARACTERS; *c; c++)
        if (strchr(characters, *c)) tokenizer->kept[tokenizer->n_kept++] = tokenizer->id_of[(unsigned char)*c];
    tokenizer->kept[tokenizer->n_kept++] = tokenizer->pad_id;
}

/* The id used in windows for one in the checkpoint's vocabulary; -1 = none. */
static int32_t used_id(const struct tokenizer *tokenizer, int32_t id) {
    if (!tokenizer->text_only || id < 0) return id;
    for (int32_t local = 0; local < tokenizer->n_kept; local++)
        if (tokenizer->kept[local] == id) return local;
    return -1;
}

enum lvs_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length, int32_t *ids,
                                 struct lvs_error *err) {
    int32_t id_of[128];
    for (int c = 0; c < 128; c++)
        id_of[c] = used_id(tokenizer, tokenizer->id_of[c]);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        ids[i] = c < 128 ? id_of[c] : -1;
        if (ids[i] < 0)
            return lvs_fail(err, LVS_BUG, "character 0x%02x at %zu has no id in the %s vocabulary", c, i,
                            tokenizer->text_only ? "text" : "checkpoint's");
    }
    return LVS_OK;
}

void tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, int32_t count, struct strbuf *out) {
    char character[sizeof TOKENIZER_CHARACTERS] = TOKENIZER_CHARACTERS;
    int32_t id_of[sizeof TOKENIZER_CHARACTERS - 1];
    const int32_t n_characters = (int32_t)sizeof TOKENIZER_CHARACTERS - 1;
    for (int32_t k = 0; k < n_characters; k++)
        id_of[k] = used_id(tokenizer, tokenizer->id_of[(unsigned char)character[k]]);
    strbuf_add(out, "");
    for (int32_t i = 0; i < count; i++) {
        char found = '?';
        for (int32_t k = 0; k < n_characters; k++)
            if (id_of[k] == ids[i] && ids[i] >= 0) found = character[k];
        strbuf_add_bytes(out, &found, 1);
    }
}

int32_t tokenizer_pad(const struct tokenizer *tokenizer) {
    return tokenizer->text_only ? tokenizer->n_kept - 1 : tokenizer->pad_id;
}
