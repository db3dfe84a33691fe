/* Sample trials, records and tables that the tests of results/ share: every member different from "unknown". */
#pragma once
#include "lvsweep/results.h"

void sample_trial(int32_t index, int32_t stage, struct trial *out);
/* Done, with metrics of two channels that depend on the index. */
void sample_record(const struct trial *trial, struct record *out);
/* The first event of a run: two stages, two channels, texts that a journal has to escape. It points to *sweep. */
struct journal_event sample_sweep_event(double flops_cap, struct journal_sweep *sweep);
/* A table of n trials in stages search (all) and final (the last one), through journal events. */
void sample_results(struct results *out, const char *output, int32_t n_trials);
/* Curves (every third trial has none) and forecasts of the first trials: other series and points from trial to trial.
 */
void sample_files(const struct results *results);
