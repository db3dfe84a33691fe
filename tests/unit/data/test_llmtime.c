/* LLMTIME text: rounding, clipping, the dropped point, refused values, and the tolerant reader on good, cut and broken
 * texts. The examples are those of the published reports. */
#include "data_fixture.h"

#include "lvsweep/rng.h"
#include "lvsweep/text.h"

static const struct text_format plain = {.decimals = 2, .n_channel = 2, .decimal_point = true, .negative = true};

static void check_text(const struct text_format *format, const double *values, int32_t n_time, const char *expected) {
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "");
    assert_ok(text_encode(format, values, n_time, &text, &fixture_error));
    assert_string_equal(text.text, expected);
    strbuf_free(&text);
}

static void test_refused_values(void **state) {
    (void)state;
    struct strbuf text;
    strbuf_init(&text);
    struct text_format format = plain;
    assert_fails(text_encode(&format, (double[]){1, NAN}, 1, &text, &fixture_error), LVS_INPUT,
                 "point 0, channel 2 of 2: NaN");
    assert_fails(text_encode(&format, (double[]){1, 1, -INFINITY, 1}, 2, &text, &fixture_error), LVS_INPUT,
                 "point 1, channel 1 of 2: an infinite");
    assert_fails(text_encode(&format, (double[]){1, 1e13}, 1, &text, &fixture_error), LVS_INPUT,
                 "1e+13 after scaling has more than 15 digits at 2 decimals");
    format.negative = false;
    assert_fails(text_encode(&format, (double[]){-0.001, 1}, 1, &text, &fixture_error), LVS_INPUT, "below zero");
    format.clip = 9.99;
    assert_fails(text_encode(&format, (double[]){INFINITY, 1}, 1, &text, &fixture_error), LVS_INPUT, "infinite");
    strbuf_free(&text);
}

static void test_encode(void **state) {
    (void)state;
    struct text_format format = plain;
    check_text(&format, (double[]){10.02, 10.03, 7.81, 7.51}, 2, "10.02,10.03;7.81,7.51");
    format.decimals = 3;
    check_text(&format, (double[]){10.02, 10.03, 7.81, 7.51}, 2, "10.020,10.030;7.810,7.510");
    format.decimals = 0;
    check_text(&format, (double[]){0.5, 1.5, 2.5, -0.4}, 2, "0,2;2,0");
    format.decimals = 2;
    /* 0.125 and 0.375 are exact in binary: ties go to the even digit. 1.005 is below its name. */
    check_text(&format, (double[]){0.125, 0.375, 1.005, 2.675}, 2, "0.12,0.38;1.00,2.67");
    check_text(&format, (double[]){-0.004, -0.0, -1.5, -12.345}, 2, "0.00,0.00;-1.50,-12.35");
    format.clip = 9.99;
    check_text(&format, (double[]){9.994, 9.996, 123, -50}, 2, "9.99,9.99;9.99,-50.00");
    format = (struct text_format){.decimals = 1, .n_channel = 1, .decimal_point = true};
    check_text(&format, (double[]){1, 2.25, 3}, 3, "1.0;2.2;3.0");
    check_text(&format, NULL, 0, "");
}

static void test_dropped_point(void **state) {
    (void)state;
    struct text_format format = plain;
    format.decimal_point = false;
    check_text(&format, (double[]){1.20, 0.05, 0, -0.5, 12.3, -0.001}, 3, "120,5;0,-50;1230,0");
    double values[6];
    struct text_decoded decoded;
    text_decode(&format, "120,5;0,-50;1230,7", 18, 3, values, &decoded);
    const double expected[] = {1.20, 0.05, 0, -0.5, 12.3, 0.07};
    for (int i = 0; i < 6; i++)
        assert_true(values[i] == expected[i]);
    assert_true(decoded.success && decoded.n_negative == 1);
    text_decode(&format, "1.20,5", 6, 1, values, &decoded);
    assert_int_equal(decoded.n_malformed, 1);
    assert_false(decoded.success);
}

