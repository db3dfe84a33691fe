/* What the files of `lvsweep doctor` share: facts of one process and its machine as JSON, and the meeting of all ranks
 * in a folder. */
#pragma once
#include <jansson.h>

#include "cli_internal.h"

/* Cores, memory, GPUs (asked for by the first rank of a node only), user, libraries; a new reference. */
json_t *doctor_facts(bool asks_gpus);
/* MPI libraries that this process has loaded: more than one path means that HDF5 was built with another one. */
json_t *doctor_libraries(void);

/* Collective. Every rank leaves its facts in a hidden folder of `folder` that rank 0 makes, beside a number that only
 * rank 0 knows: who cannot read it does not share the folder. On rank 0 *out is the list of what arrived (a new
 * reference), NULL elsewhere. */
enum lvs_status doctor_meet(const char *folder, json_t *facts, json_t **out, struct lvs_error *err);
/* Collective: an empty results.h5 written by all ranks in that folder, then removed. */
enum lvs_status doctor_write_together(const char *folder, struct lvs_error *err);
