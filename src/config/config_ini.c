/* From INI text to entries. iniparser reads the values, but only lines that we have scanned first: it drops duplicates,
 * cuts values at ';', joins lines that end in '\', and refuses a whole file for one bad line. So each line is checked
 * here, what would be misread becomes an error with its number, and the rest is handed over with comments removed. */
#define _GNU_SOURCE /* memfd_create */
#include <ctype.h>
#include <errno.h>
#include <iniparser.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config_internal.h"

#define LINE_LENGTH_MAX 1000 /* iniparser's buffer holds 1024 with the key's line end */

struct scan {
    struct ini *ini;
    struct config_errors *errors;
    struct strbuf clean; /* the lines as iniparser gets them */
    int line;
    int section; /* -1 before the first, -2 in one that is not known */
};

static bool only_spaces_or_comment(const char *text) {
    while (isspace((unsigned char)*text))
        text++;
    return *text == '\0' || *text == ';' || *text == '#';
}

static bool is_stage_name(const char *section) {
    const char *name = section + 6;
    if (strncmp(section, "stage.", 6) != 0 || !islower((unsigned char)*name)) return false;
    if (strlen(name) >= sizeof((struct config_stage *)0)->name) return false;
    for (; *name; name++)
        if (!islower((unsigned char)*name) && !isdigit((unsigned char)*name) && *name != '_' && *name != '-')
            return false;
    return true;
}

static int section_add(struct ini *ini, int line, const char *name, bool known) {
    ini->sections = lvs_realloc(ini->sections, (size_t)(ini->n_sections + 1) * sizeof *ini->sections);
    struct ini_section *section = &ini->sections[ini->n_sections];
    *section = (struct ini_section){.line = line, .known = known};
    lvs_copy(section->name, sizeof section->name, name);
    return ini->n_sections++;
}

static struct ini_entry *entry_add(struct ini *ini, int line, int section, const char *key, const char *value) {
    ini->entries = lvs_realloc(ini->entries, (size_t)(ini->n_entries + 1) * sizeof *ini->entries);
    struct ini_entry *entry = &ini->entries[ini->n_entries++];
    *entry = (struct ini_entry){.line = line, .section = section, .value = lvs_strdup(value)};
    lvs_copy(entry->key, sizeof entry->key, key);
    return entry;
}

static void explain_section(struct scan *scan, const char *name) {
    struct strbuf hint;
    strbuf_init(&hint);
    if (strncmp(name, "stage.", 6) == 0)
        strbuf_add(&hint, ": a stage's name is up to 63 of a-z, 0-9, _ and -, and starts with a letter");
    else {
        strbuf_add(&hint, ": unknown section");
        suggest_section(name, &hint);
    }
    errors_add(scan->errors, scan->line, "[%.40s]%s", name, hint.text);
    strbuf_free(&hint);
}

static void scan_section(struct scan *scan, char *line) {
    char *end = strchr(line, ']');
    if (!end || !only_spaces_or_comment(end + 1)) {
        errors_add(scan->errors, scan->line, "\"%.60s\" is not a section; write [name] on a line of its own", line);
        scan->section = -2;
        return;
    }
    *end = '\0';
    char *name = line + 1;
    word_strip(name);
    bool known = key_is_section(name) || is_stage_name(name);
    int before = known ? ini_find_section(scan->ini, name) : -1;
    scan->section = -2;
    if (!known) {
        explain_section(scan, name);
    } else if (before >= 0) {
        errors_add(scan->errors, scan->line, "[%s]: section is there twice, first in line %d; put its keys together",
                   name, scan->ini->sections[before].line);
        scan->section = before;
    } else {
        scan->section = section_add(scan->ini, scan->line, name, true);
        strbuf_printf(&scan->clean, "[%s]", name);
    }
}

/* A comment that is nothing but numbers is more likely the rest of a list. */
static bool looks_like_values(const char *comment) {
    bool digit = false;
    for (; *comment; comment++) {
        if (!strchr("0123456789.,;+-eE \t%", *comment)) return false;
        digit = digit || isdigit((unsigned char)*comment);
    }
    return digit;
}

/* Finds the end of an unquoted value; false (with an error) where iniparser would silently cut it. */
static bool cut_comment(struct scan *scan, const char *key, char *value) {
    char *mark = strpbrk(value, ";#");
    if (mark) {
        bool glued = mark > value && !isspace((unsigned char)mark[-1]);
        if (glued || (*mark == ';' && looks_like_values(mark + 1))) {
            struct strbuf kept;
            strbuf_init(&kept);
            strbuf_add_bytes(&kept, value, (size_t)(mark - value));
            word_strip(kept.text);
            errors_add(scan->errors, scan->line,
                       "[%s] %s: '%c' starts a comment, so of \"%.60s\" only \"%.60s\" would be read; write commas "
                       "between grid values, double quotes around text that holds %c, or a comment on its own line",
                       scan->ini->sections[scan->section].name, key, *mark, value, kept.text, *mark);
            strbuf_free(&kept);
            return false;
        }
        *mark = '\0';
    }
    word_strip(value);
    size_t length = strlen(value);
    if (length > 0 && value[length - 1] == '\\') {
        errors_add(scan->errors, scan->line,
                   "[%s] %s: a line that ends in \\ would swallow the next one; write the value on one line",
                   scan->ini->sections[scan->section].name, key);
        return false;
    }
    return true;
}

