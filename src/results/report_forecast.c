/* Forecasts of the best trial against the truth: its best, median and worst series, every channel, with the band
 * between the 5 % and the 95 % quantile where samples were drawn. The test split when it was forecast, else validation.
 */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct scored {
    double error;
    int32_t series;
};

static int by_error(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    if (x->error != y->error) return (x->error > y->error) - (x->error < y->error);
    return x->series - y->series;
}

static size_t at(const struct trial_forecast *f, int32_t series, int32_t time, int32_t channel) {
    return ((size_t)series * (size_t)f->n_time + (size_t)time) * (size_t)f->n_channel + (size_t)channel;
}

/* Mean size of a channel's observations: errors of channels with different units are added in it. */
static double channel_size(const struct trial_forecast *f, int32_t channel) {
    double sum = 0;
    int64_t n = 0;
    for (int32_t s = 0; s < f->n_series; s++)
        for (int32_t t = 0; t < f->n_time; t++) {
            double value = f->observed[at(f, s, t, channel)];
            if (!isfinite(value)) continue;
            sum += fabs(value);
            n++;
        }
    return n && sum > 0 ? sum / (double)n : 1;
}

static double channel_error(const struct trial_forecast *f, int32_t series, int32_t channel, int32_t *n) {
    double sum = 0;
    *n = 0;
    for (int32_t t = 0; t < f->n_time; t++) {
        double error = f->predicted[at(f, series, t, channel)] - f->observed[at(f, series, t, channel)];
        if (!isfinite(error)) continue;
        sum += fabs(error);
        (*n)++;
    }
    return *n ? sum / *n : NAN;
}

/* Series by their error; those without one valid point are left out. */
static int32_t rank_series(const struct trial_forecast *f, struct scored *out) {
    double size[LVS_MAX_CHANNELS];
    for (int32_t c = 0; c < f->n_channel; c++)
        size[c] = channel_size(f, c);
    int32_t n = 0;
    for (int32_t s = 0; s < f->n_series; s++) {
        double sum = 0;
        int32_t points, channels = 0;
        for (int32_t c = 0; c < f->n_channel; c++) {
            double error = channel_error(f, s, c, &points);
            if (!points) continue;
            sum += error / size[c];
            channels++;
        }
        if (channels) out[n++] = (struct scored){.error = sum / channels, .series = s};
    }
    qsort(out, (size_t)n, sizeof *out, by_error);
    return n;
}

/* ---- drawing ---- */

struct forecast_view {
    const struct report *report;
    const struct trial_forecast *forecast;
    struct strbuf *out;
    struct plot plot;
    int32_t series, channel;
};

static void draw_series(const struct forecast_view *view, const double *values, const char *class) {
    const struct trial_forecast *f = view->forecast;
    double *x = lvs_malloc((size_t)f->n_time * sizeof *x), *y = lvs_malloc((size_t)f->n_time * sizeof *y);
    for (int32_t t = 0; t < f->n_time; t++) {
        x[t] = scale_at(&view->plot.x, f->time[t]);
        y[t] = scale_at(&view->plot.y, values[at(f, view->series, t, view->channel)]);
    }
    strbuf_printf(view->out, "<path class=\"%s\" d=\"", class);
    svg_path(view->out, x, y, f->n_time);
    strbuf_add(view->out, "\"/>\n");
    free(x);
    free(y);
}

/* One closed polygon for each run of points that have both quantiles. */
static void draw_band(const struct forecast_view *view) {
    const struct trial_forecast *f = view->forecast;
    if (!f->low || !f->high) return;
    strbuf_add(view->out, "<path class=\"band\" d=\"");
    for (int32_t begin = 0; begin < f->n_time;) {
        int32_t end = begin;
        while (end < f->n_time && isfinite(f->low[at(f, view->series, end, view->channel)]) &&
               isfinite(f->high[at(f, view->series, end, view->channel)]))
            end++;
        for (int32_t k = 0; k < 2 * (end - begin); k++) {
            int32_t t = k < end - begin ? begin + k : 2 * end - begin - 1 - k;
            const double *edge = k < end - begin ? f->high : f->low;
            strbuf_printf(view->out, "%s%.1f %.1f", k ? "L" : "M", scale_at(&view->plot.x, f->time[t]),
                          scale_at(&view->plot.y, edge[at(f, view->series, t, view->channel)]));
        }
        if (end > begin) strbuf_add(view->out, "Z");
        begin = end > begin ? end : begin + 1;
    }
    strbuf_add(view->out, "\"/>\n");
}

static struct range value_range(const struct trial_forecast *f, int32_t series, int32_t channel) {
    struct range range = range_none();
    for (int32_t t = 0; t < f->n_time; t++) {
        range_add(&range, f->observed[at(f, series, t, channel)]);
        range_add(&range, f->predicted[at(f, series, t, channel)]);
        if (f->low && f->high) {
            range_add(&range, f->low[at(f, series, t, channel)]);
            range_add(&range, f->high[at(f, series, t, channel)]);
        }
    }
    return range;
}

