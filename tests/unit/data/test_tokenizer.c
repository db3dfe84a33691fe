/* tokenizer.json: hostile and unsuitable files first, then the ids of Qwen's vocabulary, the kept vocabulary, encoding
 * and decoding, a large file, and the embedded model's own. */
#include "data_fixture.h"

#include "lvsweep/tokenizer.h"

/* Qwen's ids of the single characters, and two merged tokens that must never be used. */
#define QWEN_VOCAB                                                                                                 \
    "\"0\":15,\"1\":16,\"2\":17,\"3\":18,\"4\":19,\"5\":20,\"6\":21,\"7\":22,\"8\":23,\"9\":24,\".\":13,\",\":11," \
    "\";\":26,\"-\":12,\",-\":4999,\"-,\":36519"
#define QWEN_ADDED "[{\"id\":151643,\"content\":\"<|endoftext|>\"},{\"id\":151645,\"content\":\"<|im_end|>\"}]"
#define DOCUMENT(type, vocab, added) \
    "{\"added_tokens\":" added ",\"model\":{\"type\":\"" type "\",\"vocab\":{" vocab "}}}"

static enum lvs_status read_text(const char *json, bool text_only, int32_t hint, struct tokenizer *out) {
    fixture_write("tokenizer.json", json);
    return tokenizer_read(fixture_folder, text_only, hint, out, &fixture_error);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"", "not a tokenizer.json"},
        {"{\"model\":{", "not a tokenizer.json"},
        {"[]", "no model.type"},
        {"{}", "no model.type"},
        {"{\"model\":5}", "no model.type"},
        {"{\"model\":{\"type\":7}}", "no model.type"},
        {DOCUMENT("Unigram", QWEN_VOCAB, "[]"), "model.type is Unigram; only BPE"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":[]}}", "model.vocab is no object"},
        {"{\"model\":{\"type\":\"BPE\"}}", "model.vocab is no object"},
        {DOCUMENT("BPE", "\"0\":1", "[]"), "the character '1' is no entry"},
        {DOCUMENT("BPE", "\"a\":1.5", "[]"), "the id of \"a\" is no integer"},
        {DOCUMENT("BPE", "\"a\":1e2", "[]"), "the id of \"a\" is no integer"},
        {DOCUMENT("BPE", "\"a\":\"1\"", "[]"), "the id of \"a\" is no integer"},
        {DOCUMENT("BPE", "\"a\":-1", "[]"), "ids are 0 to"},
        {DOCUMENT("BPE", "\"a\":4194304", "[]"), "ids are 0 to"},
        {DOCUMENT("BPE", "\"a\":99999999999999999999", "[]"), "not a tokenizer.json"},
        {DOCUMENT("BPE", "\"a\":1,\"b\":1", "[]"), "\"a\" and \"b\" share the id 1"},
        {DOCUMENT("BPE", "\"a\":1,\"a\":2", "[]"), "duplicate"},
        {DOCUMENT("BPE", QWEN_VOCAB, "{}"), "added_tokens is no list"},
        {DOCUMENT("BPE", QWEN_VOCAB, "[{}]"), "added_tokens[0] has no content"},
        {DOCUMENT("BPE", QWEN_VOCAB, "[5]"), "added_tokens[0] has no content"},
        {DOCUMENT("BPE", QWEN_VOCAB, "[{\"content\":\"x\"}]"), "the id of \"x\" is no integer"},
        {DOCUMENT("BPE", QWEN_VOCAB, "[{\"content\":\"x\",\"id\":15}]"), "\"0\" and \"x\" share the id 15"},
        {DOCUMENT("BPE", QWEN_VOCAB, "[{\"content\":\"0\",\"id\":99}]"), "has the id 15 in model.vocab and 99"},
        {DOCUMENT("BPE", QWEN_VOCAB, "[]"), "no token to pad with"},
        {DOCUMENT("BPE", QWEN_VOCAB, "null"), "no token to pad with"},
        {DOCUMENT("BPE", QWEN_VOCAB, "[{\"content\":\"0\",\"id\":15}]"), "is the character '0'"},
    };
    for (int32_t i = 0; i < COUNT_OF(cases); i++) {
        struct tokenizer tokenizer;
        print_message("%s\n", cases[i].words);
        assert_fails(read_text(cases[i].json, false, -1, &tokenizer), LVS_INPUT, cases[i].words);
    }
}

static void test_nested_too_deep(void **state) {
    (void)state;
    struct strbuf json;
    strbuf_init(&json);
    for (int i = 0; i < 100000; i++)
        strbuf_add(&json, "[");
    struct tokenizer tokenizer;
    assert_fails(read_text(json.text, false, -1, &tokenizer), LVS_INPUT, "depth");
    strbuf_free(&json);
    assert_fails(tokenizer_read("/nonexistent", false, -1, &tokenizer, &fixture_error), LVS_INPUT, "cannot open");
}

