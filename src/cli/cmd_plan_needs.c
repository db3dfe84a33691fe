/* lvsweep plan: memory and time that the trials to run need, and what became of an earlier run's trials. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cmd_plan.h"
#include "lvsweep/train.h"

#define NAMES_SHOWN 6

/* ---- memory ---- */

void plan_needs_make(const struct plan_view *view, struct plan_needs *out) {
    const struct config *config = view->config;
    const struct qwen2_config *model = sweep_facts_model(view->facts);
    const bool wide = strcmp(sweep_facts_precision(view->facts), "fp32") == 0;
    *out = (struct plan_needs){.seconds = NAN, .rate = NAN};
    if (config->runner == RUNNER_FAKE) return;
    for (int32_t i = 0; i < view->plan->n_rows; i++) {
        const struct plan_row *row = &view->plan->rows[i];
        if (row->verdict != PLAN_RUN) continue;
        const struct trial *trial = coordinator_trial(view->plan->coordinator, row->trial);
        int64_t bytes = trainer_bytes(model, &trial->settings, sweep_facts_vocabulary(view->facts),
                                      config->pack > 0 ? config->pack : 1, wide ? sizeof(float) : sizeof(uint16_t));
        out->worker_bytes = bytes > out->worker_bytes ? bytes : out->worker_bytes;
        out->flops += (double)row->flops;
        out->n_run++;
    }
    /* On the CPU the checkpoint's own bf16 is mapped; a device holds weights in the precision it computes in. */
    bool on_cpu = strcmp(sweep_facts_backend(view->facts), "cpu") == 0;
    out->weight_bytes = model_weight_bytes(model, wide && !on_cpu ? sizeof(float) : sizeof(uint16_t));
}

/* ---- time ---- */

/* FLOP/s of one worker over the trials that are done in this folder; NaN without any. */
static double measured_rate(const struct results *known, int32_t *n) {
    double sum = 0;
    *n = 0;
    for (int32_t i = 0; known && i < known->n_rows; i++) {
        const struct result_row *row = &known->rows[i];
        if (row->record.status != TRIAL_DONE || !(row->record.seconds > 0) || row->charged <= 0) continue;
        sum += (double)row->charged * (row->record.pack_width > 1 ? row->record.pack_width : 1) / row->record.seconds;
        ++*n;
    }
    return *n > 0 ? sum / *n : NAN;
}

void plan_needs_time(const struct results *known, struct plan_needs *needs) {
    needs->rate = measured_rate(known, &needs->n_measured);
    needs->seconds = needs->flops / needs->rate;
}

static void write_duration(double seconds, char out[32]) {
    long long whole = (long long)(seconds + 0.5);
    if (whole < 60)
        snprintf(out, 32, "%lld s", whole);
    else if (whole < 3600)
        snprintf(out, 32, "%lld min %lld s", whole / 60, whole % 60);
    else
        snprintf(out, 32, "%lld h %lld min", whole / 3600, whole / 60 % 60);
}

void plan_print_needs(const struct plan_view *view, const struct plan_needs *needs) {
    char text[32];
    if (needs->n_run == 0) return;
    if (needs->worker_bytes > 0) {
        bool on_cpu = strcmp(sweep_facts_backend(view->facts), "cpu") == 0;
        printf("memory  %.3g GiB for the largest trial%s, %.3g GiB of weights, once a %s\n",
               (double)needs->worker_bytes / 0x1p30, on_cpu ? ", each worker" : "",
               (double)needs->weight_bytes / 0x1p30, on_cpu ? "node" : "card");
    }
    if (isnan(needs->seconds)) {
        printf("time    not known before a trial is done in this folder; lvsweep bench times steps on this machine\n");
        return;
    }
    write_duration(needs->seconds, text);
    printf("time    about %s of one worker, by the %.3g FLOP/s of %d finished trial%s; n workers share it\n", text,
           needs->rate, needs->n_measured, needs->n_measured == 1 ? "" : "s");
}

void plan_json_needs(const struct plan_needs *needs, json_t *document) {
    json_object_set_new(document, "worker_bytes", json_integer(needs->worker_bytes));
    json_object_set_new(document, "weight_bytes", json_integer(needs->weight_bytes));
    json_object_set_new(document, "worker_seconds", isnan(needs->seconds) ? json_null() : json_real(needs->seconds));
}

/* ---- trials of an earlier run ---- */

static bool is_left_out(const struct plan_view *view, const struct result_row *row) {
    if (row->record.status == TRIAL_SUPERSEDED || row->record.status == TRIAL_CUT || row->charged <= 0) return false;
    for (int32_t stage = 0; stage < view->config->n_stages; stage++)
        if (coordinator_in_stage(view->plan->coordinator, row->trial.index, stage)) return false;
    return true;
}

void plan_print_left_out(const struct plan_view *view, const struct results *known) {
    int32_t n = 0;
    for (int32_t i = 0; i < known->n_rows; i++) {
        if (!is_left_out(view, &known->rows[i])) continue;
        if (n < NAMES_SHOWN) printf("%s%s", n ? ", " : "left    ", known->rows[i].trial.name);
        n++;
    }
    if (n > NAMES_SHOWN) printf(" and %d more", n - NAMES_SHOWN);
    if (n > 0)
        printf("\n        not in this plan: superseded, their FLOPs stay spent%s\n",
               view->plan->n_rows > 0 && view->config->n_stages > 1 ? ", unless a stage's best takes them up" : "");
}
