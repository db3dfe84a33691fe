/* lvsweep check: is the INI right, is the output folder whole, and what would a resume do. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_internal.h"

int32_t check_problem(const char *format, ...) {
    va_list arguments;
    fflush(stdout);
    fputs("problem   ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return 1;
}

static int verdict(int32_t problems, enum lvs_status status) {
    if (problems == 0) {
        printf("no problem found\n");
        return LVS_OK;
    }
    printf("%d problem%s\n", problems, problems == 1 ? "" : "s");
    return status != LVS_OK ? (int)status : LVS_INPUT;
}

static bool has_journal(const char *output) {
    char path[LVS_PATH_MAX];
    struct lvs_error ignored;
    return file_join(path, output, RESULTS_JOURNAL, &ignored) == LVS_OK && file_exists(path);
}

/* ---- an INI ---- */

static int check_ini(const char *path, const struct cli_sets *sets, const char *output) {
    const struct config_source source = {
        .path = path, .sets = sets->items, .n_sets = sets->n, .check_files = true, .inspect = sweep_inspect_data};
    struct lvs_error err = {0};
    struct config *config = NULL;
    struct results known;
    if (config_parse(&source, &config, &err) != LVS_OK) return cli_fail(&err);
    enum lvs_status status = output ? file_resolve(config->output, ".", output, &err) : LVS_OK;
    results_init(&known, config->output);
    if (status == LVS_OK && has_journal(config->output)) status = results_read(config->output, &known, &err);
    if (status == LVS_OK) {
        printf("ini       %s: %d stage%s, output %s\n", path, config->n_stages, config->n_stages == 1 ? "" : "s",
               config->output);
        int32_t problems = check_resume(config, &known, &status);
        status = (enum lvs_status)verdict(problems, status);
    } else {
        status = (enum lvs_status)cli_fail(&err);
    }
    results_free(&known);
    config_destroy(config);
    return (int)status;
}

/* ---- an output folder ---- */

/* The configuration of the last run, for this folder wherever it lies now. */
static int32_t parse_stored(struct check *check) {
    const struct cli_sets none = {0};
    struct lvs_error err = {0};
    enum lvs_status status = cli_stored_config(&check->results, &none, &check->config, &err);
    return status == LVS_OK ? 0 : check_problem("%s", err.text);
}

static void print_state(const struct check *check) {
    static const char *const words[] = {"new", "running (or killed)", "interrupted", "finished"};
    char lock[LVS_PATH_MAX];
    struct lvs_error ignored;
    printf("sweep     %s: %s, %d trial%s, %s\n", check->output, check->results.name, check->results.n_rows,
           check->results.n_rows == 1 ? "" : "s", words[check->results.state]);
    if (file_join(lock, check->output, "lock", &ignored) == LVS_OK && file_exists(lock))
        printf("lock      %s is there: a run is at work, or was killed (the next one then takes it over)\n", lock);
}

static int check_folder(const char *output) {
    struct check check = {.output = output};
    struct lvs_error err = {0};
    enum lvs_status status = LVS_OK;
    if (results_read(output, &check.results, &err) != LVS_OK) {
        check_problem("%s", err.text);
        return (int)err.status;
    }
    print_state(&check);
    int32_t problems = parse_stored(&check);
    problems += check_ledger(&check);
    problems += check_files(&check);
    int32_t of_plan = check.config ? check_resume(check.config, &check.results, &status) : 0;
    /* Files that are damaged weigh more than a plan that the budget cuts. */
    int code = verdict(problems + of_plan, problems > 0 ? LVS_INPUT : status);
    config_destroy(check.config);
    results_free(&check.results);
    return code;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {
        {"set", required_argument, NULL, 's'}, {"output", required_argument, NULL, 'o'}, {0}};
    struct cli_sets sets = {0};
    const char *output = NULL;
    bool done;
    for (int option; (option = cli_next_option(&command_check, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (option == 's') cli_sets_add(&sets, optarg);
        if (option == 'o') output = optarg;
    }
    if (optind + 1 != argc) return cli_usage(&command_check, "give an INI file or a sweep's output folder");
    int code;
    if (!file_is_folder(argv[optind]))
        code = check_ini(argv[optind], &sets, output);
    else if (sets.n > 0 || output)
        code = cli_usage(&command_check, "--set and --output go with an INI file");
    else
        code = check_folder(argv[optind]);
    free(sets.items);
    return code;
}

const struct command command_check = {
    .name = "check",
    .summary = "validate an INI or an output folder; what a resume would do",
    .help = "lvsweep check grid.ini [--set SECTION.KEY=V] [--output DIR]\n"
            "lvsweep check DIR\n\n"
            "An INI: every key, the data file and the model; then what a run would start.\n"
            "A folder: every line of the journal by its checksum, all charges and\n"
            "reservations added up anew, curves, forecasts and adapters of finished trials\n"
            "read whole; then what a resume would do. For each trial to run: where it\n"
            "stopped, or in which keys it differs from the nearest one that is there.\n"
            "Nothing is written.\n\n"
            "Exit codes: 0 no problem; 2 the INI; 4 the budget cuts a whole stage, or its\n"
            "hours are used up; 5 damaged or missing files.\n",
    .run = run,
};
