/* lvsweep doctor: what this machine, its MPI and its folders are, and what will go wrong; under mpirun and srun too. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "doctor_internal.h"
#include "lvsweep/version.h"

static int32_t problems;

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *format, ...) {
    va_list arguments;
    problems++;
    fputs("problem   ", stdout);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

static const char *text_of(const json_t *facts, const char *name) {
    const char *text = json_string_value(json_object_get(facts, name));
    return text ? text : "?";
}
static double number_of(const json_t *facts, const char *name) {
    return json_number_value(json_object_get(facts, name));
}
static double gib(double bytes) {
    return bytes / 1073741824.0;
}

/* ---- program and launch ---- */

static void print_program(void) {
    printf("program   lvsweep %s%s%s, %s\n", LVSWEEP_VERSION, LVSWEEP_COMMIT[0] ? " " : "", LVSWEEP_COMMIT,
           LVS_BUILT_WITH);
}

static const char *launcher(void) {
    if (getenv("OMPI_COMM_WORLD_SIZE")) return "mpirun (Open MPI)";
    if (getenv("SLURM_STEP_ID") && getenv("SLURM_PROCID")) return "srun";
    if (protocol_size() > 1) return "a process manager";
    return "no launcher: one process";
}

static void print_mpi(void) {
    char library[256];
    struct lvs_error err = {0};
    protocol_library(library, sizeof library);
    printf("mpi       %s; %d rank%s, started by %s\n", library, protocol_size(), protocol_size() == 1 ? "" : "s",
           launcher());
    if (sweep_check_launch(&err) != LVS_OK) complain("%s", err.text);
    if (getuid() == 0 && !(getenv("OMPI_ALLOW_RUN_AS_ROOT") && getenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")))
        printf(
            "          root: Open MPI's mpirun wants OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1\n");
}

static void print_libraries(void) {
    json_t *list = doctor_libraries(), *path;
    size_t i;
    int32_t n_mpi = 0;
    const char *locking = getenv("HDF5_USE_FILE_LOCKING");
    json_array_foreach(list, i, path) {
        const char *text = json_string_value(path);
        n_mpi += strstr(text, "/libmpi.so") != NULL || strstr(text, "/libmpich") != NULL;
        printf("%s%s\n", i == 0 ? "libraries " : "          ", text);
    }
    if (n_mpi > 1) complain("two MPI libraries are loaded: HDF5 was built with another MPI than lvsweep");
    printf("hdf5      file locking %s\n", locking ? locking : "as the library decides");
    json_decref(list);
}

static void print_slurm(void) {
    static const char *const names[] = {"SLURM_JOB_ID",        "SLURM_NNODES",       "SLURM_NTASKS",
                                        "SLURM_CPUS_PER_TASK", "SLURM_GPUS",         "SLURM_GPUS_ON_NODE",
                                        "SLURM_JOB_END_TIME",  "SLURM_RESTART_COUNT"};
    if (!getenv("SLURM_JOB_ID")) return;
    printf("slurm    ");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (getenv(names[i])) printf(" %s=%s", names[i], getenv(names[i]));
    putchar('\n');
}

/* ---- hosts ---- */

static void print_gpus(const json_t *facts, int32_t n_ranks) {
    json_t *list = json_object_get(facts, "gpus"), *gpu;
    size_t i;
    json_array_foreach(list, i, gpu) {
        if (json_object_get(gpu, "error"))
            complain("%s: GPU %d cannot be opened: %s", text_of(facts, "host"), (int)number_of(gpu, "index"),
                     text_of(gpu, "error"));
        else
            printf("          GPU %d: %s, %.1f of %.1f GiB free, %s\n", (int)number_of(gpu, "index"),
                   text_of(gpu, "name"), gib(number_of(gpu, "memory_free")), gib(number_of(gpu, "memory")),
                   text_of(gpu, "driver"));
    }
    int32_t n = (int32_t)json_array_size(list);
    if (n == 0) printf("          no GPU: %s\n", text_of(facts, "gpu_error"));
    if (n > 0 && n_ranks > n + 1)
        complain("%s: %d ranks for %d GPUs: at most %d (one more with a coordinator of its own), or [run] "
                 "oversubscribe_gpu = yes",
                 text_of(facts, "host"), n_ranks, n, n + 1);
}

static int32_t ranks_on(const json_t *all, const char *host) {
    json_t *facts;
    size_t i;
    int32_t n = 0;
    json_array_foreach(all, i, facts) n += strcmp(text_of(facts, "host"), host) == 0;
    return n;
}

static void print_host(const json_t *all, const json_t *facts) {
    const char *host = text_of(facts, "host");
    int32_t n = ranks_on(all, host);
    double limit = number_of(facts, "memory_limit");
    printf("host      %s: %d rank%s, %d core%s each to run on, %.1f of %.1f GiB free", host, n, n == 1 ? "" : "s",
           (int)number_of(facts, "cores"), number_of(facts, "cores") == 1 ? "" : "s",
           gib(number_of(facts, "memory_available")), gib(number_of(facts, "memory")));
    if (limit > 0) printf(", limited to %.1f GiB", gib(limit));
    putchar('\n');
    print_gpus(facts, n);
}

/* Facts with `gpus` come from the first rank of each node. */
static void print_hosts(const json_t *all) {
    json_t *facts;
    size_t i;
    json_array_foreach(all, i, facts) if (json_object_get(facts, "gpus")) print_host(all, facts);
}

/* ---- the folder ---- */

static const char *file_system(const char *folder) {
    static const struct {
        unsigned long type;
        const char *name;
    } known[] = {{0x6969, "NFS"},       {0x0BD00BD0, "Lustre"}, {0xEF53, "ext4"},        {0x58465342, "XFS"},
                 {0x9123683E, "btrfs"}, {0x01021994, "tmpfs"},  {0x794C7630, "overlay"}, {0x47504653, "GPFS"},
                 {0xFE534D42, "SMB"},   {0x65735546, "FUSE"},   {0x19830326, "BeeGFS"},  {0x00C36400, "Ceph"}};
    struct statfs info;
    if (statfs(folder, &info) != 0) return "unknown file system";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((unsigned long)info.f_type == known[i].type) return known[i].name;
    return "another file system";
}

static void print_missing(const json_t *all, const char *folder) {
    json_t *facts;
    size_t i;
    for (int rank = 0; rank < protocol_size(); rank++) {
        bool came = false;
        json_array_foreach(all, i, facts) came = came || (int)number_of(facts, "rank") == rank;
        if (!came)
            complain("rank %d does not see %s as rank 0 does: the output folder must be shared by all nodes", rank,
                     folder);
    }
}

static void print_folder(const char *folder, const json_t *all) {
    struct statvfs space;
    printf("folder    %s: %s", folder, file_system(folder));
    if (statvfs(folder, &space) == 0) printf(", %.1f GiB free", gib((double)space.f_bavail * (double)space.f_frsize));
    printf("; %zu of %d ranks share it\n", json_array_size(all), protocol_size());
    print_missing(all, folder);
}

/* ---- the command ---- */

/* Collective. */
static void examine(const char *folder) {
    int32_t index, count;
    struct lvs_error err = {0};
    json_t *all = NULL;
    const bool leads = protocol_rank() == 0;
    bool same = protocol_same_text(LVSWEEP_VERSION " " LVSWEEP_COMMIT);
    protocol_local(true, &index, &count);
    json_t *facts = doctor_facts(index == 0);
    enum lvs_status status = doctor_meet(folder, facts, &all, &err);
    if (leads) {
        if (!same) complain("the ranks run different versions of lvsweep; install one on all nodes");
        if (status != LVS_OK) complain("%s", err.text);
        if (all) print_hosts(all);
        if (all) print_folder(folder, all);
    }
    struct lvs_error why = {0};
    bool together = doctor_write_together(folder, &why) == LVS_OK;
    if (leads && together) printf("results   results.h5 can be written by all ranks together\n");
    if (leads && !together)
        printf("results   results.h5 is written by one process here: %s\n", why.text[0] ? why.text : "no reason given");
    json_decref(all);
    json_decref(facts);
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"folder", required_argument, NULL, 'f'}, {0}};
    const char *folder = ".";
    bool done;
    for (int option; (option = cli_next_option(&command_doctor, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        folder = optarg;
    }
    if (optind != argc) return cli_usage(&command_doctor, "%s: only options are taken", argv[optind]);
    if (protocol_rank() == 0) {
        print_program();
        print_mpi();
        print_libraries();
        print_slurm();
    }
    examine(folder);
    if (protocol_rank() != 0) return LVS_OK;
    if (problems == 0) printf("no problem found\n");
    return problems == 0 ? LVS_OK : LVS_LAUNCH;
}

const struct command command_doctor = {
    .name = "doctor",
    .summary = "MPI, cores, memory, GPUs, HDF5, shared folder; under mpirun, srun",
    .help = "lvsweep doctor [--folder DIR]\n"
            "mpirun -n RANKS lvsweep doctor\n"
            "srun --mpi=pmix lvsweep doctor\n\n"
            "Start it exactly as the sweep will be started, from the folder that will hold\n"
            "the output (or --folder). It says which MPI and HDF5 are loaded, whether the\n"
            "ranks have found each other, what each node has, which GPUs can be opened,\n"
            "whether all ranks share the folder (each must read there what rank 0 wrote),\n"
            "and whether results.h5 can be written by all of them together. Problems come\n"
            "with their cure; exit code 7.\n",
    .parallel = true,
    .run = run,
};
