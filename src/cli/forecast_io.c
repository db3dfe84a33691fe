/* Series for a forecast from a table or a data file, and the forecast as a table. Columns called `series` and `time`
 * are taken for what they say; channels come in the order that the adapter was trained with. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "forecast_internal.h"

#define INPUT_MAX ((size_t)1 << 30)

/* ---- in ---- */

static enum lvs_status read_stream(FILE *stream, char **text, size_t *length, struct lvs_error *err) {
    struct strbuf all;
    char block[65536];
    size_t got;
    strbuf_init(&all);
    strbuf_add(&all, "");
    while ((got = fread(block, 1, sizeof block, stream)) > 0 && all.length <= INPUT_MAX)
        strbuf_add_bytes(&all, block, got);
    enum lvs_status status = LVS_OK;
    if (ferror(stream)) status = lvs_fail(err, LVS_INPUT, "standard input cannot be read");
    if (all.length > INPUT_MAX) status = lvs_fail(err, LVS_INPUT, "standard input: more than 1 GiB");
    *length = all.length;
    *text = strbuf_take(&all);
    return status;
}

/* Whether the first line has a cell of this name. */
static bool header_has(const char *text, const char *name) {
    const char *end = text + strcspn(text, "\r\n");
    if (strncmp(text, "\xEF\xBB\xBF", 3) == 0) text += 3;
    while (text < end) {
        size_t length = strcspn(text, ",;\t\r\n");
        const char *cell = text, *last = text + length;
        while (cell < last && (isspace((unsigned char)*cell) || *cell == '"'))
            cell++;
        while (last > cell && (isspace((unsigned char)last[-1]) || last[-1] == '"'))
            last--;
        if ((size_t)(last - cell) == strlen(name) && strncmp(cell, name, strlen(name)) == 0) return true;
        text += length + 1;
    }
    return false;
}

/* "hare+lynx" when the header has all of them, else "": every other column. */
static void channels_text(const struct adapter_info *info, const char *header, struct strbuf *out) {
    strbuf_add(out, "");
    for (int32_t c = 0; c < info->format.n_channel; c++) {
        if (!header_has(header, info->channel_name[c]) || strchr(info->channel_name[c], '+')) {
            strbuf_clear(out);
            return;
        }
        strbuf_printf(out, "%s%s", c ? "+" : "", info->channel_name[c]);
    }
}

static enum lvs_status read_table(const struct forecast_request *request, const struct adapter_info *info,
                                  struct series_set *out, struct lvs_error *err) {
    bool standard = strcmp(request->data, "-") == 0;
    struct import_options columns = request->columns;
    struct strbuf channels;
    char *text = NULL;
    size_t length;
    strbuf_init(&channels);
    enum lvs_status status =
        standard ? read_stream(stdin, &text, &length, err) : file_read(request->data, INPUT_MAX, &text, &length, err);
    if (status == LVS_OK) {
        channels_text(info, text, &channels);
        if (!columns.series_column && header_has(text, "series")) columns.series_column = "series";
        if (!columns.time_column && header_has(text, "time")) columns.time_column = "time";
        /* What --channels leaves out is left out by the user; what we leave out might be the series' names. */
        columns.every_column = !columns.channels;
        if (!columns.channels) columns.channels = channels.text;
        status = import_csv_text(standard ? "standard input" : request->data, text, length, &columns, out, err);
    }
    free(text);
    strbuf_free(&channels);
    return status;
}

/* Names of channels may differ from the training's; the same names in another order would swap their values. */
static enum lvs_status check_order(const struct forecast_request *request, const struct adapter_info *info,
                                   const struct series_set *set, struct lvs_error *err) {
    for (int32_t c = 0; c < set->n_channel; c++)
        for (int32_t k = 0; k < set->n_channel; k++)
            if (k != c && set->channel_name[c][0] && strcmp(set->channel_name[c], info->channel_name[k]) == 0 &&
                strcmp(set->channel_name[c], info->channel_name[c]) != 0)
                return lvs_fail(
                    err, LVS_INPUT,
                    "%s: %s is channel %d there, but channel %d of the adapter: give the channels in its order",
                    request->data, set->channel_name[c], c + 1, k + 1);
    return LVS_OK;
}

static enum lvs_status check_channels(const struct forecast_request *request, const struct adapter_info *info,
                                      const struct series_set *set, struct lvs_error *err) {
    if (set->n_channel == info->format.n_channel) return check_order(request, info, set, err);
    struct strbuf names;
    strbuf_init(&names);
    for (int32_t c = 0; c < info->format.n_channel; c++)
        strbuf_printf(&names, "%s%s", c ? ", " : "", info->channel_name[c]);
    lvs_fail(err, LVS_INPUT, "%s: %d channel%s; the adapter was trained on %d (%s): name them with --channels A+B",
             request->data, set->n_channel, set->n_channel == 1 ? "" : "s", info->format.n_channel, names.text);
    strbuf_free(&names);
    return LVS_INPUT;
}

