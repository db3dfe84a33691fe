/* Whole INIs, bad ones first: each mistake gives its line, section, key and way out, and all come at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lvsweep/config.h"

/* Lines that make the rest of an INI valid. */
#define BASE "[data]\nfile=d.h5\n[model]\npath=m\n[budget]\nflops=1e15\n" /* 6 lines */
#define GOOD BASE "[stage.search]\nrank=2, 4\n"

static enum lvs_status parse(const char *text, struct config **out, struct lvs_error *err) {
    struct config_source source = {.text = text, .path = "grid.ini", .folder = "."};
    return config_parse(&source, out, err);
}

struct bad_case {
    const char *text, *words;
};

static void check_bad(const struct bad_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct config *config;
        struct lvs_error err = {.text = ""};
        if (parse(cases[i].text, &config, &err) != LVS_USAGE || !strstr(err.text, cases[i].words))
            fail_msg("%s\n---\n%s\n--- lacks ---\n%s", cases[i].text, err.text, cases[i].words);
        assert_null(config);
        assert_non_null(strstr(err.text, "nothing was started (exit 2)"));
    }
}

static void lines_that_iniparser_misreads(void **state) {
    (void)state;
    static const struct bad_case cases[] = {
        {"x=3\n" GOOD, "grid.ini:1: x stands before the first [section]"},
        {GOOD "context\n", "grid.ini:9: \"context\" is no key = value"},
        {GOOD "=3\n", "grid.ini:9: \"=3\" is no key = value"},
        {GOOD "[train\n", "grid.ini:9: \"[train\" is not a section"},
        {GOOD "[train] steps = 3\n", "grid.ini:9: \"[train] steps = 3\" is not a section"},
        {GOOD "context=128\ncontext=512\n", "grid.ini:10: [stage.search] context: key is there twice, first in line 9"},
        {GOOD "[data]\n", "grid.ini:9: [data]: section is there twice, first in line 1"},
        {GOOD "[run]\nfake=a;b\n", "grid.ini:10: [run] fake: ';' starts a comment, so of \"a;b\" only \"a\" would be"},
        {GOOD "[run]\nfake=a#b\n", "grid.ini:10: [run] fake: '#' starts a comment"},
        {GOOD "context = 128 ; 512\n", "grid.ini:9: [stage.search] context: ';' starts a comment"},
        {GOOD "[run]\nfake=\"abc\n", "grid.ini:10: [run] fake: the closing quote is missing"},
        {GOOD "[run]\nfake=\"abc\" d\n", "grid.ini:10: [run] fake: there is text after the closing quote"},
        {GOOD "[run]\nfake=abc\\\nthreads=3\n", "grid.ini:10: [run] fake: a line that ends in \\ would swallow"},
        {GOOD "Context=3\n", "grid.ini:9: [stage.search] Context: unknown key; did you mean context?"},
        {GOOD "steps=6\001\n", "grid.ini:9: control character 0x01"},
    };
    check_bad(cases, sizeof cases / sizeof cases[0]);
}

static void names_that_are_not_there(void **state) {
    (void)state;
    static const struct bad_case cases[] = {
        {GOOD "lr=1e-4\n", "grid.ini:9: [stage.search] lr: unknown key; did you mean learning_rate?"},
        {GOOD "r=1\n", "unknown key; did you mean rank?"},
        {GOOD "ctx=1\n", "unknown key; did you mean context?"},
        {GOOD "epochs=1\n", "unknown key; did you mean steps?"},
        {GOOD "learn=1\n", "unknown key; did you mean learning_rate?"},
        {GOOD "learnign_rate=1\n", "unknown key; did you mean learning_rate?"},
        {GOOD "flops=1\n", "unknown key; it belongs to [budget], where it holds for the whole sweep"},
        {GOOD "split=1\n", "unknown key; it belongs to [data], where it holds for the whole sweep"},
        {GOOD "[train]\nrank=1\n", "grid.ini:10: [train] rank: unknown key; it belongs to [lora]\n"},
        {GOOD "[train]\nlora_alpha=1\n", "grid.ini:10: [train] lora_alpha: unknown key; did you mean alpha of [lora]"},
        {GOOD "[stop]\nzzzzzz=1\n", "zzzzzz: unknown key; the keys are: rule, factor, min_steps, trend_skip"},
        {GOOD "[trian]\nsteps=3\n", "grid.ini:9: [trian]: unknown section; did you mean [train]?"},
        {GOOD "[Train]\nsteps=3\n", "grid.ini:9: [Train]: unknown section; did you mean [train]?"},
        {GOOD "[stages]\n", "grid.ini:9: [stages]: unknown section; a stage is written [stage.NAME]"},
        {GOOD "[stage]\n", "grid.ini:9: [stage]: unknown section; a stage is written [stage.NAME]"},
        {GOOD "[stage.Final]\n", "grid.ini:9: [stage.Final]: a stage's name is up to 63 of a-z"},
        {GOOD "[stage.]\n", "grid.ini:9: [stage.]: a stage's name"},
        {GOOD "[zzz]\n", "unknown section; sections are [sweep], [budget]"},
    };
    check_bad(cases, sizeof cases / sizeof cases[0]);
}

