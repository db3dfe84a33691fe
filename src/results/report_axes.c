/* Scales, ticks and frames. Honest axes: every scale covers all of its data, and bars start at zero. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct range range_none(void) {
    return (struct range){.low = NAN, .high = NAN};
}

void range_add(struct range *range, double value) {
    if (!isfinite(value)) return;
    if (isnan(range->low) || value < range->low) range->low = value;
    if (isnan(range->high) || value > range->high) range->high = value;
}

struct scale scale_make(struct range range, double log_from, double from, double to) {
    struct scale scale = {.low = range.low, .high = range.high, .from = from, .to = to};
    if (isnan(range.low)) scale.low = scale.high = 0;
    scale.is_log = log_from > 0 && scale.low > 0 && scale.high >= log_from * scale.low;
    if (scale.is_log) {
        double room = pow(scale.high / scale.low, 0.04);
        scale.low /= room;
        scale.high *= room;
        return scale;
    }
    double room = 0.05 * (scale.high - scale.low);
    if (room == 0) room = scale.high != 0 ? 0.1 * fabs(scale.high) : 1;
    scale.low -= room;
    scale.high += room;
    return scale;
}

struct scale scale_from_zero(double high, double from, double to) {
    return (struct scale){.low = 0, .high = high > 0 ? high : 1, .from = from, .to = to};
}

double scale_at(const struct scale *scale, double value) {
    if (!isfinite(value) || (scale->is_log && value <= 0)) return NAN;
    double share = scale->is_log ? log(value / scale->low) / log(scale->high / scale->low)
                                 : (value - scale->low) / (scale->high - scale->low);
    return scale->from + share * (scale->to - scale->from);
}

static int32_t linear_ticks(const struct scale *scale, int32_t most, double ticks[12]) {
    double least = (scale->high - scale->low) / most, power = pow(10, floor(log10(least)));
    double step = power * (least <= power ? 1 : least <= 2 * power ? 2 : least <= 5 * power ? 5 : 10);
    int32_t n = 0;
    for (double k = ceil(scale->low / step - 1e-9); k * step <= scale->high + 1e-9 * step && n < 12; k++)
        ticks[n++] = k == 0 ? 0 : k * step;
    return n;
}

/* 1, 2, 5 of each decade; only 1 when that is too many; linear when the scale is within a decade. */
static int32_t log_ticks(const struct scale *scale, int32_t most, double ticks[12]) {
    static const double steps[] = {1, 2, 5};
    int first = (int)floor(log10(scale->low)), last = (int)ceil(log10(scale->high));
    for (int use = 3; use >= 1; use -= 2) {
        int32_t n = 0;
        for (int decade = first; decade <= last; decade++)
            for (int k = 0; k < use; k++) {
                double tick = steps[k] * pow(10, decade);
                if (tick < scale->low || tick > scale->high) continue;
                if (n < 12) ticks[n] = tick;
                n++;
            }
        if (n >= 2 && n <= most) return n;
        if (use == 1 && n > most && most >= 1) { /* every k-th decade */
            int32_t every = (n + most - 1) / most, kept = 0;
            for (int decade = first; decade <= last; decade += every) {
                double tick = pow(10, decade);
                if (tick >= scale->low && tick <= scale->high && kept < 12) ticks[kept++] = tick;
            }
            return kept;
        }
    }
    return linear_ticks(scale, most, ticks);
}

int32_t scale_ticks(const struct scale *scale, int32_t most, double ticks[12]) {
    if (most > 12) most = 12;
    return scale->is_log ? log_ticks(scale, most, ticks) : linear_ticks(scale, most, ticks);
}

/* ---- frames ---- */

static void x_axis(const struct plot *plot, const char *title) {
    double chosen[12];
    const double *ticks = plot->x_ticks ? plot->x_ticks : chosen;
    int32_t n = plot->n_x_ticks;
    if (!plot->x_ticks) n = scale_ticks(&plot->x, (int32_t)fmax(2, (plot->right - plot->left) / 70), chosen);
    for (int32_t i = 0; i < n; i++) {
        char text[32];
        number_write(ticks[i], plot->x_ticks ? 6 : 4, text);
        double x = scale_at(&plot->x, ticks[i]);
        svg_line(plot->out, x, plot->bottom, x, plot->bottom + 4, "a");
        svg_text(plot->out, x, plot->bottom + 17, "k m", "%s", text);
    }
    svg_text(plot->out, (plot->left + plot->right) / 2, plot->bottom + 35, "k m", "%s%s", title,
             plot->x.is_log ? " (log scale)" : "");
}

static void y_axis(const struct plot *plot, const char *title) {
    double ticks[12];
    int32_t n = scale_ticks(&plot->y, (int32_t)fmax(2, (plot->bottom - plot->top) / 34), ticks);
    for (int32_t i = 0; i < n; i++) {
        char text[32];
        number_write(ticks[i], 4, text);
        double y = scale_at(&plot->y, ticks[i]);
        svg_line(plot->out, plot->left, y, plot->right, y, "g");
        svg_text(plot->out, plot->left - 7, y + 4, "k e", "%s", text);
    }
    svg_text(plot->out, plot->left - 44 > 4 ? plot->left - 44 : 4, plot->top - 14, "k", "%s%s", title,
             plot->y.is_log ? " (log scale)" : "");
}

void plot_frame(const struct plot *plot, const char *x_title, const char *y_title) {
    if (y_title) y_axis(plot, y_title);
    svg_line(plot->out, plot->left, plot->bottom, plot->right, plot->bottom, "a");
    if (x_title) x_axis(plot, x_title);
}

/* ---- labels at the ends of lines ---- */

static int by_height(const void *a, const void *b) {
    const struct end_label *x = a, *y = b;
    return (x->y > y->y) - (x->y < y->y);
}

void end_labels_write(struct strbuf *out, struct end_label *labels, int32_t n, double x, double top, double bottom) {
    const double apart = 14;
    qsort(labels, (size_t)n, sizeof *labels, by_height);
    for (int32_t i = 0; i < n; i++) {
        double least = i ? labels[i - 1].y + apart : top;
        if (labels[i].y < least) labels[i].y = least;
    }
    for (int32_t i = n - 1; i >= 0; i--) {
        double most = i + 1 < n ? labels[i + 1].y - apart : bottom;
        if (labels[i].y > most) labels[i].y = most;
    }
    for (int32_t i = 0; i < n; i++) {
        char class[16];
        snprintf(class, sizeof class, labels[i].color < 0 ? "t" : "t f%d", labels[i].color);
        svg_text(out, x, labels[i].y + 4, class, "%s", labels[i].text);
    }
}
