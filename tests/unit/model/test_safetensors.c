/* Hostile safetensors files first, each rule with its words; then what must be read: padding, empty tensors, types,
 * shards through links as in a Hugging Face cache; then the writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lvsweep/strbuf.h"
#include "unit/model/model_files.h"

/* Length, header, `data` bytes of zeros. */
static void write_file(const struct folder *folder, const char *name, uint64_t claimed, const char *header,
                       size_t data) {
    struct strbuf bytes;
    strbuf_init(&bytes);
    for (int i = 0; i < 8; i++) {
        char byte = (char)(claimed >> (8 * i) & 0xff);
        strbuf_add_bytes(&bytes, &byte, 1);
    }
    strbuf_add(&bytes, header);
    for (size_t i = 0; i < data; i++)
        strbuf_add_bytes(&bytes, "", 1);
    folder_write(folder, name, bytes.text, bytes.length);
    strbuf_free(&bytes);
}

static enum lvs_status open_file(const struct folder *folder, const char *name, struct safetensors **out,
                                 struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    folder_path(folder, name, path);
    return safetensors_open(path, out, err);
}

#define T(dtype, shape, begin, end) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static const struct {
    const char *header, *needle;
    size_t data;
} bad_headers[] = {
    {"", "'{'", 4},
    {"[]", "'{'", 4},
    {" {}", "'{'", 0},
    {"{", "header, byte", 0},
    {"{}x", "header, byte", 0},
    {"{\"a\":" T("F32", "[1]", 0, 4) ",\"a\":" T("F32", "[1]", 0, 4) "}", "duplicate", 4},
    {"{\"a\":1}", "an object {dtype", 0},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", "exactly dtype, shape and data_offsets", 4},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", "exactly dtype", 4},
    {"{\"a\":" T("F31", "[1]", 0, 4) "}", "\"dtype\"", 4},
    {"{\"a\":{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}}", "\"dtype\"", 4},
    {"{\"a\":" T("F32", "1", 0, 4) "}", "\"shape\" must be a list", 4},
    {"{\"a\":" T("F32", "[1.0]", 0, 4) "}", "integers of 0 or more", 4},
    {"{\"a\":" T("F32", "[1e0]", 0, 4) "}", "integers of 0 or more", 4},
    {"{\"a\":" T("F32", "[-1]", 0, 4) "}", "integers of 0 or more", 4},
    {"{\"a\":" T("F32", "[1,1,1,1,1]", 0, 4) "}", "more than 4 dimensions", 4},
    {"{\"a\":" T("F32", "[4611686018427387904,4]", 0, 0) "}", "overflows", 0},
    {"{\"a\":" T("F32", "[9223372036854775807]", 0, 4) "}", "overflows", 4},
    {"{\"a\":" T("F32", "[99999999999999999999]", 0, 4) "}", "header, byte", 4},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4]}}", "two integers", 4},
    {"{\"a\":" T("F32", "[1]", -4, 0) "}", "two integers", 4},
    {"{\"a\":" T("F32", "[1]", 0, 4.0) "}", "two integers", 4},
    {"{\"a\":" T("F32", "[1]", 4, 0) "}", "run backwards", 4},
    {"{\"a\":" T("F32", "[2]", 0, 8) "}", "pass the end of the file", 4},
    {"{\"a\":" T("F32", "[1]", 0, 9223372036854775807) "}", "pass the end of the file", 4},
    {"{\"a\":" T("F32", "[2]", 0, 4) "}", "do not fit \"shape\"", 4},
    {"{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 2, 6) "}", "overlaps", 6},
    {"{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 0, 4) "}", "overlaps", 4},
    {"{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 8, 12) "}", "hole", 12},
    {"{\"a\":" T("F32", "[1]", 4, 8) "}", "hole", 8},
    {"{\"a\":" T("F32", "[1]", 0, 4) "}", "after the last tensor", 5},
    {"{}", "after the last tensor", 1},
    {"{\"__metadata__\":{\"a\":1}}", "text to text", 0},
    {"{\"__metadata__\":[]}", "text to text", 0},
    {"{\"\":" T("F32", "[1]", 0, 4) "}", "1 to 512 bytes", 4},
    {"{\"a\\u0000b\":" T("F32", "[1]", 0, 4) "}", "header, byte", 4},
    {"{\"\xff\":" T("F32", "[1]", 0, 4) "}", "header, byte", 4},
};

