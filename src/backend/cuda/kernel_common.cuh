/* What kernels share: 16-byte loads, conversions, sums in a fixed order, the counter-based random numbers of
 * base/rng.c, and the tensor-core steps of Ampere and later. Not here: anything of the host. */
#pragma once
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

using bf16 = __nv_bfloat16;

/* ---- conversions ---- */
__device__ __forceinline__ float to_float(float x) {
    return x;
}
__device__ __forceinline__ float to_float(bf16 x) {
    return __bfloat162float(x);
}
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return __float2bfloat16_rn(x);
}
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}
__device__ __forceinline__ float2 unpack_bf16(uint32_t word) {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
/* Eight neighbours of a row, packed or by address, which is 16-byte (bf16) or 32-byte (float) aligned. */
__device__ __forceinline__ void unpack8(uint4 words, float out[8]) {
    float2 a = unpack_bf16(words.x), b = unpack_bf16(words.y), c = unpack_bf16(words.z), d = unpack_bf16(words.w);
    out[0] = a.x, out[1] = a.y, out[2] = b.x, out[3] = b.y, out[4] = c.x, out[5] = c.y, out[6] = d.x, out[7] = d.y;
}
__device__ __forceinline__ uint4 load_words(const bf16 *source) {
    return *reinterpret_cast<const uint4 *>(source);
}
__device__ __forceinline__ void load8(const bf16 *source, float out[8]) {
    unpack8(load_words(source), out);
}
__device__ __forceinline__ void load8(const float *source, float out[8]) {
    float4 a = reinterpret_cast<const float4 *>(source)[0], b = reinterpret_cast<const float4 *>(source)[1];
    out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w, out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
}
__device__ __forceinline__ void store8(bf16 *target, const float in[8]) {
    *reinterpret_cast<uint4 *>(target) =
        make_uint4(pack_bf16(in[0], in[1]), pack_bf16(in[2], in[3]), pack_bf16(in[4], in[5]), pack_bf16(in[6], in[7]));
}
__device__ __forceinline__ void store8(float *target, const float in[8]) {
    reinterpret_cast<float4 *>(target)[0] = make_float4(in[0], in[1], in[2], in[3]);
    reinterpret_cast<float4 *>(target)[1] = make_float4(in[4], in[5], in[6], in[7]);
}

/* ---- sums; the order is that of the butterfly, whatever the data ---- */
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1)
        x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}
/* The sum over the block, for every thread; `room` has 32 floats of shared memory. */
__device__ __forceinline__ float block_sum(float x, float *room) {
    int warp = static_cast<int>(threadIdx.x) / 32, n_warps = (static_cast<int>(blockDim.x) + 31) / 32;
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[warp] = x;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < n_warps; i++)
        sum += room[i];
    return sum;
}

#define LOG2_E 1.4426950408889634f
/* 2^x in one instruction; results below the smallest normal number become zero. */
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- random numbers: Philox4x32-10 as base/rng.c ---- */
__device__ __forceinline__ uint4 random_block(uint64_t seed, uint32_t stream, uint64_t index) {
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    uint4 counter = make_uint4(static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), stream, 0);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint32_t high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
        uint32_t high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
        counter = make_uint4(high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

/* ---- tensor cores: D (16×8, float) += A (16×16, bf16) · B (16×8, bf16) ----
 * lane = 4·g + t. A: a0 (row g, columns 2t,2t+1), a1 (row g+8), a2 (row g, columns 2t+8…), a3 (row g+8, columns 2t+8…).
 * B: b0 (rows 2t,2t+1, column g), b1 (rows 2t+8…). D: d0,d1 (row g, columns 2t,2t+1), d2,d3 (row g+8). */
__device__ __forceinline__ void mma_step(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
__device__ __forceinline__ void shared_store(uint32_t address, uint32_t word) {
    asm volatile("st.shared.b32 [%0], %1;\n" ::"r"(address), "r"(word) : "memory");
}
__device__ __forceinline__ uint4 shared_load(uint32_t address) {
    uint4 words;
    asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "r"(address)
                 : "memory");
    return words;
}
/* Four 8×8 matrices; lane l gives the address of row l%8 of matrix l/8. */
__device__ __forceinline__ void matrix_load(uint32_t out[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address));
}
__device__ __forceinline__ void matrix_load_transposed(uint32_t out[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address));
}
/* Two of them; lanes 0–15 give the addresses. */
__device__ __forceinline__ void matrix_load2_transposed(uint32_t &first, uint32_t &second, uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(first), "=r"(second)
                 : "r"(address));
}
/* 16 bytes from global to shared memory without registers; zeros when `valid` is false (the source is not read). */
__device__ __forceinline__ void copy_async(uint32_t target, const void *source, bool valid) {
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}
/* The same, or nothing at all, without a branch. */
__device__ __forceinline__ void copy_async_if(bool wanted, uint32_t target, const void *source, bool valid) {
    int bytes = valid ? 16 : 0;
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %3, 0;\n@p cp.async.cg.shared.global [%0], [%1], 16, %2;\n}\n" ::"r"(target),
        "l"(source), "r"(bytes), "r"(static_cast<int>(wanted))
        : "memory");
}
__device__ __forceinline__ void copy_async_commit() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int PENDING> __device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING) : "memory");
}
/* A float as the sum of two bf16: sixteen bits of the significand survive. */
__device__ __forceinline__ void split_bf16(float x, float y, uint32_t *high, uint32_t *low) {
    float x_high = __bfloat162float(__float2bfloat16_rn(x)), y_high = __bfloat162float(__float2bfloat16_rn(y));
    *high = pack_bf16(x_high, y_high);
    *low = pack_bf16(x - x_high, y - y_high);
}
