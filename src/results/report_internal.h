/* Pieces of the report: gathered data, marks and axes, one function a figure. A figure is a row of panels; a panel is
 * the inside of one <svg>, so that the page can wrap panels on a telephone and a single file can lay them out. Colours
 * are classes (report/figure.css) and nothing has an id: any number of figures live in one page. */
#pragma once
#include "lvsweep/report.h"

#define REPORT_MAX_AXES    12
#define REPORT_COLORS      8 /* classes c0 … c7 of the colour axis */
#define REPORT_LABEL_MAX   48
#define REPORT_PANEL_WIDTH 440 /* two a row */
#define REPORT_SMALL_WIDTH 341 /* three a row */
#define THIN_FROM          60  /* trials: more make thin lines */
#define REPORT_WIDE        1064

/* ---- gathered data (report_data.c) ---- */

/* A setting that differs between trials. */
struct report_axis {
    const struct field *field;
    bool is_text;
    int32_t n;                       /* distinct values, ascending */
    double *number;                  /* [n] 0, 1, … for texts; owned */
    char (*label)[REPORT_LABEL_MAX]; /* [n] as in the INI; owned */
    int32_t *of_row;                 /* [n_rows] which of them; owned */
};

/* Curves of a trial as they are drawn: training losses are means over `bin` steps. */
struct report_curve {
    int32_t n, bin;
    float *step, *loss; /* [n] middle of the bin, mean of its finite losses; owned */
    int32_t n_evaluation;
    int32_t *evaluation_step; /* [n_evaluation]; owned */
    double *val_loss;         /* [n_evaluation]; owned */
};

struct report {
    const struct results *results;
    struct best_choice best; /* of the last stage that has one */
    int32_t best_stage;      /* -1 = none */
    double *metric;          /* [n_rows], owned */
    int32_t n_axes;
    struct report_axis axes[REPORT_MAX_AXES];
    int32_t color_axis;          /* what colours mean on the whole page; -1 = nothing varies */
    int32_t n_axes_left_out;     /* varying settings beyond REPORT_MAX_AXES */
    struct report_curve *curves; /* [n_rows], owned */
    int32_t n_damaged;           /* files of trials that could not be read */
    struct trial_forecast forecasts[SPLIT_COUNT];
    int32_t n_forecasts;
    double begin, end; /* first start and last end of a trial; NaN without */
    int32_t count[TRIAL_STATUS_COUNT];
    const struct description *data; /* borrowed; NULL = not known */
};

/* The axis of a column among report->axes; NULL = it does not vary. */
const struct report_axis *report_axis_find(const struct report *report, const char *field);
/* Colour class of a row, 0 … REPORT_COLORS-1. */
int32_t report_color(const struct report *report, int32_t row);
bool report_in_stage(const struct report *report, int32_t row, int32_t stage);
/* Unit of a column: "nat/token", the channels' where it is the data's; "" for pure numbers. */
const char *report_unit(const struct report *report, const char *column);
const char *report_metric_unit(const struct report *report);
/* Identity of the settings without seed and context. */
uint64_t report_group_without_context(const struct settings *settings);
/* The untrained model's metric under the row's context and decimals; NaN when not measured or not a loss. */
double report_untrained(const struct report *report, int32_t context, int32_t decimals);
/* Text of a setting as in the INI. */
void report_setting_text(const struct report *report, const struct field *field, int32_t row,
                         char out[REPORT_LABEL_MAX]);

/* ---- marks (report_svg.c) ---- */

