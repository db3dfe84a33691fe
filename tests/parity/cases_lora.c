/* Cases: low-rank pairs, with several slots, permuted adapters, ranks padded to a common one, and dropout; and the
 * fused operations around them. The reference draws dropout masks by the rule in backend.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "parity.h"
#include "reference.h"

enum { N_ADAPTERS = 4 };

struct lora_shape {
    int32_t n_slots, n_sequences, context;
    int32_t n_sites, n_in, n_out[LVS_MAX_SITES], rank;
    float dropout;
};

/* One case: host values as the device sees them, the same as double, and device arrays. */
struct lora_fixture {
    struct lora_shape shape;
    struct parity_rows rows;
    struct lora_group group;
    struct adapters adapters; /* device */
    const float *scale, *dropout;
    const uint64_t *seed;
    const int32_t *step;
    double *params_wide; /* [N_ADAPTERS][stride] */
    double *x;           /* [n_rows][n_in] */
    double *dy;          /* [n_rows][ld] */
    int32_t ld;          /* columns of y */
    int64_t width;       /* of xa and t */
    void *x_device, *dy_device;
};

static struct lora_group group_make(const struct lora_shape *shape, int64_t *stride, int32_t *ld) {
    struct lora_group group = {.n = shape->n_sites};
    int64_t offset = 5; /* something else comes first */
    int32_t column = 3;
    for (int32_t i = 0; i < shape->n_sites; i++) {
        struct lora_site *site = &group.site[i];
        *site =
            (struct lora_site){.n_in = shape->n_in, .n_out = shape->n_out[i], .rank = shape->rank, .column = column};
        site->site_id = 7 * i + 2;
        site->a_offset = offset;
        offset += (int64_t)site->rank * site->n_in;
        site->b_offset = offset;
        offset += (int64_t)site->n_out * site->rank;
        column += site->n_out + 2; /* columns between the sites belong to nobody */
    }
    *stride = offset + 4;
    *ld = column;
    return group;
}

/* Random adapters; adapter k has its own rank, the rest of the padded rank is zero. */
static float *params_make(struct parity *parity, const struct lora_group *group, int64_t stride) {
    float *params = parity_normal(parity, N_ADAPTERS * stride, 0.5);
    for (int32_t k = 0; k < N_ADAPTERS; k++)
        for (int32_t i = 0; i < group->n; i++) {
            const struct lora_site *site = &group->site[i];
            int32_t own = k == 2 ? site->rank : 1 + (k + i) % site->rank;
            for (int32_t r = own; r < site->rank; r++) {
                for (int32_t c = 0; c < site->n_in; c++)
                    params[k * stride + site->a_offset + r * site->n_in + c] = 0;
                for (int32_t o = 0; o < site->n_out; o++)
                    params[k * stride + site->b_offset + o * site->rank + r] = 0;
            }
        }
    return params;
}

static struct lora_fixture fixture_make(struct parity *parity, struct lora_shape shape) {
    struct lora_fixture f = {.shape = shape};
    f.rows = parity_layout(parity, shape.n_slots, shape.n_sequences, shape.context, N_ADAPTERS);
    int64_t stride, n_rows = f.rows.layout.n_rows;
    f.group = group_make(&shape, &stride, &f.ld);
    f.width = (int64_t)shape.n_sites * shape.rank;
    float *params = params_make(parity, &f.group, stride), *scale = parity_normal(parity, N_ADAPTERS, 1);
    float *dropout = parity_host(parity, N_ADAPTERS * 4);
    uint64_t *seed = parity_host(parity, N_ADAPTERS * 8);
    int32_t *step = parity_below(parity, N_ADAPTERS, 700000);
    for (int32_t k = 0; k < N_ADAPTERS; k++) {
        dropout[k] = k == 3 ? 0 : shape.dropout;
        seed[k] = (uint64_t)rng_u32(&parity->rng) << 32 | rng_u32(&parity->rng);
    }
    f.scale = scale, f.dropout = dropout, f.seed = seed, f.step = step;
    f.adapters = (struct adapters){
        .params = parity_floats(parity, params, N_ADAPTERS * stride),
        .grads = parity_floats(parity, NULL, N_ADAPTERS * stride),
        .stride = stride,
        .scale = parity_floats(parity, scale, N_ADAPTERS),
        .dropout = shape.dropout > 0 ? parity_floats(parity, dropout, N_ADAPTERS) : NULL,
        .seed = parity_raw(parity, seed, N_ADAPTERS * sizeof *seed),
        .step = parity_ints(parity, step, N_ADAPTERS),
    };
    float *x = parity_normal(parity, n_rows * shape.n_in, 1), *dy = parity_normal(parity, n_rows * f.ld, 1);
    f.x_device = parity_act(parity, x, n_rows * shape.n_in);
    f.dy_device = parity_act(parity, dy, n_rows * f.ld);
    f.params_wide = parity_widen(parity, params, N_ADAPTERS * stride);
    f.x = parity_widen(parity, x, n_rows * shape.n_in);
    f.dy = parity_widen(parity, dy, n_rows * f.ld);
    return f;
}

