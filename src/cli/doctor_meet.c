/* Do all ranks share this folder? Network file systems show new files late, so everyone waits a while for what should
 * be there; what then is not, is not shared. The meeting also carries each rank's facts to rank 0.
 * Invariant: every rank makes the same collective calls, whatever failed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "doctor_internal.h"
#include "lvsweep/clock.h"

#define MEETING      ".lvsweep-doctor"
#define WAIT_SECONDS 15

static void pause_briefly(void) {
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

static enum lvs_status write_json(const char *folder, const char *name, const json_t *json, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    LVS_TRY(file_join(path, folder, name, err));
    char *text = json_dumps(json, JSON_COMPACT);
    enum lvs_status status = file_write_whole(path, text ? text : "", text ? strlen(text) : 0, err);
    free(text);
    return status;
}

/* Waits until the file is there and is JSON with this number (any number for ""). NULL = it did not come. */
static json_t *wait_for(const char *folder, const char *name, const char *number, double until) {
    char path[LVS_PATH_MAX];
    struct lvs_error ignored;
    if (file_join(path, folder, name, &ignored) != LVS_OK) return NULL;
    do {
        json_t *json = json_load_file(path, 0, NULL);
        const char *got = json_string_value(json_object_get(json, "number"));
        if (got && (!number[0] || strcmp(got, number) == 0)) return json;
        json_decref(json);
        pause_briefly();
    } while (clock_steady() < until);
    return NULL;
}

static void make_number(char out[LVS_HASH_TEXT]) {
    struct {
        struct timespec time;
        pid_t pid;
        unsigned char noise[16];
    } seed;
    memset(&seed, 0, sizeof seed);
    clock_gettime(CLOCK_REALTIME, &seed.time);
    seed.pid = getpid();
    FILE *random = fopen("/dev/urandom", "r");
    if (random) {
        if (fread(seed.noise, 1, sizeof seed.noise, random) == 0) seed.noise[0] = 1;
        fclose(random);
    }
    hash_bytes(&seed, sizeof seed, out);
}

/* Rank 0's part before the others look. */
static enum lvs_status open_meeting(const char *path, char number[LVS_HASH_TEXT], struct lvs_error *err) {
    file_remove_folder(path);
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot make a folder there: %s", path, strerror(errno));
    make_number(number);
    json_t *json = json_pack("{s:s}", "number", number);
    enum lvs_status status = write_json(path, "number", json, err);
    json_decref(json);
    return status;
}

static void answer(const char *path, json_t *facts) {
    char name[32];
    struct lvs_error ignored;
    json_t *json = wait_for(path, "number", "", clock_steady() + WAIT_SECONDS);
    if (!json) return; /* rank 0 will miss this file and say so */
    json_object_set(facts, "number", json_object_get(json, "number"));
    json_decref(json);
    snprintf(name, sizeof name, "rank-%d", protocol_rank());
    write_json(path, name, facts, &ignored);
}

static json_t *collect(const char *path, const char *number) {
    json_t *list = json_array();
    const double until = clock_steady() + WAIT_SECONDS;
    for (int rank = 0; rank < protocol_size(); rank++) {
        char name[32];
        snprintf(name, sizeof name, "rank-%d", rank);
        json_t *facts = wait_for(path, name, number, until);
        if (facts) json_array_append_new(list, facts);
    }
    return list;
}

enum lvs_status doctor_meet(const char *folder, json_t *facts, json_t **out, struct lvs_error *err) {
    char path[LVS_PATH_MAX], number[LVS_HASH_TEXT] = "";
    const bool leads = protocol_rank() == 0;
    *out = NULL;
    enum lvs_status status = file_join(path, folder, MEETING, err);
    if (status == LVS_OK && leads) status = open_meeting(path, number, err);
    /* Only rank 0 knows whether there is a meeting. */
    bool held = protocol_same_text(leads && status != LVS_OK ? "no meeting" : "meeting");
    if (protocol_size() == 1) held = status == LVS_OK;
    if (held) answer(path, facts);
    protocol_same_text("answered");
    if (held && leads) *out = collect(path, number);
    if (leads) file_remove_folder(path);
    return status;
}

enum lvs_status doctor_write_together(const char *folder, struct lvs_error *err) {
    char path[LVS_PATH_MAX];
    const bool leads = protocol_rank() == 0;
    struct results empty;
    LVS_TRY(file_join(path, folder, MEETING, err));
    results_init(&empty, path);
    if (leads && mkdir(path, 0777) != 0 && errno != EEXIST)
        lvs_fail(err, LVS_OUTPUT, "%s: cannot make a folder there: %s", path, strerror(errno));
    enum lvs_status status = protocol_publish(leads ? &empty : NULL, err);
    if (leads) file_remove_folder(path);
    results_free(&empty);
    return status;
}
