/* libFuzzer target: any bytes as generated text. The tolerant reader's counts must add up, and what it read must be
 * written and read back unchanged. */
#include <math.h>
#include <stdlib.h>

#include "lvsweep/text.h"

#define POINTS_MAX 32

static void check_counts(const struct text_format *format, const struct text_decoded *got, const double *values,
                         int32_t n_time) {
    int32_t n_whole = 0, n_values = 0;
    for (int32_t t = 0; t < n_time; t++) {
        bool whole = true;
        for (int32_t c = 0; c < format->n_channel; c++) {
            double value = values[t * format->n_channel + c];
            if (isinf(value) || fabs(value) > pow(10, 15 - (format->decimal_point ? format->decimals : 0))) abort();
            whole = whole && !isnan(value);
            n_values += !isnan(value);
        }
        n_whole += whole;
    }
    if (got->n_points < 0 || got->n_points > n_whole || got->n_missing < 0 || got->n_missing > n_time) abort();
    if (got->n_points + got->n_missing > n_time || got->n_malformed < 0 || got->n_negative < 0) abort();
    if (got->success != (got->n_points == n_time && got->n_malformed == 0 && got->n_missing == 0)) abort();
    if (got->success && n_values != n_time * format->n_channel) abort();
}

/* Written with this format and read again: within the rounding of the format (and of a double). */
static void check_round_trip(const struct text_format *format, const double *values, int32_t n_time) {
    double back[POINTS_MAX * LVS_MAX_CHANNELS];
    struct strbuf text;
    strbuf_init(&text);
    for (int32_t i = 0; i < n_time * format->n_channel; i++)
        if (fabs(values[i]) >= pow(10, 15 - format->decimals) - 1) return; /* read, but too long to be written */
    if (text_encode(format, values, n_time, &text, NULL) != LVS_OK) abort();
    struct text_decoded got;
    text_decode(format, text.text, text.length, n_time, back, &got);
    if (!got.success) abort();
    for (int32_t i = 0; i < n_time * format->n_channel; i++)
        if (!(fabs(back[i] - values[i]) <= 0.5000001 * pow(10, -format->decimals) + 1e-15 * fabs(values[i]))) abort();
    strbuf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    const struct text_format format = {
        .decimals = data[0] % 7,
        .n_channel = 1 + data[0] / 7 % LVS_MAX_CHANNELS,
        .decimal_point = (data[1] & 1) != 0,
        .negative = true,
    };
    int32_t n_time = 1 + (data[1] >> 1) % POINTS_MAX;
    double values[POINTS_MAX * LVS_MAX_CHANNELS];
    struct text_decoded got;
    text_decode(&format, (const char *)data + 2, size - 2, n_time, values, &got);
    check_counts(&format, &got, values, n_time);
    if (got.success) check_round_trip(&format, values, n_time);
    return 0;
}
