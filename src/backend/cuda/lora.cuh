/* What the LoRA kernels share: which adapter a row belongs to, and whether dropout keeps an element. A column of xa is
 * site·rank + r. */
#pragma once
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

/* The rows of a pack as kernels see them. */
struct row_map {
    const int32_t *adapter; /* [n_slots] */
    int32_t slot_rows, n_rows;
};
static inline struct row_map row_map_make(const struct pack_layout *layout) {
    return {layout->adapter, layout->slot_rows, layout->n_rows};
}

static inline int32_t group_columns(const struct lora_group *group) {
    return group->n > 0 ? group->n * group->site[0].rank : 0;
}

/* The masks of the CPU backend: one number per (seed, step, pair, row of the slot, column), four columns a block. */
struct dropout_state {
    uint64_t seed;
    uint64_t base;      /* of the step and the pair */
    uint32_t threshold; /* words below it are dropped */
    float factor;       /* of what is kept */
};
__device__ __forceinline__ float dropout_probability(const struct adapters &adapters, int32_t adapter) {
    return adapters.dropout != nullptr ? adapters.dropout[adapter] : 0.0f;
}
__device__ __forceinline__ struct dropout_state dropout_make(const struct adapters &adapters, int32_t adapter,
                                                             int32_t site_id, float probability) {
    uint64_t step = static_cast<uint64_t>(adapters.step[adapter]), site = static_cast<uint64_t>(site_id);
    return {adapters.seed[adapter], step << 44 | site << 34,
            static_cast<uint32_t>(static_cast<double>(probability) * 4294967296.0),
            static_cast<float>(1.0 / (1.0 - static_cast<double>(probability)))};
}
__device__ __forceinline__ bool dropout_keeps(const struct dropout_state &state, int32_t slot_row, int32_t col) {
    uint64_t index = state.base | static_cast<uint64_t>(slot_row) << 16 | static_cast<uint64_t>(col) >> 2;
    uint4 words = random_block(state.seed, RNG_STREAM_DROPOUT, index);
    int32_t which = col % 4;
    uint32_t word = which == 0 ? words.x : which == 1 ? words.y : which == 2 ? words.z : words.w;
    return word >= state.threshold;
}

/* The same masks as bits for a whole group: bit col % 32 of bits[row][site][col / 32] is set where the element is kept.
 * bits NULL: no adapter drops. Valid until the next is taken. */
struct dropout_mask {
    const uint32_t *bits;
    const float *probability; /* [n_adapters] */
    int32_t n_sites, words;   /* words a row */
    bool failed;              /* no memory; the device says so */
};
/* dropout.cu; cols is a multiple of 32. */
struct dropout_mask dropout_mask_take(struct device *device, const struct pack_layout *layout,
                                      const struct adapters *adapters, const struct lora_group *group, int32_t cols);
__device__ __forceinline__ const uint32_t *mask_row(const struct dropout_mask &mask, int64_t row, int32_t site) {
    return mask.bits + (row * mask.n_sites + site) * mask.words;
}
/* Two neighbouring bf16 by two neighbouring bits. */
__device__ __forceinline__ uint32_t pair_mask(uint32_t bits) {
    return (bits & 1u) * 0xffffu | (bits >> 1 & 1u) * 0xffff0000u;
}

/* ---- gradients of A and B by partial sums ---- */
#define LORA_PARTIAL_ROWS 16 /* rows of a slot that one partial sum covers, whatever the pack */

/* Where the pieces of a partial sum go: `count` floats from `from` in a partial to `to` in an adapter's gradients. */
struct lora_segments {
    int32_t n;
    int64_t from[LVS_MAX_SITES], to[LVS_MAX_SITES], count[LVS_MAX_SITES], total;
};
struct lora_segments lora_segments_a(const struct lora_group *group);
struct lora_segments lora_segments_b(const struct lora_group *group);
static inline int32_t lora_partials(const struct pack_layout *layout) {
    return static_cast<int32_t>(ceil_div(layout->slot_rows, LORA_PARTIAL_ROWS));
}
/* Memory for the partial sums of every slot: [n_slots][partials][total], with places nobody writes where sums are
 * joined. Total, offsets and strides are multiples of 4, as lora_is_fused wants them. */
float *lora_partial_take(struct device *device, const struct pack_layout *layout, const struct lora_segments *segments,
                         const char *what);
/* A slot's partials become the adapter's gradients at the next lora_reduce_flush. They are added one by one within
 * eight equal stretches, then the stretches in order: a function of the slot's own rows, so that a trial gets the bits
 * that it gets alone, whatever else is in the pack. */
void lora_reduce(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                 const struct lora_segments *segments, const float *partial);
/* The same in another order: partials 2p and 2p + 1 of a slot are added first, a last one stands for itself, and
 * stretches are of whole pairs. So a kernel may store only the sum of a pair, in the second's place, without a change
 * of bits. It did exactly where one of its `blocks` had both pieces (pieces.h; a piece a partial, counted over the
 * pack); as many blocks as partials: nowhere. */
void lora_reduce_pairs(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                       const struct lora_segments *segments, const float *partial, int32_t blocks);
/* Whether the tensor-core kernels take this group: bf16, even offsets and a rank that fills their tiles (what a layout
 * pads to, up to 16). */
bool lora_is_fused(const struct device *device, const struct adapters *adapters, const struct lora_group *group);
/* lora_a_backward by tensor cores; false when no kernel fits (rmsnorm_lora_backward.cu). */
bool lora_a_backward_fused(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                           const struct lora_group *group, const float *t, const void *x, void *dx);
