/* LoRA's dropout as bits, made once for kernels that look at every element several times: the masks that
 * dropout_keeps tells one by one. */
#include "lora.cuh"

#define MASK_THREADS 256

/* A thread a word: 32 columns of a row for one pair. */
__global__ void __launch_bounds__(MASK_THREADS)
    dropout_mask_kernel(struct row_map map, struct adapters adapters, struct lora_group group, int32_t words,
                        uint32_t *mask) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * MASK_THREADS + threadIdx.x;
    int32_t word = static_cast<int32_t>(at % words), site = static_cast<int32_t>(at / words % group.n);
    int32_t row = static_cast<int32_t>(at / words / group.n);
    if (row >= map.n_rows) return;
    int32_t adapter = map.adapter[row / map.slot_rows];
    float probability = dropout_probability(adapters, adapter);
    uint32_t bits = 0xffffffffu;
    if (probability > 0) {
        struct dropout_state state = dropout_make(adapters, adapter, group.site[site].site_id, probability);
        uint64_t index =
            state.base | static_cast<uint64_t>(row % map.slot_rows) << 16 | static_cast<uint64_t>(word) * 8;
        bits = 0;
#pragma unroll 2
        for (uint32_t i = 0; i < 8; i++) {
            uint4 numbers = random_block(state.seed, RNG_STREAM_DROPOUT, index + i);
            uint32_t kept = (numbers.x >= state.threshold) | (numbers.y >= state.threshold) << 1 |
                            (numbers.z >= state.threshold) << 2 | (numbers.w >= state.threshold) << 3;
            bits |= kept << (4 * i);
        }
    }
    mask[at] = bits;
}

struct dropout_mask dropout_mask_take(struct device *device, const struct pack_layout *layout,
                                      const struct adapters *adapters, const struct lora_group *group, int32_t cols) {
    struct dropout_mask mask = {};
    if (adapters->dropout == nullptr) return mask;
    int64_t count = static_cast<int64_t>(layout->n_rows) * group->n * (cols / 32);
    size_t bytes = static_cast<size_t>(count) * sizeof(uint32_t);
    uint32_t *memory = static_cast<uint32_t *>(scratch_take(device, SCRATCH_DROPOUT, bytes, "dropout"));
    mask.failed = memory == nullptr;
    if (mask.failed) return mask;
    kernel_launch(device, "dropout_mask", dropout_mask_kernel, static_cast<unsigned>(ceil_div(count, MASK_THREADS)),
                  MASK_THREADS, 0, row_map_make(layout), *adapters, *group, cols / 32, memory);
    mask.bits = memory, mask.probability = adapters->dropout;
    mask.n_sites = group->n, mask.words = cols / 32;
    return mask;
}
