/* The closing table of a sweep: one line a set of equal settings in a stage (seeds together), baselines, the budget,
 * where things are. Reads the table in memory only. */
#include "results_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_AXES 12

/* ---- short texts ---- */

static void short_flops(double flops, char out[24]) {
    if (flops <= 0) {
        lvs_copy(out, 24, "0");
        return;
    }
    int exponent = (int)floor(log10(flops));
    char digits[16];
    snprintf(digits, sizeof digits, "%.1e", flops); /* rounding may carry into the exponent */
    sscanf(strchr(digits, 'e') + 1, "%d", &exponent);
    *strchr(digits, 'e') = '\0';
    if (strcmp(digits + 1, ".0") == 0) digits[1] = '\0';
    snprintf(out, 24, "%se%d", digits, exponent);
}

static void short_value(double value, char out[24]) {
    double size = fabs(value);
    if (isnan(value))
        lvs_copy(out, 24, "-");
    else if (size == 0 || (size >= 1e-3 && size < 1e4))
        snprintf(out, 24, size >= 100 ? "%.1f" : "%.3f", value);
    else
        snprintf(out, 24, "%.3g", value);
}

static void short_time(double seconds, char out[24]) {
    if (!(seconds >= 0) || seconds > 1e9) {
        lvs_copy(out, 24, "-");
        return;
    }
    long whole = lround(seconds);
    if (seconds < 9.95)
        snprintf(out, 24, "%.1fs", seconds > 0 ? seconds : 0.0);
    else if (whole < 60)
        snprintf(out, 24, "%lds", whole);
    else if (whole < 3600)
        snprintf(out, 24, "%ldm%02ld", whole / 60, whole % 60);
    else
        snprintf(out, 24, "%ldh%02ld", whole / 3600, whole % 3600 / 60);
}

/* "0.615±.008": as many decimals as the deviation needs to show a digit, at least three. */
static void value_and_deviation(double mean, double deviation, char out[64]) {
    char value[24], spread[24];
    bool plain = fabs(mean) < 1e4 && deviation > 0 && deviation < 1e4;
    int needed = plain ? (int)ceil(-log10(deviation)) : 0, decimals = needed < 3 ? 3 : needed > 6 ? 6 : needed;
    short_value(mean, value);
    if (isnan(deviation)) {
        lvs_copy(out, 64, value);
    } else if (plain) {
        snprintf(spread, sizeof spread, "%.*f", decimals, deviation);
        snprintf(out, 64, "%.*f±%s", decimals, mean, spread[0] == '0' ? spread + 1 : spread);
    } else {
        short_value(deviation, spread);
        snprintf(out, 64, "%s±%s", value, spread);
    }
}

/* ---- columns ---- */

struct columns {
    const char *error;                  /* the column of errors shown, NULL = none was measured */
    const struct field *axes[MAX_AXES]; /* settings beyond rank, rate, context, seed that vary within a stage */
    int32_t n_axes, metric;             /* column number of the metric */
};

static bool is_shown_always(const char *name) {
    return strcmp(name, "lora_rank") == 0 || strcmp(name, "learning_rate") == 0 || strcmp(name, "context") == 0 ||
           strcmp(name, "seed") == 0 || strcmp(name, "from_adapter") == 0 || strcmp(name, "alpha") == 0;
}

static bool varies(const struct results *results, const struct field *field, int32_t stage) {
    struct strbuf first, other;
    const struct result_row *from = NULL;
    bool differs = false;
    strbuf_init(&first);
    strbuf_init(&other);
    for (int32_t r = 0; r < results->n_rows && !differs; r++) {
        const struct result_row *row = &results->rows[r];
        if (row->outside || !(row->stages >> stage & 1u)) continue;
        strbuf_clear(&other);
        field_write_cell(field, results, row, 0, from ? &other : &first);
        differs = from && strcmp(first.text ? first.text : "", other.text ? other.text : "") != 0;
        from = row;
    }
    strbuf_free(&first);
    strbuf_free(&other);
    return differs;
}

static bool was_measured(const struct results *results, const char *name) {
    const struct field *field = field_find(name);
    for (int32_t r = 0; r < results->n_rows; r++)
        if (results->n_channel && !isnan(field_number(field, results, &results->rows[r], 0))) return true;
    return false;
}

