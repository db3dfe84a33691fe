/* A watched sweep as a table for a terminal, as lines for a log, as JSON. */
#include "lvsweep/watch.h"
#include "report_internal.h"
#include "results_internal.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *state_word(int32_t state) {
    return state == SWEEP_STATE_FINISHED      ? "finished"
           : state == SWEEP_STATE_INTERRUPTED ? "interrupted"
           : state == SWEEP_STATE_RUNNING     ? "running"
                                              : "new";
}

/* ---- lines that fit ---- */

struct page {
    struct strbuf *out;
    int32_t width, lines, height; /* 0 = unlimited */
};

/* C0, DEL, and C1 as UTF-8 writes it: what could command a terminal. */
static bool is_control(const unsigned char *at) {
    return *at < 0x20 || *at == 0x7F || (at[0] == 0xC2 && at[1] >= 0x80 && at[1] < 0xA0);
}

/* Appends one line: control characters as '?', cut to the width in characters. */
static void page_line(struct page *page, const char *text) {
    struct strbuf valid;
    strbuf_init(&valid);
    text_add_utf8(&valid, text);
    int32_t column = 0;
    for (const char *at = valid.text ? valid.text : ""; *at; at++) {
        bool starts = ((unsigned char)*at & 0xC0) != 0x80;
        if (starts && page->width > 0 && column == page->width) break;
        bool bad = is_control((const unsigned char *)at);
        strbuf_add_bytes(page->out, bad ? "?" : at, 1);
        at += bad && (unsigned char)*at == 0xC2; /* two bytes, one character */
        column += starts;
    }
    strbuf_free(&valid);
    strbuf_add(page->out, "\n");
    page->lines++;
}

static bool has_room(const struct page *page, int32_t lines) {
    return page->height <= 0 || page->lines + lines <= page->height;
}

static void add_counts(const struct watch *watch, struct strbuf *out) {
    static const int32_t order[] = {TRIAL_DONE,    TRIAL_RUNNING, TRIAL_PENDING,     TRIAL_FAILED,    TRIAL_DIVERGED,
                                    TRIAL_STOPPED, TRIAL_CUT,     TRIAL_INTERRUPTED, TRIAL_SUPERSEDED};
    bool any = false;
    for (size_t k = 0; k < sizeof order / sizeof *order; k++) {
        if (!watch->count[order[k]] && order[k] != TRIAL_DONE) continue;
        strbuf_printf(out, "%s%d %s", any ? ", " : "", watch->count[order[k]], trial_status_name(order[k]));
        any = true;
    }
    strbuf_printf(out, " of %d", watch->results.n_rows);
}

static void add_budget(const struct watch *watch, struct strbuf *out) {
    const struct ledger *ledger = &watch->results.ledger;
    char done[32], cap[32], left[32], percent[32];
    number_write(watch->flops_done, 3, done);
    if (!ledger->capped) {
        strbuf_printf(out, "%s FLOPs done, no cap", done);
        return;
    }
    double free_flops = (double)ledger_left(ledger);
    number_write((double)ledger->cap, 3, cap);
    number_write(free_flops, 3, left);
    number_write(100 * free_flops / (double)ledger->cap, 3, percent);
    strbuf_printf(out, "%s of %s FLOPs done, %s (%s %%) not spoken for", done, cap, left, percent);
}

static void add_best(const struct watch *watch, struct strbuf *out) {
    char value[32];
    if (watch->best < 0) {
        strbuf_add(out, "none yet");
        return;
    }
    number_write(watch->best_value, 5, value);
    strbuf_printf(out, "%s %s  %s", watch->results.metric, value, watch->results.rows[watch->best].trial.name);
}

static void add_eta(const struct watch *watch, double now, struct strbuf *out) {
    char eta[32], error[32];
    if (!isfinite(watch->eta)) {
        strbuf_add(out, "not known yet");
        return;
    }
    duration_write(fmax(watch->eta - fmax(now - watch->results.changed, 0), 0), eta);
    duration_write(watch->eta_error, error);
    strbuf_add(out, eta);
    if (isfinite(watch->eta_error)) strbuf_printf(out, " ± %s", error);
    strbuf_add(out, " for what is admitted");
}

