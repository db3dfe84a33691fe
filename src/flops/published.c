/* What the four reports printed about their budgets, beside what the conventions say about the same runs. Quotations:
 * nothing is computed from them, and where a formula does not give the printed number the row says so.
 * Invariant: rows of a report stand together; a row that sums a report's parts comes after them. */
#include <math.h>
#include <stddef.h>

#include "lvsweep/flops.h"
#include "lvsweep/trial.h"

#define ALL_RANKS    0 /* 2, 4 and 8, equally often */
#define ALL_CONTEXTS 0 /* 128, 512 and 768, once each */
#define FULL         151936

static const struct flops_published rows[] = {
    /* report, what, printed, convention, rank, context, batch, vocabulary, steps, evaluated, trials, part, bounds in %
       of 1e17 */
    {"A", "600 steps, context 512, rank 2", "4.2212 %", "report_a", 2, 512, 4, FULL, 600, 300, 1, false, 4.22115,
     4.22125},
    {"A", "600 steps, context 512, rank 4", "4.22252 %", "report_a", 4, 512, 4, FULL, 600, 300, 1, false, 4.222515,
     4.222525},
    {"A", "600 steps, context 512, rank 8", "4.22516 %", "report_a", 8, 512, 4, FULL, 600, 300, 1, false, 4.225155,
     4.225165},
    {"A", "600 steps, context 128, rank 8", "1.02421 %", "report_a", 8, 128, 4, FULL, 600, 300, 1, false, 1.024205,
     1.024215},
    {"A", "600 steps, context 768, rank 8", "6.46607 %", "report_a", 8, 768, 4, FULL, 600, 300, 1, false, 6.466065,
     6.466075},
    {"A", "6000 steps, context 768, rank 8", "62.25 %", "report_a", 8, 768, 4, FULL, 6000, 200, 1, false, 62.245,
     62.255},
    {"A", "300 sequences, untrained, context 512", "0.169 %", "report_a", 4, 512, 4, FULL, 0, 300, 1, false, 0.1685,
     0.1695},
    {"A", "item 2b", "0.285 %", "report_a", 0, 0, 4, FULL, FLOPS_PUBLISHED_ALONE, 0, 1, false, 0.2845, 0.2855},
    {"A", "everything before the final run", "33.28 %", "report_a", 0, 0, 4, FULL, FLOPS_PUBLISHED_ALONE, 0, 1, false,
     33.275, 33.285},
    {"A", "forecasts of the final run", "3.14 %", "report_a", 0, 0, 4, FULL, FLOPS_PUBLISHED_ALONE, 0, 1, false, 3.135,
     3.145},
    {"A", "left over", "1.34 %", "report_a", 0, 0, 4, FULL, FLOPS_PUBLISHED_ALONE, 0, 1, false, 1.335, 1.345},
    {"B", "18 points of 2000 steps, context 128", "48.6 %", "report_b", ALL_RANKS, 128, 4, FULL, 2000, 0, 18, true,
     48.55, 48.65},
    {"B", "1000 steps, context 128", "1.4 %", "report_b", 8, 128, 4, FULL, 1000, 0, 1, true, 1.35, 1.45},
    {"B", "1000 steps, context 512", "5.9 %", "report_b", 8, 512, 4, FULL, 1000, 0, 1, true, 5.85, 5.95},
    {"B", "1000 steps, context 768", "9.1 %", "report_b", 8, 768, 4, FULL, 1000, 0, 1, true, 9.05, 9.15},
    {"B", "5892 steps, context 512", "35 %", "report_b", 8, 512, 4, FULL, 5892, 0, 1, true, 34.5, 35.5},
    {"B", "everything", "100 %", "report_b", 0, 0, 4, FULL, FLOPS_PUBLISHED_SUM, 0, 22, false, 99.5, 100.5},
    {"C", "500 steps, context 512, rank 4", "10^15.38", "report_c", 4, 512, 4, FULL, 500, 0, 1, true, 2.37137, 2.42661},
    {"C", "1000 steps, context 512, rank 8", "10^15.68", "report_c", 8, 512, 4, FULL, 1000, 0, 1, false, 4.73151,
     4.84172},
    {"C", "1000 steps, context 128, rank 8", "10^15.06", "report_c", 8, 128, 4, FULL, 1000, 0, 1, false, 1.13501,
     1.16145},
    {"C", "1000 steps, context 768, rank 8", "10^15.87", "report_c", 8, 768, 4, FULL, 1000, 0, 1, false, 7.32825,
     7.49894},
    {"C", "9 points of 1000 steps, context 512", "10^16.64", "report_c", ALL_RANKS, 512, 4, FULL, 1000, 0, 9, true,
     43.1519, 44.1570},
    {"C", "three contexts of 1000 steps", "10^16.13", "report_c", 8, ALL_CONTEXTS, 4, FULL, 1000, 0, 3, true, 13.3352,
     13.6458},
    {"C", "3000 steps, context 768, rank 8", "10^16.35", "report_c", 8, 768, 4, FULL, 3000, 0, 1, true, 22.1309,
     22.6464},
    {"C", "everything", "10^16.91", "report_c", 0, 0, 4, FULL, FLOPS_PUBLISHED_SUM, 0, 14, false, 80.3526, 82.2243},
    {"D", "5000 steps, context 512, rank 4", "7.39 %", "table1", 4, 512, 2, 13, 5000, 0, 1, false, 7.385, 7.395},
};

