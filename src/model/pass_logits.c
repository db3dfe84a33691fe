/* Logits of chosen rows on the host: for tests and small things, never on the way of training. */
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

struct scratch {
    int32_t *index, *adapter; /* device [n_rows], [1] */
    void *x, *y;              /* device act [n_rows][hidden], [n_rows][vocabulary] */
};

static enum lvs_status scratch_make(const struct compute *compute, int64_t n_rows, int64_t hidden, int64_t vocabulary,
                                    struct scratch *out, struct lvs_error *err) {
    void *index, *adapter;
    LVS_TRY(compute->backend->allocate(compute->device, (size_t)n_rows * sizeof(int32_t), &index, err));
    out->index = index;
    LVS_TRY(compute->backend->allocate(compute->device, sizeof(int32_t), &adapter, err));
    out->adapter = adapter;
    LVS_TRY(compute->backend->allocate(compute->device, (size_t)(n_rows * hidden) * compute->act_size, &out->x, err));
    return compute->backend->allocate(compute->device, (size_t)(n_rows * vocabulary) * compute->act_size, &out->y, err);
}

static void scratch_free(const struct compute *compute, const struct scratch *scratch) {
    void *const arrays[] = {scratch->index, scratch->adapter, scratch->x, scratch->y};
    for (int i = 0; i < 4; i++)
        if (arrays[i]) compute->backend->release(compute->device, arrays[i]);
}

/* Device activations to float on the host. */
static void download_float(const struct compute *compute, const void *source, int64_t count, float *out) {
    if (compute->act_size == sizeof(float)) {
        compute->backend->download(compute->device, out, source, (size_t)count * sizeof(float));
        return;
    }
    uint16_t *bits = lvs_malloc((size_t)count * sizeof *bits);
    compute->backend->download(compute->device, bits, source, (size_t)count * sizeof *bits);
    tensor_to_float(bits, TENSOR_BF16, count, out);
    free(bits);
}

static void add_bias(const struct pass *pass, const struct adapters *adapters, const int32_t *rows, int32_t count,
                     float *out) {
    int64_t vocabulary = pass->model->n_vocabulary, offset = pass_bias_offset(pass, adapters);
    if (offset < 0) return;
    const struct compute *compute = &pass->model->compute;
    float *bias = lvs_malloc((size_t)vocabulary * sizeof *bias);
    for (int32_t i = 0; i < count; i++) {
        int64_t adapter = pass->adapter_of_slot[rows[i] / pass->layout.slot_rows];
        compute->backend->download(compute->device, bias, adapters->params + adapter * adapters->stride + offset,
                                   (size_t)vocabulary * sizeof *bias);
        for (int64_t v = 0; v < vocabulary; v++)
            out[i * vocabulary + v] += bias[v];
    }
    free(bias);
}

enum lvs_status pass_logits(struct pass *pass, const struct adapters *adapters, const int32_t *rows, int32_t count,
                            float *out, struct lvs_error *err) {
    const struct compute *compute = &pass->model->compute;
    int64_t vocabulary = pass->model->n_vocabulary, hidden = pass->model->config.hidden;
    struct pack_layout layout = pack_layout_make(1, count, 1);
    struct scratch scratch = {0};
    enum lvs_status status = scratch_make(compute, layout.n_rows, hidden, vocabulary, &scratch, err);
    if (status == LVS_OK) {
        layout.adapter = scratch.adapter;
        compute->backend->upload(compute->device, scratch.index, rows, (size_t)count * sizeof(int32_t));
        compute->backend->gather_rows(compute->device, count, (int32_t)hidden, pass->hidden, scratch.index, scratch.x);
        compute->backend->matmul_forward(compute->device, &layout, scratch.x, pass_head(pass, adapters), false,
                                         scratch.y);
        download_float(compute, scratch.y, count * vocabulary, out);
        add_bias(pass, adapters, rows, count, out);
        status = compute->backend->synchronize(compute->device, err);
    }
    scratch_free(compute, &scratch);
    return status;
}
