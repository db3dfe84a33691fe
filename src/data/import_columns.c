/* Which column of a table is what: series, time, channels; and what a column that nobody named may be. */
#include "import_job.h"

#include <string.h>
#include <strings.h>

#include "data_internal.h"
#include "import_cell.h"

const char *import_cell_at(const struct import_job *job, int64_t row, int32_t column) {
    return job->table.cell[row * job->table.n_columns + column];
}

const char *import_no_utf8(const char *text) {
    for (size_t length; *text; text += length)
        if ((length = lvs_utf8_length(text)) == 0) return text;
    return NULL;
}

/* ---- guesses ---- */

static bool is_used(const struct import_job *job, int32_t column) {
    bool used = column == job->series_column || column == job->time_column;
    for (int32_t c = 0; c < job->n_channel; c++)
        used = used || job->channel[c] == column;
    return used;
}

static bool is_one_of(const char *name, const char *const *words) {
    for (; *words; words++)
        if (strcasecmp(name, *words) == 0) return true;
    return false;
}

static bool is_text(const struct import_job *job, int32_t column) {
    double ignored;
    const char *cell = import_cell_at(job, 0, column);
    return !cell_number(cell, job->decimal_comma, &ignored) && !cell_date(cell, &ignored);
}

static bool names_series(const struct import_job *job, int32_t column) {
    static const char *const words[] = {"series", "site", "station", "id", "name", "unit", NULL};
    return is_one_of(job->table.header[column], words) || is_text(job, column);
}

static bool names_time(const struct import_job *job, int32_t column) {
    static const char *const words[] = {"time",  "date", "datetime", "timestamp", "year",
                                        "month", "day",  "hour",     "t",         NULL};
    double ignored;
    return is_one_of(job->table.header[column], words) || cell_date(import_cell_at(job, 0, column), &ignored);
}

void import_guess_columns(const struct import_job *job, char out[IMPORT_GUESS_MAX]) {
    const bool chosen = job->options->channels && job->options->channels[0];
    int32_t series = -1, time = -1;
    for (int32_t c = 0; c < job->table.n_columns && job->table.n_rows > 0; c++) {
        if (c == job->series_column || c == job->time_column || (chosen && is_used(job, c))) continue;
        if (job->time_column < 0 && time < 0 && names_time(job, c))
            time = c;
        else if (job->series_column < 0 && series < 0 && names_series(job, c))
            series = c;
    }
    int used = 0;
    out[0] = '\0';
    if (series >= 0) used = snprintf(out, IMPORT_GUESS_MAX, "--series %.40s", job->table.header[series]);
    if (time >= 0)
        snprintf(out + used, IMPORT_GUESS_MAX - (size_t)used, "%s--time %.40s", used ? " " : "",
                 job->table.header[time]);
}

/* ---- columns by name ---- */

static enum lvs_status find_column(const struct import_job *job, const char *what, const char *name, size_t length,
                                   int32_t *out, struct lvs_error *err) {
    *out = -1;
    for (int32_t c = 0; c < job->table.n_columns; c++) {
        const char *header = job->table.header[c];
        if (strlen(header) != length || strncmp(header, name, length) != 0) continue;
        if (*out >= 0) return lvs_fail(err, LVS_INPUT, "%s: two columns are called %s", job->name, header);
        *out = c;
    }
    if (*out >= 0) return LVS_OK;
    struct strbuf there;
    strbuf_init(&there);
    strbuf_add(&there, "");
    for (int32_t c = 0; c < job->table.n_columns && c < 20; c++)
        strbuf_printf(&there, "%s%.40s", c ? ", " : "", job->table.header[c]);
    lvs_fail(err, LVS_INPUT, "%s: no column %.*s (%s); there are %s%s", job->name, (int)length, name, what, there.text,
             job->table.n_columns > 20 ? ", …" : "");
    strbuf_free(&there);
    return LVS_INPUT;
}

static enum lvs_status find_named_channels(struct import_job *job, struct lvs_error *err) {
    for (const char *at = job->options->channels;;) {
        size_t length = strcspn(at, "+");
        int32_t column;
        LVS_TRY(find_column(job, "channels", at, length, &column, err));
        if (job->n_channel == LVS_MAX_CHANNELS)
            return lvs_fail(err, LVS_INPUT, "%s: channels %s: at most %d are allowed", job->name,
                            job->options->channels, LVS_MAX_CHANNELS);
        job->channel[job->n_channel++] = column;
        if (at[length] == '\0') return LVS_OK;
        at += length + 1;
    }
}

