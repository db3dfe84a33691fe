/* What `lvsweep watch` shows of made-up sweeps: workers, speeds, time left; lines that fit a terminal and cannot
 * command it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "lvsweep/watch.h"
#include "report_fixture.h"
#include "unit/own_folder.h"

static char folder[LVS_PATH_MAX];

static void read_kind(const char *kind, struct watch *out) {
    char output[LVS_PATH_MAX + 32];
    struct lvs_error err = {0};
    snprintf(output, sizeof output, "%s/%s", folder, kind);
    if (!file_exists(output)) assert_true(report_fixture_write(kind, output));
    if (watch_read(output, out, &err) != LVS_OK) fail_msg("%s", err.text);
}

static void test_no_journal(void **state) {
    (void)state;
    struct watch watch;
    struct lvs_error err = {0};
    assert_int_equal(watch_read("/nonexistent", &watch, &err), LVS_INPUT);
    assert_non_null(strstr(err.text, "/nonexistent: does not exist; give the OUTPUT folder"));
    assert_int_equal(watch_read("/", &watch, &err), LVS_INPUT);
    assert_non_null(strstr(err.text, "/: no journal.jsonl in it; give the OUTPUT folder"));
}

static void test_running(void **state) {
    (void)state;
    struct watch watch;
    read_kind("running", &watch);
    assert_int_equal(watch.n_workers, 5);
    for (int32_t i = 0; i < 5; i++) {
        const struct watch_worker *worker = &watch.workers[i];
        assert_int_equal(worker->worker, i + 1);
        assert_true(worker->trial >= 8 && worker->trial < 13);
        assert_int_equal(worker->step, 360);
        assert_int_equal(worker->n_steps, 600);
        assert_true(worker->steps_per_second > 15 && worker->steps_per_second < 25);
        assert_true(worker->loss > 0.3 && worker->loss < 3);
    }
    assert_int_equal(watch.count[TRIAL_RUNNING], 5);
    assert_int_equal(watch.count[TRIAL_PENDING], 5);
    double running = 5 * 360 * (double)watch.results.rows[8].trial.price.step;
    double spent = (double)watch.results.ledger.spent, reserved = (double)watch.results.ledger.reserved;
    assert_true(fabs(watch.flops_done - (spent + running)) <= 1e-12 * spent);
    assert_true(fabs(watch.flops_done + watch.flops_open - (spent + reserved)) <= 1e-12 * spent);
    assert_true(watch.eta > 10 && watch.eta < 300);
    assert_true(watch.eta_error > 0 && watch.eta_error < watch.eta);
    watch_free(&watch);
}

/* ---- a trial that goes on from a rung ---- */

static void put(struct journal *journal, struct journal_event event) {
    struct lvs_error err = {0};
    event.time = 1000;
    assert_int_equal(journal_append(journal, &event, &err), LVS_OK);
}

static void put_of(struct journal *journal, enum journal_kind kind, int32_t step, int64_t flops) {
    struct journal_event event = journal_event_make(kind);
    event.index = event.worker = event.status = 0;
    event.attempt = 1;
    event.step = step;
    event.value = 1;
    event.flops = flops;
    event.host = event.device = event.text = "";
    event.lost = 0;
    put(journal, event);
}

/* 100 steps of 7 FLOPs; paused at step 10 and charged for that, at step 40 by now, with all that is left reserved. */
static void put_promoted_trial(struct journal *journal) {
    static const char *const names[] = {"search"};
    struct trial trial = {.parent = -1, .name = "t", .train_key = "k", .eval_key = "e"};
    struct record record;
    struct journal_sweep sweep = {
        .n_stages = 1, .stage_name = names, .n_channel = 1, .channel_name = names, .channel_unit = names};
    struct journal_event begin = journal_event_make(JOURNAL_SWEEP), made = journal_event_make(JOURNAL_TRIAL),
                         came = journal_event_make(JOURNAL_RECORD);
    trial.settings.steps.value = 100;
    trial.price = (struct trial_price){.step = 7, .training = 700, .counted = 700};
    record_init(&record, &trial);
    record.steps_done = 10;
    record.flops_training = 70;
    begin.sweep = &sweep;
    made.trial = &trial;
    came.record = &record;
    put(journal, begin);
    put(journal, made);
    put_of(journal, JOURNAL_ADMITTED, 0, 700);
    put_of(journal, JOURNAL_ASSIGNED, 0, 0);
    put(journal, came);
    put_of(journal, JOURNAL_RUNG, 10, 70);
    put_of(journal, JOURNAL_SETTLE, 0, 70);
    put_of(journal, JOURNAL_ADMITTED, 0, 630);
    put_of(journal, JOURNAL_ASSIGNED, 0, 0);
    put_of(journal, JOURNAL_PROGRESS, 40, 0);
}

