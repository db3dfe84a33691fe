/* [stop] trend_skip: points that the trend over finished waves makes hopeless. Waves are the values of the stage's
 * first axis. A point is left out when along one of the other axes, in every earlier wave, the point with its own value
 * there was left out too, or lost to the best of its line (points alike in all other axes) by more than LOSING_MARGIN;
 * and the finished points of the line are strictly monotone in the metric, in the same direction in all waves that have
 * two or more, and one of the waves has three. Only finished trials are looked at, all of them of earlier waves, so
 * nothing depends on order or ranks. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "coordinator_internal.h"

#define LOSING_MARGIN 0.25 /* of the best metric of the line */

struct line {
    int32_t n, direction; /* measured points; 1 = the metric rises along the axis, -1 = it falls, 0 = neither */
    double best, own;     /* own: at the value asked about; NaN = it was left out */
    bool own_known;
};

static int32_t value_of(const struct coordinator *c, int32_t point, int32_t axis) {
    return c->axis_values[(size_t)point * (size_t)c->n_axes + (size_t)axis];
}

/* Lower is better. NaN = nothing measured. */
static double loss_of(const struct coordinator *c, int32_t point) {
    const struct trial_state *state = coordinator_at(c, c->stage_rows[point]);
    if (state->record.status != TRIAL_DONE) return NAN;
    struct results table = {.n_channel = c->options.n_channel};
    struct result_row row = {.trial = state->trial, .record = state->record};
    double value = metric_value(&table, &row, c->options.metric);
    return metric_highest(c->options.metric) ? -value : value;
}

static bool was_left_out(const struct coordinator *c, int32_t point) {
    const struct record *record = &coordinator_at(c, c->stage_rows[point])->record;
    return record->status == TRIAL_CUT && strncmp(record->error, "trend_skip", 10) == 0;
}

static bool on_line(const struct coordinator *c, int32_t point, int32_t of, int32_t axis, int32_t wave) {
    if (value_of(c, point, 0) != wave) return false;
    for (int32_t a = 1; a < c->n_axes; a++)
        if (a != axis && value_of(c, point, a) != value_of(c, of, a)) return false;
    return true;
}

/* Points come in enumeration order, so along the axis in the order in which its values are listed. */
static struct line line_of(const struct coordinator *c, int32_t of, int32_t axis, int32_t wave) {
    struct line line = {.best = NAN, .own = NAN};
    double last = NAN;
    bool monotone = true;
    for (int32_t i = 0; i < c->n_points; i++) {
        if (!on_line(c, i, of, axis, wave)) continue;
        double loss = loss_of(c, i);
        bool own = value_of(c, i, axis) == value_of(c, of, axis);
        if (own) line.own_known = !isnan(loss) || was_left_out(c, i);
        if (isnan(loss)) continue;
        if (own) line.own = loss;
        int32_t step = isnan(last) ? 0 : loss > last ? 1 : loss < last ? -1 : 0;
        if (!isnan(last) && (step == 0 || (line.direction != 0 && step != line.direction))) monotone = false;
        if (step != 0) line.direction = step;
        if (isnan(line.best) || loss < line.best) line.best = loss;
        last = loss;
        line.n++;
    }
    if (!monotone) line.direction = 0;
    return line;
}

/* The least margin by which the point's value lost in the earlier waves; negative = the axis says nothing. */
static double lost_along(const struct coordinator *c, int32_t point, int32_t axis) {
    int32_t direction = 0, most = 0;
    double least = INFINITY;
    for (int32_t wave = 0; wave < value_of(c, point, 0); wave++) {
        struct line line = line_of(c, point, axis, wave);
        bool left_out = line.own_known && isnan(line.own);
        if (!line.own_known || (line.n < 2 && !left_out)) return -1;
        if (line.n >= 2 && (line.direction == 0 || line.direction * direction < 0)) return -1;
        if (line.n >= 2) direction = line.direction;
        most = line.n > most ? line.n : most;
        if (isnan(line.own)) continue;
        double margin = (line.own - line.best) / fabs(line.best);
        if (!(margin > LOSING_MARGIN)) return -1;
        least = margin < least ? margin : least;
    }
    return most >= 3 && isfinite(least) ? least : -1;
}

bool trend_is_hopeless(const struct coordinator *c, int32_t point, char *why, size_t capacity) {
    for (int32_t axis = 1; axis < c->n_axes && axis < STAGE_AXES_MAX; axis++) {
        if (strcmp(c->axis_name[axis], "seed") == 0) continue;
        double lost = lost_along(c, point, axis);
        if (lost < 0) continue;
        snprintf(why, capacity, "trend_skip: along %.24s this value lost in every finished %.24s by at least %.0f %%",
                 c->axis_name[axis], c->axis_name[0], 100 * lost);
        return true;
    }
    return false;
}