static void test_characters(void **state) {
    (void)state;
    char characters[TEXT_CHARACTERS_MAX];
    struct text_format format = plain;
    text_format_characters(&format, false, characters);
    assert_string_equal(characters, "0123456789.,;");
    text_format_characters(&format, true, characters);
    assert_string_equal(characters, "0123456789.,;-");
    format.decimal_point = false;
    format.negative = false;
    text_format_characters(&format, true, characters);
    assert_string_equal(characters, "0123456789,;");
    format = (struct text_format){.decimals = 0, .n_channel = 1, .decimal_point = true};
    text_format_characters(&format, false, characters);
    assert_string_equal(characters, "0123456789;");
}

/* NAN in `values` stands for a value that could not be read. */
struct decode_case {
    const char *text;
    int32_t n_time, n_points, n_malformed, n_missing, n_negative;
    bool success;
    double values[6];
};

static const struct decode_case decode_cases[] = {
    {"1.20,3.40;1.10,3.50", 2, 2, 0, 0, 0, true, {1.20, 3.40, 1.10, 3.50}},
    {"1.20,3.40;1.10,3.50;", 2, 2, 0, 0, 0, true, {1.20, 3.40, 1.10, 3.50}},
    {"1.20,3.40;1.10,3.50;9.99,abc", 2, 2, 0, 0, 0, true, {1.20, 3.40, 1.10, 3.50}}, /* beyond what was asked for */
    {"-1.20,3.40", 1, 1, 0, 0, 1, true, {-1.20, 3.40}},
    {"1,2.5;007.123,.5", 2, 1, 0, 1, 0, false, {1, 2.5, 7.123, NAN}}, /* .5 may still grow: the text ends there */
    {"1,2.5;007.123,.5;", 2, 2, 0, 0, 0, true, {1, 2.5, 7.123, .5}},
    {"", 2, 0, 0, 2, 0, false, {NAN, NAN, NAN, NAN}},
    {"1.20,3.40", 2, 1, 0, 1, 0, false, {1.20, 3.40, NAN, NAN}},
    {"1.20,3.40;1.10,3.", 2, 1, 0, 1, 0, false, {1.20, 3.40, 1.10, NAN}},
    {"1.20,3.40;1.10,3", 2, 1, 0, 1, 0, false, {1.20, 3.40, 1.10, NAN}},
    {"1.20,3.40;1.10,", 2, 1, 0, 1, 0, false, {1.20, 3.40, 1.10, NAN}},
    {"1.20,3.40;1.10", 2, 1, 0, 1, 0, false, {1.20, 3.40, 1.10, NAN}},
    {"1.20,3.40;-", 2, 1, 0, 1, 0, false, {1.20, 3.40, NAN, NAN}},
    {"1.2.0,3.40;1.10,3.50", 2, 1, 1, 0, 0, false, {NAN, 3.40, 1.10, 3.50}},
    {"1-2,3.40;--1,1-;1.00,2.00", 3, 1, 3, 0, 0, false, {NAN, 3.40, NAN, NAN, 1, 2}},
    {"?,3.40;1.10,3?50", 2, 0, 2, 0, 0, false, {NAN, 3.40, 1.10, NAN}},
    {"1.20;3.40,5.60", 2, 1, 1, 0, 0, false, {1.20, NAN, 3.40, 5.60}},
    {"1.20,3.40,5.60;1.00,2.00", 2, 1, 1, 0, 0, false, {1.20, 3.40, 1.00, 2.00}},
    {";;1.00,2.00", 3, 1, 4, 0, 0, false, {NAN, NAN, NAN, NAN, 1, 2}}, /* an empty point: no number, wrong count */
    {"1.00,2.00,3", 1, 0, 1, 0, 0, false, {1, 2}},
    {"11111111111111.00,1.00", 1, 0, 1, 0, 0, false, {NAN, 1}}, /* more digits than are ever written */
    {"1111111111111.00,1.00", 1, 1, 0, 0, 0, true, {1111111111111, 1}},
    {"1e5,+2.00;", 1, 0, 2, 0, 0, false, {NAN, NAN}},
    {"inf,nan;", 1, 0, 2, 0, 0, false, {NAN, NAN}},
};

