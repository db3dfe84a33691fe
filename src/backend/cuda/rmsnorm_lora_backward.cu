/* The A side of LoRA backwards, alone or with the RMSNorm before it, in one pass over the rows, bf16 on tensor cores:
 * the pairs' gradient t·A is added to dy, dy goes through the norm into dx, and partial sums of A's gradient are left
 * for lora_reduce. A block takes the LORA_PARTIAL_ROWS rows of one partial sum at once. Other shapes are composed from
 * the plain kernels.
 *
 * grad A = tᵀ·norm(x) with norm(x) = x·rstd·gain: rstd goes into t and gain into the sum, so that x is an operand as it
 * lies in memory. */
#include "rmsnorm_lora.cuh"

#define BACKWARD_WARPS 8
#define ROWS           LORA_PARTIAL_ROWS

struct backward_tiles {
    bf16 *x, *dy, *dx; /* [ROWS][ld] in shared memory; dx may be NULL: read where it lies */
    int32_t ld;
};

/* Rows beyond the slot become zeros. Loops of this file stay loops wherever a few warps run them once: their code is
 * fetched slower than it runs. */
__device__ __forceinline__ void tiles_load(const struct norm_arrays &arrays, const struct backward_tiles &tiles,
                                           int64_t row, int32_t valid) {
    int32_t warp = static_cast<int32_t>(threadIdx.x) / 32, lane = static_cast<int32_t>(threadIdx.x) % 32;
#pragma unroll 1
    for (int32_t r = warp; r < ROWS; r += BACKWARD_WARPS) {
        bool exists = r < valid;
        int64_t source = exists ? (row + r) * arrays.cols : 0;
        if (tiles.dx == nullptr && lane * 64 < arrays.cols)
            asm volatile("prefetch.global.L2 [%0];\n" ::"l"(arrays.dx + source + lane * 64));
#pragma unroll 1
        for (int32_t col = lane * 8; col < arrays.cols; col += 256) {
            int32_t place = r * tiles.ld + col;
            copy_async(shared_address(tiles.x + place), arrays.x + source + col, exists);
            copy_async(shared_address(tiles.dy + place), arrays.dy + source + col, exists);
            if (tiles.dx != nullptr) copy_async(shared_address(tiles.dx + place), arrays.dx + source + col, exists);
        }
    }
    copy_async_commit();
}

/* What a block keeps in shared memory beside the tiles: A's rows [columns][ld] where they fit, and the norm's gain. */
struct backward_stage {
    float *a, *gain;
    int32_t ld;
};
__device__ __forceinline__ void stage_load(const struct norm_arrays &arrays, const struct a_rows &rows,
                                           const float *params, const struct backward_stage &stage) {
    int32_t warp = static_cast<int32_t>(threadIdx.x) / 32, lane = static_cast<int32_t>(threadIdx.x) % 32;
#pragma unroll 1
    for (int32_t c = warp; stage.a != nullptr && c < rows.columns; c += BACKWARD_WARPS) {
        const float *source = a_row(rows, params, c, arrays.cols);
#pragma unroll 1
        for (int32_t col = lane * 4; col < arrays.cols; col += 128)
            copy_async(shared_address(stage.a + c * stage.ld + col), source + col, true);
    }
#pragma unroll 1
    for (int32_t at = static_cast<int32_t>(threadIdx.x) * 4; at < arrays.cols && arrays.gain != nullptr;
         at += BACKWARD_WARPS * 128)
        copy_async(shared_address(stage.gain + at), arrays.gain + at, true);
}

/* The tile of dy += t·A, warps taking n-tiles of 8 columns in turn; t [ROWS][NT·8]. Every pair is a step of its own
 * with its ranks up to 16, so that the order of the sum does not know how far a pack pads them. `row_of` [NT·8]: where
 * each column's row of A begins, NULL beyond the last. */
template <int NT>
__device__ __forceinline__ void tile_add_ta(const float *t, const float *const *row_of, const struct a_rows &rows,
                                            int32_t cols, const struct backward_tiles &tiles) {
    constexpr int STEPS = NT <= 3 ? NT : NT / 2; /* rank 8 or 16 */
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, g = lane / 4, pair = lane % 4 * 2;
    uint32_t main[ROWS / 16][STEPS][4], rest[ROWS / 16][STEPS][4];
    const float *a[STEPS][4];
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int32_t rank = pair + i % 2 + i / 2 * 8, column = s * rows.rank + rank;
            bool exists = rank < rows.rank && column < rows.columns;
            a[s][i] = exists ? row_of[column] : nullptr;
#pragma unroll
            for (int m = 0; m < ROWS / 16; m++) {
                int32_t low = pair + i / 2 * 8, c = s * rows.rank + low, r = m * 16 + g + i % 2 * 8;
                float2 two = make_float2(0, 0);
                if (low < rows.rank && c < rows.columns) two = *reinterpret_cast<const float2 *>(t + r * NT * 8 + c);
                split_bf16(two.x, two.y, &main[m][s][i], &rest[m][s][i]);
            }
        }
    }
