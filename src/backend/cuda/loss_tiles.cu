/* The gradient of the loss through the head from the vocabulary tiles that matter: a tile is left out for 128 rows when
 * all their probabilities there are below 2^-12 and none of their labels lies in it. The list of tiles is made on the
 * device; probabilities are made anew from the stored logits. A block of rows never spans two slots, so the list does
 * not know the pack. */
#include <cmath>

#include "loss.cuh"

#define BLOCK_ROWS    LVS_ROW_BLOCK
#define BLOCK_COLUMNS 128 /* of n_in */
#define STEP          64  /* vocabulary columns at a time */
#define TILE_THREADS  256
#define LOG_THRESHOLD (-12.0f * 0.6931471805599453f)

struct tile_arrays {
    const bf16 *logits, *head;
    bf16 *dx;
    int32_t *count, *list, *flag; /* [row blocks], [row blocks][tiles] twice */
    int32_t n_tiles, n_in;
};

static int64_t tiles_of(int64_t vocabulary) {
    return ceil_div(vocabulary, LOSS_TILE);
}

bool loss_tiles_fit(const struct device *device, const struct pack_layout *layout, const struct loss_call *call) {
    return call->skip_tiles && call->dx != nullptr && call->dhead == nullptr &&
           device->precision == PRECISION_KIND_BF16 && loss_bias_is_even(call) && layout->slot_rows % BLOCK_ROWS == 0 &&
           call->head->rows % 8 == 0 && call->head->cols % BLOCK_COLUMNS == 0;
}

size_t loss_tiles_bytes(int64_t rows, int64_t vocabulary) {
    int64_t tiles = tiles_of(vocabulary), blocks = ceil_div(rows, BLOCK_ROWS);
    return static_cast<size_t>(rows * tiles + rows + blocks * (2 * tiles + 1)) * 4;
}

void loss_tiles_place(struct chunk_view *view, void *memory) {
    view->tile_top = static_cast<float *>(memory);
    view->row_sum = view->tile_top + static_cast<int64_t>(view->rows) * tiles_of(view->vocabulary);
}

/* Grid: (pieces of the tiles, row blocks). A warp looks at 32 tiles of 16 of the block's rows; together eight warps see
 * them all. */
__global__ void __launch_bounds__(TILE_THREADS) tile_flag_kernel(struct chunk_view view, struct tile_arrays arrays) {
    __shared__ uint8_t seen[TILE_THREADS / 32][32];
    int32_t first = static_cast<int32_t>(blockIdx.y) * BLOCK_ROWS, valid = min(BLOCK_ROWS, view.rows - first);
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, warp = static_cast<int32_t>(threadIdx.x) / 32;
    int32_t tile = static_cast<int32_t>(blockIdx.x) * 32 + lane;
    bool matters = false;
#pragma unroll 4
    for (int32_t r = warp; r < valid; r += TILE_THREADS / 32) {
        int32_t label = view.labels[view.row + first + r];
        float top = -INFINITY;
        if (tile < arrays.n_tiles && label >= 0)
            top = view.tile_top[static_cast<int64_t>(first + r) * arrays.n_tiles + tile] - view.row_sum[first + r];
        matters |= top >= LOG_THRESHOLD || (label >= 0 && label / LOSS_TILE == tile);
    }
    seen[warp][lane] = matters;
    __syncthreads();
    if (warp != 0 || tile >= arrays.n_tiles) return;
    for (int w = 1; w < TILE_THREADS / 32; w++)
        matters |= seen[w][lane] != 0;
    arrays.flag[static_cast<int64_t>(blockIdx.y) * arrays.n_tiles + tile] = matters;
}

