/* The account of one FLOP budget. Invariant: charges and reservations together never pass the cap; only `outside`, what
 * was spent before this grid, may already lie above a cap that was lowered since. */
#include "flops_internal.h"

#include <assert.h>
#include <math.h>

#define LEDGER_UNLIMITED ((__int128)(~(unsigned __int128)0 >> 1))

void ledger_init(struct ledger *ledger, double cap) {
    *ledger = (struct ledger){.capped = cap > 0};
    if (ledger->capped) ledger->cap = cap < 1e36 ? (__int128)cap : LEDGER_UNLIMITED;
}

__int128 ledger_left(const struct ledger *ledger) {
    if (!ledger->capped) return LEDGER_UNLIMITED;
    __int128 left = ledger->cap - ledger->spent - ledger->reserved;
    return left > 0 ? left : 0;
}

bool ledger_reserve(struct ledger *ledger, int64_t flops) {
    assert(flops >= 0);
    if (flops > ledger_left(ledger)) return false;
    ledger->reserved += flops;
    return true;
}

void ledger_settle(struct ledger *ledger, int64_t reserved, int64_t charged) {
    assert(charged >= 0 && charged <= reserved && reserved <= ledger->reserved);
    ledger->reserved -= reserved;
    ledger->spent += charged;
}

void ledger_add_lost(struct ledger *ledger, int64_t flops) {
    assert(flops >= 0);
    ledger->lost += flops;
}

void ledger_add_outside(struct ledger *ledger, int64_t flops) {
    assert(flops >= 0);
    ledger->outside += flops;
    ledger->spent += flops;
}

double ledger_percent(const struct ledger *ledger, int64_t flops) {
    return ledger->capped ? 100.0 * (double)flops / (double)ledger->cap : NAN;
}
