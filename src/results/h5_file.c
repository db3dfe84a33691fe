/* OUTPUT/results.h5, by one process or by all ranks. Both build the same file aside: rank 0 creates every dataset,
 * scale, attribute and text serially; then the rows are written, by itself or by all ranks collectively; then the file
 * is renamed. Invariant: a reader sees the old file or the whole new one. The only file of this module with MPI. */
#include "h5_file_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <mpi.h>
#include <xxhash.h>

#include "lvsweep/fault.h"
#include "lvsweep/log.h"

void results_prepare_hdf5(void) {
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
}

void results_libraries(char *out, size_t capacity) {
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(out, capacity, "HDF5 %u.%u.%u, Jansson %s, xxHash %u.%u.%u", major, minor, release, JANSSON_VERSION,
             XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE);
}

/* ---- one process ---- */

static enum lvs_status aside_path(const struct results *results, char path[LVS_PATH_MAX], char aside[LVS_PATH_MAX + 32],
                                  struct lvs_error *err) {
    LVS_TRY(file_join(path, results->output, RESULTS_FILE, err));
    snprintf(aside, LVS_PATH_MAX + 32, "%s.tmp.%ld", path, (long)getpid());
    return LVS_OK;
}

static struct writer writer_make(const char *path, const struct results *results, const struct file_plan *plan,
                                 struct lvs_error *err) {
    struct writer w = {.path = path, .results = results, .plan = plan, .err = err, .string = h5_text_type()};
    for (int i = 0; i < AXIS_COUNT; i++)
        w.scales[i] = H5I_INVALID_HID;
    return w;
}

static void start_hdf5(void) {
    results_prepare_hdf5();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* Everything at `aside`; with `rows`, the rows too. */
static enum lvs_status file_build(const struct results *results, const struct file_plan *plan, const char *aside,
                                  bool rows, struct lvs_error *err) {
    struct writer w = writer_make(aside, results, plan, err);
    w.file = fault_fails("results_create") ? H5I_INVALID_HID : h5_create(aside);
    if (h5_check(&w, w.file >= 0, "create", "the file")) {
        h5_write_layout(&w);
        int32_t block = file_plan_block(plan, results->n_channel);
        struct row_range range = {.count = results->n_rows,
                                  .block = block,
                                  .rounds = h5_rounds(results->n_rows, block),
                                  .transfer = H5P_DEFAULT};
        if (rows) h5_write_rows(&w, &range, results->rows);
        h5_check(&w, !fault_fails("results_close") && H5Fflush(w.file, H5F_SCOPE_GLOBAL) >= 0, "flush", "the file");
        h5_check(&w, H5Fclose(w.file) >= 0, "close", "the file");
    }
    H5Tclose(w.string);
    return w.failed ? LVS_OUTPUT : LVS_OK;
}

enum lvs_status results_publish(const struct results *results, struct lvs_error *err) {
    char path[LVS_PATH_MAX], aside[LVS_PATH_MAX + 32];
    struct file_plan plan;
    LVS_TRY(aside_path(results, path, aside, err));
    start_hdf5();
    file_plan_make(results, &plan);
    enum lvs_status status = file_build(results, &plan, aside, true, err);
    file_plan_free(&plan);
    if (status == LVS_OK) status = file_publish(aside, path, err);
    if (status != LVS_OK) unlink(aside);
    return status;
}

/* ---- all ranks ---- */

/* What the other ranks need of rank 0; arrays of the plan follow. */
struct shared {
    char aside[LVS_PATH_MAX + 32];
    struct results results; /* without its pointers */
    struct file_plan plan;
    enum lvs_status status;
    struct lvs_error err;
};

/* A full disk is an error here, before any collective call. */
static enum lvs_status reserve_size(const char *path, struct lvs_error *err) {
    struct stat info;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        int reason = errno;
        if (fd >= 0) close(fd);
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot open: %s", path, strerror(reason));
    }
    int failed = info.st_size > 0 ? posix_fallocate(fd, 0, info.st_size) : 0;
    if (fault_fails("results_reserve")) failed = errno;
    if (failed == EOPNOTSUPP || failed == EINVAL) failed = 0; /* the file system cannot promise */
    close(fd);
    return failed ? lvs_fail(err, LVS_OUTPUT, "%s: %lld bytes cannot be reserved: %s", path, (long long)info.st_size,
                             strerror(failed))
                  : LVS_OK;
}

