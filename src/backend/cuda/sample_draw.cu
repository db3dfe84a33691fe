/* A draw by top-k and top-p over the whole vocabulary, one block a row, without sorting: thresholds are found digit by
 * digit of the scores' bit patterns, by counts for top-k and by probability mass (64-bit integers, so that the order of
 * additions does not matter) for top-p. The draw inverts the cumulative distribution in id order. */
#include <cmath>

#include "sample.cuh"

#define MASS_ONE 17592186044416.0 /* 2^44: the highest score's mass */
#define WARPS    (SAMPLE_THREADS / 32)

struct draw_room {
    unsigned long long bins[256], before; /* before: what lies above the digits found so far */
    double sums[WARPS], target, reached;
    uint32_t prefix, found;
    int32_t counts[WARPS], chosen;
    float highest[WARPS];
};

/* Scores of a row as the draw sees them. */
struct draw_row {
    const float *scores;
    const uint8_t *allowed;
    int64_t vocabulary;
    float temperature, highest;
    uint32_t least;    /* lowest key that takes part */
    int64_t last_tied; /* of the ids whose key is `least` those up to this one take part */
};

__device__ __forceinline__ float draw_score(const struct draw_row &row, int64_t id) {
    if (row.allowed != nullptr && row.allowed[id] == 0) return -INFINITY;
    return row.scores[id] / row.temperature;
}
__device__ __forceinline__ bool draw_takes(const struct draw_row &row, int64_t id, float score) {
    uint32_t key = order_key(score);
    return score > -INFINITY && (key > row.least || (key == row.least && id <= row.last_tied));
}
__device__ __forceinline__ double draw_weight(const struct draw_row &row, float score) {
    return exp(static_cast<double>(score) - static_cast<double>(row.highest));
}

/* A warp's ids lie side by side. */
__device__ __forceinline__ int64_t segment_start(int64_t vocabulary, int warp) {
    return vocabulary * warp / WARPS;
}

__device__ void highest_find(struct draw_row *row, struct draw_room *room) {
    float highest = -INFINITY;
    for (int64_t id = threadIdx.x; id < row->vocabulary; id += SAMPLE_THREADS)
        highest = fmaxf(highest, draw_score(*row, id));
    highest = warp_max(highest);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room->highest[threadIdx.x / 32] = highest;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        highest = fmaxf(highest, room->highest[i]);
    row->highest = highest;
}

/* From the highest bin down, the one in which the running total reaches `target`. */
__device__ void digit_find(struct draw_room *room, unsigned long long target, int shift) {
    if (threadIdx.x != 0) return;
    int digit = 255;
    for (; digit > 0; digit--) {
        if (room->before + room->bins[digit] >= target) break;
        room->before += room->bins[digit];
    }
    room->prefix |= static_cast<uint32_t>(digit) << shift;
    room->found = static_cast<uint32_t>(digit);
}

/* The highest key such that what takes part at or above it adds up to `target`: MASS counts probability, else ids. */
template <bool MASS>
__device__ uint32_t key_find(const struct draw_row &row, unsigned long long target, struct draw_room *room) {
    if (threadIdx.x == 0) room->prefix = 0, room->before = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        __syncthreads();
        if (threadIdx.x < 256) room->bins[threadIdx.x] = 0;
        __syncthreads();
        uint32_t prefix = room->prefix;
        for (int64_t id = threadIdx.x; id < row.vocabulary; id += SAMPLE_THREADS) {
            float score = draw_score(row, id);
            uint32_t key = order_key(score);
            if (!draw_takes(row, id, score) || (shift < 24 && key >> (shift + 8) != prefix >> (shift + 8))) continue;
            unsigned long long amount =
                MASS ? static_cast<unsigned long long>(draw_weight(row, score) * MASS_ONE) : 1ull;
            atomicAdd(&room->bins[key >> shift & 255], amount);
        }
        __syncthreads();
        digit_find(room, target, shift);
    }
    __syncthreads();
    return room->prefix;
}