static void hostile_headers_are_refused(void **state) {
    (void)state;
    struct folder folder = folder_make();
    for (size_t i = 0; i < sizeof bad_headers / sizeof bad_headers[0]; i++) {
        struct safetensors *file = NULL;
        struct lvs_error err = {0};
        write_file(&folder, "bad.safetensors", strlen(bad_headers[i].header), bad_headers[i].header,
                   bad_headers[i].data);
        enum lvs_status status = open_file(&folder, "bad.safetensors", &file, &err);
        if (status == LVS_OK) fail_msg("accepted: %s", bad_headers[i].header);
        refused(status, LVS_INPUT, &err, bad_headers[i].needle);
        assert_non_null(strstr(err.text, "bad.safetensors"));
    }
    folder_remove(&folder);
}

static void hostile_lengths_are_refused(void **state) {
    (void)state;
    const struct {
        uint64_t claimed;
        const char *needle;
    } cases[] = {{0, "'{'"},
                 {3, "truncated"},
                 {100000000, "truncated"},
                 {100000001, "more than the format's"},
                 {UINT64_MAX, "more than the format's"},
                 {UINT64_MAX - 7, "more than the format's"},
                 {1ull << 63, "more than the format's"}};
    struct folder folder = folder_make();
    struct safetensors *file = NULL;
    struct lvs_error err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(&folder, "bad.safetensors", cases[i].claimed, "{}", 0);
        refused(open_file(&folder, "bad.safetensors", &file, &err), LVS_INPUT, &err, cases[i].needle);
    }
    folder_write(&folder, "short", "1234567", 7);
    refused(open_file(&folder, "short", &file, &err), LVS_INPUT, &err, "too short");
    folder_write(&folder, "empty", "", 0);
    refused(open_file(&folder, "empty", &file, &err), LVS_INPUT, &err, "too short");
    refused(open_file(&folder, "absent", &file, &err), LVS_INPUT, &err, "cannot open");
    folder_remove(&folder);
}

static void other_kinds_of_file_are_refused(void **state) {
    (void)state;
    struct folder folder = folder_make();
    struct safetensors *file = NULL;
    struct lvs_error err;
    char path[LVS_PATH_MAX];
    folder_path(&folder, "pipe", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(safetensors_open(path, &file, &err), LVS_INPUT, &err, "not a regular file");
    refused(safetensors_open(folder.path, &file, &err), LVS_INPUT, &err, "not a regular file");
    folder_remove(&folder);
}

/* Deep nesting and many small members must end in words, soon and without much memory. */
static void bombs_are_refused(void **state) {
    (void)state;
    struct folder folder = folder_make();
    struct safetensors *file = NULL;
    struct lvs_error err;
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "{\"a\":");
    for (int i = 0; i < 100000; i++)
        strbuf_add(&text, "[");
    write_file(&folder, "deep", text.length, text.text, 0);
    refused(open_file(&folder, "deep", &file, &err), LVS_INPUT, &err, "header, byte");
    strbuf_clear(&text);
    strbuf_add(&text, "{\"a\":[");
    for (int i = 0; i < 2000001; i++)
        strbuf_add(&text, "0,");
    write_file(&folder, "wide", text.length, text.text, 0);
    refused(open_file(&folder, "wide", &file, &err), LVS_INPUT, &err, "brackets and commas");
    strbuf_clear(&text);
    strbuf_add(&text, "{");
    for (int i = 0; i <= 100000; i++)
        strbuf_printf(&text, "%s\"%d\":0", i ? "," : "", i);
    strbuf_add(&text, "}");
    write_file(&folder, "many", text.length, text.text, 0);
    refused(open_file(&folder, "many", &file, &err), LVS_INPUT, &err, "more than the 100000 allowed");
    strbuf_free(&text);
    folder_remove(&folder);
}

