/* The registry of backends, and what does not depend on one: row layouts, the choice by name, and the fused operations
 * composed from plain ones where a backend lacks them. CUDA is never linked: its module is opened when it is asked
 * for, so the program starts where CUDA is missing. */
#include <assert.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lvsweep/backend.h"

#define MODULE_FILE   "lvsweep_cuda.so"
#define MODULE_SYMBOL "lvs_backend_module"

extern const struct backend backend_cpu;

struct pack_layout pack_layout_make(int32_t n_slots, int32_t n_sequences, int32_t context) {
    assert(n_slots > 0 && n_sequences > 0 && context > 0);
    int64_t rows = (int64_t)n_sequences * context;
    int64_t block = rows < LVS_ROW_BLOCK ? LVS_ROW_BLOCK_SMALL : LVS_ROW_BLOCK;
    int64_t slot_rows = (rows + block - 1) / block * block;
    assert(slot_rows * n_slots <= INT32_MAX);
    return (struct pack_layout){
        .n_slots = n_slots,
        .n_sequences = n_sequences,
        .context = context,
        .slot_rows = (int32_t)slot_rows,
        .n_rows = (int32_t)(slot_rows * n_slots),
        .row_block = (int32_t)block,
    };
}

/* ---- the CUDA module ---- */

/* Folder of the running program, without a final slash; "" when it cannot be told. */
static void program_folder(char *out, size_t capacity) {
    ssize_t length = readlink("/proc/self/exe", out, capacity - 1);
    out[length > 0 ? length : 0] = 0;
    char *slash = strrchr(out, '/');
    if (slash) *slash = 0;
}

/* Opens one file; the reason is added to `tried` when that fails. */
static const struct backend *module_open(const char *path, struct strbuf *tried) {
    if (access(path, F_OK) != 0) {
        strbuf_printf(tried, "; %s does not exist", path);
        return NULL;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        strbuf_printf(tried, "; %s", dlerror());
        return NULL;
    }
    const struct backend *(*entry)(void) = (const struct backend *(*)(void))dlsym(handle, MODULE_SYMBOL);
    if (entry) return entry();
    strbuf_printf(tried, "; %s has no symbol " MODULE_SYMBOL, path);
    dlclose(handle);
    return NULL;
}

/* The module stays open for the life of the process: its table lives in it. */
static enum lvs_status module_find(const struct backend **out, struct lvs_error *err) {
    static const struct backend *found;
    struct strbuf tried;
    char folder[3584], path[4096];
    const char *named = getenv("LVSWEEP_CUDA_MODULE");
    strbuf_init(&tried);
    program_folder(folder, sizeof folder);
    if (!found && named && *named) found = module_open(named, &tried);
    snprintf(path, sizeof path, "%s/" MODULE_FILE, folder);
    if (!found) found = module_open(path, &tried);
    if (!found) found = module_open(LVS_MODULE_DIR "/" MODULE_FILE, &tried);
    if (!found)
        lvs_fail(err, LVS_LAUNCH,
                 "backend = cuda: the CUDA module cannot be opened%s; build lvsweep where a CUDA toolkit is installed, "
                 "name the module in LVSWEEP_CUDA_MODULE, or set [run] backend = cpu",
                 tried.text ? tried.text : "");
    strbuf_free(&tried);
    *out = found;
    return found ? LVS_OK : LVS_LAUNCH;
}

/* ---- choice ---- */

enum lvs_status backend_find(const char *name, const struct backend **out, struct lvs_error *err) {
    *out = NULL;
    if (strcmp(name, "cpu") == 0) {
        *out = &backend_cpu;
        return LVS_OK;
    }
    if (strcmp(name, "cuda") == 0) return module_find(out, err);
    if (strcmp(name, "auto") != 0)
        return lvs_fail(err, LVS_USAGE, "backend = %s: allowed are auto, cpu and cuda", name);
    struct lvs_error unused = {0};
    if (module_find(out, &unused) != LVS_OK || (*out)->count(&unused) == 0) *out = &backend_cpu;
    return LVS_OK;
}

enum lvs_status compute_open(const char *name, const struct device_options *options, struct compute *out,
                             struct lvs_error *err) {
    memset(out, 0, sizeof *out);
    const struct backend *backend;
    LVS_TRY(backend_find(name, &backend, err));
    LVS_TRY(backend->open(options, &out->device, err));
    out->backend = backend;
    out->precision = options->precision;
    out->act_size = options->precision == PRECISION_KIND_BF16 ? 2 : 4;
    return LVS_OK;
}

