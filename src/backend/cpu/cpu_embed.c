/* Rows of the embedding table by token id, and the scatter-add of their gradients (head = weight only). */
#include <string.h>

#include "cpu_internal.h"

void cpu_embed(struct device *device, const struct pack_layout *layout, const struct weight *table, const int32_t *ids,
               void *x) {
    double start = cpu_profile_start(device);
    int64_t cols = table->cols;
#pragma omp parallel for num_threads(device->threads)
    for (int64_t row = 0; row < layout->n_rows; row++) {
        assert(ids[row] >= 0 && ids[row] < table->rows);
        float *target = (float *)x + row * cols;
        int64_t ld;
        const float *source = cpu_weight_tile(table, ids[row], 1, 0, cols, target, &ld);
        if (source != target) memcpy(target, source, (size_t)cols * sizeof *target);
    }
    cpu_profile_stop(device, "embed", start);
}

/* Threads share out columns, so every sum runs in row order. */
void cpu_embed_backward(struct device *device, const struct pack_layout *layout, const int32_t *ids, const void *dx,
                        int32_t cols, float *dtable) {
    double start = cpu_profile_start(device);
    const int64_t width = 64;
#pragma omp parallel for num_threads(device->threads)
    for (int64_t tile = 0; tile < cpu_blocks(cols, width); tile++) {
        int64_t first = tile * width, count = cpu_min(width, cols - first);
        for (int64_t row = 0; row < layout->n_rows; row++)
            cpu_axpy(1, (const float *)dx + row * cols + first, dtable + (int64_t)ids[row] * cols + first, count);
    }
    cpu_profile_stop(device, "embed_backward", start);
}
