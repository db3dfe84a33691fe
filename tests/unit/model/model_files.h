/* Folders and checkpoints made by the tests of src/model: small, random, seeded. */
#pragma once
#include "lvsweep/model.h"

/* A new folder under TMPDIR, removed with its files by folder_remove. */
struct folder {
    char path[LVS_PATH_MAX / 2];
};
struct folder folder_make(void);
void folder_remove(const struct folder *folder);
void folder_write(const struct folder *folder, const char *name, const void *bytes, size_t length);
void folder_write_text(const struct folder *folder, const char *name, const char *text);
void folder_path(const struct folder *folder, const char *name, char out[LVS_PATH_MAX]);

/* What a made checkpoint looks like. */
struct checkpoint {
    struct qwen2_config config;
    enum tensor_type type;
    int32_t n_shards; /* 1 = model.safetensors, more = an index and model-0000x-of-… */
    bool repeat_head; /* untied, with lm_head equal to the embedding */
    uint64_t seed;
};
/* 2 layers, hidden 32, 4 heads of 8 on 2 kv heads, 48 wide, 20 tokens, tied. */
struct checkpoint checkpoint_small(void);
/* Writes config.json and the weights: a tensor's numbers depend on the seed and its name alone. */
void checkpoint_write(const struct folder *folder, const struct checkpoint *checkpoint);

/* The CPU in fp32 with so many threads. */
struct compute cpu_compute(int32_t threads);
struct model *model_of(const struct compute *compute, const struct folder *folder);
/* sweeps/quickstart/model */
struct model *quickstart_model(const struct compute *compute);

/* `count` adapters of one layout on the device: A as lora_init, B random with std 0.05, each of its own seed. */
struct adapter_set {
    const struct compute *compute;
    struct lora_layout layout;
    struct settings settings;
    struct adapters adapters;
    int32_t count;
    float *host; /* [count][stride] */
};
struct adapter_set adapter_set_make(const struct model *model, uint32_t targets, int32_t rank, int32_t head,
                                    int32_t count);
void adapter_set_upload(struct adapter_set *set); /* after host was changed */
void adapter_set_free(struct adapter_set *set);

/* Fails with the error's words; fails when the call went well or the words lack `needle`. */
void ok(enum lvs_status status, const struct lvs_error *err);
void refused(enum lvs_status status, enum lvs_status expected, const struct lvs_error *err, const char *needle);
void *device_array(const struct compute *compute, const void *source, size_t bytes);
