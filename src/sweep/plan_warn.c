/* Settings that are allowed and hardly meant: told by `lvsweep plan` and at the start, once a stage. */
#include <string.h>

#include "lvsweep/log.h"
#include "sweep_internal.h"

/* Where trials of a stage differ in what the metric does not see past, its best says little. */
static void warn_of_metric(const struct config *config) {
    for (int32_t stage = 0; stage < config->n_stages; stage++) {
        for (int32_t i = 0; i < config->stages[stage].n_axes; i++) {
            const struct config_axis *axis = &config->stages[stage].axes[i];
            if (axis->n_values < 2 || metric_comparable(config->metric, config_key_name(axis->key))) continue;
            log_warning("%s: [sweep] metric = %s is not comparable over %s, which [stage.%s] varies; "
                        "val_nats_per_value is",
                        config->path, config->metric, config_key_name(axis->key), config->stages[stage].name);
        }
    }
}

/* A share where a percentage is asked for: nearly every value would be scaled far above scale_to. */
static void warn_of_percentile(const struct config *config) {
    double percentile = config->scale_percentile;
    if (percentile > 0 && percentile <= 1 && config->runner != RUNNER_FAKE)
        log_warning("%s: [data] scale_percentile = %g is %g %%; did you mean %g?", config->path, percentile, percentile,
                    100 * percentile);
}

static bool warn_of_warmup(const struct config *config, const struct trial *trial, const char *stage) {
    const struct settings *settings = &trial->settings;
    if (settings->warmup_percent >= 0 || settings->warmup_steps <= settings->steps.value) return false;
    log_warning("%s: [stage.%s]: warmup = %.0f is longer than the %.0f steps of %s: the learning rate is never reached",
                config->path, stage, settings->warmup_steps, settings->steps.value, trial->name);
    return true;
}

static bool warn_of_every(const struct config *config, const struct trial *trial, const char *stage) {
    const struct settings *settings = &trial->settings;
    if (settings->every <= settings->steps.value) return false;
    log_warning("%s: [stage.%s]: every = %d is longer than the %.0f steps of %s: nothing is evaluated on the way",
                config->path, stage, settings->every, settings->steps.value, trial->name);
    return true;
}

static bool warn_of_worst(const struct config *config, const struct split *split, const struct settings *settings,
                          const char *stage) {
    static const char *const names[SPLIT_COUNT] = {"training", "validation", "test"};
    for (int part = 0; part < SPLIT_COUNT; part++) {
        if (!(settings->forecast_on >> part & 1u) || settings->series.worst <= split->n[part]) continue;
        log_warning("%s: [stage.%s]: series = worst:%d, but the %s split has %d series: all of them are forecast",
                    config->path, stage, settings->series.worst, names[part], split->n[part]);
        return true;
    }
    return false;
}

void plan_warn(const struct config *config, const struct sweep_facts *facts, const struct plan *plan) {
    bool warmup[CONFIG_MAX_STAGES] = {false}, every[CONFIG_MAX_STAGES] = {false}, worst[CONFIG_MAX_STAGES] = {false};
    warn_of_metric(config);
    warn_of_percentile(config);
    for (int32_t i = 0; i < plan->n_rows; i++) {
        const int32_t s = plan->rows[i].stage;
        const struct trial *trial = coordinator_trial(plan->coordinator, plan->rows[i].trial);
        const char *stage = config->stages[s].name;
        if (trial->settings.steps.unit != AMOUNT_COUNT) continue;
        if (!warmup[s]) warmup[s] = warn_of_warmup(config, trial, stage);
        if (!every[s]) every[s] = warn_of_every(config, trial, stage);
        if (!worst[s] && config->runner != RUNNER_FAKE)
            worst[s] = warn_of_worst(config, sweep_facts_split(facts), &trial->settings, stage);
    }
}
