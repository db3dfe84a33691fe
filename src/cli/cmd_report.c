/* lvsweep report: a sweep as one HTML page, or one of its figures as SVG, PNG or PDF. Pictures other than SVG are made
 * by a converter that is installed (rsvg-convert, else Inkscape), which reads the SVG from its standard input. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli_output.h"
#include "lvsweep/describe.h"
#include "lvsweep/log.h"
#include "lvsweep/report.h"

extern char **environ;

/* ---- converters ---- */

static bool is_in_path(const char *program) {
    const char *path = getenv("PATH");
    if (!path) return false;
    char *folders = lvs_strdup(path), *rest = folders;
    bool found = false;
    for (char *folder; !found && (folder = strsep(&rest, ":"));) {
        char file[LVS_PATH_MAX];
        int length = snprintf(file, sizeof file, "%s/%s", folder[0] ? folder : ".", program);
        found = length > 0 && (size_t)length < sizeof file && access(file, X_OK) == 0;
    }
    free(folders);
    return found;
}

/* Runs argv with `input` as standard input; LVS_OUTPUT when it fails. */
static enum lvs_status run_converter(char *const *argv, FILE *input, struct lvs_error *err) {
    posix_spawn_file_actions_t actions;
    pid_t child;
    int state;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(input), STDIN_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    int failed = posix_spawnp(&child, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) return lvs_fail(err, LVS_LAUNCH, "cannot start %s: %s", argv[0], strerror(failed));
    while (waitpid(child, &state, 0) < 0)
        if (errno != EINTR) return lvs_fail(err, LVS_LAUNCH, "%s: %s", argv[0], strerror(errno));
    if (WIFEXITED(state) && WEXITSTATUS(state) == 0) return LVS_OK;
    return lvs_fail(err, LVS_OUTPUT, "%s ended with %s %d", argv[0], WIFEXITED(state) ? "exit code" : "signal",
                    WIFEXITED(state) ? WEXITSTATUS(state) : WTERMSIG(state));
}

/* `format` is "png" or "pdf". The picture is made aside and renamed: whole or absent. */
static enum lvs_status convert(const struct strbuf *svg, const char *format, const char *output,
                               struct lvs_error *err) {
    char aside[LVS_PATH_MAX], type[32], name[LVS_PATH_MAX + 32];
    if (snprintf(aside, sizeof aside, "%s.part.%s", output, format) >= (int)sizeof aside)
        return lvs_fail(err, LVS_USAGE, "%s: the path is too long", output);
    snprintf(type, sizeof type, "--export-type=%s", format);
    snprintf(name, sizeof name, "--export-filename=%s", aside);
    char *const rsvg[] = {
        "rsvg-convert", "--format", (char *)format, "--zoom", strcmp(format, "png") ? "1" : "2", "--output",
        aside,          NULL};
    char *const inkscape[] = {"inkscape", "--pipe", type, name, "--export-dpi=192", NULL};
    bool has_rsvg = is_in_path("rsvg-convert");
    if (!has_rsvg && !is_in_path("inkscape"))
        return lvs_fail(err, LVS_LAUNCH,
                        "--%s needs rsvg-convert or Inkscape, and neither is installed; on Debian and Ubuntu: apt "
                        "install librsvg2-bin. --svg needs nothing",
                        format);
    FILE *input = tmpfile();
    if (!input) return lvs_fail(err, LVS_OUTPUT, "no temporary file: %s", strerror(errno));
    bool written = fwrite(svg->text, 1, svg->length, input) == svg->length && fflush(input) == 0;
    rewind(input);
    enum lvs_status status = written ? run_converter(has_rsvg ? rsvg : inkscape, input, err)
                                     : lvs_fail(err, LVS_OUTPUT, "temporary file: %s", strerror(errno));
    fclose(input);
    if (status == LVS_OK) status = file_publish(aside, output, err);
    if (status != LVS_OK) unlink(aside);
    return status;
}

/* ---- the command ---- */

struct report_request {
    const char *folder, *output, *figure;
    int kind; /* 0 page, 's' SVG, 'p' PNG, 'd' PDF */
    bool force;
};

static enum lvs_status write_report(struct report *report, const struct report_request *request, const char *output,
                                    struct lvs_error *err) {
    struct strbuf text;
    strbuf_init(&text);
    enum lvs_status status = LVS_OK;
    if (request->kind)
        status = report_write_figure(report, request->figure, &text, err);
    else
        report_write_page(report, &text);
    if (status == LVS_OK && (request->kind == 'p' || request->kind == 'd'))
        status = convert(&text, request->kind == 'p' ? "png" : "pdf", output, err);
    else if (status == LVS_OK)
        status = cli_write(output, &text, err);
    strbuf_free(&text);
    return status;
}

