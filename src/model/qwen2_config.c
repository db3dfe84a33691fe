/* config.json of a Qwen2 checkpoint, in the spelling of transformers 4 and of 5.
 * Whatever changes the arithmetic and is not computed here is refused by its name; keys that do not (dropout while
 * training, initialisation, cache switches) are left alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_internal.h"

#define CONFIG_MAX_BYTES (1u << 20)
#define HEAD_SIZE_MAX    256 /* the widest that every backend's attention takes */

/* What is being read, for messages. */
struct reader {
    const char *path;
    const json_t *root;
    struct lvs_error *err;
};

static enum lvs_status refuse(const struct reader *reader, const char *key, const char *why) {
    return lvs_fail(reader->err, LVS_INPUT, "%s: %s: %s", reader->path, key, why);
}

/* NULL for a key that is absent or null. */
static const json_t *look_up(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* ---- numbers ---- */

struct integer_key {
    const char *key;
    int32_t low, high, fallback; /* fallback < low: the key must be there */
    size_t offset;               /* into struct qwen2_config */
};

static const struct integer_key integer_keys[] = {
    {"vocab_size", 2, 1 << 24, 0, offsetof(struct qwen2_config, vocab_size)},
    {"hidden_size", 2, 1 << 16, 0, offsetof(struct qwen2_config, hidden)},
    {"intermediate_size", 1, 1 << 18, 0, offsetof(struct qwen2_config, intermediate)},
    {"num_hidden_layers", 1, 512, 0, offsetof(struct qwen2_config, n_layers)},
    {"num_attention_heads", 1, 512, 0, offsetof(struct qwen2_config, n_heads)},
    {"max_position_embeddings", 1, 1 << 24, 32768, offsetof(struct qwen2_config, max_position)},
};

static enum lvs_status read_integer(const struct reader *reader, const struct integer_key *row,
                                    struct qwen2_config *out) {
    int32_t *target = (int32_t *)((char *)out + row->offset);
    const json_t *value = look_up(reader->root, row->key);
    if (!value && row->fallback >= row->low) {
        *target = row->fallback;
        return LVS_OK;
    }
    if (!value) return refuse(reader, row->key, "the key is missing");
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < row->low || number > row->high)
        return lvs_fail(reader->err, LVS_INPUT, "%s: %s: an integer from %d to %d is expected", reader->path, row->key,
                        row->low, row->high);
    *target = (int32_t)number;
    return LVS_OK;
}

static enum lvs_status read_positive(const struct reader *reader, const json_t *object, const char *key,
                                     double fallback, double *out) {
    const json_t *value = look_up(object, key);
    *out = value ? json_number_value(value) : fallback;
    if ((value && !json_is_number(value)) || !(*out > 0) || !isfinite(*out))
        return refuse(reader, key, "a number above zero is expected");
    return LVS_OK;
}

/* -1 for whatever is no id. */
static int32_t id_of(const json_t *value) {
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    return number >= 0 && number < INT32_MAX ? (int32_t)number : -1;
}

static int32_t read_id(const json_t *object, const char *key) {
    return id_of(look_up(object, key));
}

static enum lvs_status add_end(const struct reader *reader, int32_t id, struct qwen2_config *out) {
    bool known = id < 0 || id == out->eos_id;
    for (int32_t i = 0; i < out->n_more_ends; i++)
        known |= id == out->more_ends[i];
    if (known) return LVS_OK;
    if (out->eos_id >= 0 && out->n_more_ends == TOKENIZER_MORE_ENDS)
        return lvs_fail(reader->err, LVS_INPUT,
                        "%s: eos_token_id: more than %d ids that end a text, config.json's and "
                        "generation_config.json's together",
                        reader->path, TOKENIZER_MORE_ENDS + 1);
    if (out->eos_id < 0)
        out->eos_id = id;
    else
        out->more_ends[out->n_more_ends++] = id;
    return LVS_OK;
}

/* A number, or a list of numbers. */
static enum lvs_status read_ends(const struct reader *reader, struct qwen2_config *out) {
    const json_t *value = look_up(reader->root, "eos_token_id");
    if (!json_is_array(value)) return add_end(reader, id_of(value), out);
    for (size_t i = 0; i < json_array_size(value); i++)
        LVS_TRY(add_end(reader, id_of(json_array_get(value, i)), out));
    return LVS_OK;
}

/* ---- what is not computed ---- */

