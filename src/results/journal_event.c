/* One journal event as the JSON object of one line, and back. Which members an event has follows from its kind: one row
 * a kind, one row a member. */
#include "results_internal.h"

#include "lvsweep/version.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the rows ---- */

#define EVENT(name) (UINT32_C(1) << EVENT_##name)
enum { /* positions in event_members */
       EVENT_n,
       EVENT_t,
       EVENT_e,
       EVENT_index,
       EVENT_stage,
       EVENT_worker,
       EVENT_attempt,
       EVENT_step,
       EVENT_status,
       EVENT_flops,
       EVENT_lost,
       EVENT_value,
       EVENT_host,
       EVENT_device,
       EVENT_name,
       EVENT_text,
       EVENT_sweep,
       EVENT_trial,
       EVENT_record,
       EVENT_baseline,
       EVENT_N_MEMBERS,
};

/* An event as its line has it: `of` first, so that its members' offsets are the event's. */
struct event_line {
    struct journal_event of;
    const char *kind;
};

static const struct member sweep_members[] = {
    MEMBER_POINTER_OF(struct sweep_line, schema),
    {"version", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.version), NULL},
    {"name", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.name), NULL},
    {"metric", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.metric), NULL},
    {"convention", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.convention), NULL},
    {"stop_rule", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.stop_rule), NULL},
    {"command", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.command), NULL},
    {"data_hash", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.data_hash), NULL},
    {"model_hash", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.model_hash), NULL},
    {"time_unit", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.time_unit), NULL},
    {"flops_cap", MEMBER_F64, 1, offsetof(struct sweep_line, sweep.flops_cap), NULL},
    MEMBER_NAMES_OF(struct sweep_line, stages, CONFIG_MAX_STAGES),
    MEMBER_NAMES_OF(struct sweep_line, channels, LVS_MAX_CHANNELS),
    MEMBER_NAMES_OF(struct sweep_line, units, LVS_MAX_CHANNELS),
    {"config", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.config_given), NULL},
    {"effective", MEMBER_POINTER, 1, offsetof(struct sweep_line, sweep.config_effective), NULL},
    MEMBER_LAST,
};

/* Of a struct event_line; the objects (MEMBER_STRUCT) lie in the scratch instead. */
static const struct member event_members[EVENT_N_MEMBERS + 1] = {
    [EVENT_n] = {"n", MEMBER_I64, 1, offsetof(struct journal_event, number), NULL},
    [EVENT_t] = {"t", MEMBER_F64, 1, offsetof(struct journal_event, time), NULL},
    [EVENT_e] = {"e", MEMBER_POINTER, 1, offsetof(struct event_line, kind), NULL},
    [EVENT_index] = MEMBER_I32_OF(struct journal_event, index),
    [EVENT_stage] = MEMBER_I32_OF(struct journal_event, stage),
    [EVENT_worker] = MEMBER_I32_OF(struct journal_event, worker),
    [EVENT_attempt] = MEMBER_I32_OF(struct journal_event, attempt),
    [EVENT_step] = MEMBER_I32_OF(struct journal_event, step),
    [EVENT_status] = MEMBER_I32_OF(struct journal_event, status),
    [EVENT_flops] = MEMBER_I64_OF(struct journal_event, flops),
    [EVENT_lost] = MEMBER_I64_OF(struct journal_event, lost),
    [EVENT_value] = MEMBER_F64_OF(struct journal_event, value),
    [EVENT_host] = MEMBER_POINTER_OF(struct journal_event, host),
    [EVENT_device] = MEMBER_POINTER_OF(struct journal_event, device),
    [EVENT_name] = MEMBER_POINTER_OF(struct journal_event, name),
    [EVENT_text] = MEMBER_POINTER_OF(struct journal_event, text),
    [EVENT_sweep] = {"sweep", MEMBER_STRUCT, 1, 0, sweep_members},
    [EVENT_trial] = {"trial", MEMBER_STRUCT, 1, 0, trial_members},
    [EVENT_record] = {"record", MEMBER_STRUCT, 1, 0, record_members},
    [EVENT_baseline] = {"baseline", MEMBER_STRUCT, 1, 0, baseline_members},
    [EVENT_N_MEMBERS] = MEMBER_LAST,
};