static void values_that_are_not_allowed(void **state) {
    (void)state;
    static const struct bad_case cases[] = {
        {GOOD "[run]\nthreads=0\n", "grid.ini:10: [run] threads: 0 is out of range; allowed: a whole number from 1 to"},
        {GOOD "[run]\ntime_limit=8x\n", "time_limit: \"8x\" is not a time; allowed: a time above 0"},
        {GOOD "[run]\ntime_limit=1:99:00\n", "time_limit: \"1:99:00\" is not a time"},
        {GOOD "[run]\ncheckpoint_every=0s\n", "checkpoint_every: 0s is out of range"},
        {"[data]\nfile=d\n[model]\npath=m\n[stage.a]\n[budget]\nflops=1.5\n", "flops: 1.5 is not a whole number"},
        {"[data]\nfile=d\n[model]\npath=m\n[stage.a]\n[budget]\nflops=1e19\n", "flops: 1e19 is out of range"},
        {"[data]\nfile=d\n[model]\npath=m\n[stage.a]\n[budget]\nconvention=a\n",
         "allowed: table1 | report_a | report_b"},
        {GOOD "[sweep]\nmetric=test_mae\n", "test_mae would choose by the test set"},
        {GOOD "[sweep]\nmetric=val_los\n", "\"val_los\" is no column to choose by; did you mean val_loss?"},
        {GOOD "[sweep]\nmetric=val_los\n", "allowed: val_loss, val_loss_masked, "},
        {GOOD "[sweep]\nmetric=val_crps.prey\n", "\"val_crps.prey\" is no column to choose by; did you mean val_crps?"},
        {GOOD "[sweep]\nmetric=val_r2_mean\n[evaluate]\nforecast_on=none\n", "val_r2_mean is not measured; set"},
        {GOOD "[sweep]\nmetric=val_mae.prey\n[evaluate]\nforecast_on=none\n", "val_mae.prey is not measured; set"},
        {GOOD "[sweep]\nmetric=val_crps\n", "val_crps needs several forecasts a series"},
        {GOOD "[sweep]\nmetric=val_mae\n[evaluate]\nforecast_on=none\n", "val_mae is not measured; set [evaluate]"},
        {GOOD "[evaluate]\nloss=no\n", "[sweep] metric: val_loss is not measured"},
        {GOOD "[sweep]\nstages=serch\n", "grid.ini:10: [sweep] stages: \"serch\" is no stage of this INI"},
        {GOOD "[sweep]\nstages=search+search\n", "\"search\" is there twice"},
        {GOOD "[train]\nseed=0, 1\n", "grid.ini:10: [train] seed: \"0, 1\" is a list; a list of grid values belongs"},
        {GOOD "context=128,,512\n", "grid.ini:9: [stage.search] context: the value is missing; allowed: a whole"},
        {GOOD "learning_rate=1e-5, 0.00001\n", "learning_rate: 0.00001 is there twice; keep one"},
        {GOOD "learning_rate=1e-5, fast\n", "learning_rate: \"fast\" is not a number; allowed: a number above 0"},
        {"[data]\nfile=d\nsplit=random:0.8/0.2/0.2\n[model]\npath=m\n[stage.a]\n",
         "grid.ini:3: [data] split: the shares 0.8/0.2/0.2 add up to more than 1; allowed: random:0.70/0.15/0.15"},
        {"[data]\nfile=d\nsplit=index:1/2\n[model]\npath=m\n[stage.a]\n", "\"1/2\" has fewer than three parts"},
        {"[data]\nfile=d\nsplit=index:1/2/3/4\n[model]\npath=m\n[stage.a]\n", "has more than three parts"},
        {"[data]\nfile=d\nsplit=index:0.5/2/3\n[model]\npath=m\n[stage.a]\n", "\"0.5\" is not a number of series"},
        {"[data]\nfile=d\nsplit=index:0/2/3\n[model]\npath=m\n[stage.a]\n", "the training set, is empty"},
        {"[data]\nfile=d\nsplit=time:0.5/-1/0.1\n[model]\npath=m\n[stage.a]\n", "\"-1\" is not a part of a split"},
        {"[data]\nfile=d\nsplit=file:\n[model]\npath=m\n[stage.a]\n", "names no file"},
        {"[data]\nfile=d\nsplit=some\n[model]\npath=m\n[stage.a]\n", "\"some\" cannot be read"},
        {"[data]\nfile=d\nvariables=a+a\n[model]\npath=m\n[stage.a]\n", "variables: a is there twice"},
        {"[data]\nfile=d\nvariables=a+b+\n[model]\npath=m\n[stage.a]\n", "an empty name"},
        {"[data]\nfile=d\nvariables=1+2+3+4+5+6+7+8+9\n[model]\npath=m\n[stage.a]\n", "more than 8 names"},
        {"[data]\nfile=d\nvariables=a+b\nunits=x+y+z\n[model]\npath=m\n[stage.a]\n", "3 units for 2 variables"},
    };
    check_bad(cases, sizeof cases / sizeof cases[0]);
}

