/* Facts of one machine as a process on it sees them: what its scheduler left it, not what is built in. */
#define _GNU_SOURCE /* sched_getaffinity, dl_iterate_phdr */
#include <link.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor_internal.h"

static int32_t cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    return (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
}

/* First number of a file's line that begins with `key`; -1 = none. */
static double number_in(const char *path, const char *key) {
    char line[256];
    FILE *file = fopen(path, "r");
    double found = -1;
    while (file && found < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%lf", &found) != 1) found = -1;
    if (file) fclose(file);
    return found;
}

/* The job's memory limit: of the process's own control group (version 2), else none. */
static double memory_limit(void) {
    char line[512], path[640];
    double limit = -1;
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && limit < 0 && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3) != 0) continue;
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", line + 3);
        limit = number_in(path, "");
    }
    if (file) fclose(file);
    return limit;
}

/* ---- GPUs ---- */

static json_t *one_gpu(const struct backend *cuda, int32_t index) {
    const struct device_options options = {.index = index, .precision = PRECISION_KIND_BF16};
    struct device_description description = {0};
    struct device *device = NULL;
    struct lvs_error err = {0};
    enum lvs_status status = cuda->open(&options, &device, &err);
    if (status == LVS_OK) status = cuda->describe(device, &description, &err);
    if (device) cuda->close(device);
    if (status != LVS_OK) return json_pack("{s:i, s:s}", "index", index, "error", err.text);
    return json_pack("{s:i, s:s, s:s, s:s, s:f, s:f}", "index", index, "name", description.name, "uuid",
                     description.uuid, "driver", description.driver, "memory", (double)description.memory_total,
                     "memory_free", (double)description.memory_free);
}

static void add_gpus(json_t *facts) {
    const struct backend *cuda;
    struct lvs_error err = {0};
    json_t *list = json_array();
    int32_t count = 0;
    if (backend_find("cuda", &cuda, &err) == LVS_OK) count = cuda->count(&err);
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(list, one_gpu(cuda, i));
    if (count <= 0 && err.text[0]) json_object_set_new(facts, "gpu_error", json_string(err.text));
    json_object_set_new(facts, "gpus", list);
}

/* ---- libraries ---- */

static int take_library(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    static const char *const wanted[] = {"/libmpi.so", "/libhdf5", "/libopenblas", "/libmpich", "/libiniparser"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        if (info->dlpi_name && strstr(info->dlpi_name, wanted[i]))
            json_array_append_new(context, json_string(info->dlpi_name));
    return 0;
}

json_t *doctor_libraries(void) {
    json_t *list = json_array();
    dl_iterate_phdr(take_library, list);
    return list;
}

/* ---- all of it ---- */

json_t *doctor_facts(bool asks_gpus) {
    char host[128], folder[LVS_PATH_MAX];
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    protocol_host(host, sizeof host);
    json_t *facts =
        json_pack("{s:i, s:s, s:i, s:i, s:f, s:f, s:f}", "rank", protocol_rank(), "host", host, "pid", (int)getpid(),
                  "cores", cores(), "memory", 1024 * number_in("/proc/meminfo", "MemTotal:"), "memory_available",
                  1024 * number_in("/proc/meminfo", "MemAvailable:"), "memory_limit", memory_limit());
    json_object_set_new(facts, "folder", json_string(getcwd(folder, sizeof folder) ? folder : "?"));
    if (visible) json_object_set_new(facts, "cuda_visible_devices", json_string(visible));
    if (asks_gpus) add_gpus(facts);
    return facts;
}
