/* A sweep from start to end, on every rank: rank 0 prepares and drives, the others work, all write results.h5. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver.h"
#include "lvsweep/fault.h"
#include "lvsweep/log.h"
#include "lvsweep/version.h"

/* ---- rank 0: the run ---- */

static enum lvs_status tell_workers(enum message_kind kind, const void *payload, size_t length, struct lvs_error *err) {
    for (int rank = 1; rank < protocol_size(); rank++)
        LVS_TRY(protocol_send(rank, kind, payload, length, err));
    return LVS_OK;
}

static void local_send(void *context, enum message_kind kind, const void *payload, size_t length) {
    struct driver *driver = context;
    if (driver->n_inbox == driver->inbox_capacity) {
        driver->inbox_capacity = driver->inbox_capacity ? driver->inbox_capacity * 2 : 16;
        driver->inbox = lvs_realloc(driver->inbox, (size_t)driver->inbox_capacity * sizeof *driver->inbox);
    }
    struct message *message = &driver->inbox[driver->n_inbox++];
    *message = (struct message){.kind = kind, .source = 0, .length = length};
    if (length > 0) message->payload = memcpy(lvs_malloc(length), payload, length);
}

static enum lvs_status note_run(struct driver *driver, struct lvs_error *err) {
    const struct config *config = driver->config;
    const struct series_set *set = sweep_facts_series(driver->facts);
    const char *stages[CONFIG_MAX_STAGES], *names[LVS_MAX_CHANNELS], *units[LVS_MAX_CHANNELS];
    for (int32_t i = 0; i < config->n_stages; i++)
        stages[i] = config->stages[i].name;
    for (int32_t i = 0; i < set->n_channel; i++) {
        names[i] = set->channel_name[i];
        units[i] = set->channel_unit[i];
    }
    struct strbuf effective;
    strbuf_init(&effective);
    config_write(config, &effective);
    static const char *const rules[] = {
        [STOP_NONE] = "none", [STOP_HALVING] = "halving", [STOP_ASHA] = "asha", [STOP_MEDIAN] = "median"};
    struct journal_sweep sweep = {.version = LVSWEEP_VERSION,
                                  .stop_rule = rules[config->stop_rule],
                                  .name = config->name,
                                  .metric = config->metric,
                                  .convention = config->convention,
                                  .config_given = config->text,
                                  .config_effective = effective.text,
                                  .data_hash = set->hash,
                                  .model_hash = sweep_facts_weights_hash(driver->facts),
                                  .flops_cap = config->flops_cap,
                                  .n_stages = config->n_stages,
                                  .stage_name = stages,
                                  .n_channel = set->n_channel,
                                  .channel_name = names,
                                  .channel_unit = units,
                                  .time_unit = set->time_unit};
    struct journal_event event = journal_event_make(JOURNAL_SWEEP);
    event.sweep = &sweep;
    enum lvs_status status = driver_note(driver, &event, err);
    strbuf_free(&effective);
    return status;
}

static enum lvs_status create_coordinator(struct driver *driver, const struct sweep_options *options,
                                          struct sweep_planner *context, const struct results *known,
                                          struct lvs_error *err) {
    struct planner planner = sweep_planner_make(context);
    struct coordinator_options wanted;
    coordinator_options_make(driver->config, driver->facts, driver->n_workers, &wanted);
    wanted.retry_failed = options->retry_failed;
    enum lvs_status status = coordinator_create(&wanted, &planner, &driver->coordinator, err);
    coordinator_options_free(&wanted);
    if (status == LVS_OK) coordinator_add_results(driver->coordinator, known);
    if (status == LVS_OK && options->rerun) status = coordinator_rerun(driver->coordinator, options->rerun, err);
    return status;
}

/* Nothing to do: every action of the start repeats what the journal says already. */
static bool is_complete(const struct driver *driver, const struct results *known,
                        const struct coordinator_action *actions, int32_t n) {
    if (known->state != SWEEP_STATE_FINISHED) return false;
    for (int32_t i = 0; i < n; i++) {
        const struct coordinator_action *action = &actions[i];
        bool same =
            action->kind == ACTION_STAGE_BEGIN || action->kind == ACTION_STAGE_END || action->kind == ACTION_FINISHED;
        if (action->kind == ACTION_REUSED || action->kind == ACTION_CUT)
            same = action->trial < known->n_rows && (known->rows[action->trial].stages >> action->stage & 1);
        if (!same) return false;
    }
    return coordinator_finished(driver->coordinator);
}

