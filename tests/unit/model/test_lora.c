/* The adapter's arithmetic: padded ranks, offsets, counts, starting values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/model/model_files.h"

#define BIT(target) (1u << (target))
#define ALL         (BIT(LORA_TARGET_COUNT) - 1)
#define Q_AND_V     (BIT(LORA_TARGET_Q) | BIT(LORA_TARGET_V))

/* Qwen2.5-0.5B */
static const struct qwen2_config half_billion = {.vocab_size = 151936,
                                                 .hidden = 896,
                                                 .intermediate = 4864,
                                                 .n_layers = 24,
                                                 .n_heads = 14,
                                                 .n_kv_heads = 2,
                                                 .head_size = 64,
                                                 .max_position = 32768,
                                                 .tied = true};

static void ranks_are_padded(void **state) {
    (void)state;
    static const int32_t cases[][2] = {{1, 8},   {2, 8},   {7, 8},   {8, 8},   {9, 16},    {16, 16},
                                       {17, 32}, {32, 32}, {33, 48}, {64, 64}, {100, 112}, {256, 256}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(lora_padded_rank(cases[i][0]), cases[i][1]);
}

/* Every float of a layout belongs to exactly one matrix. */
static void check_cover(const struct lora_layout *layout) {
    assert_true(layout->n_params > 0);
    uint8_t *used = calloc((size_t)layout->n_params, 1);
    for (int32_t l = 0; l < layout->n_layers; l++)
        for (int32_t t = 0; t < LORA_TARGET_COUNT; t++) {
            bool wanted = (layout->targets >> t & 1u) != 0;
            assert_int_equal(layout->site_a[t] >= 0, wanted);
            assert_int_equal(layout->site_b[t] >= 0, wanted);
            if (!wanted) continue;
            for (int64_t i = 0; i < (int64_t)layout->rank * layout->n_in[t]; i++)
                used[l * layout->layer_floats + layout->site_a[t] + i]++;
            for (int64_t i = 0; i < (int64_t)layout->rank * layout->n_out[t]; i++)
                used[l * layout->layer_floats + layout->site_b[t] + i]++;
        }
    for (int64_t i = 0; layout->bias_offset >= 0 && i < layout->n_vocabulary; i++)
        used[layout->bias_offset + i]++;
    for (int64_t i = 0; layout->head_offset >= 0 && i < (int64_t)layout->n_vocabulary * layout->hidden; i++)
        used[layout->head_offset + i]++;
    for (int64_t i = 0; i < layout->n_params; i++)
        assert_int_equal(used[i], 1);
    assert_true(layout->stride >= layout->n_params && layout->stride % 64 == 0 &&
                layout->stride < layout->n_params + 64);
    free(used);
}

static void layouts_cover_their_numbers(void **state) {
    (void)state;
    const struct checkpoint small = checkpoint_small();
    for (uint32_t targets = 0; targets <= ALL; targets++)
        for (int32_t head = HEAD_FROZEN; head <= HEAD_WEIGHT; head++)
            for (int32_t rank = 1; rank <= 20; rank += 7) {
                struct lora_layout layout;
                lora_layout_make(&small.config, 20, targets, rank, head, &layout);
                assert_int_equal(layout.bias_offset >= 0, head == HEAD_BIAS);
                assert_int_equal(layout.head_offset >= 0, head == HEAD_WEIGHT);
                if (targets || head != HEAD_FROZEN) check_cover(&layout);
            }
}

static void shapes_are_the_projections(void **state) {
    (void)state;
    static const int32_t n_in[LORA_TARGET_COUNT] = {896, 896, 896, 896, 896, 896, 4864};
    static const int32_t n_out[LORA_TARGET_COUNT] = {896, 128, 128, 896, 4864, 4864, 896};
    struct lora_layout layout;
    lora_layout_make(&half_billion, 151936, ALL, 8, HEAD_FROZEN, &layout);
    assert_memory_equal(layout.n_in, n_in, sizeof n_in);
    assert_memory_equal(layout.n_out, n_out, sizeof n_out);
}

static float *init_of(const struct model *model, const struct lora_layout *layout, int32_t rank, int64_t seed,
                      int32_t kind) {
    struct settings settings = {.lora_rank = rank, .lora_targets = layout->targets, .seed = seed, .lora_init = kind};
    struct lvs_error err;
    float *params = malloc((size_t)layout->stride * sizeof *params);
    memset(params, 0xff, (size_t)layout->stride * sizeof *params);
    ok(lora_init(model, layout, &settings, params, &err), &err);
    return params;
}

/* Mean, spread and largest of A; B, the padding and the bias are zero. */
static void check_start(const struct lora_layout *layout, const float *params, int32_t rank, int32_t kind) {
    for (int32_t l = 0; l < layout->n_layers; l++)
        for (int32_t t = 0; t < LORA_TARGET_COUNT; t++) {
            const float *a = params + l * layout->layer_floats + layout->site_a[t];
            const float *b = params + l * layout->layer_floats + layout->site_b[t];
            double sum = 0, squares = 0, largest = 0, bound = 1 / sqrt(layout->n_in[t]);
            int64_t count = (int64_t)rank * layout->n_in[t];
            for (int64_t i = 0; i < count; i++) {
                sum += (double)a[i];
                squares += (double)a[i] * (double)a[i];
                largest = fmax(largest, fabs((double)a[i]));
            }
            double std = kind == LORA_INIT_KAIMING_NORMAL ? bound : bound / sqrt(3);
            assert_true(fabs(sum / (double)count) < 5 * std / sqrt((double)count));
            assert_true(fabs(sqrt(squares / (double)count) / std - 1) < 5 / sqrt((double)count));
            if (kind == LORA_INIT_KAIMING_UNIFORM) assert_true(largest <= bound * (1 + 1e-6));
            for (int64_t i = count; i < (int64_t)layout->rank * layout->n_in[t]; i++)
                assert_true(a[i] == 0.0f);
            for (int64_t i = 0; i < (int64_t)layout->rank * layout->n_out[t]; i++)
                assert_true(b[i] == 0.0f);
        }
}

static void starts_are_as_named(void **state) {
    const struct model *model = *state;
    struct lora_layout layout;
    lora_layout_make(model_config(model), model_vocabulary(model), ALL, 6, HEAD_BIAS, &layout);
    for (int32_t kind = LORA_INIT_KAIMING_NORMAL; kind <= LORA_INIT_KAIMING_UNIFORM; kind++) {
        float *params = init_of(model, &layout, 6, 3, kind);
        check_start(&layout, params, 6, kind);
        for (int64_t i = layout.bias_offset; i < layout.stride; i++)
            assert_true(params[i] == 0.0f);
        free(params);
    }
}

/* The numbers of a matrix depend on the seed and its place only. */
static void starts_do_not_depend_on_the_layout(void **state) {
    const struct model *model = *state;
    struct lora_layout all, some;
    lora_layout_make(model_config(model), model_vocabulary(model), ALL, 8, HEAD_FROZEN, &all);
    lora_layout_make(model_config(model), model_vocabulary(model), Q_AND_V, 20, HEAD_WEIGHT, &some);
    float *wide = init_of(model, &all, 8, 3, LORA_INIT_KAIMING_NORMAL);
    float *same = init_of(model, &all, 8, 3, LORA_INIT_KAIMING_NORMAL);
    float *other = init_of(model, &all, 8, 4, LORA_INIT_KAIMING_NORMAL);
    float *tall = init_of(model, &some, 20, 3, LORA_INIT_KAIMING_NORMAL);
    assert_memory_equal(wide, same, (size_t)all.stride * sizeof *wide);
    for (int32_t l = 0; l < all.n_layers; l++) {
        size_t bytes = 8 * (size_t)all.n_in[LORA_TARGET_V] * sizeof *wide;
        const float *a = wide + l * all.layer_floats + all.site_a[LORA_TARGET_V];
        assert_memory_equal(a, tall + l * some.layer_floats + some.site_a[LORA_TARGET_V], bytes);
        assert_true(memcmp(a, other + l * all.layer_floats + all.site_a[LORA_TARGET_V], bytes) != 0);
        assert_true(memcmp(a, wide + l * all.layer_floats + all.site_a[LORA_TARGET_Q], bytes) != 0);
    }
    assert_true(memcmp(wide, wide + all.layer_floats, 64) != 0);
    free(wide);
    free(same);
    free(other);
    free(tall);
}

/* A trained head starts as the model's. */
static void heads_start_from_the_model(void **state) {
    const struct model *model = *state;
    struct lora_layout layout;
    struct qwen2_config config = *model_config(model);
    lora_layout_make(&config, model_vocabulary(model), Q_AND_V, 4, HEAD_WEIGHT, &layout);
    float *params = init_of(model, &layout, 4, 1, LORA_INIT_KAIMING_NORMAL);
    struct safetensors *file;
    struct lvs_error err;
    ok(safetensors_open_folder(LVS_SOURCE_DIR "/sweeps/quickstart/model", &file, &err), &err);
    const struct safetensors_entry *table = safetensors_find(file, "model.embed_tokens.weight");
    int64_t count = (int64_t)config.vocab_size * config.hidden;
    float *expected = malloc((size_t)count * sizeof *expected);
    tensor_to_float(table->data, table->type, count, expected);
    assert_memory_equal(params + layout.head_offset, expected, (size_t)count * sizeof *expected);
    safetensors_close(file);
    free(expected);
    free(params);
}

static void ranks_above_the_layout_are_refused(void **state) {
    const struct model *model = *state;
    struct lora_layout layout;
    struct settings settings = {.lora_rank = 9, .lora_targets = Q_AND_V};
    struct lvs_error err;
    float params[1];
    lora_layout_make(model_config(model), model_vocabulary(model), Q_AND_V, 8, HEAD_FROZEN, &layout);
    refused(lora_init(model, &layout, &settings, params, &err), LVS_BUG, &err, "rank 9");
}

static struct compute compute;

static int open_model(void **state) {
    compute = cpu_compute(1);
    *state = quickstart_model(&compute);
    return 0;
}

static int close_model(void **state) {
    model_close(*state);
    compute_close(&compute);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_are_padded),
        cmocka_unit_test(layouts_cover_their_numbers),
        cmocka_unit_test(shapes_are_the_projections),
        cmocka_unit_test(starts_are_as_named),
        cmocka_unit_test(starts_do_not_depend_on_the_layout),
        cmocka_unit_test(heads_start_from_the_model),
        cmocka_unit_test(ranks_above_the_layout_are_refused),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
