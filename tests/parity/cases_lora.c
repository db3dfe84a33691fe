/* Cases: low-rank pairs, with several slots, permuted adapters, ranks padded to a common one, and dropout. */
#include <math.h>
#include <stdlib.h>

#include "cases.h"
#include "lora_fixture.h"

/* Σ dy ∘ y as a function of the adapters and x. */
static double lora_loss(const void *context) {
    const struct lora_fixture *f = context;
    int64_t count = (int64_t)f->rows.layout.n_rows * f->ld;
    double *xa = calloc((size_t)(f->rows.layout.n_rows * f->width), sizeof *xa);
    double *y = calloc((size_t)count, sizeof *y), sum = 0;
    lora_reference_xa(f, xa);
    lora_reference_y(f, xa, y);
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

static void forward_check(struct parity *parity, const struct lora_fixture *f, double *xa_wide) {
    const struct compute *compute = &parity->compute;
    int64_t n_rows = f->rows.layout.n_rows, count = n_rows * f->ld;
    float *xa = parity_floats(parity, NULL, n_rows * f->width), *start = parity_normal(parity, count, 1);
    void *y = parity_act(parity, start, count);
    double *expected = parity_widen(parity, start, count);
    compute->backend->lora_a_forward(compute->device, &f->rows.layout, &f->adapters, &f->group, f->x_device, xa);
    compute->backend->lora_b_forward(compute->device, &f->rows.layout, &f->adapters, &f->group, xa, f->ld, y);
    lora_reference_xa(f, xa_wide);
    lora_reference_y(f, xa_wide, expected);
    parity_compare(parity, "lora_a_forward", lora_shape_text(f), xa_wide,
                   parity_floats_read(parity, xa, n_rows * f->width), n_rows * f->width, 1);
    parity_compare(parity, "lora_b_forward", lora_shape_text(f), expected, parity_act_read(parity, y, count), count, 1);
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
            parity_compare(parity, "gradient of A", lora_shape_text(f), expected + a, got + a, n_a, 1);
            parity_compare(parity, "gradient of B", lora_shape_text(f), expected + b, got + b, n_b, 1);
            if (slot > 0 || !small(f)) continue;
            parity_differences(parity, "gradient of A", lora_shape_text(f), f->params_wide + a, n_a, got + a, lora_loss,
                               f, 2);
            parity_differences(parity, "gradient of B", lora_shape_text(f), f->params_wide + b, n_b, got + b, lora_loss,
                               f, 2);
        }
    for (int32_t k = 0; k < N_ADAPTERS; k++) {
        bool used = false;
        for (int32_t slot = 0; slot < f->shape.n_slots; slot++)
            used = used || f->rows.adapter[slot] == k;
        if (!used)
            parity_expect(parity, "gradients of others", lora_shape_text(f), isnan(got[k * f->adapters.stride + 7]),
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
    lora_reference_b_backward(f, xa_wide, t_wide, grads);
    lora_reference_a_backward(f, t_wide, grads, dx_wide);
    parity_compare(parity, "lora_b_backward t", lora_shape_text(f), t_wide, parity_floats_read(parity, t, n_t), n_t, 1);
    float *got = parity_act_read(parity, dx, count);
    parity_compare(parity, "lora_a_backward dx", lora_shape_text(f), dx_wide, got, count, 1);
    gradients_check(parity, f, grads);
    if (!small(f)) return;
    for (int64_t i = 0; i < count; i++)
        got[i] -= start[i];
    parity_differences(parity, "lora_a_backward dx", lora_shape_text(f), f->x, count, got, lora_loss, f, 2);
}

static void lora_check(struct parity *parity, struct lora_shape shape) {
    struct lora_fixture f = lora_fixture_make(parity, shape);
    double *xa = parity_host(parity, (size_t)(f.rows.layout.n_rows * f.width) * 8);
    forward_check(parity, &f, xa);
    backward_check(parity, &f, xa);
    parity_reset(parity);
}

static const struct lora_shape shapes[] = {
    {1, 1, 1, 1, 128, {128}, 8, 0, false},        {1, 2, 9, 3, 40, {40, 16, 16}, 4, 0, true},
    {3, 2, 70, 2, 128, {128, 64}, 8, 0, false},   {3, 2, 70, 2, 128, {128, 64}, 8, 0, true},
    {2, 1, 130, 3, 72, {80, 24, 24}, 2, 0, true}, {2, 2, 65, 3, 72, {80, 24, 24}, 2, 0, false},
    {1, 1, 30, 2, 896, {896, 128}, 16, 0, false}, {1, 1, 20, 1, 640, {128}, 32, 0, true},
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
