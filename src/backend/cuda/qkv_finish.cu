/* The fused projection's end in one pass, bf16: bias, the B side of LoRA, and rotary positions, in place. A thread owns
 * two columns of a head's first half and their partners in the second half, with their rows of B in registers, and goes
 * over the rows of its block. Other shapes are composed from the plain kernels. */
#include "lora.cuh"

#define FINISH_THREADS 512 /* at most; … */
#define USUAL_THREADS  288 /* … and for 1152 columns, with more blocks a multiprocessor */
#define LONG_BATCHES   4   /* batches a block from which on they have more rows */

struct finish_arrays {
    const float *params, *scale, *xa, *bias;
    int64_t stride;
    bf16 *qkv;
    int32_t width;
};

/* A column's row of B, times the adapter's scale. */
template <int RANK> __device__ __forceinline__ void b_load(const float *b, float scale, float out[RANK]) {
#pragma unroll
    for (int r = 0; r < RANK; r += 2) {
        float2 two = *reinterpret_cast<const float2 *>(b + r);
        out[r] = scale * two.x, out[r + 1] = scale * two.y;
    }
}
template <int RANK> __device__ __forceinline__ float b_times(const float b[RANK], const float xa[RANK]) {
    float sum = 0;
#pragma unroll
    for (int r = 0; r < RANK; r++)
        sum += b[r] * xa[r];
    return sum;
}

/* Where B's row of column `col` begins in an adapter; by comparison, so that the group stays in parameter memory. */
__device__ __forceinline__ int64_t site_b(const struct lora_group &group, int32_t site, int32_t col, int32_t rank) {
    int64_t place = 0;
#pragma unroll
    for (int32_t s = 0; s < LVS_MAX_SITES; s++)
        if (s == site) place = group.site[s].b_offset + static_cast<int64_t>(col - group.site[s].column) * rank;
    return place;
}

/* Which pair's columns hold `col`; −1 for none. */
__device__ __forceinline__ int32_t site_of(const struct lora_group &group, int32_t col) {
    int32_t found = -1;
#pragma unroll
    for (int32_t s = 0; s < LVS_MAX_SITES; s++)
        if (s < group.n && col >= group.site[s].column && col < group.site[s].column + group.site[s].n_out) found = s;
    return found;
}

/* Rows taken at a time, and how many such batches are on their way or in hand. */
struct short_batch {
    static constexpr int32_t ROWS = 4, STAGES = 4;
};
struct long_batch {
    static constexpr int32_t ROWS = 8, STAGES = 3;
};

/* What of a batch is on its way in shared memory: its rows' columns, their xa, and their angles. */
struct finish_stage {
    bf16 *rows;                /* [batch][width] */
    float *xa, *cosine, *sine; /* [batch][columns], [batch][half] twice */
};
__host__ __device__ __forceinline__ int32_t stage_bytes(int32_t batch, int32_t width, int32_t columns, int32_t half) {
    return batch * (width * static_cast<int32_t>(sizeof(bf16)) + (columns + 2 * half) * 4);
}
__device__ __forceinline__ struct finish_stage stage_at(unsigned char *memory, int32_t batch, int32_t width,
                                                        int32_t columns, int32_t half) {
    struct finish_stage stage;
    stage.rows = reinterpret_cast<bf16 *>(memory);
    stage.xa = reinterpret_cast<float *>(stage.rows + batch * width);
    stage.cosine = stage.xa + batch * columns;
    stage.sine = stage.cosine + batch * half;
    return stage;
}

/* `count` bytes, a multiple of 16, by the whole block. */
__device__ __forceinline__ void bytes_request(void *target, const void *source, int32_t count) {
#pragma unroll 1
    for (int32_t at = static_cast<int32_t>(threadIdx.x) * 16; at < count; at += static_cast<int32_t>(blockDim.x) * 16)
        copy_async(shared_address(target) + static_cast<uint32_t>(at), static_cast<const char *>(source) + at, true);
}

/* A thread's part of the angles: 16 bytes of one row, by the first threads of a block. */
struct angle_part {
    int32_t row, at; /* at: float of the row's cosines, then of its sines; a row beyond the batch: none */
};
__device__ __forceinline__ void angles_request(const struct finish_stage &stage, const struct rope_tables &rope,
                                               struct angle_part part, int32_t half, int32_t position) {
    bool sine = part.at >= half;
    int32_t in = sine ? part.at - half : part.at;
    const float *source = (sine ? rope.sine : rope.cosine) + static_cast<int64_t>(position) * half + in;
    copy_async(shared_address((sine ? stage.sine : stage.cosine) + part.row * half + in), source, true);
}

