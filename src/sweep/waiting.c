/* Polling without burning a core: a short spin while messages come, then sleeps that grow to 5 ms. */
#include <sched.h>
#include <time.h>

#include "sweep_internal.h"

void backoff_wait(struct backoff *backoff, bool had_something) {
    if (had_something) {
        backoff->quiet = 0;
        return;
    }
    backoff->quiet++;
    if (backoff->quiet < 20) {
        sched_yield();
        return;
    }
    long microseconds = 50L * (backoff->quiet - 19);
    if (microseconds > 5000) microseconds = 5000;
    nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000}, NULL);
}
