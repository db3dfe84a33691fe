/* Memory of the CPU device: what can be had, aligned zeroed blocks, and the scratch of a call. Sizes are checked
 * against what the machine and the control group have left, because Linux promises memory that it does not have. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu_internal.h"

static const int64_t unlimited = INT64_MAX;

/* The number after `key` at the start of a line, as in /proc/meminfo; −1 when it is not there. */
static int64_t keyed_number(const char *path, const char *key) {
    FILE *file = fopen(path, "r");
    char line[256];
    long long number = -1;
    size_t length = strlen(key);
    while (file && number < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, key, length) == 0) number = strtoll(line + length, NULL, 10);
    if (file) fclose(file);
    return number;
}

/* The number that a file begins with; −1 when there is none ("max", no file). */
static int64_t single_number(const char *path) {
    FILE *file = fopen(path, "r");
    long long number = -1;
    if (file && fscanf(file, "%lld", &number) != 1) number = -1;
    if (file) fclose(file);
    return number;
}

/* ---- control groups: batch systems and containers limit memory here ---- */

/* The two versions: how our line in /proc/self/cgroup begins after its number, and where the files are. */
struct group_version {
    const char *line, *root, *limit, *used, *active, *inactive;
};
static const struct group_version group_versions[] = {
    {"::/", "/sys/fs/cgroup", "memory.max", "memory.current", "active_file ", "inactive_file "},
    {":memory:/", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file ",
     "total_inactive_file "},
};
enum { GROUP_PATH = 1024 };

/* Our group's folder below the root; "" for the root itself or where there is no such group. */
static void group_path(const struct group_version *version, char out[GROUP_PATH]) {
    FILE *file = fopen("/proc/self/cgroup", "r");
    char line[GROUP_PATH];
    size_t length = strlen(version->line);
    out[0] = 0;
    while (file && fgets(line, sizeof line, file)) {
        const char *found = line + strspn(line, "0123456789");
        line[strcspn(line, "\n")] = 0;
        if (strncmp(found, version->line, length) == 0 && found[length]) lvs_copy(out, GROUP_PATH, found + length - 1);
    }
    if (file) fclose(file);
}

static const char *group_file(const struct group_version *version, const char *path, const char *name) {
    static _Thread_local char text[GROUP_PATH + 128];
    snprintf(text, sizeof text, "%s%s/%s", version->root, path, name);
    return text;
}

/* Lowers *limit and *left to those of one group; cached file pages count as free. */
static void group_apply(const struct group_version *version, const char *path, int64_t *limit, int64_t *left) {
    int64_t own = single_number(group_file(version, path, version->limit));
    if (own < 0) return;
    int64_t used = single_number(group_file(version, path, version->used));
    int64_t active = keyed_number(group_file(version, path, "memory.stat"), version->active);
    int64_t inactive = keyed_number(group_file(version, path, "memory.stat"), version->inactive);
    used = (used < 0 ? 0 : used) - (active < 0 ? 0 : active) - (inactive < 0 ? 0 : inactive);
    *limit = cpu_min(*limit, own);
    *left = cpu_min(*left, used < 0 ? own : own > used ? own - used : 0);
}

/* The tightest limit from our group up to the root, and the least that is left of any. */
static void group_limits(int64_t *limit, int64_t *left) {
    *limit = *left = unlimited;
    for (size_t i = 0; i < sizeof group_versions / sizeof *group_versions; i++) {
        char path[GROUP_PATH];
        group_path(&group_versions[i], path);
        group_apply(&group_versions[i], path, limit, left);
        for (char *slash = strrchr(path, '/'); slash; slash = strrchr(path, '/')) {
            *slash = 0;
            group_apply(&group_versions[i], path, limit, left);
        }
    }
}

int64_t cpu_memory_total(void) {
    int64_t kilobytes = keyed_number("/proc/meminfo", "MemTotal:"), limit, left;
    group_limits(&limit, &left);
    return cpu_min(kilobytes < 0 ? unlimited : kilobytes * 1024, limit);
}

int64_t cpu_memory_available(void) {
    int64_t kilobytes = keyed_number("/proc/meminfo", "MemAvailable:"), limit, left;
    group_limits(&limit, &left);
    return cpu_min(kilobytes < 0 ? unlimited : kilobytes * 1024, left);
}

/* Zeroed and aligned; large blocks ask for huge pages. NULL when it does not fit. */
static void *memory_take(size_t bytes) {
    const size_t huge = (size_t)2 << 20;
    size_t alignment = bytes >= 2 * huge ? huge : CPU_ALIGNMENT;
    size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void *memory = aligned_alloc(alignment, rounded ? rounded : alignment);
    if (!memory) return NULL;
    if (alignment == huge) madvise(memory, rounded, MADV_HUGEPAGE);
    memset(memory, 0, rounded);
    return memory;
}

enum lvs_status cpu_allocate(struct device *device, size_t bytes, void **out, struct lvs_error *err) {
    (void)device;
    *out = NULL;
    const size_t worth_checking = (size_t)1 << 20;
    int64_t available = bytes < worth_checking ? unlimited : cpu_memory_available();
    if (bytes <= (size_t)available) *out = memory_take(bytes);
    if (*out) return LVS_OK;
    return lvs_fail(err, LVS_LAUNCH,
                    "not enough memory: %.2f GiB are needed for one array, %.2f GiB of %.2f GiB are free; use fewer "
                    "ranks on this machine, a smaller batch or a shorter context",
                    (double)bytes / 0x1p30, (double)cpu_memory_available() / 0x1p30,
                    (double)cpu_memory_total() / 0x1p30);
}

void cpu_release(struct device *device, void *memory) {
    (void)device;
    free(memory);
}

void *cpu_scratch(struct device *device, size_t bytes) {
    if (bytes <= device->scratch_size) return device->scratch;
    free(device->scratch);
    device->scratch_size = 0;
    struct lvs_error err = {0};
    if (cpu_allocate(device, bytes, &device->scratch, &err) != LVS_OK) {
        if (device->failure.status == LVS_OK) device->failure = err;
        return NULL;
    }
    device->scratch_size = bytes;
    return device->scratch;
}
