/* A pass: activations for one layout, allocated once and used step after step; the tables that rows need (positions,
 * rotary angles, adapter of each slot). The arithmetic's order is in qwen2_forward.c and qwen2_backward.c. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

/* ---- shape ---- */

/* Everything about a pass that needs no device. */
static struct pass *pass_outline(const struct model *model, const struct pass_options *options, int32_t n_positions) {
    struct pass *pass = lvs_calloc(1, sizeof *pass);
    int32_t n_layers = model->config.n_layers;
    pass->model = model;
    pass->options = *options;
    pass->lora = options->lora ? *options->lora : (struct lora_layout){.bias_offset = -1, .head_offset = -1};
    pass->options.lora = options->lora ? &pass->lora : NULL;
    pass->layout = pack_layout_make(options->n_slots, options->n_sequences, options->context);
    pass->n_positions = n_positions;
    pass->groups = lvs_calloc((size_t)n_layers, sizeof *pass->groups);
    pass->layers = lvs_calloc((size_t)n_layers, sizeof *pass->layers);
    pass->adapter_of_slot = lvs_calloc((size_t)options->n_slots, sizeof *pass->adapter_of_slot);
    for (int32_t l = 0; l < n_layers; l++)
        lora_groups_make(pass->options.lora, l, pass->groups[l]);
    return pass;
}

static void pass_outline_free(struct pass *pass) {
    free(pass->groups);
    free(pass->layers);
    free(pass->adapter_of_slot);
    free(pass);
}

int64_t pass_bytes(const struct qwen2_config *config, const struct pass_options *options, size_t act_size) {
    struct model model = {
        .config = *config,
        .shape = {.n_heads = config->n_heads, .n_kv_heads = config->n_kv_heads, .head_size = config->head_size}};
    struct pass *pass = pass_outline(&model, options, options->context);
    size_t bytes = pass_plan(pass, act_size, NULL);
    pass_outline_free(pass);
    return (int64_t)bytes;
}

/* ---- tables ---- */

/* The angle position · theta^(−2i/h) in float, as transformers computes it: at late positions its rounding is larger
 * than the tolerance to which results are compared. */
static void fill_rope(const struct qwen2_config *config, int32_t n_positions, float *cosine, float *sine) {
    int32_t half = config->head_size / 2;
    for (int32_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)config->head_size;
        float frequency = 1.0f / (float)pow(config->rope_theta, (double)exponent);
        for (int32_t p = 0; p < n_positions; p++) {
            float angle = (float)p * frequency;
            cosine[(int64_t)p * half + i] = cosf(angle);
            sine[(int64_t)p * half + i] = sinf(angle);
        }
    }
}

static void upload_rope(struct pass *pass) {
    const struct compute *compute = &pass->model->compute;
    size_t count = (size_t)pass->n_positions * (size_t)(pass->model->config.head_size / 2);
    float *host = lvs_malloc(2 * count * sizeof *host);
    fill_rope(&pass->model->config, pass->n_positions, host, host + count);
    compute->backend->upload(compute->device, pass->cosine, host, count * sizeof *host);
    compute->backend->upload(compute->device, pass->sine, host + count, count * sizeof *host);
    free(host);
    pass->rope = (struct rope_tables){
        .cosine = pass->cosine, .sine = pass->sine, .n_positions = pass->n_positions, .position = pass->position};
}

/* Positions 0 … context−1 in each sequence, 0 in padding rows; labels ignored until the caller fills them. */
static void upload_rows(struct pass *pass) {
    const struct compute *compute = &pass->model->compute;
    const struct pack_layout *layout = &pass->layout;
    size_t bytes = (size_t)layout->n_rows * sizeof(int32_t);
    int32_t *host = lvs_malloc(bytes);
    for (int32_t row = 0; row < layout->n_rows; row++) {
        int32_t within = row % layout->slot_rows;
        host[row] = within < layout->n_sequences * layout->context ? within % layout->context : 0;
    }
    compute->backend->upload(compute->device, pass->position, host, bytes);
    for (int32_t row = 0; row < layout->n_rows; row++)
        host[row] = LVS_LABEL_IGNORED;
    compute->backend->upload(compute->device, pass->labels, host, bytes);
    free(host);
}

/* ---- create and destroy ---- */

static enum lvs_status check_options(const struct model *model, const struct pass_options *options, int32_t n_positions,
                                     struct lvs_error *err) {
    assert(options->n_slots >= 1 && options->n_sequences >= 1 && options->context >= 1);
    if (n_positions > model->config.max_position)
        return lvs_fail(err, LVS_INPUT,
                        "a context of %d tokens; the model knows positions up to %d "
                        "(max_position_embeddings)",
                        n_positions, model->config.max_position);
    if ((int64_t)options->n_slots * ((int64_t)options->n_sequences * options->context + LVS_ROW_BLOCK) > INT32_MAX)
        return lvs_fail(err, LVS_USAGE, "%d × %d sequences of %d tokens are too many for one pass", options->n_slots,
                        options->n_sequences, options->context);
    if (options->lora && options->lora->head_offset >= 0 && options->n_slots != 1)
        return lvs_fail(err, LVS_USAGE, "head = weight trains one trial at a time; it cannot be packed");
    return LVS_OK;
}

