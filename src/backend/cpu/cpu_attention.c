/* Causal attention of whole sequences. A task is one head of one sequence: it goes through blocks of query rows, with
 * the scores of one block against all earlier keys in the thread's scratch, never a square of the context. Backward
 * computes the scores anew from the kept log-sum-exp. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "cpu_internal.h"
#include "cpu_vector.h"

enum { QUERY_ROWS = 64 /* query rows of a block */ };

/* One head of one sequence: pointers to its first row. */
struct head {
    const float *q, *k, *v; /* rows width apart */
    int64_t width;
    int64_t out_width; /* row length of out and dout */
    int32_t context, size;
    float scale;
};

static struct head head_make(const struct pack_layout *layout, const struct attention_shape *shape, const float *qkv,
                             int64_t sequence, int32_t index) {
    int32_t size = shape->head_size, group = shape->n_heads / shape->n_kv_heads;
    int64_t row = sequence / layout->n_sequences * layout->slot_rows + sequence % layout->n_sequences * layout->context;
    const float *base = qkv + row * attention_qkv_width(shape);
    return (struct head){
        .q = base + (int64_t)index * size,
        .k = base + (int64_t)(shape->n_heads + index / group) * size,
        .v = base + (int64_t)(shape->n_heads + shape->n_kv_heads + index / group) * size,
        .width = attention_qkv_width(shape),
        .out_width = (int64_t)shape->n_heads * size,
        .context = layout->context,
        .size = size,
        .scale = (float)(1.0 / sqrt((double)size)),
    };
}

static int64_t sequence_row(const struct pack_layout *layout, int64_t sequence) {
    return sequence / layout->n_sequences * layout->slot_rows + sequence % layout->n_sequences * layout->context;
}

/* Floats between rows of a score block. */
static int64_t score_stride(const struct pack_layout *layout) {
    return cpu_blocks(layout->context, 16) * 16 + 16;
}

/* Products of one head, in units of QUERY_ROWS blocks against the keys they see. */
static double head_products(const struct pack_layout *layout, const struct attention_shape *shape) {
    double total = 0;
    for (int64_t first = 0; first < layout->context; first += QUERY_ROWS) {
        int64_t rows = cpu_min(QUERY_ROWS, layout->context - first);
        total += 2.0 * (double)rows * (double)(first + rows) * shape->head_size;
    }
    return total * layout->n_slots * layout->n_sequences * shape->n_heads;
}

/* Zeroes rows of padding, which no sequence owns. */
static void clear_padding(const struct pack_layout *layout, int64_t cols, float *values) {
    int64_t used = (int64_t)layout->n_sequences * layout->context;
    for (int64_t slot = 0; slot < layout->n_slots; slot++)
        memset(values + (slot * layout->slot_rows + used) * cols, 0,
               (size_t)((layout->slot_rows - used) * cols) * sizeof *values);
}

static void forward_head(const struct head *head, float *out, float *lse, int64_t lse_stride, float *scores,
                         int64_t stride) {
    for (int64_t first = 0; first < head->context; first += QUERY_ROWS) {
        int64_t rows = cpu_min(QUERY_ROWS, head->context - first), keys = first + rows;
        float inverse[QUERY_ROWS], *target = out + first * head->out_width;
        cpu_gemm_nt(rows, keys, head->size, head->scale, head->q + first * head->width, head->width, head->k,
                    head->width, 0, scores, stride);
        for (int64_t r = 0; r < rows; r++) {
            float *row = scores + r * stride;
            int64_t seen = first + r + 1;
            float max = cpu_max(row, seen);
            double sum = cpu_exp_sum(row, 1, max, seen);
            memset(row + seen, 0, (size_t)(keys - seen) * sizeof *row);
            inverse[r] = (float)(1.0 / sum);
            if (lse) lse[(first + r) * lse_stride] = (float)((double)max + log(sum));
        }
        cpu_gemm_nn(rows, head->size, keys, 1, scores, stride, head->v, head->width, 0, target, head->out_width);
        for (int64_t r = 0; r < rows; r++)
            cpu_scale(inverse[r], target + r * head->out_width, head->size);
    }
}

