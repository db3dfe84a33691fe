/* Device memory of a trainer: one row a table says how large it is, for the allocation and for planning alike. */
#include "train_internal.h"

#include <stddef.h>

struct table_row {
    const char *what;
    size_t member; /* offset of the pointer in struct trainer_tables */
    int64_t count; /* elements */
    size_t size;   /* bytes an element */
};

#define TABLE_ROWS 16
#define TABLE(name, text, elements)                                                         \
    (struct table_row) {                                                                    \
        .what = text, .member = offsetof(struct trainer_tables, name), .count = (elements), \
        .size = sizeof *((struct trainer_tables *)0)->name                                  \
    }

/* Products of 32-bit shapes in 64 bits: the largest (adapters × floats, trials × steps × batch) stay far below 2⁶³. */
static void table_rows(const struct trainer_shape *shape, struct table_row rows[TABLE_ROWS]) {
    const int64_t n = shape->n_trials, windows = (int64_t)shape->n_windows * shape->context;
    const int64_t steps = n * shape->table_stride, floats = n * shape->stride;
    struct table_row *row = rows;
    *row++ = TABLE(window_ids, "the training windows", windows);
    *row++ = TABLE(window_labels, "the training windows' labels", windows);
    *row++ = TABLE(order, "the order of the windows", steps * shape->batch);
    *row++ = TABLE(step, "the step counters", n);
    *row++ = TABLE(learning_rate, "the learning rates of all steps", steps);
    *row++ = TABLE(loss, "the losses of all steps", steps);
    *row++ = TABLE(gradient_norm, "the gradient norms of all steps", steps);
    *row++ = TABLE(params, "the adapters", floats);
    *row++ = TABLE(grads, "the adapters' gradients", floats);
    *row++ = TABLE(m, "Adam's first moments", floats);
    *row++ = TABLE(v, "Adam's second moments", floats);
    *row++ = TABLE(whole, "the adapters with all rows of the head", n * shape->whole_stride);
    *row++ = TABLE(scale, "the adapters' scales", n);
    *row++ = TABLE(dropout, "the dropout probabilities", n);
    *row++ = TABLE(seed, "the dropout seeds", n);
    *row++ = TABLE(optimizer, "the optimisers' constants", n);
}

int64_t tables_bytes(const struct trainer_shape *shape) {
    struct table_row rows[TABLE_ROWS];
    table_rows(shape, rows);
    int64_t bytes = 0;
    for (int i = 0; i < TABLE_ROWS; i++)
        bytes += rows[i].count * (int64_t)rows[i].size;
    return bytes;
}

static void **table_pointer(struct trainer_tables *tables, const struct table_row *row) {
    return (void **)((char *)tables + row->member);
}

enum lvs_status tables_allocate(const struct compute *compute, const struct trainer_shape *shape,
                                struct trainer_tables *tables, struct lvs_error *err) {
    struct table_row rows[TABLE_ROWS];
    table_rows(shape, rows);
    *tables = (struct trainer_tables){0};
    for (int i = 0; i < TABLE_ROWS; i++) {
        size_t bytes = (size_t)rows[i].count * rows[i].size;
        if (bytes == 0) continue;
        enum lvs_status status =
            compute->backend->allocate(compute->device, bytes, table_pointer(tables, &rows[i]), err);
        if (status == LVS_OK) continue;
        tables_release(compute, tables);
        lvs_error_prefix(err,
                         "%s (%d trials, up to %d steps, %d windows of %d tokens, %.1f MiB; fewer trials in a pack "
                         "or a larger stride need less)",
                         rows[i].what, shape->n_trials, shape->table_stride, shape->n_windows, shape->context,
                         (double)bytes / 0x1p20);
        return status;
    }
    return LVS_OK;
}

void tables_release(const struct compute *compute, struct trainer_tables *tables) {
    struct trainer_shape none = {0};
    struct table_row rows[TABLE_ROWS];
    table_rows(&none, rows);
    for (int i = 0; i < TABLE_ROWS; i++) {
        void **memory = table_pointer(tables, &rows[i]);
        if (*memory) compute->backend->release(compute->device, *memory);
        *memory = NULL;
    }
}
