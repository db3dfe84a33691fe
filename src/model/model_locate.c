/* Where a model lies: a folder as given, or the snapshot of hf:owner/name in the local Hugging Face cache.
 * Never touches the network. The cache's layout: models--owner--name/{refs/main, snapshots/<revision>/…}. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lvsweep/strbuf.h"
#include "model_internal.h"

#define REVISION_MAX 256

struct hub_name {
    char owner[128], name[128], revision[REVISION_MAX]; /* revision "" = refs/main */
};

/* Letters, digits, '.', '_' and '-', not starting with a dot: what a folder name of the cache can hold. */
static bool part_is_good(const char *text, size_t length, size_t capacity) {
    if (length == 0 || length >= capacity || text[0] == '.') return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("._-", text[i])) return false;
    return true;
}

/* "owner/name" or "owner/name@revision" */
static bool hub_name_parse(const char *text, struct hub_name *out) {
    const char *slash = strchr(text, '/'), *at = strchr(text, '@');
    if (!slash || (at && at < slash)) return false;
    size_t owner = (size_t)(slash - text), name = at ? (size_t)(at - slash - 1) : strlen(slash + 1);
    if (!part_is_good(text, owner, sizeof out->owner) || !part_is_good(slash + 1, name, sizeof out->name)) return false;
    if (at && !part_is_good(at + 1, strlen(at + 1), sizeof out->revision)) return false;
    lvs_copy(out->owner, owner + 1, text);
    lvs_copy(out->name, name + 1, slash + 1);
    lvs_copy(out->revision, sizeof out->revision, at ? at + 1 : "");
    return true;
}

/* The first of HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub that is set. */
static enum lvs_status cache_folder(char out[LVS_PATH_MAX], struct lvs_error *err) {
    static const struct {
        const char *variable, *below;
    } places[] = {{"HF_HUB_CACHE", "."},
                  {"HF_HOME", "hub"},
                  {"XDG_CACHE_HOME", "huggingface/hub"},
                  {"HOME", ".cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *base = getenv(places[i].variable);
        if (base && base[0]) return file_join(out, base, places[i].below, err);
    }
    return lvs_fail(err, LVS_INPUT, "the Hugging Face cache is unknown: none of HF_HUB_CACHE, HF_HOME and HOME is set");
}

/* The commit that a branch or tag points to, from refs/<revision>; a commit itself otherwise. */
static enum lvs_status resolve_revision(const char *repository, struct hub_name *name, struct lvs_error *err) {
    char path[LVS_PATH_MAX], folder[LVS_PATH_MAX];
    LVS_TRY(file_join(folder, repository, "refs", err));
    LVS_TRY(file_join(path, folder, name->revision[0] ? name->revision : "main", err));
    if (!file_exists(path)) return LVS_OK;
    char *text;
    size_t length;
    LVS_TRY(file_read(path, REVISION_MAX - 1, &text, &length, err));
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    bool good = part_is_good(text, length, sizeof name->revision);
    if (good) lvs_copy(name->revision, sizeof name->revision, text);
    free(text);
    return good ? LVS_OK : lvs_fail(err, LVS_INPUT, "%s: does not hold a revision's name", path);
}

/* Without refs/main (a copied cache): the one snapshot there is. */
static bool only_snapshot(const char *snapshots, char out[REVISION_MAX]) {
    DIR *folder = opendir(snapshots);
    if (!folder) return false;
    int32_t count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.' && count++ == 0) lvs_copy(out, REVISION_MAX, entry->d_name);
    closedir(folder);
    return count == 1;
}

static enum lvs_status locate_in_cache(const char *text, char out[LVS_PATH_MAX], struct lvs_error *err) {
    struct hub_name name;
    if (!hub_name_parse(text, &name))
        return lvs_fail(err, LVS_INPUT, "hf:%s: hf:owner/name or hf:owner/name@revision is expected", text);
    char cache[LVS_PATH_MAX], folder[LVS_PATH_MAX], snapshots[LVS_PATH_MAX], repository[320];
    LVS_TRY(cache_folder(cache, err));
    snprintf(repository, sizeof repository, "models--%s--%s", name.owner, name.name);
    LVS_TRY(file_join(folder, cache, repository, err));
    LVS_TRY(file_join(snapshots, folder, "snapshots", err));
    LVS_TRY(resolve_revision(folder, &name, err));
    if (name.revision[0] || only_snapshot(snapshots, name.revision)) {
        LVS_TRY(file_join(out, snapshots, name.revision, err));
        if (file_is_folder(out)) return LVS_OK;
    }
    return lvs_fail(err, LVS_INPUT,
                    "hf:%s: not in the local cache (looked for a snapshot in %s); nothing is downloaded here: run "
                    "\"hf download %s/%s\" where there is a network, or give the model's folder",
                    text, folder, name.owner, name.name);
}

enum lvs_status model_locate(const char *path, char out[LVS_PATH_MAX], struct lvs_error *err) {
    if (strncmp(path, "hf:", 3) == 0) return locate_in_cache(path + 3, out, err);
    if (!file_is_folder(path))
        return lvs_fail(err, LVS_INPUT,
                        "%s: %s; a model is a Hugging Face folder (config.json, model.safetensors), or hf:owner/name "
                        "from the local cache",
                        path, file_exists(path) ? "not a folder" : "no such folder");
    if (strlen(path) >= LVS_PATH_MAX) return lvs_fail(err, LVS_INPUT, "%s: path too long", path);
    lvs_copy(out, LVS_PATH_MAX, path);
    return LVS_OK;
}
