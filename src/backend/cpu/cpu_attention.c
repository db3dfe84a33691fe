/* Causal attention of whole sequences. A task is one head of one sequence: it goes through blocks of query rows, with
 * the scores of one block against all earlier keys in the thread's scratch, never a square of the context. Backward
 * computes the scores anew from the kept log-sum-exp. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "cpu_tile.h"
#include "cpu_vector.h"

enum {
    QUERY_ROWS = 64,  /* query rows of a block */
    KEY_COLUMNS = 32, /* keys that one pass over the block's rows takes; scores are padded to it */
};

/* One head of one sequence: pointers to its first row. */
struct head {
    const float *q, *k, *v; /* rows width apart */
    int64_t width;
    int64_t out_width; /* row length of out and dout */
    int64_t context, size;
    int64_t stride; /* floats between rows of scores and of transposed keys */
    float scale;
};

static int64_t sequence_row(const struct pack_layout *layout, int64_t sequence) {
    return sequence / layout->n_sequences * layout->slot_rows + sequence % layout->n_sequences * layout->context;
}

/* Whole KEY_COLUMNS; the extra lanes keep rows of powers of two off the same cache sets. */
static int64_t score_stride(const struct pack_layout *layout) {
    return cpu_blocks(layout->context, KEY_COLUMNS) * KEY_COLUMNS + 16;
}

static struct head head_make(const struct pack_layout *layout, const struct attention_shape *shape, const float *qkv,
                             int64_t sequence, int32_t index) {
    int32_t size = shape->head_size, kv = index / (shape->n_heads / shape->n_kv_heads);
    int64_t width = attention_qkv_width(shape);
    const float *base = qkv + sequence_row(layout, sequence) * width;
    return (struct head){
        .q = base + (int64_t)index * size,
        .k = base + (int64_t)(shape->n_heads + kv) * size,
        .v = base + (int64_t)(shape->n_heads + shape->n_kv_heads + kv) * size,
        .width = width,
        .out_width = (int64_t)shape->n_heads * size,
        .context = layout->context,
        .size = size,
        .stride = score_stride(layout),
        .scale = (float)(1.0 / sqrt((double)size)),
    };
}

/* Keys that a group of query rows ending before `end` is multiplied with; those beyond a row are zeroed. */
static int64_t keys_seen(const struct head *head, int64_t end) {
    return cpu_min(end, head->context);
}

/* Query rows × keys of all products of one head, by groups of CPU_TILE_ROWS rows. */
static double head_pairs(int64_t context) {
    double pairs = 0;
    for (int64_t row = 0; row < context; row += CPU_TILE_ROWS) {
        int64_t rows = cpu_min(CPU_TILE_ROWS, context - row);
        pairs += (double)rows * (double)(row + rows);
    }
    return pairs;
}

static void count_flops(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                        double products) {
    double heads = (double)layout->n_slots * layout->n_sequences * shape->n_heads;
    device->flops += products * 2.0 * heads * head_pairs(layout->context) * shape->head_size;
}

/* Zeroes rows of padding, which no sequence owns. */
static void clear_padding(const struct pack_layout *layout, int64_t cols, float *values) {
    int64_t used = (int64_t)layout->n_sequences * layout->context;
    for (int64_t slot = 0; slot < layout->n_slots; slot++)
        memset(values + (slot * layout->slot_rows + used) * cols, 0,
               (size_t)((layout->slot_rows - used) * cols) * sizeof *values);
}

/* [context][size] → [size][stride] in squares that stay in the first cache; columns beyond the context are zero. */
static void transpose(const struct head *head, const float *source, float *target) {
    const int64_t side = 16;
    for (int64_t row = 0; row < head->stride; row += side)
        for (int64_t column = 0; column < head->size; column++)
            for (int64_t i = row; i < row + side; i++)
                target[column * head->stride + i] = i < head->context ? source[i * head->width + column] : 0;
}

