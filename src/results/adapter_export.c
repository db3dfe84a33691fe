/* Adapters as folders: lvsweep.json beside the PEFT files says how numbers became text, so that a forecast needs
 * nothing else; and copying such a folder out. */
#include "results_internal.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INFO_FILE    "lvsweep.json"
#define INFO_FORMAT  "lvsweep adapter"
#define INFO_VERSION 1

static const char *const head_names[] = {[HEAD_FROZEN] = "frozen", [HEAD_BIAS] = "bias", [HEAD_WEIGHT] = "weight"};
static const char *const over_names[] = {[SCALE_VARIABLE] = "variable",
                                         [SCALE_SERIES_MAX] = "series_max",
                                         [SCALE_SERIES] = "series",
                                         [SCALE_TRAIN] = "train"};
static const char *const point_names[] = {[SCALE_POINTS_HISTORY] = "history", [SCALE_POINTS_ALL] = "all"};
#define COUNT(array) (int32_t)(sizeof(array) / sizeof *(array))

/* ---- writing ---- */

static json_t *string_of(const char *text) {
    struct strbuf clean;
    strbuf_init(&clean);
    text_add_utf8(&clean, text);
    json_t *string = json_string(clean.text ? clean.text : "");
    strbuf_free(&clean);
    return string;
}

static json_t *channels_of(const struct adapter_info *info) {
    json_t *list = json_array();
    for (int32_t c = 0; c < info->format.n_channel; c++)
        json_array_append_new(list, json_pack("{s:o, s:o}", "name", string_of(info->channel_name[c]), "unit",
                                              string_of(info->channel_unit[c])));
    return list;
}

static json_t *scaling_of(const struct adapter_info *info) {
    json_t *scaling = json_pack("{s:s, s:s, s:i, s:f, s:f}", "over", over_names[info->scale_over], "points",
                                point_names[info->scale_points], "history_points", info->history_points, "percentile",
                                info->scale_percentile, "to", info->scale_to);
    if (info->scale_over != SCALE_TRAIN) return scaling;
    json_t *factors = json_array();
    for (int32_t c = 0; c < info->format.n_channel; c++)
        json_array_append_new(factors, json_real(info->train_factor[c]));
    json_object_set_new(scaling, "factor", factors);
    return scaling;
}

static json_t *vocabulary_of(const struct tokenizer *tokenizer) {
    json_t *characters = json_object(), *kept = json_array();
    for (int c = 32; c < 127; c++)
        if (tokenizer->id_of[c] >= 0)
            json_object_set_new(characters, (const char[]){(char)c, '\0'}, json_integer(tokenizer->id_of[c]));
    for (int32_t i = 0; i < tokenizer->n_kept; i++)
        json_array_append_new(kept, json_integer(tokenizer->kept[i]));
    json_t *vocabulary =
        json_pack("{s:b, s:i, s:i, s:i, s:o, s:o}", "text_only", tokenizer->text_only, "size", tokenizer->n_vocabulary,
                  "pad_id", tokenizer->pad_id, "eos_id", tokenizer->eos_id, "characters", characters, "kept", kept);
    if (tokenizer->n_more_ends == 0) return vocabulary;
    json_t *ends = json_array();
    for (int32_t i = 0; i < tokenizer->n_more_ends; i++)
        json_array_append_new(ends, json_integer(tokenizer->more_ends[i]));
    json_object_set_new(vocabulary, "more_ends", ends);
    return vocabulary;
}

static json_t *info_to_json(const struct adapter_info *info) {
    const struct text_format *format = &info->format;
    json_t *text = json_pack("{s:i, s:b, s:b, s:f, s:s, s:s}", "decimals", format->decimals, "decimal_point",
                             format->decimal_point, "negative", format->negative, "clip", format->clip,
                             "value_separator", ",", "point_separator", ";");
    json_t *lora = json_pack("{s:i, s:f, s:s}", "rank", info->lora_rank, "alpha", info->lora_alpha, "head",
                             head_names[info->head]);
    return json_pack("{s:s, s:i, s:o, s:s, s:o, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "format", INFO_FORMAT,
                     "version", INFO_VERSION, "trial", string_of(info->trial), "train_key", info->train_key,
                     "base_model", string_of(info->base_model), "model_hash", info->model_hash, "context",
                     info->context, "lora", lora, "text", text, "scaling", scaling_of(info), "channels",
                     channels_of(info), "time_unit", string_of(info->time_unit), "vocabulary",
                     vocabulary_of(&info->tokenizer));
}

