/* The backward pass of Qwen2 with LoRA: only what adapters need. No gradient of a frozen matrix is made, and the walk
 * ends at the lowest pair of the lowest layer (or at the embedding, where a tied head is trained).
 * pass->dx is the gradient of the residual stream throughout; every block adds to it. */
#include <assert.h>

#include "model_internal.h"

/* What the blocks of one call share. */
struct backward {
    struct pass *pass;
    const struct backend *backend;
    struct device *device;
    const struct compute *compute;
    const struct pack_layout *layout;
    const struct adapters *adapters;
    enum lora_group_kind lowest; /* the walk ends at this group of layer 0 … */
    bool to_embedding;           /* … unless a trained tied head wants the embedding's gradient */
};

static const struct lora_group *group_of(const struct backward *call, int32_t layer, enum lora_group_kind kind) {
    const struct lora_group *group = &call->pass->groups[layer][kind];
    return group->n ? group : NULL;
}

static bool ends_at(const struct backward *call, int32_t layer, enum lora_group_kind kind) {
    return layer == 0 && !call->to_embedding && call->lowest == kind;
}

/* grad A from t and the group's input; the input's gradient is added to d_input. */
static void gradient_a(const struct backward *call, const struct lora_group *group, const void *input, void *d_input) {
    call->backend->lora_a_backward(call->device, call->layout, call->adapters, group, call->pass->t, input, d_input);
}

/* The last group of the walk behind a norm: grad A alone, its input made again. dy is scratch here. */
static void gradient_a_of_norm(const struct backward *call, const struct lora_group *group, const void *x,
                               const float *gain) {
    struct pass *pass = call->pass;
    const struct qwen2_config *config = &pass->model->config;
    call->backend->rmsnorm_forward(call->device, call->layout, config->hidden, x, gain, config->rms_epsilon,
                                   pass->normed, NULL);
    gradient_a(call, group, pass->normed, pass->dy);
}

/* dx += the gradient through a norm of dy and of the group's t. */
static void norm_block(const struct backward *call, const void *x, const float *gain, const float *rstd,
                       const struct lora_group *group) {
    struct pass *pass = call->pass;
    const struct qwen2_config *config = &pass->model->config;
    if (group)
        backend_norm_lora_a_backward(call->compute, call->layout, config->hidden, pass->dy, x, gain,
                                     config->rms_epsilon, rstd, call->adapters, group, pass->t, pass->normed, pass->dx);
    else
        call->backend->rmsnorm_backward(call->device, call->layout, config->hidden, pass->dy, x, gain, rstd, pass->dx);
}

/* dh from dx through the down projection. False where the walk ends. */
static bool down_block(const struct backward *call, int32_t layer) {
    struct pass *pass = call->pass;
    const struct layer_activations *kept = &pass->layers[layer];
    const struct lora_group *group = group_of(call, layer, LORA_GROUP_DOWN);
    int32_t width = pass->model->config.intermediate;
    if (group) {
        call->backend->lora_b_backward(call->device, call->layout, call->adapters, group, pass->dx,
                                       pass->model->config.hidden, kept->xa[LORA_GROUP_DOWN], pass->t);
        call->backend->swiglu_forward(call->device, call->layout, width, kept->gate_up, pass->h);
        if (ends_at(call, layer, LORA_GROUP_DOWN)) {
            gradient_a(call, group, pass->h, pass->dh);
            return false;
        }
    }
    call->backend->matmul_backward(call->device, call->layout, pass->dx, pass->model->layers[layer].down, false,
                                   pass->dh);
    if (group) gradient_a(call, group, pass->h, pass->dh);
    return true;
}

static bool mlp_block(const struct backward *call, int32_t layer) {
    struct pass *pass = call->pass;
    const struct model_layer *weights = &pass->model->layers[layer];
    const struct layer_activations *kept = &pass->layers[layer];
    const struct lora_group *group = group_of(call, layer, LORA_GROUP_GATE_UP);
    int32_t width = pass->model->config.intermediate;
    if (!down_block(call, layer)) return false;
    call->backend->swiglu_backward(call->device, call->layout, width, kept->gate_up, pass->dh, kept->gate_up);
    if (group)
        call->backend->lora_b_backward(call->device, call->layout, call->adapters, group, kept->gate_up, 2 * width,
                                       kept->xa[LORA_GROUP_GATE_UP], pass->t);
    if (ends_at(call, layer, LORA_GROUP_GATE_UP)) {
        gradient_a_of_norm(call, group, kept->x_mid, weights->norm_mlp);
        return false;
    }
    call->backend->matmul_backward(call->device, call->layout, kept->gate_up, weights->gate_up, false, pass->dy);
    norm_block(call, kept->x_mid, weights->norm_mlp, kept->rstd_mlp, group);
    return true;
}

