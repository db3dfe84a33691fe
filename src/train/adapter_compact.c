/* Adapter vectors without the padding of their rank, and back. Knows the layout only; works for parameters and for
 * Adam's moments alike. Invariant: expand(compact(x)) = x for a vector whose padding is zero, in any layout that holds
 * the rank. */
#include <assert.h>
#include <string.h>

#include "train_internal.h"

int64_t adapter_compact_floats(const struct lora_layout *layout, int32_t rank) {
    int64_t layer = 0;
    for (int target = 0; target < LORA_TARGET_COUNT; target++)
        if (layout->targets & 1u << target) layer += (int64_t)rank * (layout->n_in[target] + layout->n_out[target]);
    int64_t floats = layer * layout->n_layers;
    if (layout->bias_offset >= 0) floats += layout->n_vocabulary;
    if (layout->head_offset >= 0) floats += (int64_t)layout->n_vocabulary * layout->hidden;
    return floats;
}

/* One block of floats in both forms; the direction is the caller's. */
struct copier {
    float *padded, *compact;
    bool expand;
};

static void copy_floats(struct copier *copier, int64_t offset, int64_t count) {
    float *padded = copier->padded + offset;
    size_t bytes = (size_t)count * sizeof *padded;
    if (copier->expand)
        memcpy(padded, copier->compact, bytes);
    else
        memcpy(copier->compact, padded, bytes);
    copier->compact += count;
}

static void copy_adapter(const struct lora_layout *layout, int32_t rank, struct copier *copier) {
    assert(rank <= layout->rank);
    for (int32_t layer = 0; layer < layout->n_layers; layer++)
        for (int target = 0; target < LORA_TARGET_COUNT; target++) {
            if (!(layout->targets & 1u << target)) continue;
            int64_t block = layer * layout->layer_floats;
            /* A [layout->rank][n_in]: the first rows. B [n_out][layout->rank]: the first columns. */
            copy_floats(copier, block + layout->site_a[target], (int64_t)rank * layout->n_in[target]);
            for (int32_t row = 0; row < layout->n_out[target]; row++)
                copy_floats(copier, block + layout->site_b[target] + (int64_t)row * layout->rank, rank);
        }
    if (layout->bias_offset >= 0) copy_floats(copier, layout->bias_offset, layout->n_vocabulary);
    if (layout->head_offset >= 0)
        copy_floats(copier, layout->head_offset, (int64_t)layout->n_vocabulary * layout->hidden);
}

void adapter_compact(const struct lora_layout *layout, int32_t rank, const float *padded, float *compact) {
    /* Only read from: `expand` is false. */
    struct copier copier = {.padded = (float *)padded, .compact = compact, .expand = false};
    copy_adapter(layout, rank, &copier);
}

void adapter_expand(const struct lora_layout *layout, int32_t rank, const float *compact, float *padded) {
    memset(padded, 0, (size_t)layout->stride * sizeof *padded);
    struct copier copier = {.padded = padded, .compact = (float *)compact, .expand = true};
    copy_adapter(layout, rank, &copier);
}
