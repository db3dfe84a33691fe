/* Convention `report_b`: report B's formula. Full-width q, k, v and output, adapters without scale and add, softmax at
 * 12, a mask, 15 a unit of the gated MLP, one multiply–add counted as one in the head. Evaluation is free. */
#include "flops_internal.h"

static int64_t lora_price(const struct flops_shape *shape, int64_t positions) {
    int64_t sum = 0;
    for (int target = 0; target < LORA_TARGET_COUNT; target++) {
        if (!shape_has_target(shape, target)) continue;
        bool full = target == LORA_TARGET_Q || target == LORA_TARGET_V;
        int64_t in = full ? shape->hidden : target_width_in(shape, target);
        int64_t out = full ? shape->hidden : target_width_out(shape, target);
        sum = price_plus(sum, price_matrix(positions, in, shape->lora_rank));
        sum = price_plus(sum, price_matrix(positions, shape->lora_rank, out));
    }
    return sum;
}

static void report_b_attention(const struct pass_shape *pass, struct flops_terms *out) {
    const struct flops_shape *m = pass->model;
    int64_t d = m->hidden, head = m->head_size, layers = m->n_layers, positions = price_times(pass->batch, pass->rows);
    int64_t squares = PRICE(layers, pass->batch, m->n_heads, pass->rows); /* rows of all attention matrices */
    terms_add(out, "qkv", PRICE(3, layers, price_matrix(positions, d, d)));
    terms_add(out, "lora", price_times(layers, lora_price(m, positions)));
    terms_add(out, "rope", PRICE(squares, (7 * head) / 2)); /* 3 a number and half of them negated, once */
    terms_add(out, "scores", PRICE(squares, pass->keys, 2 * head - 1));
    terms_add(out, "mask", price_times(squares, pass->keys));
    terms_add(out, "softmax", price_times(squares, price_linear(12, pass->keys, -1)));
    terms_add(out, "values", PRICE(squares, head, price_linear(2, pass->keys, -1)));
    terms_add(out, "output", price_times(layers, price_matrix(positions, d, d)));
}

static void report_b_pass(const struct pass_shape *pass, struct flops_terms *out) {
    const struct flops_shape *m = pass->model;
    int64_t d = m->hidden, inner = m->intermediate, layers = m->n_layers;
    int64_t positions = price_times(pass->batch, pass->rows);
    out->n = 0;
    terms_add(out, "positions", price_times(positions, d));
    terms_add(out, "norms", PRICE(2 * layers + 1, positions, 4 * d + 12));
    report_b_attention(pass, out);
    terms_add(out, "mlp_gate_up", PRICE(2, layers, price_matrix(positions, d, inner)));
    terms_add(out, "mlp_activation", PRICE(15, layers, positions, inner));
    terms_add(out, "mlp_down", price_times(layers, price_matrix(positions, inner, d)));
    terms_add(out, "residuals", PRICE(2, layers, positions, d));
    terms_add(out, "head", PRICE(pass->batch, pass->logits, d, m->vocabulary));
}

static void report_b_forward(const struct flops_shape *shape, int64_t batch, int64_t context, bool training,
                             struct flops_terms *out) {
    report_b_pass(
        &(struct pass_shape){
            .model = shape, .batch = batch, .rows = context, .keys = context, .logits = training ? context : 1},
        out);
}

static void report_b_decode(const struct flops_shape *shape, int64_t batch, int64_t keys, struct flops_terms *out) {
    report_b_pass(&(struct pass_shape){.model = shape, .batch = batch, .rows = 1, .keys = keys, .logits = 1}, out);
}

const struct flops_convention flops_report_b = {
    .name = "report_b",
    .about = "report B's figures: full-width attention, 15 a gated unit, evaluation free",
    .forward = report_b_forward,
    .decode = report_b_decode,
    .evaluation_free = true,
};