/* d_attention from dx through the output projection. False where the walk ends. */
static bool output_block(const struct backward *call, int32_t layer) {
    struct pass *pass = call->pass;
    const struct layer_activations *kept = &pass->layers[layer];
    const struct lora_group *group = group_of(call, layer, LORA_GROUP_O);
    bool ends = ends_at(call, layer, LORA_GROUP_O);
    if (group)
        call->backend->lora_b_backward(call->device, call->layout, call->adapters, group, pass->dx,
                                       pass->model->config.hidden, kept->xa[LORA_GROUP_O], pass->t);
    if (!ends)
        call->backend->matmul_backward(call->device, call->layout, pass->dx, pass->model->layers[layer].o, false,
                                       pass->d_attention);
    if (group) gradient_a(call, group, kept->attention, pass->d_attention);
    return !ends;
}

static void qkv_block(const struct backward *call, int32_t layer) {
    struct pass *pass = call->pass;
    const struct attention_shape *shape = &pass->model->shape;
    const struct model_layer *weights = &pass->model->layers[layer];
    const struct layer_activations *kept = &pass->layers[layer];
    const struct lora_group *group = group_of(call, layer, LORA_GROUP_QKV);
    call->backend->attention_backward(call->device, call->layout, shape, kept->qkv, kept->attention, kept->lse,
                                      pass->d_attention, pass->dqkv);
    if (group)
        backend_qkv_finish_backward(call->compute, call->layout, shape, call->adapters, group, kept->xa[LORA_GROUP_QKV],
                                    &pass->rope, pass->dqkv, pass->t);
    else
        call->backend->qkv_rope_backward(call->device, call->layout, shape, &pass->rope, pass->dqkv);
    if (ends_at(call, layer, LORA_GROUP_QKV)) {
        gradient_a_of_norm(call, group, kept->x, weights->norm_attention);
        return;
    }
    call->backend->matmul_backward(call->device, call->layout, pass->dqkv, weights->qkv, false, pass->dy);
    norm_block(call, kept->x, weights->norm_attention, kept->rstd_attention, group);
}

/* The lowest kind of group that the layout has; LORA_GROUP_COUNT when it has none. */
static enum lora_group_kind lowest_group(const struct pass *pass) {
    int kind = 0;
    while (kind < LORA_GROUP_COUNT && pass->groups[0][kind].n == 0)
        kind++;
    return (enum lora_group_kind)kind;
}

void pass_backward(struct pass *pass, const struct adapters *adapters) {
    assert(pass->options.backward && adapters && adapters->grads);
    const struct model *model = pass->model;
    const struct compute *compute = &model->compute;
    struct backward call = {.pass = pass,
                            .backend = compute->backend,
                            .device = compute->device,
                            .compute = compute,
                            .layout = &pass->layout,
                            .adapters = adapters,
                            .lowest = lowest_group(pass),
                            .to_embedding = pass->lora.head_offset >= 0 && model->config.tied};
    if (call.lowest == LORA_GROUP_COUNT && !call.to_embedding) return;
    size_t bytes = (size_t)pass->layout.n_rows * (size_t)model->config.hidden * compute->act_size;
    compute->backend->fill_zero(compute->device, pass->dx, bytes);
    compute->backend->rmsnorm_backward(compute->device, &pass->layout, model->config.hidden, pass->dy, pass->x_last,
                                       model->norm_last, pass->rstd_last, pass->dx);
    for (int32_t l = model->config.n_layers - 1; l >= 0; l--) {
        if (!mlp_block(&call, l) || !output_block(&call, l)) return;
        qkv_block(&call, l);
    }
    if (call.to_embedding)
        compute->backend->embed_backward(compute->device, &pass->layout, pass->ids, pass->dx, model->config.hidden,
                                         adapters->grads + pass->adapter_of_slot[0] * adapters->stride +
                                             pass->lora.head_offset);
}
