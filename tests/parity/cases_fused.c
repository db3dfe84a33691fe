/* Cases: the fused operations around low-rank pairs, or what composes them where a backend has none. */
#include <math.h>

#include "cases.h"
#include "lora_fixture.h"
#include "reference.h"

static void norm_fused_check(struct parity *parity, struct lora_shape shape) {
    struct lora_fixture f = lora_fixture_make(parity, shape);
    const struct pack_layout *layout = &f.rows.layout;
    const float epsilon = 1e-6f;
    int64_t n_rows = layout->n_rows, count = n_rows * shape.n_in, n_xa = n_rows * f.width;
    float *gain_host = parity_normal(parity, shape.n_in, 1), *gain = parity_floats(parity, gain_host, shape.n_in);
    void *x = f.x_device, *y = parity_act_poisoned(parity, count);
    float *rstd = parity_floats(parity, NULL, n_rows), *xa = parity_floats(parity, NULL, n_xa);
    double *gain_wide = parity_widen(parity, gain_host, shape.n_in), *x_wide = f.x;
    double *normed = parity_host(parity, (size_t)count * 8), *xa_wide = parity_host(parity, (size_t)n_xa * 8);
    backend_norm_lora_a_forward(&parity->compute, layout, shape.n_in, x, gain, epsilon, y, rstd, &f.adapters, &f.group,
                                xa);
    reference_rmsnorm(n_rows, shape.n_in, x_wide, gain_wide, (double)epsilon, normed, NULL);
    f.x = normed;
    lora_reference_xa(&f, xa_wide);
    parity_compare(parity, "norm_lora_a_forward y", lora_shape_text(&f), normed, parity_act_read(parity, y, count), count,
                   1);
    parity_compare(parity, "norm_lora_a_forward xa", lora_shape_text(&f), xa_wide, parity_floats_read(parity, xa, n_xa),
                   n_xa, 1);

    float *t_host = parity_normal(parity, n_xa, 1), *dy_host = parity_normal(parity, count, 1);
    float *start = parity_normal(parity, count, 1);
    void *dy = parity_act(parity, dy_host, count), *dx = parity_act(parity, start, count);
    backend_norm_lora_a_backward(&parity->compute, layout, shape.n_in, dy, x, gain, epsilon, rstd, &f.adapters,
                                 &f.group, parity_floats(parity, t_host, n_xa), parity_act_poisoned(parity, count), dx);
    double *expected = parity_widen(parity, start, count), *dy_wide = parity_widen(parity, dy_host, count);
    for (int64_t row = 0; row < n_rows; row++)
        for (int32_t i = 0; i < f.group.n; i++) {
            const struct lora_site *site = &f.group.site[i];
            struct row_view view = view_make(&f, row, site);
            for (int32_t r = 0; r < site->rank; r++)
                for (int32_t c = 0; c < site->n_in; c++)
                    dy_wide[row * site->n_in + c] += (double)t_host[row * f.width + i * site->rank + r] *
                                                     mask(&f, view.adapter, site->site_id, view.slot_row, c) *
                                                     view.a[r * site->n_in + c];
        }
    reference_rmsnorm_backward(n_rows, shape.n_in, dy_wide, x_wide, gain_wide, (double)epsilon, expected);
    parity_compare(parity, "norm_lora_a_backward dx", lora_shape_text(&f), expected, parity_act_read(parity, dx, count),
                   count, 2);
    parity_reset(parity);
}

