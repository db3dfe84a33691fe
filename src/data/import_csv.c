/* Wide tables to series: finds the columns, sorts rows by series and time, lays them on one common grid of times.
 * The grid holds every time that occurs in any series; where a series has no row there, the values are NaN. Series must
 * begin and end together, or are cut to the stretch that all of them cover.
 * Invariant: values of the result are finite or NaN, times rise. */
#include "lvsweep/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data_internal.h"
#include "import_cell.h"
#include "import_job.h"

#define IMPORT_FILE_MAX ((size_t)1 << 30)

/* ---- rows ---- */

static enum lvs_status read_row_time(struct import_job *job, int64_t row, double *time, struct lvs_error *err) {
    const char *cell = import_cell_at(job, row, job->time_column);
    bool number = !job->dates && cell_number(cell, job->decimal_comma, time) && !isnan(*time);
    /* The first row decides between numbers and dates. */
    if (number || ((row == 0 || job->dates) && cell_date(cell, time))) {
        job->dates = !number;
        return LVS_OK;
    }
    return lvs_fail(err, LVS_INPUT, "%s:%lld: %s \"%.40s\" is no %s", job->name, (long long)job->table.line[row],
                    job->table.header[job->time_column], cell,
                    row == 0     ? "number and no date (2024-01-31)"
                    : job->dates ? "date (2024-01-31), as in the rows before"
                                 : "number, as in the rows before");
}

static int compare_labels(const void *left, const void *right) {
    const struct import_row *a = left, *b = right;
    int order = strcmp(a->label, b->label);
    return order ? order : (a->row > b->row) - (a->row < b->row);
}

