/* Products of a few dozen rows or more with a packed matrix: the matrix's tile is packed once into panels that the
 * kernel reads in one stream, the rows are read where they lie. For the few hundred rows of a training step this beats
 * BLAS, which packs both sides anew in every call. One output is Σ a·b over the terms in ascending order, by fused
 * multiply-adds from zero, whatever strip or panel it falls into; with `accumulate` that sum is added to c. */
#pragma once
#include "cpu_internal.h"

/* Part of a row tile against one panel. */
struct panel_strip {
    int64_t rows;    /* ≤ height of the kernel, a multiple of its row_unit */
    int64_t columns; /* that are stored, ≤ width */
    int64_t terms;
    const float *a; /* [rows][terms], rows lda apart */
    int64_t lda;
    const float *panel; /* [terms][width], aligned to CPU_ALIGNMENT */
    float *c;           /* [rows][columns], rows ldc apart */
    int64_t ldc;
    bool accumulate;
    const void *const *ahead; /* [n_ahead] memory that will be needed next, asked for on the way */
    int64_t n_ahead;
};

/* The kernel of one instruction set. */
struct panel_kernel {
    const char *name;
    int32_t width;    /* columns of a panel */
    int32_t height;   /* rows of a strip */
    int32_t row_unit; /* rows come in multiples of it */
    void (*multiply)(const struct panel_strip *strip);
    /* panel [terms][width] = source [terms][columns], rows ld apart; columns ≤ width, the rest becomes zero. */
    void (*pack)(const float *source, int64_t ld, int64_t terms, int64_t columns, float *panel);
    /* The same from source [columns][terms], rows ld apart. */
    void (*pack_turned)(const float *source, int64_t ld, int64_t terms, int64_t columns, float *panel);
    /* Both from bf16, widened on the way. */
    void (*pack_bf16)(const uint16_t *source, int64_t ld, int64_t terms, int64_t columns, float *panel);
    void (*pack_bf16_turned)(const uint16_t *source, int64_t ld, int64_t terms, int64_t columns, float *panel);
};

/* Those that this processor can run, best first, NULL at the end: empty where only BLAS is fast. */
const struct panel_kernel *const *cpu_panel_kernels(void);
