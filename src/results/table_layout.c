/* Cells in columns for a terminal: widths in code points, left-aligned, lines cut to the terminal's width. */
#include "results_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define GAP 2

struct layout_row *layout_add(struct layout *layout) {
    layout->rows = lvs_realloc(layout->rows, (size_t)(layout->n_rows + 1) * sizeof *layout->rows);
    struct layout_row *row = &layout->rows[layout->n_rows++];
    *row = (struct layout_row){0};
    return row;
}

void layout_set(struct layout_row *row, int32_t column, const char *format, ...) {
    assert(column >= 0 && column < LAYOUT_COLUMNS);
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    free(row->cells[column]);
    row->cells[column] = lvs_strdup(text);
}

static bool is_start(char c) {
    return ((unsigned char)c & 0xC0) != 0x80;
}

int32_t text_columns(const char *text) {
    int32_t columns = 0;
    for (; *text; text++)
        columns += is_start(*text);
    return columns;
}

void text_add_cut(struct strbuf *out, const char *text, int32_t width) {
    if (width <= 0 || text_columns(text) <= width) {
        strbuf_add(out, text);
        return;
    }
    int32_t columns = 0;
    for (; *text && (columns < width - 1 || !is_start(*text)); text++) {
        columns += is_start(*text);
        strbuf_add_bytes(out, text, 1);
    }
    strbuf_add(out, "…");
}

static const char *cell(const struct layout_row *row, int32_t column) {
    return row->cells[column] ? row->cells[column] : "";
}

/* Spanning cells do not widen a column: they have several. */
static void measure(const struct layout *layout, int32_t widths[LAYOUT_COLUMNS]) {
    memset(widths, 0, LAYOUT_COLUMNS * sizeof *widths);
    for (int32_t r = 0; r < layout->n_rows; r++)
        for (int32_t c = 0; c < layout->n_columns; c++) {
            int32_t columns = text_columns(cell(&layout->rows[r], c));
            if (columns > widths[c] && !(c == 1 && layout->rows[r].span)) widths[c] = columns;
        }
}

static void add_spaces(struct strbuf *out, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        strbuf_add_bytes(out, " ", 1);
}

static void line_write(const struct layout *layout, const struct layout_row *row, const int32_t *widths,
                       struct strbuf *out) {
    for (int32_t c = 0; c < layout->n_columns; c++) {
        const char *text = cell(row, c);
        int32_t room = widths[c], next = c + 1;
        if (c == 1)
            for (; next < row->span; next++)
                room += GAP + widths[next];
        strbuf_add(out, text);
        int32_t columns = text_columns(text);
        if (next < layout->n_columns) add_spaces(out, (columns < room ? room - columns : 0) + GAP);
        c = next - 1;
    }
    while (out->length > 0 && out->text[out->length - 1] == ' ')
        out->text[--out->length] = '\0';
}

void layout_write(const struct layout *layout, int32_t width, struct strbuf *out) {
    int32_t widths[LAYOUT_COLUMNS];
    struct strbuf line;
    strbuf_init(&line);
    measure(layout, widths);
    for (int32_t r = 0; r < layout->n_rows; r++) {
        strbuf_clear(&line);
        line_write(layout, &layout->rows[r], widths, &line);
        text_add_cut(out, line.text ? line.text : "", width);
        strbuf_add(out, "\n");
    }
    strbuf_free(&line);
}

void layout_free(struct layout *layout) {
    for (int32_t r = 0; r < layout->n_rows; r++)
        for (int32_t c = 0; c < LAYOUT_COLUMNS; c++)
            free(layout->rows[r].cells[c]);
    free(layout->rows);
    *layout = (struct layout){0};
}
