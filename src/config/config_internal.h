/* What the files of config/ share: the row of a key, its types, the list of errors, and an INI as entries.
 * Nothing here is seen by other modules. A row and its type hold everything that is known of a key. */
#pragma once
#include "lvsweep/config.h"

/* ---- rows (config_keys.c) ---- */

/* The struct that a row's offset counts from. */
enum key_base { KEY_BASE_CONFIG, KEY_BASE_SETTINGS, KEY_BASE_STAGE };

enum key_flags {
    KEY_ABOVE_MIN = 1,     /* min itself is not allowed */
    KEY_BELOW_MAX = 2,     /* max itself is not allowed */
    KEY_SHORT = 4,         /* in the short template */
    KEY_EMPTY = 8,         /* may be left empty */
    KEY_DECIDES_BEST = 16, /* belongs to the training hash when keep = best: it decides which weights are kept */
    KEY_LATER = 32,        /* sweeps were run before the key was there: its default is not in the text of their keys */
};

struct config_type;

struct config_key {
    const char *section, *name;
    const struct config_type *type;
    enum key_base base;
    size_t offset, size; /* of the member (the first one where a type fills several) */
    const char *initial; /* the default as INI text */
    unsigned effect;     /* enum key_effect */
    const char *help;    /* one sentence */
    const char *choices; /* "a|b|c" in enum order, or the bits of flags; an empty name cannot be chosen */
    const char *zero;    /* word that stands for 0: none, auto */
    double min, max;     /* bounds of numbers; both 0 = no bounds */
    unsigned flags;      /* enum key_flags */
};

/* How values of one kind are read, written and described. `base` is the struct that key->base names. */
struct config_type {
    const char *name;
    size_t size; /* of the member; 0 = any */
    enum lvs_status (*parse)(const struct config_key *key, void *base, const char *text, struct lvs_error *err);
    void (*format)(const struct config_key *key, const void *base, struct strbuf *out);
    void (*allowed)(const struct config_key *key, struct strbuf *out); /* "a whole number from 1 to 256" */
};

extern const struct config_key config_keys[];
extern const int config_key_count;

const struct config_key *key_find(const char *section, const char *name);
bool key_is_section(const char *section);
/* Parses with the complete message, "what was found; what is allowed". */
enum lvs_status key_parse(const struct config_key *key, void *base, const char *text, struct lvs_error *err);
void key_allowed(const struct config_key *key, struct strbuf *out);
/* The struct of a row inside a config (settings rows: its defaults). Stage rows have none. */
void *key_base_of(const struct config_key *key, struct config *config);
/* Position of rank, learning_rate, context (0, 1, 2), all others after them by name. */
int key_axis_compare(const struct config_key *a, const struct config_key *b);

/* ---- types (config_number.c, config_word.c, config_compound.c, config_split.c) ---- */

extern const struct config_type type_int32, type_int64, type_whole, type_real, type_duration;
extern const struct config_type type_choice, type_choice_text, type_yes_no, type_flags, type_text, type_path,
    type_names;
extern const struct config_type type_steps, type_stride, type_history, type_horizon, type_alpha, type_warmup,
    type_series, type_narrow, type_split, type_stages;

#define POINTS_MAX 1000000000 /* what a count of points or series may be */

/* ---- numbers and words as text ---- */

/* Strict: the whole text is one finite decimal number. */
bool number_parse(const char *text, double *out);
bool number_parse_whole(const char *text, int64_t *out);
/* The shortest text that reads back to the same bits: 1e-4, 0.05, 600. */
void number_format(double value, struct strbuf *out);
/* Copies the next part up to `separator` with its spaces stripped; false at the end or when it does not fit. */
bool word_next(const char **cursor, char separator, char *out, size_t capacity);
void word_strip(char *text);
/* Position of the word in "a|b|c", -1 when it is not there. */
int word_index(const char *choices, const char *word);
bool word_at(const char *choices, int index, char out[64]);
/* What to say to a value that looks like several ones in another notation; "" when it does not. */
const char *list_hint(const char *value);
/* "an HDF5 file; …": what a file is that is no INI; NULL = it may be one. */
const char *file_kind(const char *path);
/* A path without the folder it was resolved against. */
const char *path_unresolve(const char *folder, const char *path);

/* ---- errors (config_errors.c) ---- */

struct config_error_item {
    int line; /* 0 = the file as a whole, INT32_MAX = --set */
    int order;
    char *text; /* owned */
};

struct config_errors {
    const char *path; /* for messages; borrowed */
    int n;
    struct config_error_item *items; /* owned */
};

void errors_free(struct config_errors *errors);
/* "path:line: text" */
void errors_add(struct config_errors *errors, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Whether an error so far holds both texts. */
bool errors_said(const struct config_errors *errors, const char *one, const char *other);
/* All errors by line and the closing sentence into err->text; LVS_USAGE. */
enum lvs_status errors_report(struct config_errors *errors, struct lvs_error *err);

/* ---- an INI as entries (config_ini.c) ---- */

struct ini_entry {
    int line;          /* 0 = a default, INT32_MAX = --set */
    const char *given; /* --set's text as given, else NULL; borrowed */
    int section;       /* index into the sections */
    bool refused;      /* its line was an error already: known to be there, without a value */
    char key[64];
    char *value; /* owned */
};

struct ini_section {
    int line; /* 0 = named by --set only */
    char name[80];
    bool known;
};

struct ini {
    int n_entries, n_sections;
    bool cut;                     /* what follows some line is no text and was not read */
    struct ini_entry *entries;    /* [n_entries], in file order; owned */
    struct ini_section *sections; /* [n_sections], owned */
};

/* Reads the text; lines that cannot be read become errors, the others entries. */
void ini_read(const char *text, size_t length, struct ini *out, struct config_errors *errors);
void ini_free(struct ini *ini);
const struct ini_entry *ini_find(const struct ini *ini, const char *section, const char *key);
int ini_find_section(const struct ini *ini, const char *name);
/* Replaces or adds one entry by "section.key=value". */
void ini_set(struct ini *ini, const char *assignment, struct config_errors *errors);
/* An error at an entry: "file:9: [section] key: …". */
void ini_error(struct config_errors *errors, const struct ini *ini, const struct ini_entry *entry, const char *format,
               ...) __attribute__((format(printf, 4, 5)));

/* ---- parts of parsing ---- */

/* "did you mean …" or "it belongs to …" for an unknown key or section, as an end of a sentence. What the errors so far
 * say of the section is not said again. */
void suggest_key(const char *section, const char *name, const struct config_errors *errors, struct strbuf *out);
void suggest_section(const char *name, struct strbuf *out);

/* Reads every [stage.…] section into config->stages, in the order of [sweep] stages. */
void stages_read(struct config *config, const struct ini *ini, struct config_errors *errors);
/* What no single key can know: keys that need or exclude each other, missing keys, missing files. */
void checks_run(const struct config *config, const struct ini *ini, bool check_files, struct config_errors *errors);
/* What the data file says against [data], unless that section has errors of its own. */
void check_data(const struct config_source *source, const struct config *config, const struct ini *ini,
                struct config_errors *errors);
