/* The A side of LoRA backwards, alone or with the RMSNorm before it, in one pass over the rows, bf16 on tensor cores:
 * the pairs' gradient t·A is added to dy, dy goes through the norm into dx, and partial sums of A's gradient are left
 * for lora_reduce_pairs. A block takes pieces of LORA_PARTIAL_ROWS rows in turn, one partial sum each or one for both
 * pieces of a pair, and keeps A while they are of one slot. Other shapes are composed from the plain kernels.
 *
 * grad A = tᵀ·norm(x) with norm(x) = x·rstd·gain: rstd goes into t and gain into the sum, so that x is an operand as it
 * lies in memory. */
#include "rmsnorm_lora_stage.cuh"

/* One pair's A as the operand of t·A for 8 columns from `col`: ranks as k. From shared memory … */
template <int RANK>
__device__ __forceinline__ void a_fragment(const bf16 *a, int32_t ld, int32_t columns, int32_t site, int32_t col,
                                           uint32_t main[2], uint32_t rest[2]) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
    int32_t row =
        (RANK == 8 ? lane / 8 % 2 * columns : lane / 16 * columns + lane / 8 % 2 * 8) + site * RANK + lane % 8;
    uint32_t address = shared_address(a + row * ld + col);
    if constexpr (RANK == 8) {
        matrix_load2_transposed(main[0], rest[0], address);
        main[1] = rest[1] = 0;
    } else {
        uint32_t out[4];
        matrix_load_transposed(out, address);
        main[0] = out[0], main[1] = out[1], rest[0] = out[2], rest[1] = out[3];
    }
}
/* … or from where it lies. */
template <int RANK>
__device__ __forceinline__ void a_fragment(const float *a, int32_t cols, int32_t col, uint32_t main[2],
                                           uint32_t rest[2]) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, pair = lane % 4 * 2;
    const float *source = a + col + lane / 4;
    main[1] = rest[1] = 0;
    split_bf16(source[pair * cols], source[(pair + 1) * cols], &main[0], &rest[0]);
    if constexpr (RANK == 16) split_bf16(source[(pair + 8) * cols], source[(pair + 9) * cols], &main[1], &rest[1]);
}

/* A pair's sum of 16 rows and 8 columns, as dropout lets it pass, onto `total`. */
__device__ __forceinline__ void sum_mask(const struct dropout_mask &mask, int64_t row, int32_t site, int32_t col,
                                         float factor, const float sum[4], float total[4]) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, bit = col % 32 + lane % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        uint32_t bits = mask_row(mask, row + lane / 4 + h * 8, site)[col / 32] >> bit;
        total[h * 2] += bits & 1u ? sum[h * 2] * factor : 0.0f;
        total[h * 2 + 1] += bits >> 1 & 1u ? sum[h * 2 + 1] * factor : 0.0f;
    }
}

/* The tile of dy += t·A, warps taking 8 columns in turn. Every pair is a step of its own with its ranks up to 16, so
 * that the order of the sum does not know how far a pack pads them; where something is dropped each pair has its own
 * sum. `factor` 1: nothing is dropped. */
template <int SITES, int RANK, bool HOLDS_A, bool DROPS>
__device__ __forceinline__ void tile_add_ta(const struct backward_stage &stage, int32_t ld, int32_t cols, const bf16 *a,
                                            const struct a_rows &rows, const float *params,
                                            const struct dropout_mask &mask, int64_t row, float factor) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, g = lane / 4, pair = lane % 4 * 2;
    uint32_t main[SITES][4], rest[SITES][4];
#pragma unroll
    for (int s = 0; s < SITES; s++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 two = make_float2(0, 0);
            if (i < RANK / 4)
                two = *reinterpret_cast<const float2 *>(stage.t + (g + i % 2 * 8) * SITES * RANK + s * RANK + pair +
                                                        i / 2 * 8);
            split_bf16(two.x, two.y, &main[s][i], &rest[s][i]);
        }
    }
