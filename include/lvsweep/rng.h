/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11). A number is a pure function of (seed, stream,
 * index), so that any process, thread or device can draw it again without state. */
#pragma once
#include <stdint.h>

/* Streams keep the uses of one seed apart. */
enum rng_stream {
    RNG_STREAM_LORA_INIT = 1,
    RNG_STREAM_SHUFFLE = 2,
    RNG_STREAM_SPLIT = 3,
    RNG_STREAM_DROPOUT = 4,
    RNG_STREAM_SAMPLING = 5,
    RNG_STREAM_SUBSET = 6,
    RNG_STREAM_SIMULATE = 7,
    RNG_STREAM_TEST = 8,
};

/* Four 32-bit words for one (seed, stream, index). */
void rng_block(uint64_t seed, uint32_t stream, uint64_t index, uint32_t out[4]);
/* A sequential reader over the blocks of one (seed, stream). `position` counts 32-bit words and is the whole state. */
struct rng {
    uint64_t seed, position;
    uint32_t stream;
};
struct rng rng_make(uint64_t seed, uint32_t stream);
uint32_t rng_u32(struct rng *rng);                                /* one word; the others are made of these */
double rng_uniform(struct rng *rng);                              /* [0, 1), 53 bits, two words */
double rng_normal(struct rng *rng);                               /* Box–Muller, four words a number */
uint32_t rng_below(struct rng *rng, uint32_t bound);              /* unbiased, [0, bound) */
void rng_shuffle(struct rng *rng, int32_t *items, int32_t count); /* Fisher–Yates from the end */