static struct columns columns_make(const struct results *results) {
    struct columns columns = {.error = was_measured(results, "test_mae")  ? "test_mae"
                                       : was_measured(results, "val_mae") ? "val_mae"
                                                                          : NULL};
    bool is_setting = false;
    for (int32_t i = 0; i < field_count() && columns.n_axes < MAX_AXES; i++) {
        const struct field *field = field_at(i);
        if (strcmp(field->name, "lora_rank") == 0) is_setting = true;
        if (strcmp(field->name, "steps_done") == 0) break;
        bool shown = false;
        for (int32_t stage = 0; is_setting && !is_shown_always(field->name) && stage < results->n_stages; stage++)
            shown = shown || varies(results, field, stage);
        if (shown) columns.axes[columns.n_axes++] = field;
    }
    columns.metric = 4 + columns.n_axes + 1;
    return columns;
}

static void add_heading(const struct results *results, const struct columns *columns, struct layout *layout) {
    static const char *const fixed[] = {"stage", "rank", "rate", "context"}, *const last[] = {"FLOPs", "%budget",
                                                                                              "time", "status"};
    struct layout_row *row = layout_add(layout);
    int32_t c = 0;
    for (int i = 0; i < 4; i++)
        layout_set(row, c++, "%s", fixed[i]);
    for (int32_t i = 0; i < columns->n_axes; i++)
        layout_set(row, c++, "%s", columns->axes[i]->name);
    layout_set(row, c++, "seed");
    layout_set(row, c++, "%s", results->metric);
    if (columns->error) layout_set(row, c++, "%s %s", columns->error, results->channel_name[0]);
    for (int i = 0; i < 4; i++)
        layout_set(row, c++, "%s", last[i]);
    layout->n_columns = c;
}

static void set_cell(struct layout_row *row, int32_t column, const struct results *results, const char *name,
                     const struct result_row *of) {
    struct strbuf text;
    strbuf_init(&text);
    field_write_cell(field_find(name), results, of, 0, &text);
    layout_set(row, column, "%s", text.text ? text.text : "");
    strbuf_free(&text);
}

/* As the INI writes it: 1e-4. */
static void set_setting(struct layout_row *row, int32_t column, const char *key, const struct result_row *of) {
    struct strbuf text;
    strbuf_init(&text);
    settings_get(&of->trial.settings, config_key_find_setting(key), &text);
    layout_set(row, column, "%s", text.text ? text.text : "");
    strbuf_free(&text);
}

static void add_group(const struct results *results, const struct columns *columns, int32_t stage,
                      const struct keyed_row *group, int32_t n, struct layout *layout) {
    struct layout_row *row = layout_add(layout);
    const struct result_row *first = group[0].row;
    char text[64], value[24];
    double mean, deviation, flops = 0, seconds = 0;
    int32_t c = 0;
    for (int32_t i = 0; i < n; i++) {
        flops += (double)group[i].row->charged;
        if (group[i].row->record.seconds > 0) seconds += group[i].row->record.seconds;
    }
    layout_set(row, c++, "%s", results->stage_name[stage]);
    set_cell(row, c++, results, "lora_rank", first);
    set_setting(row, c++, "learning_rate", first);
    set_cell(row, c++, results, "context", first);
    for (int32_t i = 0; i < columns->n_axes; i++)
        set_cell(row, c++, results, columns->axes[i]->name, first);
    group_seeds(group, n, text);
    layout_set(row, c++, "%s", text);
    group_mean(results, group, n, results->metric, &mean, &deviation);
    value_and_deviation(mean, deviation, text);
    layout_set(row, c++, "%s", text);
    if (columns->error) {
        short_value(group_mean_of(results, group, n, columns->error), value);
        layout_set(row, c++, "%s", value);
    }
    short_flops(flops, value);
    layout_set(row, c++, "%s", value);
    if (results->ledger.capped)
        layout_set(row, c++, "%.1f", 100 * flops / (double)results->ledger.cap);
    else
        layout_set(row, c++, "-");
    short_time(seconds > 0 ? seconds : NAN, value);
    layout_set(row, c++, "%s", value);
    struct strbuf status;
    strbuf_init(&status);
    group_status(group, n, &status);
    if (group_holds_best(results, stage, group, n)) strbuf_printf(&status, "   <- best by %s", results->metric);
    layout_set(row, c, "%s", status.text ? status.text : "");
    strbuf_free(&status);
}