#pragma unroll 2
    for (int32_t col = static_cast<int32_t>(threadIdx.x) / 32 * 8; col < cols; col += BACKWARD_WARPS * 8) {
        float sum[4] = {};
#pragma unroll
        for (int s = 0; s < SITES; s++) {
            uint32_t high[2], low[2];
            if constexpr (HOLDS_A)
                a_fragment<RANK>(a, ld, SITES * RANK, s, col, high, low);
            else
                a_fragment<RANK>(params + rows.offset[s], cols, col, high, low);
            bool apart = DROPS && factor != 1.0f;
            float own[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                own[i] = apart ? 0.0f : sum[i];
            mma_step(own, main[s], high[0], high[1]);
            mma_step(own, main[s], low[0], low[1]);
            mma_step(own, rest[s], high[0], high[1]);
            if (apart) sum_mask(mask, row, s, col, factor, own, sum);
#pragma unroll
            for (int i = 0; i < 4; i++)
                sum[i] = apart ? sum[i] : own[i];
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            bf16 *place = stage.dy + (g + h * 8) * ld + col + pair;
            float2 old = unpack_bf16(*reinterpret_cast<const uint32_t *>(place));
            *reinterpret_cast<uint32_t *>(place) = pack_bf16(old.x + sum[h * 2], old.y + sum[h * 2 + 1]);
        }
    }
}

/* What dropout leaves of xᵀ, 16 columns of x from `col` by the piece's rows from `row`, for one pair. */
__device__ __forceinline__ void operand_mask(const struct dropout_mask &mask, int64_t row, int32_t site, int32_t col,
                                             const uint32_t x[4], uint32_t out[4]) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, bit = col % 32 + lane / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t *source = mask_row(mask, row + lane % 4 * 2 + h * 8, site) + col / 32;
        uint32_t first = source[0] >> bit, second = source[mask.n_sites * mask.words] >> bit;
        out[h * 2] = x[h * 2] & pair_mask((first & 1u) | (second & 1u) << 1);
        out[h * 2 + 1] = x[h * 2 + 1] & pair_mask((first >> 8 & 1u) | (second >> 8 & 1u) << 1);
    }
}

/* The partial sum of grad A for 16 columns of x from `first`: xᵀ·(rstd·t), here `main` and `rest` by tiles of columns
 * of xa, times gain where there is one, and times `factor` where something is dropped. `x` and `gains`: what this
 * thread reads of the tile and of the norm's gain. */
template <int NT, int RANK, bool NORM, bool DROPS>
__device__ __forceinline__ void grad_a_tile(uint32_t x, const float *gains, const struct dropout_mask &mask,
                                            int64_t row, int32_t first, float factor, const uint32_t main[NT][2],
                                            const uint32_t rest[NT][2], float out[NT][4]) {
    float sum[NT][4] = {}, gain[2] = {1, 1};
    uint32_t a[4];
    matrix_load_transposed(a, x);
    uint32_t kept[4] = {a[0], a[1], a[2], a[3]};
#pragma unroll
    for (int j = 0; j < NT; j++) {
        if (DROPS && j * 8 % RANK == 0) operand_mask(mask, row, j * 8 / RANK, first, a, kept);
        mma_step(sum[j], kept, main[j][0], main[j][1]);
        mma_step(sum[j], kept, rest[j][0], rest[j][1]);
    }
    if (NORM) gain[0] = gains[0], gain[1] = gains[4];
    if (DROPS) gain[0] *= factor, gain[1] *= factor;
#pragma unroll
    for (int j = 0; j < NT; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            out[j][i] = __fmul_rn(gain[i / 2], sum[j][i]);
    }
}

/* What a thread keeps of the first piece of a pair until the second comes, tile by tile; zeros: nothing. */
template <int NT, bool JOINS> struct grad_a_kept {
    static constexpr int TILES = JOINS ? MOST_JOINED / (BACKWARD_WARPS * 16) : 2;
    float sum[TILES][NT][4];
};

