/* The next id of every sequence: logits in float, processors in the order of transformers, and the highest; the draw is
 * in sample_draw.cu. Ties go to the lower id. */
#include <cmath>

#include "sample.cuh"

/* One block a row, in place: bias, and the repetition penalty once for every id of the sequence. */
__global__ void __launch_bounds__(SAMPLE_THREADS) scores_prepare_kernel(struct sample_view view) {
    int64_t row = blockIdx.x, sequence = sample_sequence(view, row);
    if (sequence < 0) return;
    float *scores = view.logits + row * view.vocabulary;
    float penalty = view.sampling.repetition_penalty;
    if (view.params != nullptr) {
        const float *bias = view.params + view.adapter[row / view.slot_rows] * view.stride;
        for (int64_t id = threadIdx.x; id < view.vocabulary; id += SAMPLE_THREADS)
            scores[id] += bias[id];
        __syncthreads();
    }
    const int32_t *tokens = view.tokens + sequence * view.token_stride;
    int32_t length = view.length[sequence];
    for (int32_t i = static_cast<int32_t>(threadIdx.x); penalty != 1.0f && i < length; i += SAMPLE_THREADS) {
        bool first = true;
        for (int32_t j = 0; j < i && first; j++)
            first = tokens[j] != tokens[i];
        if (!first) continue;
        float score = scores[tokens[i]];
        scores[tokens[i]] = score < 0 ? score * penalty : score / penalty;
    }
}

__device__ __forceinline__ uint64_t later(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* One block a row: the highest score, the lower id among equals. Without a prepare pass the bias is added here. */
template <int N>
__global__ void __launch_bounds__(SAMPLE_THREADS) highest_kernel(struct sample_view view, bool with_bias) {
    __shared__ uint64_t room[SAMPLE_THREADS / 32];
    int64_t row = blockIdx.x, sequence = sample_sequence(view, row);
    if (sequence < 0) {
        if (threadIdx.x == 0) view.ids[row] = 0;
        return;
    }
    if (sample_is_finished(view, sequence)) {
        int32_t length = view.length[sequence];
        int32_t last = length > 0 ? view.tokens[sequence * view.token_stride + length - 1] : 0;
        if (threadIdx.x == 0) sample_write(view, row, sequence, last);
        return;
    }
    const float *scores = view.logits + row * view.vocabulary;
    const float *bias = with_bias ? view.params + view.adapter[row / view.slot_rows] * view.stride : nullptr;
    uint64_t best = 0;
    for (int64_t id = static_cast<int64_t>(threadIdx.x) * N; id < view.vocabulary; id += SAMPLE_THREADS * N) {
        float values[N];
        if constexpr (N == 4)
            *reinterpret_cast<float4 *>(values) = *reinterpret_cast<const float4 *>(scores + id);
        else
            values[0] = scores[id];
#pragma unroll
        for (int i = 0; i < N; i++) {
            float value = values[i] + (bias != nullptr ? bias[id + i] : 0.0f);
            if (view.allowed != nullptr && view.allowed[id + i] == 0) value = -INFINITY;
            best = later(best,
                         static_cast<uint64_t>(order_key(value)) << 32 | (0xffffffffu - static_cast<uint32_t>(id + i)));
        }
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
        best = later(best, __shfl_xor_sync(0xffffffffu, best, offset));
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < SAMPLE_THREADS / 32; i++)
        best = later(best, room[i]);
    sample_write(view, row, sequence, static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(best)));
}

static struct sample_view view_make(const struct pack_layout *layout, const struct sample_call *call, float *logits) {
    struct sample_view view = {};
    view.logits = logits, view.adapter = layout->adapter;
    view.allowed = call->allowed, view.finished = call->finished;
    view.vocabulary = call->head->rows;
    view.slot_rows = layout->slot_rows, view.n_sequences = layout->n_sequences;
    view.token_stride = call->token_stride;
    view.sampling = call->sampling, view.seed = call->seed;
    view.tokens = call->tokens, view.length = call->length, view.ids = call->ids;
    if (call->adapters == nullptr || call->bias_offset < 0) return view;
    view.params = call->adapters->params + call->bias_offset;
    view.stride = call->adapters->stride;
    return view;
}

static void logits_make(struct device *device, const struct pack_layout *layout, const struct sample_call *call,
                        float *logits) {
    struct product p = {};
    p.name = "sample_logits";
    p.m = layout->n_rows, p.n = call->head->rows, p.k = call->head->cols;
    p.transposed_b = true;
    p.type_ab = device->precision == PRECISION_KIND_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    p.type_c = CUDA_R_32F;
    p.a = call->x, p.b = weight_current(device, call->head), p.c = logits;
    p.ld_a = p.ld_b = p.k, p.ld_c = p.n;
    product_run(device, &p);
}

void cuda_sample(struct device *device, const struct pack_layout *layout, const struct sample_call *call) {
    assert(layout->context == 1 && (call->sampling.greedy || call->sampling.temperature > 0));
    device_select(device);
    size_t bytes = static_cast<size_t>(layout->n_rows) * static_cast<size_t>(call->head->rows) * sizeof(float);
    float *logits = static_cast<float *>(scratch_take(device, SCRATCH_LOSS, bytes, "sample"));
    if (logits == nullptr) return;
    struct sample_view view = view_make(layout, call, logits);
    logits_make(device, layout, call, logits);
    bool greedy = call->sampling.greedy != 0;
    bool prepare = call->sampling.repetition_penalty != 1.0f || (!greedy && view.params != nullptr);
    if (prepare)
        kernel_launch(device, "sample_prepare", scores_prepare_kernel, layout->n_rows, SAMPLE_THREADS, 0, view);
    if (greedy)
        kernel_launch(device, "sample_highest", view.vocabulary % 4 == 0 ? highest_kernel<4> : highest_kernel<1>,
                      layout->n_rows, SAMPLE_THREADS, 0, view, !prepare && view.params != nullptr);
    else
        sample_draw(device, &view, layout->n_rows);
}