/* Σ over the block of an integer. */
__device__ unsigned long long block_total(unsigned long long amount, struct draw_room *room) {
    __syncthreads();
    if (threadIdx.x == 0) room->bins[0] = 0;
    __syncthreads();
    atomicAdd(&room->bins[0], amount);
    __syncthreads();
    return room->bins[0];
}

__device__ void top_k_apply(struct draw_row *row, int32_t top_k, struct draw_room *room) {
    unsigned long long possible = 0;
    for (int64_t id = threadIdx.x; id < row->vocabulary; id += SAMPLE_THREADS)
        possible += draw_score(*row, id) > -INFINITY;
    possible = block_total(possible, room);
    if (possible > static_cast<unsigned long long>(top_k))
        row->least = key_find<false>(*row, static_cast<unsigned long long>(top_k), room);
}

/* The id of the `rank`-th (from 1) of the ids with this key. */
__device__ int64_t tied_find(const struct draw_row &row, uint32_t key, unsigned long long rank,
                             struct draw_room *room) {
    int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    int64_t start = segment_start(row.vocabulary, warp), end = segment_start(row.vocabulary, warp + 1);
    int32_t count = 0;
    for (int64_t id = start + lane; id < end; id += 32)
        count += order_key(draw_score(row, id)) == key;
    count = __reduce_add_sync(0xffffffffu, count);
    if (lane == 0) room->counts[warp] = count;
    __syncthreads();
    unsigned long long before = 0;
    for (int w = 0; w < warp; w++)
        before += static_cast<unsigned long long>(room->counts[w]);
    if (lane == 0 && before < rank && before + static_cast<unsigned long long>(count) >= rank) {
        for (int64_t id = start; id < end; id++) {
            before += order_key(draw_score(row, id)) == key;
            if (before == rank) {
                room->target = static_cast<double>(id);
                break;
            }
        }
    }
    __syncthreads();
    return static_cast<int64_t>(room->target);
}

__device__ void top_p_apply(struct draw_row *row, float top_p, struct draw_room *room) {
    unsigned long long total = 0;
    for (int64_t id = threadIdx.x; id < row->vocabulary; id += SAMPLE_THREADS) {
        float score = draw_score(*row, id);
        if (draw_takes(*row, id, score)) total += static_cast<unsigned long long>(draw_weight(*row, score) * MASS_ONE);
    }
    total = block_total(total, room);
    double wanted = ceil(static_cast<double>(top_p) * static_cast<double>(total));
    unsigned long long target = wanted < 1 ? 1 : static_cast<unsigned long long>(wanted);
    uint32_t key = key_find<true>(*row, target, room);
    unsigned long long above = room->before;
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    unsigned long long each = static_cast<unsigned long long>(draw_weight(*row, __uint_as_float(bits)) * MASS_ONE);
    unsigned long long ties = each > 0 && target > above ? (target - above + each - 1) / each : 1;
    row->last_tied = tied_find(*row, key, ties, room);
    row->least = key;
}

/* The first warp's segment whose end passes `goal`, or the last with any weight: room->chosen, and in room->reached
 * what lies before it. */
__device__ void segment_choose(double uniform, struct draw_room *room) {
    double total = 0, end = 0;
    for (int w = 0; w < WARPS; w++)
        total += room->sums[w];
    room->target = uniform * total;
    room->found = 0, room->chosen = 0, room->reached = 0;
    for (int w = 0; w < WARPS && end <= room->target; w++) {
        if (room->sums[w] <= 0) continue;
        room->chosen = w, room->reached = end;
        end += room->sums[w];
    }
}

