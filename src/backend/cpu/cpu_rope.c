/* Bias and rotary positions of the fused q, k, v projection, in place, and the turn undone on gradients. */
#include "cpu_internal.h"

/* Turns the pairs (i, i + half) of one head by +angle or, with `sign` −1, by −angle. */
CPU_CLONES static void turn_head(int32_t half, const float *cosine, const float *sine, float sign, float *head) {
    float *first = head, *second = head + half;
#pragma omp simd
    for (int32_t i = 0; i < half; i++) {
        float a = first[i], b = second[i], s = sign * sine[i];
        first[i] = a * cosine[i] - b * s;
        second[i] = b * cosine[i] + a * s;
    }
}

static void turn_row(const struct attention_shape *shape, const struct rope_tables *rope, int64_t row, float sign,
                     float *heads) {
    int32_t half = shape->head_size / 2, position = rope->position[row];
    assert(position >= 0 && position < rope->n_positions);
    const float *cosine = rope->cosine + (int64_t)position * half, *sine = rope->sine + (int64_t)position * half;
    for (int32_t head = 0; head < shape->n_heads + shape->n_kv_heads; head++)
        turn_head(half, cosine, sine, sign, heads + (int64_t)head * shape->head_size);
}

void cpu_qkv_bias_rope(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                       const float *bias, const struct rope_tables *rope, void *qkv) {
    double start = cpu_profile_start(device);
    int32_t width = attention_qkv_width(shape);
#pragma omp parallel for num_threads(device->threads)
    for (int64_t row = 0; row < layout->n_rows; row++) {
        float *values = (float *)qkv + row * width;
        cpu_axpy(1, bias, values, width);
        turn_row(shape, rope, row, 1, values);
    }
    cpu_profile_stop(device, "qkv_bias_rope", start);
}

void cpu_qkv_rope_backward(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                           const struct rope_tables *rope, void *dqkv) {
    double start = cpu_profile_start(device);
    int32_t width = attention_qkv_width(shape);
#pragma omp parallel for num_threads(device->threads)
    for (int64_t row = 0; row < layout->n_rows; row++)
        turn_row(shape, rope, row, -1, (float *)dqkv + row * width);
    cpu_profile_stop(device, "qkv_rope_backward", start);
}