static void add_stage(const struct results *results, const struct columns *columns, int32_t stage,
                      struct layout *layout) {
    int32_t n, size;
    struct keyed_row *keyed = group_rows(results, stage, &n);
    for (int32_t i = 0; i < n; i += size) {
        for (size = 1; i + size < n && keyed[i + size].first == keyed[i].first;)
            size++;
        add_group(results, columns, stage, keyed + i, size, layout);
    }
    free(keyed);
}

/* Whether the untrained model was measured on texts of several numbers of decimals. */
static bool decimals_differ(const struct results *results) {
    int32_t first = -1;
    for (int32_t i = 0; i < results->n_baselines; i++) {
        const struct baseline *baseline = &results->baselines[i];
        if (baseline->kind != BASELINE_UNTRAINED || baseline->decimals < 0) continue;
        if (first >= 0 && baseline->decimals != first) return true;
        first = baseline->decimals;
    }
    return false;
}

static void add_baseline(const struct results *results, const struct columns *columns, const struct baseline *baseline,
                         struct layout *layout) {
    struct result_row as_row;
    char value[24], place[64] = "", digits[32] = "";
    memset(&as_row, 0, sizeof as_row);
    as_row.record.val_loss = baseline->val_loss;
    as_row.record.test_loss = baseline->test_loss;
    as_row.record.val = baseline->val;
    as_row.record.test = baseline->test;
    struct layout_row *row = layout_add(layout);
    row->span = columns->metric;
    layout_set(row, 0, "baseline");
    if (baseline->kind == BASELINE_UNTRAINED && baseline->context > 0)
        snprintf(place, sizeof place, ", context %d", baseline->context);
    if (baseline->kind == BASELINE_UNTRAINED && decimals_differ(results))
        snprintf(digits, sizeof digits, ", decimals %d", baseline->decimals);
    layout_set(row, 1, "%s%s%s", baseline_name(baseline->kind), place, digits);
    short_value(metric_value(results, &as_row, results->metric), value);
    layout_set(row, columns->metric, "%s", value);
    if (!columns->error) return;
    short_value(field_number(field_find(columns->error), results, &as_row, 0), value);
    layout_set(row, columns->metric + 1, "%s", value);
}

/* ---- the lines below ---- */

static void add_cuts(const struct results *results, struct strbuf *out) {
    int32_t cut = 0;
    const struct result_row *first = NULL;
    for (int32_t r = 0; r < results->n_rows; r++) {
        if (results->rows[r].record.status != TRIAL_CUT || results->rows[r].outside) continue;
        if (!cut++) first = &results->rows[r];
    }
    if (!cut) return;
    strbuf_printf(out, ", %d trial%s cut (%s%s)", cut, cut > 1 ? "s" : "", first->trial.name, cut > 1 ? ", …" : "");
}

static void add_budget(const struct results *results, struct strbuf *out) {
    char spent[24], cap[24];
    short_flops((double)results->ledger.spent, spent);
    short_flops((double)results->ledger.cap, cap);
    strbuf_printf(out, "budget %s FLOPs", spent);
    if (results->ledger.capped) strbuf_printf(out, " of %s", cap);
    strbuf_printf(out, " (%s)", results->convention[0] ? results->convention : "no convention");
    add_cuts(results, out);
}

static int32_t count_status(const struct results *results, int32_t status) {
    int32_t count = 0;
    for (int32_t r = 0; r < results->n_rows; r++)
        count += results->rows[r].record.status == status && !results->rows[r].outside;
    return count;
}

static void add_machine(const struct results_summary *summary, struct strbuf *out) {
    if (summary->n_devices > 0)
        strbuf_printf(out, "   %d %s", summary->n_devices, summary->device_word ? summary->device_word : "workers");
    if (summary->busy_percent >= 0) strbuf_printf(out, ", %.0f %% busy", summary->busy_percent);
    char time[24];
    short_time(summary->wall_seconds, time);
    if (summary->wall_seconds >= 0) strbuf_printf(out, ", %s", time);
}

