/* lvsweep plan: every trial with its FLOPs, what the budget cuts and why; no GPU, no MPI, nothing is written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd_plan.h"

static const char *verdict_word(enum plan_verdict verdict) {
    return verdict == PLAN_RUN ? "run" : verdict == PLAN_KEPT ? "kept" : "cut";
}

/* "4.225", or "-" without a cap. */
static const char *percent_of_cap(const struct plan_view *view, double flops, char out[32]) {
    double cap = view->config->flops_cap;
    if (cap > 0)
        snprintf(out, 32, "%.3f", 100 * flops / cap);
    else
        lvs_copy(out, 32, "-");
    return out;
}

/* ---- text ---- */

static struct time_used time_of(const struct results *known) {
    return known ? results_time_used(known) : (struct time_used){0};
}

static void print_hours(const char *key, double cap, double seconds) {
    if (cap > 0) printf("        %s = %.6g, %.4g used by earlier runs\n", key, cap, seconds / 3600);
}

static void print_data(const struct plan_view *view) {
    const struct series_set *set = sweep_facts_series(view->facts);
    const struct split *split = sweep_facts_split(view->facts);
    const struct qwen2_config *model = sweep_facts_model(view->facts);
    printf("data    %s: %d series, %d points, %d channel%s (", view->config->data_file, set->n_series, set->n_time,
           set->n_channel, set->n_channel == 1 ? "" : "s");
    for (int32_t c = 0; c < set->n_channel; c++)
        printf("%s%s", c ? ", " : "", set->channel_name[c]);
    printf("); %d train, %d validation, %d test\n", split->n[SPLIT_TRAIN], split->n[SPLIT_VALIDATION],
           split->n[SPLIT_TEST]);
    printf("model   %s: %d layers, hidden %d, vocabulary %d; %s, %s\n", view->config->model_path, model->n_layers,
           model->hidden, sweep_facts_vocabulary(view->facts), sweep_facts_backend(view->facts),
           sweep_facts_precision(view->facts));
    if (view->config->head_rows == HEAD_ROWS_TEXT && view->config->vocabulary != VOCABULARY_TEXT)
        printf(
            "head    head_rows = text: steps compute the rows of the text's tokens only, measured against the whole\n"
            "        head as they go; the FLOPs below count all %d rows\n",
            sweep_facts_vocabulary(view->facts));
    if (view->config->flops_cap > 0)
        printf("budget  %.4g FLOPs, convention %s, %s counted\n", view->config->flops_cap, view->config->convention,
               view->config->count == COUNT_TRAINING ? "training" : "training and evaluation");
    else
        printf("budget  none, convention %s\n", view->config->convention);
    const struct time_used used = time_of(view->known);
    print_hours("hours", view->config->hours_cap, used.seconds);
    print_hours("gpu_hours", view->config->gpu_hours_cap, used.worker_seconds);
    putchar('\n');
}

/* "1e-5": as INIs and names of trials have it. */
static const char *rate_text(const struct settings *settings, char out[32]) {
    struct strbuf text;
    strbuf_init(&text);
    settings_get(settings, config_key_find_setting("learning_rate"), &text);
    lvs_copy(out, 32, text.text);
    strbuf_free(&text);
    return out;
}

/* The step that a row of the plan comes to, and "run", "kept", "cut", "cut by [budget] trials", "run from step 75". */
static double last_step(const struct plan_row *row, const struct trial *trial) {
    return row->until > 0 ? row->until : trial->settings.steps.value;
}

static const char *verdict_text(const struct plan_row *row, char out[64]) {
    if (row->verdict == PLAN_RUN && row->from > 0)
        snprintf(out, 64, "run from step %d", row->from);
    else if (row->verdict == PLAN_CUT && row->cause == CUT_BY_TRIALS)
        lvs_copy(out, 64, "cut by [budget] trials");
    else
        lvs_copy(out, 64, verdict_word(row->verdict));
    return out;
}

