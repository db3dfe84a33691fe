/* What the files of the loss share: a chunk of rows as the device sees it, and the backward product over the vocabulary
 * tiles that matter. */
#pragma once
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

#define LOSS_TILE 256 /* columns of a vocabulary tile */

/* Rows [row, row + rows) of a call, as the device sees them. */
struct chunk_view {
    const int32_t *labels, *adapter;
    const float *label_weight, *params;
    float *row_loss, *grads;
    int64_t row, vocabulary, stride; /* params == NULL: no bias */
    int32_t rows, slot_rows;
    float *tile_top, *row_sum; /* [rows][tiles], [rows]: for loss_tiles.cu, else NULL */
};

/* ---- loss_tiles.cu ---- */
/* Whether dx may be made from tiles, and the scratch bytes beside the logits of `rows` rows. */
bool loss_tiles_fit(const struct device *device, const struct pack_layout *layout, const struct loss_call *call);
size_t loss_tiles_bytes(int64_t rows, int64_t vocabulary);
/* Points the view's arrays into `memory`. */
void loss_tiles_place(struct chunk_view *view, void *memory);
/* dx of the chunk from the logits as they are, skipping tiles whose probabilities are all below 2^-12. */
void loss_tiles_backward(struct device *device, const struct chunk_view *view, const bf16 *logits, const void *head,
                         int64_t n_in, void *dx);
