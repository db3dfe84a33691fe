/* Heat maps: rank × learning rate, one for each context of each stage that has such a grid. A cell is the mean over
 * seeds; where other settings vary too, the best of those means. One colour scale for all maps. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAPS_MOST 24

struct heat_cell {
    double value;             /* NaN = nothing measured */
    int32_t row;              /* a trial of the cell, -1 = not in the grid */
    int32_t n_seeds, n_other; /* other: further settings that were tried in the cell */
};
struct heat_map {
    int32_t stage, context, n_x, n_y;
    int32_t *x, *y;          /* [n_x], [n_y] values of the axes that occur, owned */
    struct heat_cell *cells; /* [n_y][n_x], owned */
};
struct heat_set {
    struct report *report;
    const struct report_axis *rank, *rate; /* NULL = one value */
    uint64_t *group;                       /* [n_rows] identity without the seed, owned */
    int32_t n, n_left_out;
    struct heat_map maps[MAPS_MOST];
    struct range range;
};

static int32_t axis_value(const struct report_axis *axis, int32_t row) {
    return axis ? axis->of_row[row] : 0;
}

static bool is_member(const struct heat_set *set, const struct heat_map *map, int32_t row) {
    const struct result_row *at = &set->report->results->rows[row];
    return !at->outside && report_in_stage(set->report, row, map->stage) && at->trial.settings.context == map->context;
}

/* Which of the axis' values occur among the map's rows; *n = 0 when there is no row. */
static int32_t *values_used(const struct heat_set *set, const struct heat_map *map, const struct report_axis *axis,
                            int32_t *n) {
    int32_t n_all = axis ? axis->n : 1;
    bool *used = lvs_calloc((size_t)n_all, sizeof *used);
    int32_t *values = lvs_malloc((size_t)n_all * sizeof *values);
    for (int32_t i = 0; i < set->report->results->n_rows; i++)
        if (is_member(set, map, i)) used[axis_value(axis, i)] = true;
    *n = 0;
    for (int32_t k = 0; k < n_all; k++)
        if (used[k]) values[(*n)++] = k;
    free(used);
    return values;
}

static int32_t position_of(const int32_t *values, int32_t n, int32_t value) {
    for (int32_t i = 0; i < n; i++)
        if (values[i] == value) return i;
    return 0;
}

/* The mean over the seeds of rows[i]'s settings. */
static double seed_mean(const struct heat_set *set, const int32_t *rows, int32_t n, int32_t i, int32_t *n_seeds) {
    double sum = 0;
    *n_seeds = 0;
    for (int32_t k = 0; k < n; k++) {
        if (set->group[rows[k]] != set->group[rows[i]] || isnan(set->report->metric[rows[k]])) continue;
        sum += set->report->metric[rows[k]];
        (*n_seeds)++;
    }
    return *n_seeds ? sum / *n_seeds : NAN;
}

static void cell_take(const struct heat_set *set, struct heat_cell *cell, const int32_t *rows, int32_t n, int32_t i) {
    int32_t n_seeds;
    double mean = seed_mean(set, rows, n, i, &n_seeds);
    if (cell->row >= 0 && set->group[cell->row] != set->group[rows[i]]) cell->n_other++;
    bool is_better =
        isnan(cell->value) || (metric_highest(set->report->results->metric) ? mean > cell->value : mean < cell->value);
    if (cell->row >= 0 && (isnan(mean) || !is_better)) return;
    cell->row = rows[i];
    cell->value = mean;
    cell->n_seeds = n_seeds;
}

static void map_fill(struct heat_set *set, struct heat_map *map) {
    int32_t n_rows = set->report->results->n_rows, n = 0;
    int32_t *rows = lvs_malloc((size_t)n_rows * sizeof *rows);
    for (int32_t i = 0; i < n_rows; i++)
        if (is_member(set, map, i)) rows[n++] = i;
    map->cells = lvs_malloc((size_t)(map->n_x * map->n_y) * sizeof *map->cells);
    for (int32_t c = 0; c < map->n_x * map->n_y; c++)
        map->cells[c] = (struct heat_cell){.value = NAN, .row = -1};
    for (int32_t i = 0; i < n; i++) {
        int32_t x = position_of(map->x, map->n_x, axis_value(set->rate, rows[i]));
        int32_t y = position_of(map->y, map->n_y, axis_value(set->rank, rows[i]));
        cell_take(set, &map->cells[y * map->n_x + x], rows, n, i);
    }
    for (int32_t c = 0; c < map->n_x * map->n_y; c++)
        range_add(&set->range, map->cells[c].value);
    free(rows);
}

