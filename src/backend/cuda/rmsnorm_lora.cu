/* RMSNorm and the A side of LoRA in one pass over the rows, bf16 on tensor cores: the normed rows and their products
 * with A. Other shapes are composed from the plain kernels. */
#include "rmsnorm_lora.cuh"

#define FORWARD_WARPS 8
#define BATCH_STEPS   8 /* steps of 16 columns whose part of A a warp holds at once: 1024 columns a block */

/* A warp's rows of a tile of x on their way into `stage` [TILE_ROWS][cols]; the same warp reads them there. */
template <int CHUNKS>
__device__ __forceinline__ void rows_request(const struct norm_arrays &arrays, int64_t row, bf16 *stage) {
    int32_t col = static_cast<int32_t>(threadIdx.x) % 32 * 8;
#pragma unroll 1
    for (int32_t r = static_cast<int32_t>(threadIdx.x) / 32; r < TILE_ROWS; r += FORWARD_WARPS) {
        const bf16 *source = arrays.x + (row + r) * arrays.cols + col;
        uint32_t target = shared_address(stage + r * arrays.cols + col);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
            if (col + c * 256 < arrays.cols) copy_async(target + c * 512, source + c * 256, true);
    }
}

/* One row by one warp: normed, to memory and to the tile. */
template <int CHUNKS>
__device__ __forceinline__ void row_norm(const struct norm_arrays &arrays, int64_t row, const bf16 *x,
                                         const float *gain, bf16 *tile_row) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
    float values[CHUNKS][8], sum = 0;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        int32_t col = (c * 32 + lane) * 8;
        if (col >= arrays.cols) continue;
        load8(x + col, values[c]);
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum += values[c][i] * values[c][i];
    }
    float scale = rsqrtf(warp_sum(sum) / static_cast<float>(arrays.cols) + arrays.epsilon);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        int32_t col = (c * 32 + lane) * 8;
        if (col >= arrays.cols) continue;
        float g[8];
        gain_load(gain, arrays.cols, col, g);
#pragma unroll
        for (int i = 0; i < 8; i++)
            g[i] *= values[c][i] * scale;
        store8(arrays.y + row * arrays.cols + col, g);
        store8(tile_row + col, g);
    }
    if (lane == 0 && arrays.rstd != nullptr) arrays.rstd[row] = scale;
}

/* The warp's part of A as an operand, two main parts and two rests, for a batch of steps: step = 16·(warp +
 * FORWARD_WARPS·i) columns on. */
template <int NT>
__device__ __forceinline__ void a_load(const struct a_rows &rows, const float *params, int32_t cols, int32_t batch,
                                       uint32_t a[BATCH_STEPS][NT][4]) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, warp = static_cast<int32_t>(threadIdx.x) / 32;
#pragma unroll
    for (int j = 0; j < NT; j++) {
        const float *source = a_row(rows, params, j * 8 + lane / 4, cols);
#pragma unroll
        for (int i = 0; i < BATCH_STEPS; i++) {
            int32_t col = ((batch * BATCH_STEPS + i) * FORWARD_WARPS + warp) * 16;
            bool exists = source != nullptr && col < cols;
            float2 low = make_float2(0, 0), high = low;
            if (exists) low = *reinterpret_cast<const float2 *>(source + col + lane % 4 * 2);
            if (exists) high = *reinterpret_cast<const float2 *>(source + col + lane % 4 * 2 + 8);
            split_bf16(low.x, low.y, &a[i][j][0], &a[i][j][2]);
            split_bf16(high.x, high.y, &a[i][j][1], &a[i][j][3]);
        }
    }
}

/* What dropout leaves of an operand of 16 rows from `row` and 16 columns from `col` for one pair. */
__device__ __forceinline__ void operand_mask(const struct dropout_mask &mask, int64_t row, int32_t site, int32_t col,
                                             const uint32_t x[4], uint32_t out[4]) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
    uint32_t low = mask_row(mask, row + lane / 4, site)[col / 32] >> (col % 32 + lane % 4 * 2);
    uint32_t high = mask_row(mask, row + lane / 4 + 8, site)[col / 32] >> (col % 32 + lane % 4 * 2);
    out[0] = x[0] & pair_mask(low), out[1] = x[1] & pair_mask(high);
    out[2] = x[2] & pair_mask(low >> 8), out[3] = x[3] & pair_mask(high >> 8);
}

