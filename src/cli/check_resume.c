/* What a run would do now, and why. The real coordinator is given what is known and started: what it then admits is
 * what a run would send out, and it stops at the first stage that has work, since the best of that one is not known
 * yet. For a trial that is new, the keys in which it differs from the nearest one that is not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_internal.h"
#include "lvsweep/train.h"

#define LISTED_MAX 20
#define KEYS_SHOWN 6

struct resume_row {
    int32_t trial, stage;
};
struct resume {
    const struct config *config, *before; /* before: of the last run; NULL = unknown */
    const struct results *known;
    struct coordinator *coordinator;
    struct resume_row *to_run; /* [n_run], owned */
    int32_t n_run, n_kept, n_cut;
    int32_t stage; /* the last one that was opened */
};

/* ---- which keys differ ---- */

/* Value of "key=" in lines of text; NULL = not there. *length without the line's end. */
static const char *value_of(const char *text, const char *key, size_t key_length, size_t *length) {
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (strncmp(line, key, key_length) != 0 || line[key_length] != '=') continue;
        *length = strcspn(line + key_length + 1, "\n");
        return line + key_length + 1;
    }
    return NULL;
}

/* How many keys of `now` have another value in `then`; the first few are appended as "key: then -> now". */
static int32_t differences(const char *then, const char *now, struct strbuf *out) {
    int32_t n = 0;
    for (const char *line = now; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        size_t key = strcspn(line, "="), length = strcspn(line + key + 1, "\n"), old_length = 0;
        const char *old = value_of(then, line, key, &old_length);
        if (old && old_length == length && strncmp(old, line + key + 1, length) == 0) continue;
        if (out && n < KEYS_SHOWN)
            strbuf_printf(out, "%s%.*s: %.*s -> %.*s", n ? ", " : "", (int)key, line, old ? (int)old_length : 4,
                          old ? old : "none", (int)length, line + key + 1);
        n++;
    }
    if (out && n > KEYS_SHOWN) strbuf_printf(out, ", and %d more", n - KEYS_SHOWN);
    return n;
}

static char *settings_text(const struct config *config, const struct trial *trial) {
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "");
    config_write_effective(config, &trial->settings, KEY_EFFECT_TRAIN | KEY_EFFECT_EVALUATE, &text);
    return strbuf_take(&text);
}

static void add_difference(const struct resume *resume, const struct trial *trial, bool trained, struct strbuf *out) {
    char *now = settings_text(resume->config, trial), *nearest = NULL;
    const struct trial *near = NULL;
    int32_t least = INT32_MAX;
    for (int32_t i = 0; i < resume->known->n_rows; i++) {
        const struct trial *other = &resume->known->rows[i].trial;
        char *then = settings_text(resume->before ? resume->before : resume->config, other);
        int32_t n = differences(then, now, NULL);
        if (n > least) { /* of equals the latest */
            free(then);
            continue;
        }
        free(nearest);
        nearest = then, near = other, least = n;
    }
    if (trained)
        strbuf_add(out, "evaluation only, its adapter is there; ");
    else
        strbuf_printf(out, "new%s%s%s", near ? "; nearest is " : "", near ? near->name : "", near ? ", " : "");
    if (near && least > 0)
        differences(nearest, now, out);
    else if (near)
        strbuf_add(out, "set alike: data, split, weights, backend or precision have changed");
    free(nearest);
    free(now);
}

/* ---- why a trial runs ---- */

static void add_unfinished(const struct resume *resume, const struct result_row *row, struct strbuf *out) {
    char folder[LVS_PATH_MAX];
    struct lvs_error ignored;
    int32_t step = -1;
    if (trial_folder(folder, resume->known->output, row->trial.name, &ignored) == LVS_OK)
        step = checkpoint_step(folder, row->trial.train_key);
    strbuf_add(out, row->record.status == TRIAL_CUT ? "was cut; the budget has room for it now"
                                                    : trial_status_name(row->record.status));
    if (row->record.status == TRIAL_RUNNING) strbuf_add(out, " when the sweep ended");
    if (step >= 0)
        strbuf_printf(out, ", goes on from its checkpoint at step %d", step);
    else if (row->record.status != TRIAL_CUT)
        strbuf_add(out, ", starts at step 0");
    if (row->record.error[0]) strbuf_printf(out, " (%s)", row->record.error);
}

static void add_reason(const struct resume *resume, const struct resume_row *row, struct strbuf *out) {
    const struct trial *trial = coordinator_trial(resume->coordinator, row->trial);
    int32_t known = results_find(resume->known, trial->train_key, trial->eval_key);
    if (known >= 0) {
        add_unfinished(resume, &resume->known->rows[known], out);
        return;
    }
    add_difference(resume, trial, coordinator_evaluate_only(resume->coordinator, row->trial), out);
}

static void print_runs(const struct resume *resume) {
    struct strbuf why;
    strbuf_init(&why);
    for (int32_t i = 0; i < resume->n_run && i < LISTED_MAX; i++) {
        const struct resume_row *row = &resume->to_run[i];
        strbuf_clear(&why);
        add_reason(resume, row, &why);
        printf("  %s  %s: %s\n", resume->config->stages[row->stage].name,
               coordinator_trial(resume->coordinator, row->trial)->name, why.text);
    }
    if (resume->n_run > LISTED_MAX) printf("  … and %d more\n", resume->n_run - LISTED_MAX);
    strbuf_free(&why);
}

