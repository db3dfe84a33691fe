/* Steps that ended with a whole job: no worker was left to report them. What the journal's last progress of a trial and
 * its newest checkpoint say is entered when the sweep goes on; steps after that progress are not known to anybody.
 * Invariant: a row is entered once, because it is no longer `running` afterwards. */
#include <stdlib.h>

#include "driver.h"
#include "lvsweep/train.h"

static int64_t lost_of(const struct results *known, const struct result_row *row, int32_t *kept) {
    char folder[LVS_PATH_MAX];
    *kept = 0;
    if (row->record.status != TRIAL_RUNNING || row->record.steps_done <= 0) return 0;
    if (trial_folder(folder, known->output, row->trial.name, NULL) == LVS_OK)
        *kept = checkpoint_step(folder, row->trial.train_key);
    if (*kept < 0) *kept = 0;
    int32_t steps = row->record.steps_done - *kept;
    return (steps > 0 ? steps : 0) * row->trial.price.step;
}

/* [budget] lost = charge: as much of it as the cap holds. */
static int64_t charge_of(const struct ledger *ledger, enum lost_mode mode, int64_t lost) {
    if (mode != LOST_CHARGE) return 0;
    __int128 left = ledger->capped ? ledger->cap - ledger->spent : lost;
    if (left < 0) left = 0;
    return lost < left ? lost : (int64_t)left;
}

void lost_steps_find(struct results *known, enum lost_mode mode, struct lost_steps *out) {
    for (int32_t i = 0; i < known->n_rows; i++) {
        struct result_row *row = &known->rows[i];
        int32_t kept;
        int64_t lost = lost_of(known, row, &kept);
        if (lost == 0) continue;
        int64_t charged = charge_of(&known->ledger, mode, lost);
        row->record.status = TRIAL_INTERRUPTED;
        row->record.index = i;
        row->record.steps_done = kept;
        row->record.flops_lost += lost;
        row->charged += charged;
        known->ledger.spent += charged;
        known->ledger.lost += lost;
        out->item = lvs_realloc(out->item, (size_t)(out->n + 1) * sizeof *out->item);
        out->item[out->n++] = (struct lost_item){.trial = i, .lost = lost, .charged = charged, .record = row->record};
    }
}

enum lvs_status lost_steps_note(struct driver *driver, const struct lost_steps *lost, struct lvs_error *err) {
    for (int32_t i = 0; i < lost->n; i++) {
        const struct lost_item *item = &lost->item[i];
        struct journal_event admitted = journal_event_make(JOURNAL_ADMITTED), came = journal_event_make(JOURNAL_RECORD),
                             settle = journal_event_make(JOURNAL_SETTLE);
        admitted.index = came.index = settle.index = item->trial;
        admitted.flops = settle.flops = item->charged;
        came.record = &item->record;
        settle.lost = item->lost;
        if (item->charged > 0) LVS_TRY(driver_note(driver, &admitted, err));
        LVS_TRY(driver_note(driver, &came, err));
        LVS_TRY(driver_note(driver, &settle, err));
    }
    return LVS_OK;
}

void lost_steps_free(struct lost_steps *lost) {
    free(lost->item);
    *lost = (struct lost_steps){0};
}
