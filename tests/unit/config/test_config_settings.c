/* Values of settings, bad ones first: what is refused in which words, and the one text that equal values share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "lvsweep/config.h"

static void bad_values_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *words;
    } cases[] = {
        {"rank", "", "the value is missing; allowed: a whole number from 1 to 256"},
        {"rank", "0", "0 is out of range"},
        {"rank", "257", "257 is out of range"},
        {"rank", "2.5", "2.5 is not a whole number"},
        {"rank", "4x", "\"4x\" is not a number"},
        {"rank", "0x10", "is not a number"},
        {"rank", "1e400", "is not a number"},
        {"learning_rate", "0", "0 is out of range; allowed: a number above 0, at most 10"},
        {"learning_rate", "-1e-4", "out of range"},
        {"learning_rate", "nan", "\"nan\" is not a number"},
        {"learning_rate", "inf", "is not a number"},
        {"learning_rate", "1e-5x", "is not a number"},
        {"learning_rate", "1e", "is not a number"},
        {"learning_rate", ".", "is not a number"},
        {"learning_rate", "1,5", "is not a number"},
        {"learning_rate", "1e-400", "is not a number"},
        {"learning_rate", "5e-324", "is not a number"},
        {"context", "1", "out of range"},
        {"seed", "-1", "out of range"},
        {"seed", "99999999999999999999", "out of range"},
        {"dropout", "1", "1 is out of range; allowed: a number from 0 and below 1"},
        {"steps", "0", "\"0\" cannot be read"},
        {"steps", "50%", "cannot be read"},
        {"steps", "rest", "cannot be read"},
        {"stride", "101%", "cannot be read"},
        {"stride", "0%", "cannot be read"},
        {"stride", "%", "cannot be read"},
        {"stride", "tokens:5", "cannot be read"},
        {"history", "100%", "cannot be read"},
        {"history", "tokens:100%", "cannot be read"},
        {"history", "tokens:100", "cannot be read"},
        {"history", "rest", "cannot be read"},
        {"horizon", "50%", "cannot be read"},
        {"horizon", "tokens:", "cannot be read"},
        {"alpha", "ranks", "cannot be read"},
        {"alpha", "0", "out of range"},
        {"alpha", "-2rank", "out of range"},
        {"warmup", "10%+20%", "cannot be read"},
        {"warmup", "-1", "cannot be read"},
        {"warmup", "10%+", "cannot be read"},
        {"series", "best:3", "cannot be read"},
        {"series", "worst:3+worst:4", "cannot be read"},
        {"series", "0", "cannot be read"},
        {"series", "all+3", "cannot be read"},
        {"narrow", "5", "cannot be read"},
        {"narrow", "5/15/2", "cannot be read"},
        {"narrow", "0/15", "cannot be read"},
        {"targets", "q_proj+x_proj", "\"x_proj\" is not a choice here; allowed: q_proj, k_proj, "},
        {"targets", "q_proj+q_proj", "q_proj is there twice"},
        {"targets", "none", "\"none\" is not a choice"},
        {"targets", "q_proj,v_proj", "is not a choice"},
        {"loss_on", "train", "is not a choice"},
        {"loss_on", "", "the value is missing"},
        {"head", "Frozen", "allowed: frozen | bias | weight"},
        {"shuffle", "true", "\"true\" is neither yes nor no; allowed: yes | no"},
        {"top_p", "1.5", "out of range"},
        {"top_k", "0", "out of range"},
        {"decimals", "7", "out of range"},
        {"from_adapter", "a\"b", "a value cannot hold a double quote"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct settings settings = {0}, before = {0};
        struct lvs_error err = {.text = ""};
        const struct config_key *key = config_key_find_setting(cases[i].key);
        assert_non_null(key);
        if (settings_set(&settings, key, cases[i].value, &err) != LVS_USAGE || !strstr(err.text, cases[i].words))
            fail_msg("%s = %s: \"%s\" lacks \"%s\"", cases[i].key, cases[i].value, err.text, cases[i].words);
        assert_non_null(strstr(err.text, "; allowed: "));
        assert_memory_equal(&settings, &before, sizeof settings);
    }
}

static void equal_values_have_equal_text(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *text;
    } cases[] = {
        {"learning_rate", "0.0001", "1e-4"},
        {"learning_rate", "1e-4", "1e-4"},
        {"learning_rate", "1.0E-04", "1e-4"},
        {"learning_rate", "+.00005", "5e-5"},
        {"learning_rate", "0.05", "0.05"},
        {"learning_rate", "0.001", "0.001"},
        {"learning_rate", "1.25e-3", "0.00125"},
        {"learning_rate", "0.1", "0.1"},
        {"learning_rate", "0.30000000000000004", "0.30000000000000004"},
        {"learning_rate", "3", "3"},
        {"learning_rate", "3e-308", "3e-308"},
        {"onecycle_final_div", "10000", "1e4"},
        {"onecycle_final_div", "1000", "1000"},
        {"onecycle_final_div", "123456789", "123456789"},
        {"onecycle_div", "25.0", "25"},
        {"weight_decay", "-0", "0"},
        {"rank", "008", "8"},
        {"rank", "1e1", "10"},
        {"seed", "9000000000000000", "9000000000000000"},
        {"steps", "6e2", "600"},
        {"steps", "fill", "fill"},
        {"stride", "50.0%", "50%"},
        {"stride", "100%", "100%"},
        {"stride", "256", "256"},
        {"history", "50", "50"},
        {"history", "33.3%", "33.3%"},
        {"history", "tokens:70%", "tokens:70%"},
        {"horizon", "rest", "rest"},
        {"horizon", "20", "20"},
        {"horizon", "tokens:100", "tokens:100"},
        {"alpha", "rank", "rank"},
        {"alpha", "1rank", "rank"},
        {"alpha", "2 rank", "2rank"},
        {"alpha", "0.5rank", "0.5rank"},
        {"alpha", "16.0", "16"},
        {"warmup", "0", "0"},
        {"warmup", "0%", "0"},
        {"warmup", "10%+0", "0"},
        {"warmup", "10%", "10%"},
        {"warmup", "100", "100"},
        {"warmup", "100+10%", "10%+100"},
        {"series", "all", "all"},
        {"series", "10", "10"},
        {"series", "random:5+worst:20", "worst:20+random:5"},
        {"narrow", "none", "none"},
        {"narrow", "5 / 15", "5/15"},
        {"targets", "v_proj + q_proj", "q_proj+v_proj"},
        {"loss_on", "none", "none"},
        {"loss_on", "test+validation", "validation+test"},
        {"clip_norm", "none", "none"},
        {"clip_norm", "1.0", "1"},
        {"every", "500", "500"},
        {"every", "none", "none"},
        {"top_k", "none", "none"},
        {"shuffle", "no", "no"},
        {"from_adapter", "best", "best"},
        {"baselines", "mean+untrained", "untrained+mean"},
        {"decimals", "3", "3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct settings settings = {0};
        struct lvs_error err = {.text = ""};
        struct strbuf text;
        strbuf_init(&text);
        const struct config_key *key = config_key_find_setting(cases[i].key);
        if (settings_set(&settings, key, cases[i].value, &err) != LVS_OK) fail_msg("%s", err.text);
        settings_get(&settings, key, &text);
        assert_string_equal(text.text, cases[i].text);
        strbuf_free(&text);
    }
}

static enum lvs_status set(struct settings *settings, const char *key, const char *value) {
    return settings_set(settings, config_key_find_setting(key), value, NULL);
}

static void values_land_in_their_members(void **state) {
    (void)state;
    struct settings s = {0};
    assert_int_equal(set(&s, "rank", "4"), LVS_OK);
    assert_int_equal(s.lora_rank, 4);
    set(&s, "targets", "q_proj+down_proj");
    assert_int_equal(s.lora_targets, 1u << LORA_TARGET_Q | 1u << LORA_TARGET_DOWN);
    set(&s, "alpha", "2rank");
    assert_true(s.alpha_times_rank == 1 && s.alpha_value == 2);
    assert_true(settings_lora_scale(&s) == 2);
    set(&s, "alpha", "16");
    assert_true(s.alpha_times_rank == 0 && s.alpha_value == 16);
    assert_true(settings_lora_scale(&s) == 4);
    set(&s, "warmup", "10%+100");
    assert_true(s.warmup_percent == 10 && s.warmup_steps == 100);
    set(&s, "warmup", "100");
    assert_true(s.warmup_percent < 0 && s.warmup_steps == 100);
    set(&s, "steps", "fill");
    assert_true(s.steps.unit == AMOUNT_FILL && s.steps.value == 0);
    set(&s, "stride", "256");
    assert_true(s.stride.unit == AMOUNT_TOKENS && s.stride.value == 256);
    set(&s, "history", "tokens:70%");
    assert_true(s.history.unit == AMOUNT_TOKENS_PERCENT && s.history.value == 70);
    set(&s, "history", "50");
    assert_true(s.history.unit == AMOUNT_POINTS && s.history.value == 50);
    set(&s, "horizon", "tokens:100");
    assert_true(s.horizon.unit == AMOUNT_TOKENS && s.horizon.value == 100);
    set(&s, "loss_on", "test");
    assert_int_equal(s.loss_on, 1u << SPLIT_TEST);
    set(&s, "series", "worst:20+random:5");
    assert_true(s.series.first == 0 && s.series.worst == 20 && s.series.random == 5);
    set(&s, "narrow", "5/15");
    assert_true(s.narrow_first == 5 && s.narrow_then == 15);
    set(&s, "seed", "5000000000");
    assert_true(s.seed == 5000000000);
    set(&s, "from_adapter", "some/folder");
    assert_string_equal(s.from_adapter, "some/folder");
    set(&s, "from_adapter", "best"); /* nothing of the longer text stays: settings are compared as bytes */
    for (size_t i = strlen("best"); i < sizeof s.from_adapter; i++)
        assert_int_equal(s.from_adapter[i], 0);
}

static void only_settings_are_found(void **state) {
    (void)state;
    assert_null(config_key_find_setting("flops"));
    assert_null(config_key_find_setting("from"));
    assert_null(config_key_find_setting("lora_rank"));
    assert_null(config_key_find_setting(""));
    assert_string_equal(config_key_section(config_key_find_setting("rank")), "lora");
    assert_string_equal(config_key_section(config_key_find_setting("decimals")), "data");
    assert_string_equal(config_key_name(config_key_find_setting("learning_rate")), "learning_rate");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(equal_values_have_equal_text),
        cmocka_unit_test(values_land_in_their_members),
        cmocka_unit_test(only_settings_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