static void keys_that_do_not_go_together(void **state) {
    (void)state;
    static const struct bad_case cases[] = {
        {"[model]\npath=m\n[stage.a]\n", "grid.ini: [data] file: is missing; the HDF5 file with the series"},
        {"[data]\nfile=d\n[model]\n[stage.a]\n", "grid.ini:3: [model] path: is missing"},
        {"[data]\nfile=\n[model]\npath=m\n[stage.a]\n", "grid.ini:2: [data] file: is missing"},
        {BASE, "grid.ini: there is no stage; write for example [stage.search]"},
        {BASE "[stage.a]\nfrom=best\n", "grid.ini:8: [stage.a] from: best needs an earlier stage"},
        {GOOD "[stage.b]\nshare=70\n[stage.c]\nshare=40\n", "share: the stages' shares add up to 110 %; at most 100"},
        {"[data]\nfile=d\n[model]\npath=m\n[stage.a]\nshare=70\n", "a share of the budget, and there is none"},
        {"[data]\nfile=d\n[model]\npath=m\n[stage.a]\nsteps=100, fill\n",
         "grid.ini:6: [stage.a] steps: fill spends a share of the budget, and there is none"},
        {GOOD "from_adapter=best\n",
         "grid.ini:9: [stage.search] from_adapter: best is the adapter of an earlier stage"},
        {GOOD "[lora]\nfrom_adapter=best\n", "grid.ini:10: [lora] from_adapter: best is the adapter"},
        {GOOD "[stage.b]\nfrom=best\nfrom_adapter=best\nrank=2, 8\n",
         "grid.ini:12: [stage.b] rank: from_adapter = best goes on with the best trial's adapter, which keeps its "
         "rank"},
        {GOOD "[stage.b]\nfrom=best\nfrom_adapter=none, best\nrank=200\n", "grid.ini:12: [stage.b] rank: from_adapter"},
        {GOOD "[stage.b]\nfrom=best\nfrom_adapter=best\n[stage.c]\nfrom=best\ntargets=q_proj\n",
         "grid.ini:14: [stage.c] targets: from_adapter = best goes on"},
        {GOOD "[lora]\nhead=weight\n[run]\npack=4\n", "grid.ini:10: [lora] head: weight trains the head itself"},
        {GOOD "[evaluate]\nsamples=8\n", "grid.ini:10: [evaluate] samples: 8 forecasts by decoding = greedy are all"},
        {GOOD "keep=last, best\n", "grid.ini:9: [stage.search] keep: best needs evaluations during training"},
        {GOOD "[evaluate]\nnarrow=5/15\nforecast_on=test\n", "narrow: narrowing forecasts validation series"},
        {GOOD "[evaluate]\nloss_on=none\n", "loss_on: none, but loss = yes"},
        {GOOD "[run]\nbackend=cpu\nprecision=bf16\n", "grid.ini:11: [run] precision: the CPU computes in fp32"},
        {GOOD "[stop]\nrule=halving\n[sweep]\nmetric=val_mae\n[evaluate]\nloss=no\n", "rule: trials are compared by"},
        {GOOD "skip=rank=3\n", "grid.ini:9: [stage.search] skip: rank=3 is no value of this stage; allowed: 2, 4"},
        {GOOD "skip=seed=3\n", "skip: seed is not set in this stage"},
        {GOOD "skip=rank\n", "skip: \"rank\" is no condition"},
        {GOOD "skip=rank=x\n", "skip: rank: \"x\" is not a number"},
        {GOOD "skip=rank=2 & | rank=4\n", "skip: \"\" is no condition"},
        {BASE "[stage.a]\nrank=x\nskip=rank=2\n",
         "rank: \"x\" is not a number; allowed: a whole number from 1 to 256\n1 error,"},
    };
    check_bad(cases, sizeof cases / sizeof cases[0]);
}

