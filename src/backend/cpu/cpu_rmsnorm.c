/* Root-mean-square normalisation, row by row. Sums run in the fixed lanes of a vector loop; threads share out rows. */
#include <math.h>

#include "cpu_internal.h"

CPU_CLONES static float forward_row(int32_t cols, const float *x, const float *gain, float epsilon, float *y) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int32_t i = 0; i < cols; i++)
        squares += x[i] * x[i];
    float rstd = (float)(1.0 / sqrt((double)squares / cols + (double)epsilon));
#pragma omp simd
    for (int32_t i = 0; i < cols; i++)
        y[i] = x[i] * rstd * gain[i];
    return rstd;
}

/* With n = x·rstd and g = dy·gain: dx += rstd · (g − n · mean(g·n)). */
CPU_CLONES static void backward_row(int32_t cols, const float *dy, const float *x, const float *gain, float rstd,
                                    float *dx) {
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int32_t i = 0; i < cols; i++)
        dot += dy[i] * gain[i] * x[i];
    float along = dot * rstd * rstd / (float)cols;
#pragma omp simd
    for (int32_t i = 0; i < cols; i++)
        dx[i] += rstd * (dy[i] * gain[i] - x[i] * along);
}

void cpu_rmsnorm_forward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *x,
                         const float *gain, float epsilon, void *y, float *rstd) {
    double start = cpu_profile_start(device);
#pragma omp parallel for num_threads(device->threads)
    for (int64_t row = 0; row < layout->n_rows; row++) {
        float value = forward_row(cols, (const float *)x + row * cols, gain, epsilon, (float *)y + row * cols);
        if (rstd) rstd[row] = value;
    }
    cpu_profile_stop(device, "rmsnorm_forward", start);
}

void cpu_rmsnorm_backward(struct device *device, const struct pack_layout *layout, int32_t cols, const void *dy,
                          const void *x, const float *gain, const float *rstd, void *dx) {
    double start = cpu_profile_start(device);
#pragma omp parallel for num_threads(device->threads)
    for (int64_t row = 0; row < layout->n_rows; row++)
        backward_row(cols, (const float *)dy + row * cols, (const float *)x + row * cols, gain, rstd[row],
                     (float *)dx + row * cols);
    cpu_profile_stop(device, "rmsnorm_backward", start);
}