void cpu_attention_forward(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                           const void *qkv, void *out, float *lse) {
    double start = cpu_profile_start(device);
    int64_t stride = score_stride(layout), n_sequences = (int64_t)layout->n_slots * layout->n_sequences;
    size_t block = cpu_align((size_t)(QUERY_ROWS * stride) * sizeof(float));
    char *scratch = cpu_scratch(device, (size_t)device->threads * block);
    if (!scratch) return;
    clear_padding(layout, (int64_t)shape->n_heads * shape->head_size, out);
    if (lse) clear_padding(layout, shape->n_heads, lse);
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1) collapse(2)
    for (int64_t sequence = 0; sequence < n_sequences; sequence++)
        for (int32_t index = 0; index < shape->n_heads; index++) {
            struct head head = head_make(layout, shape, qkv, sequence, index);
            int64_t row = sequence_row(layout, sequence);
            forward_head(&head, (float *)out + row * head.out_width + (int64_t)index * head.size,
                         lse ? lse + row * shape->n_heads + index : NULL, shape->n_heads,
                         (float *)(scratch + (size_t)omp_get_thread_num() * block), stride);
        }
    device->flops += 2 * head_products(layout, shape);
    cpu_profile_stop(device, "attention_forward", start);
}

/* p = exp(p − lse) in place, then ds = p·(dp − delta)·scale over dp. */
CPU_CLONES static void score_gradient(int64_t count, float lse, float delta, float scale, float *p, float *dp) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float probability = cpu_exp(p[i] - lse);
        p[i] = probability;
        dp[i] = probability * (dp[i] - delta) * scale;
    }
}

/* Where the gradients of one head go. dk and dv are this query head's share. */
struct head_gradient {
    const float *out, *dout, *lse; /* first row; lse rows lse_stride apart */
    int64_t lse_stride;
    float *dq;      /* rows width apart */
    float *dk, *dv; /* [context][size] */
};

static void backward_head(const struct head *head, const struct head_gradient *gradient, float *p, float *dp,
                          int64_t stride) {
    int64_t size = head->size, ld = head->width, ld_out = head->out_width;
    memset(gradient->dk, 0, (size_t)(head->context * size) * sizeof(float));
    memset(gradient->dv, 0, (size_t)(head->context * size) * sizeof(float));
    for (int64_t first = 0; first < head->context; first += QUERY_ROWS) {
        int64_t rows = cpu_min(QUERY_ROWS, head->context - first), keys = first + rows;
        const float *q = head->q + first * ld, *dout = gradient->dout + first * ld_out;
        cpu_gemm_nt(rows, keys, size, head->scale, q, ld, head->k, ld, 0, p, stride);
        cpu_gemm_nt(rows, keys, size, 1, dout, ld_out, head->v, ld, 0, dp, stride);
        for (int64_t r = 0; r < rows; r++) {
            int64_t seen = first + r + 1;
            float delta = cpu_dot(gradient->out + (first + r) * ld_out, dout + r * ld_out, size);
            score_gradient(seen, gradient->lse[(first + r) * gradient->lse_stride], delta, head->scale, p + r * stride,
                           dp + r * stride);
            memset(p + r * stride + seen, 0, (size_t)(keys - seen) * sizeof *p);
            memset(dp + r * stride + seen, 0, (size_t)(keys - seen) * sizeof *dp);
        }
        cpu_gemm_tn(keys, size, rows, 1, p, stride, dout, ld_out, 1, gradient->dv, size);
        cpu_gemm_tn(keys, size, rows, 1, dp, stride, q, ld, 1, gradient->dk, size);
        cpu_gemm_nn(rows, size, keys, 1, dp, stride, head->k, ld, 0, gradient->dq + first * ld, ld);
    }
}

/* Sums the shares of a key/value head's query heads, in their order, into dk or dv columns of one sequence. */
static void shares_sum(int64_t context, int64_t size, int32_t group, const float *shares, int64_t share_stride,
                       float *target, int64_t ld) {
    for (int64_t row = 0; row < context; row++) {
        memcpy(target + row * ld, shares + row * size, (size_t)size * sizeof *target);
        for (int32_t i = 1; i < group; i++)
            cpu_axpy(1, shares + i * share_stride + row * size, target + row * ld, size);
    }
}

