/* lvsweep evaluate: further evaluations of a finished trial. The sweep's own machinery does it: the stored
 * configuration with one stage more, whose single point has the trial's settings and other [evaluate] keys, so that
 * its train_key is the trial's and its adapter is taken as it is. Whether that holds is asked of the coordinator before
 * anything starts: this subcommand never trains. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_adapter.h"

#define INI_FILE "evaluate.ini"

struct evaluation_request {
    const char *output, *trial;
    const struct cli_sets *sets;
};

/* ---- the stage ---- */

/* "evaluate", "evaluate2", … : the first name that the sweep does not have. */
static void stage_name(const struct config *config, char out[64]) {
    for (int32_t number = 1, taken = 1; taken; number++) {
        snprintf(out, 64, number == 1 ? "evaluate" : "evaluate%d", number);
        taken = 0;
        for (int32_t i = 0; i < config->n_stages; i++)
            taken |= strcmp(config->stages[i].name, out) == 0;
    }
}

/* "evaluate.samples=32" on top of the trial's settings. */
static enum lvs_status set_one(const char *set, struct settings *settings, struct lvs_error *err) {
    const char *equals = strchr(set, '=');
    char name[64];
    if (strncmp(set, "evaluate.", 9) != 0 || !equals || equals - set - 9 >= (ptrdiff_t)sizeof name)
        return lvs_fail(
            err, LVS_USAGE,
            "--set %s: only [evaluate] keys, as in --set evaluate.samples=32, and budget.flops, budget.hours, "
            "budget.gpu_hours",
            set);
    snprintf(name, sizeof name, "%.*s", (int)(equals - set - 9), set + 9);
    const struct config_key *key = config_key_find_setting(name);
    if (!key || strcmp(config_key_section(key), "evaluate") != 0)
        return lvs_fail(err, LVS_USAGE, "--set %s: [evaluate] has no key %s; lvsweep init --all lists them", set, name);
    if (strchr(equals, ','))
        return lvs_fail(err, LVS_USAGE, "--set %s: one value; run lvsweep evaluate once for each", set);
    if (settings_set(settings, key, equals + 1, err) != LVS_OK) return lvs_error_prefix(err, "--set %s", set);
    return LVS_OK;
}

/* An evaluation may need more than its sweep left. */
static bool is_budget(const char *set) {
    static const char *const caps[] = {"budget.flops=", "budget.hours=", "budget.gpu_hours="};
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++)
        if (strncmp(set, caps[i], strlen(caps[i])) == 0) return true;
    return false;
}

static bool is_given(const struct cli_sets *sets, const char *key) {
    for (int32_t i = 0; i < sets->n; i++)
        if (strncmp(sets->items[i], key, strlen(key)) == 0 && sets->items[i][strlen(key)] == '=') return true;
    return false;
}

static enum lvs_status change_settings(const struct evaluation_request *request, struct settings *settings,
                                       struct lvs_error *err) {
    for (int32_t i = 0; i < request->sets->n; i++)
        if (!is_budget(request->sets->items[i])) LVS_TRY(set_one(request->sets->items[i], settings, err));
    if (!is_given(request->sets, "evaluate.baselines")) settings->baselines = 0;
    return LVS_OK;
}

static enum lvs_status absolute_adapter(const struct config *config, struct settings *settings, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    const char *from = settings->from_adapter;
    if (!from[0] || strcmp(from, "none") == 0 || strcmp(from, "best") == 0) return LVS_OK;
    LVS_TRY(file_resolve(path, config->folder, from, err));
    if (strlen(path) >= sizeof settings->from_adapter)
        return lvs_fail(err, LVS_USAGE, "%s: the path is too long", path);
    lvs_copy(settings->from_adapter, sizeof settings->from_adapter, path);
    return LVS_OK;
}

/* ---- the INI ---- */

/* The keys in which the settings differ from the sweep's defaults, one a line. */
static void add_keys(const struct settings *defaults, const struct settings *settings, struct strbuf *out) {
    struct strbuf theirs, ours;
    strbuf_init(&theirs);
    strbuf_init(&ours);
    config_write_effective(NULL, defaults, KEY_EFFECT_TRAIN | KEY_EFFECT_EVALUATE, &theirs);
    config_write_effective(NULL, settings, KEY_EFFECT_TRAIN | KEY_EFFECT_EVALUATE, &ours);
    for (const char *key = ours.text; *key; key += strcspn(key, "\n"), key += *key == '\n') {
        const size_t name = strcspn(key, "="), length = strcspn(key, "\n");
        const char *same = theirs.text;
        while (*same && (strncmp(same, key, length) != 0 || (same[length] != '\n' && same[length] != '\0'))) {
            same += strcspn(same, "\n");
            same += *same == '\n';
        }
        if (!*same) strbuf_printf(out, "%.*s = %.*s\n", (int)name, key, (int)(length - name - 1), key + name + 1);
    }
    strbuf_free(&theirs);
    strbuf_free(&ours);
}

