/* Checkpoints of one trial: what a resumed trial needs to go on with the same bits, out of a trainer and back into it.
 * Order of windows, learning rates and dropout are functions of the step and are not stored. The adapter and Adam's
 * moments are stored without the rank's padding, so the pack of the resumed trial may be another one. */
#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lvsweep/fault.h"
#include "lvsweep/file.h"
#include "lvsweep/log.h"
#include "train_internal.h"

/* ---- between device and payload ---- */

static float *vector_of(const struct trainer *trainer, int which, int32_t k) {
    float *const vectors[] = {trainer->tables.params, trainer->tables.m, trainer->tables.v};
    return vectors[which] + k * trainer->lora.stride;
}

static void download_state(const struct trainer *trainer, int32_t k, int64_t n_floats, float *payload) {
    const struct compute *compute = trainer->compute;
    const struct lora_layout *lora = &trainer->lora;
    const size_t bytes = (size_t)lora->stride * sizeof(float);
    float *padded = lvs_malloc(bytes);
    for (int which = 0; which < 3; which++) {
        compute->backend->download(compute->device, padded, vector_of(trainer, which, k), bytes);
        adapter_compact(lora, trainer->trials[k].trial.settings.lora_rank, padded, payload + which * n_floats);
    }
    free(padded);
}

static void upload_state(const struct trainer *trainer, int32_t k, int64_t n_floats, const float *payload) {
    const struct compute *compute = trainer->compute;
    const struct lora_layout *lora = &trainer->lora;
    const size_t bytes = (size_t)lora->stride * sizeof(float);
    float *padded = lvs_malloc(bytes);
    for (int which = 0; which < 3; which++) {
        adapter_expand(lora, trainer->trials[k].trial.settings.lora_rank, payload + which * n_floats, padded);
        compute->backend->upload(compute->device, vector_of(trainer, which, k), padded, bytes);
    }
    compute->backend->upload(compute->device, trainer->tables.step + k, &trainer->trials[k].step, sizeof(int32_t));
    free(padded);
}

/* ---- writing ---- */

static struct checkpoint_header make_header(const struct trainer *trainer, int32_t k, size_t extra_bytes) {
    const struct trainer_trial *mine = &trainer->trials[k];
    struct checkpoint_header header;
    memset(&header, 0, sizeof header); /* the padding is hashed too */
    lvs_copy(header.train_key, sizeof header.train_key, mine->trial.train_key);
    header.rank = mine->trial.settings.lora_rank;
    header.targets = trainer->lora.targets;
    header.n_floats = adapter_compact_floats(&trainer->lora, header.rank);
    header.extra_bytes = (int64_t)extra_bytes;
    header.step = mine->step;
    header.n_steps = mine->n_steps;
    header.flops = mine->flops;
    return header;
}

/* Writers that were killed leave their unfinished files behind. */
static void remove_leftovers(const char *folder) {
    static const char prefix[] = "checkpoint.";
    DIR *entries = opendir(folder);
    if (!entries) return;
    for (struct dirent *entry; (entry = readdir(entries));) {
        const char *name = entry->d_name;
        char path[LVS_PATH_MAX];
        if (strncmp(name, prefix, sizeof prefix - 1) != 0 || !strstr(name, ".tmp.")) continue;
        if (file_join(path, folder, name, NULL) == LVS_OK) unlink(path);
    }
    closedir(entries);
}

