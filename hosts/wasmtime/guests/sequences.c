// The sequences of calls that programs for WasmEdge and WAMR use language models by, each with its results checked.
//
//     sequences MODEL
//
// MODEL is a name that the host has registered, for which it allows guests a configuration. Needs a host with the calls
// of WasmEdge and their error numbers. A native program includes this file and defines those calls.

#include <math.h>

#include "language.h"

#define GREEDY "\"temp\":0,\"repeat-penalty\":1,\"n-predict\":12"
#define CONTEXT 64

static const char *const CONFIG = "{" GREEDY ",\"ctx-size\":64}";
static const char *model;

struct text {
    uint32_t length;
    char bytes[4096];
};

static struct text output(uint32_t context) {
    struct text text = {0};
    expect(nn_get_output(context, TEXT, text.bytes, sizeof text.bytes - 1, &text.length), SUCCESS, "get_output");
    return text;
}

static void expect_same(const struct text *one, const struct text *other, const char *what) {
    if (one->length != other->length || memcmp(one->bytes, other->bytes, one->length) != 0) {
        fail("%s: \"%s\" and \"%s\"", what, one->bytes, other->bytes);
    }
}

static uint32_t load(const char *config) {
    uint32_t graph;
    expect(nn_load_by_name_with_config(model, strlen(model), config, strlen(config), &graph), SUCCESS,
           "load_by_name_with_config");
    return graph;
}

static uint32_t open(uint32_t graph) {
    uint32_t context;
    expect(nn_init(graph, &context), SUCCESS, "init_execution_context");
    return context;
}

static void compute(uint32_t context, const char *prompt, uint32_t dimension) {
    expect(set_text(context, PROMPT, prompt, dimension), SUCCESS, "set_input");
    expect(nn_compute(context), SUCCESS, "compute");
}

static struct text answer(uint32_t context, const char *prompt) {
    compute(context, prompt, strlen(prompt));
    return output(context);
}

// Load, init, set_input, compute, get_output: with the options in the load, and as input 1.
static void basic(void) {
    const char *prompt = "the cat";
    uint32_t graph = load(CONFIG), context = open(graph), other;
    struct text text = answer(context, prompt);
    if (text.length == 0) {
        fail("no text");
    }
    if (token_count(context, "output_tokens") > 12) {
        fail("more tokens than n-predict");
    }
    // The dimension of older programs.
    compute(context, prompt, 1);
    struct text again = output(context);
    expect_same(&text, &again, "a second compute");
    expect(nn_finalize(context), SUCCESS, "finalize_execution_context");
    expect(nn_unload(graph), SUCCESS, "unload");

    expect(nn_load_by_name(model, strlen(model), &graph), SUCCESS, "load_by_name");
    other = open(graph);
    expect(set_text(other, OPTIONS, CONFIG, strlen(CONFIG)), SUCCESS, "set_input of the options");
    again = answer(other, prompt);
    expect_same(&text, &again, "options in the load and as an input");
    // Bad options are refused, and unknown ones are not.
    expect(set_text(other, OPTIONS, "{\"temp\":", 8), INVALID_ENCODING, "set_input of half an object");
    expect(set_text(other, OPTIONS, "{\"temp\":\"hot\"}", 14), INVALID_ARGUMENT, "set_input of a wrong type");
    expect(set_text(other, OPTIONS, "{\"main-gpu\":3,\"enable-log\":false}", 1), SUCCESS, "set_input of unknown options");
    expect(nn_finalize(other), SUCCESS, "finalize_execution_context");
    expect(nn_unload(graph), SUCCESS, "unload");
    expect(nn_load_by_name("no such model", 13, &graph), NOT_FOUND, "load_by_name");
}