static enum lvs_status print_row(const struct plan_view *view, const struct plan_row *row, struct lvs_error *err) {
    const struct trial *trial = coordinator_trial(view->plan->coordinator, row->trial);
    struct trial_extent extent;
    char percent[32], total[32], verdict[64], rate[32];
    LVS_TRY(trial_extent_make(view->config, view->facts, &trial->settings, &extent, err));
    printf("%-10s %-30s %5d %9s %5d %7.0f %10.4g %7s %8s %6.2f %6.1f  %s\n", view->config->stages[row->stage].name,
           trial->name, trial->settings.lora_rank, rate_text(&trial->settings, rate), trial->settings.context,
           last_step(row, trial), (double)row->flops, percent_of_cap(view, (double)row->flops, percent),
           percent_of_cap(view, (double)row->total, total), extent.epochs, extent.points_per_window,
           verdict_text(row, verdict));
    return LVS_OK;
}

/* Whether a stage before this one still has trials to run, so that its best is not known. */
static bool best_is_open(const struct plan_view *view, int32_t stage) {
    for (int32_t s = 0; s < stage; s++)
        if (view->plan->n_run[s] > 0) return true;
    return false;
}

static enum lvs_status print_plan(const struct plan_view *view, struct lvs_error *err) {
    struct plan_needs needs;
    print_data(view);
    printf("%-10s %-30s %5s %9s %5s %7s %10s %7s %8s %6s %6s\n", "stage", "trial", "rank", "rate", "ctx", "steps",
           "FLOPs", "%", "total %", "epochs", "points");
    for (int32_t i = 0; i < view->plan->n_rows; i++)
        LVS_TRY(print_row(view, &view->plan->rows[i], err));
    putchar('\n');
    for (int32_t s = 0; s < view->config->n_stages; s++)
        printf("[stage.%s] %d run, %d kept, %d cut%s\n", view->config->stages[s].name, view->plan->n_run[s],
               view->plan->n_kept[s], view->plan->n_cut[s],
               view->config->stages[s].from_best && best_is_open(view, s)
                   ? " (priced with the dearest trial before it as the best)"
                   : "");
    if (view->plan->n_rows > 0) {
        struct trial_extent extent;
        const struct trial *first = coordinator_trial(view->plan->coordinator, view->plan->rows[0].trial);
        LVS_TRY(trial_extent_make(view->config, view->facts, &first->settings, &extent, err));
        printf("tokens a series %.1f (%d decimals); points: time points that one window sees\n",
               extent.tokens_per_series, first->settings.decimals);
    }
    plan_needs_make(view, &needs);
    plan_needs_time(view->known, &needs);
    plan_print_needs(view, &needs);
    if (view->known && view->known->n_rows > 0) {
        plan_print_left_out(view, view->known);
        putchar('\n');
        LVS_TRY(cli_resume_explain(view->config, view->facts, view->known, err));
    }
    return plan_print_costs(view, err);
}

/* ---- JSON ---- */

static json_t *row_json(const struct plan_view *view, const struct plan_row *row) {
    const struct trial *trial = coordinator_trial(view->plan->coordinator, row->trial);
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:i, s:f, s:i, s:f, s:I, s:I, s:I, s:f}", "stage",
                  view->config->stages[row->stage].name, "trial", trial->name, "verdict", verdict_word(row->verdict),
                  "lora_rank", trial->settings.lora_rank, "learning_rate", trial->settings.learning_rate, "context",
                  trial->settings.context, "steps", last_step(row, trial), "flops_step", (json_int_t)trial->price.step,
                  "flops_evaluation", (json_int_t)trial->price.evaluation, "flops_counted", (json_int_t)row->flops,
                  "flops_total", (double)row->total);
    if (row->until > 0) json_object_set_new(object, "pauses_at_step", json_integer(row->until));
    json_object_set_new(object, "train_key", json_string(trial->train_key));
    json_object_set_new(object, "eval_key", json_string(trial->eval_key));
    return object;
}

