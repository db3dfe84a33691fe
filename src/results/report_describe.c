/* The data behind a sweep: kinds of series by period and amplitude, first against last values, how many series each
 * kind has, and what their text costs. Drawn from a description that the caller made; the data file is not read here.
 * Colours are kinds (cividis from dark to light), not the page's colour axis. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>

#include "lvsweep/describe.h"

#define PANEL_HEIGHT 300
#define BAR_LEFT     118
#define BAR_RIGHT    290

void report_set_data(struct report *report, const struct description *description) {
    report->data = description;
}

/* Series as points of the first channel. */
typedef double (*feature)(const struct series_features *features);

static double period_of(const struct series_features *features) {
    return features->period[0];
}

static double amplitude_of(const struct series_features *features) {
    return features->maximum[0] - features->minimum[0];
}

static double first_of(const struct series_features *features) {
    return features->initial[0];
}

static double last_of(const struct series_features *features) {
    return features->final[0];
}

/* "#rrggbb" */
static void kind_color(const struct description *data, int32_t kind, char out[8]) {
    bool ignored;
    cell_color(data->n_clusters > 1 ? 0.9 * kind / (data->n_clusters - 1) : 0, out, &ignored);
}

static void draw_series(const struct description *data, const struct plot *plot, feature x_of, feature y_of) {
    for (int32_t i = 0; i < data->n_series; i++) {
        double x = x_of(&data->features[i]), y = y_of(&data->features[i]);
        if (!isfinite(x) || !isfinite(y)) continue;
        char color[8];
        kind_color(data, data->cluster_of[i], color);
        strbuf_printf(plot->out, "<circle fill=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"/>\n", color,
                      scale_at(&plot->x, x), scale_at(&plot->y, y), data->n_series > 200 ? "2" : "3.5");
    }
}

static void add_scatter(const struct description *data, feature x_of, feature y_of, const char *x_title,
                        const char *y_title, const char *title, struct panels *out) {
    struct range xs = range_none(), ys = range_none();
    int32_t n = 0;
    for (int32_t i = 0; i < data->n_series; i++) {
        double x = x_of(&data->features[i]), y = y_of(&data->features[i]);
        if (!isfinite(x) || !isfinite(y)) continue;
        range_add(&xs, x);
        range_add(&ys, y);
        n++;
    }
    if (n < 2) return;
    struct strbuf *body = panels_add(out, REPORT_SMALL_WIDTH, PANEL_HEIGHT, title);
    struct plot plot = {
        .out = body, .left = 52, .right = REPORT_SMALL_WIDTH - 12, .top = 36, .bottom = PANEL_HEIGHT - 46};
    plot.x = scale_make(xs, 0, plot.left, plot.right);
    plot.y = scale_make(ys, 0, plot.bottom, plot.top);
    plot_frame(&plot, x_title, y_title);
    draw_series(data, &plot, x_of, y_of);
}

/* One bar with a name before it and words behind it. */
static void add_bar(struct strbuf *body, double y, double share, const char *color, const char *name,
                    const char *words) {
    double width = (BAR_RIGHT - BAR_LEFT) * share;
    svg_text(body, BAR_LEFT - 8, y + 12, "t e", "%s", name);
    strbuf_printf(body, "<rect fill=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"16\"/>\n", color, BAR_LEFT, y,
                  fmax(width, 1));
    svg_text(body, BAR_LEFT + fmax(width, 1) + 6, y + 12, "k", "%s", words);
}

static double add_kinds(const struct description *data, struct strbuf *body, double y) {
    double largest = 0;
    svg_text(body, 12, y, "t b", "series of each kind");
    y += 10;
    for (int32_t k = 0; k < data->n_clusters; k++)
        largest = fmax(largest, data->cluster[k].share);
    for (int32_t k = 0; k < data->n_clusters; k++, y += 22) {
        char name[32], words[48], color[8];
        snprintf(name, sizeof name, "kind %d", k + 1);
        snprintf(words, sizeof words, "%.1f %%", 100 * data->cluster[k].share);
        kind_color(data, k, color);
        add_bar(body, y, largest > 0 ? data->cluster[k].share / largest : 0, color, name, words);
    }
    return y;
}

static double add_encodings(const struct description *data, struct strbuf *body, double y) {
    double largest = 0;
    svg_text(body, 12, y, "t b", "tokens a series");
    y += 10;
    for (int32_t i = 0; i < data->n_encodings; i++)
        largest = fmax(largest, data->encoding[i].tokens.mean);
    for (int32_t i = 0; i < data->n_encodings; i++, y += 22) {
        const struct encoding_description *encoding = &data->encoding[i];
        char name[32], words[48];
        snprintf(name, sizeof name, "%d%s", encoding->decimals,
                 encoding->decimal_point ? " decimals" : " dec., no point");
        snprintf(words, sizeof words, "%.0f", encoding->tokens.mean);
        add_bar(body, y, largest > 0 ? encoding->tokens.mean / largest : 0, "#808894", name, words);
    }
    return y;
}

static void with_unit(const char *words, const char *unit, char out[128]) {
    snprintf(out, 128, "%s%s%s", words, unit[0] ? ", " : "", unit);
}

void figure_data(struct report *report, struct panels *out) {
    const struct description *data = report->data;
    char period[128], amplitude[128], first[128], last[128];
    if (!data) {
        strbuf_add(&out->note, "The data file could not be read where the sweep saw it.");
        return;
    }
    with_unit("period", data->time_unit, period);
    with_unit("largest − smallest value", data->channel_unit[0], amplitude);
    with_unit("first value", data->channel_unit[0], first);
    with_unit("last value", data->channel_unit[0], last);
    add_scatter(data, period_of, amplitude_of, period, amplitude, "amplitude against period", out);
    add_scatter(data, first_of, last_of, first, last, "last against first values", out);
    struct strbuf *body = panels_add(out, REPORT_SMALL_WIDTH, 80 + 22 * (data->n_clusters + data->n_encodings),
                                     "kinds of series and tokens a series");
    add_encodings(data, body, add_kinds(data, body, 24) + 26);
    strbuf_printf(&out->note,
                  "One point a series, by its first channel (%s); colours are kinds, k-means over mean, amplitude, "
                  "period and lag. Periods are mean distances of peaks.",
                  data->channel_name[0]);
}
