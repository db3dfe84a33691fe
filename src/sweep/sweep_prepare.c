/* Rank 0 before anything starts: launch mistakes, configuration, output folder and lock, facts, the plan's verdict. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"
#include "lvsweep/train.h"
#include "lvsweep/log.h"

/* A launcher of another MPI than ours tells its number of processes, and we find one. */
static enum lvs_status check_foreign_launcher(struct lvs_error *err) {
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"};
    char library[256];
    protocol_library(library, sizeof library);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *size = getenv(sizes[i]);
        if (size && atoi(size) > 1)
            return lvs_fail(err, LVS_LAUNCH,
                            "launch: %s processes each believe to be rank 0 of 1 (%s=%s): the mpirun that started them "
                            "belongs to another MPI than lvsweep, which has %s. Start it with that one's mpirun "
                            "(`which mpirun`, `module list`); lvsweep doctor shows more. Nothing was started (exit 7)",
                            size, sizes[i], size, library);
    }
    return LVS_OK;
}

/* Under srun with the wrong MPI plugin every task believes to be alone and would run the whole sweep. */
enum lvs_status sweep_check_launch(struct lvs_error *err) {
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    if (protocol_size() > 1) return LVS_OK;
    if (tasks && atoi(tasks) > 1)
        return lvs_fail(err, LVS_LAUNCH,
                        "launch: %s processes each believe to be rank 0 of 1 (SLURM step %s.%s has %s tasks). MPI and "
                        "srun do not meet. Try: srun --mpi=pmix lvsweep grid.ini, or mpirun lvsweep grid.ini; lvsweep "
                        "doctor shows more. Nothing was started (exit 7)",
                        tasks, getenv("SLURM_JOB_ID") ? getenv("SLURM_JOB_ID") : "?",
                        getenv("SLURM_STEP_ID") ? getenv("SLURM_STEP_ID") : "?", tasks);
    return check_foreign_launcher(err);
}

/* What may lie in the folder of a sweep that has not begun: logs that a shell or scheduler opened, the INI, a lock. */
static bool may_lie_there(const char *name) {
    static const char *const endings[] = {".log", ".out", ".err", ".ini"};
    size_t length = strlen(name);
    if (name[0] == '.' || strncmp(name, "lock", 4) == 0) return true;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (length > 4 && strcmp(name + length - 4, endings[i]) == 0) return true;
    return false;
}

/* A folder of something else, such as a model, is neither written into nor renamed. */
static enum lvs_status refuse_foreign(const char *output, struct lvs_error *err) {
    char journal[LVS_PATH_MAX], foreign[256] = "";
    LVS_TRY(file_join(journal, output, RESULTS_JOURNAL, err));
    DIR *folder = file_exists(journal) ? NULL : opendir(output);
    if (!folder) return LVS_OK;
    for (struct dirent *entry; !foreign[0] && (entry = readdir(folder));)
        if (!may_lie_there(entry->d_name)) lvs_copy(foreign, sizeof foreign, entry->d_name);
    closedir(folder);
    if (!foreign[0]) return LVS_OK;
    return lvs_fail(err, LVS_OUTPUT,
                    "%s: is not the folder of a sweep (no %s) and not empty (%s): choose another --output. Nothing was "
                    "started (exit 6)",
                    output, RESULTS_JOURNAL, foreign);
}

/* Under the old folder's own lock, which moves with it: a sweep that runs there keeps its folder. */
static enum lvs_status rename_old_output(const char *output, bool break_lock, struct lvs_error *err) {
    char old[LVS_PATH_MAX], moved_lock[LVS_PATH_MAX], stamp[24];
    struct sweep_lock lock;
    time_t now = time(NULL);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", localtime(&now));
    if (snprintf(old, sizeof old, "%s.%s", output, stamp) >= (int)sizeof old)
        return lvs_fail(err, LVS_USAGE, "%s: path too long", output);
    LVS_TRY(file_join(moved_lock, old, "lock", err));
    LVS_TRY(lock_take(output, break_lock, &lock, err));
    if (rename(output, old) != 0) {
        lvs_fail(err, LVS_OUTPUT, "%s: cannot rename to %s: %s", output, old, strerror(errno));
        lock_release(&lock);
        return LVS_OUTPUT;
    }
    lvs_copy(lock.path, sizeof lock.path, moved_lock);
    lock_release(&lock);
    log_info("--fresh: the old folder is now %s", old);
    return LVS_OK;
}

static enum lvs_status open_output(const struct sweep_options *options, struct prepared *out, struct lvs_error *err) {
    char journal[LVS_PATH_MAX];
    const char *output = out->config->output;
    LVS_TRY(refuse_foreign(output, err));
    if (options->fresh && file_is_folder(output)) LVS_TRY(rename_old_output(output, options->break_lock, err));
    LVS_TRY(file_make_folder(output, err));
    LVS_TRY(lock_take(output, options->break_lock, &out->lock, err));
    LVS_TRY(file_join(journal, output, RESULTS_JOURNAL, err));
    out->resumes = file_exists(journal);
    if (!out->resumes) {
        results_init(&out->known, output);
        return LVS_OK;
    }
    LVS_TRY(results_read_whole(output, &out->known, err));
    lost_steps_find(&out->known, (enum lost_mode)out->config->lost, &out->lost);
    return LVS_OK;
}

