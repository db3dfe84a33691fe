/* Gradients of adapters from partial sums, added in a fixed order that does not know the pack (lora.cuh). The sums of
 * many groups wait for one launch: until the optimiser, or whatever else may look at gradients, asks for them. */
#include <cstdlib>

#include "lora.cuh"
#include "pieces.h"

#define REDUCE_FOURS  32 /* fours of elements a block */
#define REDUCE_GROUPS 8

struct lora_segments lora_segments_a(const struct lora_group *group) {
    struct lora_segments segments = {};
    for (int32_t s = 0; s < group->n; s++) {
        segments.from[s] = segments.total;
        segments.to[s] = group->site[s].a_offset;
        segments.count[s] = static_cast<int64_t>(group->site[s].rank) * group->site[s].n_in;
        segments.total += segments.count[s];
    }
    segments.n = group->n;
    return segments;
}

struct lora_segments lora_segments_b(const struct lora_group *group) {
    struct lora_segments segments = {};
    for (int32_t s = 0; s < group->n; s++) {
        segments.from[s] = segments.total;
        segments.to[s] = group->site[s].b_offset;
        segments.count[s] = static_cast<int64_t>(group->site[s].rank) * group->site[s].n_out;
        segments.total += segments.count[s];
    }
    segments.n = group->n;
    return segments;
}

/* ---- reductions put off ---- */

#define PENDING_MOST 48
#define POOL_BYTES   (static_cast<size_t>(1) << 30) /* partial sums of as many groups as fit wait together */

struct reduce_entry {
    const float *partial; /* [n_slots][n_partials][total] */
    int64_t to[LVS_MAX_SITES];
    int32_t count[LVS_MAX_SITES], total;
    uint32_t blocks; /* of lora_reduce_pairs; 0: partials one by one */
};
struct reduce_call {
    struct reduce_entry entry[PENDING_MOST];
    const int32_t *adapter;
    float *grads;
    int64_t stride;
    int32_t n_partials;
};
struct lora_pending {
    struct reduce_call call;
    int32_t n, n_slots, most; /* most: elements of the largest entry */
    size_t used, wanted;      /* bytes of the pool; bytes that all groups of a step would take */
};

struct lora_pending *lora_pending_create(void) {
    return static_cast<struct lora_pending *>(lvs_calloc(1, sizeof(struct lora_pending)));
}

void lora_pending_destroy(struct lora_pending *pending) {
    free(pending);
}

