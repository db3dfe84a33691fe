/* Growing strings and the allocations that cannot fail. */
#include "lvsweep/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory, size_t bytes) {
    if (!memory && bytes > 0) {
        fprintf(stderr, "lvsweep: out of memory (%zu bytes)\n", bytes);
        abort();
    }
    return memory;
}

void *lvs_malloc(size_t bytes) {
    return checked(malloc(bytes ? bytes : 1), bytes);
}

void *lvs_calloc(size_t count, size_t size) {
    return checked(calloc(count ? count : 1, size ? size : 1), count * size);
}

void *lvs_realloc(void *old, size_t bytes) {
    return checked(realloc(old, bytes ? bytes : 1), bytes);
}

char *lvs_strdup(const char *text) {
    size_t length = strlen(text) + 1;
    return memcpy(lvs_malloc(length), text, length);
}

void lvs_copy(char *out, size_t capacity, const char *text) {
    if (capacity == 0) return;
    size_t length = strnlen(text, capacity - 1);
    memcpy(out, text, length);
    out[length] = '\0';
}

size_t lvs_utf8_length(const char *text) {
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned char first = bytes[0];
    if (first < 0x80) return first != 0;
    size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                    : (first & 0xF0) == 0xE0         ? 3
                    : first >= 0xF0 && first <= 0xF4 ? 4
                                                     : 0;
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;  /* no overlong forms */
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF; /* no surrogates, at most U+10FFFF */
    if (length && (bytes[1] < low || bytes[1] > high)) return 0;
    for (size_t i = 2; i < length; i++)
        if ((bytes[i] & 0xC0) != 0x80) return 0;
    return length;
}

void strbuf_init(struct strbuf *buffer) {
    *buffer = (struct strbuf){0};
}

void strbuf_free(struct strbuf *buffer) {
    free(buffer->text);
    strbuf_init(buffer);
}

void strbuf_clear(struct strbuf *buffer) {
    buffer->length = 0;
    if (buffer->text) buffer->text[0] = '\0';
}

static void strbuf_reserve(struct strbuf *buffer, size_t more) {
    size_t needed = buffer->length + more + 1;
    if (needed <= buffer->capacity) return;
    size_t capacity = buffer->capacity ? buffer->capacity : 64;
    while (capacity < needed)
        capacity *= 2;
    buffer->text = lvs_realloc(buffer->text, capacity);
    buffer->capacity = capacity;
}

void strbuf_add_bytes(struct strbuf *buffer, const char *bytes, size_t count) {
    strbuf_reserve(buffer, count);
    if (count > 0) memcpy(buffer->text + buffer->length, bytes, count);
    buffer->length += count;
    buffer->text[buffer->length] = '\0';
}

void strbuf_add(struct strbuf *buffer, const char *text) {
    strbuf_add_bytes(buffer, text, strlen(text));
}

void strbuf_printf(struct strbuf *buffer, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length > 0) {
        strbuf_reserve(buffer, (size_t)length);
        vsnprintf(buffer->text + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
}

char *strbuf_take(struct strbuf *buffer) {
    strbuf_reserve(buffer, 0);
    buffer->text[buffer->length] = '\0';
    char *text = buffer->text;
    strbuf_init(buffer);
    return text;
}
