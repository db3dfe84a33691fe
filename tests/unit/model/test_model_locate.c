/* Finding a model: folders, the Hugging Face cache, and words for what is not there; then the hash of a checkpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit/model/model_files.h"

static void folders_are_taken_as_they_are(void **state) {
    (void)state;
    struct folder folder = folder_make();
    char out[LVS_PATH_MAX], file[LVS_PATH_MAX];
    struct lvs_error err;
    ok(model_locate(folder.path, out, &err), &err);
    assert_string_equal(out, folder.path);
    folder_write_text(&folder, "file", "x");
    folder_path(&folder, "file", file);
    refused(model_locate(file, out, &err), LVS_INPUT, &err, "not a folder");
    refused(model_locate("/nonexistent/model", out, &err), LVS_INPUT, &err, "no such folder");
    folder_remove(&folder);
}

static void bad_hub_names_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"hf:",      "hf:name",    "hf:/name", "hf:owner/",   "hf:../x",
                                        "hf:a/..",  "hf:a/b/c",   "hf:a/b@",  "hf:a/b@../x", "hf:.a/b",
                                        "hf:a b/c", "hf:a/b@c/d", "hf:a@b/c", "hf:a/b\nc"};
    struct lvs_error err;
    char out[LVS_PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        refused(model_locate(names[i], out, &err), LVS_INPUT, &err, "hf:owner/name");
}

static void make_folders(const struct folder *cache, const char *name) {
    char path[LVS_PATH_MAX];
    struct lvs_error err;
    folder_path(cache, name, path);
    ok(file_make_folder(path, &err), &err);
}

static void the_cache_is_searched(void **state) {
    (void)state;
    struct folder home = folder_make();
    char out[LVS_PATH_MAX], expected[LVS_PATH_MAX];
    struct lvs_error err;
    unsetenv("HF_HUB_CACHE");
    unsetenv("XDG_CACHE_HOME");
    setenv("HF_HOME", home.path, 1);
    refused(model_locate("hf:Qwen/Qwen2.5-0.5B", out, &err), LVS_INPUT, &err, "hf download Qwen/Qwen2.5-0.5B");
    assert_non_null(strstr(err.text, "models--Qwen--Qwen2.5-0.5B"));

    /* one snapshot and no refs: a copied cache */
    make_folders(&home, "hub/models--Qwen--Qwen2.5-0.5B/snapshots/abc123");
    folder_path(&home, "hub/models--Qwen--Qwen2.5-0.5B/snapshots/abc123", expected);
    ok(model_locate("hf:Qwen/Qwen2.5-0.5B", out, &err), &err);
    assert_string_equal(out, expected);

    /* two, and refs/main says which */
    make_folders(&home, "hub/models--Qwen--Qwen2.5-0.5B/snapshots/def456");
    make_folders(&home, "hub/models--Qwen--Qwen2.5-0.5B/refs");
    refused(model_locate("hf:Qwen/Qwen2.5-0.5B", out, &err), LVS_INPUT, &err, "not in the local cache");
    folder_write_text(&home, "hub/models--Qwen--Qwen2.5-0.5B/refs/main", "def456\n");
    folder_path(&home, "hub/models--Qwen--Qwen2.5-0.5B/snapshots/def456", expected);
    ok(model_locate("hf:Qwen/Qwen2.5-0.5B", out, &err), &err);
    assert_string_equal(out, expected);

    /* a commit by name */
    folder_path(&home, "hub/models--Qwen--Qwen2.5-0.5B/snapshots/abc123", expected);
    ok(model_locate("hf:Qwen/Qwen2.5-0.5B@abc123", out, &err), &err);
    assert_string_equal(out, expected);
    refused(model_locate("hf:Qwen/Qwen2.5-0.5B@fff", out, &err), LVS_INPUT, &err, "not in the local cache");

    folder_write_text(&home, "hub/models--Qwen--Qwen2.5-0.5B/refs/main", "../../../../etc");
    refused(model_locate("hf:Qwen/Qwen2.5-0.5B", out, &err), LVS_INPUT, &err, "refs/main");
    unsetenv("HF_HOME");

    /* HF_HUB_CACHE goes before HF_HOME */
    char hub[LVS_PATH_MAX];
    folder_path(&home, "hub", hub);
    setenv("HF_HUB_CACHE", hub, 1);
    setenv("HF_HOME", "/nonexistent", 1);
    ok(model_locate("hf:Qwen/Qwen2.5-0.5B@abc123", out, &err), &err);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HOME");
    folder_remove(&home);
}

static void the_hash_is_of_the_content(void **state) {
    (void)state;
    struct checkpoint checkpoint = checkpoint_small();
    struct folder a = folder_make(), b = folder_make(), c = folder_make();
    char hash_a[LVS_HASH_TEXT], hash_b[LVS_HASH_TEXT], hash_c[LVS_HASH_TEXT], again[LVS_HASH_TEXT];
    struct lvs_error err;
    checkpoint_write(&a, &checkpoint);
    checkpoint_write(&b, &checkpoint);
    checkpoint.seed++;
    checkpoint_write(&c, &checkpoint);
    ok(model_hash(a.path, hash_a, &err), &err);
    ok(model_hash(a.path, again, &err), &err);
    ok(model_hash(b.path, hash_b, &err), &err);
    ok(model_hash(c.path, hash_c, &err), &err);
    assert_string_equal(hash_a, again);
    assert_string_equal(hash_a, hash_b);
    assert_string_not_equal(hash_a, hash_c);
    checkpoint_write(&a, &checkpoint); /* same size, later time */
    ok(model_hash(a.path, again, &err), &err);
    assert_string_equal(again, hash_c);
    checkpoint.config.rope_theta = 20000;
    checkpoint_write(&a, &checkpoint);
    ok(model_hash(a.path, again, &err), &err);
    assert_string_not_equal(again, hash_c);
    folder_remove(&c);
    c = folder_make();
    refused(model_hash(c.path, again, &err), LVS_INPUT, &err, "config.json");
    char weights[LVS_PATH_MAX];
    folder_path(&b, "model.safetensors", weights);
    assert_int_equal(unlink(weights), 0);
    refused(model_hash(b.path, again, &err), LVS_INPUT, &err, "no model.safetensors and no model.safetensors.index");
    folder_remove(&a);
    folder_remove(&b);
    folder_remove(&c);
}

static void every_shard_is_in_the_hash(void **state) {
    (void)state;
    struct checkpoint checkpoint = checkpoint_small();
    struct folder folder = folder_make();
    char first[LVS_HASH_TEXT], second[LVS_HASH_TEXT], path[LVS_PATH_MAX];
    struct lvs_error err;
    checkpoint.n_shards = 3;
    checkpoint_write(&folder, &checkpoint);
    ok(model_hash(folder.path, first, &err), &err);
    folder_path(&folder, "model-00003-of-00003.safetensors", path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    int last = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    fputc(last ^ 1, file);
    assert_int_equal(fclose(file), 0);
    ok(model_hash(folder.path, second, &err), &err);
    assert_string_not_equal(first, second);
    folder_remove(&folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_taken_as_they_are), cmocka_unit_test(bad_hub_names_are_refused),
        cmocka_unit_test(the_cache_is_searched),         cmocka_unit_test(the_hash_is_of_the_content),
        cmocka_unit_test(every_shard_is_in_the_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
