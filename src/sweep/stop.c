/* Signals become one flag. The coordinator turns it into stop requests; other ranks wait to be told. */
#include <signal.h>
#include <stddef.h>

#include "driver.h"

static volatile sig_atomic_t requested;

static void on_signal(int number) {
    (void)number;
    requested = 1;
}

void stop_remember(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
}

void stop_install(bool coordinates) {
    static const int signals[] = {SIGINT, SIGTERM, SIGUSR1};
    struct sigaction action = {.sa_handler = coordinates ? on_signal : SIG_IGN};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
}

bool stop_requested(void) {
    return requested != 0;
}
