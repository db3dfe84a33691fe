/* The forward pass of Qwen2 with LoRA, one function a block. Enqueues operations only.
 *
 *     x → norm → q;k;v + bias → rotary → attention → o → + x = x_mid → norm → gate;up → silu·product → down → + x_mid
 *
 * The residual stream is one array per kept point; a product adds itself to it. Without backward all points are the
 * same array and nothing is copied. */
#include "model_internal.h"

/* What the blocks of one call share. */
struct forward {
    struct pass *pass;
    const struct compute *compute;
    const struct pack_layout *layout;
    const struct adapters *adapters; /* NULL = the bare model */
    const struct pass_cache *cache;  /* NULL = none */
};

/* The pairs of a group in a layer, or NULL when there are none to apply. */
static const struct lora_group *group_of(const struct forward *call, int32_t layer, enum lora_group_kind kind) {
    const struct lora_group *group = &call->pass->groups[layer][kind];
    return call->adapters && group->n ? group : NULL;
}

/* normed = norm(x); xa = A·normed for the group. */
static void norm_block(const struct forward *call, const void *x, const float *gain, float *rstd,
                       const struct lora_group *group, float *xa) {
    const struct pass *pass = call->pass;
    int32_t hidden = pass->model->config.hidden;
    float epsilon = pass->model->config.rms_epsilon;
    if (group)
        backend_norm_lora_a_forward(call->compute, call->layout, hidden, x, gain, epsilon, pass->normed, rstd,
                                    call->adapters, group, xa);
    else
        call->compute->backend->rmsnorm_forward(call->compute->device, call->layout, hidden, x, gain, epsilon,
                                                pass->normed, rstd);
}

/* to = from + input·wᵀ + the group's pairs; to may be from. */
static void residual_block(const struct forward *call, const void *input, const struct weight *weight,
                           const struct lora_group *group, float *xa, const void *from, void *to) {
    const struct backend *backend = call->compute->backend;
    struct device *device = call->compute->device;
    int32_t hidden = call->pass->model->config.hidden;
    size_t bytes = (size_t)call->layout->n_rows * (size_t)hidden * call->compute->act_size;
    if (group) backend->lora_a_forward(device, call->layout, call->adapters, group, input, xa);
    if (to != from) backend->copy(device, to, from, bytes);
    backend->matmul_forward(device, call->layout, input, weight, true, to);
    if (group) backend->lora_b_forward(device, call->layout, call->adapters, group, xa, hidden, to);
}

static void attend(const struct forward *call, int32_t layer, const struct layer_activations *kept) {
    const struct backend *backend = call->compute->backend;
    struct device *device = call->compute->device;
    const struct attention_shape *shape = &call->pass->model->shape;
    const struct pass_cache *cache = call->cache;
    if (cache && cache->append) {
        backend->attention_cached(device, call->layout, shape, kept->qkv, &cache->layers[layer], cache->length_bound,
                                  kept->attention);
        return;
    }
    if (cache) backend->kv_store(device, call->layout, shape, kept->qkv, &cache->layers[layer]);
    backend->attention_forward(device, call->layout, shape, kept->qkv, kept->attention, kept->lse);
}

static void attention_block(const struct forward *call, int32_t layer) {
    const struct pass *pass = call->pass;
    const struct backend *backend = call->compute->backend;
    const struct model_layer *weights = &pass->model->layers[layer];
    struct layer_activations *kept = &pass->layers[layer];
    const struct lora_group *qkv = group_of(call, layer, LORA_GROUP_QKV), *o = group_of(call, layer, LORA_GROUP_O);
    norm_block(call, kept->x, weights->norm_attention, kept->rstd_attention, qkv, kept->xa[LORA_GROUP_QKV]);
    backend->matmul_forward(call->compute->device, call->layout, pass->normed, weights->qkv, false, kept->qkv);
    if (qkv)
        backend_qkv_finish(call->compute, call->layout, &pass->model->shape, call->adapters, qkv,
                           kept->xa[LORA_GROUP_QKV], weights->qkv_bias, &pass->rope, kept->qkv);
    else
        backend->qkv_bias_rope(call->compute->device, call->layout, &pass->model->shape, weights->qkv_bias, &pass->rope,
                               kept->qkv);
    attend(call, layer, kept);
    residual_block(call, kept->attention, weights->o, o, kept->xa[LORA_GROUP_O], kept->x, kept->x_mid);
}

