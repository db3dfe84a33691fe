/* Products with a frozen matrix. Columns and terms of the sum are cut into tiles whose sizes are functions of the
 * shapes alone. A tile is packed once for all rows that a task has and multiplied by a register kernel (cpu_panel.h);
 * where there is none it is widened for BLAS, whose row tiles are cut by slots. So bits depend on neither threads nor
 * pack; which thread does which tile, and in which order, changes nothing but time. */
#include <omp.h>

#include "cpu_matmul.h"

enum {
    ROWS_MAX = 256,    /* of a tile */
    COLUMNS_MAX = 224, /* of a tile; COLUMNS_MAX × TERMS_MAX floats stay in a core's cache beside the rows and the … */
    COLUMNS_MIN = 64, /* … next tile as stored */
    COLUMN_UNIT = 32, /* whole panels of every kernel */
    TERMS_MAX = 320,  /* of one sum in registers or call of BLAS */
    TILES_WANTED = 4, /* at least so many tiles a slot, for the threads to share */

    WIDENED_TERMS = 16,   /* widened at a time before packing: all columns of the tile, … */
    WIDENED_TURNED = 128, /* … or one panel's, where the terms lie side by side */
    WIDENED_MAX = COLUMN_UNIT * WIDENED_TURNED,
    PANELS_MAX = COLUMNS_MAX * TERMS_MAX,
    SCRATCH = PANELS_MAX + WIDENED_MAX, /* floats of a thread */

    LINE_BYTES = 64,
    AHEAD_LINES = 320, /* that one strip may ask for */
};
static_assert(WIDENED_TERMS * COLUMNS_MAX <= WIDENED_MAX, "both ways of packing share the scratch");
static_assert(COLUMNS_MAX % COLUMN_UNIT == 0, "a tile is whole panels");

