/* Exports. A merged checkpoint is a copy of the base model's files whose merged matrices are overwritten in place:
 * headers, names and every other byte stay what they were. Built aside, renamed when it is verified. */
#include "export_adapter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lvsweep/log.h"

/* ---- verification ---- */

struct verification {
    float *with_adapter, *bare, *exported; /* [VERIFY_TOKENS][vocabulary], owned */
    int64_t count;
};

static void verification_free(struct verification *verification) {
    free(verification->with_adapter);
    free(verification->bare);
    free(verification->exported);
}

static enum lvs_status verification_begin(const struct opened_adapter *adapter, struct verification *out,
                                          struct lvs_error *err) {
    const struct tokenizer *tokenizer = &adapter->info.tokenizer;
    out->count = (int64_t)VERIFY_TOKENS * model_vocabulary(adapter->model);
    out->with_adapter = lvs_calloc((size_t)out->count, sizeof(float));
    out->bare = lvs_calloc((size_t)out->count, sizeof(float));
    out->exported = lvs_calloc((size_t)out->count, sizeof(float));
    LVS_TRY(adapter_logits(adapter->model, &adapter->layout, &adapter->adapters, tokenizer, out->with_adapter, err));
    return adapter_logits(adapter->model, NULL, NULL, tokenizer, out->bare, err);
}

/* Fails when the exported logits are further off than `tolerance` of the largest one. */
static enum lvs_status verification_end(const struct verification *verification, double tolerance, const char *output,
                                        struct lvs_error *err) {
    struct logit_difference error =
        logits_compare(verification->with_adapter, verification->exported, verification->count);
    struct logit_difference effect =
        logits_compare(verification->with_adapter, verification->bare, verification->count);
    bool lost = error.difference > 0.5 * effect.difference;
    if (!(error.difference <= tolerance * error.largest) || (lost && error.difference > 0.005 * error.largest))
        return lvs_fail(err, LVS_BUG,
                        "%s: read back, its logits differ by up to %.3g from base and adapter (largest logit %.3g, "
                        "allowed %.3g): the export is not kept",
                        output, error.difference, error.largest, tolerance * error.largest);
    printf("verified: read back, logits differ by at most %.3g (the adapter itself changes them by up to %.3g, the "
           "largest is %.3g)\n",
           error.difference, effect.difference, error.largest);
    if (effect.difference > 0 && lost)
        log_warning("%s: rounding to the checkpoint's type takes most of the adapter's effect away; use the adapter",
                    output);
    return LVS_OK;
}

/* ---- the adapter as it is ---- */

static enum lvs_status verify_copy(const struct adapter_source *source, const char *output, struct lvs_error *err) {
    struct adapter_source copy = *source;
    struct opened_adapter *first = lvs_calloc(2, sizeof *first), *second = first + 1;
    struct verification verification = {0};
    copy.folder = output;
    copy.trial = NULL;
    enum lvs_status status = adapter_open(source, first, err);
    if (status == LVS_OK) status = verification_begin(first, &verification, err);
    if (status == LVS_OK) copy.model = first->model_folder;
    if (status == LVS_OK) status = adapter_open(&copy, second, err);
    if (status == LVS_OK)
        status = adapter_logits(second->model, &second->layout, &second->adapters, &second->info.tokenizer,
                                verification.exported, err);
    if (status == LVS_OK) status = verification_end(&verification, 0, output, err);
    verification_free(&verification);
    adapter_close(second);
    adapter_close(first);
    free(first);
    return status;
}

/* PEFT's format has no place for it, so peft would compute without. */
static void tell_of_head(const char *output) {
    char head[LVS_PATH_MAX];
    struct lvs_error ignored;
    if (file_join(head, output, "head.safetensors", &ignored) == LVS_OK && file_exists(head))
        log_warning(
            "%s: the trained head lies in head.safetensors beside the adapter; lvsweep reads it, peft and other "
            "programs do not",
            output);
}

enum lvs_status export_adapter(const struct adapter_source *source, const char *output, struct lvs_error *err) {
    char folder[LVS_PATH_MAX];
    struct lvs_error why = {0};
    LVS_TRY(adapter_locate(source, folder, err));
    LVS_TRY(adapter_export(folder, output, err));
    printf("%s: the adapter of %s\n", output, folder);
    tell_of_head(output);
    enum lvs_status status = verify_copy(source, output, &why);
    if (status == LVS_BUG) {
        file_remove_folder(output);
        *err = why;
        return status;
    }
    if (status != LVS_OK) log_warning("the copy is complete, but was not verified: %s", why.text);
    return LVS_OK;
}

