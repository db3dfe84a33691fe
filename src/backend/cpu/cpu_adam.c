/* One Adam step of every adapter of a pack, with the arithmetic of PyTorch's Adam and AdamW: decay, moments, bias
 * correction from step + 1, epsilon outside the square root; clipping as torch.nn.utils.clip_grad_norm_ does. */
#include <math.h>

#include "cpu_internal.h"

/* The numbers of one adapter's step. */
struct adam_step {
    float clip;    /* factor of the gradients */
    float coupled; /* decay added to the gradient */
    float kept;    /* factor of the weights, decoupled decay */
    float beta1, beta2;
    float size;       /* learning rate / (1 − beta1^t) */
    float correction; /* sqrt(1 − beta2^t) */
    float epsilon;
};

/* One term after the other, so that parameters that are zero because a rank is padded change no bit. */
static double gradient_norm(const float *gradient, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)gradient[i] * (double)gradient[i];
    return sqrt(sum);
}

static struct adam_step step_make(const struct optimizer_settings *settings, double learning_rate, int32_t step,
                                  double norm) {
    double t = (double)step + 1, decay = (double)settings->weight_decay;
    double clip = settings->clip_norm > 0 ? (double)settings->clip_norm / (norm + 1e-6) : 1;
    return (struct adam_step){
        .clip = clip < 1 || isnan(clip) ? (float)clip : 1,
        .coupled = settings->decoupled ? 0 : settings->weight_decay,
        .kept = settings->decoupled ? (float)(1 - learning_rate * decay) : 1,
        .beta1 = settings->beta1,
        .beta2 = settings->beta2,
        .size = (float)(learning_rate / (1 - pow((double)settings->beta1, t))),
        .correction = (float)sqrt(1 - pow((double)settings->beta2, t)),
        .epsilon = settings->epsilon,
    };
}

CPU_CLONES static void update(struct adam_step step, int64_t count, const float *gradient, float *m, float *v,
                              float *params) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float g = gradient[i] * step.clip + step.coupled * params[i];
        m[i] = m[i] + (g - m[i]) * (1.0f - step.beta1);
        v[i] = v[i] * step.beta2 + (1.0f - step.beta2) * g * g;
        float denominator = sqrtf(v[i]) / step.correction + step.epsilon;
        params[i] = params[i] * step.kept - step.size * (m[i] / denominator);
    }
}

static void adapter_update(const struct pack_layout *layout, const struct optimizer_call *call, int32_t slot) {
    int32_t adapter = layout->adapter[slot];
    const struct adapters *adapters = call->adapters;
    int64_t offset = adapter * adapters->stride;
    int32_t step = adapters->step[adapter];
    assert(step >= 0 && step < call->table_stride && call->n_params <= adapters->stride);
    int64_t entry = (int64_t)adapter * call->table_stride + step;
    double norm = gradient_norm(adapters->grads + offset, call->n_params);
    if (call->gradient_norm) call->gradient_norm[entry] = (float)norm;
    struct adam_step numbers = step_make(&call->settings[adapter], (double)call->learning_rate[entry], step, norm);
    update(numbers, call->n_params, adapters->grads + offset, call->m + offset, call->v + offset,
           adapters->params + offset);
}

void cpu_adam(struct device *device, const struct pack_layout *layout, const struct optimizer_call *call) {
    double start = cpu_profile_start(device);
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1)
    for (int32_t slot = 0; slot < layout->n_slots; slot++)
        adapter_update(layout, call, slot);
    cpu_profile_stop(device, "adam", start);
}

void cpu_step_advance(struct device *device, const struct pack_layout *layout, int32_t *step) {
    (void)device;
    for (int32_t slot = 0; slot < layout->n_slots; slot++)
        step[layout->adapter[slot]]++;
}