/* scores [rows][keys] = scale · rows of q · turnedᵀ, for the keys that the last row of each group of rows sees. */
static void scores_of(const struct head *head, int64_t first, int64_t rows, const float *q, int64_t q_width,
                      const float *turned, float scale, float *scores) {
    for (int64_t key = 0; key < first + rows; key += KEY_COLUMNS) {
        int64_t row = key > first ? (key - first) / CPU_TILE_ROWS * CPU_TILE_ROWS : 0;
        cpu_tile_product(&(struct tile_product){.rows = rows - row,
                                                .columns = KEY_COLUMNS,
                                                .terms = head->size,
                                                .a = q + row * q_width,
                                                .a_row = q_width,
                                                .a_term = 1,
                                                .b = turned + key,
                                                .ldb = head->stride,
                                                .c = scores + row * head->stride + key,
                                                .ldc = head->stride,
                                                .scale = scale});
    }
}

/* out [rows][size] = scores · values, by groups of rows with the keys they see. */
static void rows_of(const struct head *head, int64_t first, int64_t rows, const float *scores, const float *values,
                    float *out, int64_t out_width) {
    for (int64_t row = 0; row < rows; row += CPU_TILE_ROWS) {
        int64_t group = cpu_min(CPU_TILE_ROWS, rows - row);
        cpu_tile_product(&(struct tile_product){.rows = group,
                                                .columns = head->size,
                                                .terms = keys_seen(head, first + row + group),
                                                .a = scores + row * head->stride,
                                                .a_row = head->stride,
                                                .a_term = 1,
                                                .b = values,
                                                .ldb = head->width,
                                                .c = out + row * out_width,
                                                .ldc = out_width,
                                                .scale = 1});
    }
}

/* sums [keys][size] += scoresᵀ · rows, by groups of keys with the query rows that see them. */
static void keys_of(const struct head *head, int64_t first, int64_t rows, const float *scores, const float *values,
                    int64_t width, float *sums) {
    for (int64_t key = 0; key < first + rows; key += CPU_TILE_ROWS) {
        int64_t row = key > first ? key - first : 0;
        cpu_tile_product(&(struct tile_product){.rows = cpu_min(CPU_TILE_ROWS, first + rows - key),
                                                .columns = head->size,
                                                .terms = rows - row,
                                                .a = scores + row * head->stride + key,
                                                .a_row = 1,
                                                .a_term = head->stride,
                                                .b = values + row * width,
                                                .ldb = width,
                                                .c = sums + key * head->size,
                                                .ldc = head->size,
                                                .scale = 1,
                                                .accumulate = true});
    }
}

/* Zeroes what row `row` of the block does not see of the keys that its group is multiplied with. */
static void clear_unseen(const struct head *head, int64_t first, int64_t row, float *scores) {
    int64_t seen = first + row + 1, end = first + (row / CPU_TILE_ROWS + 1) * CPU_TILE_ROWS;
    memset(scores + row * head->stride + seen, 0, (size_t)(end - seen) * sizeof *scores);
}

/* ---- forward ---- */

/* Scratch of a thread: transposed keys [size][stride], scores [QUERY_ROWS][stride]. */
static int64_t forward_floats(int64_t size, int64_t stride) {
    return (size + QUERY_ROWS) * stride;
}

static void forward_head(const struct head *head, float *out, float *lse, int64_t lse_stride, float *scratch) {
    float *turned = scratch, *scores = scratch + head->size * head->stride;
    transpose(head, head->k, turned);
    for (int64_t first = 0; first < head->context; first += QUERY_ROWS) {
        int64_t rows = cpu_min(QUERY_ROWS, head->context - first);
        float inverse[QUERY_ROWS], *target = out + first * head->out_width;
        scores_of(head, first, rows, head->q + first * head->width, head->width, turned, head->scale, scores);
        for (int64_t r = 0; r < rows; r++) {
            int64_t seen = first + r + 1;
            float max = cpu_max(scores + r * head->stride, seen);
            double sum = cpu_exp_sum(scores + r * head->stride, 1, max, seen);
            clear_unseen(head, first, r, scores);
            inverse[r] = (float)(1.0 / sum);
            if (lse) lse[(first + r) * lse_stride] = (float)((double)max + log(sum));
        }
        rows_of(head, first, rows, scores, head->v, target, head->out_width);
        for (int64_t r = 0; r < rows; r++)
            cpu_scale(inverse[r], target + r * head->out_width, head->size);
    }
}

