/* Time by operation name, when asked for: calls and milliseconds. Costs nothing while it is off. */
#include <stdlib.h>
#include <string.h>

#include "cpu_internal.h"
#include "lvsweep/clock.h"

enum { PROFILE_NAMES = 48 };

struct cpu_profile {
    int32_t count;
    struct {
        const char *name; /* a literal */
        int64_t calls;
        double seconds;
    } entry[PROFILE_NAMES];
};

double cpu_profile_start(const struct device *device) {
    return device->profile ? clock_steady() : 0;
}

void cpu_profile_stop(struct device *device, const char *name, double start) {
    struct cpu_profile *profile = device->profile;
    if (!profile) return;
    int32_t i = 0;
    while (i < profile->count && strcmp(profile->entry[i].name, name) != 0)
        i++;
    assert(i < PROFILE_NAMES);
    if (i == profile->count) profile->entry[profile->count++].name = name;
    profile->entry[i].calls++;
    profile->entry[i].seconds += clock_steady() - start;
}

void cpu_profile_begin(struct device *device) {
    if (!device->profile) device->profile = lvs_calloc(1, sizeof *device->profile);
    memset(device->profile, 0, sizeof *device->profile);
}

void cpu_profile_write(struct device *device, struct strbuf *out) {
    const struct cpu_profile *profile = device->profile;
    for (int32_t i = 0; profile && i < profile->count; i++)
        strbuf_printf(out, "%-24s %10lld calls %12.3f ms\n", profile->entry[i].name, (long long)profile->entry[i].calls,
                      1e3 * profile->entry[i].seconds);
}

void cpu_profile_free(struct device *device) {
    free(device->profile);
    device->profile = NULL;
}
