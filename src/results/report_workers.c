/* When each worker did what: one bar a trial (its last attempt), trials that trained together one above the other, and
 * the share of the whole time that the worker was busy. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define LANES_MOST 8

struct bar {
    int32_t row, worker, lane;
    double begin, end;
};
struct timeline {
    struct report *report;
    int32_t n;
    struct bar *bars; /* [n] by worker, then begin; owned */
    double unit;      /* seconds */
    const char *unit_name;
};

static int by_worker(const void *a, const void *b) {
    const struct bar *x = a, *y = b;
    if (x->worker != y->worker) return x->worker - y->worker;
    if (x->begin != y->begin) return (x->begin > y->begin) - (x->begin < y->begin);
    return x->row - y->row;
}

static void gather(struct timeline *timeline) {
    const struct results *results = timeline->report->results;
    timeline->bars = lvs_malloc((size_t)results->n_rows * sizeof *timeline->bars);
    for (int32_t i = 0; i < results->n_rows; i++) {
        const struct record *record = &results->rows[i].record;
        double end = record->status == TRIAL_RUNNING ? results->changed : record->end_time;
        if (record->worker < 0 || !isfinite(record->start_time) || !isfinite(end) || end < record->start_time) continue;
        timeline->bars[timeline->n++] =
            (struct bar){.row = i, .worker = record->worker, .begin = record->start_time, .end = end};
    }
    qsort(timeline->bars, (size_t)timeline->n, sizeof *timeline->bars, by_worker);
}

/* The first lane that is free again, for bars first … first+n-1 of one worker. Returns the number of lanes. */
static int32_t place_lanes(struct bar *bars, int32_t n) {
    double free_at[LANES_MOST];
    int32_t lanes = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t lane = 0;
        while (lane < lanes && free_at[lane] > bars[i].begin + 1e-3)
            lane++;
        if (lane == LANES_MOST) lane = LANES_MOST - 1;
        if (lane == lanes) lanes++;
        free_at[lane] = bars[i].end;
        bars[i].lane = lane;
    }
    return lanes;
}

/* Seconds with at least one bar. */
static double busy_seconds(const struct bar *bars, int32_t n) {
    double busy = 0, until = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        if (bars[i].end <= until) continue;
        busy += bars[i].end - fmax(bars[i].begin, until);
        until = bars[i].end;
    }
    return busy;
}

static void choose_unit(struct timeline *timeline, double seconds) {
    timeline->unit = seconds > 2 * 86400 ? 86400 : seconds > 2 * 3600 ? 3600 : seconds > 120 ? 60 : 1;
    timeline->unit_name = seconds > 2 * 86400  ? "days"
                          : seconds > 2 * 3600 ? "hours"
                          : seconds > 120      ? "minutes"
                                               : "seconds";
}

static void draw_bar(const struct timeline *timeline, const struct scale *x, const struct bar *bar, double top,
                     double height, struct strbuf *out) {
    const struct report *report = timeline->report;
    const struct result_row *row = &report->results->rows[bar->row];
    double from = scale_at(x, (bar->begin - report->begin) / timeline->unit);
    double width = fmax(scale_at(x, (bar->end - report->begin) / timeline->unit) - from - 1, 1);
    int32_t status = row->record.status;
    bool broke = status == TRIAL_FAILED || status == TRIAL_DIVERGED || status == TRIAL_INTERRUPTED;
    char class[16], seconds[32];
    duration_write(bar->end - bar->begin, seconds);
    snprintf(class, sizeof class, "s%d%s", row->trial.stage >= 0 ? row->trial.stage % 8 : 7, broke ? " broke" : "");
    strbuf_printf(out, "<g class=\"tr\" data-t=\"%d\">", bar->row);
    svg_rect(out, from, top, width, height, class);
    if (broke && width > 9 && height > 9) svg_text(out, from + width / 2, top + height / 2 + 4, "v m light", "×");
    strbuf_add(out, "<title>");
    markup_printf(out, "%s: %s, %s", row->trial.name, trial_status_name(status), seconds);
    strbuf_add(out, "</title></g>\n");
}

