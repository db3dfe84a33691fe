/* The coordinator's rows: appended once, found by key through two hash tables, queued longest first. */
#include <stdlib.h>
#include <string.h>

#include "coordinator_internal.h"

/* Keys are hashes already: their first eight digits index the table. */
static uint32_t key_slot(const char *key, uint32_t table_size) {
    uint32_t value = 0;
    for (int i = 0; i < 8 && key[i]; i++) {
        uint32_t digit = (uint32_t)(key[i] <= '9' ? key[i] - '0' : key[i] - 'a' + 10);
        value = value << 4 | (digit & 15);
    }
    return value & (table_size - 1);
}

static const char *key_of(const struct coordinator *c, const int32_t *table, int32_t row) {
    return table == c->by_eval_key ? coordinator_at(c, row)->trial.eval_key : coordinator_at(c, row)->trial.train_key;
}

/* The slot that holds the key, or the free one where it belongs. */
static uint32_t table_slot(const struct coordinator *c, const int32_t *table, const char *key) {
    uint32_t slot = key_slot(key, c->table_size);
    while (table[slot] >= 0 && strcmp(key_of(c, table, table[slot]), key) != 0)
        slot = (slot + 1) & (c->table_size - 1);
    return slot;
}

static void table_insert(struct coordinator *c, int32_t *table, int32_t row) {
    uint32_t slot = table_slot(c, table, key_of(c, table, row));
    if (table[slot] < 0) table[slot] = row;
}

void coordinator_expect_trials(struct coordinator *c, int64_t n) {
    uint32_t size = c->table_size ? c->table_size : 1024;
    while ((int64_t)size <= 2 * n)
        size *= 2;
    if (size == c->table_size) return;
    c->table_size = size;
    c->by_eval_key = lvs_realloc(c->by_eval_key, c->table_size * sizeof *c->by_eval_key);
    c->by_train_key = lvs_realloc(c->by_train_key, c->table_size * sizeof *c->by_train_key);
    memset(c->by_eval_key, 0xff, c->table_size * sizeof *c->by_eval_key);
    memset(c->by_train_key, 0xff, c->table_size * sizeof *c->by_train_key);
    for (int32_t row = 0; row < c->n_trials; row++) {
        table_insert(c, c->by_eval_key, row);
        table_insert(c, c->by_train_key, row);
    }
}

int32_t coordinator_append(struct coordinator *c, const struct trial *trial) {
    if (c->n_trials == c->n_blocks * TRIALS_A_BLOCK) {
        c->blocks = lvs_realloc(c->blocks, (size_t)(c->n_blocks + 1) * sizeof(void *));
        c->blocks[c->n_blocks++] = lvs_calloc(TRIALS_A_BLOCK, sizeof(struct trial_state));
    }
    coordinator_expect_trials(c, c->n_trials + 1);
    int32_t row = c->n_trials++;
    struct trial_state *state = coordinator_at(c, row);
    state->trial = *trial;
    state->trial.index = row;
    state->avoid = -1;
    state->known_stage = -1;
    record_init(&state->record, &state->trial);
    table_insert(c, c->by_eval_key, row);
    table_insert(c, c->by_train_key, row);
    return row;
}

int32_t coordinator_find_eval(const struct coordinator *c, const char *eval_key) {
    return c->table_size ? c->by_eval_key[table_slot(c, c->by_eval_key, eval_key)] : -1;
}

int32_t coordinator_find_train(const struct coordinator *c, const char *train_key) {
    return c->table_size ? c->by_train_key[table_slot(c, c->by_train_key, train_key)] : -1;
}

/* ---- trainings ---- */

/* The row that stands for a training: what is evaluated of it in other ways counts with it, once. */
static struct trial_state *training_of(const struct coordinator *c, int32_t row) {
    return coordinator_at(c, coordinator_find_train(c, coordinator_at(c, row)->trial.train_key));
}

bool coordinator_may_begin(const struct coordinator *c, int32_t row) {
    int32_t cap = c->options.trials_cap;
    return cap <= 0 || coordinator_at(c, row)->evaluate_only || training_of(c, row)->begun || c->n_begun < cap;
}

void coordinator_begin(struct coordinator *c, int32_t row) {
    struct trial_state *training = training_of(c, row);
    if (coordinator_at(c, row)->evaluate_only || training->begun) return;
    training->begun = true;
    c->n_begun++;
}

int64_t coordinator_counted(const struct coordinator *c, const struct record *record) {
    return record->flops_training + (c->options.count_evaluation ? record->flops_evaluation : 0);
}

/* ---- the queue: a heap, so that a retry in a long sweep costs no sort ---- */

static bool goes_before(const struct queued_trial *a, const struct queued_trial *b) {
    return a->cost != b->cost ? a->cost > b->cost : a->row < b->row;
}

void coordinator_enqueue(struct coordinator *c, int32_t row) {
    if (c->n_queue == c->queue_capacity) {
        c->queue_capacity = c->queue_capacity ? c->queue_capacity * 2 : 64;
        c->queue = lvs_realloc(c->queue, (size_t)c->queue_capacity * sizeof *c->queue);
    }
    struct trial_state *state = coordinator_at(c, row);
    state->queued = true;
    bool whole = state->until == 0 && state->rungs.n == 0;
    __int128 all = (__int128)state->trial.price.training + state->trial.price.evaluation;
    struct queued_trial entry = {.cost = whole ? all : state->segment, .row = row};
    int32_t at = c->n_queue++;
    for (; at > 0 && goes_before(&entry, &c->queue[(at - 1) / 2]); at = (at - 1) / 2)
        c->queue[at] = c->queue[(at - 1) / 2];
    c->queue[at] = entry;
}

int32_t coordinator_dequeue(struct coordinator *c) {
    int32_t row = c->queue[0].row, at = 0;
    struct queued_trial last = c->queue[--c->n_queue];
    for (int32_t child; (child = 2 * at + 1) < c->n_queue; at = child) {
        if (child + 1 < c->n_queue && goes_before(&c->queue[child + 1], &c->queue[child])) child++;
        if (!goes_before(&c->queue[child], &last)) break;
        c->queue[at] = c->queue[child];
    }
    if (c->n_queue > 0) c->queue[at] = last;
    coordinator_at(c, row)->queued = false;
    return row;
}

bool coordinator_has_trained(const struct coordinator *c, const char *train_key) {
    return coordinator_find_train(c, train_key) >= 0;
}
