/* Exact products and sums of FLOPs. They saturate at INT64_MAX instead of wrapping, so a sum that does not fit is seen
 * as "larger than any cap". */
#include "flops_internal.h"

#include <assert.h>

int64_t price_times(int64_t a, int64_t b) {
    assert(a >= 0 && b >= 0);
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

int64_t price_plus(int64_t a, int64_t b) {
    assert(a >= 0 && b >= 0);
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

int64_t price_product(const int64_t *factors, size_t count) {
    int64_t product = 1;
    for (size_t i = 0; i < count; i++)
        product = price_times(product, factors[i]);
    return product;
}

int64_t price_linear(int64_t a, int64_t n, int64_t b) {
    int64_t product = price_times(a, n);
    return product == INT64_MAX ? INT64_MAX : b < 0 ? product + b : price_plus(product, b);
}

int64_t price_matrix(int64_t m, int64_t p, int64_t n) {
    return p < 1 ? 0 : price_times(price_times(m, n), price_linear(2, p, -1));
}

void terms_add(struct flops_terms *terms, const char *name, int64_t flops) {
    assert(terms->n < FLOPS_MAX_TERMS);
    terms->term[terms->n++] = (struct flops_term){.name = name, .flops = flops};
}

bool shape_has_target(const struct flops_shape *shape, int target) {
    return shape->lora_rank > 0 && (shape->lora_targets >> target & 1u);
}

int64_t target_width_in(const struct flops_shape *shape, int target) {
    switch (target) {
    case LORA_TARGET_O:
        return (int64_t)shape->n_heads * shape->head_size;
    case LORA_TARGET_DOWN:
        return shape->intermediate;
    default:
        return shape->hidden;
    }
}

int64_t target_width_out(const struct flops_shape *shape, int target) {
    switch (target) {
    case LORA_TARGET_Q:
        return (int64_t)shape->n_heads * shape->head_size;
    case LORA_TARGET_K:
    case LORA_TARGET_V:
        return (int64_t)shape->n_kv_heads * shape->head_size;
    case LORA_TARGET_GATE:
    case LORA_TARGET_UP:
        return shape->intermediate;
    default:
        return shape->hidden;
    }
}
