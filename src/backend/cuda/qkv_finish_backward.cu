/* The fused projection's end backwards in one pass, bf16 on tensor cores: the turn of dq and dk undone in place, t =
 * scale · dy·B, and partial sums of B's gradient. B and xa are float and enter the tensor cores as two bf16 each. A
 * block takes the LORA_PARTIAL_ROWS rows of one partial sum at once. Other shapes are composed from the plain kernels.
 */
#include "attention.cuh"
#include "lora.cuh"

#define FINISH_WARPS 8
#define ROWS         LORA_PARTIAL_ROWS

struct finish_backward_arrays {
    const float *params, *scale, *xa;
    int64_t stride, partial_total;
    float *t, *partial;
    bf16 *dqkv;
    int32_t width;
    struct pending_fold fold; /* dqkv NULL: k and v are in dqkv already */
};

/* The block's rows of dqkv as they are into the tile [ROWS][ld], zeros beyond the slot; and their cosines and sines,
 * [ROWS][head_size/2] each. */
__device__ __forceinline__ void rows_load(const struct attention_shape &shape, const struct rope_tables &rope,
                                          const struct finish_backward_arrays &arrays, int64_t row, int32_t valid,
                                          bf16 *tile, int32_t ld, float *cosine, float *sine) {
    int32_t half = shape.head_size / 2, angles = half / 4, lane = static_cast<int32_t>(threadIdx.x) % 32;
#pragma unroll 1 /* code that runs once a warp is fetched slower than it runs */
    for (int32_t r = static_cast<int32_t>(threadIdx.x) / 32; r < ROWS; r += FINISH_WARPS) {
        const bf16 *source = arrays.dqkv + (r < valid ? (row + r) * arrays.width : 0);
        int32_t end = arrays.fold.dqkv != nullptr ? shape.n_heads * shape.head_size : arrays.width;
#pragma unroll 1
        for (int32_t col = lane * 8; col < end; col += 256)
            copy_async(shared_address(tile + r * ld + col), source + col, r < valid);
    }
#pragma unroll 1
    for (int32_t at = static_cast<int32_t>(threadIdx.x); at < valid * angles; at += FINISH_WARPS * 32) {
        int32_t r = at / angles, i = at % angles * 4;
        int64_t place = static_cast<int64_t>(rope.position[row + r]) * half + i;
        copy_async(shared_address(cosine + r * half + i), rope.cosine + place, true);
        copy_async(shared_address(sine + r * half + i), rope.sine + place, true);
    }
    copy_async_commit();
}

/* The columns of k and v from what attention left of every query head; v's are final. */
__device__ __forceinline__ void rows_fold(const struct attention_shape &shape,
                                          const struct finish_backward_arrays &arrays, int64_t row, int32_t valid,
                                          bf16 *tile, int32_t ld) {
    int32_t kv_width = shape.n_kv_heads * shape.head_size, q_width = shape.n_heads * shape.head_size;
    int32_t group = shape.n_heads / shape.n_kv_heads;
#pragma unroll 1
    for (int32_t r = static_cast<int32_t>(threadIdx.x) / 32; r < ROWS; r += FINISH_WARPS) {
#pragma unroll 1
        for (int32_t col = static_cast<int32_t>(threadIdx.x) % 32 * 8; col < 2 * kv_width; col += 256) {
            float sum[8] = {};
            if (r < valid) fold_sum(arrays.fold, row + r, group, col, sum);
            store8(tile + r * ld + q_width + col, sum);
            if (r < valid && col >= kv_width) store8(arrays.dqkv + (row + r) * arrays.width + q_width + col, sum);
        }
    }
}

/* dq and dk turned back, in the tile and in memory. */
__device__ __forceinline__ void rows_turn(const struct attention_shape &shape,
                                          const struct finish_backward_arrays &arrays, int64_t row, int32_t valid,
                                          bf16 *tile, int32_t ld, const float *cosine, const float *sine) {
    int32_t half = shape.head_size / 2, pieces = half / 8, per_row = (shape.n_heads + shape.n_kv_heads) * pieces;
#pragma unroll 1
    for (int32_t at = static_cast<int32_t>(threadIdx.x); at < valid * per_row; at += FINISH_WARPS * 32) {
        int32_t r = at / per_row, piece = at % per_row, in_head = piece % pieces * 8;
        int32_t first = piece / pieces * shape.head_size + in_head;
        bf16 *low = tile + r * ld + first, *high = low + half;
        float a[8], b[8], c[8], s[8];
        load8(low, a);
        load8(high, b);
        load8(cosine + r * half + in_head, c);
        load8(sine + r * half + in_head, s);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float x = a[i] * c[i] + b[i] * s[i];
            b[i] = b[i] * c[i] - a[i] * s[i];
            a[i] = x;
        }
        bf16 *target = arrays.dqkv + (row + r) * arrays.width + first;
        store8(low, a);
        store8(high, b);
        store8(target, a);
        store8(target + half, b);
    }
}

