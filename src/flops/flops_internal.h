/* Pieces that the conventions share: prices of the task, exact sums that stop at INT64_MAX, and the terms of a forward
 * pass over `rows` new positions that attend to `keys` positions. Not a public contract. */
#pragma once
#include <stddef.h>

#include "lvsweep/flops.h"
#include "lvsweep/trial.h"

/* Table 1 of the task: what one operation costs. */
enum price {
    PRICE_SIMPLE = 1,        /* add, subtract, multiply, divide, negate, ReLU, absolute value */
    PRICE_EXPONENTIAL = 10,  /* exp, log */
    PRICE_TRANSCENDENT = 10, /* square root, sine, cosine */
};

/* a · b and a + b; INT64_MAX when it does not fit. Arguments are not negative. */
int64_t price_times(int64_t a, int64_t b);
int64_t price_plus(int64_t a, int64_t b);
/* PRICE(a, b, …): the product of all. */
int64_t price_product(const int64_t *factors, size_t count);
#define PRICE(...) \
    price_product((const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
/* a·n + b, for b ≥ −a·n. */
int64_t price_linear(int64_t a, int64_t n, int64_t b);
/* (m×p)·(p×n): m·n·(2p − 1) */
int64_t price_matrix(int64_t m, int64_t p, int64_t n);

void terms_add(struct flops_terms *terms, const char *name, int64_t flops);

/* Widths of a LoRA target as the architecture has them. */
int64_t target_width_in(const struct flops_shape *shape, int target);
int64_t target_width_out(const struct flops_shape *shape, int target);
bool shape_has_target(const struct flops_shape *shape, int target); /* false for every target with rank 0 */

/* One pass as the formulas see it: `batch` sequences of `rows` new positions each; a new position is scored against
 * `keys` positions (rows = keys in a forward, rows = 1 in cached decoding). */
struct pass_shape {
    const struct flops_shape *model;
    int64_t batch, rows, keys;
    int64_t logits; /* positions a sequence whose logits are needed */
    bool labels;    /* a loss is taken over them */
};

extern const struct flops_convention flops_table1, flops_report_a, flops_report_b, flops_report_c;
