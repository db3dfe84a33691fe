/* lvsweep best: the best trial of a sweep by its metric. */
#include <stdio.h>

#include "cli_internal.h"

static void print_best(const struct results *results, const struct best_choice *best) {
    const struct trial *trial = &results->rows[best->index].trial;
    printf("%s  %s %.6g", trial->name, results->metric, best->mean);
    if (best->n_seeds > 1) printf(" ± %.3g over %d seeds", best->deviation, best->n_seeds);
    printf("  rank %d, learning rate %g, context %d, %.0f steps\n", trial->settings.lora_rank,
           trial->settings.learning_rate, trial->settings.context, trial->settings.steps.value);
}

static int run(int argc, char **argv) {
    static const struct option options[] = {
        {"path", no_argument, NULL, 'p'}, {"metric", required_argument, NULL, 'm'}, {0}};
    const char *metric = NULL;
    bool done, path = false;
    for (int option; (option = cli_next_option(&command_best, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (option == 'p') path = true;
        if (option == 'm') metric = optarg;
    }
    if (optind + 1 != argc) return cli_usage(&command_best, "give a sweep's folder");
    struct lvs_error err = {0};
    struct results results;
    if (metric && metric_check(metric, NULL, 0, &err) != LVS_OK) return cli_fail(&err);
    if (results_read(argv[optind], &results, &err) != LVS_OK) return cli_fail(&err);
    const struct results *known = &results;
    if (metric && metric_check(metric, known->channel_name, known->n_channel, &err) != LVS_OK) {
        results_free(&results);
        return cli_fail(&err);
    }
    if (metric) lvs_copy(results.metric, sizeof results.metric, metric);
    struct best_choice best = results_best_so_far(&results);
    char folder[LVS_PATH_MAX];
    int code = LVS_OK;
    if (best.index < 0 || trial_folder(folder, results.output, results.rows[best.index].trial.name, &err) != LVS_OK) {
        if (!err.status) lvs_fail(&err, LVS_USAGE, "%s: no trial is done yet", argv[optind]);
        code = cli_fail(&err);
    } else if (path) {
        printf("%s\n", folder);
    } else {
        print_best(&results, &best);
    }
    results_free(&results);
    return code;
}

const struct command command_best = {
    .name = "best",
    .summary = "the best trial of a sweep, or the path of its folder",
    .help = "lvsweep best DIR [--path] [--metric NAME]\n\n"
            "The best finished trial of the last stage that has one: lowest metric (highest\n"
            "for r2 and success_rate), mean over seeds, ties by fewer FLOPs of training,\n"
            "then the earlier trial. NAME is a val_ column, or one channel of it as\n"
            "val_mae.prey; a wrong one lists them all.\n",
    .run = run,
};
