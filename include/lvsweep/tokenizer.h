/* One id a character, looked up in a tokenizer.json (full BPE vocabularies too). Only the characters of LLMTIME text
 * exist here; no merging ever happens. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "lvsweep/status.h"
#include "lvsweep/strbuf.h"

#define TOKENIZER_CHARACTERS "0123456789.,;-"
#define TOKENIZER_MAX_IDS    16
#define TOKENIZER_MORE_ENDS  7  /* beside eos; published checkpoints have three in all */
#define TOKENIZER_ENDS_TEXT  96 /* for all of them in decimal */

struct tokenizer {
    int32_t id_of[128];     /* id in the checkpoint's vocabulary by ASCII character, -1 = none */
    int32_t pad_id, eos_id; /* in the checkpoint's vocabulary */
    int32_t n_vocabulary;   /* ids 0 … n-1 exist */
    int32_t n_more_ends, more_ends[TOKENIZER_MORE_ENDS]; /* ends of text that are neither of these two */
    /* vocabulary = text: the rows kept, in this order; local ids index it. The last one is the pad. */
    int32_t n_kept, kept[TOKENIZER_MAX_IDS];
    bool text_only; /* local ids are used everywhere above the model's gather */
};
/* Reads MODEL/tokenizer.json. LVS_INPUT when a character is missing, two share an id, or the file is hostile.
 * `text_only`: vocabulary = text. `hint_pad` is config.json's pad or eos id, -1 = none. */
enum lvs_status tokenizer_read(const char *folder, bool text_only, int32_t hint_pad, struct tokenizer *out,
                               struct lvs_error *err);
/* The checkpoint's own ends of text beside the pad: eos_id (-1 = not given) and n_more others. An id that is one of the
 * characters, or none of the vocabulary, changes nothing. */
void tokenizer_take_ends(struct tokenizer *tokenizer, int32_t eos_id, const int32_t *more, int32_t n_more);
/* Does this id, as used in windows, end a text? */
bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id);
/* What a key must see of the ends: the ids of more_ends that are in use, with commas; "" without. */
void tokenizer_write_ends(const struct tokenizer *tokenizer, char out[TOKENIZER_ENDS_TEXT]);
/* Keeps only these characters (and the pad) of the ones tokenizer_read found: what a text_format can write. The order
 * is that of TOKENIZER_CHARACTERS with the pad last, whatever the order in `characters`. Call before any encoding. */
void tokenizer_keep(struct tokenizer *tokenizer, const char *characters);
/* Characters to (local) ids; ids[length]. LVS_BUG for a character outside TOKENIZER_CHARACTERS. */
enum lvs_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length, int32_t *ids,
                                 struct lvs_error *err);
/* One character an id; an id that is no character of ours (a word, eos) becomes '?'. */
void tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, int32_t count, struct strbuf *out);
int32_t tokenizer_pad(const struct tokenizer *tokenizer); /* the id used in windows */
