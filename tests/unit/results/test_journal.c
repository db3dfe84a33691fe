/* The journal: exact round trip of every event, torn tails, damaged middles, failed writes, the reducer's refusals. */
#include "sample.h"
#include "unit/own_folder.h"
#include "results_internal.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include "lvsweep/file.h"
#include "lvsweep/rng.h"

/* ---- helpers ---- */

static char folder[LVS_PATH_MAX], path[LVS_PATH_MAX];

static int set_up(void **state) {
    (void)state;
    struct lvs_error err;
    own_folder_make(folder);
    return file_join(path, folder, RESULTS_JOURNAL, &err) != LVS_OK;
}

static int tear_down(void **state) {
    (void)state;
    own_folder_remove(folder);
    return 0;
}

static void append(struct journal *journal, struct journal_event event) {
    struct lvs_error err = {0};
    if (journal_append(journal, &event, &err) != LVS_OK) fail_msg("%s", err.text);
}

/* A sweep, `n` trials with admission, record and settlement. */
static void write_journal(int32_t n) {
    struct lvs_error err = {0};
    struct journal *journal;
    struct journal_sweep sweep;
    assert_int_equal(journal_open(path, NULL, NULL, &journal, &err), LVS_OK);
    append(journal, sample_sweep_event(1e17, &sweep));
    for (int32_t i = 0; i < n; i++) {
        struct trial trial;
        struct record record;
        sample_trial(i, 0, &trial);
        sample_record(&trial, &record);
        struct journal_event event = journal_event_make(JOURNAL_TRIAL);
        event.trial = &trial;
        append(journal, event);
        event = journal_event_make(JOURNAL_ADMITTED);
        event.index = i;
        event.flops = trial.price.counted;
        append(journal, event);
        event = journal_event_make(JOURNAL_RECORD);
        event.record = &record;
        append(journal, event);
        event = journal_event_make(JOURNAL_SETTLE);
        event.index = i;
        event.flops = 5;
        append(journal, event);
    }
    assert_int_equal(journal_close(journal, &err), LVS_OK);
}

static char *journal_bytes(size_t *length) {
    char *bytes = NULL;
    struct lvs_error err = {0};
    assert_int_equal(file_read(path, 1 << 24, &bytes, length, &err), LVS_OK);
    return bytes;
}

