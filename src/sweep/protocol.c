/* MPI: the only file that sends messages. A message's tag is its kind, its bytes are the payload; rank 0 talks to
 * workers, workers to rank 0, nobody else. Nothing here blocks for long: receivers poll. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/fault.h"
#include "sweep_internal.h"

int protocol_rank(void) {
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

int protocol_size(void) {
    int size;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

void protocol_host(char *out, size_t capacity) {
    char name[MPI_MAX_PROCESSOR_NAME];
    int length;
    MPI_Get_processor_name(name, &length);
    lvs_copy(out, capacity, name);
}

void protocol_library(char *out, size_t capacity) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    lvs_copy(out, capacity, text);
}

void protocol_local(bool is_worker, int32_t *index, int32_t *count) {
    MPI_Comm node;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    int32_t mine = is_worker, before = 0, all = 0;
    MPI_Exscan(&mine, &before, 1, MPI_INT32_T, MPI_SUM, node);
    MPI_Allreduce(&mine, &all, 1, MPI_INT32_T, MPI_SUM, node);
    int node_rank;
    MPI_Comm_rank(node, &node_rank);
    *index = node_rank == 0 ? 0 : before; /* MPI_Exscan leaves rank 0's result undefined */
    *count = all;
    MPI_Comm_free(&node);
}

enum lvs_status protocol_send(int rank, enum message_kind kind, const void *payload, size_t length,
                              struct lvs_error *err) {
    fault_hit("message_send");
    if (MPI_Send(payload, (int)length, MPI_BYTE, rank, (int)kind, MPI_COMM_WORLD) != MPI_SUCCESS)
        return lvs_fail(err, LVS_LAUNCH, "cannot send a %s message to rank %d", message_name((int)kind), rank);
    return LVS_OK;
}

bool protocol_receive(struct message *out) {
    int waiting, length;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &waiting, &status);
    if (!waiting) return false;
    MPI_Get_count(&status, MPI_BYTE, &length);
    *out = (struct message){.kind = status.MPI_TAG, .source = status.MPI_SOURCE, .length = (size_t)length};
    if (length > 0) out->payload = lvs_malloc((size_t)length);
    MPI_Recv(out->payload, length, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    fault_hit("message_receive");
    return true;
}

void protocol_finish(void) {
    struct backoff backoff = {0};
    struct message message;
    MPI_Request all;
    int over = 0;
    MPI_Ibarrier(MPI_COMM_WORLD, &all);
    while (!over) {
        bool had_something = protocol_rank() == 0 && protocol_receive(&message);
        if (had_something) free(message.payload);
        MPI_Test(&all, &over, MPI_STATUS_IGNORE);
        if (!over) backoff_wait(&backoff, had_something);
    }
}

bool protocol_same_text(const char *text) {
    char own[256] = {0}, first[256];
    lvs_copy(own, sizeof own, text);
    memcpy(first, own, sizeof first);
    MPI_Bcast(first, sizeof first, MPI_BYTE, 0, MPI_COMM_WORLD);
    int32_t same = memcmp(own, first, sizeof own) == 0, all;
    MPI_Allreduce(&same, &all, 1, MPI_INT32_T, MPI_LAND, MPI_COMM_WORLD);
    return all;
}

enum lvs_status protocol_publish(const struct results *results, struct lvs_error *err) {
    MPI_Comm world = MPI_COMM_WORLD;
    return results_publish_parallel(results, &world, err);
}
