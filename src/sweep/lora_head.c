/* head_rows = text: training computes with the head's rows of the text's tokens alone. What the other rows would have
 * added to the loss is looked at with the whole head on whole batches; looking changes nothing that is trained. */
#include <math.h>
#include <stdlib.h>

#include "lvsweep/log.h"
#include "runner_lora_internal.h"

enum lvs_status lora_head_open(struct lora_runner *runner, struct lvs_error *err) {
    const struct tokenizer *tokenizer = &runner->material.tokenizer;
    if (runner->config->head_rows != HEAD_ROWS_TEXT || tokenizer->text_only) return LVS_OK;
    return model_open_rows(runner->model, tokenizer->kept, tokenizer->n_kept, &runner->text, err);
}

static int32_t local_id(const struct tokenizer *tokenizer, int32_t id) {
    int32_t local = 0;
    if (id == WINDOW_IGNORED) return WINDOW_IGNORED;
    while (local < tokenizer->n_kept && tokenizer->kept[local] != id)
        local++;
    return local;
}

enum lvs_status lora_head_localize(const struct tokenizer *tokenizer, struct window_set *windows,
                                   struct lvs_error *err) {
    const int64_t count = (int64_t)windows->n_windows * windows->context;
    for (int64_t i = 0; i < count; i++) {
        windows->ids[i] = local_id(tokenizer, windows->ids[i]);
        windows->labels[i] = local_id(tokenizer, windows->labels[i]);
        if (windows->ids[i] == tokenizer->n_kept || windows->labels[i] == tokenizer->n_kept)
            return lvs_fail(err, LVS_BUG, "head_rows = text: a training window has a token that the text cannot have");
    }
    return LVS_OK;
}

enum lvs_status lora_head_look(struct lora_runner *runner, struct trainer *trainer, int32_t k,
                               const struct trial *trial, struct head_gap_record *gap, struct lvs_error *err) {
    const int32_t step = trainer_step(trainer, k), n_steps = (int32_t)trial->settings.steps.value;
    const int32_t batch = trial->settings.batch;
    if (!runner->text || n_steps < 1) return LVS_OK;
    struct evaluated whole = {
        .model = runner->model, .lora = trainer_lora(trainer), .adapters = trainer_adapters(trainer), .adapter = k};
    struct evaluated text = {.model = runner->text, .adapter = k};
    text.adapters = trainer_trained(trainer, &text.lora);
    int32_t *windows = lvs_malloc((size_t)batch * sizeof *windows);
    struct head_gap seen;
    enum lvs_status status = trainer_batch(trainer, k, step < n_steps ? step : n_steps - 1, windows, err);
    if (status == LVS_OK)
        status = head_gap_measure(&whole, &text, runner->material.tokenizer.kept, &runner->cache[SPLIT_TRAIN].windows,
                                  windows, batch, &seen, err);
    free(windows);
    LVS_TRY(status);
    if (step == 0) gap->first = seen.mean;
    gap->last = seen.mean;
    gap->largest = fmax(gap->largest, seen.largest);
    log_info("%s: head_rows = text: at step %d the loss over all rows of the head is %.3g nats a token larger (largest "
             "of one token %.3g)",
             trial->name, step, seen.mean, seen.largest);
    return LVS_OK;
}