static bool in_range(const struct adapter_info *info) {
    return info->head >= 0 && info->head < COUNT(head_names) && info->scale_over >= 0 &&
           info->scale_over < COUNT(over_names) && info->scale_points >= 0 && info->scale_points < COUNT(point_names) &&
           info->format.n_channel >= 1 && info->format.n_channel <= LVS_MAX_CHANNELS && info->tokenizer.n_kept >= 0 &&
           info->tokenizer.n_kept <= TOKENIZER_MAX_IDS;
}

enum lvs_status adapter_info_write(const char *folder, const struct adapter_info *info, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    if (!in_range(info)) return lvs_fail(err, LVS_BUG, "%s: adapter information out of range", folder);
    LVS_TRY(file_make_folder(folder, err));
    LVS_TRY(file_join(path, folder, INFO_FILE, err));
    json_t *json = info_to_json(info);
    char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(json);
    if (!text) return lvs_fail(err, LVS_BUG, "%s: adapter information that JSON cannot hold", path);
    enum lvs_status status = file_write_whole(path, text, strlen(text), err);
    free(text);
    return status;
}

/* ---- reading ---- */

static enum lvs_status choice_read(const json_t *json, const char *name, const char *const *names, int32_t count,
                                   int32_t *out, struct lvs_error *err) {
    const char *text = json_string_value(json_object_get(json, name));
    for (*out = 0; text && *out < count; ++*out)
        if (strcmp(names[*out], text) == 0) return LVS_OK;
    return lvs_fail(err, LVS_INPUT, "\"%s\" is \"%.40s\", which this program does not know", name, text ? text : "");
}

static enum lvs_status text_read(const json_t *json, const char *name, char *out, size_t capacity,
                                 struct lvs_error *err) {
    const char *text = json_string_value(json_object_get(json, name));
    if (!text || strlen(text) >= capacity) return lvs_fail(err, LVS_INPUT, "\"%s\" is missing or too long", name);
    lvs_copy(out, capacity, text);
    return LVS_OK;
}

static enum lvs_status integer_read(const json_t *json, const char *name, int32_t low, int32_t high, int32_t *out,
                                    struct lvs_error *err) {
    const json_t *value = json_object_get(json, name);
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < low || number > high)
        return lvs_fail(err, LVS_INPUT, "\"%s\" must be an integer from %d to %d", name, low, high);
    *out = (int32_t)number;
    return LVS_OK;
}

static enum lvs_status number_read(const json_t *json, const char *name, double low, double *out,
                                   struct lvs_error *err) {
    const json_t *value = json_object_get(json, name);
    *out = json_number_value(value);
    if (!json_is_number(value) || !(*out >= low))
        return lvs_fail(err, LVS_INPUT, "\"%s\" must be a number of at least %g", name, low);
    return LVS_OK;
}

static enum lvs_status channels_read(const json_t *json, struct adapter_info *info, struct lvs_error *err) {
    const json_t *list = json_object_get(json, "channels");
    size_t count = json_array_size(list);
    if (count < 1 || count > LVS_MAX_CHANNELS)
        return lvs_fail(err, LVS_INPUT, "\"channels\" must list 1 to %d channels", LVS_MAX_CHANNELS);
    info->format.n_channel = (int32_t)count;
    for (size_t c = 0; c < count; c++) {
        const json_t *channel = json_array_get(list, c);
        LVS_TRY(text_read(channel, "name", info->channel_name[c], sizeof info->channel_name[c], err));
        LVS_TRY(text_read(channel, "unit", info->channel_unit[c], sizeof info->channel_unit[c], err));
    }
    return LVS_OK;
}

static enum lvs_status text_format_read(const json_t *json, struct text_format *format, struct lvs_error *err) {
    const json_t *text = json_object_get(json, "text");
    LVS_TRY(integer_read(text, "decimals", 0, 6, &format->decimals, err));
    LVS_TRY(number_read(text, "clip", 0, &format->clip, err));
    format->decimal_point = json_is_true(json_object_get(text, "decimal_point"));
    format->negative = json_is_true(json_object_get(text, "negative"));
    return LVS_OK;
}