/* How one product is cut. */
struct grid {
    int64_t n_columns, n_terms;   /* of the whole product */
    int64_t rows, columns, terms; /* of a tile; the last of each is what is left */
    int64_t n_row_tiles;          /* over all slots */
    int64_t slot_tiles, n_column_tiles;
    bool turned; /* the matrix is stored as [columns][terms] */
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
    grid.columns = piece(n_columns, COLUMNS_MAX, cpu_blocks(TILES_WANTED, grid.slot_tiles), COLUMN_UNIT);
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

/* Columns and terms of one tile of the matrix. */
struct tile {
    int64_t column, columns, term, terms;
};

/* One panel of a matrix stored as [columns][terms], from bf16 or over `wide`. */
static void panel_pack_turned(const struct product *product, const struct tile *panel, float *wide, float *target) {
    const struct panel_kernel *kernel = product->kernel;
    int64_t ld = product->w->cols;
    const uint16_t *stored = cpu_weight_bf16(product->w, panel->column, panel->columns, panel->term);
    if (stored) {
        kernel->pack_bf16_turned(stored, ld, panel->terms, panel->columns, target);
        return;
    }
    for (int64_t term = 0; term < panel->terms; term += WIDENED_TURNED) {
        int64_t terms = cpu_min(WIDENED_TURNED, panel->terms - term);
        const float *w =
            cpu_weight_tile(product->w, panel->column, panel->columns, panel->term + term, terms, wide, &ld);
        kernel->pack_turned(w, ld, terms, panel->columns, target + term * kernel->width);
    }
}

/* Some terms of all columns of a tile of a matrix stored as [terms][columns]; target is where they begin in the first
 * panel. */
static void terms_pack(const struct product *product, const struct tile *tile, int64_t term, int64_t terms, float *wide,
                       float *target) {
    const struct panel_kernel *kernel = product->kernel;
    int64_t width = kernel->width, ld = product->w->cols;
    const uint16_t *stored = cpu_weight_bf16(product->w, tile->term + term, terms, tile->column);
    const float *w = NULL;
    if (!stored) w = cpu_weight_tile(product->w, tile->term + term, terms, tile->column, tile->columns, wide, &ld);
    for (int64_t column = 0; column < tile->columns; column += width) {
        int64_t columns = cpu_min(width, tile->columns - column);
        float *panel = target + column * tile->terms;
        if (stored)
            kernel->pack_bf16(stored + column, ld, terms, columns, panel);
        else
            kernel->pack(w + column, ld, terms, columns, panel);
    }
}

/* Packs a tile of the matrix into panels, one after another in scratch; what is widened on the way lies behind them. */
static void tile_pack(const struct product *product, const struct grid *grid, const struct tile *tile, float *scratch) {
    int64_t width = product->kernel->width;
    float *wide = scratch + PANELS_MAX;
    if (!grid->turned) {
        for (int64_t term = 0; term < tile->terms; term += WIDENED_TERMS)
            terms_pack(product, tile, term, cpu_min(WIDENED_TERMS, tile->terms - term), wide, scratch + term * width);
        return;
    }
    for (int64_t column = 0; column < tile->columns; column += width) {
        struct tile panel = {tile->column + column, cpu_min(width, tile->columns - column), tile->term, tile->terms};
        panel_pack_turned(product, &panel, wide, scratch + column * tile->terms);
    }
}

/* The tile of the matrix that comes next, brought near line by line while this one is multiplied: otherwise packing
 * waits for memory. */
struct ahead {
    int64_t row, last_row, col, cols;
    const char *line, *end; /* what is left of the row before `row` */
    int64_t strip_lines;    /* a strip asks for */
    const void *lines[AHEAD_LINES];
};

static void ahead_make(const struct product *product, const struct grid *grid, const struct tile *next, int64_t strips,
                       struct ahead *ahead) {
    ahead->row = grid->turned ? next->column : next->term;
    ahead->col = grid->turned ? next->term : next->column;
    ahead->cols = grid->turned ? next->terms : next->columns;
    int64_t rows = grid->turned ? next->columns : next->terms, size = 0;
    ahead->last_row = ahead->row + rows;
    ahead->line = ahead->end = NULL;
    bool wanted = rows > 0 && ahead->cols > 0 && !product->w->own; /* a small matrix is near already */
    if (wanted) cpu_weight_stored(product->w, ahead->row, ahead->col, &size);
    int64_t lines = rows * cpu_blocks(ahead->cols * size, LINE_BYTES);
    ahead->strip_lines = strips > 0 ? cpu_min(cpu_blocks(lines, strips), AHEAD_LINES) : 0;
}

/* The lines that one strip asks for; their number. */
static int64_t ahead_take(const struct product *product, struct ahead *ahead) {
    int64_t count = 0, size;
    while (count < ahead->strip_lines) {
        if (ahead->line >= ahead->end) {
            if (ahead->row >= ahead->last_row) break;
            ahead->line = cpu_weight_stored(product->w, ahead->row++, ahead->col, &size);
            ahead->end = ahead->line + ahead->cols * size;
        }
        ahead->lines[count++] = ahead->line;
        ahead->line += LINE_BYTES;
    }
    return count;
}

/* A row tile with a packed tile of the matrix. */
static void tile_multiply(const struct product *product, const struct grid *grid, const struct tile *tile, int64_t row,
                          int64_t rows, const float *panels, struct ahead *ahead) {
    const struct panel_kernel *kernel = product->kernel;
    struct panel_strip strip = {.terms = tile->terms, .lda = grid->n_terms, .ldc = grid->n_columns};
    strip.ahead = ahead->lines;
    strip.accumulate = tile->term > 0 || product->accumulate;
    for (int64_t column = 0; column < tile->columns; column += kernel->width) {
        strip.columns = cpu_min(kernel->width, tile->columns - column);
        strip.panel = panels + column * tile->terms;
        for (int64_t i = row; i < row + rows; i += kernel->height) {
            strip.rows = cpu_min(kernel->height, row + rows - i);
            strip.a = product->a + i * grid->n_terms + tile->term;
            strip.c = product->c + i * grid->n_columns + tile->column + column;
            strip.n_ahead = ahead_take(product, ahead);
            kernel->multiply(&strip);
        }
    }
}

/* The same by BLAS, from the tile w with rows ld apart. */
static void tile_multiply_blas(const struct product *product, const struct grid *grid, const struct tile *tile,
                               int64_t row, int64_t rows, const float *w, int64_t ld) {
    float beta = tile->term > 0 || product->accumulate ? 1.0f : 0.0f;
    (grid->turned ? cpu_gemm_nt : cpu_gemm_nn)(
        rows, tile->columns, tile->terms, 1, product->a + row * grid->n_terms + tile->term, grid->n_terms, w, ld, beta,
        product->c + row * grid->n_columns + tile->column, grid->n_columns);
}

/* The tile at a place of the grid, cut to the matrix: nothing of it is left beyond the last column. */
static struct tile tile_make(const struct grid *grid, int64_t column, int64_t term) {
    int64_t columns = cpu_min(grid->columns, grid->n_columns - column);
    return (struct tile){column, columns > 0 ? columns : 0, term, cpu_min(grid->terms, grid->n_terms - term)};
}

/* Row tiles [first, last) with one tile of the matrix, packed or widened once for all of them. */
static void tile_run(const struct product *product, const struct grid *grid, const struct tile *tile,
                     const struct tile *next, int64_t first, int64_t last, float *scratch) {
    const float *w = NULL;
    int64_t ld = 0, rows, strips = 0;
    if (product->kernel)
        tile_pack(product, grid, tile, scratch);
    else if (grid->turned)
        w = cpu_weight_tile(product->w, tile->column, tile->columns, tile->term, tile->terms, scratch, &ld);
    else
        w = cpu_weight_tile(product->w, tile->term, tile->terms, tile->column, tile->columns, scratch, &ld);
    for (int64_t row_tile = first; product->kernel && row_tile < last; row_tile++) {
        tile_row(product, grid, row_tile, &rows);
        strips += cpu_blocks(rows, product->kernel->height) * cpu_blocks(tile->columns, product->kernel->width);
    }
    struct ahead ahead;
    ahead_make(product, grid, next, strips, &ahead);
    for (int64_t row_tile = first; row_tile < last; row_tile++) {
        int64_t row = tile_row(product, grid, row_tile, &rows);
        if (product->kernel)
            tile_multiply(product, grid, tile, row, rows, scratch, &ahead);
        else
            tile_multiply_blas(product, grid, tile, row, rows, w, ld);
    }
}

/* Column tile `column_tile` of row tiles [first, last); `step` leads to the column tile that this thread is likely to
 * take next. */
static void task_run(const struct product *product, const struct grid *grid, int64_t column_tile, int64_t step,
                     int64_t first, int64_t last, float *scratch) {
    int64_t column = column_tile * grid->columns;
    for (int64_t term = 0; term < grid->n_terms; term += grid->terms) {
        bool more = term + grid->terms < grid->n_terms;
        struct tile tile = tile_make(grid, column, term);
        struct tile next =
            more ? tile_make(grid, column, term + grid->terms) : tile_make(grid, column + step * grid->columns, 0);
        tile_run(product, grid, &tile, &next, first, last, scratch);
    }
}

static float *thread_scratch(const struct product *product) {
    return product->tiles + (int64_t)omp_get_thread_num() * SCRATCH;
}

/* Enough rows for every thread: a task is whole rows, which are finished at once. */
static void run_by_rows(struct device *device, const struct product *product, const struct grid *grid) {
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1)
    for (int64_t tile = 0; tile < grid->n_row_tiles; tile++) {
        int64_t rows, row = tile_row(product, grid, tile, &rows);
        for (int64_t column_tile = 0; column_tile < grid->n_column_tiles; column_tile++)
            task_run(product, grid, column_tile, 1, tile, tile + 1, thread_scratch(product));
        if (product->finish) product->finish(product->finish_context, row, rows);
    }
}