// A chat that drops its oldest turns when output 1 says, before the compute, that the prompt is too long.
static void chat(void) {
    enum { TURNS = 8, MOST = CONTEXT - 12 - 4 };
    uint32_t graph = load(CONFIG), context = open(graph);
    static char turns[TURNS][256];
    int oldest = 0, dropped = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        snprintf(turns[turn], sizeof turns[turn], "the cat in the hat %d\n", turn);
        char prompt[TURNS * 256];
        for (;; oldest++, dropped++) {
            prompt[0] = 0;
            for (int part = oldest; part <= turn; part++) {
                strcat(prompt, turns[part]);
            }
            expect(set_text(context, PROMPT, prompt, strlen(prompt)), SUCCESS, "set_input");
            if (token_count(context, "output_tokens") != 0 && turn == 0) {
                fail("tokens of a text before the first compute");
            }
            if (token_count(context, "input_tokens") <= MOST) {
                break;
            }
            if (oldest == turn) {
                fail("one turn is too long");
            }
        }
        expect(nn_compute(context), SUCCESS, "compute");
        struct text text = output(context);
        // What is said next has this answer before it.
        strncat(turns[turn], text.bytes, sizeof turns[turn] - strlen(turns[turn]) - 1);
    }
    if (dropped == 0) {
        fail("nothing was trimmed");
    }
    expect(nn_finalize(context), SUCCESS, "finalize_execution_context");
    expect(nn_unload(graph), SUCCESS, "unload");
}

// The pieces of one run, and the code that ends it.
static int32_t stream(uint32_t context, struct text *text) {
    text->length = 0;
    for (;;) {
        int32_t code = nn_compute_single(context);
        if (code != SUCCESS) {
            text->bytes[text->length] = 0;
            return code;
        }
        uint32_t size;
        expect(nn_get_output_single(context, TEXT, text->bytes + text->length, sizeof text->bytes - 1 - text->length,
                                    &size),
               SUCCESS, "get_output_single");
        text->length += size;
    }
}

static void streams(void) {
    const char *prompt = "in the hat";
    uint32_t graph = load(CONFIG), context = open(graph);
    struct text whole = answer(context, prompt), text;
    // Twice: after its end a run begins again from the same prompt.
    for (int run = 0; run < 2; run++) {
        expect(stream(context, &text), END_OF_SEQUENCE, "compute_single");
        expect_same(&whole, &text, "the pieces and the whole");
    }
    expect(nn_fini_single(context), SUCCESS, "fini_single");
    // A run that is left after one step.
    expect(nn_compute_single(context), SUCCESS, "compute_single");
    expect(nn_compute(context), INVALID_ARGUMENT, "compute within a run");
    expect(nn_fini_single(context), SUCCESS, "fini_single");
    expect(nn_fini_single(context), SUCCESS, "fini_single without a run");
    text = answer(context, prompt);
    expect_same(&whole, &text, "a compute after a run");

    // A text that fills the context: what is there can be read.
    const char *endless = "{\"temp\":0,\"repeat-penalty\":1,\"ignore-eos\":true,\"n-predict\":-1,\"ctx-size\":24}";
    expect(set_text(context, OPTIONS, endless, strlen(endless)), SUCCESS, "set_input of the options");
    expect(stream(context, &text), CONTEXT_FULL, "compute_single");
    if (text.length == 0) {
        fail("no piece before the context was full");
    }
    expect(nn_fini_single(context), SUCCESS, "fini_single");
    expect(nn_compute(context), CONTEXT_FULL, "compute");
    whole = output(context);
    expect_same(&whole, &text, "the pieces and the whole of a full context");

    // A prompt that does not fit.
    const char *longer = "the cat in the hat and the cat in the hat and the cat in the hat and the cat in the hat";
    expect(set_text(context, PROMPT, longer, strlen(longer)), SUCCESS, "set_input");
    if (token_count(context, "input_tokens") <= 20) {
        fail("the long prompt has few tokens");
    }
    expect(nn_compute_single(context), PROMPT_TOO_LONG, "compute_single");
    expect(nn_compute(context), PROMPT_TOO_LONG, "compute");
    expect(nn_finalize(context), SUCCESS, "finalize_execution_context");
    expect(nn_unload(graph), SUCCESS, "unload");
}

