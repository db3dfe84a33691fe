/* Admission: a pure walk over prices. Order is the caller's (enumeration order), never the order of dispatch. */
#include "lvsweep/sweep.h"

enum admission budget_admit(struct budget_walk *walk, int64_t price) {
    bool in_share = walk->limit < 0 || walk->taken + price <= walk->limit;
    if (!walk->stopped && in_share && ledger_reserve(walk->ledger, price)) {
        walk->taken += price;
        return ADMISSION_RUN;
    }
    walk->stopped = walk->stopped || walk->over == OVER_STOP;
    return ADMISSION_CUT;
}