/* Text for HTML and XML: escaped, valid UTF-8, no control characters. */
void markup_add(struct strbuf *out, const char *text);
/* printf, then markup_add. */
void markup_printf(struct strbuf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Up to `digits` significant digits, plain or as 1.3e16. */
void number_write(double value, int digits, char out[32]);
/* "41 s", "6 min 10 s", "3 h 12 min". */
void duration_write(double seconds, char out[32]);
/* "2026-11-23 01:24 UTC" of seconds since 1970; "–" for none. */
void time_write(double seconds, char out[32]);
/* Width of a text at the figures' 12 px in DejaVu Sans, the widest of their fonts; headings take 1.26 times it. */
double text_width(const char *text);

/* class: t text, k tick, h heading, m middle, e end, b bold (figure.css). */
void svg_text(struct strbuf *out, double x, double y, const char *class, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void svg_line(struct strbuf *out, double x1, double y1, double x2, double y2, const char *class);
void svg_rect(struct strbuf *out, double x, double y, double width, double height, const char *class);
/* A polyline over the finite points; a gap where either value is not. Coordinates in tenths. */
void svg_path(struct strbuf *out, const double *x, const double *y, int32_t n);

/* ---- scales and frames (report_axes.c) ---- */

struct scale {
    double low, high; /* of the data; low < high */
    double from, to;  /* of the picture */
    bool is_log;
};
struct range {
    double low, high; /* NaN = nothing seen */
};
struct range range_none(void);
void range_add(struct range *range, double value);
/* Some room on both sides; a logarithmic one where the values are positive and high/low is at least `log_from` (0 =
 * never). */
struct scale scale_make(struct range range, double log_from, double from, double to);
/* The same from exactly zero. */
struct scale scale_from_zero(double high, double from, double to);
double scale_at(const struct scale *scale, double value);
/* Round values inside the scale, at most `most` (≤ 12). */
int32_t scale_ticks(const struct scale *scale, int32_t most, double ticks[12]);

struct plot {
    struct strbuf *out;
    double left, right, top, bottom;
    struct scale x, y;
    const double *x_ticks; /* [n_x_ticks] values to mark; NULL = round ones */
    int32_t n_x_ticks;
};
/* Grid, ticks and titles with units. NULL title = no ticks of that axis either. */
void plot_frame(const struct plot *plot, const char *x_title, const char *y_title);

/* Labels at the right end of lines, moved apart so that none overlap. */
struct end_label {
    double y;
    int32_t color; /* class; -1 = ink */
    char text[REPORT_LABEL_MAX];
};
void end_labels_write(struct strbuf *out, struct end_label *labels, int32_t n, double x, double top, double bottom);

/* ---- figures ---- */

struct panel {
    int32_t width, height;
    char title[128]; /* for screen readers */
    struct strbuf body;
};
struct panels {
    int32_t n;
    struct panel *items; /* owned */
    bool has_legend;     /* colours mean the colour axis */
    struct strbuf note;  /* what must be known to read it: caption, plain text */
};
void panels_free(struct panels *panels);
/* A new panel; its body is valid until the next one. */
struct strbuf *panels_add(struct panels *panels, int32_t width, int32_t height, const char *title);

/* Each appends panels; none = nothing to show, and the note says why. */
void figure_heatmap(struct report *report, struct panels *out);
void figure_training(struct report *report, struct panels *out);
void figure_validation(struct report *report, struct panels *out);
void figure_context(struct report *report, struct panels *out);
void figure_cost(struct report *report, struct panels *out);
void figure_parallel(struct report *report, struct panels *out);
void figure_forecast(struct report *report, struct panels *out);
void figure_budget(struct report *report, struct panels *out);
void figure_waterfall(struct report *report, struct panels *out);
void figure_workers(struct report *report, struct panels *out);
void figure_data(struct report *report, struct panels *out);

struct report_figure {
    const char *name;  /* "heatmap": the FIGURE of --svg */
    const char *title; /* heading on the page */
    bool is_half;      /* shares its row with the next such figure */
    void (*draw)(struct report *report, struct panels *out);
};
extern const struct report_figure report_figures[];
int32_t report_figure_count(void);

/* ---- colours (report_color.c) ---- */

/* Declarations of the theme's variables, "--ink:#1b1f24;…". */
void theme_write(const struct report *report, bool dark, struct strbuf *out);
/* Copies CSS with every var(--name) replaced by the light theme's value. */
void theme_resolve(const struct report *report, const char *css, struct strbuf *out);
/* Cell colour for a share 0 … 1 (cividis, dark blue to yellow), and whether its text must be light. */
void cell_color(double share, char out[8], bool *light_text);

/* ---- parts of the page (report_summary.c, report_tables.c, report_provenance.c) ---- */

void page_summary(struct report *report, struct strbuf *out);
void page_trials(struct report *report, struct strbuf *out);
void page_failures(struct report *report, struct strbuf *out);
void page_baselines(struct report *report, struct strbuf *out);
void page_provenance(struct report *report, struct strbuf *out);

/* Files of report/, embedded by CMake. */
extern const char report_figure_css[], report_page_css[], report_page_js[];
