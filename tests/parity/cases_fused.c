/* Cases: the fused operations around low-rank pairs, or what composes them where a backend has none. */
#include <math.h>
#include <string.h>

#include "cases.h"
#include "lora_fixture.h"
#include "reference.h"

static const float epsilon = 1e-6f;

/* Compares one kind of gradient of every pair in every slot: `of_a` A, otherwise B. */
static void gradients_compare(struct parity *parity, const struct lora_fixture *f, const char *operation,
                              const double *expected, bool of_a) {
    const float *got = parity_floats_read(parity, f->adapters.grads, N_ADAPTERS * f->adapters.stride);
    for (int32_t slot = 0; slot < f->shape.n_slots; slot++)
        for (int32_t i = 0; i < f->group.n; i++) {
            const struct lora_site *site = &f->group.site[i];
            int64_t at = f->rows.adapter[slot] * f->adapters.stride + (of_a ? site->a_offset : site->b_offset);
            int64_t count = (int64_t)site->rank * (of_a ? site->n_in : site->n_out);
            parity_compare(parity, operation, lora_shape_text(f), expected + at, got + at, count, 1);
        }
}

/* ---- norm and A ---- */

static void norm_forward_check(struct parity *parity, const struct lora_fixture *f, const float *gain, float *rstd,
                               const double *normed) {
    const struct pack_layout *layout = &f->rows.layout;
    int64_t count = (int64_t)layout->n_rows * f->shape.n_in, n_xa = layout->n_rows * f->width;
    void *y = parity_act_poisoned(parity, count);
    float *xa = parity_floats(parity, NULL, n_xa);
    double *xa_wide = parity_host(parity, (size_t)n_xa * 8);
    backend_norm_lora_a_forward(&parity->compute, layout, f->shape.n_in, f->x_device, gain, epsilon, y, rstd,
                                &f->adapters, &f->group, xa);
    lora_reference_xa(f, xa_wide);
    parity_compare(parity, "norm_lora_a_forward y", lora_shape_text(f), normed, parity_act_read(parity, y, count),
                   count, 1);
    parity_compare(parity, "norm_lora_a_forward xa", lora_shape_text(f), xa_wide, parity_floats_read(parity, xa, n_xa),
                   n_xa, 1);
}

/* `x` is the input of the norm, f->x its output. */
static void norm_backward_check(struct parity *parity, const struct lora_fixture *f, const float *gain,
                                const double *gain_wide, const float *rstd, const double *x) {
    const struct pack_layout *layout = &f->rows.layout;
    int64_t n_rows = layout->n_rows, count = n_rows * f->shape.n_in, n_t = n_rows * f->width;
    float *t = parity_normal(parity, n_t, 1), *dy_host = parity_normal(parity, count, 1);
    float *start = parity_normal(parity, count, 1);
    void *dy = parity_act(parity, dy_host, count), *dx = parity_act(parity, start, count);
    backend_norm_lora_a_backward(&parity->compute, layout, f->shape.n_in, dy, f->x_device, gain, epsilon, rstd,
                                 &f->adapters, &f->group, parity_floats(parity, t, n_t),
                                 parity_act_poisoned(parity, count), dx);
    double *expected = parity_widen(parity, start, count), *dy_wide = parity_widen(parity, dy_host, count);
    double *grads = parity_host(parity, (size_t)(N_ADAPTERS * f->adapters.stride) * 8);
    lora_reference_a_backward(f, parity_widen(parity, t, n_t), grads, dy_wide);
    reference_rmsnorm_backward(n_rows, f->shape.n_in, dy_wide, x, gain_wide, (double)epsilon, expected);
    parity_compare(parity, "norm_lora_a_backward dx", lora_shape_text(f), expected, parity_act_read(parity, dx, count),
                   count, 2);
    gradients_compare(parity, f, "norm_lora_a_backward A", grads, true);
}

static void norm_fixture_check(struct parity *parity, struct lora_fixture f) {
    struct lora_shape shape = f.shape;
    int64_t n_rows = f.rows.layout.n_rows;
    float *gain_host = parity_normal(parity, shape.n_in, 1), *gain = parity_floats(parity, gain_host, shape.n_in);
    float *rstd = parity_floats(parity, NULL, n_rows);
    double *gain_wide = parity_widen(parity, gain_host, shape.n_in), *x = f.x;
    f.x = parity_host(parity, (size_t)(n_rows * shape.n_in) * 8);
    reference_rmsnorm(n_rows, shape.n_in, x, gain_wide, (double)epsilon, f.x, NULL);
    norm_forward_check(parity, &f, gain, rstd, f.x);
    norm_backward_check(parity, &f, gain, gain_wide, rstd, x);
    parity_reset(parity);
}