/* One block a row block: the tiles that matter, in ascending order. */
__global__ void __launch_bounds__(TILE_THREADS) tile_list_kernel(struct tile_arrays arrays) {
    __shared__ int32_t counts[TILE_THREADS / 32], before;
    int32_t thread = static_cast<int32_t>(threadIdx.x);
    int64_t base = static_cast<int64_t>(blockIdx.x) * arrays.n_tiles;
    if (thread == 0) before = 0;
    for (int32_t start = 0; start < arrays.n_tiles; start += TILE_THREADS) {
        int32_t tile = start + thread;
        bool matters = tile < arrays.n_tiles && arrays.flag[base + tile] != 0;
        unsigned votes = __ballot_sync(0xffffffffu, matters);
        __syncthreads();
        if (thread % 32 == 0) counts[thread / 32] = __popc(votes);
        __syncthreads();
        int32_t place = before;
        for (int32_t w = 0; w < thread / 32; w++)
            place += counts[w];
        place += __popc(votes & ((1u << (thread % 32)) - 1));
        if (matters) arrays.list[base + place] = tile;
        __syncthreads();
        if (thread == TILE_THREADS - 1) before = place + matters;
    }
    __syncthreads();
    if (thread == 0) arrays.count[blockIdx.x] = before;
}

/* Gradients of 128 rows × STEP columns from `col`, into the tile [128][STEP + 8]. */
__device__ __forceinline__ void gradients_make(const struct chunk_view &view, const bf16 *logits, const float *bias,
                                               int32_t first, int32_t valid, int64_t col, const float *sums,
                                               const float *weights, const int32_t *labels, bf16 *tile) {
#pragma unroll
    for (int i = 0; i < BLOCK_ROWS * STEP / 8 / TILE_THREADS; i++) {
        int32_t at = i * TILE_THREADS + static_cast<int32_t>(threadIdx.x), r = at / (STEP / 8);
        int64_t place = col + at % (STEP / 8) * 8;
        float values[8] = {};
        if (r < valid && labels[r] >= 0 && place < view.vocabulary) {
            load8(logits + static_cast<int64_t>(first + r) * view.vocabulary + place, values);
            if (bias != nullptr) add8(values, bias + place);
#pragma unroll
            for (int j = 0; j < 8; j++)
                values[j] = weights[r] * (__expf(values[j] - sums[r]) - (place + j == labels[r] ? 1.0f : 0.0f));
        }
        store8(tile + r * (STEP + 8) + at % (STEP / 8) * 8, values);
    }
}

/* STEP rows of the head from `col` and 128 of its columns, into the tile [STEP][128 + 8]. */
__device__ __forceinline__ void head_load(const struct chunk_view &view, const struct tile_arrays &arrays, int64_t col,
                                          int32_t column, bf16 *tile) {
#pragma unroll
    for (int i = 0; i < STEP * BLOCK_COLUMNS / 8 / TILE_THREADS; i++) {
        int32_t at = i * TILE_THREADS + static_cast<int32_t>(threadIdx.x), r = at / (BLOCK_COLUMNS / 8);
        int32_t c = at % (BLOCK_COLUMNS / 8) * 8;
        bool exists = col + r < view.vocabulary;
        copy_async(shared_address(tile + r * (BLOCK_COLUMNS + 8) + c),
                   arrays.head + (exists ? (col + r) * arrays.n_in + column + c : 0), exists);
    }
    copy_async_commit();
}

