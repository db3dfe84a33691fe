/* The frame of the parity tests: a device under test, random inputs in its types, outputs poisoned before each call,
 * and the comparison with a double-precision reference. Knows no operation. Everything taken from it lives until
 * parity_reset. */
#pragma once
#include "lvsweep/backend.h"
#include "lvsweep/rng.h"

struct parity {
    struct compute compute;
    struct rng rng;
    double tolerance; /* largest |difference| / max |expected| of one rounding-limited operation */
    int32_t checks, failures;
    void **host, **device; /* what parity_reset frees */
    int32_t n_host, n_device;
    bool verbose;
};

void parity_open(struct parity *parity, const char *backend, enum precision precision, int32_t threads, uint64_t seed);
void parity_close(struct parity *parity);
void parity_reset(struct parity *parity);

/* ---- host arrays ---- */
void *parity_host(struct parity *parity, size_t bytes);                          /* zeroed */
float *parity_normal(struct parity *parity, int64_t count, double scale);        /* scale · N(0, 1) */
int32_t *parity_below(struct parity *parity, int64_t count, int32_t bound);      /* uniform in [0, bound) */
double *parity_widen(struct parity *parity, const float *values, int64_t count); /* the same as double */

/* ---- device arrays ---- */
void *parity_raw(struct parity *parity, const void *values, size_t bytes); /* values NULL: filled with 0xFF (NaN) */
/* Uploads activations; `values` are rounded to the device's type in place, so that the reference sees the same. */
void *parity_act(struct parity *parity, float *values, int64_t count);
void *parity_act_poisoned(struct parity *parity, int64_t count);
float *parity_floats(struct parity *parity, const float *values, int64_t count); /* NULL: poisoned */
int32_t *parity_ints(struct parity *parity, const int32_t *values, int64_t count);
float *parity_act_read(struct parity *parity, const void *device, int64_t count);
float *parity_floats_read(struct parity *parity, const float *device, int64_t count);
int32_t *parity_ints_read(struct parity *parity, const int32_t *device, int64_t count);
/* A frozen matrix in `n_parts` nearly equal parts of `type`; `values` are rounded to what the device computes with. */
struct weight *parity_weight(struct parity *parity, float *values, int64_t rows, int64_t cols, enum tensor_type type,
                             int32_t n_parts);
void parity_weight_free(struct parity *parity, struct weight *weight);

/* ---- layouts and adapters ---- */
struct parity_rows {
    struct pack_layout layout;
    int32_t adapter[8]; /* host copy */
};
/* Slot s uses adapter (s·5 + 2) mod n_adapters. */
struct parity_rows parity_layout(struct parity *parity, int32_t n_slots, int32_t n_sequences, int32_t context,
                                 int32_t n_adapters);

/* ---- verdicts ---- */
/* max |got − expected| ≤ tolerance · `slack` · max |expected|; a NaN or an infinity in `got` fails. */
void parity_compare(struct parity *parity, const char *operation, const char *shape, const double *expected,
                    const float *got, int64_t count, double slack);
void parity_equal_ints(struct parity *parity, const char *operation, const char *shape, const int32_t *expected,
                       const int32_t *got, int64_t count);
void parity_expect(struct parity *parity, const char *operation, const char *shape, bool holds, const char *what);

/* Central differences of `loss` at random coordinates of `input` against `gradient`. */
typedef double (*parity_loss)(const void *context);
void parity_differences(struct parity *parity, const char *operation, const char *shape, double *input, int64_t count,
                        const float *gradient, parity_loss loss, const void *context, double slack);

/* Printf into a small static buffer, for the names of shapes. */
const char *parity_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- the cases, one function an operation or pair ---- */
struct parity_case {
    const char *name;
    void (*run)(struct parity *parity);
};
extern const struct parity_case parity_cases[]; /* ends with a NULL name */
