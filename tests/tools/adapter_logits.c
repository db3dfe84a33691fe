/* Logits of an adapter of ours as lvsweep computes them, in fp32 on the CPU, for check_adapter.py to compare with
 * peft's:
 *
 *     adapter_logits SWEEP|TRIAL|ADAPTER
 *
 * writes ids.json (one row of token ids) and logits.safetensors ("logits", [1, tokens, vocabulary]) here. */
#include <stdio.h>
#include <stdlib.h>

#include "cli_adapter.h"

static const char text[] = "1.02,0.98;1.10,0.95;2.31,7.40;5.66,8.29;9.87,3.04;1.50,0.61;";
enum { TOKENS = sizeof text - 1 };

static enum lvs_status write_ids(const int32_t *ids, struct lvs_error *err) {
    struct strbuf out;
    strbuf_init(&out);
    for (int i = 0; i < TOKENS; i++)
        strbuf_printf(&out, "%s%d", i ? ", " : "[[", ids[i]);
    strbuf_add(&out, "]]\n");
    enum lvs_status status = cli_write("ids.json", &out, err);
    strbuf_free(&out);
    return status;
}

static enum lvs_status compute_logits(const struct opened_adapter *adapter, const int32_t *ids, float *out,
                                      struct lvs_error *err) {
    const struct pass_options options = {.n_slots = 1, .n_sequences = 1, .context = TOKENS, .lora = &adapter->layout};
    int32_t rows[TOKENS];
    struct pass *pass;
    for (int i = 0; i < TOKENS; i++)
        rows[i] = i;
    LVS_TRY(pass_create(adapter->model, &options, &pass, err));
    adapter->compute.backend->upload(adapter->compute.device, pass_ids(pass), ids, TOKENS * sizeof *ids);
    pass_forward(pass, &adapter->adapters);
    enum lvs_status status = pass_logits(pass, &adapter->adapters, rows, TOKENS, out, err);
    pass_destroy(pass);
    return status;
}

static enum lvs_status write_both(const struct opened_adapter *adapter, struct lvs_error *err) {
    const int32_t vocabulary = model_vocabulary(adapter->model);
    int32_t ids[TOKENS];
    if (adapter->info.tokenizer.text_only)
        return lvs_fail(err, LVS_USAGE, "[model] vocabulary = text: the head has the text's rows only, peft's has all");
    LVS_TRY(tokenizer_encode(&adapter->info.tokenizer, text, TOKENS, ids, err));
    LVS_TRY(write_ids(ids, err));
    float *logits = lvs_malloc(sizeof *logits * TOKENS * (size_t)vocabulary);
    enum lvs_status status = compute_logits(adapter, ids, logits, err);
    const struct safetensors_tensor tensor = {
        .name = "logits", .n_dims = 3, .shape = {1, TOKENS, vocabulary}, .data = logits, .type = TENSOR_F32};
    if (status == LVS_OK) status = safetensors_write("logits.safetensors", &tensor, 1, NULL, err);
    free(logits);
    return status;
}

int main(int argc, char **argv) {
    struct adapter_source source = {.backend = "cpu", .precision = "fp32"};
    struct lvs_error err = {0};
    if (argc != 2) {
        fprintf(stderr, "adapter_logits SWEEP|TRIAL|ADAPTER\n");
        return LVS_USAGE;
    }
    source.folder = argv[1];
    struct opened_adapter *adapter = lvs_calloc(1, sizeof *adapter);
    enum lvs_status status = adapter_open(&source, adapter, &err);
    if (status == LVS_OK) status = write_both(adapter, &err);
    adapter_close(adapter);
    free(adapter);
    if (status != LVS_OK) fprintf(stderr, "adapter_logits: %s\n", err.text);
    return (int)status;
}
