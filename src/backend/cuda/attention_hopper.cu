/* Causal attention forward on Hopper's warpgroup products, bf16, head size 64. */
#include <cudaTypedefs.h>

#include "attention_hopper.cuh"

bool tiles_describe(struct device *device, const struct attention_map *map, const void *data, int32_t columns,
                    CUtensorMap *out) {
    void *function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    cudaError_t code =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
    cudaError_t code = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
    if (!device_check(device, code, "the driver's cuTensorMapEncodeTiled")) return false;
    cuuint64_t row = static_cast<cuuint64_t>(columns) * sizeof(bf16);
    cuuint64_t size[4] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(map->context),
                          static_cast<cuuint64_t>(map->n_sequences), static_cast<cuuint64_t>(map->n_slots)};
    cuuint64_t stride[3] = {row, row * size[1], row * static_cast<cuuint64_t>(map->slot_rows)};
    cuuint32_t box[4] = {HEAD, FLASH_TILE, 1, 1}, step[4] = {1, 1, 1, 1};
    CUresult result = CUDA_ERROR_NOT_FOUND;
    if (found == cudaDriverEntryPointSuccess)
        result = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function)(
            out, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void *>(data), size, stride, box, step,
            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS)
        device_fail(device, "cuTensorMapEncodeTiled", "the driver does not take attention's shape");
    return result == CUDA_SUCCESS;
}

/* The running maximum and sum of the thread's two rows, and the factor for what was summed before. */
__device__ __forceinline__ void softmax_step(float scores[8][4], float scale, float highest[2], float total[2],
                                             float factor[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = highest[h], sum = 0;
#pragma unroll
        for (int j = 0; j < 8; j++)
            top = fmaxf(top, fmaxf(scores[j][2 * h], scores[j][2 * h + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        factor[h] = exp2_fast((highest[h] - top) * scale);
        highest[h] = top;
        float shift = top * scale;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            scores[j][2 * h] = exp2_fast(scores[j][2 * h] * scale - shift);
            scores[j][2 * h + 1] = exp2_fast(scores[j][2 * h + 1] * scale - shift);
            sum += scores[j][2 * h] + scores[j][2 * h + 1];
        }
        total[h] = total[h] * factor[h] + sum;
    }
}

/* Turns: query tiles, the longest first. */
__global__ void __launch_bounds__(FLASH_THREADS, 4)
    hopper_forward_kernel(const __grid_constant__ struct attention_tiles from, struct attention_map map, bf16 *out,
                          float *lse) {
    extern __shared__ unsigned char shared[];
    __shared__ uint64_t barriers[2];
    struct block_tiles tiles = block_tiles_make(shared, barriers);
    uint32_t base = tiles.base, stage0 = base + TILE;
    struct block_place block = block_place_make(map);
    if (!block.exists) return;
    struct head_place place = head_place_make(map, block);
    int32_t tile = static_cast<int32_t>(gridDim.y) - 1 - block.turn;
    int32_t first = tile * FLASH_TILE, lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t mine = static_cast<int32_t>(threadIdx.x) / 32 * 16 + lane / 4;
    if (threadIdx.x == 0) {
        copy_barrier_expect(tiles.barrier, 3 * TILE);
        tensor_copy(base, from.qkv, place.head * HEAD, first, place.sequence, tiles.barrier);
        keys_copy(map, from, place, 0, stage0, tiles.barrier);
    }
    float sum[8][4] = {}, highest[2] = {-INFINITY, -INFINITY}, total[2] = {}, factor[2];
    for (int32_t t = 0; t <= tile; t++) {
        uint32_t stage = stage0 + static_cast<uint32_t>(t % 2) * 2 * TILE;
        stage_wait(tiles, static_cast<uint32_t>(t));
        __syncthreads(); /* everyone is done with the stage that is filled next */
        float scores[8][4];
        wgmma_fence();
        rows_by_rows(scores, base, stage);
        wgmma_commit();
        if (t < tile && threadIdx.x == 0) {
            uint32_t next = static_cast<uint32_t>((t + 1) % 2), barrier = tiles.barrier + next * 8;
            copy_barrier_expect(barrier, 2 * TILE);
            keys_copy(map, from, place, (t + 1) * FLASH_TILE, stage0 + next * 2 * TILE, barrier);
        }
        wgmma_wait<0>();
        if (t == tile) diagonal_mask<false>(scores, mine);
        softmax_step(scores, map.scale * LOG2_E, highest, total, factor);
        uint32_t weights[4][4];
        weights_pack(scores, weights);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sum[j][0] *= factor[0], sum[j][1] *= factor[0];
            sum[j][2] *= factor[1], sum[j][3] *= factor[1];
        }
        wgmma_fence();
        weights_by_tile(sum, weights, stage + TILE);
        wgmma_commit();
        wgmma_wait<0>();
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        total[h] += __shfl_xor_sync(0xffffffffu, total[h], 1);
        total[h] += __shfl_xor_sync(0xffffffffu, total[h], 2);
        int32_t at = first + mine + h * 8;
        if (lse != nullptr && lane % 4 == 0 && at < map.context)
            lse[(place.row + at) * map.n_heads + place.head] = highest[h] * map.scale + logf(total[h]);
        factor[h] = 1.0f / total[h];
    }
    int64_t ld = static_cast<int64_t>(map.n_heads) * HEAD;
    __syncthreads();
    sum_store(sum, factor, base, out + (place.row + first) * ld + place.head * HEAD, ld, map.context - first);
}

void attention_forward_hopper(struct device *device, const struct attention_map *map, const void *qkv, void *out,
                              float *lse) {
    struct attention_tiles from = {};
    dim3 grid = block_grid(device, map, map->width, ceil_div(map->context, FLASH_TILE));
    if (grid.x == 0 || !tiles_describe(device, map, qkv, map->width, &from.qkv)) return;
    kernel_launch(device, "attention_forward", hopper_forward_kernel, grid, FLASH_THREADS, 5 * TILE + 1024, from, *map,
                  static_cast<bf16 *>(out), lse);
}