/* Two neighbours of a head's first half and their partners: bias, B, the turn. */
template <int RANK>
__device__ __forceinline__ void row_finish(const float *xa, const float b[4][RANK], bool adapted, float2 x, float2 y,
                                           float2 cosine, float2 sine, bf16 *low, bf16 *high) {
    if (adapted) {
        float values[RANK];
#pragma unroll
        for (int r = 0; r < RANK; r += 4) {
            float4 four = *reinterpret_cast<const float4 *>(xa + r);
            values[r] = four.x, values[r + 1] = four.y, values[r + 2] = four.z, values[r + 3] = four.w;
        }
        x.x += b_times<RANK>(b[0], values), x.y += b_times<RANK>(b[1], values);
        y.x += b_times<RANK>(b[2], values), y.y += b_times<RANK>(b[3], values);
    }
    *reinterpret_cast<uint32_t *>(low) = pack_bf16(x.x * cosine.x - y.x * sine.x, x.y * cosine.y - y.y * sine.y);
    *reinterpret_cast<uint32_t *>(high) = pack_bf16(y.x * cosine.x + x.x * sine.x, y.y * cosine.y + x.y * sine.y);
}

/* A block takes batches of rows one after another, while the next STAGES − 1 are on their way, and keeps its part of B
 * while they are of one slot; a slot's rows are whole batches. */
template <int RANK, int THREADS, int BLOCKS, typename BATCH>
__global__ void __launch_bounds__(THREADS, BLOCKS)
    qkv_finish_kernel(struct row_map map, struct attention_shape shape, struct lora_group group,
                      struct rope_tables rope, struct finish_arrays arrays) {
    extern __shared__ __align__(16) unsigned char stages[];
    constexpr int32_t ROWS = BATCH::ROWS, STAGES = BATCH::STAGES;
    int32_t half = shape.head_size / 2, thread = static_cast<int32_t>(threadIdx.x), width = arrays.width;
    int32_t head = thread * 2 / half, in_head = thread * 2 % half, columns = group.n * RANK;
    int32_t first = head * shape.head_size + in_head, s = site_of(group, first);
    int32_t n_batches = map.n_rows / ROWS, bytes = stage_bytes(ROWS, width, columns, half);
    int64_t block = blockIdx.x, blocks = gridDim.x;
    int32_t begin = static_cast<int32_t>(block * n_batches / blocks);
    int32_t end = static_cast<int32_t>((block + 1) * n_batches / blocks);
    int32_t slot = begin * ROWS / map.slot_rows, left = map.slot_rows - begin * ROWS % map.slot_rows;
    bool exists = thread < width / 4, turned = head < shape.n_heads + shape.n_kv_heads, fresh = true;
    struct angle_part part = {thread / (half / 2), thread % (half / 2) * 4};
    bool turns = part.row < ROWS;
    /* The batch that is asked for next: where it lies, where it goes, and the position of the thread's row in it. */
    int32_t next = begin, next_stage = 0, position = 0;
    const bf16 *next_rows = arrays.qkv + static_cast<int64_t>(begin) * ROWS * width;
    const float *next_xa = arrays.xa + static_cast<int64_t>(begin) * ROWS * columns;
    const int32_t *positions = rope.position + begin * ROWS + part.row;
    auto position_read = [&] {
        if (next < end && turns) position = *positions;
        positions += ROWS;
    };
    auto request = [&] {
        if (next < end) {
            struct finish_stage stage = stage_at(stages + next_stage * bytes, ROWS, width, columns, half);
            bytes_request(stage.rows, next_rows, ROWS * width * 2);
            bytes_request(stage.xa, next_xa, ROWS * columns * 4);
            if (turns) angles_request(stage, rope, part, half, position);
        }
        copy_async_commit();
        next++, next_rows += ROWS * width, next_xa += ROWS * columns;
        next_stage = next_stage == STAGES - 1 ? 0 : next_stage + 1;
        position_read();
    };
    position_read();
#pragma unroll 1
    for (int32_t i = 0; i < STAGES - 1; i++)
        request();
    float b[4][RANK] = {};
    float2 bias_low = make_float2(0, 0), bias_high = bias_low;
    if (exists && arrays.bias != nullptr) {
        bias_low = make_float2(arrays.bias[first], arrays.bias[first + 1]);
        bias_high = make_float2(arrays.bias[first + half], arrays.bias[first + half + 1]);
    }
    bf16 *target = arrays.qkv + static_cast<int64_t>(begin) * ROWS * width + first;
    int32_t in_hand = 0;
#pragma unroll 1
    for (int32_t batch = begin; batch < end; batch++) {
        if (left == 0) slot++, left = map.slot_rows, fresh = true;
        left -= ROWS;
        if (exists && s >= 0 && fresh) {
            int32_t adapter = map.adapter[slot];
            float scale = arrays.scale[adapter];
            const float *source = arrays.params + adapter * arrays.stride + site_b(group, s, first, RANK);
            b_load<RANK>(source, scale, b[0]);
            b_load<RANK>(source + RANK, scale, b[1]);
            b_load<RANK>(source + static_cast<int64_t>(half) * RANK, scale, b[2]);
            b_load<RANK>(source + static_cast<int64_t>(half + 1) * RANK, scale, b[3]);
        }
        fresh = false;
        copy_async_wait<STAGES - 2>();
        __syncthreads(); /* everyone's copies have come, and everyone is done with the stage that is filled next */
        request();
        if (!exists) continue;
        struct finish_stage stage = stage_at(stages + in_hand * bytes, ROWS, width, columns, half);
        in_hand = in_hand == STAGES - 1 ? 0 : in_hand + 1;
        const bf16 *source = stage.rows + first;
        const float *xa = stage.xa + (s >= 0 ? s : 0) * RANK, *angle = stage.cosine + in_head;
#pragma unroll 1
        for (int i = 0; i < ROWS; i++) {
            float2 x = unpack_bf16(*reinterpret_cast<const uint32_t *>(source));
            float2 y = unpack_bf16(*reinterpret_cast<const uint32_t *>(source + half));
            x.x += bias_low.x, x.y += bias_low.y, y.x += bias_high.x, y.y += bias_high.y;
            float2 cosine = make_float2(1, 1), sine = make_float2(0, 0);
            if (turned) cosine = *reinterpret_cast<const float2 *>(angle);
            if (turned) sine = *reinterpret_cast<const float2 *>(angle + ROWS * half);
            row_finish<RANK>(xa, b, s >= 0, x, y, cosine, sine, target, target + half);
            source += width, xa += columns, angle += half, target += width;
        }
    }
}

