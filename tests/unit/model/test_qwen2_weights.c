/* Opening checkpoints: what is refused, by the tensor's name; then that form makes no difference to the numbers
 * (shards, types, tied or repeated head, kept rows, unaligned files). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lvsweep/strbuf.h"
#include "unit/model/model_files.h"

enum { CONTEXT = 24, SEQUENCES = 3, N_ROWS = CONTEXT * SEQUENCES };

static struct compute compute;

/* Logits of a fixed batch, [N_ROWS][vocabulary], malloc'd. id_map renames ids (NULL = as they are). */
static float *logits_of(const struct model *model, const int32_t *id_map) {
    struct pass_options options = {.n_slots = 1, .n_sequences = SEQUENCES, .context = CONTEXT};
    struct pass *pass;
    struct lvs_error err;
    int32_t ids[N_ROWS], rows[N_ROWS];
    ok(pass_create(model, &options, &pass, &err), &err);
    for (int32_t i = 0; i < N_ROWS; i++) {
        int32_t id = (i * i + 3 * i) % 7;
        ids[i] = id_map ? id_map[id] : id;
        rows[i] = i;
    }
    compute.backend->upload(compute.device, pass_ids(pass), ids, sizeof ids);
    pass_forward(pass, NULL);
    float *logits = lvs_malloc(N_ROWS * (size_t)model_vocabulary(model) * sizeof *logits);
    ok(pass_logits(pass, NULL, rows, N_ROWS, logits, &err), &err);
    pass_destroy(pass);
    return logits;
}

static float *logits_of_checkpoint(const struct checkpoint *checkpoint) {
    struct folder folder = folder_make();
    checkpoint_write(&folder, checkpoint);
    struct model *model = model_of(&compute, &folder);
    float *logits = logits_of(model, NULL);
    model_close(model);
    folder_remove(&folder);
    return logits;
}

/* ---- refusals ---- */

/* Writes the small checkpoint's single file again with one tensor renamed or reshaped. */
static void rename_tensor(const struct folder *folder, const char *from, const char *to, bool flatten) {
    char path[LVS_PATH_MAX];
    struct lvs_error err;
    struct safetensors *file;
    folder_path(folder, "model.safetensors", path);
    ok(safetensors_open(path, &file, &err), &err);
    int32_t count = safetensors_count(file);
    struct safetensors_tensor *tensors = lvs_calloc((size_t)count, sizeof *tensors);
    for (int32_t i = 0; i < count; i++) {
        const struct safetensors_entry *entry = safetensors_at(file, i);
        bool hit = strcmp(entry->name, from) == 0;
        tensors[i].n_dims = entry->n_dims;
        memcpy(tensors[i].shape, entry->shape, sizeof entry->shape);
        if (hit && flatten) {
            tensors[i].n_dims = 1;
            tensors[i].shape[0] = entry->shape[0] * entry->shape[1];
        }
        float *data = lvs_malloc(entry->bytes);
        memcpy(data, entry->data, entry->bytes);
        tensors[i].data = data;
        lvs_copy(tensors[i].name, sizeof tensors[i].name, hit ? to : entry->name);
    }
    safetensors_close(file);
    ok(safetensors_write(path, tensors, count, NULL, &err), &err);
    for (int32_t i = 0; i < count; i++)
        free((void *)tensors[i].data);
    free(tensors);
}

static const struct {
    const char *from, *to, *needle;
    bool flatten;
} bad_tensors[] = {
    {"model.norm.weight", "model.norm.gain", "\"model.norm.gain\" belongs to no part", false},
    {"model.layers.1.self_attn.q_proj.weight", "model.layers.2.self_attn.q_proj.weight", "belongs to no part", false},
    {"model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.q_norm.weight",
     "q_norm.weight\" belongs to no part", false},
    {"model.layers.0.self_attn.o_proj.weight", "model.layers.0.self_attn.o_proj.bias", "belongs to no part", false},
    {"model.layers.0.mlp.up_proj.weight", "lm_head.weight", "\"model.layers.0.mlp.up_proj.weight\" is missing", false},
    {"model.layers.0.mlp.up_proj.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "up_proj.weight\" is missing",
     false},
    {"model.embed_tokens.weight", "lm_head.weight", "\"model.embed_tokens.weight\" is missing", false},
    {"model.layers.1.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight", "config.json asks for 32 × 48",
     true},
};

