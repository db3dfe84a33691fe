/* The list of everything that is wrong with an INI, told at once and in the order of its lines. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config_internal.h"

void errors_free(struct config_errors *errors) {
    for (int i = 0; i < errors->n; i++)
        free(errors->items[i].text);
    free(errors->items);
    errors->items = NULL;
    errors->n = 0;
}

void errors_add(struct config_errors *errors, int line, const char *format, ...) {
    char text[sizeof((struct lvs_error *)0)->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    struct strbuf whole;
    strbuf_init(&whole);
    if (line == 0)
        strbuf_printf(&whole, "%s: %s", errors->path, text);
    else if (line == INT32_MAX)
        strbuf_printf(&whole, "--set %s", text);
    else
        strbuf_printf(&whole, "%s:%d: %s", errors->path, line, text);
    for (int i = 0; i < errors->n; i++)
        if (strcmp(errors->items[i].text, whole.text) ==
            0) { /* the same fault seen again, at another point of a grid */
            strbuf_free(&whole);
            return;
        }
    errors->items = lvs_realloc(errors->items, (size_t)(errors->n + 1) * sizeof *errors->items);
    errors->items[errors->n] = (struct config_error_item){line, errors->n, strbuf_take(&whole)};
    errors->n++;
}

bool errors_said(const struct config_errors *errors, const char *one, const char *other) {
    for (int i = 0; i < errors->n; i++)
        if (strstr(errors->items[i].text, one) && strstr(errors->items[i].text, other)) return true;
    return false;
}

static int compare_lines(const void *left, const void *right) {
    const struct config_error_item *a = left, *b = right;
    if (a->line != b->line) return a->line < b->line ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

enum lvs_status errors_report(struct config_errors *errors, struct lvs_error *err) {
    char closing[96], more[64] = "";
    struct strbuf text;
    strbuf_init(&text);
    qsort(errors->items, (size_t)errors->n, sizeof *errors->items, compare_lines);
    snprintf(closing, sizeof closing, "%d error%s, nothing was started (exit 2)", errors->n, errors->n == 1 ? "" : "s");
    size_t room = sizeof err->text - strlen(closing) - sizeof more;
    int shown = 0;
    for (; shown < errors->n; shown++) {
        const char *item = errors->items[shown].text;
        if (text.length + strlen(item) + 1 > room && shown > 0) break;
        strbuf_printf(&text, "%.*s\n", (int)room - 1, item);
    }
    if (shown < errors->n) snprintf(more, sizeof more, "… and %d more\n", errors->n - shown);
    lvs_fail(err, LVS_USAGE, "%s%s%s", text.text, more, closing);
    strbuf_free(&text);
    return LVS_USAGE;
}
