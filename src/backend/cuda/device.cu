/* Opening, describing and closing a GPU, and the error that a device keeps until the next synchronize. Not here: its
 * memory (memory.cu) and graphs (graph.cu). */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda_internal.cuh"

void device_fail(struct device *device, const char *what, const char *words) {
    if (device->error.status == LVS_OK)
        lvs_fail(&device->error, LVS_LAUNCH, "CUDA device %d: %s failed: %s", device->index, what, words);
}

bool device_check(struct device *device, cudaError_t code, const char *what) {
    if (code == cudaSuccess) return true;
    device_fail(device, what, cudaGetErrorString(code));
    return false;
}

void device_select(struct device *device) {
    static thread_local int32_t selected = -1;
    if (selected != device->index) cudaSetDevice(device->index);
    selected = device->index;
    if (device->fold.dqkv != nullptr) {
        struct pending_fold fold = device->fold;
        device->fold.dqkv = nullptr;
        attention_fold(device, &fold);
    }
    if (device->pending.bytes == 0) return;
    struct pending_copy copy = device->pending;
    device->pending.bytes = 0;
    device_check(device,
                 cudaMemcpyAsync(copy.target, copy.source, copy.bytes, cudaMemcpyDeviceToDevice, device->stream),
                 "copy");
}

int32_t cuda_count(struct lvs_error *err) {
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess) {
        lvs_fail(err, LVS_LAUNCH, "no GPU can be used: %s", cudaGetErrorString(code));
        return 0;
    }
    if (count == 0) lvs_fail(err, LVS_LAUNCH, "no GPU is visible (see CUDA_VISIBLE_DEVICES and nvidia-smi)");
    return count;
}

static enum lvs_status handles_create(struct device *device, struct lvs_error *err) {
    cudaError_t code = cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking);
    if (code != cudaSuccess)
        return lvs_fail(err, LVS_LAUNCH, "CUDA device %d cannot be started: %s", device->index,
                        cudaGetErrorString(code));
    cublasStatus_t status = cublasLtCreate(&device->blas);
    if (status != CUBLAS_STATUS_SUCCESS)
        return lvs_fail(err, LVS_LAUNCH, "cuBLASLt cannot be started on CUDA device %d: %s", device->index,
                        cublasLtGetStatusString(status));
    return LVS_OK;
}

enum lvs_status cuda_open(const struct device_options *options, struct device **out, struct lvs_error *err) {
    int32_t count = cuda_count(err);
    if (count == 0) return LVS_LAUNCH;
    if (options->index < 0 || options->index >= count)
        return lvs_fail(err, LVS_LAUNCH, "GPU %d was asked for, but this process sees %d (numbered from 0)",
                        options->index, count);
    cudaDeviceProp properties;
    cudaError_t code = cudaSetDevice(options->index);
    if (code == cudaSuccess) code = cudaGetDeviceProperties(&properties, options->index);
    if (code != cudaSuccess)
        return lvs_fail(err, LVS_LAUNCH, "CUDA device %d cannot be used: %s", options->index, cudaGetErrorString(code));
    if (properties.major < 8)
        return lvs_fail(err, LVS_LAUNCH,
                        "CUDA device %d (%s) has compute capability %d.%d; 8.0 (Ampere) or later is needed",
                        options->index, properties.name, properties.major, properties.minor);
    struct device *device = static_cast<struct device *>(lvs_calloc(1, sizeof *device));
    device->index = options->index;
    device->precision = options->precision;
    device->multiprocessors = properties.multiProcessorCount;
    device->major = properties.major;
    device->shared_limit = static_cast<int32_t>(properties.sharedMemPerBlockOptin);
    device->cache_bytes = properties.l2CacheSize;
    device->scratch = scratch_create();
    device->tuning = tuning_create();
    device->lora_pending = lora_pending_create();
    enum lvs_status status = handles_create(device, err);
    if (status != LVS_OK) {
        cuda_close(device);
        return status;
    }
    *out = device;
    return LVS_OK;
}

void cuda_close(struct device *device) {
    if (device == nullptr) return;
    device_select(device);
    if (device->stream != nullptr) cudaStreamSynchronize(device->stream);
    if (device->blas != nullptr) cublasLtDestroy(device->blas);
    scratch_destroy(device->scratch);
    tuning_destroy(device->tuning);
    lora_pending_destroy(device->lora_pending);
    profile_destroy(device->profile);
    if (device->stream != nullptr) cudaStreamDestroy(device->stream);
    free(device);
}

static void uuid_write(const cudaUUID_t *uuid, char *out, size_t capacity) {
    const unsigned char *byte = reinterpret_cast<const unsigned char *>(uuid->bytes);
    snprintf(out, capacity, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", byte[0],
             byte[1], byte[2], byte[3], byte[4], byte[5], byte[6], byte[7], byte[8], byte[9], byte[10], byte[11],
             byte[12], byte[13], byte[14], byte[15]);
}

enum lvs_status cuda_describe(struct device *device, struct device_description *out, struct lvs_error *err) {
    device_select(device);
    cudaDeviceProp properties;
    size_t available = 0, total = 0;
    int driver = 0, runtime = 0;
    cudaError_t code = cudaGetDeviceProperties(&properties, device->index);
    if (code == cudaSuccess) code = cudaMemGetInfo(&available, &total);
    if (code == cudaSuccess) code = cudaDriverGetVersion(&driver);
    if (code == cudaSuccess) code = cudaRuntimeGetVersion(&runtime);
    if (code != cudaSuccess)
        return lvs_fail(err, LVS_LAUNCH, "CUDA device %d cannot be described: %s", device->index,
                        cudaGetErrorString(code));
    memset(out, 0, sizeof *out);
    lvs_copy(out->name, sizeof out->name, properties.name);
    uuid_write(&properties.uuid, out->uuid, sizeof out->uuid);
    snprintf(out->driver, sizeof out->driver, "driver for CUDA %d.%d, runtime %d.%d, cuBLASLt %zu", driver / 1000,
             driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, cublasLtGetVersion());
    out->memory_total = static_cast<int64_t>(total);
    out->memory_free = static_cast<int64_t>(available);
    out->multiprocessors = device->multiprocessors;
    return LVS_OK;
}

__global__ void break_context_kernel(int *nobodys) {
    *nobodys = 0;
}

void cuda_break_context(struct device *device) {
    device_select(device);
    kernel_launch(device, "break_context", break_context_kernel, 1, 1, 0, reinterpret_cast<int *>(16));
}

enum lvs_status cuda_synchronize(struct device *device, struct lvs_error *err) {
    device_select(device);
    lora_reduce_flush(device);
    device_check(device, cudaStreamSynchronize(device->stream), "an operation enqueued earlier");
    if (device->error.status == LVS_OK) return LVS_OK;
    enum lvs_status status = lvs_fail(err, device->error.status, "%s", device->error.text);
    device->error.status = LVS_OK;
    return status;
}

double cuda_flops_executed(struct device *device) {
    return device->flops;
}