static void wrong_tensors_are_refused(void **state) {
    (void)state;
    struct checkpoint checkpoint = checkpoint_small();
    for (size_t i = 0; i < sizeof bad_tensors / sizeof bad_tensors[0]; i++) {
        struct folder folder = folder_make();
        struct lvs_error err;
        struct model *model = NULL;
        struct model_source source = {.folder = folder.path};
        checkpoint_write(&folder, &checkpoint);
        rename_tensor(&folder, bad_tensors[i].from, bad_tensors[i].to, bad_tensors[i].flatten);
        refused(model_open(&compute, &source, &model, &err), LVS_INPUT, &err, bad_tensors[i].needle);
        assert_null(model);
        folder_remove(&folder);
    }
}

static void other_shapes_are_refused(void **state) {
    (void)state;
    struct checkpoint written = checkpoint_small(), claimed = written;
    struct folder folder = folder_make();
    struct lvs_error err;
    struct model *model = NULL;
    struct model_source source = {.folder = folder.path};
    checkpoint_write(&folder, &written);
    char path[LVS_PATH_MAX], other[LVS_PATH_MAX];
    folder_path(&folder, "model.safetensors", path);
    folder_path(&folder, "kept", other);
    assert_int_equal(rename(path, other), 0);
    claimed.config.intermediate = 64;
    checkpoint_write(&folder, &claimed);
    assert_int_equal(rename(other, path), 0);
    refused(model_open(&compute, &source, &model, &err), LVS_INPUT, &err, "asks for 64 × 32");
    folder_remove(&folder);
}

static void kept_rows_outside_the_table_are_refused(void **state) {
    (void)state;
    struct checkpoint checkpoint = checkpoint_small();
    struct folder folder = folder_make();
    struct lvs_error err;
    struct model *model = NULL;
    int32_t rows[2] = {0, 20};
    struct model_source source = {.folder = folder.path, .kept_rows = rows, .n_kept = 2};
    checkpoint_write(&folder, &checkpoint);
    refused(model_open(&compute, &source, &model, &err), LVS_INPUT, &err, "token id 20 has no row");
    folder_remove(&folder);
}

/* ---- form makes no difference ---- */

static void shards_give_the_same_numbers(void **state) {
    (void)state;
    struct checkpoint one = checkpoint_small(), five = one;
    five.n_shards = 5;
    float *a = logits_of_checkpoint(&one), *b = logits_of_checkpoint(&five);
    assert_memory_equal(a, b, N_ROWS * 20 * sizeof *a);
    free(a);
    free(b);
}

static void a_repeated_head_is_a_tied_one(void **state) {
    (void)state;
    struct checkpoint tied = checkpoint_small(), repeated = tied, own = tied;
    repeated.config.tied = own.config.tied = false;
    repeated.repeat_head = true;
    float *a = logits_of_checkpoint(&tied), *b = logits_of_checkpoint(&repeated), *c = logits_of_checkpoint(&own);
    assert_memory_equal(a, b, N_ROWS * 20 * sizeof *a);
    assert_true(memcmp(a, c, N_ROWS * 20 * sizeof *a) != 0);
    free(a);
    free(b);
    free(c);
}

/* BF16 weights are the rounded numbers, not others. */
static void bf16_is_near_fp32(void **state) {
    (void)state;
    struct checkpoint exact = checkpoint_small(), rounded = exact;
    rounded.type = TENSOR_BF16;
    float *a = logits_of_checkpoint(&exact), *b = logits_of_checkpoint(&rounded);
    float largest = 0, difference = 0;
    for (int32_t i = 0; i < N_ROWS * 20; i++) {
        float d = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
        difference = d > difference ? d : difference;
        largest = a[i] > largest ? a[i] : largest;
    }
    assert_true(difference > 0 && difference < 0.05f * largest);
    free(a);
    free(b);
}

/* Only some rows of embedding and head: the same hidden states, and those columns of the logits. */
static void kept_rows_are_those_columns(void **state) {
    (void)state;
    struct checkpoint checkpoint = checkpoint_small();
    struct folder folder = folder_make();
    struct lvs_error err;
    checkpoint_write(&folder, &checkpoint);
    int32_t rows[7] = {13, 2, 19, 0, 7, 6, 11}, map[7] = {0, 1, 2, 3, 4, 5, 6};
    struct model *whole = model_of(&compute, &folder), *kept;
    struct model_source source = {.folder = folder.path, .kept_rows = rows, .n_kept = 7};
    ok(model_open(&compute, &source, &kept, &err), &err);
    assert_int_equal(model_vocabulary(kept), 7);
    assert_int_equal(model_config(kept)->vocab_size, 20);
    float *a = logits_of(whole, rows), *b = logits_of(kept, map);
    for (int32_t i = 0; i < N_ROWS; i++)
        for (int32_t v = 0; v < 7; v++) {
            float difference = a[i * 20 + rows[v]] - b[i * 7 + v];
            assert_true(difference < 1e-6f && difference > -1e-6f);
        }
    free(a);
    free(b);
    model_close(whole);
    model_close(kept);
    folder_remove(&folder);
}

