/* lvsweep cite: how to cite the program, and a paragraph on methods with a sweep's own numbers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_internal.h"
#include "lvsweep/version.h"

static void print_citation(bool bibtex) {
    if (bibtex)
        printf("@software{lvsweep,\n  author = {{The lvsweep developers}},\n  title = {lvsweep: hyper-parameter sweeps "
               "of LoRA fine-tuning under a FLOP budget},\n  version = {%s},\n  license = {Apache-2.0}\n}\n",
               LVSWEEP_VERSION);
    else
        printf("The lvsweep developers. lvsweep: hyper-parameter sweeps of LoRA fine-tuning under a FLOP budget. "
               "Version %s.\n",
               LVSWEEP_VERSION);
}

/* ---- the paragraph ---- */

struct counts {
    int32_t done, bad, cut, seeds;
    int32_t ranks[2], contexts[2]; /* least, most */
    double rates[2];
    char devices[256]; /* different ones, with ", " between */
};

static void widen(int32_t range[2], int32_t value) {
    if (range[0] == 0 || value < range[0]) range[0] = value;
    if (value > range[1]) range[1] = value;
}

static void add_device(char devices[256], const char *device) {
    size_t used = strlen(devices);
    if (!device[0] || strstr(devices, device) || used + strlen(device) + 3 > 256) return;
    snprintf(devices + used, 256 - used, "%s%s", used ? ", " : "", device);
}

static void count_rows(const struct results *results, struct counts *out) {
    int64_t first_seed = 0, last_seed = 0;
    *out = (struct counts){.rates = {INFINITY, 0}};
    for (int32_t i = 0; i < results->n_rows; i++) {
        const struct result_row *row = &results->rows[i];
        const struct settings *settings = &row->trial.settings;
        if (row->outside) continue;
        out->bad += row->record.status == TRIAL_FAILED || row->record.status == TRIAL_DIVERGED;
        out->cut += row->record.status == TRIAL_CUT;
        if (row->record.status != TRIAL_DONE) continue;
        if (out->done++ == 0) first_seed = last_seed = settings->seed;
        if (settings->seed < first_seed) first_seed = settings->seed;
        if (settings->seed > last_seed) last_seed = settings->seed;
        widen(out->ranks, settings->lora_rank);
        widen(out->contexts, settings->context);
        out->rates[0] = fmin(out->rates[0], settings->learning_rate);
        out->rates[1] = fmax(out->rates[1], settings->learning_rate);
        add_device(out->devices, row->record.device);
    }
    out->seeds = (int32_t)(last_seed - first_seed + 1);
}

static void print_range(const char *what, int32_t least, int32_t most) {
    if (least == most)
        printf("%s %d", what, least);
    else
        printf("%ss from %d to %d", what, least, most);
}

/* The folder's or repository's name of a model. */
static void print_model(const struct results *results) {
    const struct cli_sets none = {0};
    struct config *config = NULL;
    struct lvs_error ignored;
    if (cli_stored_config(results, &none, &config, &ignored) != LVS_OK) return;
    const char *path = config->model_path;
    if (config->model_name[0])
        printf(" of %s", config->model_name);
    else if (strncmp(path, "hf:", 3) == 0)
        printf(" of %s", path + 3);
    else
        printf(" of the checkpoint %s", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
    config_destroy(config);
}

static void print_budget(const struct results *results) {
    printf(" Compute was counted with the convention \"%s\": %.3g FLOPs were spent", results->convention,
           (double)results->ledger.spent);
    if (results->ledger.capped)
        printf(" of a budget of %.3g (%.1f %%)", (double)results->ledger.cap,
               100 * (double)results->ledger.spent / (double)results->ledger.cap);
    if (results->ledger.lost > 0)
        printf(", and %.3g more in steps repeated after interruptions", (double)results->ledger.lost);
    putchar('.');
}

static void print_best(const struct results *results) {
    struct best_choice best = {.index = -1};
    for (int32_t stage = results->n_stages - 1; stage >= 0 && best.index < 0; stage--)
        best = results_best(results, stage, results->metric);
    if (best.index < 0) return;
    const struct settings *settings = &results->rows[best.index].trial.settings;
    printf(" The best trial by %s (%.4g", results->metric, best.mean);
    if (best.n_seeds > 1) printf(" ± %.2g over %d seeds", best.deviation, best.n_seeds);
    printf(") has rank %d, learning rate %g, context %d and %.0f steps.", settings->lora_rank, settings->learning_rate,
           settings->context, settings->steps.value);
}

static void print_methods(const struct results *results) {
    struct counts counts;
    count_rows(results, &counts);
    if (counts.done == 0) {
        printf("%s: no trial is done yet\n", results->output);
        return;
    }
    const char *version = cli_provenance(results, "version"), *precision = cli_provenance(results, "precision");
    printf("LoRA adapters");
    print_model(results);
    printf(" (weights %.8s) were trained on series written as text (data %.8s) with lvsweep %s: %d trial%s in %d "
           "stage%s, ",
           results->model_hash, results->data_hash, version ? version : LVSWEEP_VERSION, counts.done,
           counts.done == 1 ? "" : "s", results->n_stages, results->n_stages == 1 ? "" : "s");
    print_range("LoRA rank", counts.ranks[0], counts.ranks[1]);
    if (counts.rates[0] == counts.rates[1])
        printf(", learning rate %g, ", counts.rates[0]);
    else
        printf(", learning rates from %g to %g, ", counts.rates[0], counts.rates[1]);
    print_range("context", counts.contexts[0], counts.contexts[1]);
    if (counts.seeds > 1) printf(", %d seeds", counts.seeds);
    putchar('.');
    if (counts.bad > 0) printf(" %d trial%s failed or diverged.", counts.bad, counts.bad == 1 ? "" : "s");
    if (counts.cut > 0) printf(" %d did not fit the budget.", counts.cut);
    print_budget(results);
    print_best(results);
    if (counts.devices[0]) printf(" Trained on %s", counts.devices);
    if (counts.devices[0] && precision) printf(" in %s", precision);
    printf("%s\n", counts.devices[0] ? "." : "");
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"bibtex", no_argument, NULL, 'b'}, {0}};
    struct lvs_error err = {0};
    struct results results;
    bool done, bibtex = false;
    for (int option; (option = cli_next_option(&command_cite, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        bibtex = true;
    }
    if (optind + 1 < argc) return cli_usage(&command_cite, "give at most one sweep's folder");
    if (optind < argc && results_read(argv[optind], &results, &err) != LVS_OK) return cli_fail(&err);
    print_citation(bibtex);
    if (optind == argc) return LVS_OK;
    putchar('\n');
    print_methods(&results);
    results_free(&results);
    return LVS_OK;
}

const struct command command_cite = {
    .name = "cite",
    .summary = "the citation, and a methods paragraph with a sweep's own numbers",
    .help = "lvsweep cite [DIR] [--bibtex]\n\n"
            "Prints how to cite lvsweep; with a sweep's folder also what was trained on\n"
            "what, the grid, the FLOPs spent of the budget, the best trial, the devices,\n"
            "with the hashes of data and weights.\n",
    .run = run,
};
