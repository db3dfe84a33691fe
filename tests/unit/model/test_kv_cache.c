/* Generation with cached keys: the same ids as a full forward pass over prompt and answer, for ragged prompts, in
 * groups, with samples that share a prompt, and for sequences that finish or fill up before the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lvsweep/strbuf.h"
#include "unit/model/model_files.h"

#define ALL ((1u << LORA_TARGET_COUNT) - 1)

static struct compute compute;
static struct model *model;
static struct adapter_set set; /* all targets and a bias on the head */

static const struct sampling greedy = {.greedy = 1, .temperature = 1, .top_p = 1, .repetition_penalty = 1};

/* ---- prompts ---- */

struct prompts {
    int32_t *ids, count;
    int64_t *offset;
};

static struct prompts prompts_make(const int32_t *lengths, int32_t count) {
    struct prompts prompts = {.count = count, .offset = lvs_calloc((size_t)count + 1, sizeof(int64_t))};
    for (int32_t p = 0; p < count; p++)
        prompts.offset[p + 1] = prompts.offset[p] + lengths[p];
    prompts.ids = lvs_malloc((size_t)prompts.offset[count] * sizeof *prompts.ids);
    for (int32_t p = 0; p < count; p++)
        for (int32_t i = 0; i < lengths[p]; i++)
            prompts.ids[prompts.offset[p] + i] = (i * (5 + p) + i * i / 2 + 3 * p) % 14;
    return prompts;
}

static void prompts_free(struct prompts *prompts) {
    free(prompts->ids);
    free(prompts->offset);
}

static struct kv_cache *cache_make(int32_t n_prompts, int32_t samples, int32_t capacity, struct sampling sampling,
                                   uint64_t seed) {
    struct kv_cache_options options = {.n_sequences = n_prompts * samples,
                                       .capacity = capacity,
                                       .samples = samples,
                                       .lora = &set.layout,
                                       .sampling = sampling,
                                       .seed = seed};
    struct kv_cache *cache;
    struct lvs_error err;
    ok(kv_cache_create(model, &options, &cache, &err), &err);
    return cache;
}

static void prefill(struct kv_cache *cache, const struct prompts *prompts) {
    struct lvs_error err;
    ok(kv_cache_prefill(cache, &set.adapters, prompts->ids, prompts->offset, prompts->count, &err), &err);
}

static void decode(struct kv_cache *cache, int32_t steps) {
    struct lvs_error err;
    ok(kv_cache_decode(cache, &set.adapters, steps, &err), &err);
}

static int32_t *tokens_of(struct kv_cache *cache, int32_t n, int32_t capacity, int32_t *length) {
    int32_t *tokens = lvs_malloc((size_t)n * (size_t)capacity * sizeof *tokens);
    struct lvs_error err;
    ok(kv_cache_tokens(cache, tokens, length, &err), &err);
    return tokens;
}

/* Every token after the prompt is the argmax of a full forward pass over what stands before it; where two logits are
 * within rounding of each other either may have been taken. */
static void check_argmax(const int32_t *tokens, int32_t prompt, int32_t length) {
    struct pass_options options = {.n_slots = 1, .n_sequences = 1, .context = length, .lora = &set.layout};
    int32_t vocabulary = model_vocabulary(model);
    struct pass *pass;
    struct lvs_error err;
    int32_t *rows = lvs_malloc((size_t)length * sizeof *rows);
    float *logits = lvs_malloc((size_t)(length * vocabulary) * sizeof *logits);
    ok(pass_create(model, &options, &pass, &err), &err);
    compute.backend->upload(compute.device, pass_ids(pass), tokens, (size_t)length * sizeof *tokens);
    pass_forward(pass, &set.adapters);
    for (int32_t i = 0; i < length; i++)
        rows[i] = i;
    ok(pass_logits(pass, &set.adapters, rows, length, logits, &err), &err);
    for (int32_t i = prompt; i < length; i++) {
        const float *row = logits + (i - 1) * vocabulary;
        float best = row[0];
        for (int32_t v = 1; v < vocabulary; v++)
            best = row[v] > best ? row[v] : best;
        if (row[tokens[i]] < best - 1e-4f)
            fail_msg("token %d is %d with logit %f; the largest is %f", i, tokens[i], (double)row[tokens[i]],
                     (double)best);
    }
    pass_destroy(pass);
    free(rows);
    free(logits);
}

/* ---- refusals ---- */

