/* The table as one JSON document: the sweep, its ledger and baselines, one object a trial with a member a field. Curves
 * and forecasts are not in it. NaN and unknown are null. */
#include "results_internal.h"

#include <math.h>
#include <string.h>

/* Infinities have no JSON number. */
static void add_number(struct strbuf *out, double value) {
    if (isfinite(value))
        text_add_shortest(out, value);
    else
        strbuf_add(out, "null");
}

static void add_value(const struct field *field, const struct results *results, const struct result_row *row, int32_t k,
                      struct strbuf *out) {
    struct strbuf text;
    if (field->type == FIELD_F64) {
        add_number(out, field_number(field, results, row, k));
    } else if (field->type == FIELD_TEXT || strcmp(field->name, "status") == 0) {
        strbuf_init(&text);
        field_write_cell(field, results, row, k, &text);
        text_add_json(out, text.text ? text.text : "");
        strbuf_free(&text);
    } else if ((field->flags & FIELD_OPTIONAL) && field_integer(field, results, row, k) == -1) {
        strbuf_add(out, "null");
    } else {
        text_add_integer(out, field_integer(field, results, row, k));
    }
}

static void add_names(struct strbuf *out, const char *name, const char (*list)[64], int32_t count) {
    strbuf_printf(out, "  \"%s\": [", name);
    for (int32_t i = 0; i < count; i++) {
        if (i) strbuf_add(out, ", ");
        text_add_json(out, list[i]);
    }
    strbuf_add(out, "],\n");
}

static void add_text(struct strbuf *out, const char *name, const char *text) {
    strbuf_printf(out, "  \"%s\": ", name);
    text_add_json(out, text ? text : "");
    strbuf_add(out, ",\n");
}

static void add_ledger(const struct results *results, struct strbuf *out) {
    const struct ledger *ledger = &results->ledger;
    strbuf_add(out, "  \"ledger\": {\"cap\": ");
    add_number(out, ledger->capped ? (double)ledger->cap : NAN);
    strbuf_printf(out, ", \"spent\": %.0f, \"reserved\": %.0f, \"lost\": %.0f, \"outside\": %.0f},\n",
                  (double)ledger->spent, (double)ledger->reserved, (double)ledger->lost, (double)ledger->outside);
}

static void add_baselines(const struct results *results, struct strbuf *out) {
    struct baseline none;
    baseline_init(&none, BASELINE_UNTRAINED);
    strbuf_add(out, "  \"baselines\": [");
    for (int32_t i = 0; i < results->n_baselines; i++) {
        strbuf_printf(out, "%s\n    {\"name\": \"%s\", \"of\": ", i ? "," : "",
                      baseline_name(results->baselines[i].kind));
        members_write(baseline_members, &results->baselines[i], &none, out);
        strbuf_add(out, "}");
    }
    strbuf_add(out, results->n_baselines ? "\n  ],\n" : "],\n");
}

static void add_trial(const struct results *results, const struct result_row *row, struct strbuf *out) {
    const char *before = "\n    {";
    for (int32_t i = 0; i < field_count(); i++) {
        const struct field *field = field_at(i);
        if (field->axes > AXES_TRIAL_STAGE) continue;
        strbuf_printf(out, "%s\"%s\": ", before, field->name);
        before = ", ";
        int32_t width = field_width(field, results);
        if (field->axes != AXES_TRIAL) strbuf_add(out, "[");
        for (int32_t k = 0; k < width; k++) {
            if (k) strbuf_add(out, ", ");
            add_value(field, results, row, k, out);
        }
        if (field->axes != AXES_TRIAL) strbuf_add(out, "]");
    }
    strbuf_add(out, "}");
}

void export_json(const struct results *results, struct strbuf *out) {
    strbuf_add(out, "{\n  \"schema_version\": \"" RESULTS_SCHEMA_VERSION "\",\n");
    add_text(out, "name", results->name);
    add_text(out, "metric", results->metric);
    add_text(out, "convention", results->convention);
    add_text(out, "data_hash", results->data_hash);
    add_text(out, "model_hash", results->model_hash);
    add_names(out, "stages", (const char(*)[64])results->stage_name, results->n_stages);
    add_names(out, "channels", (const char(*)[64])results->channel_name, results->n_channel);
    add_ledger(results, out);
    add_baselines(results, out);
    strbuf_add(out, "  \"trials\": [");
    for (int32_t r = 0; r < results->n_rows; r++) {
        if (r) strbuf_add(out, ",");
        add_trial(results, &results->rows[r], out);
    }
    strbuf_add(out, results->n_rows ? "\n  ]\n}\n" : "]\n}\n");
}
