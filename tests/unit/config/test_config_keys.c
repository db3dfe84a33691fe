/* The table itself: every row is complete, its type fits its member, its default parses and is written in its own
 * normal form, and names are unique where they are hashed or looked up without a section. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/config/config_internal.h"

static void *base_for(const struct config_key *key, struct config *config, struct config_stage *stage) {
    return key->base == KEY_BASE_STAGE ? (void *)stage : key_base_of(key, config);
}

static void rows_are_complete(void **state) {
    (void)state;
    for (int i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        assert_non_null(key->initial);
        assert_non_null(key->help);
        assert_true(strlen(key->help) > 10 && key->help[strlen(key->help) - 1] == '.');
        assert_true(key->effect == KEY_EFFECT_TRAIN || key->effect == KEY_EFFECT_EVALUATE ||
                    key->effect == KEY_EFFECT_NONE);
        if (key->type->size) assert_int_equal(key->type->size, key->size);
        if (key->type == &type_choice || key->type == &type_choice_text || key->type == &type_flags)
            assert_non_null(key->choices);
        struct strbuf allowed;
        strbuf_init(&allowed);
        key_allowed(key, &allowed);
        assert_true(allowed.length > 3);
        strbuf_free(&allowed);
    }
}

static void sections_stand_together(void **state) {
    (void)state;
    for (int i = 0; i < config_key_count; i++)
        for (int j = i + 1; j < config_key_count; j++) {
            bool same = strcmp(config_keys[i].section, config_keys[j].section) == 0;
            if (same) assert_string_not_equal(config_keys[i].name, config_keys[j].name);
            if (same) assert_string_equal(config_keys[j - 1].section, config_keys[j].section);
        }
}

static void hashed_names_are_unique(void **state) {
    (void)state;
    for (int i = 0; i < config_key_count; i++)
        for (int j = i + 1; j < config_key_count; j++) {
            const struct config_key *a = &config_keys[i], *b = &config_keys[j];
            bool looked_up = a->base != KEY_BASE_CONFIG && b->base != KEY_BASE_CONFIG;
            bool hashed = a->effect != KEY_EFFECT_NONE && b->effect != KEY_EFFECT_NONE;
            if (looked_up || hashed) assert_string_not_equal(a->name, b->name);
        }
}

/* Parses `text`, writes it, parses that, writes again: both writings are equal. */
static void check_normal_form(const struct config_key *key, const char *text) {
    struct config *config = lvs_calloc(1, sizeof *config);
    struct config_stage *stage = lvs_calloc(1, sizeof *stage);
    struct lvs_error err = {.text = ""};
    struct strbuf once, twice;
    strbuf_init(&once);
    strbuf_init(&twice);
    strbuf_add(&once, "");
    strbuf_add(&twice, "");
    lvs_copy(config->folder, sizeof config->folder, ".");
    void *base = base_for(key, config, stage);
    if (key_parse(key, base, text, &err) != LVS_OK) fail_msg("[%s] %s: %s", key->section, key->name, err.text);
    key->type->format(key, base, &once);
    if (key_parse(key, base, once.text, &err) != LVS_OK) fail_msg("[%s] %s: %s", key->section, key->name, err.text);
    key->type->format(key, base, &twice);
    assert_string_equal(once.text, twice.text);
    strbuf_free(&once);
    strbuf_free(&twice);
    free(stage);
    free(config);
}

static void defaults_have_a_normal_form(void **state) {
    (void)state;
    for (int i = 0; i < config_key_count; i++)
        check_normal_form(&config_keys[i], config_keys[i].initial);
}

static void first_choice_is_the_default(void **state) {
    (void)state;
    for (int i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        char first[64];
        if (key->type != &type_choice && key->type != &type_choice_text) continue;
        assert_true(word_at(key->choices, 0, first));
        assert_string_equal(first, key->initial);
    }
}

/* Choices are stored as their position, so the lists must follow the enums. */
static void choices_follow_the_enums(void **state) {
    (void)state;
    static const struct {
        const char *section, *name, *word;
        int value;
    } cases[] = {
        {"budget", "over", "stop", OVER_STOP},
        {"budget", "count", "training+evaluation", COUNT_TRAINING_EVALUATION},
        {"budget", "lost", "charge", LOST_CHARGE},
        {"data", "missing", "drop_series", MISSING_DROP_SERIES},
        {"data", "missing", "interpolate", MISSING_INTERPOLATE},
        {"data", "scale_over", "series_max", SCALE_SERIES_MAX},
        {"data", "scale_over", "series", SCALE_SERIES},
        {"data", "scale_over", "train", SCALE_TRAIN},
        {"data", "scale_points", "all", SCALE_POINTS_ALL},
        {"model", "vocabulary", "text", VOCABULARY_TEXT},
        {"lora", "head", "bias", HEAD_BIAS},
        {"lora", "head", "weight", HEAD_WEIGHT},
        {"lora", "init", "kaiming_uniform", LORA_INIT_KAIMING_UNIFORM},
        {"lora", "targets", "down_proj", LORA_TARGET_DOWN},
        {"lora", "targets", "gate_proj", LORA_TARGET_GATE},
        {"lora", "targets", "v_proj", LORA_TARGET_V},
        {"train", "optimizer", "adamw", OPTIMIZER_ADAMW},
        {"train", "schedule", "linear", SCHEDULE_LINEAR},
        {"train", "schedule", "cosine", SCHEDULE_COSINE},
        {"train", "schedule", "onecycle", SCHEDULE_ONECYCLE},
        {"train", "onecycle_anneal", "linear", ANNEAL_LINEAR},
        {"train", "padding", "right_counted", PADDING_RIGHT_COUNTED},
        {"train", "padding", "left_masked", PADDING_LEFT_MASKED},
        {"train", "padding", "drop", PADDING_DROP},
        {"evaluate", "keep", "best", KEEP_BEST},
        {"evaluate", "every_metric", "forecast", EVERY_METRIC_FORECAST},
        {"evaluate", "decoding", "sample", DECODING_SAMPLE},
        {"evaluate", "end", "never", END_NEVER},
        {"evaluate", "partial", "drop", PARTIAL_DROP},
        {"evaluate", "loss_on", "validation", SPLIT_VALIDATION},
        {"evaluate", "forecast_on", "test", SPLIT_TEST},
        {"evaluate", "baselines", "untrained", BASELINE_UNTRAINED},
        {"evaluate", "baselines", "mean", BASELINE_MEAN},
        {"stop", "rule", "halving", STOP_HALVING},
        {"stop", "rule", "median", STOP_MEDIAN},
        {"run", "runner", "fake", RUNNER_FAKE},
        {"run", "backend", "cuda", BACKEND_CUDA},
        {"run", "precision", "bf16", PRECISION_BF16},
        {"run", "coordinator", "own_rank", COORDINATOR_OWN_RANK},
        {"run", "coordinator", "shared", COORDINATOR_SHARED},
        {"run", "head_rows", "text", HEAD_ROWS_TEXT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct config_key *key = key_find(cases[i].section, cases[i].name);
        assert_non_null(key);
        assert_int_equal(word_index(key->choices, cases[i].word), cases[i].value);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_complete),           cmocka_unit_test(sections_stand_together),
        cmocka_unit_test(hashed_names_are_unique),     cmocka_unit_test(defaults_have_a_normal_form),
        cmocka_unit_test(first_choice_is_the_default), cmocka_unit_test(choices_follow_the_enums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
