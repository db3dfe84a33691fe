/* The two checkpoint files, bad ones first: whatever is torn, changed, foreign or lies about its sizes is skipped, and
 * the newest whole one is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "pack_fixture.h"
#include "train_internal.h"
#include "unit/own_folder.h"

#define N_FLOATS 3
#define EXTRA    "state"

static char folder[LVS_PATH_MAX];

static int setup(void **state) {
    (void)state;
    own_folder_make(folder);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    own_folder_remove(folder);
    return 0;
}

/* A checkpoint's bytes with all sizes in agreement; *length of them. */
static char *make_bytes(const char *key, int32_t step, uint64_t sequence, size_t *length) {
    struct checkpoint_header header;
    memset(&header, 0, sizeof header);
    lvs_copy(header.train_key, sizeof header.train_key, key);
    header.sequence = sequence;
    header.n_floats = N_FLOATS;
    header.step = step;
    header.n_steps = 100;
    header.extra_bytes = sizeof EXTRA;
    size_t payload = (size_t)checkpoint_payload_bytes(&header);
    *length = sizeof header + payload;
    char *bytes = lvs_malloc(*length);
    for (size_t i = 0; i < payload; i++)
        bytes[sizeof header + i] = (char)(i * 7 + (size_t)step);
    checkpoint_seal(&header, bytes);
    return bytes;
}

static void put(int which, const char *bytes, size_t length) {
    char path[LVS_PATH_MAX], name[32];
    snprintf(name, sizeof name, "checkpoint.%d", which);
    assert_int_equal(file_join(path, folder, name, NULL), LVS_OK);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void put_whole(int which, const char *key, int32_t step, uint64_t sequence) {
    size_t length;
    char *bytes = make_bytes(key, step, sequence, &length);
    put(which, bytes, length);
    free(bytes);
}

static void nothing_there(void **state) {
    (void)state;
    assert_int_equal(checkpoint_step(folder, "key"), -1);
    assert_int_equal(checkpoint_step("no/such/folder", "key"), -1);
    checkpoint_remove("no/such/folder");
}

/* Every length short of the whole, and one byte more; the older file stands in. */
static void torn_at_every_length(void **state) {
    (void)state;
    size_t length;
    char *bytes = make_bytes("key", 20, 2, &length);
    bytes = lvs_realloc(bytes, length + 1);
    bytes[length] = 0;
    put_whole(1, "key", 10, 1);
    for (size_t cut = 0; cut <= length + 1; cut++) {
        put(0, bytes, cut);
        assert_int_equal(checkpoint_step(folder, "key"), cut == length ? 20 : 10);
    }
    free(bytes);
}

static void changed_in_every_byte(void **state) {
    (void)state;
    size_t length;
    char *bytes = make_bytes("key", 20, 2, &length);
    put_whole(1, "key", 10, 1);
    for (size_t at = 0; at < length; at++) {
        bytes[at] ^= 0x40;
        put(0, bytes, length);
        bytes[at] ^= 0x40;
        if (checkpoint_step(folder, "key") != 10) fail_msg("a changed byte %zu went unseen", at);
    }
    free(bytes);
}

/* Headers with a right checksum and sizes that lie. */
static void lying_sizes(void **state) {
    (void)state;
    static const struct {
        int64_t n_floats, extra_bytes;
        int32_t step;
    } lies[] = {
        {-1, 0, 0},        {INT64_MAX, 0, 0}, {INT64_MAX / 12, INT64_MAX, 5}, {0, -1, 0}, {0, INT64_MAX, INT32_MAX},
        {N_FLOATS, 0, -1}, {1 << 20, 0, 0},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        size_t length;
        char *bytes = make_bytes("key", 20, 2, &length);
        struct checkpoint_header header;
        memcpy(&header, bytes, sizeof header);
        header.n_floats = lies[i].n_floats;
        header.extra_bytes = lies[i].extra_bytes;
        header.step = lies[i].step;
        memset(header.header_hash, 0, sizeof header.header_hash);
        hash_bytes(&header, sizeof header, header.header_hash);
        memcpy(bytes, &header, sizeof header);
        put(0, bytes, length);
        assert_int_equal(checkpoint_step(folder, "key"), -1);
        free(bytes);
    }
}

static void foreign_key_is_skipped(void **state) {
    (void)state;
    put_whole(0, "other", 50, 9);
    assert_int_equal(checkpoint_step(folder, "key"), -1);
    assert_int_equal(checkpoint_step(folder, "othe"), -1);
    assert_int_equal(checkpoint_step(folder, "other"), 50);
    put_whole(1, "key", 3, 1);
    assert_int_equal(checkpoint_step(folder, "key"), 3);
}

static void newest_wins(void **state) {
    (void)state;
    struct checkpoint_file file;
    put_whole(0, "key", 20, 7);
    put_whole(1, "key", 30, 8);
    assert_int_equal(checkpoint_step(folder, "key"), 30);
    put_whole(0, "key", 30, 9);
    assert_true(checkpoint_newest(folder, "key", &file));
    assert_int_equal(file.header.sequence, 9);
    free(file.bytes);
}

static void the_older_one_is_written_next(void **state) {
    (void)state;
    struct lvs_error err = {0};
    char path[LVS_PATH_MAX];
    uint64_t sequence;
    static const struct {
        int32_t step[2]; /* -1 = absent, -2 = another key's */
        char expected;
    } cases[] = {{{-1, -1}, '0'}, {{5, -1}, '1'}, {{-1, 5}, '0'}, {{5, 6}, '0'},
                 {{6, 5}, '1'},   {{-2, 5}, '0'}, {{5, -2}, '1'}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        checkpoint_remove(folder);
        for (int which = 0; which < 2; which++)
            if (cases[i].step[which] != -1)
                put_whole(which, cases[i].step[which] == -2 ? "other" : "key",
                          cases[i].step[which] == -2 ? 99 : cases[i].step[which], (uint64_t)cases[i].step[which] + 100);
        assert_int_equal(checkpoint_next(folder, "key", path, &sequence, &err), LVS_OK);
        assert_int_equal(path[strlen(path) - 1], cases[i].expected);
        assert_true(sequence >= 1);
    }
}

static void remove_takes_leftovers_too(void **state) {
    (void)state;
    put_whole(0, "key", 1, 1);
    put_whole(1, "key", 2, 2);
    char path[LVS_PATH_MAX];
    assert_int_equal(file_join(path, folder, "checkpoint.1.tmp.4711", NULL), LVS_OK);
    assert_int_equal(file_write_whole(path, "x", 1, NULL), LVS_OK);
    checkpoint_remove(folder);
    assert_false(file_exists(path));
    assert_int_equal(checkpoint_step(folder, "key"), -1);
    assert_int_equal(rmdir(folder), 0); /* nothing else is left */
    assert_int_equal(file_make_folder(folder, NULL), LVS_OK);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(nothing_there),
        TEST(torn_at_every_length),
        TEST(changed_in_every_byte),
        TEST(lying_sizes),
        TEST(foreign_key_is_skipped),
        TEST(newest_wins),
        TEST(the_older_one_is_written_next),
        TEST(remove_takes_leftovers_too),
    };
    return cmocka_run_group_tests_name("train/checkpoint_file", tests, NULL, NULL);
}
