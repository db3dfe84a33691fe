/* Runners by name. */
#include "sweep_internal.h"

const struct runner *runner_of(const struct config *config) {
    return config->runner == RUNNER_FAKE ? &runner_fake : &runner_lora;
}
