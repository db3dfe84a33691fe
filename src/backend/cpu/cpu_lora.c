/* The low-rank pairs of a group of projections that share one input: A·x and B·(A·x) forward, the gradients of A, B and
 * x backward. Each slot uses its adapter; a slot's numbers do not depend on the other slots or on rank padding. */
#include <omp.h>
#include <string.h>

#include "cpu_dropout.h"
#include "cpu_tile.h"

enum {
    DROP_ROWS = 16,    /* rows whose dropped input is held at once */
    GRAD_COLUMNS = 64, /* columns of a gradient that one task sums */
    GRAD_ROWS = 128,   /* rows summed in registers before they are added to the gradient */
};

/* One call: what every task needs. */
struct lora_pass {
    const struct pack_layout *layout;
    const struct adapters *adapters;
    const struct lora_group *group;
    int64_t width; /* floats of a row of xa and t: all ranks side by side */
};

static struct lora_pass pass_make(const struct pack_layout *layout, const struct adapters *adapters,
                                  const struct lora_group *group) {
    assert(group->n > 0 && group->n <= LVS_MAX_SITES);
    for (int32_t i = 0; i < group->n; i++)
        assert(group->site[i].rank == group->site[0].rank);
    return (struct lora_pass){layout, adapters, group, (int64_t)group->n * group->site[0].rank};
}

static const float *adapter_params(const struct lora_pass *pass, int32_t slot) {
    return pass->adapters->params + pass->layout->adapter[slot] * pass->adapters->stride;
}

static float *adapter_grads(const struct lora_pass *pass, int32_t slot) {
    return pass->adapters->grads + pass->layout->adapter[slot] * pass->adapters->stride;
}

enum product_kind {
    PROJECT, /* c = alpha · a · b: to the rank, so b is padded to whole lanes */
    EXPAND,  /* c += alpha · a · b: from the rank */
};

/* a [m][k], b [k][n], c [m][n] */
static void product(enum product_kind kind, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                    const float *b, int64_t ldb, float *c, int64_t ldc) {
    cpu_tile_product(&(struct tile_product){.rows = m,
                                            .columns = n,
                                            .terms = k,
                                            .a = a,
                                            .a_row = lda,
                                            .a_term = 1,
                                            .b = b,
                                            .ldb = ldb,
                                            .c = c,
                                            .ldc = ldc,
                                            .scale = alpha,
                                            .accumulate = kind == EXPAND,
                                            .padded = kind == PROJECT});
}

/* c [k][n] += a [m][k]ᵀ · b [m][n] */
static void outer(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb, float *c,
                  int64_t ldc) {
    cpu_tile_product(&(struct tile_product){.rows = k,
                                            .columns = n,
                                            .terms = m,
                                            .a = a,
                                            .a_row = 1,
                                            .a_term = lda,
                                            .b = b,
                                            .ldb = ldb,
                                            .c = c,
                                            .ldc = ldc,
                                            .scale = 1,
                                            .accumulate = true});
}

static void transpose(int64_t rows, int64_t cols, const float *source, int64_t ld_source, float *target,
                      int64_t ld_target) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            target[j * ld_target + i] = source[i * ld_source + j];
}

static void count_flops(struct device *device, const struct lora_pass *pass, bool input_side, double products) {
    double terms = 0;
    for (int32_t i = 0; i < pass->group->n; i++)
        terms += input_side ? pass->group->site[i].n_in : pass->group->site[i].n_out;
    device->flops += products * 2.0 * pass->layout->n_rows * pass->group->site[0].rank * terms;
}

/* ---- A forward ---- */

/* xa of one row block and one site; `at` is Aᵀ [n_in][lanes]. */
static void a_forward_block(const struct lora_pass *pass, int32_t slot, int32_t site_index, int64_t row,
                            const float *at, const float *x, float *dropped, float *xa) {
    const struct lora_site *site = &pass->group->site[site_index];
    const struct pack_layout *layout = pass->layout;
    int64_t n_in = site->n_in, lanes = cpu_tile_padded(site->rank), block = layout->row_block;
    float *target = xa + row * pass->width + (int64_t)site_index * site->rank;
    struct dropout dropout = cpu_dropout_make(pass->adapters, layout->adapter[slot], site->site_id);
    if (dropout.probability <= 0) {
        product(PROJECT, block, site->rank, n_in, 1, x + row * n_in, n_in, at, lanes, target, pass->width);
        return;
    }
    for (int64_t begin = 0; begin < block; begin += DROP_ROWS) {
        for (int64_t i = 0; i < DROP_ROWS; i++) {
            int64_t global = row + begin + i;
            cpu_dropout_apply(&dropout, global - (int64_t)slot * layout->slot_rows, 0, n_in, x + global * n_in,
                              dropped + i * n_in);
        }
        product(PROJECT, DROP_ROWS, site->rank, n_in, 1, dropped, n_in, at, lanes, target + begin * pass->width,
                pass->width);
    }
}

