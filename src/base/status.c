/* Error texts in the caller's box. */
#include "lvsweep/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum lvs_status lvs_fail(struct lvs_error *err, enum lvs_status status, const char *format, ...) {
    if (err) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(err->text, sizeof err->text, format, arguments);
        va_end(arguments);
        err->status = status;
    }
    return status;
}

enum lvs_status lvs_error_prefix(struct lvs_error *err, const char *format, ...) {
    if (!err) return LVS_BUG;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(err->text, sizeof err->text, format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used < sizeof err->text)
        snprintf(err->text + used, sizeof err->text - (size_t)used, ": %s", old);
    return err->status;
}
