/* What a subcommand may write over: never what it reads; of other files only those that it made itself, or what --force
 * was given for. Asked before any work is done. */
#include "cli_output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_BYTES 4096 /* of a file, to recognise it by */

const struct cli_product cli_product_csv = {"a table of lvsweep export", "trial,name,trial_stage,", NULL};
const struct cli_product cli_product_json = {"a document of lvsweep export", "{\n  \"schema_version\": \"", NULL};
const struct cli_product cli_product_page = {"a page of lvsweep report", "<!doctype html>", ": lvsweep report</title>"};
const struct cli_product cli_product_svg = {"a figure of lvsweep report",
                                            "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\"",
                                            " class=\"figure\">\n<style>svg.figure{"};
/* What a converter makes carries no mark of ours. */
const struct cli_product cli_product_png = {"a PNG picture", "\x89PNG", NULL};
const struct cli_product cli_product_pdf = {"a PDF document", "%PDF-", NULL};
const struct cli_product cli_product_forecast = {"a table of lvsweep forecast",
                                                 "series,time,channel,median,q05,q25,q75,q95,samples", NULL};

static bool is_stream(const char *path) {
    return !path || strcmp(path, "-") == 0;
}

static bool is_product(const char *path, const struct cli_product *product) {
    char head[HEAD_BYTES + 1];
    int fd = product ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return false;
    ssize_t got = read(fd, head, HEAD_BYTES);
    close(fd);
    head[got > 0 ? got : 0] = '\0';
    if (strncmp(head, product->starts, strlen(product->starts)) != 0) return false;
    return !product->holds || strstr(head, product->holds) != NULL;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether `path`, which exists, lies in `folder` or below. */
static bool is_below(const char *path, const char *folder) {
    char *inner = realpath(path, NULL), *outer = realpath(folder, NULL);
    size_t length = outer ? strlen(outer) : 0;
    bool below = inner && outer && strncmp(inner, outer, length) == 0 && inner[length] == '/';
    free(inner);
    free(outer);
    return below;
}

static enum lvs_status check_folder(const char *path, struct lvs_error *err) {
    char folder[LVS_PATH_MAX];
    if (strlen(path) >= LVS_PATH_MAX) return lvs_fail(err, LVS_USAGE, "%s: path too long", path);
    file_folder_of(folder, path);
    if (!file_exists(folder))
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot create: there is no folder %s; make it first", path, folder);
    if (!file_is_folder(folder)) return lvs_fail(err, LVS_OUTPUT, "%s: cannot create: %s is no folder", path, folder);
    if (access(folder, W_OK) != 0)
        return lvs_fail(err, LVS_OUTPUT, "%s: cannot create: folder %s: %s", path, folder, strerror(errno));
    return LVS_OK;
}

static enum lvs_status check_inputs(const struct cli_target *target, const struct stat *output, bool own,
                                    struct lvs_error *err) {
    const size_t most = sizeof target->inputs / sizeof target->inputs[0];
    for (size_t i = 0; i < most; i++) {
        const char *input = target->inputs[i];
        struct stat info;
        if (!input || (is_stream(input) ? fstat(STDIN_FILENO, &info) : stat(input, &info)) != 0) continue;
        if (same_file(output, &info))
            return lvs_fail(err, LVS_OUTPUT,
                            "%s: is the file that is read (%s), and would be overwritten; choose another name",
                            target->path, is_stream(input) ? "standard input" : input);
        if (!own && S_ISDIR(info.st_mode) && is_below(target->path, input))
            return lvs_fail(err, LVS_OUTPUT,
                            "%s: belongs to %s, which is read; not even --force overwrites it. Choose another name, or "
                            "remove it first",
                            target->path, input);
    }
    return LVS_OK;
}

enum lvs_status cli_may_write(const struct cli_target *target, struct lvs_error *err) {
    const char *path = target->path;
    struct stat info;
    if (is_stream(path)) return LVS_OK;
    if (stat(path, &info) != 0) return check_folder(path, err);
    if (S_ISDIR(info.st_mode)) return lvs_fail(err, LVS_OUTPUT, "%s: is a folder; give the name of a file", path);
    if (!S_ISREG(info.st_mode))
        return lvs_fail(err, LVS_OUTPUT, "%s: is no regular file; -o - writes to standard output", path);
    bool own = is_product(path, target->product);
    LVS_TRY(check_inputs(target, &info, own, err));
    if (own || target->force || info.st_size == 0) return check_folder(path, err);
    if (target->product)
        return lvs_fail(err, LVS_OUTPUT,
                        "%s: exists already and is not %s; choose another name, or add --force to overwrite it", path,
                        target->product->name);
    return lvs_fail(err, LVS_OUTPUT, "%s: exists already; choose another name, or add --force to overwrite it", path);
}