/* ---- the table ---- */

static void head_lines(struct page *page, const struct watch *watch, double now) {
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "trials   ");
    add_counts(watch, &text);
    page_line(page, text.text);
    strbuf_clear(&text);
    strbuf_add(&text, "budget   ");
    add_budget(watch, &text);
    page_line(page, text.text);
    strbuf_clear(&text);
    strbuf_add(&text, "best     ");
    add_best(watch, &text);
    page_line(page, text.text);
    if (watch->results.state == SWEEP_STATE_RUNNING) {
        strbuf_clear(&text);
        strbuf_add(&text, "ETA      ");
        add_eta(watch, now, &text);
        page_line(page, text.text);
    }
    if (watch->damaged_line) {
        strbuf_clear(&text);
        strbuf_printf(&text, "journal  damaged at line %lld, which is left out", (long long)watch->damaged_line);
        page_line(page, text.text);
    }
    strbuf_free(&text);
}

/* A number for a column: byte and character counts must agree. */
static void column_number(double value, int digits, char out[32]) {
    if (isnan(value))
        lvs_copy(out, 32, "-");
    else
        number_write(value, digits, out);
}

static void title_line(struct page *page, const struct watch *watch, double now) {
    char age[32], text[256];
    duration_write(fmax(now - watch->results.changed, 0), age);
    bool is_live = watch->results.state == SWEEP_STATE_RUNNING;
    snprintf(text, sizeof text, "%s  %s%s%s", watch->results.name, state_word(watch->results.state),
             is_live ? ", last event " : "", is_live ? age : "");
    if (is_live) strncat(text, " ago", sizeof text - strlen(text) - 1);
    page_line(page, text);
}

/* The loss is a column only where trials tell one while they train. */
static bool has_losses(const struct watch *watch) {
    for (int32_t i = 0; i < watch->n_workers; i++)
        if (isfinite(watch->workers[i].loss)) return true;
    return false;
}

static void worker_line(struct page *page, const struct watch *watch, const struct watch_worker *worker, double now) {
    char text[512], place[40], step[40] = "-", speed[32] = "-", loss[32] = "-", time[32];
    snprintf(place, sizeof place, "rank %d %.28s", worker->worker, worker->host);
    duration_write(fmax(now - worker->since, 0), time);
    if (worker->trial < 0) {
        snprintf(text, sizeof text, "%-22s idle for %s", place, time);
        page_line(page, text);
        return;
    }
    if (worker->step >= worker->n_steps && worker->n_steps > 0)
        lvs_copy(step, sizeof step, "evaluating");
    else if (worker->step >= 0 && worker->n_steps > 0)
        snprintf(step, sizeof step, "%d/%d %3d%%", worker->step, worker->n_steps,
                 (int)(100.0 * worker->step / worker->n_steps));
    if (isfinite(worker->steps_per_second)) number_write(worker->steps_per_second, 3, speed);
    if (isfinite(worker->loss)) number_write(worker->loss, 4, loss);
    char pack[24] = "";
    if (worker->n_trials > 1) snprintf(pack, sizeof pack, " and %d more", worker->n_trials - 1);
    snprintf(text, sizeof text, "%-22s %-13s %8s %*s %10s  %s%s", place, step, speed, has_losses(watch) ? 8 : 0,
             has_losses(watch) ? loss : "", time, watch->results.rows[worker->trial].trial.name, pack);
    page_line(page, text);
}

static int by_end(const void *a, const void *b) {
    const struct result_row *const *x = a, *const *y = b;
    double p = (*x)->record.end_time, q = (*y)->record.end_time;
    if (p != q) return p > q ? -1 : 1;
    return (*x)->trial.index - (*y)->trial.index;
}