/* All pairs' B one after another into shared memory. */
__device__ __forceinline__ void b_stage(const struct lora_group &group, const float *params, float *target) {
#pragma unroll
    for (int s = 0; s < LVS_MAX_SITES; s++) {
        if (s >= group.n) continue;
        int32_t count = group.site[s].n_out * group.site[s].rank;
        const float *source = params + group.site[s].b_offset;
#pragma unroll 1
        for (int32_t at = static_cast<int32_t>(threadIdx.x) * 4; at < count; at += FINISH_WARPS * 128)
            copy_async(shared_address(target + at), source + at, true);
        target += count;
    }
    copy_async_commit();
}

/* B as the operand of t = dy·B: 16 columns of dy from `first` as k, NR·8 ranks as n. */
template <int NR>
__device__ __forceinline__ void b_load(const float *b, int32_t rank, int32_t first, float out[NR][4]) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, g = lane / 4, pair = lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < NR; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int32_t row = first + pair + i % 2 + i / 2 * 8, r = j * 8 + g;
            out[j][i] = r < rank ? b[row * rank + r] : 0.0f;
        }
    }
}

/* sum[m] (16 rows of the m-th half × NR·8 ranks) += 16 columns of the tile times B. */
template <int NR>
__device__ __forceinline__ void tile_times_b(const bf16 *tile, int32_t ld, int32_t column, const float b[NR][4],
                                             float sum[ROWS / 16][NR][4]) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
#pragma unroll
    for (int m = 0; m < ROWS / 16; m++) {
        uint32_t a[4];
        matrix_load(a, shared_address(tile + (m * 16 + lane % 16) * ld + column + lane / 16 * 8));
#pragma unroll
        for (int j = 0; j < NR; j++) {
            uint32_t main0, main1, rest0, rest1;
            split_bf16(b[j][0], b[j][1], &main0, &rest0);
            split_bf16(b[j][2], b[j][3], &main1, &rest1);
            mma_step(sum[m][j], a, main0, main1);
            mma_step(sum[m][j], a, rest0, rest1);
        }
    }
}

/* xa of one pair as the operand of dyᵀ·xa, for the rows of the block; xa [ROWS][columns] in shared memory. */
template <int NR> struct xa_operand { uint32_t main[ROWS / 16][NR][2], rest[ROWS / 16][NR][2]; };
template <int NR> __device__ __forceinline__ xa_operand<NR> xa_make(const float *xa, int32_t columns, int32_t rank) {
    xa_operand<NR> out;
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, g = lane / 4, pair = lane % 4 * 2;
#pragma unroll
    for (int step = 0; step < ROWS / 16; step++) {
#pragma unroll
        for (int j = 0; j < NR; j++) {
            float v[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int32_t row = step * 16 + pair + i % 2 + i / 2 * 8;
                v[i] = j * 8 + g < rank ? xa[row * columns + j * 8 + g] : 0.0f;
            }
            split_bf16(v[0], v[1], &out.main[step][j][0], &out.rest[step][j][0]);
            split_bf16(v[2], v[3], &out.main[step][j][1], &out.rest[step][j][1]);
        }
    }
    return out;
}

/* The partial sum of B's gradient in 16 columns of dy: scale · dyᵀ·xa; `partial` is that of their rows of B. */
template <int NR>
__device__ __forceinline__ void grad_b_store(const xa_operand<NR> &xa, int32_t rank, float scale, const bf16 *columns,
                                             int32_t ld, float *partial) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, g = lane / 4, pair = lane % 4 * 2;
    float sum[NR][4] = {};
#pragma unroll
    for (int step = 0; step < ROWS / 16; step++) {
        uint32_t a[4];
        int32_t row = step * 16 + lane % 8 + lane / 16 * 8;
        matrix_load_transposed(a, shared_address(columns + row * ld + lane / 8 % 2 * 8));
#pragma unroll
        for (int j = 0; j < NR; j++) {
            mma_step(sum[j], a, xa.main[step][j][0], xa.main[step][j][1]);
            mma_step(sum[j], a, xa.rest[step][j][0], xa.rest[step][j][1]);
        }
    }
