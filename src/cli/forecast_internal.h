/* The two halves of `lvsweep forecast`: series in and rows out, and the forecast between them. */
#pragma once
#include "cli_adapter.h"
#include "lvsweep/import.h"

struct forecast_request {
    struct adapter_source adapter;
    const char *data, *output; /* "-" or NULL output = standard output */
    struct import_options columns;
    struct cli_sets sets;     /* [data] keys: missing, dataset, variables */
    int32_t horizon, history; /* points; history 0 = all that fits */
    int32_t samples;
    int64_t seed;
    double temperature, top_p;
    bool force;
};

/* Reads CSV (by its name or "-") or HDF5 with the adapter's channels in their order; gaps by [data] missing. */
enum lvs_status forecast_read(const struct forecast_request *request, const struct adapter_info *info,
                              struct series_set *out, struct lvs_error *err);

/* What comes out, in the data's units. */
struct forecast_table {
    int32_t n_series, n_time, n_channel, samples;
    double *values;                 /* [samples][n_series][n_time][n_channel], NaN where a sample has no value; owned */
    double *time;                   /* [n_time], owned */
    int32_t history, prompt_tokens; /* points and tokens that the model was given, of the longest */
};
void forecast_table_free(struct forecast_table *table);
enum lvs_status forecast_compute(const struct forecast_request *request, const struct opened_adapter *adapter,
                                 const struct series_set *set, struct forecast_table *out, struct lvs_error *err);
/* series,time,channel,median,q05,q25,q75,q95,samples */
void forecast_write(const struct forecast_table *table, const struct series_set *set, struct strbuf *out);
