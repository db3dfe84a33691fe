/* config.json: what is refused, by name; then both spellings of what is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lvsweep/strbuf.h"
#include "unit/model/model_files.h"

#define SHAPE                                                                                         \
    "\"vocab_size\": 100, \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 3, " \
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2"
#define QWEN2 "\"model_type\": \"qwen2\""
#define GOOD  "{" QWEN2 ", " SHAPE

static enum lvs_status read_text(const char *text, struct qwen2_config *config, struct lvs_error *err) {
    struct folder folder = folder_make();
    folder_write_text(&folder, "config.json", text);
    enum lvs_status status = qwen2_config_read(folder.path, config, err);
    folder_remove(&folder);
    return status;
}

static const struct {
    const char *text, *needle;
} bad[] = {
    {"", "not valid JSON"},
    {"[]", "object"},
    {"{", "not valid JSON"},
    {"{\"a\": 1, \"a\": 2}", "duplicate"},
    {"{" SHAPE "}", "model_type"},
    {"{\"model_type\": \"qwen3\", " SHAPE "}", "model_type = qwen3: only qwen2"},
    {"{\"model_type\": \"llama\", " SHAPE "}", "model_type = llama"},
    {"{\"model_type\": 2, " SHAPE "}", "model_type = (not text)"},
    {GOOD ", \"architectures\": [\"Qwen2ForSequenceClassification\"]}", "Qwen2ForSequenceClassification"},
    {GOOD ", \"architectures\": \"Qwen2ForCausalLM\"}", "architectures"},
    {GOOD ", \"hidden_act\": \"gelu\"}", "hidden_act = gelu: only silu"},
    {GOOD ", \"quantization_config\": {\"bits\": 4}}", "quantization_config"},
    {GOOD ", \"use_sliding_window\": true}", "use_sliding_window"},
    {GOOD ", \"use_sliding_window\": 1}", "use_sliding_window"},
    {GOOD ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]}", "layer_types[1] = sliding_attention"},
    {GOOD ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}}", "rope_scaling: type = yarn"},
    {GOOD ", \"rope_scaling\": {\"rope_type\": \"default\", \"factor\": 4.0}}", "rope_scaling: factor"},
    {GOOD ", \"rope_scaling\": \"linear\"}", "rope_scaling: an object"},
    {GOOD ", \"rope_parameters\": {\"rope_type\": \"dynamic\", \"rope_theta\": 1e4}}",
     "rope_parameters: rope_type = dynamic"},
    {GOOD ", \"rope_parameters\": {\"rope_theta\": 1e4, \"partial_rotary_factor\": 0.5}}", "partial_rotary_factor"},
    {GOOD ", \"rope_theta\": 0}", "rope_theta"},
    {GOOD ", \"rope_theta\": \"x\"}", "rope_theta"},
    {GOOD ", \"rms_norm_eps\": -1}", "rms_norm_eps"},
    {GOOD ", \"tie_word_embeddings\": 1}", "tie_word_embeddings"},
    {GOOD ", \"head_dim\": 15}", "even"},
    {GOOD ", \"head_dim\": 258}", "head_dim"},
    {"{" QWEN2 ", \"vocab_size\": 10, \"hidden_size\": 4096, \"intermediate_size\": 9, \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 2}",
     "heads of size 2048"},
    {GOOD ", \"head_dim\": 0}", "head_dim"},
    {GOOD ", \"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}", "eos_token_id: more than 8 ids"},
    {GOOD ", \"max_position_embeddings\": 0}", "max_position_embeddings"},
    {GOOD ", \"max_position_embeddings\": 1e3}", "max_position_embeddings: an integer"},
    {"{" QWEN2 "}", "vocab_size: the key is missing"},
    {"{" QWEN2 ", \"vocab_size\": 99999999999999999999}", "not valid JSON"},
    {"{" QWEN2 ", \"vocab_size\": -1}", "vocab_size: an integer from"},
    {"{" QWEN2 ", \"vocab_size\": 10, \"hidden_size\": 1073741824}", "hidden_size: an integer from"},
    {"{" QWEN2 ", \"vocab_size\": 10, \"hidden_size\": 64, \"intermediate_size\": 9, \"num_hidden_layers\": 3, "
     "\"num_attention_heads\": 3}",
     "no multiple of num_attention_heads"},
    {"{" QWEN2 ", \"vocab_size\": 10, \"hidden_size\": 64, \"intermediate_size\": 9, \"num_hidden_layers\": 3, "
     "\"num_attention_heads\": 4, \"num_key_value_heads\": 3}",
     "no multiple of num_key_value_heads"},
};

static void what_is_not_computed_is_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct qwen2_config config;
        struct lvs_error err = {0};
        enum lvs_status status = read_text(bad[i].text, &config, &err);
        if (status == LVS_OK) fail_msg("accepted: %s", bad[i].text);
        refused(status, LVS_INPUT, &err, bad[i].needle);
        assert_non_null(strstr(err.text, "config.json"));
    }
    struct folder folder = folder_make();
    struct qwen2_config config;
    struct lvs_error err;
    refused(qwen2_config_read(folder.path, &config, &err), LVS_INPUT, &err, "no config.json");
    folder_remove(&folder);
}

/* Defaults where the keys are absent or null. */
static void defaults_are_transformers(void **state) {
    (void)state;
    struct qwen2_config config;
    struct lvs_error err;
    ok(read_text(GOOD ", \"rope_scaling\": null, \"pad_token_id\": null, \"sliding_window\": 4096}", &config, &err),
       &err);
    assert_int_equal(config.vocab_size, 100);
    assert_int_equal(config.hidden, 64);
    assert_int_equal(config.intermediate, 96);
    assert_int_equal(config.n_layers, 3);
    assert_int_equal(config.n_heads, 4);
    assert_int_equal(config.n_kv_heads, 2);
    assert_int_equal(config.head_size, 16);
    assert_int_equal(config.max_position, 32768);
    assert_true(config.rms_epsilon == 1e-6f && config.rope_theta == 10000.0 && !config.tied);
    assert_int_equal(config.pad_id, -1);
    assert_int_equal(config.eos_id, -1);
}

