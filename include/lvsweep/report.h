/* The report of a sweep: one HTML page without network, and its figures one by one as SVG. Reads `struct results` and
 * what the trials left in their folders, writes text only; knows no browser and no converter. The same figure functions
 * make the page and the single files, so both show the same. */
#pragma once
#include "lvsweep/results.h"

/* What the page and the figures are made from, gathered once. */
struct report;
/* `results` is borrowed for the report's life. Curves and forecasts that are missing or damaged are left out and
 * counted on the page. */
struct report *report_create(const struct results *results);
void report_destroy(struct report *report);
/* What `describe` says of the sweep's data, for the figure of it; borrowed for the report's life, NULL = not known. */
struct description;
void report_set_data(struct report *report, const struct description *description);

/* Appends the whole page: HTML5 with inline SVG, CSS and JavaScript; it makes sense without the script. */
void report_write_page(struct report *report, struct strbuf *out);
/* Appends one figure as a stand-alone SVG 1.1 document in light colours. LVS_USAGE with the names when there is no such
 * figure, or when this sweep has nothing to show in it. */
enum lvs_status report_write_figure(struct report *report, const char *name, struct strbuf *out, struct lvs_error *err);
