/* What the files of train/ share: the trainer's insides. Device arrays are in `tables`; everything else is host memory.
 * Invariant: between two calls of trainer_run the host knows every step, loss and gradient norm that the device does.
 */
#pragma once
#include "lvsweep/train.h"

/* One trial of the pack. */
struct trainer_trial {
    struct trial trial;
    int32_t n_steps, step; /* to do in all, done */
    bool left;             /* trains no further: done with, diverged, or told to leave */
    bool diverged;
    float *loss, *gradient_norm; /* [n_steps], filled up to `step`; owned */
    double flops;                /* its share of the products that ran */
};

/* Device memory; the sizes are in one place, trainer_tables.c. */
struct trainer_tables {
    int32_t *window_ids, *window_labels;         /* [n_windows][context] */
    int32_t *order;                              /* [n_trials][order_stride] */
    int32_t *step;                               /* [n_trials] */
    float *learning_rate, *loss, *gradient_norm; /* [n_trials][table_stride] */
    float *params, *grads, *m, *v;               /* [n_trials][lora.stride] */
    float *whole;                                /* [n_trials][whole.stride], NULL where params serve */
    float *scale, *dropout;                      /* [n_trials] */
    uint64_t *seed;                              /* [n_trials] */
    struct optimizer_settings *optimizer;        /* [n_trials] */
};

struct trainer_shape {
    int32_t n_trials, n_windows, context, batch;
    int32_t table_stride; /* the most steps of any trial, at least 1 */
    int64_t stride;       /* floats of an adapter */
    int64_t whole_stride; /* of one with a head of all rows; 0 = params serve */
};

struct trainer {
    const struct compute *compute;
    struct lora_layout lora;  /* of what the steps train */
    struct lora_layout whole; /* of what is read, written and evaluated: another one only with head_rows = text */
    int32_t *kept;            /* [lora.n_vocabulary] rows of the whole head that are trained, NULL = all; owned */
    struct trainer_shape shape;
    struct trainer_tables tables;
    struct adapters training;            /* what the steps train */
    struct adapters trained, evaluation; /* without gradients and dropout: as they train, and whole */
    struct pass *pass;
    struct trainer_trial *trials; /* [n_trials], owned */
    int32_t *active, n_active;    /* trials in the pass now, by slot; active [n_trials] owned */
    struct device_graph *graph;   /* a recorded step of the active trials, or NULL */
    bool no_graph;                /* recording failed once: steps are enqueued one by one */
    double chunk_steps;           /* steps between two looks at the losses, adapted to the clock */
    double asked;                 /* when stop() was asked last, seconds */
};

/* ---- trainer_tables.c ---- */

int64_t tables_bytes(const struct trainer_shape *shape);
enum lvs_status tables_allocate(const struct compute *compute, const struct trainer_shape *shape,
                                struct trainer_tables *tables, struct lvs_error *err);
void tables_release(const struct compute *compute, struct trainer_tables *tables);

/* ---- schedule.c ---- */

/* Warm-up steps of a schedule: the smaller of percent and steps. Not static for its test. */
int32_t schedule_warmup_steps(const struct settings *settings, int32_t n_steps);

/* ---- trainer_rows.c ---- */

/* Trial k's whole adapter on the device: its LoRA matrices and the head's kept rows from what is trained, and back.
 * Nothing where params serve as both. */
void whole_scatter(const struct trainer *trainer, int32_t k);
void whole_gather(const struct trainer *trainer, int32_t k);

/* ---- adapter_compact.c ---- */

/* Floats of one adapter vector without the padding of its rank: what a checkpoint keeps, so that a trial can go on in a
 * pack whose largest rank is another. */
int64_t adapter_compact_floats(const struct lora_layout *layout, int32_t rank);
void adapter_compact(const struct lora_layout *layout, int32_t rank, const float *padded, float *compact);
/* `padded` [layout->stride]; the padding becomes zero. */
void adapter_expand(const struct lora_layout *layout, int32_t rank, const float *compact, float *padded);

/* ---- checkpoint_file.c ---- */

/* The first bytes of a checkpoint file; the payload follows: params, m, v [n_floats] each, loss and gradient_norm
 * [step] each, then extra bytes. Little-endian, as every machine this runs on. */
struct checkpoint_header {
    char magic[8];
    char train_key[40];
    uint64_t sequence; /* counts the writes of a trial: the larger of two is the later one */
    int64_t n_floats, extra_bytes, payload_bytes;
    int32_t step, n_steps, rank;
    uint32_t targets;
    double flops;
    char payload_hash[40];
    char header_hash[40]; /* of the header with these 40 bytes zero */
};
struct checkpoint_file {
    struct checkpoint_header header;
    char *bytes; /* header and payload, owned */
};

/* Sizes that the header's counts mean; negative when they are nonsense. */
int64_t checkpoint_payload_bytes(const struct checkpoint_header *header);
/* Fills magic, hashes and payload_bytes of a header whose payload is ready behind it at bytes. */
void checkpoint_seal(struct checkpoint_header *header, char *bytes);
/* The newest whole checkpoint of the key in the folder; false when there is none. Free file->bytes. */
bool checkpoint_newest(const char *folder, const char *train_key, struct checkpoint_file *file);
/* Path of the file to write next and its sequence number: the older of the two, judged by headers alone. */
enum lvs_status checkpoint_next(const char *folder, const char *train_key, char path[LVS_PATH_MAX], uint64_t *sequence,
                                struct lvs_error *err);
