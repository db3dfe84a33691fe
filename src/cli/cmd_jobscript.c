/* lvsweep jobscript: a batch script for a sweep, with the traps of schedulers taken care of: as jobscripts/ has them,
 * for other numbers of nodes and GPUs. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli_output.h"

struct job {
    const char *ini, *output, *time, *partition, *account, *name, *scheduler, *launcher;
    int64_t nodes, gpus, ranks, cores; /* a node; ranks is for gpus = 0 */
    bool force;
    bool heterogeneous; /* rank 0 is a job component of its own, without GPUs */
};

static const struct job initial_job = {.time = "8:00:00",
                                       .name = "lvsweep",
                                       .scheduler = "slurm",
                                       .launcher = "mpirun",
                                       .nodes = 1,
                                       .gpus = 8,
                                       .ranks = 4,
                                       .cores = 2};

/* One node has a task more: a coordinator of its own. On several, rank 0 works too, or its node would need one task
 * more than the others, which schedulers do not grant evenly. */
static int64_t tasks_per_node(const struct job *job) {
    if (job->gpus == 0) return job->ranks;
    return job->nodes == 1 && !job->heterogeneous ? job->gpus + 1 : job->gpus;
}

/* Rank 0 of a heterogeneous job may stand on a node without GPUs, where `auto` would choose the CPU for all. */
static const char *settings_of(const struct job *job) {
    if (job->gpus == 0) return " --set run.backend=cpu";
    if (job->heterogeneous) return " --set run.coordinator=own_rank --set run.backend=cuda";
    return job->nodes > 1 ? " --set run.coordinator=shared" : "";
}

static void add_run(const struct job *job, const char *ranks, struct strbuf *out) {
    if (job->heterogeneous)
        strbuf_add(out, "srun --mpi=pmix --het-group=0,1");
    else if (strcmp(job->launcher, "srun") == 0)
        strbuf_add(out, "srun --mpi=pmix");
    else
        strbuf_printf(out, "mpirun -n %s", ranks);
    strbuf_printf(out, " lvsweep \"$ini\"%s", settings_of(job));
}

static void add_cuda(const struct job *job, struct strbuf *out) {
    if (job->gpus == 0) return;
    strbuf_add(out, "# Numbered as nvidia-smi does, so that names in results.h5 are those of the machine.\n"
                    "export CUDA_DEVICE_ORDER=PCI_BUS_ID\n\n");
}

/* The first lines: the command that writes this script again, whole. */
static void add_origin(const struct job *job, struct strbuf *out) {
    const struct {
        const char *option, *word, *initial;
    } words[] = {{"partition", job->partition, NULL},
                 {"account", job->account, NULL},
                 {"name", job->name, initial_job.name},
                 {"scheduler", job->scheduler, initial_job.scheduler},
                 {"launcher", job->launcher, initial_job.launcher}};
    strbuf_printf(out, "#!/usr/bin/env bash\n# Written by: lvsweep jobscript %s --nodes %lld --gpus-per-node %lld",
                  job->ini, (long long)job->nodes, (long long)job->gpus);
    if (job->gpus == 0) strbuf_printf(out, " --ranks-per-node %lld", (long long)job->ranks);
    if (job->cores != initial_job.cores) strbuf_printf(out, " --cores-per-rank %lld", (long long)job->cores);
    strbuf_printf(out, " --time %s", job->time);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i].word && (!words[i].initial || strcmp(words[i].word, words[i].initial) != 0))
            strbuf_printf(out, " --%s %s", words[i].option, words[i].word);
    strbuf_add(out, job->heterogeneous ? " --heterogeneous\n" : "\n");
}

/* ---- SLURM ---- */

/* Nodes, tasks, cores, time and place: of the job, or of one component of a heterogeneous one. */
static void add_component(const struct job *job, int64_t nodes, int64_t tasks, int64_t gpus, struct strbuf *out) {
    strbuf_printf(out, "#SBATCH --nodes=%lld\n#SBATCH --ntasks-per-node=%lld\n", (long long)nodes, (long long)tasks);
    if (gpus > 0) strbuf_printf(out, "#SBATCH --gpus-per-node=%lld\n", (long long)gpus);
    strbuf_printf(out, "#SBATCH --cpus-per-task=%lld\n#SBATCH --time=%s\n", (long long)job->cores, job->time);
    if (job->partition) strbuf_printf(out, "#SBATCH --partition=%s\n", job->partition);
    if (job->account) strbuf_printf(out, "#SBATCH --account=%s\n", job->account);
}

