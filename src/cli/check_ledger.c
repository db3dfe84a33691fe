/* The account added up from the journal alone, without the code that runs a sweep: sums of a few events, compared with
 * what the table says. Invariant looked for: an admission never passes the cap. */
#include <stdio.h>
#include <stdlib.h>

#include "check_internal.h"

struct account_row {
    int64_t reserved, charged;
    int64_t counted;             /* of the last record, from the trial's first step on; -1 = none */
    int64_t at_rung, before_now; /* counted up to its last rung; up to the rung before the present settlement */
    bool interrupted;            /* its last record says so: nothing but losses is charged */
};

struct account {
    bool capped, with_evaluation, charges_lost, knows_count;
    __int128 cap, spent, reserved, lost;
    struct account_row *rows; /* [n], owned */
    int32_t n, capacity, n_runs, problems;
    int64_t n_events;
};

static struct account_row *row_at(struct account *account, int32_t index) {
    while (account->n <= index) {
        if (account->n == account->capacity) {
            account->capacity = account->capacity ? 2 * account->capacity : 64;
            account->rows = lvs_realloc(account->rows, (size_t)account->capacity * sizeof *account->rows);
        }
        account->rows[account->n++] = (struct account_row){.counted = -1};
    }
    return &account->rows[index];
}

static void begin_run(struct account *account, const struct journal_sweep *sweep) {
    account->n_runs++;
    account->capped = sweep->flops_cap > 0;
    account->cap = account->capped ? (__int128)sweep->flops_cap : 0;
    account->reserved = 0;
    for (int32_t i = 0; i < account->n; i++)
        account->rows[i].reserved = 0;
}

static void admit(struct account *account, const struct journal_event *event) {
    struct account_row *row = row_at(account, event->index);
    row->reserved += event->flops;
    account->reserved += event->flops;
    if (account->capped && account->spent + account->reserved > account->cap)
        account->problems += check_problem("journal line %lld: admitting trial %d passes the cap of %.6g FLOPs",
                                           (long long)event->number, event->index, (double)account->cap);
}

static void settle(struct account *account, const struct journal_event *event) {
    struct account_row *row = row_at(account, event->index);
    if (event->flops > row->reserved)
        account->problems +=
            check_problem("journal line %lld: trial %d is charged %lld FLOPs, %lld were reserved",
                          (long long)event->number, event->index, (long long)event->flops, (long long)row->reserved);
    int64_t due = row->interrupted || row->counted < row->before_now ? 0 : row->counted - row->before_now;
    if (account->charges_lost) due += event->lost;
    if (due > row->reserved) due = row->reserved;
    if (account->knows_count && row->counted >= 0 && event->flops != due)
        account->problems +=
            check_problem("journal line %lld: trial %d is charged %lld FLOPs, its record says %lld",
                          (long long)event->number, event->index, (long long)event->flops, (long long)due);
    account->reserved -= row->reserved;
    account->spent += event->flops;
    account->lost += event->lost;
    row->charged += event->flops;
    row->reserved = 0;
    row->before_now = row->at_rung;
}

static void take_record(struct account *account, const struct record *record) {
    struct account_row *row = row_at(account, record->index);
    row->counted = record->flops_training + (account->with_evaluation ? record->flops_evaluation : 0);
    row->interrupted = record->status == TRIAL_INTERRUPTED;
}

/* --rerun: no rung is behind it any more. */
static void start_again(struct account *account, int32_t index) {
    struct account_row *row = row_at(account, index);
    row->at_rung = row->before_now = 0;
    row->counted = -1;
    row->interrupted = false;
}

static enum lvs_status take_event(void *context, const struct journal_event *event, struct lvs_error *err) {
    struct account *account = context;
    (void)err;
    account->n_events++;
    if (event->kind == JOURNAL_SWEEP) begin_run(account, event->sweep);
    if (event->kind == JOURNAL_ADMITTED) admit(account, event);
    if (event->kind == JOURNAL_SETTLE) settle(account, event);
    if (event->kind == JOURNAL_BASELINE) account->spent += event->flops;
    if (event->kind == JOURNAL_RECORD) take_record(account, event->record);
    if (event->kind == JOURNAL_RUNG) row_at(account, event->index)->at_rung = event->flops;
    if (event->kind == JOURNAL_STATUS && event->status == TRIAL_PENDING) start_again(account, event->index);
    return LVS_OK;
}

static int32_t compare_sum(const char *what, __int128 added, __int128 said) {
    char left[64], right[64];
    if (added == said) return 0;
    cli_flops(added, left);
    cli_flops(said, right);
    return check_problem("ledger: %s adds up to %s FLOPs, the table says %s", what, left, right);
}

static int32_t compare(const struct account *account, const struct results *results) {
    int32_t problems = compare_sum("what was spent", account->spent, results->ledger.spent);
    problems += compare_sum("what is reserved", account->reserved, results->ledger.reserved);
    problems += compare_sum("what was lost", account->lost, results->ledger.lost);
    for (int32_t i = 0; i < results->n_rows && i < account->n; i++)
        problems += compare_sum(results->rows[i].trial.name, account->rows[i].charged, results->rows[i].charged);
    return problems;
}

static void print_account(const struct account *account) {
    char spent[64], cap[64], lost[64];
    cli_flops(account->spent, spent);
    cli_flops(account->cap, cap);
    cli_flops(account->lost, lost);
    printf("journal   %lld events of %d run%s\n", (long long)account->n_events, account->n_runs,
           account->n_runs == 1 ? "" : "s");
    printf("ledger    %s FLOPs spent", spent);
    if (account->capped) printf(" of %s (%.2f %%)", cap, 100 * (double)account->spent / (double)account->cap);
    printf(", %s lost in repeated steps\n", lost);
}

int32_t check_ledger(const struct check *check) {
    char path[LVS_PATH_MAX], *bytes = NULL;
    size_t length = 0;
    struct journal_end end = {0};
    struct lvs_error err = {0};
    struct account account = {.knows_count = check->config != NULL,
                              .with_evaluation = check->config && check->config->count == COUNT_TRAINING_EVALUATION,
                              .charges_lost = check->config && check->config->lost == LOST_CHARGE};
    enum lvs_status status = file_join(path, check->output, RESULTS_JOURNAL, &err);
    if (status == LVS_OK) status = file_read(path, (size_t)1 << 36, &bytes, &length, &err);
    if (status == LVS_OK) status = journal_replay_bytes(path, bytes, length, take_event, &account, &end, &err);
    free(bytes);
    if (status != LVS_OK) {
        free(account.rows);
        return check_problem("%s", err.text);
    }
    print_account(&account);
    if (end.damaged_line)
        account.problems += check_problem(
            "journal line %lld does not match its checksum; no run goes on from it. Restore the journal from a copy; "
            "without one, sed -i '%lld,$d' %s cuts off the last %zu bytes, and what they said happens again",
            (long long)end.damaged_line, (long long)end.damaged_line, path, length - end.good);
    else if (end.good < length)
        printf("          the last %zu bytes are half a line: a writer at work, or killed; a resume cuts them off\n",
               length - end.good);
    int32_t problems = account.problems + compare(&account, &check->results);
    free(account.rows);
    return problems;
}
