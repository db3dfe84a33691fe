/* Subcommands: one file each (src/cli/cmd_<name>.c), one row each in the table of command.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct command {
    const char *name;                  /* "plan" */
    const char *summary;               /* one line of `lvsweep --help` */
    const char *help;                  /* what `lvsweep plan --help` prints: fits a screen */
    bool parallel;                     /* every rank runs it, under MPI */
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand; returns the exit code */
};

/* The subcommand of the command line, with argc and argv moved to it; `lvsweep grid.ini` means `lvsweep run grid.ini`.
 * NULL after it printed what was wrong. --help and --version are subcommands of their own here. */
const struct command *command_pick(int *argc, char ***argv);
const struct command *command_find(const char *name); /* NULL = none */
const struct command *command_at(size_t index);       /* NULL past the last */
