/* The CPU table: opening, describing and waiting, and the list of its operations. Operations run when they are called,
 * so there is nothing to wait for; a failure is kept until the next synchronize. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu_internal.h"

static int32_t cpu_count(struct lvs_error *err) {
    (void)err;
    return 1;
}

static enum lvs_status cpu_open(const struct device_options *options, struct device **out, struct lvs_error *err) {
    *out = NULL;
    if (options->precision != PRECISION_KIND_FP32)
        return lvs_fail(err, LVS_USAGE,
                        "[run] precision = bf16: the CPU computes in fp32 only; set precision = fp32 or auto, or "
                        "backend = cuda");
    if (options->threads < 0)
        return lvs_fail(err, LVS_USAGE, "[run] threads = %d: must be 0 (all cores) or more", (int)options->threads);
    cpu_blas_setup();
    struct device *device = lvs_calloc(1, sizeof *device);
    device->threads = options->threads > 0 ? options->threads : omp_get_max_threads();
    *out = device;
    return LVS_OK;
}

static void cpu_close(struct device *device) {
    if (!device) return;
    free(device->scratch);
    cpu_profile_free(device);
    free(device);
}

/* "model name" of the first processor in /proc/cpuinfo. */
static void processor_name(char *out, size_t capacity) {
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    lvs_copy(out, capacity, "unknown processor");
    while (file && fgets(line, sizeof line, file)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value) continue;
        value += strspn(value, ": \t");
        value[strcspn(value, "\n")] = 0;
        lvs_copy(out, capacity, value);
        break;
    }
    if (file) fclose(file);
}

static enum lvs_status cpu_describe(struct device *device, struct device_description *out, struct lvs_error *err) {
    (void)err;
    memset(out, 0, sizeof *out);
    processor_name(out->name, sizeof out->name);
    if (gethostname(out->uuid, sizeof out->uuid - 1) != 0) lvs_copy(out->uuid, sizeof out->uuid, "unknown host");
    lvs_copy(out->driver, sizeof out->driver, cpu_blas_description());
    out->memory_total = cpu_memory_total();
    out->memory_free = cpu_memory_available();
    out->multiprocessors = device->threads;
    return LVS_OK;
}

static void cpu_copy(struct device *device, void *target, const void *source, size_t bytes) {
    (void)device;
    memmove(target, source, bytes);
}

static void cpu_fill_zero(struct device *device, void *target, size_t bytes) {
    (void)device;
    memset(target, 0, bytes);
}

/* The address is kept from the compiler, which knows better than to write there. */
static void cpu_break_context(struct device *device) {
    static int *volatile nobodys = (int *)16;
    (void)device;
    *nobodys = 0;
}

static enum lvs_status cpu_synchronize(struct device *device, struct lvs_error *err) {
    enum lvs_status status = device->failure.status;
    if (status != LVS_OK) lvs_fail(err, status, "%s", device->failure.text);
    device->failure = (struct lvs_error){0};
    return status;
}

static double cpu_flops_executed(struct device *device) {
    return device->flops;
}

const struct backend backend_cpu = {
    .name = "cpu",
    .count = cpu_count,
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .fill_zero = cpu_fill_zero,
    .weight_create = cpu_weight_create,
    .weight_view = cpu_weight_view,
    .weight_destroy = cpu_weight_destroy,
    .break_context = cpu_break_context,
    .batch_gather = cpu_batch_gather,
    .embed = cpu_embed,
    .embed_backward = cpu_embed_backward,
    .rmsnorm_forward = cpu_rmsnorm_forward,
    .rmsnorm_backward = cpu_rmsnorm_backward,
    .matmul_forward = cpu_matmul_forward,
    .matmul_backward = cpu_matmul_backward,
    .lora_a_forward = cpu_lora_a_forward,
    .lora_b_forward = cpu_lora_b_forward,
    .lora_b_backward = cpu_lora_b_backward,
    .lora_a_backward = cpu_lora_a_backward,
    .qkv_bias_rope = cpu_qkv_bias_rope,
    .qkv_rope_backward = cpu_qkv_rope_backward,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .swiglu_forward = cpu_swiglu_forward,
    .swiglu_backward = cpu_swiglu_backward,
    .loss = cpu_loss,
    .loss_reduce = cpu_loss_reduce,
    .adam = cpu_adam,
    .step_advance = cpu_step_advance,
    .gather_rows = cpu_gather_rows,
    .kv_store = cpu_kv_store,
    .attention_cached = cpu_attention_cached,
    .sample = cpu_sample,
    .gate_up_swiglu = cpu_gate_up_swiglu,
    .synchronize = cpu_synchronize,
    .flops_executed = cpu_flops_executed,
    .profile_begin = cpu_profile_begin,
    .profile_write = cpu_profile_write,
};
