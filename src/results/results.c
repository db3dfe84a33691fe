/* The table in memory and the reducer: what each journal event does to it. Pure: no files but through results_read.
 * Invariant: rows[i].trial.index == i, and the ledger's reservations are the sum of the rows'. */
#include "results_internal.h"

#include "lvsweep/version.h"

#include <stdlib.h>
#include <string.h>

void results_init(struct results *results, const char *output) {
    memset(results, 0, sizeof *results);
    lvs_copy(results->output, sizeof results->output, output);
    for (int i = 0; i < CONFIG_MAX_STAGES; i++)
        results->stage_best[i] = -1;
    ledger_init(&results->ledger, 0);
}

void results_free(struct results *results) {
    for (int32_t i = 0; i < results->n_provenance; i++)
        free(results->provenance[i].value);
    free(results->provenance);
    free(results->config_given);
    free(results->config_effective);
    free(results->rows);
    free(results->baselines);
    memset(results, 0, sizeof *results);
}

int32_t results_find(const struct results *results, const char *train_key, const char *eval_key) {
    for (int32_t i = 0; i < results->n_rows; i++) {
        const struct trial *trial = &results->rows[i].trial;
        if (strcmp(trial->train_key, train_key) == 0 && (!eval_key || strcmp(trial->eval_key, eval_key) == 0)) return i;
    }
    return -1;
}

/* ---- events ---- */

static enum lvs_status row_at(struct results *results, const struct journal_event *event, struct result_row **out,
                              struct lvs_error *err) {
    if (event->index < 0 || event->index >= results->n_rows)
        return lvs_fail(err, LVS_INPUT, "event \"%s\" of trial %d; there are %d trials", journal_kind_name(event->kind),
                        event->index, results->n_rows);
    *out = &results->rows[event->index];
    return LVS_OK;
}

/* Membership by the stages' names, when a changed grid renames, adds or drops some. */
static void remap_stages(struct results *results, const struct journal_sweep *sweep) {
    int32_t to[CONFIG_MAX_STAGES];
    for (int32_t i = 0; i < results->n_stages; i++) {
        to[i] = -1;
        for (int32_t j = 0; j < sweep->n_stages; j++)
            if (strcmp(results->stage_name[i], sweep->stage_name[j]) == 0) to[i] = j;
    }
    for (int32_t r = 0; r < results->n_rows; r++) {
        struct result_row *row = &results->rows[r];
        uint32_t stages = 0;
        for (int32_t i = 0; i < results->n_stages; i++)
            if (to[i] >= 0 && (row->stages >> i & 1u)) stages |= 1u << to[i];
        row->stages = stages;
        if (row->trial.stage >= 0) row->trial.stage = to[row->trial.stage];
    }
    int32_t best[CONFIG_MAX_STAGES];
    for (int32_t j = 0; j < CONFIG_MAX_STAGES; j++)
        best[j] = -1;
    for (int32_t i = 0; i < results->n_stages; i++)
        if (to[i] >= 0) best[to[i]] = results->stage_best[i];
    memcpy(results->stage_best, best, sizeof best);
}

static void replace_text(char **text, const char *by) {
    free(*text);
    *text = lvs_strdup(by ? by : "");
}

static void keep_name(char *out, size_t capacity, const char *text) {
    lvs_copy(out, capacity, text ? text : "");
}

static void copy_names(struct results *results, const struct journal_sweep *sweep) {
    results->n_stages = sweep->n_stages;
    for (int32_t i = 0; i < sweep->n_stages; i++)
        keep_name(results->stage_name[i], sizeof results->stage_name[i], sweep->stage_name[i]);
    results->n_channel = sweep->n_channel;
    for (int32_t i = 0; i < sweep->n_channel; i++) {
        keep_name(results->channel_name[i], sizeof results->channel_name[i], sweep->channel_name[i]);
        keep_name(results->channel_unit[i], sizeof results->channel_unit[i], sweep->channel_unit[i]);
    }
    keep_name(results->time_unit, sizeof results->time_unit, sweep->time_unit);
    keep_name(results->name, sizeof results->name, sweep->name);
    keep_name(results->metric, sizeof results->metric, sweep->metric);
    keep_name(results->stop_rule, sizeof results->stop_rule, sweep->stop_rule);
    keep_name(results->convention, sizeof results->convention, sweep->convention);
    keep_name(results->data_hash, sizeof results->data_hash, sweep->data_hash);
    keep_name(results->model_hash, sizeof results->model_hash, sweep->model_hash);
}