static enum lvs_status scaling_read(const json_t *json, struct adapter_info *info, struct lvs_error *err) {
    const json_t *scaling = json_object_get(json, "scaling");
    LVS_TRY(choice_read(scaling, "over", over_names, COUNT(over_names), &info->scale_over, err));
    LVS_TRY(choice_read(scaling, "points", point_names, COUNT(point_names), &info->scale_points, err));
    LVS_TRY(integer_read(scaling, "history_points", 0, INT32_MAX, &info->history_points, err));
    LVS_TRY(number_read(scaling, "percentile", 0, &info->scale_percentile, err));
    LVS_TRY(number_read(scaling, "to", 0, &info->scale_to, err));
    for (int c = 0; c < LVS_MAX_CHANNELS; c++)
        info->train_factor[c] = NAN;
    if (info->scale_over != SCALE_TRAIN) return LVS_OK;
    const json_t *factors = json_object_get(scaling, "factor");
    for (int32_t c = 0; c < info->format.n_channel; c++) {
        const json_t *factor = json_array_get(factors, (size_t)c);
        if (!json_is_number(factor) || !(json_number_value(factor) > 0))
            return lvs_fail(err, LVS_INPUT, "\"factor\" must hold a number above zero for every channel");
        info->train_factor[c] = json_number_value(factor);
    }
    return LVS_OK;
}

/* At most `most` ids of the vocabulary; absent = none. */
static enum lvs_status ids_read(const json_t *vocabulary, const char *name, int32_t size, int32_t most, int32_t *out,
                                int32_t *n, struct lvs_error *err) {
    const json_t *list = json_object_get(vocabulary, name);
    *n = (int32_t)json_array_size(list);
    if (json_array_size(list) > (size_t)most)
        return lvs_fail(err, LVS_INPUT, "\"%s\" must list at most %d ids", name, most);
    for (int32_t i = 0; i < *n; i++) {
        json_int_t id = json_integer_value(json_array_get(list, (size_t)i));
        if (id < 0 || id >= size) return lvs_fail(err, LVS_INPUT, "\"%s\" has an id out of range", name);
        out[i] = (int32_t)id;
    }
    return LVS_OK;
}

static enum lvs_status vocabulary_read(const json_t *json, struct tokenizer *tokenizer, struct lvs_error *err) {
    const json_t *vocabulary = json_object_get(json, "vocabulary");
    json_t *characters = json_object_get(vocabulary, "characters"), *id;
    const char *character;
    tokenizer->text_only = json_is_true(json_object_get(vocabulary, "text_only"));
    LVS_TRY(integer_read(vocabulary, "size", 1, INT32_MAX, &tokenizer->n_vocabulary, err));
    LVS_TRY(integer_read(vocabulary, "pad_id", -1, tokenizer->n_vocabulary - 1, &tokenizer->pad_id, err));
    LVS_TRY(integer_read(vocabulary, "eos_id", -1, tokenizer->n_vocabulary - 1, &tokenizer->eos_id, err));
    for (int c = 0; c < 128; c++)
        tokenizer->id_of[c] = -1;
    json_object_foreach(characters, character, id) {
        if (!character[0] || character[1] || character[0] < 32)
            return lvs_fail(err, LVS_INPUT, "\"characters\" must have single characters as names");
        LVS_TRY(integer_read(characters, character, 0, tokenizer->n_vocabulary - 1,
                             &tokenizer->id_of[(unsigned char)character[0]], err));
    }
    LVS_TRY(ids_read(vocabulary, "kept", tokenizer->n_vocabulary, TOKENIZER_MAX_IDS, tokenizer->kept,
                     &tokenizer->n_kept, err));
    return ids_read(vocabulary, "more_ends", tokenizer->n_vocabulary, TOKENIZER_MORE_ENDS, tokenizer->more_ends,
                    &tokenizer->n_more_ends, err);
}

