/* Where and by what a sweep was run: pairs of name and text in the journal and in results.h5's group provenance. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"
#include "lvsweep/version.h"

#ifdef __clang__
#define COMPILER __VERSION__ /* begins with its name */
#else
#define COMPILER "GCC " __VERSION__
#endif

static enum lvs_status note_pair(struct driver *driver, const char *name, const char *text, struct lvs_error *err) {
    if (!text || !text[0]) return LVS_OK;
    struct journal_event event = journal_event_make(JOURNAL_PROVENANCE);
    event.name = name;
    event.text = text;
    return driver_note(driver, &event, err);
}

/* The kernel's view: it holds mpirun-less starts and every option as typed. */
static void command_line(char *out, size_t capacity) {
    FILE *file = fopen("/proc/self/cmdline", "r");
    size_t length = file ? fread(out, 1, capacity - 1, file) : 0;
    if (file) fclose(file);
    out[length] = '\0';
    for (size_t i = 0; i + 1 < length; i++)
        if (out[i] == '\0') out[i] = ' ';
}

/* The kernel's driver of rank 0's host; empty without one. What CUDA says of it is in each worker's line. */
static void nvidia_driver(char *out, int capacity) {
    FILE *file = fopen("/proc/driver/nvidia/version", "r");
    out[0] = '\0';
    if (!file) return;
    if (!fgets(out, capacity, file)) out[0] = '\0';
    fclose(file);
    out[strcspn(out, "\n")] = '\0';
}

static enum lvs_status note_machine(struct driver *driver, struct lvs_error *err) {
    struct utsname system;
    char text[512], host[64];
    protocol_host(host, sizeof host);
    LVS_TRY(note_pair(driver, "host", host, err));
    if (uname(&system) == 0) {
        snprintf(text, sizeof text, "%s %s %s", system.sysname, system.release, system.machine);
        LVS_TRY(note_pair(driver, "system", text, err));
    }
    protocol_library(text, sizeof text);
    LVS_TRY(note_pair(driver, "mpi", text, err));
    results_libraries(text, sizeof text);
    LVS_TRY(note_pair(driver, "libraries", text, err));
    nvidia_driver(text, (int)sizeof text);
    LVS_TRY(note_pair(driver, "nvidia_driver", text, err));
    snprintf(text, sizeof text, "%d", protocol_size());
    LVS_TRY(note_pair(driver, "ranks", text, err));
    return note_pair(driver, "compiler", COMPILER, err);
}

static enum lvs_status note_job(struct driver *driver, struct lvs_error *err) {
    static const char *const variables[] = {"SLURM_JOB_ID",       "SLURM_JOB_NAME",      "SLURM_JOB_PARTITION",
                                            "SLURM_JOB_NODELIST", "SLURM_RESTART_COUNT", "PBS_JOBID"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        LVS_TRY(note_pair(driver, variables[i], getenv(variables[i]), err));
    return LVS_OK;
}

enum lvs_status provenance_note(struct driver *driver, struct lvs_error *err) {
    char text[4096];
    time_t now = time(NULL);
    LVS_TRY(note_pair(driver, "commit", LVSWEEP_COMMIT, err));
    command_line(text, sizeof text);
    LVS_TRY(note_pair(driver, "command", text, err));
    if (getcwd(text, sizeof text)) LVS_TRY(note_pair(driver, "folder", text, err));
    char *ini = realpath(driver->config->path, NULL);
    enum lvs_status status = note_pair(driver, "ini", ini, err);
    free(ini);
    LVS_TRY(status);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    LVS_TRY(note_pair(driver, "started", text, err));
    LVS_TRY(note_pair(driver, "backend", sweep_facts_backend(driver->facts), err));
    LVS_TRY(note_pair(driver, "precision", sweep_facts_precision(driver->facts), err));
    LVS_TRY(note_machine(driver, err));
    return note_job(driver, err);
}

enum lvs_status provenance_note_worker(struct driver *driver, int32_t worker, struct lvs_error *err) {
    const struct worker_hello *hello = &driver->hellos[worker];
    const char *uuid = hello->device.uuid; /* of a CPU its host's name, which stands there already */
    const bool is_host = strncmp(hello->host, uuid, strlen(uuid)) == 0;
    const char *parts[] = {hello->host, hello->device.name, is_host ? "" : uuid, hello->device.driver};
    char name[32];
    struct strbuf text;
    snprintf(name, sizeof name, "worker_%d", driver->first_rank + worker);
    strbuf_init(&text);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i][0]) strbuf_printf(&text, "%s%s", text.length ? "; " : "", parts[i]);
    enum lvs_status status = note_pair(driver, name, text.text, err);
    strbuf_free(&text);
    return status;
}
