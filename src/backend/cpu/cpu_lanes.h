/* Sixteen floats side by side, for kernels that keep sums in registers. The compiler lowers them to what the target
 * has; nothing here is passed between functions that are not inlined. */
#pragma once
#include <string.h>

enum { CPU_LANES = 16 };
typedef float cpu_lanes __attribute__((vector_size(64)));
typedef float cpu_lanes_unaligned __attribute__((vector_size(64), aligned(4), may_alias));

#define CPU_LANES_LOAD(pointer)         (*(const cpu_lanes_unaligned *)(pointer))
#define CPU_LANES_STORE(pointer, value) (*(cpu_lanes_unaligned *)(pointer) = (value))
