/* The exponential that the vector loops inline, as straight-line code that a compiler can put into vector lanes. Not
 * a libm: results below the smallest normal number are zero, and large arguments give 2^127·1.99 instead of infinity.
 */
#pragma once
#include <stdint.h>
#include <string.h>

static inline float cpu_float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t cpu_bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* exp(x) to 2 units in the last place on [-87.33, 88.37]; 0 below; NaN stays NaN. x = n·ln2 + r, |r| ≤ ln2/2: a
 * polynomial in r (Cephes' expf coefficients) times 2^n, n put into the exponent's bits. */
static inline float cpu_exp(float x) {
    const float round_to_integer = 12582912.0f; /* 1.5·2^23: adding it leaves the integer in the low bits */
    float clamped = x > 88.37f ? 88.37f : x;
    float low = clamped < -87.33f ? -87.33f : clamped;
    float shifted = low * 1.44269504088896341f + round_to_integer;
    float n = shifted - round_to_integer;
    float r = low - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t exponent = (cpu_bits_of_float(shifted) + 127u) << 23;
    float value = p * cpu_float_of_bits(exponent);
    return clamped < -87.33f ? 0.0f : value;
}

/* 1/(1 + exp(−x)) without overflow: written in exp(−|x|). */
static inline float cpu_sigmoid(float x) {
    float e = cpu_exp(x < 0 ? x : -x);
    float inverse = 1.0f / (1.0f + e);
    return x < 0 ? e * inverse : inverse;
}
