/* The table of chosen algorithms, by shape: kept while the device is open, written as text for other workers and for a
 * resumed run. Invariant: a text made on another card or library is refused, never used. */
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "cuda_internal.cuh"

struct tuning_choice {
    cublasLtMatmulAlgo_t algorithm;
    float microseconds;
};
struct tuning {
    std::map<std::string, tuning_choice> choices; /* by key_make() */
};

struct tuning *tuning_create(void) {
    return new tuning;
}

void tuning_destroy(struct tuning *tuning) {
    delete tuning;
}

static std::string key_make(const struct product *p) {
    char key[128];
    snprintf(key, sizeof key, "m%lld.n%lld.k%lld.b%d.%c%c%c.%s%s", static_cast<long long>(p->m),
             static_cast<long long>(p->n), static_cast<long long>(p->k), p->batch, p->transposed_a ? 't' : 'n',
             p->transposed_b ? 't' : 'n', p->accumulate ? 'a' : 'w', p->type_ab == CUDA_R_32F ? "f32" : "bf16",
             p->type_c == p->type_ab ? "" : "-f32");
    return key;
}

static std::string heading_make(const struct device *device) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, device->index) != cudaSuccess) return "unknown card";
    char heading[320];
    snprintf(heading, sizeof heading, "cublaslt %zu on %s", cublasLtGetVersion(), properties.name);
    return heading;
}

bool tuning_find(const struct device *device, const struct product *product, cublasLtMatmulAlgo_t *out) {
    auto found = device->tuning->choices.find(key_make(product));
    if (found == device->tuning->choices.end()) return false;
    *out = found->second.algorithm;
    return true;
}

void tuning_store(struct device *device, const struct product *product, const cublasLtMatmulAlgo_t *algorithm,
                  float microseconds) {
    device->tuning->choices[key_make(product)] = {*algorithm, microseconds};
}

void cuda_tuning_write(struct device *device, struct strbuf *out) {
    if (device->tuning->choices.empty()) {
        strbuf_add(out, "");
        return;
    }
    strbuf_printf(out, "%s\n", heading_make(device).c_str());
    for (const auto &entry : device->tuning->choices) {
        strbuf_printf(out, "%s %.2f", entry.first.c_str(), static_cast<double>(entry.second.microseconds));
        for (uint64_t word : entry.second.algorithm.data)
            strbuf_printf(out, " %016llx", static_cast<unsigned long long>(word));
        strbuf_add(out, "\n");
    }
}

static bool line_read(const char *line, std::string *key, tuning_choice *choice) {
    char name[128];
    unsigned long long word[8];
    int matched = sscanf(line, "%127s %f %llx %llx %llx %llx %llx %llx %llx %llx", name, &choice->microseconds,
                         &word[0], &word[1], &word[2], &word[3], &word[4], &word[5], &word[6], &word[7]);
    if (matched != 10) return false;
    for (int i = 0; i < 8; i++)
        choice->algorithm.data[i] = word[i];
    *key = name;
    return true;
}

enum lvs_status cuda_tuning_read(struct device *device, const char *text, struct lvs_error *err) {
    if (text[0] == '\0') return LVS_OK;
    std::string heading = heading_make(device);
    const char *end = strchr(text, '\n');
    std::string found(text, end != nullptr ? static_cast<size_t>(end - text) : strlen(text));
    if (found != heading)
        return lvs_fail(err, LVS_INPUT, "the table of chosen algorithms was made with \"%s\"; this is \"%s\"",
                        found.c_str(), heading.c_str());
    for (int32_t line = 2; end != nullptr && end[1] != '\0'; line++) {
        std::string key;
        tuning_choice choice = {};
        if (!line_read(end + 1, &key, &choice))
            return lvs_fail(err, LVS_INPUT, "the table of chosen algorithms is damaged in line %d", line);
        device->tuning->choices[key] = choice;
        end = strchr(end + 1, '\n');
    }
    return LVS_OK;
}