/* A piece's partial sum of grad A, and what is kept, into `partial` [columns][cols]; `hold` keeps it instead. Warps
 * take 16 columns in turn. The products are rounded before they are added, so that what is joined here has the bits of
 * two partials that lora_reduce_pairs adds (but for the sign of zeros, which its sums forget). */
template <int NT, int RANK, bool NORM, bool DROPS, bool JOINS>
__device__ __forceinline__ void grad_a(const struct backward_stage &stage, int32_t ld, int32_t cols, const float *gains,
                                       const struct dropout_mask &mask, int64_t row, float factor, bool hold,
                                       struct grad_a_kept<NT, JOINS> &kept, float *partial) {
    constexpr int TILES = grad_a_kept<NT, JOINS>::TILES, STEP = BACKWARD_WARPS * 16;
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, g = lane / 4, pair = lane % 4 * 2;
    uint32_t main[NT][2], rest[NT][2], x = shared_address(stage.x + (lane % 8 + lane / 16 * 8) * ld + lane / 8 % 2 * 8);
    const float *scale = stage.rstd + pair;
#pragma unroll
    for (int j = 0; j < NT; j++) {
        const float *source = stage.t + pair * NT * 8 + j * 8 + g;
        split_bf16(scale[0] * source[0], scale[1] * source[NT * 8], &main[j][0], &rest[j][0]);
        split_bf16(scale[8] * source[8 * NT * 8], scale[9] * source[9 * NT * 8], &main[j][1], &rest[j][1]);
    }
    gains += gain_place(g, cols);
#pragma unroll 1
    for (int32_t base = static_cast<int32_t>(threadIdx.x) / 32 * 16; base < cols; base += TILES * STEP) {
        float *target = partial + static_cast<int64_t>(pair) * cols + base + g;
#pragma unroll
        for (int k = 0; k < TILES; k++) {
            int32_t first = base + k * STEP;
            if (first >= cols) break;
            float sum[NT][4];
            grad_a_tile<NT, RANK, NORM, DROPS>(x + static_cast<uint32_t>(first * 2), gains + base / 2 + k * (STEP / 2),
                                               mask, row, first, factor, main, rest, sum);
#pragma unroll
            for (int j = 0; j < (JOINS ? NT : 0); j++) {
#pragma unroll
                for (int i = 0; i < 4; i++)
                    sum[j][i] = kept.sum[k][j][i] = __fadd_rn(kept.sum[k][j][i], sum[j][i]);
            }
            if (hold) continue;
#pragma unroll
            for (int j = 0; j < NT; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++)
                    target[(j * 8 + i % 2) * cols + k * STEP + i / 2 * 8] = sum[j][i];
            }
        }
    }
    if (JOINS && !hold) kept = {};
}

/* 8 columns of a row as they lie in memory. */
struct row_chunk {
    uint4 x, dy;
};
__device__ __forceinline__ struct row_chunk chunk_load(const bf16 *x, const bf16 *dy) {
    return {load_words(x), load_words(dy)};
}
/* Σ g·dy·x onto `sum`. */
__device__ __forceinline__ float chunk_sum(const struct row_chunk &chunk, const float g[8], float sum) {
    float values[8], grads[8];
    unpack8(chunk.x, values);
    unpack8(chunk.dy, grads);
#pragma unroll
    for (int j = 0; j < 8; j++)
        sum += grads[j] * g[j] * values[j];
    return sum;
}
/* dx + rstd·(g·dy − x·along) to `target`. Not chunk_sum's g·dy: it goes unrounded into the difference. */
__device__ __forceinline__ void chunk_end(const struct row_chunk &chunk, const float g[8], uint4 dx, float scale,
                                          float along, bf16 *target) {
    float values[8], grads[8], out[8];
    unpack8(chunk.x, values);
    unpack8(chunk.dy, grads);
    unpack8(dx, out);
#pragma unroll
    for (int j = 0; j < 8; j++)
        out[j] += scale * (grads[j] * g[j] - values[j] * along);
    store8(target, out);
}

