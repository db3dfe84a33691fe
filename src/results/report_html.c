/* The page: head with theme, style and script, then sections in reading order. Everything is inside the one file. */
#include "report_internal.h"

#include <stdio.h>
#include <string.h>

/* ---- head ---- */

static void write_style(const struct report *report, struct strbuf *out) {
    strbuf_add(out, "<style>:root{color-scheme:light;");
    theme_write(report, false, out);
    strbuf_add(out, "}\n@media (prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;");
    theme_write(report, true, out);
    strbuf_add(out, "}}\n:root[data-theme=dark]{color-scheme:dark;");
    theme_write(report, true, out);
    strbuf_add(out, "}\n@media print{:root:root:root{color-scheme:light;");
    theme_write(report, false, out);
    strbuf_add(out, "}}\n</style>\n<style>");
    strbuf_add(out, report_page_css);
    strbuf_add(out, "</style>\n<style id=\"figure-style\">");
    strbuf_add(out, report_figure_css);
    strbuf_add(out, "</style>\n");
}

static void write_head(const struct report *report, struct strbuf *out) {
    strbuf_add(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    markup_printf(out, "%s: lvsweep report", report->results->name);
    /* an icon of its own, so that no browser asks a server for one */
    strbuf_add(out, "</title>\n<link rel=\"icon\" href=\"data:,\">\n");
    write_style(report, out);
    strbuf_add(out, "</head>\n<body>\n");
}

static const char *state_word(int32_t state) {
    return state == SWEEP_STATE_FINISHED      ? "finished"
           : state == SWEEP_STATE_INTERRUPTED ? "interrupted, resumable"
           : state == SWEEP_STATE_RUNNING     ? "running when this page was written"
                                              : "not started";
}

static void write_title(const struct report *report, struct strbuf *out) {
    char now[32];
    time_write(report->results->changed, now);
    strbuf_add(out, "<header><div><h1>");
    markup_add(out, report->results->name);
    strbuf_printf(out, "</h1><p class=\"state state%d\">%s<span>%s%s</span></p></div>", report->results->state,
                  state_word(report->results->state), report->results->state == SWEEP_STATE_NEW ? "" : ", state of ",
                  report->results->state == SWEEP_STATE_NEW ? "" : now);
    strbuf_add(out, "</header>\n<nav aria-label=\"sections\">");
    static const char *const links[][2] = {
        {"trials", "Trials"},     {"heatmap", "Grid"},          {"training", "Curves"},
        {"context", "Contexts"},  {"parallel", "All settings"}, {"forecast", "Forecasts"},
        {"budget", "Budget"},     {"workers", "Workers"},       {"data", "Data"},
        {"failures", "Failures"}, {"baselines", "Baselines"},   {"provenance", "Provenance"}};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        strbuf_printf(out, "<a href=\"#%s\">%s</a>", links[i][0], links[i][1]);
    strbuf_add(out, "</nav>\n<main>\n");
}

/* ---- sections ---- */

static void write_section(struct report *report, const char *id, const char *title,
                          void (*write)(struct report *report, struct strbuf *out), struct strbuf *out) {
    strbuf_printf(out, "<section id=\"%s\"><h2>%s</h2>\n", id, title);
    write(report, out);
    strbuf_add(out, "</section>\n");
}

static void write_legend(const struct report *report, struct strbuf *out) {
    if (report->color_axis < 0) return;
    const struct report_axis *axis = &report->axes[report->color_axis];
    strbuf_add(out, "<p class=\"legend\">");
    markup_add(out, axis->field->name);
    for (int32_t k = 0; k < axis->n; k++) {
        int32_t color = axis->n <= REPORT_COLORS ? k : (int32_t)((int64_t)k * REPORT_COLORS / axis->n);
        int32_t before = axis->n <= REPORT_COLORS ? k - 1 : (int32_t)((int64_t)(k - 1) * REPORT_COLORS / axis->n);
        if (k > 0 && color == before) continue;
        strbuf_printf(out, " <span><i style=\"background:var(--c%d)\"></i>", color);
        if (axis->n > REPORT_COLORS) strbuf_add(out, "from ");
        markup_add(out, axis->label[k]);
        strbuf_add(out, "</span>");
    }
    strbuf_add(out, "</p>\n");
}

static void write_panel(const struct panel *panel, struct strbuf *out) {
    strbuf_printf(out,
                  "<svg class=\"figure%s\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"",
                  panel->width > 700 ? " wide" : "", panel->width, panel->height, panel->width, panel->height);
    markup_add(out, panel->title);
    strbuf_add(out, "\">\n");
    strbuf_add(out, panel->body.text ? panel->body.text : "");
    strbuf_add(out, "</svg>\n");
}

static void write_figure(struct report *report, const struct report_figure *figure, struct strbuf *out) {
    struct panels panels = {0};
    figure->draw(report, &panels);
    strbuf_printf(out, "<section id=\"%s\"><h2>%s</h2>\n", figure->name, figure->title);
    if (!panels.n) {
        strbuf_add(out, "<p class=\"empty\">");
        markup_add(out, panels.note.text ? panels.note.text : "");
        strbuf_add(out, "</p></section>\n");
        panels_free(&panels);
        return;
    }
    strbuf_printf(out, "<figure data-name=\"%s\">\n", figure->name);
    if (panels.has_legend) write_legend(report, out);
    strbuf_add(out, "<div class=\"panels\">\n");
    for (int32_t i = 0; i < panels.n; i++)
        write_panel(&panels.items[i], out);
    strbuf_add(out, "</div>\n<figcaption>");
    markup_add(out, panels.note.text ? panels.note.text : "");
    strbuf_add(out, "</figcaption></figure></section>\n");
    panels_free(&panels);
}

void report_write_page(struct report *report, struct strbuf *out) {
    write_head(report, out);
    write_title(report, out);
    write_section(report, "summary", "Summary", page_summary, out);
    write_section(report, "trials", "Trials", page_trials, out);
    for (int32_t i = 0; i < report_figure_count(); i++) {
        bool is_half = report_figures[i].is_half, was_half = i > 0 && report_figures[i - 1].is_half;
        if (is_half && !was_half) strbuf_add(out, "<div class=\"pair\">\n");
        if (was_half && !is_half) strbuf_add(out, "</div>\n");
        write_figure(report, &report_figures[i], out);
    }
    write_section(report, "failures", "Failures and cuts", page_failures, out);
    write_section(report, "baselines", "Baselines", page_baselines, out);
    write_section(report, "provenance", "Provenance", page_provenance, out);
    strbuf_add(out, "</main>\n<footer>Written by lvsweep. Figures alone: <code>lvsweep report DIR --svg FIGURE</code>."
                    "</footer>\n<script>\n");
    strbuf_add(out, report_page_js);
    strbuf_add(out, "</script>\n</body>\n</html>\n");
}