static void write_promoted(const char *name, char path[LVS_PATH_MAX + 64]) {
    char output[LVS_PATH_MAX + 32];
    struct journal *journal;
    struct lvs_error err = {0};
    snprintf(output, sizeof output, "%s/%s", folder, name);
    snprintf(path, LVS_PATH_MAX + 64, "%s/" RESULTS_JOURNAL, output);
    assert_int_equal(file_make_folder(output, &err), LVS_OK);
    assert_int_equal(journal_open(path, NULL, NULL, &journal, &err), LVS_OK);
    put_promoted_trial(journal);
    assert_int_equal(journal_close(journal, &err), LVS_OK);
}

static void test_steps_before_a_rung_count_once(void **state) {
    (void)state;
    char path[LVS_PATH_MAX + 64];
    struct watch watch;
    write_promoted("promoted", path);
    read_kind("promoted", &watch);
    assert_int_equal(watch.workers[0].step, 40);
    assert_true(watch.flops_done == 40 * 7);
    assert_true(watch.flops_open == 60 * 7);
    watch_free(&watch);
}

/* What is left out of the journal is told in the table. */
static void test_damage_is_shown(void **state) {
    (void)state;
    struct watch watch;
    struct strbuf out;
    read_kind("running", &watch);
    strbuf_init(&out);
    watch_write_table(&watch, watch.results.changed, 0, 0, &out);
    assert_int_equal(watch.damaged_line, 0);
    assert_null(strstr(out.text, "damaged"));
    watch_free(&watch);
    char path[LVS_PATH_MAX + 64], *bytes;
    struct lvs_error err = {0};
    size_t length;
    write_promoted("damaged", path);
    assert_int_equal(file_read(path, 1 << 20, &bytes, &length, &err), LVS_OK);
    bytes[length - 30] ^= 1;
    assert_int_equal(file_write_whole(path, bytes, length, &err), LVS_OK);
    free(bytes);
    read_kind("damaged", &watch);
    watch_write_table(&watch, watch.results.changed, 0, 0, &out);
    assert_int_equal(watch.damaged_line, 10);
    assert_non_null(strstr(out.text, "journal  damaged at line 10, which is left out\n"));
    watch_free(&watch);
    strbuf_free(&out);
}

static void test_finished(void **state) {
    (void)state;
    struct watch watch;
    read_kind("full", &watch);
    assert_int_equal(watch.results.state, SWEEP_STATE_FINISHED);
    assert_int_equal(watch.best, 21);
    assert_true(isnan(watch.eta));
    for (int32_t i = 0; i < watch.n_workers; i++)
        assert_int_equal(watch.workers[i].trial, -1);
    watch_free(&watch);
}

/* Characters, not bytes. */
static int32_t longest_line(const char *text, int32_t *lines) {
    int32_t longest = 0, column = 0;
    *lines = 0;
    for (; *text; text++) {
        if (*text == '\n') {
            (*lines)++;
            column = 0;
        } else if (((unsigned char)*text & 0xC0) != 0x80 && ++column > longest) {
            longest = column;
        }
    }
    return longest;
}

static void test_table_fits(void **state) {
    (void)state;
    static const char *const kinds[] = {"running", "full", "broken", "empty", "hostile"};
    static const int32_t sizes[][2] = {{80, 24}, {40, 10}, {200, 60}, {20, 5}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            struct watch watch;
            struct strbuf out;
            int32_t lines;
            read_kind(kinds[k], &watch);
            strbuf_init(&out);
            watch_write_table(&watch, watch.results.changed + 2, sizes[s][0], sizes[s][1], &out);
            assert_true(longest_line(out.text, &lines) <= sizes[s][0]);
            assert_true(lines <= sizes[s][1]);
            strbuf_free(&out);
            watch_free(&watch);
        }
}