static enum lvs_status check_text(const struct reader *reader, const char *key, const char *allowed) {
    const json_t *value = look_up(reader->root, key);
    const char *text = json_string_value(value);
    if (!value || (text && strcmp(text, allowed) == 0)) return LVS_OK;
    char shown[PRINTABLE_MAX];
    return lvs_fail(reader->err, LVS_INPUT, "%s: %s = %s: only %s is computed", reader->path, key,
                    text ? json_printable(text, shown) : "(not text)", allowed);
}

static enum lvs_status check_architecture(const struct reader *reader) {
    if (!look_up(reader->root, "model_type"))
        return refuse(reader, "model_type", "the key is missing; only qwen2 is computed");
    LVS_TRY(check_text(reader, "model_type", "qwen2"));
    LVS_TRY(check_text(reader, "hidden_act", "silu"));
    const json_t *names = look_up(reader->root, "architectures");
    const char *name = json_string_value(json_array_get(names, 0));
    char shown[PRINTABLE_MAX];
    if (names && (json_array_size(names) != 1 || !name || strcmp(name, "Qwen2ForCausalLM") != 0))
        return lvs_fail(reader->err, LVS_INPUT, "%s: architectures: %s: only Qwen2ForCausalLM is computed",
                        reader->path, name ? json_printable(name, shown) : "(not a list of one name)");
    if (look_up(reader->root, "quantization_config"))
        return refuse(reader, "quantization_config",
                      "quantised weights are not read; use the fp32, bf16 or fp16 checkpoint");
    return LVS_OK;
}

static enum lvs_status check_window(const struct reader *reader) {
    const json_t *sliding = look_up(reader->root, "use_sliding_window");
    if (sliding && !json_is_false(sliding))
        return refuse(reader, "use_sliding_window", "sliding-window attention is not computed; only false is allowed");
    const json_t *types = look_up(reader->root, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        char shown[PRINTABLE_MAX];
        if (!type || strcmp(type, "full_attention") != 0)
            return lvs_fail(reader->err, LVS_INPUT, "%s: layer_types[%zu] = %s: only full_attention is computed",
                            reader->path, i, type ? json_printable(type, shown) : "(not text)");
    }
    return LVS_OK;
}

/* rope_scaling (transformers 4) or rope_parameters (5): nothing but the default kind, whatever its spelling. */
static enum lvs_status check_rope(const struct reader *reader, const char *key, const json_t *rope) {
    if (!rope) return LVS_OK;
    if (!json_is_object(rope)) return refuse(reader, key, "an object is expected");
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)rope, name, value) {
        bool is_type = strcmp(name, "rope_type") == 0 || strcmp(name, "type") == 0;
        const char *text = json_string_value(value);
        char shown[PRINTABLE_MAX], kind[PRINTABLE_MAX];
        if (is_type && (!text || strcmp(text, "default") != 0))
            return lvs_fail(reader->err, LVS_INPUT,
                            "%s: %s: %s = %s: rope scaling is not computed; only default is allowed", reader->path, key,
                            name, text ? json_printable(text, kind) : "(not text)");
        if (!is_type && strcmp(name, "rope_theta") != 0 && !json_is_null(value))
            return lvs_fail(reader->err, LVS_INPUT,
                            "%s: %s: %s is not computed; only rope_theta and rope_type are allowed", reader->path, key,
                            json_printable(name, shown));
    }
    return LVS_OK;
}

static enum lvs_status read_rope(const struct reader *reader, struct qwen2_config *out) {
    const json_t *old = look_up(reader->root, "rope_scaling"), *new = look_up(reader->root, "rope_parameters");
    LVS_TRY(check_rope(reader, "rope_scaling", old));
    LVS_TRY(check_rope(reader, "rope_parameters", new));
    const json_t *holder = look_up(new, "rope_theta") ? new : reader->root;
    return read_positive(reader, holder, "rope_theta", 10000.0, &out->rope_theta);
}

/* ---- heads ---- */

static enum lvs_status read_heads(const struct reader *reader, struct qwen2_config *out) {
    struct integer_key kv = {"num_key_value_heads", 1, 512, out->n_heads, offsetof(struct qwen2_config, n_kv_heads)};
    LVS_TRY(read_integer(reader, &kv, out));
    if (out->n_heads % out->n_kv_heads != 0)
        return lvs_fail(reader->err, LVS_INPUT,
                        "%s: num_attention_heads = %d is no multiple of num_key_value_heads = %d", reader->path,
                        out->n_heads, out->n_kv_heads);
    if (!look_up(reader->root, "head_dim") && out->hidden % out->n_heads != 0)
        return lvs_fail(reader->err, LVS_INPUT, "%s: hidden_size = %d is no multiple of num_attention_heads = %d",
                        reader->path, out->hidden, out->n_heads);
    struct integer_key size = {"head_dim", 2, HEAD_SIZE_MAX, out->hidden / out->n_heads,
                               offsetof(struct qwen2_config, head_size)};
    LVS_TRY(read_integer(reader, &size, out));
    if (out->head_size % 2 != 0 || out->head_size > HEAD_SIZE_MAX)
        return lvs_fail(reader->err, LVS_INPUT, "%s: heads of size %d: rotary pairs need an even size, at most %d",
                        reader->path, out->head_size, HEAD_SIZE_MAX);
    return LVS_OK;
}

