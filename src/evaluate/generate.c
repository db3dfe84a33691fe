/* Forecasts by the model: many series decode together from one key/value cache, `samples` of each from one prefill.
 * The group that shares a cache is a function of the shapes alone, so that a forecast never depends on how much memory
 * happened to be free. Text to numbers is forecast_set.c's part. */
#include <stdlib.h>
#include <string.h>

#include "evaluate_internal.h"
#include "lvsweep/log.h"

/* New tokens between two looks at the host: a sequence decodes at most this much past its end. */
#define DECODE_STEPS 16
/* Key/value memory of a group, and sequences at most. */
#define GROUP_BYTES_CPU     ((int64_t)1 << 30)
#define GROUP_BYTES_GPU     ((int64_t)16 << 30)
#define GROUP_SEQUENCES_MAX 2048

struct generation {
    const struct evaluated *evaluated;
    const struct forecast_task *task;
    const struct forecast_plan *plans;
    struct forecast_set *out;
    struct adapters view;
    const struct adapters *adapters; /* the evaluated one alone, or NULL */
    struct kv_cache_options options; /* but n_sequences and seed */
    int32_t token_limit;             /* the largest of the plans */
    int32_t separator;               /* id of ';' */
    uint8_t *allowed;                /* [model vocabulary], owned, or NULL */
};

/* The sequences of one cache: plans [first, first + count), samples of each side by side. */
struct group {
    int32_t first, count, n_sequences;
    struct kv_cache *cache;
    int32_t *tokens, *length; /* [n_sequences][capacity], [n_sequences] */
    size_t *end;              /* [n_sequences] tokens looked at; when finished, the text's end */
    int32_t *n_separators;    /* [n_sequences] */
    uint8_t *finished;        /* [n_sequences] */
};

/* ---- set-up ---- */

static enum lvs_status allow_characters(struct generation *generation, struct lvs_error *err) {
    const struct forecast_task *task = generation->task;
    char characters[TEXT_CHARACTERS_MAX];
    int32_t ids[TEXT_CHARACTERS_MAX];
    const int64_t n_values = (int64_t)task->set->n_series * task->set->n_time * task->set->n_channel;
    bool any_negative = false;
    for (int64_t i = 0; i < n_values; i++)
        any_negative |= task->set->values[i] < 0;
    text_format_characters(task->format, any_negative, characters);
    LVS_TRY(tokenizer_encode(task->tokenizer, characters, strlen(characters), ids, err));
    generation->allowed = lvs_calloc((size_t)model_vocabulary(generation->evaluated->model), 1);
    for (size_t i = 0; i < strlen(characters); i++)
        generation->allowed[ids[i]] = 1;
    return LVS_OK;
}

/* Takes the ends of text from what is allowed. */
static void forbid_ends(struct generation *generation) {
    const int32_t n = model_vocabulary(generation->evaluated->model);
    if (!generation->allowed) {
        generation->allowed = lvs_malloc((size_t)n);
        memset(generation->allowed, 1, (size_t)n);
    }
    for (int32_t id = 0; id < n; id++)
        if (tokenizer_is_end(generation->task->tokenizer, id)) generation->allowed[id] = 0;
}

static enum lvs_status generation_init(struct generation *generation, struct lvs_error *err) {
    const struct settings *settings = generation->task->settings;
    generation->adapters = evaluated_view(generation->evaluated, &generation->view);
    generation->options = (struct kv_cache_options){
        .samples = settings->samples,
        .lora = generation->evaluated->adapters ? generation->evaluated->lora : NULL,
        .sampling = {.greedy = settings->decoding == DECODING_GREEDY,
                     .top_k = settings->top_k,
                     .temperature = (float)settings->temperature,
                     .top_p = (float)settings->top_p,
                     .repetition_penalty = (float)settings->repetition_penalty},
    };
    LVS_TRY(tokenizer_encode(generation->task->tokenizer, ";", 1, &generation->separator, err));
    if (settings->constrained) LVS_TRY(allow_characters(generation, err));
    if (settings->end == END_NEVER) forbid_ends(generation);
    generation->options.allowed = generation->allowed;
    return forecast_plans_capacity(generation->plans, generation->task->n_rows,
                                   model_config(generation->evaluated->model)->max_position,
                                   &generation->options.capacity, &generation->token_limit, err);
}

