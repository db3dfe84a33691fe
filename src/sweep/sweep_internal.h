/* What the files of src/sweep share: message kinds, the trainer's link, the worker, the place of a worker. */
#pragma once
#include <sys/types.h>

#include "lvsweep/clock.h"
#include "lvsweep/sweep.h"

/* ---- messages: one numbering for MPI tags and for the trainer's socket ---- */
enum message_kind {
    MESSAGE_SETUP = 1,  /* down: struct setup_head and texts */
    MESSAGE_ASSIGNMENT, /* down: struct assignment, as many trials as it has */
    MESSAGE_STOP,       /* down: checkpoint and come back */
    MESSAGE_END,        /* down: nothing more will come */
    MESSAGE_HELLO,      /* up: struct worker_hello, the device is open */
    MESSAGE_READY,      /* up: take the next assignment */
    MESSAGE_PROGRESS,   /* up: struct progress */
    MESSAGE_RECORD,     /* up: struct record_message */
    MESSAGE_BASELINE,   /* up: struct baseline, the untrained model's metrics */
    MESSAGE_REFUSED, /* up: struct lvs_error as far as its words go, the worker cannot open its device, model or data */
    MESSAGE_KIND_COUNT,
};
const char *message_name(int kind);

struct message {
    int32_t kind, source; /* rank, for MPI messages */
    size_t length;
    char *payload; /* malloc'd, owned by the receiver; NULL when length = 0 */
};

struct worker_hello {
    char host[64];
    struct device_description device;
};
struct record_message {
    struct record record;
    int32_t transient, reserved;
};

/* Everything a rank or a trainer needs to parse the configuration as rank 0 did. Texts follow in this order, each
 * NUL-ended: INI text, path, folder, output, sets. */
struct setup_head {
    struct worker_place place;
    int32_t n_sets, in_process;
    char backend[16], precision[8]; /* effective */
    char lock_hash[LVS_HASH_TEXT];  /* of OUTPUT/lock, for ranks to see that they share the folder */
};
struct setup {
    struct setup_head head;
    const char *text, *path, *folder, *output;
    const char *const *sets;
};
void setup_pack(const struct setup *setup, struct strbuf *out);
/* Pointers go into `payload`; `sets` is malloc'd and owned by the caller. */
enum lvs_status setup_unpack(const char *payload, size_t length, struct setup *out, struct lvs_error *err);
enum lvs_status setup_parse_config(const struct setup *setup, struct config **out, struct lvs_error *err);
size_t assignment_bytes(const struct assignment *assignment);
/* An error is sent without the empty rest of its box: long messages wait for their receiver. */
size_t error_bytes(const struct lvs_error *err);
void error_unpack(const char *payload, size_t length, struct lvs_error *out);

/* ---- trainer process ---- */
struct trainer_link {
    int socket; /* non-blocking; -1 = none */
    pid_t pid;
    struct strbuf inbox;
};
/* A fresh trainer, forked by the helper. */
enum lvs_status trainer_spawn(struct trainer_link *link, struct lvs_error *err);
enum lvs_status trainer_send(struct trainer_link *link, enum message_kind kind, const void *payload, size_t length,
                             struct lvs_error *err);
enum trainer_event { TRAINER_QUIET, TRAINER_MESSAGE, TRAINER_DEAD };
enum trainer_event trainer_receive(struct trainer_link *link, struct message *out);
/* Waits for the end of a dead trainer and says how it died: "signal 9 (Killed)", "exit code 17". */
void trainer_reap(struct trainer_link *link, char *cause, size_t capacity);
/* What the last trainer logged before it ended, cut at the front to fit; '|' between lines. */
void trainer_last_lines(char *out, size_t capacity);
void trainer_kill(struct trainer_link *link, int signal_number);

/* ---- worker ---- */
/* Where a worker's messages go: to rank 0 by MPI, or straight into the coordinator's loop on rank 0. */
struct worker_outbox {
    void *context;
    void (*send)(void *context, enum message_kind kind, const void *payload, size_t length);
};
struct worker;
enum lvs_status worker_create(const struct setup *setup, const struct worker_outbox *outbox, struct worker **out,
                              struct lvs_error *err);
void worker_destroy(struct worker *worker);
void worker_assign(struct worker *worker, const struct assignment *assignment);
void worker_stop(struct worker *worker);
/* Takes what the trainer has to say; true when there was something. */
bool worker_poll(struct worker *worker);

/* ---- protocol: MPI ---- */
int protocol_rank(void);
int protocol_size(void);
void protocol_host(char *out, size_t capacity);
void protocol_library(char *out, size_t capacity); /* name and version of the MPI in use */
/* Collective: index and number of worker ranks on this node. */
void protocol_local(bool is_worker, int32_t *index, int32_t *count);
enum lvs_status protocol_send(int rank, enum message_kind kind, const void *payload, size_t length,
                              struct lvs_error *err);
