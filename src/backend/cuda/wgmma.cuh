/* Hopper's warpgroup products (wgmma): 64 rows by N columns a warpgroup, float sums in registers, B and possibly A in
 * shared memory, tiles of rows of 128 bytes whose 16-byte pieces are swapped within a row by row % 8 (what tile_offset
 * of attention.cuh gives for 64 columns, and what the tensor copy engine writes). Tiles begin at multiples of 1024
 * bytes.
 *
 * lane = 4·g + t of warp w: sum[j] holds row 16w+g, columns 8j+2t and +1, then row 16w+g+8. Register operands are laid
 * out as for mma_step. Only compiled for sm_90a; callers ask device->major == 9. */
#pragma once
#include <cstdint>

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LVS_HAS_WGMMA 1
#endif

/* A tile in shared memory as an operand, as the half of its description that tells tiles apart. Rows as the product's
 * rows or columns (k along a row): the next 16 of k are 32 bytes on. Rows as k: the next 16 of k are 2048 bytes on. */
__device__ __forceinline__ uint32_t wgmma_tile(uint32_t address) {
    return (address & 0x3ffff) >> 4 | 1u << 16;
}
/* The operand `bytes` on in it. */
__device__ __forceinline__ uint64_t wgmma_operand(uint32_t tile, uint32_t bytes) {
    return static_cast<uint64_t>(1024 >> 4 | 1u << 30) << 32 | (tile + bytes / 16);
}
__device__ __forceinline__ void wgmma_fence() {
#ifdef LVS_HAS_WGMMA
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#endif
}
__device__ __forceinline__ void wgmma_commit() {
#ifdef LVS_HAS_WGMMA
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#endif
}
template <int PENDING> __device__ __forceinline__ void wgmma_wait() {
#ifdef LVS_HAS_WGMMA
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(PENDING) : "memory");
#endif
}
/* Ordinary writes to shared memory, before the barrier after which a warpgroup reads them. */
__device__ __forceinline__ void wgmma_publish() {
#ifdef LVS_HAS_WGMMA
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
#endif
}

#define WGMMA_FOUR(d, j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define WGMMA_SUMS_64(d)                                                                                        \
    WGMMA_FOUR(d, 0), WGMMA_FOUR(d, 1), WGMMA_FOUR(d, 2), WGMMA_FOUR(d, 3), WGMMA_FOUR(d, 4), WGMMA_FOUR(d, 5), \
        WGMMA_FOUR(d, 6), WGMMA_FOUR(d, 7)
#define WGMMA_NAMES_64                                                                                        \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27," \
    "%28,%29,%30,%31}"

/* sum (64 × 64) = or += a (64 × 16) · b (16 × 64). ROWS_ARE_K: a row of b's tile is one k, else one column. */
template <bool ROWS_ARE_K>
__device__ __forceinline__ void wgmma_64(float sum[8][4], uint64_t a, uint64_t b, bool accumulate) {
#ifdef LVS_HAS_WGMMA
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " WGMMA_NAMES_64
                 ", %32, %33, p, 1, 1, 0, %35;\n}\n"
                 : WGMMA_SUMS_64(sum)
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(ROWS_ARE_K ? 1 : 0));
#endif
}
template <bool ROWS_ARE_K>
__device__ __forceinline__ void wgmma_64(float sum[8][4], const uint32_t a[4], uint64_t b, bool accumulate) {
#ifdef LVS_HAS_WGMMA
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " WGMMA_NAMES_64
                 ", {%32,%33,%34,%35}, %36, p, 1, 1, %38;\n}\n"
                 : WGMMA_SUMS_64(sum)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
                   "n"(ROWS_ARE_K ? 1 : 0));
#endif
}
