/* lvsweep plan: the plan's cost under every convention side by side, and what the reports printed beside what the
 * formulas and this plan give. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cmd_plan.h"

#define CONVENTIONS 4
#define REFERENCE   1e17 /* what the reports' percentages are of, FLOPs */

static double percent_of(double flops, double whole) {
    return whole > 0 ? 100 * flops / whole : NAN;
}

/* ---- what the reports printed ---- */

/* The plan's counterpart of a printed row. */
struct counterpart {
    int32_t n_trials;
    double percent; /* of 1e17, as the budget counts; without measuring the untrained model */
};

static const struct trial *row_trial(const struct plan_view *view, int32_t row) {
    return coordinator_trial(view->plan->coordinator, view->plan->rows[row].trial);
}

/* A run of the printed row's kind. A report's own number of steps may differ by one where a share was to be spent. */
static bool is_counterpart(const struct flops_published *published, const struct settings *settings) {
    if (published->steps == FLOPS_PUBLISHED_SUM) return true;
    return fabs(settings->steps.value - (double)published->steps) <= 1e-3 * (double)published->steps &&
           settings->batch == published->batch &&
           flops_published_covers(published, settings->lora_rank, settings->context);
}

/* Every trial counts once; of contexts that are summed, one trial each. */
static bool counted_before(const struct plan_view *view, const struct flops_published *published, int32_t row) {
    bool one_a_context = published->context == 0 && published->steps != FLOPS_PUBLISHED_SUM;
    for (int32_t i = 0; i < row; i++) {
        if (view->plan->rows[i].verdict == PLAN_CUT) continue;
        if (view->plan->rows[i].trial == view->plan->rows[row].trial) return true;
        const struct settings *other = &row_trial(view, i)->settings;
        if (one_a_context && other->context == row_trial(view, row)->settings.context &&
            is_counterpart(published, other))
            return true;
    }
    return false;
}

/* Trials that the plan runs or has, as many as the printed row is about. */
static enum lvs_status find_counterpart(const struct plan_view *view, const struct flops_published *published,
                                        struct counterpart *out, struct lvs_error *err) {
    *out = (struct counterpart){0};
    for (int32_t i = 0; i < view->plan->n_rows && out->n_trials < published->trials; i++) {
        const struct settings *settings = &row_trial(view, i)->settings;
        struct trial_price price;
        if (view->plan->rows[i].verdict == PLAN_CUT || !is_counterpart(published, settings) ||
            counted_before(view, published, i))
            continue;
        LVS_TRY(trial_price_make(view->config, view->facts, settings, &price, err));
        out->n_trials++;
        out->percent += percent_of((double)price.counted, REFERENCE);
    }
    return LVS_OK;
}

static bool is_shown(const struct plan_view *view, const struct flops_published *row) {
    return strcmp(row->convention, view->config->convention) == 0;
}

/* Whether the plan has any of the runs that a report printed under the budget's convention. */
static bool any_counterpart(const struct plan_view *view) {
    const struct flops_published *row;
    for (int32_t i = 0; (row = flops_published_at(i)); i++)
        for (int32_t k = 0; k < view->plan->n_rows; k++)
            if (is_shown(view, row) && row->steps != FLOPS_PUBLISHED_SUM && view->plan->rows[k].verdict != PLAN_CUT &&
                is_counterpart(row, &row_trial(view, k)->settings))
                return true;
    return false;
}

static void print_formula(const struct flops_published *row) {
    double formula = flops_published_percent(row);
    if (isnan(formula))
        printf(" %12s %8s", "-", "-");
    else if (flops_published_met(row))
        printf(" %12.6g %8s", formula, "yes");
    else
        printf(" %12.6g %+6.1f %%", formula, flops_published_deviation(row, formula));
}

static json_t *number_or_null(double value) {
    return isnan(value) ? json_null() : json_real(value);
}