/* One waiting message, if any. */
bool protocol_receive(struct message *out);
/* Collective, when no rank will send any more: rank 0 takes what is still on its way, since a long message keeps its
 * sender waiting, and MPI_Finalize all ranks with it. */
void protocol_finish(void);
/* Collective end: results.h5 by all ranks; rank 0 gives the results, the others NULL. */
enum lvs_status protocol_publish(const struct results *results, struct lvs_error *err);
/* Collective: true when every rank gave the same text. */
bool protocol_same_text(const char *text);

/* ---- waiting ---- */
/* Polls without sleep while messages come, then backs off to 5 ms. */
struct backoff {
    int32_t quiet;
};
void backoff_wait(struct backoff *backoff, bool had_something);

/* ---- plan ---- */
void plan_warn(const struct config *config, const struct sweep_facts *facts, const struct plan *plan);

/* ---- lock: one sweep an output folder ---- */
struct sweep_lock {
    char path[LVS_PATH_MAX]; /* "" = not held */
    double beat;             /* of the steady clock */
};
/* LVS_OUTPUT, naming host, pid, job and since when, while a live owner holds it. `force`: --break-lock. */
enum lvs_status lock_take(const char *output, bool force, struct sweep_lock *out, struct lvs_error *err);
void lock_beat(struct sweep_lock *lock); /* now and then; costs nothing in between */
void lock_release(struct sweep_lock *lock);
/* Hash of the lock's text; "" when there is none. */
void lock_fingerprint(const char *output, char out[LVS_HASH_TEXT]);
/* On a worker rank: LVS_LAUNCH when OUTPUT here is not the folder that rank 0 holds the lock of. */
enum lvs_status lock_check_shared(const char *output, const char *fingerprint, struct lvs_error *err);

/* ---- placement: which device a worker takes ---- */
/* GPUs this process would see, without starting CUDA: CUDA_VISIBLE_DEVICES, else the device files. */
int32_t placement_visible_gpus(void);
/* Device of local worker `index` of `count` on a node with `n_gpus` visible; LVS_LAUNCH with the fix in words. */
enum lvs_status placement_choose(int32_t index, int32_t count, int32_t n_gpus, bool oversubscribe, int32_t *device,
                                 struct lvs_error *err);
/* Two workers with one UUID on one host: LVS_LAUNCH naming both. */
enum lvs_status placement_check_unique(const struct worker_hello *hellos, const int32_t *ranks, int32_t n,
                                       struct lvs_error *err);
int32_t placement_threads(const struct config *config, int32_t local_count);

/* ---- narrowing ---- */
/* Series that the row's own pass is forecast on. */
struct series_choice narrow_choice(const struct settings *settings);
/* Turns settings of a first pass into those of the second; others stay as they are. */
void narrow_second_pass(struct settings *settings);

/* What a convention sees of a model and a trial; without `adapted` the bare model. */
struct flops_shape flops_shape_of(const struct qwen2_config *model, int32_t vocabulary, const struct settings *settings,
                                  bool adapted);

/* ---- material: what training and pricing both make of the data ---- */
struct material {
    const struct config *config; /* borrowed */
    struct series_set set;
    struct split split;
    struct tokenizer tokenizer;
};
/* Reads data file, splits and tokenizer; `model_folder` is located already. */
enum lvs_status material_open(const struct config *config, const char *model_folder, const struct qwen2_config *model,
                              struct material *out, struct lvs_error *err);
void material_close(struct material *material);
struct text_format material_format(const struct material *material, const struct settings *settings);
enum lvs_status material_scaling(const struct material *material, const struct settings *settings, struct scaling *out,
                                 struct lvs_error *err);
/* Points [from, to) of a part's series: all of them, or its piece of the time axis with split = time. */
void material_extent(const struct material *material, enum split_part part, int32_t *from, int32_t *to);
enum lvs_status material_tokens(const struct material *material, const struct settings *settings, enum split_part part,
                                struct token_set *out, struct lvs_error *err);
/* Training windows by the settings' stride; of other parts with stride = context. */
enum lvs_status material_windows(const struct material *material, const struct settings *settings, enum split_part part,
                                 struct window_set *out, int64_t *n_values, struct lvs_error *err);
/* Series of a part that forecasts are made for, as many as `series` chooses. */
int32_t material_n_forecasts(const struct material *material, const struct series_choice *choice, enum split_part part);

/* ---- forecasts on the material, and whether the model has room for them ---- */
/* Everything a forecast task points to. */
struct forecast_parts {
    struct scaling scaling;
    struct text_format format;
    int32_t *rows;
    struct forecast_task task;
};
/* The series of a part that `choice` takes; `scores` are for its worst. `settings` is borrowed. */
enum lvs_status forecast_parts_make(const struct material *material, const struct settings *settings,
                                    enum split_part part, const struct series_choice *choice, const double *scores,
                                    struct forecast_parts *out, struct lvs_error *err);
void forecast_parts_free(struct forecast_parts *parts);
