/* --rerun: one trial from nothing. Its training begins at step 0 with no rung behind it, and what it cost before stays
 * charged to it. Rungs are decided of by the same rule from the rungs that are there then. A trial without a result
 * goes on as it would anyway, so that the same command resumes what it began. */
#include <string.h>

#include "coordinator_internal.h"

bool trial_is_called(const struct trial *trial, const char *key) {
    return key[0] && (strcmp(trial->name, key) == 0 || strncmp(trial->train_key, key, strlen(key)) == 0);
}

static bool has_result(const struct trial_state *state) {
    int32_t status = state->record.status;
    return status == TRIAL_DONE || status == TRIAL_FAILED || status == TRIAL_DIVERGED || status == TRIAL_STOPPED;
}

static void start_again(struct trial_state *state) {
    int64_t lost = state->record.flops_lost;
    record_init(&state->record, &state->trial);
    state->record.flops_lost = lost;
    state->record.attempt = state->attempts;
    state->rungs = (struct rung_list){0};
    state->charged_before = state->charged;
    state->again = true;
}

enum lvs_status coordinator_rerun(struct coordinator *c, const char *key, struct lvs_error *err) {
    const struct trial *chosen = NULL;
    for (int32_t row = 0; row < c->n_trials; row++) {
        const struct trial *trial = &coordinator_at(c, row)->trial;
        if (!trial_is_called(trial, key)) continue;
        if (chosen && strcmp(chosen->train_key, trial->train_key) != 0)
            return lvs_fail(err, LVS_USAGE,
                            "--rerun %s fits %s and %s: give a whole name, or more of one train_key. Nothing was "
                            "started",
                            key, chosen->name, trial->name);
        chosen = trial;
    }
    if (!chosen)
        return lvs_fail(err, LVS_USAGE,
                        "--rerun %s: no trial of this output folder has that name, or a train_key that begins so; "
                        "lvsweep export DIR --csv lists both. Nothing was started",
                        key);
    for (int32_t row = 0; row < c->n_trials; row++) {
        struct trial_state *state = coordinator_at(c, row);
        if (strcmp(state->trial.train_key, chosen->train_key) == 0 && has_result(state)) start_again(state);
    }
    return LVS_OK;
}

bool coordinator_lacks_flops(const struct coordinator *c, int32_t row) {
    const struct trial_state *state = coordinator_at(c, row);
    int32_t n = state->rungs.n;
    if (state->record.status == TRIAL_STOPPED) return n > 0 && state->rungs.rung[n - 1].verdict == RUNG_GOES_ON;
    return state->record.status == TRIAL_CUT;
}
