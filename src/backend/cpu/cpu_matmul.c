/* Products with a frozen matrix. A slot's rows, the columns and the terms of the sum are cut into tiles whose sizes
 * are functions of the shapes alone, one BLAS call each, so bits depend on neither threads nor pack. Which thread does
 * which tile, and in which order, changes nothing but time. */
#include <omp.h>

#include "cpu_matmul.h"

enum {
    ROWS_MAX = 256,    /* of a tile: BLAS packs the matrix's tile once for so many rows */
    COLUMNS_MAX = 416, /* of a tile; COLUMNS_MAX × TERMS_MAX floats stay in a core's cache */
    COLUMNS_MIN = 64,  /* below this BLAS is slow */
    TERMS_MAX = 640,   /* of the sum in one call */
    TILES_WANTED = 4,  /* at least so many tiles a slot, for the threads to share */
};

/* How one product is cut. */
struct grid {
    int64_t n_columns, n_terms;   /* of the whole product */
    int64_t rows, columns, terms; /* of a tile; the last of each is what is left */
    int64_t n_row_tiles;          /* over all slots */
    int64_t slot_tiles, n_column_tiles;
};

/* Size of equal pieces, whole units, when `count` is cut into at least `pieces` of at most `max`. */
static int64_t piece(int64_t count, int64_t max, int64_t pieces, int64_t unit) {
    int64_t needed = cpu_blocks(count, max);
    needed = cpu_blocks(needed, pieces) * pieces;
    return cpu_blocks(cpu_blocks(count, needed), unit) * unit;
}

static struct grid grid_make(const struct product *product, int64_t n_columns, int64_t n_terms) {
    struct grid grid = {.n_columns = n_columns, .n_terms = n_terms};
    grid.rows = piece(product->slot_rows, ROWS_MAX, 1, product->row_block);
    grid.slot_tiles = cpu_blocks(product->slot_rows, grid.rows);
    grid.n_row_tiles = grid.slot_tiles * (product->n_rows / product->slot_rows);
    grid.columns = piece(n_columns, COLUMNS_MAX, cpu_blocks(TILES_WANTED, grid.slot_tiles), 16);
    if (grid.columns < COLUMNS_MIN) grid.columns = COLUMNS_MIN;
    grid.n_column_tiles = cpu_blocks(n_columns, grid.columns);
    grid.terms = piece(n_terms, TERMS_MAX, 1, 16);
    return grid;
}

/* Rows of one tile, within its slot. */
static int64_t tile_row(const struct product *product, const struct grid *grid, int64_t tile, int64_t *rows) {
    int64_t first = tile % grid->slot_tiles * grid->rows;
    *rows = cpu_min(grid->rows, product->slot_rows - first);
    return tile / grid->slot_tiles * product->slot_rows + first;
}

/* Column tile `column_tile` of row tiles [first, last): one widened tile of the matrix serves them all. */
typedef void (*task_run)(const struct product *product, const struct grid *grid, int64_t column_tile, int64_t first,
                         int64_t last, float *scratch);

static void forward_task(const struct product *product, const struct grid *grid, int64_t column_tile, int64_t first,
                         int64_t last, float *scratch) {
    int64_t column = column_tile * grid->columns, columns = cpu_min(grid->columns, grid->n_columns - column);
    for (int64_t term = 0; term < grid->n_terms; term += grid->terms) {
        int64_t terms = cpu_min(grid->terms, grid->n_terms - term), ld;
        const float *w = cpu_weight_tile(product->w, column, columns, term, terms, scratch, &ld);
        float beta = term > 0 || product->accumulate ? 1.0f : 0.0f;
        for (int64_t tile = first; tile < last; tile++) {
            int64_t rows, row = tile_row(product, grid, tile, &rows);
            cpu_gemm_nt(rows, columns, terms, 1, product->a + row * grid->n_terms + term, grid->n_terms, w, ld, beta,
                        product->c + row * grid->n_columns + column, grid->n_columns);
        }
    }
}

static void backward_task(const struct product *product, const struct grid *grid, int64_t column_tile, int64_t first,
                          int64_t last, float *scratch) {
    int64_t column = column_tile * grid->columns, columns = cpu_min(grid->columns, grid->n_columns - column);
    for (int64_t term = 0; term < grid->n_terms; term += grid->terms) {
        int64_t terms = cpu_min(grid->terms, grid->n_terms - term), ld;
        const float *w = cpu_weight_tile(product->w, term, terms, column, columns, scratch, &ld);
        float beta = term > 0 || product->accumulate ? 1.0f : 0.0f;
        for (int64_t tile = first; tile < last; tile++) {
            int64_t rows, row = tile_row(product, grid, tile, &rows);
            cpu_gemm_nn(rows, columns, terms, 1, product->a + row * grid->n_terms + term, grid->n_terms, w, ld, beta,
                        product->c + row * grid->n_columns + column, grid->n_columns);
        }
    }
}