/* Takes the quotes off; false (with an error) when they do not close or text follows. */
static bool cut_quotes(struct scan *scan, const char *key, char *value) {
    char *end = strchr(value + 1, value[0]);
    if (!end || !only_spaces_or_comment(end + 1)) {
        errors_add(scan->errors, scan->line, "[%s] %s: %s in %.60s", scan->ini->sections[scan->section].name, key,
                   end ? "there is text after the closing quote" : "the closing quote is missing", value);
        return false;
    }
    *end = '\0';
    memmove(value, value + 1, strlen(value));
    return true;
}

/* Spelt like a key of ours, and not cut by the entry's room for it. */
static bool key_is_plain(const char *key) {
    if (strlen(key) >= sizeof((struct ini_entry *)0)->key - 1) return false;
    for (; *key; key++)
        if (!islower((unsigned char)*key) && !isdigit((unsigned char)*key) && *key != '_') return false;
    return true;
}

static void scan_value(struct scan *scan, char *key, char *value) {
    const char *section = scan->ini->sections[scan->section].name;
    const struct ini_entry *before = ini_find(scan->ini, section, key);
    if (before) {
        errors_add(scan->errors, scan->line, "[%s] %.63s: key is there twice, first in line %d; keep one", section, key,
                   before->line);
        return;
    }
    while (isspace((unsigned char)*value))
        value++;
    bool quoted = *value == '"' || *value == '\'';
    char quote = *value;
    bool good = quoted ? cut_quotes(scan, key, value) : cut_comment(scan, key, value);
    entry_add(scan->ini, scan->line, scan->section, key, good ? value : "")->refused = !good;
    /* a key with other letters is unknown in any case; iniparser would fold it into another one */
    if (!good || !key_is_plain(key)) return;
    if (quoted)
        strbuf_printf(&scan->clean, "%s = %c%s%c", key, quote, value, quote);
    else
        strbuf_printf(&scan->clean, "%s = %s", key, value);
}

static void scan_line(struct scan *scan, char *line) {
    for (const char *c = line; *c; c++)
        if (iscntrl((unsigned char)*c) && !isspace((unsigned char)*c)) {
            errors_add(scan->errors, scan->line, "control character 0x%02x; not a text file?", (unsigned char)*c);
            return;
        }
    word_strip(line);
    if (*line == '\0' || *line == ';' || *line == '#') return;
    if (strlen(line) > LINE_LENGTH_MAX) {
        errors_add(scan->errors, scan->line, "the line has %zu characters; at most %d are read", strlen(line),
                   LINE_LENGTH_MAX);
        return;
    }
    if (*line == '[') {
        scan_section(scan, line);
        return;
    }
    char *equals = strchr(line, '=');
    if (!equals || equals == line) {
        errors_add(scan->errors, scan->line, "\"%.60s\" is no key = value", line);
        return;
    }
    *equals = '\0';
    word_strip(line);
    if (scan->section == -1)
        errors_add(scan->errors, scan->line, "%.63s stands before the first [section]", line);
    else if (scan->section >= 0)
        scan_value(scan, line, equals + 1);
}

static void scan_text(struct scan *scan, const char *text, size_t length) {
    static const char mark[] = "\xEF\xBB\xBF"; /* editors that write a byte order mark are forgiven */
    if (length >= 3 && memcmp(text, mark, 3) == 0) {
        text += 3;
        length -= 3;
    }
    const char *end = text + length;
    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        scan->line++;
        if (memchr(text, '\0', (size_t)(stop - text))) {
            errors_add(scan->errors, scan->line, "a NUL byte; not a text file (UTF-16 must be saved as UTF-8)");
            scan->ini->cut = true;
            return;
        }
        struct strbuf line;
        strbuf_init(&line);
        strbuf_add_bytes(&line, text, (size_t)(stop - text));
        scan_line(scan, line.text);
        strbuf_free(&line);
        strbuf_add(&scan->clean, "\n");
        text = stop + 1;
    }
}

/* ---- iniparser ---- */

static int ignore_message(const char *format, ...) {
    (void)format;
    return 0;
}

/* iniparser reads files by name only: the checked text is one without a place on disk. */
static dictionary *load_text(const struct strbuf *text) {
    int fd = memfd_create("lvsweep.ini", MFD_CLOEXEC);
    if (fd < 0) return NULL;
    dictionary *loaded = NULL;
    size_t done = 0;
    while (done < text->length) {
        ssize_t put = write(fd, text->text + done, text->length - done);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) break;
        done += (size_t)put;
    }
    if (done == text->length) {
        char name[64];
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        iniparser_set_error_callback(ignore_message);
        loaded = iniparser_load(name);
    }
    close(fd);
    return loaded;
}