/* A header whose length leaves every tensor at an odd address. */
static void unaligned_files_are_read(void **state) {
    (void)state;
    struct checkpoint checkpoint = checkpoint_small();
    struct folder folder = folder_make();
    struct lvs_error err;
    char path[LVS_PATH_MAX], *bytes;
    size_t length;
    checkpoint_write(&folder, &checkpoint);
    struct model *model = model_of(&compute, &folder);
    float *expected = logits_of(model, NULL);
    model_close(model);
    folder_path(&folder, "model.safetensors", path);
    ok(file_read(path, 1 << 24, &bytes, &length, &err), &err);
    uint64_t header;
    memcpy(&header, bytes, sizeof header);
    char *moved = lvs_malloc(length + 1);
    memcpy(moved, bytes, 8 + header);
    moved[8 + header] = ' ';
    memcpy(moved + 8 + header + 1, bytes + 8 + header, length - 8 - header);
    header++;
    memcpy(moved, &header, sizeof header);
    folder_write(&folder, "model.safetensors", moved, length + 1);
    model = model_of(&compute, &folder);
    float *found = logits_of(model, NULL);
    assert_memory_equal(found, expected, N_ROWS * 20 * sizeof *found);
    model_close(model);
    free(found);
    free(expected);
    free(bytes);
    free(moved);
    folder_remove(&folder);
}

/* Random weights of any shape compute, and the same seed gives the same. */
static void random_models_compute(void **state) {
    (void)state;
    struct checkpoint checkpoint = checkpoint_small();
    struct model *a, *b, *c;
    struct lvs_error err;
    checkpoint.config.tied = false;
    ok(model_random(&compute, &checkpoint.config, 1, &a, &err), &err);
    ok(model_random(&compute, &checkpoint.config, 1, &b, &err), &err);
    ok(model_random(&compute, &checkpoint.config, 2, &c, &err), &err);
    float *logits_a = logits_of(a, NULL), *logits_b = logits_of(b, NULL), *logits_c = logits_of(c, NULL);
    assert_memory_equal(logits_a, logits_b, N_ROWS * 20 * sizeof *logits_a);
    assert_true(memcmp(logits_a, logits_c, N_ROWS * 20 * sizeof *logits_a) != 0);
    free(logits_a);
    free(logits_b);
    free(logits_c);
    model_close(a);
    model_close(b);
    model_close(c);
}

/* Qwen2.5-0.5B: 494.0 M parameters; the 48 + 1 gains and 24 biases are float on every device. */
static void weight_bytes_are_those_of_the_shape(void **state) {
    (void)state;
    struct qwen2_config config = {.vocab_size = 151936,
                                  .hidden = 896,
                                  .intermediate = 4864,
                                  .n_layers = 24,
                                  .n_heads = 14,
                                  .n_kv_heads = 2,
                                  .head_size = 64,
                                  .tied = true};
    int64_t vectors = 24 * (2 * 896 + 1152) + 896;
    assert_int_equal(model_weight_bytes(&config, 4) / 4, 494032768);
    assert_int_equal(model_weight_bytes(&config, 2), 2 * (494032768 - vectors) + 4 * vectors);
    config.tied = false;
    assert_int_equal(model_weight_bytes(&config, 4) / 4, 494032768 + 151936 * 896);
}

static int open_compute(void **state) {
    (void)state;
    compute = cpu_compute(2);
    return 0;
}

static int close_compute(void **state) {
    (void)state;
    compute_close(&compute);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(other_shapes_are_refused),
        cmocka_unit_test(kept_rows_outside_the_table_are_refused),
        cmocka_unit_test(shards_give_the_same_numbers),
        cmocka_unit_test(a_repeated_head_is_a_tied_one),
        cmocka_unit_test(bf16_is_near_fp32),
        cmocka_unit_test(kept_rows_are_those_columns),
        cmocka_unit_test(unaligned_files_are_read),
        cmocka_unit_test(random_models_compute),
        cmocka_unit_test(weight_bytes_are_those_of_the_shape),
    };
    return cmocka_run_group_tests(tests, open_compute, close_compute);
}