static float *thread_scratch(const struct product *product) {
    return product->tiles + (int64_t)omp_get_thread_num() * COLUMNS_MAX * TERMS_MAX;
}

/* Enough rows for every thread: a task is whole rows, which are finished at once. */
static void run_by_rows(struct device *device, const struct product *product, const struct grid *grid, task_run run) {
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1)
    for (int64_t tile = 0; tile < grid->n_row_tiles; tile++) {
        int64_t rows, row = tile_row(product, grid, tile, &rows);
        for (int64_t column_tile = 0; column_tile < grid->n_column_tiles; column_tile++)
            run(product, grid, column_tile, tile, tile + 1, thread_scratch(product));
        if (product->finish) product->finish(product->finish_context, row, rows);
    }
}

/* Few rows, or a matrix that has to be widened: a task is a column tile of as many rows as leave every thread busy. */
static void run_by_columns(struct device *device, const struct product *product, const struct grid *grid,
                           task_run run) {
    int64_t groups = cpu_min(grid->n_row_tiles, cpu_blocks(4 * (int64_t)device->threads, grid->n_column_tiles));
    int64_t group = cpu_blocks(grid->n_row_tiles, groups);
#pragma omp parallel num_threads(device->threads)
    {
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (int64_t column_tile = 0; column_tile < grid->n_column_tiles; column_tile++)
            for (int64_t first = 0; first < grid->n_row_tiles; first += group)
                run(product, grid, column_tile, first, cpu_min(first + group, grid->n_row_tiles),
                    thread_scratch(product));
        if (product->finish) {
            const int64_t step = 16;
#pragma omp for schedule(static)
            for (int64_t row = 0; row < product->n_rows; row += step)
                product->finish(product->finish_context, row, cpu_min(step, product->n_rows - row));
        }
    }
}

static void product_run(struct device *device, const struct product *product, int64_t n_columns, int64_t n_terms,
                        task_run run) {
    assert(product->n_rows % product->slot_rows == 0 && product->slot_rows % product->row_block == 0);
    struct grid grid = grid_make(product, n_columns, n_terms);
    if (grid.n_row_tiles >= 2 * (int64_t)device->threads && cpu_weight_in_place(product->w))
        run_by_rows(device, product, &grid, run);
    else
        run_by_columns(device, product, &grid, run);
    device->flops += 2.0 * (double)product->n_rows * (double)n_columns * (double)n_terms;
}

size_t cpu_tiles_size(const struct device *device) {
    return (size_t)device->threads * COLUMNS_MAX * TERMS_MAX * sizeof(float);
}

struct product cpu_product_make(const struct pack_layout *layout, const void *a, const struct weight *w, void *c,
                                float *tiles) {
    return (struct product){.a = a,
                            .w = w,
                            .c = c,
                            .n_rows = layout->n_rows,
                            .slot_rows = layout->slot_rows,
                            .row_block = layout->row_block,
                            .tiles = tiles};
}

int64_t cpu_logits_rows(int64_t vocabulary, int64_t slot_rows, int64_t row_block) {
    const int64_t bytes = (int64_t)64 << 20;
    int64_t blocks = bytes / (vocabulary * row_block * (int64_t)sizeof(float));
    return cpu_min(slot_rows, row_block * (blocks > 0 ? blocks : 1));
}

void cpu_product_forward(struct device *device, const struct product *product) {
    product_run(device, product, product->w->rows, product->w->cols, forward_task);
}

void cpu_product_backward(struct device *device, const struct product *product) {
    product_run(device, product, product->w->cols, product->w->rows, backward_task);
}

void cpu_matmul_forward(struct device *device, const struct pack_layout *layout, const void *x, const struct weight *w,
                        bool accumulate, void *y) {
    double start = cpu_profile_start(device);
    float *tiles = cpu_scratch(device, cpu_tiles_size(device));
    if (!tiles) return;
    struct product product = cpu_product_make(layout, x, w, y, tiles);
    product.accumulate = accumulate;
    cpu_product_forward(device, &product);
    cpu_profile_stop(device, "matmul_forward", start);
}

void cpu_matmul_backward(struct device *device, const struct pack_layout *layout, const void *dy,
                         const struct weight *w, bool accumulate, void *dx) {
    double start = cpu_profile_start(device);
    float *tiles = cpu_scratch(device, cpu_tiles_size(device));
    if (!tiles) return;
    struct product product = cpu_product_make(layout, dy, w, dx, tiles);
    product.accumulate = accumulate;
    cpu_product_backward(device, &product);
    cpu_profile_stop(device, "matmul_backward", start);
}