/* The stored configuration with absolute paths, [sweep] stages with one more name, and its section. The best of a sweep
 * is that of its last stage: the evaluation of another trial must not come there. */
static void write_ini(struct config *config, const char *stage, bool of_best, const struct settings *settings,
                      struct strbuf *out) {
    struct strbuf whole;
    strbuf_init(&whole);
    lvs_copy(config->folder, sizeof config->folder, ".");
    config_write(config, &whole);
    const char *line = strstr(whole.text, "\nstages = "), *names = line + strlen("\nstages = ");
    size_t length = strcspn(names, "\n");
    strbuf_add_bytes(out, whole.text, (size_t)(names - whole.text));
    if (of_best)
        strbuf_printf(out, "%.*s+%s", (int)length, names, stage);
    else
        strbuf_printf(out, "%s+%.*s", stage, (int)length, names);
    strbuf_add(out, names + length);
    strbuf_printf(out, "\n[stage.%s]\n", stage);
    add_keys(&config->defaults, settings, out);
    /* What the untrained model gives is no part of a trial's key; it was measured by the sweep. */
    if (settings->baselines == 0) strbuf_add(out, "baselines = none\n");
    strbuf_free(&whole);
}

/* ---- what the coordinator would do ---- */

struct forecast_of_run {
    int32_t n_run, n_train, n_cut; /* n_train: of n_run, those that would train */
    bool finished;
};

static enum lvs_status foresee(const struct config *config, struct sweep_facts *facts, const struct results *known,
                               struct forecast_of_run *out, struct lvs_error *err) {
    struct sweep_planner context = {.config = config, .facts = facts};
    const struct planner planner = sweep_planner_make(&context);
    const struct coordinator_event start = {.kind = EVENT_START};
    const struct coordinator_action *actions;
    struct coordinator *coordinator = NULL;
    struct coordinator_options options;
    int32_t n = 0;
    *out = (struct forecast_of_run){0};
    coordinator_options_make(config, facts, 1, &options);
    enum lvs_status status = coordinator_create(&options, &planner, &coordinator, err);
    coordinator_options_free(&options);
    if (status == LVS_OK) coordinator_add_results(coordinator, known);
    if (status == LVS_OK) status = coordinator_handle(coordinator, &start, &actions, &n, err);
    for (int32_t i = 0; status == LVS_OK && i < n; i++) {
        out->n_cut += actions[i].kind == ACTION_CUT;
        if (actions[i].kind != ACTION_ADMITTED) continue;
        out->n_run++;
        out->n_train += !coordinator_evaluate_only(coordinator, actions[i].trial);
    }
    if (status == LVS_OK) out->finished = coordinator_finished(coordinator);
    coordinator_destroy(coordinator);
    return status;
}

static enum lvs_status foresee_text(const char *path, const char *text, const struct results *known,
                                    struct forecast_of_run *out, struct lvs_error *err) {
    const struct config_source source = {.path = path, .text = text, .folder = "."};
    struct config *config = NULL;
    struct sweep_facts *facts = NULL;
    enum lvs_status status = config_parse(&source, &config, err);
    if (status == LVS_OK) lvs_copy(config->output, sizeof config->output, known->output);
    if (status == LVS_OK) status = sweep_facts_make(config, &facts, err);
    if (status == LVS_OK) status = foresee(config, facts, known, out, err);
    sweep_facts_destroy(facts);
    config_destroy(config);
    return status;
}

/* The sweep itself must be over, or it would go on here. */
static enum lvs_status check_finished(const struct config *config, const struct results *known, int32_t *n_cut,
                                      struct lvs_error *err) {
    struct sweep_facts *facts = NULL;
    struct forecast_of_run run;
    LVS_TRY(sweep_facts_make(config, &facts, err));
    enum lvs_status status = foresee(config, facts, known, &run, err);
    sweep_facts_destroy(facts);
    LVS_TRY(status);
    *n_cut = run.n_cut;
    if (run.finished) return LVS_OK;
    return lvs_fail(err, LVS_USAGE,
                    "%s: the sweep is not finished (%d trials to run, or its data or model have changed; lvsweep check "
                    "says more); finish it first",
                    known->output, run.n_run);
}

static enum lvs_status check_evaluation(const struct evaluation_request *request, const struct trial *trial,
                                        const struct forecast_of_run *run, int32_t n_cut, struct lvs_error *err) {
    if (run->n_cut > n_cut)
        return lvs_fail(
            err, LVS_BUDGET,
            "%s: the budget has no room for this evaluation ([budget] count = training+evaluation). Evaluate fewer "
            "series or samples, or give it more with --set budget.flops=…",
            request->output);
    if (run->n_train > 0)
        return lvs_fail(err, LVS_USAGE,
                        "%s cannot be evaluated so without training it again: one of the keys decides the training too "
                        "(history with scale_points = history, every with keep = best), or it started from another "
                        "trial's adapter",
                        trial->name);
    return LVS_OK;
}

