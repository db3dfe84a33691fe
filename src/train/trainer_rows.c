/* Adapters whose head is trained on some of the vocabulary's rows only (head_rows = text). The steps know a head of
 * those rows; evaluation, files and the caller know the whole one. Both lie on the device; the matrices of LoRA come
 * first in either and are alike. Invariant: a row of the whole head that is not kept stays what the trial started with.
 */
#include <stddef.h>

#include "train_internal.h"

/* One stretch of floats of trial k, in its whole adapter and in the trained one. */
static void copy_stretch(const struct trainer *trainer, int32_t k, int64_t in_whole, int64_t in_trained, int64_t count,
                         bool to_whole) {
    const struct compute *compute = trainer->compute;
    float *whole = trainer->tables.whole + k * trainer->whole.stride + in_whole;
    float *trained = trainer->tables.params + k * trainer->lora.stride + in_trained;
    compute->backend->copy(compute->device, to_whole ? whole : trained, to_whole ? trained : whole,
                           (size_t)count * sizeof(float));
}

static void copy_adapter(const struct trainer *trainer, int32_t k, bool to_whole) {
    const struct lora_layout *lora = &trainer->lora;
    if (!trainer->tables.whole) return;
    int64_t head = lora->bias_offset >= 0 ? lora->bias_offset : lora->head_offset;
    int64_t width = lora->bias_offset >= 0 ? 1 : lora->hidden;
    if (head > 0) copy_stretch(trainer, k, 0, 0, head, to_whole);
    for (int32_t i = 0; i < lora->n_vocabulary; i++)
        copy_stretch(trainer, k, head + trainer->kept[i] * width, head + i * width, width, to_whole);
}

void whole_scatter(const struct trainer *trainer, int32_t k) {
    copy_adapter(trainer, k, true);
}

void whole_gather(const struct trainer *trainer, int32_t k) {
    copy_adapter(trainer, k, false);
}