static void both_spellings_are_read(void **state) {
    (void)state;
    struct qwen2_config old, new;
    struct lvs_error err;
    ok(read_text(GOOD
                 ", \"rope_theta\": 1000000.0, \"torch_dtype\": \"bfloat16\", \"tie_word_embeddings\": true, "
                 "\"eos_token_id\": 7, \"pad_token_id\": 8, \"rms_norm_eps\": 1e-05, \"use_sliding_window\": false}",
                 &old, &err),
       &err);
    ok(read_text(GOOD ", \"rope_parameters\": {\"rope_theta\": 1000000.0, \"rope_type\": \"default\"}, \"dtype\": "
                      "\"bfloat16\", \"tie_word_embeddings\": true, \"eos_token_id\": [7], \"pad_token_id\": 8, "
                      "\"rms_norm_eps\": 1e-05, \"layer_types\": [\"full_attention\", \"full_attention\", "
                      "\"full_attention\"]}",
                 &new, &err),
       &err);
    assert_memory_equal(&old, &new, sizeof old);
    assert_true(old.rope_theta == 1e6 && old.tied && old.rms_epsilon == 1e-5f);
    assert_int_equal(old.eos_id, 7);
    assert_int_equal(old.pad_id, 8);
}

static void heads_may_be_wider_than_hidden(void **state) {
    (void)state;
    struct qwen2_config config;
    struct lvs_error err;
    ok(read_text(GOOD ", \"head_dim\": 128}", &config, &err), &err);
    assert_int_equal(config.head_size, 128);
}

