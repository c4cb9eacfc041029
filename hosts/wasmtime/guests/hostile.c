// Passes bad arguments to every function of the specification's core-module form, and prints each errno with the
// expected one.
//
//     hostile MODEL FILE [CASE]
//     hostile list
//
// MODEL is a name under which the host has registered the digits, FILE is their model. The exit status is 1 if an errno
// differs.

#include <string.h>

#include "core.h"
#include "digits.h"
#include "files.h"

// An address past the end of the memory, and one whose end wraps around.
#define OUTSIDE ((void *)0xfff00000u)
#define LAST ((void *)0xfffffff0u)

static const char *model;
static const void *file;
static size_t length_of_file;
static uint32_t graph, context;
static float image[PIXELS], probabilities[CLASSES];
static uint32_t out;

static struct tensor good(void) {
    return (struct tensor){IMAGE_DIMS, 4, F32, image, sizeof image};
}

static int32_t set(const void *dims, uint32_t rank, uint8_t type, const void *data, uint32_t length) {
    struct tensor tensor = {dims, rank, type, data, length};
    return nn_set_input(context, 0, &tensor);
}

static int32_t computed(void) {
    struct tensor tensor = good();
    int32_t code = nn_set_input(context, 0, &tensor);
    return code != SUCCESS ? code : nn_compute(context);
}