const struct flops_published *flops_published_at(int32_t index) {
    return index >= 0 && index < (int32_t)(sizeof rows / sizeof *rows) ? &rows[index] : NULL;
}

static const int32_t ranks[] = {2, 4, 8}, contexts[] = {128, 512, 768};

bool flops_published_covers(const struct flops_published *row, int32_t rank, int32_t context) {
    bool rank_fits = row->rank == rank, context_fits = row->context == context;
    for (int i = 0; i < 3; i++) {
        rank_fits = rank_fits || (row->rank == ALL_RANKS && ranks[i] == rank);
        context_fits = context_fits || (row->context == ALL_CONTEXTS && contexts[i] == context);
    }
    return rank_fits && context_fits;
}

/* Qwen2.5-0.5B, q and v adapted. */
static double run_percent(const struct flops_published *row, int32_t rank, int32_t context) {
    const struct flops_shape shape = {.hidden = 896,
                                      .n_heads = 14,
                                      .n_kv_heads = 2,
                                      .head_size = 64,
                                      .n_layers = 24,
                                      .intermediate = 4864,
                                      .vocabulary = row->vocabulary,
                                      .lora_rank = rank,
                                      .lora_targets = 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V};
    const struct flops_convention *convention = flops_convention_find(row->convention);
    double training = (double)row->steps * (double)flops_training_step(convention, &shape, row->batch, context);
    return (training + (double)flops_evaluation(convention, &shape, row->evaluated, row->batch, context)) / 1e15;
}

static double sum_of_parts(const struct flops_published *total) {
    double sum = 0;
    for (const struct flops_published *row = rows; row != total; row++)
        if (row->part && row->report[0] == total->report[0]) sum += flops_published_percent(row);
    return sum;
}

double flops_published_percent(const struct flops_published *row) {
    if (row->steps == FLOPS_PUBLISHED_SUM) return sum_of_parts(row);
    if (row->steps == FLOPS_PUBLISHED_ALONE) return NAN;
    int32_t n_ranks = row->rank == ALL_RANKS ? 3 : 1, n_contexts = row->context == ALL_CONTEXTS ? 3 : 1;
    double sum = 0;
    for (int32_t r = 0; r < n_ranks; r++)
        for (int32_t c = 0; c < n_contexts; c++)
            sum += run_percent(row, n_ranks == 1 ? row->rank : ranks[r], n_contexts == 1 ? row->context : contexts[c]);
    return sum * row->trials / (n_ranks * n_contexts);
}

double flops_published_deviation(const struct flops_published *row, double percent) {
    return 100 * (percent / ((row->least + row->most) / 2) - 1);
}

bool flops_published_met(const struct flops_published *row) {
    double percent = flops_published_percent(row);
    return percent >= row->least && percent < row->most;
}
