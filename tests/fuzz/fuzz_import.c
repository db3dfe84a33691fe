/* libFuzzer target: any bytes as a wide table. Either refused in words, or a set that keeps its promises. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/import.h"

static void check(const struct series_set *set) {
    if (set->n_series < 1 || set->n_time < 1 || set->n_channel < 1 || set->n_channel > LVS_MAX_CHANNELS) abort();
    for (int32_t t = 0; t < set->n_time; t++)
        if (!isfinite(set->time[t]) || (t > 0 && !(set->time[t] > set->time[t - 1]))) abort();
    for (int64_t i = 0; i < (int64_t)set->n_series * set->n_time * set->n_channel; i++)
        if (isinf(set->values[i])) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    const struct import_options options = {
        .series_column = data[0] & 1 ? "s" : NULL,
        .time_column = data[0] & 2 ? "t" : NULL,
        .channels = data[0] & 4 ? "a+b" : NULL,
        .unequal = data[0] & 8 ? IMPORT_UNEQUAL_CUT : IMPORT_UNEQUAL_REFUSE,
        .every_column = data[0] & 16,
    };
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    struct series_set set;
    struct lvs_error err = {0};
    enum lvs_status status = import_csv_text("fuzz", text, size - 1, &options, &set, &err);
    if (status == LVS_OK) {
        check(&set);
        series_free(&set);
    } else if (status != LVS_INPUT || err.text[0] == '\0') {
        abort();
    }
    free(text);
    return 0;
}