/* A vocabulary of the characters in use has no '-' when the training data had no value below zero. */
static enum lvs_status check_negative(const struct adapter_info *info, const struct series_set *set,
                                      struct lvs_error *err) {
    const struct tokenizer *tokenizer = &info->tokenizer;
    bool known = info->format.negative;
    for (int32_t i = 0; known && tokenizer->text_only; i++) {
        if (i == tokenizer->n_kept) known = false;
        if (!known || tokenizer->kept[i] == tokenizer->id_of['-']) break;
    }
    const int64_t per_series = (int64_t)set->n_time * set->n_channel;
    for (int64_t i = 0; !known && i < set->n_series * per_series; i++)
        if (set->values[i] < 0)
            return lvs_fail(err, LVS_INPUT,
                            "series %lld has a value below zero (%g); this adapter was trained without any",
                            (long long)set->id[i / per_series], set->values[i]);
    return LVS_OK;
}

enum lvs_status forecast_read(const struct forecast_request *request, const struct adapter_info *info,
                              struct series_set *out, struct lvs_error *err) {
    struct config *config = NULL;
    bool is_file = cli_has_suffix(request->data, ".h5") || cli_has_suffix(request->data, ".hdf5") ||
                   cli_has_suffix(request->data, ".nc");
    LVS_TRY(cli_data_config(is_file ? request->data : "table", &request->sets, &config, err));
    enum lvs_status status = is_file ? series_read(config, out, err) : read_table(request, info, out, err);
    bool read = status == LVS_OK;
    if (status == LVS_OK && !is_file) status = series_finish(config, request->data, out, err);
    if (status == LVS_OK) status = check_channels(request, info, out, err);
    if (status == LVS_OK) status = check_negative(info, out, err);
    config_destroy(config);
    if (read && status != LVS_OK) series_free(out);
    return status;
}

/* ---- out ---- */

static void add_cell(struct strbuf *out, const char *text) {
    if (!strpbrk(text, ",\"\r\n")) {
        strbuf_add(out, text);
        return;
    }
    strbuf_add(out, "\"");
    for (; *text; text++)
        strbuf_printf(out, *text == '"' ? "\"\"" : "%c", *text);
    strbuf_add(out, "\"");
}

/* Times that were dates are written as dates again. */
static void add_time(struct strbuf *out, const struct series_set *set, double value) {
    double seconds = rint(value * 86400), whole = floor(seconds / 86400);
    time_t at = (time_t)seconds;
    struct tm date;
    char text[40];
    if (strcmp(set->time_unit, "days since 1970-01-01") != 0 || !gmtime_r(&at, &date)) {
        strbuf_printf(out, "%.10g", value);
        return;
    }
    strftime(text, sizeof text, seconds == 86400 * whole ? "%Y-%m-%d" : "%Y-%m-%dT%H:%M:%S", &date);
    strbuf_add(out, text);
}

static void add_series(struct strbuf *out, const struct series_set *set, int32_t series) {
    if (set->label && set->label[series][0])
        add_cell(out, set->label[series]);
    else
        strbuf_printf(out, "%lld", (long long)set->id[series]);
}

static void add_number(struct strbuf *out, double value) {
    if (isfinite(value)) strbuf_printf(out, "%.7g", value);
}

/* Valid samples of one value, their count returned. */
static int32_t collect(const struct forecast_table *table, int32_t series, int32_t point, int32_t channel,
                       double *out) {
    int32_t n = 0;
    for (int32_t k = 0; k < table->samples; k++) {
        int64_t at = (((int64_t)k * table->n_series + series) * table->n_time + point) * table->n_channel + channel;
        if (isfinite(table->values[at])) out[n++] = table->values[at];
    }
    return n;
}

void forecast_write(const struct forecast_table *table, const struct series_set *set, struct strbuf *out) {
    static const double percents[] = {50, 5, 25, 75, 95};
    double *sample = lvs_malloc((size_t)table->samples * sizeof *sample);
    strbuf_add(out, "series,time,channel,median,q05,q25,q75,q95,samples\n");
    for (int32_t s = 0; s < table->n_series; s++)
        for (int32_t t = 0; t < table->n_time; t++)
            for (int32_t c = 0; c < table->n_channel; c++) {
                int32_t n = collect(table, s, t, c, sample);
                add_series(out, set, s);
                strbuf_add(out, ",");
                add_time(out, set, table->time[t]);
                strbuf_add(out, ",");
                add_cell(out, set->channel_name[c]);
                for (int q = 0; q < 5; q++) {
                    strbuf_add(out, ",");
                    if (q == 0 || table->samples > 1)
                        add_number(out, n > 0 ? percentile_linear(sample, n, percents[q]) : NAN);
                }
                strbuf_printf(out, ",%d\n", n);
            }
    free(sample);
}
