/* Causal attention forward on tensor cores, bf16, head sizes 64 and 128: a block holds 64·MT query rows of one head in
 * registers and streams the keys and values in tiles of 64 with a running softmax. Grouped heads share keys through
 * the cache. Order of sums: ascending tiles, whatever the pack. */
#include <cmath>

#include "attention.cuh"

/* scores[j] (rows g, g+8; keys 8j+2t, +1) of the warp's 16 query rows against one tile. */
template <int HEAD>
__device__ __forceinline__ void tile_scores(const uint32_t q[HEAD / 16][4], uint32_t keys, float scores[8][4]) {
#pragma unroll
    for (int j = 0; j < 8; j++)
        scores[j][0] = scores[j][1] = scores[j][2] = scores[j][3] = 0;
#pragma unroll
    for (int step = 0; step < HEAD / 16; step++) {
#pragma unroll
        for (int pair = 0; pair < 4; pair++) {
            uint32_t b[4];
            matrix_load(b, fragment_b_rows<HEAD>(keys, pair * 16, step));
            mma_step(scores[2 * pair], q[step], b[0], b[1]);
            mma_step(scores[2 * pair + 1], q[step], b[2], b[3]);
        }
    }
}

/* Keys after the query get −∞; `lead` is the query's position minus the tile's first key, for row g. */
__device__ __forceinline__ void scores_mask(float scores[8][4], int lead) {
    int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int j = 0; j < 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (j * 8 + column + i % 2 > lead + i / 2 * 8) scores[j][i] = -INFINITY;
    }
}

/* The running maximum and sum of rows g and g+8, and the factor for what was summed before. Scores become weights. */
__device__ __forceinline__ void softmax_step(float scores[8][4], float scale, float highest[2], float total[2],
                                             float factor[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = -INFINITY, sum = 0;
#pragma unroll
        for (int j = 0; j < 8; j++)
            top = fmaxf(top, fmaxf(scores[j][2 * h], scores[j][2 * h + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        top = fmaxf(highest[h], top);
        factor[h] = exp2_fast((highest[h] - top) * scale);
        highest[h] = top;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            scores[j][2 * h] = exp2_fast(scores[j][2 * h] * scale - top * scale);
            scores[j][2 * h + 1] = exp2_fast(scores[j][2 * h + 1] * scale - top * scale);
            sum += scores[j][2 * h] + scores[j][2 * h + 1];
        }
        total[h] = total[h] * factor[h] + sum;
    }
}

template <int HEAD>
__device__ __forceinline__ void values_add(const float weights[8][4], uint32_t values, float sum[HEAD / 8][4]) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
        uint32_t a[4] = {pack_bf16(weights[2 * step][0], weights[2 * step][1]),
                         pack_bf16(weights[2 * step][2], weights[2 * step][3]),
                         pack_bf16(weights[2 * step + 1][0], weights[2 * step + 1][1]),
                         pack_bf16(weights[2 * step + 1][2], weights[2 * step + 1][3])};
#pragma unroll
        for (int pair = 0; pair < HEAD / 16; pair++) {
            uint32_t b[4];
            matrix_load_transposed(b, fragment_b_columns<HEAD>(values, step * 16, pair * 2));
            mma_step(sum[2 * pair], a, b[0], b[1]);
            mma_step(sum[2 * pair + 1], a, b[2], b[3]);
        }
    }
}

template <int HEAD>
__device__ __forceinline__ void rows_store(const struct attention_map &map, int64_t row, int32_t position, int32_t head,
                                           const float sum[HEAD / 8][4], const float highest[2], float total[2],
                                           bf16 *out, float *lse) {
    int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        total[h] += __shfl_xor_sync(0xffffffffu, total[h], 1);
        total[h] += __shfl_xor_sync(0xffffffffu, total[h], 2);
        int32_t at = position + lane / 4 + h * 8;
        if (at >= map.context) continue;
        float inverse = 1.0f / total[h];
        bf16 *target = out + ((row + at) * map.n_heads + head) * HEAD + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < HEAD / 8; j++)
            *reinterpret_cast<uint32_t *>(target + j * 8) =
                pack_bf16(sum[j][2 * h] * inverse, sum[j][2 * h + 1] * inverse);
        if (lse != nullptr && lane % 4 == 0)
            lse[(row + at) * map.n_heads + head] = highest[h] * map.scale + logf(total[h]);
    }
}

