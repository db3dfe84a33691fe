/* What the files of `lvsweep plan` share. */
#pragma once
#include <jansson.h>

#include "cli_internal.h"

struct plan_view {
    const struct config *config;
    struct sweep_facts *facts;
    const struct plan *plan;
};

/* ---- cmd_plan_costs.c ---- */

enum lvs_status plan_print_costs(const struct plan_view *view, struct lvs_error *err);
/* Adds `conventions` and `published` to the document. */
enum lvs_status plan_json_costs(const struct plan_view *view, json_t *document, struct lvs_error *err);
