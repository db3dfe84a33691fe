/* lvsweep export: the table as CSV or JSON, or one trial's adapter. */
#include <stdio.h>
#include <string.h>

#include "cli_internal.h"

static enum lvs_status find_trial(const struct results *results, const char *name, const struct trial **out,
                                  struct lvs_error *err) {
    bool best = strcmp(name, "best") == 0;
    int32_t index =
        best ? results_best(results, results->n_stages > 0 ? results->n_stages - 1 : -1, results->metric).index : -1;
    if (best && index < 0) index = results_best(results, -1, results->metric).index;
    for (int32_t i = 0; !best && i < results->n_rows; i++) {
        const struct trial *trial = &results->rows[i].trial;
        if (strcmp(trial->name, name) == 0 || strncmp(trial->train_key, name, strlen(name)) == 0) index = i;
    }
    if (index < 0)
        return lvs_fail(err, LVS_USAGE, best ? "%s: no trial is done yet" : "%s: no trial is called %s",
                        results->output, name);
    *out = &results->rows[index].trial;
    return LVS_OK;
}

static enum lvs_status export_one_adapter(const struct results *results, const char *name, const char *output,
                                          struct lvs_error *err) {
    const struct trial *trial = NULL;
    char folder[LVS_PATH_MAX], adapter[LVS_PATH_MAX];
    LVS_TRY(find_trial(results, name, &trial, err));
    LVS_TRY(trial_folder(folder, results->output, trial->name, err));
    LVS_TRY(file_join(adapter, folder, "adapter", err));
    LVS_TRY(adapter_export(adapter, output, err));
    printf("%s: the adapter of %s\n", output, trial->name);
    return LVS_OK;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"csv", no_argument, NULL, 'c'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"adapter", required_argument, NULL, 'a'},
                                            {"output", required_argument, NULL, 'o'},
                                            {0}};
    const char *output = NULL, *adapter = NULL;
    int what = 0;
    bool done;
    for (int option; (option = cli_next_option(&command_export, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (option == 'o') output = optarg;
        if (option == 'a') adapter = optarg;
        if (option != 'o') what = option;
    }
    if (!what || optind + 1 != argc)
        return cli_usage(&command_export, "give a sweep's folder and one of --csv, --json, --adapter TRIAL");
    if (what == 'a' && !output) return cli_usage(&command_export, "--adapter needs a folder to write: -o FOLDER");
    struct lvs_error err = {0};
    struct results results;
    enum lvs_status status = results_read(argv[optind], &results, &err);
    if (status != LVS_OK) return cli_fail(&err);
    struct strbuf text;
    strbuf_init(&text);
    if (what == 'c') export_csv(&results, &text);
    if (what == 'j') export_json(&results, &text);
    status = what == 'a' ? export_one_adapter(&results, adapter, output, &err) : cli_write(output, &text, &err);
    strbuf_free(&text);
    results_free(&results);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_export = {
    .name = "export",
    .summary = "the table of a sweep as CSV or JSON, or the adapter of one trial",
    .help = "lvsweep export DIR --csv|--json [-o FILE]\n"
            "lvsweep export DIR --adapter best|TRIAL -o FOLDER\n\n"
            "DIR is a sweep's output folder, finished or running. An adapter is a PEFT folder with lvsweep.json\n"
            "beside it (scale, decimals, vocabulary, base model).\n",
    .run = run,
};
