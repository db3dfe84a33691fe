/* The register kernel of cpu_tile.h for the register files of AVX-512, AVX2 and anything else, chosen at run time. */
#include "cpu_tile.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define KERNEL avx512
#define TARGET __attribute__((target("avx512f")))
#define LANES  16
#define HEIGHT 8
#include "cpu_tile_kernel.h"

#define KERNEL avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES  8
#define HEIGHT 4
#include "cpu_tile_kernel.h"
#endif

#define KERNEL any
#define TARGET
#define LANES  4
#define HEIGHT 4
#include "cpu_tile_kernel.h"

void cpu_tile_product(const struct tile_product *p) {
    assert(p->terms >= 0 && p->rows >= 0);
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx512f")) {
        product_avx512(p);
        return;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        product_avx2(p);
        return;
    }
#endif
    product_any(p);
}