static void prepare_shared(const struct results *results, struct shared *out) {
    char path[LVS_PATH_MAX];
    memset(out, 0, sizeof *out);
    out->results = *results;
    out->status = aside_path(results, path, out->aside, &out->err);
    file_plan_make(results, &out->plan);
    if (out->status == LVS_OK) out->status = file_build(results, &out->plan, out->aside, false, &out->err);
    if (out->status == LVS_OK) out->status = reserve_size(out->aside, &out->err);
}

static void broadcast_plan(struct file_plan *plan, int rank, MPI_Comm comm) {
    if (rank > 0) {
        plan->series = lvs_malloc((size_t)plan->n_series * sizeof *plan->series + 1);
        plan->part = lvs_malloc((size_t)plan->n_series * sizeof *plan->part + 1);
        plan->time = lvs_malloc((size_t)plan->n_time * sizeof *plan->time + 1);
        plan->observed = NULL;
    }
    MPI_Bcast(plan->series, plan->n_series, MPI_INT64_T, 0, comm);
    MPI_Bcast(plan->part, plan->n_series, MPI_INT32_T, 0, comm);
    MPI_Bcast(plan->time, plan->n_time, MPI_DOUBLE, 0, comm);
}

static int32_t first_row(int32_t n_rows, int rank, int n_ranks) {
    return (int32_t)((int64_t)n_rows * rank / n_ranks);
}

/* Every rank's rows, in blocks by trial index. */
static struct result_row *scatter_rows(const struct results *results, int32_t n_rows, int rank, int n_ranks,
                                       MPI_Comm comm) {
    int *counts = lvs_malloc((size_t)n_ranks * sizeof *counts), *starts = lvs_malloc((size_t)n_ranks * sizeof *starts);
    for (int r = 0; r < n_ranks; r++) {
        starts[r] = first_row(n_rows, r, n_ranks);
        counts[r] = first_row(n_rows, r + 1, n_ranks) - starts[r];
    }
    MPI_Datatype row;
    MPI_Type_contiguous((int)sizeof(struct result_row), MPI_BYTE, &row);
    MPI_Type_commit(&row);
    struct result_row *mine = lvs_calloc((size_t)counts[rank] + 1, sizeof *mine);
    MPI_Scatterv(rank == 0 ? results->rows : NULL, counts, starts, row, mine, counts[rank], row, 0, comm);
    MPI_Type_free(&row);
    free(counts);
    free(starts);
    return mine;
}

static hid_t file_open_parallel(const char *path, MPI_Comm comm) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_mpio(access, comm, MPI_INFO_NULL);
    H5Pset_all_coll_metadata_ops(access, true);
    H5Pset_coll_metadata_write(access, true);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, access);
    H5Pclose(access);
    return file;
}

/* All ranks agree whether all of them are well. */
static bool all_well(bool well, MPI_Comm comm) {
    int mine = well, all = 0;
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, comm);
    return all != 0;
}

