/* Points of a stage in their stated order, and the names and keys of trials: what changes them and what must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lvsweep/grid.h"

#define BASE "[data]\nfile=d.h5\n[model]\npath=m\n[budget]\nflops=1e15\n"

static struct config *parse_in(const char *text, const char *folder) {
    struct config *config = NULL;
    struct lvs_error err = {.text = ""};
    struct config_source source = {.text = text, .path = "grid.ini", .folder = folder};
    if (config_parse(&source, &config, &err) != LVS_OK) fail_msg("%s", err.text);
    return config;
}

static struct config *parse(const char *text) {
    return parse_in(text, ".");
}

static void check_points(const struct config *config, int32_t stage, const struct settings *base,
                         const char *const *texts, int32_t count) {
    struct grid_points points;
    struct lvs_error err = {.text = ""};
    if (grid_stage_trials(config, stage, base, &points, &err) != LVS_OK) fail_msg("%s", err.text);
    assert_int_equal(points.n_points, count);
    for (int32_t i = 0; i < count; i++) {
        struct strbuf text;
        strbuf_init(&text);
        strbuf_add(&text, "");
        grid_point_text(&points, i, &text);
        assert_string_equal(text.text, texts[i]);
        strbuf_free(&text);
    }
    grid_points_free(&points);
}

static void empty_and_huge_grids_are_refused(void **state) {
    (void)state;
    struct grid_points points;
    struct lvs_error err = {.text = ""};
    struct config *config = parse(BASE "[stage.a]\nrank=2,4\nskip=rank=2|rank=4\n");
    assert_int_equal(grid_stage_trials(config, 0, NULL, &points, &err), LVS_USAGE);
    assert_string_equal(err.text, "[stage.a] skip leaves out every point (rank=2 | rank=4)");
    grid_points_free(&points);
    config_destroy(config);
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, BASE "[stage.a]\n");
    static const char *const keys[] = {"rank", "context", "batch", "every_horizon", "samples", "seed"};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        strbuf_printf(&text, "%s=", keys[k]);
        for (int v = 0; v < 20; v++)
            strbuf_printf(&text, "%s%d", v ? "," : "", v + 2);
        strbuf_add(&text, "\n");
    }
    strbuf_add(&text, "[evaluate]\ndecoding=sample\n");
    config = parse(text.text);
    assert_int_equal(grid_stage_trials(config, 0, NULL, &points, &err), LVS_USAGE);
    assert_string_equal(err.text, "[stage.a] has more than 1000000 points; split it, or give fewer values");
    grid_points_free(&points);
    config_destroy(config);
    strbuf_free(&text);
}

static void points_come_in_the_stated_order(void **state) {
    (void)state;
    struct config *config = parse(BASE "[stage.a]\nseed=0,1\nbatch=4\ncontext=128\ndecimals=2,3\nlearning_rate=1e-4\n"
                                       "rank=4,2\nskip=rank=2&seed=1&decimals=3\n");
    static const char *const texts[] = {
        "rank=4 decimals=2 seed=0", "rank=4 decimals=2 seed=1", "rank=4 decimals=3 seed=0", "rank=4 decimals=3 seed=1",
        "rank=2 decimals=2 seed=0", "rank=2 decimals=2 seed=1", "rank=2 decimals=3 seed=0"};
    check_points(config, 0, NULL, texts, 7);
    struct grid_points points;
    assert_int_equal(grid_stage_trials(config, 0, NULL, &points, NULL), LVS_OK);
    assert_true(points.settings[6].lora_rank == 2 && points.settings[6].decimals == 3 && points.settings[6].seed == 0);
    for (int32_t i = 0; i < points.n_points; i++)
        assert_true(points.settings[i].context == 128 && points.settings[i].batch == 4);
    grid_points_free(&points);
    config_destroy(config);
}

static void rank_rate_and_context_are_outermost(void **state) {
    (void)state;
    struct config *config =
        parse(BASE "[stage.a]\nalpha=rank,2rank\ncontext=128,512\nlearning_rate=1e-5,1e-4\nrank=2,4\n");
    struct grid_points points;
    assert_int_equal(grid_stage_trials(config, 0, NULL, &points, NULL), LVS_OK);
    assert_int_equal(points.n_points, 16);
    for (int32_t i = 0; i < 16; i++) {
        const struct settings *s = &points.settings[i];
        assert_int_equal(s->lora_rank, i < 8 ? 2 : 4);
        assert_true(s->learning_rate == ((i / 4) % 2 ? 1e-4 : 1e-5));
        assert_int_equal(s->context, (i / 2) % 2 ? 512 : 128);
        assert_true(s->alpha_value == i % 2 + 1);
    }
    grid_points_free(&points);
    config_destroy(config);
}

static void a_stage_without_axes_is_one_point(void **state) {
    (void)state;
    struct config *config = parse(BASE "[stage.a]\nsteps=5\n");
    static const char *const texts[] = {""};
    check_points(config, 0, NULL, texts, 1);
    config_destroy(config);
}

static void a_later_stage_builds_on_the_best(void **state) {
    (void)state;
    struct config *config = parse(BASE "[stage.a]\nrank=2,4\n[stage.b]\nfrom=best\ncontext=128,256\nfrom_adapter=best\n"
                                       "[stage.c]\nfrom=best\nsteps=6000\n");
    struct grid_points points;
    struct settings best = config->defaults;
    best.lora_rank = 4;
    best.learning_rate = 3e-4;
    assert_int_equal(grid_stage_trials(config, 1, &best, &points, NULL), LVS_OK);
    assert_int_equal(points.n_points, 2);
    for (int32_t i = 0; i < 2; i++) {
        assert_true(points.settings[i].lora_rank == 4 && points.settings[i].learning_rate == 3e-4);
        assert_string_equal(points.settings[i].from_adapter, "best");
    }
    best = points.settings[1];
    grid_points_free(&points);
    /* stage c keeps the context, but not the parent that stage b started from */
    assert_int_equal(grid_stage_trials(config, 2, &best, &points, NULL), LVS_OK);
    assert_true(points.settings[0].context == 256 && points.settings[0].steps.value == 6000);
    assert_string_equal(points.settings[0].from_adapter, "none");
    grid_points_free(&points);
    config_destroy(config);
}