static void draw_panel(struct forecast_view *view, const char *word, struct panels *out) {
    const struct trial_forecast *f = view->forecast;
    const struct results *results = view->report->results;
    char title[128], error[32], x_title[80], y_title[128];
    int32_t points;
    number_write(channel_error(f, view->series, view->channel, &points), 3, error);
    const char *unit = results->channel_unit[view->channel];
    snprintf(title, sizeof title, "%s: series %lld, MAE %s", word, (long long)f->series[view->series], error);
    snprintf(y_title, sizeof y_title, "%s%s%s", results->channel_name[view->channel], unit[0] ? ", " : "", unit);
    snprintf(x_title, sizeof x_title, "time%s%s", results->time_unit[0] ? ", " : "", results->time_unit);
    view->out = panels_add(out, REPORT_SMALL_WIDTH, 230, title);
    svg_text(view->out, 44, 16, "h", "%s", title);
    view->plot =
        (struct plot){.out = view->out, .left = 44, .right = REPORT_SMALL_WIDTH - 10, .top = 48, .bottom = 184};
    struct range times = range_none();
    for (int32_t t = 0; t < f->n_time; t++)
        range_add(&times, f->time[t]);
    view->plot.x = scale_make(times, 0, view->plot.left, view->plot.right);
    view->plot.y = scale_make(value_range(f, view->series, view->channel), 0, view->plot.bottom, view->plot.top);
    plot_frame(&view->plot, x_title, y_title);
    draw_band(view);
    draw_series(view, f->observed, "l truth");
    draw_series(view, f->predicted, "l forecast");
    if (points < f->n_time)
        svg_text(view->out, REPORT_SMALL_WIDTH - 10, 34, "k e fwarn", "%d of %d points", points, f->n_time);
}

static void draw_key(bool has_band, struct panels *out) {
    struct strbuf *body = panels_add(out, REPORT_SMALL_WIDTH, has_band ? 76 : 52, "lines of the forecasts");
    svg_line(body, 44, 16, 74, 16, "l truth");
    svg_text(body, 82, 20, "t", "observed");
    svg_line(body, 44, 38, 74, 38, "l forecast");
    svg_text(body, 82, 42, "t", has_band ? "forecast (median of samples)" : "forecast");
    if (!has_band) return;
    svg_rect(body, 44, 52, 30, 14, "band");
    svg_text(body, 82, 64, "t", "5 %% to 95 %% of samples");
}

static const struct trial_forecast *choose_part(const struct report *report) {
    const struct trial_forecast *chosen = NULL;
    for (int32_t i = 0; i < report->n_forecasts; i++) {
        const struct trial_forecast *f = &report->forecasts[i];
        if (f->n_series && f->n_time && f->n_channel && f->n_channel <= report->results->n_channel &&
            (!chosen || f->part == SPLIT_TEST))
            chosen = f;
    }
    return chosen;
}

static void draw(struct report *report, const struct trial_forecast *f, const struct scored *scored, int32_t n,
                 struct panels *out) {
    const int32_t chosen[] = {0, n / 2, n - 1};
    static const char *const words[] = {"best", "median", "worst"};
    struct forecast_view view = {.report = report, .forecast = f};
    for (view.channel = 0; view.channel < f->n_channel; view.channel++)
        for (int k = 0; k < 3; k++) {
            if (k && chosen[k] == chosen[k - 1]) continue; /* fewer than three series */
            view.series = scored[chosen[k]].series;
            draw_panel(&view, n == 1 ? "the only one" : words[k], out);
        }
    draw_key(f->low && f->high, out);
}

static const char *why_none(const struct report *report) {
    if (report->best.index < 0) return "No trial is finished yet.";
    if (report->results->rows[report->best.index].trial.settings.forecast_on == 0)
        return "The best trial was not asked for forecasts ([evaluate] forecast_on).";
    return "The best trial's forecasts are not in the sweep's folder (trials/…/forecast.bin).";
}

void figure_forecast(struct report *report, struct panels *out) {
    const struct trial_forecast *f = choose_part(report);
    if (!f) {
        strbuf_add(&out->note, why_none(report));
        return;
    }
    struct scored *scored = lvs_malloc((size_t)f->n_series * sizeof *scored);
    int32_t n = rank_series(f, scored);
    if (n) draw(report, f, scored, n, out);
    strbuf_printf(&out->note, "Trial %s, %s split: %d series%s. ", report->results->rows[report->best.index].trial.name,
                  f->part == SPLIT_TEST ? "test" : "validation", f->n_series,
                  n ? ", by mean absolute error relative to the channel's mean size" : ", none with a readable value");
    if (n < f->n_series && n) strbuf_printf(&out->note, "%d series have no readable value. ", f->n_series - n);
    free(scored);
}