static enum lvs_status info_from_json(const json_t *json, struct adapter_info *info, struct lvs_error *err) {
    const char *format = json_string_value(json_object_get(json, "format"));
    int32_t version;
    if (!format || strcmp(format, INFO_FORMAT) != 0) return lvs_fail(err, LVS_INPUT, "not an adapter of lvsweep");
    LVS_TRY(integer_read(json, "version", 1, INFO_VERSION, &version, err));
    LVS_TRY(text_read(json, "trial", info->trial, sizeof info->trial, err));
    LVS_TRY(text_read(json, "train_key", info->train_key, sizeof info->train_key, err));
    LVS_TRY(text_read(json, "base_model", info->base_model, sizeof info->base_model, err));
    LVS_TRY(text_read(json, "model_hash", info->model_hash, sizeof info->model_hash, err));
    LVS_TRY(text_read(json, "time_unit", info->time_unit, sizeof info->time_unit, err));
    LVS_TRY(integer_read(json, "context", 1, INT32_MAX, &info->context, err));
    const json_t *lora = json_object_get(json, "lora");
    LVS_TRY(integer_read(lora, "rank", 1, LVS_MAX_LORA_RANK, &info->lora_rank, err));
    LVS_TRY(number_read(lora, "alpha", 0, &info->lora_alpha, err));
    LVS_TRY(choice_read(lora, "head", head_names, COUNT(head_names), &info->head, err));
    LVS_TRY(channels_read(json, info, err));
    LVS_TRY(text_format_read(json, &info->format, err));
    LVS_TRY(scaling_read(json, info, err));
    return vocabulary_read(json, &info->tokenizer, err);
}

enum lvs_status adapter_info_read(const char *folder, struct adapter_info *out, struct lvs_error *err) {
    char path[LVS_PATH_MAX], *bytes;
    size_t length;
    json_error_t why;
    memset(out, 0, sizeof *out);
    LVS_TRY(file_join(path, folder, INFO_FILE, err));
    LVS_TRY(file_read(path, 1 << 20, &bytes, &length, err));
    json_t *json = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &why);
    free(bytes);
    if (!json) return lvs_fail(err, LVS_INPUT, "%s:%d: not JSON: %s", path, why.line, why.text);
    enum lvs_status status = info_from_json(json, out, err);
    json_decref(json);
    if (status != LVS_OK) lvs_error_prefix(err, "%s", path);
    return status;
}

/* ---- copying an adapter's folder ---- */

static enum lvs_status copy_file(const char *from, const char *to, const char *name, struct lvs_error *err) {
    char source[LVS_PATH_MAX], target[LVS_PATH_MAX], *bytes;
    size_t length;
    struct stat info;
    LVS_TRY(file_join(source, from, name, err));
    if (stat(source, &info) == 0 && S_ISDIR(info.st_mode)) return LVS_OK;
    LVS_TRY(file_join(target, to, name, err));
    LVS_TRY(file_read(source, (size_t)1 << 36, &bytes, &length, err));
    enum lvs_status status = file_write_whole(target, bytes, length, err);
    free(bytes);
    return status;
}

static enum lvs_status copy_files(const char *from, const char *to, struct lvs_error *err) {
    DIR *folder = opendir(from);
    if (!folder) return lvs_fail(err, LVS_INPUT, "%s: cannot open: %s", from, strerror(errno));
    enum lvs_status status = LVS_OK;
    int32_t count = 0;
    for (struct dirent *entry; status == LVS_OK && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        status = copy_file(from, to, entry->d_name, err);
        count++;
    }
    closedir(folder);
    if (status == LVS_OK && count == 0) status = lvs_fail(err, LVS_INPUT, "%s: no adapter in it", from);
    return status;
}

enum lvs_status adapter_export(const char *from, const char *to, struct lvs_error *err) {
    char aside[LVS_PATH_MAX];
    LVS_TRY(file_check_free(to, err));
    if (snprintf(aside, sizeof aside, "%s.tmp.%ld", to, (long)getpid()) >= (int)sizeof aside)
        return lvs_fail(err, LVS_USAGE, "%s: path too long", to);
    LVS_TRY(file_make_folder(aside, err));
    enum lvs_status status = copy_files(from, aside, err);
    if (status == LVS_OK && rename(aside, to) != 0)
        status = lvs_fail(err, LVS_OUTPUT, "%s: cannot create: %s", to, strerror(errno));
    if (status != LVS_OK) file_remove_folder(aside);
    return status;
}
