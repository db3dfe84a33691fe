/* Taking an adapter out of a sweep: as it is, or merged into its base model; both verified by reading back. */
#pragma once
#include "cli_adapter.h"

/* A copy of the adapter's folder, then the logits of the copy against those of the original. */
enum lvs_status export_adapter(const struct adapter_source *source, const char *output, struct lvs_error *err);
/* The base model's folder with W + scale · B·A in place of each W, in the file's own type, then its logits against
 * those of base and adapter. */
enum lvs_status export_merged(const struct adapter_source *source, const char *output, struct lvs_error *err);