/* Takes every value from iniparser; one that it reads otherwise than it is written is refused. */
static void take_values(struct ini *ini, const struct strbuf *clean, struct config_errors *errors) {
    dictionary *loaded = clean->length ? load_text(clean) : NULL;
    if (!loaded && ini->n_entries > 0) {
        errors_add(errors, 0, "iniparser cannot read the text: %s", errno ? strerror(errno) : "no reason given");
        return;
    }
    for (int i = 0; loaded && i < ini->n_entries; i++) {
        struct ini_entry *entry = &ini->entries[i];
        char name[160];
        if (entry->refused || !key_is_plain(entry->key)) continue;
        snprintf(name, sizeof name, "%s:%s", ini->sections[entry->section].name, entry->key);
        const char *value = iniparser_getstring(loaded, name, NULL);
        if (!value || strcmp(value, entry->value) != 0) {
            ini_error(errors, ini, entry,
                      "iniparser reads \"%.60s\" where \"%.60s\" is written; write it in a plainer way",
                      value ? value : "nothing", entry->value);
            continue;
        }
        char *copy = lvs_strdup(value);
        free(entry->value);
        entry->value = copy;
    }
    if (loaded) iniparser_freedict(loaded);
}

void ini_read(const char *text, size_t length, struct ini *out, struct config_errors *errors) {
    *out = (struct ini){0};
    struct scan scan = {.ini = out, .errors = errors, .section = -1};
    strbuf_init(&scan.clean);
    scan_text(&scan, text, length);
    take_values(out, &scan.clean, errors);
    strbuf_free(&scan.clean);
}

void ini_free(struct ini *ini) {
    for (int i = 0; i < ini->n_entries; i++)
        free(ini->entries[i].value);
    free(ini->entries);
    free(ini->sections);
    *ini = (struct ini){0};
}

int ini_find_section(const struct ini *ini, const char *name) {
    for (int i = 0; i < ini->n_sections; i++)
        if (strcmp(ini->sections[i].name, name) == 0) return i;
    return -1;
}

const struct ini_entry *ini_find(const struct ini *ini, const char *section, const char *key) {
    int index = ini_find_section(ini, section);
    for (int i = 0; i < ini->n_entries; i++)
        if (ini->entries[i].section == index && strcmp(ini->entries[i].key, key) == 0) return &ini->entries[i];
    return NULL;
}

/* ---- --set ---- */

static void list_stages(const struct ini *ini, struct strbuf *out) {
    const char *joint = "; the INI has ";
    for (int i = 0; i < ini->n_sections; i++) {
        if (strncmp(ini->sections[i].name, "stage.", 6) != 0) continue;
        strbuf_printf(out, "%s[%s]", joint, ini->sections[i].name);
        joint = ", ";
    }
}

/* The section to set in; -1 with an error when it cannot be. */
static int set_section(struct ini *ini, const char *assignment, const char *name, struct config_errors *errors) {
    int index = ini_find_section(ini, name);
    if (index >= 0) return index;
    if (key_is_section(name)) return section_add(ini, 0, name, true);
    struct strbuf hint;
    strbuf_init(&hint);
    if (strncmp(name, "stage.", 6) == 0) {
        strbuf_add(&hint, "no such stage");
        list_stages(ini, &hint);
    } else {
        strbuf_add(&hint, "unknown section");
        suggest_section(name, &hint);
    }
    errors_add(errors, INT32_MAX, "%.80s: [%.40s]: %s", assignment, name, hint.text);
    strbuf_free(&hint);
    return -1;
}

void ini_set(struct ini *ini, const char *assignment, struct config_errors *errors) {
    char place[160];
    const char *equals = strchr(assignment, '=');
    size_t length = equals ? (size_t)(equals - assignment) : 0;
    lvs_copy(place, length + 1 < sizeof place ? length + 1 : sizeof place, assignment);
    char *dot = strrchr(place, '.');
    if (!equals || !dot || dot == place || dot[1] == '\0') {
        errors_add(errors, INT32_MAX, "%.80s: write it as section.key=value, for example train.steps=100", assignment);
        return;
    }
    *dot = '\0';
    word_strip(place);
    word_strip(dot + 1);
    int section = set_section(ini, assignment, place, errors);
    if (section < 0) return;
    const struct ini_entry *found = ini_find(ini, place, dot + 1);
    struct ini_entry *entry;
    char *value = lvs_strdup(equals + 1);
    word_strip(value);
    if (found) {
        entry = &ini->entries[found - ini->entries];
        free(entry->value);
        entry->value = lvs_strdup(value);
        entry->line = INT32_MAX;
        entry->refused = false;
    } else {
        entry = entry_add(ini, INT32_MAX, section, dot + 1, value);
    }
    entry->given = assignment;
    free(value);
}

void ini_error(struct config_errors *errors, const struct ini *ini, const struct ini_entry *entry, const char *format,
               ...) {
    char text[sizeof((struct lvs_error *)0)->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *section = ini->sections[entry->section].name;
    if (entry->given)
        errors_add(errors, INT32_MAX, "%.80s: [%s] %s: %s", entry->given, section, entry->key, text);
    else
        errors_add(errors, entry->line, "[%s] %s: %s", section, entry->key, text);
}
