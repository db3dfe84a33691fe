/* Dropout masks as a pure function of (seed, step, site, row of the slot, column): nothing is stored between forward
 * and backward. The counter and its bit fields are described in backend.h at `struct adapters`; the generator is
 * rng_block's (Philox4x32-10), here for many counters side by side. */
#include "cpu_dropout.h"

#include "lvsweep/rng.h"

enum { COUNTERS = 16 /* drawn side by side: four columns each */ };

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

/* word[j][i] = word j of rng_block(seed, RNG_STREAM_DROPOUT, index + i), where index + i does not carry into the upper
 * half. */
CPU_CLONES static void draw(uint64_t seed, uint64_t index, uint32_t word[4][COUNTERS]) {
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (uint32_t i = 0; i < COUNTERS; i++) {
        word[0][i] = (uint32_t)index + i;
        word[1][i] = (uint32_t)(index >> 32);
        word[2][i] = RNG_STREAM_DROPOUT;
        word[3][i] = 0;
    }
    for (int32_t round = 0; round < 10; round++) {
#pragma omp simd
        for (int32_t i = 0; i < COUNTERS; i++) {
            uint64_t first = (uint64_t)0xD2511F53u * word[0][i], second = (uint64_t)0xCD9E8D57u * word[2][i];
            uint32_t one = word[1][i], three = word[3][i];
            word[0][i] = (uint32_t)(second >> 32) ^ one ^ key[0];
            word[1][i] = (uint32_t)second;
            word[2][i] = (uint32_t)(first >> 32) ^ three ^ key[1];
            word[3][i] = (uint32_t)first;
        }
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
}

/* Counters beyond the last column may run into the next row or wrap around; their words are not used. */
void cpu_dropout_apply(const struct dropout *dropout, int64_t row, int64_t column, int64_t count, const float *source,
                       float *target) {
    assert(column % 4 == 0 && row < 1 << 18 && column + count <= 1 << 18);
    for (int64_t i = 0; i < count; i += 4 * COUNTERS) {
        uint32_t word[4][COUNTERS];
        draw(dropout->seed, dropout->index | (uint64_t)row << 16 | (uint64_t)(column + i) >> 2, word);
        for (int64_t j = 0; j < cpu_min(4 * COUNTERS, count - i); j++)
            target[i + j] = word[j % 4][j / 4] < dropout->threshold ? 0 : source[i + j] * dropout->scale;
    }
}