#pragma unroll
    for (int j = 0; j < NR; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int32_t r = j * 8 + pair + i % 2, c = g + i / 2 * 8;
            if (r < rank) partial[c * rank + r] = scale * sum[j][i];
        }
    }
}

/* One pair: the partial sum of its gradient, and the warp's share of its t into room [ROWS][COLUMNS]. The loop stays a
 * loop: code that runs once a warp is fetched slower than it runs. */
template <int NR>
__device__ __forceinline__ void site_backward(const struct lora_site &site, const float *matrix, float scale,
                                              const float *xa, int32_t columns, const bf16 *tile, int32_t ld,
                                              float *partial, float *room) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, rank = site.rank;
    xa_operand<NR> operand = xa_make<NR>(xa, columns, rank);
    float sum[ROWS / 16][NR][4] = {}, b[NR][4];
    int32_t first = static_cast<int32_t>(threadIdx.x) / 32 * 16;
#pragma unroll 1
    for (; first < site.n_out; first += FINISH_WARPS * 16) {
        b_load<NR>(matrix, rank, first, b);
        grad_b_store<NR>(operand, rank, scale, tile + site.column + first, ld, partial + first * rank);
        tile_times_b<NR>(tile, ld, site.column + first, b, sum);
    }
#pragma unroll
    for (int m = 0; m < ROWS / 16; m++)
#pragma unroll
        for (int j = 0; j < NR; j++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                room[(m * 16 + lane / 4 + i / 2 * 8) * (LVS_MAX_SITES * NR * 8) + j * 8 + lane % 4 * 2 + i % 2] =
                    sum[m][j][i];
}

/* Warps' shares of t [FINISH_WARPS][ROWS][3·NR·8], added in order and scaled. */
template <int NR>
__device__ __forceinline__ void t_store(int32_t rank, int32_t columns, int32_t valid, float scale, const float *room,
                                        float *t) {
    constexpr int COLUMNS = LVS_MAX_SITES * NR * 8;
#pragma unroll 1
    for (int32_t at = static_cast<int32_t>(threadIdx.x); at < valid * columns; at += FINISH_WARPS * 32) {
        int32_t r = at / columns, c = at % columns;
        float total = 0;
#pragma unroll
        for (int w = 0; w < FINISH_WARPS; w++)
            total += room[(w * ROWS + r) * COLUMNS + c / rank * NR * 8 + c % rank];
        t[at] = scale * total;
    }
}

/* Grid: (partials a slot, slots). NR: tiles of 8 ranks. */
template <int NR>
__global__ void __launch_bounds__(FINISH_WARPS * 32, 2)
    qkv_finish_backward_kernel(struct row_map map, struct attention_shape shape, struct lora_group group,
                               struct rope_tables rope, struct finish_backward_arrays arrays) {
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ float xa[ROWS * LVS_MAX_SITES * NR * 8];
    constexpr int COLUMNS = LVS_MAX_SITES * NR * 8;
    __shared__ struct lora_site sites[LVS_MAX_SITES];
    bf16 *tile = reinterpret_cast<bf16 *>(shared);
    int32_t ld = arrays.width + 8, rank = group.site[0].rank, columns = group.n * rank;
    float *room = reinterpret_cast<float *>(tile + ROWS * ld);
    int32_t first = static_cast<int32_t>(blockIdx.x) * ROWS, valid = min(ROWS, map.slot_rows - first);
    int32_t adapter = map.adapter[blockIdx.y];
    int64_t row = static_cast<int64_t>(blockIdx.y) * map.slot_rows + first;
    const float *params = arrays.params + adapter * arrays.stride;
    float scale = arrays.scale[adapter];
    if (threadIdx.x == 0) {
#pragma unroll
        for (int s = 0; s < LVS_MAX_SITES; s++)
            sites[s] = group.site[s];
    }
#pragma unroll 1
    for (int32_t at = static_cast<int32_t>(threadIdx.x); at < ROWS * columns; at += FINISH_WARPS * 32)
        xa[at] = at < valid * columns ? arrays.xa[row * columns + at] : 0.0f;
    float *matrix = room + FINISH_WARPS * ROWS * COLUMNS;
    float *cosine = matrix + arrays.partial_total, *sine = cosine + ROWS * shape.head_size / 2;
    b_stage(group, params, matrix);
    rows_load(shape, rope, arrays, row, valid, tile, ld, cosine, sine);
    if (arrays.fold.dqkv != nullptr) rows_fold(shape, arrays, row, valid, tile, ld);
    copy_async_wait<0>();
    __syncthreads();
    rows_turn(shape, arrays, row, valid, tile, ld, cosine, sine);
    __syncthreads();
    int64_t block = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    float *partial = arrays.partial + block * arrays.partial_total;
    float *own_room = room + static_cast<int32_t>(threadIdx.x) / 32 * ROWS * COLUMNS;
#pragma unroll 1
    for (int32_t s = 0; s < group.n; s++) {
        site_backward<NR>(sites[s], matrix, scale, xa + s * rank, columns, tile, ld, partial, own_room + s * NR * 8);
        partial += sites[s].n_out * rank;
        matrix += sites[s].n_out * rank;
    }
    __syncthreads();
    t_store<NR>(rank, columns, valid, scale, room, arrays.t + row * columns);
}

