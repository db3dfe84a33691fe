/* Where the matrices of an adapter lie, how many numbers train, and what they start from.
 * Ranks are padded so that packs of different ranks share one layout; padded rows and columns are zero and stay so. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lvsweep/rng.h"
#include "model_internal.h"

const char *const lora_target_module[LORA_TARGET_COUNT] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                           "gate_proj", "up_proj", "down_proj"};

void lora_module_path(int32_t layer, int32_t target, char *out, size_t capacity) {
    const char *parent = target <= LORA_TARGET_O ? "self_attn" : "mlp";
    snprintf(out, capacity, "model.layers.%d.%s.%s", layer, parent, lora_target_module[target]);
}

int32_t lora_padded_rank(int32_t rank) {
    assert(rank >= 1);
    return rank <= 8 ? 8 : (rank + 15) / 16 * 16;
}

/* Inputs and outputs of each projection. */
static void target_shapes(const struct qwen2_config *config, int32_t n_in[LORA_TARGET_COUNT],
                          int32_t n_out[LORA_TARGET_COUNT]) {
    int32_t attention = model_attention_width(config), kv = model_kv_width(config);
    const int32_t in[LORA_TARGET_COUNT] = {config->hidden, config->hidden, config->hidden,      attention,
                                           config->hidden, config->hidden, config->intermediate};
    const int32_t out[LORA_TARGET_COUNT] = {
        attention, kv, kv, config->hidden, config->intermediate, config->intermediate, config->hidden};
    memcpy(n_in, in, sizeof in);
    memcpy(n_out, out, sizeof out);
}

void lora_layout_make(const struct qwen2_config *config, int32_t n_vocabulary, uint32_t targets, int32_t rank,
                      int32_t head, struct lora_layout *out) {
    memset(out, 0, sizeof *out);
    out->targets = targets;
    out->rank = lora_padded_rank(rank);
    out->n_layers = config->n_layers;
    out->n_vocabulary = n_vocabulary;
    out->hidden = config->hidden;
    target_shapes(config, out->n_in, out->n_out);
    int64_t offset = 0;
    for (int32_t t = 0; t < LORA_TARGET_COUNT; t++) {
        bool used = (targets >> t & 1u) != 0;
        out->site_a[t] = used ? offset : -1;
        if (used) offset += (int64_t)out->rank * out->n_in[t];
        out->site_b[t] = used ? offset : -1;
        if (used) offset += (int64_t)out->rank * out->n_out[t];
    }
    out->layer_floats = offset;
    offset *= config->n_layers;
    out->bias_offset = head == HEAD_BIAS ? offset : -1;
    out->head_offset = head == HEAD_WEIGHT ? offset : -1;
    if (head == HEAD_BIAS) offset += n_vocabulary;
    if (head == HEAD_WEIGHT) offset += (int64_t)n_vocabulary * config->hidden;
    out->n_params = offset;
    out->stride = (offset + 63) / 64 * 64;
}

/* A pair's numbers depend on the seed, its place in the model and their index alone: not on which other targets are
 * trained, and the rows of a smaller rank are the first of a larger one. */
static void init_a(const struct settings *settings, int32_t site_id, int32_t n_in, float *a) {
    struct rng rng = rng_make((uint64_t)settings->seed, RNG_STREAM_LORA_INIT);
    rng.position = (uint64_t)site_id << 36;
    double scale = 1 / sqrt(n_in);
    for (int64_t i = 0; i < (int64_t)settings->lora_rank * n_in; i++)
        a[i] = (float)(settings->lora_init == LORA_INIT_KAIMING_NORMAL ? scale * rng_normal(&rng)
                                                                       : scale * (2 * rng_uniform(&rng) - 1));
}

enum lvs_status lora_init(const struct model *model, const struct lora_layout *layout, const struct settings *settings,
                          float *params, struct lvs_error *err) {
    if (settings->lora_rank > layout->rank)
        return lvs_fail(err, LVS_BUG, "rank %d does not fit a layout of rank %d", settings->lora_rank, layout->rank);
    memset(params, 0, (size_t)layout->stride * sizeof *params);
    for (int32_t l = 0; l < layout->n_layers; l++)
        for (int32_t t = 0; t < LORA_TARGET_COUNT; t++)
            if (layout->site_a[t] >= 0)
                init_a(settings, l * LORA_TARGET_COUNT + t, layout->n_in[t],
                       params + l * layout->layer_floats + layout->site_a[t]);
    if (layout->head_offset >= 0) {
        const struct host_tensor *head = &model->head_host;
        tensor_to_float(head->data, head->type, head->rows * head->cols, params + layout->head_offset);
    }
    return LVS_OK;
}

/* ---- groups ---- */

static void add_site(const struct lora_layout *layout, int32_t layer, int32_t target, int32_t column,
                     struct lora_group *group) {
    if (layout->site_a[target] < 0) return;
    int64_t block = layer * layout->layer_floats;
    group->site[group->n++] = (struct lora_site){
        .a_offset = block + layout->site_a[target],
        .b_offset = block + layout->site_b[target],
        .n_in = layout->n_in[target],
        .n_out = layout->n_out[target],
        .rank = layout->rank,
        .column = column,
        .site_id = layer * LORA_TARGET_COUNT + target,
    };
}

void lora_groups_make(const struct lora_layout *layout, int32_t layer, struct lora_group out[LORA_GROUP_COUNT]) {
    memset(out, 0, LORA_GROUP_COUNT * sizeof *out);
    if (!layout) return;
    const int32_t *n_out = layout->n_out;
    add_site(layout, layer, LORA_TARGET_Q, 0, &out[LORA_GROUP_QKV]);
    add_site(layout, layer, LORA_TARGET_K, n_out[LORA_TARGET_Q], &out[LORA_GROUP_QKV]);
    add_site(layout, layer, LORA_TARGET_V, n_out[LORA_TARGET_Q] + n_out[LORA_TARGET_K], &out[LORA_GROUP_QKV]);
    add_site(layout, layer, LORA_TARGET_O, 0, &out[LORA_GROUP_O]);
    add_site(layout, layer, LORA_TARGET_GATE, 0, &out[LORA_GROUP_GATE_UP]);
    add_site(layout, layer, LORA_TARGET_UP, n_out[LORA_TARGET_GATE], &out[LORA_GROUP_GATE_UP]);
    add_site(layout, layer, LORA_TARGET_DOWN, 0, &out[LORA_GROUP_DOWN]);
}
