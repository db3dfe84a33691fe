/* lvsweep: pick a subcommand; start and end MPI around those that need it. Start reading in docs/architecture.md. */
#include <mpi.h>
#include <stdio.h>

#include "lvsweep/cli.h"
#include "lvsweep/process.h"
#include "lvsweep/results.h"
#include "lvsweep/sweep.h"

/* MPI and CUDA must not exist when the helper forks, so that it can fork trainers later. */
static int run_parallel(const struct command *command, int argc, char **argv) {
    struct lvs_error err = {0};
    if (trainer_helper_start(&err) != LVS_OK) {
        fprintf(stderr, "%s\n", err.text);
        return (int)err.status;
    }
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    int code = command->run(argc, argv);
    MPI_Finalize();
    trainer_helper_end();
    return code;
}

int main(int argc, char **argv) {
    process_limit_spinning(argv);
    results_prepare_hdf5();
    const struct command *command = command_pick(&argc, &argv);
    if (!command) return LVS_USAGE;
    return command->parallel ? run_parallel(command, argc, argv) : command->run(argc, argv);
}
