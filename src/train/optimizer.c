/* The list of optimisers. A new one is a file with a row, and a name in this list. */
#include "optimizer.h"

#include <assert.h>
#include <stddef.h>

static const struct optimizer *const optimizers[] = {&optimizer_adam, &optimizer_adamw, NULL};

const struct optimizer *optimizer_find(int32_t kind) {
    for (int i = 0; optimizers[i]; i++)
        if (optimizers[i]->kind == kind) return optimizers[i];
    assert(!"a value outside enum optimizer_kind");
    return NULL;
}

struct optimizer_settings optimizer_common(const struct settings *settings) {
    return (struct optimizer_settings){
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .epsilon = 1e-8f,
        .weight_decay = (float)settings->weight_decay,
        .clip_norm = (float)settings->clip_norm,
    };
}
