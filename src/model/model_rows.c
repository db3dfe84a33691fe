/* A model over some rows of another's vocabulary: embedding and head are gathered, everything else is shared. What
 * training computes through it is what it would compute in a checkpoint that had these tokens alone.
 * Invariant: local id i stands for row rows[i] of the whole model, in the embedding as in the head. */
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

enum lvs_status host_rows_gather(struct model *owner, const char *what, const int32_t *rows, int32_t n_rows,
                                 struct host_tensor *table, struct lvs_error *err) {
    size_t row_bytes = (size_t)table->cols * tensor_type_size(table->type);
    unsigned char *gathered = model_own(owner, lvs_malloc((size_t)n_rows * row_bytes));
    for (int32_t i = 0; i < n_rows; i++) {
        if (rows[i] < 0 || rows[i] >= table->rows)
            return lvs_fail(err, LVS_INPUT, "token id %d has no row in \"%s\" of %lld rows", rows[i], what,
                            (long long)table->rows);
        memcpy(gathered + (size_t)i * row_bytes, (const unsigned char *)table->data + (size_t)rows[i] * row_bytes,
               row_bytes);
    }
    table->data = gathered;
    table->rows = n_rows;
    return LVS_OK;
}

static enum lvs_status gather_table(struct model *model, const char *what, const int32_t *rows, int32_t n_rows,
                                    struct host_tensor *table, struct weight **out, struct lvs_error *err) {
    const struct compute *compute = &model->compute;
    LVS_TRY(host_rows_gather(model, what, rows, n_rows, table, err));
    return compute->backend->weight_create(compute->device, table, 1, out, err);
}

static enum lvs_status gather_tables(struct model *model, const int32_t *rows, int32_t n_rows, struct lvs_error *err) {
    LVS_TRY(
        gather_table(model, "model.embed_tokens.weight", rows, n_rows, &model->embedding_host, &model->embedding, err));
    if (model->config.tied) {
        model->head = model->embedding;
        model->head_host = model->embedding_host;
        return LVS_OK;
    }
    return gather_table(model, "lm_head.weight", rows, n_rows, &model->head_host, &model->head, err);
}

enum lvs_status model_open_rows(const struct model *whole, const int32_t *rows, int32_t n_rows, struct model **out,
                                struct lvs_error *err) {
    struct model *model = lvs_malloc(sizeof *model);
    *model = *whole;
    model->whole = whole;
    model->n_vocabulary = n_rows;
    model->embedding = model->head = NULL;
    model->owned = NULL;
    model->n_owned = 0;
    enum lvs_status status = gather_tables(model, rows, n_rows, err);
    if (status != LVS_OK) {
        model_close(model);
        return lvs_error_prefix(err, "the text's rows of the vocabulary");
    }
    *out = model;
    return LVS_OK;
}