static enum lvs_status print_published(const struct plan_view *view, struct lvs_error *err) {
    const struct flops_published *row;
    if (!any_counterpart(view)) return LVS_OK;
    printf("\n%-50s %10s %12s %8s %12s\n", "published (% of 1e17)", "printed", "by formula", "met", "this plan");
    for (int32_t i = 0; (row = flops_published_at(i)); i++) {
        struct counterpart mine;
        if (!is_shown(view, row)) continue;
        LVS_TRY(find_counterpart(view, row, &mine, err));
        printf("report %s: %-40s %10s", row->report, row->what, row->printed);
        print_formula(row);
        if (mine.n_trials == 0)
            printf(" %12s\n", "-");
        else
            printf(" %12.6g  %+.1f %%, %d of %d trial%s\n", mine.percent, flops_published_deviation(row, mine.percent),
                   mine.n_trials, row->trials, row->trials == 1 ? "" : "s");
    }
    return LVS_OK;
}

static enum lvs_status published_json(const struct plan_view *view, json_t *list, struct lvs_error *err) {
    const struct flops_published *row;
    for (int32_t i = 0; any_counterpart(view) && (row = flops_published_at(i)); i++) {
        struct counterpart mine;
        if (!is_shown(view, row)) continue;
        LVS_TRY(find_counterpart(view, row, &mine, err));
        double formula = flops_published_percent(row);
        json_t *object =
            json_pack("{s:s, s:s, s:s, s:o, s:b, s:o, s:i, s:i}", "report", row->report, "what", row->what, "printed",
                      row->printed, "formula_percent", number_or_null(formula), "met", (int)flops_published_met(row),
                      "deviation_percent", number_or_null(flops_published_deviation(row, formula)), "trials",
                      row->trials, "plan_trials", mine.n_trials);
        json_object_set_new(object, "plan_percent", mine.n_trials > 0 ? json_real(mine.percent) : json_null());
        json_array_append_new(list, object);
    }
    return LVS_OK;
}

/* ---- all conventions ---- */

static enum lvs_status costs_make(const struct plan_view *view, struct plan_cost costs[CONVENTIONS],
                                  struct lvs_error *err) {
    const struct flops_convention *convention;
    for (int32_t i = 0; i < CONVENTIONS && (convention = flops_convention_at(i)); i++)
        LVS_TRY(plan_cost_make(view->config, view->facts, view->plan, convention->name, &costs[i], err));
    return LVS_OK;
}

enum lvs_status plan_print_costs(const struct plan_view *view, struct lvs_error *err) {
    struct plan_cost costs[CONVENTIONS];
    LVS_TRY(costs_make(view, costs, err));
    bool counts = view->config->count == COUNT_TRAINING_EVALUATION;
    printf("\n%-12s %12s %12s %12s %11s %11s\n", "convention", "training", "evaluation", "counted", "% of budget",
           "% of 1e17");
    for (int32_t i = 0; i < CONVENTIONS; i++) {
        const char *name = flops_convention_at(i)->name;
        double counted = (double)costs[i].counted;
        printf("%-12s %12.5g %12.5g %12.5g ", name, (double)costs[i].training, (double)costs[i].evaluation, counted);
        if (view->config->flops_cap > 0)
            printf("%11.3f", percent_of(counted, view->config->flops_cap));
        else
            printf("%11s", "-");
        printf(" %11.3f%s\n", percent_of(counted, REFERENCE),
               strcmp(name, view->config->convention) == 0 ? "  <- the budget's" : "");
    }
    printf("the trials above that run; %s counted\n", counts ? "training and evaluation" : "training");
    return print_published(view, err);
}

enum lvs_status plan_json_costs(const struct plan_view *view, json_t *document, struct lvs_error *err) {
    struct plan_cost costs[CONVENTIONS];
    LVS_TRY(costs_make(view, costs, err));
    json_t *list = json_array();
    for (int32_t i = 0; i < CONVENTIONS; i++) {
        double counted = (double)costs[i].counted, cap = view->config->flops_cap;
        json_t *object = json_pack("{s:s, s:f, s:f, s:f}", "name", flops_convention_at(i)->name, "flops_training",
                                   (double)costs[i].training, "flops_evaluation", (double)costs[i].evaluation,
                                   "flops_counted", counted);
        json_object_set_new(object, "budget_percent", cap > 0 ? json_real(percent_of(counted, cap)) : json_null());
        json_array_append_new(list, object);
    }
    json_t *published = json_array();
    json_object_set_new(document, "conventions", list);
    json_object_set_new(document, "published", published);
    return published_json(view, published, err);
}
