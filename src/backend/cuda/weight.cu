/* Frozen matrices: parts stacked along rows and converted once to the device's activation type; and views of float
 * memory that are converted at every use. Not here: products. */
#include <cstdlib>

#include "cuda_internal.cuh"
#include "kernel_common.cuh"

__device__ __forceinline__ float source_value(const void *source, int64_t i, enum tensor_type type) {
    if (type == TENSOR_F32) return static_cast<const float *>(source)[i];
    if (type == TENSOR_F16) return __half2float(static_cast<const __half *>(source)[i]);
    return __bfloat162float(static_cast<const bf16 *>(source)[i]);
}

template <typename T>
__global__ void convert_kernel(const void *source, enum tensor_type type, int64_t count, T *target) {
    int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride)
        target[i] = from_float<T>(source_value(source, i, type));
}

template <typename T>
static void convert(struct device *device, const void *source, enum tensor_type type, int64_t count, void *target) {
    int64_t blocks = ceil_div(count, 1024);
    kernel_launch(device, "weight_convert", convert_kernel<T>, static_cast<unsigned>(blocks < 65535 ? blocks : 65535),
                  256, 0, source, type, count, static_cast<T *>(target));
}

static size_t type_size(enum tensor_type type) {
    return type == TENSOR_F32 ? 4 : 2;
}

static bool type_is_own(const struct device *device, enum tensor_type type) {
    return device->precision == PRECISION_KIND_BF16 ? type == TENSOR_BF16 : type == TENSOR_F32;
}

static enum lvs_status part_load(struct device *device, const struct host_tensor *part, void *target,
                                 struct lvs_error *err) {
    int64_t count = part->rows * part->cols;
    if (type_is_own(device, part->type)) {
        cuda_upload(device, target, part->data, static_cast<size_t>(count) * act_size(device));
        return LVS_OK;
    }
    void *staged = nullptr;
    LVS_TRY(cuda_allocate(device, static_cast<size_t>(count) * type_size(part->type), &staged, err));
    cuda_upload(device, staged, part->data, static_cast<size_t>(count) * type_size(part->type));
    LVS_BY_PRECISION(device, convert, staged, part->type, count, target);
    cuda_release(device, staged);
    return LVS_OK;
}

enum lvs_status cuda_weight_create(struct device *device, const struct host_tensor *parts, int32_t n_parts,
                                   struct weight **out, struct lvs_error *err) {
    int64_t rows = 0;
    for (int32_t i = 0; i < n_parts; i++) {
        assert(parts[i].cols == parts[0].cols);
        rows += parts[i].rows;
    }
    void *data = nullptr;
    LVS_TRY(cuda_allocate(device, static_cast<size_t>(rows * parts[0].cols) * act_size(device), &data, err));
    size_t offset = 0;
    for (int32_t i = 0; i < n_parts; i++) {
        enum lvs_status status = part_load(device, &parts[i], static_cast<char *>(data) + offset, err);
        if (status != LVS_OK) {
            cuda_release(device, data);
            return status;
        }
        offset += static_cast<size_t>(parts[i].rows * parts[i].cols) * act_size(device);
    }
    struct weight *weight = static_cast<struct weight *>(lvs_calloc(1, sizeof *weight));
    weight->data = data;
    weight->rows = rows;
    weight->cols = parts[0].cols;
    *out = weight;
    return LVS_OK;
}

enum lvs_status cuda_weight_view(struct device *device, const float *data, int64_t rows, int64_t cols,
                                 struct weight **out, struct lvs_error *err) {
    void *copy = nullptr;
    if (device->precision == PRECISION_KIND_BF16)
        LVS_TRY(cuda_allocate(device, static_cast<size_t>(rows * cols) * sizeof(bf16), &copy, err));
    struct weight *weight = static_cast<struct weight *>(lvs_calloc(1, sizeof *weight));
    weight->data = copy;
    weight->view = data;
    weight->rows = rows;
    weight->cols = cols;
    *out = weight;
    return LVS_OK;
}

void cuda_weight_destroy(struct device *device, struct weight *weight) {
    if (weight == nullptr) return;
    cuda_release(device, weight->data);
    free(weight);
}

const void *weight_current(struct device *device, const struct weight *weight) {
    if (weight->view == nullptr) return weight->data;
    if (device->precision == PRECISION_KIND_FP32) return weight->view;
    convert<bf16>(device, weight->view, TENSOR_F32, weight->rows * weight->cols, weight->data);
    return weight->data;
}
