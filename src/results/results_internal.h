/* Pieces of the results module: members of the plain structs by name (journal, lvsweep.json), checked text, the binary
 * array files of a trial's folder. Not a public contract. */
#pragma once
#include <stddef.h>

#include "lvsweep/results.h"

/* ---- json_line.c: a strict reader of the compact JSON that this module writes ---- */

/* Journals have a million lines, so they are read without building trees. Texts are unescaped into `texts`, which has
 * room for the whole line. */
struct json_cursor {
    const char *at, *end;
    char *texts;
    const char *why; /* what is wrong, after a failure */
};
bool cursor_take(struct json_cursor *cursor, char wanted); /* the next byte is `wanted`: steps over it */
bool cursor_string(struct json_cursor *cursor, const char **text, size_t *length);
bool cursor_double(struct json_cursor *cursor, double *value); /* also null, "inf", "-inf" */
bool cursor_integer(struct json_cursor *cursor, int64_t *value);
bool cursor_skip(struct json_cursor *cursor);                  /* any value, nested at most 16 deep */
bool cursor_fail(struct json_cursor *cursor, const char *why); /* false */

/* ---- members.c: struct members ⇄ JSON ---- */

enum member_type {
    MEMBER_END,
    MEMBER_F64, /* `count` doubles; more than one: a JSON array */
    MEMBER_I32,
    MEMBER_U32,
    MEMBER_I64,
    MEMBER_TEXT,    /* char[count], NUL-ended */
    MEMBER_POINTER, /* const char *, NULL = not there */
    MEMBER_NAMES,   /* struct name_list of at most `count` names */
    MEMBER_STRUCT,
};
struct member {
    const char *name;
    int32_t type; /* enum member_type */
    int32_t count;
    size_t offset;
    const struct member *members; /* of MEMBER_STRUCT, MEMBER_END-ended */
};
#define MEMBER_F64_OF(type, member) \
    { #member, MEMBER_F64, 1, offsetof(type, member), NULL }
#define MEMBER_F64S_OF(type, member, n) \
    { #member, MEMBER_F64, n, offsetof(type, member), NULL }
#define MEMBER_I32_OF(type, member) \
    { #member, MEMBER_I32, 1, offsetof(type, member), NULL }
#define MEMBER_U32_OF(type, member) \
    { #member, MEMBER_U32, 1, offsetof(type, member), NULL }
#define MEMBER_I64_OF(type, member) \
    { #member, MEMBER_I64, 1, offsetof(type, member), NULL }
#define MEMBER_TEXT_OF(type, member) \
    { #member, MEMBER_TEXT, sizeof(((type *)0)->member), offsetof(type, member), NULL }
#define MEMBER_POINTER_OF(type, member) \
    { #member, MEMBER_POINTER, 1, offsetof(type, member), NULL }
#define MEMBER_NAMES_OF(type, member, n) \
    { #member, MEMBER_NAMES, n, offsetof(type, member), NULL }
#define MEMBER_PART_OF(type, member, list) \
    { #member, MEMBER_STRUCT, 1, offsetof(type, member), list }
#define MEMBER_LAST \
    { NULL, MEMBER_END, 0, 0, NULL }

/* LVS_INPUT in words for an output folder without a journal. */
enum lvs_status results_absent(const char *output, struct lvs_error *err);

struct name_list {
    int32_t n;
    const char *name[CONFIG_MAX_STAGES];
};
extern const struct member trial_members[], record_members[], baseline_members[], settings_members[];

/* Appends one member's value. */
void member_write(const struct member *member, const void *object, const void *unknown, struct strbuf *out);
/* Appends {"name":value,…} of the members that differ from `unknown` (an object of the same type). */
void members_write(const struct member *members, const void *object, const void *unknown, struct strbuf *out);
/* Reads one value into its place, or an object's members into theirs; the others keep what `object` holds. Names that
 * no member has are passed over. On failure cursor->why says what the member must be. */
bool member_read(const struct member *member, struct json_cursor *cursor, void *object);
bool members_read(const struct member *members, struct json_cursor *cursor, void *object);

/* ---- text.c ---- */

/* A JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. */
void text_add_json(struct strbuf *out, const char *text);
/* The same bytes as valid UTF-8, without quotes or escapes (HDF5, CSV). */
void text_add_utf8(struct strbuf *out, const char *text);
/* %.17g that reads back to the same double; null for NaN, "inf" and "-inf" in quotes. */
void text_add_double(struct strbuf *out, double value);
void text_add_integer(struct strbuf *out, int64_t value);
/* The shortest decimal that reads back the same; "" for NaN. */
void text_add_shortest(struct strbuf *out, double value);

/* ---- journal_event.c: one event ⇄ one line ---- */

/* What a sweep event holds on its line. */
struct sweep_line {
    const char *schema;
    struct journal_sweep sweep;
    struct name_list stages, channels, units;
};
/* Storage behind the pointers of an event that was read. */
struct journal_scratch {
    struct trial trial;
    struct record record;
    struct baseline baseline;
    struct sweep_line sweep;
    char *texts; /* owned; as long as the longest line */
    size_t capacity;
};
/* Appends the object without its closing brace and checksum. */
void journal_event_write(const struct journal_event *event, struct strbuf *out);
/* Reads line[length], an object up to its checksum. Texts of `event` point into `scratch`. */
enum lvs_status journal_event_read(const char *line, size_t length, struct journal_event *event,
                                   struct journal_scratch *scratch, struct lvs_error *err);

/* ---- time_used.c ---- */

void run_clock_take(struct run_clock *clock, const struct journal_event *event);

/* ---- array_file.c: named arrays in one checked file ---- */

enum array_type { ARRAY_F32, ARRAY_F64, ARRAY_I32, ARRAY_I64 };
struct array {
    char name[24];
    int32_t type, n_dims; /* enum array_type; at most 4 */
    int64_t shape[4];
    const void *data; /* row-major */
};
enum lvs_status array_file_write(const char *path, const struct array *arrays, int32_t count, struct lvs_error *err);
/* *bytes owns the data of arrays[*count] (free() it). */
enum lvs_status array_file_read(const char *path, struct array *arrays, int32_t capacity, int32_t *count, char **bytes,
                                struct lvs_error *err);
/* The array of that name, type and number of dimensions; LVS_INPUT when it is not so. */
enum lvs_status array_file_find(const char *path, const struct array *arrays, int32_t count, const char *name,
                                int32_t type, int32_t n_dims, const struct array **out, struct lvs_error *err);
/* A malloc'd copy of an array's data (one element when it is empty). */
void *array_copy(const struct array *array);

/* ---- table_layout.c: cells in columns ---- */

#define LAYOUT_COLUMNS 24
struct layout_row {
    char *cells[LAYOUT_COLUMNS]; /* owned; NULL = empty */
    int32_t span;                /* cell 1 also takes the columns up to this one (not with); 0 = none */
};
struct layout {
    int32_t n_columns, n_rows;
    struct layout_row *rows; /* owned */
};
struct layout_row *layout_add(struct layout *layout);
void layout_set(struct layout_row *row, int32_t column, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Appends the rows, columns left-aligned two spaces apart, lines cut to `width` columns (0 = not). */
void layout_write(const struct layout *layout, int32_t width, struct strbuf *out);
void layout_free(struct layout *layout);
/* Columns that UTF-8 text takes: one a code point. Not static for the test of layouts. */
int32_t text_columns(const char *text);
/* Appends at most `width` columns of a line, the last one "…" when it was longer; 0 = all. */
void text_add_cut(struct strbuf *out, const char *text, int32_t width);

/* ---- table_groups.c: the rows of a stage with equal settings but for the seed ---- */

struct keyed_row {
    uint64_t group;
    int32_t first; /* index of the group's first row: groups stay in that order */
    const struct result_row *row;
};
/* Rows of a stage sorted so that groups are runs; the caller frees. */
struct keyed_row *group_rows(const struct results *results, int32_t stage, int32_t *n);
/* Of group[n], in each: over its finished rows, NaN = none; the deviation NaN with one. */
void group_mean(const struct results *results, const struct keyed_row *group, int32_t n, const char *metric,
                double *mean, double *deviation);
/* Of channel 0, over all its rows. */
double group_mean_of(const struct results *results, const struct keyed_row *group, int32_t n, const char *name);
void group_seeds(const struct keyed_row *group, int32_t n, char out[64]);
/* "done 2/3, 1 diverged (step 212)"; a lone row with its reason. */
void group_status(const struct keyed_row *group, int32_t n, struct strbuf *out);
/* Is the best trial of the last stage that has one in the group? */
bool group_holds_best(const struct results *results, int32_t stage, const struct keyed_row *group, int32_t n);

/* ---- file_plan.c: what results.h5 holds beside the columns, and blocks of rows to write ---- */

#define STEPS_AS_THEY_ARE 20000 /* more steps are stored with a stride */

/* Extents and coordinates; the same on every rank. */
struct file_plan {
    int32_t n_step, step_stride, n_evaluation; /* step k of the axis is k · step_stride */
    int32_t n_series, n_time;                  /* of forecasts, over all trials; 0 = none */
    int32_t has_bands;                         /* quantiles over samples */
    int32_t keep_predicted;                    /* bool: small enough to be in the file */
    int64_t *series;                           /* [n_series] rows of the data file, ascending within a part; owned */
    int32_t *part;                             /* [n_series] enum split_part, ascending; owned */
    double *time;                              /* [n_time] ascending; owned */
    double *observed;                          /* [n_series][n_time][n_channel]; rank 0 only, else NULL; owned */
};
void file_plan_make(const struct results *results, struct file_plan *out);
void file_plan_free(struct file_plan *plan);
/* Rows that are filled and written at once. */
int32_t file_plan_block(const struct file_plan *plan, int32_t n_channel);

/* One block of rows; NaN and -1 where a trial has nothing. */
struct row_block {
    float *train_loss, *gradient_norm, *clipped_norm;   /* [count][n_step] */
    int32_t *evaluation_step;                           /* [count][n_evaluation] */
    double *val_loss, *val_mae_scaled, *val_mse_scaled; /* [count][n_evaluation] */
    double *predicted, *low, *high;                     /* [count][n_series][n_time][n_channel]; NULL when not kept */
    double *mae;                                        /* [count][n_series][n_channel] */
};
void row_block_make(const struct results *results, const struct file_plan *plan, const struct result_row *rows,
                    int32_t count, struct row_block *out);
void row_block_free(struct row_block *block);
/* out [count][field_width] in the field's own type. */
void row_block_column(const struct field *field, const struct results *results, const struct result_row *rows,
                      int32_t count, void *out);
size_t field_bytes(const struct field *field);
