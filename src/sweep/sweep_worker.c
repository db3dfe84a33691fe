/* A worker rank: its place on the node, then messages of rank 0 to the worker and the worker's words to rank 0. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

enum lvs_status sweep_find_place(struct setup *setup, const struct config *config, int32_t local_index,
                                 int32_t local_count, struct lvs_error *err) {
    struct worker_place *place = &setup->head.place;
    place->worker = protocol_rank();
    place->local_index = local_index;
    place->local_count = local_count;
    place->threads = placement_threads(config, local_count);
    if (strcmp(setup->head.backend, "cuda") != 0) return LVS_OK;
    return placement_choose(local_index, local_count, placement_visible_gpus(), config->oversubscribe_gpu,
                            &place->device_index, err);
}

static void send_to_coordinator(void *context, enum message_kind kind, const void *payload, size_t length) {
    (void)context;
    struct lvs_error err;
    protocol_send(0, kind, payload, length, &err);
}

struct message sweep_wait_for_message(void) {
    struct backoff backoff = {0};
    struct message message;
    while (!protocol_receive(&message))
        backoff_wait(&backoff, false);
    return message;
}

static enum lvs_status start_worker(const struct message *message, int32_t local_index, int32_t local_count,
                                    struct worker **out, struct lvs_error *err) {
    struct setup setup;
    struct config *config = NULL;
    struct worker_outbox outbox = {.send = send_to_coordinator};
    LVS_TRY(setup_unpack(message->payload, message->length, &setup, err));
    enum lvs_status status = setup_parse_config(&setup, &config, err);
    if (status == LVS_OK) status = lock_check_shared(setup.output, setup.head.lock_hash, err);
    if (status == LVS_OK) status = sweep_find_place(&setup, config, local_index, local_count, err);
    if (status == LVS_OK) status = worker_create(&setup, &outbox, out, err);
    config_destroy(config);
    free((void *)setup.sets);
    return status;
}

int32_t sweep_work(int32_t local_index, int32_t local_count) {
    struct worker *worker = NULL;
    struct lvs_error err = {0};
    struct backoff backoff = {0};
    int32_t publish = 0;
    for (bool over = false; !over;) {
        struct message message;
        bool had_something = worker && worker_poll(worker);
        if (protocol_receive(&message)) {
            had_something = true;
            if (message.kind == MESSAGE_SETUP &&
                start_worker(&message, local_index, local_count, &worker, &err) != LVS_OK)
                protocol_send(0, MESSAGE_REFUSED, &err, error_bytes(&err), &(struct lvs_error){0});
            if (message.kind == MESSAGE_ASSIGNMENT) worker_assign(worker, (const void *)message.payload);
            if (message.kind == MESSAGE_STOP && worker) worker_stop(worker);
            if (message.kind == MESSAGE_END) {
                over = true;
                if (message.length == sizeof publish) memcpy(&publish, message.payload, sizeof publish);
            }
            free(message.payload);
        }
        if (!over) backoff_wait(&backoff, had_something);
    }
    worker_destroy(worker);
    protocol_finish();
    return publish;
}