void compute_close(struct compute *compute) {
    if (compute->backend) compute->backend->close(compute->device);
    memset(compute, 0, sizeof *compute);
}

double compute_memory_used(const struct compute *compute, const struct device_description *now) {
    struct rusage usage;
    if (compute->backend == &backend_cpu)
        return getrusage(RUSAGE_SELF, &usage) == 0 ? 1024.0 * (double)usage.ru_maxrss : NAN;
    return now->memory_total > 0 ? (double)(now->memory_total - now->memory_free) : NAN;
}

/* ---- fused operations ---- */

void backend_norm_lora_a_forward(const struct compute *compute, const struct pack_layout *layout, int32_t cols,
                                 const void *x, const float *gain, float epsilon, void *y, float *rstd,
                                 const struct adapters *adapters, const struct lora_group *group, float *xa) {
    const struct backend *backend = compute->backend;
    if (backend->norm_lora_a_forward) {
        backend->norm_lora_a_forward(compute->device, layout, cols, x, gain, epsilon, y, rstd, adapters, group, xa);
        return;
    }
    backend->rmsnorm_forward(compute->device, layout, cols, x, gain, epsilon, y, rstd);
    if (group->n > 0) backend->lora_a_forward(compute->device, layout, adapters, group, y, xa);
}

void backend_norm_lora_a_backward(const struct compute *compute, const struct pack_layout *layout, int32_t cols,
                                  void *dy, const void *x, const float *gain, float epsilon, const float *rstd,
                                  const struct adapters *adapters, const struct lora_group *group, const float *t,
                                  void *y, void *dx) {
    const struct backend *backend = compute->backend;
    if (backend->norm_lora_a_backward) {
        backend->norm_lora_a_backward(compute->device, layout, cols, dy, x, gain, rstd, adapters, group, t, y, dx);
        return;
    }
    if (group->n > 0) {
        backend->rmsnorm_forward(compute->device, layout, cols, x, gain, epsilon, y, NULL);
        backend->lora_a_backward(compute->device, layout, adapters, group, t, y, dy);
    }
    backend->rmsnorm_backward(compute->device, layout, cols, dy, x, gain, rstd, dx);
}

void backend_qkv_finish(const struct compute *compute, const struct pack_layout *layout,
                        const struct attention_shape *shape, const struct adapters *adapters,
                        const struct lora_group *group, const float *xa, const float *bias,
                        const struct rope_tables *rope, void *qkv) {
    const struct backend *backend = compute->backend;
    if (backend->qkv_finish) {
        backend->qkv_finish(compute->device, layout, shape, adapters, group, xa, bias, rope, qkv);
        return;
    }
    if (group->n > 0)
        backend->lora_b_forward(compute->device, layout, adapters, group, xa, attention_qkv_width(shape), qkv);
    backend->qkv_bias_rope(compute->device, layout, shape, bias, rope, qkv);
}

void backend_qkv_finish_backward(const struct compute *compute, const struct pack_layout *layout,
                                 const struct attention_shape *shape, const struct adapters *adapters,
                                 const struct lora_group *group, const float *xa, const struct rope_tables *rope,
                                 void *dqkv, float *t) {
    const struct backend *backend = compute->backend;
    if (backend->qkv_finish_backward) {
        backend->qkv_finish_backward(compute->device, layout, shape, adapters, group, xa, rope, dqkv, t);
        return;
    }
    backend->qkv_rope_backward(compute->device, layout, shape, rope, dqkv);
    if (group->n > 0)
        backend->lora_b_backward(compute->device, layout, adapters, group, dqkv, attention_qkv_width(shape), xa, t);
}

/* Composed, gate_up is where the product goes, so it has to be there. */
void backend_gate_up_swiglu(const struct compute *compute, const struct pack_layout *layout, int32_t width,
                            const void *x, const struct weight *w, void *gate_up, void *h) {
    const struct backend *backend = compute->backend;
    if (backend->gate_up_swiglu) {
        backend->gate_up_swiglu(compute->device, layout, width, x, w, gate_up, h);
        return;
    }
    assert(gate_up);
    backend->matmul_forward(compute->device, layout, x, w, false, gate_up);
    backend->swiglu_forward(compute->device, layout, width, gate_up, h);
}
