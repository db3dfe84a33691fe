/* When a sweep must stop by itself: the earliest of the batch job's end, the config's limit for a run, and its caps on
 * the time of all runs of the output folder. SLURM tells the job's end in the environment (from version 23.02 on) or
 * when asked. Invariant: asked once, before the first assignment; a scheduler that does not answer is a limit that is
 * not known, never a failure. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"
#include "lvsweep/log.h"

#define MARGIN_SECONDS 120.0 /* what a scheduler would kill is stopped so long before: checkpoints take time */
#define ASK_SECONDS    "15"

double deadline_parse_job(const char *text) {
    const char *found = strstr(text, "EndTime=");
    struct tm parts = {.tm_isdst = -1};
    if (!found || !strptime(found + strlen("EndTime="), "%Y-%m-%dT%H:%M:%S", &parts)) return INFINITY;
    time_t end = mktime(&parts);
    return end > 0 ? (double)end : INFINITY;
}

/* scontrol is started as a program of its own: popen neither copies this process nor runs its fork handlers, so MPI
 * does not mind. */
static double ask_slurm(const char *job) {
    char command[128], text[8192];
    for (const char *c = job; *c; c++)
        if (!isdigit((unsigned char)*c)) return INFINITY;
    snprintf(command, sizeof command, "timeout " ASK_SECONDS " scontrol --oneliner show job %.20s 2>/dev/null", job);
    FILE *answer = popen(command, "r");
    if (!answer) return INFINITY;
    size_t length = fread(text, 1, sizeof text - 1, answer);
    pclose(answer);
    text[length] = '\0';
    return deadline_parse_job(text);
}

/* Seconds since 1970; INFINITY = no job, or its end is not known. */
static double job_end(void) {
    const char *told = getenv("SLURM_JOB_END_TIME"), *job = getenv("SLURM_JOB_ID");
    if (told && atof(told) > 0) return atof(told);
    return job && job[0] ? ask_slurm(job) : INFINITY;
}

double deadline_before(double started, double end, double most) {
    double margin = fmax(0, (end - started) / 10);
    return end - fmin(margin, most);
}

/* Of seconds since 1970. */
static void say(double deadline, double end) {
    char stop[32], job[32];
    time_t stops = (time_t)deadline, ends = (time_t)end;
    strftime(stop, sizeof stop, "%Y-%m-%d %H:%M:%S", localtime(&stops));
    strftime(job, sizeof job, "%Y-%m-%d %H:%M:%S", localtime(&ends));
    log_info("the job ends at %s: what is not done by %s is stopped with a checkpoint", job, stop);
}

/* A key of [budget] that caps time, and what earlier runs took of it. */
struct time_cap {
    const char *key, *unit;
    double hours, used; /* hours = 0: no cap */
    double workers;     /* that use it at the same time */
};
#define N_TIME_CAPS 2

static void time_caps(const struct config *config, const struct time_used *earlier, int32_t n_workers,
                      struct time_cap caps[N_TIME_CAPS]) {
    caps[0] = (struct time_cap){"hours", "hours", config->hours_cap, earlier->seconds / 3600, 1};
    caps[1] = (struct time_cap){"gpu_hours", "hours times workers", config->gpu_hours_cap,
                                earlier->worker_seconds / 3600, n_workers};
}

enum lvs_status deadline_check(const struct config *config, const struct time_used *earlier, struct lvs_error *err) {
    struct time_cap caps[N_TIME_CAPS];
    time_caps(config, earlier, 1, caps);
    for (int32_t i = 0; i < N_TIME_CAPS; i++)
        if (caps[i].hours > 0 && caps[i].used >= caps[i].hours)
            return lvs_fail(err, LVS_BUDGET,
                            "%s: [budget] %s = %.6g is used up: the runs of %s took %.6g %s. Raise it to go on. "
                            "Nothing was started",
                            config->path, caps[i].key, caps[i].hours, config->output, caps[i].used, caps[i].unit);
    return LVS_OK;
}

static void bring_forward(struct deadline *deadline, double at) {
    if (at < deadline->at) *deadline = (struct deadline){.at = at};
}

struct deadline deadline_find(const struct config *config, const struct time_used *earlier, double started,
                              int32_t n_workers) {
    struct deadline deadline = {.at = INFINITY};
    struct time_cap caps[N_TIME_CAPS];
    double end = job_end();
    if (isfinite(end)) {
        /* The job has so much time, whatever the clock on the wall is set to while it runs. */
        double date_of_zero = clock_now() - clock_steady();
        bring_forward(&deadline, deadline_before(started, end - date_of_zero, MARGIN_SECONDS));
        say(deadline.at + date_of_zero, end);
    }
    if (config->time_limit > 0)
        bring_forward(&deadline, deadline_before(started, started + config->time_limit, MARGIN_SECONDS / 2));
    time_caps(config, earlier, n_workers, caps);
    for (int32_t i = 0; i < N_TIME_CAPS; i++) {
        double at = started + 3600 * (caps[i].hours - caps[i].used) / caps[i].workers;
        if (caps[i].hours > 0 && at < deadline.at)
            deadline = (struct deadline){.at = at, .cap = caps[i].key, .hours = caps[i].hours};
    }
    return deadline;
}