/* Writes this rank's rows; every collective call is made whatever failed. */
static bool write_together(const struct shared *shared, const struct result_row *rows, int rank, int n_ranks,
                           MPI_Comm comm, struct lvs_error *err) {
    struct writer w = writer_make(shared->aside, &shared->results, &shared->plan, err);
    int32_t n_rows = shared->results.n_rows, first = first_row(n_rows, rank, n_ranks);
    int32_t block = file_plan_block(&shared->plan, shared->results.n_channel), most = 0;
    for (int r = 0; r < n_ranks; r++) {
        int32_t count = first_row(n_rows, r + 1, n_ranks) - first_row(n_rows, r, n_ranks);
        if (count > most) most = count;
    }
    struct row_range range = {.first = first,
                              .count = first_row(n_rows, rank + 1, n_ranks) - first,
                              .block = block,
                              .rounds = h5_rounds(most, block),
                              .transfer = H5Pcreate(H5P_DATASET_XFER)};
    H5Pset_dxpl_mpio(range.transfer, H5FD_MPIO_COLLECTIVE);
    w.file = file_open_parallel(shared->aside, comm);
    bool refused = fault_fails("results_together");
    h5_check(&w, w.file >= 0 && !refused, "open together", "the file");
    if (all_well(!w.failed, comm)) {
        h5_write_rows(&w, &range, rows);
        h5_check(&w, H5Fflush(w.file, H5F_SCOPE_GLOBAL) >= 0, "flush", "the file");
        h5_check(&w, H5Fclose(w.file) >= 0, "close", "the file");
    } else if (w.file >= 0) {
        H5Fclose(w.file);
    }
    H5Pclose(range.transfer);
    H5Tclose(w.string);
    return !w.failed;
}

static enum lvs_status publish_together(struct shared *shared, const struct results *results, int rank, int n_ranks,
                                        MPI_Comm comm, struct lvs_error *err) {
    broadcast_plan(&shared->plan, rank, comm);
    struct result_row *rows = scatter_rows(results, shared->results.n_rows, rank, n_ranks, comm);
    struct lvs_error mine = {0};
    bool well = write_together(shared, rows, rank, n_ranks, comm, &mine);
    free(rows);
    if (!well) log_warning("%s", mine.text);
    if (!all_well(well, comm))
        return lvs_fail(err, LVS_OUTPUT, "%s: not written by all ranks together; the file written by one stands",
                        shared->aside);
    if (rank == 0) {
        char path[LVS_PATH_MAX], aside[LVS_PATH_MAX + 32];
        shared->status = aside_path(results, path, aside, &shared->err);
        if (shared->status == LVS_OK) shared->status = file_publish(shared->aside, path, &shared->err);
    }
    MPI_Bcast(&shared->status, (int)sizeof shared->status, MPI_BYTE, 0, comm);
    MPI_Bcast(&shared->err, (int)sizeof shared->err, MPI_BYTE, 0, comm);
    if (shared->status != LVS_OK && err) *err = shared->err;
    return shared->status;
}

enum lvs_status results_publish_parallel(const struct results *results, void *communicator, struct lvs_error *err) {
    MPI_Comm comm;
    int rank, n_ranks;
    MPI_Comm_dup(*(MPI_Comm *)communicator, &comm);
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &n_ranks);
    start_hdf5();
    struct shared *shared = lvs_calloc(1, sizeof *shared);
    if (rank == 0) prepare_shared(results, shared);
    struct file_plan kept = shared->plan;
    MPI_Bcast(shared, (int)sizeof *shared, MPI_BYTE, 0, comm);
    if (rank == 0) {
        shared->plan = kept;
    } else { /* pointers of another process */
        shared->results.rows = NULL;
        shared->results.baselines = NULL;
        shared->results.provenance = NULL;
        shared->results.config_given = shared->results.config_effective = NULL;
        shared->plan.series = NULL;
        shared->plan.part = NULL;
        shared->plan.time = shared->plan.observed = NULL;
    }
    enum lvs_status status = shared->status;
    if (status == LVS_OK)
        status = publish_together(shared, results, rank, n_ranks, comm, err);
    else if (err)
        *err = shared->err;
    if (rank == 0 && status != LVS_OK) unlink(shared->aside);
    file_plan_free(&shared->plan);
    free(shared);
    MPI_Comm_free(&comm);
    return status;
}