static void put_bytes(const char *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static enum lvs_status count_event(void *context, const struct journal_event *event, struct lvs_error *err) {
    (void)err;
    int32_t *count = context;
    ++*count;
    assert_int_equal(event->number, *count);
    return LVS_OK;
}

static enum lvs_status replay(int32_t *count, struct lvs_error *err) {
    *count = 0;
    return journal_replay(path, count_event, count, NULL, err);
}

/* ---- round trips ---- */

struct kept {
    int32_t n;
    struct journal_event event[40];
    struct trial trial;
    struct record record;
    struct baseline baseline;
    char text[40][64];
};

static enum lvs_status keep_event(void *context, const struct journal_event *event, struct lvs_error *err) {
    (void)err;
    struct kept *kept = context;
    kept->event[kept->n] = *event;
    if (event->text) lvs_copy(kept->text[kept->n], 64, event->text);
    if (event->trial) kept->trial = *event->trial;
    if (event->record) kept->record = *event->record;
    if (event->baseline) kept->baseline = *event->baseline;
    if (event->sweep) {
        assert_string_equal(event->sweep->config_given, "[a]\nb = \"c\\d\"\t; é\n");
        assert_string_equal(event->sweep->config_effective, "");
        assert_true(event->sweep->flops_cap == 1e17);
        assert_int_equal(event->sweep->n_stages, 2);
        assert_string_equal(event->sweep->stage_name[1], "final");
        assert_int_equal(event->sweep->n_channel, 2);
        assert_string_equal(event->sweep->channel_unit[0], "km²");
        assert_string_equal(event->sweep->time_unit, "d");
    }
    kept->n++;
    return LVS_OK;
}

static void every_kind_comes_back(void **state) {
    (void)state;
    struct journal *journal;
    struct journal_sweep sweep;
    struct lvs_error err = {0};
    struct trial trial;
    struct record record;
    struct baseline baseline;
    sample_trial(3, 1, &trial);
    sample_record(&trial, &record);
    record.val.mse[7] = -0.0;
    record.val.mae[0] = INFINITY;
    record.val.r2[1] = -INFINITY;
    record.test_loss.loss = 4.9406564584124654e-324;
    lvs_copy(record.error, sizeof record.error, "line\n\"quoted\" \\ tab\t é \x01");
    baseline_init(&baseline, BASELINE_MEAN);
    baseline.val.mae[1] = 1.0 / 3;
    assert_int_equal(journal_open(path, NULL, NULL, &journal, &err), LVS_OK);
    for (int kind = 0; kind < JOURNAL_KIND_COUNT; kind++) {
        struct journal_event event =
            kind == JOURNAL_SWEEP ? sample_sweep_event(1e17, &sweep) : journal_event_make(kind);
        event.index = 7;
        event.stage = 1;
        event.worker = 2;
        event.attempt = 3;
        event.step = 4;
        event.status = 5;
        event.flops = INT64_MAX;
        event.lost = INT64_MIN;
        event.value = 0.1;
        event.host = "host";
        event.device = "dev\"ice";
        event.name = "name";
        event.text = "täxt";
        event.trial = &trial;
        event.record = &record;
        event.baseline = &baseline;
        event.time = 1.7e9 + 0.123456789 * kind;
        append(journal, event);
    }
    assert_int_equal(journal_close(journal, &err), LVS_OK);
    struct kept *kept = calloc(1, sizeof *kept);
    if (journal_replay(path, keep_event, kept, NULL, &err) != LVS_OK) fail_msg("%s", err.text);
    assert_int_equal(kept->n, JOURNAL_KIND_COUNT);
    assert_memory_equal(&kept->trial, &trial, sizeof trial);
    assert_memory_equal(&kept->record, &record, sizeof record);
    assert_memory_equal(&kept->baseline, &baseline, sizeof baseline);
    for (int kind = 0; kind < JOURNAL_KIND_COUNT; kind++) {
        assert_int_equal(kept->event[kind].kind, kind);
        assert_true(kept->event[kind].time == 1.7e9 + 0.123456789 * kind);
    }
    assert_int_equal(kept->event[JOURNAL_SETTLE].flops, INT64_MAX);
    assert_int_equal(kept->event[JOURNAL_SETTLE].lost, INT64_MIN);
    assert_int_equal(kept->event[JOURNAL_ASSIGNED].attempt, 3);
    assert_true(kept->event[JOURNAL_BEST].value == 0.1);
    assert_string_equal(kept->text[JOURNAL_CUT], "täxt");
    assert_int_equal(kept->event[JOURNAL_CUT].worker, -1); /* not a member of its kind */
    free(kept);
}

static void doubles_come_back_to_the_bit(void **state) {
    (void)state;
    struct rng rng = rng_make(1, RNG_STREAM_TEST);
    struct strbuf text;
    strbuf_init(&text);
    for (int i = 0; i < 200000; i++) {
        uint64_t bits = (uint64_t)rng_u32(&rng) << 32 | rng_u32(&rng);
        double value, back;
        if (i % 4 == 1) bits &= ~(UINT64_C(0x7FF) << 52) | UINT64_C(0x3FF) << 52 | (uint64_t)(i % 512) << 52;
        memcpy(&value, &bits, sizeof value);
        if (i % 4 == 2) value = (double)(int64_t)(bits >> 20) / 1e4;
        if (i % 4 == 3) value = (double)(i % 1000) / 1000;
        if (isnan(value)) continue;
        strbuf_clear(&text);
        text_add_double(&text, value);
        struct json_cursor cursor = {.at = text.text, .end = text.text + text.length};
        assert_true(cursor_double(&cursor, &back) && cursor.at == cursor.end);
        assert_memory_equal(&back, &value, sizeof value);
        strbuf_clear(&text);
        text_add_shortest(&text, value);
        assert_true(strtod(text.text, NULL) == value);
    }
    strbuf_free(&text);
}

static void bytes_that_are_no_text_become_text(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *json;
    } cases[] = {
        {"", "\"\""},
        {"a\xFFz", "\"a\xEF\xBF\xBDz\""},
        {"\xC3", "\"\xEF\xBF\xBD\""},                                                 /* cut off */
        {"\xC0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},                                 /* overlong */
        {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},                 /* surrogate */
        {"\xF4\x90\x80\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""}, /* above U+10FFFF */
        {"é€😀", "\"é€😀\""},
        {"\"\\\n\x7F", "\"\\\"\\\\\\u000a\x7F\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct strbuf out;
        strbuf_init(&out);
        text_add_json(&out, cases[i].bytes);
        assert_string_equal(out.text, cases[i].json);
        strbuf_free(&out);
    }
}

static void wrong_json_is_refused(void **state) {
    (void)state;
    static const char *const numbers[] = {"", "-", "0x1p3", "nan", "inf", "1e", "1..2", "\"in\"", "nul", "1-2", "+-1"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double value;
        struct json_cursor cursor = {.at = numbers[i], .end = numbers[i] + strlen(numbers[i])};
        assert_false(cursor_double(&cursor, &value) && cursor.at == cursor.end);
    }
    static const char *const integers[] = {"", "-", "1.0", "1e3", "9223372036854775808", "-9223372036854775809", "--1"};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        int64_t value;
        struct json_cursor cursor = {.at = integers[i], .end = integers[i] + strlen(integers[i])};
        assert_false(cursor_integer(&cursor, &value));
    }
    static const char *const strings[] = {"",        "\"",     "\"\\", "\"\\u12", "\"\\u0000\"", "\"\\ud800\"",
                                          "\"\\x\"", "\"\n\"", "a\""};
    char room[64];
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        const char *text;
        size_t length;
        struct json_cursor cursor = {.at = strings[i], .end = strings[i] + strlen(strings[i]), .texts = room};
        assert_false(cursor_string(&cursor, &text, &length));
        assert_non_null(cursor.why);
    }
    char deep[100];
    memset(deep, '[', sizeof deep);
    struct json_cursor cursor = {.at = deep, .end = deep + sizeof deep, .texts = room};
    assert_false(cursor_skip(&cursor));
}

static void members_of_wrong_type_are_refused(void **state) {
    (void)state;
    static const char *const lines[] = {
        "{\"n\":1,\"t\":1,\"e\":\"trial\",\"trial\":7",
        "{\"n\":1,\"t\":1,\"e\":\"trial\",\"trial\":{\"index\":1.5}",
        "{\"n\":1,\"t\":1,\"e\":\"trial\",\"trial\":{\"index\":3000000000}",
        "{\"n\":1,\"t\":1,\"e\":\"trial\",\"trial\":{\"settings\":{\"lora_targets\":-1}}",
        "{\"n\":1,\"t\":1,\"e\":\"trial\",\"trial\":{\"train_key\":\"0123456789012345678901234567890123\"}",
        "{\"n\":1,\"t\":1,\"e\":\"record\",\"record\":{\"val\":{\"mse\":[1,2,3,4,5,6,7,8,9]}}",
        "{\"n\":1,\"t\":1,\"e\":\"record\",\"record\":{\"val\":{\"mse\":[1,2",
        "{\"n\":1,\"t\":1,\"e\":\"settle\",\"index\":1,\"flops\":1",
        "{\"n\":1,\"t\":1,\"e\":\"settle\",\"index\":1,\"index\":1,\"flops\":1,\"lost\":0",
        "{\"n\":1,\"t\":1,\"e\":\"no such kind\"",
        "{\"n\":1,\"t\":1",
        "{\"t\":1,\"e\":\"finished\",\"status\":0",
        "{\"n\":1,\"t\":1,\"e\":\"sweep\",\"sweep\":{\"schema\":\"2.0\"}",
        "{\"n\":1,\"t\":1,\"e\":\"sweep\",\"sweep\":{\"schema\":\"1.0\",\"flops_cap\":-1}",
        "{\"n\":1,\"t\":1,\"e\":\"sweep\",\"sweep\":{\"schema\":\"1.0\",\"channels\":[\"a\"],\"units\":[]}",
        "[1",
        "",
    };
    struct journal_scratch scratch = {0};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct journal_event event;
        struct lvs_error err = {0};
        assert_int_equal(journal_event_read(lines[i], strlen(lines[i]), &event, &scratch, &err), LVS_INPUT);
        assert_true(err.text[0]);
    }
    static const char later[] = "{\"n\":1,\"t\":1,\"new\":{\"a\":[1,null,\"x\",true]},\"e\":\"finished\",\"status\":0";
    struct journal_event event;
    struct lvs_error err = {0};
    assert_int_equal(journal_event_read(later, strlen(later), &event, &scratch, &err), LVS_OK); /* added since */
    free(scratch.texts);
}

