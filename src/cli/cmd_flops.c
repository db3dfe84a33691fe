/* lvsweep flops: a convention's price of a forward pass, of training and of evaluation, term by term. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli_internal.h"

struct flops_request {
    const struct flops_convention *convention;
    struct flops_shape shape;
    int64_t context, batch, steps, evaluate;
    int64_t prompt, generate; /* tokens given and tokens made; generate 0 = none */
    bool terms, json;
};

/* Qwen2.5-0.5B unless --model names a folder. */
static const struct flops_shape default_shape = {.hidden = 896,
                                                 .n_heads = 14,
                                                 .n_kv_heads = 2,
                                                 .head_size = 64,
                                                 .n_layers = 24,
                                                 .intermediate = 4864,
                                                 .vocabulary = 151936,
                                                 .lora_rank = 4,
                                                 .lora_targets = 1u << LORA_TARGET_Q | 1u << LORA_TARGET_V};

static bool shape_of_model(const char *path, struct flops_shape *shape, struct lvs_error *err) {
    char folder[LVS_PATH_MAX];
    struct qwen2_config model;
    if (model_locate(path, folder, err) != LVS_OK || qwen2_config_read(folder, &model, err) != LVS_OK) return false;
    shape->hidden = model.hidden;
    shape->n_heads = model.n_heads;
    shape->n_kv_heads = model.n_kv_heads;
    shape->head_size = model.head_size;
    shape->n_layers = model.n_layers;
    shape->intermediate = model.intermediate;
    shape->vocabulary = model.vocab_size;
    return true;
}

static void print_number(const char *name, int64_t flops) {
    char text[64];
    cli_flops(flops, text);
    printf("%-28s %28s  %.9g %% of 1e17\n", name, text, (double)flops / 1e15);
}

/* A term beside its share of the forward that it is part of. */
static void print_term(const struct flops_term *term, int64_t forward) {
    char text[64];
    cli_flops(term->flops, text);
    printf("%-28s %28s  %6.2f %% of the forward\n", term->name, text, 100 * (double)term->flops / (double)forward);
}

/* What all of a request costs; FLOPs. */
struct flops_answer {
    struct flops_terms terms; /* of one forward of the batch */
    int64_t forward, training, evaluation;
    int64_t cached, repeated; /* generation of one sequence with a key/value cache and without */
    int64_t total;            /* training, evaluation and cached generation */
};

static void print_text(const struct flops_request *request, const struct flops_answer *answer) {
    printf("convention %s: %s\n", request->convention->name, request->convention->about);
    for (int32_t i = 0; request->terms && i < answer->terms.n; i++)
        print_term(&answer->terms.term[i], answer->forward);
    print_number("forward, one sequence", flops_forward(request->convention, &request->shape, 1, request->context));
    print_number("forward, batch", answer->forward);
    print_number("training", answer->training);
    if (request->evaluate > 0) print_number("evaluation", answer->evaluation);
    if (request->generate > 0) {
        print_number("generation, cached", answer->cached);
        print_number("generation, without a cache", answer->repeated);
    }
    if ((request->evaluate > 0 || request->generate > 0) && request->convention->evaluation_free)
        printf("%s counts training only: evaluation and generation are free\n", request->convention->name);
    print_number("total", answer->total);
}