/* Grid: (column blocks of n_in, row blocks). Eight warps: four of 32 rows by two of 64 columns. */
__global__ void __launch_bounds__(TILE_THREADS)
    tile_backward_kernel(struct chunk_view view, struct tile_arrays arrays) {
    __shared__ __align__(16) bf16 gradients[BLOCK_ROWS * (STEP + 8)], head[STEP * (BLOCK_COLUMNS + 8)];
    __shared__ float sums[BLOCK_ROWS], weights[BLOCK_ROWS];
    __shared__ int32_t labels[BLOCK_ROWS];
    int32_t first = static_cast<int32_t>(blockIdx.y) * BLOCK_ROWS, valid = min(BLOCK_ROWS, view.rows - first);
    int32_t column = static_cast<int32_t>(blockIdx.x) * BLOCK_COLUMNS, thread = static_cast<int32_t>(threadIdx.x);
    int32_t warp = thread / 32, lane = thread % 32;
    for (int32_t r = thread; r < valid; r += TILE_THREADS) {
        sums[r] = view.row_sum[first + r];
        labels[r] = view.labels[view.row + first + r];
        weights[r] = view.label_weight[(view.row + first + r) / view.slot_rows];
    }
    const float *bias = bias_of(view, view.row + first);
    float sum[2][8][4] = {};
    int32_t n_steps = arrays.count[blockIdx.y] * (LOSS_TILE / STEP);
    for (int32_t step = 0; step < n_steps; step++) {
        int32_t tile = arrays.list[static_cast<int64_t>(blockIdx.y) * arrays.n_tiles + step / (LOSS_TILE / STEP)];
        int64_t col = static_cast<int64_t>(tile) * LOSS_TILE + step % (LOSS_TILE / STEP) * STEP;
        __syncthreads();
        head_load(view, arrays, col, column, head);
        gradients_make(view, arrays.logits, bias, first, valid, col, sums, weights, labels, gradients);
        copy_async_wait<0>();
        __syncthreads();
#pragma unroll
        for (int k = 0; k < STEP / 16; k++) {
            uint32_t a[2][4];
#pragma unroll
            for (int m = 0; m < 2; m++)
                matrix_load(a[m], shared_address(gradients + (warp / 2 * 32 + m * 16 + lane % 16) * (STEP + 8) +
                                                 k * 16 + lane / 16 * 8));
#pragma unroll
            for (int pair = 0; pair < 4; pair++) {
                uint32_t b[4];
                matrix_load_transposed(b, shared_address(head + (k * 16 + lane % 16) * (BLOCK_COLUMNS + 8) +
                                                         warp % 2 * 64 + pair * 16 + lane / 16 * 8));
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    mma_step(sum[m][2 * pair], a[m], b[0], b[1]);
                    mma_step(sum[m][2 * pair + 1], a[m], b[2], b[3]);
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < 2; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int32_t r = warp / 2 * 32 + m * 16 + lane / 4 + h * 8;
            if (r >= valid) continue;
            bf16 *target = arrays.dx + static_cast<int64_t>(first + r) * arrays.n_in + column + warp % 2 * 64;
#pragma unroll
            for (int j = 0; j < 8; j++)
                *reinterpret_cast<uint32_t *>(target + j * 8 + lane % 4 * 2) =
                    pack_bf16(sum[m][j][2 * h], sum[m][j][2 * h + 1]);
        }
    }
}

void loss_tiles_backward(struct device *device, const struct chunk_view *view, const bf16 *logits, const void *head,
                         int64_t n_in, void *dx) {
    struct tile_arrays arrays = {};
    int64_t blocks = ceil_div(view->rows, BLOCK_ROWS);
    arrays.logits = logits, arrays.head = static_cast<const bf16 *>(head), arrays.dx = static_cast<bf16 *>(dx);
    arrays.n_tiles = static_cast<int32_t>(tiles_of(view->vocabulary)), arrays.n_in = static_cast<int32_t>(n_in);
    arrays.count = reinterpret_cast<int32_t *>(view->row_sum + view->rows);
    arrays.list = arrays.count + blocks;
    arrays.flag = arrays.list + blocks * arrays.n_tiles;
    dim3 flags(static_cast<unsigned>(ceil_div(arrays.n_tiles, 32)), static_cast<unsigned>(blocks));
    kernel_launch(device, "loss_tile_list", tile_flag_kernel, flags, TILE_THREADS, 0, *view, arrays);
    kernel_launch(device, "loss_tile_list", tile_list_kernel, static_cast<unsigned>(blocks), TILE_THREADS, 0, arrays);
    dim3 grid(static_cast<unsigned>(n_in / BLOCK_COLUMNS), static_cast<unsigned>(blocks));
    kernel_launch(device, "loss_tile_dx", tile_backward_kernel, grid, TILE_THREADS, 0, *view, arrays);
}