/* ---- copying the base model ---- */

static bool has_suffix_of(const char *name, const char *const *suffixes) {
    for (; *suffixes; suffixes++)
        if (cli_has_suffix(name, *suffixes)) return true;
    return false;
}

/* Configuration, tokenizer and weights; not other formats of the same weights. */
static bool belongs(const char *name) {
    static const char *const suffixes[] = {".json", ".safetensors", ".txt", ".model", ".jinja", NULL};
    return name[0] != '.' && (has_suffix_of(name, suffixes) || strncmp(name, "LICENSE", 7) == 0);
}

static enum lvs_status copy_file(const char *from, const char *to, struct lvs_error *err) {
    enum { BLOCK = 1 << 20 };
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    char *block = lvs_malloc(BLOCK);
    ssize_t got = in >= 0 && out >= 0 ? 1 : -1;
    while (got > 0) {
        got = read(in, block, BLOCK);
        for (ssize_t done = 0, put; got > 0 && done < got; done += put)
            if ((put = write(out, block + done, (size_t)(got - done))) < 0) {
                got = -1;
                break;
            }
    }
    int reason = errno;
    bool good = got == 0 && fsync(out) == 0;
    free(block);
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    return good ? LVS_OK : lvs_fail(err, LVS_OUTPUT, "%s: cannot copy to %s: %s", from, to, strerror(reason));
}

static enum lvs_status copy_model(const char *from, const char *to, struct lvs_error *err) {
    DIR *folder = opendir(from);
    if (!folder) return lvs_fail(err, LVS_INPUT, "%s: cannot open: %s", from, strerror(errno));
    enum lvs_status status = LVS_OK;
    for (struct dirent *entry; status == LVS_OK && (entry = readdir(folder));) {
        char source[LVS_PATH_MAX], target[LVS_PATH_MAX];
        if (!belongs(entry->d_name)) continue;
        status = file_join(source, from, entry->d_name, err);
        if (status == LVS_OK) status = file_join(target, to, entry->d_name, err);
        if (status == LVS_OK && !file_is_folder(source)) status = copy_file(source, target, err);
    }
    closedir(folder);
    return status;
}

/* ---- merging ---- */

/* Which matrix a tensor's name means: "model.layers.3.self_attn.q_proj.weight". */
static bool parse_name(const char *name, int32_t *layer, int32_t *target) {
    static const char *const modules[LORA_TARGET_COUNT] = {
        [LORA_TARGET_Q] = "self_attn.q_proj.weight", [LORA_TARGET_K] = "self_attn.k_proj.weight",
        [LORA_TARGET_V] = "self_attn.v_proj.weight", [LORA_TARGET_O] = "self_attn.o_proj.weight",
        [LORA_TARGET_GATE] = "mlp.gate_proj.weight", [LORA_TARGET_UP] = "mlp.up_proj.weight",
        [LORA_TARGET_DOWN] = "mlp.down_proj.weight",
    };
    int used = 0;
    if (sscanf(name, "model.layers.%d.%n", layer, &used) != 1 || used == 0) return false;
    for (*target = 0; *target < LORA_TARGET_COUNT; ++*target)
        if (strcmp(name + used, modules[*target]) == 0) return true;
    return false;
}

/* w [n_out][n_in] += scale · B [n_out][rank] · A [rank][n_in]; sums in double. */
static void add_product(const struct opened_adapter *adapter, int32_t layer, int32_t target, float *w) {
    const struct lora_layout *layout = &adapter->layout;
    const float *block = adapter->host_params + layer * layout->layer_floats;
    const float *a = block + layout->site_a[target], *b = block + layout->site_b[target];
    const int64_t n_in = layout->n_in[target], n_out = layout->n_out[target];
    const double scale = settings_lora_scale(&adapter->settings);
    double *row = lvs_malloc((size_t)n_in * sizeof *row);
    for (int64_t o = 0; o < n_out; o++) {
        memset(row, 0, (size_t)n_in * sizeof *row);
        for (int32_t r = 0; r < adapter->settings.lora_rank; r++)
            for (int64_t i = 0; i < n_in; i++)
                row[i] += (double)b[o * layout->rank + r] * (double)a[r * n_in + i];
        for (int64_t i = 0; i < n_in; i++)
            w[o * n_in + i] = (float)((double)w[o * n_in + i] + scale * row[i]);
    }
    free(row);
}

