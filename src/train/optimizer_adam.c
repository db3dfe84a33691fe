/* Adam (Kingma and Ba, 2015) as torch.optim.Adam: weight decay, when given, is added to the gradient. */
#include "optimizer.h"

static void adam_constants(const struct settings *settings, struct optimizer_settings *out) {
    *out = optimizer_common(settings);
    out->decoupled = 0;
}

const struct optimizer optimizer_adam = {
    .kind = OPTIMIZER_ADAM,
    .name = "adam",
    .constants = adam_constants,
};
