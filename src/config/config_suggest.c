/* "Did you mean": names from elsewhere that people type here, keys of another section, and small edit distances. */
#include <string.h>

#include "config_internal.h"

#define WORD_MAX 40

/* Names that other tools use for our keys. */
static const struct {
    const char *alias, *name;
} aliases[] = {
    {"lr", "learning_rate"},
    {"learningrate", "learning_rate"},
    {"rate", "learning_rate"},
    {"r", "rank"},
    {"lora_rank", "rank"},
    {"lora_r", "rank"},
    {"lora_alpha", "alpha"},
    {"lora_dropout", "dropout"},
    {"target_modules", "targets"},
    {"modules", "targets"},
    {"adapter", "from_adapter"},
    {"ctx", "context"},
    {"seq_len", "context"},
    {"sequence_length", "context"},
    {"context_length", "context"},
    {"block_size", "context"},
    {"max_length", "context"},
    {"epochs", "steps"},
    {"max_steps", "steps"},
    {"n_steps", "steps"},
    {"iterations", "steps"},
    {"random_seed", "seed"},
    {"seeds", "seed"},
    {"batch_size", "batch"},
    {"bs", "batch"},
    {"optim", "optimizer"},
    {"optimiser", "optimizer"},
    {"wd", "weight_decay"},
    {"decay", "weight_decay"},
    {"grad_clip", "clip_norm"},
    {"max_grad_norm", "clip_norm"},
    {"gradient_clipping", "clip_norm"},
    {"scheduler", "schedule"},
    {"lr_scheduler", "schedule"},
    {"lr_scheduler_type", "schedule"},
    {"warmup_steps", "warmup"},
    {"warmup_ratio", "warmup"},
    {"eval_every", "every"},
    {"eval_steps", "every"},
    {"do_sample", "decoding"},
    {"n_samples", "samples"},
    {"num_samples", "samples"},
    {"percentile", "scale_percentile"},
    {"precision_digits", "decimals"},
    {"digits", "decimals"},
    {"channels", "variables"},
    {"columns", "variables"},
    {"path", "file"},
    {"model", "path"},
    {"checkpoint", "path"},
    {"max_flops", "flops"},
    {"budget", "flops"},
    {"cap", "flops"},
    {"out", "output"},
    {"output_dir", "output"},
    {"objective", "metric"},
    {"device", "backend"},
    {"dtype", "precision"},
    {"n_threads", "threads"},
    {"max_retries", "retries"},
    {"time", "time_limit"},
    {"walltime", "time_limit"},
};

static int smallest(int a, int b, int c) {
    int least = a < b ? a : b;
    return least < c ? least : c;
}