void cpu_lora_a_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                        const struct lora_group *group, const void *x, float *xa) {
    if (group->n == 0) return;
    double start = cpu_profile_start(device);
    struct lora_pass pass = pass_make(layout, adapters, group);
    int64_t n_in = group->site[0].n_in, lanes = cpu_tile_padded(group->site[0].rank);
    size_t matrix = cpu_align((size_t)(n_in * lanes) * sizeof(float)),
           rows = cpu_align((size_t)(DROP_ROWS * n_in) * sizeof(float));
    int64_t n_matrices = (int64_t)layout->n_slots * group->n, blocks = layout->slot_rows / layout->row_block;
    char *scratch = cpu_scratch(device, (size_t)n_matrices * matrix + (size_t)device->threads * rows);
    if (!scratch) return;
    memset(scratch, 0, (size_t)n_matrices * matrix);
#pragma omp parallel num_threads(device->threads)
    {
#pragma omp for
        for (int64_t i = 0; i < n_matrices; i++) {
            const struct lora_site *site = &group->site[i % group->n];
            transpose(site->rank, n_in, adapter_params(&pass, (int32_t)(i / group->n)) + site->a_offset, n_in,
                      (float *)(scratch + (size_t)i * matrix), lanes);
        }
        float *dropped = (float *)(scratch + (size_t)n_matrices * matrix + (size_t)omp_get_thread_num() * rows);
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < n_matrices; i++)
            for (int64_t block = 0; block < blocks; block++) {
                int32_t slot = (int32_t)(i / group->n);
                int64_t row = (int64_t)slot * layout->slot_rows + block * layout->row_block;
                a_forward_block(&pass, slot, (int32_t)(i % group->n), row,
                                (const float *)(scratch + (size_t)i * matrix), x, dropped, xa);
            }
    }
    count_flops(device, &pass, true, 1);
    cpu_profile_stop(device, "lora_a_forward", start);
}

/* ---- B forward ---- */

void cpu_lora_b_forward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                        const struct lora_group *group, const float *xa, int32_t ld_y, void *y) {
    if (group->n == 0) return;
    double start = cpu_profile_start(device);
    struct lora_pass pass = pass_make(layout, adapters, group);
    int64_t rank = group->site[0].rank, widest = 0;
    for (int32_t i = 0; i < group->n; i++)
        widest = group->site[i].n_out > widest ? group->site[i].n_out : widest;
    size_t matrix = cpu_align((size_t)(rank * widest) * sizeof(float));
    int64_t n_matrices = (int64_t)layout->n_slots * group->n, blocks = layout->slot_rows / layout->row_block;
    char *scratch = cpu_scratch(device, (size_t)n_matrices * matrix);
    if (!scratch) return;
#pragma omp parallel num_threads(device->threads)
    {
#pragma omp for
        for (int64_t i = 0; i < n_matrices; i++) {
            const struct lora_site *site = &group->site[i % group->n];
            transpose(site->n_out, rank, adapter_params(&pass, (int32_t)(i / group->n)) + site->b_offset, rank,
                      (float *)(scratch + (size_t)i * matrix), site->n_out);
        }
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < n_matrices; i++)
            for (int64_t block = 0; block < blocks; block++) {
                const struct lora_site *site = &group->site[i % group->n];
                int64_t slot = i / group->n, row = slot * layout->slot_rows + block * layout->row_block;
                product(EXPAND, layout->row_block, site->n_out, rank, adapters->scale[layout->adapter[slot]],
                        xa + row * pass.width + (i % group->n) * rank, pass.width,
                        (const float *)(scratch + (size_t)i * matrix), site->n_out,
                        (float *)y + row * ld_y + site->column, ld_y);
            }
    }
    count_flops(device, &pass, false, 1);
    cpu_profile_stop(device, "lora_b_forward", start);
}

/* ---- B backward ---- */