static void test_end_of_the_checkpoint(void **state) {
    (void)state;
    struct tokenizer tokenizer;
    assert_ok(read_text(DOCUMENT("BPE", QWEN_VOCAB, QWEN_ADDED), false, 151643, &tokenizer));
    tokenizer_take_ends(&tokenizer, 151645, NULL, 0);
    assert_int_equal(tokenizer.eos_id, 151645);
    assert_int_equal(tokenizer_pad(&tokenizer), 151643);
    const int32_t nothing[] = {-1, 151646, 15}; /* 15 is '0' */
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        tokenizer_take_ends(&tokenizer, nothing[i], nothing, 3);
        assert_int_equal(tokenizer.eos_id, 151645);
        assert_int_equal(tokenizer.n_more_ends, 0);
    }
}

/* All of them end a text; keys see those beside pad and eos. With vocabulary = text there is the pad alone. */
static void test_more_ends(void **state) {
    (void)state;
    struct tokenizer tokenizer;
    char text[TOKENIZER_ENDS_TEXT];
    assert_ok(read_text(DOCUMENT("BPE", QWEN_VOCAB, QWEN_ADDED), false, 151643, &tokenizer));
    tokenizer_take_ends(&tokenizer, 151645, (const int32_t[]){151643, 151645}, 2);
    tokenizer_write_ends(&tokenizer, text);
    assert_string_equal(text, "");
    tokenizer_take_ends(&tokenizer, 151645, (const int32_t[]){151644, 15, 7, 151644, 151646}, 5);
    tokenizer_write_ends(&tokenizer, text);
    assert_string_equal(text, "151644,7");
    const int32_t ends[] = {151643, 151645, 151644, 7};
    for (int i = 0; i < COUNT_OF(ends); i++)
        assert_true(tokenizer_is_end(&tokenizer, ends[i]));
    assert_false(tokenizer_is_end(&tokenizer, 15) || tokenizer_is_end(&tokenizer, 8));
    tokenizer.text_only = true;
    tokenizer_write_ends(&tokenizer, text);
    assert_string_equal(text, "");
    assert_true(tokenizer_is_end(&tokenizer, tokenizer_pad(&tokenizer)) && !tokenizer_is_end(&tokenizer, 7));
}

static void test_pad_choice(void **state) {
    (void)state;
    struct tokenizer tokenizer;
    assert_ok(read_text(DOCUMENT("BPE", QWEN_VOCAB, QWEN_ADDED), false, 151645, &tokenizer));
    assert_int_equal(tokenizer.pad_id, 151643);
    assert_int_equal(tokenizer.eos_id, 151643);
    assert_int_equal(tokenizer.n_vocabulary, 151646);
    const char *others =
        DOCUMENT("BPE", QWEN_VOCAB, "[{\"content\":\"<s>\",\"id\":1},{\"content\":\"</s>\",\"id\":2}]");
    assert_ok(read_text(others, false, 2, &tokenizer));
    assert_int_equal(tokenizer.pad_id, 2);
    assert_ok(read_text(others, false, -1, &tokenizer));
    assert_int_equal(tokenizer.pad_id, 1);
    assert_fails(read_text(others, false, 3, &tokenizer), LVS_INPUT, "is no id of this vocabulary");
    assert_fails(read_text(others, false, 1000000, &tokenizer), LVS_INPUT, "is no id of this vocabulary");
    assert_fails(read_text(others, false, 15, &tokenizer), LVS_INPUT, "is the character '0'");
    assert_ok(read_text(DOCUMENT("BPE", QWEN_VOCAB ",\"<|endoftext|>\":0", "null"), false, -1, &tokenizer));
    assert_int_equal(tokenizer.pad_id, 0);
}

static void check_ids(const struct tokenizer *tokenizer, const char *text, const int32_t *expected, int32_t count) {
    int32_t ids[64];
    assert_int_equal(strlen(text), count);
    assert_ok(tokenizer_encode(tokenizer, text, strlen(text), ids, &fixture_error));
    for (int32_t i = 0; i < count; i++)
        assert_int_equal(ids[i], expected[i]);
    struct strbuf back;
    strbuf_init(&back);
    tokenizer_decode(tokenizer, ids, count, &back);
    assert_string_equal(back.text, text);
    strbuf_free(&back);
}

/* Report B's example: 21 tokens at two decimals, 25 at three; and that a character pair is never one token. */
static void test_qwen_ids(void **state) {
    (void)state;
    struct tokenizer tokenizer;
    assert_ok(read_text(DOCUMENT("BPE", QWEN_VOCAB, QWEN_ADDED), false, -1, &tokenizer));
    const int32_t two[] = {16, 15, 13, 15, 17, 11, 16, 15, 13, 15, 18, 26, 22, 13, 23, 16, 11, 22, 13, 20, 16};
    assert_int_equal(COUNT_OF(two), 21);
    check_ids(&tokenizer, "10.02,10.03;7.81,7.51", two, 21);
    const int32_t three[] = {16, 15, 13, 15, 17, 15, 11, 16, 15, 13, 15, 18, 15,
                             26, 22, 13, 23, 16, 15, 11, 22, 13, 20, 16, 15};
    assert_int_equal(COUNT_OF(three), 25);
    check_ids(&tokenizer, "10.020,10.030;7.810,7.510", three, 25);
    check_ids(&tokenizer, "1,-2;-3", (const int32_t[]){16, 11, 12, 17, 26, 12, 18}, 7);
    assert_int_equal(tokenizer_pad(&tokenizer), 151643);
}