#pragma unroll 2
    for (int32_t col = static_cast<int32_t>(threadIdx.x) / 32 * 8; col < cols; col += BACKWARD_WARPS * 8) {
        float sum[ROWS / 16][4] = {};
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            float b[4];
            uint32_t high[2], low[2];
#pragma unroll
            for (int i = 0; i < 4; i++)
                b[i] = a[s][i] != nullptr ? a[s][i][col + g] : 0.0f;
            split_bf16(b[0], b[1], &high[0], &low[0]);
            split_bf16(b[2], b[3], &high[1], &low[1]);
#pragma unroll
            for (int m = 0; m < ROWS / 16; m++) {
                mma_step(sum[m], main[m][s], high[0], high[1]);
                mma_step(sum[m], main[m][s], low[0], low[1]);
                mma_step(sum[m], rest[m][s], high[0], high[1]);
            }
        }
#pragma unroll
        for (int h = 0; h < ROWS / 8; h++) {
            bf16 *place = tiles.dy + (g + h * 8) * tiles.ld + col + pair;
            float2 old = unpack_bf16(*reinterpret_cast<const uint32_t *>(place));
            *reinterpret_cast<uint32_t *>(place) =
                pack_bf16(old.x + sum[h / 2][h % 2 * 2], old.y + sum[h / 2][h % 2 * 2 + 1]);
        }
    }
}

/* The partial sum of grad A: xᵀ·(rstd·t), times gain. Warps take 16 columns in turn. */
template <int NT>
__device__ __forceinline__ void grad_a_store(const struct norm_arrays &arrays, const struct a_rows &rows,
                                             const float *t, const float *rstd, const float *gains,
                                             const struct backward_tiles &tiles, float *partial) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, g = lane / 4, pair = lane % 4 * 2;
    uint32_t main[ROWS / 16][NT][2], rest[ROWS / 16][NT][2];
#pragma unroll
    for (int step = 0; step < ROWS / 16; step++) {
#pragma unroll
        for (int j = 0; j < NT; j++) {
            const float *source = t + (step * 16 + pair) * NT * 8 + j * 8 + g, *scale = rstd + step * 16 + pair;
            split_bf16(scale[0] * source[0], scale[1] * source[NT * 8], &main[step][j][0], &rest[step][j][0]);
            split_bf16(scale[8] * source[8 * NT * 8], scale[9] * source[9 * NT * 8], &main[step][j][1],
                       &rest[step][j][1]);
        }
    }
#pragma unroll 1
    for (int32_t first = static_cast<int32_t>(threadIdx.x) / 32 * 16; first < arrays.cols;
         first += BACKWARD_WARPS * 16) {
        float sum[NT][4] = {}, gain[2] = {1, 1};
#pragma unroll
        for (int step = 0; step < ROWS / 16; step++) {
            uint32_t a[4];
            int32_t row = step * 16 + lane % 8 + lane / 16 * 8, col = first + lane / 8 % 2 * 8;
            matrix_load_transposed(a, shared_address(tiles.x + row * tiles.ld + col));
#pragma unroll
            for (int j = 0; j < NT; j++) {
                mma_step(sum[j], a, main[step][j][0], main[step][j][1]);
                mma_step(sum[j], a, rest[step][j][0], rest[step][j][1]);
            }
        }
        if (arrays.gain != nullptr) gain[0] = gains[first + g], gain[1] = gains[first + g + 8];
#pragma unroll
        for (int j = 0; j < NT; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int32_t c = j * 8 + pair + i % 2, col = first + g + i / 2 * 8;
                if (c < rows.columns) partial[static_cast<int64_t>(c) * arrays.cols + col] = gain[i / 2] * sum[j][i];
            }
        }
    }
}

/* Through the norm: dx += rstd·(g·dy − x·rstd²·mean(g·dy·x)), a warp a row. */
__device__ __forceinline__ void row_end(const struct norm_arrays &arrays, int64_t row, const bf16 *x, const bf16 *dy,
                                        const bf16 *dx, const float *gain, float scale) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
    float values[8], grads[8], g[8], sum = 0;
#pragma unroll 1
    for (int32_t col = lane * 8; col < arrays.cols; col += 256) {
        load8(x + col, values);
        load8(dy + col, grads);
        load8(gain + col, g);
#pragma unroll
        for (int j = 0; j < 8; j++)
            sum += grads[j] * g[j] * values[j];
    }
    float along = warp_sum(sum) * scale * scale / static_cast<float>(arrays.cols);