/* Few rows, or a matrix that has to be widened: a task is a column tile of as many rows as leave every thread busy. */
static void run_by_columns(struct device *device, const struct product *product, const struct grid *grid) {
    int64_t groups = cpu_min(grid->n_row_tiles, cpu_blocks(4 * (int64_t)device->threads, grid->n_column_tiles));
    int64_t group = cpu_blocks(grid->n_row_tiles, groups);
#pragma omp parallel num_threads(device->threads)
    {
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (int64_t column_tile = 0; column_tile < grid->n_column_tiles; column_tile++)
            for (int64_t first = 0; first < grid->n_row_tiles; first += group)
                task_run(product, grid, column_tile, device->threads, first, cpu_min(first + group, grid->n_row_tiles),
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
                        bool turned) {
    assert(product->n_rows % product->slot_rows == 0 && product->slot_rows % product->row_block == 0);
    struct grid grid = grid_make(product, n_columns, n_terms);
    grid.turned = turned;
    if (grid.n_row_tiles >= 2 * (int64_t)device->threads && cpu_weight_in_place(product->w))
        run_by_rows(device, product, &grid);
    else
        run_by_columns(device, product, &grid);
    device->flops += 2.0 * (double)product->n_rows * (double)n_columns * (double)n_terms;
}

size_t cpu_tiles_size(const struct device *device) {
    return (size_t)device->threads * SCRATCH * sizeof(float);
}

struct product cpu_product_make(const struct pack_layout *layout, const void *a, const struct weight *w, void *c,
                                float *tiles) {
    return (struct product){.a = a,
                            .w = w,
                            .c = c,
                            .n_rows = layout->n_rows,
                            .slot_rows = layout->slot_rows,
                            .row_block = layout->row_block,
                            .tiles = tiles,
                            .kernel = cpu_panel_kernels()[0]};
}

int64_t cpu_logits_rows(int64_t vocabulary, int64_t slot_rows, int64_t row_block) {
    const int64_t bytes = (int64_t)64 << 20;
    int64_t blocks = bytes / (vocabulary * row_block * (int64_t)sizeof(float));
    return cpu_min(slot_rows, row_block * (blocks > 0 ? blocks : 1));
}

void cpu_product_forward(struct device *device, const struct product *product) {
    product_run(device, product, product->w->rows, product->w->cols, true);
}

void cpu_product_backward(struct device *device, const struct product *product) {
    product_run(device, product, product->w->cols, product->w->rows, false);
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
