/* Convention `table1`: the architecture as it is, at the task's prices. Every product, bias, rotation, norm, activation
 * and residual that a forward pass takes on paper; lookups, masks, tables of sines, comparisons and the loss are free.
 * docs/flops.md derives each line. */
#include "flops_internal.h"

/* x / sqrt(mean(x²) + ε) · w on d numbers: d squares, d − 1 adds, a division by d, ε, a root, d divisions, d products.
 */
static int64_t norm_price(int64_t hidden) {
    return hidden * PRICE_SIMPLE + (hidden - 1) + 2 * PRICE_SIMPLE + PRICE_TRANSCENDENT + 2 * hidden;
}

/* silu(g) · u = g / (1 + exp(−g)) · u: negate, exp, add, divide, multiply. */
static int64_t gate_price(void) {
    return 4 * PRICE_SIMPLE + PRICE_EXPONENTIAL;
}

/* exp, the sum, the division: over n keys. */
static int64_t softmax_price(int64_t keys) {
    return price_linear(PRICE_EXPONENTIAL + 2, keys, -1);
}

static int64_t lora_price(const struct flops_shape *shape, int64_t positions) {
    int64_t sum = 0;
    for (int target = 0; target < LORA_TARGET_COUNT; target++) {
        if (!shape_has_target(shape, target)) continue;
        int64_t in = target_width_in(shape, target), out = target_width_out(shape, target), rank = shape->lora_rank;
        sum = price_plus(sum, price_matrix(positions, in, rank));  /* A */
        sum = price_plus(sum, price_matrix(positions, rank, out)); /* B */
        sum = price_plus(sum, PRICE(2, positions, out));           /* scale, add */
    }
    return sum;
}

static void table1_attention(const struct pass_shape *pass, struct flops_terms *out) {
    const struct flops_shape *m = pass->model;
    int64_t d = m->hidden, head = m->head_size, layers = m->n_layers, positions = price_times(pass->batch, pass->rows);
    int64_t query = (int64_t)m->n_heads * head, key = (int64_t)m->n_kv_heads * head;
    int64_t squares = PRICE(pass->batch, m->n_heads, pass->rows); /* rows of the attention matrix, a layer */
    terms_add(out, "qkv", price_times(layers, price_matrix(positions, d, query + 2 * key)));
    terms_add(out, "qkv_bias", PRICE(layers, positions, query + 2 * key));
    terms_add(out, "lora", price_times(layers, lora_price(m, positions)));
    /* x·cos + rotated(x)·sin: 3 a number, and half of the numbers are negated */
    terms_add(out, "rope", PRICE(layers, positions, (7 * (query + key)) / 2));
    terms_add(out, "scores", PRICE(layers, squares, pass->keys, 2 * head - 1));
    terms_add(out, "score_scale", PRICE(layers, squares, pass->keys));
    terms_add(out, "softmax", PRICE(layers, squares, softmax_price(pass->keys)));
    terms_add(out, "values", PRICE(layers, squares, head, price_linear(2, pass->keys, -1)));
    terms_add(out, "output", price_times(layers, price_matrix(positions, query, d)));
}

static void table1_pass(const struct pass_shape *pass, struct flops_terms *out) {
    const struct flops_shape *m = pass->model;
    int64_t d = m->hidden, inner = m->intermediate, layers = m->n_layers;
    int64_t positions = price_times(pass->batch, pass->rows), logits = price_times(pass->batch, pass->logits);
    out->n = 0;
    terms_add(out, "norms", PRICE(2 * layers + 1, positions, norm_price(d)));
    table1_attention(pass, out);
    terms_add(out, "mlp_gate_up", PRICE(2, layers, price_matrix(positions, d, inner)));
    terms_add(out, "mlp_activation", PRICE(layers, positions, inner, gate_price()));
    terms_add(out, "mlp_down", price_times(layers, price_matrix(positions, inner, d)));
    terms_add(out, "residuals", PRICE(2, layers, positions, d));
    terms_add(out, "head", price_matrix(logits, d, m->vocabulary));
    if (m->head_bias) terms_add(out, "head_bias", price_times(logits, m->vocabulary));
}

static void table1_forward(const struct flops_shape *shape, int64_t batch, int64_t context, bool training,
                           struct flops_terms *out) {
    table1_pass(&(struct pass_shape){.model = shape,
                                     .batch = batch,
                                     .rows = context,
                                     .keys = context,
                                     .logits = training ? context : 1,
                                     .labels = training},
                out);
}

static void table1_decode(const struct flops_shape *shape, int64_t batch, int64_t keys, struct flops_terms *out) {
    table1_pass(&(struct pass_shape){.model = shape, .batch = batch, .rows = 1, .keys = keys, .logits = 1}, out);
}

const struct flops_convention flops_table1 = {
    .name = "table1",
    .about = "the architecture as it is, at the task's prices (exp and roots 10, everything else 1)",
    .forward = table1_forward,
    .decode = table1_decode,
};