/* q, k and v with pairs on all three, bias and rotary positions in one call, and back. */
static void qkv_fused_check(struct parity *parity, struct attention_shape attention, int32_t n_slots) {
    int32_t q = attention.n_heads * attention.head_size, kv = attention.n_kv_heads * attention.head_size;
    struct lora_shape shape = {n_slots, 2, 35, 3, 64, {q, kv, kv}, 4, 0};
    struct lora_fixture f = lora_fixture_make(parity, shape);
    const struct pack_layout *layout = &f.rows.layout;
    const double theta = 10000;
    int32_t half = attention.head_size / 2, column = 0;
    f.ld = attention_qkv_width(&attention);
    for (int32_t i = 0; i < 3; i++) {
        f.group.site[i].column = column;
        column += shape.n_out[i];
    }
    int64_t n_rows = layout->n_rows, count = n_rows * f.ld, n_xa = n_rows * f.width;
    float *cosine = parity_host(parity, (size_t)(shape.context * half) * 4);
    float *sine = parity_host(parity, (size_t)(shape.context * half) * 4);
    for (int32_t i = 0; i < shape.context * half; i++) {
        double angle = (i / half) * pow(theta, -2.0 * (i % half) / attention.head_size);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    int32_t *position = parity_below(parity, n_rows, shape.context);
    struct rope_tables rope = {parity_floats(parity, cosine, shape.context * half),
                               parity_floats(parity, sine, shape.context * half), shape.context,
                               parity_ints(parity, position, n_rows)};
    float *xa_host = parity_normal(parity, n_xa, 1), *start = parity_normal(parity, count, 1);
    float *bias = parity_normal(parity, f.ld, 1), *xa = parity_floats(parity, xa_host, n_xa);
    void *qkv = parity_act(parity, start, count);
    backend_qkv_finish(&parity->compute, layout, &attention, &f.adapters, &f.group, xa,
                       parity_floats(parity, bias, f.ld), &rope, qkv);
    double *expected = parity_widen(parity, start, count), *bias_wide = parity_widen(parity, bias, f.ld);
    double *xa_wide = parity_widen(parity, xa_host, n_xa);
    lora_reference_y(&f, xa_wide, expected);
    for (int64_t row = 0; row < n_rows; row++)
        reference_rope(&attention, bias_wide, theta, position[row], 1, expected + row * f.ld);
    parity_compare(parity, "qkv_finish", lora_shape_text(&f), expected, parity_act_read(parity, qkv, count), count, 1);

    float *dqkv_host = parity_normal(parity, count, 1), *t = parity_floats(parity, NULL, n_xa);
    void *dqkv = parity_act(parity, dqkv_host, count);
    backend_qkv_finish_backward(&parity->compute, layout, &attention, &f.adapters, &f.group, xa, &rope, dqkv, t);
    f.dy = parity_widen(parity, dqkv_host, count);
    for (int64_t row = 0; row < n_rows; row++)
        reference_rope(&attention, NULL, theta, position[row], -1, f.dy + row * f.ld);
    double *t_wide = parity_host(parity, (size_t)n_xa * 8);
    double *grads = parity_host(parity, (size_t)(N_ADAPTERS * f.adapters.stride) * 8);
    reference_backward(&f, xa_wide, t_wide, grads, NULL);
    parity_compare(parity, "qkv_finish_backward dqkv", lora_shape_text(&f), f.dy, parity_act_read(parity, dqkv, count),
                   count, 1);
    parity_compare(parity, "qkv_finish_backward t", lora_shape_text(&f), t_wide, parity_floats_read(parity, t, n_xa), n_xa,
                   1);
    const float *got = parity_floats_read(parity, f.adapters.grads, N_ADAPTERS * f.adapters.stride);
    for (int32_t slot = 0; slot < n_slots; slot++)
        for (int32_t i = 0; i < 3; i++) {
            int64_t b = f.rows.adapter[slot] * f.adapters.stride + f.group.site[i].b_offset;
            parity_compare(parity, "qkv_finish_backward B", lora_shape_text(&f), grads + b, got + b,
                           (int64_t)shape.rank * shape.n_out[i], 1);
        }
    parity_reset(parity);
}

void case_fused(struct parity *parity) {
    norm_fused_check(parity, (struct lora_shape){3, 2, 35, 2, 128, {128, 64}, 8, 0});
    norm_fused_check(parity, (struct lora_shape){1, 1, 140, 2, 896, {896, 128}, 4, 0.3f});
    norm_fused_check(parity, (struct lora_shape){2, 1, 16, 0, 128, {0}, 4, 0});
    qkv_fused_check(parity, (struct attention_shape){2, 1, 64}, 1);
    qkv_fused_check(parity, (struct attention_shape){6, 2, 32}, 3);
}
