/* Where the FLOPs went: one bar of the whole budget, and a waterfall from the cap down to what is left. Both are made
 * from the same parts, whose sum is what the ledger holds. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PARTS_MOST (CONFIG_MAX_STAGES + 4)

struct budget_part {
    char name[80];
    double flops;
    char class[8]; /* of its fill */
};
struct budget_view {
    int32_t n;
    struct budget_part parts[PARTS_MOST];
    double total; /* the cap, or all that was spent and is reserved */
    bool capped;
};

static void part_add(struct budget_view *view, double flops, const char *class, const char *name) {
    if (flops <= 0) return;
    struct budget_part *part = &view->parts[view->n++];
    lvs_copy(part->name, sizeof part->name, name);
    lvs_copy(part->class, sizeof part->class, class);
    part->flops = flops;
}

static void gather(const struct report *report, struct budget_view *view) {
    const struct results *results = report->results;
    double by_stage[CONFIG_MAX_STAGES] = {0}, outside = 0, rows = 0;
    for (int32_t i = 0; i < results->n_rows; i++) {
        const struct result_row *row = &results->rows[i];
        rows += (double)row->charged;
        if (row->outside || row->trial.stage < 0)
            outside += (double)row->charged;
        else
            by_stage[row->trial.stage] += (double)row->charged;
    }
    for (int32_t s = 0; s < results->n_stages; s++) {
        char class[8];
        snprintf(class, sizeof class, "s%d", s % 8);
        part_add(view, by_stage[s], class, results->stage_name[s]);
    }
    double other = (double)results->ledger.spent - rows;
    if (other > 1e-9 * rows + 0.5) part_add(view, other, "s6", "baselines");
    part_add(view, outside, "s7", "outside the present grid");
    part_add(view, (double)results->ledger.reserved, "held", "reserved");
    view->capped = results->ledger.capped;
    if (view->capped) part_add(view, (double)ledger_left(&results->ledger), "left", "left");
    for (int32_t i = 0; i < view->n; i++)
        view->total += view->parts[i].flops;
}

static void flops_text(const struct budget_view *view, double flops, char out[80]) {
    char number[32], percent[32];
    number_write(flops, 4, number);
    number_write(100 * flops / view->total, 3, percent);
    snprintf(out, 80, "%s (%s %%)", number, percent);
}

void figure_budget(struct report *report, struct panels *out) {
    struct budget_view view = {0};
    gather(report, &view);
    if (!view.n) {
        strbuf_add(&out->note, "Nothing is spent yet.");
        return;
    }
    const double left = 8, width = REPORT_PANEL_WIDTH - 16;
    struct strbuf *body = panels_add(out, REPORT_PANEL_WIDTH, 64 + 20 * view.n, "budget");
    double x = left;
    for (int32_t i = 0; i < view.n; i++) {
        double share = view.parts[i].flops / view.total * width;
        svg_rect(body, x, 26, share, 26, view.parts[i].class);
        x += share;
    }
    char total[32], text[80];
    number_write(view.total, 4, total);
    svg_text(body, left, 16, "t", view.capped ? "budget: %s FLOPs" : "spent and reserved: %s FLOPs, no cap", total);
    for (int32_t i = 0; i < view.n; i++) {
        double y = 74 + 20 * i;
        flops_text(&view, view.parts[i].flops, text);
        svg_rect(body, left, y - 10, 12, 12, view.parts[i].class);
        svg_text(body, left + 20, y, "t", "%s", view.parts[i].name);
        svg_text(body, left + width, y, "t e", "%s", text);
    }
    strbuf_printf(&out->note, "FLOPs by the convention %s.", report->results->convention);
    if (report->results->ledger.lost) {
        number_write((double)report->results->ledger.lost, 3, total);
        strbuf_printf(&out->note, " %s FLOPs of steps repeated after a death are beside the budget.", total);
    }
    if (report->count[TRIAL_CUT])
        strbuf_printf(&out->note, " %d trial%s did not fit and %s cut.", report->count[TRIAL_CUT],
                      report->count[TRIAL_CUT] == 1 ? "" : "s", report->count[TRIAL_CUT] == 1 ? "was" : "were");
}

/* ---- waterfall ---- */

static void draw_step(const struct budget_view *view, const struct scale *scale, int32_t i, double before,
                      struct strbuf *out) {
    const struct budget_part *part = &view->parts[i];
    bool is_left = strcmp(part->class, "left") == 0;
    double after = before - part->flops, y = 56 + 26 * i;
    double from = scale_at(scale, is_left ? 0 : after), to = scale_at(scale, is_left ? part->flops : before);
    char text[64], percent[32];
    number_write(100 * part->flops / view->total, 3, percent);
    snprintf(text, sizeof text, "%s%s %%", is_left ? "" : "−", percent);
    svg_text(out, 128, y + 13, "t e", "%.18s%s", part->name, strlen(part->name) > 18 ? "…" : "");
    svg_rect(out, from, y, fmax(to - from, 1), 18, part->class);
    bool inside = from - 6 - text_width(text) < 138;
    svg_text(out, inside ? to + 6 : from - 6, y + 13, inside ? "k" : "k e", "%s", text);
    if (i + 1 < view->n) svg_line(out, from, y + 18, from, y + 26, "a");
}

void figure_waterfall(struct report *report, struct panels *out) {
    struct budget_view view = {0};
    gather(report, &view);
    if (!view.n) {
        strbuf_add(&out->note, "Nothing is spent yet.");
        return;
    }
    double bottom = 56 + 26 * view.n + 4;
    struct strbuf *body = panels_add(out, REPORT_PANEL_WIDTH, (int32_t)bottom + 44, "waterfall of FLOPs");
    struct plot plot = {.out = body, .left = 138, .right = REPORT_PANEL_WIDTH - 52, .top = 24, .bottom = bottom};
    plot.x = scale_from_zero(view.total, plot.left, plot.right);
    plot_frame(&plot, view.capped ? "FLOPs left" : "FLOPs", NULL);
    svg_text(body, 128, 43, "t b e", view.capped ? "budget" : "all");
    svg_rect(body, plot.left, 30, plot.right - plot.left, 18, "held");
    svg_text(body, plot.right + 6, 43, "k", "100 %%");
    double before = view.total;
    for (int32_t i = 0; i < view.n; i++) {
        draw_step(&view, &plot.x, i, before, body);
        before -= view.parts[i].flops;
    }
    strbuf_add(&out->note, "Each stage takes its trials' counted FLOPs off what was there before it.");
}
