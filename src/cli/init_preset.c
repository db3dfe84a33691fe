/* Presets: INIs that come with lvsweep. Looked for beside the program (its install tree), in the install folder it was
 * built for, and in the source it was built from. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "init_internal.h"

#define FOLDERS_MAX 6

static int32_t folders(char out[FOLDERS_MAX][LVS_PATH_MAX]) {
    char program[LVS_PATH_MAX - 64];
    int32_t n = 0;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash) *slash = '\0';
    const char *const sweeps[] = {LVS_DATA_DIR "/sweeps", LVS_SOURCE_SWEEPS};
    snprintf(out[n++], LVS_PATH_MAX, "%s/../share/lvsweep/sweeps/reproduce", program);
    snprintf(out[n++], LVS_PATH_MAX, "%s/../share/lvsweep/sweeps", program);
    for (int i = 0; i < 2; i++) {
        snprintf(out[n++], LVS_PATH_MAX, "%s/reproduce", sweeps[i]);
        snprintf(out[n++], LVS_PATH_MAX, "%s", sweeps[i]);
    }
    return n;
}

#define PRESETS_MAX 64
struct preset_list {
    char name[PRESETS_MAX][64];
    int32_t n;
};

static void list_folder(const char *folder, struct preset_list *out) {
    DIR *open = opendir(folder);
    if (!open) return;
    for (struct dirent *entry; (entry = readdir(open)) && out->n < PRESETS_MAX;) {
        char *name = out->name[out->n];
        const size_t length = strlen(entry->d_name);
        if (!cli_has_suffix(entry->d_name, ".ini") || length - 4 >= sizeof out->name[0]) continue;
        snprintf(name, sizeof out->name[0], "%.*s", (int)(length - 4), entry->d_name);
        int32_t known = 0;
        while (strcmp(out->name[known], name) != 0)
            known++;
        if (known == out->n) out->n++;
    }
    closedir(open);
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

static enum lvs_status refuse(const char *name, char places[][LVS_PATH_MAX], int32_t n, struct lvs_error *err) {
    struct preset_list list = {0};
    struct strbuf known;
    for (int32_t i = 0; i < n; i++)
        list_folder(places[i], &list);
    qsort(list.name, (size_t)list.n, sizeof list.name[0], by_name);
    strbuf_init(&known);
    for (int32_t i = 0; i < list.n; i++)
        strbuf_printf(&known, "%s%s", i ? ", " : "", list.name[i]);
    if (known.text)
        lvs_fail(err, LVS_USAGE, "--preset %s: no preset has that name; there are %s", name, known.text);
    else
        lvs_fail(err, LVS_USAGE, "--preset %s: no presets are installed", name);
    strbuf_free(&known);
    return LVS_USAGE;
}

static enum lvs_status find(const char *name, char path[LVS_PATH_MAX], char folder[LVS_PATH_MAX],
                            struct lvs_error *err) {
    char places[FOLDERS_MAX][LVS_PATH_MAX], file[300];
    int32_t n = folders(places);
    snprintf(file, sizeof file, "%.250s.ini", name);
    for (int32_t i = 0; i < n && !strchr(name, '/'); i++) {
        if (file_join(path, places[i], file, err) != LVS_OK || !file_exists(path)) continue;
        char *whole = realpath(places[i], NULL);
        lvs_copy(folder, LVS_PATH_MAX, whole ? whole : places[i]);
        free(whole);
        return LVS_OK;
    }
    return refuse(name, places, n, err);
}

/* "file = X" where X lies beside the preset: its absolute path. `prefix` is what the value begins with. */
static bool add_absolute(const char *line, size_t length, const char *key, const char *prefix, const char *folder,
                         struct strbuf *out) {
    char value[LVS_PATH_MAX], path[LVS_PATH_MAX], *whole;
    struct lvs_error ignored;
    size_t at = strlen(key);
    if (length <= at || strncmp(line, key, at) != 0) return false;
    at += strspn(line + at, " ");
    if (line[at] != '=') return false;
    at += 1 + strspn(line + at + 1, " ");
    if (strncmp(line + at, prefix, strlen(prefix)) != 0) return false;
    at += strlen(prefix);
    /* file:splits.json:name */
    size_t end = at + strcspn(line + at, prefix[0] ? " ;#:\n" : " ;#\n");
    snprintf(value, sizeof value, "%.*s", (int)(end - at), line + at);
    if (!value[0] || strncmp(value, "hf:", 3) == 0) return false;
    if (file_resolve(path, folder, value, &ignored) != LVS_OK || !(whole = realpath(path, NULL))) return false;
    strbuf_add_bytes(out, line, at);
    strbuf_add(out, whole);
    free(whole);
    strbuf_add_bytes(out, line + end, length - end);
    return true;
}

static bool is_key(const char *line, const char *key) {
    size_t at = strlen(key);
    return strncmp(line, key, at) == 0 && line[at + strspn(line + at, " ")] == '=';
}

static void add_line(const char *line, size_t length, const char *section, const struct init_answers *given,
                     const char *folder, struct strbuf *out) {
    bool data = strcmp(section, "data") == 0, model = strcmp(section, "model") == 0;
    if (data && given->data && is_key(line, "file"))
        strbuf_printf(out, "file = %s", given->data);
    else if (model && given->model && is_key(line, "path"))
        strbuf_printf(out, "path = %s", given->model);
    else if (!(data && add_absolute(line, length, "file", "", folder, out)) &&
             !(data && add_absolute(line, length, "split", "file:", folder, out)) &&
             !(model && add_absolute(line, length, "path", "", folder, out)))
        strbuf_add_bytes(out, line, length);
    strbuf_add(out, "\n");
}

enum lvs_status init_preset(const char *name, const struct init_answers *given, struct strbuf *out,
                            struct lvs_error *err) {
    char path[LVS_PATH_MAX], folder[LVS_PATH_MAX], section[64] = "", *text;
    size_t length;
    LVS_TRY(find(name, path, folder, err));
    LVS_TRY(file_read(path, 1 << 20, &text, &length, err));
    for (const char *line = text; *line;) {
        size_t end = strcspn(line, "\n");
        if (line[0] == '[') snprintf(section, sizeof section, "%.*s", (int)strcspn(line + 1, "]\n"), line + 1);
        add_line(line, end, section, given, folder, out);
        line += end + (line[end] == '\n');
    }
    free(text);
    return LVS_OK;
}
