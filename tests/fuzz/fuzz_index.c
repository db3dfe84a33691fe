/* libFuzzer target: any bytes as model.safetensors.index.json beside two shards. Either refused in words, or a folder
 * of one or two tensors, each read from a shard of this folder. */
#include "fuzz_folder.h"
#include "lvsweep/model.h"

static char folder[64];

static void put_shard(const char *name, const char *tensor) {
    char path[128];
    float value = 1;
    struct safetensors_tensor one = {.n_dims = 1, .shape = {1}, .data = &value, .type = TENSOR_F32};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    lvs_copy(one.name, sizeof one.name, tensor);
    if (safetensors_write(path, &one, 1, NULL, NULL) != LVS_OK) abort();
}

static void remove_folder(void) {
    fuzz_folder_remove(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!folder[0]) {
        fuzz_folder_make(folder);
        atexit(remove_folder);
        put_shard("a.safetensors", "a");
        put_shard("b.safetensors", "b");
    }
    fuzz_folder_put(folder, "model.safetensors.index.json", data, size);
    struct safetensors *file = NULL;
    struct lvs_error err = {0};
    enum lvs_status status = safetensors_open_folder(folder, &file, &err);
    if (status == LVS_OK) {
        int32_t n = safetensors_count(file);
        if (n < 1 || n > 2) abort();
        for (int32_t i = 0; i < n; i++)
            if (*(const float *)safetensors_at(file, i)->data != 1) abort();
        safetensors_close(file);
    } else if (status != LVS_INPUT || err.text[0] == '\0') {
        abort();
    }
    return 0;
}
