/* What a rank or trainer must know before its first assignment, as one block of bytes. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "sweep_internal.h"

const char *message_name(int kind) {
    static const char *const names[MESSAGE_KIND_COUNT] = {
        [MESSAGE_SETUP] = "setup",       [MESSAGE_ASSIGNMENT] = "assignment", [MESSAGE_STOP] = "stop",
        [MESSAGE_END] = "end",           [MESSAGE_HELLO] = "hello",           [MESSAGE_READY] = "ready",
        [MESSAGE_PROGRESS] = "progress", [MESSAGE_RECORD] = "record",         [MESSAGE_REFUSED] = "refused",
        [MESSAGE_BASELINE] = "baseline",
    };
    return kind > 0 && kind < MESSAGE_KIND_COUNT ? names[kind] : "unknown";
}

static void add_text(struct strbuf *out, const char *text) {
    strbuf_add_bytes(out, text, strlen(text) + 1);
}

void setup_pack(const struct setup *setup, struct strbuf *out) {
    strbuf_add_bytes(out, (const char *)&setup->head, sizeof setup->head);
    add_text(out, setup->text);
    add_text(out, setup->path);
    add_text(out, setup->folder);
    add_text(out, setup->output);
    for (int32_t i = 0; i < setup->head.n_sets; i++)
        add_text(out, setup->sets[i]);
}

static const char *next_text(const char **cursor, const char *end) {
    const char *text = *cursor;
    const char *stop = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;
    if (!stop) return NULL;
    *cursor = stop + 1;
    return text;
}

enum lvs_status setup_unpack(const char *payload, size_t length, struct setup *out, struct lvs_error *err) {
    if (length < sizeof out->head) return lvs_fail(err, LVS_BUG, "setup message of %zu bytes", length);
    memcpy(&out->head, payload, sizeof out->head);
    const char *cursor = payload + sizeof out->head, *end = payload + length;
    out->text = next_text(&cursor, end);
    out->path = next_text(&cursor, end);
    out->folder = next_text(&cursor, end);
    out->output = next_text(&cursor, end);
    const char **sets = lvs_calloc((size_t)out->head.n_sets, sizeof *sets);
    bool whole = out->text && out->path && out->folder && out->output;
    for (int32_t i = 0; i < out->head.n_sets; i++) {
        sets[i] = next_text(&cursor, end);
        whole = whole && sets[i];
    }
    out->sets = sets;
    if (whole) return LVS_OK;
    free(sets);
    out->sets = NULL;
    return lvs_fail(err, LVS_BUG, "setup message is cut short");
}

size_t error_bytes(const struct lvs_error *err) {
    return offsetof(struct lvs_error, text) + strlen(err->text) + 1;
}

void error_unpack(const char *payload, size_t length, struct lvs_error *out) {
    *out = (struct lvs_error){.status = LVS_BUG};
    if (length <= offsetof(struct lvs_error, text) || length > sizeof *out || payload[length - 1] != '\0') return;
    memcpy(out, payload, length);
}

enum lvs_status setup_parse_config(const struct setup *setup, struct config **out, struct lvs_error *err) {
    struct config_source source = {.path = setup->path,
                                   .text = setup->text,
                                   .folder = setup->folder,
                                   .sets = setup->sets,
                                   .n_sets = setup->head.n_sets};
    LVS_TRY(config_parse(&source, out, err));
    lvs_copy((*out)->output, sizeof(*out)->output, setup->output);
    return LVS_OK;
}

size_t assignment_bytes(const struct assignment *assignment) {
    return offsetof(struct assignment, trials) + (size_t)assignment->n_trials * sizeof assignment->trials[0];
}
