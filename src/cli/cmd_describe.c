/* lvsweep describe: what a data file holds and what its text will cost, before anything is trained. */
#include <stdio.h>
#include <stdlib.h>

#include "cli_internal.h"
#include "lvsweep/describe.h"

/* Splits matter only where the scale is taken from the training part. */
static enum lvs_status make_scaling(const struct config *config, const struct series_set *set, struct scaling *out,
                                    struct lvs_error *err) {
    struct split split = {0};
    int32_t history, horizon;
    if (config->scale_over == SCALE_TRAIN) LVS_TRY(split_make(config, set, &split, err));
    forecast_extent(&config->defaults, set->n_time, &history, &horizon);
    enum lvs_status status = scaling_make(config, set, &split, history, out, err);
    split_free(&split);
    return status;
}

enum lvs_status cli_describe(const struct config *config, const struct series_set *set, int32_t kinds,
                             struct description *out, struct lvs_error *err) {
    struct scaling scaling;
    LVS_TRY(make_scaling(config, set, &scaling, err));
    enum lvs_status status = describe_make(config, set, &scaling, kinds, out, err);
    scaling_free(&scaling);
    return status;
}

static enum lvs_status describe_set(const struct config *config, const struct series_set *set, int32_t clusters,
                                    bool json, struct lvs_error *err) {
    struct description description;
    LVS_TRY(cli_describe(config, set, clusters, &description, err));
    struct strbuf text;
    strbuf_init(&text);
    if (json)
        describe_write_json(&description, &text);
    else
        describe_write_text(&description, &text);
    enum lvs_status status = cli_write(NULL, &text, err);
    strbuf_free(&text);
    describe_free(&description);
    return status;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"set", required_argument, NULL, 's'},
                                            {"kinds", required_argument, NULL, 'k'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    struct cli_sets sets = {0};
    int64_t kinds = 4;
    bool done, json = false;
    for (int option; (option = cli_next_option(&command_describe, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (option == 's') cli_sets_add(&sets, optarg);
        if (option == 'j') json = true;
        if (option == 'k' && !cli_integer(&command_describe, "--kinds", optarg, 1, DESCRIBE_CLUSTERS_MAX, &kinds))
            return LVS_USAGE;
    }
    if (optind + 1 != argc) return cli_usage(&command_describe, "give one data file, or an INI that names it");
    struct lvs_error err = {0};
    struct config *config = NULL;
    struct series_set set = {0};
    enum lvs_status status = cli_data_config(argv[optind], &sets, &config, &err);
    if (status == LVS_OK) status = series_read(config, &set, &err);
    if (status == LVS_OK) {
        status = describe_set(config, &set, (int32_t)kinds, json, &err);
        series_free(&set);
    }
    config_destroy(config);
    free(sets.items);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_describe = {
    .name = "describe",
    .summary = "ranges, periods, kinds of series and token counts of a data file",
    .help = "lvsweep describe data.h5|grid.ini [--kinds N] [--set SECTION.KEY=V] [--json]\n\n"
            "Reads the file as a sweep would and prints, for each channel, the range of its\n"
            "values, first and last points, periods and lags; the kinds of series (k-means;\n"
            "--kinds 1 to 8, 4 by default); and for each way of writing the numbers the\n"
            "tokens a series and the share of values that are written as zero.\n\n"
            "  --set data.missing=interpolate   how gaps are filled, and any other [data]\n"
            "                                   or [evaluate] key\n"
            "  --json                           for programs, with every series' features\n",
    .run = run,
};