/* Plans that share a cache. */
static int32_t group_size(const struct generation *generation) {
    const struct model *model = generation->evaluated->model;
    const struct compute *compute = model_compute(model);
    const int64_t limit = strcmp(compute->backend->name, "cpu") == 0 ? GROUP_BYTES_CPU : GROUP_BYTES_GPU;
    struct kv_cache_options options = generation->options;
    int32_t most = GROUP_SEQUENCES_MAX / options.samples, size = most < 1 ? 1 : most;
    if (size > generation->task->n_rows) size = generation->task->n_rows;
    for (; size > 1; size = (size + 1) / 2) {
        options.n_sequences = size * options.samples;
        if (kv_cache_bytes(model_config(model), &options, compute->act_size) <= limit) break;
    }
    return size;
}

/* ---- one group ---- */

static void group_free(struct group *group) {
    if (group->cache) kv_cache_destroy(group->cache);
    free(group->tokens);
    free(group->length);
    free(group->end);
    free(group->n_separators);
    free(group->finished);
    *group = (struct group){0};
}

static enum lvs_status group_init(const struct generation *generation, int32_t first, int32_t count,
                                  struct group *group, struct lvs_error *err) {
    struct kv_cache_options options = generation->options;
    const int32_t n = count * options.samples;
    options.n_sequences = n;
    /* Sequences are counted within a cache; another seed keeps the draws of the groups apart. */
    options.seed = (uint64_t)generation->task->settings->seed + (uint64_t)first * 0x9E3779B97F4A7C15u;
    *group = (struct group){.first = first, .count = count, .n_sequences = n};
    LVS_TRY(kv_cache_create(generation->evaluated->model, &options, &group->cache, err));
    group->tokens = lvs_malloc((size_t)n * (size_t)options.capacity * sizeof *group->tokens);
    group->length = lvs_calloc((size_t)n, sizeof *group->length);
    group->end = lvs_calloc((size_t)n, sizeof *group->end);
    group->n_separators = lvs_calloc((size_t)n, sizeof *group->n_separators);
    group->finished = lvs_calloc((size_t)n, 1);
    for (int32_t i = 0; i < n; i++)
        group->end[i] = generation->plans[first + i / options.samples].prompt;
    return LVS_OK;
}

static enum lvs_status group_prefill(const struct generation *generation, struct group *group, struct lvs_error *err) {
    const struct forecast_plan *plans = generation->plans + group->first;
    int64_t *offset = lvs_calloc((size_t)group->count + 1, sizeof *offset);
    for (int32_t i = 0; i < group->count; i++)
        offset[i + 1] = offset[i] + (int64_t)plans[i].prompt;
    int32_t *ids = lvs_malloc(((size_t)offset[group->count] + 1) * sizeof *ids);
    enum lvs_status status = LVS_OK;
    for (int32_t i = 0; i < group->count && status == LVS_OK; i++)
        status = tokenizer_encode(generation->task->tokenizer, plans[i].text, plans[i].prompt, ids + offset[i], err);
    if (status == LVS_OK) status = kv_cache_prefill(group->cache, generation->adapters, ids, offset, group->count, err);
    if (status == LVS_OK) generation->out->n_prompt_tokens += offset[group->count];
    free(ids);
    free(offset);
    return status;
}

/* Looks at the new tokens of a sequence up to the last separator it needs, an end of text or its token limit. */
static void look_at_sequence(const struct generation *generation, struct group *group, int32_t i) {
    const struct forecast_plan *plan = &generation->plans[group->first + i / generation->options.samples];
    const int32_t *tokens = group->tokens + (int64_t)i * generation->options.capacity;
    const size_t last = plan->prompt + (size_t)plan->token_limit;
    while (group->end[i] < (size_t)group->length[i] && !group->finished[i]) {
        int32_t id = tokens[group->end[i]];
        generation->out->n_new_tokens++;
        if (tokenizer_is_end(generation->task->tokenizer, id)) {
            group->finished[i] = 1;
            return;
        }
        group->n_separators[i] += id == generation->separator;
        group->end[i]++;
        group->finished[i] = group->n_separators[i] == plan->horizon || group->end[i] == last;
    }
}