static void set_add(struct heat_set *set, int32_t stage, int32_t context) {
    struct heat_map map = {.stage = stage, .context = context};
    map.x = values_used(set, &map, set->rate, &map.n_x);
    map.y = values_used(set, &map, set->rank, &map.n_y);
    if (map.n_x * map.n_y >= 2 && set->n < MAPS_MOST) {
        map_fill(set, &map);
        set->maps[set->n++] = map;
        return;
    }
    set->n_left_out += map.n_x * map.n_y >= 2;
    free(map.x);
    free(map.y);
}

/* ---- drawing ---- */

struct cell_size {
    double width, height;
    int digits; /* 0 = too small for its value */
};

static struct cell_size size_for(int32_t n_x) {
    if (n_x <= 6) return (struct cell_size){64, 40, 4};
    if (n_x <= 14) return (struct cell_size){56, 32, 4};
    if (n_x <= 22) return (struct cell_size){38, 26, 3};
    return (struct cell_size){fmax(860.0 / n_x, 8), 20, 0};
}

static double share_of(const struct range *range, double value) {
    if (range->high <= range->low) return 0.5;
    if (range->low > 0 && range->high > 4 * range->low) return log(value / range->low) / log(range->high / range->low);
    return (value - range->low) / (range->high - range->low);
}

/* The same decimals in every cell, as many as the largest value's `digits` leave. */
static void cell_text(const struct range *range, double value, int digits, char out[32]) {
    double size = fmax(fabs(range->low), fabs(range->high));
    if (isnan(value) || size < 1e-2 || size >= 1e4) {
        number_write(value, digits > 1 ? digits : 2, out);
        return;
    }
    int decimals = digits - 1 - (int)fmax(floor(log10(size)), 0);
    snprintf(out, 32, "%.*f", decimals > 0 ? decimals : 0, value);
}

static void draw_cell(const struct heat_set *set, const struct heat_cell *cell, struct cell_size size, double x,
                      double y, struct strbuf *out) {
    if (cell->row < 0) {
        svg_rect(out, x, y, size.width - 2, size.height - 2, "none");
        return;
    }
    const struct result_row *row = &set->report->results->rows[cell->row];
    char value[32], color[8];
    bool light = false;
    number_write(cell->value, 6, value);
    strbuf_printf(out, "<g class=\"tr\" data-t=\"%d\">", cell->row);
    if (isnan(cell->value)) {
        svg_rect(out, x, y, size.width - 2, size.height - 2, "nothing");
    } else {
        cell_color(share_of(&set->range, cell->value), color, &light);
        strbuf_printf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>", x, y,
                      size.width - 2, size.height - 2, color);
    }
    strbuf_add(out, "<title>");
    markup_printf(out, "%s: %s %s, %s", row->trial.name, set->report->results->metric, value,
                  trial_status_name(row->record.status));
    if (cell->n_seeds > 1) markup_printf(out, ", mean over %d seeds", cell->n_seeds);
    strbuf_add(out, "</title>");
    double middle = x + (size.width - 2) / 2, base = y + (size.height - 2) / 2 + 4;
    cell_text(&set->range, cell->value, size.digits, value);
    if (isnan(cell->value) && size.width >= 56)
        svg_text(out, middle, base, "k m", "%s", trial_status_name(row->record.status));
    else if (isnan(cell->value) && size.digits)
        svg_text(out, middle, base, "k m", "–");
    else if (size.digits)
        svg_text(out, middle, base, light ? "v m light" : "v m dark", "%s", value);
    strbuf_add(out, "</g>\n");
}

static void draw_frame_of_best(const struct heat_set *set, const struct heat_map *map, struct cell_size size,
                               double left, double top, struct strbuf *out) {
    int32_t best = -1;
    bool highest = metric_highest(set->report->results->metric);
    for (int32_t c = 0; c < map->n_x * map->n_y; c++) {
        double value = map->cells[c].value;
        if (isnan(value)) continue;
        if (best < 0 || (highest ? value > map->cells[best].value : value < map->cells[best].value)) best = c;
    }
    if (best < 0) return;
    double x = left + best % map->n_x * size.width, y = top + best / map->n_x * size.height;
    svg_rect(out, x + 1, y + 1, size.width - 4, size.height - 4, "gap");
    svg_rect(out, x - 1, y - 1, size.width, size.height, "frame");
}

static const char *label_of(const struct heat_set *set, const struct report_axis *axis, int32_t value,
                            const char *field, char text[REPORT_LABEL_MAX]) {
    if (axis) return axis->label[value];
    report_setting_text(set->report, field_find(field), 0, text);
    return text;
}