static void settled_line(struct page *page, const struct watch *watch, const struct result_row *row) {
    char value[32], time[32];
    struct strbuf text;
    strbuf_init(&text);
    column_number(row->record.status == TRIAL_DONE ? metric_value(&watch->results, row, watch->results.metric) : NAN, 5,
                  value);
    if (isfinite(row->record.seconds))
        duration_write(row->record.seconds, time);
    else
        lvs_copy(time, sizeof time, "-");
    strbuf_printf(&text, "%-11s %9s %12s  %s", trial_status_name(row->record.status), value, time, row->trial.name);
    const char *why = row->record.error[0] ? row->record.error : row->cut_reason;
    if (why[0]) strbuf_printf(&text, "  %s", why);
    page_line(page, text.text);
    strbuf_free(&text);
}

/* The latest ones first, as many as there is room for. */
static void settled_lines(struct page *page, const struct watch *watch) {
    const struct result_row **rows = lvs_malloc((size_t)watch->results.n_rows * sizeof *rows);
    int32_t n = 0;
    for (int32_t i = 0; i < watch->results.n_rows; i++)
        if (isfinite(watch->results.rows[i].record.end_time)) rows[n++] = &watch->results.rows[i];
    qsort(rows, (size_t)n, sizeof *rows, by_end);
    if (n && has_room(page, 3)) {
        char heading[96];
        snprintf(heading, sizeof heading, "%-11s %9.24s %12s  trial", "settled", watch->results.metric, "time");
        page_line(page, "");
        page_line(page, heading);
        for (int32_t i = 0; i < n && has_room(page, 1); i++)
            settled_line(page, watch, rows[i]);
    }
    free(rows);
}

void watch_write_table(const struct watch *watch, double now, int32_t width, int32_t height, struct strbuf *out) {
    struct page page = {.out = out, .width = width, .height = height};
    title_line(&page, watch, now);
    head_lines(&page, watch, now);
    if (watch->results.state == SWEEP_STATE_RUNNING && watch->n_workers && has_room(&page, 3)) {
        char heading[96];
        snprintf(heading, sizeof heading, "%-22s %-13s %8s %*s %10s  trial", "worker", "step", "steps/s",
                 has_losses(watch) ? 8 : 0, has_losses(watch) ? "loss" : "", "time");
        page_line(&page, "");
        page_line(&page, heading);
        for (int32_t i = 0; i < watch->n_workers && has_room(&page, 1); i++)
            worker_line(&page, watch, &watch->workers[i], now);
    }
    settled_lines(&page, watch);
}

/* ---- lines ---- */

#define WORKERS_IN_LINE 4

/* Where the workers are, the first few by name. */
static void add_workers(const struct watch *watch, struct strbuf *out) {
    int32_t n = 0;
    for (int32_t i = 0; i < watch->n_workers; i++) {
        const struct watch_worker *worker = &watch->workers[i];
        if (worker->trial < 0 || worker->step < 0) continue;
        if (n++ >= WORKERS_IN_LINE) continue;
        strbuf_printf(out, "; rank %d step %d/%d", worker->worker, worker->step, worker->n_steps);
        if (!isfinite(worker->loss)) continue;
        char loss[32];
        number_write(worker->loss, 4, loss);
        strbuf_printf(out, " loss %s", loss);
    }
    if (n > WORKERS_IN_LINE) strbuf_printf(out, "; ranks at work beside these: %d", n - WORKERS_IN_LINE);
}

void watch_write_line(const struct watch *watch, struct strbuf *out) {
    struct strbuf text;
    struct page page = {.out = out};
    strbuf_init(&text);
    strbuf_printf(&text, "%s: ", state_word(watch->results.state));
    add_counts(watch, &text);
    strbuf_add(&text, "; ");
    add_budget(watch, &text);
    strbuf_add(&text, "; best ");
    add_best(watch, &text);
    if (watch->results.state == SWEEP_STATE_RUNNING && isfinite(watch->eta)) {
        strbuf_add(&text, "; ETA ");
        add_eta(watch, watch->results.changed, &text);
    }
    if (watch->results.state == SWEEP_STATE_RUNNING) add_workers(watch, &text);
    page_line(&page, text.text);
    strbuf_free(&text);
}

