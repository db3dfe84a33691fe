/* Colours: the page's theme as named variables, light and dark, and two maps that stay readable without colour vision:
 * viridis (ends cut off, so that both themes have contrast) for the colour axis, cividis for cells. */
#include "report_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct theme_color {
    const char *name, *light, *dark;
};
static const struct theme_color theme[] = {
    {"paper", "#ffffff", "#14181d"},  {"sheet", "#f5f7f9", "#1d2329"}, {"ink", "#1b2026", "#e6e9ec"},
    {"muted", "#5a6570", "#9aa6b2"},  {"rule", "#dde2e7", "#323b44"},  {"grid", "#e6eaee", "#2a323a"},
    {"accent", "#0b62a8", "#6cb6ff"}, {"band", "#0b62a8", "#6cb6ff"},  {"good", "#1a7a4c", "#5fcf97"},
    {"bad", "#b3261e", "#ff8a80"},    {"warn", "#8a5a00", "#f0b84a"},  {"empty", "#eceff2", "#262d35"},
    {"k0", "#0072b2", "#56a8e0"},     {"k1", "#d55e00", "#f08a3c"},    {"k2", "#009e73", "#35c39a"},
    {"k3", "#aa4499", "#d98ccb"},     {"k4", "#9a7d0a", "#e6c84c"},    {"k5", "#56b4e9", "#8fd0f5"},
    {"k6", "#5a6570", "#9aa6b2"},     {"k7", "#882255", "#cf7da6"},
};
#define N_THEME ((int32_t)(sizeof theme / sizeof *theme))

/* Anchors of the maps at equal distances. */
static const unsigned char viridis[][3] = {{68, 1, 84},    {71, 44, 122},  {59, 81, 139},
                                           {44, 113, 142}, {33, 144, 141}, {39, 173, 129},
                                           {92, 200, 99},  {170, 220, 50}, {253, 231, 37}};
static const unsigned char cividis[][3] = {{0, 34, 78},     {26, 56, 111},   {67, 78, 108},
                                           {96, 99, 108},   {125, 124, 120}, {155, 151, 119},
                                           {188, 179, 107}, {222, 208, 84},  {254, 232, 56}};
#define N_ANCHORS 9

static void map_color(const unsigned char map[][3], double share, unsigned char out[3]) {
    double at = fmin(fmax(share, 0), 1) * (N_ANCHORS - 1);
    int below = at >= N_ANCHORS - 1 ? N_ANCHORS - 2 : (int)at;
    for (int c = 0; c < 3; c++)
        out[c] = (unsigned char)lround(map[below][c] + (at - below) * (map[below + 1][c] - map[below][c]));
}

void cell_color(double share, char out[8], bool *light_text) {
    unsigned char rgb[3];
    map_color(cividis, share, rgb);
    snprintf(out, 8, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
    *light_text = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2] < 115;
}

/* Colours of the axis' values, spread over the part of the map that the background leaves. */
static void axis_color(const struct report *report, int32_t k, bool dark, char out[8]) {
    int32_t n = report->color_axis < 0 ? 1 : report->axes[report->color_axis].n;
    if (n > REPORT_COLORS) n = REPORT_COLORS;
    double share = n > 1 ? (double)(k < n ? k : n - 1) / (n - 1) : 0.45;
    unsigned char rgb[3];
    map_color(viridis, dark ? 0.34 + 0.62 * share : 0.02 + 0.72 * share, rgb);
    snprintf(out, 8, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
}

void theme_write(const struct report *report, bool dark, struct strbuf *out) {
    for (int32_t i = 0; i < N_THEME; i++)
        strbuf_printf(out, "--%s:%s;", theme[i].name, dark ? theme[i].dark : theme[i].light);
    for (int32_t k = 0; k < REPORT_COLORS; k++) {
        char color[8];
        axis_color(report, k, dark, color);
        strbuf_printf(out, "--c%d:%s;", k, color);
    }
}

static void add_light(const struct report *report, const char *name, size_t length, struct strbuf *out) {
    for (int32_t i = 0; i < N_THEME; i++)
        if (strlen(theme[i].name) == length && strncmp(theme[i].name, name, length) == 0)
            strbuf_add(out, theme[i].light);
    if (length == 2 && name[0] == 'c') {
        char color[8];
        axis_color(report, name[1] - '0', false, color);
        strbuf_add(out, color);
    }
}

void theme_resolve(const struct report *report, const char *css, struct strbuf *out) {
    for (const char *at = css;;) {
        const char *use = strstr(at, "var(--");
        if (!use) {
            strbuf_add(out, at);
            return;
        }
        strbuf_add_bytes(out, at, (size_t)(use - at));
        const char *name = use + strlen("var(--");
        size_t length = strcspn(name, ")");
        add_light(report, name, length, out);
        at = name + length + 1;
    }
}