static void prompts_that_do_not_fit_are_refused(void **state) {
    (void)state;
    static const int32_t lengths[] = {5, 20, 9};
    struct prompts prompts = prompts_make(lengths, 3);
    struct kv_cache *cache = cache_make(3, 1, 20, greedy, 0);
    struct lvs_error err;
    refused(kv_cache_prefill(cache, &set.adapters, prompts.ids, prompts.offset, 3, &err), LVS_USAGE, &err,
            "prompt 1 has 20 tokens; 1 to 19");
    refused(kv_cache_prefill(cache, &set.adapters, prompts.ids, prompts.offset, 2, &err), LVS_BUG, &err, "2 prompts");
    prompts.offset[2] = prompts.offset[1];
    refused(kv_cache_prefill(cache, &set.adapters, prompts.ids, prompts.offset, 3, &err), LVS_USAGE, &err,
            "prompt 1 has 0 tokens");
    kv_cache_destroy(cache);
    struct kv_cache_options options = {
        .n_sequences = 1, .samples = 1, .capacity = model_config(model)->max_position + 1, .sampling = greedy};
    refused(kv_cache_create(model, &options, &cache, &err), LVS_INPUT, &err, "max_position_embeddings");
    prompts_free(&prompts);
}

/* ---- greedy ---- */

static void check_greedy(const int32_t *lengths, int32_t count, int32_t capacity, int32_t steps) {
    struct prompts prompts = prompts_make(lengths, count);
    struct kv_cache *cache = cache_make(count, 1, capacity, greedy, 0);
    int32_t *length = lvs_malloc((size_t)count * sizeof *length);
    prefill(cache, &prompts);
    decode(cache, steps);
    int32_t *tokens = tokens_of(cache, count, capacity, length);
    for (int32_t p = 0; p < count; p++) {
        const int32_t *line = tokens + p * capacity;
        int32_t expected = lengths[p] + 1 + steps;
        assert_int_equal(length[p], expected < capacity ? expected : capacity);
        assert_memory_equal(line, prompts.ids + prompts.offset[p], (size_t)lengths[p] * sizeof *line);
        for (int32_t i = length[p]; i < capacity; i++)
            assert_int_equal(line[i], 0);
        check_argmax(line, lengths[p], length[p]);
    }
    free(tokens);
    free(length);
    kv_cache_destroy(cache);
    prompts_free(&prompts);
}

static void ragged_prompts_continue_as_a_full_pass_does(void **state) {
    (void)state;
    static const int32_t lengths[] = {1, 2, 37, 64, 63, 100};
    check_greedy(lengths, 6, 260, 90);
}

/* Longer and more prompts than one pass takes: several groups, the last reaching back. */
static void long_prompts_come_in_groups(void **state) {
    (void)state;
    static const int32_t lengths[] = {900, 20, 1000, 999, 300, 7, 450};
    check_greedy(lengths, 7, 1024, 8);
}

/* The longest fill up while the others go on. */
static void full_sequences_stop(void **state) {
    (void)state;
    static const int32_t lengths[] = {10, 95, 60, 70};
    check_greedy(lengths, 4, 100, 200);
}

/* Steps in any portions, and a cache used again, give the same. */
static void portions_make_no_difference(void **state) {
    (void)state;
    static const int32_t lengths[] = {30, 61, 5}, others[] = {3, 80, 64};
    struct prompts prompts = prompts_make(lengths, 3), other = prompts_make(others, 3);
    struct kv_cache *cache = cache_make(3, 1, 200, greedy, 0);
    int32_t length[3];
    prefill(cache, &prompts);
    decode(cache, 70);
    int32_t *whole = tokens_of(cache, 3, 200, length);
    prefill(cache, &other);
    decode(cache, 20);
    prefill(cache, &prompts);
    decode(cache, 0);
    for (int32_t done = 0; done < 70; done += 7)
        decode(cache, 7);
    int32_t *parts = tokens_of(cache, 3, 200, length);
    assert_memory_equal(whole, parts, 3 * 200 * sizeof *whole);
    free(whole);
    free(parts);
    kv_cache_destroy(cache);
    prompts_free(&prompts);
    prompts_free(&other);
}

static void finished_sequences_stand_still(void **state) {
    (void)state;
    static const int32_t lengths[] = {30, 61, 5};
    struct prompts prompts = prompts_make(lengths, 3);
    struct kv_cache *cache = cache_make(3, 1, 200, greedy, 0);
    struct lvs_error err;
    int32_t length[3], all_length[3];
    uint8_t finished[3] = {0, 1, 0};
    prefill(cache, &prompts);
    decode(cache, 100);
    int32_t *all = tokens_of(cache, 3, 200, all_length);
    prefill(cache, &prompts);
    decode(cache, 40);
    ok(kv_cache_set_finished(cache, finished, &err), &err);
    decode(cache, 60);
    int32_t *some = tokens_of(cache, 3, 200, length);
    assert_int_equal(length[0], all_length[0]);
    assert_int_equal(length[1], 61 + 41);
    assert_int_equal(length[2], all_length[2]);
    for (int32_t p = 0; p < 3; p++)
        assert_memory_equal(some + p * 200, all + p * 200, (size_t)length[p] * sizeof *some);
    memset(finished, 1, sizeof finished);
    ok(kv_cache_set_finished(cache, finished, &err), &err);
    decode(cache, 5);
    free(some);
    some = tokens_of(cache, 3, 200, length);
    assert_int_equal(length[0], all_length[0]);
    free(all);
    free(some);
    kv_cache_destroy(cache);
    prompts_free(&prompts);
}

