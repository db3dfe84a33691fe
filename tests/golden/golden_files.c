/* Reading of recorded files and the comparisons of the golden tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>

#include "golden/golden_files.h"
#include "lvsweep/strbuf.h"

#define GOLDEN_FOLDER LVS_SOURCE_DIR "/tests/golden"

void golden_ok(enum lvs_status status, const struct lvs_error *err) {
    if (status != LVS_OK) fail_msg("status %d: %s", status, err->text);
}

struct golden golden_open(const char *part) {
    struct golden golden = {0};
    struct lvs_error err;
    char path[LVS_PATH_MAX];
    lvs_copy(golden.part, sizeof golden.part, part);
    snprintf(path, sizeof path, GOLDEN_FOLDER "/%s.safetensors", part);
    golden_ok(safetensors_open(path, &golden.tensors, &err), &err);
    return golden;
}

void golden_close(struct golden *golden) {
    safetensors_close(golden->tensors);
    golden->tensors = NULL;
}

const struct safetensors_entry *golden_entry(const struct golden *golden, const char *name) {
    const struct safetensors_entry *entry = safetensors_find(golden->tensors, name);
    if (!entry) fail_msg("%s.safetensors: no tensor \"%s\"", golden->part, name);
    return entry;
}

static int64_t entry_count(const struct safetensors_entry *entry) {
    int64_t count = 1;
    for (int32_t i = 0; i < entry->n_dims; i++)
        count *= entry->shape[i];
    return count;
}

float *golden_floats(const struct golden *golden, const char *name, int64_t *count) {
    const struct safetensors_entry *entry = golden_entry(golden, name);
    int64_t n = entry_count(entry);
    float *out = lvs_malloc((size_t)n * sizeof *out);
    if (entry->type == TENSOR_F32) {
        tensor_to_float(entry->data, TENSOR_F32, n, out);
    } else {
        assert_int_equal(entry->bytes, n * 8);
        for (int64_t i = 0; i < n; i++) {
            double value;
            memcpy(&value, (const char *)entry->data + 8 * i, sizeof value);
            out[i] = (float)value;
        }
    }
    if (count) *count = n;
    return out;
}

int32_t *golden_integers(const struct golden *golden, const char *name, int64_t *count) {
    const struct safetensors_entry *entry = golden_entry(golden, name);
    int64_t n = entry_count(entry);
    assert_int_equal(entry->bytes, n * 8);
    int32_t *out = lvs_malloc((size_t)n * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        int64_t value;
        memcpy(&value, (const char *)entry->data + 8 * i, sizeof value);
        out[i] = (int32_t)value;
    }
    if (count) *count = n;
    return out;
}

double golden_number(const char *part, const char *path) {
    char file[LVS_PATH_MAX], step[64];
    snprintf(file, sizeof file, GOLDEN_FOLDER "/%s.json", part);
    json_error_t where;
    json_t *root = json_load_file(file, 0, &where), *value = root;
    if (!root) fail_msg("%s: %s", file, where.text);
    for (const char *at = path; *at && value;) {
        size_t length = strcspn(at, ".");
        assert_true(length < sizeof step);
        lvs_copy(step, length + 1, at);
        value = json_is_array(value) ? json_array_get(value, (size_t)atoi(step)) : json_object_get(value, step);
        at += length + (at[length] == '.');
    }
    if (!json_is_number(value)) fail_msg("%s: no number %s", file, path);
    double number = json_number_value(value);
    json_decref(root);
    return number;
}

void golden_shift_labels(int32_t *labels, int64_t rows, int32_t context) {
    for (int64_t row = 0; row < rows; row++) {
        int32_t *line = labels + row * context;
        for (int32_t t = 0; t + 1 < context; t++)
            line[t] = line[t + 1] < 0 ? LVS_LABEL_IGNORED : line[t + 1];
        line[context - 1] = LVS_LABEL_IGNORED;
    }
}

/* ---- comparisons ---- */

double golden_difference(const float *found, const float *recorded, int64_t count) {
    double difference = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(found[i])) return INFINITY;
        difference = fmax(difference, fabs((double)found[i] - (double)recorded[i]));
        largest = fmax(largest, fabs((double)recorded[i]));
    }
    return largest > 0 ? difference / largest : difference;
}

void golden_check(const char *what, const float *found, const float *recorded, int64_t count, double limit) {
    double difference = golden_difference(found, recorded, count);
    printf("%s: max |difference| / max |recorded| = %.2e (limit %.0e)\n", what, difference, limit);
    if (!(difference <= limit)) fail_msg("%s: %.3e passes %.0e", what, difference, limit);
}