static void all_errors_come_at_once_and_in_order(void **state) {
    (void)state;
    struct config *config;
    struct lvs_error err;
    const char *text =
        "[data]\nfile = d.h5\n[model]\npath = m\n[stage.search]\nlr = 1\nrank = 0, 2, 999\n[train]\nsteps\n";
    assert_int_equal(parse(text, &config, &err), LVS_USAGE);
    assert_string_equal(err.text,
                        "grid.ini:6: [stage.search] lr: unknown key; did you mean learning_rate?\n"
                        "grid.ini:7: [stage.search] rank: 0 is out of range; allowed: a whole number from 1 to 256\n"
                        "grid.ini:7: [stage.search] rank: 999 is out of range; allowed: a whole number from 1 to 256\n"
                        "grid.ini:9: \"steps\" is no key = value\n"
                        "4 errors, nothing was started (exit 2)");
    assert_int_equal(parse("[data]\nfile=d\n[model]\npath=m\n[stage.a]\nlr=1\n", &config, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "\n1 error, nothing was started (exit 2)"));
}

static void make_errors(int count, struct strbuf *text, struct lvs_error *err) {
    struct config *config;
    strbuf_init(text);
    strbuf_add(text, GOOD "[train]\n");
    for (int i = 0; i < count; i++)
        strbuf_printf(text, "unknown_key_%d = 1\n", i);
    assert_int_equal(parse(text->text, &config, err), LVS_USAGE);
}

static void a_hundred_errors_come_at_once(void **state) {
    (void)state;
    struct strbuf text;
    struct lvs_error err;
    make_errors(100, &text, &err);
    int shown = 0, lists = 0;
    for (const char *c = err.text; (c = strstr(c, ": unknown key")); c++)
        shown++;
    for (const char *c = err.text; (c = strstr(c, "; the keys are: ")); c++)
        lists++;
    assert_int_equal(shown, 100);
    assert_int_equal(lists, 1);
    assert_null(strstr(err.text, "more"));
    strbuf_free(&text);
}

static void more_errors_than_fit_are_counted(void **state) {
    (void)state;
    struct strbuf text;
    struct lvs_error err;
    make_errors(400, &text, &err);
    assert_non_null(strstr(err.text, "grid.ini:10: [train] unknown_key_0: unknown key"));
    int shown = 0, more = 0;
    for (const char *c = err.text; (c = strstr(c, ": unknown key")); c++)
        shown++;
    const char *rest = strstr(err.text, "… and ");
    assert_non_null(rest);
    assert_int_equal(sscanf(rest, "… and %d more", &more), 1);
    assert_int_equal(shown + more, 400);
    assert_non_null(strstr(rest, "\n400 errors, nothing was started (exit 2)"));
    strbuf_free(&text);
}