static void test_terminal_is_safe(void **state) {
    (void)state;
    struct watch watch;
    struct strbuf out;
    read_kind("hostile", &watch);
    lvs_copy(watch.results.name, sizeof watch.results.name,
             "a\x1b]0;x\x07\xc2\x9b"
             "31m\xff");
    strbuf_init(&out);
    watch_write_table(&watch, watch.results.changed, 0, 0, &out);
    watch_write_changes(NULL, &watch, &out);
    watch_write_line(&watch, &out);
    assert_null(strchr(out.text, '\x1b'));
    assert_null(strchr(out.text, '\x07'));
    assert_null(strstr(out.text, "\xc2\x9b"));
    assert_non_null(strstr(out.text, "a?]0;x??31m"));
    strbuf_free(&out);
    watch_free(&watch);
}

static void test_changes(void **state) {
    (void)state;
    struct watch before, watch;
    struct strbuf out;
    int32_t lines;
    read_kind("running", &before);
    read_kind("running", &watch);
    strbuf_init(&out);
    strbuf_add(&out, "");
    watch_write_changes(&before, &watch, &out);
    assert_string_equal(out.text, "");
    watch_write_changes(NULL, &watch, &out);
    longest_line(out.text, &lines);
    assert_int_equal(lines, 13); /* every trial but the five pending ones */
    before.results.rows[8].record.status = TRIAL_PENDING;
    strbuf_clear(&out);
    watch_write_changes(&before, &watch, &out);
    assert_non_null(strstr(out.text, "running"));
    assert_non_null(strstr(out.text, watch.results.rows[8].trial.name));
    strbuf_free(&out);
    watch_free(&before);
    watch_free(&watch);
}

/* Step and loss of every worker at work: in the table, in JSON, of the first few in the line. */
static void test_losses(void **state) {
    (void)state;
    struct watch watch;
    struct strbuf table, line, json;
    read_kind("running", &watch);
    strbuf_init(&table);
    strbuf_init(&line);
    strbuf_init(&json);
    watch.workers[1].loss = 1.2345678;
    watch.workers[2].loss = NAN;
    watch_write_table(&watch, watch.results.changed, 0, 0, &table);
    watch_write_line(&watch, &line);
    watch_write_json(&watch, watch.results.changed, &json);
    assert_non_null(strstr(table.text, "loss"));
    assert_non_null(strstr(table.text, " 1.235 "));
    assert_non_null(strstr(line.text, "; rank 2 step 360/600 loss 1.235; rank 3 step 360/600; rank 4 "));
    assert_null(strstr(line.text, "rank 5 "));
    assert_non_null(strstr(line.text, "; ranks at work beside these: 1"));
    json_t *object = json_loads(json.text, 0, NULL), *workers = json_object_get(object, "workers");
    assert_true(json_real_value(json_object_get(json_array_get(workers, 1), "loss")) == 1.2345678);
    assert_true(json_is_null(json_object_get(json_array_get(workers, 2), "loss")));
    json_decref(object);
    strbuf_free(&table);
    strbuf_free(&line);
    strbuf_free(&json);
    watch_free(&watch);
}

static void test_json(void **state) {
    (void)state;
    static const char *const kinds[] = {"running", "full", "empty", "hostile"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct watch watch;
        struct strbuf out;
        int32_t lines;
        read_kind(kinds[k], &watch);
        strbuf_init(&out);
        watch_write_json(&watch, watch.results.changed + 1, &out);
        longest_line(out.text, &lines);
        assert_int_equal(lines, 1);
        json_t *object = json_loads(out.text, 0, NULL);
        assert_non_null(object);
        assert_int_equal(json_array_size(json_object_get(object, "workers")), watch.n_workers);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(object, "trials"), "done")),
                         watch.count[TRIAL_DONE]);
        json_decref(object);
        strbuf_free(&out);
        watch_free(&watch);
    }
}

static int make_folder(void **state) {
    (void)state;
    own_folder_make(folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    own_folder_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_journal),
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_finished),
        cmocka_unit_test(test_table_fits),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_terminal_is_safe),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_steps_before_a_rung_count_once),
        cmocka_unit_test(test_damage_is_shown),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
