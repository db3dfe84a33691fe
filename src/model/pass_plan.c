/* The one table of a pass's arrays: walked without memory it gives the bytes, walked with it the addresses.
 * With backward each layer keeps its own; without, all layers share one set. */
#include <assert.h>

#include "model_internal.h"

#define ALIGNMENT 256 /* bytes, enough for any vector load and for a GPU's transactions */

struct planner {
    unsigned char *memory; /* NULL = count only */
    size_t used;
};

static void *take(struct planner *planner, int64_t count, size_t size) {
    size_t offset = planner->used;
    planner->used += ((size_t)count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return planner->memory ? planner->memory + offset : NULL;
}

/* Floats of a group's A·x a row. */
static int64_t group_width(const struct lora_group *group) {
    return group->n ? (int64_t)group->n * group->site[0].rank : 0;
}

static int64_t widest_group(const struct lora_group groups[LORA_GROUP_COUNT]) {
    int64_t widest = 0;
    for (int g = 0; g < LORA_GROUP_COUNT; g++)
        if (group_width(&groups[g]) > widest) widest = group_width(&groups[g]);
    return widest;
}

static void plan_batch(struct pass *pass, struct planner *planner) {
    int64_t n_rows = pass->layout.n_rows, half = pass->model->config.head_size / 2;
    pass->adapter = take(planner, pass->options.n_slots, sizeof(int32_t));
    pass->ids = take(planner, n_rows, sizeof(int32_t));
    pass->labels = take(planner, n_rows, sizeof(int32_t));
    pass->position = take(planner, n_rows, sizeof(int32_t));
    pass->label_weight = take(planner, pass->options.n_slots, sizeof(float));
    pass->row_loss = take(planner, n_rows, sizeof(float));
    pass->cosine = take(planner, pass->n_positions * half, sizeof(float));
    pass->sine = take(planner, pass->n_positions * half, sizeof(float));
}

/* What one layer leaves behind. */
static void plan_layer(struct pass *pass, struct planner *planner, size_t act, struct layer_activations *out) {
    const struct qwen2_config *config = &pass->model->config;
    const struct lora_group *groups = pass->groups[0]; /* equal widths in all layers */
    int64_t n_rows = pass->layout.n_rows;
    bool keep = pass->options.backward;
    out->x = take(planner, n_rows * config->hidden, act);
    out->x_mid = keep ? take(planner, n_rows * config->hidden, act) : out->x;
    out->rstd_attention = keep ? take(planner, n_rows, sizeof(float)) : NULL;
    out->rstd_mlp = keep ? take(planner, n_rows, sizeof(float)) : NULL;
    out->qkv = take(planner, n_rows * attention_qkv_width(&pass->model->shape), act);
    out->attention = take(planner, n_rows * model_attention_width(config), act);
    out->lse = keep ? take(planner, n_rows * config->n_heads, sizeof(float)) : NULL;
    out->gate_up = take(planner, 2 * n_rows * config->intermediate, act);
    for (int g = 0; g < LORA_GROUP_COUNT; g++)
        out->xa[g] = groups[g].n ? take(planner, n_rows * group_width(&groups[g]), sizeof(float)) : NULL;
}

static void plan_layers(struct pass *pass, struct planner *planner, size_t act) {
    int32_t n_layers = pass->model->config.n_layers;
    for (int32_t l = 0; l < n_layers; l++) {
        if (l == 0 || pass->options.backward)
            plan_layer(pass, planner, act, &pass->layers[l]);
        else
            pass->layers[l] = pass->layers[0];
    }
    int64_t n_hidden = (int64_t)pass->layout.n_rows * pass->model->config.hidden;
    pass->x_last = pass->options.backward ? take(planner, n_hidden, act) : pass->layers[0].x;
    pass->rstd_last = pass->options.backward ? take(planner, pass->layout.n_rows, sizeof(float)) : NULL;
    pass->hidden = take(planner, n_hidden, act);
}

static void plan_scratch(struct pass *pass, struct planner *planner, size_t act) {
    const struct qwen2_config *config = &pass->model->config;
    int64_t n_rows = pass->layout.n_rows;
    pass->normed = take(planner, n_rows * config->hidden, act);
    pass->h = take(planner, n_rows * config->intermediate, act);
    if (!pass->options.backward) return;
    pass->dx = take(planner, n_rows * config->hidden, act);
    pass->dy = take(planner, n_rows * config->hidden, act);
    /* the down projection's pair reads h while its gradient is made; without it one array does for both */
    pass->dh = pass->groups[0][LORA_GROUP_DOWN].n ? take(planner, n_rows * config->intermediate, act) : pass->h;
    pass->d_attention = take(planner, n_rows * model_attention_width(config), act);
    pass->dqkv = take(planner, n_rows * attention_qkv_width(&pass->model->shape), act);
    pass->t = take(planner, n_rows * widest_group(pass->groups[0]), sizeof(float));
}

size_t pass_plan(struct pass *pass, size_t act_size, unsigned char *memory) {
    struct planner planner = {.memory = memory};
    plan_batch(pass, &planner);
    plan_layers(pass, &planner, act_size);
    plan_scratch(pass, &planner, act_size);
    return planner.used;
}
