/* Two series of the reports' data set (0 and 972) as each report scales, writes and tokenises them: texts recorded from
 * NumPy and Python, ids from the tokenizers library on Qwen2.5's own tokenizer.json (tests/tools/report_examples.py).
 * LVSWEEP_REAL_MODEL = a folder with that tokenizer.json reads it too; without it Qwen's ids of the characters do. */
#include "data_fixture.h"

#include "golden_file.h"
#include "lvsweep/window.h"

#define SERIES 2
#define POINTS 100

#define QWEN_CHARACTERS                                                                                            \
    "{\"added_tokens\":[{\"id\":151643,\"content\":\"<|endoftext|>\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{"    \
    "\"0\":15,\"1\":16,\"2\":17,\"3\":18,\"4\":19,\"5\":20,\"6\":21,\"7\":22,\"8\":23,\"9\":24,\".\":13,\",\":11," \
    "\";\":26,\"-\":12}}}"

static const struct report {
    const char *name;
    int32_t over;
    double percentile,
        train_factor; /* train_factor: the maximum of report C's training set / 9.99; 0 = by percentile */
    int32_t history, decimals;
    bool drop_point;
    int32_t tokens[SERIES];
} reports[] = {
    {"a", SCALE_SERIES_MAX, 95, 0, 50, 2, false, {1002, 1023}},
    {"b2", SCALE_VARIABLE, 99, 0, 50, 2, false, {1001, 1019}},
    {"b3", SCALE_VARIABLE, 99, 0, 50, 3, false, {1201, 1219}},
    {"c", SCALE_TRAIN, 100, 1.1008087, 70, 2, false, {999, 999}},
    {"d", SCALE_SERIES, 90, 0, 80, 2, true, {807, 823}},
};

static json_t *recorded;
static struct series_set set;

static int open_recorded(void **state) {
    fixture_make_folder(state);
    struct golden_file golden = golden_open("reports.safetensors");
    int32_t count;
    set = (struct series_set){.n_series = SERIES, .n_time = POINTS, .n_channel = 2};
    set.values = golden_values(&golden, "values", &count);
    assert_int_equal(count, SERIES * POINTS * 2);
    set.id = lvs_calloc(SERIES, sizeof *set.id);
    golden_close(&golden);
    recorded = json_load_file(LVS_SOURCE_DIR "/tests/golden/reports.json", 0, NULL);
    return recorded ? 0 : -1;
}

static int close_recorded(void **state) {
    series_free(&set);
    json_decref(recorded);
    return fixture_remove_folder(state);
}

static struct scaling scale(const struct report *report, struct config *config) {
    struct scaling scaling = {.n_series = SERIES, .n_channel = 2};
    config->decimal_point = !report->drop_point;
    config->scale_over = report->over;
    config->scale_percentile = report->percentile;
    if (report->train_factor == 0) {
        assert_ok(scaling_make(config, &set, NULL, report->history, &scaling, &fixture_error));
        return scaling;
    }
    scaling.factor = lvs_calloc(SERIES * 2, sizeof *scaling.factor);
    for (int i = 0; i < SERIES * 2; i++)
        scaling.factor[i] = report->train_factor;
    return scaling;
}

static const json_t *recorded_of(const char *kind, int32_t series, const char *name) {
    return json_object_get(json_array_get(json_object_get(recorded, kind), (size_t)series), name);
}

static void check_report(const struct report *report, const struct tokenizer *tokenizer) {
    struct config config = fixture_config();
    struct scaling scaling = scale(report, &config);
    struct text_format format = text_format_make(&config, report->decimals, 2);
    struct token_set tokens;
    assert_ok(token_set_make(&set, &scaling, &format, tokenizer, (const int32_t[]){0, 1}, SERIES, 0, POINTS, &tokens,
                             &fixture_error));
    for (int32_t s = 0; s < SERIES; s++) {
        const int32_t *ids = tokens.ids + tokens.offset[s];
        int32_t count = (int32_t)(tokens.offset[s + 1] - tokens.offset[s]);
        const json_t *first = recorded_of("first_ids", s, report->name);
        struct strbuf text;
        strbuf_init(&text);
        tokenizer_decode(tokenizer, ids, count, &text);
        assert_string_equal(text.text, json_string_value(recorded_of("texts", s, report->name)));
        assert_int_equal(count, report->tokens[s]);
        assert_int_equal(json_array_size(first), 40);
        for (size_t i = 0; i < 40; i++)
            assert_int_equal(ids[i], json_integer_value(json_array_get(first, i)));
        strbuf_free(&text);
    }
    token_set_free(&tokens);
    scaling_free(&scaling);
}

static void check_all(const struct tokenizer *tokenizer) {
    for (int32_t i = 0; i < COUNT_OF(reports); i++)
        check_report(&reports[i], tokenizer);
}

static void texts_and_ids(void **state) {
    (void)state;
    struct tokenizer tokenizer;
    fixture_write("tokenizer.json", QWEN_CHARACTERS);
    assert_ok(tokenizer_read(fixture_folder, false, -1, &tokenizer, &fixture_error));
    check_all(&tokenizer);
}

static void the_real_tokenizer(void **state) {
    (void)state;
    const char *folder = getenv("LVSWEEP_REAL_MODEL");
    if (!folder) skip();
    struct tokenizer tokenizer;
    assert_ok(tokenizer_read(folder, false, -1, &tokenizer, &fixture_error));
    assert_int_equal(tokenizer_pad(&tokenizer), 151643);
    check_all(&tokenizer);
}

/* Report D: two numbers of three digits, a comma and a semicolon are 8 tokens a step. */
static void eight_tokens_a_step(void **state) {
    (void)state;
    const char *text = json_string_value(recorded_of("texts", 0, "d"));
    assert_int_equal(strncmp(text, "362,397;282,297;", 16), 0);
    assert_int_equal(strcspn(text, ";") + 1, 8);
    assert_int_equal((strlen(text) + POINTS / 2) / POINTS, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_and_ids),
        cmocka_unit_test(the_real_tokenizer),
        cmocka_unit_test(eight_tokens_a_step),
    };
    return cmocka_run_group_tests_name("data/reports", tests, open_recorded, close_recorded);
}
