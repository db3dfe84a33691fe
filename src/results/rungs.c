/* The rungs of one trial: a short list by step. Invariant: ascending steps, none twice. */
#include <string.h>

#include "lvsweep/results.h"

void rung_list_set(struct rung_list *list, const struct rung *rung) {
    int32_t at = 0;
    while (at < list->n && list->rung[at].step < rung->step)
        at++;
    bool known = at < list->n && list->rung[at].step == rung->step;
    if (!known && list->n == RUNGS_MAX) {
        if (at == 0) return;
        memmove(list->rung, list->rung + 1, (size_t)--list->n * sizeof list->rung[0]);
        at--;
    }
    if (!known) memmove(list->rung + at + 1, list->rung + at, (size_t)(list->n++ - at) * sizeof list->rung[0]);
    list->rung[at] = *rung;
}

const struct rung *rung_list_find(const struct rung_list *list, int32_t step) {
    for (int32_t i = 0; i < list->n; i++)
        if (list->rung[i].step == step) return &list->rung[i];
    return NULL;
}
