/* The registry: row layouts, choice by name, the module that is opened at run time, and what opening refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lvsweep/backend.h"

static void layouts_pad_to_row_blocks(void **state) {
    static const struct {
        int32_t n_slots, n_sequences, context, slot_rows, row_block;
    } rows[] = {
        {1, 1, 1, 16, 16},     {1, 16, 1, 16, 16},     {2, 17, 1, 32, 16},    {1, 127, 1, 128, 16},
        {3, 1, 128, 128, 128}, {1, 4, 512, 2048, 128}, {9, 4, 100, 512, 128}, {1, 129, 1, 256, 128},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pack_layout layout = pack_layout_make(rows[i].n_slots, rows[i].n_sequences, rows[i].context);
        assert_int_equal(layout.n_slots, rows[i].n_slots);
        assert_int_equal(layout.n_sequences, rows[i].n_sequences);
        assert_int_equal(layout.context, rows[i].context);
        assert_int_equal(layout.slot_rows, rows[i].slot_rows);
        assert_int_equal(layout.row_block, rows[i].row_block);
        assert_int_equal(layout.n_rows, rows[i].slot_rows * rows[i].n_slots);
    }
}

static void unknown_names_are_refused(void **state) {
    static const char *const names[] = {"", "CPU", "gpu", "cuda "};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct backend *backend;
        struct lvs_error err = {0};
        assert_int_equal(backend_find(names[i], &backend, &err), LVS_USAGE);
        assert_null(backend);
        assert_non_null(strstr(err.text, "allowed are auto, cpu and cuda"));
    }
}

/* First without a module, then with a file that is none, then with a real one: what is opened once stays. */
static void module_is_opened_by_name(void **state) {
    const struct backend *backend;
    struct lvs_error err = {0};
    (void)state;
    setenv("LVSWEEP_CUDA_MODULE", "no/such/module.so", 1);
    assert_int_equal(backend_find("cuda", &backend, &err), LVS_LAUNCH);
    assert_non_null(strstr(err.text, "no/such/module.so does not exist"));
    assert_non_null(strstr(err.text, "lvsweep_cuda.so"));
    assert_non_null(strstr(err.text, "LVSWEEP_CUDA_MODULE"));
    setenv("LVSWEEP_CUDA_MODULE", LVS_SOURCE_DIR "/CMakeLists.txt", 1);
    assert_int_equal(backend_find("cuda", &backend, &err), LVS_LAUNCH);
    assert_non_null(strstr(err.text, "CMakeLists.txt"));
    assert_int_equal(backend_find("auto", &backend, &err), LVS_OK);
    assert_string_equal(backend->name, "cpu");
    setenv("LVSWEEP_CUDA_MODULE", MODULE_SAMPLE, 1);
    assert_int_equal(backend_find("cuda", &backend, &err), LVS_OK);
    assert_string_equal(backend->name, "sample");
    unsetenv("LVSWEEP_CUDA_MODULE");
    assert_int_equal(backend_find("cuda", &backend, &err), LVS_OK);
    assert_int_equal(backend_find("auto", &backend, &err), LVS_OK);
    assert_string_equal(backend->name, "cpu"); /* the module has no device */
}

static void opening_refuses_in_words(void **state) {
    struct compute compute;
    struct lvs_error err = {0};
    struct device_options bf16 = {.precision = PRECISION_KIND_BF16}, threads = {.threads = -2};
    (void)state;
    assert_int_equal(compute_open("cpu", &bf16, &compute, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "fp32"));
    assert_null(compute.backend);
    compute_close(&compute);
    assert_int_equal(compute_open("cpu", &threads, &compute, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "-2"));
}

static void devices_describe_themselves(void **state) {
    struct compute compute;
    struct lvs_error err = {0};
    struct device_options options = {.threads = 3};
    struct device_description description;
    (void)state;
    assert_int_equal(compute_open("cpu", &options, &compute, &err), LVS_OK);
    assert_int_equal(compute.act_size, 4);
    assert_int_equal(compute.backend->count(&err), 1);
    assert_int_equal(compute.backend->describe(compute.device, &description, &err), LVS_OK);
    assert_true(strlen(description.name) > 0 && strlen(description.uuid) > 0);
    assert_non_null(strstr(description.driver, "OpenBLAS"));
    assert_true(description.memory_total > 0 && description.memory_free > 0);
    assert_true(description.memory_free <= description.memory_total);
    assert_int_equal(description.multiprocessors, 3);
    compute_close(&compute);
    assert_null(compute.backend);
}

static void memory_is_zeroed_or_refused(void **state) {
    static const size_t sizes[] = {1, 100, 1 << 20, 9 << 20};
    struct compute compute;
    struct lvs_error err = {0};
    (void)state;
    assert_int_equal(compute_open("cpu", &(struct device_options){0}, &compute, &err), LVS_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *memory;
        assert_int_equal(compute.backend->allocate(compute.device, sizes[i], &memory, &err), LVS_OK);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t at = 0; at < sizes[i]; at += 97)
            assert_int_equal(((char *)memory)[at], 0);
        compute.backend->fill_zero(compute.device, memory, sizes[i]);
        compute.backend->release(compute.device, memory);
    }
    void *memory;
    assert_int_equal(compute.backend->allocate(compute.device, (size_t)1 << 50, &memory, &err), LVS_LAUNCH);
    assert_null(memory);
    assert_non_null(strstr(err.text, "1048576.00 GiB are needed"));
    assert_non_null(strstr(err.text, "free"));
    compute_close(&compute);
}

/* 2·m·n·k of what was run, padding included; a profile has its calls. */
static void work_is_counted(void **state) {
    enum { N = 24, K = 40 };
    struct compute compute;
    struct lvs_error err = {0};
    (void)state;
    assert_int_equal(compute_open("cpu", &(struct device_options){.threads = 1}, &compute, &err), LVS_OK);
    struct pack_layout layout = pack_layout_make(2, 1, 20);
    float *data = calloc(N * K, sizeof *data), *x = calloc(64 * K, sizeof *x), *y = calloc(64 * N, sizeof *y);
    struct host_tensor part = {data, TENSOR_F32, N, K};
    struct weight *weight;
    assert_int_equal(compute.backend->weight_create(compute.device, &part, 1, &weight, &err), LVS_OK);
    assert_true(compute.backend->flops_executed(compute.device) == 0);
    compute.backend->profile_begin(compute.device);
    compute.backend->matmul_forward(compute.device, &layout, x, weight, false, y);
    assert_true(compute.backend->flops_executed(compute.device) == 2.0 * 64 * N * K);
    compute.backend->matmul_backward(compute.device, &layout, y, weight, false, x);
    assert_true(compute.backend->flops_executed(compute.device) == 4.0 * 64 * N * K);
    assert_int_equal(compute.backend->synchronize(compute.device, &err), LVS_OK);
    struct strbuf text;
    strbuf_init(&text);
    compute.backend->profile_write(compute.device, &text);
    assert_non_null(strstr(text.text, "matmul_forward"));
    assert_non_null(strstr(text.text, "1 calls"));
    strbuf_free(&text);
    compute.backend->weight_destroy(compute.device, weight);
    compute_close(&compute);
    free(data);
    free(x);
    free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_pad_to_row_blocks),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(module_is_opened_by_name),
        cmocka_unit_test(opening_refuses_in_words),
        cmocka_unit_test(devices_describe_themselves),
        cmocka_unit_test(memory_is_zeroed_or_refused),
        cmocka_unit_test(work_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
