/* lvsweep forecast: one's own series continued by a trained adapter; nothing but its folder is needed. */
#include <stdio.h>
#include <stdlib.h>

#include "cli_output.h"
#include "forecast_internal.h"
#include "lvsweep/log.h"

static bool take_number(struct forecast_request *request, int option) {
    const struct {
        int option;
        const char *name;
        int32_t *value;
        int64_t least, most;
    } numbers[] = {{'H', "--horizon", &request->horizon, 1, 100000},
                   {'y', "--history", &request->history, 1, 1000000},
                   {'n', "--samples", &request->samples, 1, 2048},
                   {'T', "--threads", &request->adapter.threads, 1, 4096}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        int64_t number;
        if (numbers[i].option != option) continue;
        if (!cli_integer(&command_forecast, numbers[i].name, optarg, numbers[i].least, numbers[i].most, &number))
            return false;
        *numbers[i].value = (int32_t)number;
    }
    return true;
}

static bool take_option(struct forecast_request *request, int option) {
    const struct {
        int option;
        const char **value;
    } words[] = {{'o', &request->output},
                 {'d', &request->data},
                 {'r', &request->adapter.trial},
                 {'m', &request->adapter.model},
                 {'b', &request->adapter.backend},
                 {'p', &request->adapter.precision},
                 {'s', &request->columns.series_column},
                 {'t', &request->columns.time_column},
                 {'c', &request->columns.channels}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i].option == option) *words[i].value = optarg;
    if (option == 'f') request->force = true;
    if (option == 'S') cli_sets_add(&request->sets, optarg);
    if (option == 'e') return cli_integer(&command_forecast, "--seed", optarg, 0, INT64_MAX / 2, &request->seed);
    if (option == 'k') return cli_number(&command_forecast, "--temperature", optarg, 1e-3, 100, &request->temperature);
    if (option == 'q') return cli_number(&command_forecast, "--top-p", optarg, 1e-6, 1, &request->top_p);
    return take_number(request, option);
}

static enum lvs_status answer(const struct forecast_request *request, struct lvs_error *err) {
    const struct cli_target target = {.path = request->output,
                                      .force = request->force,
                                      .product = &cli_product_forecast,
                                      .inputs = {request->data, request->adapter.folder, request->adapter.model}};
    LVS_TRY(cli_may_write(&target, err));
    struct opened_adapter *adapter = lvs_calloc(1, sizeof *adapter);
    struct series_set set = {0};
    struct forecast_table table = {0};
    struct strbuf text;
    strbuf_init(&text);
    enum lvs_status status = adapter_open(&request->adapter, adapter, err);
    if (status == LVS_OK) status = forecast_read(request, &adapter->info, &set, err);
    if (status == LVS_OK) status = forecast_compute(request, adapter, &set, &table, err);
    if (status == LVS_OK) {
        forecast_write(&table, &set, &text);
        status = cli_write(request->output, &text, err);
    }
    strbuf_free(&text);
    forecast_table_free(&table);
    series_free(&set);
    adapter_close(adapter);
    free(adapter);
    return status;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                            {"output", required_argument, NULL, 'o'},
                                            {"horizon", required_argument, NULL, 'H'},
                                            {"history", required_argument, NULL, 'y'},
                                            {"samples", required_argument, NULL, 'n'},
                                            {"seed", required_argument, NULL, 'e'},
                                            {"temperature", required_argument, NULL, 'k'},
                                            {"top-p", required_argument, NULL, 'q'},
                                            {"trial", required_argument, NULL, 'r'},
                                            {"model", required_argument, NULL, 'm'},
                                            {"backend", required_argument, NULL, 'b'},
                                            {"precision", required_argument, NULL, 'p'},
                                            {"threads", required_argument, NULL, 'T'},
                                            {"series", required_argument, NULL, 's'},
                                            {"time", required_argument, NULL, 't'},
                                            {"channels", required_argument, NULL, 'c'},
                                            {"set", required_argument, NULL, 'S'},
                                            {"force", no_argument, NULL, 'f'},
                                            {0}};
    struct forecast_request request = {.adapter = {.backend = "auto", .precision = "auto"},
                                       .horizon = 50,
                                       .samples = 20,
                                       .temperature = 1,
                                       .top_p = 1};
    struct lvs_error err = {0};
    bool done;
    for (int option; (option = cli_next_option(&command_forecast, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (!take_option(&request, option)) return LVS_USAGE;
    }
    if (!request.data || optind + 1 != argc)
        return cli_usage(&command_forecast, "give a sweep's or an adapter's folder, and --data new.csv (or -)");
    request.adapter.folder = argv[optind];
    if (request.samples == 1 && (request.temperature != 1 || request.top_p != 1 || request.seed != 0))
        log_warning("--samples 1 is the greedy forecast: --temperature, --top-p and --seed change nothing; more "
                    "samples are drawn with them");
    enum lvs_status status = answer(&request, &err);
    free(request.sets.items);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_forecast = {
    .name = "forecast",
    .summary = "continue your own series with a trained adapter: CSV in, CSV out",
    .help = "lvsweep forecast DIR|ADAPTER --data new.csv|new.h5|- [-o out.csv] [options]\n\n"
            "In: one row a series and time, one column a channel (columns `series` and\n"
            "`time` are found by name). Out: series, time, channel, median, q05, q25, q75,\n"
            "q95, samples: past the last point of each series.\n\n"
            "  --horizon N       points (50)\n"
            "  --history N       last points given to the model (all that fit)\n"
            "  --samples N       forecasts a series (20); 1 = the greedy one, no quantiles\n"
            "  --temperature T   (1);   --top-p P  (1);   --seed N  (0)\n"
            "  --trial NAME      of a sweep's folder, instead of its best\n"
            "  --model FOLDER    where the base model lies now (as in lvsweep.json)\n"
            "  --series COL, --time COL, --channels A+B\n"
            "                    columns of the CSV, where they are called otherwise\n"
            "  --set data.missing=interpolate|drop_series\n"
            "                    what to do about gaps (default: refuse)\n"
            "  --backend auto|cpu|cuda, --precision auto|fp32|bf16, --threads N\n"
            "  --force           overwrite a file that is no earlier forecast\n\n"
            "Only digits, signs and separators can be drawn. Values are scaled as in\n"
            "training, by the points given.\n",
    .run = run,
};