static void embedding(void) {
    uint32_t graph = load("{\"embedding\":true}"), context = open(graph), size;
    static char json[1 << 16];
    compute(context, "the cat", 7);
    expect(nn_get_output(context, TEXT, json, sizeof json - 1, &size), SUCCESS, "get_output");
    json[size] = 0;
    long length = json_number(json, "n_embedding"), count = 0;
    double norm = 0;
    for (char *at = strchr(json, '['); at != NULL && *at != ']'; count++) {
        double value = strtod(at + 1, &at);
        norm += value * value;
    }
    if (length == 0 || count != length || fabs(norm - 1) > 1e-3) {
        fail("an embedding of %ld numbers instead of %ld, with the norm %f", count, length, sqrt(norm));
    }
    expect(nn_compute_single(context), UNSUPPORTED_OPERATION, "compute_single");
    expect(nn_finalize(context), SUCCESS, "finalize_execution_context");
    expect(nn_unload(graph), SUCCESS, "unload");
}

static void unload(void) {
    uint32_t graph = load(CONFIG), context = open(graph), stale;
    struct text text = answer(context, "the cat");
    expect(nn_unload(graph), SUCCESS, "unload");
    expect(nn_unload(graph), INVALID_ARGUMENT, "unload of a stale graph");
    expect(nn_init(graph, &stale), INVALID_ARGUMENT, "init_execution_context of a stale graph");
    // A context outlives its graph's handle.
    struct text again = answer(context, "the cat");
    expect_same(&text, &again, "before and after unload");
    expect(nn_finalize(context), SUCCESS, "finalize_execution_context");
    expect(nn_compute_single(context), INVALID_ARGUMENT, "compute_single of a stale context");
    graph = load(CONFIG), context = open(graph);
    again = answer(context, "the cat");
    expect_same(&text, &again, "before and after another load");
    expect(nn_finalize(context), SUCCESS, "finalize_execution_context");
    expect(nn_unload(graph), SUCCESS, "unload");
}

// An input that is set again replaces the last one, before a compute, after it, and within a run.
static void inputs(void) {
    uint32_t graph = load(CONFIG), context = open(graph), other = open(graph);
    struct text one = answer(other, "the cat"), two = answer(other, "in the hat");
    expect(set_text(context, PROMPT, "the cat", 7), SUCCESS, "set_input");
    struct text text = answer(context, "in the hat");
    expect_same(&two, &text, "a prompt that was set twice");
    text = answer(context, "the cat");
    expect_same(&one, &text, "another prompt after a compute");
    expect(set_text(context, PROMPT, "in the hat", 10), SUCCESS, "set_input");
    expect(nn_compute_single(context), SUCCESS, "compute_single");
    expect(set_text(context, PROMPT, "the cat", 7), SUCCESS, "set_input within a run");
    expect(stream(context, &text), END_OF_SEQUENCE, "compute_single");
    expect_same(&one, &text, "another prompt within a run");
    expect(nn_finalize(context), SUCCESS, "finalize_execution_context");
    expect(nn_finalize(other), SUCCESS, "finalize_execution_context");
    expect(nn_unload(graph), SUCCESS, "unload");
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: sequences MODEL\n");
        return 2;
    }
    model = argv[1];
    const struct {
        const char *name;
        void (*run)(void);
    } sequences[] = {{"basic", basic},         {"chat", chat},     {"stream", streams},
                     {"embedding", embedding}, {"unload", unload}, {"set input twice", inputs}};
    for (size_t index = 0; index < sizeof sequences / sizeof *sequences; index++) {
        sequences[index].run();
        printf("%s: as expected\n", sequences[index].name);
    }
    return 0;
}
