/* What the files of the loss share: a chunk of rows as the device sees it, the backward product over the vocabulary
 * tiles that matter, and the gradient of a bias beside it. */
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
/* The bias of the chunk's row, NULL without one. */
__device__ __forceinline__ const float *bias_of(const struct chunk_view &view, int64_t row) {
    return view.params != nullptr ? view.params + view.adapter[row / view.slot_rows] * view.stride : nullptr;
}

/* x += y, eight neighbours. */
__device__ __forceinline__ void add8(float x[8], const float *y) {
    float other[8];
    load8(y, other);
#pragma unroll
    for (int i = 0; i < 8; i++)
        x[i] += other[i];
}
/* Rows that are summed at a time; a slot has whole blocks. */
__host__ __device__ __forceinline__ int32_t loss_block_rows(int32_t slot_rows) {
    return slot_rows % LVS_ROW_BLOCK == 0 ? LVS_ROW_BLOCK : LVS_ROW_BLOCK_SMALL;
}
/* Whether a call has no bias, or one that is read eight at a time. */
static inline bool loss_bias_is_even(const struct loss_call *call) {
    if (call->adapters == nullptr || call->bias_offset < 0) return true;
    return call->bias_offset % 4 == 0 && call->adapters->stride % 4 == 0 &&
           reinterpret_cast<uintptr_t>(call->adapters->params) % 16 == 0;
}

/* ---- loss_tiles.cu ---- */
/* Whether dx may be made from tiles, and the scratch bytes beside the logits of `rows` rows. */
bool loss_tiles_fit(const struct device *device, const struct pack_layout *layout, const struct loss_call *call);
size_t loss_tiles_bytes(int64_t rows, int64_t vocabulary);
/* Points the view's arrays into `memory`. */
void loss_tiles_place(struct chunk_view *view, void *memory);
/* dx of the chunk from the logits as they are, skipping tiles whose probabilities are all below 2^-12. */
void loss_tiles_backward(struct device *device, const struct chunk_view *view, const bf16 *logits, const void *head,
                         int64_t n_in, void *dx);

/* ---- loss_bias.cu: the gradient of a bias, float sums over blocks of rows ---- */
/* partial [n_rows / block rows][vocabulary] in bytes. */
size_t loss_bias_bytes(const struct pack_layout *layout, int64_t vocabulary);
/* The chunk's sums, from logits as they are (row_sum must be filled) … */
void loss_bias_from_logits(struct device *device, const struct chunk_view *view, const bf16 *logits, float *partial);
/* … or from their gradients. */
void loss_bias_from_gradients(struct device *device, const struct chunk_view *view, const bf16 *dlogits,
                              float *partial);
void loss_bias_from_gradients(struct device *device, const struct chunk_view *view, const float *dlogits,
                              float *partial);
/* The sums of all chunks, added in order, become every slot's gradient. */
void loss_bias_reduce(struct device *device, const struct pack_layout *layout, const struct chunk_view *view,
                      const float *partial);