/* In the grid, or in it before and of a stage that this run has not come to the end of: that may take it in again. */
static bool may_be_member(const struct driver *driver, int32_t trial) {
    bool member = false;
    for (int32_t stage = 0; stage < driver->config->n_stages; stage++) {
        bool open = stage >= coordinator_stage(driver->coordinator),
             before = driver->results.rows[trial].stages >> stage & 1;
        member = member || coordinator_in_stage(driver->coordinator, trial, stage) || (open && before);
    }
    return member;
}

static enum lvs_status note_outside(struct driver *driver, struct lvs_error *err) {
    for (int32_t i = 0; i < coordinator_n_trials(driver->coordinator); i++) {
        if (may_be_member(driver, i) || driver->results.rows[i].outside) continue;
        struct journal_event event = journal_event_make(JOURNAL_OUTSIDE);
        event.index = i;
        LVS_TRY(driver_note(driver, &event, err));
        event = journal_event_make(JOURNAL_STATUS);
        event.index = i;
        event.status = TRIAL_SUPERSEDED;
        event.text = "not in the present grid";
        LVS_TRY(driver_note(driver, &event, err));
    }
    return LVS_OK;
}

static enum lvs_status start_local_worker(struct driver *driver, struct setup *setup, int32_t local_index,
                                          int32_t local_count, struct lvs_error *err) {
    struct worker_outbox outbox = {.context = driver, .send = local_send};
    LVS_TRY(sweep_find_place(setup, driver->config, local_index, local_count, err));
    return worker_create(setup, &outbox, &driver->local, err);
}

static enum lvs_status send_setup(const struct setup *setup, struct lvs_error *err) {
    struct strbuf packed;
    strbuf_init(&packed);
    setup_pack(setup, &packed);
    enum lvs_status status = tell_workers(MESSAGE_SETUP, packed.text, packed.length, err);
    strbuf_free(&packed);
    return status;
}

static enum lvs_status open_journal(struct driver *driver, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    results_init(&driver->results, driver->config->output);
    LVS_TRY(file_join(path, driver->config->output, RESULTS_JOURNAL, err));
    return journal_open(path, results_apply, &driver->results, &driver->journal, err);
}

static int32_t n_bad(const struct results *results) {
    int32_t bad = 0;
    for (int32_t i = 0; i < results->n_rows; i++) {
        int32_t status = results->rows[i].record.status;
        bad += !results->rows[i].outside && (status == TRIAL_FAILED || status == TRIAL_DIVERGED);
    }
    return bad;
}

static int32_t n_open(const struct results *results) {
    int32_t open = 0;
    for (int32_t i = 0; i < results->n_rows; i++) {
        int32_t status = results->rows[i].record.status;
        open += !results->rows[i].outside &&
                (status == TRIAL_PENDING || status == TRIAL_RUNNING || status == TRIAL_INTERRUPTED);
    }
    return open;
}

static enum lvs_status end_of(const struct driver *driver) {
    if (driver->gave_up) return LVS_LAUNCH;
    if (driver->stopping) return driver->used_up ? LVS_BUDGET : LVS_INTERRUPTED;
    if (n_open(&driver->results) > 0) return LVS_LAUNCH; /* every worker was lost */
    return n_bad(&driver->results) > 0 ? LVS_FAILED_TRIALS : LVS_OK;
}

static enum lvs_status note_end(struct driver *driver, struct lvs_error *err) {
    LVS_TRY(note_outside(driver, err));
    enum lvs_status code = end_of(driver);
    bool finished = code == LVS_OK || code == LVS_FAILED_TRIALS;
    struct journal_event event = journal_event_make(finished ? JOURNAL_FINISHED : JOURNAL_INTERRUPTED);
    event.status = (int32_t)code;
    LVS_TRY(driver_note(driver, &event, err));
    return journal_flush(driver->journal, err);
}

static enum lvs_status run(struct driver *driver, struct setup *setup, int32_t local_index, int32_t local_count,
                           const struct coordinator_action *actions, int32_t n_actions, struct lvs_error *err) {
    LVS_TRY(open_journal(driver, err));
    LVS_TRY(note_run(driver, err));
    LVS_TRY(lost_steps_note(driver, driver->lost, err));
    LVS_TRY(provenance_note(driver, err));
    LVS_TRY(driver_carry_out(driver, actions, n_actions, err));
    LVS_TRY(journal_flush(driver->journal, err));
    LVS_TRY(send_setup(setup, err));
    if (driver->first_rank == 0) LVS_TRY(start_local_worker(driver, setup, local_index, local_count, err));
    LVS_TRY(driver_loop(driver, err));
    return note_end(driver, err);
}

/* ---- rank 0: the end ---- */

static int terminal_width(void) {
    struct winsize size;
    if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 0;
}