/* Through the norm: dx += rstd·(g·dy − x·rstd²·mean(g·dy·x)), a warp a row; what was there lies at `old` in shared
 * memory, or still in dx where that is 0. A lane keeps its first KEPT chunks for the second pass. */
template <int KEPT>
__device__ __forceinline__ void row_end(const bf16 *x, const bf16 *dy, uint32_t old, const float *gain, float scale,
                                        int32_t cols, bf16 *dx) {
    constexpr int32_t STEP = 256;
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, left = cols - lane * 8;
    float g[8], sum = 0;
    struct row_chunk kept[KEPT > 0 ? KEPT : 1];
    x += lane * 8, dy += lane * 8, dx += lane * 8, gain += lane * 4;
    auto end = [&](int32_t col, const struct row_chunk &chunk, float along) {
        gain_load(gain, cols, col, g);
        uint4 before = old != 0 ? shared_load(old + static_cast<uint32_t>(lane * 16 + col * 2)) : load_words(dx + col);
        chunk_end(chunk, g, before, scale, along, dx + col);
    };
#pragma unroll
    for (int32_t k = 0; k < KEPT; k++) {
        if (k * STEP >= left) continue;
        kept[k] = chunk_load(x + k * STEP, dy + k * STEP);
        gain_load(gain, cols, k * STEP, g);
        sum = chunk_sum(kept[k], g, sum);
    }
#pragma unroll 1
    for (int32_t col = KEPT * STEP; col < left; col += STEP) {
        gain_load(gain, cols, col, g);
        sum = chunk_sum(chunk_load(x + col, dy + col), g, sum);
    }
    float along = warp_sum(sum) * scale * scale / static_cast<float>(cols);
#pragma unroll
    for (int32_t k = 0; k < KEPT; k++) {
        if (k * STEP >= left) continue;
        end(k * STEP, kept[k], along);
    }
#pragma unroll 1
    for (int32_t col = KEPT * STEP; col < left; col += STEP)
        end(col, chunk_load(x + col, dy + col), along);
}

/* A piece's rows to memory, a warp a row: NORM: through the norm into dx (`old`: where [ROWS][ld] of it lie in shared
 * memory, or 0); else dy as it is. */
template <bool NORM, int KEPT>
__device__ __forceinline__ void piece_end(const struct norm_arrays &arrays, const struct backward_piece &piece,
                                          const struct backward_stage &stage, int32_t ld, uint32_t old,
                                          const float *gain) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
#pragma unroll 1
    for (int32_t r = static_cast<int32_t>(threadIdx.x) / 32; r < piece.left && r < ROWS; r += BACKWARD_WARPS) {
        bf16 *target = arrays.dx + (piece.row + r) * arrays.cols;
        if constexpr (NORM) {
            row_end<KEPT>(stage.x + r * ld, stage.dy + r * ld, old != 0 ? old + static_cast<uint32_t>(r * ld * 2) : 0,
                          gain, stage.rstd[r], arrays.cols, target);
        } else {
            for (int32_t col = lane * 8; col < arrays.cols; col += 256)
                *reinterpret_cast<uint4 *>(target + col) = *reinterpret_cast<const uint4 *>(stage.dy + r * ld + col);
        }
    }
}