/* One warp: each lane sums a piece of the segment, the lane whose piece passes the target walks through it. */
__device__ void segment_search(const struct draw_row &row, int64_t start, int64_t end, struct draw_room *room) {
    int lane = static_cast<int>(threadIdx.x) % 32;
    int64_t piece = (end - start + 31) / 32, first = start + lane * piece,
            stop = first + piece < end ? first + piece : end;
    double own = 0, before = room->reached;
    int64_t last = -1;
    for (int64_t id = first; id < stop; id++) {
        float score = draw_score(row, id);
        if (!draw_takes(row, id, score)) continue;
        own += draw_weight(row, score);
        last = id;
    }
    for (int l = 0; l < 32; l++) {
        double other = __shfl_sync(0xffffffffu, own, l);
        if (l < lane) before += other;
    }
    uint32_t passing = __ballot_sync(0xffffffffu, last >= 0 && before + own > room->target);
    uint32_t holding = __ballot_sync(0xffffffffu, last >= 0);
    int owner = passing != 0 ? __ffs(static_cast<int>(passing)) - 1 : 31 - __clz(static_cast<int>(holding));
    if (lane != owner) return;
    for (int64_t id = first; id < last; id++) {
        float score = draw_score(row, id);
        if (!draw_takes(row, id, score)) continue;
        before += draw_weight(row, score);
        if (before > room->target) last = id;
    }
    room->found = static_cast<uint32_t>(last);
}

/* The id at which the running sum of weights, in id order, passes uniform · total. */
__device__ void id_draw(const struct draw_row &row, double uniform, struct draw_room *room) {
    int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    int64_t start = segment_start(row.vocabulary, warp), end = segment_start(row.vocabulary, warp + 1);
    double sum = 0;
    for (int64_t id = start + lane; id < end; id += 32) {
        float score = draw_score(row, id);
        if (draw_takes(row, id, score)) sum += draw_weight(row, score);
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    __syncthreads();
    if (lane == 0) room->sums[warp] = sum;
    __syncthreads();
    if (threadIdx.x == 0) segment_choose(uniform, room);
    __syncthreads();
    if (warp == room->chosen && room->sums[warp] > 0) segment_search(row, start, end, room);
    __syncthreads();
}

__global__ void __launch_bounds__(SAMPLE_THREADS) draw_kernel(struct sample_view view) {
    __shared__ struct draw_room room;
    int64_t place = blockIdx.x, sequence = sample_sequence(view, place);
    if (sequence < 0) {
        if (threadIdx.x == 0) view.ids[place] = 0;
        return;
    }
    int32_t length = view.length[sequence];
    if (sample_is_finished(view, sequence)) {
        int32_t last = length > 0 ? view.tokens[sequence * view.token_stride + length - 1] : 0;
        if (threadIdx.x == 0) sample_write(view, place, sequence, last);
        return;
    }
    struct draw_row row = {};
    row.scores = view.logits + place * view.vocabulary;
    row.allowed = view.allowed;
    row.vocabulary = view.vocabulary;
    row.temperature = view.sampling.temperature;
    row.last_tied = view.vocabulary;
    highest_find(&row, &room);
    if (view.sampling.top_k > 0) top_k_apply(&row, view.sampling.top_k, &room);
    if (view.sampling.top_p < 1.0f) top_p_apply(&row, view.sampling.top_p, &room);
    uint64_t index = static_cast<uint64_t>(sequence) << 32 | static_cast<uint32_t>(length);
    uint4 words = random_block(view.seed, RNG_STREAM_SAMPLING, index);
    uint64_t bits = (static_cast<uint64_t>(words.x) << 32 | words.y) >> 11;
    id_draw(row, static_cast<double>(bits) * 0x1p-53, &room);
    if (threadIdx.x == 0) sample_write(view, place, sequence, static_cast<int32_t>(room.found));
}

void sample_draw(struct device *device, const struct sample_view *view, int32_t n_rows) {
    kernel_launch(device, "sample_draw", draw_kernel, n_rows, SAMPLE_THREADS, 0, *view);
}