/* Bytes of the block's rows, of the warps' shares of t, of B and of the angles. */
static size_t finish_shared(const struct attention_shape *shape, const struct lora_group *group) {
    size_t tile = static_cast<size_t>(ROWS) * static_cast<size_t>(attention_qkv_width(shape) + 8) * sizeof(bf16);
    size_t rank_tiles = group->site[0].rank <= 8 ? 1 : 2;
    size_t room = static_cast<size_t>(FINISH_WARPS) * ROWS * LVS_MAX_SITES * rank_tiles * 8 * sizeof(float);
    size_t angles = static_cast<size_t>(ROWS) * static_cast<size_t>(shape->head_size);
    return tile + room + (static_cast<size_t>(lora_segments_b(group).total) + angles) * sizeof(float);
}

template <int NR>
static void launch(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                   const struct lora_group *group, const struct rope_tables *rope,
                   const struct finish_backward_arrays *arrays) {
    dim3 grid(static_cast<unsigned>(lora_partials(layout)), static_cast<unsigned>(layout->n_slots));
    kernel_launch(device, "qkv_finish_backward", qkv_finish_backward_kernel<NR>, grid, FINISH_WARPS * 32,
                  finish_shared(shape, group), row_map_make(layout), *shape, *group, *rope, *arrays);
}

static bool group_fits(const struct device *device, const struct attention_shape *shape,
                       const struct lora_group *group) {
    for (int32_t s = 0; s < group->n; s++) {
        if (group->site[s].n_out % 16 != 0 || group->site[s].column % 8 != 0) return false;
    }
    return group->n > 0 && shape->head_size % 16 == 0 &&
           finish_shared(shape, group) + 16384 <= static_cast<size_t>(device->shared_limit);
}

void cuda_qkv_finish_backward(struct device *device, const struct pack_layout *layout,
                              const struct attention_shape *shape, const struct adapters *adapters,
                              const struct lora_group *group, const float *xa, const struct rope_tables *rope,
                              void *dqkv, float *t) {
    struct pending_fold fold = attention_fold_take(device, dqkv);
    device_select(device);
    int32_t width = attention_qkv_width(shape);
    bool fused = group_fits(device, shape, group) && lora_is_fused(device, adapters, group);
    if (fold.dqkv != nullptr && !fused) {
        attention_fold(device, &fold);
        fold.dqkv = nullptr;
    }
    if (!fused) {
        cuda_qkv_rope_backward(device, layout, shape, rope, dqkv);
        cuda_lora_b_backward(device, layout, adapters, group, dqkv, width, xa, t);
        return;
    }
    struct lora_segments segments = lora_segments_b(group);
    struct finish_backward_arrays arrays = {};
    arrays.params = adapters->params, arrays.scale = adapters->scale, arrays.stride = adapters->stride;
    arrays.xa = xa, arrays.t = t, arrays.dqkv = static_cast<bf16 *>(dqkv), arrays.width = width;
    arrays.fold = fold;
    arrays.partial_total = segments.total;
    arrays.partial = lora_partial_take(device, layout, &segments, "qkv_finish_backward");
    if (arrays.partial == nullptr) return;
    if (group->site[0].rank <= 8)
        launch<1>(device, layout, shape, group, rope, &arrays);
    else
        launch<2>(device, layout, shape, group, rope, &arrays);
    lora_reduce(device, layout, adapters, &segments, arrays.partial);
}