#pragma unroll 1
    for (int32_t col = lane * 8; col < arrays.cols; col += 256) {
        float out[8];
        load8(x + col, values);
        load8(dy + col, grads);
        load8(gain + col, g);
        load8(dx + col, out);
#pragma unroll
        for (int j = 0; j < 8; j++)
            out[j] += scale * (grads[j] * g[j] - values[j] * along);
        store8(arrays.dx + row * arrays.cols + col, out);
    }
}

/* Grid: (partials a slot, slots). NORM: through the norm into dx; else dy itself is what is written. */
template <int NT, bool NORM>
__global__ void __launch_bounds__(BACKWARD_WARPS * 32, NT <= 2 ? 3 : 1)
    lora_a_backward_kernel(struct row_map map, struct norm_arrays arrays, struct a_rows rows) {
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ __align__(16) float t[ROWS * NT * 8], rstd[ROWS];
    __shared__ const float *row_of[NT * 8];
    int32_t warp = static_cast<int32_t>(threadIdx.x) / 32, lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t first = static_cast<int32_t>(blockIdx.x) * ROWS, valid = min(ROWS, map.slot_rows - first);
    int64_t row = static_cast<int64_t>(blockIdx.y) * map.slot_rows + first;
    struct backward_tiles tiles;
    tiles.ld = arrays.cols + 8;
    tiles.x = reinterpret_cast<bf16 *>(shared), tiles.dy = tiles.x + ROWS * tiles.ld;
    tiles.dx = NORM && arrays.stages ? tiles.dy + ROWS * tiles.ld : nullptr;
    const float *params = arrays.params + map.adapter[blockIdx.y] * arrays.stride;
    struct backward_stage stage;
    stage.ld = arrays.cols + 8;
    stage.gain = reinterpret_cast<float *>(tiles.x + (tiles.dx != nullptr ? 3 : 2) * ROWS * tiles.ld);
    stage.a = arrays.stages ? stage.gain + arrays.cols : nullptr;
    stage_load(arrays, rows, params, stage);
    tiles_load(arrays, tiles, row, valid);
    if (static_cast<int32_t>(threadIdx.x) < NT * 8) {
        int32_t c = static_cast<int32_t>(threadIdx.x);
        const float *source = a_row(rows, params, c, arrays.cols);
        row_of[c] = source != nullptr && stage.a != nullptr ? stage.a + c * stage.ld : source;
    }
#pragma unroll 1
    for (int32_t at = static_cast<int32_t>(threadIdx.x); at < ROWS * NT * 8; at += BACKWARD_WARPS * 32) {
        int32_t r = at / (NT * 8), c = at % (NT * 8);
        t[at] = r < valid && c < rows.columns ? arrays.t[(row + r) * rows.columns + c] : 0.0f;
    }
    if (static_cast<int32_t>(threadIdx.x) < ROWS) {
        int32_t r = static_cast<int32_t>(threadIdx.x);
        rstd[r] = !NORM ? 1.0f : r < valid ? arrays.rstd_in[row + r] : 0.0f;
    }
    copy_async_wait<0>();
    __syncthreads();
    tile_add_ta<NT>(t, row_of, rows, arrays.cols, tiles);
    int64_t block = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    grad_a_store<NT>(arrays, rows, t, rstd, stage.gain, tiles, arrays.partial + block * rows.columns * arrays.cols);
    __syncthreads(); /* dy's rows were changed by all warps */
#pragma unroll 1
    for (int32_t r = warp; r < valid; r += BACKWARD_WARPS) {
        const bf16 *dy = tiles.dy + r * tiles.ld;
        if constexpr (NORM) {
            const bf16 *dx = tiles.dx != nullptr ? tiles.dx + r * tiles.ld : arrays.dx + (row + r) * arrays.cols;
            row_end(arrays, row + r, tiles.x + r * tiles.ld, dy, dx, stage.gain, rstd[r]);
        } else {
#pragma unroll 1
            for (int32_t col = lane * 8; col < arrays.cols; col += 256)
                *reinterpret_cast<uint4 *>(arrays.dx + (row + r) * arrays.cols + col) =
                    *reinterpret_cast<const uint4 *>(dy + col);
        }
    }
}

/* `tiles` of rows, and the gain. */
static size_t backward_shared(int32_t cols, int32_t tiles) {
    return static_cast<size_t>(tiles * ROWS) * static_cast<size_t>(cols + 8) * sizeof(bf16) +
           static_cast<size_t>(cols) * sizeof(float);
}