/* Weights are mapped and shared by the node's workers; activations, adapters and tables are each worker's own. */
static int64_t bytes_of_worker(const struct config *config, const struct sweep_facts *facts, const struct plan *plan) {
    int64_t most = 0;
    if (config->runner == RUNNER_FAKE || strcmp(sweep_facts_backend(facts), "cpu") != 0) return 0;
    for (int32_t i = 0; i < plan->n_rows; i++) {
        if (plan->rows[i].verdict != PLAN_RUN) continue;
        const struct trial *trial = coordinator_trial(plan->coordinator, plan->rows[i].trial);
        int64_t bytes = trainer_bytes(sweep_facts_model(facts), &trial->settings, sweep_facts_vocabulary(facts),
                                      config->pack > 0 ? config->pack : 1, sizeof(float));
        most = bytes > most ? bytes : most;
    }
    return most;
}

static int64_t available_bytes(void) {
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    long long kilobytes = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %lld", &kilobytes) == 1) break;
    if (file) fclose(file);
    return kilobytes * 1024;
}

enum lvs_status sweep_check_memory(const struct prepared *prepared, int32_t local_workers, struct lvs_error *err) {
    int64_t there = available_bytes(), need = prepared->worker_bytes;
    int64_t weights = need > 0 ? model_weight_bytes(sweep_facts_model(prepared->facts), sizeof(uint16_t)) : 0;
    if (there <= 0 || weights + need * local_workers <= there) return LVS_OK;
    return lvs_fail(err, LVS_LAUNCH,
                    "launch: %d workers on this node need %d x %.1f GiB and %.1f GiB for the weights, but %.1f GiB are "
                    "free. Start fewer ranks a node, or lower [train] batch or context. Nothing was started (exit 7)",
                    local_workers, local_workers, (double)need / 0x1p30, (double)weights / 0x1p30,
                    (double)there / 0x1p30);
}

static bool is_in_grid(const struct prepared *prepared, const struct plan *plan, int32_t trial) {
    for (int32_t stage = 0; stage < prepared->config->n_stages; stage++)
        if (coordinator_in_stage(plan->coordinator, trial, stage)) return true;
    return false;
}

/* A trial that the sweep would not come to, or could not pay for, keeps the result that it has. */
static enum lvs_status check_rerun(const struct prepared *prepared, const char *rerun, const struct plan *plan,
                                   struct lvs_error *err) {
    bool found = false;
    for (int32_t i = 0; i < prepared->known.n_rows; i++) {
        const struct trial *trial = &prepared->known.rows[i].trial;
        if (!trial_is_called(trial, rerun) || !is_in_grid(prepared, plan, i)) continue;
        found = true;
        if (coordinator_lacks_flops(plan->coordinator, i))
            return lvs_fail(err, LVS_BUDGET,
                            "--rerun %s: what is left of the budget does not pay for this trial once more (%.4g FLOPs "
                            "at most; what it cost before stays spent). Raise [budget] flops. Nothing was started",
                            trial->name, (double)coordinator_trial(plan->coordinator, i)->price.counted);
    }
    if (found) return LVS_OK;
    return lvs_fail(err, LVS_USAGE,
                    "--rerun %s: the trial is not in the present grid; give the INI that it was run with. Nothing was "
                    "started",
                    rerun);
}

enum lvs_status sweep_prepare(const struct sweep_options *options, struct prepared *out, struct lvs_error *err) {
    struct config_source source = {.path = options->ini,
                                   .sets = options->sets,
                                   .n_sets = options->n_sets,
                                   .check_files = true,
                                   .inspect = sweep_inspect_data};
    LVS_TRY(config_parse(&source, &out->config, err));
    if (options->output) LVS_TRY(file_resolve(out->config->output, ".", options->output, err));
    LVS_TRY(sweep_facts_make(out->config, &out->facts, err));
    struct plan plan;
    enum lvs_status status = open_output(options, out, err);
    if (status != LVS_OK) return status;
    status = plan_make(out->config, out->facts, out->resumes ? &out->known : NULL, options->rerun, &plan, err);
    if (status == LVS_OK && options->rerun) status = check_rerun(out, options->rerun, &plan, err);
    if (status == LVS_OK) status = plan_check(out->config, out->facts, &plan, err);
    if (status == LVS_OK) out->worker_bytes = bytes_of_worker(out->config, out->facts, &plan);
    plan_free(&plan);
    return status;
}

void prepared_free(struct prepared *prepared) {
    lock_release(&prepared->lock);
    results_free(&prepared->known);
    lost_steps_free(&prepared->lost);
    sweep_facts_destroy(prepared->facts);
    config_destroy(prepared->config);
}

void prepared_setup(const struct sweep_options *options, const struct prepared *prepared, struct setup *out) {
    *out = (struct setup){.text = prepared->config->text,
                          .path = prepared->config->path,
                          .folder = prepared->config->folder,
                          .output = prepared->config->output,
                          .sets = options->sets};
    out->head.n_sets = options->n_sets;
    out->head.in_process = options->in_process;
    lvs_copy(out->head.backend, sizeof out->head.backend, sweep_facts_backend(prepared->facts));
    lvs_copy(out->head.precision, sizeof out->head.precision, sweep_facts_precision(prepared->facts));
    lock_fingerprint(prepared->config->output, out->head.lock_hash);
    lvs_copy(out->head.place.output, sizeof out->head.place.output, prepared->config->output);
}
