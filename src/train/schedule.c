/* Learning rates as pure functions of (settings, step, number of steps). A PyTorch scheduler is stepped after the
 * optimiser, so update k (0-based) uses the scheduler's value at k; that value is what is returned here. */
#include <assert.h>
#include <math.h>

#include "train_internal.h"

int32_t schedule_warmup_steps(const struct settings *settings, int32_t n_steps) {
    double steps = INFINITY;
    /* The small addition keeps 10 % of 30 at 3 where the product is a rounding below it. */
    if (settings->warmup_percent >= 0) steps = floor(n_steps * settings->warmup_percent / 100 + 1e-9);
    if (settings->warmup_steps >= 0) steps = fmin(steps, settings->warmup_steps);
    if (isinf(steps)) return 0;
    return steps > n_steps ? n_steps : (int32_t)steps;
}

/* transformers' get_constant/linear/cosine_schedule_with_warmup: a factor of the peak. */
static double warmup_factor(const struct settings *settings, int32_t step, int32_t n_steps, int32_t warmup) {
    if (step < warmup) return (double)step / (warmup > 1 ? warmup : 1);
    if (settings->schedule == SCHEDULE_CONSTANT) return 1;
    int32_t falling = n_steps - warmup > 1 ? n_steps - warmup : 1;
    if (settings->schedule == SCHEDULE_LINEAR) return fmax(0, (double)(n_steps - step) / falling);
    double progress = (double)(step - warmup) / falling;
    return fmax(0, 0.5 * (1 + cos(M_PI * progress)));
}

/* A phase of OneCycleLR: from `start` at part 0 to `end` at part 1. */
static double anneal(int32_t kind, double start, double end, double part) {
    if (kind == ANNEAL_LINEAR) return (end - start) * part + start;
    return end + (start - end) / 2 * (cos(M_PI * part) + 1);
}

/* torch.optim.lr_scheduler.OneCycleLR with two phases: up to the peak at step warmup − 1, down to the last step
 * (pct_start = warmup / n_steps). A warm-up of one step has no ramp (PyTorch divides by zero there): it is the peak. */
static double onecycle_rate(const struct settings *settings, int32_t step, int32_t n_steps, int32_t warmup) {
    double peak = settings->learning_rate;
    double first = peak / settings->onecycle_div, last = first / settings->onecycle_final_div;
    double rise_end = warmup - 1, fall_end = n_steps - 1;
    int32_t kind = settings->onecycle_anneal;
    if (step <= rise_end) return rise_end > 0 ? anneal(kind, first, peak, step / rise_end) : peak;
    return anneal(kind, peak, last, (step - rise_end) / (fall_end - rise_end));
}

double schedule_learning_rate(const struct settings *settings, int32_t step, int32_t n_steps) {
    assert(step >= 0 && step < n_steps);
    int32_t warmup = schedule_warmup_steps(settings, n_steps);
    if (settings->schedule == SCHEDULE_ONECYCLE) return onecycle_rate(settings, step, n_steps, warmup);
    return settings->learning_rate * warmup_factor(settings, step, n_steps, warmup);
}