/* The page goes into the sweep's folder, a figure into the present one. */
static enum lvs_status choose_output(const struct report_request *request, char out[LVS_PATH_MAX],
                                     struct lvs_error *err) {
    const char *ending = request->kind == 's' ? "svg" : request->kind == 'p' ? "png" : "pdf";
    if (request->output && strcmp(request->output, "-") == 0 && (request->kind == 'p' || request->kind == 'd'))
        return lvs_fail(err, LVS_USAGE, "--%s writes a file: give -o FILE", ending);
    if (!request->output && !request->kind) return file_join(out, request->folder, "report.html", err);
    if (request->output)
        lvs_copy(out, LVS_PATH_MAX, request->output);
    else
        snprintf(out, LVS_PATH_MAX, "%.64s.%s", request->figure, ending);
    return LVS_OK;
}

/* The page or figure of an earlier call may be made anew; the sweep and its data are never written over. */
static enum lvs_status check_output(const struct report_request *request, const char *output, const char *data_file,
                                    struct lvs_error *err) {
    const struct cli_target target = {.path = output,
                                      .force = request->force,
                                      .product = request->kind == 's'   ? &cli_product_svg
                                                 : request->kind == 'p' ? &cli_product_png
                                                 : request->kind == 'd' ? &cli_product_pdf
                                                                        : &cli_product_page,
                                      .inputs = {request->folder, data_file}};
    return cli_may_write(&target, err);
}

/* The data as the sweep saw it. A report must do without: the file may be elsewhere by now. `file` is its path, or "".
 */
static bool describe_data(const struct results *results, struct description *out, char file[LVS_PATH_MAX]) {
    struct config *config = NULL;
    struct series_set set = {0};
    struct cli_sets none = {0};
    struct lvs_error why = {0};
    enum lvs_status status = cli_stored_config(results, &none, &config, &why);
    bool has_data = status == LVS_OK && config->runner != RUNNER_FAKE;
    lvs_copy(file, LVS_PATH_MAX, has_data ? config->data_file : "");
    if (has_data) status = series_read(config, &set, &why);
    if (has_data && status == LVS_OK) {
        status = cli_describe(config, &set, 4, out, &why);
        series_free(&set);
    }
    if (status != LVS_OK) log_debug("no figure of the data: %s", why.text);
    config_destroy(config);
    return has_data && status == LVS_OK;
}

/* DIR/results.h5 or the journal, which file managers offer, means DIR. */
static bool is_of_sweep(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return (strcmp(name, RESULTS_FILE) == 0 || strcmp(name, RESULTS_JOURNAL) == 0) && !file_is_folder(path);
}

static enum lvs_status report_run(struct report_request *request, struct lvs_error *err) {
    char folder[LVS_PATH_MAX], output[LVS_PATH_MAX], data_file[LVS_PATH_MAX];
    struct results results;
    lvs_copy(folder, sizeof folder, request->folder);
    if (is_of_sweep(folder)) file_folder_of(folder, request->folder);
    request->folder = folder;
    LVS_TRY(choose_output(request, output, err));
    LVS_TRY(results_read(folder, &results, err));
    struct report *report = report_create(&results);
    struct description data;
    bool has_data = describe_data(&results, &data, data_file);
    if (has_data) report_set_data(report, &data);
    enum lvs_status status = check_output(request, output, data_file, err);
    if (status == LVS_OK) status = write_report(report, request, output, err);
    if (status == LVS_OK && strcmp(output, "-") != 0) printf("%s\n", output);
    report_destroy(report);
    if (has_data) describe_free(&data);
    results_free(&results);
    return status;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {
        {"svg", required_argument, NULL, 's'}, {"png", required_argument, NULL, 'p'},
        {"pdf", required_argument, NULL, 'd'}, {"output", required_argument, NULL, 'o'},
        {"force", no_argument, NULL, 'f'},     {0}};
    struct report_request request = {0};
    bool done;
    for (int option; (option = cli_next_option(&command_report, argc, argv, options, &done)) != -1;) {
        if (option == '?' || option == ':') return done ? LVS_OK : LVS_USAGE;
        if (option == 'o') request.output = optarg;
        if (option == 'f') request.force = true;
        if (option == 'o' || option == 'f') continue;
        if (request.kind) return cli_usage(&command_report, "one figure at a time");
        request.kind = option;
        request.figure = optarg;
    }
    if (optind + 1 != argc) return cli_usage(&command_report, "give a sweep's folder");
    request.folder = argv[optind];
    struct lvs_error err = {0};
    return report_run(&request, &err) == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_report = {
    .name = "report",
    .summary = "a sweep as one HTML page, or one figure of it as SVG, PNG, PDF",
    .help = "lvsweep report DIR|DIR/results.h5 [-o report.html]\n"
            "lvsweep report DIR --svg|--png|--pdf FIGURE [-o FILE]\n\n"
            "The page holds everything in itself: it needs no network and may be mailed.\n"
            "Without -o it is DIR/report.html; a figure is FIGURE.svg, .png or .pdf. -o -\n"
            "writes to standard output. DIR may be a running sweep. What is no earlier page\n"
            "or figure (of the same kind) is overwritten with --force only.\n\n"
            "FIGURE: heatmap, training, validation, context, cost, parallel, forecast,\n"
            "budget, waterfall, workers, data.\n"
            "--png (192 dpi) and --pdf need rsvg-convert (package librsvg2-bin) or\n"
            "Inkscape.\n",
    .run = run,
};
