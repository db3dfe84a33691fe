/* The words of the command table for shells and manuals. Options are read from the help texts, which a test holds
 * against what the subcommands accept, so that nothing is listed twice. */
#include "command_words.h"

#include <ctype.h>
#include <string.h>

#define OPTION_WORDS_MAX 40
#define OPTION_WORD_MAX  32

struct option_words {
    int32_t n;
    char word[OPTION_WORDS_MAX][OPTION_WORD_MAX]; /* "--output" */
    bool takes_value[OPTION_WORDS_MAX];           /* a word in capitals follows it in the help text */
};

static bool is_option_character(char c) {
    return islower((unsigned char)c) || isdigit((unsigned char)c) || c == '-';
}

static bool is_listed(const struct option_words *words, const char *option, size_t length) {
    for (int32_t i = 0; i < words->n; i++)
        if (strlen(words->word[i]) == length && strncmp(words->word[i], option, length) == 0) return true;
    return false;
}

/* The options that a help text names, in order of first appearance. */
static void option_words_make(const char *help, struct option_words *out) {
    out->n = 0;
    for (const char *at = help; (at = strstr(at, "--")) != NULL;) {
        size_t length = 2;
        while (is_option_character(at[length]))
            length++;
        bool starts = at == help || !is_option_character(at[-1]);
        /* mpirun's and srun's own options occur in examples. */
        bool foreign = strncmp(at, "--mpi", 5) == 0;
        if (starts && !foreign && length > 3 && islower((unsigned char)at[2]) && !is_listed(out, at, length) &&
            out->n < OPTION_WORDS_MAX && length < OPTION_WORD_MAX) {
            memcpy(out->word[out->n], at, length);
            out->word[out->n][length] = '\0';
            out->takes_value[out->n++] = at[length] == ' ' && isupper((unsigned char)at[length + 1]);
        }
        at += length;
    }
}

/* ---- bash ---- */

static void add_options(const struct command *command, struct strbuf *out) {
    struct option_words words;
    option_words_make(command->help, &words);
    for (int32_t i = 0; i < words.n; i++)
        strbuf_printf(out, "%s ", words.word[i]);
    strbuf_add(out, "--help");
}