static double worker_height(int32_t n_workers) {
    return n_workers <= 24 ? 24 : n_workers <= 64 ? 14 : 8;
}

static void draw_worker(const struct timeline *timeline, const struct plot *plot, const struct bar *bars, int32_t n,
                        int32_t lanes, double y, double height) {
    const struct report *report = timeline->report;
    const struct record *record = &report->results->rows[bars[0].row].record;
    double wall = report->end - report->begin, lane_height = (height - 4) / lanes;
    for (int32_t i = 0; i < n; i++)
        draw_bar(timeline, &plot->x, &bars[i], y + bars[i].lane * lane_height,
                 lane_height - (lanes > 1 && lane_height > 4 ? 1 : 0), plot->out);
    double base = y + (height - 4) / 2 + 4;
    if (height < 12) return;
    char text[64];
    snprintf(text, sizeof text, "rank %d  %.18s", bars[0].worker, record->host);
    svg_text(plot->out, plot->left - 8, base, "k e", "%s", text);
    if (wall > 0) svg_text(plot->out, plot->right + 8, base, "k", "%.0f %%", 100 * busy_seconds(bars, n) / wall);
}

static int32_t same_worker(const struct timeline *timeline, int32_t first) {
    int32_t n = 1;
    while (first + n < timeline->n && timeline->bars[first + n].worker == timeline->bars[first].worker)
        n++;
    return n;
}

static void draw_stages(const struct report *report, struct strbuf *out) {
    double x = 150;
    for (int32_t s = 0; s < report->results->n_stages && x < REPORT_WIDE - 120; s++) {
        char class[8];
        snprintf(class, sizeof class, "s%d", s % 8);
        svg_rect(out, x, 8, 12, 12, class);
        svg_text(out, x + 18, 18, "t", "%s", report->results->stage_name[s]);
        x += 18 + text_width(report->results->stage_name[s]) + 22;
    }
}

static void draw(struct timeline *timeline, int32_t n_workers, struct panels *out) {
    struct report *report = timeline->report;
    double wall = report->end - report->begin, height = worker_height(n_workers), busy = 0;
    choose_unit(timeline, wall);
    double bottom = 34 + height * n_workers;
    struct strbuf *body = panels_add(out, REPORT_WIDE, (int32_t)bottom + 44, "timeline of the workers");
    struct plot plot = {.out = body, .left = 150, .right = REPORT_WIDE - 56, .top = 30, .bottom = bottom};
    plot.x = scale_from_zero(wall / timeline->unit, plot.left, plot.right);
    char title[64], text[32];
    snprintf(title, sizeof title, "%s since the first start", timeline->unit_name);
    draw_stages(report, body);
    svg_text(body, plot.right + 8, 18, "k", "busy");
    plot_frame(&plot, title, NULL);
    int32_t worker = 0;
    for (int32_t i = 0, n; i < timeline->n; i += n, worker++) {
        n = same_worker(timeline, i);
        int32_t lanes = place_lanes(timeline->bars + i, n);
        draw_worker(timeline, &plot, timeline->bars + i, n, lanes, 34 + worker * height, height);
        busy += busy_seconds(timeline->bars + i, n);
    }
    duration_write(wall, text);
    strbuf_printf(&out->note,
                  "%s from the first start to the last end, pauses between runs included; workers busy %.0f %% of it. "
                  "Bars are last attempts; × broke off.",
                  text, wall > 0 ? 100 * busy / (wall * n_workers) : 0.0);
}

void figure_workers(struct report *report, struct panels *out) {
    struct timeline timeline = {.report = report};
    gather(&timeline);
    int32_t n_workers = 0;
    for (int32_t i = 0; i < timeline.n; i += same_worker(&timeline, i))
        n_workers++;
    if (n_workers)
        draw(&timeline, n_workers, out);
    else
        strbuf_add(&out->note, "No trial has started yet.");
    free(timeline.bars);
}
