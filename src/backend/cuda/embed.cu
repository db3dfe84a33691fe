/* Rows of the embedding table, and their gradient into a float table in row order. Not here: the head's product. */
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

void cuda_embed(struct device *device, const struct pack_layout *layout, const struct weight *table, const int32_t *ids,
                void *x) {
    device_select(device);
    cuda_gather_rows(device, layout->n_rows, static_cast<int32_t>(table->cols), weight_current(device, table), ids, x);
}

/* A thread owns a column and adds the rows one after another, so equal ids are summed in row order. */
template <typename T>
__global__ void embed_backward_kernel(int32_t n_rows, int32_t cols, const int32_t *ids, const T *dx, float *dtable) {
    int32_t col = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
    if (col >= cols) return;
    for (int64_t row = 0; row < n_rows; row++)
        dtable[static_cast<int64_t>(ids[row]) * cols + col] += to_float(dx[row * cols + col]);
}

template <typename T>
static void embed_backward(struct device *device, const struct pack_layout *layout, const int32_t *ids, const void *dx,
                           int32_t cols, float *dtable) {
    kernel_launch(device, "embed_backward", embed_backward_kernel<T>, static_cast<unsigned>(ceil_div(cols, 64)), 64, 0,
                  layout->n_rows, cols, ids, static_cast<const T *>(dx), dtable);
}

void cuda_embed_backward(struct device *device, const struct pack_layout *layout, const int32_t *ids, const void *dx,
                         int32_t cols, float *dtable) {
    device_select(device);
    LVS_BY_PRECISION(device, embed_backward, layout, ids, dx, cols, dtable);
}