static const struct event_kind {
    const char *name;
    uint32_t members; /* beside n, t and e */
} kinds[JOURNAL_KIND_COUNT] = {
    [JOURNAL_SWEEP] = {"sweep", EVENT(sweep)},
    [JOURNAL_TRIAL] = {"trial", EVENT(trial)},
    [JOURNAL_MEMBER] = {"member", EVENT(index) | EVENT(stage)},
    [JOURNAL_ADMITTED] = {"admitted", EVENT(index) | EVENT(flops)},
    [JOURNAL_CUT] = {"cut", EVENT(index) | EVENT(text)},
    [JOURNAL_ASSIGNED] = {"assigned", EVENT(index) | EVENT(worker) | EVENT(attempt) | EVENT(host) | EVENT(device)},
    [JOURNAL_PROGRESS] = {"progress", EVENT(index) | EVENT(step) | EVENT(value)},
    [JOURNAL_RECORD] = {"record", EVENT(record)},
    [JOURNAL_SETTLE] = {"settle", EVENT(index) | EVENT(flops) | EVENT(lost)},
    [JOURNAL_STATUS] = {"status", EVENT(index) | EVENT(status) | EVENT(text)},
    [JOURNAL_OUTSIDE] = {"outside", EVENT(index)},
    [JOURNAL_BEST] = {"best", EVENT(index) | EVENT(stage) | EVENT(value)},
    [JOURNAL_BASELINE] = {"baseline", EVENT(baseline) | EVENT(flops)},
    [JOURNAL_PROVENANCE] = {"provenance", EVENT(name) | EVENT(text)},
    [JOURNAL_INTERRUPTED] = {"interrupted", EVENT(text)},
    [JOURNAL_FINISHED] = {"finished", EVENT(status)},
    [JOURNAL_RUNG] = {"rung", EVENT(index) | EVENT(step) | EVENT(status) | EVENT(flops) | EVENT(value) | EVENT(text)},
};

const char *journal_kind_name(int32_t kind) {
    return kind >= 0 && kind < JOURNAL_KIND_COUNT ? kinds[kind].name : "unknown";
}

struct journal_event journal_event_make(enum journal_kind kind) {
    return (struct journal_event){
        .kind = kind, .index = -1, .stage = -1, .worker = -1, .attempt = -1, .step = -1, .status = -1, .value = NAN};
}

static void unknown_trial(struct trial *trial) {
    memset(trial, 0, sizeof *trial);
}

static void unknown_record(struct record *record) {
    struct trial trial;
    unknown_trial(&trial);
    record_init(record, &trial);
}

/* ---- writing ---- */

static void list_names(struct name_list *list, const char *const *names, int32_t count) {
    list->n = count;
    for (int32_t i = 0; i < count; i++)
        list->name[i] = names ? names[i] : "";
}

static void sweep_write(const struct journal_sweep *sweep, struct strbuf *out) {
    struct sweep_line line = {.schema = RESULTS_SCHEMA_VERSION, .sweep = *sweep};
    static const struct sweep_line none;
    if (!line.sweep.version) line.sweep.version = LVSWEEP_VERSION;
    list_names(&line.stages, sweep->stage_name, sweep->n_stages);
    list_names(&line.channels, sweep->channel_name, sweep->n_channel);
    list_names(&line.units, sweep->channel_unit, sweep->n_channel);
    members_write(sweep_members, &line, &none, out);
}

static void object_write(int which, const struct journal_event *event, struct strbuf *out) {
    struct journal_scratch none;
    switch (which) {
    case EVENT_sweep:
        sweep_write(event->sweep, out);
        break;
    case EVENT_trial:
        unknown_trial(&none.trial);
        members_write(trial_members, event->trial, &none.trial, out);
        break;
    case EVENT_record:
        unknown_record(&none.record);
        members_write(record_members, event->record, &none.record, out);
        break;
    default:
        baseline_init(&none.baseline, BASELINE_UNTRAINED);
        members_write(baseline_members, event->baseline, &none.baseline, out);
    }
}

void journal_event_write(const struct journal_event *event, struct strbuf *out) {
    const struct event_line line = {.of = *event, .kind = kinds[event->kind].name};
    uint32_t members = kinds[event->kind].members | EVENT(n) | EVENT(t) | EVENT(e);
    for (int i = 0; i < EVENT_N_MEMBERS; i++) {
        if (!(members >> i & 1u)) continue;
        strbuf_add_bytes(out, i ? ",\"" : "{\"", 2);
        strbuf_add(out, event_members[i].name);
        strbuf_add_bytes(out, "\":", 2);
        if (event_members[i].type == MEMBER_STRUCT)
            object_write(i, event, out);
        else
            member_write(&event_members[i], &line, &line, out);
    }
}

/* ---- reading ---- */

static bool object_read(int which, struct json_cursor *cursor, struct journal_event *event,
                        struct journal_scratch *scratch) {
    switch (which) {
    case EVENT_sweep:
        memset(&scratch->sweep, 0, sizeof scratch->sweep);
        event->sweep = &scratch->sweep.sweep;
        return members_read(sweep_members, cursor, &scratch->sweep);
    case EVENT_trial:
        unknown_trial(&scratch->trial);
        event->trial = &scratch->trial;
        return members_read(trial_members, cursor, &scratch->trial);
    case EVENT_record:
        unknown_record(&scratch->record);
        event->record = &scratch->record;
        return members_read(record_members, cursor, &scratch->record);
    default:
        baseline_init(&scratch->baseline, BASELINE_UNTRAINED);
        event->baseline = &scratch->baseline;
        return members_read(baseline_members, cursor, &scratch->baseline);
    }
}