static void test_decode(void **state) {
    (void)state;
    for (int32_t i = 0; i < COUNT_OF(decode_cases); i++) {
        const struct decode_case *expected = &decode_cases[i];
        double values[6];
        struct text_decoded got;
        text_decode(&plain, expected->text, strlen(expected->text), expected->n_time, values, &got);
        bool same = got.n_points == expected->n_points && got.n_malformed == expected->n_malformed &&
                    got.n_missing == expected->n_missing && got.n_negative == expected->n_negative &&
                    got.success == expected->success;
        for (int32_t k = 0; k < 2 * expected->n_time; k++)
            same = same && (isnan(expected->values[k]) ? isnan(values[k]) : values[k] == expected->values[k]);
        if (!same)
            print_error("\"%s\": points %d malformed %d missing %d negative %d success %d\n", expected->text,
                        got.n_points, got.n_malformed, got.n_missing, got.n_negative, got.success);
        assert_true(same);
    }
}

/* Values beyond a point's channels are counted where they can be read. */
static void test_decode_surplus(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int32_t n_surplus;
    } cases[] = {
        {"1.20,3.40;1.10,3.50;1.00,1.00,1.00", 0}, /* beyond what was asked for */
        {"1.20,3.40,5.60;1.00,2.00;", 1},
        {"1.20,3.40,5.60,7.80;1.00,2.00,3.00;", 3},
        {"1.20,3.40,?;1.00,2.00,;", 0},
        {"1.20;1.00", 0},
    };
    for (int32_t i = 0; i < COUNT_OF(cases); i++) {
        double values[4];
        struct text_decoded got;
        text_decode(&plain, cases[i].text, strlen(cases[i].text), 2, values, &got);
        assert_int_equal(got.n_surplus, cases[i].n_surplus);
    }
}

/* NUL bytes and lengths: the text needs no end mark. */
static void test_decode_bytes(void **state) {
    (void)state;
    double values[2];
    struct text_decoded got;
    text_decode(&plain, "1.00,2\0.5;", 10, 1, values, &got);
    assert_int_equal(got.n_malformed, 1);
    text_decode(&plain, "1.00,2.00999", 9, 1, values, &got);
    assert_true(got.success && values[1] == 2.0);
    text_decode(&plain, NULL, 0, 1, values, &got);
    assert_int_equal(got.n_missing, 1);
}

/* What was written is read back to the last digit, for every format. */
static void test_round_trip(void **state) {
    (void)state;
    struct rng rng = rng_make(11, RNG_STREAM_TEST);
    for (int32_t round = 0; round < 2000; round++) {
        struct text_format format = {
            .decimals = (int32_t)rng_below(&rng, 7),
            .n_channel = 1 + (int32_t)rng_below(&rng, LVS_MAX_CHANNELS),
            .decimal_point = rng_below(&rng, 2) == 1,
            .negative = true,
        };
        enum { POINTS = 5 };
        double values[POINTS * LVS_MAX_CHANNELS], back[POINTS * LVS_MAX_CHANNELS];
        for (int32_t i = 0; i < POINTS * format.n_channel; i++)
            values[i] = (rng_uniform(&rng) - 0.5) * pow(10, rng_below(&rng, 9));
        struct strbuf text;
        strbuf_init(&text);
        assert_ok(text_encode(&format, values, POINTS, &text, &fixture_error));
        struct text_decoded got;
        text_decode(&format, text.text, text.length, POINTS, back, &got);
        assert_true(got.success);
        for (int32_t i = 0; i < POINTS * format.n_channel; i++) {
            char digits[64];
            snprintf(digits, sizeof digits, "%.*f", format.decimals, values[i]);
            assert_true(fabs(back[i] - strtod(digits, NULL)) <= 1e-15 * fabs(back[i]));
        }
        strbuf_free(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_values), cmocka_unit_test(test_encode),     cmocka_unit_test(test_dropped_point),
        cmocka_unit_test(test_characters),     cmocka_unit_test(test_decode),     cmocka_unit_test(test_decode_bytes),
        cmocka_unit_test(test_decode_surplus), cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
