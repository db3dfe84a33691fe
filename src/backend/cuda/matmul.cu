/* Products through cuBLASLt, row-major. Split-K and other reductions across blocks are excluded, so an element of the
 * result is one sum in ascending k whatever the number of rows. The choice among the remaining algorithms is timed once
 * a shape (tuning.cu). */
#include <cstdio>
#include <cstring>

#include "cuda_internal.cuh"

#define BLAS_WORKSPACE (static_cast<size_t>(32) << 20) /* bytes */
#define CANDIDATES     24

struct product_plan {
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t a, b, c; /* of cuBLAS: column-major, a = our b */
    cublasLtMatmulPreference_t preference;
};

static double product_flops(const struct product *p) {
    double batch = p->batch > 0 ? p->batch : 1;
    return 2.0 * batch * static_cast<double>(p->m) * static_cast<double>(p->n) * static_cast<double>(p->k);
}

/* A product that fails because the context is lost says so in CUDA's words: cuBLAS only knows that it did not start. */
static bool blas_check(struct device *device, cublasStatus_t code, const char *what) {
    if (code == CUBLAS_STATUS_SUCCESS) return true;
    cudaError_t lost = device->capturing ? cudaSuccess : cudaStreamQuery(device->stream);
    if (lost != cudaSuccess && lost != cudaErrorNotReady) return device_check(device, lost, what);
    device_fail(device, what, cublasLtGetStatusString(code));
    return false;
}

/* A row-major matrix [rows][cols] is cuBLAS's column-major [cols × rows]; so c = a·b there is cᵀ = bᵀ·aᵀ. */
static void plan_layouts(struct product_plan *plan, const struct product *p) {
    if (p->transposed_b)
        cublasLtMatrixLayoutCreate(&plan->a, p->type_ab, p->k, p->n, p->ld_b);
    else
        cublasLtMatrixLayoutCreate(&plan->a, p->type_ab, p->n, p->k, p->ld_b);
    if (p->transposed_a)
        cublasLtMatrixLayoutCreate(&plan->b, p->type_ab, p->m, p->k, p->ld_a);
    else
        cublasLtMatrixLayoutCreate(&plan->b, p->type_ab, p->k, p->m, p->ld_a);
    cublasLtMatrixLayoutCreate(&plan->c, p->type_c, p->n, p->m, p->ld_c);
    if (p->batch == 0) return;
    cublasLtMatrixLayout_t layout[] = {plan->a, plan->b, plan->c};
    int64_t step[] = {p->step_b, p->step_a, p->step_c};
    for (int i = 0; i < 3; i++) {
        cublasLtMatrixLayoutSetAttribute(layout[i], CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &p->batch, sizeof p->batch);
        cublasLtMatrixLayoutSetAttribute(layout[i], CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step[i],
                                         sizeof step[i]);
    }
}

static void plan_make(struct product_plan *plan, const struct product *p) {
    cublasOperation_t op_a = p->transposed_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t op_b = p->transposed_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    size_t workspace = BLAS_WORKSPACE;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
    memset(plan, 0, sizeof *plan);
    cublasLtMatmulDescCreate(&plan->description, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatmulDescSetAttribute(plan->description, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof op_a);
    cublasLtMatmulDescSetAttribute(plan->description, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b);
    plan_layouts(plan, p);
    cublasLtMatmulPreferenceCreate(&plan->preference);
    cublasLtMatmulPreferenceSetAttribute(plan->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                         sizeof workspace);
    cublasLtMatmulPreferenceSetAttribute(plan->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                         sizeof schemes);
}

static void plan_free(struct product_plan *plan) {
    cublasLtMatmulPreferenceDestroy(plan->preference);
    cublasLtMatrixLayoutDestroy(plan->a);
    cublasLtMatrixLayoutDestroy(plan->b);
    cublasLtMatrixLayoutDestroy(plan->c);
    cublasLtMatmulDescDestroy(plan->description);
}

static cublasStatus_t plan_enqueue(struct device *device, const struct product_plan *plan, const struct product *p,
                                   const cublasLtMatmulAlgo_t *algorithm, void *workspace, void *target) {
    float alpha = 1, beta = p->accumulate ? 1.0f : 0.0f;
    return cublasLtMatmul(device->blas, plan->description, &alpha, p->b, plan->a, p->a, plan->b, &beta,
                          p->added != nullptr ? p->added : p->c, plan->c, target, plan->c, algorithm, workspace,
                          BLAS_WORKSPACE, device->stream);
}

/* Split-K in any form would make the order of a sum depend on the number of rows. */
static bool algorithm_is_plain(const cublasLtMatmulAlgo_t *algorithm) {
    int32_t split = 1;
    uint32_t scheme = 0;
    cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof split, nullptr);
    cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme,
                                         nullptr);
    return (split == 1 || split == 0) && scheme == CUBLASLT_REDUCTION_SCHEME_NONE;
}

/* A few launches recorded as a graph: enqueueing takes longer than a small product. NULL when the algorithm refuses. */
static cudaGraphExec_t launches_record(struct device *device, const struct product_plan *plan, const struct product *p,
                                       const cublasLtMatmulAlgo_t *algorithm, void *workspace, void *target,
                                       int launches) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    bool usable = cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
    for (int i = 0; usable && i < launches; i++)
        usable = plan_enqueue(device, plan, p, algorithm, workspace, target) == CUBLAS_STATUS_SUCCESS;
    usable = cudaStreamEndCapture(device->stream, &graph) == cudaSuccess && usable;
    if (!usable || cudaGraphInstantiate(&executable, graph, 0) != cudaSuccess) executable = nullptr;
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    return executable;
}

