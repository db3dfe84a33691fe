/* See parity.h. Allocation failures and device errors end the program: a test cannot go on without them. */
#include "parity.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(enum lvs_status status, const struct lvs_error *err) {
    if (status == LVS_OK) return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

void parity_open(struct parity *parity, const char *backend, enum precision precision, int32_t threads, uint64_t seed) {
    struct lvs_error err = {0};
    struct device_options options = {.index = 0, .threads = threads, .precision = precision};
    memset(parity, 0, sizeof *parity);
    must(compute_open(backend, &options, &parity->compute, &err), &err);
    parity->rng = rng_make(seed, RNG_STREAM_TEST);
    parity->tolerance = precision == PRECISION_KIND_BF16 ? 2e-2 : 1e-5;
}

void parity_close(struct parity *parity) {
    parity_reset(parity);
    free(parity->host);
    free(parity->device);
    compute_close(&parity->compute);
}

void parity_reset(struct parity *parity) {
    struct lvs_error err = {0};
    must(parity->compute.backend->synchronize(parity->compute.device, &err), &err);
    for (int32_t i = 0; i < parity->n_host; i++)
        free(parity->host[i]);
    for (int32_t i = 0; i < parity->n_device; i++)
        parity->compute.backend->release(parity->compute.device, parity->device[i]);
    parity->n_host = parity->n_device = 0;
}

/* ---- host arrays ---- */

static void remember(void ***list, int32_t *count, void *pointer) {
    *list = lvs_realloc(*list, (size_t)(*count + 1) * sizeof **list);
    (*list)[(*count)++] = pointer;
}

void *parity_host(struct parity *parity, size_t bytes) {
    void *memory = lvs_calloc(1, bytes ? bytes : 1);
    remember(&parity->host, &parity->n_host, memory);
    return memory;
}

