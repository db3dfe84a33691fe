/* Random weights of a given shape, for measuring speed and memory without a checkpoint.
 * Normal with std 0.02 in bfloat16 as released checkpoints are; the numbers of one pool, begun elsewhere by each matrix
 * and shifted from row to row, so that a 0.5B model is made in a second. */
#include <stdlib.h>

#include "lvsweep/rng.h"
#include "lvsweep/strbuf.h"
#include "model_internal.h"

#define POOL_SIZE  1048583 /* a prime: no width divides it, so that rows differ */
#define WEIGHT_STD 0.02

struct maker {
    struct model *model;
    const uint16_t *pool; /* [POOL_SIZE] */
    int64_t n_matrices;
    struct lvs_error *err;
};

static uint16_t *pool_make(uint64_t seed) {
    uint16_t *pool = lvs_malloc(POOL_SIZE * sizeof *pool);
    struct rng rng = rng_make(seed, RNG_STREAM_LORA_INIT);
    for (int32_t i = 0; i < POOL_SIZE; i++)
        pool[i] = tensor_bf16_from_float((float)(WEIGHT_STD * rng_normal(&rng)));
    return pool;
}

static enum lvs_status make_weight(struct maker *maker, int64_t rows, int64_t cols, struct weight **out,
                                   struct host_tensor *host) {
    const struct compute *compute = &maker->model->compute;
    size_t count = (size_t)(rows * cols);
    uint16_t *data = malloc(count * sizeof *data);
    if (!data)
        return lvs_fail(maker->err, LVS_LAUNCH, "no memory for random weights of %lld × %lld", (long long)rows,
                        (long long)cols);
    model_own(maker->model, data);
    size_t place = (size_t)(++maker->n_matrices * 7919) % POOL_SIZE;
    for (size_t i = 0; i < count; i++) {
        data[i] = maker->pool[place];
        if (++place == POOL_SIZE) place = 0;
    }
    *host = (struct host_tensor){.data = data, .type = TENSOR_BF16, .rows = rows, .cols = cols};
    return compute->backend->weight_create(compute->device, host, 1, out, maker->err);
}

static enum lvs_status make_matrices(struct maker *maker) {
    struct model *model = maker->model;
    const struct qwen2_config *config = &model->config;
    int64_t hidden = config->hidden, attention = model_attention_width(config);
    struct host_tensor host;
    LVS_TRY(make_weight(maker, config->vocab_size, hidden, &model->embedding, &model->embedding_host));
    model->head = model->embedding;
    model->head_host = model->embedding_host;
    if (!config->tied) {
        model->head = NULL;
        LVS_TRY(make_weight(maker, config->vocab_size, hidden, &model->head, &model->head_host));
    }
    for (int32_t l = 0; l < config->n_layers; l++) {
        struct model_layer *layer = &model->layers[l];
        LVS_TRY(make_weight(maker, attention_qkv_width(&model->shape), hidden, &layer->qkv, &host));
        LVS_TRY(make_weight(maker, hidden, attention, &layer->o, &host));
        LVS_TRY(make_weight(maker, 2 * (int64_t)config->intermediate, hidden, &layer->gate_up, &host));
        LVS_TRY(make_weight(maker, hidden, config->intermediate, &layer->down, &host));
    }
    return LVS_OK;
}

/* Gains 1, biases from the pool. */
static enum lvs_status make_vectors(struct maker *maker) {
    const struct qwen2_config *config = &maker->model->config;
    int64_t count = model_vector_floats(config), block = model_layer_vector_floats(config);
    float *host = lvs_malloc((size_t)count * sizeof *host);
    for (int64_t i = 0; i < count; i++) {
        bool is_gain = i >= config->n_layers * block || i % block < 2 * (int64_t)config->hidden;
        host[i] = is_gain ? 1.0f : tensor_float_from_bf16(maker->pool[i % POOL_SIZE]);
    }
    enum lvs_status status = model_set_vectors(maker->model, host, maker->err);
    free(host);
    return status;
}

enum lvs_status model_random(const struct compute *compute, const struct qwen2_config *config, uint64_t seed,
                             struct model **out, struct lvs_error *err) {
    uint16_t *pool = pool_make(seed);
    struct maker maker = {.model = model_allocate(compute, config), .pool = pool, .err = err};
    enum lvs_status status = make_matrices(&maker);
    if (status == LVS_OK) status = make_vectors(&maker);
    free(pool);
    if (status != LVS_OK) {
        model_close(maker.model);
        return status;
    }
    *out = maker.model;
    return LVS_OK;
}
