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

/* The block's rows of dqkv as they are on their way into the tile [ROWS][ld], zeros beyond the slot, and their xa. */
__device__ __forceinline__ void rows_request(const struct attention_shape &shape,
                                             const struct finish_backward_arrays &arrays, int64_t row, int32_t valid,
                                             int32_t columns, bf16 *tile, int32_t ld, float *xa) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, at = static_cast<int32_t>(threadIdx.x) * 4;
    if (at < ROWS * columns)
        copy_async(shared_address(xa + at), arrays.xa + row * columns + (at < valid * columns ? at : 0),
                   at < valid * columns);
#pragma unroll 1 /* code that runs once a warp is fetched slower than it runs */
    for (int32_t r = static_cast<int32_t>(threadIdx.x) / 32; r < ROWS; r += FINISH_WARPS) {
        const bf16 *source = arrays.dqkv + (r < valid ? (row + r) * arrays.width : 0);
        int32_t end = arrays.fold.dqkv != nullptr ? shape.n_heads * shape.head_size : arrays.width;
#pragma unroll 1
        for (int32_t col = lane * 8; col < end; col += 256)
            copy_async(shared_address(tile + r * ld + col), source + col, r < valid);
    }
}

/* A thread's part of the rows' angles: four of one row. */
struct angle_part {
    int32_t row, in, position;
};
__device__ __forceinline__ struct angle_part angle_part_make(const struct rope_tables &rope, int32_t half, int64_t row,
                                                             int32_t valid) {
    struct angle_part part = {static_cast<int32_t>(threadIdx.x) / (half / 4),
                              static_cast<int32_t>(threadIdx.x) % (half / 4) * 4, -1};
    if (part.row < valid) part.position = rope.position[row + part.row];
    return part;
}
/* Cosines and sines on their way, [ROWS][half] each. */
__device__ __forceinline__ void angles_request(const struct rope_tables &rope, int32_t half,
                                               const struct angle_part &part, float *cosine, float *sine) {
    if (part.position < 0) return;
    int64_t place = static_cast<int64_t>(part.position) * half + part.in;
    copy_async(shared_address(cosine + part.row * half + part.in), rope.cosine + place, true);
    copy_async(shared_address(sine + part.row * half + part.in), rope.sine + place, true);
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
    for (int32_t piece = static_cast<int32_t>(threadIdx.x) % 32; piece < per_row; piece += 32) {
        /* The lanes of every other head take the halves the other way round, and the angle with it: other banks. */
        int32_t in_head = piece % pieces * 8, head = piece / pieces, turned = head % 2 * half;
        int32_t first = head * shape.head_size + in_head + turned, second = half - 2 * turned;
        float sign = turned != 0 ? -1.0f : 1.0f;
        bf16 *target = arrays.dqkv + row * arrays.width + first;
#pragma unroll 1
        for (int32_t r = static_cast<int32_t>(threadIdx.x) / 32; r < valid; r += FINISH_WARPS) {
            bf16 *place = tile + r * ld + first;
            float a[8], b[8], c[8], s[8];
            load8(place, a);
            load8(place + second, b);
            load8(cosine + r * half + in_head, c);
            load8(sine + r * half + in_head, s);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float sine_here = sign * s[i], x = a[i] * c[i] + b[i] * sine_here;
                b[i] = b[i] * c[i] - a[i] * sine_here;
                a[i] = x;
            }
            store8(place, a);
            store8(place + second, b);
            store8(target + r * arrays.width, a);
            store8(target + r * arrays.width + second, b);
        }
    }
}

/* B as the operand of t = dy·B: 16 columns of dy from `first` as k, NR·8 ranks as n. */
template <int NR> __device__ __forceinline__ void b_load(const float *b, int32_t first, float out[NR][4]) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32, g = lane / 4, pair = lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < NR; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int32_t row = first + pair + i % 2 + i / 2 * 8;
            out[j][i] = b[row * NR * 8 + j * 8 + g];
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
template <int NR> __device__ __forceinline__ xa_operand<NR> xa_make(const float *xa, int32_t columns) {
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
                v[i] = xa[row * columns + j * 8 + g];
            }
            split_bf16(v[0], v[1], &out.main[step][j][0], &out.rest[step][j][0]);
            split_bf16(v[2], v[3], &out.main[step][j][1], &out.rest[step][j][1]);
        }
    }
    return out;
}

/* The partial sum of B's gradient in 16 columns of dy: scale · dyᵀ·xa; `partial` is that of their rows of B. */
template <int NR>
__device__ __forceinline__ void grad_b_store(const xa_operand<NR> &xa, float scale, const bf16 *columns, int32_t ld,
                                             float *partial) {
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
        for (int h = 0; h < 2; h++)
            *reinterpret_cast<float2 *>(partial + (g + h * 8) * NR * 8 + j * 8 + pair) =
                make_float2(scale * sum[j][2 * h], scale * sum[j][2 * h + 1]);
    }
}

