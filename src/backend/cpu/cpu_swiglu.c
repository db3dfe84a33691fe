/* The gated activation of a feed-forward block: h = silu(gate)·up. Element by element; threads share out rows. */
#include "cpu_matmul.h"
#include "cpu_vector.h"

/* What a call without a place for the projection keeps of it at a time, unless one slot is more. */
static const int64_t gate_up_bytes = (int64_t)16 << 20;

CPU_CLONES static void forward_row(int32_t width, const float *gate, const float *up, float *h) {
#pragma omp simd
    for (int32_t i = 0; i < width; i++)
        h[i] = gate[i] * cpu_sigmoid(gate[i]) * up[i];
}

/* The outputs may be the inputs: each element is read before it is written. */
CPU_CLONES static void backward_row(int32_t width, const float *gate, const float *up, const float *dh, float *d_gate,
                                    float *d_up) {
#pragma omp simd
    for (int32_t i = 0; i < width; i++) {
        float g = gate[i], s = cpu_sigmoid(g), d = dh[i], u = up[i];
        d_gate[i] = d * u * s * (1.0f + g * (1.0f - s));
        d_up[i] = d * g * s;
    }
}

/* Gates and values of some rows, and where their activations go. */
struct rows {
    const float *gate_up; /* [rows][2·width] */
    float *h;             /* [rows][width] */
    int64_t width;
};

static void forward_rows(const void *context, int64_t first, int64_t count) {
    const struct rows *rows = context;
    int64_t width = rows->width;
    for (int64_t row = first; row < first + count; row++)
        forward_row((int32_t)width, rows->gate_up + row * 2 * width, rows->gate_up + (row * 2 + 1) * width,
                    rows->h + row * width);
}

void cpu_swiglu_forward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                        void *h) {
    double start = cpu_profile_start(device);
    struct rows rows = {gate_up, h, width};
#pragma omp parallel for num_threads(device->threads)
    for (int64_t row = 0; row < layout->n_rows; row++)
        forward_rows(&rows, row, 1);
    cpu_profile_stop(device, "swiglu_forward", start);
}

void cpu_swiglu_backward(struct device *device, const struct pack_layout *layout, int32_t width, const void *gate_up,
                         const void *dh, void *d_gate_up) {
    double start = cpu_profile_start(device);
#pragma omp parallel for num_threads(device->threads)
    for (int64_t row = 0; row < layout->n_rows; row++) {
        const float *gate = (const float *)gate_up + row * 2 * width;
        float *d_gate = (float *)d_gate_up + row * 2 * width;
        backward_row(width, gate, gate + width, (const float *)dh + row * width, d_gate, d_gate + width);
    }
    cpu_profile_stop(device, "swiglu_backward", start);
}

/* Without a place for the projection, a few slots at a time pass through scratch. */
void cpu_gate_up_swiglu(struct device *device, const struct pack_layout *layout, int32_t width, const void *x,
                        const struct weight *w, void *gate_up, void *h) {
    double start = cpu_profile_start(device);
    assert(w->rows == 2 * (int64_t)width);
    int64_t slot_bytes = 2 * (int64_t)width * layout->slot_rows * (int64_t)sizeof(float);
    int64_t fitting = slot_bytes < gate_up_bytes ? gate_up_bytes / slot_bytes : 1;
    int64_t n_rows = gate_up ? layout->n_rows : cpu_min(layout->n_rows, fitting * layout->slot_rows);
    size_t tiles = cpu_align(cpu_tiles_size(device));
    char *scratch = cpu_scratch(device, tiles + (gate_up ? 0 : (size_t)(n_rows * 2 * width) * sizeof(float)));
    if (!scratch) return;
    float *target = gate_up ? gate_up : (float *)(scratch + tiles);
    for (int64_t row = 0; row < layout->n_rows; row += n_rows) {
        struct rows rows = {target, (float *)h + row * width, width};
        struct product product =
            cpu_product_make(layout, (const float *)x + row * w->cols, w, target, (float *)scratch);
        product.n_rows = cpu_min(n_rows, layout->n_rows - row);
        product.finish = forward_rows;
        product.finish_context = &rows;
        cpu_product_forward(device, &product);
    }
    cpu_profile_stop(device, "gate_up_swiglu", start);
}
