/* lvsweep simulate: Lotka–Volterra systems as a data file. */
#include <stdio.h>
#include <string.h>

#include "cli_output.h"

static int run(int argc, char **argv) {
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'}, {"systems", required_argument, NULL, 'n'},
        {"points", required_argument, NULL, 'p'}, {"end", required_argument, NULL, 'e'},
        {"noise", required_argument, NULL, 'z'},  {"seed", required_argument, NULL, 's'},
        {"force", no_argument, NULL, 'f'},        {0}};
    struct cli_target target = {0};
    int64_t systems = 1000, points = 100, seed = 0;
    double end = 200, noise = 0;
    bool done;
    for (int option; (option = cli_next_option(&command_simulate, argc, argv, options, &done)) != -1;) {
        bool good = true;
        switch (option) {
        case 'o':
            target.path = optarg;
            break;
        case 'f':
            target.force = true;
            break;
        case 'n':
            good = cli_integer(&command_simulate, "--systems", optarg, 1, 10000000, &systems);
            break;
        case 'p':
            good = cli_integer(&command_simulate, "--points", optarg, 2, 1000000, &points);
            break;
        case 'e':
            good = cli_number(&command_simulate, "--end", optarg, 1e-6, 1e9, &end);
            break;
        case 'z':
            good = cli_number(&command_simulate, "--noise", optarg, 0, 10, &noise);
            break;
        case 's':
            good = cli_integer(&command_simulate, "--seed", optarg, 0, INT64_MAX / 2, &seed);
            break;
        default:
            return done ? LVS_OK : LVS_USAGE;
        }
        if (!good) return LVS_USAGE;
    }
    if (!target.path || optind != argc) return cli_usage(&command_simulate, "give the file to write: -o data.h5");
    struct series_set set;
    struct lvs_error err = {0};
    enum lvs_status status = cli_may_write(&target, &err);
    if (status == LVS_OK)
        status = lotka_volterra_generate((int32_t)systems, (int32_t)points, end, noise, seed, &set, &err);
    if (status != LVS_OK) return cli_fail(&err);
    status = series_write(target.path, &set, &err);
    series_free(&set);
    if (status != LVS_OK) return cli_fail(&err);
    printf("%s: %lld systems, %lld points each, seed %lld\n", target.path, (long long)systems, (long long)points,
           (long long)seed);
    return LVS_OK;
}

const struct command command_simulate = {
    .name = "simulate",
    .summary = "write Lotka-Volterra series as a data file",
    .help = "lvsweep simulate -o data.h5 [options]\n\n"
            "Random predator-prey systems (rates and starts), each a function of the seed\n"
            "and its number alone.\n\n"
            "  --systems N   how many (1000)\n"
            "  --points N    time points each (100)\n"
            "  --end T       time of the last point (200)\n"
            "  --noise S     multiplicative noise: values times exp(S * normal) (0)\n"
            "  --seed N      (0)\n"
            "  --force       overwrite a file that exists\n",
    .run = run,
};