static void long_lines_and_files(void **state) {
    (void)state;
    struct config *config;
    struct lvs_error err;
    char *text = malloc(70000);
    strcpy(text, GOOD "[run]\nfake=");
    size_t start = strlen(text);
    memset(text + start, 'x', 1100);
    text[start + 1100] = '\0';
    assert_int_equal(parse(text, &config, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "grid.ini:10: the line has 1105 characters; at most 1000 are read"));
    text[start + 900] = '\0';
    assert_int_equal(parse(text, &config, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "grid.ini:10: [run] fake: 900 characters are more than the 255 allowed"));
    strcpy(text + start, "y\n;");
    memset(text + start + 3, 'x', 5000); /* a comment may be as long as it likes, and may end in a backslash */
    strcpy(text + start + 5003, "\\\nthreads = 3\n");
    assert_int_equal(parse(text, &config, &err), LVS_OK);
    assert_int_equal(config->threads, 3);
    config_destroy(config);
    memset(text, '\n', 69999);
    text[69999] = '\0';
    assert_int_equal(parse(text, &config, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "grid.ini: 69999 bytes; an INI has at most 65536"));
    free(text);
}

/* ---- what is read ---- */

static void five_lines_are_enough(void **state) {
    (void)state;
    struct config *config;
    struct lvs_error err = {.text = ""};
    struct config_source source = {.text =
                                       "[data]\nfile = anomalies.h5\n[model]\npath = hf:Qwen/Qwen2.5-0.5B-Instruct\n"
                                       "[stage.search]\nlearning_rate = 1e-5, 1e-4\nrank = 2, 4, 8\n"
                                       "[budget]\nflops = 5e16\n",
                                   .path = "runs/grid.ini",
                                   .folder = "runs"};
    if (config_parse(&source, &config, &err) != LVS_OK) fail_msg("%s", err.text);
    assert_string_equal(config->name, "grid");
    assert_string_equal(config->output, "runs/grid.lvsweep");
    assert_string_equal(config->data_file, "runs/anomalies.h5");
    assert_string_equal(config->model_path, "hf:Qwen/Qwen2.5-0.5B-Instruct");
    assert_string_equal(config->convention, "table1");
    assert_string_equal(config->text, source.text);
    assert_true(config->flops_cap == 5e16);
    assert_true(config->split == SPLIT_RANDOM && config->split_parts[0] == 0.70 && config->split_parts[2] == 0.15);
    assert_true(config->defaults.context == 512 && config->defaults.batch == 4);
    assert_true(config->defaults.steps.unit == AMOUNT_COUNT && config->defaults.steps.value == 600);
    assert_int_equal(config->defaults.lora_targets, 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V);
    assert_int_equal(config->n_stages, 1);
    const struct config_stage *stage = &config->stages[0];
    assert_string_equal(stage->name, "search");
    assert_int_equal(stage->n_axes, 2);
    assert_string_equal(config_key_name(stage->axes[0].key), "rank"); /* before learning_rate, as enumerated */
    assert_int_equal(stage->axes[0].n_values, 3);
    assert_string_equal(stage->axes[0].values[2], "8");
    assert_string_equal(stage->axes[1].values[1], "1e-4");
    config_destroy(config);
}

static void comments_quotes_and_marks_are_understood(void **state) {
    (void)state;
    struct config *config;
    struct lvs_error err = {.text = ""};
    const char *text =
        "\xEF\xBB\xBF; first line\r\n[ data ] ; the data\r\n  file = \"a;b.h5\" ; quoted\r\n[model]\npath = 'm#1'\n"
        "# note \\\n[run]\nfake = a b # c\nthreads=\t7\t; see above\ntime_limit = 1:30:00\n"
        "checkpoint_every = 2m\n[sweep]\nname = \"\"\n[stage.only]\n";
    if (parse(text, &config, &err) != LVS_OK) fail_msg("%s", err.text);
    assert_string_equal(config->data_file, "a;b.h5");
    assert_string_equal(config->model_path, "m#1");
    assert_string_equal(config->fake, "a b");
    assert_int_equal(config->threads, 7);
    assert_true(config->time_limit == 5400 && config->checkpoint_every == 120);
    assert_string_equal(config->name, "grid");
    assert_true(config->n_stages == 1 && config->stages[0].n_axes == 0);
    config_destroy(config);
}

