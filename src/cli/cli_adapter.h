/* A finished adapter on its base model, opened from nothing but the folder it lies in: for forecasts, merging and
 * verification. */
#pragma once
#include "cli_internal.h"

/* The trial that a word means: "best" (of the last stage that has one), a name, or the start of a train_key. */
enum lvs_status cli_find_trial(const struct results *results, const char *word, const struct trial **out,
                               struct lvs_error *err);

struct adapter_source {
    const char *folder;    /* an adapter's, a trial's, or a sweep's output folder */
    const char *trial;     /* of a sweep; NULL = best */
    const char *model;     /* instead of the base model that lvsweep.json names; NULL */
    const char *backend;   /* auto, cpu, cuda */
    const char *precision; /* auto, fp32, bf16 */
    int32_t threads;
};

struct opened_adapter {
    char folder[LVS_PATH_MAX], model_folder[LVS_PATH_MAX];
    struct adapter_info info;
    struct settings settings; /* defaults with the adapter's rank, alpha, targets and head */
    struct compute compute;
    struct model *model;
    struct lora_layout layout;
    float *host_params;       /* [layout.stride], owned */
    struct adapters adapters; /* on the device; params and scale are owned */
};

/* Adapter folder of a source. */
enum lvs_status adapter_locate(const struct adapter_source *source, char out[LVS_PATH_MAX], struct lvs_error *err);
/* Opens device, base model and adapter. LVS_INPUT when the base model is not there or not the one it was trained on.
 * The caller closes *out also after an error. */
enum lvs_status adapter_open(const struct adapter_source *source, struct opened_adapter *out, struct lvs_error *err);
void adapter_close(struct opened_adapter *adapter);
struct evaluated adapter_evaluated(const struct opened_adapter *adapter);

#define VERIFY_TOKENS 32
/* Logits of a short text at its VERIFY_TOKENS positions: out [VERIFY_TOKENS][model_vocabulary]. adapters may be NULL.
 */
enum lvs_status adapter_logits(const struct model *model, const struct lora_layout *layout,
                               const struct adapters *adapters, const struct tokenizer *tokenizer, float *out,
                               struct lvs_error *err);
struct logit_difference {
    double difference, largest; /* max |a − b|, max |a| */
};
struct logit_difference logits_compare(const float *a, const float *b, int64_t count);
