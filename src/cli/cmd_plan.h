/* What the files of `lvsweep plan` share. */
#pragma once
#include <jansson.h>

#include "cli_internal.h"

struct plan_view {
    const struct config *config;
    struct sweep_facts *facts;
    const struct plan *plan;
    const struct results *known; /* of an earlier run; NULL = none */
};

/* ---- cmd_plan_needs.c ---- */

/* What the trials that the plan runs need; FLOPs as the budget counts. */
struct plan_needs {
    int32_t n_run, n_measured; /* n_measured: finished trials that `rate` is the mean of */
    int64_t worker_bytes;      /* of the largest trial, without weights */
    int64_t weight_bytes;
    double flops;
    double rate, seconds; /* FLOP/s and seconds of one worker; NaN = not known */
};
void plan_needs_make(const struct plan_view *view, struct plan_needs *out);
void plan_needs_time(const struct results *known, struct plan_needs *needs);
void plan_print_needs(const struct plan_view *view, const struct plan_needs *needs);
void plan_json_needs(const struct plan_needs *needs, json_t *document);
/* Trials of an earlier run that the plan has no place for. */
void plan_print_left_out(const struct plan_view *view, const struct results *known);

/* ---- cmd_plan_costs.c ---- */

enum lvs_status plan_print_costs(const struct plan_view *view, struct lvs_error *err);
/* Adds `conventions` and `published` to the document. */
enum lvs_status plan_json_costs(const struct plan_view *view, json_t *document, struct lvs_error *err);