/* What ran when the last run ended is interrupted; its reservations end. */
static void end_reservations(struct results *results) {
    for (int32_t i = 0; i < results->n_rows; i++) {
        struct result_row *row = &results->rows[i];
        row->reserved = 0;
        if (row->record.status == TRIAL_RUNNING) row->record.status = TRIAL_INTERRUPTED;
    }
    results->ledger.reserved = 0;
}

static void set_provenance(struct results *results, const char *name, const char *value) {
    for (int32_t i = 0; i < results->n_provenance; i++) {
        if (strncmp(results->provenance[i].name, name, sizeof results->provenance[i].name - 1) != 0) continue;
        replace_text(&results->provenance[i].value, value);
        return;
    }
    results->provenance =
        lvs_realloc(results->provenance, (size_t)(results->n_provenance + 1) * sizeof *results->provenance);
    struct provenance_pair *pair = &results->provenance[results->n_provenance++];
    memset(pair, 0, sizeof *pair);
    lvs_copy(pair->name, sizeof pair->name, name);
    replace_text(&pair->value, value);
}

static enum lvs_status apply_sweep(struct results *results, const struct journal_sweep *sweep, struct lvs_error *err) {
    if (sweep->n_stages < 0 || sweep->n_stages > CONFIG_MAX_STAGES || sweep->n_channel < 0 ||
        sweep->n_channel > LVS_MAX_CHANNELS)
        return lvs_fail(err, LVS_INPUT, "%d stages and %d channels; at most %d and %d", sweep->n_stages,
                        sweep->n_channel, CONFIG_MAX_STAGES, LVS_MAX_CHANNELS);
    end_reservations(results);
    remap_stages(results, sweep);
    copy_names(results, sweep);
    replace_text(&results->config_given, sweep->config_given);
    replace_text(&results->config_effective, sweep->config_effective);
    set_provenance(results, "version", sweep->version ? sweep->version : LVSWEEP_VERSION);
    if (sweep->command && sweep->command[0]) set_provenance(results, "command", sweep->command);
    struct ledger fresh;
    ledger_init(&fresh, sweep->flops_cap);
    results->ledger.capped = fresh.capped;
    results->ledger.cap = fresh.cap;
    results->state = SWEEP_STATE_RUNNING;
    return LVS_OK;
}

static struct result_row *row_add(struct results *results) {
    if (results->n_rows == results->capacity) {
        results->capacity = results->capacity ? 2 * results->capacity : 64;
        results->rows = lvs_realloc(results->rows, (size_t)results->capacity * sizeof *results->rows);
    }
    struct result_row *row = &results->rows[results->n_rows++];
    memset(row, 0, sizeof *row);
    return row;
}

/* A row that had left the grid is in it again, as what it was. */
static void row_return(struct results *results, struct result_row *row) {
    if (row->record.status == TRIAL_SUPERSEDED) row->record.status = row->status_before;
    if (row->outside) results->ledger.outside -= row->charged;
    row->outside = 0;
}

static enum lvs_status apply_trial(struct results *results, const struct trial *trial, struct lvs_error *err) {
    if (trial->index < 0 || trial->index > results->n_rows)
        return lvs_fail(err, LVS_INPUT, "trial %d; the next new trial is %d", trial->index, results->n_rows);
    if (trial->stage < 0 || trial->stage >= results->n_stages)
        return lvs_fail(err, LVS_INPUT, "trial %d in stage %d; there are %d", trial->index, trial->stage,
                        results->n_stages);
    if (trial->parent >= results->n_rows || trial->parent < -1)
        return lvs_fail(err, LVS_INPUT, "trial %d has parent %d, which is not there", trial->index, trial->parent);
    struct result_row *row;
    if (trial->index == results->n_rows) {
        row = row_add(results);
        record_init(&row->record, trial);
    } else {
        row = &results->rows[trial->index];
        if (strcmp(row->trial.train_key, trial->train_key) != 0)
            return lvs_fail(err, LVS_INPUT, "trial %d has train_key %s; row %d holds %s", trial->index,
                            trial->train_key, trial->index, row->trial.train_key);
    }
    row->trial = *trial;
    row_return(results, row);
    row->stages |= 1u << trial->stage;
    return LVS_OK;
}

static enum lvs_status apply_member(struct results *results, const struct journal_event *event, struct result_row *row,
                                    struct lvs_error *err) {
    if (event->stage < 0 || event->stage >= results->n_stages)
        return lvs_fail(err, LVS_INPUT, "trial %d in stage %d; there are %d", event->index, event->stage,
                        results->n_stages);
    row_return(results, row);
    row->stages |= 1u << event->stage;
    return LVS_OK;
}

