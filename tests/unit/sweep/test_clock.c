/* The lock's heartbeat and the end of a run while the time of day is set on and back. Both clocks are this test's: its
 * definitions come before those of lvs_base, which the linker then leaves out. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver.h"
#include "unit/own_folder.h"

static double wall, steady;

double clock_now(void) {
    return wall;
}

double clock_steady(void) {
    return steady;
}

/* Does a heartbeat come now? */
static bool beats(struct sweep_lock *lock) {
    const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    struct stat info;
    assert_int_equal(utimensat(AT_FDCWD, lock->path, old, 0), 0);
    lock_beat(lock);
    assert_int_equal(stat(lock->path, &info), 0);
    return info.st_mtim.tv_sec != 1000;
}

/* Another machine takes a lock whose heart has not beaten for two minutes. */
static void test_the_lock_beats_on(void **state) {
    (void)state;
    char folder[LVS_PATH_MAX];
    struct sweep_lock lock;
    struct lvs_error err = {0};
    own_folder_make(folder);
    wall = 1.7e9, steady = 500;
    assert_int_equal(lock_take(folder, false, &lock, &err), LVS_OK);
    wall += 3600;
    assert_false(beats(&lock));
    wall -= 7200, steady += 21;
    assert_true(beats(&lock));
    assert_false(beats(&lock));
    steady += 21;
    assert_true(beats(&lock));
    lock_release(&lock);
    own_folder_remove(folder);
}

/* What the job has left when a run starts is what it has, by either clock's reading. */
static void test_the_jobs_end(void **state) {
    (void)state;
    static struct config config;
    const struct time_used none = {0};
    wall = 1.7e9, steady = 500;
    setenv("SLURM_JOB_END_TIME", "1700007200", 1);
    assert_true(fabs(deadline_find(&config, &none, steady, 1).at - (500 + 7200 - 120)) < 1e-3);
    config.time_limit = 600;
    assert_true(fabs(deadline_find(&config, &none, steady, 1).at - (500 + 600 - 60)) < 1e-3);
    unsetenv("SLURM_JOB_END_TIME");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_lock_beats_on), cmocka_unit_test(test_the_jobs_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