// Each case: its name, the expected errno, and the call, on a fresh context.
#define CASES(CASE)                                                                                                    \
    CASE("load: builders outside the memory", MISSING_MEMORY, nn_load(OUTSIDE, 1, ONNX, CPU, &out))                    \
    CASE("load: builders at an odd address", INVALID_ENCODING, load_at_odd_address())                                  \
    CASE("load: a part outside the memory", MISSING_MEMORY, load_part(OUTSIDE, 16, ONNX, CPU))                         \
    CASE("load: a part that wraps around", MISSING_MEMORY, load_part(LAST, 64, ONNX, CPU))                             \
    CASE("load: 2^32 - 1 parts", TOO_LARGE, nn_load((void *)64, UINT32_MAX, ONNX, CPU, &out))                          \
    CASE("load: 2^29 parts, 2^32 bytes", TOO_LARGE, nn_load((void *)64, 1u << 29, ONNX, CPU, &out))                    \
    CASE("load: no parts", INVALID_ARGUMENT, nn_load((void *)64, 0, ONNX, CPU, &out))                                  \
    CASE("load: an empty part", INVALID_ENCODING, load_part(image, 0, ONNX, CPU))                                      \
    CASE("load: bytes that are no model", INVALID_ENCODING, load_part("not a model", 11, ONNX, CPU))                   \
    CASE("load: an encoding that has no backend", UNSUPPORTED_OPERATION, load_part("x", 1, TENSORFLOW, CPU))           \
    CASE("load: an encoding past the last", INVALID_ENCODING, load_part("x", 1, 99, CPU))                              \
    CASE("load: an encoding of 2^32 - 1", INVALID_ENCODING, load_part("x", 1, UINT32_MAX, CPU))                        \
    CASE("load: a target past the last", INVALID_ARGUMENT, load_part("x", 1, ONNX, 9))                                 \
    CASE("load: no place for the graph", MISSING_MEMORY, load_model_to(OUTSIDE))                                       \
    CASE("load_by_name: an unknown name", NOT_FOUND, nn_load_by_name("gone", 4, &out))                                 \
    CASE("load_by_name: an empty name", NOT_FOUND, nn_load_by_name("", 0, &out))                                       \
    CASE("load_by_name: a name outside the memory", MISSING_MEMORY, nn_load_by_name(OUTSIDE, 6, &out))                 \
    CASE("load_by_name: a name that wraps around", MISSING_MEMORY, nn_load_by_name(LAST, 64, &out))                    \
    CASE("load_by_name: a name of 64 KiB", TOO_LARGE, nn_load_by_name((void *)0, 65536, &out))                         \
    CASE("load_by_name: a name that is not UTF-8", INVALID_ARGUMENT, nn_load_by_name("\xff\xfe", 2, &out))             \
    CASE("load_by_name: no place for the graph", MISSING_MEMORY, nn_load_by_name(model, strlen(model), OUTSIDE))       \
    CASE("init_execution_context: an unknown graph", INVALID_ARGUMENT, nn_init(graph + 12345, &out))                   \
    CASE("init_execution_context: the graph 2^32 - 1", INVALID_ARGUMENT, nn_init(UINT32_MAX, &out))                    \
    CASE("init_execution_context: no place for the context", MISSING_MEMORY, nn_init(graph, OUTSIDE))                  \
    CASE("set_input: an unknown context", INVALID_ARGUMENT, set_of(context + 12345))                                   \
    CASE("set_input: the context 2^32 - 1", INVALID_ARGUMENT, set_of(UINT32_MAX))                                      \
    CASE("set_input: an input past the last", INVALID_ARGUMENT, set_index(1))                                          \
    CASE("set_input: the input 2^32 - 1", INVALID_ARGUMENT, set_index(UINT32_MAX))                                     \
    CASE("set_input: a tensor outside the memory", MISSING_MEMORY, nn_set_input(context, 0, OUTSIDE))                  \
    CASE("set_input: dimensions outside the memory", MISSING_MEMORY, set(OUTSIDE, 4, F32, image, 256))                 \
    CASE("set_input: 2^31 - 1 dimensions", TOO_LARGE, set(IMAGE_DIMS, INT32_MAX, F32, image, 256))                     \
    CASE("set_input: data outside the memory", MISSING_MEMORY, set(IMAGE_DIMS, 4, F32, OUTSIDE, 256))                  \
    CASE("set_input: data that wraps around", MISSING_MEMORY, set(IMAGE_DIMS, 4, F32, LAST, 256))                      \
    CASE("set_input: 2^32 - 1 bytes of data", TOO_LARGE, set(IMAGE_DIMS, 4, F32, image, UINT32_MAX))                   \
    CASE("set_input: a byte too few", INVALID_ARGUMENT, set(IMAGE_DIMS, 4, F32, image, 255))                           \
    CASE("set_input: no data", INVALID_ARGUMENT, set(IMAGE_DIMS, 4, F32, image, 0))                                    \
    CASE("set_input: a dimension too few", INVALID_ARGUMENT, set(IMAGE_DIMS, 3, F32, image, 32))                       \
    CASE("set_input: other sizes", INVALID_ARGUMENT, set(TALL, 4, F32, image, 256))                                    \
    CASE("set_input: sizes whose product overflows", INVALID_ARGUMENT, set(HUGE, 4, F32, image, 256))                  \
    CASE("set_input: a type that the input does not take", INVALID_ARGUMENT, set(IMAGE_DIMS, 4, I32, image, 256))      \
    CASE("set_input: a type past the last", INVALID_ARGUMENT, set(IMAGE_DIMS, 4, 200, image, 256))                     \
    CASE("compute: an unknown context", INVALID_ARGUMENT, nn_compute(context + 12345))                                 \
    CASE("compute: the context 2^32 - 1", INVALID_ARGUMENT, nn_compute(UINT32_MAX))                                    \
    CASE("compute: no input", INVALID_ARGUMENT, nn_compute(context))                                                   \
    CASE("get_output: an unknown context", INVALID_ARGUMENT, get(context + 12345, 0, probabilities, 40))               \
    CASE("get_output: nothing computed", INVALID_ARGUMENT, nn_get_output(context, 0, probabilities, 40, &out))         \
    CASE("get_output: an output past the last", INVALID_ARGUMENT, get(context, 1, probabilities, 40))                  \
    CASE("get_output: the output 2^32 - 1", INVALID_ARGUMENT, get(context, UINT32_MAX, probabilities, 40))             \
    CASE("get_output: a buffer outside the memory", MISSING_MEMORY, get(context, 0, OUTSIDE, 40))                      \
    CASE("get_output: a buffer that wraps around", MISSING_MEMORY, get(context, 0, LAST, 40))                          \
    CASE("get_output: a buffer of a byte too few", TOO_LARGE, get(context, 0, probabilities, 39))                      \
    CASE("get_output: a buffer of no bytes", TOO_LARGE, get(context, 0, probabilities, 0))                             \
    CASE("get_output: no place for the size", MISSING_MEMORY, get_size_to(OUTSIDE))

