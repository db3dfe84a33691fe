/* What a cell of a table says, as a number or a date (proleptic Gregorian calendar, no time zones). */
#include "import_cell.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CELL_MAX 64 /* longer cells are no numbers */

bool cell_number(const char *cell, bool decimal_comma, double *out) {
    static const char *const missing[] = {"", "na", "n/a", "nan", "null", "none"};
    for (unsigned i = 0; i < sizeof missing / sizeof missing[0]; i++)
        if (strcasecmp(cell, missing[i]) == 0) {
            *out = NAN;
            return true;
        }
    char text[CELL_MAX];
    size_t length = strlen(cell);
    /* strtod also reads hexadecimal numbers and words; a table's numbers are plain. */
    if (length >= sizeof text || cell[strspn(cell, "0123456789+-.,eE")] != '\0') return false;
    memcpy(text, cell, length + 1);
    char *comma = strchr(text, ',');
    if (comma) {
        if (!decimal_comma || strchr(text, '.')) return false;
        *comma = '.';
    }
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out);
}

/* Days from 1970-01-01 to a date, by counting years from March (so that the leap day is the last of its year). */
static long days_from_epoch(int year, int month, int day) {
    long shifted = year - (month <= 2);
    long era = (shifted >= 0 ? shifted : shifted - 399) / 400, year_of_era = shifted - era * 400;
    long day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static int days_in_month(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

bool cell_date(const char *cell, double *out) {
    int year, month, day, hour = 0, minute = 0, used = 0;
    double second = 0;
    if (cell[0] < '0' || cell[0] > '9' || strlen(cell) >= CELL_MAX) return false;
    if (sscanf(cell, "%4d-%2d-%2d%n", &year, &month, &day, &used) != 3 || used == 0) return false;
    const char *rest = cell + used;
    if (*rest == 'T' || *rest == ' ') {
        used = 0;
        if (sscanf(rest + 1, "%2d:%2d%n", &hour, &minute, &used) != 2 || used == 0) return false;
        rest += 1 + used;
        if (*rest == ':') {
            used = 0;
            if (sscanf(rest + 1, "%6lf%n", &second, &used) != 1 || used == 0) return false;
            rest += 1 + used;
        }
    }
    if (*rest == 'Z') rest++;
    if (*rest != '\0' || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month)) return false;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || !(second >= 0 && second < 61)) return false;
    *out = (double)days_from_epoch(year, month, day) + (hour * 3600.0 + minute * 60.0 + second) / 86400.0;
    return true;
}