static void add_slurm_head(const struct job *job, struct strbuf *out) {
    strbuf_printf(out, "#SBATCH --job-name=%s\n", job->name);
    if (job->heterogeneous) {
        add_component(job, 1, 1, 0, out);
    } else {
        add_component(job, job->nodes, tasks_per_node(job), job->gpus, out);
    }
    strbuf_add(out, "#SBATCH --signal=B:USR1@180\n#SBATCH --requeue\n#SBATCH --open-mode=append\n"
                    "#SBATCH --output=%x-%j.log\n");
    if (job->heterogeneous) {
        strbuf_add(out, "#SBATCH hetjob\n");
        add_component(job, job->nodes, tasks_per_node(job), job->gpus, out);
    }
    strbuf_add(out, "\n");
}

static void add_slurm(const struct job *job, struct strbuf *out) {
    add_origin(job, out);
    if (job->gpus > 0) strbuf_add(out, "# All tasks see all GPUs of their node and lvsweep hands them out.\n");
    add_slurm_head(job, out);
    strbuf_printf(out, "ini=%s\nmost_restarts=5\n\n", job->ini);
    strbuf_add(out, "# Load what lvsweep was built with, for example: module load openmpi hdf5 cuda\n\n");
    add_cuda(job, out);
    strbuf_add(out, "# The signal three minutes before the end reaches this shell, which passes it on: lvsweep writes "
                    "checkpoints and\n# exits with 75. A wait that the signal ended is begun again.\n"
                    "run=\"\" signalled=\"\"\ntrap 'signalled=1; [ -z \"$run\" ] || kill -USR1 \"$run\"' USR1\n");
    add_run(job, "\"$SLURM_NTASKS\"", out);
    strbuf_add(
        out, " & run=$!\nuntil wait $run; code=$?; [ -z \"$signalled\" ]; do signalled=\"\"; done\n\n"
             "# 0 and 2-7 are final (done, or a mistake that another start repeats); a lost node ends with 1 or 137, a "
             "stop with 75.\n"
             "case $code in 0 | 2 | 3 | 4 | 5 | 6 | 7) exit $code ;; esac\n"
             "if [ \"${SLURM_RESTART_COUNT:-0}\" -lt $most_restarts ]; then\n"
             "  echo \"lvsweep ended with $code: requeued (restart $((${SLURM_RESTART_COUNT:-0} + 1)) of "
             "$most_restarts)\"\n"
             "  scontrol requeue \"$SLURM_JOB_ID\"\nfi\nexit $code\n");
}

/* ---- PBS ---- */

/* "8:00:00" or "1-12:00:00" in seconds. */
static int64_t seconds_of(const char *time) {
    long long days = 0, hours = 0, minutes = 0, seconds = 0;
    if (sscanf(time, "%lld-%lld:%lld:%lld", &days, &hours, &minutes, &seconds) != 4) {
        days = 0;
        sscanf(time, "%lld:%lld:%lld", &hours, &minutes, &seconds);
    }
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
}

