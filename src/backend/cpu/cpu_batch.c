/* The rows of a training step: token ids and labels of the windows that each adapter's order names, and plain row
 * gathering. Copies only. */
#include <string.h>

#include "cpu_internal.h"

static void slot_gather(const struct pack_layout *layout, const struct batch_call *call, int32_t slot) {
    int32_t adapter = layout->adapter[slot], step = call->step[adapter];
    int64_t first = (int64_t)step * call->batch;
    assert(call->batch == layout->n_sequences && first + call->batch <= call->order_stride);
    const int32_t *order = call->order + (int64_t)adapter * call->order_stride + first;
    int32_t *ids = call->ids + (int64_t)slot * layout->slot_rows, context = layout->context;
    int32_t *labels = call->labels + (int64_t)slot * layout->slot_rows;
    int64_t counted = 0;
    for (int32_t row = 0; row < layout->slot_rows; row++) {
        int32_t sequence = row / context;
        bool padding = sequence >= layout->n_sequences;
        int64_t source = padding ? 0 : (int64_t)order[sequence] * context + row % context;
        ids[row] = padding ? 0 : call->window_ids[source];
        labels[row] = padding ? LVS_LABEL_IGNORED : call->window_labels[source];
        counted += labels[row] >= 0;
    }
    call->label_weight[slot] = counted > 0 ? 1.0f / (float)counted : 0.0f;
}

void cpu_batch_gather(struct device *device, const struct pack_layout *layout, const struct batch_call *call) {
    double start = cpu_profile_start(device);
    for (int32_t slot = 0; slot < layout->n_slots; slot++)
        slot_gather(layout, call, slot);
    cpu_profile_stop(device, "batch_gather", start);
}

void cpu_gather_rows(struct device *device, int32_t count, int32_t cols, const void *x, const int32_t *index,
                     void *out) {
    double start = cpu_profile_start(device);
    for (int64_t i = 0; i < count; i++)
        memcpy((float *)out + i * cols, (const float *)x + (int64_t)index[i] * cols, (size_t)cols * sizeof(float));
    cpu_profile_stop(device, "gather_rows", start);
}
