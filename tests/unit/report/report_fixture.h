/* Whole output folders of sweeps that never ran: a journal, curves and forecasts with the shapes that real ones have,
 * written through the functions that a sweep writes with. Same kind, same bytes but for the clock of the journal. */
#pragma once
#include "lvsweep/results.h"

/* Kinds: "full" three stages, seeds, a diverged, a failed and a cut trial, sampled forecasts; "one" a single trial
 * without forecasts; "broken" every trial failed; "running" half-way; "empty" no trial yet; "hostile" names and texts
 * that would break a careless page; "thousand" 1,000 trials of 600 steps. False when there is no such kind. */
bool report_fixture_write(const char *kind, const char *output);