/* Turns: query tiles, the longest first. */
template <int HEAD, int MT>
__global__ void __launch_bounds__(FLASH_THREADS)
    flash_forward_kernel(struct attention_map map, const bf16 *qkv, bf16 *out, float *lse) {
    extern __shared__ __align__(128) unsigned char shared[];
    constexpr uint32_t TILE = FLASH_TILE * HEAD * 2;
    uint32_t base = shared_address(shared), stage0 = base + MT * TILE;
    struct block_place place = block_place_make(map);
    if (!place.exists) return;
    int32_t head = place.head, tile = static_cast<int32_t>(gridDim.y) - 1 - place.turn;
    int64_t row = sequence_row(map, place.sequence);
    int32_t first = tile * FLASH_TILE * MT, warp = static_cast<int32_t>(threadIdx.x) / 32;
    int32_t lane_row = static_cast<int32_t>(threadIdx.x) % 32 / 4;
    const bf16 *queries = qkv + row * map.width + head * HEAD;
    const bf16 *keys = qkv + row * map.width + (map.n_heads + head / map.group) * HEAD;
    const bf16 *values = keys + map.n_kv_heads * HEAD;
    int32_t last_row = min(first + FLASH_TILE * MT, map.context) - 1, n_tiles = last_row / FLASH_TILE + 1;
#pragma unroll
    for (int m = 0; m < MT; m++)
        tile_load<HEAD>(base + m * TILE, queries + static_cast<int64_t>(first + m * FLASH_TILE) * map.width, map.width,
                        map.context - first - m * FLASH_TILE);
    tile_load<HEAD>(stage0, keys, map.width, map.context);
    tile_load<HEAD>(stage0 + TILE, values, map.width, map.context);
    copy_async_commit();
    uint32_t q[MT][HEAD / 16][4];
    float sum[MT][HEAD / 8][4] = {}, highest[MT][2], total[MT][2] = {};
#pragma unroll
    for (int m = 0; m < MT; m++)
        highest[m][0] = highest[m][1] = -INFINITY;
    for (int32_t t = 0; t < n_tiles; t++) {
        uint32_t stage = stage0 + static_cast<uint32_t>(t % 2) * 2 * TILE;
        copy_async_wait<0>();
        __syncthreads();
        if (t == 0) {
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int step = 0; step < HEAD / 16; step++)
                    matrix_load(q[m][step], fragment_a<HEAD>(base, (warp * MT + m) * 16, step));
        }
        if (t + 1 < n_tiles) {
            uint32_t next = stage0 + static_cast<uint32_t>((t + 1) % 2) * 2 * TILE;
            int64_t offset = static_cast<int64_t>(t + 1) * FLASH_TILE * map.width;
            tile_load<HEAD>(next, keys + offset, map.width, map.context - (t + 1) * FLASH_TILE);
            tile_load<HEAD>(next + TILE, values + offset, map.width, map.context - (t + 1) * FLASH_TILE);
        }
        copy_async_commit();
#pragma unroll
        for (int m = 0; m < MT; m++) {
            int32_t mine = first + (warp * MT + m) * 16;
            if (t * FLASH_TILE > mine + 15) continue;
            float scores[8][4], factor[2];
            tile_scores<HEAD>(q[m], stage, scores);
            if (t * FLASH_TILE + FLASH_TILE - 1 > mine) scores_mask(scores, mine + lane_row - t * FLASH_TILE);
            softmax_step(scores, map.scale * LOG2_E, highest[m], total[m], factor);
#pragma unroll
            for (int j = 0; j < HEAD / 8; j++) {
                sum[m][j][0] *= factor[0], sum[m][j][1] *= factor[0];
                sum[m][j][2] *= factor[1], sum[m][j][3] *= factor[1];
            }
            values_add<HEAD>(scores, stage + TILE, sum[m]);
        }
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
        rows_store<HEAD>(map, row, first + (warp * MT + m) * 16, head, sum[m], highest[m], total[m], out, lse);
}

/* Rows outside sequences give zero. */
__global__ void outside_zero_kernel(struct attention_map map, bf16 *out, float *lse) {
    int64_t row = blockIdx.x;
    if (row_position(map, row) >= 0) return;
    int32_t width = map.n_heads * map.head_size;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < width; i += static_cast<int32_t>(blockDim.x))
        out[row * width + i] = from_float<bf16>(0.0f);
    if (lse != nullptr && static_cast<int32_t>(threadIdx.x) < map.n_heads) lse[row * map.n_heads + threadIdx.x] = 0.0f;
}

template <int HEAD, int MT>
static void launch(struct device *device, const struct attention_map *map, const void *qkv, void *out, float *lse) {
    dim3 grid = block_grid(device, map, map->width, ceil_div(map->context, FLASH_TILE * MT));
    size_t shared = static_cast<size_t>(MT + 4) * FLASH_TILE * HEAD * 2;
    kernel_launch(device, "attention_forward", flash_forward_kernel<HEAD, MT>, grid, FLASH_THREADS, shared, *map,
                  static_cast<const bf16 *>(qkv), static_cast<bf16 *>(out), lse);
}

void attention_forward_flash(struct device *device, const struct attention_map *map, const void *qkv, void *out,
                             float *lse) {
    if (map->n_sequences * map->context != map->slot_rows)
        kernel_launch(device, "attention_outside", outside_zero_kernel, map->n_rows, 256, 0, *map,
                      static_cast<bf16 *>(out), lse);
    if (attention_is_hopper(device, map))
        attention_forward_hopper(device, map, qkv, out, lse);
    else if (map->head_size == 64)
        launch<64, 1>(device, map, qkv, out, lse);
    else
        launch<128, 1>(device, map, qkv, out, lse);
}
