/* Vector loops that several operations share. Not parallel. Sums run in lanes of one fixed width and are added block by
 * block in double, so their bits depend on the values and the count alone. */
#include "cpu_internal.h"
#include "cpu_vector.h"

enum { SUM_BLOCK = 512 /* floats summed in single precision before the double takes them */ };

CPU_CLONES static void widen_bf16(const uint16_t *source, float *target, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        target[i] = cpu_float_of_bits((uint32_t)source[i] << 16);
}

/* Half precision: exponent and fraction are moved into place and rescaled by 2^112, which also makes subnormals right;
 * infinities and NaN get the full exponent. */
CPU_CLONES static void widen_f16(const uint16_t *source, float *target, int64_t count) {
    const float rescale = 0x1p112f;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        uint32_t magnitude = (uint32_t)(source[i] & 0x7FFFu) << 13, sign = (uint32_t)(source[i] & 0x8000u) << 16;
        uint32_t finite = cpu_bits_of_float(cpu_float_of_bits(magnitude) * rescale);
        uint32_t bits = magnitude >= 0x0F800000u ? magnitude | 0x7F800000u : finite;
        target[i] = cpu_float_of_bits(bits | sign);
    }
}

void cpu_widen(enum tensor_type type, const void *source, int64_t offset, float *target, int64_t count) {
    if (type == TENSOR_F32)
        memcpy(target, (const float *)source + offset, (size_t)count * sizeof *target);
    else if (type == TENSOR_BF16)
        widen_bf16((const uint16_t *)source + offset, target, count);
    else
        widen_f16((const uint16_t *)source + offset, target, count);
}

CPU_CLONES float cpu_dot(const float *a, const float *b, int64_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

CPU_CLONES void cpu_axpy(float factor, const float *source, float *target, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        target[i] += factor * source[i];
}

CPU_CLONES void cpu_scale(float factor, float *values, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        values[i] *= factor;
}

CPU_CLONES float cpu_max(const float *values, int64_t count) {
    float max = values[0];
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < count; i++)
        max = values[i] > max ? values[i] : max;
    return max;
}

CPU_CLONES double cpu_exp_sum(float *values, float scale, float shift, int64_t count) {
    double total = 0;
    for (int64_t begin = 0; begin < count; begin += SUM_BLOCK) {
        int64_t end = cpu_min(begin + SUM_BLOCK, count);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = begin; i < end; i++) {
            float value = cpu_exp(values[i] * scale - shift);
            values[i] = value;
            sum += value;
        }
        total += (double)sum;
    }
    return total;
}

CPU_CLONES double cpu_exp_total(const float *values, float scale, float shift, int64_t count) {
    double total = 0;
    for (int64_t begin = 0; begin < count; begin += SUM_BLOCK) {
        int64_t end = cpu_min(begin + SUM_BLOCK, count);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = begin; i < end; i++)
            sum += cpu_exp(values[i] * scale - shift);
        total += (double)sum;
    }
    return total;
}