/* 16 rows of the tile, the first of which is `row`, times the warp's part of A. */
template <int NT, bool DROPS>
__device__ __forceinline__ void tile_times_a(const struct norm_arrays &arrays, int64_t row, int32_t rank, uint32_t tile,
                                             int32_t ld, int32_t batch, const uint32_t a[BATCH_STEPS][NT][4],
                                             float sum[NT][4]) {
    int32_t cols = arrays.cols;
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, warp = static_cast<int32_t>(threadIdx.x) / 32;
#pragma unroll
    for (int i = 0; i < BATCH_STEPS; i++) {
        int32_t col = ((batch * BATCH_STEPS + i) * FORWARD_WARPS + warp) * 16;
        if (col >= cols) continue;
        uint32_t x[4];
        matrix_load(x, tile + static_cast<uint32_t>(((lane % 16) * ld + col + lane / 16 * 8) * 2));
        uint32_t kept[4] = {x[0], x[1], x[2], x[3]};
#pragma unroll
        for (int j = 0; j < NT; j++) {
            if (DROPS && j * 8 % rank == 0 && j * 8 / rank < arrays.mask.n_sites)
                operand_mask(arrays.mask, row, j * 8 / rank, col, x, kept);
            mma_step(sum[j], kept, a[i][j][0], a[i][j][1]);
            mma_step(sum[j], kept, a[i][j][2], a[i][j][3]);
        }
    }
}

/* A block takes tiles of 16 rows in turn, one after another while the next is on its way, and keeps its part of A while
 * they are of one slot. */
template <int NT, int CHUNKS, bool DROPS>
__global__ void __launch_bounds__(FORWARD_WARPS * 32, !DROPS && NT <= 2 && CHUNKS <= 4 ? 2 : 1)
    norm_lora_forward_kernel(struct row_map map, struct norm_arrays arrays, struct a_rows rows) {
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ float room[FORWARD_WARPS][TILE_ROWS][NT * 8];
    bf16 *tile = reinterpret_cast<bf16 *>(shared);
    int32_t ld = arrays.cols + 8, warp = static_cast<int32_t>(threadIdx.x) / 32, held = -1;
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, n_tiles = map.n_rows / TILE_ROWS;
    int32_t block = static_cast<int32_t>(blockIdx.x), blocks = static_cast<int32_t>(gridDim.x);
    int32_t begin = block * n_tiles / blocks, end = (block + 1) * n_tiles / blocks;
    bf16 *stages = tile + TILE_ROWS * ld;
    float *gain = reinterpret_cast<float *>(stages + 2 * TILE_ROWS * arrays.cols);
    uint32_t a[BATCH_STEPS][NT][4];
    int32_t slot = begin * TILE_ROWS / map.slot_rows, left = map.slot_rows - begin * TILE_ROWS % map.slot_rows;
    const float *params = nullptr;
    float factor = 1;
    gain_request(arrays.gain, arrays.cols, gain);
    if (begin < end) rows_request<CHUNKS>(arrays, static_cast<int64_t>(begin) * TILE_ROWS, stages);
    copy_async_commit();
#pragma unroll 1
    for (int32_t at = begin; at < end; at++) {
        int64_t row = static_cast<int64_t>(at) * TILE_ROWS;
        const bf16 *stage = stages + (at - begin) % 2 * TILE_ROWS * arrays.cols;
        if (at + 1 < end)
            rows_request<CHUNKS>(arrays, row + TILE_ROWS, stages + (at + 1 - begin) % 2 * TILE_ROWS * arrays.cols);
        copy_async_commit();
        if (left == 0) slot++, left = map.slot_rows;
        left -= TILE_ROWS;
        if (slot != held) {
            params = arrays.params + map.adapter[slot] * arrays.stride;
            if (DROPS) factor = 1.0f / (1.0f - arrays.mask.probability[map.adapter[slot]]);
        }
        if (slot != held || CHUNKS > 4) a_load<NT>(rows, params, arrays.cols, 0, a);
        held = slot;
        copy_async_wait<1>();
        if (at == begin)
            __syncthreads(); /* the gain is everyone's, a row only its warp's */
        else
            __syncwarp();
#pragma unroll 1 /* code that runs once a warp is fetched slower than it runs */
        for (int32_t r = warp; r < TILE_ROWS; r += FORWARD_WARPS)
            row_norm<CHUNKS>(arrays, row + r, stage + r * arrays.cols, gain, tile + r * ld);
        __syncthreads();
        float sum[NT][4] = {};
        tile_times_a<NT, DROPS>(arrays, row, rows.rank, shared_address(tile), ld, 0, a, sum);
        if (CHUNKS > 4 && arrays.cols > BATCH_STEPS * FORWARD_WARPS * 16) {
            a_load<NT>(rows, params, arrays.cols, 1, a);
            tile_times_a<NT, DROPS>(arrays, row, rows.rank, shared_address(tile), ld, 1, a, sum);
        }
#pragma unroll
        for (int j = 0; j < NT; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                room[warp][lane / 4 + i / 2 * 8][j * 8 + lane % 4 * 2 + i % 2] = sum[j][i];
        }
        __syncthreads();
#pragma unroll 1
        for (int32_t place = static_cast<int32_t>(threadIdx.x); place < TILE_ROWS * rows.columns;
             place += FORWARD_WARPS * 32) {
            int32_t r = place / rows.columns, c = place % rows.columns;
            float total = 0;
#pragma unroll
            for (int w = 0; w < FORWARD_WARPS; w++)
                total += room[w][r][c];
            arrays.xa[row * rows.columns + place] = DROPS ? total * factor : total;
        }
    }
}