/* ---- torn and damaged files ---- */

static void torn_tails_are_cut_off(void **state) {
    (void)state;
    size_t length, last;
    write_journal(2);
    char *bytes = journal_bytes(&length);
    for (last = length - 1; bytes[last - 1] != '\n';)
        last--;
    for (size_t cut = last + 1; cut < length; cut += cut + 8 < length && cut > last + 8 ? 7 : 1) {
        struct lvs_error err = {0};
        struct journal *journal;
        int32_t count;
        put_bytes(bytes, cut);
        assert_int_equal(replay(&count, &err), LVS_OK); /* reading leaves the tail where it is */
        assert_int_equal(count, 7);                     /* a record without its settlement goes too */
        count = 0;
        assert_int_equal(journal_open(path, count_event, &count, &journal, &err), LVS_OK);
        assert_int_equal(count, 7);
        append(journal, journal_event_make(JOURNAL_FINISHED));
        assert_int_equal(journal_close(journal, &err), LVS_OK);
        assert_int_equal(replay(&count, &err), LVS_OK);
        assert_int_equal(count, 8);
    }
    free(bytes);
}

static void blocks_of_zeros_are_cut_off(void **state) {
    (void)state;
    static const char zeros[4096], half[] = "{\"n\":10,\"ha";
    static char hole[7 + 512 + 8];
    memcpy(hole, "{\"n\":10", 7);
    memcpy(hole + 7 + 512, "\"}\n{\"n\":", 8);
    const struct {
        const char *bytes;
        size_t length;
    } tails[] = {{zeros, sizeof zeros}, {half, sizeof half - 1}, {hole, sizeof hole}, {"\n", 1}, {"\n\n\n", 3}};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        struct lvs_error err = {0};
        struct journal *journal;
        int32_t count = 0;
        unlink(path);
        write_journal(2);
        FILE *file = fopen(path, "ab");
        fwrite(tails[i].bytes, 1, tails[i].length, file);
        fclose(file);
        assert_int_equal(journal_open(path, count_event, &count, &journal, &err), LVS_OK);
        assert_int_equal(count, 9);
        append(journal, journal_event_make(JOURNAL_FINISHED));
        assert_int_equal(journal_close(journal, &err), LVS_OK);
        assert_int_equal(replay(&count, &err), LVS_OK);
        assert_int_equal(count, 10);
    }
}