static void generation_defaults_are_read(void **state) {
    (void)state;
    struct folder folder = folder_make();
    struct qwen2_config config;
    struct lvs_error err;
    folder_write_text(&folder, "config.json", GOOD "}");
    folder_write_text(&folder, "generation_config.json",
                      "{\"temperature\": 0.7, \"top_p\": 0.8, \"top_k\": 20, \"repetition_penalty\": 1.1, "
                      "\"eos_token_id\": [5, 6], \"pad_token_id\": 4}");
    ok(qwen2_config_read(folder.path, &config, &err), &err);
    assert_true(config.generation_temperature == 0.7f && config.generation_top_p == 0.8f);
    assert_true(config.generation_repetition_penalty == 1.1f);
    assert_int_equal(config.generation_top_k, 20);
    assert_int_equal(config.eos_id, 5);
    assert_true(config.n_more_ends == 1 && config.more_ends[0] == 6);
    assert_int_equal(config.pad_id, 4);
    folder_write_text(&folder, "generation_config.json", "{");
    refused(qwen2_config_read(folder.path, &config, &err), LVS_INPUT, &err, "generation_config.json");
    folder_remove(&folder);
}

/* transformers' generate stops at any of a list; Qwen2.5-Instruct has one id in one file and two in the other. */
static void every_end_of_text_is_read(void **state) {
    (void)state;
    struct folder folder = folder_make();
    struct qwen2_config config;
    struct lvs_error err;
    folder_write_text(&folder, "config.json", GOOD ", \"eos_token_id\": 5}");
    folder_write_text(&folder, "generation_config.json", "{\"eos_token_id\": [5, 3, null, \"x\", -1, 3, 8]}");
    ok(qwen2_config_read(folder.path, &config, &err), &err);
    assert_int_equal(config.eos_id, 5);
    assert_true(config.n_more_ends == 2 && config.more_ends[0] == 3 && config.more_ends[1] == 8);
    folder_write_text(&folder, "generation_config.json", "{\"eos_token_id\": 5}");
    ok(qwen2_config_read(folder.path, &config, &err), &err);
    assert_true(config.eos_id == 5 && config.n_more_ends == 0);
    folder_write_text(&folder, "generation_config.json", "{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8]}");
    ok(qwen2_config_read(folder.path, &config, &err), &err);
    assert_int_equal(config.n_more_ends, 7);
    folder_write_text(&folder, "generation_config.json", "{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}");
    refused(qwen2_config_read(folder.path, &config, &err), LVS_INPUT, &err, "generation_config.json: eos_token_id");
    folder_remove(&folder);
}

/* A resized vocabulary: the tensor decides. */
static void the_weights_decide_the_vocabulary(void **state) {
    (void)state;
    struct folder folder = folder_make();
    struct checkpoint checkpoint = checkpoint_small();
    struct qwen2_config config;
    struct lvs_error err;
    checkpoint_write(&folder, &checkpoint);
    char path[LVS_PATH_MAX], *text;
    size_t length;
    folder_path(&folder, "config.json", path);
    ok(file_read(path, 1 << 20, &text, &length, &err), &err);
    memcpy(strstr(text, "\"vocab_size\": 20"), "\"vocab_size\": 99", 16);
    folder_write(&folder, "config.json", text, length);
    free(text);
    ok(qwen2_config_read(folder.path, &config, &err), &err);
    assert_int_equal(config.vocab_size, 20);
    folder_remove(&folder);
}

/* The embedded checkpoint, as transformers wrote it. */
static void the_embedded_checkpoint_is_read(void **state) {
    (void)state;
    struct qwen2_config config;
    struct lvs_error err;
    ok(qwen2_config_read(LVS_SOURCE_DIR "/sweeps/quickstart/model", &config, &err), &err);
    assert_int_equal(config.vocab_size, 16);
    assert_int_equal(config.head_size * config.n_heads, config.hidden);
    assert_true(config.tied);
    assert_int_equal(config.eos_id, 14);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_computed_is_refused),   cmocka_unit_test(defaults_are_transformers),
        cmocka_unit_test(both_spellings_are_read),           cmocka_unit_test(heads_may_be_wider_than_hidden),
        cmocka_unit_test(generation_defaults_are_read),      cmocka_unit_test(every_end_of_text_is_read),
        cmocka_unit_test(the_weights_decide_the_vocabulary), cmocka_unit_test(the_embedded_checkpoint_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
