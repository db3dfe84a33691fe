/* The metric against context and against cost: one point a finished trial. Lines join trials that differ in context
 * (and seed) only; the dashed one is the untrained model. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct scatter {
    struct report *report;
    bool by_context;
    uint64_t *group; /* [n_rows] settings without context and seed; owned */
};

static double x_of(const struct scatter *scatter, int32_t row) {
    const struct result_row *at = &scatter->report->results->rows[row];
    return scatter->by_context ? at->trial.settings.context : (double)at->record.flops_training;
}

static bool is_drawn(const struct scatter *scatter, int32_t row) {
    return !scatter->report->results->rows[row].outside && isfinite(scatter->report->metric[row]) &&
           x_of(scatter, row) > 0;
}

static void draw_points(const struct scatter *scatter, const struct plot *plot) {
    const struct report *report = scatter->report;
    for (int32_t i = 0; i < report->results->n_rows; i++) {
        if (!is_drawn(scatter, i)) continue;
        char value[32];
        number_write(report->metric[i], 5, value);
        bool best = i == report->best.index;
        strbuf_printf(plot->out, "<circle class=\"p f%d%s\" data-t=\"%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"><title>",
                      report_color(report, i), best ? " bestp" : "", i, scale_at(&plot->x, x_of(scatter, i)),
                      scale_at(&plot->y, report->metric[i]), best ? "6" : "4");
        markup_printf(plot->out, "%s: %s", report->results->rows[i].trial.name, value);
        strbuf_add(plot->out, "</title></circle>\n");
    }
}

/* Means over seeds at each context, joined within one stage and one group. */
static int32_t line_points(const struct scatter *scatter, const struct plot *plot, int32_t first, int32_t stage,
                           double *x, double *y) {
    const struct report *report = scatter->report;
    const struct report_axis *contexts = report_axis_find(report, "context");
    int32_t n = 0;
    for (int32_t k = 0; contexts && k < contexts->n; k++) {
        double sum = 0;
        int32_t seeds = 0;
        for (int32_t i = first; i < report->results->n_rows; i++) {
            if (contexts->of_row[i] != k || scatter->group[i] != scatter->group[first]) continue;
            if (!is_drawn(scatter, i) || !report_in_stage(report, i, stage)) continue;
            sum += report->metric[i];
            seeds++;
        }
        if (!seeds) continue;
        x[n] = scale_at(&plot->x, contexts->number[k]);
        y[n++] = scale_at(&plot->y, sum / seeds);
    }
    return n;
}

static bool is_first_of_group(const struct scatter *scatter, int32_t row, int32_t stage) {
    if (!is_drawn(scatter, row) || !report_in_stage(scatter->report, row, stage)) return false;
    for (int32_t i = 0; i < row; i++)
        if (scatter->group[i] == scatter->group[row] && is_drawn(scatter, i) &&
            report_in_stage(scatter->report, i, stage))
            return false;
    return true;
}

static void draw_lines(const struct scatter *scatter, const struct plot *plot) {
    const struct report *report = scatter->report;
    const struct report_axis *contexts = report_axis_find(report, "context");
    double *x = lvs_malloc((size_t)(contexts ? contexts->n : 1) * sizeof *x);
    double *y = lvs_malloc((size_t)(contexts ? contexts->n : 1) * sizeof *y);
    for (int32_t stage = 0; stage < report->results->n_stages; stage++)
        for (int32_t i = 0; i < report->results->n_rows; i++) {
            if (!is_first_of_group(scatter, i, stage)) continue;
            int32_t n = line_points(scatter, plot, i, stage, x, y);
            if (n < 2) continue;
            strbuf_printf(plot->out, "<path class=\"l c%d\" data-t=\"%d\" d=\"", report_color(report, i), i);
            svg_path(plot->out, x, y, n);
            strbuf_add(plot->out, "\"/>\n");
        }
    free(x);
    free(y);
}

/* ---- the untrained model ---- */

static void untrained_range(const struct scatter *scatter, struct range *values) {
    for (int32_t i = 0; i < scatter->report->results->n_rows; i++) {
        const struct settings *settings = &scatter->report->results->rows[i].trial.settings;
        if (is_drawn(scatter, i))
            range_add(values, report_untrained(scatter->report, settings->context, settings->decimals));
    }
}