__device__ __forceinline__ float4 add4(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/* The sum of `left` partials from `source` on, `fours` apart; PAIRS: of pairs of them, the first one's `piece` counted
 * over the pack's n. What is not there counts as zeros, so that several are on their way at a time however many are
 * left. */
template <bool PAIRS>
__device__ __forceinline__ float4 stretch_sum(const float4 *source, int32_t fours, int32_t left, uint32_t piece,
                                              uint32_t n, uint32_t blocks) {
    float4 sum = make_float4(0, 0, 0, 0);
    uint32_t distance = PAIRS ? piece_distance(piece + 1, n, blocks) : 0; /* of the pair's second piece */
#pragma unroll 1
    for (; left > 0; left -= 4) {
        float4 part[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            bool stored = k < left;
            if (PAIRS && k % 2 == 0) {
                stored = stored && (k + 1 >= left || distance < blocks); /* else the second holds both */
                distance = piece_distance_next(piece_distance_next(distance, n, blocks), n, blocks);
            }
            part[k] = make_float4(0, 0, 0, 0);
            if (stored) part[k] = *source;
            source += fours;
        }
#pragma unroll
        for (int k = 0; k < 4; k += 2)
            sum = PAIRS ? add4(sum, add4(part[k], part[k + 1])) : add4(add4(sum, part[k]), part[k + 1]);
    }
    return sum;
}

/* Grid: (fours of elements, slots, entries). A block's groups of threads each add a stretch of the partials, then the
 * stretches are added in order. */
__global__ void __launch_bounds__(REDUCE_FOURS *REDUCE_GROUPS)
    lora_reduce_kernel(const __grid_constant__ struct reduce_call call) {
    __shared__ float4 room[REDUCE_GROUPS][REDUCE_FOURS];
    const struct reduce_entry &entry = call.entry[blockIdx.z];
    int32_t group = static_cast<int32_t>(threadIdx.y), n_partials = call.n_partials, fours = entry.total / 4;
    int32_t four = static_cast<int32_t>(blockIdx.x) * REDUCE_FOURS + static_cast<int32_t>(threadIdx.x);
    int32_t length = (n_partials + REDUCE_GROUPS - 1) / REDUCE_GROUPS;
    if (entry.blocks > 0) length = (length + 1) / 2 * 2;
    int32_t first = group * length, left = four < fours ? min(length, n_partials - first) : 0;
    uint32_t n = gridDim.y * static_cast<uint32_t>(n_partials);
    uint32_t piece = blockIdx.y * static_cast<uint32_t>(n_partials) + static_cast<uint32_t>(first);
    const float4 *source = reinterpret_cast<const float4 *>(entry.partial) + static_cast<int64_t>(piece) * fours + four;
    float4 sum = entry.blocks > 0 ? stretch_sum<true>(source, fours, left, piece, n, entry.blocks)
                                  : stretch_sum<false>(source, fours, left, piece, n, 1);
    room[group][threadIdx.x] = sum;
    __syncthreads();
    if (group != 0 || four >= fours) return;
#pragma unroll
    for (int g = 1; g < REDUCE_GROUPS; g++)
        sum = add4(sum, room[g][threadIdx.x]);
    float *target = call.grads + call.adapter[blockIdx.y] * call.stride;
    int32_t element = four * 4;
#pragma unroll
    for (int32_t s = 0; s < LVS_MAX_SITES; s++) {
        if (element >= 0 && element < entry.count[s]) *reinterpret_cast<float4 *>(target + entry.to[s] + element) = sum;
        element -= entry.count[s];
    }
}

void lora_reduce_flush(struct device *device) {
    struct lora_pending *pending = device->lora_pending;
    if (pending->n == 0) return;
    dim3 grid(static_cast<unsigned>(ceil_div(pending->most, 4 * REDUCE_FOURS)), static_cast<unsigned>(pending->n_slots),
              static_cast<unsigned>(pending->n));
    kernel_launch(device, "lora_reduce", lora_reduce_kernel, grid, dim3(REDUCE_FOURS, REDUCE_GROUPS), 0, pending->call);
    pending->n = pending->most = 0;
}

void lora_reduce_finish(struct device *device) {
    struct lora_pending *pending = device->lora_pending;
    lora_reduce_flush(device);
    size_t wanted = pending->wanted < POOL_BYTES ? pending->wanted : POOL_BYTES;
    pending->wanted = 0;
    if (!device->capturing && wanted > scratch_bytes(device, SCRATCH_LORA))
        scratch_take(device, SCRATCH_LORA, wanted, "lora_reduce");
}

float *lora_partial_take(struct device *device, const struct pack_layout *layout, const struct lora_segments *segments,
                         const char *what) {
    struct lora_pending *pending = device->lora_pending;
    size_t count = static_cast<size_t>(layout->n_slots) * static_cast<size_t>(lora_partials(layout));
    size_t bytes = (count * static_cast<size_t>(segments->total) * sizeof(float) + 255) / 256 * 256;
    bool alike = pending->call.adapter == layout->adapter && pending->n_slots == layout->n_slots &&
                 pending->call.n_partials == lora_partials(layout);
    bool fits = pending->used + bytes <= scratch_bytes(device, SCRATCH_LORA);
    if (!alike || !fits || pending->n == PENDING_MOST) lora_reduce_flush(device);
    if (pending->n == 0) pending->used = 0;
    pending->wanted += bytes;
    char *memory = static_cast<char *>(scratch_take(device, SCRATCH_LORA, pending->used + bytes, what));
    if (memory == nullptr) return nullptr;
    memory += pending->used;
    pending->used += bytes;
    return reinterpret_cast<float *>(memory);
}

void lora_reduce(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                 const struct lora_segments *segments, const float *partial) {
    struct lora_pending *pending = device->lora_pending;
    assert(segments->total % 4 == 0 && adapters->stride % 4 == 0);
    if (pending->call.grads != adapters->grads || pending->call.stride != adapters->stride) lora_reduce_flush(device);
    struct reduce_entry *entry = &pending->call.entry[pending->n++];
    *entry = {};
    entry->partial = partial, entry->total = static_cast<int32_t>(segments->total);
    for (int32_t s = 0; s < segments->n; s++) {
        entry->to[s] = segments->to[s];
        entry->count[s] = static_cast<int32_t>(segments->count[s]);
    }
    pending->call.adapter = layout->adapter, pending->call.n_partials = lora_partials(layout);
    pending->call.grads = adapters->grads, pending->call.stride = adapters->stride;
    pending->n_slots = layout->n_slots;
    if (entry->total > pending->most) pending->most = entry->total;
}

void lora_reduce_pairs(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                       const struct lora_segments *segments, const float *partial, int32_t blocks) {
    struct lora_pending *pending = device->lora_pending;
    lora_reduce(device, layout, adapters, segments, partial);
    uint32_t pieces = static_cast<uint32_t>(pending->n_slots * pending->call.n_partials);
    struct reduce_entry *entry = &pending->call.entry[pending->n - 1];
    entry->blocks = static_cast<uint32_t>(blocks);
    assert(entry->blocks > 0 && (entry->blocks == pieces || pieces <= UINT32_MAX / entry->blocks));
}

bool lora_is_fused(const struct device *device, const struct adapters *adapters, const struct lora_group *group) {
    if (device->precision != PRECISION_KIND_BF16 || adapters->stride % 4 != 0) return false;
    for (int32_t s = 0; s < group->n; s++) {
        const struct lora_site *site = &group->site[s];
        if ((site->rank != 8 && site->rank != 16) || site->a_offset % 4 != 0 || site->b_offset % 4 != 0) return false;
        if (site->n_in != group->site[0].n_in || site->rank != group->site[0].rank) return false;
    }
    return true;
}
