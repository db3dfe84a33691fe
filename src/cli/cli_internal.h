/* What subcommands share: option parsing, the way errors end them, and loading a sweep's configuration. */
#pragma once
#include <getopt.h>

#include "lvsweep/cli.h"
#include "lvsweep/sweep.h"

extern const struct command command_run, command_plan, command_flops, command_simulate, command_init, command_export,
    command_best, command_report, command_watch, command_bench, command_describe, command_import, command_forecast,
    command_check, command_evaluate, command_doctor, command_jobscript, command_cite, command_completion;

/* Prints the error and returns its exit code. */
int cli_fail(const struct lvs_error *err);
/* Prints `lvsweep NAME: …`, a pointer to --help, and returns LVS_USAGE. */
int cli_usage(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* getopt_long that knows --help (prints, *done = true) and complains in our words (returns '?'). */
int cli_next_option(const struct command *command, int argc, char **argv, const struct option *options, bool *done);

/* --set options in order. */
struct cli_sets {
    const char **items;
    int32_t n;
};
void cli_sets_add(struct cli_sets *sets, const char *item);

/* Every key at its default, then the --set options; the caller destroys *out. */
enum lvs_status cli_default_config(const struct cli_sets *sets, struct config **out, struct lvs_error *err);
/* The configuration that an INI gives, or the default one for a data file. */
enum lvs_status cli_data_config(const char *path, const struct cli_sets *sets, struct config **out,
                                struct lvs_error *err);
/* The configuration of a sweep's last run, with its paths as that run saw them, and --set options. */
enum lvs_status cli_stored_config(const struct results *results, const struct cli_sets *sets, struct config **out,
                                  struct lvs_error *err);
/* What describe.h says of a set under the configuration's scaling; describe_free it. */
struct description;
enum lvs_status cli_describe(const struct config *config, const struct series_set *set, int32_t kinds,
                             struct description *out, struct lvs_error *err);
/* Prints what a run of `config` would start after the runs that are known, and why (check_resume.c). */
enum lvs_status cli_resume_explain(const struct config *config, struct sweep_facts *facts, const struct results *known,
                                   struct lvs_error *err);
const char *cli_provenance(const struct results *results, const char *name); /* NULL = not noted */
bool cli_has_suffix(const char *text, const char *suffix);

/* Strict numbers for options: false after a message. */
bool cli_number(const struct command *command, const char *option, const char *text, double least, double most,
                double *out);
bool cli_integer(const struct command *command, const char *option, const char *text, int64_t least, int64_t most,
                 int64_t *out);
/* Writes to `path`, or to standard output for NULL and "-". */
enum lvs_status cli_write(const char *path, const struct strbuf *text, struct lvs_error *err);
/* "12,345,678" */
void cli_flops(__int128 flops, char out[64]);