static void add_pbs(const struct job *job, struct strbuf *out) {
    const int64_t seconds = seconds_of(job->time), tasks = tasks_per_node(job);
    add_origin(job, out);
    strbuf_printf(out, "#PBS -N %s\n", job->name);
    strbuf_printf(out, "#PBS -l select=%lld:ncpus=%lld:mpiprocs=%lld", (long long)job->nodes,
                  (long long)(tasks * job->cores), (long long)tasks);
    if (job->gpus > 0) strbuf_printf(out, ":ngpus=%lld", (long long)job->gpus);
    strbuf_printf(out, "\n#PBS -l walltime=%lld:%02lld:%02lld\n#PBS -j oe\n", (long long)(seconds / 3600),
                  (long long)(seconds / 60 % 60), (long long)(seconds % 60));
    if (job->partition) strbuf_printf(out, "#PBS -q %s\n", job->partition);
    if (job->account) strbuf_printf(out, "#PBS -A %s\n", job->account);
    strbuf_printf(out,
                  "\ncd \"$PBS_O_WORKDIR\" || exit 7\nini=%s\nmost_restarts=5\nrestarts=${LVSWEEP_RESTARTS:-0}\n\n",
                  job->ini);
    strbuf_add(out, "# Load what lvsweep was built with, for example: module load openmpi hdf5 cuda\n\n");
    add_cuda(job, out);
    char ranks[32];
    snprintf(ranks, sizeof ranks, "%lld", (long long)(job->nodes * tasks));
    strbuf_add(out, "# PBS tells nobody when the time ends: lvsweep stops by itself, with checkpoints and code 75.\n");
    add_run(job, ranks, out);
    strbuf_printf(out, " --set run.time_limit=%llds; code=$?\n\n",
                  (long long)(seconds > 360 ? seconds - 180 : seconds));
    strbuf_printf(out,
                  "# 0 and 2-7 are final (done, or a mistake that another start repeats).\n"
                  "case $code in 0 | 2 | 3 | 4 | 5 | 6 | 7) exit $code ;; esac\n"
                  "if [ \"$restarts\" -lt $most_restarts ]; then\n"
                  "  echo \"lvsweep ended with $code: submitted again (restart $((restarts + 1)) of $most_restarts)\"\n"
                  "  qsub -v LVSWEEP_RESTARTS=$((restarts + 1)) \"%s\"\nfi\nexit $code\n",
                  job->output && strcmp(job->output, "-") != 0 ? job->output : "$0");
}

/* ---- options ---- */

static bool is_time(const char *text) {
    int fields = 0;
    for (const char *c = text; *c; c++) {
        if (!isdigit((unsigned char)*c) && *c != ':' && *c != '-') return false;
        fields += *c == ':';
    }
    return fields == 2 && seconds_of(text) > 0;
}

/* Names that go into directives: no blanks, no quotes. */
static bool is_plain(const char *text) {
    if (!*text) return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr("._-/+@=,", *text)) return false;
    return true;
}

static bool check_words(const struct job *job) {
    const struct {
        const char *option, *word;
    } words[] = {{"the INI's path", job->ini},
                 {"--partition", job->partition},
                 {"--account", job->account},
                 {"--name", job->name}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i].word && !is_plain(words[i].word)) {
            cli_usage(&command_jobscript, "%s %s: letters, digits and ._-/+@=, only", words[i].option, words[i].word);
            return false;
        }
    if (!is_time(job->time)) {
        cli_usage(&command_jobscript, "--time %s: expected H:MM:SS or D-HH:MM:SS", job->time);
        return false;
    }
    bool pbs = strcmp(job->scheduler, "pbs") == 0, srun = strcmp(job->launcher, "srun") == 0;
    if ((!pbs && strcmp(job->scheduler, "slurm") != 0) || (!srun && strcmp(job->launcher, "mpirun") != 0)) {
        cli_usage(&command_jobscript, "--scheduler is slurm or pbs, --launcher mpirun or srun");
        return false;
    }
    if (job->heterogeneous && (pbs || job->gpus == 0)) {
        cli_usage(&command_jobscript, "--heterogeneous is SLURM's, and for jobs with GPUs");
        return false;
    }
    if (pbs && srun) {
        cli_usage(&command_jobscript, "srun is SLURM's; PBS starts with mpirun");
        return false;
    }
    return true;
}

static bool take_option(struct job *job, int option) {
    const struct {
        int option;
        const char **word;
    } words[] = {{'o', &job->output}, {'t', &job->time},      {'p', &job->partition}, {'A', &job->account},
                 {'N', &job->name},   {'S', &job->scheduler}, {'l', &job->launcher}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i].option == option) *words[i].word = optarg;
    if (option == 'f') job->force = true;
    if (option == 'H') job->heterogeneous = true;
    if (option == 'n') return cli_integer(&command_jobscript, "--nodes", optarg, 1, 100000, &job->nodes);
    if (option == 'g') return cli_integer(&command_jobscript, "--gpus-per-node", optarg, 0, 64, &job->gpus);
    if (option == 'r') return cli_integer(&command_jobscript, "--ranks-per-node", optarg, 1, 4096, &job->ranks);
    if (option == 'c') return cli_integer(&command_jobscript, "--cores-per-rank", optarg, 1, 4096, &job->cores);
    return true;
}