/* head = weight: the trained rows; a tied head is the embedding. */
static bool put_head(const struct opened_adapter *adapter, const char *name, int64_t cols, float *w) {
    const struct lora_layout *layout = &adapter->layout;
    const struct tokenizer *tokenizer = &adapter->info.tokenizer;
    const char *head = model_config(adapter->model)->tied ? "model.embed_tokens.weight" : "lm_head.weight";
    if (layout->head_offset < 0 || strcmp(name, head) != 0) return false;
    for (int64_t row = 0; row < layout->n_vocabulary; row++) {
        int64_t to = tokenizer->text_only ? tokenizer->kept[row] : row;
        memcpy(w + to * cols, adapter->host_params + layout->head_offset + row * cols, (size_t)cols * sizeof *w);
    }
    return true;
}

static uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); /* nearest, ties to even */
}

/* Floats in the tensor's type, in place: every type is at most as wide. */
static void narrow(float *values, int64_t count, enum tensor_type type) {
    unsigned char *out = (unsigned char *)values;
    for (int64_t i = 0; i < count && type != TENSOR_F32; i++) {
        float value = values[i];
        uint16_t bits = to_bf16(value);
        if (type == TENSOR_F16) {
            _Float16 half = (_Float16)value;
            memcpy(&bits, &half, sizeof bits);
        }
        memcpy(out + 2 * i, &bits, sizeof bits);
    }
}

struct merge {
    const struct opened_adapter *adapter;
    int32_t n_merged;
    double tolerance; /* of logits, by the coarsest type that was written */
};

static enum lvs_status merge_tensor(struct merge *merge, const struct safetensors_entry *entry, int file, off_t offset,
                                    const char *path, struct lvs_error *err) {
    int32_t layer, target;
    bool matrix =
        entry->n_dims == 2 && (entry->type == TENSOR_F32 || entry->type == TENSOR_BF16 || entry->type == TENSOR_F16);
    bool pair = matrix && parse_name(entry->name, &layer, &target) && layer < merge->adapter->layout.n_layers &&
                merge->adapter->layout.site_a[target] >= 0;
    if (!matrix) return LVS_OK;
    if (!pair && (merge->adapter->layout.head_offset < 0 || strstr(entry->name, "layers"))) return LVS_OK;
    int64_t count = entry->shape[0] * entry->shape[1];
    float *values = lvs_malloc((size_t)count * sizeof *values);
    tensor_to_float(entry->data, entry->type, count, values);
    bool changed = pair || put_head(merge->adapter, entry->name, entry->shape[1], values);
    if (pair) add_product(merge->adapter, layer, target, values);
    ssize_t put = (ssize_t)entry->bytes;
    if (changed) {
        narrow(values, count, entry->type);
        put = pwrite(file, values, entry->bytes, offset);
        merge->n_merged += pair;
        merge->tolerance = fmax(merge->tolerance, entry->type == TENSOR_F32   ? 1e-4
                                                  : entry->type == TENSOR_F16 ? 0.005
                                                                              : 0.02);
    }
    free(values);
    return put == (ssize_t)entry->bytes ? LVS_OK
                                        : lvs_fail(err, LVS_OUTPUT, "%s: cannot write: %s", path, strerror(errno));
}

/* Tensors lie after the header (8 bytes of length, then that many) without gaps, as safetensors_open has checked: the
 * lowest one is the first. */
static enum lvs_status merge_file(struct merge *merge, const char *base, const char *path, struct lvs_error *err) {
    struct safetensors *tensors;
    uint64_t header = 0;
    LVS_TRY(safetensors_open(base, &tensors, err));
    int file = open(path, O_RDWR | O_CLOEXEC);
    enum lvs_status status = LVS_OK;
    if (file < 0 || pread(file, &header, sizeof header, 0) != sizeof header)
        status = lvs_fail(err, LVS_OUTPUT, "%s: cannot open: %s", path, strerror(errno));
    const char *first = NULL;
    for (int32_t i = 0; i < safetensors_count(tensors); i++) {
        const char *data = safetensors_at(tensors, i)->data;
        if (!first || data < first) first = data;
    }
    for (int32_t i = 0; i < safetensors_count(tensors) && status == LVS_OK; i++) {
        const struct safetensors_entry *entry = safetensors_at(tensors, i);
        off_t offset = (off_t)(sizeof header + header) + ((const char *)entry->data - first);
        status = merge_tensor(merge, entry, file, offset, path, err);
    }
    if (status == LVS_OK && fsync(file) != 0)
        status = lvs_fail(err, LVS_OUTPUT, "%s: cannot write: %s", path, strerror(errno));
    if (file >= 0) close(file);
    safetensors_close(tensors);
    return status;
}