void cpu_attention_forward(struct device *device, const struct pack_layout *layout, const struct attention_shape *shape,
                           const void *qkv, void *out, float *lse) {
    double start = cpu_profile_start(device);
    int64_t n_sequences = (int64_t)layout->n_slots * layout->n_sequences;
    size_t own = cpu_align((size_t)forward_floats(shape->head_size, score_stride(layout)) * sizeof(float));
    char *scratch = cpu_scratch(device, (size_t)device->threads * own);
    if (!scratch) return;
    clear_padding(layout, (int64_t)shape->n_heads * shape->head_size, out);
    if (lse) clear_padding(layout, shape->n_heads, lse);
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1) collapse(2)
    for (int64_t sequence = 0; sequence < n_sequences; sequence++)
        for (int32_t index = 0; index < shape->n_heads; index++) {
            struct head head = head_make(layout, shape, qkv, sequence, index);
            int64_t row = sequence_row(layout, sequence);
            forward_head(&head, (float *)out + row * head.out_width + index * head.size,
                         lse ? lse + row * shape->n_heads + index : NULL, shape->n_heads,
                         (float *)(scratch + (size_t)omp_get_thread_num() * own));
        }
    count_flops(device, layout, shape, 2);
    cpu_profile_stop(device, "attention_forward", start);
}

/* ---- backward ---- */

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

/* Scratch of a thread: keys and values transposed, two blocks of scores. */
static int64_t backward_floats(int64_t size, int64_t stride) {
    return 2 * (size + QUERY_ROWS) * stride;
}

static void backward_block(const struct head *head, const struct head_gradient *gradient, int64_t first,
                           const float *k_turned, const float *v_turned, float *p, float *dp) {
    int64_t rows = cpu_min(QUERY_ROWS, head->context - first);
    const float *q = head->q + first * head->width, *dout = gradient->dout + first * head->out_width;
    scores_of(head, first, rows, q, head->width, k_turned, head->scale, p);
    scores_of(head, first, rows, dout, head->out_width, v_turned, 1, dp);
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = (first + r) * head->out_width;
        float delta = cpu_dot(gradient->out + row, gradient->dout + row, head->size);
        score_gradient(first + r + 1, gradient->lse[(first + r) * gradient->lse_stride], delta, head->scale,
                       p + r * head->stride, dp + r * head->stride);
        clear_unseen(head, first, r, p);
        clear_unseen(head, first, r, dp);
    }
    keys_of(head, first, rows, p, dout, head->out_width, gradient->dv);
    keys_of(head, first, rows, dp, q, head->width, gradient->dk);
    rows_of(head, first, rows, dp, head->k, gradient->dq + first * head->width, head->width);
}

static void backward_head(const struct head *head, const struct head_gradient *gradient, float *scratch) {
    float *k_turned = scratch, *v_turned = k_turned + head->size * head->stride;
    float *p = v_turned + head->size * head->stride, *dp = p + QUERY_ROWS * head->stride;
    transpose(head, head->k, k_turned);
    transpose(head, head->v, v_turned);
    memset(gradient->dk, 0, (size_t)(head->context * head->size) * sizeof(float));
    memset(gradient->dv, 0, (size_t)(head->context * head->size) * sizeof(float));
    for (int64_t first = 0; first < head->context; first += QUERY_ROWS)
        backward_block(head, gradient, first, k_turned, v_turned, p, dp);
}

/* One call of backward. Sequences are taken in waves, so that the shares of dk and dv stay small. */
struct backward_pass {
    const struct pack_layout *layout;
    const struct attention_shape *shape;
    const float *qkv, *out, *lse, *dout;
    float *dqkv;
    float *shares;      /* [wave][n_heads][2][context][size] */
    int64_t share_size; /* floats of one head's dk or dv */
    char *scratch;      /* of the threads */
    size_t own;         /* bytes of one thread's */
};

