/* Memory that operations need between their own kernels: one block a use, grown when asked for more. Invariant: a block
 * that a recorded graph may point to is kept until the device closes. */
#include <cstdio>
#include <cstdlib>

#include "cuda_internal.cuh"

struct scratch {
    void *memory[SCRATCH_USES];
    size_t bytes[SCRATCH_USES];
    void **retired; /* outgrown while graphs were alive */
    int32_t n_retired;
};

struct scratch *scratch_create(void) {
    return static_cast<struct scratch *>(lvs_calloc(1, sizeof(struct scratch)));
}

void scratch_destroy(struct scratch *scratch) {
    if (scratch == nullptr) return;
    for (int32_t i = 0; i < scratch->n_retired; i++)
        cudaFree(scratch->retired[i]);
    for (int32_t use = 0; use < SCRATCH_USES; use++)
        cudaFree(scratch->memory[use]);
    free(scratch->retired);
    free(scratch);
}

static void scratch_retire(struct device *device, enum scratch_use use) {
    struct scratch *scratch = device->scratch;
    if (scratch->memory[use] == nullptr) return;
    if (device->n_graphs == 0) {
        cudaStreamSynchronize(device->stream);
        cudaFree(scratch->memory[use]);
    } else {
        size_t count = static_cast<size_t>(scratch->n_retired) + 1;
        scratch->retired = static_cast<void **>(lvs_realloc(scratch->retired, count * sizeof(void *)));
        scratch->retired[scratch->n_retired++] = scratch->memory[use];
    }
    scratch->memory[use] = nullptr;
    scratch->bytes[use] = 0;
}

size_t scratch_bytes(const struct device *device, enum scratch_use use) {
    return device->scratch->bytes[use];
}

void *scratch_take(struct device *device, enum scratch_use use, size_t bytes, const char *what) {
    struct scratch *scratch = device->scratch;
    if (bytes <= scratch->bytes[use]) return scratch->memory[use];
    if (device->capturing) {
        device_fail(device, what, "it needs more working memory while a graph is recorded; run it once before");
        return nullptr;
    }
    scratch_retire(device, use);
    struct lvs_error error = {};
    if (cuda_allocate(device, bytes, &scratch->memory[use], &error) != LVS_OK) {
        device_fail(device, what, error.text);
        scratch->memory[use] = nullptr;
        return nullptr;
    }
    scratch->bytes[use] = bytes;
    return scratch->memory[use];
}
