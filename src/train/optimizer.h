/* The optimisers a trial can name, behind one small table. Private to train/. The update itself is one operation of the
 * backend that serves every adapter of a pack; an optimiser here only says with which constants. */
#pragma once
#include "lvsweep/backend.h"
#include "lvsweep/trial.h"

struct optimizer {
    int32_t kind;     /* enum optimizer_kind, one row a kind */
    const char *name; /* as the INI spells it */
    /* Fills the device constants of one trial from its settings. Called once when a trainer is made; pure: equal
     * settings give equal constants, so that a resumed trial goes on with the same ones. */
    void (*constants)(const struct settings *settings, struct optimizer_settings *out);
};

extern const struct optimizer optimizer_adam, optimizer_adamw;

/* The row of a kind; never NULL for the values of enum optimizer_kind. */
const struct optimizer *optimizer_find(int32_t kind);
/* What both share: PyTorch's defaults for the moments, and the clipping norm. */
struct optimizer_settings optimizer_common(const struct settings *settings);