static void control_characters_do_not_reach_the_terminal(void **state) {
    (void)state;
    struct folder folder = folder_make();
    struct safetensors *file = NULL;
    struct lvs_error err;
    const char *header = "{\"a\\u001b[31m\\u0007\":" T("F32", "[2]", 0, 4) "}";
    write_file(&folder, "bad", strlen(header), header, 4);
    refused(open_file(&folder, "bad", &file, &err), LVS_INPUT, &err, "a?[31m?");
    folder_remove(&folder);
}

static void good_headers_are_read(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        int32_t count;
    } good[] = {
        {"{}", 0, 0},
        {"{}      ", 0, 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, 0},
        {"{\"a\":" T("F32", "[1]", 0, 4) "}", 4, 1},
        {"{\"b\":" T("F32", "[1]", 4, 8) ",\"a\":" T("BF16", "[2]", 0, 4) "}", 8, 2},
        {"{\"a\":" T("F32", "[]", 0, 4) "}", 4, 1},                                    /* one number */
        {"{\"e\":" T("F32", "[0,7]", 4, 4) ",\"a\":" T("F32", "[1]", 0, 4) "}", 4, 2}, /* an empty tensor */
        {"{\"e\":" T("F32", "[0]", 0, 0) ",\"a\":" T("F32", "[1]", 0, 4) "}", 4, 2},
        {"{\"i\":" T("I64", "[1]", 0, 8) "}", 8, 1},
        {"{\"a\":" T("U8", "[1]", 0, 1) ",\"b\":" T("F32", "[1]", 1, 5) "}", 5, 2}, /* unaligned */
    };
    struct folder folder = folder_make();
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct safetensors *file = NULL;
        struct lvs_error err;
        write_file(&folder, "good", strlen(good[i].header), good[i].header, good[i].data);
        ok(open_file(&folder, "good", &file, &err), &err);
        assert_int_equal(safetensors_count(file), good[i].count);
        assert_null(safetensors_find(file, "absent"));
        assert_null(safetensors_at(file, good[i].count));
        safetensors_close(file);
    }
    folder_remove(&folder);
}

static void tensors_that_are_no_weights_are_listed(void **state) {
    (void)state;
    struct folder folder = folder_make();
    struct safetensors *file = NULL;
    struct lvs_error err;
    const char *header = "{\"i\":" T("I64", "[2,1]", 0, 16) "}";
    write_file(&folder, "good", strlen(header), header, 16);
    ok(open_file(&folder, "good", &file, &err), &err);
    const struct safetensors_entry *entry = safetensors_find(file, "i");
    assert_int_equal((int)entry->type, -1);
    assert_int_equal(entry->n_dims, 2);
    assert_int_equal(entry->shape[0], 2);
    assert_int_equal(entry->bytes, 16);
    safetensors_close(file);
    folder_remove(&folder);
}

/* ---- the index ---- */

static const struct {
    const char *index, *needle;
} bad_indexes[] = {
    {"[]", "object"},
    {"{", "not valid JSON"},
    {"{\"a\":1,\"a\":2}", "duplicate"},
    {"{}", "weight_map"},
    {"{\"weight_map\":[]}", "weight_map"},
    {"{\"weight_map\":{}}", "names 0 files"},
    {"{\"weight_map\":{\"a\":1}}", "bare file name"},
    {"{\"weight_map\":{\"a\":\"\"}}", "bare file name"},
    {"{\"weight_map\":{\"a\":\"..\"}}", "bare file name"},
    {"{\"weight_map\":{\"a\":\".\"}}", "bare file name"},
    {"{\"weight_map\":{\"a\":\"../outside.safetensors\"}}", "bare file name"},
    {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "bare file name"},
    {"{\"weight_map\":{\"a\":\"sub/one.safetensors\"}}", "bare file name"},
    {"{\"weight_map\":{\"a\":\"absent.safetensors\"}}", "cannot open"},
    {"{\"weight_map\":{\"b\":\"one.safetensors\"}}", "\"b\" is not in one.safetensors"},
    {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\",\"c\":\"one.safetensors\"}}",
     "\"c\" is not in"},
};