static void backward_one(const struct backward_pass *pass, int64_t sequence, int64_t place, int32_t index) {
    const struct attention_shape *shape = pass->shape;
    struct head head = head_make(pass->layout, shape, pass->qkv, sequence, index);
    int64_t row = sequence_row(pass->layout, sequence), offset = row * head.out_width + index * head.size;
    float *share = pass->shares + (place * shape->n_heads + index) * 2 * pass->share_size;
    struct head_gradient gradient = {
        .out = pass->out + offset,
        .dout = pass->dout + offset,
        .lse = pass->lse + row * shape->n_heads + index,
        .lse_stride = shape->n_heads,
        .dq = pass->dqkv + row * head.width + index * head.size,
        .dk = share,
        .dv = share + pass->share_size,
    };
    backward_head(&head, &gradient, (float *)(pass->scratch + (size_t)omp_get_thread_num() * pass->own));
}

/* Adds the shares of a key/value head's query heads, in their order: `part` 0 is dk, 1 is dv. */
static void backward_sum(const struct backward_pass *pass, int64_t sequence, int64_t place, int32_t kv, int32_t part) {
    const struct attention_shape *shape = pass->shape;
    int64_t size = shape->head_size, width = attention_qkv_width(shape);
    int32_t group = shape->n_heads / shape->n_kv_heads;
    int64_t column = (int64_t)(shape->n_heads + part * shape->n_kv_heads + kv) * size;
    const float *shares = pass->shares + ((place * shape->n_heads + (int64_t)kv * group) * 2 + part) * pass->share_size;
    float *target = pass->dqkv + sequence_row(pass->layout, sequence) * width + column;
    for (int64_t row = 0; row < pass->layout->context; row++) {
        memcpy(target + row * width, shares + row * size, (size_t)size * sizeof *target);
        for (int32_t i = 1; i < group; i++)
            cpu_axpy(1, shares + i * 2 * pass->share_size + row * size, target + row * width, size);
    }
}

static void backward_wave(const struct backward_pass *pass, int64_t first, int64_t last) {
#pragma omp for schedule(dynamic, 1) collapse(2)
    for (int64_t sequence = first; sequence < last; sequence++)
        for (int32_t index = 0; index < pass->shape->n_heads; index++)
            backward_one(pass, sequence, sequence - first, index);
#pragma omp for schedule(static) collapse(3)
    for (int64_t sequence = first; sequence < last; sequence++)
        for (int32_t kv = 0; kv < pass->shape->n_kv_heads; kv++)
            for (int32_t part = 0; part < 2; part++)
                backward_sum(pass, sequence, sequence - first, kv, part);
}

void cpu_attention_backward(struct device *device, const struct pack_layout *layout,
                            const struct attention_shape *shape, const void *qkv, const void *out, const float *lse,
                            const void *dout, void *dqkv) {
    double start = cpu_profile_start(device);
    int64_t n_sequences = (int64_t)layout->n_slots * layout->n_sequences;
    int64_t wave = cpu_min(n_sequences, cpu_blocks(4 * (int64_t)device->threads, shape->n_heads));
    struct backward_pass pass = {
        .layout = layout, .shape = shape, .qkv = qkv, .out = out, .lse = lse, .dout = dout, .dqkv = dqkv};
    pass.share_size = (int64_t)layout->context * shape->head_size;
    pass.own = cpu_align((size_t)backward_floats(shape->head_size, score_stride(layout)) * sizeof(float));
    size_t shares = cpu_align((size_t)(wave * shape->n_heads * 2 * pass.share_size) * sizeof(float));
    char *scratch = cpu_scratch(device, shares + (size_t)device->threads * pass.own);
    if (!scratch) return;
    pass.shares = (float *)scratch;
    pass.scratch = scratch + shares;
    clear_padding(layout, attention_qkv_width(shape), dqkv);
#pragma omp parallel num_threads(device->threads)
    for (int64_t first = 0; first < n_sequences; first += wave)
        backward_wave(&pass, first, cpu_min(first + wave, n_sequences));
    count_flops(device, layout, shape, 5);
    cpu_profile_stop(device, "attention_backward", start);
}
