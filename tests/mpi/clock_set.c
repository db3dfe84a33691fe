/* The two clocks for a second build of the program, whose time of day is set at every reading: LVSWEEP_TEST_CLOCK
 * seconds on from where it was. These definitions come before those of lvs_base, which the linker then leaves out. */
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "lvsweep/clock.h"

static double seconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double clock_now(void) {
    static atomic_int readings;
    const char *step = getenv("LVSWEEP_TEST_CLOCK");
    return seconds_of(CLOCK_REALTIME) + (step ? atof(step) : 0) * atomic_fetch_add(&readings, 1);
}

double clock_steady(void) {
    return seconds_of(CLOCK_MONOTONIC);
}
