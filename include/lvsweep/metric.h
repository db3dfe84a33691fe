/* The columns of results.h5 by which a sweep may choose its best trial: one list for [sweep] metric, for best --metric
 * and for everything that puts trials in order. Pure words; values are read in results. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lvsweep/status.h"
#include "lvsweep/strbuf.h"

/* What must be measured of the validation split for the column to be there. */
enum metric_need { METRIC_NEEDS_LOSS, METRIC_NEEDS_FORECAST, METRIC_NEEDS_SAMPLES };

struct metric {
    const char *column;
    enum metric_need need;
    bool highest;    /* more is better */
    bool by_channel; /* one value a channel: COLUMN is their mean, COLUMN.CHANNEL one of them */
};
int metric_count(void);
const struct metric *metric_at(int index);

/* The row that "val_mae" or "val_mae.prey" means; NULL where there is none or a channel is named of a column without.
 * *channel, where channel is not NULL: what follows the dot, NULL = all channels. */
const struct metric *metric_find(const char *name, const char **channel);
bool metric_highest(const char *name);
/* Appends what is allowed, as one list. */
void metric_write_names(struct strbuf *out);

#define METRIC_ALL_CHANNELS (-1)
#define METRIC_NO_CHANNEL   (-2)
/* Which of the channels a metric is of: an index, or one of the above. "#1" is the second one where names are not known
 * (`names` NULL or empty). */
int32_t metric_channel(const char *name, const char (*names)[64], int32_t n_channel);
/* The name with "#1" for the second channel, for tables that do not know names; others as they are. */
void metric_number_channel(const char *name, const char (*names)[64], int32_t n_channel, char *out, size_t room);
/* LVS_USAGE, with what is allowed, when `name` is no metric, or of none of these channels (n_channel 0 = not known). */
enum lvs_status metric_check(const char *name, const char (*names)[64], int32_t n_channel, struct lvs_error *err);