static enum lvs_status group_look(const struct generation *generation, struct group *group, bool *all,
                                  struct lvs_error *err) {
    LVS_TRY(kv_cache_tokens(group->cache, group->tokens, group->length, err));
    *all = true;
    for (int32_t i = 0; i < group->n_sequences; i++) {
        look_at_sequence(generation, group, i);
        *all &= group->finished[i] != 0;
    }
    return *all ? LVS_OK : kv_cache_set_finished(group->cache, group->finished, err);
}

static void tell_progress(const struct generation *generation, const struct group *group, int32_t done) {
    const struct forecast_task *task = generation->task;
    double of_group = (double)done / generation->token_limit;
    if (task->progress) task->progress(task->context, (group->first + of_group * group->count) / task->n_rows);
}

static enum lvs_status group_decode(const struct generation *generation, struct group *group, struct lvs_error *err) {
    bool all = false;
    LVS_TRY(group_prefill(generation, group, err));
    for (int32_t done = 1; done < generation->token_limit && !all;) {
        int32_t left = generation->token_limit - done, steps = left < DECODE_STEPS ? left : DECODE_STEPS;
        LVS_TRY(kv_cache_decode(group->cache, generation->adapters, steps, err));
        done += steps;
        LVS_TRY(group_look(generation, group, &all, err));
        tell_progress(generation, group, all ? generation->token_limit : done);
    }
    return all ? LVS_OK : group_look(generation, group, &all, err);
}

static void group_read(const struct generation *generation, const struct group *group) {
    const int32_t samples = generation->options.samples;
    struct strbuf text;
    strbuf_init(&text);
    for (int32_t i = 0; i < group->n_sequences; i++) {
        const int32_t series = group->first + i / samples;
        const struct forecast_plan *plan = &generation->plans[series];
        const int32_t *tokens = group->tokens + (int64_t)i * generation->options.capacity;
        strbuf_clear(&text);
        tokenizer_decode(generation->task->tokenizer, tokens + plan->prompt, (int32_t)(group->end[i] - plan->prompt),
                         &text);
        forecast_set_read(generation->out, generation->task, plan, i % samples, series, text.text, text.length);
    }
    strbuf_free(&text);
}

static enum lvs_status run_group(const struct generation *generation, int32_t first, int32_t count,
                                 struct lvs_error *err) {
    struct group group;
    enum lvs_status status = group_init(generation, first, count, &group, err);
    if (status == LVS_OK) status = group_decode(generation, &group, err);
    if (status == LVS_OK) group_read(generation, &group);
    group_free(&group);
    return status;
}

static enum lvs_status run_groups(struct generation *generation, struct lvs_error *err) {
    const int32_t n = generation->task->n_rows;
    int32_t size = group_size(generation);
    for (int32_t first = 0; first < n;) {
        int32_t count = n - first < size ? n - first : size;
        enum lvs_status status = run_group(generation, first, count, err);
        if (status == LVS_LAUNCH && count > 1) {
            size = count / 2;
            log_warning("%d series do not fit the device's memory together (%s); trying %d%s", count,
                        err ? err->text : "no details", size,
                        generation->options.sampling.greedy ? "" : " (their random draws change)");
            continue;
        }
        if (status != LVS_OK) return status;
        first += count;
    }
    return LVS_OK;
}

enum lvs_status forecast_make(const struct evaluated *evaluated, const struct forecast_task *task, bool cross_entropy,
                              struct forecast_set *out, struct lvs_error *err) {
    struct forecast_plan *plans;
    *out = (struct forecast_set){0};
    if (task->settings->samples < 1) return lvs_fail(err, LVS_BUG, "%d samples a series", task->settings->samples);
    LVS_TRY(forecast_plans_make(task, &plans, err));
    forecast_set_make(task, plans, task->settings->samples, out);
    struct generation generation = {.evaluated = evaluated, .task = task, .plans = plans, .out = out};
    enum lvs_status status = task->n_rows > 0 ? generation_init(&generation, err) : LVS_OK;
    if (status == LVS_OK && task->n_rows > 0) status = run_groups(&generation, err);
    if (status == LVS_OK && cross_entropy) status = continuation_loss(evaluated, task, plans, out->cross_entropy, err);
    free(generation.allowed);
    forecast_plans_free(plans, task->n_rows);
    if (status != LVS_OK) forecast_set_free(out);
    return status;
}
