/* What the cases of low-rank pairs share: adapters of several ranks padded to one, inputs, and the double-precision
 * reference with dropout masks drawn by the rule in backend.h. */
#pragma once
#include "parity.h"

enum { N_ADAPTERS = 4 };

struct lora_shape {
    int32_t n_slots, n_sequences, context;
    int32_t n_sites, n_in, n_out[LVS_MAX_SITES], rank;
    float dropout;
    bool odd; /* offsets, strides and columns that no vector width divides, and columns of y between the pairs */
};

/* One case: host values as the device sees them, the same as double, and device arrays. */
struct lora_fixture {
    struct lora_shape shape;
    struct parity_rows rows;
    struct lora_group group;
    struct adapters adapters; /* device; grads poisoned */
    const float *scale, *dropout;
    const uint64_t *seed;
    const int32_t *step;
    double *params_wide; /* [N_ADAPTERS][stride] */
    double *x;           /* [n_rows][n_in] */
    double *dy;          /* [n_rows][ld] */
    int32_t ld;          /* columns of y */
    int64_t width;       /* of xa and t */
    void *x_device, *dy_device;
};

struct lora_fixture lora_fixture_make(struct parity *parity, struct lora_shape shape);
/* Slots of many small row blocks, which need not come in eights as those of pack_layout_make do. */
struct lora_fixture lora_fixture_make_small(struct parity *parity, struct lora_shape shape);
const char *lora_shape_text(const struct lora_fixture *f);

/* xa [n_rows][width] */
void lora_reference_xa(const struct lora_fixture *f, double *xa);
/* y [n_rows][ld] += scale · xa·Bᵀ */
void lora_reference_y(const struct lora_fixture *f, const double *xa, double *y);
/* t [n_rows][width] = scale · dy·B; grad B added to grads [N_ADAPTERS][stride] */
void lora_reference_b_backward(const struct lora_fixture *f, const double *xa, double *t, double *grads);
/* From t: grad A added to grads; dx [n_rows][n_in] += … */
void lora_reference_a_backward(const struct lora_fixture *f, const double *t, double *grads, double *dx);
