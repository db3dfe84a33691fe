/* What is written parses back: effective INI, templates; and the text that keys hash holds what it must, no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lvsweep/config.h"

static struct config *parse_in(const char *text, const char *folder) {
    struct config *config = NULL;
    struct lvs_error err = {.text = ""};
    struct config_source source = {.text = text, .path = "sweeps/grid.ini", .folder = folder};
    if (config_parse(&source, &config, &err) != LVS_OK) fail_msg("%s", err.text);
    return config;
}

/* All that varies over the keys: stages, lists, amounts, quoting, splits. */
static const char *const examples[] = {
    "[data]\nfile=d.h5\n[model]\npath=m\n[stage.a]\n",
    "[data]\nfile=/abs/d.h5\nsplit=index:700/200/100\nscale_over=series_max\nscale_points=all\n[model]\npath=hf:a/b\n"
    "[lora]\nhead=bias\n[train]\npadding=right_counted\nseed=3\n[evaluate]\nloss_on=validation+test\nhistory=50\n"
    "[budget]\nflops=1e17\ncount=training+evaluation\nconvention=report_a\n"
    "[stage.search]\nrank=2,4,8\nlearning_rate=1e-5,5e-5,1e-4\nskip=rank=2&learning_rate=1e-5|rank=2&learning_rate=1e-"
    "4\n"
    "[stage.context]\nfrom=best\ncontext=128,512,768\n[stage.final]\nfrom=best\nsteps=6000\n",
    "[sweep]\nname=\" a;b \"\nmetric=val_mae\nstages=b+a\n[data]\nfile=../x/d.h5\nsplit=file:splits.json\nclip=12.5\n"
    "decimal_point=no\nnegative=refuse\nunits=g/m2+1\nvariables=prey+pre "
    "dator\n[model]\npath=~/m\nname=it's\n[budget]\nflops=1e17\n"
    "[lora]\nalpha=2rank\ndropout=0.05\ninit=kaiming_uniform\nfrom_adapter=\"ad/x#y\"\n[run]\ntime_limit=1:00:01\n"
    "fake=\"a # [b] \\\"\n[train]\noptimizer=adamw\nweight_decay=0.01\nclip_norm=1.0\nschedule=onecycle\n"
    "warmup=10%+100\nonecycle_final_div=100\nonecycle_anneal=linear\nstride=256\n[evaluate]\nevery=500\nkeep=best\n"
    "every_metric=forecast\nevery_series=random:20\ndecoding=sample\ntemperature=0.9\ntop_p=0.9\nsamples=32\n"
    "[stage.a]\nfrom=best\nsteps=fill\nshare=35\nfrom_adapter=best\n[stage.b]\ndecimals=2,3\nshare=50\nseries=all,"
    "worst:20+random:5\n"
    "warmup=0,10%+5\n",
};

static void written_configs_parse_back(void **state) {
    (void)state;
    static const char *const folders[] = {".", "sweeps", "/data/sweeps", "/abs"};
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++)
        for (size_t f = 0; f < sizeof folders / sizeof folders[0]; f++) {
            struct strbuf once, twice;
            strbuf_init(&once);
            strbuf_init(&twice);
            struct config *first = parse_in(examples[i], folders[f]);
            config_write(first, &once);
            struct config *second = parse_in(once.text, folders[f]);
            config_write(second, &twice);
            assert_string_equal(once.text, twice.text);
            assert_string_equal(first->data_file, second->data_file);
            assert_string_equal(first->model_path, second->model_path);
            assert_string_equal(first->output, second->output);
            assert_string_equal(first->split_file, second->split_file);
            assert_string_equal(first->name, second->name);
            assert_string_equal(first->fake, second->fake);
            assert_memory_equal(&first->defaults, &second->defaults, sizeof first->defaults);
            config_destroy(first);
            config_destroy(second);
            strbuf_free(&once);
            strbuf_free(&twice);
        }
}

