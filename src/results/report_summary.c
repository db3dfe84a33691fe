/* The top of the page: four numbers and the best trial. Every text from the sweep goes through markup_add. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>

static void tile(struct strbuf *out, const char *value, const char *name, const char *detail) {
    strbuf_add(out, "<div class=\"tile\"><b>");
    markup_add(out, value);
    strbuf_add(out, "</b><span>");
    markup_add(out, name);
    strbuf_add(out, "</span>");
    if (detail[0]) {
        strbuf_add(out, "<small>");
        markup_add(out, detail);
        strbuf_add(out, "</small>");
    }
    strbuf_add(out, "</div>\n");
}

static void best_tile(const struct report *report, struct strbuf *out) {
    char value[32], name[128], detail[128] = "";
    if (report->best.index < 0) {
        tile(out, "–", report->results->metric, "no trial is done yet");
        return;
    }
    const char *unit = report_metric_unit(report);
    number_write(report->best.mean, 5, value);
    snprintf(name, sizeof name, "best %s%s%s", report->results->metric, unit[0] ? ", " : "", unit);
    const struct settings *settings = &report->results->rows[report->best.index].trial.settings;
    double untrained = report_untrained(report, settings->context, settings->decimals);
    char text[32];
    if (report->best.n_seeds > 1) {
        number_write(report->best.deviation, 2, text);
        snprintf(detail, sizeof detail, "± %s over %d seeds", text, report->best.n_seeds);
    } else if (isfinite(untrained)) {
        number_write(untrained, 5, text);
        snprintf(detail, sizeof detail, "untrained model: %s", text);
    }
    tile(out, value, name, detail);
}

static void trials_tile(const struct report *report, struct strbuf *out) {
    static const int32_t shown[] = {TRIAL_RUNNING, TRIAL_PENDING, TRIAL_FAILED,      TRIAL_DIVERGED,
                                    TRIAL_STOPPED, TRIAL_CUT,     TRIAL_INTERRUPTED, TRIAL_SUPERSEDED};
    char value[32];
    struct strbuf detail;
    strbuf_init(&detail);
    strbuf_add(&detail, "");
    for (size_t k = 0; k < sizeof shown / sizeof *shown; k++)
        if (report->count[shown[k]])
            strbuf_printf(&detail, "%s%d %s", detail.length ? ", " : "", report->count[shown[k]],
                          trial_status_name(shown[k]));
    snprintf(value, sizeof value, "%d of %d", report->count[TRIAL_DONE], report->results->n_rows);
    tile(out, value, "trials done", detail.text);
    strbuf_free(&detail);
}

static void budget_tile(const struct report *report, struct strbuf *out) {
    const struct ledger *ledger = &report->results->ledger;
    char value[32], spent[32], cap[32], detail[128];
    number_write((double)ledger->spent, 4, spent);
    if (!ledger->capped) {
        tile(out, spent, "FLOPs spent", "no cap");
        return;
    }
    number_write((double)ledger->cap, 4, cap);
    double percent = 100 * (double)ledger->spent / (double)ledger->cap;
    snprintf(value, sizeof value, "%.*f %%", percent < 99.95 ? 1 : 0, percent);
    snprintf(detail, sizeof detail, "%s of %s FLOPs, %s", spent, cap, report->results->convention);
    tile(out, value, "of the budget spent", detail);
}

static void time_tile(const struct report *report, struct strbuf *out) {
    char value[32], started[32], detail[64];
    duration_write(report->end - report->begin, value);
    time_write(report->results->created, started);
    snprintf(detail, sizeof detail, "begun %s", started);
    tile(out, value, "first start to last end", detail);
}

static void best_paragraph(const struct report *report, struct strbuf *out) {
    const struct results *results = report->results;
    if (report->best.index < 0) return;
    const struct result_row *row = &results->rows[report->best.index];
    strbuf_printf(out, "<p class=\"best\" data-t=\"%d\"><b>Best trial</b> (stage ", report->best.index);
    markup_add(out, results->stage_name[report->best_stage]);
    strbuf_add(out, "): <code>");
    markup_add(out, row->trial.name);
    char rate[REPORT_LABEL_MAX];
    report_setting_text(report, field_find("learning_rate"), report->best.index, rate);
    strbuf_printf(out, "</code>, rank %d, learning rate %s, context %d tokens, %d steps", row->trial.settings.lora_rank,
                  rate, row->trial.settings.context, row->record.steps_done);
    if (isfinite(row->record.val.mae_mean)) {
        char mae[32];
        number_write(row->record.val.mae_mean, 4, mae);
        strbuf_printf(out, "; validation forecasts: MAE %s", mae);
        if (isfinite(row->record.val.success_rate))
            strbuf_printf(out, ", %.0f %% of series well-formed", 100 * row->record.val.success_rate);
    }
    strbuf_add(out, ". Adapter: <code>trials/");
    markup_add(out, row->trial.name);
    strbuf_add(out, "/adapter</code></p>\n");
}

void page_summary(struct report *report, struct strbuf *out) {
    strbuf_add(out, "<div class=\"tiles\">\n");
    best_tile(report, out);
    trials_tile(report, out);
    budget_tile(report, out);
    time_tile(report, out);
    strbuf_add(out, "</div>\n");
    best_paragraph(report, out);
    if (report->n_damaged)
        strbuf_printf(out, "<p class=\"warning\">%d file%s of trials could not be read and %s left out.</p>\n",
                      report->n_damaged, report->n_damaged == 1 ? "" : "s", report->n_damaged == 1 ? "is" : "are");
}