static enum lvs_status print_json(const struct plan_view *view, struct lvs_error *err) {
    json_t *rows = json_array();
    for (int32_t i = 0; i < view->plan->n_rows; i++)
        json_array_append_new(rows, row_json(view, &view->plan->rows[i]));
    json_t *document = json_pack("{s:s, s:s, s:f, s:o}", "name", view->config->name, "convention",
                                 view->config->convention, "flops_cap", view->config->flops_cap, "trials", rows);
    const struct time_used used = time_of(view->known);
    json_object_set_new(document, "hours_cap", json_real(view->config->hours_cap));
    json_object_set_new(document, "hours_used", json_real(used.seconds / 3600));
    json_object_set_new(document, "gpu_hours_cap", json_real(view->config->gpu_hours_cap));
    json_object_set_new(document, "gpu_hours_used", json_real(used.worker_seconds / 3600));
    struct plan_needs needs;
    plan_needs_make(view, &needs);
    plan_needs_time(view->known, &needs);
    plan_json_needs(&needs, document);
    enum lvs_status status = plan_json_costs(view, document, err);
    if (status == LVS_OK) {
        json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
        putchar('\n');
    }
    json_decref(document);
    return status;
}

/* ---- the command ---- */

static enum lvs_status read_known(const struct config *config, struct results *out, bool *found,
                                  struct lvs_error *err) {
    char journal[LVS_PATH_MAX];
    LVS_TRY(file_join(journal, config->output, RESULTS_JOURNAL, err));
    *found = file_exists(journal);
    return *found ? results_read(config->output, out, err) : LVS_OK;
}

static enum lvs_status plan_show(const struct config *config, struct sweep_facts *facts, bool json,
                                 struct lvs_error *err) {
    struct results known = {0};
    struct plan plan;
    bool found;
    LVS_TRY(read_known(config, &known, &found, err));
    enum lvs_status status = plan_make(config, facts, found ? &known : NULL, NULL, &plan, err);
    struct plan_view view = {.config = config, .facts = facts, .plan = &plan, .known = found ? &known : NULL};
    if (status == LVS_OK) status = json ? print_json(&view, err) : print_plan(&view, err);
    if (status == LVS_OK) status = plan_check(config, facts, &plan, err);
    if (status == LVS_OK) status = plan_check_time(config, &plan, view.known, err);
    plan_free(&plan);
    if (found) results_free(&known);
    return status;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"set", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"output", required_argument, NULL, 'o'},
                                            {0}};
    struct cli_sets sets = {0};
    const char *output = NULL;
    bool done, json = false;
    for (int option; (option = cli_next_option(&command_plan, argc, argv, options, &done)) != -1;) {
        if (option == 's')
            cli_sets_add(&sets, optarg);
        else if (option == 'j')
            json = true;
        else if (option == 'o')
            output = optarg;
        else
            return done ? LVS_OK : LVS_USAGE;
    }
    if (optind + 1 != argc) return cli_usage(&command_plan, "give one INI file");
    struct config_source source = {
        .path = argv[optind], .sets = sets.items, .n_sets = sets.n, .check_files = true, .inspect = sweep_inspect_data};
    struct lvs_error err = {0};
    struct config *config = NULL;
    struct sweep_facts *facts = NULL;
    enum lvs_status status = config_parse(&source, &config, &err);
    if (status == LVS_OK && output) status = file_resolve(config->output, ".", output, &err);
    if (status == LVS_OK) status = sweep_facts_make(config, &facts, &err);
    if (status == LVS_OK) status = plan_show(config, facts, json, &err);
    sweep_facts_destroy(facts);
    config_destroy(config);
    free(sets.items);
    return status == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_plan = {
    .name = "plan",
    .summary = "every trial with its FLOPs, what is cut and why, time and memory",
    .help = "lvsweep plan grid.ini [--set SECTION.KEY=V] [--output DIR] [--json]\n\n"
            "Prints the sweep as the budget will admit it, without MPI or GPU, and writes\n"
            "nothing: every trial with its FLOPs, the running total, what is cut, epochs,\n"
            "points a window, memory, the cost under each convention; where a report\n"
            "printed the cost of the same runs, how far formula and plan meet that.\n\n"
            "With an output folder from an earlier run, `kept` trials are those that will\n"
            "not run again, others are told with the keys in which they differ, and time\n"
            "follows from the speed of the finished ones. Exit code 4: a whole stage is\n"
            "cut and [budget] over = refuse, or earlier runs have used its hours up.\n",
    .run = run,
};