static void norm_check(struct parity *parity, struct lora_shape shape) {
    norm_fixture_check(parity, lora_fixture_make(parity, shape));
}

/* ---- q, k and v ---- */

static void qkv_forward_check(struct parity *parity, const struct lora_fixture *f,
                              const struct attention_shape *attention, const struct rope_tables *rope,
                              const int32_t *position, const float *xa, const double *xa_wide) {
    int64_t n_rows = f->rows.layout.n_rows, count = n_rows * f->ld;
    float *start = parity_normal(parity, count, 1), *bias = parity_normal(parity, f->ld, 1);
    void *qkv = parity_act(parity, start, count);
    backend_qkv_finish(&parity->compute, &f->rows.layout, attention, &f->adapters, &f->group, xa,
                       parity_floats(parity, bias, f->ld), rope, qkv);
    double *expected = parity_widen(parity, start, count), *bias_wide = parity_widen(parity, bias, f->ld);
    lora_reference_y(f, xa_wide, expected);
    for (int64_t row = 0; row < n_rows; row++)
        reference_rope(attention, bias_wide, CASE_THETA, position[row], 1, expected + row * f->ld);
    parity_compare(parity, "qkv_finish", lora_shape_text(f), expected, parity_act_read(parity, qkv, count), count, 1);
}

static void qkv_backward_check(struct parity *parity, struct lora_fixture *f, const struct attention_shape *attention,
                               const struct rope_tables *rope, const int32_t *position, const float *xa,
                               const double *xa_wide) {
    int64_t n_rows = f->rows.layout.n_rows, count = n_rows * f->ld, n_t = n_rows * f->width;
    float *dqkv_host = parity_normal(parity, count, 1), *t = parity_floats(parity, NULL, n_t);
    void *dqkv = parity_act(parity, dqkv_host, count);
    backend_qkv_finish_backward(&parity->compute, &f->rows.layout, attention, &f->adapters, &f->group, xa, rope, dqkv,
                                t);
    f->dy = parity_widen(parity, dqkv_host, count);
    for (int64_t row = 0; row < n_rows; row++)
        reference_rope(attention, NULL, CASE_THETA, position[row], -1, f->dy + row * f->ld);
    double *t_wide = parity_host(parity, (size_t)n_t * 8);
    double *grads = parity_host(parity, (size_t)(N_ADAPTERS * f->adapters.stride) * 8);
    lora_reference_b_backward(f, xa_wide, t_wide, grads);
    parity_compare(parity, "qkv_finish_backward dqkv", lora_shape_text(f), f->dy, parity_act_read(parity, dqkv, count),
                   count, 1);
    parity_compare(parity, "qkv_finish_backward t", lora_shape_text(f), t_wide, parity_floats_read(parity, t, n_t), n_t,
                   1);
    gradients_compare(parity, f, "qkv_finish_backward B", grads, false);
}

/* Pairs on q, k and v, or on q and v alone. */
static void qkv_check(struct parity *parity, struct attention_shape attention, int32_t n_slots, int32_t context,
                      int32_t rank, bool with_k) {
    int32_t q = attention.n_heads * attention.head_size, kv = attention.n_kv_heads * attention.head_size;
    struct lora_shape shape = {n_slots, 2, context, 2, 64, {q, kv, kv}, rank, 0, false};
    if (with_k) shape.n_sites = 3;
    struct lora_fixture f = lora_fixture_make(parity, shape);
    f.group.site[f.group.n - 1].column = q + kv;
    f.ld = attention_qkv_width(&attention);
    int64_t n_xa = f.rows.layout.n_rows * f.width;
    int32_t *position;
    struct rope_tables rope = case_rope_tables(parity, f.rows.layout.n_rows, context, attention.head_size, &position);
    float *xa_host = parity_normal(parity, n_xa, 1), *xa = parity_floats(parity, xa_host, n_xa);
    double *xa_wide = parity_widen(parity, xa_host, n_xa);
    qkv_forward_check(parity, &f, &attention, &rope, position, xa, xa_wide);
    qkv_backward_check(parity, &f, &attention, &rope, position, xa, xa_wide);
    parity_reset(parity);
}

/* dqkv and t after attention's backward and the projection's end, with or without a look between the two: a backend may
 * leave work of the first to the second, which must not change a bit. */
static void follow(struct parity *parity, const struct lora_fixture *f, const struct attention_shape *attention,
                   const struct rope_tables *rope, bool look, void *arrays[6]) {
    const struct backend *backend = parity->compute.backend;
    struct device *device = parity->compute.device;
    const struct pack_layout *layout = &f->rows.layout;
    struct lvs_error err = {0};
    backend->attention_backward(device, layout, attention, arrays[0], arrays[1], arrays[2], arrays[3], arrays[4]);
    if (look) parity_expect(parity, "attention_backward", "", backend->synchronize(device, &err) == LVS_OK, err.text);
    backend_qkv_finish_backward(&parity->compute, layout, attention, &f->adapters, &f->group, arrays[5], rope,
                                arrays[4], parity_floats(parity, NULL, layout->n_rows * f->width));
}

