/* A description as tables for people and as JSON for programs. Numbers only pass through here. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data_internal.h"

/* ---- tables ---- */

/* "-" for what could not be measured; four significant digits otherwise. */
static void add_number(struct strbuf *out, double value) {
    if (isfinite(value))
        strbuf_printf(out, " %10.4g", value);
    else
        strbuf_printf(out, " %10s", "-");
}

/* Width of the rows' names: "lag to prey" and the like in full. */
static int label_width(const struct description *d) {
    int longest = (int)(strlen("lag to ") + strlen(d->channel_name[0]));
    return d->n_channel > 1 && longest > 16 ? longest : 16;
}

static void add_spread(struct strbuf *out, int width, const char *name, const struct spread *spread, int32_t n_series) {
    strbuf_printf(out, "  %-*s", width, name);
    const double values[] = {spread->minimum, spread->p5, spread->median, spread->mean, spread->p95, spread->maximum};
    for (int i = 0; i < 6; i++)
        add_number(out, values[i]);
    if (n_series > 0 && spread->count < n_series) strbuf_printf(out, "  in %d series", spread->count);
    strbuf_add(out, "\n");
}

static void add_header(struct strbuf *out, const struct description *d) {
    strbuf_printf(out, "%d series", d->n_series);
    if (d->n_file > d->n_series) strbuf_printf(out, " (%d of %d left out)", d->n_file - d->n_series, d->n_file);
    strbuf_printf(out, ", %d points, %d channel%s, time %g to %g%s%s\n", d->n_time, d->n_channel,
                  d->n_channel == 1 ? "" : "s", d->time_first, d->time_last, d->time_unit[0] ? " " : "", d->time_unit);
}

static void add_channel(struct strbuf *out, const struct description *d, int32_t c) {
    const struct channel_description *channel = &d->channel[c];
    strbuf_printf(out, "\n%s%s%s%s\n", d->channel_name[c], d->channel_unit[c][0] ? " (" : "", d->channel_unit[c],
                  d->channel_unit[c][0] ? ")" : "");
    const int width = label_width(d);
    strbuf_printf(out, "  %-*s %10s %10s %10s %10s %10s %10s\n", width, "", "minimum", "5 %", "median", "mean", "95 %",
                  "maximum");
    add_spread(out, width, "values", &channel->values, 0);
    add_spread(out, width, "first point", &channel->initial, d->n_series);
    add_spread(out, width, "last point", &channel->final, d->n_series);
    add_spread(out, width, "period", &channel->period, d->n_series);
    if (c > 0) {
        char name[sizeof d->channel_name[0] + 8];
        snprintf(name, sizeof name, "lag to %s", d->channel_name[0]);
        add_spread(out, width, name, &channel->lag, d->n_series);
    }
}

static void add_clusters(struct strbuf *out, const struct description *d) {
    strbuf_printf(
        out,
        "\nKinds of series (k-means over mean, amplitude, period, lag)\n  %-7s %7s %7s  %-18s %10s %10s %10s %10s\n",
        "kind", "series", "share", "channel", "mean", "amplitude", "period", "lag");
    for (int32_t k = 0; k < d->n_clusters; k++) {
        const struct cluster_description *cluster = &d->cluster[k];
        for (int32_t c = 0; c < d->n_channel; c++) {
            if (c == 0)
                strbuf_printf(out, "  %-7d %7d %6.1f%%  ", k + 1, cluster->n_series, 100 * cluster->share);
            else
                strbuf_printf(out, "  %-7s %7s %7s  ", "", "", "");
            strbuf_printf(out, "%-18.18s", d->channel_name[c]);
            add_number(out, cluster->mean[c]);
            add_number(out, cluster->amplitude[c]);
            add_number(out, cluster->period[c]);
            add_number(out, c > 0 ? cluster->lag[c] : NAN);
            strbuf_add(out, "\n");
        }
    }
}

static const int32_t windows_shown[] = {128, 512, 768};