static void print_table(const struct driver *driver, const struct results *results) {
    double wall = driver->started > 0 ? clock_steady() - driver->started : 0;
    static const char *const words[2][2] = {{"CPU ranks", "CPU rank"}, {"GPUs", "GPU"}};
    bool cuda = strcmp(sweep_facts_backend(driver->facts), "cuda") == 0;
    struct results_summary summary = {.n_devices = driver->n_workers,
                                      .device_word = words[cuda][driver->n_workers == 1],
                                      .busy_percent =
                                          wall > 0 ? 100 * driver->busy_seconds / (wall * driver->n_workers) : -1,
                                      .wall_seconds = wall > 0 ? wall : -1,
                                      .n_retries = driver->n_retries};
    struct strbuf text;
    strbuf_init(&text);
    results_write_table(results, &summary, terminal_width(), &text);
    fputs(text.text ? text.text : "", stdout);
    fflush(stdout);
    strbuf_free(&text);
}

static void link_best(const struct driver *driver) {
    int32_t best = coordinator_best(driver->coordinator);
    if (best < 0) return;
    char target[LVS_PATH_MAX], path[LVS_PATH_MAX], fresh[LVS_PATH_MAX + 16];
    struct lvs_error err;
    snprintf(target, sizeof target, "trials/%s", coordinator_trial(driver->coordinator, best)->name);
    if (file_join(path, driver->config->output, "best", &err) != LVS_OK) return;
    snprintf(fresh, sizeof fresh, "%s.new", path);
    unlink(fresh);
    if (symlink(target, fresh) != 0 || fault_rename("best_link", fresh, path) != 0)
        log_warning("%s: cannot make the link: %s", path, strerror(errno));
    unlink(fresh);
}

static void driver_free(struct driver *driver) {
    struct lvs_error ignored;
    worker_destroy(driver->local);
    if (driver->journal) journal_close(driver->journal, &ignored);
    coordinator_destroy(driver->coordinator);
    results_free(&driver->results);
    for (int32_t i = 0; i < driver->n_inbox; i++)
        free(driver->inbox[i].payload);
    for (int32_t i = 0; i < driver->n_outgoing; i++)
        free(driver->outgoing[i].assignment);
    free(driver->inbox);
    free(driver->outgoing);
    free(driver->hellos);
    free(driver->has_hello);
    free(driver->is_lost);
    free(driver->progress);
    free(driver->busy_since);
}

static double modified(const char *output, const char *name) {
    char path[LVS_PATH_MAX];
    struct stat info;
    if (file_join(path, output, name, NULL) != LVS_OK || stat(path, &info) != 0) return -1;
    return (double)info.st_mtim.tv_sec + 1e-9 * (double)info.st_mtim.tv_nsec;
}

/* A run that died between its last journal line and results.h5 left an old view behind, or none. */
static enum lvs_status mend_views(const struct driver *driver, const struct results *results, struct lvs_error *err) {
    const char *output = results->output;
    if (modified(output, RESULTS_FILE) >= modified(output, RESULTS_JOURNAL)) return LVS_OK;
    log_info("%s/" RESULTS_FILE " is older than the journal: it is written anew", output);
    link_best(driver);
    return results_publish(results, err);
}

/* LVS_BUDGET when no time is left for what is open. What there is is shown and published as the journal has it: nobody
 * enters lost steps into that now. */
static enum lvs_status refuse_used_up(const struct driver *driver, struct lvs_error *err) {
    struct lvs_error why = {0};
    struct results results;
    if (deadline_check(driver->config, &driver->earlier, &why) == LVS_OK) return LVS_OK;
    LVS_TRY(results_read_whole(driver->config->output, &results, err));
    print_table(driver, &results);
    enum lvs_status status = mend_views(driver, &results, err);
    results_free(&results);
    if (status != LVS_OK) return status;
    *err = why;
    return why.status;
}

/* Runs what is open; *publish says whether the ranks write results.h5 together afterwards. */
static enum lvs_status drive(struct driver *driver, const struct sweep_options *options, struct prepared *prepared,
                             int32_t local_index, int32_t local_count, bool *publish, struct lvs_error *err) {
    struct sweep_planner context = {.config = prepared->config, .facts = prepared->facts};
    struct coordinator_event start = {.kind = EVENT_START};
    const struct coordinator_action *actions;
    int32_t n_actions;
    struct setup setup;
    LVS_TRY(create_coordinator(driver, options, &context, &prepared->known, err));
    LVS_TRY(coordinator_handle(driver->coordinator, &start, &actions, &n_actions, err));
    if (is_complete(driver, &prepared->known, actions, n_actions)) {
        log_info("%s is finished: nothing to do", prepared->config->output);
        print_table(driver, &prepared->known);
        LVS_TRY(mend_views(driver, &prepared->known, err));
        return n_bad(&prepared->known) > 0 ? LVS_FAILED_TRIALS : LVS_OK;
    }
    driver->earlier = results_time_used(&prepared->known);
    if (!coordinator_finished(driver->coordinator)) LVS_TRY(refuse_used_up(driver, err));
    prepared_setup(options, prepared, &setup);
    driver->setup = &setup;
    driver->lock = &prepared->lock;
    driver->lost = &prepared->lost;
    LVS_TRY(run(driver, &setup, local_index, local_count, actions, n_actions, err));
    *publish = true;
    link_best(driver);
    return end_of(driver);
}

