/* See lora_fixture.h. */
#include "lora_fixture.h"

static struct lora_group group_make(const struct lora_shape *shape, int64_t *stride, int32_t *ld) {
    struct lora_group group = {.n = shape->n_sites};
    int64_t offset = shape->odd ? 5 : 0; /* something else may come first */
    int32_t column = shape->odd ? 3 : 0;
    for (int32_t i = 0; i < shape->n_sites; i++) {
        struct lora_site *site = &group.site[i];
        *site =
            (struct lora_site){.n_in = shape->n_in, .n_out = shape->n_out[i], .rank = shape->rank, .column = column};
        site->site_id = 7 * i + 2;
        site->a_offset = offset;
        offset += (int64_t)site->rank * site->n_in;
        site->b_offset = offset;
        offset += (int64_t)site->n_out * site->rank;
        column += site->n_out + (shape->odd ? 2 : 0); /* columns between the pairs belong to nobody */
    }
    *stride = offset + (shape->odd ? 3 : 4); /* 4: a multiple of 4, as all the sizes are */
    *ld = column;
    return group;
}

/* Random adapters; adapter k has its own rank, the rest of the padded rank is zero. */
static float *params_make(struct parity *parity, const struct lora_group *group, int64_t stride) {
    float *params = parity_normal(parity, N_ADAPTERS * stride, 0.5);
    for (int32_t k = 0; k < N_ADAPTERS; k++)
        for (int32_t i = 0; i < group->n; i++) {
            const struct lora_site *site = &group->site[i];
            int32_t own = k == 2 ? site->rank : 1 + (k + i) % site->rank;
            for (int32_t r = own; r < site->rank; r++) {
                for (int32_t c = 0; c < site->n_in; c++)
                    params[k * stride + site->a_offset + r * site->n_in + c] = 0;
                for (int32_t o = 0; o < site->n_out; o++)
                    params[k * stride + site->b_offset + o * site->rank + r] = 0;
            }
        }
    return params;
}

static struct lora_fixture fixture_make(struct parity *parity, struct lora_shape shape, struct parity_rows rows) {
    struct lora_fixture f = {.shape = shape, .rows = rows};
    int64_t stride, n_rows = f.rows.layout.n_rows;
    f.group = group_make(&shape, &stride, &f.ld);
    f.width = (int64_t)shape.n_sites * shape.rank;
    float *params = params_make(parity, &f.group, stride), *scale = parity_normal(parity, N_ADAPTERS, 1);
    float *dropout = parity_host(parity, N_ADAPTERS * 4);
    uint64_t *seed = parity_host(parity, N_ADAPTERS * 8);
    int32_t *step = parity_below(parity, N_ADAPTERS, 700000);
    for (int32_t k = 0; k < N_ADAPTERS; k++) {
        dropout[k] = k == 3 ? 0 : shape.dropout;
        seed[k] = (uint64_t)rng_u32(&parity->rng) << 32 | rng_u32(&parity->rng);
    }
    f.scale = scale, f.dropout = dropout, f.seed = seed, f.step = step;
    f.adapters = (struct adapters){
        .params = parity_floats(parity, params, N_ADAPTERS * stride),
        .grads = parity_floats(parity, NULL, N_ADAPTERS * stride),
        .stride = stride,
        .scale = parity_floats(parity, scale, N_ADAPTERS),
        .dropout = shape.dropout > 0 ? parity_floats(parity, dropout, N_ADAPTERS) : NULL,
        .seed = parity_raw(parity, seed, N_ADAPTERS * sizeof *seed),
        .step = parity_ints(parity, step, N_ADAPTERS),
    };
    float *x = parity_normal(parity, n_rows * shape.n_in, 1), *dy = parity_normal(parity, n_rows * f.ld, 1);
    f.x_device = parity_act(parity, x, n_rows * shape.n_in);
    f.dy_device = parity_act(parity, dy, n_rows * f.ld);
    f.params_wide = parity_widen(parity, params, N_ADAPTERS * stride);
    f.x = parity_widen(parity, x, n_rows * shape.n_in);
    f.dy = parity_widen(parity, dy, n_rows * f.ld);
    return f;
}

struct lora_fixture lora_fixture_make(struct parity *parity, struct lora_shape shape) {
    return fixture_make(parity, shape,
                        parity_layout(parity, shape.n_slots, shape.n_sequences, shape.context, N_ADAPTERS));
}

struct lora_fixture lora_fixture_make_small(struct parity *parity, struct lora_shape shape) {
    struct parity_rows rows = parity_layout(parity, shape.n_slots, shape.n_sequences, shape.context, N_ADAPTERS);
    int32_t block = LVS_ROW_BLOCK_SMALL, blocks = (shape.n_sequences * shape.context + block - 1) / block;
    rows.layout.row_block = block;
    rows.layout.slot_rows = blocks * block;
    rows.layout.n_rows = shape.n_slots * rows.layout.slot_rows;
    return fixture_make(parity, shape, rows);
}

