/* The table of failpoints, and what they do when LVSWEEP_FAULT arms them. The counts lie in memory shared with the
 * processes that are forked later. Invariant: unarmed, nothing here runs after the start. */
#include "lvsweep/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BIT(action) (1u << (action))
#define DYING       (BIT(FAULT_KILL) | BIT(FAULT_EXIT) | BIT(FAULT_DELAY))
#define CALL        (DYING | BIT(FAULT_ERROR) | BIT(FAULT_FULL))
#define WRITE       (CALL | BIT(FAULT_SHORT) | BIT(FAULT_TORN))
#define REFUSAL     (DYING | BIT(FAULT_ERROR))
#define DEVICE      (REFUSAL | BIT(FAULT_BREAK))

static const struct {
    const char *name;
    uint32_t actions; /* bit per enum fault_action that means something there */
    const char *about;
} points[] = {
    {"folder_make", CALL, "a folder of the output is made"},
    {"file_open", CALL, "a file is opened aside for writing"},
    {"file_write", WRITE, "a file is written aside: checkpoint, curves, forecast, description of an adapter"},
    {"file_sync", CALL, "a file that was written aside is synced"},
    {"file_rename", CALL, "a file that was written aside takes its place"},
    {"folder_sync", CALL, "the folder of a renamed file is synced"},
    {"journal_open", CALL, "the journal is opened for appending"},
    {"journal_cut", CALL, "the torn end of a journal is cut off"},
    {"journal_write", WRITE, "waiting events are appended to the journal"},
    {"journal_sync", CALL, "appended events are synced"},
    {"lock_open", CALL, "the lock of an output is made"},
    {"lock_write", CALL, "the owner is written into the lock"},
    {"lock_link", CALL, "the written lock takes its name"},
    {"lock_beat", DYING, "the lock's heartbeat is due"},
    {"lock_release", DYING, "the lock is about to be removed"},
    {"results_create", CALL, "results.h5 is created aside"},
    {"results_rows", CALL, "rows of results.h5 are written"},
    {"results_close", CALL, "results.h5 is flushed and closed"},
    {"results_reserve", CALL, "room for results.h5 is reserved before all ranks write"},
    {"results_together", REFUSAL, "all ranks open results.h5 together"},
    {"best_link", CALL, "OUTPUT/best is pointed at the best trial"},
    {"message_send", DYING, "a rank sends a message to another rank"},
    {"message_receive", DYING, "a rank has received a message"},
    {"trainer_spawn", REFUSAL, "a rank asks its helper for a trainer"},
    {"trainer_send", DYING, "a rank sends a message to its trainer"},
    {"trainer_receive", DYING, "a rank has received a message of its trainer"},
    {"trainer_open", REFUSAL, "a trainer opens device, model and data"},
    {"trainer_start", DYING, "a trainer begins an assignment"},
    {"trainer_record", DYING, "a trainer sends a record"},
    {"trainer_recorded", DYING, "a trainer has sent a record"},
    {"trainer_ready", DYING, "a trainer says that it is ready"},
    {"allocate", CALL, "device memory for a pack is allocated"},
    {"checkpoint_allocate", CALL, "memory for a checkpoint is allocated"},
    {"checkpoint_read", DYING, "a checkpoint was read"},
    {"training", DEVICE, "the device is given a stretch of steps"},
    {"evaluation", DEVICE, "a trained adapter is evaluated"},
    {"adapter", CALL, "an adapter's folder is written"},
    {"event_record", DYING, "rank 0 takes a record"},
    {"event_assigned", DYING, "the journal is on disk, an assignment goes out"},
};
#define N_POINTS ((int32_t)(sizeof points / sizeof *points))

static const char *const action_names[FAULT_ACTION_COUNT] = {
    [FAULT_NONE] = "none",   [FAULT_KILL] = "kill",   [FAULT_EXIT] = "exit",
    [FAULT_ERROR] = "error", [FAULT_FULL] = "full",   [FAULT_SHORT] = "short",
    [FAULT_TORN] = "torn",   [FAULT_DELAY] = "delay", [FAULT_BREAK] = "break"};

#define MAX_ORDERS 16
struct order {
    int32_t point, passage; /* 1 = the first */
    enum fault_action action;
};
static struct order orders[MAX_ORDERS];
static int32_t n_orders;
static atomic_int *passages; /* [N_POINTS], shared with forked processes */
bool fault_armed;

