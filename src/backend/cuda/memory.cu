/* Device memory: allocation with words when it does not fit, and copies in order with the operations. Not here: memory
 * that operations need for themselves (scratch.cu). */
#include "cuda_internal.cuh"

enum lvs_status cuda_allocate(struct device *device, size_t bytes, void **out, struct lvs_error *err) {
    device_select(device);
    void *memory = nullptr;
    cudaError_t code = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
    if (code != cudaSuccess) {
        size_t available = 0, total = 0;
        cudaGetLastError();
        cudaMemGetInfo(&available, &total);
        return lvs_fail(err, LVS_LAUNCH,
                        "CUDA device %d has no room for %.2f GiB more: %.2f of %.2f GiB are free (%s); use a smaller "
                        "pack, batch or context, or a larger card",
                        device->index, static_cast<double>(bytes) / 0x1p30, static_cast<double>(available) / 0x1p30,
                        static_cast<double>(total) / 0x1p30, cudaGetErrorString(code));
    }
    code = cudaMemsetAsync(memory, 0, bytes, device->stream);
    if (code != cudaSuccess) {
        cudaFree(memory);
        return lvs_fail(err, LVS_LAUNCH, "CUDA device %d: clearing new memory failed: %s", device->index,
                        cudaGetErrorString(code));
    }
    *out = memory;
    return LVS_OK;
}

void cuda_release(struct device *device, void *memory) {
    if (memory == nullptr) return;
    device_select(device);
    lora_reduce_flush(device);
    cudaStreamSynchronize(device->stream);
    cudaFree(memory);
}

/* From pageable memory the copy to a staging area is complete on return, so `source` has been read. */
void cuda_upload(struct device *device, void *target, const void *source, size_t bytes) {
    device_select(device);
    lora_reduce_flush(device);
    device_check(device, cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, device->stream), "upload");
}

void cuda_download(struct device *device, void *target, const void *source, size_t bytes) {
    device_select(device);
    lora_reduce_flush(device);
    device_check(device, cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToHost, device->stream), "download");
    device_check(device, cudaStreamSynchronize(device->stream), "download");
}

/* Held back until the next operation, see struct pending_copy. */
void cuda_copy(struct device *device, void *target, const void *source, size_t bytes) {
    device_select(device);
    lora_reduce_flush(device);
    device->pending = {target, source, bytes};
}

void cuda_fill_zero(struct device *device, void *target, size_t bytes) {
    device_select(device);
    lora_reduce_flush(device);
    device_check(device, cudaMemsetAsync(target, 0, bytes, device->stream), "fill_zero");
}
