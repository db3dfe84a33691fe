/* Every byte of a journal that holds every kind of event, changed in turn to several others: the reader gives only
 * events as they were written, up to the damage, and the damaged line is named. */
#include "sample.h"
#include "unit/own_folder.h"
#include "results_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char folder[LVS_PATH_MAX], path[LVS_PATH_MAX];

/* One line of each kind. */
static void write_every_kind(void) {
    struct lvs_error err = {0};
    struct journal *journal;
    struct trial trial;
    struct record record;
    struct baseline baseline;
    struct journal_sweep sweep;
    sample_trial(0, 0, &trial);
    sample_record(&trial, &record);
    baseline_init(&baseline, BASELINE_MEAN);
    baseline.val.mae[0] = 1.0 / 3;
    assert_int_equal(journal_open(path, NULL, NULL, &journal, &err), LVS_OK);
    for (int kind = 0; kind < JOURNAL_KIND_COUNT; kind++) {
        struct journal_event event =
            kind == JOURNAL_SWEEP ? sample_sweep_event(1e17, &sweep) : journal_event_make((enum journal_kind)kind);
        event.index = event.stage = 0;
        event.worker = event.attempt = event.step = event.status = 1;
        event.flops = event.lost = 12345;
        event.value = 0.5;
        event.host = event.device = event.name = event.text = "täxt";
        event.trial = &trial;
        event.record = &record;
        event.baseline = &baseline;
        assert_int_equal(journal_append(journal, &event, &err), LVS_OK);
    }
    assert_int_equal(journal_close(journal, &err), LVS_OK);
}

/* Where the reader is in the journal as it was written. */
struct written {
    const char *at; /* the next line */
    struct strbuf line;
};

static enum lvs_status is_as_written(void *context, const struct journal_event *event, struct lvs_error *err) {
    struct written *written = context;
    static const char check[] = ",\"crc\":\"";
    (void)err;
    strbuf_clear(&written->line);
    journal_event_write(event, &written->line);
    assert_memory_equal(written->at, written->line.text, written->line.length);
    assert_memory_equal(written->at + written->line.length, check, sizeof check - 1);
    written->at = strchr(written->at, '\n') + 1;
    return LVS_OK;
}

/* changed[length] differs from the journal `bytes` in the byte `at` alone. */
static void read_changed(const char *bytes, const char *changed, size_t length, size_t at, struct written *written) {
    struct lvs_error err = {0};
    struct journal_end end;
    size_t begin = at;
    int64_t line = 1;
    char place[48];
    while (begin > 0 && bytes[begin - 1] != '\n')
        begin--;
    for (size_t i = 0; i < at; i++)
        line += bytes[i] == '\n';
    snprintf(place, sizeof place, RESULTS_JOURNAL ":%lld: ", (long long)line);
    written->at = bytes;
    assert_int_equal(journal_replay_bytes(path, changed, length, is_as_written, written, NULL, &err), LVS_INPUT);
    assert_true(written->at <= bytes + begin);
    if (!strstr(err.text, place)) fail_msg("byte %zu, line %lld: %s", at, (long long)line, err.text);
    /* A reader goes on only where no whole line follows, and is told. */
    const char *rest = memchr(bytes + at, '\n', length - at), *last = bytes + length - 1;
    bool follows = rest < last && (at < (size_t)(rest - bytes) || strchr(rest + 1, '\n') < last);
    written->at = bytes;
    enum lvs_status status = journal_replay_bytes(path, changed, length, is_as_written, written, &end, &err);
    assert_int_equal(status, follows ? LVS_INPUT : LVS_OK);
    if (follows) return;
    assert_true(written->at <= bytes + begin && end.good <= begin);
    assert_int_equal(end.damaged_line, line);
}

static void no_changed_byte_is_read_as_written(void **state) {
    (void)state;
    static const char others[] = "\n\0 \"0"; /* beside flips: they end a line, a text or a number, or are one */
    struct lvs_error err = {0};
    struct written written;
    size_t length;
    char *bytes;
    write_every_kind();
    assert_int_equal(file_read(path, 1 << 24, &bytes, &length, &err), LVS_OK);
    assert_int_equal(journal_replay_bytes(path, bytes, length, NULL, NULL, NULL, &err), LVS_OK);
    char *changed = malloc(length + 1);
    memcpy(changed, bytes, length + 1);
    strbuf_init(&written.line);
    for (size_t at = 0; at < length; at++) {
        for (int bit = 0; bit <= 8; bit++) {
            changed[at] = (char)(bytes[at] ^ (bit < 8 ? 1 << bit : 0xff));
            read_changed(bytes, changed, length, at, &written);
        }
        for (size_t i = 0; i < sizeof others - 1; i++) {
            changed[at] = others[i];
            if (changed[at] != bytes[at]) read_changed(bytes, changed, length, at, &written);
        }
        changed[at] = bytes[at];
    }
    strbuf_free(&written.line);
    free(changed);
    free(bytes);
}

int main(void) {
    struct lvs_error err;
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_changed_byte_is_read_as_written)};
    setenv("LVSWEEP_LOG", "error", 1);
    own_folder_make(folder);
    if (file_join(path, folder, RESULTS_JOURNAL, &err) != LVS_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    own_folder_remove(folder);
    return failed;
}