static bool coordinates_only(const struct config *config, const struct sweep_facts *facts, int32_t local_ranks) {
    if (protocol_size() == 1) return false;
    if (config->coordinator != COORDINATOR_AUTO) return config->coordinator == COORDINATOR_OWN_RANK;
    bool spare_gpu = strcmp(sweep_facts_backend(facts), "cuda") == 0 && placement_visible_gpus() >= local_ranks;
    return !spare_gpu;
}

static enum lvs_status run_as_coordinator(const struct sweep_options *options, struct lvs_error *err) {
    struct prepared prepared = {0};
    struct driver driver = {.options = options};
    bool publish = false;
    enum lvs_status status = sweep_prepare(options, &prepared, err);
    int32_t own_rank = 1, index = 0, count = 0, local_ranks = 0;
    protocol_local(true, &index, &local_ranks);
    if (status == LVS_OK) own_rank = coordinates_only(prepared.config, prepared.facts, local_ranks);
    if (status == LVS_OK) status = sweep_check_memory(&prepared, local_ranks - own_rank, err);
    int32_t head[2] = {(int32_t)status, own_rank};
    tell_workers(MESSAGE_READY, head, sizeof head, err);
    if (status == LVS_OK) {
        protocol_local(!own_rank, &index, &count);
        driver.config = prepared.config;
        driver.facts = prepared.facts;
        driver.first_rank = own_rank;
        driver.n_workers = protocol_size() - own_rank;
        driver.hellos = lvs_calloc((size_t)driver.n_workers, sizeof *driver.hellos);
        driver.has_hello = lvs_calloc((size_t)driver.n_workers, sizeof *driver.has_hello);
        driver.is_lost = lvs_calloc((size_t)driver.n_workers, sizeof *driver.is_lost);
        driver.progress = lvs_calloc((size_t)driver.n_workers, sizeof *driver.progress);
        driver.busy_since = lvs_calloc((size_t)driver.n_workers, sizeof *driver.busy_since);
        status = drive(&driver, options, &prepared, index, count, &publish, err);
        int32_t told = publish;
        tell_workers(MESSAGE_END, &told, sizeof told, &(struct lvs_error){0});
        protocol_finish();
    }
    if (publish) {
        struct lvs_error why = {0};
        if (protocol_publish(&driver.results, &why) != LVS_OK) {
            log_warning("%s; results.h5 is written by one process instead", why.text);
            if (results_publish(&driver.results, &why) != LVS_OK) {
                *err = why;
                status = why.status;
            }
        }
        print_table(&driver, &driver.results);
    }
    driver_free(&driver);
    prepared_free(&prepared);
    return status;
}

static enum lvs_status run_as_worker(struct lvs_error *err) {
    int32_t index, count, local_ranks, head[2];
    protocol_local(true, &index, &local_ranks);
    struct message message = sweep_wait_for_message();
    memcpy(head, message.payload, sizeof head);
    free(message.payload);
    if (head[0] != LVS_OK) return LVS_OK; /* rank 0 has said why */
    protocol_local(true, &index, &count);
    /* A failed common write is rank 0's to mend and to report. */
    if (sweep_work(index, count)) protocol_publish(NULL, err);
    return LVS_OK;
}

enum lvs_status sweep_run(const struct sweep_options *options) {
    struct lvs_error err = {0};
    bool coordinates = protocol_rank() == 0;
    log_set_rank(protocol_size() > 1 ? protocol_rank() : -1);
    stop_install(coordinates);
    enum lvs_status status = sweep_check_launch(&err);
    if (status == LVS_OK && !protocol_same_text(LVSWEEP_VERSION " " LVSWEEP_COMMIT))
        status = lvs_fail(&err, LVS_LAUNCH,
                          "launch: the ranks run different versions of lvsweep; this one is %s %s. "
                          "Install one version on all nodes. Nothing was started (exit 7)",
                          LVSWEEP_VERSION, LVSWEEP_COMMIT);
    if (status == LVS_OK) status = coordinates ? run_as_coordinator(options, &err) : run_as_worker(&err);
    bool told = status == LVS_OK || status == LVS_FAILED_TRIALS || status == LVS_INTERRUPTED;
    if (!told && err.text[0]) fprintf(stderr, "%s\n", err.text);
    return status;
}
