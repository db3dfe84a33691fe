/* Adapter vectors without padding: the count is the trainable one, and a vector survives any padded layout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "train_internal.h"

static const struct qwen2_config config = {
    .vocab_size = 11,
    .hidden = 8,
    .intermediate = 12,
    .n_layers = 3,
    .n_heads = 2,
    .n_kv_heads = 1,
    .head_size = 4,
    .max_position = 16,
};

/* Qwen2.5-0.5B, for which reports and peft print their numbers of trainable parameters. */
static const struct qwen2_config half_billion = {
    .vocab_size = 151936,
    .hidden = 896,
    .intermediate = 4864,
    .n_layers = 24,
    .n_heads = 14,
    .n_kv_heads = 2,
    .head_size = 64,
    .max_position = 32768,
    .tied = true,
};

#define ALL     ((1u << LORA_TARGET_COUNT) - 1)
#define Q_AND_V (1u << LORA_TARGET_Q | 1u << LORA_TARGET_V)

static void numbers_without_padding(void **state) {
    (void)state;
    static const struct {
        uint32_t targets;
        int32_t rank, head, n_vocabulary;
        int64_t expected;
    } cases[] = {
        {Q_AND_V, 8, HEAD_FROZEN, 151936, 540672}, /* 24 · rank · (896 + 896 + 896 + 128) */
        {Q_AND_V, 2, HEAD_FROZEN, 151936, 135168},
        {Q_AND_V, 2, HEAD_BIAS, 151936, 135168 + 151936},
        {Q_AND_V, 2, HEAD_WEIGHT, 13, 135168 + 13 * 896},
        {ALL, 8, HEAD_FROZEN, 151936, 4399104},
        {0, 2, HEAD_WEIGHT, 13, 13 * 896},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lora_layout layout;
        lora_layout_make(&half_billion, cases[i].n_vocabulary, cases[i].targets, cases[i].rank, cases[i].head, &layout);
        assert_int_equal(adapter_compact_floats(&layout, cases[i].rank), cases[i].expected);
    }
}

static void survives_any_layout(void **state) {
    (void)state;
    const uint32_t targets[] = {Q_AND_V, ALL, 1u << LORA_TARGET_DOWN};
    const int32_t heads[] = {HEAD_FROZEN, HEAD_BIAS, HEAD_WEIGHT};
    for (int t = 0; t < 3; t++)
        for (int h = 0; h < 3; h++)
            for (int32_t rank = 1; rank <= 8; rank++) {
                struct lora_layout small, large;
                lora_layout_make(&config, 11, targets[t], lora_padded_rank(8), heads[h], &small);
                lora_layout_make(&config, 11, targets[t], lora_padded_rank(20), heads[h], &large);
                int64_t count = adapter_compact_floats(&small, rank);
                assert_int_equal(count, adapter_compact_floats(&large, rank));
                float *first = lvs_calloc((size_t)count, sizeof *first);
                float *second = lvs_calloc((size_t)count, sizeof *second);
                float *padded = lvs_malloc((size_t)large.stride * sizeof *padded);
                for (int64_t i = 0; i < count; i++)
                    first[i] = (float)(i + 1);
                memset(padded, 0xff, (size_t)large.stride * sizeof *padded); /* padding must become zero */
                adapter_expand(&large, rank, first, padded);
                double sum = 0;
                for (int64_t i = 0; i < large.stride; i++)
                    sum += padded[i];
                assert_true(sum == (double)count * (double)(count + 1) / 2);
                adapter_compact(&large, rank, padded, second);
                assert_memory_equal(first, second, (size_t)count * sizeof *first);
                adapter_expand(&small, rank, second, padded);
                memset(second, 0, (size_t)count * sizeof *second);
                adapter_compact(&small, rank, padded, second);
                assert_memory_equal(first, second, (size_t)count * sizeof *first);
                free(first);
                free(second);
                free(padded);
            }
}

/* One matrix by hand: rank 2 of a padded 8. */
static void rows_of_a_and_columns_of_b(void **state) {
    (void)state;
    struct lora_layout layout;
    lora_layout_make(&config, 11, 1u << LORA_TARGET_V, 8, HEAD_FROZEN, &layout);
    float *padded = lvs_calloc((size_t)layout.stride, sizeof *padded);
    int64_t count = adapter_compact_floats(&layout, 2);
    assert_int_equal(count, 3 * 2 * (8 + 4)); /* layers × rank × (in + out) */
    float *compact = lvs_calloc((size_t)count, sizeof *compact);
    padded[layout.site_a[LORA_TARGET_V] + 8 + 3] = 5;     /* A[1][3] */
    padded[layout.site_b[LORA_TARGET_V] + 2 * 8 + 1] = 7; /* B[2][1] */
    adapter_compact(&layout, 2, padded, compact);
    assert_true(compact[1 * 8 + 3] == 5 && compact[16 + 2 * 2 + 1] == 7);
    free(padded);
    free(compact);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_without_padding),
        cmocka_unit_test(survives_any_layout),
        cmocka_unit_test(rows_of_a_and_columns_of_b),
    };
    return cmocka_run_group_tests_name("train/adapter_compact", tests, NULL, NULL);
}