/* Bytes of the normed tile, of two tiles of x and of the gain. */
static size_t forward_shared(int32_t cols) {
    return static_cast<size_t>(TILE_ROWS) * static_cast<size_t>(3 * cols + 8) * sizeof(bf16) +
           static_cast<size_t>(cols) * sizeof(float);
}

template <int NT, int CHUNKS>
static void launch_forward(struct device *device, const struct pack_layout *layout, const struct norm_arrays *arrays,
                           const struct a_rows *rows) {
    int32_t tiles = layout->n_rows / TILE_ROWS, most = 2 * device->multiprocessors;
    auto kernel = arrays->mask.bits != nullptr ? norm_lora_forward_kernel<NT, CHUNKS, true>
                                               : norm_lora_forward_kernel<NT, CHUNKS, false>;
    kernel_launch(device, "norm_lora_a_forward", kernel, tiles < most ? tiles : most, FORWARD_WARPS * 32,
                  forward_shared(arrays->cols), row_map_make(layout), *arrays, *rows);
}

/* Chooses the instance by the columns of xa; call<NT, others…>. */
#define BY_COLUMNS(call, device, layout, arrays, rows, ...)               \
    switch (COLUMN_TILES((rows)->columns)) {                              \
    case 1:                                                               \
        call<1 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    case 2:                                                               \
        call<2 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    case 3:                                                               \
        call<3 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    case 4:                                                               \
        call<4 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    default:                                                              \
        call<6 __VA_OPT__(, ) __VA_ARGS__>(device, layout, arrays, rows); \
        break;                                                            \
    }

void cuda_norm_lora_a_forward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                              const float *gain, float epsilon, void *y, float *rstd, const struct adapters *adapters,
                              const struct lora_group *group, float *xa) {
    device_select(device);
    struct a_rows rows = a_rows_make(group);
    if (group->n == 0 || !norm_lora_fits(cols, rows.columns) || !lora_is_fused(device, adapters, group) ||
        forward_shared(cols) + 26 * 1024 > static_cast<size_t>(device->shared_limit)) {
        cuda_rmsnorm_forward(device, layout, cols, x, gain, epsilon, y, rstd);
        cuda_lora_a_forward(device, layout, adapters, group, y, xa);
        return;
    }
    struct norm_arrays arrays = {};
    arrays.x = static_cast<const bf16 *>(x), arrays.gain = gain, arrays.epsilon = epsilon, arrays.cols = cols;
    arrays.params = adapters->params, arrays.stride = adapters->stride;
    arrays.mask = dropout_mask_take(device, layout, adapters, group, cols);
    if (arrays.mask.failed) return;
    arrays.y = static_cast<bf16 *>(y), arrays.rstd = rstd, arrays.xa = xa;
    if (cols <= 256)
        BY_COLUMNS(launch_forward, device, layout, &arrays, &rows, 1)
    else if (cols <= 1024)
        BY_COLUMNS(launch_forward, device, layout, &arrays, &rows, 4)
    else
        BY_COLUMNS(launch_forward, device, layout, &arrays, &rows, 8)
}