/* Only told when every stage was opened: before that a later stage may still take a trial in. */
static int32_t count_superseded(const struct resume *resume) {
    int32_t n = 0;
    for (int32_t i = 0; i < resume->known->n_rows; i++) {
        bool member = false;
        for (int32_t stage = 0; stage < resume->config->n_stages; stage++)
            member = member || coordinator_in_stage(resume->coordinator, i, stage);
        n += !member && resume->known->rows[i].record.status != TRIAL_SUPERSEDED;
    }
    return n;
}

static void print_resume(const struct resume *resume) {
    printf("resume    %d to run, %d kept, %d cut", resume->n_run, resume->n_kept, resume->n_cut);
    if (coordinator_finished(resume->coordinator)) {
        int32_t n = count_superseded(resume);
        if (n > 0) printf(", %d no longer in the grid", n);
        printf("%s\n", n == 0 ? ": nothing to do" : "");
        return;
    }
    putchar('\n');
    print_runs(resume);
    for (int32_t stage = resume->stage + 1; stage < resume->config->n_stages; stage++)
        printf("  %s  follows%s\n", resume->config->stages[stage].name,
               resume->config->stages[stage].from_best ? " from the best of these" : "");
}

static void take_action(struct resume *resume, const struct coordinator_action *action) {
    if (action->kind == ACTION_STAGE_BEGIN) resume->stage = action->stage;
    if (action->kind == ACTION_REUSED) resume->n_kept++;
    if (action->kind == ACTION_CUT) resume->n_cut++;
    if (action->kind != ACTION_ADMITTED) return;
    resume->to_run = lvs_realloc(resume->to_run, (size_t)(resume->n_run + 1) * sizeof *resume->to_run);
    resume->to_run[resume->n_run++] = (struct resume_row){.trial = action->trial, .stage = action->stage};
}

static enum lvs_status start_coordinator(struct resume *resume, struct sweep_facts *facts, struct lvs_error *err) {
    struct sweep_planner context = {.config = resume->config, .facts = facts};
    const struct planner planner = sweep_planner_make(&context);
    const struct coordinator_event start = {.kind = EVENT_START};
    const struct coordinator_action *actions;
    struct coordinator_options options;
    int32_t n;
    coordinator_options_make(resume->config, facts, 1, &options);
    enum lvs_status status = coordinator_create(&options, &planner, &resume->coordinator, err);
    coordinator_options_free(&options);
    LVS_TRY(status);
    coordinator_add_results(resume->coordinator, resume->known);
    LVS_TRY(coordinator_handle(resume->coordinator, &start, &actions, &n, err));
    for (int32_t i = 0; i < n; i++)
        take_action(resume, &actions[i]);
    return LVS_OK;
}

/* ---- what all trials depend on ---- */

static void print_changed(const char *what, const char *then, const char *now) {
    if (then && then[0] && strcmp(then, now) != 0)
        printf("changed   %s: %.32s -> %.32s; every trial is another one now\n", what, then, now);
}

static void print_facts(const struct results *known, const struct sweep_facts *facts) {
    if (known->n_rows == 0) return;
    print_changed("data (hash of the values)", known->data_hash, sweep_facts_series(facts)->hash);
    print_changed("model (hash of the weights)", known->model_hash, sweep_facts_weights_hash(facts));
    print_changed("backend", cli_provenance(known, "backend"), sweep_facts_backend(facts));
    print_changed("precision", cli_provenance(known, "precision"), sweep_facts_precision(facts));
}

/* What the budget refuses, as a run would see it before it starts. */
static enum lvs_status refuse_by_budget(const struct config *config, struct sweep_facts *facts,
                                        const struct results *known, struct lvs_error *err) {
    struct plan plan;
    enum lvs_status status = plan_make(config, facts, known->n_rows > 0 ? known : NULL, NULL, &plan, err);
    if (status == LVS_OK) status = plan_check(config, facts, &plan, err);
    if (status == LVS_OK) status = plan_check_time(config, &plan, known, err);
    plan_free(&plan);
    return status;
}

enum lvs_status cli_resume_explain(const struct config *config, struct sweep_facts *facts, const struct results *known,
                                   struct lvs_error *err) {
    struct config *before = NULL;
    const struct cli_sets none = {0};
    if (known->n_rows > 0) cli_stored_config(known, &none, &before, &(struct lvs_error){0});
    struct resume resume = {.config = config, .before = before, .known = known};
    print_facts(known, facts);
    enum lvs_status status = start_coordinator(&resume, facts, err);
    if (status == LVS_OK) print_resume(&resume);
    coordinator_destroy(resume.coordinator);
    free(resume.to_run);
    config_destroy(before);
    return status;
}

int32_t check_resume(const struct config *config, const struct results *known, enum lvs_status *status) {
    struct lvs_error err = {0};
    struct sweep_facts *facts = NULL;
    *status = sweep_facts_make(config, &facts, &err);
    if (*status == LVS_OK) *status = cli_resume_explain(config, facts, known, &err);
    if (*status == LVS_OK) *status = refuse_by_budget(config, facts, known, &err);
    sweep_facts_destroy(facts);
    return *status == LVS_OK ? 0 : check_problem("%s", err.text);
}
