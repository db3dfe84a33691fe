/* How a kernel's blocks share the n pieces of a pack, in plain arithmetic for host and device: block b of `blocks`, at
 * most n, takes the consecutive pieces from piece_of_block(b) up to piece_of_block(b + 1). Who reads what the blocks
 * left finds their boundaries again without a note in memory. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define PIECES_FUNCTION static __host__ __device__ __forceinline__
#else
#define PIECES_FUNCTION static inline
#endif

/* The first piece of a block; n for the block after the last. */
PIECES_FUNCTION int32_t piece_of_block(int32_t block, int32_t n, int32_t blocks) {
    return (int32_t)((int64_t)block * n / blocks);
}

/* How far piece·blocks is from the next multiple of n (0: it is one). Block b starts at piece i exactly when b·n lies
 * in [i·blocks, (i + 1)·blocks), so when this is less than `blocks`. n·blocks must fit 32 bits unless the two are
 * equal. */
PIECES_FUNCTION uint32_t piece_distance(uint32_t piece, uint32_t n, uint32_t blocks) {
    if (blocks == n) return 0;
    uint32_t past = piece * blocks % n;
    return past == 0 ? 0 : n - past;
}
/* The same of the piece after it, without a division. */
PIECES_FUNCTION uint32_t piece_distance_next(uint32_t distance, uint32_t n, uint32_t blocks) {
    return distance >= blocks ? distance - blocks : distance + (n - blocks);
}
PIECES_FUNCTION bool piece_starts_block(uint32_t piece, uint32_t n, uint32_t blocks) {
    return piece_distance(piece, n, blocks) < blocks;
}