/* ---- the command ---- */

/* *ini is written and to be run; stays "" when the evaluation is there already. */
static enum lvs_status prepare(const struct evaluation_request *request, const struct results *known,
                               struct config *config, char ini[LVS_PATH_MAX], struct lvs_error *err) {
    const struct trial *trial, *best;
    struct settings settings;
    struct forecast_of_run run;
    struct strbuf text;
    char stage[64];
    int32_t n_cut;
    LVS_TRY(cli_find_trial(known, request->trial, &trial, err));
    LVS_TRY(cli_find_trial(known, "best", &best, err));
    LVS_TRY(check_finished(config, known, &n_cut, err));
    settings = trial->settings;
    LVS_TRY(change_settings(request, &settings, err));
    LVS_TRY(absolute_adapter(config, &settings, err));
    stage_name(config, stage);
    strbuf_init(&text);
    write_ini(config, stage, strcmp(trial->name, best->name) == 0, &settings, &text);
    enum lvs_status status = foresee_text(INI_FILE, text.text, known, &run, err);
    if (status == LVS_OK) status = check_evaluation(request, trial, &run, n_cut, err);
    ini[0] = '\0';
    if (status == LVS_OK && run.n_run > 0) {
        status = file_join(ini, known->output, INI_FILE, err);
        if (status == LVS_OK) status = file_write_whole(ini, text.text, text.length, err);
    }
    strbuf_free(&text);
    return status;
}

static enum lvs_status open_and_prepare(const struct evaluation_request *request, char ini[LVS_PATH_MAX],
                                        struct lvs_error *err) {
    struct cli_sets budget = {0};
    struct config *config = NULL;
    struct results known;
    LVS_TRY(results_read(request->output, &known, err));
    for (int32_t i = 0; i < request->sets->n; i++)
        if (is_budget(request->sets->items[i])) cli_sets_add(&budget, request->sets->items[i]);
    enum lvs_status status = cli_stored_config(&known, &budget, &config, err);
    if (status == LVS_OK) status = prepare(request, &known, config, ini, err);
    free(budget.items);
    config_destroy(config);
    results_free(&known);
    return status;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {
        {"set", required_argument, NULL, 's'}, {"trial", required_argument, NULL, 't'}, {0}};
    struct cli_sets sets = {0};
    struct evaluation_request request = {.trial = "best", .sets = &sets};
    bool done;
    for (int option; (option = cli_next_option(&command_evaluate, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (option == 's') cli_sets_add(&sets, optarg);
        if (option == 't') request.trial = optarg;
    }
    if (optind + 1 != argc || sets.n == 0)
        return cli_usage(&command_evaluate, "give a sweep's folder and what to change: --set evaluate.samples=32");
    struct lvs_error err = {0};
    char ini[LVS_PATH_MAX];
    request.output = argv[optind];
    enum lvs_status status = open_and_prepare(&request, ini, &err);
    free(sets.items);
    if (status != LVS_OK) return cli_fail(&err);
    if (!ini[0]) {
        printf("%s: this evaluation is there already: nothing to do\n", request.output);
        return LVS_OK;
    }
    /* MPI and the trainer's helper start with the process, so the run is a process of its own. */
    char *const words[] = {"lvsweep", "run", ini, "--output", (char *)request.output, NULL};
    fflush(stdout);
    execv("/proc/self/exe", words);
    lvs_fail(&err, LVS_LAUNCH, "cannot start lvsweep run %s", ini);
    return cli_fail(&err);
}

const struct command command_evaluate = {
    .name = "evaluate",
    .summary = "evaluate a finished trial again, in other ways, without training",
    .help = "lvsweep evaluate DIR --set evaluate.KEY=VALUE ... [--trial best|NAME]\n\n"
            "Adds a row to the sweep: the trial's adapter as it is, under other [evaluate]\n"
            "keys, for example\n"
            "  --set evaluate.decoding=sample --set evaluate.samples=32\n"
            "  --set evaluate.forecast_on=test --set evaluate.series=all\n"
            "The sweep must be finished. The row belongs to a stage `evaluate` (then\n"
            "evaluate2, ...) of the same results.h5; what was measured before stays.\n"
            "Asking for the same again does nothing. Keys that would change the training\n"
            "are refused. The INI that was run is left as DIR/" INI_FILE ".\n"
            "What the evaluation costs must fit the budget; --set budget.flops=1.2e17 gives\n"
            "it more, --set budget.hours=3 more time where the sweep used its own up.\n",
    .run = run,
};