/* Every pair covers whole heads, so that a thread's columns belong to one pair. */
static bool sites_fit(const struct attention_shape *shape, const struct lora_group *group) {
    for (int32_t s = 0; s < group->n; s++)
        if (group->site[s].column % shape->head_size != 0 || group->site[s].n_out % shape->head_size != 0) return false;
    return true;
}

template <int RANK, int THREADS, int BLOCKS, typename BATCH>
static void launch_batches(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                           const struct lora_group *group, const struct rope_tables *rope,
                           const struct finish_arrays *arrays) {
    int32_t threads = (arrays->width / 4 + 31) / 32 * 32, columns = group->n * RANK;
    int32_t batches = layout->n_rows / BATCH::ROWS, most = BLOCKS * device->multiprocessors;
    int32_t shared = BATCH::STAGES * stage_bytes(BATCH::ROWS, arrays->width, columns, shape->head_size / 2);
    kernel_launch(device, "qkv_finish", qkv_finish_kernel<RANK, THREADS, BLOCKS, BATCH>,
                  batches < most ? batches : most, threads, static_cast<size_t>(shared), row_map_make(layout), *shape,
                  *group, *rope, *arrays);
}

/* Long batches where there are many rows, where a thread's part of the angles is enough, and where as many blocks share
 * a multiprocessor. */
template <int RANK, int THREADS, int BLOCKS>
static void launch(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                   const struct lora_group *group, const struct rope_tables *rope, const struct finish_arrays *arrays) {
    constexpr int32_t ROWS = long_batch::ROWS, RESERVED = 1024; /* of shared memory, by each block */
    int32_t bytes = long_batch::STAGES * stage_bytes(ROWS, arrays->width, group->n * RANK, shape->head_size / 2);
    bool many = layout->n_rows / ROWS >= LONG_BATCHES * BLOCKS * device->multiprocessors;
    bool fits = BLOCKS * (bytes + RESERVED) <= static_cast<int32_t>(device->shared_limit) + RESERVED;
    if (many && fits && layout->slot_rows % ROWS == 0 && arrays->width / 4 >= ROWS * shape->head_size / 4)
        launch_batches<RANK, THREADS, BLOCKS, struct long_batch>(device, layout, shape, group, rope, arrays);
    else
        launch_batches<RANK, THREADS, BLOCKS, struct short_batch>(device, layout, shape, group, rope, arrays);
}

void cuda_qkv_finish(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                     const struct adapters *adapters, const struct lora_group *group, const float *xa,
                     const float *bias, const struct rope_tables *rope, void *qkv) {
    device_select(device);
    int32_t width = attention_qkv_width(shape);
    bool fused = shape->head_size % 8 == 0 && width / 4 <= FINISH_THREADS && width / 4 >= shape->head_size &&
                 sites_fit(shape, group) && device->precision == PRECISION_KIND_BF16 &&
                 (group->n == 0 || lora_is_fused(device, adapters, group));
    if (!fused) {
        cuda_lora_b_forward(device, layout, adapters, group, xa, width, qkv);
        cuda_qkv_bias_rope(device, layout, shape, bias, rope, qkv);
        return;
    }
    struct finish_arrays arrays = {};
    if (group->n > 0)
        arrays.params = adapters->params, arrays.scale = adapters->scale, arrays.stride = adapters->stride;
    arrays.xa = xa, arrays.bias = bias, arrays.qkv = static_cast<bf16 *>(qkv), arrays.width = width;
    bool usual = width / 4 <= USUAL_THREADS, narrow = group->n == 0 || group->site[0].rank == 8;
    if (narrow && usual)
        launch<8, USUAL_THREADS, 3>(device, layout, shape, group, rope, &arrays);
    else if (narrow)
        launch<8, FINISH_THREADS, 1>(device, layout, shape, group, rope, &arrays);
    else if (usual)
        launch<16, USUAL_THREADS, 2>(device, layout, shape, group, rope, &arrays);
    else
        launch<16, FINISH_THREADS, 1>(device, layout, shape, group, rope, &arrays);
}