/* Insertions, deletions, substitutions and swaps of neighbours that turn one word into the other. */
static int edit_distance(const char *a, const char *b) {
    int rows[3][WORD_MAX + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    int length_a = (int)strnlen(a, WORD_MAX), length_b = (int)strnlen(b, WORD_MAX);
    for (int j = 0; j <= length_b; j++)
        last[j] = before[j] = j;
    for (int i = 1; i <= length_a; i++) {
        now[0] = i;
        for (int j = 1; j <= length_b; j++) {
            now[j] = smallest(last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        int *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[length_b];
}

/* Near enough to be a slip: one letter of a short word, two of a longer one, a third of a long one. */
static bool is_near(const char *word, const char *name, int distance) {
    int length = (int)strlen(name);
    if (strncmp(word, name, strlen(word)) == 0 && strlen(word) >= 3) return true;
    int limit = length <= 4 ? 1 : length <= 9 ? 2 : length / 3;
    return distance <= limit && distance < (int)strlen(word);
}

static bool row_fits(const struct config_key *key, const char *section) {
    if (strncmp(section, "stage", 5) == 0) return key->base != KEY_BASE_CONFIG;
    return strcmp(key->section, section) == 0;
}

static const struct config_key *find_in(const char *section, const char *name) {
    for (int i = 0; i < config_key_count; i++)
        if (row_fits(&config_keys[i], section) && strcmp(config_keys[i].name, name) == 0) return &config_keys[i];
    return NULL;
}

static const struct config_key *find_anywhere(const char *name) {
    for (int i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].name, name) == 0) return &config_keys[i];
    return NULL;
}

/* The row nearest to the word among those that fit; with section NULL among all. */
static const struct config_key *find_nearest(const char *section, const char *word) {
    const struct config_key *nearest = NULL;
    int least = WORD_MAX;
    for (int i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (section && !row_fits(key, section)) continue;
        int distance = edit_distance(word, key->name);
        if (distance < least && is_near(word, key->name, distance)) {
            least = distance;
            nearest = key;
        }
    }
    return nearest;
}

static const char *alias_of(const char *name) {
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
        if (strcmp(aliases[i].alias, name) == 0) return aliases[i].name;
    return NULL;
}

static void say_elsewhere(const char *section, const char *lead, const struct config_key *key, struct strbuf *out) {
    const char *home = key->base == KEY_BASE_STAGE ? "stage.…" : key->section;
    strbuf_printf(out, "; %s [%s]", lead, home);
    if (strncmp(section, "stage", 5) == 0) strbuf_add(out, ", where it holds for the whole sweep");
}

/* The section's keys, unless an earlier error lists them. */
static void say_all(const char *section, const struct config_errors *errors, struct strbuf *out) {
    const char *joint = "; the keys are: ";
    char place[96];
    snprintf(place, sizeof place, "[%.80s] ", section);
    if (errors_said(errors, place, joint)) return;
    for (int i = 0; i < config_key_count; i++) {
        bool in_stage = strncmp(section, "stage", 5) == 0;
        if (in_stage ? config_keys[i].base != KEY_BASE_STAGE : !row_fits(&config_keys[i], section)) continue;
        strbuf_printf(out, "%s%s", joint, config_keys[i].name);
        joint = ", ";
    }
    if (strncmp(section, "stage", 5) == 0) strbuf_add(out, ", decimals, and those of [lora], [train], [evaluate]");
}

void suggest_key(const char *section, const char *name, const struct config_errors *errors, struct strbuf *out) {
    char lower[WORD_MAX + 1], lead[96];
    lvs_copy(lower, sizeof lower, name);
    for (char *c = lower; *c; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c == '-' ? '_' : *c);
    const char *alias = alias_of(lower);
    const struct config_key *key = find_in(section, lower);
    if (!key && alias) key = find_in(section, alias);
    if (!key && !find_anywhere(lower)) key = find_nearest(section, lower);
    if (key) {
        strbuf_printf(out, "; did you mean %s?", key->name);
        return;
    }
    if ((key = find_anywhere(lower))) {
        say_elsewhere(section, "it belongs to", key, out);
        return;
    }
    key = alias ? find_anywhere(alias) : find_nearest(NULL, lower);
    if (key) {
        snprintf(lead, sizeof lead, "did you mean %s of", key->name);
        say_elsewhere(section, lead, key, out);
    } else {
        say_all(section, errors, out);
    }
}

const char *suggest_word(const char *word, const char *const *list) {
    const char *nearest = NULL;
    int least = WORD_MAX;
    for (; *list; list++) {
        int distance = edit_distance(word, *list);
        if (distance < least && is_near(word, *list, distance)) {
            least = distance;
            nearest = *list;
        }
    }
    return nearest;
}

void suggest_section(const char *name, struct strbuf *out) {
    static const char *const sections[] = {"sweep",    "budget", "data", "model", "lora",  "train",
                                           "evaluate", "stop",   "run",  "stage", "stage", NULL};
    const char *near = suggest_word(name, sections);
    if (near && strcmp(near, "stage") == 0)
        strbuf_add(out, "; a stage is written [stage.NAME], for example [stage.search]");
    else if (near)
        strbuf_printf(out, "; did you mean [%s]?", near);
    else
        strbuf_add(out, "; sections are [sweep], [budget], [data], [model], [lora], [train], [evaluate], [stop], [run] "
                        "and [stage.NAME]");
}

/* "[2", "4]", "2..8", "1e-4 1e-5" */
const char *list_hint(const char *value) {
    bool brackets = strpbrk(value, "[](){}") != NULL, range = strstr(value, "..") != NULL;
    bool digits = value[strspn(value, "0123456789+-.eE \t[](){}")] == '\0';
    if (!digits || !(brackets || range || strpbrk(value, " \t"))) return "";
    return range ? ". Ranges are not known: write each value of a stage, with commas between, as in 2, 4, 8"
                 : ". A comma separates values of a stage, without brackets, as in 2, 4, 8";
}
