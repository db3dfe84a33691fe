/* A small set of two-channel series as text of two decimals, with the embedded checkpoint's tokenizer; and a random
 * model of its vocabulary on the CPU (or the backend that LVSWEEP_TEST_BACKEND names). */
#pragma once
#include "lvsweep/evaluate.h"

#define FIXTURE_SERIES  6
#define FIXTURE_TIME    12
#define FIXTURE_CHANNEL 2

struct forecast_fixture {
    struct series_set set;
    struct scaling scaling;
    struct text_format format;
    struct tokenizer tokenizer;
    struct settings settings;
    int32_t rows[FIXTURE_SERIES];
    struct forecast_task task; /* points to the members above */
    struct compute compute;
    struct model *model;
};

/* Smooth values between 0 and 14 after scaling, so that texts have unequal lengths. history = 50 %, horizon = rest,
 * greedy. Without a model. */
void forecast_fixture_open(struct forecast_fixture *fixture);
/* Adds a random model: 2 layers, 48 wide, 192 positions. Its text is noise. */
void forecast_fixture_add_model(struct forecast_fixture *fixture);
/* Adds the embedded checkpoint instead: its text is numbers. */
void forecast_fixture_add_checkpoint(struct forecast_fixture *fixture);
void forecast_fixture_close(struct forecast_fixture *fixture);
double forecast_fixture_scaled(const struct forecast_fixture *fixture, int32_t row, int32_t point, int32_t channel);

/* Device adapters [n] with random A and B of different scales, on a layout of rank 4 for q and v. */
struct fixture_adapters {
    struct lora_layout lora;
    struct adapters adapters;
    void *memory[2];
};
void fixture_adapters_open(const struct forecast_fixture *fixture, int32_t n, struct fixture_adapters *out);
void fixture_adapters_close(const struct forecast_fixture *fixture, struct fixture_adapters *adapters);
