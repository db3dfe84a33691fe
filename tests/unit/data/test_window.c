/* Windows: labels and pads of each padding written out by hand, the reports' cuts, refusals, and as a property over
 * random lengths that window_count agrees with window_set_make and every id comes from where it should. */
#include "data_fixture.h"

#include "lvsweep/rng.h"
#include "lvsweep/window.h"

#define PAD 99
#define IGN WINDOW_IGNORED

/* A token set of series 100, 101, …; 200, 201, …; … */
static struct token_set make_tokens(const int32_t *lengths, int32_t n_series) {
    struct token_set set = {.n_series = n_series};
    set.offset = lvs_calloc((size_t)n_series + 1, sizeof *set.offset);
    set.values = lvs_calloc((size_t)n_series, sizeof *set.values);
    for (int32_t i = 0; i < n_series; i++)
        set.offset[i + 1] = set.offset[i] + lengths[i];
    set.ids = lvs_malloc((size_t)set.offset[n_series] * sizeof *set.ids);
    for (int32_t i = 0; i < n_series; i++)
        for (int32_t t = 0; t < lengths[i]; t++)
            set.ids[set.offset[i] + t] = 100 * (i + 1) + t;
    return set;
}

struct expected_window {
    int32_t series, ids[4], labels[4], is_pad[4];
};

static void check_windows(int32_t padding, int32_t stride, const int32_t *lengths, int32_t n_series,
                          const struct expected_window *expected, int32_t n_windows) {
    struct token_set tokens = make_tokens(lengths, n_series);
    struct window_set windows;
    assert_ok(window_set_make(&tokens, 4, stride, padding, PAD, &windows, &fixture_error));
    assert_int_equal(windows.n_windows, n_windows);
    assert_int_equal(windows.context, 4);
    for (int32_t w = 0; w < n_windows; w++) {
        assert_int_equal(windows.series[w], expected[w].series);
        for (int32_t t = 0; t < 4; t++) {
            assert_int_equal(windows.ids[4 * w + t], expected[w].ids[t]);
            assert_int_equal(windows.labels[4 * w + t], expected[w].labels[t]);
            assert_int_equal(windows.is_pad[4 * w + t], expected[w].is_pad[t]);
        }
    }
    window_set_free(&windows);
    token_set_free(&tokens);
}

static void test_right_counted(void **state) {
    (void)state;
    const struct expected_window expected[] = {
        {0, {100, 101, 102, 103}, {101, 102, 103, IGN}, {0, 0, 0, 0}},
        {0, {102, 103, 104, PAD}, {103, 104, PAD, IGN}, {0, 0, 1, 0}},
        {0, {104, PAD, PAD, PAD}, {PAD, PAD, PAD, IGN}, {1, 1, 1, 0}},
        {1, {200, 201, PAD, PAD}, {201, PAD, PAD, IGN}, {0, 1, 1, 0}},
    };
    check_windows(PADDING_RIGHT_COUNTED, 2, (const int32_t[]){5, 2}, 2, expected, 4);
}

static void test_right_masked(void **state) {
    (void)state;
    const struct expected_window expected[] = {
        {0, {100, 101, 102, 103}, {101, 102, 103, IGN}, {0}},
        {0, {102, 103, 104, PAD}, {103, 104, IGN, IGN}, {0}},
        {0, {104, PAD, PAD, PAD}, {IGN, IGN, IGN, IGN}, {0}},
        {1, {200, 201, PAD, PAD}, {201, IGN, IGN, IGN}, {0}},
    };
    check_windows(PADDING_RIGHT_MASKED, 2, (const int32_t[]){5, 2}, 2, expected, 4);
}

/* As transformers does with labels of −100 at the pads: the last pad predicts the first token of the text. */
static void test_left_masked(void **state) {
    (void)state;
    const struct expected_window expected[] = {
        {0, {100, 101, 102, 103}, {101, 102, 103, IGN}, {0}},
        {0, {PAD, 102, 103, 104}, {102, 103, 104, IGN}, {0}},
        {0, {PAD, PAD, PAD, 104}, {IGN, IGN, 104, IGN}, {0}},
        {1, {PAD, PAD, 200, 201}, {IGN, 200, 201, IGN}, {0}},
    };
    check_windows(PADDING_LEFT_MASKED, 2, (const int32_t[]){5, 2}, 2, expected, 4);
}

