/* Training and validation curves: one panel a stage, its own steps on x, one range of losses for all panels, so that
 * heights compare. Colours are the page's colour axis; the best trial is drawn thick and last. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABELS_MOST 6
#define LOG_FROM    5.0 /* logarithmic where the largest loss is this many times the smallest */

struct curve_figure {
    struct report *report;
    bool validation;
    struct range losses; /* of the trials that did not break off, where there are any */
    int32_t panel_width;
    bool is_thin; /* so many curves that they need thin lines */
};

static int32_t curve_length(const struct curve_figure *figure, int32_t row) {
    const struct report_curve *curve = &figure->report->curves[row];
    return figure->validation ? curve->n_evaluation : curve->n;
}

static double curve_x(const struct curve_figure *figure, int32_t row, int32_t k) {
    const struct report_curve *curve = &figure->report->curves[row];
    return figure->validation ? curve->evaluation_step[k] : (double)curve->step[k];
}

static double curve_y(const struct curve_figure *figure, int32_t row, int32_t k) {
    const struct report_curve *curve = &figure->report->curves[row];
    return figure->validation ? curve->val_loss[k] : (double)curve->loss[k];
}

static bool broke_off(const struct result_row *row) {
    return row->record.status == TRIAL_DIVERGED || row->record.status == TRIAL_FAILED;
}

/* Validation needs two points to be a curve. */
static bool is_drawn(const struct curve_figure *figure, int32_t row, int32_t stage) {
    if (figure->report->results->rows[row].outside || !report_in_stage(figure->report, row, stage)) return false;
    int32_t finite = 0;
    for (int32_t k = 0; k < curve_length(figure, row) && finite < 2; k++)
        finite += isfinite(curve_y(figure, row, k)) != 0;
    return finite >= (figure->validation ? 2 : 1);
}

/* What tells the rows of this stage apart: "r8 lr1e-4". */
static void row_label(const struct curve_figure *figure, int32_t row, int32_t stage, char out[REPORT_LABEL_MAX]) {
    const struct report *report = figure->report;
    struct strbuf text;
    strbuf_init(&text);
    for (int32_t a = 0; a < report->n_axes; a++) {
        const struct report_axis *axis = &report->axes[a];
        bool varies = false;
        for (int32_t i = 0; i < report->results->n_rows && !varies; i++)
            varies = is_drawn(figure, i, stage) && axis->of_row[i] != axis->of_row[row];
        if (!varies) continue;
        const char *name = axis->field->name;
        const char *sign = strcmp(name, "lora_rank") == 0       ? "r"
                           : strcmp(name, "learning_rate") == 0 ? "lr"
                           : strcmp(name, "context") == 0       ? "c"
                           : strcmp(name, "seed") == 0          ? "s"
                                                                : "";
        strbuf_printf(&text, "%s%s%s", text.length ? " " : "", sign, axis->label[axis->of_row[row]]);
    }
    lvs_copy(out, REPORT_LABEL_MAX, text.length ? text.text : "");
    if (strlen(out) > 18) lvs_copy(out + 17, 4, "…");
    strbuf_free(&text);
}

static void draw_curve(const struct curve_figure *figure, const struct plot *plot, int32_t row) {
    const struct report *report = figure->report;
    const struct result_row *at = &report->results->rows[row];
    int32_t n = curve_length(figure, row), last = -1;
    double *x = lvs_malloc((size_t)n * sizeof *x), *y = lvs_malloc((size_t)n * sizeof *y);
    for (int32_t k = 0; k < n; k++) {
        double loss = curve_y(figure, row, k);
        x[k] = scale_at(&plot->x, curve_x(figure, row, k));
        y[k] = loss > plot->y.high ? NAN : scale_at(&plot->y, loss);
        if (isfinite(y[k])) last = k;
    }
    strbuf_printf(plot->out, "<path class=\"l c%d%s\" data-t=\"%d\" d=\"", report_color(report, row),
                  row == report->best.index ? " best"
                  : figure->is_thin         ? " thin"
                                            : "",
                  row);
    svg_path(plot->out, x, y, n);
    strbuf_add(plot->out, "\"><title>");
    markup_add(plot->out, at->trial.name);
    strbuf_add(plot->out, "</title></path>\n");
    if (broke_off(at) && last >= 0) {
        strbuf_printf(plot->out, "<g data-t=\"%d\">", row);
        svg_text(plot->out, x[last], y[last] + 4, "t m fbad", "×");
        strbuf_add(plot->out, "</g>\n");
    }
    free(x);
    free(y);
}

static double last_height(const struct curve_figure *figure, const struct plot *plot, int32_t row) {
    double height = plot->bottom;
    for (int32_t k = 0; k < curve_length(figure, row); k++) {
        double y = scale_at(&plot->y, curve_y(figure, row, k));
        if (isfinite(y)) height = y;
    }
    return height;
}

/* Names at the ends: all of a few curves, only the stage's best of many. Returns their number. */
static int32_t find_labels(const struct curve_figure *figure, int32_t stage, int32_t n_drawn,
                           struct end_label labels[LABELS_MOST], int32_t rows[LABELS_MOST]) {
    const struct report *report = figure->report;
    int32_t best = results_best(report->results, stage, report->results->metric).index, n = 0;
    for (int32_t i = 0; i < report->results->n_rows && n < LABELS_MOST; i++) {
        if (!is_drawn(figure, i, stage) || (n_drawn > LABELS_MOST && i != best)) continue;
        row_label(figure, i, stage, labels[n].text);
        if (labels[n].text[0] == '\0') continue;
        if (n_drawn > LABELS_MOST) lvs_copy(labels[n].text, sizeof labels[n].text, "best");
        labels[n].color = report_color(report, i);
        rows[n++] = i;
    }
    return n;
}