static void damage_in_the_middle_is_refused_with_its_line(void **state) {
    (void)state;
    size_t length;
    write_journal(2);
    char *bytes = journal_bytes(&length), *changed = malloc(length), *third = bytes, wanted[64];
    for (int i = 0; i < 2; i++)
        third = strchr(third, '\n') + 1;
    size_t from = (size_t)(third - bytes), to = (size_t)(strchr(third, '\n') - bytes) + 1;
    for (size_t at = from; at < to; at++) {
        struct lvs_error err = {0};
        struct journal *journal;
        int32_t count;
        memcpy(changed, bytes, length);
        changed[at] = changed[at] == '\n' ? ' ' : at % 5 ? (char)(changed[at] ^ 1) : '\n';
        put_bytes(changed, length);
        assert_int_equal(replay(&count, &err), LVS_INPUT);
        snprintf(wanted, sizeof wanted, "%s:3:", RESULTS_JOURNAL);
        if (!strstr(err.text, wanted)) fail_msg("byte %zu: %s", at, err.text);
        assert_int_equal(journal_open(path, NULL, NULL, &journal, &err), LVS_INPUT);
        assert_null(journal);
        size_t left;
        char *after = journal_bytes(&left);
        assert_int_equal(left, length);
        assert_memory_equal(after, changed, length); /* not touched */
        free(after);
    }
    free(changed);
    free(bytes);
}

