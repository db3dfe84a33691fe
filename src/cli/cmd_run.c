/* lvsweep run: the sweep itself. */
#include <stdlib.h>

#include "cli_internal.h"

static int run(int argc, char **argv) {
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'}, {"set", required_argument, NULL, 's'},
        {"fresh", no_argument, NULL, 'f'},        {"retry-failed", no_argument, NULL, 'r'},
        {"rerun", required_argument, NULL, 'k'},  {"break-lock", no_argument, NULL, 'b'},
        {"in-process", no_argument, NULL, 'i'},   {0},
    };
    struct sweep_options wanted = {0};
    struct cli_sets sets = {0};
    bool done;
    for (int option; (option = cli_next_option(&command_run, argc, argv, options, &done)) != -1;) {
        switch (option) {
        case 'o':
            wanted.output = optarg;
            break;
        case 's':
            cli_sets_add(&sets, optarg);
            break;
        case 'f':
            wanted.fresh = true;
            break;
        case 'r':
            wanted.retry_failed = true;
            break;
        case 'k':
            wanted.rerun = optarg;
            break;
        case 'b':
            wanted.break_lock = true;
            break;
        case 'i':
            wanted.in_process = true;
            break;
        default:
            return done ? LVS_OK : LVS_USAGE;
        }
    }
    if (optind + 1 != argc) return cli_usage(&command_run, "give one INI file");
    wanted.ini = argv[optind];
    wanted.sets = sets.items;
    wanted.n_sets = sets.n;
    int code = (int)sweep_run(&wanted);
    free(sets.items);
    return code;
}

const struct command command_run = {
    .name = "run",
    .summary = "run or resume the sweep of an INI file (the word may be left out)",
    .help = "mpirun -n RANKS lvsweep [run] grid.ini [options]\n\n"
            "Runs the sweep, or resumes it: the same command again goes on where it\n"
            "stopped, and a finished sweep changes nothing. Rank 0 coordinates, the others\n"
            "train; without mpirun one process does both.\n\n"
            "  --output DIR          where everything goes (default: [sweep] output, else\n"
            "                        ./<ini name>.lvsweep)\n"
            "  --set SECTION.KEY=V   override a key of the INI; may be given several times\n"
            "  --fresh               rename the old output folder and start anew\n"
            "  --retry-failed        run failed and diverged trials again\n"
            "  --rerun KEY           run one trial again from nothing: its name, or its\n"
            "                        train_key's start; it is charged once more\n"
            "  --break-lock          take over an output folder whose lock is not ours\n"
            "  --in-process          no trainer process (for debuggers): a crash then ends\n"
            "                        the rank\n",
    .parallel = true,
    .run = run,
};
