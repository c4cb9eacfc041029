/* Has a language model continue a text through WAMR's backend library, under both of its names: language ONNX-LIBRARY
 * LLAMACPP-LIBRARY MODEL. The directory GRAPHPOOL_MODELS has the same model as "austen", and GRAPHPOOL_CONFIGS is 1. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ENCODING = 2, U8 = 3, GGML = 5, CPU = 0 };

typedef struct {
    void *buf;
    uint32_t size;
} pair;

typedef struct {
    pair *dimensions;
    uint8_t type, padding[3];
    pair data;
} tensor;

static int (*init_backend)(void **);
static int (*deinit_backend)(void *);
static int (*load)(void *, pair *, int, int, uint32_t *);
static int (*load_by_name_with_config)(void *, const char *, uint32_t, const char *, uint32_t, uint32_t *);
static int (*init_execution_context)(void *, uint32_t, uint32_t *);
static int (*set_input)(void *, uint32_t, uint32_t, tensor *);
static int (*compute)(void *, uint32_t);
static int (*get_output)(void *, uint32_t, uint32_t, pair *, uint32_t *);

static void require(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static void *find(void *library, const char *name) {
    void *function = dlsym(library, name);
    require(function != NULL, name);
    return function;
}

static int set_text(void *context, uint32_t execution, uint32_t index, const char *text) {
    /* Guests give the dimensions [1] for a text of any length. */
    uint32_t one = 1;
    pair dimensions = {&one, 1};
    tensor input = {&dimensions, U8, {0}, {(void *)(uintptr_t)text, (uint32_t)strlen(text)}};
    return set_input(context, execution, index, &input);
}

/* Continues a text, which becomes `text` of 1,024 bytes. `options` are for input 1. */
static void go_on(void *context, uint32_t graph, const char *options, char *text) {
    uint32_t execution, length;
    require(init_execution_context(context, graph, &execution) == SUCCESS, "init_execution_context");
    require(!options || set_text(context, execution, 1, options) == SUCCESS, "set_input of the options");
    require(set_text(context, execution, 0, "It was a fine day, and Emma") == SUCCESS, "set_input");
    require(compute(context, execution) == SUCCESS, "compute");
    pair output = {text, 1023};
    require(get_output(context, execution, 0, &output, &length) == SUCCESS && length > 0, "a text");
    text[length] = 0;
    char counts[1024];
    output.buf = counts;
    require(get_output(context, execution, 1, &output, &length) == SUCCESS, "counts");
    counts[length] = 0;
    char *tokens = strstr(counts, "\"output_tokens\":");
    require(tokens && strtol(tokens + strlen("\"output_tokens\":"), NULL, 10) == 6, counts);
}

int main(int argc, char **argv) {
    require(argc == 4, "usage: language ONNX-LIBRARY LLAMACPP-LIBRARY MODEL");
    void *onnx = dlopen(argv[1], RTLD_LAZY), *library = dlopen(argv[2], RTLD_LAZY);
    require(onnx && library, "dlopen");
    require(find(onnx, "init_backend") == find(library, "init_backend"), "there are two engines");
    void *functions[] = {
        &init_backend, &deinit_backend, &load, &load_by_name_with_config,
        &init_execution_context, &set_input, &compute, &get_output,
    };
    static const char *const names[] = {
        "init_backend", "deinit_backend", "load", "load_by_name_with_config",
        "init_execution_context", "set_input", "compute", "get_output",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *function = find(library, names[i]);
        memcpy(functions[i], &function, sizeof function);
    }

    FILE *file = fopen(argv[3], "rb");
    require(file && fseek(file, 0, SEEK_END) == 0, argv[3]);
    size_t length = (size_t)ftell(file);
    unsigned char *bytes = malloc(length);
    rewind(file);
    require(bytes && fread(bytes, 1, length, file) == length, argv[3]);
    fclose(file);

    void *context;
    uint32_t graph, other;
    char by_name[1024], by_bytes[1024];
    require(init_backend(&context) == SUCCESS, "init_backend");
    const char *options = "{\"n-predict\": 6, \"temp\": 0}", *more = "{\"n-predict\": 7}";
    require(load_by_name_with_config(context, "austen", 6, options, (uint32_t)strlen(options), &graph) == SUCCESS,
            "load_by_name_with_config");
    go_on(context, graph, NULL, by_name);
    require(load_by_name_with_config(context, "austen", 6, more, (uint32_t)strlen(more), &other) != SUCCESS,
            "a second configuration was allowed");

    pair part = {bytes, (uint32_t)length}, builders = {&part, 1};
    require(load(context, &builders, GGML, CPU, &graph) == SUCCESS, "load");
    go_on(context, graph, options, by_bytes);
    require(strcmp(by_name, by_bytes) == 0, "another text");
    part.size = 1000;
    require(load(context, &builders, GGML, CPU, &other) == INVALID_ENCODING, "a part of a file");

    require(deinit_backend(context) == SUCCESS, "deinit_backend");
    free(bytes);
    printf("%s\n", by_name);
    return 0;
}