/* ---- reference ---- */

/* Factor of one input element: 0 or 1/(1 − p). */
static double mask(const struct lora_fixture *f, int32_t adapter, int32_t site_id, int64_t row, int64_t column) {
    double p = (double)f->dropout[adapter];
    uint32_t words[4];
    if (p <= 0) return 1;
    uint64_t index =
        (uint64_t)f->step[adapter] << 44 | (uint64_t)site_id << 34 | (uint64_t)row << 16 | (uint64_t)column / 4;
    rng_block(f->seed[adapter], RNG_STREAM_DROPOUT, index, words);
    return words[column % 4] < (uint32_t)(p * 0x1p32) ? 0 : 1 / (1 - p);
}

/* The numbers of one row: adapter and its matrices. */
struct row_view {
    int32_t adapter;
    int64_t slot_row;
    double scale;
    const double *a, *b, *x;
};

static struct row_view view_make(const struct lora_fixture *f, int64_t row, const struct lora_site *site) {
    int32_t slot = (int32_t)(row / f->rows.layout.slot_rows), adapter = f->rows.adapter[slot];
    const double *params = f->params_wide + adapter * f->adapters.stride;
    return (struct row_view){adapter,
                             row % f->rows.layout.slot_rows,
                             (double)f->scale[adapter],
                             params + site->a_offset,
                             params + site->b_offset,
                             f->x + row * site->n_in};
}

static void reference_xa(const struct lora_fixture *f, double *xa) {
    for (int64_t row = 0; row < f->rows.layout.n_rows; row++)
        for (int32_t i = 0; i < f->group.n; i++) {
            const struct lora_site *site = &f->group.site[i];
            struct row_view view = view_make(f, row, site);
            for (int32_t r = 0; r < site->rank; r++) {
                double sum = 0;
                for (int32_t c = 0; c < site->n_in; c++)
                    sum +=
                        view.x[c] * mask(f, view.adapter, site->site_id, view.slot_row, c) * view.a[r * site->n_in + c];
                xa[row * f->width + i * site->rank + r] = sum;
            }
        }
}

/* y += scale · xa·Bᵀ */
static void reference_y(const struct lora_fixture *f, const double *xa, double *y) {
    for (int64_t row = 0; row < f->rows.layout.n_rows; row++)
        for (int32_t i = 0; i < f->group.n; i++) {
            const struct lora_site *site = &f->group.site[i];
            struct row_view view = view_make(f, row, site);
            for (int32_t o = 0; o < site->n_out; o++)
                for (int32_t r = 0; r < site->rank; r++)
                    y[row * f->ld + site->column + o] +=
                        view.scale * xa[row * f->width + i * site->rank + r] * view.b[o * site->rank + r];
        }
}

/* t and the gradients of A and B, added to grads [N_ADAPTERS][stride]; dx += …. NULL: not wanted. */
static void reference_backward(const struct lora_fixture *f, const double *xa, double *t, double *grads, double *dx) {
    for (int64_t row = 0; row < f->rows.layout.n_rows; row++)
        for (int32_t i = 0; i < f->group.n; i++) {
            const struct lora_site *site = &f->group.site[i];
            struct row_view view = view_make(f, row, site);
            double *grad = grads + view.adapter * f->adapters.stride;
            const double *dy = f->dy + row * f->ld + site->column;
            for (int32_t r = 0; r < site->rank; r++) {
                double sum = 0;
                for (int32_t o = 0; o < site->n_out; o++) {
                    sum += view.scale * dy[o] * view.b[o * site->rank + r];
                    grad[site->b_offset + o * site->rank + r] +=
                        view.scale * dy[o] * xa[row * f->width + i * site->rank + r];
                }
                t[row * f->width + i * site->rank + r] = sum;
                for (int32_t c = 0; c < site->n_in; c++) {
                    double factor = mask(f, view.adapter, site->site_id, view.slot_row, c);
                    grad[site->a_offset + r * site->n_in + c] += sum * factor * view.x[c];
                    if (dx) dx[row * site->n_in + c] += sum * factor * view.a[r * site->n_in + c];
                }
            }
        }
}

/* Σ dy ∘ y as a function of the adapters and x. */
static double lora_loss(const void *context) {
    const struct lora_fixture *f = context;
    int64_t count = (int64_t)f->rows.layout.n_rows * f->ld;
    double *xa = calloc((size_t)(f->rows.layout.n_rows * f->width), sizeof *xa);
    double *y = calloc((size_t)count, sizeof *y), sum = 0;
    reference_xa(f, xa);
    reference_y(f, xa, y);
    for (int64_t i = 0; i < count; i++)
        sum += f->dy[i] * y[i];
    free(xa);
    free(y);
    return sum;
}

