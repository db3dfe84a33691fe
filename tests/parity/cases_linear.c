/* Cases: products with frozen matrices, their types and parts, embedding. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "parity.h"
#include "reference.h"

/* ---- matmul ---- */

struct matmul_shape {
    int32_t n_slots, n_sequences, context, n, k;
};

/* For differences: Σ weight ∘ y as a function of x. */
struct matmul_loss {
    struct matmul_shape shape;
    int64_t rows;
    const double *x, *w, *weight;
    double *y;
};

static double matmul_loss(const void *context) {
    const struct matmul_loss *loss = context;
    double sum = 0;
    reference_matmul(loss->rows, loss->shape.n, loss->shape.k, loss->x, loss->w, false, loss->y);
    for (int64_t i = 0; i < loss->rows * loss->shape.n; i++)
        sum += loss->weight[i] * loss->y[i];
    return sum;
}

static void matmul_forward(struct parity *parity, const struct pack_layout *layout, struct matmul_shape shape,
                           const struct weight *w, const float *w_host, bool accumulate) {
    int64_t rows = layout->n_rows, n = shape.n, k = shape.k;
    float *x = parity_normal(parity, rows * k, 1), *start = parity_normal(parity, rows * n, 1);
    void *x_device = parity_act(parity, x, rows * k);
    void *y = accumulate ? parity_act(parity, start, rows * n) : parity_act_poisoned(parity, rows * n);
    parity->compute.backend->matmul_forward(parity->compute.device, layout, x_device, w, accumulate, y);
    double *expected = parity_widen(parity, start, rows * n);
    reference_matmul(rows, n, k, parity_widen(parity, x, rows * k), parity_widen(parity, w_host, n * k), accumulate,
                     expected);
    parity_compare(parity, accumulate ? "matmul_forward (add)" : "matmul_forward",
                   parity_text("%d×%d×%d", (int)rows, shape.n, shape.k), expected, parity_act_read(parity, y, rows * n),
                   rows * n, 1);
}

static void matmul_backward(struct parity *parity, const struct pack_layout *layout, struct matmul_shape shape,
                            const struct weight *w, const float *w_host, bool accumulate) {
    int64_t rows = layout->n_rows, n = shape.n, k = shape.k;
    float *dy = parity_normal(parity, rows * n, 1), *start = parity_normal(parity, rows * k, 1);
    void *dy_device = parity_act(parity, dy, rows * n);
    void *dx = accumulate ? parity_act(parity, start, rows * k) : parity_act_poisoned(parity, rows * k);
    parity->compute.backend->matmul_backward(parity->compute.device, layout, dy_device, w, accumulate, dx);
    double *expected = parity_widen(parity, start, rows * k), *dy_wide = parity_widen(parity, dy, rows * n);
    double *w_wide = parity_widen(parity, w_host, n * k);
    const char *text = parity_text("%d×%d×%d", (int)rows, shape.n, shape.k);
    reference_matmul_backward(rows, n, k, dy_wide, w_wide, accumulate, expected);
    const float *got = parity_act_read(parity, dx, rows * k);
    parity_compare(parity, accumulate ? "matmul_backward (add)" : "matmul_backward", text, expected, got, rows * k, 1);
    if (accumulate || rows * n * k > 100000) return;
    double *x = parity_widen(parity, start, rows * k);
    struct matmul_loss loss = {shape, rows, x, w_wide, dy_wide, parity_host(parity, (size_t)(rows * n) * 8)};
    parity_differences(parity, "matmul_backward", text, x, rows * k, got, matmul_loss, &loss, 1);
}

void case_matmul(struct parity *parity) {
    static const struct matmul_shape shapes[] = {
        {1, 1, 1, 16, 128},    {1, 3, 5, 48, 40},     {1, 2, 100, 384, 128}, {3, 2, 37, 200, 72},
        {2, 1, 128, 300, 136}, {1, 1, 16, 1152, 896}, {1, 1, 20, 136, 4864},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct matmul_shape shape = shapes[i];
        struct parity_rows rows = parity_layout(parity, shape.n_slots, shape.n_sequences, shape.context, 4);
        float *w_host = parity_normal(parity, (int64_t)shape.n * shape.k, 1);
        struct weight *w = parity_weight(parity, w_host, shape.n, shape.k, TENSOR_F32, 1);
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            matmul_forward(parity, &rows.layout, shape, w, w_host, accumulate);
            matmul_backward(parity, &rows.layout, shape, w, w_host, accumulate);
        }
        parity_weight_free(parity, w);
        parity_reset(parity);
    }
}

/* ---- types and parts ---- */

