/* Where workers are put, when a sweep must end, and whose lock may be broken. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include <cmocka.h>

#include "../../../src/sweep/driver.h"

static void test_more_workers_than_gpus(void **state) {
    (void)state;
    static const struct {
        int32_t index, count, gpus;
        bool oversubscribe, fits;
        int32_t device;
    } cases[] = {{0, 8, 8, false, true, 0}, {7, 8, 8, false, true, 7}, {8, 9, 8, false, false, 0},
                 {8, 9, 8, true, true, 0},  {0, 1, 1, false, true, 0}, {1, 2, 1, false, false, 0},
                 {1, 2, 1, true, true, 0},  {3, 4, 0, false, true, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lvs_error err = {0};
        int32_t device = -1;
        enum lvs_status status =
            placement_choose(cases[i].index, cases[i].count, cases[i].gpus, cases[i].oversubscribe, &device, &err);
        assert_int_equal(status, cases[i].fits ? LVS_OK : LVS_LAUNCH);
        if (cases[i].fits)
            assert_int_equal(device, cases[i].device);
        else
            assert_non_null(strstr(err.text, "oversubscribe_gpu = yes"));
    }
}

static void test_two_ranks_on_a_card(void **state) {
    (void)state;
    struct worker_hello hellos[3] = {{.host = "n1"}, {.host = "n2"}, {.host = "n1"}};
    const int32_t ranks[] = {1, 2, 3};
    struct lvs_error err = {0};
    strcpy(hellos[0].device.uuid, "GPU-a");
    strcpy(hellos[1].device.uuid, "GPU-a"); /* the same name on another host */
    strcpy(hellos[2].device.uuid, "GPU-b");
    assert_int_equal(placement_check_unique(hellos, ranks, 3, &err), LVS_OK);
    strcpy(hellos[2].device.uuid, "GPU-a");
    assert_int_equal(placement_check_unique(hellos, ranks, 3, &err), LVS_LAUNCH);
    assert_non_null(strstr(err.text, "ranks 1 and 3 both opened GPU GPU-a of n1"));
}

static void test_deadlines(void **state) {
    (void)state;
    struct tm parts = {.tm_year = 126, .tm_mon = 10, .tm_mday = 23, .tm_hour = 4, .tm_isdst = -1};
    assert_true(deadline_parse_job("JobId=7 EndTime=2026-11-23T04:00:00 Deadline=N/A") == (double)mktime(&parts));
    assert_true(isinf(deadline_parse_job("JobId=7 EndTime=Unknown")));
    assert_true(isinf(deadline_parse_job("")));
    assert_true(deadline_before(0, 28800, 120) == 28680);
    assert_true(deadline_before(0, 60, 120) == 54);
    assert_true(deadline_before(100, 50, 120) == 50); /* it is over already */
}

static void expect_deadline(const struct config *config, struct time_used earlier, double at, const char *cap) {
    struct lvs_error err = {0};
    struct deadline deadline = deadline_find(config, &earlier, 1000, 4);
    assert_true(deadline.at == at);
    assert_true(cap ? deadline.cap && strcmp(deadline.cap, cap) == 0 : !deadline.cap);
    bool used_up = cap && at <= 1000;
    assert_int_equal(deadline_check(config, &earlier, &err), used_up ? LVS_BUDGET : LVS_OK);
    if (used_up) assert_non_null(strstr(err.text, cap));
}

/* Earlier runs have used the caps on time; the limit of one run is its own. */
static void test_caps_of_all_runs(void **state) {
    (void)state;
    static struct config config;
    struct time_used none = {0}, hour = {.seconds = 3600, .worker_seconds = 8 * 3600};
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_JOB_END_TIME");
    expect_deadline(&config, hour, INFINITY, NULL);
    config.hours_cap = 2;
    expect_deadline(&config, none, 1000 + 7200, "hours");
    expect_deadline(&config, hour, 1000 + 3600, "hours");
    config.hours_cap = 1;
    expect_deadline(&config, hour, 1000, "hours");
    config.hours_cap = 0.5;
    expect_deadline(&config, hour, 1000 - 1800, "hours");
    config.hours_cap = 100;
    config.gpu_hours_cap = 12; /* 4 workers share what is left */
    expect_deadline(&config, none, 1000 + 3 * 3600, "gpu_hours");
    expect_deadline(&config, hour, 1000 + 3600, "gpu_hours");
    config.gpu_hours_cap = 8;
    expect_deadline(&config, hour, 1000, "gpu_hours");
    config.gpu_hours_cap = 12;
    config.time_limit = 600;
    expect_deadline(&config, hour, 1000 + 540, NULL);
}

static char folder[] = "/tmp/lvsweep-lock-XXXXXX";

static void put_lock(const char *json, double age) {
    char path[64];
    snprintf(path, sizeof path, "%s/lock", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(json, file);
    fclose(file);
    struct utimbuf times = {.actime = time(NULL) - (time_t)age, .modtime = time(NULL) - (time_t)age};
    assert_int_equal(utime(path, &times), 0);
}

static void expect_lock(bool force, enum lvs_status expected, const char *phrase) {
    struct sweep_lock lock;
    struct lvs_error err = {0};
    assert_int_equal(lock_take(folder, force, &lock, &err), expected);
    if (phrase) assert_non_null(strstr(err.text, phrase));
    if (expected == LVS_OK) lock_release(&lock);
}

static void test_whose_lock_is_broken(void **state) {
    (void)state;
    assert_non_null(mkdtemp(folder));
    const char *elsewhere = "{\"host\": \"far\", \"pid\": 7, \"job\": \"12\", \"restart\": 1, \"since\": 1}";
    put_lock(elsewhere, 60);
    expect_lock(false, LVS_OUTPUT, "host far, pid 7, job 12");
    setenv("SLURM_JOB_ID", "12", 1);
    setenv("SLURM_RESTART_COUNT", "1", 1);
    expect_lock(false, LVS_OUTPUT, "--break-lock"); /* the same start of the same job */
    setenv("SLURM_RESTART_COUNT", "2", 1);
    expect_lock(false, LVS_OK, NULL);
    unsetenv("SLURM_JOB_ID");
    put_lock(elsewhere, 60);
    expect_lock(true, LVS_OK, NULL);
    put_lock(elsewhere, 130); /* no heartbeat for two minutes */
    expect_lock(false, LVS_OK, NULL);
    assert_int_equal(rmdir(folder), 0);
}

/* Nobody's name is made up for a lock that has none; its age and the two ways out are told. */
static void test_unreadable_locks(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{\"host\": \"fa", "{\"host\": \"far\"}"};
    strcpy(folder, "/tmp/lvsweep-lock-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sweep_lock lock;
        struct lvs_error err = {0};
        put_lock(texts[i], 60);
        assert_int_equal(lock_take(folder, false, &lock, &err), LVS_OUTPUT);
        assert_non_null(strstr(err.text, "cannot be read"));
        assert_non_null(strstr(err.text, "last touched 6")); /* 60 to 69 s */
        assert_non_null(strstr(err.text, "add --break-lock (exit 6)"));
        assert_null(strstr(err.text, "host"));
        expect_lock(true, LVS_OK, NULL);
        put_lock(texts[i], 130);
        expect_lock(false, LVS_OK, NULL);
    }
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_more_workers_than_gpus),
        cmocka_unit_test(test_two_ranks_on_a_card),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_caps_of_all_runs),
        cmocka_unit_test(test_whose_lock_is_broken),
        cmocka_unit_test(test_unreadable_locks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
