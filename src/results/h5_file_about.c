/* What results.h5 says of the sweep as a whole: attributes of the root, the ledger, configuration and provenance. */
#include "h5_file_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lvsweep/version.h"

static void text_of_128(__int128 value, char out[48]) {
    char digits[48];
    int n = 0;
    unsigned __int128 left = value < 0 ? -(unsigned __int128)value : (unsigned __int128)value;
    do {
        digits[n++] = (char)('0' + (int)(left % 10));
    } while ((left /= 10) > 0);
    int at = 0;
    if (value < 0) out[at++] = '-';
    while (n > 0)
        out[at++] = digits[--n];
    out[at] = '\0';
}

void h5_write_ledger(struct writer *w) {
    const struct ledger *ledger = &w->results->ledger;
    const struct {
        const char *name, *long_name;
        __int128 value;
    } all[] = {
        {"cap", "budget; NaN without one", ledger->cap},
        {"spent", "charged to the budget", ledger->spent},
        {"reserved", "held for trials under way", ledger->reserved},
        {"lost", "steps repeated after a death, reported beside the budget", ledger->lost},
        {"outside", "charged for trials that are not in the present grid, part of spent", ledger->outside},
    };
    hid_t where = h5_group(w, "ledger");
    if (where < 0) return;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        bool none = i == 0 && !ledger->capped;
        double value = none ? NAN : (double)all[i].value;
        char exact[48];
        text_of_128(all[i].value, exact);
        hid_t id = h5_place(w, where, all[i].name, H5T_NATIVE_DOUBLE, 0, NULL);
        if (id >= 0) h5_describe(w, id, all[i].long_name, "FLOP");
        if (id >= 0) h5_attribute(w, id, "exact", none ? "none" : exact);
        h5_write_all(w, id, all[i].name, H5T_NATIVE_DOUBLE, &value, 1);
    }
    H5Gclose(where);
}

/* Names of datasets hold letters, digits and '_' only. */
static void clean_name(const char *name, char out[64]) {
    lvs_copy(out, 64, name[0] ? name : "unnamed");
    for (char *at = out; *at; at++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", *at)) *at = '_';
}

void h5_write_texts(struct writer *w) {
    const struct results *results = w->results;
    hid_t where = h5_group(w, "config");
    if (where >= 0) {
        h5_scalar_text(w, where, "given", results->config_given);
        h5_scalar_text(w, where, "effective", results->config_effective);
        H5Gclose(where);
    }
    where = h5_group(w, "provenance");
    if (where < 0) return;
    h5_scalar_text(w, where, "data_hash", results->data_hash);
    h5_scalar_text(w, where, "model_hash", results->model_hash);
    for (int32_t i = 0; i < results->n_provenance; i++) {
        char name[64];
        clean_name(results->provenance[i].name, name);
        if (H5Lexists(where, name, H5P_DEFAULT) > 0) continue;
        h5_scalar_text(w, where, name, results->provenance[i].value);
    }
    H5Gclose(where);
}

static void time_text(double seconds, char out[32]) {
    time_t whole = (time_t)seconds;
    struct tm parts;
    if (!(seconds >= 0) || !gmtime_r(&whole, &parts) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts)) out[0] = '\0';
}

void h5_write_root(struct writer *w) {
    static const char *const states[] = {"new", "running", "interrupted", "finished"};
    const struct results *results = w->results;
    char created[32], changed[32], history[1024];
    const char *command = "lvsweep";
    time_text(results->created, created);
    time_text(results->changed, changed);
    for (int32_t i = 0; i < results->n_provenance; i++)
        if (strcmp(results->provenance[i].name, "command") == 0) command = results->provenance[i].value;
    snprintf(history, sizeof history, "%s %s", created, command);
    h5_attribute(w, w->file, "Conventions", "CF-1.8");
    h5_attribute(w, w->file, "title", results->name[0] ? results->name : "hyper-parameter sweep");
    h5_attribute(w, w->file, "history", history);
    h5_attribute(w, w->file, "source", "lvsweep " LVSWEEP_VERSION);
    h5_attribute(w, w->file, "schema_version", RESULTS_SCHEMA_VERSION);
    h5_attribute(w, w->file, "metric", results->metric);
    h5_attribute(w, w->file, "convention", results->convention);
    bool at_once = strcmp(results->stop_rule, "asha") == 0 || strcmp(results->stop_rule, "median") == 0;
    h5_attribute(w, w->file, "stop_rule", results->stop_rule[0] ? results->stop_rule : "none");
    h5_attribute(w, w->file, "order_dependent", at_once ? "yes" : "no");
    h5_attribute(w, w->file, "state", states[results->state]);
    h5_attribute(w, w->file, "date_created", created);
    h5_attribute(w, w->file, "date_modified", changed);
    if (w->plan->step_stride > 1)
        h5_attribute_values(w, w->file, "step_stride", H5T_NATIVE_INT32, &w->plan->step_stride, 1);
}