static void stages_keep_their_order(void **state) {
    (void)state;
    struct config *config;
    struct lvs_error err = {.text = ""};
    const char *stages =
        "[stage.final]\nfrom=best\nsteps=fill\nshare=35\n[stage.search]\nbatch=2,4\ncontext=128,512\n"
        "rank=4,2\nalpha=rank,2rank\nskip = context=128&rank=02 | alpha = 1rank\n[stage.extra]\nfrom=best\n";
    struct strbuf text;
    strbuf_init(&text);
    strbuf_printf(&text, "%s[sweep]\nstages = search, final\n%s", BASE, stages);
    if (parse(text.text, &config, &err) != LVS_OK) fail_msg("%s", err.text);
    assert_int_equal(config->n_stages, 2);
    assert_string_equal(config->stages[0].name, "search");
    assert_string_equal(config->stages[1].name, "final");
    assert_true(config->stages[1].from_best == 1 && config->stages[1].share == 35);
    static const char *const order[] = {"rank", "context", "alpha", "batch"};
    assert_int_equal(config->stages[0].n_axes, 4);
    for (int i = 0; i < 4; i++)
        assert_string_equal(config_key_name(config->stages[0].axes[i].key), order[i]);
    assert_string_equal(config->stages[0].axes[0].values[0], "4"); /* values stay as they were given */
    assert_string_equal(config->stages[0].skip, "context=128 & rank=2 | alpha=rank");
    config_destroy(config);
    strbuf_free(&text);
}

static void skip_leaves_points_out(void **state) {
    (void)state;
    struct config *config;
    struct lvs_error err = {.text = ""};
    if (parse(GOOD "learning_rate=1e-5,1e-4\nskip=rank=2 & learning_rate=0.00001 | rank=4&learning_rate=1e-4\n",
              &config, &err) != LVS_OK)
        fail_msg("%s", err.text);
    static const struct {
        int rank;
        double rate;
        bool skipped;
    } points[] = {{2, 1e-5, true}, {2, 1e-4, false}, {4, 1e-5, false}, {4, 1e-4, true}};
    for (int i = 0; i < 4; i++) {
        struct settings settings = config->defaults;
        settings.lora_rank = points[i].rank;
        settings.learning_rate = points[i].rate;
        assert_true(config_stage_skips(&config->stages[0], &settings) == points[i].skipped);
    }
    config_destroy(config);
}

/* ---- --set ---- */

static enum lvs_status parse_with(const char *text, const char *const *sets, int32_t n_sets, struct config **out,
                                  struct lvs_error *err) {
    struct config_source source = {.text = text, .path = "grid.ini", .folder = ".", .sets = sets, .n_sets = n_sets};
    return config_parse(&source, out, err);
}

static void sets_override_the_file(void **state) {
    (void)state;
    struct config *config;
    struct lvs_error err = {.text = ""};
    const char *const sets[] = {"stage.search.rank=8, 16",  "train.steps=10",   "train.steps = 20", "run.fake=a;b",
                                "stage.search.context=128", "budget.flops=2e15"};
    if (parse_with(GOOD, sets, 6, &config, &err) != LVS_OK) fail_msg("%s", err.text);
    assert_true(config->defaults.steps.value == 20 && config->flops_cap == 2e15);
    assert_string_equal(config->fake, "a;b");
    assert_int_equal(config->stages[0].n_axes, 2);
    assert_string_equal(config->stages[0].axes[0].values[1], "16");
    config_destroy(config);
}

static void bad_sets_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *set, *words;
    } cases[] = {
        {"steps=3", "--set steps=3: write it as section.key=value, for example train.steps=100"},
        {"train.steps", "--set train.steps: write it as section.key=value"},
        {"train.=3", "write it as section.key=value"},
        {"train.lr=3", "--set train.lr=3: [train] lr: unknown key; did you mean learning_rate?"},
        {"trian.steps=3", "--set trian.steps=3: [trian]: unknown section; did you mean [train]?"},
        {"stage.final.steps=3", "[stage.final]: no such stage; the INI has [stage.search]"},
        {"lora.rank=4",
         "--set lora.rank=4: [lora] rank: changes nothing, since every stage has a value of its own; write "
         "--set stage.search.rank=4"},
        {"train.steps=many", "--set train.steps=many: [train] steps: \"many\" cannot be read; allowed: a whole number"},
        {"run.fake=a\nb", "a value cannot hold a control character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *config;
        struct lvs_error err = {.text = ""};
        if (parse_with(GOOD, &cases[i].set, 1, &config, &err) != LVS_USAGE || !strstr(err.text, cases[i].words))
            fail_msg("%s lacks %s", err.text, cases[i].words);
    }
}

/* ---- files ---- */

