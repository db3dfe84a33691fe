/* Cases: operations on rows by themselves: norm, activation, rotary positions, and the copies around a batch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "parity.h"
#include "reference.h"

/* Σ weight ∘ f(input), f chosen by the case. */
struct row_loss {
    int64_t rows, cols, out_count;
    const double *input, *gain, *weight;
    double epsilon, *out;
};

static double weighted(const struct row_loss *loss) {
    double sum = 0;
    for (int64_t i = 0; i < loss->out_count; i++)
        sum += loss->weight[i] * loss->out[i];
    return sum;
}

/* ---- rmsnorm ---- */

static double rmsnorm_loss(const void *context) {
    const struct row_loss *loss = context;
    reference_rmsnorm(loss->rows, loss->cols, loss->input, loss->gain, loss->epsilon, loss->out, NULL);
    return weighted(loss);
}

static void rmsnorm_check(struct parity *parity, const struct pack_layout *layout, int32_t cols) {
    const struct compute *compute = &parity->compute;
    const float epsilon = 1e-6f;
    int64_t rows = layout->n_rows, count = rows * cols;
    float *x = parity_normal(parity, count, 2), *gain = parity_normal(parity, cols, 1);
    float *dy = parity_normal(parity, count, 1), *start = parity_normal(parity, count, 1);
    void *x_device = parity_act(parity, x, count), *y = parity_act_poisoned(parity, count);
    float *gain_device = parity_floats(parity, gain, cols), *rstd = parity_floats(parity, NULL, rows);
    compute->backend->rmsnorm_forward(compute->device, layout, cols, x_device, gain_device, epsilon, y, rstd);
    double *expected = parity_host(parity, (size_t)count * 8), *expected_rstd = parity_host(parity, (size_t)rows * 8);
    double *x_wide = parity_widen(parity, x, count), *gain_wide = parity_widen(parity, gain, cols);
    reference_rmsnorm(rows, cols, x_wide, gain_wide, (double)epsilon, expected, expected_rstd);
    const char *text = parity_text("%d×%d", (int)rows, cols);
    parity_compare(parity, "rmsnorm_forward", text, expected, parity_act_read(parity, y, count), count, 1);
    parity_compare(parity, "rmsnorm_forward rstd", text, expected_rstd, parity_floats_read(parity, rstd, rows), rows,
                   1);

    void *dy_device = parity_act(parity, dy, count), *dx = parity_act(parity, start, count);
    compute->backend->rmsnorm_backward(compute->device, layout, cols, dy_device, x_device, gain_device, rstd, dx);
    double *expected_dx = parity_widen(parity, start, count), *dy_wide = parity_widen(parity, dy, count);
    reference_rmsnorm_backward(rows, cols, dy_wide, x_wide, gain_wide, (double)epsilon, expected_dx);
    float *got = parity_act_read(parity, dx, count);
    parity_compare(parity, "rmsnorm_backward", text, expected_dx, got, count, 1);
    for (int64_t i = 0; i < count; i++)
        got[i] -= start[i];
    struct row_loss loss = {rows, cols, count, x_wide, gain_wide, dy_wide, (double)epsilon, expected};
    parity_differences(parity, "rmsnorm_backward", text, x_wide, count, got, rmsnorm_loss, &loss, 2);
}

void case_rmsnorm(struct parity *parity) {
    static const int32_t shapes[][4] = {{1, 1, 1, 128}, {3, 1, 37, 128}, {1, 2, 70, 896}, {1, 1, 16, 72}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct parity_rows rows = parity_layout(parity, shapes[i][0], shapes[i][1], shapes[i][2], 4);
        rmsnorm_check(parity, &rows.layout, shapes[i][3]);
        parity_reset(parity);
    }
}

/* ---- swiglu ---- */

static double swiglu_loss(const void *context) {
    const struct row_loss *loss = context;
    reference_swiglu(loss->rows, loss->cols, loss->input, loss->out);
    return weighted(loss);
}

