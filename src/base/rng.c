/* Philox4x32-10: ten rounds of two 32×32→64 multiplications, keyed by the seed; the counter is (index, stream).
 * Constants from Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11. */
#include "lvsweep/rng.h"

#include <math.h>

static void philox_round(uint32_t counter[4], const uint32_t key[2]) {
    uint64_t first = (uint64_t)0xD2511F53u * counter[0];
    uint64_t second = (uint64_t)0xCD9E8D57u * counter[2];
    uint32_t mixed[4] = {
        (uint32_t)(second >> 32) ^ counter[1] ^ key[0],
        (uint32_t)second,
        (uint32_t)(first >> 32) ^ counter[3] ^ key[1],
        (uint32_t)first,
    };
    for (int i = 0; i < 4; i++)
        counter[i] = mixed[i];
}

void rng_block(uint64_t seed, uint32_t stream, uint64_t index, uint32_t out[4]) {
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    out[0] = (uint32_t)index;
    out[1] = (uint32_t)(index >> 32);
    out[2] = stream;
    out[3] = 0;
    for (int round = 0; round < 10; round++) {
        philox_round(out, key);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
}

struct rng rng_make(uint64_t seed, uint32_t stream) {
    return (struct rng){.seed = seed, .position = 0, .stream = stream};
}

uint32_t rng_u32(struct rng *rng) {
    uint32_t words[4];
    rng_block(rng->seed, rng->stream, rng->position / 4, words);
    return words[rng->position++ % 4];
}

double rng_uniform(struct rng *rng) {
    uint64_t high = rng_u32(rng), low = rng_u32(rng);
    return (double)(((high << 32) | low) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *rng) {
    double radius = sqrt(-2.0 * log(1.0 - rng_uniform(rng)));
    return radius * cos(6.283185307179586477 * rng_uniform(rng));
}

uint32_t rng_below(struct rng *rng, uint32_t bound) {
    /* Lemire's multiplication with rejection of the biased low part. */
    uint64_t product = (uint64_t)rng_u32(rng) * bound;
    if ((uint32_t)product < bound) {
        uint32_t threshold = -bound % bound;
        while ((uint32_t)product < threshold)
            product = (uint64_t)rng_u32(rng) * bound;
    }
    return (uint32_t)(product >> 32);
}

void rng_shuffle(struct rng *rng, int32_t *items, int32_t count) {
    for (int32_t last = count - 1; last > 0; last--) {
        int32_t chosen = (int32_t)rng_below(rng, (uint32_t)last + 1);
        int32_t kept = items[last];
        items[last] = items[chosen];
        items[chosen] = kept;
    }
}
