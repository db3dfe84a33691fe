/* Cross-entropy over the vocabulary: logits, loss and their gradient for a few row blocks at a time, so that logits of
 * a whole batch never exist. A pass is what cpu_logits_rows allows of one slot. */
#include <math.h>
#include <string.h>

#include "cpu_matmul.h"

/* Rows [row, row + rows) of the call with their logits [rows][vocabulary]. */
struct loss_pass {
    const struct pack_layout *layout;
    const struct loss_call *call;
    int64_t row, rows, vocabulary;
    float *logits;
};

static const float *slot_bias(const struct loss_pass *pass, int64_t slot) {
    const struct adapters *adapters = pass->call->adapters;
    if (!adapters || pass->call->bias_offset < 0) return NULL;
    return adapters->params + pass->layout->adapter[slot] * adapters->stride + pass->call->bias_offset;
}

/* Loss of one row; its logits become their gradient when there is a dx. */
static void row_finish(const struct loss_pass *pass, int64_t index) {
    const struct loss_call *call = pass->call;
    int64_t row = pass->row + index, slot = row / pass->layout->slot_rows, vocabulary = pass->vocabulary;
    float *logits = pass->logits + index * vocabulary;
    int32_t label = call->labels[row];
    if (label < 0) {
        call->row_loss[row] = 0;
        if (call->dx) memset(logits, 0, (size_t)vocabulary * sizeof *logits);
        return;
    }
    assert(label < vocabulary);
    const float *bias = slot_bias(pass, slot);
    if (bias) cpu_axpy(1, bias, logits, vocabulary);
    float max = cpu_max(logits, vocabulary), chosen = logits[label];
    double sum = call->dx ? cpu_exp_sum(logits, 1, max, vocabulary) : cpu_exp_total(logits, 1, max, vocabulary);
    call->row_loss[row] = (float)(log(sum) + (double)max - (double)chosen);
    if (!call->dx) return;
    float weight = call->label_weight[slot];
    cpu_scale((float)((double)weight / sum), logits, vocabulary);
    logits[label] -= weight;
}

/* Gradient of the head's bias: columns are shared out, rows added in order. */
static void bias_gradient(struct device *device, const struct loss_pass *pass) {
    const struct adapters *adapters = pass->call->adapters;
    const int64_t width = 1024;
#pragma omp parallel for num_threads(device->threads)
    for (int64_t tile = 0; tile < cpu_blocks(pass->vocabulary, width); tile++) {
        int64_t column = tile * width, count = cpu_min(width, pass->vocabulary - column);
        for (int64_t i = 0; i < pass->rows; i++) {
            int64_t row = pass->row + i, slot = row / pass->layout->slot_rows;
            float *target =
                adapters->grads + pass->layout->adapter[slot] * adapters->stride + pass->call->bias_offset + column;
            if (row % pass->layout->slot_rows == 0) memset(target, 0, (size_t)count * sizeof *target);
            cpu_axpy(1, pass->logits + i * pass->vocabulary + column, target, count);
        }
    }
}

/* dhead += dlogitsᵀ·x in tiles of the vocabulary. */
static void head_gradient(struct device *device, const struct loss_pass *pass) {
    int64_t n_in = pass->call->head->cols;
    const int64_t width = 256;
    const float *x = (const float *)pass->call->x + pass->row * n_in;
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1)
    for (int64_t tile = 0; tile < cpu_blocks(pass->vocabulary, width); tile++) {
        int64_t first = tile * width, count = cpu_min(width, pass->vocabulary - first);
        cpu_gemm_tn(count, n_in, pass->rows, 1, pass->logits + first, pass->vocabulary, x, n_in, 1,
                    pass->call->dhead + first * n_in, n_in);
    }
    device->flops += 2.0 * (double)pass->rows * (double)n_in * (double)pass->vocabulary;
}

static void pass_run(struct device *device, const struct loss_pass *pass, float *tiles) {
    const struct loss_call *call = pass->call;
    int64_t n_in = call->head->cols;
    struct product product =
        cpu_product_make(pass->layout, (const float *)call->x + pass->row * n_in, call->head, pass->logits, tiles);
    product.n_rows = product.slot_rows = pass->rows;
    cpu_product_forward(device, &product);
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 4)
    for (int64_t i = 0; i < pass->rows; i++)
        row_finish(pass, i);
    if (!call->dx) return;
    if (slot_bias(pass, 0)) bias_gradient(device, pass);
    if (call->dhead) head_gradient(device, pass);
    product.a = pass->logits;
    product.c = (float *)call->dx + pass->row * n_in;
    cpu_product_backward(device, &product);
}

void cpu_loss(struct device *device, const struct pack_layout *layout, const struct loss_call *call) {
    double start = cpu_profile_start(device);
    assert(!call->dhead || layout->n_slots == 1);
    int64_t vocabulary = call->head->rows, slot_rows = layout->slot_rows;
    int64_t rows = cpu_logits_rows(vocabulary, slot_rows, layout->row_block);
    size_t tiles = cpu_align(cpu_tiles_size(device));
    char *scratch = cpu_scratch(device, tiles + (size_t)(rows * vocabulary) * sizeof(float));
    if (!scratch) return;
    for (int64_t row = 0; row < layout->n_rows; row += slot_rows)
        for (int64_t first = 0; first < slot_rows; first += rows) {
            struct loss_pass pass = {.layout = layout, .call = call, .row = row + first, .vocabulary = vocabulary};
            pass.rows = cpu_min(rows, slot_rows - first);
            pass.logits = (float *)(scratch + tiles);
            pass_run(device, &pass, (float *)scratch);
        }
    cpu_profile_stop(device, "loss", start);
}

void cpu_loss_reduce(struct device *device, const struct pack_layout *layout, const float *row_loss,
                     const float *label_weight, const int32_t *step, int32_t table_stride, float *table) {
    double start = cpu_profile_start(device);
    for (int64_t slot = 0; slot < layout->n_slots; slot++) {
        int32_t adapter = layout->adapter[slot];
        double sum = 0;
        for (int64_t row = slot * layout->slot_rows; row < (slot + 1) * layout->slot_rows; row++)
            sum += (double)row_loss[row];
        assert(step[adapter] >= 0 && step[adapter] < table_stride);
        table[(int64_t)adapter * table_stride + step[adapter]] = (float)((double)label_weight[slot] * sum);
    }
    cpu_profile_stop(device, "loss_reduce", start);
}
