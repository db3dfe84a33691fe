/* The command table as words: shell completion and the manual page. */
#pragma once
#include "cli_internal.h"

void completion_write_bash(struct strbuf *out);
void completion_write_zsh(struct strbuf *out);
void man_write(const char *version, struct strbuf *out);
