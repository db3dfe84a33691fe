/* A random model of a few thousand weights on the CPU (or the backend that LVSWEEP_TEST_BACKEND names), random windows,
 * and packs of trials to train on them. */
#pragma once
#include "lvsweep/train.h"

struct pack_fixture {
    struct compute compute;
    struct model *model;
    struct window_set windows;
};
#define PACK_MAX 4

/* `threads` of the CPU device. Fails the test when something cannot be made. */
void pack_fixture_open(struct pack_fixture *fixture, int32_t threads);
/* The same through another table for the same device: wrap() gets the backend's own. */
void pack_fixture_open_wrapped(struct pack_fixture *fixture, int32_t threads,
                               const struct backend *(*wrap)(const struct backend *own));
void pack_fixture_close(struct pack_fixture *fixture);
/* A trial that trains: rank 4, q and v, batch 3, 12 steps, Adam at 1e-2, key "key-<number>". */
struct trial pack_trial(int32_t number);
struct trainer *pack_trainer(const struct pack_fixture *fixture, const struct trial *trials, int32_t n_trials);

/* What training a trial gave. */
struct pack_result {
    int32_t step, n_steps, rank;
    float *loss, *gradient_norm; /* [n_steps] */
    float *adapter;              /* without the rank's padding */
    int64_t n_floats;
};
struct pack_result pack_result_read(struct trainer *trainer, int32_t k, const struct trial *trial);
void pack_result_free(struct pack_result *result);
/* Fails unless steps, curves and adapter are the same to the bit. */
void pack_result_assert_equal(const struct pack_result *a, const struct pack_result *b, const char *what);
/* Trains one trial alone to its end. */
struct pack_result pack_train_alone(const struct pack_fixture *fixture, const struct trial *trial);
