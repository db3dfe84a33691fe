/* Times by operation name: a pair of events around every piece of work, read when the table is written. Slow, and off
 * unless asked for; while a graph is recorded nothing is timed. */
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda_internal.cuh"

struct profile_entry {
    std::string name;
    cudaEvent_t start, stop;
};
struct profile {
    std::vector<profile_entry> entries;
};

void cuda_profile_begin(struct device *device) {
    profile_destroy(device->profile);
    device->profile = new profile;
}

void profile_destroy(struct profile *profile) {
    if (profile == nullptr) return;
    for (const profile_entry &entry : profile->entries) {
        cudaEventDestroy(entry.start);
        cudaEventDestroy(entry.stop);
    }
    delete profile;
}

void profile_start(struct device *device, const char *name) {
    if (device->profile == nullptr || device->capturing) return;
    profile_entry entry = {name, nullptr, nullptr};
    cudaEventCreate(&entry.start);
    cudaEventCreate(&entry.stop);
    cudaEventRecord(entry.start, device->stream);
    device->profile->entries.push_back(entry);
}

void profile_stop(struct device *device) {
    if (device->profile == nullptr || device->capturing) return;
    cudaEventRecord(device->profile->entries.back().stop, device->stream);
}

struct profile_line {
    std::string name;
    int64_t calls;
    double milliseconds;
};

static std::vector<profile_line> profile_sum(const struct profile *profile) {
    std::vector<profile_line> lines;
    for (const profile_entry &entry : profile->entries) {
        float elapsed = 0;
        if (cudaEventElapsedTime(&elapsed, entry.start, entry.stop) != cudaSuccess) continue;
        auto same = [&](const profile_line &line) { return line.name == entry.name; };
        auto found = std::find_if(lines.begin(), lines.end(), same);
        if (found == lines.end()) found = lines.insert(lines.end(), {entry.name, 0, 0.0});
        found->calls++;
        found->milliseconds += elapsed;
    }
    auto longer = [](const profile_line &a, const profile_line &b) { return a.milliseconds > b.milliseconds; };
    std::sort(lines.begin(), lines.end(), longer);
    return lines;
}

void cuda_profile_write(struct device *device, struct strbuf *out) {
    if (device->profile == nullptr) return;
    device_select(device);
    cudaStreamSynchronize(device->stream);
    for (const profile_line &line : profile_sum(device->profile))
        strbuf_printf(out, "%-32s %8lld calls %10.4f ms\n", line.name.c_str(), static_cast<long long>(line.calls),
                      line.milliseconds);
    profile_destroy(device->profile);
    device->profile = nullptr;
}
