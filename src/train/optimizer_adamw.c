/* AdamW (Loshchilov and Hutter, 2019) as torch.optim.AdamW: weight decay shrinks the weights by learning rate × decay
 * before the step and never meets the moments. */
#include "optimizer.h"

static void adamw_constants(const struct settings *settings, struct optimizer_settings *out) {
    *out = optimizer_common(settings);
    out->decoupled = 1;
}

const struct optimizer optimizer_adamw = {
    .kind = OPTIMIZER_ADAMW,
    .name = "adamw",
    .constants = adamw_constants,
};
