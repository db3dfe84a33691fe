/* lvsweep export: the table as CSV or JSON, or one trial's adapter. */
#include <stdio.h>
#include <string.h>

#include "cli_output.h"
#include "export_adapter.h"

static enum lvs_status export_table(const char *folder, bool csv, struct cli_target *target, struct lvs_error *err) {
    struct results results;
    struct strbuf text;
    target->product = csv ? &cli_product_csv : &cli_product_json;
    target->inputs[0] = folder;
    LVS_TRY(cli_may_write(target, err));
    LVS_TRY(results_read(folder, &results, err));
    strbuf_init(&text);
    if (csv)
        export_csv(&results, &text);
    else
        export_json(&results, &text);
    enum lvs_status status = cli_write(target->path, &text, err);
    strbuf_free(&text);
    results_free(&results);
    return status;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {
        {"csv", no_argument, NULL, 'c'},           {"json", no_argument, NULL, 'j'},
        {"adapter", required_argument, NULL, 'a'}, {"merge", no_argument, NULL, 'm'},
        {"model", required_argument, NULL, 'b'},   {"output", required_argument, NULL, 'o'},
        {"force", no_argument, NULL, 'f'},         {0}};
    struct cli_target target = {0};
    struct adapter_source source = {.backend = "cpu", .precision = "fp32"};
    int what = 0;
    bool done, merge = false;
    for (int option; (option = cli_next_option(&command_export, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (option == 'o') target.path = optarg;
        if (option == 'f') target.force = true;
        if (option == 'a') source.trial = optarg;
        if (option == 'b') source.model = optarg;
        if (option == 'm') merge = true;
        if (option != 'c' && option != 'j' && option != 'a') continue;
        if (what && what != option)
            return cli_usage(&command_export, "one of --csv, --json, --adapter TRIAL at a time");
        what = option;
    }
    if (!what || optind + 1 != argc)
        return cli_usage(&command_export, "give a sweep's folder and one of --csv, --json, --adapter TRIAL");
    if (what == 'a' && !target.path) return cli_usage(&command_export, "--adapter needs a folder to write: -o FOLDER");
    if (what != 'a' && merge) return cli_usage(&command_export, "--merge goes with --adapter TRIAL");
    struct lvs_error err = {0};
    source.folder = argv[optind];
    enum lvs_status status;
    if (what != 'a')
        status = export_table(argv[optind], what == 'c', &target, &err);
    else
        status = merge ? export_merged(&source, target.path, &err) : export_adapter(&source, target.path, &err);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_export = {
    .name = "export",
    .summary = "the table of a sweep as CSV or JSON, or the adapter of one trial",
    .help = "lvsweep export DIR --csv|--json [-o FILE] [--force]\n"
            "lvsweep export DIR --adapter best|TRIAL [--merge] [--model FOLDER] -o FOLDER\n\n"
            "DIR is a sweep's output folder, finished or running. An adapter is a PEFT\n"
            "folder with lvsweep.json beside it (scale, decimals, vocabulary, base model);\n"
            "with --merge it is added to the base model's weights and a Hugging Face\n"
            "checkpoint is written, each tensor in the type it had. Both are read back and\n"
            "their logits compared with those of base and adapter; what does not agree is\n"
            "not kept.\n\n"
            "  --force          overwrite a FILE that is no earlier export (a FOLDER must be\n"
            "                   new)\n"
            "  --model FOLDER   where the base model lies now (default: as in lvsweep.json)\n",
    .run = run,
};
