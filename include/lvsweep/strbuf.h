/* A growing string. Always NUL-ended; running out of memory aborts the process (as every small allocation here does).
 */
#pragma once
#include <stddef.h>

struct strbuf {
    char *text; /* owned; never NULL after the first append */
    size_t length, capacity;
};

void strbuf_init(struct strbuf *buffer);
void strbuf_free(struct strbuf *buffer);
void strbuf_clear(struct strbuf *buffer);
void strbuf_add(struct strbuf *buffer, const char *text);
void strbuf_add_bytes(struct strbuf *buffer, const char *bytes, size_t count);
void strbuf_printf(struct strbuf *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Hands the text over to the caller (free() it) and leaves the buffer empty. */
char *strbuf_take(struct strbuf *buffer);

/* malloc and friends that end the process with a message when memory is out; for small host allocations only.
 * Large ones (weights, activations) go through backend->allocate and return an error. */
void *lvs_malloc(size_t bytes);
void *lvs_calloc(size_t count, size_t size);
void *lvs_realloc(void *old, size_t bytes);
char *lvs_strdup(const char *text);

/* Copies with truncation, always NUL-ended. */
void lvs_copy(char *out, size_t capacity, const char *text);
/* Length of the well-formed UTF-8 sequence (RFC 3629) that `text` begins with, 0 when there is none or no text. */
size_t lvs_utf8_length(const char *text);
