/* Matrix products: the only file that calls BLAS. Always one thread a call; OpenMP shares out the tiles above. */
#include <cblas.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_internal.h"

/* OpenBLAS before 0.3.25 takes processors newer than itself for a Prescott and computes at a quarter of the speed. Its
 * choice can be repeated at run time with a name given in the environment; builds for one processor lack the two
 * functions and are left alone. */
static void blas_choose_kernels(const char *core) {
    void (*quit)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "gotoblas_dynamic_quit");
    void (*init)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "gotoblas_dynamic_init");
    if (!quit || !init || setenv("OPENBLAS_CORETYPE", core, 1) != 0) return;
    quit();
    init();
}

static bool name_in(const char *name, const char *const *list) {
    for (; *list; list++)
        if (strcmp(name, *list) == 0) return true;
    return false;
}

static void blas_correct_kernels(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    static const char *const without_avx2[] = {"Prescott", "Core2", "Penryn",      "Dunnington",
                                               "Nehalem",  "Atom",  "Sandybridge", NULL};
    const char *core = openblas_get_corename();
    if (getenv("OPENBLAS_CORETYPE") || !name_in(core, without_avx2)) return;
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512)
        blas_choose_kernels("SkylakeX");
    else if (avx2)
        blas_choose_kernels("Haswell");
#endif
}

void cpu_blas_setup(void) {
    static bool done;
    if (done) return;
    done = true;
    openblas_set_num_threads(1);
    blas_correct_kernels();
}

const char *cpu_blas_description(void) {
    return openblas_get_config();
}

void cpu_gemm_nn(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                 float beta, float *c, int64_t ldc) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, alpha, a, (blasint)lda,
                b, (blasint)ldb, beta, c, (blasint)ldc);
}

void cpu_gemm_nt(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                 float beta, float *c, int64_t ldc) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)m, (blasint)n, (blasint)k, alpha, a, (blasint)lda, b,
                (blasint)ldb, beta, c, (blasint)ldc);
}

void cpu_gemm_tn(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                 float beta, float *c, int64_t ldc) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, alpha, a, (blasint)lda, b,
                (blasint)ldb, beta, c, (blasint)ldc);
}