static const uint32_t TALL[] = {1, 1, 16, 4};
static const uint32_t HUGE[] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};

static int32_t load_part(const void *bytes, uint32_t length, uint32_t encoding, uint32_t target) {
    struct builder builder = {bytes, length};
    return nn_load(&builder, 1, encoding, target, &out);
}

// The interface's layouts are aligned to 4 bytes; this builder is not.
static int32_t load_at_odd_address(void) {
    static char place[16];
    struct builder builder = {"not a model", 11};
    memcpy(place + 1, &builder, sizeof builder);
    return nn_load((void *)(place + 1), 1, ONNX, CPU, &out);
}

static int32_t load_model_to(uint32_t *place) {
    struct builder builder = {file, length_of_file};
    return nn_load(&builder, 1, ONNX, CPU, place);
}

static int32_t set_of(uint32_t other) {
    struct tensor tensor = good();
    return nn_set_input(other, 0, &tensor);
}

static int32_t set_index(uint32_t index) {
    struct tensor tensor = good();
    return nn_set_input(context, index, &tensor);
}

static int32_t get(uint32_t of, uint32_t index, void *buffer, uint32_t max) {
    int32_t code = computed();
    return code != SUCCESS ? -code : nn_get_output(of, index, buffer, max, &out);
}

static int32_t get_size_to(uint32_t *size) {
    int32_t code = computed();
    return code != SUCCESS ? -code : nn_get_output(context, 0, probabilities, sizeof probabilities, size);
}

static int run(int number) {
    const char *name = "no such case";
    int32_t expected = 0, code = -1;
    if (nn_init(graph, &context) != SUCCESS) {
        fprintf(stderr, "no context\n");
        exit(2);
    }
    int place = 0;
#define RUN(NAME, EXPECTED, CALL)                                                                                      \
    if (place++ == number) {                                                                                           \
        name = NAME, expected = EXPECTED;                                                                              \
        code = CALL;                                                                                                   \
    }
    CASES(RUN)
    printf("%s: errno %d, expected %d\n", name, (int)code, (int)expected);
    return code != expected;
}

int main(int argc, char **argv) {
#define COUNT(NAME, EXPECTED, CALL) +1
    int cases = 0 CASES(COUNT), wrong = 0;
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
#define LIST(NAME, EXPECTED, CALL) printf("%d\t%s\n", EXPECTED, NAME);
        CASES(LIST)
        return 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: hostile MODEL FILE [CASE]\n");
        return 2;
    }
    model = argv[1];
    file = read_file(argv[2], &length_of_file);
    if (nn_load_by_name(model, strlen(model), &graph) != SUCCESS) {
        fprintf(stderr, "no model \"%s\"\n", model);
        return 2;
    }
    if (argc > 3) {
        return run(atoi(argv[3]));
    }
    for (int number = 0; number < cases; number++) {
        wrong += run(number);
    }
    // The guest can go on after all of it.
    if (nn_init(graph, &context) != SUCCESS || get(context, 0, probabilities, sizeof probabilities) != SUCCESS) {
        printf("no inference afterwards\n");
        return 1;
    }
    printf("%d cases, %d wrong\n", cases, wrong);
    return wrong > 0;
}
