/* What trials are compared with: names of the baselines, and one of which nothing is known yet. */
#include <math.h>
#include <string.h>

#include "lvsweep/results.h"

static const char *const baseline_names[BASELINE_COUNT] = {
    [BASELINE_UNTRAINED] = "untrained", [BASELINE_LAST_VALUE] = "last_value", [BASELINE_MEAN] = "mean"};

const char *baseline_name(int32_t kind) {
    return kind >= 0 && kind < BASELINE_COUNT ? baseline_names[kind] : "unknown";
}

void baseline_init(struct baseline *baseline, enum baseline_kind kind) {
    struct trial trial;
    struct record record;
    memset(&trial, 0, sizeof trial);
    record_init(&record, &trial);
    memset(baseline, 0, sizeof *baseline);
    baseline->kind = kind;
    baseline->context = baseline->decimals = -1;
    baseline->val_loss = record.val_loss;
    baseline->test_loss = record.test_loss;
    baseline->val = record.val;
    baseline->test = record.test;
    baseline->seconds = NAN;
}