/* Small enough for differences, each of which computes everything anew. */
static bool small(const struct lora_fixture *f) {
    return f->rows.layout.n_rows * f->width * f->shape.n_in < 300000;
}

/* ---- checks ---- */

static const char *shape_text(const struct lora_fixture *f) {
    return parity_text("%d×%d rows, %d sites of rank %d, %d in", f->shape.n_slots, (int)f->rows.layout.slot_rows,
                       f->shape.n_sites, f->shape.rank, f->shape.n_in);
}

static void forward_check(struct parity *parity, const struct lora_fixture *f, double *xa_wide) {
    const struct compute *compute = &parity->compute;
    int64_t n_rows = f->rows.layout.n_rows, count = n_rows * f->ld;
    float *xa = parity_floats(parity, NULL, n_rows * f->width), *start = parity_normal(parity, count, 1);
    void *y = parity_act(parity, start, count);
    double *expected = parity_widen(parity, start, count);
    compute->backend->lora_a_forward(compute->device, &f->rows.layout, &f->adapters, &f->group, f->x_device, xa);
    compute->backend->lora_b_forward(compute->device, &f->rows.layout, &f->adapters, &f->group, xa, f->ld, y);
    reference_xa(f, xa_wide);
    reference_y(f, xa_wide, expected);
    parity_compare(parity, "lora_a_forward", shape_text(f), xa_wide, parity_floats_read(parity, xa, n_rows * f->width),
                   n_rows * f->width, 1);
    parity_compare(parity, "lora_b_forward", shape_text(f), expected, parity_act_read(parity, y, count), count, 1);
}

/* Compares the gradients of the sites that some slot trains; the others must still be poison. */
static void gradients_check(struct parity *parity, const struct lora_fixture *f, const double *expected) {
    const float *got = parity_floats_read(parity, f->adapters.grads, N_ADAPTERS * f->adapters.stride);
    for (int32_t slot = 0; slot < f->shape.n_slots; slot++)
        for (int32_t i = 0; i < f->group.n; i++) {
            const struct lora_site *site = &f->group.site[i];
            int64_t a = f->rows.adapter[slot] * f->adapters.stride + site->a_offset,
                    n_a = (int64_t)site->rank * site->n_in;
            int64_t b = f->rows.adapter[slot] * f->adapters.stride + site->b_offset,
                    n_b = (int64_t)site->rank * site->n_out;
            parity_compare(parity, "gradient of A", shape_text(f), expected + a, got + a, n_a, 1);
            parity_compare(parity, "gradient of B", shape_text(f), expected + b, got + b, n_b, 1);
            if (slot > 0 || !small(f)) continue;
            parity_differences(parity, "gradient of A", shape_text(f), f->params_wide + a, n_a, got + a, lora_loss, f,
                               2);
            parity_differences(parity, "gradient of B", shape_text(f), f->params_wide + b, n_b, got + b, lora_loss, f,
                               2);
        }
    for (int32_t k = 0; k < N_ADAPTERS; k++) {
        bool used = false;
        for (int32_t slot = 0; slot < f->shape.n_slots; slot++)
            used = used || f->rows.adapter[slot] == k;
        if (!used)
            parity_expect(parity, "gradients of others", shape_text(f), isnan(got[k * f->adapters.stride + 7]),
                          "an adapter outside the layout was written");
    }
}

static void backward_check(struct parity *parity, const struct lora_fixture *f, const double *xa_wide) {
    const struct compute *compute = &parity->compute;
    int64_t n_rows = f->rows.layout.n_rows, count = n_rows * f->shape.n_in, n_t = n_rows * f->width;
    float *xa_host = parity_host(parity, (size_t)n_t * 4), *start = parity_normal(parity, count, 1);
    for (int64_t i = 0; i < n_t; i++)
        xa_host[i] = (float)xa_wide[i];
    float *xa = parity_floats(parity, xa_host, n_t), *t = parity_floats(parity, NULL, n_t);
    void *dx = parity_act(parity, start, count);
    const struct pack_layout *layout = &f->rows.layout;
    compute->backend->lora_b_backward(compute->device, layout, &f->adapters, &f->group, f->dy_device, f->ld, xa, t);
    compute->backend->lora_a_backward(compute->device, layout, &f->adapters, &f->group, t, f->x_device, dx);
    double *t_wide = parity_host(parity, (size_t)n_t * 8), *dx_wide = parity_widen(parity, start, count);
    double *grads = parity_host(parity, (size_t)(N_ADAPTERS * f->adapters.stride) * 8);
    reference_backward(f, xa_wide, t_wide, grads, dx_wide);
    parity_compare(parity, "lora_b_backward t", shape_text(f), t_wide, parity_floats_read(parity, t, n_t), n_t, 1);
    float *got = parity_act_read(parity, dx, count);
    parity_compare(parity, "lora_a_backward dx", shape_text(f), dx_wide, got, count, 1);
    gradients_check(parity, f, grads);
    if (!small(f)) return;
    for (int64_t i = 0; i < count; i++)
        got[i] -= start[i];
    parity_differences(parity, "lora_a_backward dx", shape_text(f), f->x, count, got, lora_loss, f, 2);
}