template <int NT>
static void launch(struct device *device, const struct pack_layout *layout, const struct norm_arrays *arrays,
                   const struct a_rows *rows) {
    dim3 grid(static_cast<unsigned>(lora_partials(layout)), static_cast<unsigned>(layout->n_slots));
    struct norm_arrays staging = *arrays;
    size_t staged = static_cast<size_t>(rows->columns) * static_cast<size_t>(arrays->cols + 8) * sizeof(float);
    staged += backward_shared(arrays->cols, 3);
    /* With A and dx beside the tiles a multiprocessor holds one block: worth it while there are no more blocks. */
    staging.stages = staged + 8192 <= static_cast<size_t>(device->shared_limit) &&
                     grid.x * grid.y <= static_cast<unsigned>(device->multiprocessors);
    size_t shared = staging.stages ? staged : backward_shared(arrays->cols, 2);
    if (arrays->gain != nullptr)
        kernel_launch(device, "norm_lora_a_backward", lora_a_backward_kernel<NT, true>, grid, BACKWARD_WARPS * 32,
                      shared, row_map_make(layout), staging, *rows);
    else
        kernel_launch(device, "lora_a_backward", lora_a_backward_kernel<NT, false>, grid, BACKWARD_WARPS * 32, shared,
                      row_map_make(layout), staging, *rows);
}

/* dx += gradient through x·Aᵀ (and the norm before it when there is a gain), and grad A. False: no kernel fits. */
static bool fused_run(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                      const struct lora_group *group, struct norm_arrays arrays) {
    struct a_rows rows = a_rows_make(group);
    if (group->n == 0 || !norm_lora_fits(arrays.cols, rows.columns) || !lora_is_fused_a(device, adapters, group))
        return false;
    if (backward_shared(arrays.cols, 2) + 8192 > static_cast<size_t>(device->shared_limit)) return false;
    struct lora_segments segments = lora_segments_a(group);
    arrays.params = adapters->params, arrays.stride = adapters->stride;
    arrays.partial = lora_partial_take(device, layout, &segments, "lora_a_backward");
    if (arrays.partial == nullptr) return true;
    BY_COLUMNS(launch, device, layout, &arrays, &rows)
    lora_reduce(device, layout, adapters, &segments, arrays.partial);
    return true;
}

bool lora_a_backward_fused(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                           const struct lora_group *group, const float *t, const void *x, void *dx) {
    struct norm_arrays arrays = {};
    arrays.x = static_cast<const bf16 *>(x), arrays.cols = group->site[0].n_in;
    arrays.dy = static_cast<bf16 *>(dx), arrays.dx = static_cast<bf16 *>(dx), arrays.t = t;
    return fused_run(device, layout, adapters, group, arrays);
}

/* norm(x) as forward wrote it. */
__global__ void renorm_kernel(int32_t cols, const bf16 *x, const float *gain, const float *rstd, bf16 *y) {
    int64_t start = static_cast<int64_t>(blockIdx.x) * cols;
    float scale = rstd[blockIdx.x];
    for (int32_t col = static_cast<int32_t>(threadIdx.x); col < cols; col += static_cast<int32_t>(blockDim.x))
        y[start + col] = from_float<bf16>(gain[col] * (to_float(x[start + col]) * scale));
}
__global__ void renorm_float_kernel(int32_t cols, const float *x, const float *gain, const float *rstd, float *y) {
    int64_t start = static_cast<int64_t>(blockIdx.x) * cols;
    for (int32_t col = static_cast<int32_t>(threadIdx.x); col < cols; col += static_cast<int32_t>(blockDim.x))
        y[start + col] = gain[col] * (x[start + col] * rstd[blockIdx.x]);
}

static void renorm(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                   const float *gain, const float *rstd, void *y) {
    if (device->precision == PRECISION_KIND_BF16)
        kernel_launch(device, "rmsnorm_again", renorm_kernel, layout->n_rows, 256, 0, cols,
                      static_cast<const bf16 *>(x), gain, rstd, static_cast<bf16 *>(y));
    else
        kernel_launch(device, "rmsnorm_again", renorm_float_kernel, layout->n_rows, 256, 0, cols,
                      static_cast<const float *>(x), gain, rstd, static_cast<float *>(y));
}

void cuda_norm_lora_a_backward(struct device *device, const struct pack_layout *layout, int32_t cols, void *dy,
                               const void *x, const float *gain, const float *rstd, const struct adapters *adapters,
                               const struct lora_group *group, const float *t, void *y, void *dx) {
    device_select(device);
    struct norm_arrays arrays = {};
    arrays.x = static_cast<const bf16 *>(x), arrays.gain = gain, arrays.cols = cols;
    arrays.dy = static_cast<bf16 *>(dy), arrays.dx = static_cast<bf16 *>(dx);
    arrays.rstd_in = rstd, arrays.t = t;
    if (fused_run(device, layout, adapters, group, arrays)) return;
    if (group->n > 0) {
        renorm(device, layout, cols, x, gain, rstd, y);
        cuda_lora_a_backward(device, layout, adapters, group, t, y, dy);
    }
    cuda_rmsnorm_backward(device, layout, cols, dy, x, gain, rstd, dx);
}
