/* Time of one LoRA training step (the fastest of several) by operation, on random weights of a given shape:
 * `bench_backend [tiny|0.5b] [threads] [steps]`. A benchmark of the operations alone, in the order a decoder runs them;
 * it trains nothing useful. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "lvsweep/backend.h"
#include "lvsweep/rng.h"

struct bench_shape {
    const char *name;
    int32_t hidden, layers, inner, vocabulary, batch, context, rank;
    struct attention_shape heads;
    enum tensor_type type;
};

static const struct bench_shape shapes[] = {
    {"tiny", 128, 4, 640, 16, 4, 512, 8, {2, 1, 64}, TENSOR_BF16},
    {"0.5b", 896, 24, 4864, 151936, 1, 128, 8, {14, 2, 64}, TENSOR_BF16},
    {"0.5b-f32", 896, 24, 4864, 151936, 1, 128, 8, {14, 2, 64}, TENSOR_F32},
    {"0.5b-512", 896, 24, 4864, 151936, 4, 512, 8, {14, 2, 64}, TENSOR_BF16},
};

struct layer {
    struct weight *qkv, *o, *gate_up, *down;
    void *x, *middle, *qkv_act, *attention, *gate_up_act; /* kept for backward */
    float *rstd[2], *lse, *xa;
    struct lora_group group;
};

struct bench {
    struct compute compute;
    struct bench_shape shape;
    struct pack_layout layout;
    struct layer *layer;
    struct weight *head;
    struct adapters adapters;
    struct optimizer_call adam;
    struct loss_call loss;
    struct rope_tables rope;
    float *gain, *bias, *rstd, *t;
    void *x, *y, *h, *dx, *dy, *dqkv, *dattention;
    int32_t *ids;
};

