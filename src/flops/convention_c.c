/* Convention `report_c`: report C's formula. Full-width attention, an MLP of one up and one down product of width 4d,
 * a loss of 11 a logit, no last norm. Evaluation is free. */
#include "flops_internal.h"

/* d·r for A and r·d for B, two FLOPs an element. */
static int64_t lora_price(const struct flops_shape *shape, int64_t positions) {
    int64_t sum = 0;
    for (int target = 0; target < LORA_TARGET_COUNT; target++) {
        if (!shape_has_target(shape, target)) continue;
        bool full = target == LORA_TARGET_Q || target == LORA_TARGET_V;
        int64_t in = full ? shape->hidden : target_width_in(shape, target);
        int64_t out = full ? shape->hidden : target_width_out(shape, target);
        sum = price_plus(sum, PRICE(positions, shape->lora_rank, in + out));
    }
    return sum;
}

static void report_c_pass(const struct pass_shape *pass, struct flops_terms *out) {
    const struct flops_shape *m = pass->model;
    int64_t d = m->hidden, head = m->head_size, layers = m->n_layers, up = 4 * d;
    int64_t positions = price_times(pass->batch, pass->rows);
    int64_t squares = PRICE(layers, pass->batch, m->n_heads, pass->rows); /* rows of all attention matrices */
    out->n = 0;
    terms_add(out, "positions", price_times(positions, d));
    terms_add(out, "norms", PRICE(2, layers, positions, 4 * d + 11));
    terms_add(out, "qkv", PRICE(3, layers, price_matrix(positions, d, d)));
    terms_add(out, "lora", price_times(layers, lora_price(m, positions)));
    terms_add(out, "scores", PRICE(squares, pass->keys, 2 * head - 1));
    terms_add(out, "softmax", PRICE(12, squares, pass->keys));
    terms_add(out, "values", PRICE(squares, head, price_linear(2, pass->keys, -1)));
    terms_add(out, "output", price_times(layers, price_matrix(positions, d, d)));
    terms_add(out, "mlp_up", price_times(layers, price_matrix(positions, d, up)));
    terms_add(out, "mlp_activation", PRICE(14, layers, positions, up));
    terms_add(out, "mlp_down", price_times(layers, price_matrix(positions, up, d)));
    terms_add(out, "residuals", PRICE(2, layers, positions, d));
    terms_add(out, "head", price_matrix(positions, d, m->vocabulary));
    if (pass->labels) terms_add(out, "loss", PRICE(11, positions, m->vocabulary));
}

static void report_c_forward(const struct flops_shape *shape, int64_t batch, int64_t context, bool training,
                             struct flops_terms *out) {
    report_c_pass(
        &(struct pass_shape){.model = shape, .batch = batch, .rows = context, .keys = context, .labels = training},
        out);
}

static void report_c_decode(const struct flops_shape *shape, int64_t batch, int64_t keys, struct flops_terms *out) {
    report_c_pass(&(struct pass_shape){.model = shape, .batch = batch, .rows = 1, .keys = keys}, out);
}

const struct flops_convention flops_report_c = {
    .name = "report_c",
    .about = "report C's figures: full-width attention, a 4d-wide MLP, loss at 11 a logit, evaluation free",
    .forward = report_c_forward,
    .decode = report_c_decode,
    .evaluation_free = true,
};
