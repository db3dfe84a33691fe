/* The questions of `lvsweep init`: the few keys everyone sets. Answers are checked by the table of keys itself, so a
 * wrong one is asked again with the words that a run would use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "init_internal.h"

struct question {
    const char *section, *key, *question, *fallback;
};

static const struct question questions[] = {
    {"data", "file", "Data file (lvsweep import makes one from CSV, lvsweep simulate an example)", "data.h5"},
    {"model", "path", "Model: a Hugging Face folder, or hf:owner/name of the local cache",
     "hf:Qwen/Qwen2.5-0.5B-Instruct"},
    {"stage.search", "rank", "LoRA ranks to try", "2, 4, 8"},
    {"stage.search", "learning_rate", "Learning rates to try", "1e-5, 5e-5, 1e-4"},
    {"stage.search", "context", "Tokens a window (several are tried too)", "512"},
    {"stage.search", "steps", "Steps of each trial", "600"},
    {"stage.final", "steps", "Steps of a longer run with the best of them (0 = none)", "6000"},
    {"budget", "flops", "Budget in FLOPs (none = no limit)", "1e17"},
};
enum { N_QUESTIONS = sizeof questions / sizeof questions[0] };

static bool read_answer(const struct question *question, char *out, size_t capacity) {
    fprintf(stderr, "%s [%s]: ", question->question, question->fallback);
    if (!fgets(out, (int)capacity, stdin)) return false;
    size_t length = strcspn(out, "\r\n");
    while (length > 0 && out[length - 1] == ' ')
        length--;
    out[length] = '\0';
    memmove(out, out + strspn(out, " "), strlen(out + strspn(out, " ")) + 1);
    if (!out[0]) lvs_copy(out, capacity, question->fallback);
    return true;
}

static bool is_left_out(const struct question *question, const char *answer) {
    return strcmp(question->section, "stage.final") == 0 && strcmp(answer, "0") == 0;
}

static void write_answers(char answers[][CONFIG_TEXT_MAX], int32_t n, struct strbuf *out) {
    const char *section = "";
    for (int32_t i = 0; i < n; i++) {
        const struct question *question = &questions[i];
        if (is_left_out(question, answers[i])) continue;
        if (strcmp(section, question->section) != 0) {
            strbuf_printf(out, "%s[%s]\n", out->length ? "\n" : "", question->section);
            if (strcmp(question->section, "stage.final") == 0) strbuf_add(out, "from = best\n");
        }
        section = question->section;
        strbuf_printf(out, "%s = %s\n", question->key, answers[i]);
    }
}

/* The answers so far with the defaults of the others must parse. */
static bool is_accepted(char answers[][CONFIG_TEXT_MAX], int32_t n) {
    char all[N_QUESTIONS][CONFIG_TEXT_MAX];
    struct strbuf text;
    struct lvs_error err = {0};
    struct config *config = NULL;
    for (int32_t i = 0; i < N_QUESTIONS; i++)
        lvs_copy(all[i], sizeof all[i], i < n ? answers[i] : questions[i].fallback);
    strbuf_init(&text);
    write_answers(all, N_QUESTIONS, &text);
    const struct config_source source = {.path = "answer", .text = text.text, .folder = "."};
    bool good = config_parse(&source, &config, &err) == LVS_OK;
    if (!good) fprintf(stderr, "  %.*s\n", (int)strcspn(err.text, "\n"), err.text);
    config_destroy(config);
    strbuf_free(&text);
    return good;
}

enum lvs_status init_ask(const struct init_answers *given, struct strbuf *out, struct lvs_error *err) {
    char answers[N_QUESTIONS][CONFIG_TEXT_MAX];
    for (int32_t i = 0; i < N_QUESTIONS; i++) {
        const char *known = i == 0 ? given->data : i == 1 ? given->model : NULL;
        do {
            if (known)
                lvs_copy(answers[i], sizeof answers[i], known);
            else if (!read_answer(&questions[i], answers[i], sizeof answers[i]))
                return lvs_fail(err, LVS_INTERRUPTED, "\nlvsweep init: no more answers; nothing was written");
            if (is_accepted(answers, i + 1)) break;
            if (known) return lvs_fail(err, LVS_USAGE, "%s: not accepted", known);
        } while (true);
    }
    write_answers(answers, N_QUESTIONS, out);
    return LVS_OK;
}