static void write_shard(const struct folder *folder, const char *name, const char *tensor, float value) {
    char path[LVS_PATH_MAX];
    struct lvs_error err;
    struct safetensors_tensor one = {.n_dims = 1, .shape = {1}, .data = &value, .type = TENSOR_F32};
    lvs_copy(one.name, sizeof one.name, tensor);
    folder_path(folder, name, path);
    ok(safetensors_write(path, &one, 1, NULL, &err), &err);
}

static void hostile_indexes_are_refused(void **state) {
    (void)state;
    struct folder folder = folder_make();
    write_shard(&folder, "one.safetensors", "a", 1);
    write_shard(&folder, "two.safetensors", "b", 2);
    for (size_t i = 0; i < sizeof bad_indexes / sizeof bad_indexes[0]; i++) {
        struct safetensors *file = NULL;
        struct lvs_error err;
        folder_write_text(&folder, "model.safetensors.index.json", bad_indexes[i].index);
        refused(safetensors_open_folder(folder.path, &file, &err), LVS_INPUT, &err, bad_indexes[i].needle);
    }
    folder_remove(&folder);
    folder = folder_make();
    struct safetensors *file = NULL;
    struct lvs_error err;
    refused(safetensors_open_folder(folder.path, &file, &err), LVS_INPUT, &err, "no model.safetensors");
    folder_remove(&folder);
}

/* Shards as a cache has them: links to files of other names elsewhere. A tensor that the index places in another
 * shard is read from there. */
static void shards_are_read_through_links(void **state) {
    (void)state;
    struct folder blobs = folder_make(), folder = folder_make();
    write_shard(&blobs, "0a1b", "a", 1);
    write_shard(&blobs, "2c3d", "b", 2);
    write_shard(&blobs, "4e5f", "a", 3);
    const char *const names[] = {"one.safetensors", "two.safetensors", "three.safetensors"};
    const char *const targets[] = {"0a1b", "2c3d", "4e5f"};
    for (int i = 0; i < 3; i++) {
        char from[LVS_PATH_MAX], to[LVS_PATH_MAX];
        folder_path(&blobs, targets[i], from);
        folder_path(&folder, names[i], to);
        assert_int_equal(symlink(from, to), 0);
    }
    folder_write_text(
        &folder, "model.safetensors.index.json",
        "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":\"three.safetensors\",\"b\":\"two.safetensors\"}}");
    struct safetensors *file = NULL;
    struct lvs_error err;
    ok(safetensors_open_folder(folder.path, &file, &err), &err);
    assert_int_equal(safetensors_count(file), 2);
    float value;
    memcpy(&value, safetensors_find(file, "a")->data, sizeof value);
    assert_true(value == 3);
    safetensors_close(file);
    folder_remove(&folder);
    folder_remove(&blobs);
}

/* ---- numbers ---- */