/* Refused for writing, told to readers, left as it is; *line is where. */
static void require_damaged_end(int64_t line, int32_t events) {
    struct lvs_error err = {0};
    struct journal *journal;
    struct journal_end end;
    struct results results;
    char wanted[64], cure[64];
    int32_t count = 0;
    size_t length, left;
    char *bytes = journal_bytes(&length);
    snprintf(wanted, sizeof wanted, "%s:%lld: ", RESULTS_JOURNAL, (long long)line);
    snprintf(cure, sizeof cure, "sed -i '%lld,$d' %.20s", (long long)line, path);
    assert_int_equal(journal_open(path, NULL, NULL, &journal, &err), LVS_INPUT);
    if (!strstr(err.text, wanted) || !strstr(err.text, cure)) fail_msg("line %lld: %s", (long long)line, err.text);
    assert_int_equal(journal_replay(path, count_event, &count, &end, &err), LVS_OK);
    assert_int_equal(count, events);
    assert_int_equal(end.damaged_line, line);
    assert_true(end.good < length);
    assert_int_equal(results_read_whole(folder, &results, &err), LVS_INPUT);
    assert_int_equal(results_read(folder, &results, &err), LVS_OK);
    assert_int_equal(results.n_events, events);
    results_free(&results);
    char *after = journal_bytes(&left);
    assert_int_equal(left, length);
    assert_memory_equal(after, bytes, length);
    free(after);
    free(bytes);
}

/* Any byte of the last line, its end and the end of the line before: the settlement of a trial is no torn write. */
static void damage_at_the_end_is_refused_with_its_line(void **state) {
    (void)state;
    size_t length, last;
    write_journal(2);
    char *bytes = journal_bytes(&length), *changed = malloc(length);
    for (last = length - 1; bytes[last - 1] != '\n';)
        last--;
    for (size_t at = last - 1; at < length; at++) {
        memcpy(changed, bytes, length);
        changed[at] = changed[at] == '\n' ? ' ' : at % 5 ? (char)(changed[at] ^ 1) : '\n';
        put_bytes(changed, length);
        require_damaged_end(at < last ? 8 : 9, 7);
    }
    free(changed);
    free(bytes);
}

static void lines_that_were_added_are_refused(void **state) {
    (void)state;
    static const char *const tails[] = {"{\"n\":10,\"half\n", "x\n", "{\"n\":10,\"half\n\n{\"n\":11,\"t\"\nx"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        unlink(path);
        write_journal(2);
        FILE *file = fopen(path, "ab");
        fputs(tails[i], file);
        fclose(file);
        require_damaged_end(10, 9);
    }
}

static void missing_and_doubled_lines_are_refused(void **state) {
    (void)state;
    size_t length;
    write_journal(2);
    char *bytes = journal_bytes(&length), *changed = malloc(2 * length);
    struct lvs_error err = {0};
    int32_t count;
    size_t head = strcspn(bytes, "\n") + 1, line = strcspn(bytes + head, "\n") + 1;
    memcpy(changed, bytes, head);
    memcpy(changed + head, bytes + head + line, length - head - line);
    put_bytes(changed, length - line);
    assert_int_equal(replay(&count, &err), LVS_INPUT);
    assert_non_null(strstr(err.text, ":2: the line carries number 3"));
    memcpy(changed, bytes, head + line);
    memcpy(changed + head + line, bytes + head, length - head);
    put_bytes(changed, length + line);
    assert_int_equal(replay(&count, &err), LVS_INPUT);
    assert_non_null(strstr(err.text, ":3: the line carries number 2"));
    free(changed);
    free(bytes);
}

static void files_that_are_none(void **state) {
    (void)state;
    struct lvs_error err = {0};
    struct journal *journal;
    struct results results;
    int32_t count;
    assert_int_equal(replay(&count, &err), LVS_INPUT);
    assert_int_equal(results_read(folder, &results, &err), LVS_INPUT);
    assert_non_null(strstr(err.text, "OUTPUT"));
    assert_int_equal(journal_open(folder, NULL, NULL, &journal, &err), LVS_OUTPUT);
    assert_int_equal(journal_open("/dev/zero", NULL, NULL, &journal, &err), LVS_OUTPUT);
    put_bytes("", 0);
    assert_int_equal(replay(&count, &err), LVS_OK);
    assert_int_equal(count, 0);
    assert_int_equal(results_read(folder, &results, &err), LVS_OK);
    assert_int_equal(results.n_rows, 0);
    results_free(&results);
}

