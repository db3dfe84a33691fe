/* From config to series, splits, tokens and windows: one path for pricing (rank 0) and for training (every trainer). */
#include <stdlib.h>

#include "sweep_internal.h"

/* vocabulary = text, head_rows = text: only what this data's text can contain. */
static void keep_written_characters(struct material *material) {
    const struct series_set *set = &material->set;
    struct text_format format = text_format_make(material->config, material->config->defaults.decimals, set->n_channel);
    char characters[TEXT_CHARACTERS_MAX];
    size_t n = (size_t)set->n_series * (size_t)set->n_time * (size_t)set->n_channel;
    bool any_negative = false;
    for (size_t i = 0; i < n; i++)
        any_negative = any_negative || set->values[i] < 0;
    text_format_characters(&format, any_negative, characters);
    tokenizer_keep(&material->tokenizer, characters);
}

enum lvs_status material_open(const struct config *config, const char *model_folder, const struct qwen2_config *model,
                              struct material *out, struct lvs_error *err) {
    *out = (struct material){.config = config};
    int32_t pad = model->pad_id >= 0 ? model->pad_id : model->eos_id;
    LVS_TRY(tokenizer_read(model_folder, config->vocabulary == VOCABULARY_TEXT, pad, &out->tokenizer, err));
    tokenizer_take_ends(&out->tokenizer, model->eos_id, model->more_ends, model->n_more_ends);
    LVS_TRY(series_read(config, &out->set, err));
    if (out->tokenizer.text_only || config->head_rows == HEAD_ROWS_TEXT) keep_written_characters(out);
    enum lvs_status status = split_make(config, &out->set, &out->split, err);
    if (status != LVS_OK) series_free(&out->set);
    return status;
}

enum lvs_status sweep_inspect_data(const struct config *config, struct lvs_error *err) {
    struct series_set set;
    struct split split;
    LVS_TRY(series_read(config, &set, err));
    enum lvs_status status = split_make(config, &set, &split, err);
    if (status == LVS_OK) split_free(&split);
    series_free(&set);
    return status;
}

void material_close(struct material *material) {
    split_free(&material->split);
    series_free(&material->set);
}

struct text_format material_format(const struct material *material, const struct settings *settings) {
    return text_format_make(material->config, settings->decimals, material->set.n_channel);
}

enum lvs_status material_scaling(const struct material *material, const struct settings *settings, struct scaling *out,
                                 struct lvs_error *err) {
    int32_t history, horizon;
    forecast_extent(settings, material->set.n_time, &history, &horizon);
    return scaling_make(material->config, &material->set, &material->split, history, out, err);
}

void material_extent(const struct material *material, enum split_part part, int32_t *from, int32_t *to) {
    const int32_t *cut = material->split.time_cut;
    *from = 0;
    *to = material->set.n_time;
    if (cut[0] <= 0) return;
    if (part != SPLIT_TRAIN) *from = part == SPLIT_VALIDATION ? cut[0] : cut[1];
    if (part != SPLIT_TEST) *to = part == SPLIT_TRAIN ? cut[0] : cut[1];
}

enum lvs_status material_tokens(const struct material *material, const struct settings *settings, enum split_part part,
                                struct token_set *out, struct lvs_error *err) {
    struct scaling scaling;
    LVS_TRY(material_scaling(material, settings, &scaling, err));
    struct text_format format = material_format(material, settings);
    int32_t from, to;
    material_extent(material, part, &from, &to);
    enum lvs_status status = token_set_make(&material->set, &scaling, &format, &material->tokenizer,
                                            material->split.rows[part], material->split.n[part], from, to, out, err);
    scaling_free(&scaling);
    if (status != LVS_OK) return lvs_error_prefix(err, "%s", material->config->data_file);
    return LVS_OK;
}

enum lvs_status material_windows(const struct material *material, const struct settings *settings, enum split_part part,
                                 struct window_set *out, int64_t *n_values, struct lvs_error *err) {
    struct token_set tokens;
    LVS_TRY(material_tokens(material, settings, part, &tokens, err));
    int32_t stride = part == SPLIT_TRAIN ? window_stride(&settings->stride, settings->context) : settings->context;
    enum lvs_status status = window_set_make(&tokens, settings->context, stride, settings->padding,
                                             tokenizer_pad(&material->tokenizer), out, err);
    *n_values = 0;
    for (int32_t i = 0; i < tokens.n_series; i++)
        *n_values += tokens.values[i];
    token_set_free(&tokens);
    return status;
}

int32_t material_n_forecasts(const struct material *material, const struct series_choice *choice,
                             enum split_part part) {
    int32_t all = material->split.n[part];
    int64_t wanted = (int64_t)choice->first + choice->worst + choice->random;
    return wanted == 0 || wanted > all ? all : (int32_t)wanted;
}
