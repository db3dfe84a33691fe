/* The operations of backend.h as plain loops in double precision, one sequence or one row at a time: what every backend
 * is measured against. No blocking, no shared code with any backend. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "lvsweep/backend.h"

/* y [m][n] (+)= a [m][k] · w [n][k]ᵀ */
void reference_matmul(int64_t m, int64_t n, int64_t k, const double *a, const double *w, bool accumulate, double *y);
/* dx [m][k] (+)= dy [m][n] · w [n][k] */
void reference_matmul_backward(int64_t m, int64_t n, int64_t k, const double *dy, const double *w, bool accumulate,
                               double *dx);

void reference_rmsnorm(int64_t rows, int64_t cols, const double *x, const double *gain, double epsilon, double *y,
                       double *rstd);
/* dx += … */
void reference_rmsnorm_backward(int64_t rows, int64_t cols, const double *dy, const double *x, const double *gain,
                                double epsilon, double *dx);

void reference_swiglu(int64_t rows, int64_t width, const double *gate_up, double *h);
void reference_swiglu_backward(int64_t rows, int64_t width, const double *gate_up, const double *dh, double *d_gate_up);

/* Turns q and k of one row by `position` (sign −1: back) after adding bias (NULL: none). */
void reference_rope(const struct attention_shape *shape, const double *bias, double theta, int64_t position,
                    double sign, double *qkv_row);

/* One sequence: qkv [context][width] → out [context][n_heads·h], lse [context][n_heads]. */
void reference_attention(const struct attention_shape *shape, int64_t context, const double *qkv, double *out,
                         double *lse);
void reference_attention_backward(const struct attention_shape *shape, int64_t context, const double *qkv,
                                  const double *dout, double *dqkv);

/* Loss of one row of logits [vocabulary] in nats. */
double reference_cross_entropy(int64_t vocabulary, const double *logits, int32_t label);