static void types_are_widened_exactly(void **state) {
    (void)state;
    static const struct {
        uint16_t bits;
        enum tensor_type type;
        float value;
    } cases[] = {
        {0x0000, TENSOR_F16, 0.0f},     {0x8000, TENSOR_F16, -0.0f},         {0x3c00, TENSOR_F16, 1.0f},
        {0xc000, TENSOR_F16, -2.0f},    {0x7bff, TENSOR_F16, 65504.0f},      {0x0400, TENSOR_F16, 0x1p-14f},
        {0x0001, TENSOR_F16, 0x1p-24f}, {0x83ff, TENSOR_F16, -0x1.ff8p-15f}, {0x3555, TENSOR_F16, 0x1.554p-2f},
        {0x7c00, TENSOR_F16, INFINITY}, {0xfc00, TENSOR_F16, -INFINITY},     {0x3f80, TENSOR_BF16, 1.0f},
        {0xc040, TENSOR_BF16, -3.0f},   {0x0001, TENSOR_BF16, 0x1p-133f},    {0x7f80, TENSOR_BF16, INFINITY},
        {0x8000, TENSOR_BF16, -0.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned char unaligned[3];
        float value;
        memcpy(unaligned + 1, &cases[i].bits, 2);
        tensor_to_float(unaligned + 1, cases[i].type, 1, &value);
        assert_true(value == cases[i].value && signbit(value) == signbit(cases[i].value));
    }
    const uint16_t not_a_number[] = {0x7e00, 0x7fc0};
    float value;
    tensor_to_float(&not_a_number[0], TENSOR_F16, 1, &value);
    assert_true(isnan(value));
    tensor_to_float(&not_a_number[1], TENSOR_BF16, 1, &value);
    assert_true(isnan(value));
}

/* What is written is read back; BF16 is rounded to nearest, ties to even; the data starts at a multiple of 8. */
static void written_files_are_read_back(void **state) {
    (void)state;
    static const float values[6] = {1.0f, -2.5f, 0x1.01p0f, 0x1.03p0f, 3.4e38f, 1e-40f};
    static const float rounded[6] = {1.0f, -2.5f, 1.0f, 0x1.04p0f, INFINITY, 0x1p-133f};
    static const char *const metadata[] = {"format", "pt", "note", "a \"quoted\" ü", NULL};
    struct folder folder = folder_make();
    char path[LVS_PATH_MAX];
    struct lvs_error err;
    struct safetensors_tensor tensors[2] = {
        {.name = "f", .n_dims = 2, .shape = {2, 3}, .data = values, .type = TENSOR_F32},
        {.name = "b", .n_dims = 1, .shape = {6}, .data = values, .type = TENSOR_BF16}};
    folder_path(&folder, "out.safetensors", path);
    ok(safetensors_write(path, tensors, 2, metadata, &err), &err);
    struct safetensors *file = NULL;
    ok(safetensors_open(path, &file, &err), &err);
    assert_int_equal(safetensors_count(file), 2);
    const struct safetensors_entry *f = safetensors_find(file, "f"), *b = safetensors_find(file, "b");
    assert_int_equal((uintptr_t)f->data % 8, 0);
    assert_int_equal(f->shape[1], 3);
    float read[6];
    tensor_to_float(f->data, f->type, 6, read);
    assert_memory_equal(read, values, sizeof values);
    tensor_to_float(b->data, b->type, 6, read);
    for (int i = 0; i < 6; i++)
        assert_true(read[i] == rounded[i]);
    safetensors_close(file);
    folder_remove(&folder);
}

static void a_failed_write_leaves_nothing(void **state) {
    (void)state;
    float value = 1;
    struct lvs_error err;
    struct safetensors_tensor one = {.name = "a", .n_dims = 1, .shape = {1}, .data = &value, .type = TENSOR_F32};
    refused(safetensors_write("/nonexistent/folder/a.safetensors", &one, 1, NULL, &err), LVS_OUTPUT, &err,
            "cannot create");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(hostile_lengths_are_refused),
        cmocka_unit_test(other_kinds_of_file_are_refused),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(control_characters_do_not_reach_the_terminal),
        cmocka_unit_test(good_headers_are_read),
        cmocka_unit_test(tensors_that_are_no_weights_are_listed),
        cmocka_unit_test(hostile_indexes_are_refused),
        cmocka_unit_test(shards_are_read_through_links),
        cmocka_unit_test(types_are_widened_exactly),
        cmocka_unit_test(written_files_are_read_back),
        cmocka_unit_test(a_failed_write_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
