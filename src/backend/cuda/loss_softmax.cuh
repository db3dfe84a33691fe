/* Softmax of bf16 logits, a block a row: what row_loss_kernel of loss.cu does, in fewer instructions (exponentials to
 * base 2) and with the row asked for ahead. */
#pragma once
#include "loss.cuh"

#define FAST_THREADS 512
#define RING         4 /* pieces of a row that a thread has on their way or in hand */

__device__ __forceinline__ float highest_of(const float values[8]) {
    float top = values[0];
#pragma unroll
    for (int i = 1; i < 8; i++)
        top = fmaxf(top, values[i]);
    return top;
}
/* The highest of a warp's numbers, for every lane; not-a-numbers lose. */
__device__ __forceinline__ float warp_highest(float x) {
    int32_t bits = __float_as_int(x), ordered = bits ^ (bits >> 31 & 0x7fffffff);
    int32_t top = __reduce_max_sync(0xffffffffu, ordered);
    return __int_as_float(top ^ (top >> 31 & 0x7fffffff));
}
/* Σ 2^(logit·log2e − shift) of eight. */
__device__ __forceinline__ float exponentials(const float values[8], float shift) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
        sum += exp2_fast(fmaf(values[i], LOG2_E, -shift));
    return sum;
}

/* The row's piece `at` into the thread's place of a ring that no other thread touches. */
__device__ __forceinline__ void piece_request(uint4 *place, const uint4 *words, int32_t at, int32_t pieces) {
    copy_async(shared_address(place), words + (at < pieces ? at : 0), at < pieces);
    copy_async_commit();
}

/* One block a row. `highest` (a warp's) and `shift` are in units of log2. Tiles' highest logits go to tile_top when it
 * is given. */
template <bool GRADIENT, bool BIAS>
__global__ void __launch_bounds__(FAST_THREADS, 3) row_loss_fast_kernel(struct chunk_view view, bf16 *all) {
    extern __shared__ __align__(16) uint4 rings[]; /* [RING][FAST_THREADS] */
    __shared__ float2 room[FAST_THREADS / 32];
    int64_t row = view.row + blockIdx.x;
    int32_t pieces = static_cast<int32_t>(view.vocabulary / 8), label = view.labels[row];
    uint4 *words = reinterpret_cast<uint4 *>(all + static_cast<int64_t>(blockIdx.x) * view.vocabulary);
    int32_t thread = static_cast<int32_t>(threadIdx.x);
    uint4 *ring = rings + thread;
    if (label < 0) {
        if (thread == 0) view.row_loss[row] = 0;
        for (int32_t at = thread; GRADIENT && at < pieces; at += FAST_THREADS)
            words[at] = make_uint4(0, 0, 0, 0);
        return;
    }
    float *tops = view.tile_top != nullptr
                      ? view.tile_top + blockIdx.x * ((view.vocabulary + LOSS_TILE - 1) / LOSS_TILE)
                      : nullptr;
    float highest = -INFINITY, sum = 0, chosen = 0;
    const float *bias = BIAS ? bias_of(view, row) : nullptr;
    if (thread == 0) chosen = to_float(reinterpret_cast<const bf16 *>(words)[label]) + (BIAS ? bias[label] : 0.0f);
    for (int32_t i = 0; i < RING - 1; i++)
        piece_request(ring + i * FAST_THREADS, words, i * FAST_THREADS + thread, pieces);
#pragma unroll 1
    for (int32_t start = 0, step = 0; start < pieces; start += FAST_THREADS, step++) {
        int32_t at = start + thread;
        float values[8], biases[8] = {};
        if (BIAS && at < pieces) load8(bias + at * 8, biases);
        copy_async_wait<RING - 2>();
        load8(reinterpret_cast<const bf16 *>(ring + step % RING * FAST_THREADS), values);
#pragma unroll
        for (int i = 0; BIAS && i < 8; i++)
            values[i] += biases[i];
        float top = warp_highest(at < pieces ? highest_of(values) : -INFINITY);
        if (tops != nullptr && thread % 32 == 0 && at < pieces) tops[at / (LOSS_TILE / 8)] = top;
        top *= LOG2_E;
        if (top > highest) {
            sum *= exp2_fast(highest - top);
            highest = top;
        }
        if (at < pieces) sum += exponentials(values, highest);
        piece_request(ring + (step + RING - 1) % RING * FAST_THREADS, words, at + (RING - 1) * FAST_THREADS, pieces);
    }
    float top = highest;
    sum = warp_sum(sum);
    if (thread % 32 == 0) room[thread / 32] = make_float2(top, sum);
    __syncthreads();
    float2 total = make_float2(-INFINITY, 0);
#pragma unroll 4
    for (int i = 0; i < FAST_THREADS / 32; i++)
        total.x = fmaxf(total.x, room[i].x);
#pragma unroll 4
    for (int i = 0; i < FAST_THREADS / 32; i++)
        total.y += room[i].x > -INFINITY ? room[i].y * exp2_fast(room[i].x - total.x) : 0.0f;
    if (thread == 0) {
        float log_sum = total.x / LOG2_E + logf(total.y);
        view.row_loss[row] = log_sum - chosen;
        if (view.row_sum != nullptr) view.row_sum[blockIdx.x] = log_sum;
    }
    if constexpr (GRADIENT) {
        float weight = view.label_weight[row / view.slot_rows], shift = total.x - log2f(weight / total.y);
        for (int32_t at = thread; at < pieces; at += FAST_THREADS) {
            uint4 eight = words[at];
            float values[8];
            load8(reinterpret_cast<const bf16 *>(&eight), values);
#pragma unroll
            for (int i = 0; i < 8; i++)
                values[i] = exp2_fast(fmaf(values[i], LOG2_E, -shift));
            if (at == label / 8) {
#pragma unroll
                for (int i = 0; i < 8; i++)
                    values[i] -= i == label % 8 ? weight : 0.0f;
            }
            store8(reinterpret_cast<bf16 *>(words + at), values);
        }
    }
}
