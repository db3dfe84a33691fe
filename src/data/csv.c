/* Tables of text (RFC 4180, and what spreadsheets make of it): separators, quotes, CRLF, byte-order mark. No meaning of
 * cells. Invariant: every row has as many cells as the header. */
#include "csv.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"

/* Where the parser is in the text. */
struct csv_cursor {
    const char *name;
    char *at, *end;
    int64_t line;
};

static char choose_separator(const char *text, const char *end) {
    static const char candidates[] = {',', ';', '\t'};
    int64_t counts[3] = {0};
    bool quoted = false;
    for (; text < end && (quoted || *text != '\n'); text++) {
        if (*text == '"') quoted = !quoted;
        for (int i = 0; i < 3 && !quoted; i++)
            counts[i] += *text == candidates[i];
    }
    int best = 0;
    for (int i = 1; i < 3; i++)
        if (counts[i] > counts[best]) best = i;
    return candidates[best];
}

/* Trims spaces on both sides of [from, to) and ends it with a NUL; `to` must be writable. */
static char *trimmed(char *from, char *to) {
    while (from < to && (*from == ' ' || *from == '\r'))
        from++;
    while (to > from && (to[-1] == ' ' || to[-1] == '\r'))
        to--;
    *to = '\0';
    return from;
}

/* Opens a quoted cell in place; the cursor stands behind the first quote and ends behind the last. */
static enum lvs_status open_quotes(struct csv_cursor *cursor, char **end_of_text, struct lvs_error *err) {
    int64_t first_line = cursor->line;
    char *out = cursor->at;
    while (cursor->at < cursor->end) {
        if (*cursor->at == '\n') cursor->line++;
        if (*cursor->at == '"') {
            cursor->at++;
            if (cursor->at >= cursor->end || *cursor->at != '"') {
                *end_of_text = out;
                return LVS_OK;
            }
        }
        *out++ = *cursor->at++;
    }
    return lvs_fail(err, LVS_INPUT, "%s:%lld: a quote is opened and never closed", cursor->name, (long long)first_line);
}

/* Takes one cell; *ends_row tells whether a line end (or the end of the text) follows. */
static enum lvs_status take_cell(struct csv_cursor *cursor, char separator, const char **cell, bool *ends_row,
                                 struct lvs_error *err) {
    while (cursor->at < cursor->end && *cursor->at == ' ' && separator != ' ')
        cursor->at++;
    char *from = cursor->at, *to = from;
    bool quoted = cursor->at < cursor->end && *cursor->at == '"';
    if (quoted) {
        from = ++cursor->at;
        LVS_TRY(open_quotes(cursor, &to, err));
        while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\r'))
            cursor->at++;
        if (cursor->at < cursor->end && *cursor->at != separator && *cursor->at != '\n')
            return lvs_fail(err, LVS_INPUT, "%s:%lld: text after a closed quote", cursor->name,
                            (long long)cursor->line);
    } else {
        while (cursor->at < cursor->end && *cursor->at != separator && *cursor->at != '\n')
            cursor->at++;
        to = cursor->at;
    }
    *ends_row = cursor->at >= cursor->end || *cursor->at == '\n';
    if (*ends_row && cursor->at < cursor->end) cursor->line++;
    cursor->at++;
    *cell = trimmed(from, to);
    return LVS_OK;
}

static bool line_is_empty(struct csv_cursor *cursor) {
    char *at = cursor->at;
    while (at < cursor->end && (*at == ' ' || *at == '\r'))
        at++;
    if (at < cursor->end && *at != '\n') return false;
    cursor->at = at + 1;
    cursor->line++;
    return true;
}

static enum lvs_status read_header(struct csv_cursor *cursor, struct csv_table *table, struct lvs_error *err) {
    table->header = lvs_calloc(CSV_MAX_COLUMNS, sizeof *table->header);
    for (bool ends_row = false; !ends_row; table->n_columns++) {
        if (table->n_columns == CSV_MAX_COLUMNS)
            return lvs_fail(err, LVS_INPUT, "%s: more than %d columns", cursor->name, CSV_MAX_COLUMNS);
        LVS_TRY(take_cell(cursor, table->separator, &table->header[table->n_columns], &ends_row, err));
    }
    return LVS_OK;
}

static void reserve_row(struct csv_table *table, int64_t *capacity) {
    if (table->n_rows < *capacity) return;
    *capacity = *capacity ? *capacity * 2 : 256;
    size_t rows = (size_t)*capacity;
    table->cell = lvs_realloc(table->cell, rows * (size_t)table->n_columns * sizeof *table->cell);
    table->line = lvs_realloc(table->line, rows * sizeof *table->line);
}

static enum lvs_status read_row(struct csv_cursor *cursor, struct csv_table *table, struct lvs_error *err) {
    const char **cells = table->cell + table->n_rows * table->n_columns, *spare;
    int64_t line = cursor->line;
    int32_t count = 0;
    for (bool ends_row = false; !ends_row; count++)
        LVS_TRY(take_cell(cursor, table->separator, count < table->n_columns ? &cells[count] : &spare, &ends_row, err));
    if (count != table->n_columns)
        return lvs_fail(err, LVS_INPUT, "%s:%lld: %d cells, the header has %d", cursor->name, (long long)line, count,
                        table->n_columns);
    table->line[table->n_rows++] = line;
    return LVS_OK;
}

static enum lvs_status parse_all(struct csv_cursor *cursor, struct csv_table *table, struct lvs_error *err) {
    int64_t capacity = 0;
    while (cursor->at < cursor->end && line_is_empty(cursor))
        continue;
    if (cursor->at >= cursor->end) return lvs_fail(err, LVS_INPUT, "%s: empty", cursor->name);
    table->separator = choose_separator(cursor->at, cursor->end);
    LVS_TRY(read_header(cursor, table, err));
    while (cursor->at < cursor->end) {
        if (line_is_empty(cursor)) continue;
        reserve_row(table, &capacity);
        LVS_TRY(read_row(cursor, table, err));
    }
    if (table->n_rows == 0) return lvs_fail(err, LVS_INPUT, "%s: a header and no rows", cursor->name);
    return LVS_OK;
}

enum lvs_status csv_parse(const char *name, char *text, size_t length, struct csv_table *out, struct lvs_error *err) {
    *out = (struct csv_table){0};
    if (memchr(text, '\0', length))
        return lvs_fail(err, LVS_INPUT, "%s: holds NUL bytes; a text table (UTF-8) is needed", name);
    struct csv_cursor cursor = {.name = name, .at = text, .end = text + length, .line = 1};
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) cursor.at += 3;
    enum lvs_status status = parse_all(&cursor, out, err);
    if (status != LVS_OK) csv_free(out);
    return status;
}

void csv_free(struct csv_table *table) {
    free(table->header);
    free(table->cell);
    free(table->line);
    *table = (struct csv_table){0};
}