static void draw_curves(const struct curve_figure *figure, const struct plot *plot, int32_t stage) {
    const struct report *report = figure->report;
    for (int32_t i = 0; i < report->results->n_rows; i++)
        if (is_drawn(figure, i, stage) && i != report->best.index) draw_curve(figure, plot, i);
    if (report->best.index >= 0 && is_drawn(figure, report->best.index, stage))
        draw_curve(figure, plot, report->best.index);
}

static void draw_stage(const struct curve_figure *figure, int32_t stage, struct panels *out) {
    const struct report *report = figure->report;
    struct range steps = range_none();
    int32_t n_drawn = 0, rows[LABELS_MOST];
    for (int32_t i = 0; i < report->results->n_rows; i++) {
        if (!is_drawn(figure, i, stage)) continue;
        n_drawn++;
        range_add(&steps, report->results->rows[i].record.steps_done);
        for (int32_t k = 0; k < curve_length(figure, i); k++)
            range_add(&steps, curve_x(figure, i, k));
    }
    if (!n_drawn) return;
    struct end_label labels[LABELS_MOST];
    int32_t n_labels = find_labels(figure, stage, n_drawn, labels, rows);
    double margin = 14;
    for (int32_t k = 0; k < n_labels; k++)
        margin = fmax(margin, 12 + text_width(labels[k].text));
    char title[128];
    snprintf(title, sizeof title, "%s: %d trial%s", report->results->stage_name[stage], n_drawn,
             n_drawn == 1 ? "" : "s");
    struct strbuf *body = panels_add(out, figure->panel_width, 300, title);
    svg_text(body, 46, 16, "h", "%s", title);
    struct plot plot = {.out = body, .left = 46, .right = figure->panel_width - margin, .top = 48, .bottom = 256};
    plot.x = scale_from_zero(steps.high, plot.left, plot.right);
    plot.y = scale_make(figure->losses, LOG_FROM, plot.bottom, plot.top);
    plot_frame(&plot, "training step", figure->validation ? "validation loss, nat/token" : "training loss, nat/token");
    draw_curves(figure, &plot, stage);
    for (int32_t k = 0; k < n_labels; k++)
        labels[k].y = last_height(figure, &plot, rows[k]);
    end_labels_write(body, labels, n_labels, plot.right + 6, plot.top + 4, plot.bottom - 4);
}

static void add_losses(struct curve_figure *figure, bool of_broken) {
    for (int32_t i = 0; i < figure->report->results->n_rows; i++) {
        if (broke_off(&figure->report->results->rows[i]) != of_broken) continue;
        for (int32_t stage = 0; stage < figure->report->results->n_stages; stage++)
            for (int32_t k = 0; is_drawn(figure, i, stage) && k < curve_length(figure, i); k++)
                range_add(&figure->losses, curve_y(figure, i, k));
    }
}

static void draw(struct report *report, bool validation, struct panels *out) {
    struct curve_figure figure = {.report = report, .validation = validation, .losses = range_none()};
    int32_t n_panels = 0;
    for (int32_t stage = 0; stage < report->results->n_stages; stage++)
        for (int32_t i = 0; i < report->results->n_rows; i++)
            if (is_drawn(&figure, i, stage)) {
                n_panels++;
                break;
            }
    figure.panel_width = n_panels <= 1 ? 700 : n_panels == 2 || n_panels == 4 ? REPORT_PANEL_WIDTH : REPORT_SMALL_WIDTH;
    figure.is_thin = report->results->n_rows > THIN_FROM;
    add_losses(&figure, false);
    if (isnan(figure.losses.low)) add_losses(&figure, true);
    for (int32_t stage = 0; stage < report->results->n_stages; stage++)
        draw_stage(&figure, stage, out);
    out->has_legend = out->n > 0;
}

/* "means over 3 steps": what the reduction did. */
static void note_bins(const struct report *report, struct strbuf *out) {
    int32_t least = INT32_MAX, most = 1;
    for (int32_t i = 0; i < report->results->n_rows; i++) {
        int32_t bin = report->curves[i].bin;
        if (!report->curves[i].n) continue;
        if (bin > most) most = bin;
        if (bin < least) least = bin;
    }
    if (most == 1)
        strbuf_add(out, "Every step is drawn.");
    else if (least == most)
        strbuf_printf(out, "Points are means over %d steps.", most);
    else
        strbuf_printf(out, "Points are means over %d to %d steps, more for longer runs.", least, most);
}

void figure_training(struct report *report, struct panels *out) {
    draw(report, false, out);
    if (!out->n) {
        strbuf_add(&out->note, "No trial has left a training curve yet.");
        return;
    }
    strbuf_add(&out->note, "Loss of the batch before each update. ");
    note_bins(report, &out->note);
    strbuf_add(&out->note, " All panels share one range of losses. × marks where a run broke off or left that range.");
}

void figure_validation(struct report *report, struct panels *out) {
    draw(report, true, out);
    strbuf_add(&out->note, out->n ? "Loss over the validation split at the evaluations during training."
                                  : "No trial was evaluated during training ([evaluate] every); the values at the end "
                                    "are in the table.");
}