static enum lvs_status merge_folder(struct merge *merge, const char *to, struct lvs_error *err) {
    const char *from = merge->adapter->model_folder;
    DIR *folder = opendir(to);
    if (!folder) return lvs_fail(err, LVS_OUTPUT, "%s: cannot open: %s", to, strerror(errno));
    enum lvs_status status = LVS_OK;
    for (struct dirent *entry; status == LVS_OK && (entry = readdir(folder));) {
        char base[LVS_PATH_MAX], path[LVS_PATH_MAX];
        if (!cli_has_suffix(entry->d_name, ".safetensors")) continue;
        status = file_join(base, from, entry->d_name, err);
        if (status == LVS_OK) status = file_join(path, to, entry->d_name, err);
        if (status == LVS_OK) status = merge_file(merge, base, path, err);
    }
    closedir(folder);
    int32_t wanted = 0;
    for (int t = 0; t < LORA_TARGET_COUNT; t++)
        if (merge->adapter->layout.site_a[t] >= 0) wanted += merge->adapter->layout.n_layers;
    if (status == LVS_OK && merge->n_merged != wanted)
        status = lvs_fail(err, LVS_INPUT, "%s: %d of the adapter's %d matrices were found there", from, merge->n_merged,
                          wanted);
    return status;
}

static enum lvs_status verify_merged(const struct opened_adapter *adapter, const char *folder, const char *output,
                                     double tolerance, struct lvs_error *err) {
    const struct tokenizer *tokenizer = &adapter->info.tokenizer;
    struct model_source source = {.folder = folder};
    struct verification verification = {0};
    struct model *merged = NULL;
    if (tokenizer->text_only) {
        source.kept_rows = tokenizer->kept;
        source.n_kept = tokenizer->n_kept;
    }
    enum lvs_status status = verification_begin(adapter, &verification, err);
    if (status == LVS_OK) status = model_open(&adapter->compute, &source, &merged, err);
    if (status == LVS_OK) status = adapter_logits(merged, NULL, NULL, tokenizer, verification.exported, err);
    if (status == LVS_OK) status = verification_end(&verification, tolerance, output, err);
    model_close(merged);
    verification_free(&verification);
    return status;
}

/* A bias on the head has no place in a Qwen2 checkpoint: it is left out, in words, here and in the comparison. */
static void drop_bias(struct opened_adapter *adapter, const char *output) {
    const struct lora_layout *layout = &adapter->layout;
    if (layout->bias_offset < 0) return;
    const size_t bytes = (size_t)layout->n_vocabulary * sizeof(float);
    adapter->compute.backend->fill_zero(adapter->compute.device, adapter->adapters.params + layout->bias_offset, bytes);
    log_warning("%s: the trained bias of the head has no place in a Qwen2 checkpoint and is left out; it is in "
                "%s/head.safetensors",
                output, adapter->folder);
}

static enum lvs_status build(struct opened_adapter *adapter, const char *aside, const char *output,
                             struct lvs_error *err) {
    struct merge merge = {.adapter = adapter};
    LVS_TRY(file_make_folder(aside, err));
    LVS_TRY(copy_model(adapter->model_folder, aside, err));
    LVS_TRY(merge_folder(&merge, aside, err));
    drop_bias(adapter, output);
    LVS_TRY(verify_merged(adapter, aside, output, merge.tolerance, err));
    if (rename(aside, output) != 0) return lvs_fail(err, LVS_OUTPUT, "%s: cannot create: %s", output, strerror(errno));
    printf("%s: %s with %d matrices merged\n", output, adapter->model_folder, merge.n_merged);
    return LVS_OK;
}

enum lvs_status export_merged(const struct adapter_source *source, const char *output, struct lvs_error *err) {
    char aside[LVS_PATH_MAX];
    LVS_TRY(file_check_free(output, err));
    if (snprintf(aside, sizeof aside, "%s.tmp.%ld", output, (long)getpid()) >= (int)sizeof aside)
        return lvs_fail(err, LVS_USAGE, "%s: path too long", output);
    struct opened_adapter *adapter = lvs_calloc(1, sizeof *adapter);
    enum lvs_status status = adapter_open(source, adapter, err);
    if (status == LVS_OK) status = build(adapter, aside, output, err);
    if (status != LVS_OK) file_remove_folder(aside);
    adapter_close(adapter);
    free(adapter);
    return status;
}
