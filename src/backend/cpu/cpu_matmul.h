/* Products of rows with a frozen matrix, for the operations that need them inside: matmul, gate_up_swiglu, loss,
 * sample. */
#pragma once
#include "cpu_panel.h"

/* Work on finished rows [row, row + rows) of c, done while they are still in the cache. Called once for every row, by
 * any thread. */
typedef void (*product_finish)(const void *context, int64_t row, int64_t rows);

struct product {
    const float *a;         /* forward [n_rows][cols of w]; backward [n_rows][rows of w] */
    const struct weight *w; /* [N][K] */
    float *c;               /* forward [n_rows][rows of w] = a·wᵀ; backward [n_rows][cols of w] = a·w */
    int64_t n_rows;
    int64_t slot_rows;                 /* rows of one slot: n_rows is a multiple, and no tile crosses a slot */
    int64_t row_block;                 /* slot_rows is a multiple */
    bool accumulate;                   /* c += … */
    float *tiles;                      /* scratch of cpu_tiles_size bytes */
    const struct panel_kernel *kernel; /* the processor's best, or NULL: BLAS */
    product_finish finish;
    const void *finish_context;
};

/* The product over all rows of a layout. */
struct product cpu_product_make(const struct pack_layout *layout, const void *a, const struct weight *w, void *c,
                                float *tiles);
/* Bytes of scratch for widened tiles, one a thread. */
size_t cpu_tiles_size(const struct device *device);
void cpu_product_forward(struct device *device, const struct product *product);
void cpu_product_backward(struct device *device, const struct product *product);

/* Rows of a slot whose logits are held at a time, whole row blocks: a function of the slot, not of the pack. */
int64_t cpu_logits_rows(int64_t vocabulary, int64_t slot_rows, int64_t row_block);
