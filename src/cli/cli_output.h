/* Where a subcommand may write. */
#pragma once
#include "cli_internal.h"

/* A kind of file, recognised by its first bytes. */
struct cli_product {
    const char *name;   /* "a table of lvsweep export" */
    const char *starts; /* its first bytes */
    const char *holds;  /* also among the first 4,096; NULL = anything */
};
extern const struct cli_product cli_product_csv, cli_product_json, cli_product_page, cli_product_svg, cli_product_png,
    cli_product_pdf, cli_product_forecast;

struct cli_target {
    const char *path;                  /* NULL and "-" are standard output */
    bool force;                        /* --force was given */
    const struct cli_product *product; /* what stands there already and may be made anew; NULL = nothing */
    const char *inputs[3];             /* files ("-" is standard input), folders with all that is below, or NULL */
};

/* LVS_OUTPUT when the path is one of the inputs, in whatever way it is written (device and inode decide), when another
 * file stands there and --force was not given, or when its folder is missing or not writable. No other file
 * below an input folder than a product is written over, --force or not; elsewhere an empty file always is. */
enum lvs_status cli_may_write(const struct cli_target *target, struct lvs_error *err);
