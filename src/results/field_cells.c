/* Cells of columns: how a row of the list is read from a row of the table, as a number, an integer or text. */
#include "fields_internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- computed columns ---- */

double field_val_loss_perplexity(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    return exp(row->record.val_loss.loss);
}

double field_test_loss_perplexity(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    return exp(row->record.test_loss.loss);
}

double field_alpha(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    const struct settings *settings = &row->trial.settings;
    return settings->alpha_times_rank ? settings->alpha_value * settings->lora_rank : settings->alpha_value;
}

double field_clip_norm(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    return row->trial.settings.clip_norm > 0 ? row->trial.settings.clip_norm : NAN;
}

double field_budget_percent(const struct results *results, const struct result_row *row, int32_t k) {
    (void)k;
    return ledger_percent(&results->ledger, row->charged);
}

int64_t field_in_stage(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results;
    return row->stages >> k & 1u;
}

int64_t field_steps(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    double steps = row->trial.settings.steps.value;
    return steps >= 0 && steps < 9e18 ? (int64_t)steps : 0;
}

/* A failed attempt leaves no curves. */
int64_t field_n_step(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    int32_t status = row->record.status;
    bool has_curves =
        status == TRIAL_DONE || status == TRIAL_DIVERGED || status == TRIAL_STOPPED || status == TRIAL_SUPERSEDED;
    return has_curves && row->record.steps_done > 0 ? row->record.steps_done : 0;
}

int64_t field_rung_step(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    return row->rungs.n > 0 ? row->rungs.rung[row->rungs.n - 1].step : -1;
}

double field_rung_loss(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    return row->rungs.n > 0 ? row->rungs.rung[row->rungs.n - 1].loss : NAN;
}

int64_t field_stopped_at(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    return row->record.status == TRIAL_STOPPED ? row->record.steps_done : -1;
}

/* Of training: what its evaluation at the end would have cost is not known. */
int64_t field_flops_saved(const struct results *results, const struct result_row *row, int32_t k) {
    (void)results, (void)k;
    return row->record.status == TRIAL_STOPPED ? row->trial.price.training - row->record.flops_training : 0;
}

void field_trial_stage(const struct results *results, const struct result_row *row, struct strbuf *out) {
    int32_t stage = row->trial.stage;
    strbuf_add(out, stage >= 0 && stage < results->n_stages ? results->stage_name[stage] : "");
}

/* ---- reading ---- */

const struct field *field_find(const char *name) {
    for (int32_t i = 0; i < field_count(); i++)
        if (strcmp(field_at(i)->name, name) == 0) return field_at(i);
    return NULL;
}

int32_t field_width(const struct field *field, const struct results *results) {
    assert(field->axes <= AXES_TRIAL_STAGE);
    return field->axes == AXES_TRIAL_CHANNEL ? results->n_channel
           : field->axes == AXES_TRIAL_STAGE ? results->n_stages
                                             : 1;
}

static const char *member_at(const struct field *field, const struct result_row *row) {
    return (const char *)row + field->offset;
}

int64_t field_integer(const struct field *field, const struct results *results, const struct result_row *row,
                      int32_t k) {
    if (field->integer) return field->integer(results, row, k);
    if (field->member == MEMBER_I64) return ((const int64_t *)(const void *)member_at(field, row))[k];
    assert(field->member == MEMBER_I32);
    return ((const int32_t *)(const void *)member_at(field, row))[k];
}

double field_number(const struct field *field, const struct results *results, const struct result_row *row, int32_t k) {
    if (field->number) return field->number(results, row, k);
    if (field->member == MEMBER_F64) return ((const double *)(const void *)member_at(field, row))[k];
    int64_t value = field_integer(field, results, row, k);
    return (field->flags & FIELD_OPTIONAL) && value == -1 ? NAN : (double)value;
}

void field_text(const struct field *field, const struct results *results, const struct result_row *row,
                struct strbuf *out) {
    assert(field->type == FIELD_TEXT);
    if (field->words) {
        field->words(results, row, out);
    } else if (field->key) {
        const struct config_key *key = config_key_find_setting(field->key);
        assert(key);
        settings_get(&row->trial.settings, key, out);
    } else {
        text_add_utf8(out, member_at(field, row));
    }
}

void field_write_cell(const struct field *field, const struct results *results, const struct result_row *row, int32_t k,
                      struct strbuf *out) {
    assert(field->axes <= AXES_TRIAL_STAGE);
    if (field->type == FIELD_TEXT)
        field_text(field, results, row, out);
    else if (field->type == FIELD_F64)
        text_add_shortest(out, field_number(field, results, row, k));
    else if (strcmp(field->name, "status") == 0)
        strbuf_add(out, trial_status_name(row->record.status));
    else if (!((field->flags & FIELD_OPTIONAL) && field_integer(field, results, row, k) == -1))
        text_add_integer(out, field_integer(field, results, row, k));
}