static void add_troubles(const struct results *results, const struct results_summary *summary, struct strbuf *out) {
    static const int32_t statuses[] = {TRIAL_DIVERGED, TRIAL_FAILED, TRIAL_INTERRUPTED};
    const char *before = "   ";
    if (summary && summary->n_retries > 0) {
        strbuf_printf(out, "%s%d %s", before, summary->n_retries, summary->n_retries == 1 ? "retry" : "retries");
        before = ", ";
    }
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        int32_t count = count_status(results, statuses[i]);
        if (!count) continue;
        strbuf_printf(out, "%s%d %s", before, count, trial_status_name(statuses[i]));
        before = ", ";
    }
}

static void add_line(const struct strbuf *line, int32_t width, struct strbuf *out) {
    text_add_cut(out, line->text ? line->text : "", width);
    strbuf_add(out, "\n");
}

/* What early stopping gave back. */
static void add_stopped(const struct results *results, int32_t width, struct strbuf *out) {
    int32_t n = count_status(results, TRIAL_STOPPED);
    double saved = 0, whole = 0;
    struct strbuf line;
    char text[24];
    if (n == 0) return;
    for (int32_t r = 0; r < results->n_rows; r++) {
        const struct result_row *row = &results->rows[r];
        if (row->outside || row->rungs.n == 0) continue;
        whole += (double)row->trial.price.training;
        if (row->record.status == TRIAL_STOPPED)
            saved += (double)(row->trial.price.training - row->record.flops_training);
    }
    strbuf_init(&line);
    short_flops(saved, text);
    strbuf_printf(
        &line, "stopped  %d trial%s by %s: %s FLOPs of training saved, %.0f %% of what the race would cost whole", n,
        n == 1 ? "" : "s", results->stop_rule[0] ? results->stop_rule : "an earlier run", text, 100 * saved / whole);
    add_line(&line, width, out);
    strbuf_free(&line);
}

/* OUTPUT/best is there once a stage has ended with a best trial; before that there may be one so far, or none. */
static void add_adapter(const struct results *results, struct strbuf *out) {
    bool linked = false;
    for (int32_t stage = 0; stage < results->n_stages; stage++)
        linked = linked || results->stage_best[stage] >= 0;
    int32_t best = linked ? -1 : results_best_so_far(results).index;
    if (linked)
        strbuf_printf(out, "   adapter %s/best/adapter", results->output);
    else if (best >= 0)
        strbuf_printf(out, "   best so far %s/trials/%s/adapter", results->output, results->rows[best].trial.name);
    else if (count_status(results, TRIAL_DONE) > 0)
        strbuf_printf(out, "   no best: no finished trial has %s", results->metric);
    else
        strbuf_add(out, "   no adapter: no trial has finished");
}

static void add_places(const struct results *results, struct strbuf *out) {
    strbuf_printf(out, "results  %s/" RESULTS_FILE, results->output);
    add_adapter(results, out);
    if (results->state == SWEEP_STATE_INTERRUPTED)
        strbuf_add(out, "   next: the same command goes on");
    else
        strbuf_printf(out, "   next: lvsweep report %s -o report.html", results->output);
}

void results_write_table(const struct results *results, const struct results_summary *summary, int32_t width,
                         struct strbuf *out) {
    struct layout layout = {0};
    struct strbuf line;
    strbuf_init(&line);
    struct columns columns = columns_make(results);
    add_heading(results, &columns, &layout);
    for (int32_t stage = 0; stage < results->n_stages; stage++)
        add_stage(results, &columns, stage, &layout);
    for (int32_t i = 0; i < results->n_baselines; i++)
        add_baseline(results, &columns, &results->baselines[i], &layout);
    layout_write(&layout, width, out);
    layout_free(&layout);
    add_budget(results, &line);
    if (summary) add_machine(summary, &line);
    add_troubles(results, summary, &line);
    add_line(&line, width, out);
    add_stopped(results, width, out);
    strbuf_clear(&line);
    add_places(results, &line);
    add_line(&line, width, out);
    strbuf_free(&line);
}