static void test_drop(void **state) {
    (void)state;
    const struct expected_window expected[] = {
        {0, {100, 101, 102, 103}, {101, 102, 103, IGN}, {0}},
        {0, {102, 103, 104, 105}, {103, 104, 105, IGN}, {0}},
        {1, {200, 201, PAD, PAD}, {201, IGN, IGN, IGN}, {0}}, /* shorter than a window: padded right, masked */
        {3, {400, 401, 402, 403}, {401, 402, 403, IGN}, {0}},
    };
    check_windows(PADDING_DROP, 2, (const int32_t[]){7, 2, 0, 4}, 4, expected, 4);
}

/* Report C: series of 999 tokens; A's windows of 512 every 256 start at 0, 256, 512, 768. */
static void test_report_cuts(void **state) {
    (void)state;
    const int64_t length = 999;
    assert_int_equal(window_count(&length, 1, 512, 256, PADDING_RIGHT_COUNTED), 4);
    assert_int_equal(window_count(&length, 1, 512, 256, PADDING_DROP), 2);
    assert_int_equal(window_count(&length, 1, 128, 64, PADDING_RIGHT_COUNTED), 16);
    assert_int_equal(window_count(&length, 1, 512, 512, PADDING_RIGHT_MASKED), 2);
    assert_int_equal(window_count(&length, 1, 768, 384, PADDING_DROP), 1);
    assert_int_equal(window_count(&length, 1, 1000, 500, PADDING_DROP), 1);
}

static void test_stride(void **state) {
    (void)state;
    const struct amount half = {.unit = AMOUNT_PERCENT, .value = 50}, tokens = {.unit = AMOUNT_TOKENS, .value = 256};
    const struct amount tiny = {.unit = AMOUNT_PERCENT, .value = 0.1}, huge = {.unit = AMOUNT_TOKENS, .value = 1e18};
    assert_int_equal(window_stride(&half, 512), 256);
    assert_int_equal(window_stride(&half, 7), 3);
    assert_int_equal(window_stride(&tiny, 128), 1);
    assert_int_equal(window_stride(&tokens, 128), 256);
    assert_int_equal(window_stride(&huge, 128), INT32_MAX);
}

static void test_refusals(void **state) {
    (void)state;
    struct token_set tokens = make_tokens((const int32_t[]){5}, 1);
    struct window_set windows;
    assert_fails(window_set_make(&tokens, 1, 1, PADDING_DROP, PAD, &windows, &fixture_error), LVS_USAGE, "at least 2");
    token_set_free(&tokens);
    /* 2^31 windows would not fit: the count saturates. */
    const int64_t long_one = (int64_t)1 << 33;
    assert_int_equal(window_count(&long_one, 1, 4, 1, PADDING_RIGHT_MASKED), INT32_MAX);
    assert_int_equal(window_count(&long_one, 0, 4, 1, PADDING_RIGHT_MASKED), 0);
}

/* Each window of a series: ids in order from its start, labels the next ids, pads where the text ends. */
static void check_window(const struct token_set *tokens, const struct window_set *set, int32_t window, int64_t start,
                         int32_t padding) {
    int32_t series = set->series[window], context = set->context;
    int64_t left = tokens->offset[series + 1] - tokens->offset[series] - start;
    int32_t n_text = left < context ? (int32_t)left : context;
    int32_t first = padding == PADDING_LEFT_MASKED ? context - n_text : 0;
    const int32_t *ids = set->ids + (int64_t)window * context, *labels = set->labels + (int64_t)window * context;
    for (int32_t t = 0; t < context; t++) {
        bool text = t >= first && t < first + n_text;
        int32_t expected = text ? tokens->ids[tokens->offset[series] + start + t - first] : PAD;
        assert_int_equal(ids[t], expected);
        if (t == 0) continue;
        bool counts = text || padding == PADDING_RIGHT_COUNTED;
        assert_int_equal(labels[t - 1], counts ? expected : IGN);
        assert_int_equal(set->is_pad[(int64_t)window * context + t - 1], counts && !text);
    }
    assert_int_equal(labels[context - 1], IGN);
}