static enum lvs_status read_tied(const struct reader *reader, struct qwen2_config *out) {
    const json_t *tied = look_up(reader->root, "tie_word_embeddings");
    if (tied && !json_is_boolean(tied)) return refuse(reader, "tie_word_embeddings", "true or false is expected");
    out->tied = json_is_true(tied);
    return LVS_OK;
}

static enum lvs_status read_all(const struct reader *reader, struct qwen2_config *out) {
    double epsilon;
    LVS_TRY(check_architecture(reader));
    LVS_TRY(check_window(reader));
    for (size_t i = 0; i < sizeof integer_keys / sizeof integer_keys[0]; i++)
        LVS_TRY(read_integer(reader, &integer_keys[i], out));
    LVS_TRY(read_heads(reader, out));
    LVS_TRY(read_positive(reader, reader->root, "rms_norm_eps", 1e-6, &epsilon));
    LVS_TRY(read_rope(reader, out));
    LVS_TRY(read_tied(reader, out));
    out->rms_epsilon = (float)epsilon;
    out->pad_id = read_id(reader->root, "pad_token_id");
    out->eos_id = -1;
    return read_ends(reader, out);
}

/* generation_config.json is advice: what it lacks or misspells is "not given". Its ends of text, which transformers
 * goes by, come to those of config.json. */
static enum lvs_status read_generation(const char *folder, struct qwen2_config *out, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, folder, "generation_config.json", err));
    if (!file_exists(path)) return LVS_OK;
    json_t *root;
    LVS_TRY(json_file_read(path, CONFIG_MAX_BYTES, &root, err));
    out->generation_temperature = (float)json_number_value(look_up(root, "temperature"));
    out->generation_top_p = (float)json_number_value(look_up(root, "top_p"));
    out->generation_repetition_penalty = (float)json_number_value(look_up(root, "repetition_penalty"));
    int32_t top_k = read_id(root, "top_k");
    out->generation_top_k = top_k > 0 ? top_k : 0;
    if (out->pad_id < 0) out->pad_id = read_id(root, "pad_token_id");
    struct reader reader = {.path = path, .root = root, .err = err};
    enum lvs_status status = read_ends(&reader, out);
    json_decref(root);
    return status;
}

/* Vocabularies are resized now and then without a word in config.json: where the weights are there, they decide. */
static enum lvs_status take_vocabulary(const char *folder, struct qwen2_config *out, struct lvs_error *err) {
    static const char *const files[] = {"model.safetensors", "model.safetensors.index.json"};
    bool there = false;
    for (int i = 0; i < 2; i++) {
        char path[LVS_PATH_MAX];
        LVS_TRY(file_join(path, folder, files[i], err));
        there = there || file_exists(path);
    }
    if (!there) return LVS_OK;
    struct safetensors *file;
    LVS_TRY(safetensors_open_folder(folder, &file, err));
    const struct safetensors_entry *table = safetensors_find(file, "model.embed_tokens.weight");
    if (table && table->n_dims == 2 && table->shape[0] >= 2 && table->shape[0] <= 1 << 24)
        out->vocab_size = (int32_t)table->shape[0];
    safetensors_close(file);
    return LVS_OK;
}

enum lvs_status qwen2_config_read(const char *folder, struct qwen2_config *out, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, folder, "config.json", err));
    if (!file_exists(path))
        return lvs_fail(err, LVS_INPUT, "%s: no config.json there: not a Hugging Face model folder", folder);
    json_t *root;
    LVS_TRY(json_file_read(path, CONFIG_MAX_BYTES, &root, err));
    memset(out, 0, sizeof *out);
    struct reader reader = {.path = path, .root = root, .err = err};
    enum lvs_status status = read_all(&reader, out);
    json_decref(root);
    LVS_TRY(status);
    LVS_TRY(read_generation(folder, out, err));
    return take_vocabulary(folder, out, err);
}
