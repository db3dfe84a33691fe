/* Parallel coordinates over every setting that varies, ending in the metric. Grid values stand at equal distances and
 * are labelled; lines fan out around a value in order of the metric, so that equal settings do not hide each other. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOP       58.0
#define BOTTOM    320.0
#define LEFT      70.0
#define RIGHT     (REPORT_WIDE - 90.0)
#define FAN_MOST  26.0
#define TEXT_MOST 14 /* labels an axis */

struct parallel {
    struct report *report;
    double *share; /* [n_rows] 0 … 1 in order of the metric, owned */
    struct scale metric;
};

static double axis_at(const struct report *report, int32_t a) {
    return LEFT + (RIGHT - LEFT) * a / report->n_axes; /* the metric is axis n_axes */
}

static double spacing(const struct report_axis *axis) {
    return (BOTTOM - TOP) / (axis->n > 1 ? axis->n - 1 : 1);
}

static double fan(const struct report_axis *axis) {
    return fmin(FAN_MOST, 0.6 * spacing(axis));
}

static double value_at(const struct report_axis *axis, int32_t k) {
    return BOTTOM - k * spacing(axis);
}

struct ranked {
    double value;
    int32_t row;
};

static int by_value(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->value != y->value) return (x->value > y->value) - (x->value < y->value);
    return x->row - y->row;
}

static int32_t rank_rows(struct parallel *parallel) {
    const struct report *report = parallel->report;
    struct ranked *ranked = lvs_malloc((size_t)report->results->n_rows * sizeof *ranked);
    struct range range = range_none();
    int32_t n = 0;
    for (int32_t i = 0; i < report->results->n_rows; i++) {
        if (report->results->rows[i].outside || isnan(report->metric[i])) continue;
        ranked[n++] = (struct ranked){.value = report->metric[i], .row = i};
        range_add(&range, report->metric[i]);
    }
    qsort(ranked, (size_t)n, sizeof *ranked, by_value);
    for (int32_t i = 0; i < report->results->n_rows; i++)
        parallel->share[i] = NAN;
    for (int32_t i = 0; i < n; i++)
        parallel->share[ranked[i].row] = n > 1 ? (double)i / (n - 1) : 0.5;
    parallel->metric = scale_make(range, 6, BOTTOM, TOP);
    free(ranked);
    return n;
}

/* On a plate, so that the lines that end at the value do not cross it out. */
static void draw_label(double right, double y, const char *label, struct strbuf *out) {
    double width = 7.0 * fmin((double)strlen(label), 12) + 4;
    svg_rect(out, right - width + 2, y - 8, width, 16, "plate");
    svg_text(out, right, y + 4, "k e", "%.12s", label);
}

static void draw_axis(const struct report *report, int32_t a, struct strbuf *out) {
    const struct report_axis *axis = &report->axes[a];
    double x = axis_at(report, a);
    svg_text(out, x, TOP - 30 + (report->n_axes > 7 && a % 2 ? 14 : 0), "t b m", "%s", axis->field->name);
    svg_line(out, x, TOP - fan(axis) / 2, x, BOTTOM + fan(axis) / 2, "a");
    int32_t every = (axis->n + TEXT_MOST - 1) / TEXT_MOST;
    for (int32_t k = 0; k < axis->n; k++) {
        double y = value_at(axis, k);
        if (axis->n <= TEXT_MOST) svg_rect(out, x - 2.5, y - fan(axis) / 2, 5, fan(axis), "slot");
        if (k % every == 0) draw_label(x - 8, y, axis->label[k], out);
    }
}

static void draw_metric(const struct parallel *parallel, struct strbuf *out) {
    const char *metric = parallel->report->results->metric, *unit = report_metric_unit(parallel->report);
    double x = axis_at(parallel->report, parallel->report->n_axes), ticks[12];
    int32_t n = scale_ticks(&parallel->metric, 8, ticks);
    svg_text(out, x, TOP - 30, "t b m", "%s", metric);
    svg_text(out, x, TOP - 15, "k m", "%s%s", unit, parallel->metric.is_log ? " (log scale)" : "");
    svg_line(out, x, TOP, x, BOTTOM, "a");
    for (int32_t i = 0; i < n; i++) {
        char text[32];
        double y = scale_at(&parallel->metric, ticks[i]);
        number_write(ticks[i], 4, text);
        svg_line(out, x, y, x + 5, y, "a");
        svg_text(out, x + 9, y + 4, "k", "%s", text);
    }
}

static void draw_row(const struct parallel *parallel, int32_t row, struct strbuf *out) {
    const struct report *report = parallel->report;
    double x[REPORT_MAX_AXES + 1], y[REPORT_MAX_AXES + 1];
    for (int32_t a = 0; a < report->n_axes; a++) {
        const struct report_axis *axis = &report->axes[a];
        x[a] = axis_at(report, a);
        y[a] = value_at(axis, axis->of_row[row]) - (parallel->share[row] - 0.5) * fan(axis);
    }
    x[report->n_axes] = axis_at(report, report->n_axes);
    y[report->n_axes] = scale_at(&parallel->metric, report->metric[row]);
    strbuf_printf(out, "<path class=\"l c%d%s\" data-t=\"%d\" d=\"", report_color(report, row),
                  row == report->best.index             ? " best"
                  : report->results->n_rows > THIN_FROM ? " thin"
                                                        : "",
                  row);
    svg_path(out, x, y, report->n_axes + 1);
    strbuf_add(out, "\"><title>");
    markup_add(out, report->results->rows[row].trial.name);
    strbuf_add(out, "</title></path>\n");
}

static void draw(const struct parallel *parallel, struct panels *out) {
    const struct report *report = parallel->report;
    struct strbuf *body = panels_add(out, REPORT_WIDE, 350, "parallel coordinates");
    for (int32_t i = 0; i < report->results->n_rows; i++)
        if (!isnan(parallel->share[i]) && i != report->best.index) draw_row(parallel, i, body);
    if (report->best.index >= 0 && !isnan(parallel->share[report->best.index]))
        draw_row(parallel, report->best.index, body);
    for (int32_t a = 0; a < report->n_axes; a++)
        draw_axis(report, a, body);
    draw_metric(parallel, body);
    if (report->best.index >= 0) {
        double y = scale_at(&parallel->metric, report->metric[report->best.index]);
        svg_text(body, axis_at(report, report->n_axes) + 50, y + 4, "t b halo", "best");
    }
}

void figure_parallel(struct report *report, struct panels *out) {
    struct parallel parallel = {.report = report};
    parallel.share = lvs_malloc((size_t)report->results->n_rows * sizeof *parallel.share);
    int32_t n = rank_rows(&parallel);
    if (n >= 2 && report->n_axes >= 1) {
        draw(&parallel, out);
        out->has_legend = true;
        strbuf_add(&out->note, "One line a finished trial; around a value, lines are ordered by the metric.");
        if (report->n_axes_left_out)
            strbuf_printf(&out->note, " %d further settings that vary are left out.", report->n_axes_left_out);
    } else {
        strbuf_add(&out->note, "Needs two finished trials that differ in a setting.");
    }
    free(parallel.share);
}
