/* Writes the same table by one process and by all ranks: h5_both FOLDER N_TRIALS makes FOLDER/serial.h5 and
 * FOLDER/parallel.h5; with a third argument only the parallel one. Run under mpirun; h5_both.sh compares the files. */
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi.h>

static int publish(const char *folder, int n_trials, bool both, int rank) {
    char path[LVS_PATH_MAX], serial[LVS_PATH_MAX], parallel[LVS_PATH_MAX];
    struct results results;
    struct lvs_error err = {0};
    MPI_Comm world = MPI_COMM_WORLD;
    enum lvs_status status = LVS_OK;
    if (rank == 0) {
        sample_results(&results, folder, n_trials);
        if (both) sample_files(&results);
        snprintf(path, sizeof path, "%.900s/" RESULTS_FILE, folder);
        snprintf(serial, sizeof serial, "%.900s/serial.h5", folder);
        snprintf(parallel, sizeof parallel, "%.900s/parallel.h5", folder);
        if (both) status = results_publish(&results, &err);
        if (both && status == LVS_OK) rename(path, serial);
    }
    MPI_Bcast(&status, (int)sizeof status, MPI_BYTE, 0, world);
    if (status == LVS_OK) status = results_publish_parallel(rank == 0 ? &results : NULL, &world, &err);
    if (status != LVS_OK) fprintf(stderr, "rank %d: %s\n", rank, err.text);
    if (rank == 0) {
        if (status == LVS_OK) rename(path, parallel);
        results_free(&results);
    }
    return status != LVS_OK;
}

int main(int argc, char **argv) {
    int rank;
    results_prepare_hdf5();
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    int failed = argc < 3 || publish(argv[1], atoi(argv[2]), argc == 3, rank);
    MPI_Finalize();
    return failed;
}
