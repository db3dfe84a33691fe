/* Convention `report_a`: report A's formula for one sequence, times the batch. Departs from the architecture: k and v
 * and v's adapter at full width, exp and roots at 1 inside sums, no rotation (positions are added once), no residuals,
 * a head with bias at every position. */
#include "flops_internal.h"

static int64_t lora_price(const struct flops_shape *shape, int64_t rows) {
    int64_t sum = 0;
    for (int target = 0; target < LORA_TARGET_COUNT; target++) {
        if (!shape_has_target(shape, target)) continue;
        bool full = target == LORA_TARGET_Q || target == LORA_TARGET_V;
        int64_t in = full ? shape->hidden : target_width_in(shape, target);
        int64_t out = full ? shape->hidden : target_width_out(shape, target);
        sum = price_plus(sum, price_matrix(rows, in, shape->lora_rank));
        sum = price_plus(sum, price_matrix(rows, shape->lora_rank, out));
        sum = price_plus(sum, PRICE(2, rows, out)); /* scale, add */
    }
    return sum;
}

/* 2d + (d − 1) + 1 + d + 1 a position. */
static int64_t norm_price(int64_t hidden) {
    return 2 * hidden + (hidden - 1) + 1 + hidden + 1;
}

static void report_a_pass(const struct pass_shape *pass, struct flops_terms *out) {
    const struct flops_shape *m = pass->model;
    int64_t d = m->hidden, inner = m->intermediate, heads = m->n_heads, head = m->head_size, batch = pass->batch;
    int64_t rows = pass->rows, keys = pass->keys, depth = price_times(batch, m->n_layers); /* layers of all sequences */
    int64_t square = price_times(rows, keys);
    out->n = 0;
    terms_add(out, "positions", PRICE(batch, rows, d));
    terms_add(out, "norms", PRICE(batch, 2 * (int64_t)m->n_layers + 1, rows, norm_price(d)));
    terms_add(out, "qkv", PRICE(depth, 3, rows, d, 2 * d)); /* with bias */
    terms_add(out, "lora", price_times(depth, lora_price(m, rows)));
    terms_add(out, "scores", price_times(depth, price_plus(PRICE(heads, square, 2 * head), PRICE_TRANSCENDENT)));
    terms_add(out, "softmax", PRICE(depth, heads, price_plus(price_times(2, square), PRICE(rows, keys - 1))));
    terms_add(out, "values", PRICE(depth, heads, rows, head, price_linear(2, keys, -1)));
    terms_add(out, "output", price_times(depth, price_matrix(rows, d, d)));
    terms_add(out, "mlp_gate_up", PRICE(depth, 2, price_matrix(rows, d, inner)));
    terms_add(out, "mlp_activation", PRICE(depth, 4, rows, inner));
    terms_add(out, "mlp_down", price_times(depth, price_matrix(rows, inner, d)));
    terms_add(out, "head", PRICE(batch, 2, rows, d, m->vocabulary)); /* with bias */
}

static void report_a_forward(const struct flops_shape *shape, int64_t batch, int64_t context, bool training,
                             struct flops_terms *out) {
    (void)training; /* the report prices every position's logits, whatever they are needed for */
    report_a_pass(&(struct pass_shape){.model = shape, .batch = batch, .rows = context, .keys = context}, out);
}

static void report_a_decode(const struct flops_shape *shape, int64_t batch, int64_t keys, struct flops_terms *out) {
    report_a_pass(&(struct pass_shape){.model = shape, .batch = batch, .rows = 1, .keys = keys}, out);
}

const struct flops_convention flops_report_a = {
    .name = "report_a",
    .about = "report A's figures: full-width k and v, head with bias, exp at 1, no rotation or residuals",
    .forward = report_a_forward,
    .decode = report_a_decode,
};