static int member_index(const char *name, int from) {
    for (int i = 0; i < EVENT_N_MEMBERS; i++) {
        int at = (from + i) % EVENT_N_MEMBERS;
        if (strcmp(event_members[at].name, name) == 0) return at;
    }
    return -1;
}

/* Every member of the line; *seen gets a bit each. The line ends where its checksum begins, without a brace. */
static bool line_read(struct json_cursor *cursor, struct event_line *line, struct journal_scratch *scratch,
                      uint32_t *seen) {
    int next = 0;
    *seen = 0;
    for (char before = '{'; cursor->at < cursor->end; before = ',') {
        const char *name;
        size_t length;
        if (!cursor_take(cursor, before)) return cursor_fail(cursor, "lacks a comma");
        if (!cursor_string(cursor, &name, &length)) return false;
        if (!cursor_take(cursor, ':')) return cursor_fail(cursor, "lacks a ':'");
        int i = member_index(name, next);
        if (i >= 0 && (*seen >> i & 1u)) return cursor_fail(cursor, "has a member twice");
        if (i < 0) {
            if (!cursor_skip(cursor)) return false;
            continue;
        }
        bool good = event_members[i].type == MEMBER_STRUCT ? object_read(i, cursor, &line->of, scratch)
                                                           : member_read(&event_members[i], cursor, line);
        if (!good) return false;
        *seen |= UINT32_C(1) << i;
        next = i + 1;
    }
    return true;
}

static enum lvs_status sweep_check(struct sweep_line *line, struct lvs_error *err) {
    struct journal_sweep *sweep = &line->sweep;
    if (!line->schema || strncmp(line->schema, "1.", 2) != 0)
        return lvs_fail(err, LVS_INPUT, "schema version %s; this program reads versions 1.x",
                        line->schema ? line->schema : "is missing");
    if (!(sweep->flops_cap >= 0 && sweep->flops_cap < 1e36))
        return lvs_fail(err, LVS_INPUT, "\"flops_cap\" must be a number of FLOPs, 0 for none");
    if (line->units.n != line->channels.n)
        return lvs_fail(err, LVS_INPUT, "%d units for %d channels", line->units.n, line->channels.n);
    sweep->n_stages = line->stages.n;
    sweep->stage_name = line->stages.name;
    sweep->n_channel = line->channels.n;
    sweep->channel_name = line->channels.name;
    sweep->channel_unit = line->units.name;
    return LVS_OK;
}

static enum lvs_status kind_find(const char *name, int32_t *kind, struct lvs_error *err) {
    for (*kind = 0; *kind < JOURNAL_KIND_COUNT; ++*kind)
        if (name && strcmp(kinds[*kind].name, name) == 0) return LVS_OK;
    return lvs_fail(err, LVS_INPUT, "event \"%.40s\" is not known to this program; was it written by a newer one?",
                    name ? name : "");
}

/* Texts may be left out, everything else of the kind must be there. */
static enum lvs_status members_check(const struct event_line *line, uint32_t seen, struct lvs_error *err) {
    uint32_t wanted = kinds[line->of.kind].members | EVENT(n) | EVENT(t);
    for (int i = 0; i < EVENT_N_MEMBERS; i++)
        if ((wanted >> i & 1u) && !(seen >> i & 1u) && event_members[i].type != MEMBER_POINTER)
            return lvs_fail(err, LVS_INPUT, "event \"%s\" without \"%s\"", line->kind, event_members[i].name);
    return LVS_OK;
}

enum lvs_status journal_event_read(const char *line, size_t length, struct journal_event *event,
                                   struct journal_scratch *scratch, struct lvs_error *err) {
    if (length >= scratch->capacity) {
        scratch->capacity = 2 * length + 1;
        scratch->texts = lvs_realloc(scratch->texts, scratch->capacity);
    }
    struct event_line read = {.of = journal_event_make(JOURNAL_SWEEP)};
    struct json_cursor cursor = {.at = line, .end = line + length, .texts = scratch->texts};
    uint32_t seen;
    if (!line_read(&cursor, &read, scratch, &seen))
        return lvs_fail(err, LVS_INPUT, "at byte %td: the value %s", cursor.at - line,
                        cursor.why ? cursor.why : "is no JSON");
    LVS_TRY(kind_find(read.kind, &read.of.kind, err));
    LVS_TRY(members_check(&read, seen, err));
    if (read.of.kind == JOURNAL_SWEEP) LVS_TRY(sweep_check(&scratch->sweep, err));
    if (read.of.kind == JOURNAL_TRIAL) read.of.index = scratch->trial.index;
    if (read.of.kind == JOURNAL_RECORD) read.of.index = scratch->record.index;
    *event = read.of;
    return LVS_OK;
}