static void every_rank_reads_the_same(void **state) {
    (void)state;
    struct strbuf texts[2];
    for (int i = 0; i < 2; i++) {
        struct config *config = parse_in(examples[2], "sweeps");
        strbuf_init(&texts[i]);
        config_write(config, &texts[i]);
        config_destroy(config);
    }
    assert_string_equal(texts[0].text, texts[1].text);
    strbuf_free(&texts[0]);
    strbuf_free(&texts[1]);
}

static void templates_parse(void **state) {
    (void)state;
    for (int every = 0; every < 2; every++) {
        struct strbuf text;
        strbuf_init(&text);
        config_write_template(every, &text);
        struct config *config = parse_in(text.text, ".");
        assert_int_equal(config->n_stages, 2);
        assert_string_equal(config->data_file, "data.h5");
        assert_true(config->flops_cap == 1e17);
        assert_int_equal(strstr(text.text, "\nhead_rows = all\n") != NULL, every);
        assert_int_equal(strstr(text.text, "\nskip = none\n") != NULL, every);
        config_destroy(config);
        strbuf_free(&text);
    }
}

/* With every key of the template at its default, the config is that of an INI that names none of them. */
static void the_full_template_holds_the_defaults(void **state) {
    (void)state;
    struct strbuf text, full, bare;
    strbuf_init(&text);
    strbuf_init(&full);
    strbuf_init(&bare);
    config_write_template(true, &text);
    struct config *a = parse_in(text.text, ".");
    struct config *b = parse_in("[budget]\nflops=1e17\n[data]\nfile=data.h5\n[model]\npath=model\n[stage.search]\n"
                                "rank=2,4,8\nlearning_rate=1e-5,5e-5,1e-4\n[stage.final]\nfrom=best\nsteps=6000\n",
                                ".");
    config_write(a, &full);
    config_write(b, &bare);
    assert_string_equal(full.text, bare.text);
    config_destroy(a);
    config_destroy(b);
    strbuf_free(&text);
    strbuf_free(&full);
    strbuf_free(&bare);
}

static void the_reference_names_every_key(void **state) {
    (void)state;
    static const char *const cells[] = {"### [sweep]", "### [stage.NAME]", "| `learning_rate` | `1e-4` | yes |",
                                        "| `flops` | `none` |  |", "frozen \\| bias \\| weight"};
    struct strbuf text;
    strbuf_init(&text);
    config_write_reference(&text);
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        assert_non_null(strstr(text.text, cells[i]));
    strbuf_free(&text);
}

/* ---- the text of keys ---- */

static char *effective(const struct config *config, unsigned effects) {
    struct strbuf text;
    strbuf_init(&text);
    config_write_effective(config, &config->defaults, effects, &text);
    return strbuf_take(&text);
}

static void check_lines(const char *section_lines, unsigned effects, const char *const *there,
                        const char *const *absent) {
    struct strbuf ini;
    strbuf_init(&ini);
    strbuf_printf(&ini, "[data]\nfile=d.h5\n%s[model]\npath=m\n[stage.a]\n", section_lines);
    struct config *config = parse_in(ini.text, ".");
    char *text = effective(config, effects);
    for (; *there; there++)
        if (!strstr(text, *there)) fail_msg("%s\nlacks %s", text, *there);
    for (; *absent; absent++)
        if (strstr(text, *absent)) fail_msg("%s\nhas %s", text, *absent);
    free(text);
    config_destroy(config);
    strbuf_free(&ini);
}

static void training_text_holds_what_changes_weights(void **state) {
    (void)state;
    static const char *const there[] = {"learning_rate=1e-4\n", "rank=8\n",      "seed=0\n",
                                        "decimals=2\n",         "keep=last\n",   "split=random:0.7/0.15/0.15\n",
                                        "vocabulary=full\n",    "runner=lora\n", NULL};
    static const char *const absent[] = {"samples=", "every=", "horizon=",     "file=",      "path=", "flops=",
                                         "threads=", "name=",  "temperature=", "baselines=", NULL};
    check_lines("", KEY_EFFECT_TRAIN, there, absent);
}