/* One pair: the partial sum of its gradient, and the warp's share of its t into room [ROWS][COLUMNS]; B comes from
 * where it lies, a step ahead. The loop stays a loop: code that runs once a warp is fetched slower than it runs. */
template <int NR>
__device__ __forceinline__ void site_backward(const struct lora_site &site, const float *matrix, float scale,
                                              const float *xa, int32_t columns, const bf16 *tile, int32_t ld,
                                              float *partial, float *room) {
    int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
    xa_operand<NR> operand = xa_make<NR>(xa, columns);
    float sum[ROWS / 16][NR][4] = {}, b[NR][4], next[NR][4];
    int32_t first = static_cast<int32_t>(threadIdx.x) / 32 * 16;
    b_load<NR>(matrix, min(first, site.n_out - 16), b);
#pragma unroll 1
    for (; first < site.n_out; first += FINISH_WARPS * 16) {
        b_load<NR>(matrix, min(first + FINISH_WARPS * 16, site.n_out - 16), next);
        grad_b_store<NR>(operand, scale, tile + site.column + first, ld, partial + first * NR * 8);
        tile_times_b<NR>(tile, ld, site.column + first, b, sum);
#pragma unroll
        for (int j = 0; j < NR; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                b[j][i] = next[j][i];
        }
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
__device__ __forceinline__ void t_store(int32_t columns, int32_t valid, float scale, const float *room, float *t) {
    constexpr int COLUMNS = LVS_MAX_SITES * NR * 8;
#pragma unroll 1
    for (int32_t at = static_cast<int32_t>(threadIdx.x); at < valid * columns; at += FINISH_WARPS * 32) {
        int32_t r = at / columns, c = at % columns;
        float total = 0;
#pragma unroll
        for (int w = 0; w < FINISH_WARPS; w++)
            total += room[(w * ROWS + r) * COLUMNS + c];
        t[at] = scale * total;
    }
}

/* Grid: (partials a slot, slots). The rank is NR·8. */
template <int NR>
__global__ void __launch_bounds__(FINISH_WARPS * 32, NR == 1 ? 3 : 2)
    qkv_finish_backward_kernel(struct row_map map, struct attention_shape shape, struct lora_group group,
                               struct rope_tables rope, struct finish_backward_arrays arrays) {
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ __align__(16) float xa[ROWS * LVS_MAX_SITES * NR * 8];
    constexpr int COLUMNS = LVS_MAX_SITES * NR * 8;
    __shared__ struct lora_site sites[LVS_MAX_SITES];
    bf16 *tile = reinterpret_cast<bf16 *>(shared);
    int32_t ld = arrays.width + 8, half = shape.head_size / 2, columns = group.n * NR * 8;
    float *room = reinterpret_cast<float *>(tile + ROWS * ld);
    int32_t first = static_cast<int32_t>(blockIdx.x) * ROWS, valid = min(ROWS, map.slot_rows - first);
    int32_t adapter = map.adapter[blockIdx.y];
    int64_t row = static_cast<int64_t>(blockIdx.y) * map.slot_rows + first;
    const float *params = arrays.params + adapter * arrays.stride;
    float scale = arrays.scale[adapter];
    struct angle_part part = angle_part_make(rope, half, row, valid);
    if (threadIdx.x == 0) {
#pragma unroll
        for (int s = 0; s < LVS_MAX_SITES; s++)
            sites[s] = group.site[s];
    }
    float *cosine = room + FINISH_WARPS * ROWS * COLUMNS, *sine = cosine + ROWS * half;
    rows_request(shape, arrays, row, valid, columns, tile, ld, xa);
    angles_request(rope, half, part, cosine, sine);
    copy_async_commit();
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
        site_backward<NR>(sites[s], params + sites[s].b_offset, scale, xa + s * NR * 8, columns, tile, ld, partial,
                          own_room + s * NR * 8);
        partial += sites[s].n_out * NR * 8;
    }
    __syncthreads();
    t_store<NR>(columns, valid, scale, room, arrays.t + row * columns);
}

/* Bytes of the block's rows, of the warps' shares of t and of the angles. */
static size_t finish_shared(const struct attention_shape *shape, const struct lora_group *group) {
    size_t tile = static_cast<size_t>(ROWS) * static_cast<size_t>(attention_qkv_width(shape) + 8) * sizeof(bf16);
    size_t rank_tiles = group->site[0].rank <= 8 ? 1 : 2;
    size_t room = static_cast<size_t>(FINISH_WARPS) * ROWS * LVS_MAX_SITES * rank_tiles * 8 * sizeof(float);
    size_t angles = static_cast<size_t>(ROWS) * static_cast<size_t>(shape->head_size);
    return tile + room + angles * sizeof(float);
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
    return group->n > 0 && shape->head_size % 16 == 0 && shape->head_size <= 128 && /* an angle_part a thread */
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
