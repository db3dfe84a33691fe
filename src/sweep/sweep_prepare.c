/* Rank 0 before anything starts: launch mistakes, configuration, output folder and lock, facts, the plan's verdict. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"
#include "lvsweep/log.h"

/* Under srun with the wrong MPI plugin every task believes to be alone and would run the whole sweep. */
enum lvs_status sweep_check_launch(struct lvs_error *err) {
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    if (protocol_size() == 1 && tasks && atoi(tasks) > 1)
        return lvs_fail(err, LVS_LAUNCH,
                        "launch: %s processes each believe to be rank 0 of 1 (SLURM step %s.%s has %s tasks). MPI and "
                        "srun do not meet. Try: srun --mpi=pmix lvsweep grid.ini, or mpirun lvsweep grid.ini; lvsweep "
                        "doctor shows more. Nothing was started (exit 7)",
                        tasks, getenv("SLURM_JOB_ID") ? getenv("SLURM_JOB_ID") : "?",
                        getenv("SLURM_STEP_ID") ? getenv("SLURM_STEP_ID") : "?", tasks);
    return LVS_OK;
}

static enum lvs_status rename_old_output(const char *output, struct lvs_error *err) {
    char old[LVS_PATH_MAX + 32], stamp[24];
    time_t now = time(NULL);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", localtime(&now));
    snprintf(old, sizeof old, "%s.%s", output, stamp);
    if (rename(output, old) != 0)
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot rename to %s: %s", output, old, strerror(errno));
    log_info("--fresh: the old folder is now %s", old);
    return LVS_OK;
}

static enum lvs_status open_output(const struct sweep_options *options, struct prepared *out, struct lvs_error *err) {
    char journal[LVS_PATH_MAX];
    const char *output = out->config->output;
    if (options->fresh && file_exists(output)) LVS_TRY(rename_old_output(output, err));
    LVS_TRY(file_make_folder(output, err));
    LVS_TRY(lock_take(output, options->break_lock, &out->lock, err));
    LVS_TRY(file_join(journal, output, RESULTS_JOURNAL, err));
    out->resumes = file_exists(journal);
    if (out->resumes) return results_read(output, &out->known, err);
    results_init(&out->known, output);
    return LVS_OK;
}

enum lvs_status sweep_prepare(const struct sweep_options *options, struct prepared *out, struct lvs_error *err) {
    struct config_source source = {
        .path = options->ini, .sets = options->sets, .n_sets = options->n_sets, .check_files = true};
    LVS_TRY(config_parse(&source, &out->config, err));
    if (options->output) LVS_TRY(file_resolve(out->config->output, ".", options->output, err));
    LVS_TRY(sweep_facts_make(out->config, &out->facts, err));
    struct plan plan;
    enum lvs_status status = open_output(options, out, err);
    if (status != LVS_OK) return status;
    status = plan_make(out->config, out->facts, out->resumes ? &out->known : NULL, &plan, err);
    if (status == LVS_OK) status = plan_check(out->config, &plan, err);
    plan_free(&plan);
    return status;
}

void prepared_free(struct prepared *prepared) {
    lock_release(&prepared->lock);
    results_free(&prepared->known);
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
    lvs_copy(out->head.place.output, sizeof out->head.place.output, prepared->config->output);
}