static void lora_check(struct parity *parity, struct lora_shape shape) {
    struct lora_fixture f = fixture_make(parity, shape);
    double *xa = parity_host(parity, (size_t)(f.rows.layout.n_rows * f.width) * 8);
    forward_check(parity, &f, xa);
    backward_check(parity, &f, xa);
    parity_reset(parity);
}

static const struct lora_shape shapes[] = {
    {1, 1, 1, 1, 128, {128}, 8, 0},         {1, 2, 9, 3, 40, {40, 16, 16}, 4, 0},  {3, 2, 70, 2, 128, {128, 64}, 8, 0},
    {2, 1, 130, 3, 72, {80, 24, 24}, 2, 0}, {1, 1, 30, 2, 896, {896, 128}, 16, 0}, {1, 1, 20, 1, 640, {128}, 32, 0},
};

void case_lora(struct parity *parity) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        lora_check(parity, shapes[i]);
}

void case_dropout(struct parity *parity) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct lora_shape shape = shapes[i];
        shape.dropout = i % 2 ? 0.1f : 0.6f;
        lora_check(parity, shape);
    }
}

/* ---- fused operations ---- */

static void norm_fused_check(struct parity *parity, struct lora_shape shape) {
    struct lora_fixture f = fixture_make(parity, shape);
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
    reference_xa(&f, xa_wide);
    parity_compare(parity, "norm_lora_a_forward y", shape_text(&f), normed, parity_act_read(parity, y, count), count,
                   1);
    parity_compare(parity, "norm_lora_a_forward xa", shape_text(&f), xa_wide, parity_floats_read(parity, xa, n_xa),
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
    parity_compare(parity, "norm_lora_a_backward dx", shape_text(&f), expected, parity_act_read(parity, dx, count),
                   count, 2);
    parity_reset(parity);
}

/* q, k and v with pairs on all three, bias and rotary positions in one call, and back. */
static void qkv_fused_check(struct parity *parity, struct attention_shape attention, int32_t n_slots) {
    int32_t q = attention.n_heads * attention.head_size, kv = attention.n_kv_heads * attention.head_size;
    struct lora_shape shape = {n_slots, 2, 35, 3, 64, {q, kv, kv}, 4, 0};
    struct lora_fixture f = fixture_make(parity, shape);
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
    reference_y(&f, xa_wide, expected);
    for (int64_t row = 0; row < n_rows; row++)
        reference_rope(&attention, bias_wide, theta, position[row], 1, expected + row * f.ld);
    parity_compare(parity, "qkv_finish", shape_text(&f), expected, parity_act_read(parity, qkv, count), count, 1);

    float *dqkv_host = parity_normal(parity, count, 1), *t = parity_floats(parity, NULL, n_xa);
    void *dqkv = parity_act(parity, dqkv_host, count);
    backend_qkv_finish_backward(&parity->compute, layout, &attention, &f.adapters, &f.group, xa, &rope, dqkv, t);
    f.dy = parity_widen(parity, dqkv_host, count);
    for (int64_t row = 0; row < n_rows; row++)
        reference_rope(&attention, NULL, theta, position[row], -1, f.dy + row * f.ld);
    double *t_wide = parity_host(parity, (size_t)n_xa * 8);
    double *grads = parity_host(parity, (size_t)(N_ADAPTERS * f.adapters.stride) * 8);
    reference_backward(&f, xa_wide, t_wide, grads, NULL);
    parity_compare(parity, "qkv_finish_backward dqkv", shape_text(&f), f.dy, parity_act_read(parity, dqkv, count),
                   count, 1);
    parity_compare(parity, "qkv_finish_backward t", shape_text(&f), t_wide, parity_floats_read(parity, t, n_xa), n_xa,
                   1);
    const float *got = parity_floats_read(parity, f.adapters.grads, N_ADAPTERS * f.adapters.stride);
    for (int32_t slot = 0; slot < n_slots; slot++)
        for (int32_t i = 0; i < 3; i++) {
            int64_t b = f.rows.adapter[slot] * f.adapters.stride + f.group.site[i].b_offset;
            parity_compare(parity, "qkv_finish_backward B", shape_text(&f), grads + b, got + b,
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