/* Milliseconds a launch: the best of three replays. */
static float algorithm_time(struct device *device, const struct product_plan *plan, const struct product *p,
                            const cublasLtMatmulAlgo_t *algorithm, void *workspace, void *target) {
    int launches = product_flops(p) > 1e11 ? 2 : 16;
    cudaGraphExec_t executable = launches_record(device, plan, p, algorithm, workspace, target, launches);
    if (executable == nullptr) return 1e30f;
    cudaEvent_t start, stop;
    cudaEventCreate(&start);
    cudaEventCreate(&stop);
    float best = 1e30f;
    for (int replay = 0; replay < 4; replay++) {
        float elapsed = 1e30f;
        cudaEventRecord(start, device->stream);
        cudaGraphLaunch(executable, device->stream);
        cudaEventRecord(stop, device->stream);
        if (cudaEventSynchronize(stop) != cudaSuccess) break;
        cudaEventElapsedTime(&elapsed, start, stop);
        if (replay > 0 && elapsed / static_cast<float>(launches) < best) best = elapsed / static_cast<float>(launches);
    }
    cudaGraphExecDestroy(executable);
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    return best;
}

/* Times the candidates on the operands in hand; an accumulating product is timed into scratch memory. */
static bool algorithm_choose(struct device *device, const struct product_plan *plan, const struct product *p,
                             void *workspace, cublasLtMatmulAlgo_t *out) {
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    int n_found = 0;
    cublasStatus_t code = cublasLtMatmulAlgoGetHeuristic(device->blas, plan->description, plan->a, plan->b, plan->c,
                                                         plan->c, plan->preference, CANDIDATES, found, &n_found);
    if (!blas_check(device, code, p->name) || n_found == 0) return false;
    *out = found[0].algo;
    if (device->capturing) return true;
    void *target = p->c;
    if (p->accumulate) {
        size_t bytes = static_cast<size_t>(p->m * p->ld_c) * (p->type_c == CUDA_R_32F ? 4 : 2);
        target = scratch_take(device, SCRATCH_SMALL, bytes, p->name);
        if (target == nullptr) return false;
    }
    float best = 1e30f;
    for (int i = 0; i < n_found; i++) {
        if (!algorithm_is_plain(&found[i].algo)) continue;
        float elapsed = algorithm_time(device, plan, p, &found[i].algo, workspace, target);
        if (elapsed < best) {
            best = elapsed;
            *out = found[i].algo;
        }
    }
    tuning_store(device, p, out, best * 1e3f);
    return true;
}

void product_run(struct device *device, const struct product *p) {
    if (p->m == 0) return;
    device_select(device);
    void *workspace = scratch_take(device, SCRATCH_BLAS, BLAS_WORKSPACE, p->name);
    if (workspace == nullptr) return;
    struct product_plan plan;
    cublasLtMatmulAlgo_t algorithm;
    plan_make(&plan, p);
    if (tuning_find(device, p, &algorithm) || algorithm_choose(device, &plan, p, workspace, &algorithm)) {
        char name[96];
        snprintf(name, sizeof name, "%s %lldx%lldx%lld", p->name, static_cast<long long>(p->m),
                 static_cast<long long>(p->n), static_cast<long long>(p->k));
        profile_start(device, name);
        blas_check(device, plan_enqueue(device, &plan, p, &algorithm, workspace, p->c), p->name);
        profile_stop(device);
        device->flops += product_flops(p);
    }
    plan_free(&plan);
}

static cudaDataType_t act_type(const struct device *device) {
    return device->precision == PRECISION_KIND_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

void cuda_matmul_forward(struct device *device, const struct pack_layout *layout, const void *x, const struct weight *w,
                         bool accumulate, void *y) {
    struct product p = {};
    p.name = "matmul_forward";
    p.m = layout->n_rows, p.n = w->rows, p.k = w->cols;
    p.transposed_b = true;
    p.accumulate = accumulate;
    p.type_ab = p.type_c = act_type(device);
    p.a = x, p.b = weight_current(device, w), p.c = y;
    p.ld_a = p.k, p.ld_b = p.k, p.ld_c = p.n;
    size_t bytes = static_cast<size_t>(p.m * p.n) * act_size(device);
    if (accumulate && device->pending.target == y && device->pending.bytes == bytes) {
        p.added = device->pending.source;
        device->pending.bytes = 0;
    }
    product_run(device, &p);
}

void cuda_matmul_backward(struct device *device, const struct pack_layout *layout, const void *dy,
                          const struct weight *w, bool accumulate, void *dx) {
    struct product p = {};
    p.name = "matmul_backward";
    p.m = layout->n_rows, p.n = w->cols, p.k = w->rows;
    p.accumulate = accumulate;
    p.type_ab = p.type_c = act_type(device);
    p.a = dy, p.b = weight_current(device, w), p.c = dx;
    p.ld_a = p.k, p.ld_b = p.n, p.ld_c = p.n;
    product_run(device, &p);
}
