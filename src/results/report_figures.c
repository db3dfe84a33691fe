/* The list of figures, their panels, and a figure as a file of its own. A new figure is one function and one row. */
#include "report_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct report_figure report_figures[] = {
    {"heatmap", "Rank × learning rate", false, figure_heatmap},
    {"training", "Training curves", false, figure_training},
    {"validation", "Validation curves", false, figure_validation},
    {"context", "Contexts", true, figure_context},
    {"cost", "Cost", true, figure_cost},
    {"parallel", "All settings", false, figure_parallel},
    {"forecast", "Forecasts of the best trial", false, figure_forecast},
    {"budget", "Budget", true, figure_budget},
    {"waterfall", "From the budget to what is left", true, figure_waterfall},
    {"workers", "Workers", false, figure_workers},
    {"data", "The data", false, figure_data},
};

int32_t report_figure_count(void) {
    return (int32_t)(sizeof report_figures / sizeof *report_figures);
}

/* ---- panels ---- */

void panels_free(struct panels *panels) {
    for (int32_t i = 0; i < panels->n; i++)
        strbuf_free(&panels->items[i].body);
    free(panels->items);
    strbuf_free(&panels->note);
    *panels = (struct panels){0};
}

struct strbuf *panels_add(struct panels *panels, int32_t width, int32_t height, const char *title) {
    panels->items = lvs_realloc(panels->items, (size_t)(panels->n + 1) * sizeof *panels->items);
    struct panel *panel = &panels->items[panels->n++];
    *panel = (struct panel){.width = width, .height = height};
    lvs_copy(panel->title, sizeof panel->title, title);
    strbuf_init(&panel->body);
    return &panel->body;
}

/* ---- a file of its own ---- */

#define MARGIN 16
#define TITLE  34

/* Rows of panels, each as many as fit. */
struct layout {
    int32_t x[64], y[64];
    int32_t n, width, height;
};

static void place(const struct panels *panels, struct layout *out) {
    int32_t x = 0, y = 0, row_height = 0;
    *out = (struct layout){.n = panels->n < 64 ? panels->n : 64};
    for (int32_t i = 0; i < out->n; i++) {
        const struct panel *panel = &panels->items[i];
        if (x > 0 && x + panel->width > REPORT_WIDE) {
            x = 0;
            y += row_height + MARGIN;
            row_height = 0;
        }
        out->x[i] = x;
        out->y[i] = y;
        x += panel->width + MARGIN;
        if (panel->height > row_height) row_height = panel->height;
        if (out->x[i] + panel->width > out->width) out->width = out->x[i] + panel->width;
    }
    out->height = y + row_height;
}

static int32_t draw_legend(const struct report *report, double y, struct strbuf *out) {
    if (report->color_axis < 0) return 0;
    const struct report_axis *axis = &report->axes[report->color_axis];
    double x = MARGIN;
    svg_text(out, x, y, "k", "%s", axis->field->name);
    x += text_width(axis->field->name) + 16;
    for (int32_t k = 0; k < axis->n; k++) {
        int32_t color = axis->n <= REPORT_COLORS ? k : (int32_t)((int64_t)k * REPORT_COLORS / axis->n);
        bool first =
            k == 0 || axis->n <= REPORT_COLORS || color != (int32_t)((int64_t)(k - 1) * REPORT_COLORS / axis->n);
        if (!first) continue;
        char class[24];
        snprintf(class, sizeof class, "l key c%d", color);
        svg_line(out, x, y - 4, x + 18, y - 4, class);
        svg_text(out, x + 24, y, "t", "%s%.12s", axis->n > REPORT_COLORS ? "from " : "", axis->label[k]);
        x += 24 + text_width(axis->label[k]) + (axis->n > REPORT_COLORS ? 50 : 18);
    }
    return 24;
}

static void write_document(const struct report *report, const struct report_figure *figure, const struct panels *panels,
                           struct strbuf *out) {
    struct layout layout;
    struct strbuf legend;
    strbuf_init(&legend);
    place(panels, &layout);
    int32_t top = TITLE + (panels->has_legend ? draw_legend(report, TITLE + 6, &legend) : 0) + 8;
    if (layout.width < 360) layout.width = 360;
    strbuf_printf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"%d\" height=\"%d\" "
                  "viewBox=\"0 0 %d %d\" class=\"figure\">\n<style>",
                  layout.width + 2 * MARGIN, layout.height + top + MARGIN, layout.width + 2 * MARGIN,
                  layout.height + top + MARGIN);
    theme_resolve(report, report_figure_css, out);
    strbuf_add(out, "</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n");
    svg_text(out, MARGIN, 22, "h", "%s: %s", report->results->name, figure->title);
    if (legend.text) strbuf_add(out, legend.text);
    for (int32_t i = 0; i < layout.n; i++) {
        const struct panel *panel = &panels->items[i];
        strbuf_printf(out, "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\">\n", layout.x[i] + MARGIN,
                      layout.y[i] + top, panel->width, panel->height);
        strbuf_add(out, panel->body.text ? panel->body.text : "");
        strbuf_add(out, "</svg>\n");
    }
    strbuf_add(out, "</svg>\n");
    strbuf_free(&legend);
}

enum lvs_status report_write_figure(struct report *report, const char *name, struct strbuf *out,
                                    struct lvs_error *err) {
    struct strbuf names;
    strbuf_init(&names);
    for (int32_t i = 0; i < report_figure_count(); i++) {
        const struct report_figure *figure = &report_figures[i];
        strbuf_printf(&names, "%s%s", i ? ", " : "", figure->name);
        if (strcmp(figure->name, name) != 0) continue;
        struct panels panels = {0};
        figure->draw(report, &panels);
        enum lvs_status status = LVS_OK;
        if (panels.n)
            write_document(report, figure, &panels, out);
        else
            status = lvs_fail(err, LVS_USAGE, "%s: nothing to show in the figure %s: %s", report->results->output, name,
                              panels.note.text ? panels.note.text : "");
        panels_free(&panels);
        strbuf_free(&names);
        return status;
    }
    lvs_fail(err, LVS_USAGE, "no figure is called %s; there are %s", name, names.text);
    strbuf_free(&names);
    return LVS_USAGE;
}