static void evaluation_text_holds_the_rest(void **state) {
    (void)state;
    static const char *const there[] = {"samples=1\n", "horizon=rest\n", "loss_on=validation\n", "every=none\n", NULL};
    static const char *const absent[] = {"learning_rate=", "rank=", "flops=", "keep=", NULL};
    check_lines("", KEY_EFFECT_EVALUATE, there, absent);
}

/* The history scales the training text unless all points do. */
static void history_follows_the_scale(void **state) {
    (void)state;
    static const char *const history[] = {"history=50%\n", NULL}, *const none[] = {NULL};
    check_lines("scale_points=history\n", KEY_EFFECT_TRAIN, history, none);
    check_lines("scale_points=history\n", KEY_EFFECT_EVALUATE, history, none);
    check_lines("scale_points=all\n", KEY_EFFECT_TRAIN, none, history);
    check_lines("scale_points=all\n", KEY_EFFECT_EVALUATE, history, none);
}

/* Which weights are kept depends on the evaluations that compare them. */
static void keep_best_hashes_its_evaluations(void **state) {
    (void)state;
    static const char *const there[] = {"every=50\n", "every_metric=loss\n", "decoding=greedy\n", "keep=best\n", NULL};
    static const char *const absent[] = {"loss_on=", "narrow=", "baselines=", NULL};
    check_lines("[evaluate]\nkeep=best\nevery=50\n", KEY_EFFECT_TRAIN, there, absent);
}

/* Sweeps that were run before a key existed keep their keys. */
static void later_keys_are_hashed_when_they_differ(void **state) {
    (void)state;
    static const char *const lines[] = {"", "end=never\npartial=drop\n"};
    for (int i = 0; i < 2; i++) {
        struct strbuf ini, hashed, effective_text;
        strbuf_init(&ini);
        strbuf_init(&hashed);
        strbuf_init(&effective_text);
        strbuf_printf(&ini, "[data]\nfile=d.h5\n[evaluate]\n%s[model]\npath=m\n[stage.a]\n", lines[i]);
        struct config *config = parse_in(ini.text, ".");
        config_write_hashed(config, &config->defaults, KEY_EFFECT_EVALUATE, &hashed);
        config_write_effective(config, &config->defaults, KEY_EFFECT_EVALUATE, &effective_text);
        assert_non_null(strstr(hashed.text, "constrained=no\n"));
        assert_int_equal(strstr(hashed.text, "end=never\n") != NULL, i == 1);
        assert_non_null(strstr(effective_text.text, i ? "\nend=never\n" : "\nend=stop\n"));
        assert_int_equal(strstr(hashed.text, "\npartial=") != NULL, i == 1);
        if (i == 0) assert_null(strstr(hashed.text, "\nend="));
        config_destroy(config);
        strbuf_free(&ini);
        strbuf_free(&hashed);
        strbuf_free(&effective_text);
    }
}

static void settings_alone_are_enough(void **state) {
    (void)state;
    struct config *config = parse_in(examples[0], ".");
    struct strbuf text;
    strbuf_init(&text);
    config_write_effective(NULL, &config->defaults, KEY_EFFECT_TRAIN, &text);
    assert_non_null(strstr(text.text, "rank=8\n"));
    assert_null(strstr(text.text, "split="));
    strbuf_free(&text);
    config_destroy(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_configs_parse_back),
        cmocka_unit_test(every_rank_reads_the_same),
        cmocka_unit_test(templates_parse),
        cmocka_unit_test(the_full_template_holds_the_defaults),
        cmocka_unit_test(the_reference_names_every_key),
        cmocka_unit_test(training_text_holds_what_changes_weights),
        cmocka_unit_test(evaluation_text_holds_the_rest),
        cmocka_unit_test(history_follows_the_scale),
        cmocka_unit_test(keep_best_hashes_its_evaluations),
        cmocka_unit_test(later_keys_are_hashed_when_they_differ),
        cmocka_unit_test(settings_alone_are_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