template <int SITES, int RANK, bool NORM, bool HOLDS_A, bool DROPS>
__global__ void __launch_bounds__(BACKWARD_THREADS, 1)
    lora_a_backward_kernel(struct row_map map, struct norm_arrays arrays, struct a_rows rows,
                           struct backward_room room) {
    extern __shared__ __align__(128) unsigned char shared[];
    constexpr int COLUMNS = SITES * RANK;
    constexpr bool JOINS = joins_fit(COLUMNS);
    constexpr int KEPT = !DROPS ? 3 : JOINS ? 1 : 0; /* as many as registers hold */
    int32_t n_pieces = map.n_rows / map.slot_rows * ((map.slot_rows + ROWS - 1) / ROWS), held = -1, ld = room.ld;
    int32_t block = static_cast<int32_t>(blockIdx.x), blocks = static_cast<int32_t>(gridDim.x);
    int32_t begin = piece_of_block(block, n_pieces, blocks), end = piece_of_block(block + 1, n_pieces, blocks);
    float *gain = reinterpret_cast<float *>(shared + room.stages * stage_bytes(ld, COLUMNS));
    bf16 *dx = reinterpret_cast<bf16 *>(gain + (NORM ? arrays.cols : 0)), *a = dx + (room.holds_dx ? ROWS * ld : 0);
    const float *params = nullptr;
    float factor = 1;
    struct grad_a_kept<COLUMNS / 8, JOINS> kept = {};
    auto stage_of = [&](int32_t index) {
        return stage_at(shared + ((index - begin) & (room.stages - 1)) * stage_bytes(ld, COLUMNS), ld, COLUMNS);
    };
    auto request = [&](int32_t index, const struct backward_piece &piece) {
        if (index < end) piece_request<NORM>(arrays, piece, stage_of(index), ld, COLUMNS);
        copy_async_commit();
    };
    auto request_dx = [&](int32_t index, const struct backward_piece &piece) {
        if (NORM && room.holds_dx && index < end) rows_request(arrays.dx, arrays.cols, piece, dx, ld);
        copy_async_commit();
    };
    struct backward_piece piece = piece_at(map, begin);
    if (NORM) gain_request(arrays.gain, arrays.cols, gain);
    request(begin, piece);
    request_dx(begin, piece);
#pragma unroll 1
    for (int32_t index = begin; index < end; index++) {
        struct backward_piece next = piece_after(map, piece);
        struct backward_stage stage = stage_of(index);
        if (piece.slot != held) {
            params = arrays.params + map.adapter[piece.slot] * arrays.stride;
            if (HOLDS_A) a_stage(rows, params, arrays.cols, a, ld);
            if (DROPS) factor = 1.0f / (1.0f - arrays.mask.probability[map.adapter[piece.slot]]);
        }
        held = piece.slot;
        if (room.stages == 2) {
            request(index + 1, next);
            copy_async_wait<2>(); /* what dx was and the next piece may still be on their way */
        } else {
            copy_async_wait<1>();
        }
        __syncthreads();
        tile_add_ta<SITES, RANK, HOLDS_A, DROPS>(stage, ld, arrays.cols, a, rows, params, arrays.mask, piece.row,
                                                 factor);
        bool hold = JOINS && room.joins && index + 1 < end && piece_leads_pair(map, piece);
        grad_a<COLUMNS / 8, RANK, NORM, DROPS, JOINS>(
            stage, ld, arrays.cols, gain, arrays.mask, piece.row, factor, hold, kept,
            arrays.partial + static_cast<int64_t>(index) * COLUMNS * arrays.cols);
        if (room.stages == 2)
            copy_async_wait<1>();
        else
            copy_async_wait<0>();
        __syncthreads(); /* dy's rows were changed by all warps */
        piece_end<NORM, KEPT>(arrays, piece, stage, ld, room.holds_dx ? shared_address(dx) : 0, gain);
        __syncthreads(); /* what follows fills what was read */
        if (room.stages == 1) request(index + 1, next);
        request_dx(index + 1, next);
        piece = next;
    }
}

