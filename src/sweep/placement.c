/* Which device a worker takes. Pure where it can be, so that tests give lists of hosts and UUIDs; the MPI rank never
 * starts CUDA, so GPUs are counted from the environment and the device files. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sweep_internal.h"

static int32_t count_listed(const char *list) {
    int32_t count = 0;
    for (const char *next = list; *next && *next != '-'; next++)
        if (*next != ',' && (next == list || next[-1] == ',')) count++;
    return count;
}

static int32_t count_device_files(void) {
    DIR *folder = opendir("/dev");
    if (!folder) return 0;
    int32_t count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        const char *name = entry->d_name;
        count += strncmp(name, "nvidia", 6) == 0 && name[6] >= '0' && name[6] <= '9';
    }
    closedir(folder);
    return count;
}

int32_t placement_visible_gpus(void) {
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    return list ? count_listed(list) : count_device_files();
}

enum lvs_status placement_choose(int32_t index, int32_t count, int32_t n_gpus, bool oversubscribe, int32_t *device,
                                 struct lvs_error *err) {
    *device = 0;
    if (n_gpus <= 1 && !(n_gpus == 1 && count > 1 && !oversubscribe)) return LVS_OK;
    if (count > n_gpus && !oversubscribe)
        return lvs_fail(
            err, LVS_LAUNCH,
            "launch: %d workers share a node with %d GPU%s. Start %d worker%s on it (one rank a GPU, plus one "
            "that coordinates), or set [run] oversubscribe_gpu = yes",
            count, n_gpus, n_gpus == 1 ? "" : "s", n_gpus, n_gpus == 1 ? "" : "s");
    *device = index % n_gpus;
    return LVS_OK;
}

enum lvs_status placement_check_unique(const struct worker_hello *hellos, const int32_t *ranks, int32_t n,
                                       struct lvs_error *err) {
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < i; j++)
            if (strcmp(hellos[i].host, hellos[j].host) == 0 &&
                strcmp(hellos[i].device.uuid, hellos[j].device.uuid) == 0)
                return lvs_fail(err, LVS_LAUNCH,
                                "launch: ranks %d and %d both opened GPU %s of %s. Give every worker its own GPU "
                                "(for example --gpus-per-node with all GPUs visible to every task), or set [run] "
                                "oversubscribe_gpu = yes",
                                ranks[j], ranks[i], hellos[i].device.uuid, hellos[i].host);
    return LVS_OK;
}

int32_t placement_threads(const struct config *config, int32_t local_count) {
    if (config->threads > 0) return config->threads;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int32_t share = (int32_t)(cores / (local_count > 0 ? local_count : 1));
    return share > 0 ? share : 1;
}