/* ---- keys ---- */

static struct trial trial_of(const struct config *config, const struct trial_identity *identity) {
    struct trial trial;
    memset(&trial, 0, sizeof trial);
    trial.pack_width = 1;
    trial.settings = config->defaults;
    trial_keys_make(config, &trial, identity);
    return trial;
}

static const struct trial_identity identity = {
    .data_hash = "d0", .split_hash = "s0", .weights_hash = "w0", .backend = "cpu", .precision = "fp32"};

/* What a change of one line of the INI does to the two keys of its default trial. */
static void keys_change_with_what_they_name(void **state) {
    (void)state;
    static const struct {
        const char *line;
        bool train, evaluate;
    } cases[] = {
        {"[train]\nlearning_rate=2e-4\n", true, true},
        {"[train]\nlearning_rate=0.0001\n", false, false},
        {"[train]\nseed=1\n", true, true},
        {"[train]\nsteps=601\n", true, true},
        {"[lora]\nhead=bias\n", true, true},
        {"[evaluate]\nhorizon=20\n", false, true},
        {"[evaluate]\ndecoding=sample\ntemperature=0.9\n", false, true},
        {"[evaluate]\nhistory=40%\n", true, true}, /* scales the training text */
        {"[evaluate]\nbaselines=none\n", false, false},
        {"[run]\nthreads=3\nretries=0\ntime_limit=1h\n", false, false},
        {"[run]\nfake=x\n", false, false},
        {"[run]\nhead_rows=text\n", true, true},
        {"[sweep]\nname=other\noutput=elsewhere\n", false, false},
        {"[stop]\nmin_steps=5\n", false, false},
    };
    struct config *config = parse(BASE "[stage.a]\n");
    struct trial plain = trial_of(config, &identity);
    config_destroy(config);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct strbuf text;
        strbuf_init(&text);
        strbuf_printf(&text, BASE "[stage.a]\n%s", cases[i].line);
        config = parse(text.text);
        struct trial trial = trial_of(config, &identity);
        if ((strcmp(trial.train_key, plain.train_key) != 0) != cases[i].train) fail_msg("train_key: %s", cases[i].line);
        if ((strcmp(trial.eval_key, plain.eval_key) != 0) != cases[i].evaluate) fail_msg("eval_key: %s", cases[i].line);
        config_destroy(config);
        strbuf_free(&text);
    }
}

/* The same INI started from another folder, or from its effective text, is the same sweep. */
static void keys_do_not_see_folders(void **state) {
    (void)state;
    const char *text = BASE "[lora]\nfrom_adapter=ad\n[stage.a]\n";
    struct config *here = parse_in(text, "."), *there = parse_in(text, "/some/sweeps");
    struct trial a = trial_of(here, &identity), b = trial_of(there, &identity);
    assert_string_equal(a.train_key, b.train_key);
    assert_string_equal(a.eval_key, b.eval_key);
    config_destroy(here);
    config_destroy(there);
}

static void keys_see_the_identity(void **state) {
    (void)state;
    struct config *config = parse(BASE "[stage.a]\n");
    struct trial plain = trial_of(config, &identity), other;
    struct trial_identity changed[6];
    for (int i = 0; i < 6; i++)
        changed[i] = identity;
    changed[0].data_hash[0] = 'x';
    changed[1].split_hash[0] = 'x';
    changed[2].weights_hash[0] = 'x';
    strcpy(changed[3].parent_key, "p");
    strcpy(changed[4].backend, "cuda");
    strcpy(changed[5].precision, "bf16");
    for (int i = 0; i < 6; i++) {
        other = trial_of(config, &changed[i]);
        assert_string_not_equal(other.train_key, plain.train_key);
        assert_string_not_equal(other.eval_key, plain.eval_key);
    }
    other = plain;
    other.pack_width = 4;
    trial_keys_make(config, &other, &identity);
    assert_string_not_equal(other.train_key, plain.train_key);
    assert_int_equal(strlen(plain.train_key), 32);
    struct trial_identity ends = identity;
    strcpy(ends.ends, "7,9");
    other = trial_of(config, &ends);
    assert_string_equal(other.train_key, plain.train_key);
    assert_string_not_equal(other.eval_key, plain.eval_key);
    config_destroy(config);
}

