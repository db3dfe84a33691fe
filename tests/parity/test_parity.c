/* Every operation of one backend against the double-precision references: `test_parity cpu|cuda [fp32|bf16]
 * [case] [--seed N] [--quiet]`. Prints operation, shape and largest difference; the exit status tells whether all held.
 * To add an operation: a reference, a function in a cases_*.c file, a row in the table below. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "parity.h"

const struct parity_case parity_cases[] = {
    {"matmul", case_matmul},   {"weights", case_weights}, {"embed", case_embed},         {"gather", case_gather},
    {"rmsnorm", case_rmsnorm}, {"swiglu", case_swiglu},   {"rope", case_rope},           {"lora", case_lora},
    {"dropout", case_dropout}, {"fused", case_fused},     {"attention", case_attention}, {"cache", case_cache},
    {"loss", case_loss},       {"adam", case_adam},       {"sample", case_sample},       {NULL, NULL},
};

int main(int argc, char **argv) {
    const char *backend = argc > 1 ? argv[1] : "cpu", *only = NULL;
    enum precision precision = PRECISION_KIND_FP32;
    uint64_t seed = 20240607;
    struct parity parity;
    bool verbose = true;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "bf16") == 0)
            precision = PRECISION_KIND_BF16;
        else if (strcmp(argv[i], "fp32") == 0)
            precision = PRECISION_KIND_FP32;
        else if (strcmp(argv[i], "--quiet") == 0)
            verbose = false;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else
            only = argv[i];
    }
    parity_open(&parity, backend, precision, 0, seed);
    parity.verbose = verbose;
    for (const struct parity_case *item = parity_cases; item->name; item++) {
        if (only && strcmp(only, item->name) != 0) continue;
        item->run(&parity);
        parity_reset(&parity);
    }
    printf("%s %s: %d checks, %d failed\n", backend, precision == PRECISION_KIND_BF16 ? "bf16" : "fp32",
           (int)parity.checks, (int)parity.failures);
    int32_t failures = parity.failures, checks = parity.checks;
    parity_close(&parity);
    return failures == 0 && checks > 0 ? 0 : 1;
}