/* h = silu(gate)·up, with the pairs of gate and up when there are any. */
static void gate_up_block(const struct forward *call, int32_t layer, const struct lora_group *group) {
    const struct pass *pass = call->pass;
    const struct backend *backend = call->compute->backend;
    struct layer_activations *kept = &pass->layers[layer];
    const struct weight *weight = pass->model->layers[layer].gate_up;
    int32_t width = pass->model->config.intermediate;
    if (!group) {
        /* a fused product need not write gate and up where nobody reads them again */
        bool unread = !pass->options.backward && backend->gate_up_swiglu;
        backend_gate_up_swiglu(call->compute, call->layout, width, pass->normed, weight, unread ? NULL : kept->gate_up,
                               pass->h);
        return;
    }
    backend->matmul_forward(call->compute->device, call->layout, pass->normed, weight, false, kept->gate_up);
    backend->lora_b_forward(call->compute->device, call->layout, call->adapters, group, kept->xa[LORA_GROUP_GATE_UP],
                            2 * width, kept->gate_up);
    backend->swiglu_forward(call->compute->device, call->layout, width, kept->gate_up, pass->h);
}

static void mlp_block(const struct forward *call, int32_t layer) {
    const struct pass *pass = call->pass;
    const struct model_layer *weights = &pass->model->layers[layer];
    struct layer_activations *kept = &pass->layers[layer];
    void *next = layer + 1 < pass->model->config.n_layers ? pass->layers[layer + 1].x : pass->x_last;
    const struct lora_group *gate_up = group_of(call, layer, LORA_GROUP_GATE_UP);
    const struct lora_group *down = group_of(call, layer, LORA_GROUP_DOWN);
    norm_block(call, kept->x_mid, weights->norm_mlp, kept->rstd_mlp, gate_up, kept->xa[LORA_GROUP_GATE_UP]);
    gate_up_block(call, layer, gate_up);
    residual_block(call, pass->h, weights->down, down, kept->xa[LORA_GROUP_DOWN], kept->x_mid, next);
}

void pass_forward_cached(struct pass *pass, const struct adapters *adapters, const struct pass_cache *cache) {
    const struct model *model = pass->model;
    const struct compute *compute = &model->compute;
    struct forward call = {
        .pass = pass, .compute = compute, .layout = &pass->layout, .adapters = adapters, .cache = cache};
    compute->backend->embed(compute->device, &pass->layout, pass_embedding(pass, adapters), pass->ids,
                            pass->layers[0].x);
    for (int32_t l = 0; l < model->config.n_layers; l++) {
        attention_block(&call, l);
        mlp_block(&call, l);
    }
    compute->backend->rmsnorm_forward(compute->device, &pass->layout, model->config.hidden, pass->x_last,
                                      model->norm_last, model->config.rms_epsilon, pass->hidden, pass->rstd_last);
}

void pass_forward(struct pass *pass, const struct adapters *adapters) {
    pass_forward_cached(pass, adapters, NULL);
}

static float *trained_head_gradient(const struct pass *pass, const struct adapters *adapters) {
    return adapters->grads + pass->adapter_of_slot[0] * adapters->stride + pass->lora.head_offset;
}

void pass_loss(struct pass *pass, const struct adapters *adapters) {
    const struct compute *compute = &pass->model->compute;
    bool trains_head = pass->options.backward && adapters && adapters->grads && pass->lora.head_offset >= 0;
    struct loss_call call = {
        .x = pass->hidden,
        .head = pass_head(pass, adapters),
        .adapters = adapters,
        .bias_offset = pass_bias_offset(pass, adapters),
        .labels = pass->labels,
        .row_loss = pass->row_loss,
        .label_weight = pass->options.backward ? pass->label_weight : NULL,
        .dx = pass->options.backward ? pass->dy : NULL,
        .dhead = trains_head ? trained_head_gradient(pass, adapters) : NULL,
        .skip_tiles = pass->options.skip_tiles,
    };
    if (trains_head) /* the loss adds to it */
        compute->backend->fill_zero(compute->device, call.dhead,
                                    (size_t)pass->lora.n_vocabulary * (size_t)pass->lora.hidden * sizeof(float));
    compute->backend->loss(compute->device, &pass->layout, &call);
}
