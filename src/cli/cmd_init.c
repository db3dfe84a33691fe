/* lvsweep init: an INI file to start from. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli_output.h"
#include "init_internal.h"

struct init_request {
    const char *output, *preset;
    struct init_answers given;
    bool all, reference, force;
};

static bool to_file(const struct init_request *request) {
    return request->output && strcmp(request->output, "-") != 0;
}

static enum lvs_status make_text(const struct init_request *request, struct strbuf *text, struct lvs_error *err) {
    if (request->preset) return init_preset(request->preset, &request->given, text, err);
    if (request->reference)
        config_write_reference(text);
    else if (!request->all && isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
        return init_ask(&request->given, text, err);
    else
        config_write_template(request->all, text);
    return LVS_OK;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'}, {"preset", required_argument, NULL, 'p'},
        {"data", required_argument, NULL, 'd'},   {"model", required_argument, NULL, 'm'},
        {"all", no_argument, NULL, 'a'},          {"reference", no_argument, NULL, 'r'},
        {"force", no_argument, NULL, 'f'},        {0}};
    struct init_request request = {0};
    bool done;
    for (int option; (option = cli_next_option(&command_init, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (option == 'o') request.output = optarg;
        if (option == 'p') request.preset = optarg;
        if (option == 'd') request.given.data = optarg;
        if (option == 'm') request.given.model = optarg;
        if (option == 'a') request.all = true;
        if (option == 'f') request.force = true;
        if (option == 'r') request.reference = true;
    }
    if (optind != argc) return cli_usage(&command_init, "%s: only options are taken", argv[optind]);
    struct lvs_error err = {0};
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "");
    const struct cli_target target = {.path = request.output, .force = request.force, .inputs = {request.given.data}};
    enum lvs_status status = cli_may_write(&target, &err);
    if (status == LVS_OK) status = make_text(&request, &text, &err);
    if (status == LVS_OK) status = cli_write(request.output, &text, &err);
    strbuf_free(&text);
    if (status != LVS_OK) return cli_fail(&err);
    if (to_file(&request) && !request.reference) printf("%s; next: lvsweep plan %s\n", request.output, request.output);
    return LVS_OK;
}

const struct command command_init = {
    .name = "init",
    .summary = "an INI to start from: questions, a preset, or every key explained",
    .help = "lvsweep init [-o grid.ini]\n"
            "lvsweep init --preset NAME [--data FILE] [--model PATH] [-o grid.ini]\n"
            "lvsweep init --all|--reference\n\n"
            "On a terminal a few questions are asked; elsewhere the keys that everyone sets\n"
            "are written.\n\n"
            "  --preset NAME  an INI that comes with lvsweep: quickstart, report-a, ...\n"
            "                 (a wrong name lists them)\n"
            "  --data FILE    the data file, instead of the preset's or of asking\n"
            "  --model PATH   the model, likewise\n"
            "  --all          every key with its default and what is allowed\n"
            "  --reference    the table of all keys as Markdown\n"
            "  --force        overwrite a file that exists\n",
    .run = run,
};
