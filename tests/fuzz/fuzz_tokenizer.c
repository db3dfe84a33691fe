/* libFuzzer target: any bytes as a tokenizer.json. Either refused in words, or a vocabulary that keeps its promises. */
#include <stdlib.h>
#include <string.h>

#include "../../src/data/data_internal.h"

static void check(const struct tokenizer *tokenizer) {
    const char *characters = TOKENIZER_CHARACTERS;
    int32_t count = (int32_t)strlen(characters), ids[TOKENIZER_MAX_IDS];
    if (tokenizer_encode(tokenizer, characters, (size_t)count, ids, NULL) != LVS_OK) abort();
    int32_t limit = tokenizer->text_only ? tokenizer->n_kept : tokenizer->n_vocabulary, pad = tokenizer_pad(tokenizer);
    if (pad < 0 || pad >= limit) abort();
    for (int32_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= limit || ids[i] == pad) abort();
        for (int32_t other = 0; other < i; other++)
            if (ids[i] == ids[other]) abort();
    }
    struct strbuf text;
    strbuf_init(&text);
    tokenizer_decode(tokenizer, ids, count, &text);
    if (strcmp(text.text, characters) != 0) abort();
    strbuf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct tokenizer tokenizer;
    struct lvs_error err = {0};
    /* The first byte chooses the vocabulary and config.json's hint. */
    int32_t hint = (int32_t)(data[0] >> 1) - 1;
    enum lvs_status status =
        tokenizer_parse("fuzz", (const char *)data + 1, size - 1, (data[0] & 1) != 0, hint, &tokenizer, &err);
    if (status == LVS_OK)
        check(&tokenizer);
    else if (status != LVS_INPUT || err.text[0] == '\0')
        abort();
    return 0;
}
