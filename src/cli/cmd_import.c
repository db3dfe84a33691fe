/* lvsweep import: a wide CSV table as a data file that sweeps read. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli_output.h"
#include "lvsweep/import.h"

struct import_request {
    struct import_options columns;
    const char *input, *output, *units, *time_unit;
    bool force;
};

/* "kg+m": one for all channels, or one each. */
static enum lvs_status set_units(const char *units, struct series_set *set, struct lvs_error *err) {
    int32_t n = 1;
    for (const char *at = units; (at = strchr(at, '+')) != NULL; at++)
        n++;
    if (n != 1 && n != set->n_channel)
        return lvs_fail(err, LVS_USAGE, "--units %s: %d units for %d channels; give one for all, or one each with +",
                        units, n, set->n_channel);
    for (int32_t c = 0; c < set->n_channel; c++) {
        size_t length = strcspn(units, "+");
        if (length >= sizeof set->channel_unit[c])
            return lvs_fail(err, LVS_USAGE, "--units %s: at most %zu characters each", units,
                            sizeof set->channel_unit[c] - 1);
        memcpy(set->channel_unit[c], units, length);
        set->channel_unit[c][length] = '\0';
        if (n > 1 && c + 1 < n) units += length + 1;
    }
    return LVS_OK;
}

static void print_summary(const struct import_request *request, const struct series_set *set) {
    const int64_t count = (int64_t)set->n_series * set->n_time * set->n_channel;
    int64_t missing = 0, negative = 0;
    for (int64_t i = 0; i < count; i++) {
        missing += isnan(set->values[i]);
        negative += set->values[i] < 0;
    }
    printf("%s: %d series, %d points, %d channel%s (", request->output, set->n_series, set->n_time, set->n_channel,
           set->n_channel == 1 ? "" : "s");
    for (int32_t c = 0; c < set->n_channel; c++)
        printf("%s%s", c ? ", " : "", set->channel_name[c]);
    printf(")\n");
    if (missing > 0)
        printf("%lld of %lld values are missing: [data] missing = interpolate or drop_series decides about them\n",
               (long long)missing, (long long)count);
    if (negative > 0)
        printf("%lld values are below zero: written with '-' as a token of its own ([data] negative = minus)\n",
               (long long)negative);
    printf("next: lvsweep describe %s%s\n", request->output, missing > 0 ? " --set data.missing=interpolate" : "");
}

static enum lvs_status import_file(const struct import_request *request, struct lvs_error *err) {
    const struct cli_target target = {.path = request->output, .force = request->force, .inputs = {request->input}};
    struct series_set set;
    LVS_TRY(cli_may_write(&target, err));
    LVS_TRY(import_csv(request->input, &request->columns, &set, err));
    enum lvs_status status = request->units ? set_units(request->units, &set, err) : LVS_OK;
    if (request->time_unit) lvs_copy(set.time_unit, sizeof set.time_unit, request->time_unit);
    if (status == LVS_OK) status = series_write(request->output, &set, err);
    if (status == LVS_OK) print_summary(request, &set);
    series_free(&set);
    return status;
}

static bool take_unequal(const char *word, enum import_unequal *out) {
    *out = strcmp(word, "cut") == 0 ? IMPORT_UNEQUAL_CUT : IMPORT_UNEQUAL_REFUSE;
    if (*out == IMPORT_UNEQUAL_CUT || strcmp(word, "refuse") == 0) return true;
    cli_usage(&command_import, "--unequal %s: expected refuse or cut", word);
    return false;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                            {"series", required_argument, NULL, 's'},
                                            {"time", required_argument, NULL, 't'},
                                            {"channels", required_argument, NULL, 'c'},
                                            {"unequal", required_argument, NULL, 'u'},
                                            {"units", required_argument, NULL, 'U'},
                                            {"time-unit", required_argument, NULL, 'T'},
                                            {"force", no_argument, NULL, 'f'},
                                            {0}};
    struct import_request request = {0};
    bool done;
    for (int option; (option = cli_next_option(&command_import, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (option == 'o') request.output = optarg;
        if (option == 's') request.columns.series_column = optarg;
        if (option == 't') request.columns.time_column = optarg;
        if (option == 'c') request.columns.channels = optarg;
        if (option == 'U') request.units = optarg;
        if (option == 'f') request.force = true;
        if (option == 'T') request.time_unit = optarg;
        if (option == 'u' && !take_unequal(optarg, &request.columns.unequal)) return LVS_USAGE;
    }
    if (!request.output || optind + 1 != argc)
        return cli_usage(&command_import, "give a CSV file (or -) and the file to write: -o data.h5");
    struct lvs_error err = {0};
    request.input = argv[optind];
    return import_file(&request, &err) == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_import = {
    .name = "import",
    .summary = "a CSV table, one column a channel, as a data file",
    .help = "lvsweep import wide.csv|- -o data.h5 [options]\n\n"
            "The table has one row a series and time, and one column a channel.\n\n"
            "  --series COLUMN    names the series (default: all rows are one series)\n"
            "  --time COLUMN      numbers or dates (default: rows in order, 0, 1, 2, ...)\n"
            "  --channels A+B     columns with values (default: all others)\n"
            "  --units U          of the values: one for all, or one each with + between\n"
            "  --time-unit U\n"
            "  --unequal refuse|cut\n"
            "                     series that begin or end at different times: an error\n"
            "                     (default), or only the stretch that all of them cover\n"
            "  --force            overwrite a file that exists\n\n"
            "Separators , ; or tab; decimal commas with ;. Empty cells, NA, NaN and missing\n"
            "rows are gaps: what is done about them is [data] missing in the INI.\n"
            "docs/data.md has an example.\n",
    .run = run,
};