static void missing_files_are_named(void **state) {
    (void)state;
    char folder[] = "/tmp/lvsweep-config-XXXXXX", path[256], model[256];
    struct config *config;
    struct lvs_error err = {.text = ""};
    const char *text =
        "[data]\nfile = d.h5\nsplit = file:parts.json\n[model]\npath = model\n[stage.a]\nfrom_adapter = none, ad\n";
    assert_non_null(mkdtemp(folder));
    struct config_source source = {.text = text, .path = "grid.ini", .folder = folder, .check_files = true};
    assert_int_equal(config_parse(&source, &config, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "grid.ini:2: [data] file: /tmp/lvsweep-config-"));
    assert_non_null(strstr(err.text, "/d.h5 does not exist; a relative path is seen from the INI's folder"));
    assert_non_null(strstr(err.text, "grid.ini:3: [data] split: "));
    assert_non_null(strstr(err.text, "grid.ini:5: [model] path: "));
    assert_non_null(strstr(err.text, "grid.ini:7: [stage.a] from_adapter: "));
    assert_non_null(strstr(err.text, "\n4 errors, "));
    source.check_files = false;
    assert_int_equal(config_parse(&source, &config, &err), LVS_OK);
    config_destroy(config);
    /* an INI read from disk; a folder where a file should be */
    snprintf(path, sizeof path, "%s/grid.ini", folder);
    snprintf(model, sizeof model, "%s/d.h5", folder);
    assert_int_equal(file_write_whole(path, GOOD, strlen(GOOD), &err), LVS_OK);
    assert_int_equal(mkdir(model, 0777), 0);
    source = (struct config_source){.path = path, .check_files = true};
    assert_int_equal(config_parse(&source, &config, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "/d.h5 is a folder, not a file"));
    rmdir(model);
    unlink(path);
    assert_int_equal(config_parse(&source, &config, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, "/grid.ini: cannot open: No such file"));
    assert_non_null(strstr(err.text, "\n1 error, nothing was started (exit 2)"));
    rmdir(folder);
}

static void nul_bytes_are_refused(void **state) {
    (void)state;
    char path[] = "/tmp/lvsweep-config-XXXXXX";
    static const char bytes[] = "[data]\nfile=d\0.h5\n";
    struct config *config;
    struct lvs_error err;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, sizeof bytes - 1), sizeof bytes - 1);
    close(fd);
    struct config_source source = {.path = path};
    assert_int_equal(config_parse(&source, &config, &err), LVS_USAGE);
    assert_non_null(strstr(err.text, ":2: a NUL byte; not a text file"));
    assert_non_null(strstr(err.text, "\n1 error, nothing was started")); /* what was not read is not missing */
    unlink(path);
}

static void the_fake_runner_needs_no_files(void **state) {
    (void)state;
    struct config *config;
    struct lvs_error err = {.text = ""};
    struct config_source source = {.text = "[run]\nrunner=fake\nfake=seconds:0.1\n[stage.a]\nrank=2,4\n",
                                   .check_files = true};
    if (config_parse(&source, &config, &err) != LVS_OK) fail_msg("%s", err.text);
    assert_string_equal(config->path, "-");
    assert_string_equal(config->name, "sweep");
    assert_string_equal(config->fake, "seconds:0.1");
    config_destroy(config);
    source.path = NULL;
    assert_int_equal(config_parse(&source, &config, NULL), LVS_OK); /* a caller may not want the words */
    config_destroy(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_that_iniparser_misreads),
        cmocka_unit_test(names_that_are_not_there),
        cmocka_unit_test(values_that_are_not_allowed),
        cmocka_unit_test(keys_that_do_not_go_together),
        cmocka_unit_test(all_errors_come_at_once_and_in_order),
        cmocka_unit_test(a_hundred_errors_come_at_once),
        cmocka_unit_test(more_errors_than_fit_are_counted),
        cmocka_unit_test(long_lines_and_files),
        cmocka_unit_test(five_lines_are_enough),
        cmocka_unit_test(comments_quotes_and_marks_are_understood),
        cmocka_unit_test(stages_keep_their_order),
        cmocka_unit_test(skip_leaves_points_out),
        cmocka_unit_test(sets_override_the_file),
        cmocka_unit_test(bad_sets_are_refused),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(nul_bytes_are_refused),
        cmocka_unit_test(the_fake_runner_needs_no_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