static void print_json(const struct flops_request *request, const struct flops_answer *answer) {
    json_t *document = json_pack("{s:s, s:I, s:I, s:I, s:I}", "convention", request->convention->name, "forward_batch",
                                 (json_int_t)answer->forward, "training", (json_int_t)answer->training, "evaluation",
                                 (json_int_t)answer->evaluation, "total", (json_int_t)answer->total);
    json_t *list = json_object();
    for (int32_t i = 0; request->terms && i < answer->terms.n; i++)
        json_object_set_new(list, answer->terms.term[i].name, json_integer(answer->terms.term[i].flops));
    if (request->terms)
        json_object_set_new(document, "terms_forward_batch", list);
    else
        json_decref(list);
    if (request->generate > 0) {
        json_object_set_new(document, "generation_cached", json_integer(answer->cached));
        json_object_set_new(document, "generation_without_cache", json_integer(answer->repeated));
    }
    json_dumpf(document, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(document);
}

/* False where a sum does not fit. */
static bool price(const struct flops_request *request, struct flops_answer *out) {
    const struct flops_convention *convention = request->convention;
    const struct flops_shape *shape = &request->shape;
    convention->forward(shape, request->batch, request->context, true, &out->terms);
    out->forward = flops_forward(convention, shape, request->batch, request->context);
    int64_t step = flops_training_step(convention, shape, request->batch, request->context);
    out->evaluation = flops_evaluation(convention, shape, request->evaluate, 1, request->context);
    out->cached = flops_generation(convention, shape, request->prompt, request->generate, true);
    out->repeated = flops_generation(convention, shape, request->prompt, request->generate, false);
    int64_t largest[] = {step, out->evaluation, out->cached, out->repeated};
    for (int i = 0; i < 4; i++)
        if (largest[i] == INT64_MAX) return false;
    return !__builtin_mul_overflow(step, request->steps, &out->training) &&
           !__builtin_add_overflow(out->training, out->evaluation, &out->total) &&
           !__builtin_add_overflow(out->total, out->cached, &out->total);
}

static int answer(const struct flops_request *request) {
    struct flops_answer found;
    struct lvs_error err = {0};
    if (!price(request, &found)) {
        lvs_fail(&err, LVS_USAGE, "lvsweep flops: more than 9.2e18 FLOPs; give fewer steps or tokens");
        return cli_fail(&err);
    }
    if (request->json)
        print_json(request, &found);
    else
        print_text(request, &found);
    return LVS_OK;
}

static bool take_option(struct flops_request *request, int option, struct lvs_error *err) {
    int64_t number = 0;
    switch (option) {
    case 'c':
        request->convention = flops_convention_find(optarg);
        if (request->convention) return true;
        cli_usage(&command_flops, "no convention is called %s (table1, report_a, report_b, report_c)", optarg);
        return false;
    case 'm':
        if (shape_of_model(optarg, &request->shape, err)) return true;
        cli_fail(err);
        return false;
    case 't':
        return request->terms = true;
    case 'j':
        return request->json = true;
    case 'b':
        return request->shape.head_bias = true;
    default:
        break;
    }
    static const struct {
        int option;
        const char *name;
        int64_t least, most;
    } numbers[] = {{'r', "--rank", 0, LVS_MAX_LORA_RANK}, {'x', "--context", 1, 1000000},
                   {'B', "--batch", 1, 100000},           {'s', "--steps", 0, 1000000000},
                   {'e', "--evaluate", 0, 100000000},     {'v', "--vocabulary", 2, 10000000},
                   {'p', "--prompt", 1, 1000000},         {'g', "--generate", 0, 100000}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].option == option &&
            !cli_integer(&command_flops, numbers[i].name, optarg, numbers[i].least, numbers[i].most, &number))
            return false;
    if (option == 'r') request->shape.lora_rank = (int32_t)number;
    if (option == 'x') request->context = number;
    if (option == 'B') request->batch = number;
    if (option == 's') request->steps = number;
    if (option == 'e') request->evaluate = number;
    if (option == 'v') request->shape.vocabulary = (int32_t)number;
    if (option == 'p') request->prompt = number;
    if (option == 'g') request->generate = number;
    return true;
}

static int run(int argc, char **argv) {
    static const struct option options[] = {{"convention", required_argument, NULL, 'c'},
                                            {"model", required_argument, NULL, 'm'},
                                            {"rank", required_argument, NULL, 'r'},
                                            {"context", required_argument, NULL, 'x'},
                                            {"batch", required_argument, NULL, 'B'},
                                            {"steps", required_argument, NULL, 's'},
                                            {"evaluate", required_argument, NULL, 'e'},
                                            {"vocabulary", required_argument, NULL, 'v'},
                                            {"prompt", required_argument, NULL, 'p'},
                                            {"generate", required_argument, NULL, 'g'},
                                            {"head-bias", no_argument, NULL, 'b'},
                                            {"terms", no_argument, NULL, 't'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    struct flops_request request = {.convention = flops_convention_at(0),
                                    .shape = default_shape,
                                    .context = 512,
                                    .batch = 4,
                                    .steps = 600,
                                    .prompt = 1};
    struct lvs_error err = {0};
    bool done;
    for (int option; (option = cli_next_option(&command_flops, argc, argv, options, &done)) != -1;) {
        if (option == '?') return done ? LVS_OK : LVS_USAGE;
        if (!take_option(&request, option, &err)) return err.status ? (int)err.status : LVS_USAGE;
    }
    if (optind != argc) return cli_usage(&command_flops, "%s: only options are taken", argv[optind]);
    if (request.shape.lora_rank == 0) request.shape.lora_targets = 0;
    return answer(&request);
}

const struct command command_flops = {
    .name = "flops",
    .summary = "what a convention counts for a model, rank, context and steps",
    .help = "lvsweep flops [options]\n\n"
            "  --convention NAME  table1 (default), report_a, report_b, report_c\n"
            "  --model FOLDER     shapes from its config.json (default: Qwen2.5-0.5B)\n"
            "  --rank N           LoRA rank on q and v (4; 0 = the bare model)\n"
            "  --context N        tokens a window (512)\n"
            "  --batch N          windows a step (4)\n"
            "  --steps N          training steps (600)\n"
            "  --evaluate N       and N forward passes of one window (0)\n"
            "  --generate N       and N new tokens of one sequence, priced with a key/value\n"
            "                     cache and without (0)\n"
            "  --prompt N         tokens that generation is given (1)\n"
            "  --vocabulary N     rows of the head, when they are gathered\n"
            "  --head-bias        a trainable bias on the head\n"
            "  --terms            one forward of the batch, term by term\n"
            "  --json\n",
    .run = run,
};