void golden_check_number(const char *what, double found, double recorded, double limit) {
    printf("%s: %.7f, recorded %.7f, difference %.1e (limit %.0e)\n", what, found, recorded, fabs(found - recorded),
           limit);
    if (!(fabs(found - recorded) <= limit)) fail_msg("%s: %.9f is not %.9f", what, found, recorded);
}

/* ---- the checkpoint and its adapters ---- */

struct golden_model golden_model_open(void) {
    struct golden_model golden = {0};
    struct lvs_error err;
    struct device_options options = {.threads = 2, .precision = PRECISION_KIND_FP32};
    struct model_source source = {.folder = LVS_SOURCE_DIR "/sweeps/quickstart/model"};
    const char *backend = getenv("LVS_TEST_BACKEND");
    golden_ok(compute_open(backend ? backend : "cpu", &options, &golden.compute, &err), &err);
    golden_ok(model_open(&golden.compute, &source, &golden.model, &err), &err);
    return golden;
}

void golden_model_close(struct golden_model *golden) {
    model_close(golden->model);
    compute_close(&golden->compute);
}

static void *device_array(const struct compute *compute, const void *source, size_t bytes) {
    struct lvs_error err;
    void *memory;
    golden_ok(compute->backend->allocate(compute->device, bytes, &memory, &err), &err);
    if (source) compute->backend->upload(compute->device, memory, source, bytes);
    return memory;
}

struct golden_adapter golden_adapter_make(const struct golden_model *golden, const char *name, uint32_t targets,
                                          int32_t rank, double alpha, int32_t head) {
    struct golden_adapter adapter = {.compute = model_compute(golden->model)};
    struct lvs_error err;
    adapter.settings.lora_rank = rank;
    adapter.settings.lora_targets = targets;
    adapter.settings.alpha_value = alpha;
    adapter.settings.head = head;
    lora_layout_make(model_config(golden->model), model_vocabulary(golden->model), targets, rank, head,
                     &adapter.layout);
    size_t bytes = (size_t)adapter.layout.stride * sizeof(float);
    adapter.host = lvs_malloc(bytes);
    golden_ok(lora_init(golden->model, &adapter.layout, &adapter.settings, adapter.host, &err), &err);
    if (name) {
        char folder[LVS_PATH_MAX];
        snprintf(folder, sizeof folder, GOLDEN_FOLDER "/%s", name);
        golden_ok(lora_read(folder, &adapter.layout, &adapter.settings, adapter.host, &err), &err);
    }
    float scale = (float)settings_lora_scale(&adapter.settings);
    adapter.adapters = (struct adapters){.params = device_array(adapter.compute, adapter.host, bytes),
                                         .grads = device_array(adapter.compute, NULL, bytes),
                                         .stride = adapter.layout.stride,
                                         .scale = device_array(adapter.compute, &scale, sizeof scale)};
    return adapter;
}

void golden_adapter_free(struct golden_adapter *adapter) {
    const struct compute *compute = adapter->compute;
    compute->backend->release(compute->device, adapter->adapters.params);
    compute->backend->release(compute->device, adapter->adapters.grads);
    compute->backend->release(compute->device, (void *)adapter->adapters.scale);
    free(adapter->host);
}

float *golden_adapter_grads(const struct golden_adapter *adapter) {
    size_t bytes = (size_t)adapter->layout.stride * sizeof(float);
    float *grads = lvs_malloc(bytes);
    adapter->compute->backend->download(adapter->compute->device, grads, adapter->adapters.grads, bytes);
    return grads;
}

float *golden_pair_part(const struct golden_adapter *adapter, const float *vector, int32_t layer, int32_t target,
                        bool is_a, char name[160], int64_t *count) {
    static const char *const modules[LORA_TARGET_COUNT] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                                           "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                                           "mlp.down_proj"};
    const struct lora_layout *layout = &adapter->layout;
    int64_t rank = adapter->settings.lora_rank, rows = is_a ? rank : layout->n_out[target];
    int64_t cols = is_a ? layout->n_in[target] : rank, stride = is_a ? cols : layout->rank;
    const float *from =
        vector + layer * layout->layer_floats + (is_a ? layout->site_a[target] : layout->site_b[target]);
    float *out = lvs_malloc((size_t)(rows * cols) * sizeof *out);
    for (int64_t i = 0; i < rows; i++)
        memcpy(out + i * cols, from + i * stride, (size_t)cols * sizeof *out);
    snprintf(name, 160, "base_model.model.model.layers.%d.%s.lora_%c.weight", layer, modules[target], is_a ? 'A' : 'B');
    *count = rows * cols;
    return out;
}