static void draw_untrained(const struct scatter *scatter, const struct plot *plot) {
    const struct report_axis *contexts = report_axis_find(scatter->report, "context");
    if (!contexts) return;
    int32_t decimals = scatter->report->results->rows[0].trial.settings.decimals;
    double *x = lvs_malloc((size_t)contexts->n * sizeof *x), *y = lvs_malloc((size_t)contexts->n * sizeof *y);
    int32_t last = -1;
    for (int32_t k = 0; k < contexts->n; k++) {
        x[k] = scale_at(&plot->x, contexts->number[k]);
        y[k] = scale_at(&plot->y, report_untrained(scatter->report, (int32_t)contexts->number[k], decimals));
        if (isfinite(x[k]) && isfinite(y[k])) last = k;
    }
    if (last >= 0) {
        strbuf_add(plot->out, "<path class=\"l dash\" d=\"");
        svg_path(plot->out, x, y, contexts->n);
        strbuf_add(plot->out, "\"/>\n");
        svg_text(plot->out, plot->right + 6, y[last] + 4, "k", "untrained");
    }
    free(x);
    free(y);
}

/* ---- panels ---- */

static void label_best(const struct scatter *scatter, const struct plot *plot) {
    int32_t best = scatter->report->best.index;
    if (best < 0 || !is_drawn(scatter, best)) return;
    double x = scale_at(&plot->x, x_of(scatter, best)), y = scale_at(&plot->y, scatter->report->metric[best]);
    bool right = x < plot->right - 60;
    svg_text(plot->out, right ? x + 10 : x - 10, y + 4, right ? "t b halo" : "t b e halo", "best");
}

static void draw(struct scatter *scatter, struct panels *out) {
    struct report *report = scatter->report;
    struct range xs = range_none(), ys = range_none();
    int32_t n = 0;
    for (int32_t i = 0; i < report->results->n_rows; i++) {
        if (!is_drawn(scatter, i)) continue;
        n++;
        range_add(&xs, x_of(scatter, i));
        range_add(&ys, report->metric[i]);
    }
    if (n < 2 || (scatter->by_context && xs.low == xs.high)) return;
    if (scatter->by_context) untrained_range(scatter, &ys);
    char y_title[160];
    const char *unit = report_metric_unit(report);
    snprintf(y_title, sizeof y_title, "%s%s%s", report->results->metric, unit[0] ? ", " : "", unit);
    struct strbuf *body = panels_add(out, REPORT_PANEL_WIDTH, 330,
                                     scatter->by_context ? "metric against context" : "metric against training cost");
    struct plot plot = {.out = body, .left = 56, .right = REPORT_PANEL_WIDTH - 78, .top = 36, .bottom = 284};
    plot.x = scale_make(xs, 4, plot.left, plot.right);
    plot.y = scale_make(ys, 8, plot.bottom, plot.top);
    const struct report_axis *contexts = report_axis_find(report, "context");
    bool few = scatter->by_context && contexts && contexts->n <= 8;
    plot.x_ticks = few ? contexts->number : NULL;
    plot.n_x_ticks = few ? contexts->n : 0;
    plot_frame(&plot, scatter->by_context ? "context, tokens" : "training, FLOPs", y_title);
    if (scatter->by_context) draw_untrained(scatter, &plot);
    if (scatter->by_context) draw_lines(scatter, &plot);
    draw_points(scatter, &plot);
    label_best(scatter, &plot);
    out->has_legend = true;
}

static void figure_scatter(struct report *report, bool by_context, struct panels *out) {
    struct scatter scatter = {.report = report, .by_context = by_context};
    scatter.group = lvs_malloc((size_t)report->results->n_rows * sizeof *scatter.group);
    for (int32_t i = 0; i < report->results->n_rows; i++)
        scatter.group[i] = report_group_without_context(&report->results->rows[i].trial.settings);
    draw(&scatter, out);
    free(scatter.group);
}

void figure_context(struct report *report, struct panels *out) {
    figure_scatter(report, true, out);
    strbuf_add(&out->note, out->n ? "Lines join trials of one stage that differ in context only (means over seeds)."
                                  : "No two finished trials differ in context.");
}

void figure_cost(struct report *report, struct panels *out) {
    figure_scatter(report, false, out);
    if (out->n)
        strbuf_printf(&out->note, "Training FLOPs by the convention %s.", report->results->convention);
    else
        strbuf_add(&out->note, "Needs two finished trials.");
}
