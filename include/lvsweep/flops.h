/* FLOPs on paper: named price lists and formulas (docs/flops.md). Counted from shapes, never from what a kernel ran. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "lvsweep/status.h"
#include "lvsweep/strbuf.h"

/* What a formula sees of a model and a trial. */
struct flops_shape {
    int32_t hidden, n_heads, n_kv_heads, head_size, n_layers, intermediate, vocabulary;
    int32_t lora_rank;
    uint32_t lora_targets; /* bits of enum lora_target; 0 with rank 0 = the bare model */
    bool head_bias;
};

#define FLOPS_MAX_TERMS 32
struct flops_term {
    const char *name; /* "qkv", "scores", … */
    int64_t flops;    /* whole model, one forward */
};
struct flops_terms {
    int32_t n;
    struct flops_term term[FLOPS_MAX_TERMS];
};

/* One convention. Exact integers; overflow is checked and refused. */
struct flops_convention {
    const char *name;  /* "table1" */
    const char *about; /* one sentence for --help and docs */
    /* Forward of `batch` sequences of `context` tokens, term by term. `training` = every position's logits are needed.
     */
    void (*forward)(const struct flops_shape *shape, int64_t batch, int64_t context, bool training,
                    struct flops_terms *out);
    /* One new token that attends to `keys` keys (KV cache); NULL = forward(keys) − forward(keys − 1) is not meant:
     * the convention prices generation as repeated forwards. */
    void (*decode)(const struct flops_shape *shape, int64_t batch, int64_t keys, struct flops_terms *out);
    bool evaluation_free; /* B and C count training only: evaluation and generation are 0 */
};
/* NULL when unknown. */
const struct flops_convention *flops_convention_find(const char *name);
const struct flops_convention *flops_convention_at(int32_t index); /* NULL past the last */

/* Sums; INT64_MAX when the sum does not fit (never silently wrapped). */
int64_t flops_forward(const struct flops_convention *convention, const struct flops_shape *shape, int64_t batch,
                      int64_t context);
int64_t flops_training_step(const struct flops_convention *convention, const struct flops_shape *shape, int64_t batch,
                            int64_t context); /* 3 × forward */
/* `windows` sequences in batches of `batch`, the last one at its real size. */
int64_t flops_evaluation(const struct flops_convention *convention, const struct flops_shape *shape, int64_t windows,
                         int64_t batch, int64_t context);
/* One sequence: prompt of `prompt` tokens, then `tokens` new ones. cached: forward(prompt) and one row a token; else
 * the sum of forward(t). */
int64_t flops_generation(const struct flops_convention *convention, const struct flops_shape *shape, int64_t prompt,
                         int64_t tokens, bool cached);
/* `samples` continuations of one prompt with a KV cache: the prompt is passed once, every new token is one row. */
int64_t flops_generation_samples(const struct flops_convention *convention, const struct flops_shape *shape,
                                 int64_t prompt, int64_t tokens, int64_t samples);

/* ---- what the reports printed about their budgets ---- */

/* In place of steps: the sum of the report's parts; a figure alone, without a formula or a counterpart. */
enum { FLOPS_PUBLISHED_SUM = -1, FLOPS_PUBLISHED_ALONE = -2 };
struct flops_published {
    const char *report, *what, *printed; /* "A", "600 steps, context 512, rank 2", "4.2212 %" */
    const char *convention;              /* whose formula is closest to the report's own counting */
    int32_t rank, context;               /* 0 = ranks 2, 4, 8 equally often; contexts 128, 512, 768 once each */
    int32_t batch, vocabulary;
    int64_t steps, evaluated; /* evaluated: sequences whose forward pass was counted too */
    int32_t trials;
    bool part;          /* counts in the report's sum */
    double least, most; /* % of 1e17: what rounds to the printed number */
};
const struct flops_published *flops_published_at(int32_t index); /* NULL past the last */
/* What the convention says about the same runs of Qwen2.5-0.5B, % of 1e17. NaN where nothing is known of them. */
double flops_published_percent(const struct flops_published *row);
bool flops_published_met(const struct flops_published *row); /* that rounds to the printed number */
/* How far a cost in % of 1e17 lies from the printed one, in % of that. */
double flops_published_deviation(const struct flops_published *row, double percent);
/* Whether a run of this rank and context is one of the row's. */
bool flops_published_covers(const struct flops_published *row, int32_t rank, int32_t context);

/* ---- the ledger: reserve before sending, charge what was counted, release the rest ---- */

/* Never more spent + reserved than the cap, in any order of calls. Sums are 128-bit: no sweep overflows them. */
struct ledger {
    bool capped;
    __int128 cap, spent, reserved, lost,
        outside; /* FLOPs; `outside`: of trials not in the present grid, part of spent */
};
void ledger_init(struct ledger *ledger, double cap /* 0 = none */);
/* false (and no change) when it does not fit. */
bool ledger_reserve(struct ledger *ledger, int64_t flops);
/* Ends a reservation of `reserved` with `charged` ≤ reserved really spent. */
void ledger_settle(struct ledger *ledger, int64_t reserved, int64_t charged);
void ledger_add_lost(struct ledger *ledger, int64_t flops);        /* reported, outside the cap */
void ledger_add_outside(struct ledger *ledger, int64_t flops);     /* spent by trials that left the grid */
double ledger_percent(const struct ledger *ledger, int64_t flops); /* of the cap; NaN without one */
__int128 ledger_left(const struct ledger *ledger);
