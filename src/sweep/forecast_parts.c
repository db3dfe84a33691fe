/* A forecast task with everything it points to, and whether the model has room for what a trial asks of it: asked
 * before anything starts, since a trial forecasts only when it has been trained. */
#include <stdlib.h>
#include <string.h>

#include "facts_internal.h"

/* ---- the task ---- */

void forecast_parts_free(struct forecast_parts *parts) {
    scaling_free(&parts->scaling);
    free(parts->rows);
}

enum lvs_status forecast_parts_make(const struct material *material, const struct settings *settings,
                                    enum split_part part, const struct series_choice *choice, const double *scores,
                                    struct forecast_parts *out, struct lvs_error *err) {
    *out = (struct forecast_parts){0};
    LVS_TRY(material_scaling(material, settings, &out->scaling, err));
    out->format = material_format(material, settings);
    out->rows = lvs_malloc((size_t)material->split.n[part] * sizeof *out->rows);
    int32_t n = series_choice_apply(choice, material->split.rows[part], material->split.n[part], scores,
                                    (uint64_t)material->config->split_seed, out->rows);
    out->task = (struct forecast_task){.set = &material->set,
                                       .scaling = &out->scaling,
                                       .format = &out->format,
                                       .tokenizer = &material->tokenizer,
                                       .rows = out->rows,
                                       .n_rows = n,
                                       .settings = settings};
    return LVS_OK;
}

/* ---- room ---- */

static enum lvs_status question_check(const struct sweep_facts *facts, const struct settings *settings,
                                      const struct forecast_question *question, struct lvs_error *err) {
    struct settings asked = *settings;
    struct forecast_parts parts;
    asked.decimals = question->decimals;
    LVS_TRY(forecast_parts_make(&facts->material, &asked, (enum split_part)question->part, &question->series, NULL,
                                &parts, err));
    enum lvs_status status = forecast_check_room(&parts.task, question->n_chosen, facts->model.max_position, err);
    forecast_parts_free(&parts);
    return status;
}

/* Most points of a grid ask the same: what was answered with yes is kept. */
static enum lvs_status question_ask(struct sweep_facts *facts, const struct settings *settings,
                                    const struct forecast_question *question, struct lvs_error *err) {
    for (int32_t i = 0; i < facts->n_fitting; i++)
        if (memcmp(&facts->fitting[i], question, sizeof *question) == 0) return LVS_OK;
    LVS_TRY(question_check(facts, settings, question, err));
    facts->fitting = lvs_realloc(facts->fitting, (size_t)(facts->n_fitting + 1) * sizeof *facts->fitting);
    facts->fitting[facts->n_fitting++] = *question;
    return LVS_OK;
}

/* `worst:n` forecasts every series with the sweep's own decimals before it chooses; then so many with the trial's, of
 * which is only known that they are among all. */
static enum lvs_status forecast_check(const struct config *config, struct sweep_facts *facts,
                                      const struct settings *settings, enum split_part part,
                                      const struct series_choice *choice, struct lvs_error *err) {
    const int32_t all = facts->material.split.n[part];
    struct forecast_question question;
    memset(&question, 0, sizeof question);
    question.history = settings->history;
    question.horizon = settings->horizon;
    question.part = part;
    if (choice->worst > 0) {
        question.decimals = config->defaults.decimals;
        question.n_chosen = all;
        LVS_TRY(question_ask(facts, settings, &question, err));
    } else {
        question.series = *choice;
    }
    question.decimals = settings->decimals;
    question.n_chosen = series_choice_least(choice, all);
    return question_ask(facts, settings, &question, err);
}

enum lvs_status facts_check_room(const struct config *config, struct sweep_facts *facts,
                                 const struct settings *settings, struct lvs_error *err) {
    if (!facts->has_material) return LVS_OK;
    if (settings->context > facts->model.max_position)
        return lvs_fail(err, LVS_INPUT,
                        "a context of %d tokens; the model knows positions up to %d (max_position_embeddings)",
                        settings->context, facts->model.max_position);
    for (int part = SPLIT_VALIDATION; part < SPLIT_COUNT; part++) {
        struct series_choice choice = narrow_choice(settings);
        if (!(settings->forecast_on >> part & 1)) continue;
        LVS_TRY(forecast_check(config, facts, settings, (enum split_part)part, &choice, err));
    }
    if (settings->every <= 0 || settings->every_metric != EVERY_METRIC_FORECAST) return LVS_OK;
    struct settings few = *settings;
    few.horizon = (struct amount){.unit = AMOUNT_POINTS, .value = settings->every_horizon};
    return forecast_check(config, facts, &few, SPLIT_VALIDATION, &settings->every_series, err);
}