static void the_hashed_text_can_be_read(void **state) {
    (void)state;
    struct config *config = parse(BASE "[stage.a]\n");
    struct trial trial = trial_of(config, &identity);
    struct strbuf text;
    char hash[LVS_HASH_TEXT];
    strbuf_init(&text);
    trial_key_text(config, &trial, &identity, false, &text);
    assert_ptr_equal(strstr(text.text, "numerics=1\ndata=d0\nsplit_rows=s0\nweights=w0\nbackend=cpu\nprecision=fp32\n"),
                     text.text);
    assert_non_null(strstr(text.text, "\nlearning_rate=1e-4\n"));
    hash_bytes(text.text, text.length, hash);
    assert_string_equal(hash, trial.train_key);
    strbuf_clear(&text);
    trial_key_text(config, &trial, &identity, true, &text);
    assert_ptr_equal(strstr(text.text, "train_key="), text.text);
    hash_bytes(text.text, text.length, hash);
    assert_string_equal(hash, trial.eval_key);
    strbuf_free(&text);
    config_destroy(config);
}

/* ---- names ---- */

static void check_name(const char *stages, const char *name) {
    struct strbuf text;
    strbuf_init(&text);
    strbuf_printf(&text, BASE "%s", stages);
    struct config *config = parse(text.text);
    struct trial trial = trial_of(config, &identity);
    lvs_copy(trial.train_key, sizeof trial.train_key, "8f3a2c00112233445566778899aabbcc");
    trial_name_make(config, &trial);
    assert_string_equal(trial.name, name);
    assert_true(strlen(trial.name) < LVS_NAME_MAX);
    config_destroy(config);
    strbuf_free(&text);
}

static void names_tell_the_axes(void **state) {
    (void)state;
    check_name("[stage.a]\n", "r8-lr1e-4-c512-s0-8f3a2c");
    check_name("[stage.a]\nrank=2,8\nsteps=30\n", "r8-lr1e-4-c512-s0-8f3a2c");
    check_name("[stage.a]\nrank=2,8\n[stage.b]\ndecimals=2,3\n", "r8-lr1e-4-c512-s0-d2-8f3a2c");
    check_name("[stage.a]\nseries=all,worst:20+random:5\nbatch=2,4\n[evaluate]\nseries=worst:20+random:5\n",
               "r8-lr1e-4-c512-s0-batch=4-series=worst_20+random_5-8f3a2c");
    check_name("[stage.a]\nfrom_adapter=none,x/y\n[lora]\nfrom_adapter=../a b/c\n",
               "r8-lr1e-4-c512-s0-from_adapter=.._a_b_c-8f3a2c");
}

/* Too many axes to name: cut, but trials that differ only in what is cut have names of their own. */
static void long_names_stay_apart(void **state) {
    (void)state;
    struct config *config = parse(BASE "[stage.a]\nbatch=2,4\nschedule=constant,linear\noptimizer=adam,adamw\n"
                                       "padding=drop,right_masked\ndropout=0,0.5\nwarmup=0,10\n");
    struct trial a = trial_of(config, &identity), b = a;
    settings_set(&b.settings, config_key_find_setting("warmup"), "10", NULL);
    lvs_copy(a.train_key, sizeof a.train_key, "8f3a2c00112233445566778899aabbcc");
    lvs_copy(b.train_key, sizeof b.train_key, "8f3a2c00112233445566778899aabbcc");
    trial_name_make(config, &a);
    trial_name_make(config, &b);
    assert_int_equal(strlen(a.name), LVS_NAME_MAX - 1);
    assert_string_not_equal(a.name, b.name);
    assert_string_equal(strrchr(a.name, '-'), "-8f3a2c");
    assert_memory_equal(a.name, "r8-lr1e-4-c512-s0-batch=4-dropout=0-optimizer=adam-padding=", 59);
    config_destroy(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_and_huge_grids_are_refused),
        cmocka_unit_test(points_come_in_the_stated_order),
        cmocka_unit_test(rank_rate_and_context_are_outermost),
        cmocka_unit_test(a_stage_without_axes_is_one_point),
        cmocka_unit_test(a_later_stage_builds_on_the_best),
        cmocka_unit_test(keys_change_with_what_they_name),
        cmocka_unit_test(keys_do_not_see_folders),
        cmocka_unit_test(keys_see_the_identity),
        cmocka_unit_test(the_hashed_text_can_be_read),
        cmocka_unit_test(names_tell_the_axes),
        cmocka_unit_test(long_names_stay_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
