/* The three ways in which `lvsweep init` makes an INI beside the plain template. */
#pragma once
#include "cli_internal.h"

struct init_answers {
    const char *data, *model; /* NULL = not given */
};

/* Asks on the terminal, with a default for each question, and writes the INI of the answers. LVS_INTERRUPTED at the
 * end of input. */
enum lvs_status init_ask(const struct init_answers *given, struct strbuf *out, struct lvs_error *err);
/* The text of an installed INI ("report-a", "quickstart"); files that lie beside it are named by their absolute path,
 * since the copy may go anywhere. LVS_USAGE lists what there is. */
enum lvs_status init_preset(const char *name, const struct init_answers *given, struct strbuf *out,
                            struct lvs_error *err);