/* grad B [n_out][rank] for GRAD_COLUMNS of n_out: scale · dyᵀ·xa, summed block by block. */
static void b_gradient_tile(const struct lora_pass *pass, int32_t slot, int32_t site_index, int64_t column,
                            const float *dy, int64_t ld_dy, const float *xa) {
    const struct lora_site *site = &pass->group->site[site_index];
    int64_t rank = site->rank, columns = cpu_min(GRAD_COLUMNS, site->n_out - column);
    int64_t first = (int64_t)slot * pass->layout->slot_rows;
    float *grad = adapter_grads(pass, slot) + site->b_offset + column * rank;
    float scale = pass->adapters->scale[pass->layout->adapter[slot]], sum[8 * GRAD_COLUMNS];
    for (int64_t r = 0; r < rank; r += 8) {
        int64_t ranks = cpu_min(8, rank - r);
        memset(sum, 0, sizeof sum);
        for (int64_t row = first; row < first + pass->layout->slot_rows; row += GRAD_ROWS) {
            int64_t rows = cpu_min(GRAD_ROWS, first + pass->layout->slot_rows - row);
            outer(rows, columns, ranks, xa + row * pass->width + site_index * rank + r, pass->width,
                  dy + row * ld_dy + site->column + column, ld_dy, sum, GRAD_COLUMNS);
        }
        for (int64_t i = 0; i < columns; i++)
            for (int64_t j = 0; j < ranks; j++)
                grad[i * rank + r + j] = scale * sum[j * GRAD_COLUMNS + i];
    }
}

/* t = scale · dy·B of one row block; `b` is B [n_out][lanes]. */
static void b_backward_block(const struct lora_pass *pass, int32_t slot, int32_t site_index, int64_t row,
                             const float *b, const float *dy, int64_t ld_dy, float *t) {
    const struct lora_site *site = &pass->group->site[site_index];
    float scale = pass->adapters->scale[pass->layout->adapter[slot]];
    product(PROJECT, pass->layout->row_block, site->rank, site->n_out, scale, dy + row * ld_dy + site->column, ld_dy, b,
            cpu_tile_padded(site->rank), t + row * pass->width + (int64_t)site_index * site->rank, pass->width);
}

/* B with its columns padded to whole lanes. */
static void pad_columns(int64_t rows, int64_t cols, const float *source, float *target, int64_t ld_target) {
    for (int64_t i = 0; i < rows; i++)
        memcpy(target + i * ld_target, source + i * cols, (size_t)cols * sizeof *target);
}

void cpu_lora_b_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                         const struct lora_group *group, const void *dy, int32_t ld_dy, const float *xa, float *t) {
    if (group->n == 0) return;
    double start = cpu_profile_start(device);
    struct lora_pass pass = pass_make(layout, adapters, group);
    int64_t rank = group->site[0].rank, lanes = cpu_tile_padded(rank), widest = 0;
    for (int32_t i = 0; i < group->n; i++)
        widest = group->site[i].n_out > widest ? group->site[i].n_out : widest;
    size_t matrix = cpu_align((size_t)(lanes * widest) * sizeof(float));
    int64_t n_matrices = (int64_t)layout->n_slots * group->n, blocks = layout->slot_rows / layout->row_block;
    char *scratch = cpu_scratch(device, (size_t)n_matrices * matrix);
    if (!scratch) return;
    memset(scratch, 0, (size_t)n_matrices * matrix);
#pragma omp parallel num_threads(device->threads)
    {
#pragma omp for
        for (int64_t i = 0; i < n_matrices; i++) {
            const struct lora_site *site = &group->site[i % group->n];
            pad_columns(site->n_out, rank, adapter_params(&pass, (int32_t)(i / group->n)) + site->b_offset,
                        (float *)(scratch + (size_t)i * matrix), lanes);
        }
#pragma omp for collapse(2) schedule(static) nowait
        for (int64_t i = 0; i < n_matrices; i++)
            for (int64_t block = 0; block < blocks; block++) {
                int32_t slot = (int32_t)(i / group->n);
                int64_t row = (int64_t)slot * layout->slot_rows + block * layout->row_block;
                b_backward_block(&pass, slot, (int32_t)(i % group->n), row,
                                 (const float *)(scratch + (size_t)i * matrix), dy, ld_dy, t);
            }
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t i = 0; i < n_matrices; i++)
            for (int64_t column = 0; column < widest; column += GRAD_COLUMNS)
                if (column < group->site[i % group->n].n_out)
                    b_gradient_tile(&pass, (int32_t)(i / group->n), (int32_t)(i % group->n), column, dy, ld_dy, xa);
    }
    count_flops(device, &pass, false, 2);
    cpu_profile_stop(device, "lora_b_backward", start);
}