static void add_encodings(struct strbuf *out, const struct description *d) {
    strbuf_printf(out, "\nText (one token a character)\n  %-14s %10s %8s %8s  %-24s %9s %8s\n", "decimals",
                  "tokens/series", "least", "most", "points in 128, 512, 768", "as zero", "clipped");
    for (int32_t i = 0; i < d->n_encodings; i++) {
        const struct encoding_description *encoding = &d->encoding[i];
        char name[48], points[48];
        snprintf(name, sizeof name, "%d%s", encoding->decimals, encoding->decimal_point ? "" : ", no point");
        int used = 0;
        for (int w = 0; w < 3; w++)
            used += snprintf(points + used, sizeof points - (size_t)used, "%s%.0f", w ? ", " : "",
                             floor((windows_shown[w] + 1) / encoding->tokens_a_point));
        strbuf_printf(out, "  %-14s %13.1f %8.0f %8.0f  %-24s %7.2f %% %6.2f %%\n", name, encoding->tokens.mean,
                      encoding->tokens.minimum, encoding->tokens.maximum, points, 100 * encoding->zero_share,
                      100 * encoding->clipped_share);
    }
}

void describe_write_text(const struct description *description, struct strbuf *out) {
    add_header(out, description);
    for (int32_t c = 0; c < description->n_channel; c++)
        add_channel(out, description, c);
    add_clusters(out, description);
    add_encodings(out, description);
}

/* ---- JSON ---- */

static json_t *number_of(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *spread_json(const struct spread *spread) {
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "count", spread->count, "minimum",
                     number_of(spread->minimum), "p5", number_of(spread->p5), "median", number_of(spread->median),
                     "mean", number_of(spread->mean), "p95", number_of(spread->p95), "maximum",
                     number_of(spread->maximum));
}

/* Names from a file may hold any bytes; what is no UTF-8 is given by number. */
static json_t *name_json(const char *name, int32_t number) {
    json_t *text = json_string(name);
    return text ? text : json_sprintf("%d", number);
}

static json_t *channel_json(const struct description *d, int32_t c) {
    const struct channel_description *channel = &d->channel[c];
    json_t *object = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "name", name_json(d->channel_name[c], c + 1), "values",
                               spread_json(&channel->values), "initial", spread_json(&channel->initial), "final",
                               spread_json(&channel->final), "period", spread_json(&channel->period), "lag",
                               spread_json(&channel->lag));
    json_object_set_new(object, "unit", name_json(d->channel_unit[c], c + 1));
    return object;
}

static json_t *numbers_json(const double *values, int32_t count) {
    json_t *list = json_array();
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(list, number_of(values[i]));
    return list;
}

static json_t *cluster_json(const struct description *d, const struct cluster_description *cluster) {
    return json_pack("{s:i, s:f, s:o, s:o, s:o, s:o}", "series", cluster->n_series, "share", cluster->share, "mean",
                     numbers_json(cluster->mean, d->n_channel), "amplitude",
                     numbers_json(cluster->amplitude, d->n_channel), "period",
                     numbers_json(cluster->period, d->n_channel), "lag", numbers_json(cluster->lag, d->n_channel));
}

static json_t *encoding_json(const struct encoding_description *encoding) {
    return json_pack("{s:i, s:b, s:o, s:f, s:f, s:f}", "decimals", encoding->decimals, "decimal_point",
                     encoding->decimal_point ? 1 : 0, "tokens", spread_json(&encoding->tokens), "tokens_a_point",
                     encoding->tokens_a_point, "zero_share", encoding->zero_share, "clipped_share",
                     encoding->clipped_share);
}

void describe_write_json(const struct description *d, struct strbuf *out) {
    json_t *channels = json_array(), *clusters = json_array(), *encodings = json_array(), *of = json_array();
    for (int32_t c = 0; c < d->n_channel; c++)
        json_array_append_new(channels, channel_json(d, c));
    for (int32_t k = 0; k < d->n_clusters; k++)
        json_array_append_new(clusters, cluster_json(d, &d->cluster[k]));
    for (int32_t i = 0; i < d->n_encodings; i++)
        json_array_append_new(encodings, encoding_json(&d->encoding[i]));
    for (int32_t s = 0; s < d->n_series; s++)
        json_array_append_new(of, json_integer(d->cluster_of[s]));
    json_t *root =
        json_pack("{s:i, s:i, s:i, s:f, s:f, s:o, s:o, s:o, s:o}", "series", d->n_series, "points", d->n_time,
                  "series_in_file", d->n_file, "time_first", d->time_first, "time_last", d->time_last, "channels",
                  channels, "clusters", clusters, "cluster_of_series", of, "encodings", encodings);
    char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
    strbuf_add(out, text ? text : "{}");
    strbuf_add(out, "\n");
    free(text);
    json_decref(root);
}
