/* lvsweep watch: follows a sweep through its journal until it ends. On a terminal a table that redraws itself,
 * elsewhere a line for every change. Only reads: it can be started, stopped and doubled at will, also over ssh. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli_internal.h"
#include "lvsweep/clock.h"
#include "lvsweep/watch.h"

#define LOOK_SECONDS 1
#define LINE_SECONDS 60 /* a line of state at least this often where there is no terminal */

struct watcher {
    const char *folder;
    bool once, json, is_terminal;
    bool has_drawn;
    double line_due;      /* the next line of state, by the steady clock */
    struct timespec seen; /* change time and size of the journal at the last reading */
    off_t size;
};

/* Whether the journal differs from the last time. */
static bool has_changed(struct watcher *watcher) {
    char path[LVS_PATH_MAX];
    struct lvs_error ignored;
    struct stat state;
    if (file_join(path, watcher->folder, RESULTS_JOURNAL, &ignored) != LVS_OK || stat(path, &state) != 0) return true;
    bool same = state.st_size == watcher->size && state.st_mtim.tv_sec == watcher->seen.tv_sec &&
                state.st_mtim.tv_nsec == watcher->seen.tv_nsec;
    watcher->size = state.st_size;
    watcher->seen = state.st_mtim;
    return !same;
}

static void terminal_size(int32_t *width, int32_t *height) {
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 1;
    *width = known ? size.ws_col : 100;
    *height = known ? size.ws_row - 1 : 40;
}

/* Overwrites the screen from its top, line by line, so that nothing flickers. */
static void draw(struct watcher *watcher, const struct watch *watch, struct strbuf *out) {
    struct strbuf table;
    int32_t width, height;
    strbuf_init(&table);
    terminal_size(&width, &height);
    watch_write_table(watch, clock_now(), width, height, &table);
    strbuf_add(out, watcher->has_drawn ? "\033[H" : "\033[2J\033[H");
    for (const char *at = table.text; *at;) {
        size_t length = strcspn(at, "\n");
        strbuf_add_bytes(out, at, length);
        strbuf_add(out, "\033[K\n");
        at += length + (at[length] == '\n');
    }
    strbuf_add(out, "\033[J");
    watcher->has_drawn = true;
    strbuf_free(&table);
}

static void show(struct watcher *watcher, const struct watch *before, const struct watch *watch, bool changed) {
    struct strbuf out;
    strbuf_init(&out);
    double now = clock_now();
    if (watcher->json) {
        if (changed) watch_write_json(watch, now, &out);
    } else if (watcher->once) {
        watch_write_table(watch, now, 0, 0, &out);
    } else if (watcher->is_terminal) {
        draw(watcher, watch, &out);
    } else {
        if (changed) watch_write_changes(before, watch, &out);
        bool ended = watch->results.state != SWEEP_STATE_RUNNING;
        double steady = clock_steady();
        if (ended || steady >= watcher->line_due) {
            watch_write_line(watch, &out);
            watcher->line_due = steady + LINE_SECONDS;
        }
    }
    if (out.length) fwrite(out.text, 1, out.length, stdout);
    fflush(stdout);
    strbuf_free(&out);
}

static enum lvs_status follow(struct watcher *watcher, struct lvs_error *err) {
    struct watch watch, next;
    has_changed(watcher);
    LVS_TRY(watch_read(watcher->folder, &watch, err));
    show(watcher, NULL, &watch, true);
    enum lvs_status status = LVS_OK;
    while (!watcher->once && watch.results.state == SWEEP_STATE_RUNNING && !ferror(stdout)) {
        nanosleep(&(struct timespec){.tv_sec = LOOK_SECONDS}, NULL);
        bool changed = has_changed(watcher);
        if (!changed) {
            show(watcher, &watch, &watch, false);
            continue;
        }
        status = watch_read(watcher->folder, &next, err);
        if (status != LVS_OK) break;
        show(watcher, &watch, &next, true);
        watch_free(&watch);
        watch = next;
    }
    watch_free(&watch);
    return status;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"once", no_argument, NULL, '1'}, {"json", no_argument, NULL, 'j'}, {0}};
    struct watcher watcher = {.is_terminal = isatty(STDOUT_FILENO)};
    bool done;
    for (int option; (option = cli_next_option(&command_watch, argc, argv, options, &done)) != -1;) {
        if (option == '1')
            watcher.once = true;
        else if (option == 'j')
            watcher.json = true;
        else
            return done ? LVS_OK : option == 'o' ? cli_usage(&command_watch, "-o is not an option here") : LVS_USAGE;
    }
    if (optind + 1 != argc) return cli_usage(&command_watch, "give a sweep's folder");
    watcher.folder = argv[optind];
    struct lvs_error err = {0};
    return follow(&watcher, &err) == LVS_OK ? LVS_OK : cli_fail(&err);
}

const struct command command_watch = {
    .name = "watch",
    .summary = "follow a running sweep: workers, best so far, FLOPs and time left",
    .help = "lvsweep watch DIR [--once] [--json]\n\n"
            "Reads DIR/journal.jsonl only, so it is safe beside the running sweep, on any\n"
            "machine that sees the folder. On a terminal the table redraws itself;\n"
            "elsewhere every change is a line. It ends when the sweep ends or is\n"
            "interrupted; Ctrl-C ends the watching only.\n\n"
            "--once  print the table once and end\n"
            "--json  one JSON object a line, at the start and at every change\n",
    .run = run,
};
