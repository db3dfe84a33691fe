/* Recorded results (README.md) for the C tests: tensors by name, scalars from JSON, and comparisons that print how far
 * they are. Every failure ends the test through cmocka. */
#pragma once
#include <stdint.h>

#include "lvsweep/model.h"

struct golden {
    struct safetensors *tensors;
    char part[32];
};
/* tests/golden/PART.safetensors */
struct golden golden_open(const char *part);
void golden_close(struct golden *golden);
const struct safetensors_entry *golden_entry(const struct golden *golden, const char *name);
/* malloc'd; from F32 or F64, and from I64. count may be NULL. */
float *golden_floats(const struct golden *golden, const char *name, int64_t *count);
int32_t *golden_integers(const struct golden *golden, const char *name, int64_t *count);
/* A number of tests/golden/PART.json by path: "loss", "base.loss", "adam.loss.3". */
double golden_number(const char *part, const char *path);

/* Labels as rows have them (the next token, LVS_LABEL_IGNORED) from transformers' labels [rows][context], in place. */
void golden_shift_labels(int32_t *labels, int64_t rows, int32_t context);

/* max |found − recorded| / max |recorded| */
double golden_difference(const float *found, const float *recorded, int64_t count);
/* Prints "what: …" and fails where the difference passes the limit. */
void golden_check(const char *what, const float *found, const float *recorded, int64_t count, double limit);
void golden_check_number(const char *what, double found, double recorded, double limit);

/* The embedded checkpoint in fp32, on the CPU or the backend that LVS_TEST_BACKEND names; golden_model_close ends it.
 */
struct golden_model {
    struct compute compute;
    struct model *model;
};
struct golden_model golden_model_open(void);
void golden_model_close(struct golden_model *golden);

/* One adapter on the device with its gradients. */
struct golden_adapter {
    const struct compute *compute;
    struct lora_layout layout;
    struct settings settings;
    struct adapters adapters;
    float *host; /* [stride] */
};
/* From the PEFT folder tests/golden/NAME (rank, alpha, targets as recorded there), or lora_init when NULL. */
struct golden_adapter golden_adapter_make(const struct golden_model *golden, const char *name, uint32_t targets,
                                          int32_t rank, double alpha, int32_t head);
void golden_adapter_free(struct golden_adapter *adapter);
/* Gradients on the host, malloc'd [stride]. */
float *golden_adapter_grads(const struct golden_adapter *adapter);
/* Padding removed: A [rank][n_in] and B [n_out][rank] of one module, malloc'd, and their recorded names. */
float *golden_pair_part(const struct golden_adapter *adapter, const float *vector, int32_t layer, int32_t target,
                        bool is_a, char name[160], int64_t *count);

/* Fails with the error's words. */
void golden_ok(enum lvs_status status, const struct lvs_error *err);
