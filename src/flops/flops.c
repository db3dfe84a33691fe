/* The conventions by name, and sums over passes: a training step, an evaluation, a generated continuation. Pure
 * arithmetic on shapes; INT64_MAX stands for "does not fit". */
#include "flops_internal.h"

#include <string.h>

static const struct flops_convention *const conventions[] = {&flops_table1, &flops_report_a, &flops_report_b,
                                                             &flops_report_c};
enum { N_CONVENTIONS = sizeof conventions / sizeof *conventions };

const struct flops_convention *flops_convention_at(int32_t index) {
    return index >= 0 && index < N_CONVENTIONS ? conventions[index] : NULL;
}

const struct flops_convention *flops_convention_find(const char *name) {
    for (int32_t i = 0; i < N_CONVENTIONS; i++)
        if (strcmp(conventions[i]->name, name) == 0) return conventions[i];
    return NULL;
}

static int64_t terms_sum(const struct flops_terms *terms) {
    int64_t sum = 0;
    for (int32_t i = 0; i < terms->n; i++)
        sum = price_plus(sum, terms->term[i].flops);
    return sum;
}

static int64_t forward_sum(const struct flops_convention *convention, const struct flops_shape *shape, int64_t batch,
                           int64_t context, bool every_position) {
    if (batch <= 0 || context <= 0) return 0;
    struct flops_terms terms;
    convention->forward(shape, batch, context, every_position, &terms);
    return terms_sum(&terms);
}

int64_t flops_forward(const struct flops_convention *convention, const struct flops_shape *shape, int64_t batch,
                      int64_t context) {
    return forward_sum(convention, shape, batch, context, true);
}

int64_t flops_training_step(const struct flops_convention *convention, const struct flops_shape *shape, int64_t batch,
                            int64_t context) {
    return price_times(3, flops_forward(convention, shape, batch, context));
}

int64_t flops_evaluation(const struct flops_convention *convention, const struct flops_shape *shape, int64_t windows,
                         int64_t batch, int64_t context) {
    if (windows <= 0 || batch <= 0 || convention->evaluation_free) return 0;
    int64_t whole = price_times(windows / batch, flops_forward(convention, shape, batch, context));
    return price_plus(whole, flops_forward(convention, shape, windows % batch, context));
}

/* The new tokens alone, behind a prompt that is in the cache. */
static int64_t continuation(const struct flops_convention *convention, const struct flops_shape *shape, int64_t prompt,
                            int64_t tokens) {
    int64_t sum = 0;
    for (int64_t i = 0; i < tokens && sum < INT64_MAX; i++) {
        struct flops_terms terms;
        convention->decode(shape, 1, prompt + i + 1, &terms);
        sum = price_plus(sum, terms_sum(&terms));
    }
    return sum;
}

int64_t flops_generation_samples(const struct flops_convention *convention, const struct flops_shape *shape,
                                 int64_t prompt, int64_t tokens, int64_t samples) {
    if (prompt <= 0 || tokens <= 0 || samples <= 0 || convention->evaluation_free) return 0;
    return price_plus(forward_sum(convention, shape, 1, prompt, false),
                      price_times(samples, continuation(convention, shape, prompt, tokens)));
}

int64_t flops_generation(const struct flops_convention *convention, const struct flops_shape *shape, int64_t prompt,
                         int64_t tokens, bool cached) {
    if (cached) return flops_generation_samples(convention, shape, prompt, tokens, 1);
    if (prompt <= 0 || tokens <= 0 || convention->evaluation_free) return 0;
    int64_t sum = 0;
    for (int64_t i = 0; i < tokens && sum < INT64_MAX; i++)
        sum = price_plus(sum, forward_sum(convention, shape, 1, prompt + i, false));
    return sum;
}