enum lvs_status pass_create_for(const struct model *model, const struct pass_options *options, int32_t n_positions,
                                struct pass **out, struct lvs_error *err) {
    LVS_TRY(check_options(model, options, n_positions, err));
    const struct compute *compute = &model->compute;
    struct pass *pass = pass_outline(model, options, n_positions);
    enum lvs_status status =
        compute->backend->allocate(compute->device, pass_plan(pass, compute->act_size, NULL), &pass->memory, err);
    if (status != LVS_OK) {
        pass_outline_free(pass);
        return lvs_error_prefix(err, "activations of %d × %d sequences of %d tokens", options->n_slots,
                                options->n_sequences, options->context);
    }
    pass_plan(pass, compute->act_size, pass->memory);
    upload_rope(pass);
    upload_rows(pass);
    for (int32_t s = 0; s < options->n_slots; s++)
        pass->adapter_of_slot[s] = s;
    pass->layout.adapter = pass->adapter;
    compute->backend->upload(compute->device, pass->adapter, pass->adapter_of_slot,
                             (size_t)options->n_slots * sizeof(int32_t));
    *out = pass;
    return LVS_OK;
}

enum lvs_status pass_create(const struct model *model, const struct pass_options *options, struct pass **out,
                            struct lvs_error *err) {
    return pass_create_for(model, options, options->context, out, err);
}

static void drop_trained_head(struct pass *pass) {
    const struct compute *compute = &pass->model->compute;
    if (pass->trained_head) compute->backend->weight_destroy(compute->device, pass->trained_head);
    pass->trained_head = NULL;
    pass->trained_head_data = NULL;
}

void pass_destroy(struct pass *pass) {
    if (!pass) return;
    drop_trained_head(pass);
    pass->model->compute.backend->release(pass->model->compute.device, pass->memory);
    pass_outline_free(pass);
}

enum lvs_status pass_set_slots(struct pass *pass, const int32_t *adapter_of_slot, int32_t n_slots,
                               struct lvs_error *err) {
    if (n_slots < 1 || n_slots > pass->options.n_slots)
        return lvs_fail(err, LVS_BUG, "%d slots in a pass made for %d", n_slots, pass->options.n_slots);
    const struct compute *compute = &pass->model->compute;
    memcpy(pass->adapter_of_slot, adapter_of_slot, (size_t)n_slots * sizeof *adapter_of_slot);
    pass->layout.n_slots = n_slots;
    pass->layout.n_rows = n_slots * pass->layout.slot_rows;
    compute->backend->upload(compute->device, pass->adapter, adapter_of_slot, (size_t)n_slots * sizeof(int32_t));
    return LVS_OK;
}

/* ---- arrays ---- */

const struct pack_layout *pass_layout(const struct pass *pass) {
    return &pass->layout;
}

int32_t *pass_ids(struct pass *pass) {
    return pass->ids;
}

int32_t *pass_labels(struct pass *pass) {
    return pass->labels;
}

float *pass_label_weight(struct pass *pass) {
    return pass->label_weight;
}

float *pass_row_loss(struct pass *pass) {
    return pass->row_loss;
}

/* ---- embedding and head, frozen or trained ---- */

/* The trained matrix of slot 0's adapter as a weight; made anew when the adapters move. A view is a few words beside
 * the model, so failing to make one ends the process as every small allocation does. */
static const struct weight *trained_head(struct pass *pass, const struct adapters *adapters) {
    const struct compute *compute = &pass->model->compute;
    const float *data = adapters->params + pass->adapter_of_slot[0] * adapters->stride + pass->lora.head_offset;
    if (pass->trained_head && pass->trained_head_data == data) return pass->trained_head;
    drop_trained_head(pass);
    struct lvs_error err;
    enum lvs_status status = compute->backend->weight_view(compute->device, data, pass->lora.n_vocabulary,
                                                           pass->lora.hidden, &pass->trained_head, &err);
    assert(status == LVS_OK && "a view of the trained head");
    (void)status;
    pass->trained_head_data = data;
    return pass->trained_head;
}

const struct weight *pass_head(struct pass *pass, const struct adapters *adapters) {
    return adapters && pass->lora.head_offset >= 0 ? trained_head(pass, adapters) : pass->model->head;
}

const struct weight *pass_embedding(struct pass *pass, const struct adapters *adapters) {
    bool trained = adapters && pass->lora.head_offset >= 0 && pass->model->config.tied;
    return trained ? trained_head(pass, adapters) : pass->model->embedding;
}

int64_t pass_bias_offset(const struct pass *pass, const struct adapters *adapters) {
    return adapters ? pass->lora.bias_offset : -1;
}