static void follow_check(struct parity *parity, struct attention_shape attention, int32_t context) {
    int32_t q = attention.n_heads * attention.head_size, kv = attention.n_kv_heads * attention.head_size, *position;
    struct lora_fixture f = lora_fixture_make(parity, (struct lora_shape){2, 2, context, 2, 64, {q, kv}, 8, 0, false});
    f.group.site[1].column = q + kv;
    f.ld = attention_qkv_width(&attention);
    int64_t rows = f.rows.layout.n_rows, n_qkv = rows * f.ld, n_out = rows * q;
    struct rope_tables rope = case_rope_tables(parity, rows, context, attention.head_size, &position);
    void *qkv = parity_act(parity, parity_normal(parity, n_qkv, 1), n_qkv);
    void *out = parity_act_poisoned(parity, n_out), *dout = parity_act(parity, parity_normal(parity, n_out, 1), n_out);
    float *lse = parity_floats(parity, NULL, rows * attention.n_heads);
    float *xa = parity_floats(parity, parity_normal(parity, rows * f.width, 1), rows * f.width);
    parity->compute.backend->attention_forward(parity->compute.device, &f.rows.layout, &attention, qkv, out, lse);
    float *got[2], *grads[2];
    int64_t n_grads = N_ADAPTERS * f.adapters.stride;
    for (int look = 0; look < 2; look++) {
        void *arrays[6] = {qkv, out, lse, dout, parity_act_poisoned(parity, n_qkv), xa};
        follow(parity, &f, &attention, &rope, look == 1, arrays);
        got[look] = parity_act_read(parity, arrays[4], n_qkv);
        grads[look] = parity_floats_read(parity, f.adapters.grads, n_grads);
    }
    const char *text =
        parity_text("2×2 sequences of %d, %d+%d heads", context, attention.n_heads, attention.n_kv_heads);
    bool same = memcmp(got[0], got[1], (size_t)n_qkv * sizeof(float)) == 0;
    parity_expect(parity, "attention, then qkv_finish_backward", text, same, "dqkv differs when looked at between");
    same = memcmp(grads[0], grads[1], (size_t)n_grads * sizeof(float)) == 0;
    parity_expect(parity, "attention, then qkv_finish_backward", text, same, "grad B differs when looked at between");
    parity_reset(parity);
}

void case_fused(struct parity *parity) {
    for (int32_t rank = 2; rank <= 16; rank *= 2)
        norm_check(parity, (struct lora_shape){3, 2, 70, 2, 128, {128, 64}, rank, 0, false});
    norm_check(parity, (struct lora_shape){3, 2, 35, 2, 128, {128, 64}, 8, 0, true});
    norm_check(parity, (struct lora_shape){1, 1, 140, 2, 896, {896, 128}, 4, 0.3f, false});
    norm_check(parity, (struct lora_shape){2, 1, 140, 3, 896, {896, 128, 128}, 8, 0, false});
    norm_check(parity, (struct lora_shape){2, 1, 16, 0, 128, {0}, 4, 0, false});
    norm_check(parity, (struct lora_shape){1, 1, 40, 1, 72, {64}, 5, 0, false});
    qkv_check(parity, (struct attention_shape){2, 1, 64}, 1, 35, 4, true);
    qkv_check(parity, (struct attention_shape){6, 2, 32}, 3, 35, 8, true);
    qkv_check(parity, (struct attention_shape){14, 2, 64}, 2, 70, 8, false);
    qkv_check(parity, (struct attention_shape){2, 1, 64}, 3, 70, 2, false);
    qkv_check(parity, (struct attention_shape){4, 2, 64}, 1, 130, 16, false);
    follow_check(parity, (struct attention_shape){14, 2, 64}, 64);
    follow_check(parity, (struct attention_shape){14, 2, 64}, 70);
    /* rows enough for blocks that take several tiles */
    norm_check(parity, (struct lora_shape){4, 2, 640, 2, 128, {128, 64}, 8, 0, false});
    qkv_check(parity, (struct attention_shape){2, 1, 64}, 4, 1024, 8, false);
    /* and slots of an odd number of small blocks, so that blocks begin within pairs of tiles, and slots too */
    norm_fixture_check(
        parity, lora_fixture_make_small(parity, (struct lora_shape){3, 1, 1000, 2, 384, {128, 64}, 8, 0, false}));
    norm_fixture_check(parity,
                       lora_fixture_make_small(parity, (struct lora_shape){4, 1, 650, 1, 256, {64}, 8, 0.25f, false}));
}