const char *lora_shape_text(const struct lora_fixture *f) {
    return parity_text("%d×%d rows, %d sites of rank %d, %d in%s", f->shape.n_slots, (int)f->rows.layout.slot_rows,
                       f->shape.n_sites, f->shape.rank, f->shape.n_in, f->shape.odd ? ", odd" : "");
}

/* ---- reference ---- */

/* Factor of one input element: 0 or 1/(1 − p). */
static double mask(const struct lora_fixture *f, int32_t adapter, int32_t site_id, int64_t row, int64_t column) {
    double p = (double)f->dropout[adapter];
    uint32_t words[4];
    if (p <= 0) return 1;
    uint64_t index =
        (uint64_t)f->step[adapter] << 44 | (uint64_t)site_id << 34 | (uint64_t)row << 16 | (uint64_t)column / 4;
    rng_block(f->seed[adapter], RNG_STREAM_DROPOUT, index, words);
    return words[column % 4] < (uint32_t)(p * 0x1p32) ? 0 : 1 / (1 - p);
}

/* The numbers of one row: adapter and its matrices. */
struct row_view {
    int32_t adapter;
    int64_t slot_row;
    double scale;
    const double *a, *b, *x;
};

static struct row_view view_make(const struct lora_fixture *f, int64_t row, const struct lora_site *site) {
    int32_t slot = (int32_t)(row / f->rows.layout.slot_rows), adapter = f->rows.adapter[slot];
    const double *params = f->params_wide + adapter * f->adapters.stride;
    return (struct row_view){adapter,
                             row % f->rows.layout.slot_rows,
                             (double)f->scale[adapter],
                             params + site->a_offset,
                             params + site->b_offset,
                             f->x + row * site->n_in};
}

void lora_reference_xa(const struct lora_fixture *f, double *xa) {
    for (int64_t row = 0; row < f->rows.layout.n_rows; row++)
        for (int32_t i = 0; i < f->group.n; i++) {
            const struct lora_site *site = &f->group.site[i];
            struct row_view view = view_make(f, row, site);
            for (int32_t r = 0; r < site->rank; r++) {
                double sum = 0;
                for (int32_t c = 0; c < site->n_in; c++)
                    sum +=
                        view.x[c] * mask(f, view.adapter, site->site_id, view.slot_row, c) * view.a[r * site->n_in + c];
                xa[row * f->width + i * site->rank + r] = sum;
            }
        }
}

void lora_reference_y(const struct lora_fixture *f, const double *xa, double *y) {
    for (int64_t row = 0; row < f->rows.layout.n_rows; row++)
        for (int32_t i = 0; i < f->group.n; i++) {
            const struct lora_site *site = &f->group.site[i];
            struct row_view view = view_make(f, row, site);
            for (int32_t o = 0; o < site->n_out; o++)
                for (int32_t r = 0; r < site->rank; r++)
                    y[row * f->ld + site->column + o] +=
                        view.scale * xa[row * f->width + i * site->rank + r] * view.b[o * site->rank + r];
        }
}

void lora_reference_b_backward(const struct lora_fixture *f, const double *xa, double *t, double *grads) {
    for (int64_t row = 0; row < f->rows.layout.n_rows; row++)
        for (int32_t i = 0; i < f->group.n; i++) {
            const struct lora_site *site = &f->group.site[i];
            struct row_view view = view_make(f, row, site);
            double *grad = grads + view.adapter * f->adapters.stride + site->b_offset;
            const double *dy = f->dy + row * f->ld + site->column;
            for (int32_t r = 0; r < site->rank; r++) {
                int64_t at = row * f->width + i * site->rank + r;
                t[at] = 0;
                for (int32_t o = 0; o < site->n_out; o++) {
                    t[at] += view.scale * dy[o] * view.b[o * site->rank + r];
                    grad[o * site->rank + r] += view.scale * dy[o] * xa[at];
                }
            }
        }
}

void lora_reference_a_backward(const struct lora_fixture *f, const double *t, double *grads, double *dx) {
    for (int64_t row = 0; row < f->rows.layout.n_rows; row++)
        for (int32_t i = 0; i < f->group.n; i++) {
            const struct lora_site *site = &f->group.site[i];
            struct row_view view = view_make(f, row, site);
            double *grad = grads + view.adapter * f->adapters.stride + site->a_offset;
            for (int32_t c = 0; c < site->n_in; c++) {
                double factor = mask(f, view.adapter, site->site_id, view.slot_row, c);
                for (int32_t r = 0; r < site->rank; r++) {
                    double term = t[row * f->width + i * site->rank + r] * factor;
                    grad[r * site->n_in + c] += term * view.x[c];
                    dx[row * site->n_in + c] += term * view.a[r * site->n_in + c];
                }
            }
        }
}