/* ---- samples ---- */

/* Samples of a prompt differ by their draws alone: with greedy choice all equal the single run. */
static void samples_share_a_prompt(void **state) {
    (void)state;
    static const int32_t lengths[] = {30, 61, 5, 17};
    struct prompts prompts = prompts_make(lengths, 4);
    struct kv_cache *one = cache_make(4, 1, 120, greedy, 0), *five = cache_make(4, 5, 120, greedy, 0);
    int32_t length[20], single_length[4];
    prefill(one, &prompts);
    decode(one, 50);
    prefill(five, &prompts);
    decode(five, 50);
    int32_t *single = tokens_of(one, 4, 120, single_length), *shared = tokens_of(five, 20, 120, length);
    for (int32_t i = 0; i < 20; i++) {
        assert_int_equal(length[i], single_length[i / 5]);
        assert_memory_equal(shared + i * 120, single + i / 5 * 120, 120 * sizeof *single);
    }
    free(single);
    free(shared);
    kv_cache_destroy(one);
    kv_cache_destroy(five);
    prompts_free(&prompts);
}

static int32_t *sampled(const struct prompts *prompts, uint64_t seed) {
    const struct sampling hot = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    struct kv_cache *cache = cache_make(prompts->count, 4, 120, hot, seed);
    int32_t length[8];
    prefill(cache, prompts);
    decode(cache, 50);
    int32_t *tokens = tokens_of(cache, 8, 120, length);
    kv_cache_destroy(cache);
    return tokens;
}

static void draws_follow_the_seed(void **state) {
    (void)state;
    static const int32_t lengths[] = {30, 61};
    struct prompts prompts = prompts_make(lengths, 2);
    int32_t *a = sampled(&prompts, 1), *b = sampled(&prompts, 1), *c = sampled(&prompts, 2);
    assert_memory_equal(a, b, 8 * 120 * sizeof *a);
    assert_true(memcmp(a, c, 8 * 120 * sizeof *a) != 0);
    for (int32_t i = 1; i < 4; i++)
        assert_true(memcmp(a, a + i * 120, 120 * sizeof *a) != 0);
    free(a);
    free(b);
    free(c);
    prompts_free(&prompts);
}

static void only_allowed_ids_are_drawn(void **state) {
    (void)state;
    static const int32_t lengths[] = {30, 12};
    struct prompts prompts = prompts_make(lengths, 2);
    uint8_t allowed[16] = {0};
    allowed[4] = allowed[9] = 1;
    struct kv_cache_options options = {.n_sequences = 4,
                                       .capacity = 80,
                                       .samples = 2,
                                       .lora = &set.layout,
                                       .allowed = allowed,
                                       .sampling = {.temperature = 2, .top_p = 1, .repetition_penalty = 1}};
    struct kv_cache *cache;
    struct lvs_error err;
    int32_t length[4], seen[16] = {0};
    ok(kv_cache_create(model, &options, &cache, &err), &err);
    prefill(cache, &prompts);
    decode(cache, 40);
    int32_t *tokens = tokens_of(cache, 4, 80, length);
    for (int32_t i = 0; i < 4; i++)
        for (int32_t j = lengths[i / 2]; j < length[i]; j++)
            seen[tokens[i * 80 + j]]++;
    assert_int_equal(seen[4] + seen[9], 4 * 41);
    assert_true(seen[4] > 0 && seen[9] > 0);
    free(tokens);
    kv_cache_destroy(cache);
    prompts_free(&prompts);
}

static void bytes_count_keys_and_values(void **state) {
    (void)state;
    const struct qwen2_config *config = model_config(model);
    struct kv_cache_options options = {.n_sequences = 10, .capacity = 100, .samples = 1};
    int64_t keys = 2ll * config->n_layers * 10 * config->n_kv_heads * 100 * config->head_size * 4;
    int64_t ten = kv_cache_bytes(config, &options, 4);
    assert_true(ten > keys);
    options.n_sequences = 20;
    assert_true(kv_cache_bytes(config, &options, 4) - ten >= keys);
}

static int open_model(void **state) {
    (void)state;
    compute = cpu_compute(2);
    model = quickstart_model(&compute);
    set = adapter_set_make(model, ALL, 4, HEAD_BIAS, 1);
    return 0;
}

static int close_model(void **state) {
    (void)state;
    adapter_set_free(&set);
    model_close(model);
    compute_close(&compute);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_that_do_not_fit_are_refused),
        cmocka_unit_test(ragged_prompts_continue_as_a_full_pass_does),
        cmocka_unit_test(long_prompts_come_in_groups),
        cmocka_unit_test(full_sequences_stop),
        cmocka_unit_test(portions_make_no_difference),
        cmocka_unit_test(finished_sequences_stand_still),
        cmocka_unit_test(samples_share_a_prompt),
        cmocka_unit_test(draws_follow_the_seed),
        cmocka_unit_test(only_allowed_ids_are_drawn),
        cmocka_unit_test(bytes_count_keys_and_values),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