float *parity_normal(struct parity *parity, int64_t count, double scale) {
    float *values = parity_host(parity, (size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(scale * rng_normal(&parity->rng));
    return values;
}

int32_t *parity_below(struct parity *parity, int64_t count, int32_t bound) {
    int32_t *values = parity_host(parity, (size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (int32_t)rng_below(&parity->rng, (uint32_t)bound);
    return values;
}

double *parity_widen(struct parity *parity, const float *values, int64_t count) {
    double *wide = parity_host(parity, (size_t)count * sizeof *wide);
    for (int64_t i = 0; i < count; i++)
        wide[i] = (double)values[i];
    return wide;
}

/* ---- number formats ---- */

static uint16_t bf16_round(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float bf16_widen(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Through the compiler's half type, where it has one; both formats are IEEE 754 binary16. */
static uint16_t f16_round(float value) {
    _Float16 half = (_Float16)value;
    uint16_t bits;
    memcpy(&bits, &half, sizeof bits);
    return bits;
}

static float f16_widen(uint16_t bits) {
    _Float16 half;
    memcpy(&half, &bits, sizeof half);
    return (float)half;
}

static bool acts_are_bf16(const struct parity *parity) {
    return parity->compute.act_size == 2;
}

/* ---- device arrays ---- */

void *parity_raw(struct parity *parity, const void *values, size_t bytes) {
    struct lvs_error err = {0};
    void *memory = NULL;
    const struct compute *compute = &parity->compute;
    must(compute->backend->allocate(compute->device, bytes ? bytes : 1, &memory, &err), &err);
    remember(&parity->device, &parity->n_device, memory);
    void *poison = NULL;
    if (!values) poison = memset(lvs_malloc(bytes ? bytes : 1), 0xFF, bytes);
    if (bytes) compute->backend->upload(compute->device, memory, values ? values : poison, bytes);
    must(compute->backend->synchronize(compute->device, &err), &err);
    free(poison);
    return memory;
}

void *parity_act(struct parity *parity, float *values, int64_t count) {
    if (!acts_are_bf16(parity)) return parity_raw(parity, values, (size_t)count * sizeof *values);
    uint16_t *rounded = parity_host(parity, (size_t)count * sizeof *rounded);
    for (int64_t i = 0; i < count; i++) {
        rounded[i] = bf16_round(values[i]);
        values[i] = bf16_widen(rounded[i]);
    }
    return parity_raw(parity, rounded, (size_t)count * sizeof *rounded);
}

void *parity_act_poisoned(struct parity *parity, int64_t count) {
    return parity_raw(parity, NULL, (size_t)count * parity->compute.act_size);
}

float *parity_floats(struct parity *parity, const float *values, int64_t count) {
    return parity_raw(parity, values, (size_t)count * sizeof *values);
}

int32_t *parity_ints(struct parity *parity, const int32_t *values, int64_t count) {
    return parity_raw(parity, values, (size_t)count * sizeof *values);
}

static void *raw_read(struct parity *parity, const void *device, size_t bytes) {
    struct lvs_error err = {0};
    void *host = parity_host(parity, bytes);
    parity->compute.backend->download(parity->compute.device, host, device, bytes);
    must(parity->compute.backend->synchronize(parity->compute.device, &err), &err);
    return host;
}

float *parity_act_read(struct parity *parity, const void *device, int64_t count) {
    if (!acts_are_bf16(parity)) return parity_floats_read(parity, device, count);
    const uint16_t *halves = raw_read(parity, device, (size_t)count * sizeof *halves);
    float *values = parity_host(parity, (size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = bf16_widen(halves[i]);
    return values;
}

float *parity_floats_read(struct parity *parity, const float *device, int64_t count) {
    return raw_read(parity, device, (size_t)count * sizeof *device);
}

int32_t *parity_ints_read(struct parity *parity, const int32_t *device, int64_t count) {
    return raw_read(parity, device, (size_t)count * sizeof *device);
}

struct weight *parity_weight(struct parity *parity, float *values, int64_t rows, int64_t cols, enum tensor_type type,
                             int32_t n_parts) {
    struct host_tensor parts[8];
    struct lvs_error err = {0};
    struct weight *weight = NULL;
    if (acts_are_bf16(parity) || type == TENSOR_BF16)
        for (int64_t i = 0; i < rows * cols; i++)
            values[i] = bf16_widen(bf16_round(values[i]));
    uint16_t *halves = parity_host(parity, (size_t)(rows * cols) * sizeof *halves);
    for (int64_t i = 0; type != TENSOR_F32 && i < rows * cols; i++) {
        halves[i] = type == TENSOR_BF16 ? bf16_round(values[i]) : f16_round(values[i]);
        values[i] = type == TENSOR_BF16 ? bf16_widen(halves[i]) : f16_widen(halves[i]);
    }
    int64_t first = 0;
    for (int32_t i = 0; i < n_parts; i++) {
        int64_t last = rows * (i + 1) / n_parts;
        const void *data =
            type == TENSOR_F32 ? (const void *)(values + first * cols) : (const void *)(halves + first * cols);
        parts[i] = (struct host_tensor){.data = data, .type = type, .rows = last - first, .cols = cols};
        first = last;
    }
    must(parity->compute.backend->weight_create(parity->compute.device, parts, n_parts, &weight, &err), &err);
    return weight;
}

void parity_weight_free(struct parity *parity, struct weight *weight) {
    struct lvs_error err = {0};
    must(parity->compute.backend->synchronize(parity->compute.device, &err), &err);
    parity->compute.backend->weight_destroy(parity->compute.device, weight);
}

struct parity_rows parity_layout(struct parity *parity, int32_t n_slots, int32_t n_sequences, int32_t context,
                                 int32_t n_adapters) {
    struct parity_rows rows = {.layout = pack_layout_make(n_slots, n_sequences, context)};
    for (int32_t slot = 0; slot < n_slots; slot++)
        rows.adapter[slot] = (slot * 5 + 2) % n_adapters;
    rows.layout.adapter = parity_ints(parity, rows.adapter, n_slots);
    return rows;
}

/* ---- verdicts ---- */

static void verdict(struct parity *parity, const char *operation, const char *shape, bool good, double difference,
                    double bound) {
    parity->checks++;
    parity->failures += !good;
    if (!good || parity->verbose)
        printf("%-6s %-28s %-44s max difference %.2e (allowed %.2e)\n", good ? "ok" : "FAILED", operation, shape,
               difference, bound);
}

void parity_compare(struct parity *parity, const char *operation, const char *shape, const double *expected,
                    const float *got, int64_t count, double slack) {
    double largest = 0, difference = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = fabs((double)got[i] - expected[i]);
        largest = fmax(largest, fabs(expected[i]));
        difference = isfinite(got[i]) ? fmax(difference, d) : INFINITY;
        if (!isfinite(got[i])) break;
    }
    double relative = difference / (largest > 0 ? largest : 1), bound = parity->tolerance * slack;
    verdict(parity, operation, shape, relative <= bound, relative, bound);
}

void parity_equal_ints(struct parity *parity, const char *operation, const char *shape, const int32_t *expected,
                       const int32_t *got, int64_t count) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < count; i++)
        wrong += expected[i] != got[i];
    verdict(parity, operation, shape, wrong == 0, (double)wrong, 0);
}

void parity_expect(struct parity *parity, const char *operation, const char *shape, bool holds, const char *what) {
    verdict(parity, operation, shape, holds, holds ? 0 : 1, 0);
    if (!holds) printf("       %s\n", what);
}

/* The step balances truncation against rounding of doubles: 1e-5 keeps both near 1e-10. */
void parity_differences(struct parity *parity, const char *operation, const char *shape, double *input, int64_t count,
                        const float *gradient, parity_loss loss, const void *context, double slack) {
    const double step = 1e-5;
    const int32_t tries = count < 24 ? (int32_t)count : 24;
    double largest = 0, difference = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)gradient[i]));
    for (int32_t i = 0; i < tries; i++) {
        int64_t at = count <= tries ? i : (int64_t)(rng_uniform(&parity->rng) * (double)count);
        double kept = input[at];
        input[at] = kept + step;
        double above = loss(context);
        input[at] = kept - step;
        double below = loss(context);
        input[at] = kept;
        double d = fabs((above - below) / (2 * step) - (double)gradient[at]);
        difference = isfinite(gradient[at]) ? fmax(difference, d) : INFINITY;
    }
    double relative = difference / (largest > 0 ? largest : 1), bound = parity->tolerance * slack;
    char name[64];
    snprintf(name, sizeof name, "%s (differences)", operation);
    verdict(parity, name, shape, relative <= bound, relative, bound);
}

const char *parity_text(const char *format, ...) {
    static char text[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}