static void test_count_agrees(void **state) {
    (void)state;
    struct rng rng = rng_make(5, RNG_STREAM_TEST);
    for (int32_t round = 0; round < 4000; round++) {
        enum { SERIES_MAX = 6 };
        int32_t n_series = (int32_t)rng_below(&rng, SERIES_MAX + 1), lengths[SERIES_MAX] = {0};
        for (int32_t i = 0; i < n_series; i++)
            lengths[i] = (int32_t)rng_below(&rng, 40);
        int32_t context = 2 + (int32_t)rng_below(&rng, 20), stride = 1 + (int32_t)rng_below(&rng, 25);
        int32_t padding = (int32_t)rng_below(&rng, 4);
        struct token_set tokens = make_tokens(lengths, n_series);
        int64_t wide[SERIES_MAX];
        for (int32_t i = 0; i < n_series; i++)
            wide[i] = lengths[i];
        struct window_set windows;
        assert_ok(window_set_make(&tokens, context, stride, padding, PAD, &windows, &fixture_error));
        assert_int_equal(windows.n_windows, window_count(wide, n_series, context, stride, padding));
        int64_t start = 0;
        for (int32_t w = 0; w < windows.n_windows; w++) {
            start = w > 0 && windows.series[w] == windows.series[w - 1] ? start + stride : 0;
            check_window(&tokens, &windows, w, start, padding);
        }
        window_set_free(&windows);
        token_set_free(&tokens);
    }
}

/* ---- token sets ---- */

static double sample(int32_t s, int32_t t, int32_t c) {
    return 10 * (s + 1) + t + 0.5 * c;
}

static void test_token_set(void **state) {
    (void)state;
    struct series_set set = fixture_set(3, 6, 2, sample);
    struct scaling scaling = {.n_series = 3, .n_channel = 2, .factor = (double[]){10, 10, 10, 10, 10, 5}};
    struct text_format format = {.decimals = 2, .n_channel = 2, .decimal_point = true, .negative = true};
    struct tokenizer tokenizer;
    assert_ok(tokenizer_read(LVS_SOURCE_DIR "/sweeps/quickstart/model", false, 14, &tokenizer, &fixture_error));
    struct token_set tokens;
    const int32_t rows[] = {2, 0};
    assert_ok(token_set_make(&set, &scaling, &format, &tokenizer, rows, 2, 1, 3, &tokens, &fixture_error));
    const char *expected[] = {"3.10,6.30;3.20,6.50", "1.10,1.15;1.20,1.25"};
    struct strbuf text;
    strbuf_init(&text);
    for (int32_t i = 0; i < 2; i++) {
        strbuf_clear(&text);
        int32_t length = (int32_t)(tokens.offset[i + 1] - tokens.offset[i]);
        tokenizer_decode(&tokenizer, tokens.ids + tokens.offset[i], length, &text);
        assert_string_equal(text.text, expected[i]);
        assert_int_equal(tokens.values[i], 4);
    }
    token_set_free(&tokens);
    set.values[2 * 12 + 3] = -1; /* series 2, point 1, channel 1 */
    set.id[2] = 17;
    format.negative = false;
    assert_fails(token_set_make(&set, &scaling, &format, &tokenizer, rows, 2, 1, 3, &tokens, &fixture_error), LVS_INPUT,
                 "series 17");
    assert_null(tokens.ids);
    /* No points: empty texts, no windows. */
    assert_ok(token_set_make(&set, &scaling, &format, &tokenizer, rows, 2, 1, 1, &tokens, &fixture_error));
    assert_int_equal(tokens.offset[2], 0);
    token_set_free(&tokens);
    strbuf_free(&text);
    series_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right_counted), cmocka_unit_test(test_right_masked), cmocka_unit_test(test_left_masked),
        cmocka_unit_test(test_drop),          cmocka_unit_test(test_report_cuts),  cmocka_unit_test(test_stride),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_count_agrees), cmocka_unit_test(test_token_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