/* `scale` reaches gates whose exponential would overflow. */
static void swiglu_check(struct parity *parity, const struct pack_layout *layout, int32_t width, double scale) {
    const struct compute *compute = &parity->compute;
    int64_t rows = layout->n_rows, count = rows * width;
    float *gate_up = parity_normal(parity, 2 * count, scale), *dh = parity_normal(parity, count, 1);
    void *gate_up_device = parity_act(parity, gate_up, 2 * count), *h = parity_act_poisoned(parity, count);
    compute->backend->swiglu_forward(compute->device, layout, width, gate_up_device, h);
    double *wide = parity_widen(parity, gate_up, 2 * count), *expected = parity_host(parity, (size_t)count * 8);
    reference_swiglu(rows, width, wide, expected);
    const char *text = parity_text("%d×%d, gates of %g", (int)rows, width, scale);
    parity_compare(parity, "swiglu_forward", text, expected, parity_act_read(parity, h, count), count, 1);

    void *dh_device = parity_act(parity, dh, count), *apart = parity_act_poisoned(parity, 2 * count);
    compute->backend->swiglu_backward(compute->device, layout, width, gate_up_device, dh_device, apart);
    double *expected_d = parity_host(parity, (size_t)(2 * count) * 8), *dh_wide = parity_widen(parity, dh, count);
    reference_swiglu_backward(rows, width, wide, dh_wide, expected_d);
    const float *got = parity_act_read(parity, apart, 2 * count);
    parity_compare(parity, "swiglu_backward", text, expected_d, got, 2 * count, 1);
    struct row_loss loss = {rows, width, count, wide, NULL, dh_wide, 0, expected};
    parity_differences(parity, "swiglu_backward", text, wide, 2 * count, got, swiglu_loss, &loss, 2);

    compute->backend->swiglu_backward(compute->device, layout, width, gate_up_device, dh_device, gate_up_device);
    parity_compare(parity, "swiglu_backward in place", text, expected_d,
                   parity_act_read(parity, gate_up_device, 2 * count), 2 * count, 1);
}

/* The fused product and activation, with and without a place for the product. */
static void gate_up_check(struct parity *parity, const struct pack_layout *layout, int32_t width, int32_t cols,
                          bool keep) {
    int64_t rows = layout->n_rows, count = rows * width;
    float *x = parity_normal(parity, rows * cols, 1), *w_host = parity_normal(parity, 2 * (int64_t)width * cols, 0.2);
    struct weight *w = parity_weight(parity, w_host, 2 * (int64_t)width, cols, TENSOR_BF16, 2);
    void *x_device = parity_act(parity, x, rows * cols), *h = parity_act_poisoned(parity, count);
    void *gate_up = keep ? parity_act_poisoned(parity, 2 * count) : NULL;
    backend_gate_up_swiglu(&parity->compute, layout, width, x_device, w, gate_up, h);
    double *product = parity_host(parity, (size_t)(2 * count) * 8), *expected = parity_host(parity, (size_t)count * 8);
    reference_matmul(rows, 2 * width, cols, parity_widen(parity, x, rows * cols),
                     parity_widen(parity, w_host, 2 * (int64_t)width * cols), false, product);
    reference_swiglu(rows, width, product, expected);
    const char *text = parity_text("%d×%d×%d", (int)rows, width, cols);
    parity_compare(parity, keep ? "gate_up_swiglu" : "gate_up_swiglu (h only)", text, expected,
                   parity_act_read(parity, h, count), count, 1);
    if (keep)
        parity_compare(parity, "gate_up_swiglu product", text, product, parity_act_read(parity, gate_up, 2 * count),
                       2 * count, 1);
    parity_weight_free(parity, w);
}

void case_swiglu(struct parity *parity) {
    static const int32_t shapes[][4] = {{1, 1, 1, 640}, {2, 3, 17, 72}, {1, 1, 130, 640}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct parity_rows rows = parity_layout(parity, shapes[i][0], shapes[i][1], shapes[i][2], 4);
        swiglu_check(parity, &rows.layout, shapes[i][3], 2);
        swiglu_check(parity, &rows.layout, shapes[i][3], 60);
        gate_up_check(parity, &rows.layout, shapes[i][3], 128, true);
        if (parity->compute.backend->gate_up_swiglu) gate_up_check(parity, &rows.layout, shapes[i][3], 128, false);
        parity_reset(parity);
    }
}

/* ---- rope ---- */

