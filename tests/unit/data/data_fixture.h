/* What the tests of data/ share: a config with the defaults they build on, small sets in memory, temporary files.
 * Include after the library headers a test needs. */
#pragma once
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lvsweep/series.h"
#include "unit/own_folder.h"

#define COUNT_OF(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))

#define assert_ok(call) assert_ok_at(call, __FILE__, __LINE__)
static struct lvs_error fixture_error;

static inline void assert_ok_at(enum lvs_status status, const char *file, int line) {
    if (status == LVS_OK) return;
    print_error("%s\n", fixture_error.text);
    _assert_true(0, "status is LVS_OK", file, line);
}

/* The status, and that the words contain `part`. */
#define assert_fails(call, expected, part)                                                    \
    do {                                                                                      \
        fixture_error.text[0] = '\0';                                                         \
        assert_int_equal(call, expected);                                                     \
        if (!strstr(fixture_error.text, part)) print_error("text: %s\n", fixture_error.text); \
        assert_non_null(strstr(fixture_error.text, part));                                    \
    } while (0)

/* |got − expected| ≤ tolerance, in double (cmocka's own compares floats). */
#define assert_near(got, expected, tolerance)                                                                  \
    do {                                                                                                       \
        double got_ = (got), expected_ = (expected);                                                           \
        if (!(fabs(got_ - expected_) <= (tolerance))) print_error("%.17g, expected %.17g\n", got_, expected_); \
        assert_true(fabs(got_ - expected_) <= (tolerance));                                                    \
    } while (0)

static inline struct config fixture_config(void) {
    struct config config = {.decimal_point = 1, .scale_percentile = 95, .scale_to = 10};
    config.split_parts[0] = 0.70;
    config.split_parts[1] = 0.15;
    config.split_parts[2] = 0.15;
    return config;
}

/* A set in memory with values[s][t][c] = f(s, t, c). Free with series_free. */
static inline struct series_set fixture_set(int32_t n_series, int32_t n_time, int32_t n_channel,
                                            double (*f)(int32_t, int32_t, int32_t)) {
    struct series_set set = {.n_series = n_series, .n_time = n_time, .n_channel = n_channel};
    set.values = lvs_malloc((size_t)n_series * (size_t)n_time * (size_t)n_channel * sizeof *set.values);
    set.time = lvs_malloc((size_t)n_time * sizeof *set.time);
    set.id = lvs_malloc((size_t)n_series * sizeof *set.id);
    double *value = set.values;
    for (int32_t s = 0; s < n_series; s++) {
        set.id[s] = s;
        for (int32_t t = 0; t < n_time; t++)
            for (int32_t c = 0; c < n_channel; c++)
                *value++ = f(s, t, c);
    }
    for (int32_t t = 0; t < n_time; t++)
        set.time[t] = 2.0 * t;
    for (int32_t c = 0; c < n_channel; c++)
        snprintf(set.channel_name[c], sizeof set.channel_name[c], "c%d", c);
    return set;
}

/* A folder of this test program's own; removed by fixture_remove_folder. */
static char fixture_folder[LVS_PATH_MAX];

static inline int fixture_make_folder(void **state) {
    (void)state;
    own_folder_make(fixture_folder);
    return 0;
}

static inline int fixture_remove_folder(void **state) {
    (void)state;
    own_folder_remove(fixture_folder);
    return 0;
}

/* "FOLDER/name"; a static buffer each. */
static inline const char *fixture_path(const char *name) {
    static char path[LVS_PATH_MAX];
    assert_ok(file_join(path, fixture_folder, name, &fixture_error));
    return path;
}

static inline const char *fixture_write(const char *name, const char *text) {
    const char *path = fixture_path(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
    return path;
}
