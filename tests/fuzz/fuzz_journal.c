/* Fuzz target of the journal. First byte 'r': the rest is a file as it stands. Else every line after it is the inside
 * of an event ("e":"finished","status":0) that gets its number, time and checksum here, so that the reader of members
 * and the reducer are reached. What was accepted must keep the table's invariants and be exportable. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "lvsweep/results.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds) {
    if (!holds) abort();
}

static void add_line(struct strbuf *out, const char *line, size_t length, int number) {
    size_t start = out->length;
    strbuf_printf(out, "{\"n\":%d,\"t\":1,", number);
    strbuf_add_bytes(out, line, length);
    strbuf_printf(out, ",\"crc\":\"%016llx\"}\n", (unsigned long long)XXH64(out->text + start, out->length - start, 0));
}

static void add_lines(struct strbuf *out, const char *bytes, size_t size) {
    int number = 0;
    while (size > 0) {
        const char *end = memchr(bytes, '\n', size);
        size_t length = end ? (size_t)(end - bytes) : size;
        add_line(out, bytes, length, ++number);
        bytes += length + (end != NULL);
        size -= length + (end != NULL);
    }
}

static void check_table(const struct results *results) {
    __int128 reserved = 0, charged = 0;
    for (int32_t i = 0; i < results->n_rows; i++) {
        const struct result_row *row = &results->rows[i];
        require(row->trial.index == i && row->record.status >= 0 && row->record.status < TRIAL_STATUS_COUNT);
        require(row->charged >= 0 && row->reserved >= 0);
        reserved += row->reserved;
        charged += row->charged;
    }
    require(reserved == results->ledger.reserved && charged <= results->ledger.spent);
    struct strbuf out;
    strbuf_init(&out);
    export_csv(results, &out);
    export_json(results, &out);
    results_write_table(results, NULL, 100, &out);
    require(results_best(results, -1, "val_loss").index < results->n_rows);
    strbuf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct strbuf journal;
    struct results results;
    struct lvs_error err = {.text = ""};
    struct journal_end end;
    if (size == 0) return 0;
    setenv("LVSWEEP_LOG", "error", 1);
    strbuf_init(&journal);
    if (data[0] == 'r')
        strbuf_add_bytes(&journal, (const char *)data + 1, size - 1);
    else
        add_lines(&journal, (const char *)data + 1, size - 1);
    results_init(&results, "out");
    enum lvs_status status = journal_replay_bytes("journal", journal.text ? journal.text : "", journal.length,
                                                  results_apply, &results, &end, &err);
    require(status == LVS_OK || (status == LVS_INPUT && err.text[0]));
    require(status != LVS_OK || end.good <= journal.length);
    check_table(&results);
    results_free(&results);
    strbuf_free(&journal);
    return 0;
}