static enum lvs_status apply_admitted(struct results *results, const struct journal_event *event,
                                      struct result_row *row, struct lvs_error *err) {
    if (event->flops < 0 || row->reserved != 0)
        return lvs_fail(err, LVS_INPUT, "trial %d reserves %lld FLOPs beside the %lld it holds", event->index,
                        (long long)event->flops, (long long)row->reserved);
    row->reserved = event->flops;
    results->ledger.reserved += event->flops;
    if (row->record.status == TRIAL_CUT) row->record.status = TRIAL_PENDING;
    row->cut_reason[0] = '\0';
    return LVS_OK;
}

static enum lvs_status apply_settle(struct results *results, const struct journal_event *event, struct result_row *row,
                                    struct lvs_error *err) {
    int64_t charged;
    if (event->flops < 0 || event->flops > row->reserved || event->lost < 0 ||
        __builtin_add_overflow(row->charged, event->flops, &charged))
        return lvs_fail(err, LVS_INPUT, "trial %d is charged %lld FLOPs of the %lld reserved, %lld lost", event->index,
                        (long long)event->flops, (long long)row->reserved, (long long)event->lost);
    ledger_settle(&results->ledger, row->reserved, event->flops);
    ledger_add_lost(&results->ledger, event->lost);
    if (row->outside) results->ledger.outside += event->flops;
    row->reserved = 0;
    row->charged = charged;
    return LVS_OK;
}

static enum lvs_status apply_record(const struct journal_event *event, struct result_row *row, struct lvs_error *err) {
    const struct record *record = event->record;
    if (record->status < 0 || record->status >= TRIAL_STATUS_COUNT)
        return lvs_fail(err, LVS_INPUT, "trial %d has status %d", record->index, record->status);
    if (strcmp(record->train_key, row->trial.train_key) != 0)
        return lvs_fail(err, LVS_INPUT, "the record of trial %d has train_key %s, the trial %s", record->index,
                        record->train_key, row->trial.train_key);
    row->record = *record;
    return LVS_OK;
}

static void apply_assigned(const struct journal_event *event, struct result_row *row) {
    row->record.status = TRIAL_RUNNING;
    row->record.steps_done = 0; /* until it says where it is */
    row->record.worker = event->worker;
    row->record.attempt = event->attempt;
    row->record.start_time = event->time;
    keep_name(row->record.host, sizeof row->record.host, event->host);
    keep_name(row->record.device, sizeof row->record.device, event->device);
}

/* --rerun: what it came to is void, what it cost stays spent. */
static void start_again(struct result_row *row) {
    int64_t lost = row->record.flops_lost;
    int32_t attempt = row->record.attempt;
    record_init(&row->record, &row->trial);
    row->record.flops_lost = lost;
    row->record.attempt = attempt;
    row->rungs = (struct rung_list){0};
    row->charged_before = row->charged;
}

static enum lvs_status apply_status(const struct journal_event *event, struct result_row *row, struct lvs_error *err) {
    if (event->status < 0 || event->status >= TRIAL_STATUS_COUNT)
        return lvs_fail(err, LVS_INPUT, "trial %d has status %d", event->index, event->status);
    if (event->status == TRIAL_SUPERSEDED && row->record.status != TRIAL_SUPERSEDED)
        row->status_before = row->record.status;
    if (event->status == TRIAL_PENDING) start_again(row);
    row->record.status = event->status;
    if (event->status != TRIAL_SUPERSEDED && event->text && event->text[0])
        keep_name(row->record.error, sizeof row->record.error, event->text);
    return LVS_OK;
}

static enum lvs_status apply_rung(const struct journal_event *event, struct result_row *row, struct lvs_error *err) {
    if (event->step < 0 || event->flops < 0 || event->status < RUNG_WAITS || event->status > RUNG_STOPPED)
        return lvs_fail(err, LVS_INPUT, "trial %d at step %d with verdict %d", event->index, event->step,
                        event->status);
    const struct rung rung = {
        .step = event->step, .verdict = event->status, .loss = event->value, .flops = event->flops};
    rung_list_set(&row->rungs, &rung);
    return LVS_OK;
}

static enum lvs_status apply_best(struct results *results, const struct journal_event *event, struct lvs_error *err) {
    if (event->stage < -1 || event->stage >= results->n_stages || event->index < -1 || event->index >= results->n_rows)
        return lvs_fail(err, LVS_INPUT, "trial %d as the best of stage %d, which are not there", event->index,
                        event->stage);
    if (event->stage >= 0) results->stage_best[event->stage] = event->index;
    return LVS_OK;
}