static void must(enum lvs_status status, const struct lvs_error *err) {
    if (status == LVS_OK) return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static void *take(struct bench *b, int64_t bytes, const void *values) {
    struct lvs_error err = {0};
    void *memory;
    must(b->compute.backend->allocate(b->compute.device, (size_t)bytes, &memory, &err), &err);
    if (values) b->compute.backend->upload(b->compute.device, memory, values, (size_t)bytes);
    return memory;
}

static void *acts(struct bench *b, int64_t cols) {
    return take(b, b->layout.n_rows * cols * (int64_t)b->compute.act_size, NULL);
}

/* Small random numbers in the type of the file; never freed. */
static struct weight *matrix(struct bench *b, int64_t rows, int64_t cols) {
    static uint64_t seed;
    struct rng rng = rng_make(++seed, RNG_STREAM_TEST);
    struct lvs_error err = {0};
    size_t size = b->shape.type == TENSOR_F32 ? 4 : 2;
    char *data = lvs_malloc((size_t)(rows * cols) * size);
    for (int64_t i = 0; i < rows * cols; i++) {
        float value = ((float)(rng.position + (uint64_t)i * 2654435761u % 1000) / 1000 - 0.5f) / sqrtf((float)cols);
        uint32_t bits;
        memcpy(&bits, &value, 4);
        uint16_t half = (uint16_t)(bits >> 16);
        memcpy(data + (size_t)i * size, size == 4 ? (const void *)&bits : (const void *)&half, size);
    }
    struct host_tensor part = {data, b->shape.type, rows, cols};
    struct weight *weight;
    must(b->compute.backend->weight_create(b->compute.device, &part, 1, &weight, &err), &err);
    return weight;
}

static float *filled(struct bench *b, int64_t count, float value) {
    float *host = lvs_malloc((size_t)count * 4);
    for (int64_t i = 0; i < count; i++)
        host[i] = value;
    float *device = take(b, count * 4, host);
    free(host);
    return device;
}

static int64_t group_make(struct lora_group *group, const struct bench_shape *s, int32_t layer, int64_t offset) {
    int32_t q = s->heads.n_heads * s->heads.head_size, kv = s->heads.n_kv_heads * s->heads.head_size;
    int32_t out[2] = {q, kv}, column[2] = {0, q + kv};
    group->n = 2;
    for (int32_t i = 0; i < 2; i++) {
        struct lora_site *site = &group->site[i];
        *site = (struct lora_site){.n_in = s->hidden, .n_out = out[i], .rank = s->rank, .column = column[i]};
        site->site_id = layer * 7 + i;
        site->a_offset = offset;
        site->b_offset = offset + (int64_t)s->rank * s->hidden;
        offset = site->b_offset + (int64_t)out[i] * s->rank;
    }
    return offset;
}

static void layers_make(struct bench *b, int64_t *n_params) {
    const struct bench_shape *s = &b->shape;
    int32_t q = s->heads.n_heads * s->heads.head_size, width = attention_qkv_width(&s->heads);
    int64_t rows = b->layout.n_rows;
    b->layer = lvs_calloc((size_t)s->layers, sizeof *b->layer);
    for (int32_t i = 0; i < s->layers; i++) {
        struct layer *l = &b->layer[i];
        l->qkv = matrix(b, width, s->hidden);
        l->o = matrix(b, s->hidden, q);
        l->gate_up = matrix(b, 2 * (int64_t)s->inner, s->hidden);
        l->down = matrix(b, s->hidden, s->inner);
        l->x = acts(b, s->hidden);
        l->middle = acts(b, s->hidden);
        l->qkv_act = acts(b, width);
        l->attention = acts(b, q);
        l->gate_up_act = acts(b, 2 * (int64_t)s->inner);
        l->rstd[0] = filled(b, rows, 1);
        l->rstd[1] = filled(b, rows, 1);
        l->lse = filled(b, rows * s->heads.n_heads, 0);
        l->xa = filled(b, rows * 2 * s->rank, 0);
        *n_params = group_make(&l->group, s, i, *n_params);
    }
}

static void tables_make(struct bench *b) {
    const struct bench_shape *s = &b->shape;
    int32_t half = s->heads.head_size / 2;
    int32_t *position = lvs_calloc((size_t)b->layout.n_rows, sizeof *position);
    int32_t *labels = lvs_calloc((size_t)b->layout.n_rows, sizeof *labels);
    for (int32_t row = 0; row < b->layout.n_rows; row++) {
        position[row] = row % s->context;
        labels[row] = row * 7 % s->vocabulary;
    }
    b->rope =
        (struct rope_tables){filled(b, (int64_t)s->context * half, 0.8f), filled(b, (int64_t)s->context * half, 0.6f),
                             s->context, take(b, b->layout.n_rows * 4, position)};
    b->ids = take(b, b->layout.n_rows * 4, labels);
    free(position);
    free(labels);
}

static void bench_make(struct bench *b, int32_t threads) {
    const struct bench_shape *s = &b->shape;
    struct lvs_error err = {0};
    struct device_options options = {.threads = threads};
    static const struct optimizer_settings settings = {0.9f, 0.999f, 1e-8f, 0, 1, 0};
    int32_t q = s->heads.n_heads * s->heads.head_size, zero = 0;
    int64_t n_params = 0;
    must(compute_open("cpu", &options, &b->compute, &err), &err);
    b->layout = pack_layout_make(1, s->batch, s->context);
    b->layout.adapter = take(b, 4, &zero);
    layers_make(b, &n_params);
    tables_make(b);
    b->head = matrix(b, s->vocabulary, s->hidden);
    int64_t rows = b->layout.n_rows;
    b->adapters = (struct adapters){
        filled(b, n_params, 0.01f), filled(b, n_params, 0), n_params, filled(b, 1, 1), NULL, NULL, take(b, 4, &zero)};
    b->gain = filled(b, s->hidden, 1);
    b->bias = filled(b, attention_qkv_width(&s->heads), 0.1f);
    b->rstd = filled(b, rows, 1);
    b->t = filled(b, rows * 2 * s->rank, 0);
    b->x = acts(b, s->hidden), b->y = acts(b, s->hidden), b->dx = acts(b, s->hidden), b->dy = acts(b, s->hidden);
    b->h = acts(b, s->inner), b->dqkv = acts(b, attention_qkv_width(&s->heads)), b->dattention = acts(b, q);
    b->loss = (struct loss_call){.x = b->y, .head = b->head, .bias_offset = -1, .labels = b->ids, .dx = b->dy};
    b->loss.row_loss = filled(b, rows, 0);
    b->loss.label_weight = filled(b, 1, 1.0f / (float)rows);
    b->adam = (struct optimizer_call){&b->adapters,
                                      filled(b, n_params, 0),
                                      filled(b, n_params, 0),
                                      n_params,
                                      take(b, sizeof settings, &settings),
                                      filled(b, 1, 1e-4f),
                                      filled(b, 1, 0),
                                      1};
}

static void layer_forward(struct bench *b, struct layer *l) {
    const struct backend *k = b->compute.backend;
    struct device *d = b->compute.device;
    const struct pack_layout *p = &b->layout;
    const struct bench_shape *s = &b->shape;
    size_t bytes = (size_t)p->n_rows * (size_t)s->hidden * b->compute.act_size;
    k->copy(d, l->x, b->x, bytes);
    backend_norm_lora_a_forward(&b->compute, p, s->hidden, b->x, b->gain, 1e-6f, b->y, l->rstd[0], &b->adapters,
                                &l->group, l->xa);
    k->matmul_forward(d, p, b->y, l->qkv, false, l->qkv_act);
    backend_qkv_finish(&b->compute, p, &s->heads, &b->adapters, &l->group, l->xa, b->bias, &b->rope, l->qkv_act);
    k->attention_forward(d, p, &s->heads, l->qkv_act, l->attention, l->lse);
    k->matmul_forward(d, p, l->attention, l->o, true, b->x);
    k->copy(d, l->middle, b->x, bytes);
    k->rmsnorm_forward(d, p, s->hidden, b->x, b->gain, 1e-6f, b->y, l->rstd[1]);
    backend_gate_up_swiglu(&b->compute, p, s->inner, b->y, l->gate_up, l->gate_up_act, b->h);
    k->matmul_forward(d, p, b->h, l->down, true, b->x);
}

static void layer_backward(struct bench *b, struct layer *l) {
    const struct backend *k = b->compute.backend;
    struct device *d = b->compute.device;
    const struct pack_layout *p = &b->layout;
    const struct bench_shape *s = &b->shape;
    k->matmul_backward(d, p, b->dx, l->down, false, b->h);
    k->swiglu_backward(d, p, s->inner, l->gate_up_act, b->h, l->gate_up_act);
    k->matmul_backward(d, p, l->gate_up_act, l->gate_up, false, b->dy);
    k->rmsnorm_backward(d, p, s->hidden, b->dy, l->middle, b->gain, l->rstd[1], b->dx);
    k->matmul_backward(d, p, b->dx, l->o, false, b->dattention);
    k->attention_backward(d, p, &s->heads, l->qkv_act, l->attention, l->lse, b->dattention, b->dqkv);
    backend_qkv_finish_backward(&b->compute, p, &s->heads, &b->adapters, &l->group, l->xa, &b->rope, b->dqkv, b->t);
    k->matmul_backward(d, p, b->dqkv, l->qkv, false, b->dy);
    backend_norm_lora_a_backward(&b->compute, p, s->hidden, b->dy, l->x, b->gain, 1e-6f, l->rstd[0], &b->adapters,
                                 &l->group, b->t, b->y, b->dx);
}

static void step(struct bench *b) {
    const struct backend *k = b->compute.backend;
    struct device *d = b->compute.device;
    const struct bench_shape *s = &b->shape;
    k->embed(d, &b->layout, b->head, b->ids, b->x);
    for (int32_t i = 0; i < s->layers; i++)
        layer_forward(b, &b->layer[i]);
    k->rmsnorm_forward(d, &b->layout, s->hidden, b->x, b->gain, 1e-6f, b->y, b->rstd);
    k->loss(d, &b->layout, &b->loss);
    k->fill_zero(d, b->dx, (size_t)b->layout.n_rows * (size_t)s->hidden * b->compute.act_size);
    k->rmsnorm_backward(d, &b->layout, s->hidden, b->dy, b->x, b->gain, b->rstd, b->dx);
    for (int32_t i = s->layers - 1; i >= 0; i--)
        layer_backward(b, &b->layer[i]);
    k->adam(d, &b->layout, &b->adam);
}

static double clock_now(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv) {
    struct bench b = {.shape = shapes[0]};
    for (size_t i = 0; argc > 1 && i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(argv[1], shapes[i].name) == 0) b.shape = shapes[i];
    int32_t threads = argc > 2 ? atoi(argv[2]) : 0, steps = argc > 3 ? atoi(argv[3]) : 10;
    bench_make(&b, threads);
    step(&b);
    struct device_description description;
    struct lvs_error err = {0};
    must(b.compute.backend->describe(b.compute.device, &description, &err), &err);
    double best = 1e30, best_cpu = 1e30, flops = b.compute.backend->flops_executed(b.compute.device);
    struct strbuf text;
    struct rusage usage;
    strbuf_init(&text);
    for (int32_t i = 0; i < steps; i++) {
        b.compute.backend->profile_begin(b.compute.device);
        double wall = clock_now(CLOCK_MONOTONIC), cpu = clock_now(CLOCK_PROCESS_CPUTIME_ID);
        step(&b);
        wall = clock_now(CLOCK_MONOTONIC) - wall;
        cpu = clock_now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        best_cpu = cpu < best_cpu ? cpu : best_cpu;
        if (wall >= best) continue;
        best = wall;
        strbuf_clear(&text);
        b.compute.backend->profile_write(b.compute.device, &text);
    }
    flops = (b.compute.backend->flops_executed(b.compute.device) - flops) / steps;
    getrusage(RUSAGE_SELF, &usage);
    printf("%s, %s, %d threads\n%s", description.name, description.driver, (int)description.multiprocessors, text.text);
    printf("%s: best step %.1f ms (processor time %.1f ms), %.0f tokens/s, %.2f GFLOP a step, %.0f GFLOP/s, peak %.0f "
           "MiB\n",
           b.shape.name, 1e3 * best, 1e3 * best_cpu, b.shape.batch * b.shape.context / best, flops * 1e-9,
           flops / best * 1e-9, (double)usage.ru_maxrss / 1024);
    strbuf_free(&text);
    return 0;
}
