/* The page's provenance: where and by what the sweep was run, and its configuration. Every text from the sweep goes
 * through markup_add. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report_internal.h"

static void pair_row(struct strbuf *out, const char *name, const char *value) {
    if (!value || !value[0]) return;
    strbuf_add(out, "<tr><th scope=\"row\">");
    markup_add(out, name);
    strbuf_add(out, "</th><td>");
    markup_add(out, value);
    strbuf_add(out, "</td></tr>\n");
}

static void config_details(struct strbuf *out, const char *title, const char *text) {
    if (!text || !text[0]) return;
    strbuf_add(out, "<details><summary>");
    markup_add(out, title);
    strbuf_add(out, "</summary><pre>");
    markup_add(out, text);
    strbuf_add(out, "</pre></details>\n");
}

static int32_t worker_number(const struct provenance_pair *pair) {
    return strncmp(pair->name, "worker_", 7) == 0 ? (int32_t)strtol(pair->name + 7, NULL, 10) : -1;
}

static int by_worker(const void *a, const void *b) {
    const struct provenance_pair *const *x = a, *const *y = b;
    int32_t left = worker_number(*x), right = worker_number(*y);
    if (left != right) return left < right ? -1 : 1;
    return *x < *y ? -1 : *x > *y;
}

/* What was noted, in its order; workers, which note themselves as they come, by number at the end. */
static void noted_rows(const struct results *results, struct strbuf *out) {
    size_t n = (size_t)results->n_provenance;
    const struct provenance_pair **pairs = lvs_malloc((n + 1) * sizeof *pairs);
    for (size_t i = 0; i < n; i++)
        pairs[i] = &results->provenance[i];
    qsort(pairs, n, sizeof *pairs, by_worker);
    for (size_t i = 0; i < n; i++)
        pair_row(out, pairs[i]->name, pairs[i]->value);
    free(pairs);
}

void page_provenance(struct report *report, struct strbuf *out) {
    const struct results *results = report->results;
    char text[64];
    strbuf_add(out, "<div class=\"scroll\"><table class=\"pairs\">\n");
    pair_row(out, "sweep", results->name);
    time_write(results->created, text);
    pair_row(out, "begun", text);
    time_write(results->changed, text);
    pair_row(out, "last change", text);
    pair_row(out, "convention", results->convention);
    pair_row(out, "data hash", results->data_hash);
    pair_row(out, "weights hash", results->model_hash);
    noted_rows(results, out);
    snprintf(text, sizeof text, "%lld events", (long long)results->n_events);
    pair_row(out, "journal", text);
    strbuf_add(out, "</table></div>\n");
    config_details(out, "Configuration as given", results->config_given);
    config_details(out, "Effective configuration, every key", results->config_effective);
}
