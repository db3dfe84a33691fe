/* Hopper's tensor copy engine: one thread asks for a tile of 64 rows by 64 columns of bf16, the engine writes it into
 * shared memory as wgmma.cuh wants it, and a barrier there tells when the bytes have come. Positions after a sequence's
 * last arrive as zeros. Only compiled for sm_90a. */
#pragma once
#include <cuda.h>

#include "wgmma.cuh"

/* Where a sequence lies in the arrays that tensor maps describe. */
struct tensor_place {
    int32_t sequence, slot; /* sequence: within its slot */
};

/* ---- barriers: in shared memory, one arrival a phase, by who asks ---- */
/* By one thread, before a barrier of the block. */
__device__ __forceinline__ void copy_barrier_init(uint32_t barrier) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\n" ::"r"(barrier) : "memory");
}
/* Begins the next phase, which ends when `bytes` have come. */
__device__ __forceinline__ void copy_barrier_expect(uint32_t barrier, uint32_t bytes) {
#ifdef LVS_HAS_WGMMA
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes) : "memory");
#endif
}
/* Until the phase of this parity has ended; the first has parity 0. */
__device__ __forceinline__ void copy_barrier_wait(uint32_t barrier, uint32_t parity) {
#ifdef LVS_HAS_WGMMA
    asm volatile(
        "{\n.reg .pred p;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@!p bra again;\n}\n" ::"r"(
            barrier),
        "r"(parity)
        : "memory");
#endif
}

/* A tile from column `column` and position `position` on its way to `target`. */
__device__ __forceinline__ void tensor_copy(uint32_t target, const CUtensorMap &map, int32_t column, int32_t position,
                                            const struct tensor_place &place, uint32_t barrier) {
#ifdef LVS_HAS_WGMMA
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, "
                 "%5}], [%6];\n" ::"r"(target),
                 "l"(reinterpret_cast<uint64_t>(&map)), "r"(column), "r"(position), "r"(place.sequence),
                 "r"(place.slot), "r"(barrier)
                 : "memory");
#endif
}
