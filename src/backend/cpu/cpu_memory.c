/* Memory of the CPU device: what can be had, aligned zeroed blocks, and the scratch of a call. Sizes are checked
 * against what the machine and the control group have left, because Linux promises memory that it does not have. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu_internal.h"

static const int64_t unlimited = INT64_MAX;

/* The number after `key` in a /proc/meminfo-like file, in kB; −1 when it is not there. */
static int64_t meminfo_read(const char *key) {
    FILE *file = fopen("/proc/meminfo", "r");
    char line[256];
    long long kilobytes = -1;
    size_t length = strlen(key);
    while (file && kilobytes < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, key, length) == 0) kilobytes = strtoll(line + length, NULL, 10);
    if (file) fclose(file);
    return kilobytes;
}

/* A byte count in a file of its own; `unlimited` when there is none ("max", no file). */
static int64_t number_read(const char *path) {
    FILE *file = fopen(path, "r");
    long long number = -1;
    if (file && fscanf(file, "%lld", &number) != 1) number = -1;
    if (file) fclose(file);
    return number < 0 ? unlimited : number;
}

static int64_t group_limit(void) {
    return cpu_min(number_read("/sys/fs/cgroup/memory.max"),
                   number_read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
}

static int64_t group_used(void) {
    int64_t used = cpu_min(number_read("/sys/fs/cgroup/memory.current"),
                           number_read("/sys/fs/cgroup/memory/memory.usage_in_bytes"));
    return used == unlimited ? 0 : used;
}

int64_t cpu_memory_total(void) {
    int64_t kilobytes = meminfo_read("MemTotal:");
    return cpu_min(kilobytes < 0 ? unlimited : kilobytes * 1024, group_limit());
}

int64_t cpu_memory_available(void) {
    int64_t kilobytes = meminfo_read("MemAvailable:"), limit = group_limit();
    int64_t machine = kilobytes < 0 ? unlimited : kilobytes * 1024;
    if (limit == unlimited) return machine;
    return cpu_min(machine, limit > group_used() ? limit - group_used() : 0);
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