static void test_kept_vocabulary(void **state) {
    (void)state;
    struct tokenizer tokenizer;
    assert_ok(read_text(DOCUMENT("BPE", QWEN_VOCAB, QWEN_ADDED), true, -1, &tokenizer));
    const int32_t all[] = {15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 13, 11, 26, 12, 151643};
    assert_int_equal(tokenizer.n_kept, 15);
    assert_memory_equal(tokenizer.kept, all, sizeof all);
    assert_int_equal(tokenizer_pad(&tokenizer), 14);
    /* Report D: 13 ids, digits, ',', ';' and the pad. */
    tokenizer_keep(&tokenizer, ";,9876543210");
    const int32_t report_d[] = {15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 11, 26, 151643};
    assert_int_equal(tokenizer.n_kept, 13);
    assert_memory_equal(tokenizer.kept, report_d, sizeof report_d);
    assert_int_equal(tokenizer_pad(&tokenizer), 12);
    check_ids(&tokenizer, "120,5;0,9", (const int32_t[]){1, 2, 0, 10, 5, 11, 0, 10, 9}, 9);
    int32_t ids[4];
    assert_fails(tokenizer_encode(&tokenizer, "1.2", 3, ids, &fixture_error), LVS_BUG, "0x2e at 1");
    tokenizer_keep(&tokenizer, TOKENIZER_CHARACTERS);
    assert_int_equal(tokenizer.n_kept, 15);
}

static void test_foreign_ids_and_characters(void **state) {
    (void)state;
    for (int text_only = 0; text_only < 2; text_only++) {
        struct tokenizer tokenizer;
        assert_ok(read_text(DOCUMENT("BPE", QWEN_VOCAB, QWEN_ADDED), text_only != 0, -1, &tokenizer));
        int32_t ids[1];
        for (int c = 0; c < 256; c++) {
            char text = (char)c;
            bool known = c != 0 && strchr(TOKENIZER_CHARACTERS, c);
            assert_int_equal(tokenizer_encode(&tokenizer, &text, 1, ids, NULL), known ? LVS_OK : LVS_BUG);
        }
        struct strbuf text;
        strbuf_init(&text);
        int32_t pad = tokenizer_pad(&tokenizer);
        tokenizer_decode(&tokenizer, (const int32_t[]){pad, -1, 4999, INT32_MAX, INT32_MIN}, 5, &text);
        assert_string_equal(text.text, "?????");
        strbuf_free(&text);
    }
}

/* As many entries as Qwen has, about 4 MB: the numbers in their place, pad at the end. */
static void test_large_vocabulary(void **state) {
    (void)state;
    struct strbuf json;
    strbuf_init(&json);
    strbuf_add(&json, "{\"added_tokens\":[{\"id\":151643,\"content\":\"<|endoftext|>\"}],\"model\":{\"type\":\"BPE\","
                      "\"vocab\":{" QWEN_VOCAB);
    for (int32_t id = 0; id < 151643; id++)
        if ((id < 11 || id > 26 || id == 14 || id == 25) && id != 4999 && id != 36519)
            strbuf_printf(&json, ",\"\\u0120w%d\":%d", id, id);
    strbuf_add(&json, "},\"merges\":[");
    for (int32_t i = 0; i < 100000; i++)
        strbuf_printf(&json, "%s\"a%d b\"", i ? "," : "", i);
    strbuf_add(&json, "]}}");
    struct tokenizer tokenizer;
    assert_ok(read_text(json.text, false, -1, &tokenizer));
    assert_int_equal(tokenizer.n_vocabulary, 151644);
    assert_int_equal(tokenizer.id_of['7'], 22);
    strbuf_free(&json);
}

static void test_embedded_model(void **state) {
    (void)state;
    struct tokenizer tokenizer;
    assert_ok(tokenizer_read(LVS_SOURCE_DIR "/sweeps/quickstart/model", false, 14, &tokenizer, &fixture_error));
    check_ids(&tokenizer, "0.5,-9;", (const int32_t[]){3, 2, 8, 0, 1, 12, 13}, 7);
    assert_int_equal(tokenizer_pad(&tokenizer), 14);
    assert_int_equal(tokenizer.n_vocabulary, 16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nested_too_deep),
        cmocka_unit_test(test_end_of_the_checkpoint),
        cmocka_unit_test(test_more_ends),
        cmocka_unit_test(test_pad_choice),
        cmocka_unit_test(test_qwen_ids),
        cmocka_unit_test(test_kept_vocabulary),
        cmocka_unit_test(test_foreign_ids_and_characters),
        cmocka_unit_test(test_large_vocabulary),
        cmocka_unit_test(test_embedded_model),
    };
    return cmocka_run_group_tests(tests, fixture_make_folder, fixture_remove_folder);
}