static enum lvs_status write_file(const char *path, struct checkpoint_header *header, const struct trainer *trainer,
                                  int32_t k, const void *extra, struct lvs_error *err) {
    const struct trainer_trial *mine = &trainer->trials[k];
    const size_t payload = (size_t)checkpoint_payload_bytes(header), curve = (size_t)header->step * sizeof(float);
    const size_t extra_bytes = (size_t)header->extra_bytes;
    char *bytes = fault_fails("checkpoint_allocate") ? NULL : malloc(sizeof *header + payload);
    if (!bytes)
        return lvs_fail(err, LVS_LAUNCH, "%s: no memory for a checkpoint of %.1f MiB", path, (double)payload / 0x1p20);
    char *at = bytes + sizeof *header;
    download_state(trainer, k, header->n_floats, (float *)(void *)at);
    at += 3 * (size_t)header->n_floats * sizeof(float);
    memcpy(at, mine->loss, curve);
    memcpy(at + curve, mine->gradient_norm, curve);
    if (extra_bytes) memcpy(at + 2 * curve, extra, extra_bytes);
    enum lvs_status status = trainer->compute->backend->synchronize(trainer->compute->device, err);
    if (status == LVS_OK) {
        checkpoint_seal(header, bytes);
        status = file_write_whole(path, bytes, sizeof *header + payload, err);
    }
    free(bytes);
    return status;
}

enum lvs_status checkpoint_write(const char *folder, struct trainer *trainer, int32_t k, const void *extra,
                                 size_t extra_bytes, struct lvs_error *err) {
    assert(!trainer->trials[k].diverged); /* the device is ahead of the step that a diverged trial reports */
    struct checkpoint_header header = make_header(trainer, k, extra_bytes);
    char path[LVS_PATH_MAX];
    LVS_TRY(file_make_folder(folder, err));
    remove_leftovers(folder);
    LVS_TRY(checkpoint_next(folder, header.train_key, path, &header.sequence, err));
    return write_file(path, &header, trainer, k, extra, err);
}

/* ---- reading ---- */

static bool fits(const struct checkpoint_header *header, const struct trainer *trainer, int32_t k) {
    const struct trainer_trial *mine = &trainer->trials[k];
    return header->rank == mine->trial.settings.lora_rank && header->targets == trainer->lora.targets &&
           header->n_floats == adapter_compact_floats(&trainer->lora, header->rank) &&
           header->n_steps == mine->n_steps && header->step <= mine->n_steps;
}

static void restore(struct trainer *trainer, int32_t k, const struct checkpoint_file *file, void **extra,
                    size_t *extra_bytes) {
    struct trainer_trial *mine = &trainer->trials[k];
    const struct checkpoint_header *header = &file->header;
    const char *at = file->bytes + sizeof *header;
    const size_t curve = (size_t)header->step * sizeof(float);
    mine->step = header->step;
    mine->flops = header->flops;
    upload_state(trainer, k, header->n_floats, (const float *)(const void *)at);
    at += 3 * (size_t)header->n_floats * sizeof(float);
    memcpy(mine->loss, at, curve);
    memcpy(mine->gradient_norm, at + curve, curve);
    *extra_bytes = (size_t)header->extra_bytes;
    *extra = lvs_malloc(*extra_bytes + 1);
    memcpy(*extra, at + 2 * curve, *extra_bytes);
}

enum lvs_status checkpoint_read(const char *folder, struct trainer *trainer, int32_t k, bool *found, void **extra,
                                size_t *extra_bytes, struct lvs_error *err) {
    struct checkpoint_file file;
    *found = false;
    *extra = NULL;
    *extra_bytes = 0;
    if (!checkpoint_newest(folder, trainer->trials[k].trial.train_key, &file)) return LVS_OK;
    if (fits(&file.header, trainer, k)) {
        restore(trainer, k, &file, extra, extra_bytes);
        *found = true;
    } else {
        log_debug("%s: the checkpoint at step %d has other shapes than this trial", folder, file.header.step);
    }
    free(file.bytes);
    fault_hit("checkpoint_read");
    return trainer->compute->backend->synchronize(trainer->compute->device, err);
}

int32_t checkpoint_step(const char *folder, const char *train_key) {
    struct checkpoint_file file;
    if (!checkpoint_newest(folder, train_key, &file)) return -1;
    free(file.bytes);
    return file.header.step;
}

void checkpoint_remove(const char *folder) {
    remove_leftovers(folder);
    for (int which = 0; which < 2; which++) {
        char name[32], path[LVS_PATH_MAX];
        snprintf(name, sizeof name, "checkpoint.%d", which);
        if (file_join(path, folder, name, NULL) == LVS_OK) unlink(path);
    }
}
