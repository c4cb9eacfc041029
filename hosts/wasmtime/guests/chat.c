// A chat with a language model, whose text is printed as it is made.
//
//     chat MODEL [OPTIONS [PROMPT]]
//
// MODEL is a name that the host has registered or, with a slash in it, a file to load from bytes. OPTIONS are the
// model's, in JSON. PROMPT is the only text to be continued; without it each line of the input is one turn, and the
// model sees the turns before, of which the oldest are dropped when there are too many. Needs a host with the calls and
// numbers of WasmEdge.

#include <stdbool.h>

#include "files.h"
#include "language.h"

// WasmEdge's.
enum { GGML = 6 };

#define MOST_TURNS 256
#define BYTES (1 << 16)

static uint32_t load(const char *model) {
    uint32_t graph;
    if (strchr(model, '/') == NULL) {
        expect(nn_load_by_name(model, strlen(model), &graph), SUCCESS, "load_by_name");
        return graph;
    }
    size_t length;
    void *bytes = read_file(model, &length);
    struct builder builder = {bytes, length};
    expect(nn_load(&builder, 1, GGML, CPU, &graph), SUCCESS, "load");
    free(bytes);
    return graph;
}

// Prints the text as it is made, adds it to `text`, and returns the code that ended it.
static int32_t speak(uint32_t context, char *text, size_t room) {
    int32_t code;
    size_t length = 0;
    while ((code = nn_compute_single(context)) == SUCCESS) {
        char piece[1024];
        uint32_t size;
        expect(nn_get_output_single(context, TEXT, piece, sizeof piece, &size), SUCCESS, "get_output_single");
        fwrite(piece, 1, size, stdout);
        fflush(stdout);
        if (length + size < room) {
            memcpy(text + length, piece, size);
            length += size;
        }
    }
    text[length] = 0;
    expect(nn_fini_single(context), SUCCESS, "fini_single");
    return code;
}

static void explain(int32_t code) {
    if (code == CONTEXT_FULL) {
        fprintf(stderr, "\n(the context is full)\n");
    } else if (code != END_OF_SEQUENCE) {
        fail("compute_single: errno %d", (int)code);
    }
}

static char turns[MOST_TURNS][2][4096];

// The conversation from the turn `oldest` on, whose last turn has no answer yet.
static const char *conversation(int oldest, int last) {
    static char prompt[BYTES];
    size_t length = 0;
    for (int turn = oldest; turn <= last; turn++) {
        length += snprintf(prompt + length, sizeof prompt - length, "User: %s\nAssistant:", turns[turn][0]);
        if (turn < last && length < sizeof prompt) {
            length += snprintf(prompt + length, sizeof prompt - length, "%s\n", turns[turn][1]);
        }
        if (length >= sizeof prompt) {
            return NULL;
        }
    }
    return prompt;
}

// Tries the whole conversation, then without its oldest turns. The last step says whether it fits.
static int32_t next(uint32_t context, int *oldest, int last) {
    for (;; (*oldest)++) {
        const char *prompt = conversation(*oldest, last);
        int32_t code = prompt == NULL ? TOO_LARGE : set_text(context, PROMPT, prompt, strlen(prompt));
        if (code == SUCCESS) {
            code = speak(context, turns[last][1], sizeof turns[last][1]);
        }
        if ((code != PROMPT_TOO_LONG && code != TOO_LARGE) || *oldest == last) {
            return code;
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: chat MODEL [OPTIONS [PROMPT]]\n");
        return 2;
    }
    uint32_t context;
    expect(nn_init(load(argv[1]), &context), SUCCESS, "init_execution_context");
    const char *options = argc > 2 ? argv[2] : "{\"n-predict\":128,\"reverse-prompt\":\"\\nUser:\"}";
    expect(set_text(context, OPTIONS, options, strlen(options)), SUCCESS, "set_input of the options");
    if (argc > 3) {
        static char text[BYTES];
        expect(set_text(context, PROMPT, argv[3], strlen(argv[3])), SUCCESS, "set_input");
        fputs(argv[3], stdout);
        explain(speak(context, text, sizeof text));
        putchar('\n');
        return 0;
    }
    int oldest = 0, last = 0;
    while (fprintf(stderr, "> "), fgets(turns[last][0], sizeof turns[last][0], stdin) != NULL) {
        char *line = turns[last][0];
        line[strcspn(line, "\n")] = 0;
        if (*line == 0) {
            continue;
        }
        explain(next(context, &oldest, last));
        putchar('\n');
        if (++last == MOST_TURNS) {
            fprintf(stderr, "(%d turns are the most)\n", MOST_TURNS);
            break;
        }
    }
    fputc('\n', stderr);
    return 0;
}
