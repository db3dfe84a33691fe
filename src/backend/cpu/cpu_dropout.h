/* The dropout mask of one LoRA pair at one step. */
#pragma once
#include "cpu_internal.h"

struct dropout {
    float probability; /* 0: no dropout, the rest unset */
    float scale;       /* 1/(1 − probability) */
    uint32_t threshold;
    uint64_t seed, index; /* index with row and column still zero */
};

struct dropout cpu_dropout_make(const struct adapters *adapters, int32_t adapter, int32_t site_id);
/* target = source masked and scaled, columns [column, column + count) of `row` (of the slot); column is a multiple of
 * 4. target may be source. */
void cpu_dropout_apply(const struct dropout *dropout, int64_t row, int64_t column, int64_t count, const float *source,
                       float *target);
