/* Number formats of checkpoints: bfloat16 and float16 to float and bfloat16 back. Data may be unaligned. */
#include <string.h>

#include "model_internal.h"

size_t tensor_type_size(enum tensor_type type) {
    return type == TENSOR_F32 ? 4 : 2;
}

const char *tensor_type_name(enum tensor_type type) {
    return type == TENSOR_F32 ? "F32" : type == TENSOR_BF16 ? "BF16" : "F16";
}

static float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float tensor_float_from_bf16(uint16_t bits) {
    return float_from_bits((uint32_t)bits << 16);
}

uint16_t tensor_bf16_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static float float_from_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu;
    if (exponent == 0x1f) return float_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0) return float_from_bits(sign | (exponent + 112u) << 23 | fraction << 13);
    float value = (float)fraction * 0x1p-24f; /* zero and subnormal numbers, exact */
    return sign ? -value : value;
}

void tensor_to_float(const void *data, enum tensor_type type, int64_t count, float *out) {
    if (type == TENSOR_F32) {
        memcpy(out, data, (size_t)count * sizeof *out);
        return;
    }
    const unsigned char *bytes = data;
    for (int64_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, bytes + 2 * i, sizeof bits);
        out[i] = type == TENSOR_BF16 ? tensor_float_from_bf16(bits) : float_from_f16(bits);
    }
}
