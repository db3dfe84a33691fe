/* See reference.h. Written for reading, not for speed. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

#include "lvsweep/strbuf.h"

void reference_matmul(int64_t m, int64_t n, int64_t k, const double *a, const double *w, bool accumulate, double *y) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = accumulate ? y[i * n + j] : 0;
            for (int64_t l = 0; l < k; l++)
                sum += a[i * k + l] * w[j * k + l];
            y[i * n + j] = sum;
        }
}

void reference_matmul_backward(int64_t m, int64_t n, int64_t k, const double *dy, const double *w, bool accumulate,
                               double *dx) {
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; !accumulate && l < k; l++)
            dx[i * k + l] = 0;
        for (int64_t j = 0; j < n; j++)
            for (int64_t l = 0; l < k; l++)
                dx[i * k + l] += dy[i * n + j] * w[j * k + l];
    }
}

static double row_rstd(int64_t cols, const double *x, double epsilon) {
    double squares = 0;
    for (int64_t i = 0; i < cols; i++)
        squares += x[i] * x[i];
    return 1 / sqrt(squares / (double)cols + epsilon);
}

void reference_rmsnorm(int64_t rows, int64_t cols, const double *x, const double *gain, double epsilon, double *y,
                       double *rstd) {
    for (int64_t row = 0; row < rows; row++) {
        double r = row_rstd(cols, x + row * cols, epsilon);
        if (rstd) rstd[row] = r;
        for (int64_t i = 0; i < cols; i++)
            y[row * cols + i] = x[row * cols + i] * r * gain[i];
    }
}

void reference_rmsnorm_backward(int64_t rows, int64_t cols, const double *dy, const double *x, const double *gain,
                                double epsilon, double *dx) {
    for (int64_t row = 0; row < rows; row++) {
        const double *xr = x + row * cols, *dyr = dy + row * cols;
        double r = row_rstd(cols, xr, epsilon), along = 0;
        for (int64_t i = 0; i < cols; i++)
            along += dyr[i] * gain[i] * xr[i] * r;
        for (int64_t i = 0; i < cols; i++)
            dx[row * cols + i] += r * (dyr[i] * gain[i] - xr[i] * r * along / (double)cols);
    }
}

void reference_swiglu(int64_t rows, int64_t width, const double *gate_up, double *h) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i++) {
            double g = gate_up[row * 2 * width + i], u = gate_up[row * 2 * width + width + i];
            h[row * width + i] = g / (1 + exp(-g)) * u;
        }
}

void reference_swiglu_backward(int64_t rows, int64_t width, const double *gate_up, const double *dh,
                               double *d_gate_up) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i++) {
            int64_t gate = row * 2 * width + i, up = gate + width;
            double g = gate_up[gate], u = gate_up[up], d = dh[row * width + i], s = 1 / (1 + exp(-g));
            d_gate_up[gate] = d * u * (s + g * s * (1 - s));
            d_gate_up[up] = d * g * s;
        }
}

void reference_rope(const struct attention_shape *shape, const double *bias, double theta, int64_t position,
                    double sign, double *qkv_row) {
    int32_t size = shape->head_size, half = size / 2;
    for (int32_t i = 0; bias && i < attention_qkv_width(shape); i++)
        qkv_row[i] += bias[i];
    for (int32_t head = 0; head < shape->n_heads + shape->n_kv_heads; head++)
        for (int32_t i = 0; i < half; i++) {
            double angle = sign * (double)position * pow(theta, -2.0 * i / size);
            double *first = qkv_row + head * size + i, *second = first + half;
            double a = *first, b = *second;
            *first = a * cos(angle) - b * sin(angle);
            *second = b * cos(angle) + a * sin(angle);
        }
}

/* Probabilities of one query row over keys 0 … query; returns the log of the sum of exponentials. */
static double attention_row(const struct attention_shape *shape, const double *qkv, int64_t query, int32_t head,
                            double *probabilities) {
    int32_t size = shape->head_size, group = shape->n_heads / shape->n_kv_heads, width = attention_qkv_width(shape);
    const double *q = qkv + query * width + head * size;
    double max = -INFINITY, sum = 0;
    for (int64_t key = 0; key <= query; key++) {
        const double *k = qkv + key * width + (shape->n_heads + head / group) * size;
        probabilities[key] = 0;
        for (int32_t i = 0; i < size; i++)
            probabilities[key] += q[i] * k[i] / sqrt(size);
        max = fmax(max, probabilities[key]);
    }
    for (int64_t key = 0; key <= query; key++)
        sum += exp(probabilities[key] - max);
    for (int64_t key = 0; key <= query; key++)
        probabilities[key] = exp(probabilities[key] - max) / sum;
    return max + log(sum);
}

void reference_attention(const struct attention_shape *shape, int64_t context, const double *qkv, double *out,
                         double *lse) {
    int32_t size = shape->head_size, group = shape->n_heads / shape->n_kv_heads, width = attention_qkv_width(shape);
    double *probabilities = lvs_calloc((size_t)context, sizeof *probabilities);
    for (int64_t query = 0; query < context; query++)
        for (int32_t head = 0; head < shape->n_heads; head++) {
            double total = attention_row(shape, qkv, query, head, probabilities);
            if (lse) lse[query * shape->n_heads + head] = total;
            double *target = out + (query * shape->n_heads + head) * size;
            for (int32_t i = 0; i < size; i++)
                target[i] = 0;
            for (int64_t key = 0; key <= query; key++)
                for (int32_t i = 0; i < size; i++)
                    target[i] += probabilities[key] *
                                 qkv[key * width + (shape->n_heads + shape->n_kv_heads + head / group) * size + i];
        }
    free(probabilities);
}

void reference_attention_backward(const struct attention_shape *shape, int64_t context, const double *qkv,
                                  const double *dout, double *dqkv) {
    int32_t size = shape->head_size, group = shape->n_heads / shape->n_kv_heads, width = attention_qkv_width(shape);
    double *p = lvs_calloc((size_t)context, sizeof *p), *dp = lvs_calloc((size_t)context, sizeof *dp);
    for (int64_t i = 0; i < context * width; i++)
        dqkv[i] = 0;
    for (int64_t query = 0; query < context; query++)
        for (int32_t head = 0; head < shape->n_heads; head++) {
            int32_t k_column = (shape->n_heads + head / group) * size;
            int32_t v_column = k_column + shape->n_kv_heads * size;
            const double *d = dout + (query * shape->n_heads + head) * size;
            double delta = 0;
            attention_row(shape, qkv, query, head, p);
            for (int64_t key = 0; key <= query; key++) {
                dp[key] = 0;
                for (int32_t i = 0; i < size; i++) {
                    dp[key] += d[i] * qkv[key * width + v_column + i];
                    dqkv[key * width + v_column + i] += p[key] * d[i];
                }
                delta += p[key] * dp[key];
            }
            for (int64_t key = 0; key <= query; key++)
                for (int32_t i = 0; i < size; i++) {
                    double ds = p[key] * (dp[key] - delta) / sqrt(size);
                    dqkv[query * width + head * size + i] += ds * qkv[key * width + k_column + i];
                    dqkv[key * width + k_column + i] += ds * qkv[query * width + head * size + i];
                }
        }
    free(p);
    free(dp);
}

double reference_cross_entropy(int64_t vocabulary, const double *logits, int32_t label) {
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < vocabulary; i++)
        max = fmax(max, logits[i]);
    for (int64_t i = 0; i < vocabulary; i++)
        sum += exp(logits[i] - max);
    return max + log(sum) - logits[label];
}
