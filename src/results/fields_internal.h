/* Columns that are computed, and curves; used by fields.c alone. */
#pragma once
#include "results_internal.h"

double field_val_loss_perplexity(const struct results *results, const struct result_row *row, int32_t k);
double field_test_loss_perplexity(const struct results *results, const struct result_row *row, int32_t k);
double field_alpha(const struct results *results, const struct result_row *row, int32_t k);
double field_clip_norm(const struct results *results, const struct result_row *row, int32_t k);
double field_budget_percent(const struct results *results, const struct result_row *row, int32_t k);
int64_t field_in_stage(const struct results *results, const struct result_row *row, int32_t k);
int64_t field_steps(const struct results *results, const struct result_row *row, int32_t k);
int64_t field_n_step(const struct results *results, const struct result_row *row, int32_t k);
int64_t field_rung_step(const struct results *results, const struct result_row *row, int32_t k);
double field_rung_loss(const struct results *results, const struct result_row *row, int32_t k);
int64_t field_stopped_at(const struct results *results, const struct result_row *row, int32_t k);
int64_t field_flops_saved(const struct results *results, const struct result_row *row, int32_t k);
void field_trial_stage(const struct results *results, const struct result_row *row, struct strbuf *out);