static enum lvs_status apply_baseline(struct results *results, const struct journal_event *event,
                                      struct lvs_error *err) {
    const struct baseline *baseline = event->baseline;
    if (baseline->kind < 0 || baseline->kind >= BASELINE_COUNT || event->flops < 0)
        return lvs_fail(err, LVS_INPUT, "a baseline of kind %d, charged %lld FLOPs", baseline->kind,
                        (long long)event->flops);
    results->ledger.spent += event->flops;
    for (int32_t i = 0; i < results->n_baselines; i++) {
        struct baseline *old = &results->baselines[i];
        if (old->kind != baseline->kind || strcmp(old->key, baseline->key) != 0) continue;
        *old = *baseline;
        return LVS_OK;
    }
    results->baselines =
        lvs_realloc(results->baselines, (size_t)(results->n_baselines + 1) * sizeof *results->baselines);
    results->baselines[results->n_baselines++] = *baseline;
    return LVS_OK;
}

static enum lvs_status apply_to_row(struct results *results, const struct journal_event *event, struct lvs_error *err) {
    struct result_row *row = NULL;
    LVS_TRY(row_at(results, event, &row, err));
    switch (event->kind) {
    case JOURNAL_MEMBER:
        return apply_member(results, event, row, err);
    case JOURNAL_ADMITTED:
        return apply_admitted(results, event, row, err);
    case JOURNAL_CUT:
        row->record.status = TRIAL_CUT;
        keep_name(row->cut_reason, sizeof row->cut_reason, event->text);
        return LVS_OK;
    case JOURNAL_ASSIGNED:
        apply_assigned(event, row);
        return LVS_OK;
    case JOURNAL_PROGRESS:
        row->record.steps_done = event->step;
        row->record.train_loss = event->value;
        return LVS_OK;
    case JOURNAL_RECORD:
        return apply_record(event, row, err);
    case JOURNAL_SETTLE:
        return apply_settle(results, event, row, err);
    case JOURNAL_STATUS:
        return apply_status(event, row, err);
    case JOURNAL_RUNG:
        return apply_rung(event, row, err);
    default: /* JOURNAL_OUTSIDE */
        if (!row->outside) results->ledger.outside += row->charged;
        row->outside = 1;
        row->stages = 0;
        return LVS_OK;
    }
}

enum lvs_status results_apply(void *context, const struct journal_event *event, struct lvs_error *err) {
    struct results *results = context;
    if (results->n_events++ == 0) results->created = event->time;
    results->changed = event->time;
    run_clock_take(&results->clock, event);
    switch (event->kind) {
    case JOURNAL_SWEEP:
        return apply_sweep(results, event->sweep, err);
    case JOURNAL_TRIAL:
        return apply_trial(results, event->trial, err);
    case JOURNAL_BEST:
        return apply_best(results, event, err);
    case JOURNAL_BASELINE:
        return apply_baseline(results, event, err);
    case JOURNAL_PROVENANCE:
        set_provenance(results, event->name ? event->name : "", event->text);
        return LVS_OK;
    case JOURNAL_INTERRUPTED:
        results->state = SWEEP_STATE_INTERRUPTED;
        return LVS_OK;
    case JOURNAL_FINISHED:
        results->state = SWEEP_STATE_FINISHED;
        return LVS_OK;
    default:
        return apply_to_row(results, event, err);
    }
}

enum lvs_status results_absent(const char *output, struct lvs_error *err) {
    size_t length = strlen(output);
    if (!file_exists(output))
        return lvs_fail(err, LVS_INPUT, "%s: does not exist; give the OUTPUT folder of a sweep", output);
    if (!file_is_folder(output) && length > 4 && strcmp(output + length - 4, ".ini") == 0)
        return lvs_fail(err, LVS_INPUT, "%s: is an INI; give the OUTPUT folder of a sweep, by default %.*s.lvsweep",
                        output, (int)length - 4, output);
    if (!file_is_folder(output))
        return lvs_fail(err, LVS_INPUT, "%s: is a file; give the OUTPUT folder of a sweep", output);
    return lvs_fail(err, LVS_INPUT, "%s: no " RESULTS_JOURNAL " in it; give the OUTPUT folder of a sweep", output);
}

/* Through `end`, or with NULL without damage only. */
static enum lvs_status read_journal(const char *output, struct results *out, struct journal_end *end,
                                    struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, output, RESULTS_JOURNAL, err));
    if (!file_exists(path)) return results_absent(output, err);
    results_init(out, output);
    enum lvs_status status = journal_replay(path, results_apply, out, end, err);
    if (status == LVS_OK && end) journal_warn_of(path, end);
    if (status != LVS_OK) results_free(out);
    return status;
}

enum lvs_status results_read(const char *output, struct results *out, struct lvs_error *err) {
    struct journal_end end;
    return read_journal(output, out, &end, err);
}

enum lvs_status results_read_whole(const char *output, struct results *out, struct lvs_error *err) {
    return read_journal(output, out, NULL, err);
}
