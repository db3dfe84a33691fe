/* Made-up sweeps for the report. Losses follow a smooth law of rank, rate and context with seeded noise, so that the
 * pictures look like those of a real sweep. */
#include "report_fixture.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP_FLOPS 5600000000000LL
#define START_TIME 1.79e9

struct fixture {
    char output[LVS_PATH_MAX];
    struct journal *journal;
    uint64_t random;
    double time;        /* of the next event */
    double free_at[16]; /* when each worker is free again */
    int32_t n_workers, n_trials, samples;
    double flops_cap;
    bool hostile, pack; /* pack: seeds 0 and 1 train together */
    int32_t last_worker;
    double last_start;
};

static double uniform(struct fixture *f) {
    f->random += 0x9E3779B97F4A7C15u;
    uint64_t z = f->random;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

static double normal(struct fixture *f) {
    return sqrt(-2 * log(uniform(f) + 1e-12)) * cos(6.283185307179586 * uniform(f));
}

static void must(enum lvs_status status, const struct lvs_error *err) {
    if (status == LVS_OK) return;
    fprintf(stderr, "report fixture: %s\n", err->text);
    abort();
}

static void note(struct fixture *f, struct journal_event event) {
    struct lvs_error err = {0};
    event.time = f->time;
    must(journal_append(f->journal, &event, &err), &err);
}

/* ---- beginnings ---- */

static void note_sweep(struct fixture *f, const char *name, int32_t n_stages) {
    static const char *const stages[] = {"search", "context", "final"};
    static const char *const channels[] = {"prey", "predator"}, *const units[] = {"individuals", "individuals"};
    static const char *const bad_stages[] = {"a<b>&\"c\"", "x'</svg>", "\xff\xfe"};
    struct journal_sweep sweep = {.version = "0.1.0",
                                  .name = name,
                                  .metric = "val_loss",
                                  .convention = "table1",
                                  .config_given = f->hostile ? "</pre></details><script>alert(1)</script>\n"
                                                             : "[stage.search]\nrank = 2, 4, 8\n",
                                  .config_effective = "[sweep]\nmetric = val_loss\n\n[data]\ndecimals = 2\n",
                                  .data_hash = "4f2a19c07be3d8865d10aa7c3c1f7e92",
                                  .model_hash = "a81be0f3921c44d0a7e65f2d9b7710c5",
                                  .command = "mpirun -n 9 lvsweep sweeps/predator-prey.ini",
                                  .flops_cap = f->flops_cap,
                                  .n_stages = n_stages,
                                  .stage_name = f->hostile ? bad_stages : stages,
                                  .n_channel = 2,
                                  .channel_name = channels,
                                  .channel_unit = units,
                                  .time_unit = "years"};
    struct journal_event event = journal_event_make(JOURNAL_SWEEP);
    event.sweep = &sweep;
    note(f, event);
    static const char *const pairs[][2] = {
        {"commit", "9c1e5d2"}, {"host", "gpu-03"}, {"device", "8 × NVIDIA H200"}, {"MPI", "Open MPI 4.1.4"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct journal_event pair = journal_event_make(JOURNAL_PROVENANCE);
        pair.name = pairs[i][0];
        pair.text = f->hostile ? "<img src=x onerror=alert(1)>" : pairs[i][1];
        note(f, pair);
    }
}

static void fixture_open(struct fixture *f, const char *output, const char *name, int32_t n_stages) {
    struct lvs_error err = {0};
    char path[LVS_PATH_MAX];
    f->time = START_TIME;
    f->random = 1;
    if (!f->n_workers) f->n_workers = 8;
    if (f->flops_cap == 0) f->flops_cap = 1e17;
    for (int w = 0; w < 16; w++)
        f->free_at[w] = START_TIME + 21;
    lvs_copy(f->output, sizeof f->output, output);
    must(file_make_folder(output, &err), &err);
    must(file_join(path, output, RESULTS_JOURNAL, &err), &err);
    must(journal_open(path, NULL, NULL, &f->journal, &err), &err);
    note_sweep(f, name, n_stages);
}

static void fixture_close(struct fixture *f, bool finished) {
    struct lvs_error err = {0};
    for (int w = 0; w < f->n_workers; w++)
        if (finished && f->free_at[w] > f->time) f->time = f->free_at[w];
    if (finished) {
        struct journal_event event = journal_event_make(JOURNAL_FINISHED);
        event.status = 0;
        note(f, event);
    }
    must(journal_close(f->journal, &err), &err);
}

/* ---- trials ---- */

struct point {
    int32_t rank, context, steps, stage;
    double rate;
    int64_t seed;
};

static void point_trial(struct fixture *f, const struct point *point, struct trial *out) {
    memset(out, 0, sizeof *out);
    out->index = f->n_trials++;
    out->stage = point->stage;
    out->parent = -1;
    out->pack_width = 1;
    struct settings *s = &out->settings;
    *s = (struct settings){.lora_rank = point->rank,
                           .lora_targets = 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V,
                           .alpha_value = 1,
                           .alpha_times_rank = 1,
                           .from_adapter = "none",
                           .learning_rate = point->rate,
                           .context = point->context,
                           .batch = 4,
                           .steps = {.unit = AMOUNT_COUNT, .value = point->steps},
                           .seed = point->seed,
                           .warmup_percent = -1,
                           .warmup_steps = -1,
                           .onecycle_div = 25,
                           .onecycle_final_div = 1e4,
                           .stride = {.unit = AMOUNT_PERCENT, .value = 50},
                           .shuffle = 1,
                           .loss = 1,
                           .every = 50,
                           .history = {.unit = AMOUNT_PERCENT, .value = 50},
                           .horizon = {.unit = AMOUNT_REST},
                           .loss_on = 1u << SPLIT_VALIDATION,
                           .forecast_on = 1u << SPLIT_VALIDATION,
                           .temperature = 1,
                           .top_p = 1,
                           .repetition_penalty = 1,
                           .samples = 20,
                           .baselines = 7,
                           .decimals = 2};
    struct strbuf rate;
    strbuf_init(&rate);
    settings_get(s, config_key_find_setting("learning_rate"), &rate);
    snprintf(out->name, sizeof out->name, "r%d-lr%.24s-c%d-s%lld-%06x", point->rank, rate.text, point->context,
             (long long)point->seed, (unsigned)out->index * 7919u & 0xFFFFFFu);
    strbuf_free(&rate);
    hash_bytes(out->name, strlen(out->name), out->train_key);
    hash_bytes(out->train_key, strlen(out->train_key), out->eval_key);
    int64_t step = STEP_FLOPS / 512 * point->context;
    out->price = (struct trial_price){
        .step = step, .training = step * point->steps, .evaluation = step * 40, .counted = step * (point->steps + 40)};
}

/* The loss after `steps`, without noise. */
static double law(const struct point *point, double steps) {
    double speed = point->rate * 1e4 * (0.6 + 0.1 * point->rank);
    double least = 0.26 + 0.10 * 512 / point->context + 0.16 / point->rank + (point->rate > 1e-3 ? 0.5 : 0);
    return least + (1.25 - least * 0.5) * pow(1 + speed * steps / 40, -0.55);
}

static void write_curves(struct fixture *f, const struct point *point, const char *folder, int32_t steps_done,
                         bool diverged, double *last_val) {
    struct trial_curves curves = {.n_step = steps_done, .n_evaluation = 0};
    const int32_t every = 50;
    curves.train_loss = lvs_malloc((size_t)steps_done * sizeof(float));
    curves.gradient_norm = lvs_malloc((size_t)steps_done * sizeof(float));
    curves.evaluation_step = lvs_malloc(64 * sizeof(int32_t));
    curves.val_loss = lvs_malloc(64 * sizeof(double));
    curves.val_mae_scaled = lvs_malloc(64 * sizeof(double));
    curves.val_mse_scaled = lvs_malloc(64 * sizeof(double));
    double offset = 0.015 * normal(f);
    for (int32_t k = 0; k < steps_done; k++) {
        double loss = law(point, k) + offset + 0.06 * normal(f) * law(point, k);
        if (diverged && k > steps_done - 12) loss *= 1 + 0.4 * (k - steps_done + 12);
        curves.train_loss[k] = diverged && k + 1 == steps_done ? NAN : (float)loss;
        curves.gradient_norm[k] = (float)(0.3 + 0.1 * fabs(normal(f)));
        if ((k + 1) % every || curves.n_evaluation == 64 || (diverged && k + 12 > steps_done)) continue;
        curves.evaluation_step[curves.n_evaluation] = k + 1;
        curves.val_loss[curves.n_evaluation] = law(point, k) + offset + 0.01 + 0.006 * normal(f);
        curves.val_mae_scaled[curves.n_evaluation] = curves.val_mse_scaled[curves.n_evaluation] = NAN;
        curves.n_evaluation++;
    }
    *last_val = law(point, steps_done) + offset + 0.01;
    struct lvs_error err = {0};
    must(trial_curves_write(folder, &curves, &err), &err);
    trial_curves_free(&curves);
}

static void write_forecast(struct fixture *f, const char *folder, double error_size) {
    enum { SERIES = 25, TIMES = 50, CHANNELS = 2 };
    const size_t n = SERIES * TIMES * CHANNELS;
    struct trial_forecast part = {.part = SPLIT_VALIDATION, .n_series = SERIES, .n_time = TIMES, .n_channel = CHANNELS};
    part.series = lvs_malloc(SERIES * sizeof(int64_t));
    part.time = lvs_malloc(TIMES * sizeof(double));
    part.observed = lvs_malloc(n * sizeof(double));
    part.predicted = lvs_malloc(n * sizeof(double));
    part.low = lvs_malloc(n * sizeof(double));
    part.high = lvs_malloc(n * sizeof(double));
    for (int t = 0; t < TIMES; t++)
        part.time[t] = 2.0 * (50 + t);
    for (int s = 0; s < SERIES; s++) {
        double period = 18 + 10 * uniform(f), phase = 6 * uniform(f), worse = error_size * (0.2 + 3 * s / 24.0);
        part.series[s] = 701 + 8 * s;
        for (int t = 0; t < TIMES; t++)
            for (int c = 0; c < CHANNELS; c++) {
                double angle = 6.2832 * part.time[t] / period + phase - 1.1 * c;
                size_t i = (size_t)(s * TIMES + t) * CHANNELS + (size_t)c;
                part.observed[i] = (c ? 0.55 : 1.0) * (1 + 0.9 * sin(angle) * exp(0.35 * sin(angle)));
                part.predicted[i] = part.observed[i] + worse * sin(0.15 * t) * (1 + 0.3 * normal(f));
                part.low[i] = fmax(0, part.predicted[i] - 0.03 - 2 * worse * t / 50);
                part.high[i] = part.predicted[i] + 0.03 + 2 * worse * t / 50;
                if (s == SERIES - 1 && t > 40) part.predicted[i] = part.low[i] = part.high[i] = NAN;
            }
    }
    struct lvs_error err = {0};
    must(trial_forecast_write(folder, &part, 1, &err), &err);
    trial_forecast_free(&part);
}

static void fill_record(struct fixture *f, const struct trial *trial, double val_loss, struct record *record) {
    record->val_loss = (struct loss_metrics){val_loss, val_loss * 1.01, val_loss * 4.1};
    struct forecast_metrics *val = &record->val;
    val->mae_mean = 0.25 * val_loss * (1 + 0.1 * normal(f));
    val->mae_median = 0.9 * val->mae_mean;
    val->r2_mean = 1 - val_loss;
    val->success_rate = 0.96;
    val->n_series = 25;
    for (int c = 0; c < 2; c++) {
        val->mae[c] = val->mae_mean * (c ? 0.8 : 1.2);
        val->mse[c] = val->mae[c] * val->mae[c] * 1.6;
        val->r2[c] = 1 - val_loss * (c ? 0.9 : 1.1);
    }
    record->n_evaluation = record->steps_done / 50;
    record->best_step = record->steps_done;
    record->train_loss = val_loss * 0.95;
    record->flops_training = trial->price.step * record->steps_done;
    record->flops_evaluation = trial->price.evaluation;
    record->flops_executed = record->flops_training;
}

static int32_t next_worker(const struct fixture *f) {
    int32_t first = 0;
    for (int32_t w = 1; w < f->n_workers; w++)
        if (f->free_at[w] < f->free_at[first]) first = w;
    return first;
}

static void note_made(struct fixture *f, const struct trial *trial) {
    struct journal_event made = journal_event_make(JOURNAL_TRIAL);
    made.index = trial->index;
    made.stage = trial->stage;
    made.trial = trial;
    note(f, made);
}

static void note_number(struct fixture *f, enum journal_kind kind, int32_t index, int64_t flops) {
    struct journal_event event = journal_event_make(kind);
    event.index = index;
    event.flops = flops;
    event.lost = 0;
    note(f, event);
}

static void note_assigned(struct fixture *f, const struct trial *trial, int32_t worker) {
    struct journal_event event = journal_event_make(JOURNAL_ASSIGNED);
    event.index = trial->index;
    event.worker = worker + 1;
    event.attempt = 1;
    event.host = f->hostile ? "<node>&" : worker < 8 ? "gpu-03" : "gpu-04";
    event.device = "NVIDIA H200";
    f->time = f->last_start;
    note(f, event);
}

/* One trial from admission to its end with `status`; TRIAL_RUNNING and TRIAL_PENDING stop on the way. Returns its
 * index. */
static int32_t play(struct fixture *f, const struct point *point, int32_t status, const char *why) {
    struct trial trial;
    point_trial(f, point, &trial);
    note_made(f, &trial);
    if (status == TRIAL_CUT) {
        struct journal_event cut = journal_event_make(JOURNAL_CUT);
        cut.index = trial.index;
        cut.text = why;
        note(f, cut);
        return trial.index;
    }
    note_number(f, JOURNAL_ADMITTED, trial.index, trial.price.counted);
    if (status == TRIAL_PENDING) return trial.index;
    bool joins = f->pack && point->seed == 1;
    int32_t worker = joins ? f->last_worker : next_worker(f);
    f->last_start = joins ? f->last_start : f->free_at[worker];
    f->last_worker = worker;
    note_assigned(f, &trial, worker);
    double per_step = 0.05 * point->context / 512 * (1 + 0.05 * normal(f));
    if (status == TRIAL_RUNNING) {
        for (int k = 1; k <= 3; k++) {
            struct journal_event progress = journal_event_make(JOURNAL_PROGRESS);
            progress.index = trial.index;
            progress.step = point->steps * k / 5;
            progress.value = law(point, progress.step);
            f->time = f->free_at[worker] + per_step * progress.step;
            note(f, progress);
        }
        f->free_at[worker] = INFINITY;
        return trial.index;
    }
    struct record record;
    record_init(&record, &trial);
    record.index = trial.index;
    lvs_copy(record.train_key, sizeof record.train_key, trial.train_key);
    lvs_copy(record.eval_key, sizeof record.eval_key, trial.eval_key);
    record.status = status;
    record.attempt = status == TRIAL_FAILED ? 3 : 1;
    record.worker = worker + 1;
    record.steps_done = status == TRIAL_DONE ? point->steps : status == TRIAL_DIVERGED ? point->steps / 3 : 0;
    char folder[LVS_PATH_MAX];
    struct lvs_error err = {0};
    double val_loss = NAN;
    must(trial_folder(folder, f->output, trial.name, &err), &err);
    if (record.steps_done) write_curves(f, point, folder, record.steps_done, status == TRIAL_DIVERGED, &val_loss);
    if (status == TRIAL_DONE) fill_record(f, &trial, val_loss, &record);
    if (status == TRIAL_DONE && f->samples) write_forecast(f, folder, 0.25 * val_loss);
    record.flops_training = trial.price.step * record.steps_done;
    lvs_copy(record.error, sizeof record.error, why ? why : "");
    lvs_copy(record.host, sizeof record.host, f->hostile ? "<node>&" : "gpu-03");
    record.seconds = 4 + per_step * (record.steps_done ? record.steps_done : point->steps / 8);
    record.seconds_training = record.seconds - 4;
    record.tokens_per_second = point->context * 4 / per_step;
    record.pack_width = f->pack ? 2 : 1;
    record.start_time = f->last_start;
    record.end_time = f->time = record.start_time + record.seconds;
    f->free_at[worker] = fmax(f->free_at[worker], record.end_time);
    struct journal_event came = journal_event_make(JOURNAL_RECORD);
    came.index = trial.index;
    came.record = &record;
    note(f, came);
    note_number(f, JOURNAL_SETTLE, trial.index,
                record.flops_training + (status == TRIAL_DONE ? record.flops_evaluation : 0));
    return trial.index;
}

static void note_baselines(struct fixture *f, const int32_t *contexts, int32_t n) {
    for (int32_t k = 0; k < n * BASELINE_COUNT; k++) {
        struct baseline baseline;
        baseline_init(&baseline, (enum baseline_kind)(k % BASELINE_COUNT));
        bool untrained = baseline.kind == BASELINE_UNTRAINED;
        if (!untrained && k >= BASELINE_COUNT) continue;
        baseline.context = contexts[k / BASELINE_COUNT];
        baseline.decimals = 2;
        snprintf(baseline.key, sizeof baseline.key, "b%d", k);
        if (untrained) baseline.val_loss.loss = 1.19 + 60.0 / baseline.context;
        baseline.val.mae_mean = untrained ? 0.279 : 0.14;
        baseline.val.r2_mean = untrained ? -0.9 : 0.1;
        struct journal_event event = journal_event_make(JOURNAL_BASELINE);
        event.baseline = &baseline;
        event.flops = untrained ? STEP_FLOPS * 30 : 0;
        note(f, event);
    }
}

static void wait_for_all(struct fixture *f) {
    double last = f->time;
    for (int w = 0; w < f->n_workers; w++)
        if (f->free_at[w] > last) last = f->free_at[w];
    for (int w = 0; w < f->n_workers; w++)
        f->free_at[w] = last + 1;
    f->time = last + 1;
}

/* ---- kinds ---- */

static const char *const why_cut = "6.3e16 FLOPs do not fit what was left of the budget";
static const char *const why_diverged = "the loss was not finite at step 200";
static const char *const why_failed = "the trainer ended with signal 11 (SIGSEGV) three times; last on gpu-03, GPU 4";

static void search(struct fixture *f, bool running) {
    static const int32_t ranks[] = {2, 4, 8};
    static const double rates[] = {1e-5, 5e-5, 1e-4};
    for (int r = 0; r < 3; r++)
        for (int l = 0; l < 3; l++)
            for (int64_t seed = 0; seed < 2; seed++) {
                struct point point = {ranks[r], 512, 600, 0, rates[l], seed};
                int32_t k = r * 6 + l * 2 + (int32_t)seed;
                int32_t status = k == 4 ? TRIAL_DIVERGED : k == 7 ? TRIAL_FAILED : TRIAL_DONE;
                if (running && k >= 8) status = k < 13 ? TRIAL_RUNNING : TRIAL_PENDING;
                play(f, &point, status,
                     status == TRIAL_DIVERGED ? why_diverged
                     : status == TRIAL_FAILED ? why_failed
                                              : NULL);
            }
}

static void write_full(struct fixture *f, const char *output) {
    static const int32_t contexts[] = {128, 512, 768};
    f->samples = 20;
    fixture_open(f, output, "predator-prey", 3);
    note_baselines(f, contexts, 3);
    search(f, false);
    wait_for_all(f);
    for (int c = 0; c < 3; c++) {
        struct point point = {8, contexts[c], 600, 1, 1e-4, 2};
        play(f, &point, TRIAL_DONE, NULL);
    }
    wait_for_all(f);
    struct point last = {8, 768, 1500, 2, 1e-4, 0}, cut = {8, 768, 6000, 2, 1e-4, 1};
    play(f, &last, TRIAL_DONE, NULL);
    play(f, &cut, TRIAL_CUT, why_cut);
    fixture_close(f, true);
}

static void write_one(struct fixture *f, const char *output) {
    struct point point = {8, 512, 40, 0, 1e-4, 0};
    f->n_workers = 1;
    fixture_open(f, output, "one", 1);
    play(f, &point, TRIAL_DONE, NULL);
    fixture_close(f, true);
}

static void write_broken(struct fixture *f, const char *output) {
    fixture_open(f, output, "broken", 1);
    for (int k = 0; k < 4; k++) {
        struct point point = {2 << k % 2, 512, 600, 0, k < 2 ? 1e-4 : 1e-3, 0};
        play(f, &point, TRIAL_FAILED, why_failed);
    }
    fixture_close(f, true);
}

static void write_running(struct fixture *f, const char *output) {
    static const int32_t context = 512;
    f->n_workers = 5;
    fixture_open(f, output, "predator-prey", 3);
    note_baselines(f, &context, 1);
    search(f, true);
    fixture_close(f, false);
}

static void write_hostile(struct fixture *f, const char *output) {
    f->hostile = true;
    fixture_open(f, output, "<script>alert(\"x\")</script> & 'q' \xff", 3);
    struct point point = {8, 512, 40, 0, 1e-4, 0}, other = {4, 512, 40, 1, 1e-3, 0};
    play(f, &point, TRIAL_DONE, NULL);
    play(f, &other, TRIAL_FAILED, "]]></title><script>alert(2)</script>\x01\x1b[31m");
    fixture_close(f, true);
}

static void write_thousand(struct fixture *f, const char *output) {
    static const int32_t contexts[] = {64, 128, 256, 512, 768};
    f->n_workers = 16;
    f->flops_cap = 3e18;
    f->pack = true;
    fixture_open(f, output, "thousand", 1);
    for (int k = 0; k < 1000; k++) {
        struct point point = {.rank = 1 << k / 100 % 5 << (k / 500),
                              .rate = pow(10, -5 + 0.25 * (k / 10 % 10)),
                              .context = contexts[k / 2 % 5],
                              .steps = 600,
                              .seed = k % 2};
        play(f, &point, k % 97 == 5 ? TRIAL_DIVERGED : TRIAL_DONE, k % 97 == 5 ? why_diverged : NULL);
    }
    fixture_close(f, true);
}

bool report_fixture_write(const char *kind, const char *output) {
    static const struct {
        const char *name;
        void (*write)(struct fixture *f, const char *output);
    } kinds[] = {{"full", write_full},       {"one", write_one},         {"broken", write_broken},
                 {"running", write_running}, {"hostile", write_hostile}, {"thousand", write_thousand}};
    struct fixture fixture = {0};
    if (strcmp(kind, "empty") == 0) {
        fixture_open(&fixture, output, "empty", 1);
        fixture_close(&fixture, false);
        return true;
    }
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (strcmp(kinds[k].name, kind) != 0) continue;
        kinds[k].write(&fixture, output);
        return true;
    }
    return false;
}
