/* lvsweep init: an INI file to start from. */
#include <string.h>

#include "cli_internal.h"

static int run(int argc, char **argv) {
    static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                            {"all", no_argument, NULL, 'a'},
                                            {"reference", no_argument, NULL, 'r'},
                                            {0}};
    const char *output = NULL;
    bool done, all = false, reference = false;
    for (int option; (option = cli_next_option(&command_init, argc, argv, options, &done)) != -1;) {
        if (option == 'o')
            output = optarg;
        else if (option == 'a')
            all = true;
        else if (option == 'r')
            reference = true;
        else
            return done ? LVS_OK : LVS_USAGE;
    }
    if (optind != argc) return cli_usage(&command_init, "%s: only options are taken", argv[optind]);
    struct lvs_error err = {0};
    struct strbuf text;
    strbuf_init(&text);
    if (output && strcmp(output, "-") != 0 && file_exists(output))
        lvs_fail(&err, LVS_OUTPUT, "%s is there already; choose another name", output);
    else if (reference)
        config_write_reference(&text);
    else
        config_write_template(all, &text);
    enum lvs_status status = err.status ? err.status : cli_write(output, &text, &err);
    strbuf_free(&text);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_init = {
    .name = "init",
    .summary = "an INI file to start from: the few keys everyone sets, or --all of them explained",
    .help = "lvsweep init [-o grid.ini] [--all]\n\n"
            "  --all        every key with its default and what is allowed\n"
            "  --reference  the table of all keys as Markdown\n",
    .run = run,
};
