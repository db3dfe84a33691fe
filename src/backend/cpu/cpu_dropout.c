/* Dropout masks as a pure function of (seed, step, site, row of the slot, column): nothing is stored between forward
 * and backward. The counter and its bit fields are described in backend.h at `struct adapters`. */
#include "cpu_dropout.h"

#include "lvsweep/rng.h"

struct dropout cpu_dropout_make(const struct adapters *adapters, int32_t adapter, int32_t site_id) {
    struct dropout dropout = {.probability = adapters->dropout ? adapters->dropout[adapter] : 0};
    if (dropout.probability <= 0) return dropout;
    assert(dropout.probability < 1);
    int32_t step = adapters->step[adapter];
    assert(step >= 0 && step < 1 << 20 && site_id >= 0 && site_id < 1 << 10);
    dropout.seed = adapters->seed[adapter];
    dropout.index = (uint64_t)step << 44 | (uint64_t)site_id << 34;
    dropout.threshold = (uint32_t)((double)dropout.probability * 0x1p32);
    dropout.scale = (float)(1.0 / (1.0 - (double)dropout.probability));
    return dropout;
}

void cpu_dropout_apply(const struct dropout *dropout, int64_t row, int64_t column, int64_t count, const float *source,
                       float *target) {
    assert(column % 4 == 0 && row < 1 << 18 && column + count <= 1 << 18);
    for (int64_t i = 0; i < count; i += 4) {
        uint32_t words[4];
        uint64_t index = dropout->index | (uint64_t)row << 16 | (uint64_t)(column + i) >> 2;
        rng_block(dropout->seed, RNG_STREAM_DROPOUT, index, words);
        for (int64_t j = 0; j < cpu_min(4, count - i); j++)
            target[i + j] = words[j] < dropout->threshold ? 0 : source[i + j] * dropout->scale;
    }
}
