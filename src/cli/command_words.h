/* The command table as words: shell completion and the manual page. */
#pragma once
#include "cli_internal.h"

#define OPTION_WORDS_MAX 40
#define OPTION_WORD_MAX  32

struct option_words {
    int32_t n;
    char word[OPTION_WORDS_MAX][OPTION_WORD_MAX]; /* "--output" */
    bool takes_value[OPTION_WORDS_MAX];           /* a word in capitals follows it in the help text */
};
/* The options that a help text names, in order of first appearance. */
void option_words_make(const char *help, struct option_words *out);

void completion_write_bash(struct strbuf *out);
void completion_write_zsh(struct strbuf *out);
void man_write(const char *version, struct strbuf *out);
