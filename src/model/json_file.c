/* JSON files of a model folder: read whole, parsed strictly, refused with line and column.
 * Knows nothing of what the keys mean. */
#include <stdlib.h>

#include "model_internal.h"

enum lvs_status json_file_read(const char *path, size_t limit, json_t **out, struct lvs_error *err) {
    char *bytes;
    size_t length;
    LVS_TRY(file_read(path, limit, &bytes, &length, err));
    json_error_t where;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &where);
    free(bytes);
    char text[PRINTABLE_MAX];
    if (!root)
        return lvs_fail(err, LVS_INPUT, "%s:%d:%d: not valid JSON: %s", path, where.line, where.column,
                        json_printable(where.text, text));
    if (!json_is_object(root)) {
        json_decref(root);
        return lvs_fail(err, LVS_INPUT, "%s: a JSON object {…} is expected", path);
    }
    *out = root;
    return LVS_OK;
}

const char *json_printable(const char *text, char out[PRINTABLE_MAX]) {
    size_t used = 0;
    for (; text[used] != '\0' && used < PRINTABLE_MAX - 8; used++) {
        unsigned char c = (unsigned char)text[used];
        out[used] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    /* never end inside a UTF-8 sequence */
    if (text[used] != '\0') {
        while (used > 0 && ((unsigned char)out[used - 1] & 0xC0) == 0x80)
            used--;
        if (used > 0 && (unsigned char)out[used - 1] >= 0xC0) used--;
        lvs_copy(out + used, PRINTABLE_MAX - used, "…");
        return out;
    }
    out[used] = '\0';
    return out;
}
