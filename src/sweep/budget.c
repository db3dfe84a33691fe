/* Admission: a pure walk over prices. Order is the caller's (enumeration order), never the order of dispatch. */
#include "lvsweep/sweep.h"

void budget_admit(struct ledger *ledger, const int64_t *prices, int32_t n, enum over_mode over, __int128 limit,
                  enum admission *verdicts) {
    __int128 taken = 0;
    bool stopped = false;
    for (int32_t i = 0; i < n; i++) {
        bool in_share = limit < 0 || taken + prices[i] <= limit;
        bool fits = !stopped && in_share && ledger_reserve(ledger, prices[i]);
        verdicts[i] = fits ? ADMISSION_RUN : ADMISSION_CUT;
        if (fits) taken += prices[i];
        if (!fits && over == OVER_STOP) stopped = true;
    }
}
