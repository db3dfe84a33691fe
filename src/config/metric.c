/* The list of metrics, and the words that name one of them. A column that is added to results.h5 and may choose gets
 * its row here; tests/unit/results/test_best.c holds this list against the list of columns. */
#include "lvsweep/metric.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOSS        METRIC_NEEDS_LOSS
#define FORECAST    METRIC_NEEDS_FORECAST
#define LOWEST      false
#define HIGHEST     true
#define ALL         false
#define EACH_OR_ALL true

static const struct metric metrics[] = {
    {"val_loss", LOSS, LOWEST, ALL},
    {"val_loss_masked", LOSS, LOWEST, ALL},
    {"val_perplexity", LOSS, LOWEST, ALL},
    {"val_nats_per_value", LOSS, LOWEST, ALL},
    {"val_mse", FORECAST, LOWEST, EACH_OR_ALL},
    {"val_mae", FORECAST, LOWEST, EACH_OR_ALL},
    {"val_r2", FORECAST, HIGHEST, EACH_OR_ALL},
    {"val_mse_scaled", FORECAST, LOWEST, EACH_OR_ALL},
    {"val_mae_scaled", FORECAST, LOWEST, EACH_OR_ALL},
    {"val_mae_mean", FORECAST, LOWEST, ALL},
    {"val_mae_median", FORECAST, LOWEST, ALL},
    {"val_mae_scaled_mean", FORECAST, LOWEST, ALL},
    {"val_mae_scaled_median", FORECAST, LOWEST, ALL},
    {"val_mse_mean", FORECAST, LOWEST, ALL},
    {"val_mse_scaled_mean", FORECAST, LOWEST, ALL},
    {"val_r2_mean", FORECAST, HIGHEST, ALL},
    {"val_mse_median", FORECAST, LOWEST, ALL},
    {"val_mse_scaled_median", FORECAST, LOWEST, ALL},
    {"val_r2_median", FORECAST, HIGHEST, ALL},
    {"val_mse_channel_median", FORECAST, LOWEST, EACH_OR_ALL},
    {"val_mae_channel_median", FORECAST, LOWEST, EACH_OR_ALL},
    {"val_r2_channel_median", FORECAST, HIGHEST, EACH_OR_ALL},
    {"val_mse_scaled_channel_median", FORECAST, LOWEST, EACH_OR_ALL},
    {"val_mae_scaled_channel_median", FORECAST, LOWEST, EACH_OR_ALL},
    {"val_crps", METRIC_NEEDS_SAMPLES, LOWEST, ALL},
    {"val_success_rate", FORECAST, HIGHEST, ALL},
    {"val_forecast_cross_entropy", FORECAST, LOWEST, ALL},
};

int metric_count(void) {
    return (int)(sizeof metrics / sizeof metrics[0]);
}

const struct metric *metric_at(int index) {
    return index >= 0 && index < metric_count() ? &metrics[index] : NULL;
}

const struct metric *metric_find(const char *name, const char **channel) {
    const size_t length = strcspn(name, ".");
    const char *after = name[length] ? name + length + 1 : NULL;
    if (channel) *channel = after;
    for (int i = 0; i < metric_count(); i++) {
        const struct metric *metric = &metrics[i];
        if (strncmp(metric->column, name, length) != 0 || metric->column[length] != '\0') continue;
        return !after || (metric->by_channel && after[0]) ? metric : NULL;
    }
    return NULL;
}

bool metric_highest(const char *name) {
    const struct metric *metric = metric_find(name, NULL);
    return metric && metric->highest;
}

void metric_write_names(struct strbuf *out) {
    for (int i = 0; i < metric_count(); i++)
        strbuf_printf(out, "%s%s%s", i ? ", " : "", metrics[i].column, metrics[i].by_channel ? "[.CHANNEL]" : "");
}

/* ---- channels ---- */

int32_t metric_channel(const char *name, const char (*names)[64], int32_t n_channel) {
    const char *channel;
    char *end;
    if (!metric_find(name, &channel)) return METRIC_NO_CHANNEL;
    if (!channel) return METRIC_ALL_CHANNELS;
    for (int32_t c = 0; names && c < n_channel; c++)
        if (strcmp(names[c], channel) == 0) return c;
    if (channel[0] != '#' || (names && n_channel > 0 && names[0][0])) return METRIC_NO_CHANNEL;
    long index = strtol(channel + 1, &end, 10);
    return end > channel + 1 && !*end && index >= 0 && index < n_channel ? (int32_t)index : METRIC_NO_CHANNEL;
}

void metric_number_channel(const char *name, const char (*names)[64], int32_t n_channel, char *out, size_t room) {
    int32_t channel = metric_channel(name, names, n_channel);
    if (channel < 0)
        snprintf(out, room, "%s", name);
    else
        snprintf(out, room, "%.*s.#%d", (int)strcspn(name, "."), name, channel);
}

static enum lvs_status no_metric(const char *name, struct lvs_error *err) {
    struct strbuf allowed;
    strbuf_init(&allowed);
    metric_write_names(&allowed);
    if (strncmp(name, "test_", 5) == 0)
        lvs_fail(err, LVS_USAGE, "metric %s: the test split must not choose; allowed: %s", name, allowed.text);
    else
        lvs_fail(err, LVS_USAGE, "metric %s: no such metric; allowed: %s", name, allowed.text);
    strbuf_free(&allowed);
    return LVS_USAGE;
}

enum lvs_status metric_check(const char *name, const char (*names)[64], int32_t n_channel, struct lvs_error *err) {
    const struct metric *metric = metric_find(name, NULL);
    struct strbuf allowed;
    if (!metric) return no_metric(name, err);
    if (n_channel == 0 || metric_channel(name, names, n_channel) != METRIC_NO_CHANNEL) return LVS_OK;
    strbuf_init(&allowed);
    for (int32_t c = 0; c < n_channel; c++)
        strbuf_printf(&allowed, "%s%s.%s", c ? ", " : "", metric->column, names[c]);
    lvs_fail(err, LVS_USAGE, "metric %s: the series have no such channel; allowed: %s", name, allowed.text);
    strbuf_free(&allowed);
    return LVS_USAGE;
}