struct rope_tables case_rope_tables(struct parity *parity, int64_t n_rows, int32_t n_positions, int32_t head_size,
                                    int32_t **position) {
    int32_t half = head_size / 2, count = n_positions * half;
    float *cosine = parity_host(parity, (size_t)count * 4), *sine = parity_host(parity, (size_t)count * 4);
    for (int32_t i = 0; i < count; i++) {
        double angle = (i / half) * pow(CASE_THETA, -2.0 * (i % half) / head_size);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    *position = parity_below(parity, n_rows, n_positions);
    return (struct rope_tables){parity_floats(parity, cosine, count), parity_floats(parity, sine, count), n_positions,
                                parity_ints(parity, *position, n_rows)};
}

static void rope_check(struct parity *parity, const struct pack_layout *layout, struct attention_shape shape) {
    const struct compute *compute = &parity->compute;
    int32_t width = attention_qkv_width(&shape), *position;
    int64_t rows = layout->n_rows, count = rows * width;
    struct rope_tables tables = case_rope_tables(parity, rows, layout->context + 3, shape.head_size, &position);
    float *qkv = parity_normal(parity, count, 1), *bias = parity_normal(parity, width, 1);
    void *device = parity_act(parity, qkv, count);
    compute->backend->qkv_bias_rope(compute->device, layout, &shape, parity_floats(parity, bias, width), &tables,
                                    device);
    double *expected = parity_widen(parity, qkv, count), *bias_wide = parity_widen(parity, bias, width);
    for (int64_t row = 0; row < rows; row++)
        reference_rope(&shape, bias_wide, CASE_THETA, position[row], 1, expected + row * width);
    const char *text =
        parity_text("%d rows, %d+%d heads of %d", (int)rows, shape.n_heads, shape.n_kv_heads, shape.head_size);
    parity_compare(parity, "qkv_bias_rope", text, expected, parity_act_read(parity, device, count), count, 1);

    float *gradient = parity_normal(parity, count, 1);
    void *gradient_device = parity_act(parity, gradient, count);
    compute->backend->qkv_rope_backward(compute->device, layout, &shape, &tables, gradient_device);
    double *expected_gradient = parity_widen(parity, gradient, count);
    for (int64_t row = 0; row < rows; row++)
        reference_rope(&shape, NULL, CASE_THETA, position[row], -1, expected_gradient + row * width);
    parity_compare(parity, "qkv_rope_backward", text, expected_gradient,
                   parity_act_read(parity, gradient_device, count), count, 1);
}

void case_rope(struct parity *parity) {
    static const struct attention_shape shapes[] = {{2, 1, 64}, {14, 2, 64}, {4, 4, 32}, {3, 1, 128}, {2, 2, 6}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct parity_rows rows = parity_layout(parity, 2, 3, 21, 3);
        rope_check(parity, &rows.layout, shapes[i]);
        parity_reset(parity);
    }
}

/* ---- batches ---- */

static void batch_check(struct parity *parity, int32_t n_slots, int32_t batch, int32_t context) {
    enum { N_ADAPTERS = 4, N_WINDOWS = 9, N_STEPS = 3 };
    struct parity_rows rows = parity_layout(parity, n_slots, batch, context, N_ADAPTERS);
    const struct pack_layout *layout = &rows.layout;
    int32_t *ids = parity_below(parity, N_WINDOWS * context, 50),
            *labels = parity_below(parity, N_WINDOWS * context, 50);
    for (int32_t i = 0; i < N_WINDOWS * context; i += 3)
        labels[i] = LVS_LABEL_IGNORED;
    int32_t stride = N_STEPS * batch, *order = parity_below(parity, N_ADAPTERS * stride, N_WINDOWS);
    int32_t step[N_ADAPTERS] = {2, 0, 1, 2};
    struct batch_call call = {
        .window_ids = parity_ints(parity, ids, N_WINDOWS * context),
        .window_labels = parity_ints(parity, labels, N_WINDOWS * context),
        .order = parity_ints(parity, order, N_ADAPTERS * stride),
        .order_stride = stride,
        .batch = batch,
        .step = parity_ints(parity, step, N_ADAPTERS),
        .ids = parity_ints(parity, NULL, layout->n_rows),
        .labels = parity_ints(parity, NULL, layout->n_rows),
        .label_weight = parity_floats(parity, NULL, n_slots),
    };
    parity->compute.backend->batch_gather(parity->compute.device, layout, &call);
    int32_t *expected_ids = parity_host(parity, (size_t)layout->n_rows * 4);
    int32_t *expected_labels = parity_host(parity, (size_t)layout->n_rows * 4);
    double *expected_weight = parity_host(parity, (size_t)n_slots * 8);
    for (int32_t slot = 0; slot < n_slots; slot++) {
        int32_t adapter = rows.adapter[slot], counted = 0;
        for (int32_t row = 0; row < layout->slot_rows; row++) {
            int32_t at = slot * layout->slot_rows + row;
            expected_labels[at] = LVS_LABEL_IGNORED;
            if (row >= batch * context) continue;
            int32_t window = order[adapter * stride + step[adapter] * batch + row / context];
            expected_ids[at] = ids[window * context + row % context];
            expected_labels[at] = labels[window * context + row % context];
            counted += expected_labels[at] != LVS_LABEL_IGNORED;
        }
        expected_weight[slot] = counted ? 1.0 / counted : 0;
    }
    const char *text = parity_text("%d slots of %d×%d", n_slots, batch, context);
    parity_equal_ints(parity, "batch_gather ids", text, expected_ids,
                      parity_ints_read(parity, call.ids, layout->n_rows), layout->n_rows);
    parity_equal_ints(parity, "batch_gather labels", text, expected_labels,
                      parity_ints_read(parity, call.labels, layout->n_rows), layout->n_rows);
    parity_compare(parity, "batch_gather weights", text, expected_weight,
                   parity_floats_read(parity, call.label_weight, n_slots), n_slots, 0.1);
}

static void reduce_check(struct parity *parity) {
    enum { N_ADAPTERS = 4, STRIDE = 5 };
    const struct compute *compute = &parity->compute;
    struct parity_rows rows = parity_layout(parity, 3, 2, 70, N_ADAPTERS);
    int32_t step[N_ADAPTERS] = {4, 1, 0, 2}, n_rows = rows.layout.n_rows;
    float *row_loss = parity_normal(parity, n_rows, 1), *weight = parity_normal(parity, 3, 1);
    float *table_host = parity_normal(parity, N_ADAPTERS * STRIDE, 1);
    float *table = parity_floats(parity, table_host, N_ADAPTERS * STRIDE);
    int32_t *step_device = parity_ints(parity, step, N_ADAPTERS);
    compute->backend->loss_reduce(compute->device, &rows.layout, parity_floats(parity, row_loss, n_rows),
                                  parity_floats(parity, weight, 3), step_device, STRIDE, table);
    double *expected = parity_widen(parity, table_host, N_ADAPTERS * STRIDE);
    for (int32_t slot = 0; slot < 3; slot++) {
        double sum = 0;
        for (int32_t i = 0; i < rows.layout.slot_rows; i++)
            sum += (double)row_loss[slot * rows.layout.slot_rows + i];
        expected[rows.adapter[slot] * STRIDE + step[rows.adapter[slot]]] = (double)weight[slot] * sum;
    }
    parity_compare(parity, "loss_reduce", "3 slots", expected, parity_floats_read(parity, table, N_ADAPTERS * STRIDE),
                   N_ADAPTERS * STRIDE, 1);
    compute->backend->step_advance(compute->device, &rows.layout, step_device);
    for (int32_t slot = 0; slot < 3; slot++)
        step[rows.adapter[slot]]++;
    parity_equal_ints(parity, "step_advance", "3 of 4 adapters", step,
                      parity_ints_read(parity, step_device, N_ADAPTERS), N_ADAPTERS);
}

static void gather_rows_check(struct parity *parity) {
    enum { ROWS = 40, COLS = 72, COUNT = 17 };
    const struct compute *compute = &parity->compute;
    float *x = parity_normal(parity, ROWS * COLS, 1);
    int32_t *index = parity_below(parity, COUNT, ROWS);
    void *x_device = parity_act(parity, x, ROWS * COLS), *out = parity_act_poisoned(parity, COUNT * COLS);
    compute->backend->gather_rows(compute->device, COUNT, COLS, x_device, parity_ints(parity, index, COUNT), out);
    double *expected = parity_host(parity, COUNT * COLS * 8);
    for (int32_t i = 0; i < COUNT * COLS; i++)
        expected[i] = (double)x[index[i / COLS] * COLS + i % COLS];
    parity_compare(parity, "gather_rows", "17 of 40×72", expected, parity_act_read(parity, out, COUNT * COLS),
                   COUNT * COLS, 0);
}

void case_gather(struct parity *parity) {
    batch_check(parity, 1, 1, 8);
    batch_check(parity, 3, 2, 65);
    batch_check(parity, 2, 3, 31);
    reduce_check(parity);
    gather_rows_check(parity);
}