/* ---- A backward ---- */

/* grad A [rank][n_in] for GRAD_COLUMNS of n_in: tᵀ·dropout(x), summed block by block. */
static void a_gradient_tile(const struct lora_pass *pass, int32_t slot, int32_t site_index, int64_t column,
                            const float *t, const float *x) {
    const struct lora_site *site = &pass->group->site[site_index];
    int64_t n_in = site->n_in, columns = cpu_min(GRAD_COLUMNS, n_in - column);
    int64_t first = (int64_t)slot * pass->layout->slot_rows;
    struct dropout dropout = cpu_dropout_make(pass->adapters, pass->layout->adapter[slot], site->site_id);
    float *grad = adapter_grads(pass, slot) + site->a_offset + column, dropped[GRAD_ROWS * GRAD_COLUMNS];
    for (int64_t r = 0; r < site->rank; r++)
        memset(grad + r * n_in, 0, (size_t)columns * sizeof *grad);
    for (int64_t row = first; row < first + pass->layout->slot_rows; row += GRAD_ROWS) {
        int64_t rows = cpu_min(GRAD_ROWS, first + pass->layout->slot_rows - row), ld = n_in;
        const float *source = x + row * n_in + column;
        if (dropout.probability > 0) {
            for (int64_t i = 0; i < rows; i++)
                cpu_dropout_apply(&dropout, row - first + i, column, columns, source + i * n_in,
                                  dropped + i * GRAD_COLUMNS);
            source = dropped;
            ld = GRAD_COLUMNS;
        }
        outer(rows, columns, site->rank, t + row * pass->width + (int64_t)site_index * site->rank, pass->width, source,
              ld, grad, n_in);
    }
}

/* dx += dropout'(t·A) of one row block, all sites of the group in order. */
static void a_backward_block(const struct lora_pass *pass, int32_t slot, int64_t row, const float *t, float *part,
                             float *dx) {
    const struct pack_layout *layout = pass->layout;
    for (int32_t i = 0; i < pass->group->n; i++) {
        const struct lora_site *site = &pass->group->site[i];
        const float *a = adapter_params(pass, slot) + site->a_offset;
        const float *factors = t + row * pass->width + (int64_t)i * site->rank;
        int64_t n_in = site->n_in;
        struct dropout dropout = cpu_dropout_make(pass->adapters, layout->adapter[slot], site->site_id);
        if (dropout.probability <= 0) {
            product(EXPAND, layout->row_block, n_in, site->rank, 1, factors, pass->width, a, n_in, dx + row * n_in,
                    n_in);
            continue;
        }
        for (int64_t j = 0; j < layout->row_block; j++) {
            memset(part, 0, (size_t)n_in * sizeof *part);
            product(EXPAND, 1, n_in, site->rank, 1, factors + j * pass->width, pass->width, a, n_in, part, n_in);
            cpu_dropout_apply(&dropout, row + j - (int64_t)slot * layout->slot_rows, 0, n_in, part, part);
            cpu_axpy(1, part, dx + (row + j) * n_in, n_in);
        }
    }
}

void cpu_lora_a_backward(struct device *device, const struct pack_layout *layout, const struct adapters *adapters,
                         const struct lora_group *group, const float *t, const void *x, void *dx) {
    if (group->n == 0) return;
    double start = cpu_profile_start(device);
    struct lora_pass pass = pass_make(layout, adapters, group);
    int64_t n_in = group->site[0].n_in, n_matrices = (int64_t)layout->n_slots * group->n;
    size_t row_size = cpu_align((size_t)n_in * sizeof(float));
    char *scratch = cpu_scratch(device, (size_t)device->threads * row_size);
    if (!scratch) return;
#pragma omp parallel num_threads(device->threads)
    {
        float *part = (float *)(scratch + (size_t)omp_get_thread_num() * row_size);
#pragma omp for schedule(static) nowait
        for (int64_t block = 0; block < layout->n_rows / layout->row_block; block++) {
            int64_t row = block * layout->row_block;
            a_backward_block(&pass, (int32_t)(row / layout->slot_rows), row, t, part, dx);
        }
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (int64_t i = 0; i < n_matrices; i++)
            for (int64_t column = 0; column < n_in; column += GRAD_COLUMNS)
                a_gradient_tile(&pass, (int32_t)(i / group->n), (int32_t)(i % group->n), column, t, x);
    }
    count_flops(device, &pass, true, 2);
    cpu_profile_stop(device, "lora_a_backward", start);
}