void watch_write_changes(const struct watch *before, const struct watch *watch, struct strbuf *out) {
    struct page page = {.out = out};
    for (int32_t i = 0; i < watch->results.n_rows; i++) {
        const struct result_row *row = &watch->results.rows[i];
        int32_t status = row->record.status;
        int32_t old = before && i < before->results.n_rows ? before->results.rows[i].record.status : TRIAL_PENDING;
        if (status == old || status == TRIAL_PENDING) continue;
        if (status != TRIAL_RUNNING) {
            settled_line(&page, watch, row);
            continue;
        }
        char text[256];
        snprintf(text, sizeof text, "%-11s %9s %12s  %s  rank %d %.60s", "running", "", "", row->trial.name,
                 row->record.worker, row->record.host);
        page_line(&page, text);
    }
}

/* ---- JSON ---- */

static json_t *number_json(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* Bytes that are no UTF-8 would make Jansson refuse the text. */
static json_t *text_json(const char *text) {
    json_t *value = json_string(text);
    return value ? value : json_string("?");
}

static json_t *worker_json(const struct watch *watch, const struct watch_worker *worker, double now) {
    json_t *object = json_object();
    json_object_set_new(object, "worker", json_integer(worker->worker));
    json_object_set_new(object, "host", text_json(worker->host));
    json_object_set_new(object, "device", text_json(worker->device));
    json_object_set_new(object, "trial",
                        worker->trial < 0 ? json_null() : text_json(watch->results.rows[worker->trial].trial.name));
    json_object_set_new(object, "n_trials", json_integer(worker->n_trials));
    json_object_set_new(object, "step", worker->step < 0 ? json_null() : json_integer(worker->step));
    json_object_set_new(object, "n_steps", worker->trial < 0 ? json_null() : json_integer(worker->n_steps));
    json_object_set_new(object, "steps_per_second", number_json(worker->steps_per_second));
    json_object_set_new(object, "loss", number_json(worker->loss));
    json_object_set_new(object, "seconds", number_json(fmax(now - worker->since, 0)));
    return object;
}

static json_t *budget_json(const struct watch *watch) {
    const struct ledger *ledger = &watch->results.ledger;
    json_t *object = json_object();
    json_object_set_new(object, "convention", text_json(watch->results.convention));
    json_object_set_new(object, "cap", ledger->capped ? json_real((double)ledger->cap) : json_null());
    json_object_set_new(object, "spent", json_real((double)ledger->spent));
    json_object_set_new(object, "reserved", json_real((double)ledger->reserved));
    json_object_set_new(object, "left", ledger->capped ? json_real((double)ledger_left(ledger)) : json_null());
    json_object_set_new(object, "done", json_real(watch->flops_done));
    return object;
}

void watch_write_json(const struct watch *watch, double now, struct strbuf *out) {
    json_t *object = json_object(), *trials = json_object(), *workers = json_array();
    for (int32_t status = 0; status < TRIAL_STATUS_COUNT; status++)
        json_object_set_new(trials, trial_status_name(status), json_integer(watch->count[status]));
    for (int32_t i = 0; i < watch->n_workers; i++)
        json_array_append_new(workers, worker_json(watch, &watch->workers[i], now));
    json_object_set_new(object, "name", text_json(watch->results.name));
    json_object_set_new(object, "state", json_string(state_word(watch->results.state)));
    json_object_set_new(object, "changed", json_real(watch->results.changed));
    json_object_set_new(object, "trials", trials);
    json_object_set_new(object, "budget", budget_json(watch));
    json_object_set_new(object, "metric", text_json(watch->results.metric));
    json_object_set_new(object, "best",
                        watch->best < 0 ? json_null() : text_json(watch->results.rows[watch->best].trial.name));
    json_object_set_new(object, "best_value", watch->best < 0 ? json_null() : number_json(watch->best_value));
    json_object_set_new(object, "eta_seconds", number_json(watch->eta));
    json_object_set_new(object, "eta_error_seconds", number_json(watch->eta_error));
    json_object_set_new(object, "workers", workers);
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (text) strbuf_printf(out, "%s\n", text);
    free(text);
    json_decref(object);
}