static void draw_map(struct heat_set *set, const struct heat_map *map, struct panels *out) {
    struct cell_size size = size_for(map->n_x);
    char text[REPORT_LABEL_MAX], title[128];
    const char *stage = set->report->results->stage_name[map->stage];
    snprintf(title, sizeof title, "%.60s, context %d tokens", stage, map->context);
    double left = 44, top = 44, width = fmax(left + map->n_x * size.width + 8, left + 1.26 * text_width(title) + 2);
    struct strbuf *body = panels_add(out, (int32_t)ceil(width), (int32_t)(top + map->n_y * size.height + 42), title);
    svg_text(body, left, 16, "h", "%s", title);
    svg_text(body, 2, 36, "k", "rank");
    for (int32_t y = 0; y < map->n_y; y++)
        svg_text(body, left - 8, top + (map->n_y - 1 - y + 0.5) * size.height + 3, "k e", "%s",
                 label_of(set, set->rank, map->y[y], "lora_rank", text));
    double bottom = top + map->n_y * size.height;
    for (int32_t x = 0; x < map->n_x; x += size.width < 38 ? 4 : 1)
        svg_text(body, left + (x + 0.5) * size.width - 1, bottom + 15, "k m", "%s",
                 label_of(set, set->rate, map->x[x], "learning_rate", text));
    svg_text(body, left + map->n_x * size.width / 2, bottom + 33, "k m", "learning rate");
    struct heat_map flipped = *map; /* the largest rank on top */
    flipped.cells = lvs_malloc((size_t)(map->n_x * map->n_y) * sizeof *flipped.cells);
    for (int32_t y = 0; y < map->n_y; y++)
        memcpy(&flipped.cells[y * map->n_x], &map->cells[(map->n_y - 1 - y) * map->n_x],
               (size_t)map->n_x * sizeof *flipped.cells);
    for (int32_t c = 0; c < map->n_x * map->n_y; c++)
        draw_cell(set, &flipped.cells[c], size, left + c % map->n_x * size.width, top + c / map->n_x * size.height,
                  body);
    draw_frame_of_best(set, &flipped, size, left, top, body);
    free(flipped.cells);
}

static void draw_key(const struct heat_set *set, struct panels *out) {
    const struct range *range = &set->range;
    if (isnan(range->low) || range->high <= range->low) return;
    struct strbuf *body = panels_add(out, 250, 84, "colours of the heat maps");
    char low[32], high[32], color[8];
    bool light, is_log = range->low > 0 && range->high > 4 * range->low;
    const char *unit = report_metric_unit(set->report);
    svg_text(body, 10, 16, "t", "%s%s%s", set->report->results->metric, unit[0] ? ", " : "", unit);
    for (int i = 0; i < 46; i++) {
        cell_color(i / 45.0, color, &light);
        strbuf_printf(body, "<rect x=\"%d\" y=\"26\" width=\"5.5\" height=\"14\" fill=\"%s\"/>", 10 + 5 * i, color);
    }
    number_write(range->low, 4, low);
    number_write(range->high, 4, high);
    svg_text(body, 10, 56, "k", "%s", low);
    svg_text(body, 240, 56, "k e", "%s", high);
    svg_text(body, 10, 76, "k", "%s is better%s; framed: best",
             metric_highest(set->report->results->metric) ? "higher" : "lower", is_log ? "; log scale" : "");
}

static bool has_other(const struct heat_set *set) {
    for (int32_t m = 0; m < set->n; m++)
        for (int32_t c = 0; c < set->maps[m].n_x * set->maps[m].n_y; c++)
            if (set->maps[m].cells[c].n_other) return true;
    return false;
}

static void gather(struct heat_set *set) {
    const struct results *results = set->report->results;
    const struct report_axis *contexts = report_axis_find(set->report, "context");
    set->group = lvs_malloc((size_t)results->n_rows * sizeof *set->group);
    for (int32_t i = 0; i < results->n_rows; i++)
        set->group[i] = settings_group(&results->rows[i].trial.settings);
    for (int32_t stage = 0; stage < results->n_stages; stage++) {
        if (!contexts && results->n_rows) set_add(set, stage, results->rows[0].trial.settings.context);
        for (int32_t k = 0; contexts && k < contexts->n; k++)
            set_add(set, stage, (int32_t)contexts->number[k]);
    }
}

void figure_heatmap(struct report *report, struct panels *out) {
    struct heat_set set = {.report = report,
                           .rank = report_axis_find(report, "lora_rank"),
                           .rate = report_axis_find(report, "learning_rate"),
                           .range = range_none()};
    gather(&set);
    for (int32_t m = 0; m < set.n; m++)
        draw_map(&set, &set.maps[m], out);
    if (set.n) {
        draw_key(&set, out);
        strbuf_printf(&out->note, "Each cell is the mean of %s over seeds%s.", report->results->metric,
                      has_other(&set) ? ", for the best of the other settings tried there" : "");
        if (set.n_left_out)
            strbuf_printf(&out->note, " %d further maps are left out; results.h5 has them.", set.n_left_out);
    } else {
        strbuf_add(&out->note, "No stage varies the rank or the learning rate within one context.");
    }
    for (int32_t m = 0; m < set.n; m++) {
        free(set.maps[m].x);
        free(set.maps[m].y);
        free(set.maps[m].cells);
    }
    free(set.group);
}
