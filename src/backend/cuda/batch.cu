/* The rows of a training step and small bookkeeping: gathering windows and rows, summing losses into the tables, and
 * advancing step counters. Copies and fixed-order sums only. */
#include "cuda_internal.cuh"
#include "kernel_common.cuh"

#define GATHER_THREADS 512

/* One block a slot. */
__global__ void batch_gather_kernel(const int32_t *adapter_of, int32_t n_sequences, int32_t context, int32_t slot_rows,
                                    struct batch_call call) {
    __shared__ int32_t room[GATHER_THREADS / 32];
    int32_t slot = static_cast<int32_t>(blockIdx.x), adapter = adapter_of[slot], counted = 0;
    const int32_t *order = call.order + static_cast<int64_t>(adapter) * call.order_stride +
                           static_cast<int64_t>(call.step[adapter]) * call.batch;
    for (int32_t row = static_cast<int32_t>(threadIdx.x); row < slot_rows; row += GATHER_THREADS) {
        int32_t sequence = row / context, id = 0, label = LVS_LABEL_IGNORED;
        if (sequence < n_sequences) {
            int64_t source = static_cast<int64_t>(order[sequence]) * context + row % context;
            id = call.window_ids[source];
            label = call.window_labels[source];
        }
        int64_t target = static_cast<int64_t>(slot) * slot_rows + row;
        call.ids[target] = id;
        call.labels[target] = label;
        counted += label >= 0;
    }
    counted = __reduce_add_sync(0xffffffffu, counted);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = counted;
    __syncthreads();
    if (threadIdx.x != 0) return;
    int32_t total = 0;
    for (int32_t i = 0; i < GATHER_THREADS / 32; i++)
        total += room[i];
    call.label_weight[slot] = total > 0 ? 1.0f / static_cast<float>(total) : 0.0f;
}

void cuda_batch_gather(struct device *device, const struct pack_layout *layout, const struct batch_call *call) {
    assert(call->batch == layout->n_sequences);
    device_select(device);
    kernel_launch(device, "batch_gather", batch_gather_kernel, layout->n_slots, GATHER_THREADS, 0, layout->adapter,
                  layout->n_sequences, layout->context, layout->slot_rows, *call);
}

/* One block a row; 16-byte pieces when the row is made of them, else elements. */
template <typename T> __global__ void gather_rows_kernel(int32_t cols, const T *x, const int32_t *index, T *out) {
    const T *source = x + static_cast<int64_t>(index[blockIdx.x]) * cols;
    T *target = out + static_cast<int64_t>(blockIdx.x) * cols;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < cols; i += static_cast<int32_t>(blockDim.x))
        target[i] = source[i];
}

void cuda_gather_rows(struct device *device, int32_t count, int32_t cols, const void *x, const int32_t *index,
                      void *out) {
    device_select(device);
    size_t row_bytes = static_cast<size_t>(cols) * act_size(device);
    if (row_bytes % 16 == 0)
        kernel_launch(device, "gather_rows", gather_rows_kernel<uint4>, count, 128, 0,
                      static_cast<int32_t>(row_bytes / 16), static_cast<const uint4 *>(x), index,
                      static_cast<uint4 *>(out));
    else
        kernel_launch(device, "gather_rows", gather_rows_kernel<uint16_t>, count, 128, 0,
                      static_cast<int32_t>(row_bytes / 2), static_cast<const uint16_t *>(x), index,
                      static_cast<uint16_t *>(out));
}

#define REDUCE_THREADS 256

/* One block a slot: each thread sums every 256th row in order, then the threads' sums are added in order. */
__global__ void loss_reduce_kernel(const int32_t *adapter_of, int32_t slot_rows, const float *row_loss,
                                   const float *label_weight, const int32_t *step, int32_t table_stride, float *table) {
    __shared__ double room[REDUCE_THREADS];
    int32_t slot = static_cast<int32_t>(blockIdx.x), adapter = adapter_of[slot];
    const float *losses = row_loss + static_cast<int64_t>(slot) * slot_rows;
    double sum = 0;
    for (int32_t row = static_cast<int32_t>(threadIdx.x); row < slot_rows; row += REDUCE_THREADS)
        sum += static_cast<double>(losses[row]);
    room[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    double total = 0;
    for (int32_t i = 0; i < REDUCE_THREADS; i++)
        total += room[i];
    table[static_cast<int64_t>(adapter) * table_stride + step[adapter]] =
        static_cast<float>(total * static_cast<double>(label_weight[slot]));
}

void cuda_loss_reduce(struct device *device, const struct pack_layout *layout, const float *row_loss,
                      const float *label_weight, const int32_t *step, int32_t table_stride, float *table) {
    device_select(device);
    kernel_launch(device, "loss_reduce", loss_reduce_kernel, layout->n_slots, REDUCE_THREADS, 0, layout->adapter,
                  layout->slot_rows, row_loss, label_weight, step, table_stride, table);
}

__global__ void step_advance_kernel(int32_t n_slots, const int32_t *adapter_of, int32_t *step) {
    int32_t slot = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
    if (slot < n_slots) step[adapter_of[slot]] += 1;
}

void cuda_step_advance(struct device *device, const struct pack_layout *layout, int32_t *step) {
    device_select(device);
    kernel_launch(device, "step_advance", step_advance_kernel, static_cast<unsigned>(ceil_div(layout->n_slots, 128)),
                  128, 0, layout->n_slots, layout->adapter, step);
}
