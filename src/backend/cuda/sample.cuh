/* What the two files of sampling share: the rows' logits and who they belong to. */
#pragma once
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

#define SAMPLE_THREADS 1024

struct sample_view {
    float *logits;       /* [n_rows][vocabulary] */
    const float *params; /* head bias of adapter 0, or NULL */
    const int32_t *adapter;
    const uint8_t *allowed, *finished;
    int64_t vocabulary, stride;
    int32_t slot_rows, n_sequences, token_stride;
    struct sampling sampling;
    uint64_t seed;
    int32_t *tokens, *length, *ids;
};

/* The sequence of a row, or −1 for padding. */
__device__ __forceinline__ int64_t sample_sequence(const struct sample_view &view, int64_t row) {
    int64_t place = row % view.slot_rows;
    return place < view.n_sequences ? row / view.slot_rows * view.n_sequences + place : -1;
}
__device__ __forceinline__ bool sample_is_finished(const struct sample_view &view, int64_t sequence) {
    return view.finished != nullptr && view.finished[sequence] != 0;
}
/* One thread of the row's block: the id, the sequence's tokens and length. */
__device__ __forceinline__ void sample_write(const struct sample_view &view, int64_t row, int64_t sequence,
                                             int32_t id) {
    int32_t length = view.length[sequence];
    view.tokens[sequence * view.token_stride + length] = id;
    view.length[sequence] = length + 1;
    view.ids[row] = id;
}
/* Order-preserving: a larger float has a larger key; −∞ has the lowest of all numbers. */
__device__ __forceinline__ uint32_t order_key(float x) {
    uint32_t bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* sample_draw.cu: one id a row by top-k, top-p and a draw; logits hold the processed scores. */
void sample_draw(struct device *device, const struct sample_view *view, int32_t n_rows);