/* A write that stops half-way leaves no half line, and the events stay queued. */
static void failed_writes_leave_whole_lines(void **state) {
    (void)state;
    struct lvs_error err = {0};
    struct journal *journal;
    struct rlimit limit, small;
    int32_t count;
    write_journal(2);
    size_t length, after;
    free(journal_bytes(&length));
    assert_int_equal(journal_open(path, NULL, NULL, &journal, &err), LVS_OK);
    for (int i = 0; i < 20; i++)
        append(journal, journal_event_make(JOURNAL_INTERRUPTED));
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    small = limit;
    small.rlim_cur = length + 100;
    setrlimit(RLIMIT_FSIZE, &small);
    enum lvs_status full = journal_flush(journal, &err), again = journal_flush(journal, &err);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(full, LVS_OUTPUT);
    assert_int_equal(again, LVS_OUTPUT);
    free(journal_bytes(&after));
    assert_int_equal(after, length);
    assert_int_equal(journal_flush(journal, &err), LVS_OK);
    assert_int_equal(journal_close(journal, &err), LVS_OK);
    assert_int_equal(replay(&count, &err), LVS_OK);
    assert_int_equal(count, 9 + 20);
}

/* Written before members were added: they read as not measured, settings as what was done then. */
static void older_journals_are_read(void **state) {
    (void)state;
    struct lvs_error err = {0};
    struct results results;
    char *bytes;
    size_t length;
    assert_int_equal(
        file_read(LVS_SOURCE_DIR "/tests/fuzz/corpus/journal/as_it_stands", 1 << 20, &bytes, &length, &err), LVS_OK);
    assert_null(strstr(bytes, "_channel_median"));
    results_init(&results, "out");
    if (journal_replay_bytes("older", bytes + 1, length - 1, results_apply, &results, NULL, &err) != LVS_OK)
        fail_msg("%s", err.text);
    assert_true(results.n_rows > 0);
    const struct result_row *row = &results.rows[0];
    assert_true(row->record.val.mae_median == 0.0625);
    assert_true(isnan(row->record.val.mse_median) && isnan(row->record.val.r2_median));
    assert_true(isnan(row->record.val.mse_channel_median[0]) && isnan(row->record.test.mae_channel_median[1]));
    assert_int_equal(row->trial.settings.end, END_STOP);
    assert_int_equal(row->trial.settings.partial, PARTIAL_COUNT);
    results_free(&results);
    free(bytes);
}

static void replay_gives_the_same_table(void **state) {
    (void)state;
    struct lvs_error err = {0};
    struct results results;
    write_journal(12);
    assert_int_equal(results_read(folder, &results, &err), LVS_OK);
    assert_int_equal(results.n_rows, 12);
    assert_string_equal(results.stage_name[1], "final");
    assert_true(results.ledger.capped && results.ledger.cap == 100000000000000000);
    assert_true(results.ledger.spent == 60 && results.ledger.reserved == 0);
    for (int32_t i = 0; i < 12; i++) {
        struct trial trial;
        struct record record;
        sample_trial(i, 0, &trial);
        sample_record(&trial, &record);
        assert_memory_equal(&results.rows[i].trial, &trial, sizeof trial);
        assert_memory_equal(&results.rows[i].record, &record, sizeof record);
        assert_int_equal(results.rows[i].stages, 1);
        assert_int_equal(results.rows[i].charged, 5);
        assert_int_equal(results_find(&results, trial.train_key, trial.eval_key), i);
        assert_int_equal(results_find(&results, trial.train_key, NULL), i);
    }
    assert_int_equal(results_find(&results, "no such key", NULL), -1);
    results_free(&results);
}

int main(void) {
    setenv("LVSWEEP_LOG", "error", 1); /* torn ends are warned of */
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(every_kind_comes_back),
        cmocka_unit_test(doubles_come_back_to_the_bit),
        cmocka_unit_test(bytes_that_are_no_text_become_text),
        cmocka_unit_test(wrong_json_is_refused),
        cmocka_unit_test(members_of_wrong_type_are_refused),
        WITH_FOLDER(torn_tails_are_cut_off),
        WITH_FOLDER(blocks_of_zeros_are_cut_off),
        WITH_FOLDER(damage_in_the_middle_is_refused_with_its_line),
        WITH_FOLDER(damage_at_the_end_is_refused_with_its_line),
        WITH_FOLDER(lines_that_were_added_are_refused),
        WITH_FOLDER(missing_and_doubled_lines_are_refused),
        WITH_FOLDER(files_that_are_none),
        WITH_FOLDER(failed_writes_leave_whole_lines),
        WITH_FOLDER(replay_gives_the_same_table),
        cmocka_unit_test(older_journals_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