static int compare_rows(const void *left, const void *right) {
    const struct import_row *a = left, *b = right;
    if (a->series != b->series) return a->series < b->series ? -1 : 1;
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static int compare_first_rows(const void *left, const void *right) {
    const int64_t *a = left, *b = right;
    return (a[0] > b[0]) - (a[0] < b[0]);
}

/* Numbers the series by their first row in the table. Rows are sorted by label before and stay so. */
static void number_series(struct import_job *job) {
    int64_t n_rows = job->table.n_rows;
    int64_t(*found)[2] = lvs_malloc((size_t)n_rows * sizeof *found); /* first table row, index of the label's first */
    for (int64_t i = 0; i < n_rows; i++)
        if (i == 0 || strcmp(job->rows[i].label, job->rows[i - 1].label) != 0) {
            found[job->n_series][0] = job->rows[i].row;
            found[job->n_series++][1] = i;
        }
    qsort(found, (size_t)job->n_series, sizeof *found, compare_first_rows);
    for (int32_t s = 0; s < job->n_series; s++)
        for (int64_t i = found[s][1]; i < n_rows; i++) {
            if (i > found[s][1] && strcmp(job->rows[i].label, job->rows[i - 1].label) != 0) break;
            job->rows[i].series = s;
        }
    free(found);
}

static enum lvs_status check_label(const struct import_job *job, int64_t row, struct lvs_error *err) {
    const char *label = job->rows[row].label;
    if (label[0] == '\0')
        return lvs_fail(err, LVS_INPUT, "%s:%lld: %s is empty", job->name, (long long)job->table.line[row],
                        job->table.header[job->series_column]);
    const char *bad = import_no_utf8(label);
    if (bad)
        return lvs_fail(err, LVS_INPUT, "%s:%lld: %s: byte %d is 0x%02X, which is no UTF-8; save the table as UTF-8",
                        job->name, (long long)job->table.line[row], job->table.header[job->series_column],
                        (int)(bad - label) + 1, (unsigned char)*bad);
    return LVS_OK;
}

static enum lvs_status sort_rows(struct import_job *job, struct lvs_error *err) {
    int64_t n_rows = job->table.n_rows;
    if (n_rows > INT32_MAX) return lvs_fail(err, LVS_INPUT, "%s: more than 2^31 rows", job->name);
    job->rows = lvs_calloc((size_t)n_rows, sizeof *job->rows);
    for (int64_t i = 0; i < n_rows; i++) {
        job->rows[i].row = i;
        job->rows[i].label = job->series_column >= 0 ? import_cell_at(job, i, job->series_column) : "1";
        if (job->time_column >= 0) LVS_TRY(read_row_time(job, i, &job->rows[i].time, err));
        LVS_TRY(check_label(job, i, err));
    }
    qsort(job->rows, (size_t)n_rows, sizeof *job->rows, compare_labels);
    number_series(job);
    qsort(job->rows, (size_t)n_rows, sizeof *job->rows, compare_rows);
    job->first = lvs_calloc((size_t)job->n_series + 1, sizeof *job->first);
    for (int64_t i = 0; i < n_rows; i++)
        job->first[job->rows[i].series + 1] = i + 1;
    /* Without a time column a row's time is its place in the series. */
    for (int64_t i = 0; i < n_rows && job->time_column < 0; i++)
        job->rows[i].time = (double)(i - job->first[job->rows[i].series]);
    for (int64_t i = 1; i < n_rows; i++)
        if (job->rows[i].series == job->rows[i - 1].series && job->rows[i].time == job->rows[i - 1].time)
            return lvs_fail(err, LVS_INPUT, "%s:%lld: series %.60s has a row for this time already, at line %lld",
                            job->name, (long long)job->table.line[job->rows[i].row], job->rows[i].label,
                            (long long)job->table.line[job->rows[i - 1].row]);
    return LVS_OK;
}

/* ---- the grid of times ---- */

/* "1990 to 2020": the first and last time of a series, as the file writes them. */
static void name_stretch(const struct import_job *job, int32_t series, char out[160]) {
    const struct import_row *from = &job->rows[job->first[series]], *to = &job->rows[job->first[series + 1] - 1];
    if (job->time_column >= 0)
        snprintf(out, 160, "%.40s (%.40s to %.40s)", from->label, import_cell_at(job, from->row, job->time_column),
                 import_cell_at(job, to->row, job->time_column));
    else
        snprintf(out, 160, "%.40s (%lld rows)", from->label, (long long)(to - from + 1));
}

static enum lvs_status refuse_unequal(const struct import_job *job, int32_t odd, struct lvs_error *err) {
    char one[160], other[160], guess[IMPORT_GUESS_MAX];
    name_stretch(job, 0, one);
    name_stretch(job, odd, other);
    if (job->time_column >= 0)
        return lvs_fail(
            err, LVS_INPUT,
            "%s: series of unequal length: %s and %s. Fill the rows in, or let lvsweep import --unequal cut "
            "keep the stretch of time that all have",
            job->name, one, other);
    import_guess_columns(job, guess);
    return lvs_fail(err, LVS_INPUT,
                    "%s: series of unequal length: %s and %s. Name the column of times (%s), or let lvsweep import "
                    "--unequal cut keep the first rows of each",
                    job->name, one, other, guess[0] ? guess : "--time COLUMN");
}

/* The stretch all series cover: [*from, *to]. Refuses series of unequal stretches unless they may be cut. */
static enum lvs_status common_stretch(const struct import_job *job, double *from, double *to, struct lvs_error *err) {
    int32_t latest = 0, earliest = 0, odd = -1;
    for (int32_t s = 1; s < job->n_series; s++) {
        if (job->rows[job->first[s]].time > job->rows[job->first[latest]].time) latest = s;
        if (job->rows[job->first[s + 1] - 1].time < job->rows[job->first[earliest + 1] - 1].time) earliest = s;
        bool same = job->rows[job->first[s]].time == job->rows[0].time &&
                    job->rows[job->first[s + 1] - 1].time == job->rows[job->first[1] - 1].time;
        if (!same && odd < 0) odd = s;
    }
    *from = job->rows[job->first[latest]].time;
    *to = job->rows[job->first[earliest + 1] - 1].time;
    char one[160], other[160];
    if (odd >= 0 && job->options->unequal == IMPORT_UNEQUAL_REFUSE) return refuse_unequal(job, odd, err);
    if (*from >= *to) {
        name_stretch(job, latest, one);
        name_stretch(job, earliest, other);
        return lvs_fail(err, LVS_INPUT, "%s: no stretch of time is common to all series: %s and %s", job->name, one,
                        other);
    }
    return LVS_OK;
}

static int compare_times(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static enum lvs_status make_grid(struct import_job *job, struct lvs_error *err) {
    double from, to;
    LVS_TRY(common_stretch(job, &from, &to, err));
    int64_t n_times = 0, n_distinct = 0, longest = 0;
    job->grid = lvs_malloc((size_t)job->table.n_rows * sizeof *job->grid);
    for (int32_t s = 0; s < job->n_series; s++) {
        int64_t before = n_times;
        for (int64_t i = job->first[s]; i < job->first[s + 1]; i++)
            if (job->rows[i].time >= from && job->rows[i].time <= to) job->grid[n_times++] = job->rows[i].time;
        if (n_times - before > longest) longest = n_times - before;
    }
    qsort(job->grid, (size_t)n_times, sizeof *job->grid, compare_times);
    for (int64_t i = 0; i < n_times; i++)
        if (i == 0 || job->grid[i] != job->grid[i - 1]) job->grid[n_distinct++] = job->grid[i];
    if (n_distinct > 2 * longest)
        return lvs_fail(
            err, LVS_INPUT,
            "%s: the series' times do not match: %lld different times, at most %lld in one series. Bring them "
            "to common times first",
            job->name, (long long)n_distinct, (long long)longest);
    job->n_time = (int32_t)n_distinct;
    return LVS_OK;
}

/* ---- values ---- */

static enum lvs_status refuse_cell(const struct import_job *job, int64_t row, int32_t column, struct lvs_error *err) {
    char guess[IMPORT_GUESS_MAX];
    import_guess_columns(job, guess);
    bool names = job->series_column < 0 && guess[0];
    return lvs_fail(err, LVS_INPUT,
                    "%s:%lld: column %s: \"%.40s\" is no number; %s%s%sleave it empty if it is missing, or choose the "
                    "channels by name",
                    job->name, (long long)job->table.line[row], job->table.header[column],
                    import_cell_at(job, row, column), names ? "did you mean " : "", names ? guess : "",
                    names ? "? Else " : "");
}

static enum lvs_status read_row_values(const struct import_job *job, int64_t row, double *out, struct lvs_error *err) {
    for (int32_t c = 0; c < job->n_channel; c++) {
        const char *cell = import_cell_at(job, row, job->channel[c]);
        if (!cell_number(cell, job->decimal_comma, &out[c])) return refuse_cell(job, row, job->channel[c], err);
        if (isinf((float)out[c]))
            return lvs_fail(err, LVS_INPUT, "%s:%lld: column %s: %.40s is too large: at most 3.4e38 (float32)",
                            job->name, (long long)job->table.line[row], job->table.header[job->channel[c]], cell);
    }
    return LVS_OK;
}

static enum lvs_status fill_values(const struct import_job *job, struct series_set *set, struct lvs_error *err) {
    int64_t per_series = (int64_t)set->n_time * set->n_channel;
    double ignored[LVS_MAX_CHANNELS];
    for (int64_t i = 0; i < per_series * set->n_series; i++)
        set->values[i] = NAN;
    memcpy(set->time, job->grid, (size_t)set->n_time * sizeof *set->time);
    for (int32_t s = 0; s < set->n_series; s++) {
        int32_t t = 0;
        for (int64_t i = job->first[s]; i < job->first[s + 1]; i++) {
            double time = job->rows[i].time;
            while (t < set->n_time && job->grid[t] < time)
                t++;
            bool on_grid = t < set->n_time && job->grid[t] == time;
            double *out = on_grid ? set->values + s * per_series + (int64_t)t * set->n_channel : ignored;
            LVS_TRY(read_row_values(job, job->rows[i].row, out, err));
        }
    }
    return LVS_OK;
}

static void name_all(const struct import_job *job, struct series_set *set) {
    for (int32_t c = 0; c < set->n_channel; c++)
        lvs_copy(set->channel_name[c], sizeof set->channel_name[c], job->table.header[job->channel[c]]);
    if (job->dates) lvs_copy(set->time_unit, sizeof set->time_unit, "days since 1970-01-01");
    if (job->series_column < 0) return;
    set->label = lvs_calloc((size_t)set->n_series, sizeof *set->label);
    for (int32_t s = 0; s < set->n_series; s++)
        lvs_copy(set->label[s], sizeof set->label[s], job->rows[job->first[s]].label);
}

static enum lvs_status import_table(struct import_job *job, struct series_set *out, struct lvs_error *err) {
    job->decimal_comma = job->table.separator != ',';
    LVS_TRY(import_find_columns(job, err));
    LVS_TRY(sort_rows(job, err));
    LVS_TRY(make_grid(job, err));
    if (job->n_time < SERIES_MIN_POINTS)
        return lvs_fail(err, LVS_INPUT, "%s has %d rows a series; at least %d are needed", job->name, job->n_time,
                        SERIES_MIN_POINTS);
    LVS_TRY(
        series_check_sizes(job->name, (uint64_t)job->n_series, (uint64_t)job->n_time, (uint64_t)job->n_channel, err));
    LVS_TRY(series_allocate(out, job->n_series, job->n_time, job->n_channel, err));
    LVS_TRY(fill_values(job, out, err));
    name_all(job, out);
    series_hash(out);
    return LVS_OK;
}

enum lvs_status import_csv_text(const char *name, char *text, size_t length, const struct import_options *options,
                                struct series_set *out, struct lvs_error *err) {
    struct import_job job = {.name = name, .options = options};
    *out = (struct series_set){0};
    enum lvs_status status = csv_parse(name, text, length, &job.table, err);
    if (status == LVS_OK) status = import_table(&job, out, err);
    if (status != LVS_OK) series_free(out);
    csv_free(&job.table);
    free(job.rows);
    free(job.first);
    free(job.grid);
    return status;
}

static enum lvs_status read_standard_input(char **text, size_t *length, struct lvs_error *err) {
    struct strbuf all;
    strbuf_init(&all);
    strbuf_add(&all, "");
    char block[1 << 16];
    ssize_t got;
    while ((got = read(STDIN_FILENO, block, sizeof block)) > 0 && all.length <= IMPORT_FILE_MAX)
        strbuf_add_bytes(&all, block, (size_t)got);
    bool too_long = all.length > IMPORT_FILE_MAX;
    *length = all.length;
    *text = strbuf_take(&all);
    if (got >= 0 && !too_long) return LVS_OK;
    free(*text);
    *text = NULL;
    return lvs_fail(err, LVS_INPUT, "standard input: %s", too_long ? "more than 1 GiB" : "cannot read");
}

enum lvs_status import_csv(const char *path, const struct import_options *options, struct series_set *out,
                           struct lvs_error *err) {
    char *text = NULL;
    size_t length = 0;
    *out = (struct series_set){0};
    bool standard = strcmp(path, "-") == 0;
    if (standard)
        LVS_TRY(read_standard_input(&text, &length, err));
    else
        LVS_TRY(file_read(path, IMPORT_FILE_MAX, &text, &length, err));
    enum lvs_status status = import_csv_text(standard ? "standard input" : path, text, length, options, out, err);
    free(text);
    return status;
}
