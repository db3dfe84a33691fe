/* The kernels of cpu_panel.h for AVX-512 and AVX2, and which of them this processor runs. */
#include <string.h>

#include "cpu_panel.h"
#include "cpu_vector.h"

enum { AHEAD_TERMS = 8 /* between two requests for memory */ };

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define KERNEL avx512
#define TARGET __attribute__((target("avx512f")))
#define LANES  16
#define HEIGHT 12
#include "cpu_panel_kernel.h"

#define KERNEL avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES  8
#define HEIGHT 6
#include "cpu_panel_kernel.h"

const struct panel_kernel *const *cpu_panel_kernels(void) {
    static const struct panel_kernel *const all[] = {&panel_kernel_avx512, &panel_kernel_avx2, NULL};
    if (__builtin_cpu_supports("avx512f")) return all;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? all + 1 : all + 2;
}
#else
const struct panel_kernel *const *cpu_panel_kernels(void) {
    static const struct panel_kernel *const none[] = {NULL};
    return none;
}
#endif