/* The most of shared memory that fits, best first; bytes 0: nothing does. */
static struct backward_room room_make(const struct device *device, int32_t cols, int32_t columns, bool norm) {
    static const struct {
        int32_t stages;
        bool a, dx;
    } ways[] = {{2, true, true}, {1, true, true}, {1, true, false}, {1, false, false}};
    struct backward_room room = {};
    room.ld = cols + 8, room.joins = joins_fit(columns) && cols <= MOST_JOINED;
    for (const auto &way : ways) {
        room.stages = way.stages, room.holds_a = way.a, room.holds_dx = way.dx && norm;
        int32_t rows = (room.holds_dx ? ROWS : 0) + (way.a ? 2 * columns : 0);
        room.bytes = way.stages * stage_bytes(room.ld, columns) + static_cast<size_t>(rows * room.ld) * sizeof(bf16) +
                     (norm ? static_cast<size_t>(cols) * sizeof(float) : 0);
        if (room.bytes <= static_cast<size_t>(device->shared_limit)) return room;
    }
    room.bytes = 0;
    return room;
}

static int32_t blocks_of(const struct device *device, const struct pack_layout *layout) {
    int32_t pieces = layout->n_slots * lora_partials(layout);
    return pieces < device->multiprocessors ? pieces : device->multiprocessors;
}

template <int SITES, int RANK, bool NORM>
static void launch(struct device *device, const struct pack_layout *layout, const struct norm_arrays *arrays,
                   const struct a_rows *rows, const struct backward_room *room) {
    bool drops = arrays->mask.bits != nullptr;
    auto kernel = room->holds_a ? (drops ? lora_a_backward_kernel<SITES, RANK, NORM, true, true>
                                         : lora_a_backward_kernel<SITES, RANK, NORM, true, false>)
                                : (drops ? lora_a_backward_kernel<SITES, RANK, NORM, false, true>
                                         : lora_a_backward_kernel<SITES, RANK, NORM, false, false>);
    kernel_launch(device, NORM ? "norm_lora_a_backward" : "lora_a_backward", kernel, blocks_of(device, layout),
                  BACKWARD_THREADS, room->bytes, row_map_make(layout), *arrays, *rows, *room);
}

template <bool NORM>
static void launch_by_group(struct device *device, const struct pack_layout *layout, const struct norm_arrays *arrays,
                            const struct a_rows *rows, const struct backward_room *room) {
    switch (rows->columns / rows->rank * 100 + rows->rank) {
    case 108:
        launch<1, 8, NORM>(device, layout, arrays, rows, room);
        break;
    case 208:
        launch<2, 8, NORM>(device, layout, arrays, rows, room);
        break;
    case 308:
        launch<3, 8, NORM>(device, layout, arrays, rows, room);
        break;
    case 116:
        launch<1, 16, NORM>(device, layout, arrays, rows, room);
        break;
    case 216:
        launch<2, 16, NORM>(device, layout, arrays, rows, room);
        break;
    default:
        launch<3, 16, NORM>(device, layout, arrays, rows, room);
        break;
    }
}

/* dx += gradient through x·Aᵀ (and the norm before it when there is a gain), and grad A. False: no kernel fits. */
static bool fused_run(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                      const struct lora_group *group, struct norm_arrays arrays) {
    struct a_rows rows = a_rows_make(group);
    if (group->n == 0 || !norm_lora_fits(arrays.cols, rows.columns) || !lora_is_fused(device, adapters, group))
        return false;
    struct backward_room room = room_make(device, arrays.cols, rows.columns, arrays.gain != nullptr);
    if (room.bytes == 0) return false;
    arrays.mask = dropout_mask_take(device, layout, adapters, group, arrays.cols);
    if (arrays.mask.failed) return true;
    struct lora_segments segments = lora_segments_a(group);
    arrays.params = adapters->params, arrays.stride = adapters->stride;
    arrays.partial = lora_partial_take(device, layout, &segments, "lora_a_backward");
    if (arrays.partial == nullptr) return true;
    if (arrays.gain != nullptr)
        launch_by_group<true>(device, layout, &arrays, &rows, &room);
    else
        launch_by_group<false>(device, layout, &arrays, &rows, &room);
    int32_t blocks = room.joins ? blocks_of(device, layout) : layout->n_slots * lora_partials(layout);
    lora_reduce_pairs(device, layout, adapters, &segments, arrays.partial, blocks);
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
