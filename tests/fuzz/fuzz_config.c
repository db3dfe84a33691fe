/* Fuzz target of the INI parser. The input is an INI; after a NUL byte follow --set texts, one a NUL. Whatever is
 * accepted must parse back from what config_write makes of it, to the same text; a refusal must say why. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SETS_MAX 8

static void require(int holds) {
    if (!holds) abort();
}

/* What was written parses, and is written again alike. */
static void check_written(const struct config *config) {
    struct strbuf once, twice;
    struct lvs_error err = {.text = ""};
    struct config *again;
    strbuf_init(&once);
    strbuf_init(&twice);
    config_write(config, &once);
    struct config_source source = {.text = once.text, .path = "grid.ini", .folder = config->folder};
    require(config_parse(&source, &again, &err) == LVS_OK);
    config_write(again, &twice);
    require(strcmp(once.text, twice.text) == 0);
    require(memcmp(&config->defaults, &again->defaults, sizeof config->defaults) == 0);
    config_destroy(again);
    strbuf_free(&once);
    strbuf_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = lvs_malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    const char *sets[SETS_MAX];
    int32_t n_sets = 0;
    for (size_t i = strlen(text) + 1; i < size && n_sets < SETS_MAX; i += strlen(text + i) + 1)
        sets[n_sets++] = text + i;
    struct config *config;
    struct lvs_error err = {.text = ""};
    struct config_source source = {
        .text = text, .path = "grid.ini", .folder = "sweeps", .sets = sets, .n_sets = n_sets};
    enum lvs_status status = config_parse(&source, &config, &err);
    if (status == LVS_OK) {
        check_written(config);
        config_destroy(config);
    } else {
        require(status == LVS_USAGE && strstr(err.text, "nothing was started (exit 2)") != NULL);
    }
    free(text);
    return 0;
}
