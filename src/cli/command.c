/* The table of subcommands and the front door. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command_words.h"
#include "lvsweep/version.h"

static int run_help(int argc, char **argv);
static int run_version(int argc, char **argv);

static const struct command command_help = {.name = "help",
                                            .summary = "this text, or the help of one subcommand",
                                            .help = "lvsweep help [COMMAND]\n"
                                                    "lvsweep help --man > lvsweep.1    the manual page, for man -l\n",
                                            .run = run_help};
static const struct command command_version = {
    .name = "version", .summary = "version and commit", .help = "lvsweep version\n", .run = run_version};

static const struct command *const commands[] = {
    &command_run,        &command_plan,
    &command_check,      &command_evaluate,
    &command_export,     &command_best,
    &command_report,     &command_watch,
    &command_forecast,   &command_simulate,
    &command_import,     &command_describe,
    &command_flops,      &command_bench,
    &command_init,       &command_jobscript,
    &command_doctor,     &command_cite,
    &command_completion, &command_help,
    &command_version,    NULL,
};

const struct command *command_at(size_t index) {
    return index < sizeof commands / sizeof commands[0] ? commands[index] : NULL;
}

const struct command *command_find(const char *name) {
    for (size_t i = 0; commands[i]; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static int print_manual(void) {
    struct lvs_error err = {0};
    struct strbuf text;
    strbuf_init(&text);
    man_write(LVSWEEP_VERSION, &text);
    enum lvs_status status = cli_write(NULL, &text, &err);
    strbuf_free(&text);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

static int run_help(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--man") == 0) return print_manual();
    if (argc > 1 && strcmp(argv[1], "--help") == 0) argv[1] = "help";
    if (argc > 1) {
        const struct command *command = command_find(argv[1]);
        if (!command) return cli_usage(&command_help, "no subcommand is called %s", argv[1]);
        fputs(command->help, stdout);
        return LVS_OK;
    }
    puts("lvsweep: sweeps of LoRA fine-tuning under one FLOP budget, over MPI\n\n"
         "  mpirun -n 9 lvsweep grid.ini      run or resume a sweep\n"
         "  lvsweep grid.ini                  the same on this machine alone\n");
    for (size_t i = 0; commands[i]; i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    puts("\nlvsweep COMMAND --help says more. Exit codes: 0 done, 1 bug, 2 usage or\n"
         "configuration, 3 some trials failed, 4 the budget cannot hold the plan or its\n"
         "hours are used up, 5 model or data refused, 6 output not writable, 7 launch or\n"
         "environment, 75 interrupted and resumable.");
    return LVS_OK;
}

static int run_version(int argc, char **argv) {
    (void)argc, (void)argv;
    printf("lvsweep %s%s%s\n", LVSWEEP_VERSION, LVSWEEP_COMMIT[0] ? " " : "", LVSWEEP_COMMIT);
    return LVS_OK;
}

const struct command *command_pick(int *argc, char ***argv) {
    if (*argc < 2) return &command_help;
    const char *word = (*argv)[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) return *argc = 1, &command_help;
    if (strcmp(word, "--version") == 0) return &command_version;
    const struct command *command = command_find(word);
    if (command) {
        (*argc)--;
        (*argv)++;
        return command;
    }
    size_t length = strlen(word);
    bool looks_like_file =
        word[0] == '-' || strchr(word, '/') || (length > 4 && strcmp(word + length - 4, ".ini") == 0);
    if (looks_like_file || file_exists(word)) return &command_run;
    const char *names[sizeof commands / sizeof commands[0]] = {NULL};
    for (size_t i = 0; commands[i]; i++)
        names[i] = commands[i]->name;
    const char *near = suggest_word(word, names);
    fprintf(stderr, "lvsweep: no subcommand and no file is called %s; %s%s%slvsweep --help lists them\n", word,
            near ? "did you mean " : "", near ? near : "", near ? "? " : "");
    return NULL;
}

/* ---- shared by subcommands ---- */

int cli_fail(const struct lvs_error *err) {
    fprintf(stderr, "%s\n", err->text);
    return err->status < 100 ? (int)err->status : LVS_BUG;
}

int cli_usage(const struct command *command, const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "lvsweep %s: ", command->name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "; lvsweep %s --help\n", command->name);
    return LVS_USAGE;
}

static void complain_unknown(const struct command *command, const char *word, const struct option *options) {
    const char *names[64] = {NULL};
    char plain[64];
    for (size_t i = 0; options[i].name && i + 1 < sizeof names / sizeof names[0]; i++)
        names[i] = options[i].name;
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(word, "="), word);
    const char *near = strncmp(plain, "--", 2) == 0 ? suggest_word(plain + 2, names) : NULL;
    if (near)
        cli_usage(command, "unknown option %s; did you mean --%s?", word, near);
    else
        cli_usage(command, "unknown option %s", word);
}

int cli_next_option(const struct command *command, int argc, char **argv, const struct option *options, bool *done) {
    opterr = 0;
    *done = false;
    int option = getopt_long(argc, argv, ":o:", options, NULL);
    if (option == '?') {
        const char *word = optopt ? argv[optind - 1] : argv[optind - 1];
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            fputs(command->help, stdout);
            *done = true;
        } else {
            complain_unknown(command, word, options);
        }
    }
    if (option == ':') {
        cli_usage(command, "%s needs a value", argv[optind - 1]);
        option = '?';
    }
    return option;
}

void cli_sets_add(struct cli_sets *sets, const char *item) {
    sets->items = lvs_realloc(sets->items, (size_t)(sets->n + 1) * sizeof *sets->items);
    sets->items[sets->n++] = item;
}

bool cli_number(const struct command *command, const char *option, const char *text, double least, double most,
                double *out) {
    char *end;
    *out = strtod(text, &end);
    if (end != text && *end == '\0' && *out >= least && *out <= most) return true;
    cli_usage(command, "%s %s: expected a number from %g to %g", option, text, least, most);
    return false;
}

bool cli_integer(const struct command *command, const char *option, const char *text, int64_t least, int64_t most,
                 int64_t *out) {
    double number;
    if (!cli_number(command, option, text, (double)least, (double)most, &number)) return false;
    *out = (int64_t)number;
    if ((double)*out == number) return true;
    cli_usage(command, "%s %s: expected a whole number", option, text);
    return false;
}

enum lvs_status cli_write(const char *path, const struct strbuf *text, struct lvs_error *err) {
    if (path && strcmp(path, "-") != 0) return file_write_whole(path, text->text, text->length, err);
    if (fwrite(text->text, 1, text->length, stdout) == text->length && fflush(stdout) == 0) return LVS_OK;
    return lvs_fail(err, LVS_OUTPUT, "cannot write to standard output");
}

void cli_flops(__int128 flops, char out[64]) {
    char digits[48];
    int n = 0, used = 0;
    bool negative = flops < 0;
    if (negative) flops = -flops;
    do
        digits[n++] = (char)('0' + (int)(flops % 10));
    while ((flops /= 10) > 0);
    if (negative) out[used++] = '-';
    while (n > 0) {
        out[used++] = digits[--n];
        if (n > 0 && n % 3 == 0) out[used++] = ',';
    }
    out[used] = '\0';
}
