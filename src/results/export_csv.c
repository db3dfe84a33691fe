/* The table as CSV (RFC 4180): one line a trial, one column a field; fields over channels and stages as name.channel.
 * Curves and forecasts are not in it. NaN and unknown are empty cells. */
#include "results_internal.h"

#include <string.h>

static void add_quoted(struct strbuf *out, const char *text) {
    if (!text[strcspn(text, ",\"\r\n")]) {
        strbuf_add(out, text);
        return;
    }
    strbuf_add(out, "\"");
    for (; *text; text++) {
        if (*text == '"') strbuf_add(out, "\"");
        strbuf_add_bytes(out, text, 1);
    }
    strbuf_add(out, "\"");
}

static const char *axis_name(const struct field *field, const struct results *results, int32_t k) {
    return field->axes == AXES_TRIAL_CHANNEL ? results->channel_name[k] : results->stage_name[k];
}

static void add_heading(const struct results *results, struct strbuf *out) {
    struct strbuf cell;
    strbuf_init(&cell);
    for (int32_t i = 0; i < field_count(); i++) {
        const struct field *field = field_at(i);
        for (int32_t k = 0; field->axes <= AXES_TRIAL_STAGE && k < field_width(field, results); k++) {
            strbuf_clear(&cell);
            strbuf_add(&cell, field->name);
            if (field->axes != AXES_TRIAL) strbuf_printf(&cell, ".%s", axis_name(field, results, k));
            if (i || k) strbuf_add(out, ",");
            add_quoted(out, cell.text);
        }
    }
    strbuf_add(out, "\r\n");
    strbuf_free(&cell);
}

void export_csv(const struct results *results, struct strbuf *out) {
    struct strbuf cell;
    strbuf_init(&cell);
    add_heading(results, out);
    for (int32_t r = 0; r < results->n_rows; r++) {
        for (int32_t i = 0; i < field_count(); i++) {
            const struct field *field = field_at(i);
            for (int32_t k = 0; field->axes <= AXES_TRIAL_STAGE && k < field_width(field, results); k++) {
                strbuf_clear(&cell);
                field_write_cell(field, results, &results->rows[r], k, &cell);
                if (i || k) strbuf_add(out, ",");
                add_quoted(out, cell.text ? cell.text : "");
            }
        }
        strbuf_add(out, "\r\n");
    }
    strbuf_free(&cell);
}