static enum lvs_status check_ini(const char *path, struct lvs_error *err) {
    const struct config_source source = {.path = path};
    struct config *config = NULL;
    LVS_TRY(config_parse(&source, &config, err));
    config_destroy(config);
    return LVS_OK;
}

static enum lvs_status write_script(const struct job *job, struct lvs_error *err) {
    struct strbuf text;
    strbuf_init(&text);
    if (strcmp(job->scheduler, "pbs") == 0)
        add_pbs(job, &text);
    else
        add_slurm(job, &text);
    enum lvs_status status = cli_write(job->output, &text, err);
    strbuf_free(&text);
    bool file = job->output && strcmp(job->output, "-") != 0;
    long long ranks = (long long)(job->nodes * tasks_per_node(job) + job->heterogeneous);
    if (status == LVS_OK && file) {
        chmod(job->output, 0755);
        printf("%s: %lld node%s, %lld rank%s; submit with: %s %s\n", job->output, (long long)job->nodes,
               job->nodes == 1 ? "" : "s", ranks, ranks == 1 ? "" : "s",
               strcmp(job->scheduler, "pbs") == 0 ? "qsub" : "sbatch", job->output);
    }
    return status;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"nodes", required_argument, NULL, 'n'},
                                            {"gpus-per-node", required_argument, NULL, 'g'},
                                            {"ranks-per-node", required_argument, NULL, 'r'},
                                            {"cores-per-rank", required_argument, NULL, 'c'},
                                            {"time", required_argument, NULL, 't'},
                                            {"partition", required_argument, NULL, 'p'},
                                            {"account", required_argument, NULL, 'A'},
                                            {"name", required_argument, NULL, 'N'},
                                            {"scheduler", required_argument, NULL, 'S'},
                                            {"launcher", required_argument, NULL, 'l'},
                                            {"output", required_argument, NULL, 'o'},
                                            {"heterogeneous", no_argument, NULL, 'H'},
                                            {"force", no_argument, NULL, 'f'},
                                            {0}};
    struct job job = initial_job;
    struct lvs_error err = {0};
    bool done;
    for (int option; (option = cli_next_option(&command_jobscript, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (!take_option(&job, option)) return LVS_USAGE;
    }
    if (optind + 1 != argc) return cli_usage(&command_jobscript, "give one INI file");
    job.ini = argv[optind];
    if (!check_words(&job)) return LVS_USAGE;
    const struct cli_target target = {.path = job.output, .force = job.force, .inputs = {job.ini}};
    enum lvs_status status = cli_may_write(&target, &err);
    if (status == LVS_OK) status = check_ini(job.ini, &err);
    if (status == LVS_OK) status = write_script(&job, &err);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_jobscript = {
    .name = "jobscript",
    .summary = "a SLURM or PBS script that stops in time, requeues, resumes",
    .help = "lvsweep jobscript grid.ini [-o job.sh] [options]\n\n"
            "  --nodes N            (1)\n"
            "  --gpus-per-node N    (8; 0 = cores only)\n"
            "  --ranks-per-node N   with --gpus-per-node 0 (4)\n"
            "  --cores-per-rank N   (2)\n"
            "  --time H:MM:SS       or D-HH:MM:SS (8:00:00)\n"
            "  --partition P, --account A, --name N\n"
            "  --scheduler NAME     slurm (default) or pbs\n"
            "  --launcher NAME      mpirun (default) or srun, which needs SLURM with PMIx\n"
            "  --heterogeneous      rank 0 gets one task without a GPU, of any node (SLURM\n"
            "                       with PMIx)\n"
            "  --force              overwrite a script that exists\n\n"
            "On one node a coordinator has a rank of its own, on several rank 0 works too.\n"
            "Three minutes before the end checkpoints are written; the job is then queued\n"
            "again, at most five times, unless it is done or another start would fail\n"
            "alike.\n",
    .run = run,
};
