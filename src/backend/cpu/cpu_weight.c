/* Frozen matrices: borrowed parts in the type of the file, widened to float tile by tile when a product needs them. A
 * matrix small enough to be widened once is (it then costs each rank its own copy). Widening is exact, so neither way
 * changes a bit. */
#include <stdlib.h>
#include <string.h>

#include "cpu_internal.h"

/* Up to this size a widened copy is kept: the whole tiny model, nothing of a real one. */
static const int64_t copy_limit = (int64_t)1 << 20; /* bytes */

/* Copies the tile into target [rows][cols], rows of one part after rows of another. */
static void tile_widen(const struct weight *weight, int64_t row, int64_t rows, int64_t col, int64_t cols,
                       float *target) {
    int64_t part_begin = 0;
    for (int32_t i = 0; i < weight->n_parts; i++) {
        const struct host_tensor *part = &weight->parts[i];
        int64_t first = row > part_begin ? row : part_begin;
        int64_t last = cpu_min(row + rows, part_begin + part->rows);
        for (int64_t r = first; r < last; r++)
            cpu_widen(part->type, part->data, (r - part_begin) * weight->cols + col, target + (r - row) * cols, cols);
        part_begin += part->rows;
    }
}

/* The part that holds all of rows row … row + rows as aligned float, or NULL. */
static const float *tile_in_place(const struct weight *weight, int64_t row, int64_t rows) {
    if (weight->own) return weight->own + row * weight->cols;
    int64_t part_begin = 0;
    for (int32_t i = 0; i < weight->n_parts; i++) {
        const struct host_tensor *part = &weight->parts[i];
        bool inside = row >= part_begin && row + rows <= part_begin + part->rows;
        bool usable = part->type == TENSOR_F32 && (uintptr_t)part->data % sizeof(float) == 0;
        if (inside) return usable ? (const float *)part->data + (row - part_begin) * weight->cols : NULL;
        part_begin += part->rows;
    }
    return NULL;
}

bool cpu_weight_in_place(const struct weight *weight) {
    return tile_in_place(weight, 0, weight->rows) != NULL;
}

const float *cpu_weight_tile(const struct weight *weight, int64_t row, int64_t rows, int64_t col, int64_t cols,
                             float *scratch, int64_t *ld) {
    assert(row >= 0 && row + rows <= weight->rows && col >= 0 && col + cols <= weight->cols);
    const float *in_place = tile_in_place(weight, row, rows);
    *ld = in_place ? weight->cols : cols;
    if (in_place) return in_place + col;
    tile_widen(weight, row, rows, col, cols, scratch);
    return scratch;
}

const char *cpu_weight_stored(const struct weight *weight, int64_t row, int64_t col, int64_t *size) {
    const struct host_tensor *part = weight->parts;
    *size = sizeof(float);
    if (weight->own) return (const char *)(weight->own + row * weight->cols + col);
    for (; row >= part->rows; part++)
        row -= part->rows;
    if (part->type != TENSOR_F32) *size = sizeof(uint16_t);
    return (const char *)part->data + (row * weight->cols + col) * *size;
}

const uint16_t *cpu_weight_bf16(const struct weight *weight, int64_t row, int64_t rows, int64_t col) {
    if (weight->own) return NULL;
    int64_t part_begin = 0;
    for (int32_t i = 0; i < weight->n_parts; i++) {
        const struct host_tensor *part = &weight->parts[i];
        bool inside = row >= part_begin && row + rows <= part_begin + part->rows;
        bool usable = part->type == TENSOR_BF16 && (uintptr_t)part->data % sizeof(uint16_t) == 0;
        if (inside) return usable ? (const uint16_t *)part->data + (row - part_begin) * weight->cols + col : NULL;
        part_begin += part->rows;
    }
    return NULL;
}

enum lvs_status cpu_weight_create(struct device *device, const struct host_tensor *parts, int32_t n_parts,
                                  struct weight **out, struct lvs_error *err) {
    assert(n_parts > 0);
    struct weight *weight = lvs_calloc(1, sizeof *weight);
    *out = weight;
    weight->parts = lvs_calloc((size_t)n_parts, sizeof *parts);
    weight->n_parts = n_parts;
    weight->cols = parts[0].cols;
    for (int32_t i = 0; i < n_parts; i++) {
        assert(parts[i].cols == weight->cols && parts[i].rows > 0);
        weight->parts[i] = parts[i];
        weight->rows += parts[i].rows;
    }
    int64_t bytes = weight->rows * weight->cols * (int64_t)sizeof(float);
    if (bytes > copy_limit || tile_in_place(weight, 0, weight->rows)) return LVS_OK;
    void *own = NULL;
    enum lvs_status status = cpu_allocate(device, (size_t)bytes, &own, err);
    if (status != LVS_OK) {
        cpu_weight_destroy(device, weight);
        *out = NULL;
        return status;
    }
    tile_widen(weight, 0, weight->rows, 0, weight->cols, own);
    weight->own = own;
    return LVS_OK;
}

enum lvs_status cpu_weight_view(struct device *device, const float *data, int64_t rows, int64_t cols,
                                struct weight **out, struct lvs_error *err) {
    struct host_tensor part = {.data = data, .type = TENSOR_F32, .rows = rows, .cols = cols};
    return cpu_weight_create(device, &part, 1, out, err);
}

void cpu_weight_destroy(struct device *device, struct weight *weight) {
    if (!weight) return;
    cpu_release(device, weight->own);
    free(weight->parts);
    free(weight);
}