/* One call of backward. Sequences are taken in waves, so that the shares of dk and dv stay small. */
struct backward_pass {
    const struct pack_layout *layout;
    const struct attention_shape *shape;
    const float *qkv, *out, *lse, *dout;
    float *dqkv;
    float *shares;      /* [wave][n_heads][2][context][size] */
    int64_t share_size; /* floats of one head's dk or dv */
    char *blocks;       /* two score blocks a thread */
    size_t block;       /* bytes of one */
};

static void backward_one(const struct backward_pass *pass, int64_t sequence, int64_t place, int32_t index) {
    const struct attention_shape *shape = pass->shape;
    struct head head = head_make(pass->layout, shape, pass->qkv, sequence, index);
    int64_t row = sequence_row(pass->layout, sequence), offset = row * head.out_width + (int64_t)index * head.size;
    float *share = pass->shares + (place * shape->n_heads + index) * 2 * pass->share_size;
    struct head_gradient gradient = {
        .out = pass->out + offset,
        .dout = pass->dout + offset,
        .lse = pass->lse + row * shape->n_heads + index,
        .lse_stride = shape->n_heads,
        .dq = pass->dqkv + row * head.width + (int64_t)index * head.size,
        .dk = share,
        .dv = share + pass->share_size,
    };
    char *blocks = pass->blocks + 2 * (size_t)omp_get_thread_num() * pass->block;
    backward_head(&head, &gradient, (float *)blocks, (float *)(blocks + pass->block), score_stride(pass->layout));
}

/* `part` 0 is dk, 1 is dv. */
static void backward_sum(const struct backward_pass *pass, int64_t sequence, int64_t place, int32_t kv, int32_t part) {
    const struct attention_shape *shape = pass->shape;
    int64_t size = shape->head_size, width = attention_qkv_width(shape);
    int32_t group = shape->n_heads / shape->n_kv_heads;
    int64_t column = (int64_t)(shape->n_heads + part * shape->n_kv_heads + kv) * size;
    const float *shares = pass->shares + (place * shape->n_heads + (int64_t)kv * group) * 2 * pass->share_size;
    shares_sum(pass->layout->context, size, group, shares + part * pass->share_size, 2 * pass->share_size,
               pass->dqkv + sequence_row(pass->layout, sequence) * width + column, width);
}

void cpu_attention_backward(struct device *device, const struct pack_layout *layout,
                            const struct attention_shape *shape, const void *qkv, const void *out, const float *lse,
                            const void *dout, void *dqkv) {
    double start = cpu_profile_start(device);
    int64_t n_sequences = (int64_t)layout->n_slots * layout->n_sequences;
    int64_t wave = cpu_min(n_sequences, cpu_blocks(4 * (int64_t)device->threads, shape->n_heads));
    struct backward_pass pass = {layout, shape, qkv, out, lse, dout, dqkv, NULL, 0, NULL, 0};
    pass.share_size = (int64_t)layout->context * shape->head_size;
    pass.block = cpu_align((size_t)(QUERY_ROWS * score_stride(layout)) * sizeof(float));
    size_t shares = cpu_align((size_t)(wave * shape->n_heads * 2 * pass.share_size) * sizeof(float));
    char *scratch = cpu_scratch(device, shares + 2 * (size_t)device->threads * pass.block);
    if (!scratch) return;
    pass.shares = (float *)scratch;
    pass.blocks = scratch + shares;
    clear_padding(layout, attention_qkv_width(shape), dqkv);
#pragma omp parallel num_threads(device->threads)
    for (int64_t first = 0; first < n_sequences; first += wave) {
        int64_t last = cpu_min(first + wave, n_sequences);
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (int64_t sequence = first; sequence < last; sequence++)
            for (int32_t index = 0; index < shape->n_heads; index++)
                backward_one(&pass, sequence, sequence - first, index);
#pragma omp for schedule(static) collapse(3)
        for (int64_t sequence = first; sequence < last; sequence++)
            for (int32_t kv = 0; kv < shape->n_kv_heads; kv++)
                for (int32_t part = 0; part < 2; part++)
                    backward_sum(&pass, sequence, sequence - first, kv, part);
    }
    device->flops += 5 * head_products(layout, shape);
    cpu_profile_stop(device, "attention_backward", start);
}