void completion_write_bash(struct strbuf *out) {
    strbuf_add(out, "# bash completion for lvsweep; written by: lvsweep completion bash\n_lvsweep() {\n"
                    "    local cur=${COMP_WORDS[COMP_CWORD]} options\n    COMPREPLY=()\n"
                    "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; command_at(i); i++)
        strbuf_printf(out, "%s%s", i ? " " : "", command_at(i)->name);
    strbuf_add(out, "\" -- \"$cur\") $(compgen -f -X '!*.ini' -- \"$cur\"))\n        return\n    fi\n"
                    "    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; command_at(i); i++) {
        strbuf_printf(out, "    %s) options=\"", command_at(i)->name);
        add_options(command_at(i), out);
        strbuf_add(out, "\" ;;\n");
    }
    strbuf_add(out, "    *) options=\"");
    add_options(command_find("run"), out);
    strbuf_add(out,
               "\" ;;\n    esac\n    if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W \"$options\" -- \"$cur\")); fi\n"
               "}\ncomplete -o default -F _lvsweep lvsweep\n");
}

/* ---- zsh ---- */

/* Inside single quotes, with ':' and brackets made plain. */
static void add_zsh(struct strbuf *out, const char *text) {
    for (; *text; text++) {
        if (*text == '\'')
            strbuf_add(out, "'\\''");
        else if (strchr(":[]", *text))
            strbuf_printf(out, "\\%c", *text);
        else
            strbuf_add_bytes(out, text, 1);
    }
}

static void add_zsh_options(const struct command *command, struct strbuf *out) {
    struct option_words words;
    option_words_make(command->help, &words);
    for (int32_t i = 0; i < words.n; i++)
        strbuf_printf(out, words.takes_value[i] ? " '*%s[value]:value:_files'" : " '%s[option]'", words.word[i]);
    strbuf_add(out, " '*:file:_files'");
}

void completion_write_zsh(struct strbuf *out) {
    strbuf_add(out, "#compdef lvsweep\n# zsh completion for lvsweep; written by: lvsweep completion zsh\n"
                    "local -a commands\ncommands=(\n");
    for (size_t i = 0; command_at(i); i++) {
        strbuf_printf(out, "    '%s:", command_at(i)->name);
        add_zsh(out, command_at(i)->summary);
        strbuf_add(out, "'\n");
    }
    strbuf_add(out,
               ")\nif (( CURRENT == 2 )); then\n    _describe command commands\n    _files -g '*.ini'\n    return\nfi\n"
               "case $words[2] in\n");
    for (size_t i = 0; command_at(i); i++) {
        strbuf_printf(out, "%s) _arguments", command_at(i)->name);
        add_zsh_options(command_at(i), out);
        strbuf_add(out, " ;;\n");
    }
    strbuf_add(out, "*) _arguments");
    add_zsh_options(command_find("run"), out);
    strbuf_add(out, " ;;\nesac\n");
}

/* ---- roff ---- */

static void add_roff(struct strbuf *out, const char *text) {
    bool line_start = true;
    for (; *text; text++) {
        if (line_start && (*text == '.' || *text == '\'')) strbuf_add(out, "\\&");
        if (*text == '\\')
            strbuf_add(out, "\\e");
        else if (*text == '-')
            strbuf_add(out, "\\-");
        else
            strbuf_add_bytes(out, text, 1);
        line_start = *text == '\n';
    }
}

void man_write(const char *version, struct strbuf *out) {
    strbuf_printf(out, ".TH LVSWEEP 1 \"\" \"lvsweep %s\" \"User Commands\"\n", version);
    strbuf_add(out,
               ".SH NAME\nlvsweep \\- sweeps of LoRA fine\\-tuning under one FLOP budget, over MPI\n"
               ".SH SYNOPSIS\n.B mpirun \\-n\n.I RANKS\n.B lvsweep\n.I grid.ini\n[options]\n.br\n"
               ".B lvsweep\n.I COMMAND\n[options]\n.SH DESCRIPTION\n"
               "Enumerates a grid of LoRA ranks, learning rates, contexts and other settings, prices every trial in\n"
               "FLOPs, admits trials under one budget, trains them over numeric series written as text, one GPU or a\n"
               "share of the cores a rank, and leaves everything in one results.h5.\n.SH COMMANDS\n");
    for (size_t i = 0; command_at(i); i++) {
        strbuf_printf(out, ".SS %s\n", command_at(i)->name);
        add_roff(out, command_at(i)->summary);
        /* Help is 79 columns wide: from the margin on it fits a terminal of 80. */
        strbuf_add(out, ".\n.PP\n.nf\n.in 0\n");
        add_roff(out, command_at(i)->help);
        strbuf_add(out, ".in\n.fi\n");
    }
    strbuf_add(
        out, ".SH EXIT STATUS\n.TP\n0\ndone\n.TP\n1\na bug\n.TP\n2\nusage or configuration\n.TP\n3\nfinished, some "
             "trials failed\n.TP\n4\nthe budget cannot hold the plan, or its hours are used up\n.TP\n5\nmodel or data "
             "refused\n.TP\n6\noutput not writable\n.TP\n7\nlaunch or environment\n.TP\n75\ninterrupted, resumable\n"
             ".SH ENVIRONMENT\n.TP\nLVSWEEP_LOG\nerror, warning, info (default) or debug\n.TP\nLVSWEEP_CUDA_MODULE\n"
             "the CUDA module, when it is not beside the program or in its install folder\n.TP\nHF_HOME, HF_HUB_CACHE\n"
             "where models named hf:owner/name are looked for; nothing is downloaded\n.TP\nHDF5_USE_FILE_LOCKING\n"
             "set to FALSE unless it is set already\n"
             ".SH FILES\n.TP\nOUTPUT/journal.jsonl\nthe truth: one event a line\n.TP\nOUTPUT/results.h5\nthe table, "
             "readable by netCDF\\-4 readers\n.TP\nOUTPUT/trials/\nadapters, curves, forecasts, checkpoints\n");
}