static int32_t find_point(const char *name) {
    for (int32_t i = 0; i < N_POINTS; i++)
        if (strcmp(points[i].name, name) == 0) return i;
    return -1;
}

static void refuse_order(const char *text) {
    fprintf(stderr, "LVSWEEP_FAULT: %s: expected point:n:action with a point and an action of docs/reliability.md\n",
            text);
    _exit(2);
}

static void parse_order(const char *text) {
    char name[32], action[16];
    struct order order = {.point = -1};
    if (sscanf(text, "%31[a-z_]:%d:%15[a-z]", name, &order.passage, action) == 3) order.point = find_point(name);
    for (int i = 1; i < FAULT_ACTION_COUNT; i++)
        if (order.point >= 0 && strcmp(action, action_names[i]) == 0 && (points[order.point].actions & BIT(i)))
            order.action = (enum fault_action)i;
    if (order.action == FAULT_NONE || order.passage < 1 || n_orders == MAX_ORDERS) refuse_order(text);
    orders[n_orders++] = order;
}

/* name, actions, sentence: what the tests and docs/reliability.md are made from. */
static void print_points(void) {
    for (int32_t p = 0; p < N_POINTS; p++) {
        printf("%s\t", points[p].name);
        for (int i = 1; i < FAULT_ACTION_COUNT; i++)
            if (points[p].actions & BIT(i)) printf("%s ", action_names[i]);
        printf("\t%s\n", points[p].about);
    }
    fflush(stdout);
    _exit(0);
}

static pid_t counting; /* the process that prints the counts */

static void print_counts(void) {
    if (getpid() != counting) return;
    for (int32_t p = 0; p < N_POINTS; p++)
        fprintf(stderr, "passed: %s %d\n", points[p].name, atomic_load(&passages[p]));
}

/* Before main: no process of this program exists yet that would not share the counts. */
__attribute__((constructor)) static void read_environment(void) {
    const char *given = getenv("LVSWEEP_FAULT");
    char text[1024];
    if (!given || !given[0]) return;
    if (strcmp(given, "list") == 0) print_points();
    if (strlen(given) >= sizeof text) refuse_order(given);
    strcpy(text, given);
    char *rest = text;
    bool counts = strcmp(given, "count") == 0;
    for (char *part; !counts && (part = strsep(&rest, ",")) != NULL;)
        parse_order(part);
    passages = mmap(NULL, sizeof(atomic_int) * N_POINTS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fault_armed = passages != MAP_FAILED;
    if (!counts || !fault_armed) return;
    counting = getpid();
    atexit(print_counts);
}

static enum fault_action carry_out(const struct order *order) {
    fprintf(stderr, "fault: %s:%d:%s\n", points[order->point].name, order->passage, action_names[order->action]);
    switch (order->action) {
    case FAULT_KILL:
        raise(SIGKILL);
        break;
    case FAULT_EXIT:
        _exit(99);
    case FAULT_DELAY:
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        return FAULT_NONE;
    case FAULT_ERROR:
        errno = EIO;
        break;
    case FAULT_FULL:
        errno = ENOSPC;
        break;
    default:
        break;
    }
    return order->action;
}

enum fault_action fault_pass(const char *point) {
    int32_t index = find_point(point);
    if (index < 0) refuse_order(point);
    int32_t passage = atomic_fetch_add(&passages[index], 1) + 1;
    for (int32_t i = 0; i < n_orders; i++)
        if (orders[i].point == index && orders[i].passage == passage) return carry_out(&orders[i]);
    return FAULT_NONE;
}

ssize_t fault_write(const char *point, int fd, const void *bytes, size_t count) {
    enum fault_action action = fault_hit(point);
    if (action == FAULT_ERROR || action == FAULT_FULL) return -1;
    if (action != FAULT_SHORT && action != FAULT_TORN) return write(fd, bytes, count);
    ssize_t put = write(fd, bytes, (count + 1) / 2);
    if (action == FAULT_TORN) raise(SIGKILL);
    return put;
}

int fault_fsync(const char *point, int fd) {
    return fault_fails(point) ? -1 : fsync(fd);
}

int fault_rename(const char *point, const char *from, const char *to) {
    return fault_fails(point) ? -1 : rename(from, to);
}
