/* What the evaluations of a trial have come to so far, as the bytes that travel in its checkpoint. Knows nothing of a
 * device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lora_pack.h"

/* Followed by the curves, value by value, then by the best adapter when there is one. */
struct state_head {
    int32_t n_evaluation, best_step, has_best, rung_step;
    int64_t flops_periodic, flops_baseline;
    double best_score, seconds_training, seconds_evaluation;
    struct head_gap_record head_gap;
};

void pack_state_write(const struct pack_trial *one, size_t best_bytes, struct strbuf *out) {
    const struct trial_curves *curves = &one->curves;
    struct state_head head = {.n_evaluation = curves->n_evaluation,
                              .best_step = one->record.best_step,
                              .has_best = one->best != NULL,
                              .rung_step = one->rung_step,
                              .flops_periodic = one->flops_periodic,
                              .flops_baseline = one->flops_baseline,
                              .best_score = one->best_score,
                              .seconds_training = one->seconds_training,
                              .seconds_evaluation = one->seconds_evaluation,
                              .head_gap = one->record.head_gap};
    size_t n = (size_t)curves->n_evaluation;
    strbuf_add_bytes(out, (const char *)&head, sizeof head);
    strbuf_add_bytes(out, (const char *)curves->evaluation_step, n * sizeof *curves->evaluation_step);
    strbuf_add_bytes(out, (const char *)curves->val_loss, n * sizeof *curves->val_loss);
    strbuf_add_bytes(out, (const char *)curves->val_mae_scaled, n * sizeof *curves->val_mae_scaled);
    strbuf_add_bytes(out, (const char *)curves->val_mse_scaled, n * sizeof *curves->val_mse_scaled);
    if (one->best) strbuf_add_bytes(out, (const char *)one->best, best_bytes);
}

void pack_grow_curves(struct pack_trial *one, int32_t needed) {
    if (needed <= one->curve_capacity) return;
    one->curve_capacity = needed * 2;
    size_t n = (size_t)one->curve_capacity;
    one->curves.evaluation_step = lvs_realloc(one->curves.evaluation_step, n * sizeof *one->curves.evaluation_step);
    one->curves.val_loss = lvs_realloc(one->curves.val_loss, n * sizeof *one->curves.val_loss);
    one->curves.val_mae_scaled = lvs_realloc(one->curves.val_mae_scaled, n * sizeof *one->curves.val_mae_scaled);
    one->curves.val_mse_scaled = lvs_realloc(one->curves.val_mse_scaled, n * sizeof *one->curves.val_mse_scaled);
}

/* Returns what follows. A curve without values has no array. */
static const char *take_bytes(void *out, size_t count, const char *bytes) {
    if (count > 0) memcpy(out, bytes, count);
    return bytes + count;
}

static void take_head(struct pack_trial *one, const struct state_head *head) {
    one->record.best_step = head->best_step;
    one->rung_step = head->rung_step;
    one->best_score = head->best_score;
    one->flops_periodic = head->flops_periodic;
    one->flops_baseline = head->flops_baseline;
    one->seconds_training = head->seconds_training;
    one->seconds_evaluation = head->seconds_evaluation;
    one->record.head_gap = head->head_gap;
}

/* Bytes of a state whose curves have n_values doubles an evaluation. */
static size_t state_bytes(const struct state_head *head, size_t n_values, size_t best_bytes) {
    size_t evaluation = sizeof(int32_t) + n_values * sizeof(double);
    return sizeof *head + (size_t)head->n_evaluation * evaluation + (head->has_best ? best_bytes : 0);
}

bool pack_state_read(struct pack_trial *one, size_t best_bytes, const char *bytes, size_t length) {
    struct state_head head;
    if (length < sizeof head) return false;
    memcpy(&head, bytes, sizeof head);
    size_t n = (size_t)head.n_evaluation;
    bool has_mse = length == state_bytes(&head, 3, best_bytes);
    if (!has_mse && length != state_bytes(&head, 2, best_bytes)) return false;
    bytes += sizeof head;
    pack_grow_curves(one, head.n_evaluation);
    one->curves.n_evaluation = head.n_evaluation;
    bytes = take_bytes(one->curves.evaluation_step, n * sizeof(int32_t), bytes);
    bytes = take_bytes(one->curves.val_loss, n * sizeof(double), bytes);
    bytes = take_bytes(one->curves.val_mae_scaled, n * sizeof(double), bytes);
    if (has_mse) bytes = take_bytes(one->curves.val_mse_scaled, n * sizeof(double), bytes);
    for (size_t i = 0; i < n && !has_mse; i++)
        one->curves.val_mse_scaled[i] = NAN;
    if (head.has_best) one->best = memcpy(lvs_malloc(best_bytes), bytes, best_bytes);
    take_head(one, &head);
    return true;
}
