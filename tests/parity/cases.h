/* One function an operation (or a pair of them): fresh random inputs, several shapes, reference, verdict. */
#pragma once
#include "lvsweep/backend.h"

struct parity;

/* Rotary tables of CASE_THETA on the device, with random positions below n_positions; *position is their host copy. */
#define CASE_THETA 10000.0
struct rope_tables case_rope_tables(struct parity *parity, int64_t n_rows, int32_t n_positions, int32_t head_size,
                                    int32_t **position);

void case_matmul(struct parity *parity);    /* matmul_forward, matmul_backward */
void case_weights(struct parity *parity);   /* the types and parts of weight_create; weight_view */
void case_embed(struct parity *parity);     /* embed, embed_backward */
void case_gather(struct parity *parity);    /* batch_gather, gather_rows, step_advance, loss_reduce */
void case_rmsnorm(struct parity *parity);   /* rmsnorm_forward, rmsnorm_backward */
void case_swiglu(struct parity *parity);    /* swiglu_forward, swiglu_backward, gate_up_swiglu */
void case_rope(struct parity *parity);      /* qkv_bias_rope, qkv_rope_backward */
void case_lora(struct parity *parity);      /* lora_{a,b}_{forward,backward} */
void case_dropout(struct parity *parity);   /* the same with dropout */
void case_fused(struct parity *parity);     /* the fused operations or their compositions */
void case_attention(struct parity *parity); /* attention_forward, attention_backward */
void case_cache(struct parity *parity);     /* kv_store, attention_cached */
void case_loss(struct parity *parity);      /* loss with and without bias, dhead */
void case_adam(struct parity *parity);      /* adam */
void case_sample(struct parity *parity);    /* sample */
