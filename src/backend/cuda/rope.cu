/* Bias and rotary positions of the fused q, k, v projection, in place, for any head size; and the turn undone on
 * gradients. Not here: the variant fused with LoRA-B (qkv_finish.cu). */
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

#define ROPE_THREADS 128

/* One block a row; a thread a pair (i, i + half) of q and k, or two columns of v. */
template <typename T>
__global__ void bias_rope_kernel(struct attention_shape shape, const float *bias, struct rope_tables rope, float sign,
                                 T *qkv) {
    int32_t half = shape.head_size / 2, heads = shape.n_heads + 2 * shape.n_kv_heads;
    int64_t row = blockIdx.x;
    T *values = qkv + row * heads * shape.head_size;
    const float *cosine = rope.cosine + static_cast<int64_t>(rope.position[row]) * half;
    const float *sine = rope.sine + static_cast<int64_t>(rope.position[row]) * half;
    for (int32_t pair = static_cast<int32_t>(threadIdx.x); pair < heads * half; pair += ROPE_THREADS) {
        int32_t head = pair / half, i = pair % half, first = head * shape.head_size + i, second = first + half;
        bool turned = head < shape.n_heads + shape.n_kv_heads;
        if (!turned && bias == nullptr) continue;
        float a = to_float(values[first]) + (bias != nullptr ? bias[first] : 0.0f);
        float b = to_float(values[second]) + (bias != nullptr ? bias[second] : 0.0f);
        float c = turned ? cosine[i] : 1.0f, s = turned ? sign * sine[i] : 0.0f;
        values[first] = from_float<T>(a * c - b * s);
        values[second] = from_float<T>(b * c + a * s);
    }
}

template <typename T>
static void turn(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                 const float *bias, const struct rope_tables *rope, float sign, void *qkv) {
    kernel_launch(device, sign > 0 ? "qkv_bias_rope" : "qkv_rope_backward", bias_rope_kernel<T>, layout->n_rows,
                  ROPE_THREADS, 0, *shape, bias, *rope, sign, static_cast<T *>(qkv));
}

void cuda_qkv_bias_rope(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                        const float *bias, const struct rope_tables *rope, void *qkv) {
    device_select(device);
    LVS_BY_PRECISION(device, turn, layout, shape, bias, rope, 1.0f, qkv);
}

void cuda_qkv_rope_backward(struct device *device, const struct pack_layout *layout,
                            const struct attention_shape *shape, const struct rope_tables *rope, void *dqkv) {
    device_select(device);
    LVS_BY_PRECISION(device, turn, layout, shape, nullptr, rope, -1.0f, dqkv);
}
