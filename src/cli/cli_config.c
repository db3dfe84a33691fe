/* A configuration without an INI file: every key at its default, then --set. For subcommands that take a data file or
 * a shape instead of a sweep. */
#include <string.h>

#include "cli_internal.h"

enum lvs_status cli_default_config(const struct cli_sets *sets, struct config **out, struct lvs_error *err) {
    /* What an INI cannot do without; no subcommand that comes here looks at it. */
    const struct config_source source = {.path = "defaults",
                                         .text = "[data]\nfile = none.h5\n[model]\npath = none\n[stage.search]\n"
                                                 "rank = 8\nlearning_rate = 1e-4\nsteps = 1\n[budget]\nflops = none\n",
                                         .folder = ".",
                                         .sets = sets->items,
                                         .n_sets = sets->n};
    return config_parse(&source, out, err);
}

bool cli_has_suffix(const char *text, const char *suffix) {
    size_t length = strlen(text), end = strlen(suffix);
    return length >= end && strcmp(text + length - end, suffix) == 0;
}

enum lvs_status cli_data_config(const char *path, const struct cli_sets *sets, struct config **out,
                                struct lvs_error *err) {
    if (cli_has_suffix(path, ".ini")) {
        const struct config_source source = {.path = path, .sets = sets->items, .n_sets = sets->n};
        return config_parse(&source, out, err);
    }
    LVS_TRY(cli_default_config(sets, out, err));
    if (strlen(path) >= sizeof(*out)->data_file) {
        config_destroy(*out);
        *out = NULL;
        return lvs_fail(err, LVS_USAGE, "%.80s…: the path is longer than %d characters", path, LVS_PATH_MAX - 1);
    }
    lvs_copy((*out)->data_file, sizeof(*out)->data_file, path);
    return LVS_OK;
}

/* ---- the configuration that a journal holds ---- */

const char *cli_provenance(const struct results *results, const char *name) {
    for (int32_t i = 0; i < results->n_provenance; i++)
        if (strcmp(results->provenance[i].name, name) == 0) return results->provenance[i].value;
    return NULL;
}

/* The INI of the last run: its own entry, or the word of the command line that ends in .ini. */
static bool find_ini(const struct results *results, char out[LVS_PATH_MAX]) {
    const char *ini = cli_provenance(results, "ini"), *command = cli_provenance(results, "command");
    const char *folder = cli_provenance(results, "folder");
    char word[LVS_PATH_MAX] = "";
    struct lvs_error ignored;
    for (; !ini && command && *command && !word[0]; command += strcspn(command, " "), command += *command == ' ') {
        size_t length = strcspn(command, " ");
        if (length < 5 || length >= sizeof word || strncmp(command + length - 4, ".ini", 4) != 0) continue;
        memcpy(word, command, length);
        word[length] = '\0';
    }
    if (!ini && !word[0]) return false;
    return file_resolve(out, folder ? folder : ".", ini ? ini : word, &ignored) == LVS_OK;
}

enum lvs_status cli_stored_config(const struct results *results, const struct cli_sets *sets, struct config **out,
                                  struct lvs_error *err) {
    char ini[LVS_PATH_MAX], folder[LVS_PATH_MAX];
    /* Without either, the folder beside which OUTPUT is made by default. */
    if (find_ini(results, ini))
        file_folder_of(folder, ini);
    else
        file_folder_of(folder, results->output);
    const struct config_source source = {
        .path = "journal", .text = results->config_effective, .folder = folder, .sets = sets->items, .n_sets = sets->n};
    if (!results->config_effective)
        return lvs_fail(err, LVS_INPUT, "%s: no configuration in its journal", results->output);
    LVS_TRY(config_parse(&source, out, err));
    lvs_copy((*out)->output, sizeof(*out)->output, results->output);
    return LVS_OK;
}