static enum lvs_status choose_columns(struct import_job *job, struct lvs_error *err) {
    const struct import_options *options = job->options;
    const char *series = options->series_column ? options->series_column : "";
    const char *time = options->time_column ? options->time_column : "";
    job->series_column = job->time_column = -1;
    if (series[0]) LVS_TRY(find_column(job, "series", series, strlen(series), &job->series_column, err));
    if (time[0]) LVS_TRY(find_column(job, "time", time, strlen(time), &job->time_column, err));
    if (options->channels && options->channels[0]) return find_named_channels(job, err);
    for (int32_t c = 0; c < job->table.n_columns; c++) {
        if (c == job->series_column || c == job->time_column) continue;
        if (job->n_channel == LVS_MAX_CHANNELS)
            return lvs_fail(err, LVS_INPUT, "%s: more than %d columns beside series and time; choose channels by name",
                            job->name, LVS_MAX_CHANNELS);
        job->channel[job->n_channel++] = c;
    }
    if (job->n_channel == 0) return lvs_fail(err, LVS_INPUT, "%s: no column beside series and time", job->name);
    return LVS_OK;
}

/* ---- what is refused ---- */

static enum lvs_status check_utf8(const struct import_job *job, struct lvs_error *err) {
    for (int32_t c = 0; c < job->table.n_columns; c++) {
        const char *header = job->table.header[c], *bad = import_no_utf8(header);
        if (bad)
            return lvs_fail(err, LVS_INPUT,
                            "%s: column %d: byte %d of its name is 0x%02X, which is no UTF-8; save the table as UTF-8",
                            job->name, c + 1, (int)(bad - header) + 1, (unsigned char)*bad);
    }
    return LVS_OK;
}

/* Channels are told apart by their names, of which a data file keeps so many bytes. */
static enum lvs_status check_distinct(const struct import_job *job, struct lvs_error *err) {
    const size_t kept = sizeof((struct series_set *)0)->channel_name[0] - 1;
    for (int32_t i = 0; i < job->n_channel; i++)
        for (int32_t k = 0; k < i; k++) {
            const char *name = job->table.header[job->channel[i]];
            if (strncmp(name, job->table.header[job->channel[k]], kept) != 0) continue;
            if (job->channel[i] == job->channel[k])
                return lvs_fail(err, LVS_INPUT, "%s: channels %s: %s is there twice", job->name, job->options->channels,
                                name);
            return lvs_fail(err, LVS_INPUT,
                            "%s: columns %d and %d are both called \"%.63s\"; give them different names", job->name,
                            job->channel[k] + 1, job->channel[i] + 1, name);
        }
    return LVS_OK;
}

static enum lvs_status check_every_column(const struct import_job *job, struct lvs_error *err) {
    char guess[IMPORT_GUESS_MAX];
    struct strbuf unused, channels;
    int32_t n_unused = 0;
    strbuf_init(&unused);
    strbuf_init(&channels);
    for (int32_t c = 0; c < job->table.n_columns; c++)
        if (!is_used(job, c)) strbuf_printf(&unused, "%s%.40s", n_unused++ ? ", " : "", job->table.header[c]);
    for (int32_t c = 0; c < job->n_channel; c++)
        strbuf_printf(&channels, "%s%.40s", c ? "+" : "", job->table.header[job->channel[c]]);
    import_guess_columns(job, guess);
    if (n_unused > 0)
        lvs_fail(err, LVS_INPUT, "%s: %s would not be used: %s%s--channels %s goes without %s", job->name, unused.text,
                 guess, guess[0] ? " if that is what they are; " : "", channels.text, n_unused > 1 ? "them" : "it");
    strbuf_free(&unused);
    strbuf_free(&channels);
    return n_unused > 0 ? LVS_INPUT : LVS_OK;
}

enum lvs_status import_find_columns(struct import_job *job, struct lvs_error *err) {
    LVS_TRY(check_utf8(job, err));
    LVS_TRY(choose_columns(job, err));
    LVS_TRY(check_distinct(job, err));
    return job->options->every_column ? check_every_column(job, err) : LVS_OK;
}