static void weights_view(struct parity *parity) {
    const struct backend *backend = parity->compute.backend;
    if (!backend->weight_view) return;
    struct matmul_shape shape = {1, 2, 30, 24, 64};
    struct parity_rows rows = parity_layout(parity, 1, 2, 30, 1);
    float *values = parity_normal(parity, shape.n * shape.k, 1);
    float *data = parity_floats(parity, values, shape.n * shape.k);
    struct weight *view = NULL;
    struct lvs_error err = {0};
    enum lvs_status status = backend->weight_view(parity->compute.device, data, shape.n, shape.k, &view, &err);
    parity_expect(parity, "weight_view", "24×64", status == LVS_OK, err.text);
    if (status != LVS_OK) return;
    for (int64_t i = 0; i < shape.n * shape.k; i++)
        values[i] *= -0.5f;
    backend->upload(parity->compute.device, data, values, (size_t)(shape.n * shape.k) * sizeof *values);
    matmul_forward(parity, &rows.layout, shape, view, values, false);
    matmul_backward(parity, &rows.layout, shape, view, values, false);
    parity_weight_free(parity, view);
}

void case_weights(struct parity *parity) {
    static const char *const names[] = {"f32", "bf16", "f16"};
    static const struct matmul_shape shapes[] = {{1, 1, 40, 56, 48}, {1, 1, 16, 700, 1032}};
    for (enum tensor_type type = TENSOR_F32; type <= TENSOR_F16; type++)
        for (int32_t n_parts = 1; n_parts <= 3; n_parts += 2)
            for (int32_t i = 0; i < 2; i++) {
                struct matmul_shape shape = shapes[i];
                struct parity_rows rows = parity_layout(parity, 1, 1, shape.context, 1);
                float *w_host = parity_normal(parity, (int64_t)shape.n * shape.k, 1);
                struct weight *w = parity_weight(parity, w_host, shape.n, shape.k, type, n_parts);
                if (parity->verbose) printf("       weights of type %s in %d parts\n", names[type], (int)n_parts);
                matmul_forward(parity, &rows.layout, shape, w, w_host, false);
                matmul_backward(parity, &rows.layout, shape, w, w_host, false);
                parity_weight_free(parity, w);
                parity_reset(parity);
            }
    weights_view(parity);
}

/* ---- embedding ---- */

static void embed_backward(struct parity *parity, const struct pack_layout *layout, const int32_t *ids,
                           const int32_t *ids_device, int32_t vocabulary, int32_t cols) {
    const struct compute *compute = &parity->compute;
    if (!compute->backend->embed_backward) return;
    int64_t rows = layout->n_rows, size = (int64_t)vocabulary * cols;
    float *dx = parity_normal(parity, rows * cols, 1), *start = parity_normal(parity, size, 1);
    void *dx_device = parity_act(parity, dx, rows * cols);
    float *table = parity_floats(parity, start, size);
    compute->backend->embed_backward(compute->device, layout, ids_device, dx_device, cols, table);
    double *expected = parity_widen(parity, start, size);
    for (int64_t row = 0; row < rows; row++)
        for (int32_t i = 0; i < cols; i++)
            expected[(int64_t)ids[row] * cols + i] += (double)dx[row * cols + i];
    parity_compare(parity, "embed_backward", parity_text("%d of %d×%d", (int)rows, vocabulary, cols), expected,
                   parity_floats_read(parity, table, size), size, 1);
}

void case_embed(struct parity *parity) {
    static const int32_t shapes[][4] = {{1, 7, 16, 128}, {2, 130, 1000, 40}, {3, 50, 333, 896}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int32_t n_slots = shapes[i][0], context = shapes[i][1], vocabulary = shapes[i][2], cols = shapes[i][3];
        for (enum tensor_type type = TENSOR_F32; type <= TENSOR_F16; type++) {
            struct parity_rows rows = parity_layout(parity, n_slots, 1, context, 4);
            int64_t n_rows = rows.layout.n_rows;
            float *host = parity_normal(parity, (int64_t)vocabulary * cols, 1);
            struct weight *table = parity_weight(parity, host, vocabulary, cols, type, 2);
            int32_t *ids = parity_below(parity, n_rows, vocabulary);
            int32_t *ids_device = parity_ints(parity, ids, n_rows);
            void *x = parity_act_poisoned(parity, n_rows * cols);
            parity->compute.backend->embed(parity->compute.device, &rows.layout, table, ids_device, x);
            double *expected = parity_host(parity, (size_t)(n_rows * cols) * sizeof *expected);
            for (int64_t at = 0; at < n_rows * cols; at++)
                expected[at] = (double)host[(int64_t)ids[at / cols] * cols + at % cols];
            parity_compare(parity, "embed", parity_text("%d of %d×%d", (int)n_rows, vocabulary, cols), expected,
                           parity_act_read(parity, x, n_rows * cols), n_rows * cols, 0.5);
            if (n_slots == 1) embed_backward(parity, &rows.layout, ids, ids_device, vocabulary, cols);
            parity_weight_free(parity, table);
            parity_reset(parity);
        }
    }
}
