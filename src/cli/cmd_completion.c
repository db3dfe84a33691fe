/* lvsweep completion: what a shell needs to complete subcommands, options and files. */
#include <string.h>

#include "command_words.h"

static int run(int argc, char **argv) {
    static const struct option options[] = {{0}};
    bool done;
    if (cli_next_option(&command_completion, argc, argv, options, &done) != -1) return done ? LVS_OK : LVS_USAGE;
    bool bash = optind + 1 == argc && strcmp(argv[optind], "bash") == 0;
    bool zsh = optind + 1 == argc && strcmp(argv[optind], "zsh") == 0;
    if (!bash && !zsh) return cli_usage(&command_completion, "give bash or zsh");
    struct lvs_error err = {0};
    struct strbuf text;
    strbuf_init(&text);
    if (bash)
        completion_write_bash(&text);
    else
        completion_write_zsh(&text);
    enum lvs_status status = cli_write(NULL, &text, &err);
    strbuf_free(&text);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_completion = {
    .name = "completion",
    .summary = "completion of subcommands and options for bash or zsh",
    .help = "lvsweep completion bash|zsh\n\n"
            "  . <(lvsweep completion bash)                          for this shell\n"
            "  lvsweep completion bash > ~/.local/share/bash-completion/completions/lvsweep\n"
            "  lvsweep completion zsh > DIR/_lvsweep                 a folder of $fpath\n\n"
            "An installed lvsweep has both in place.\n",
    .run = run,
};
