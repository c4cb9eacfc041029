/* Opens, uses and closes WAMR's backend library on 8 threads, while others compute: open_close LIBRARY MODEL IMAGES
 * EXPECTED [ROUNDS]. What a guest would give lies unaligned. */
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, IMAGES = 450, SUCCESS = 0, INVALID_ARGUMENT = 1, RUNTIME_ERROR = 5, TOO_LARGE = 7 };

typedef struct {
    void *buf;
    uint32_t size;
} pair;

typedef struct {
    pair *dimensions;
    uint8_t type, padding[3];
    pair data;
} tensor;

typedef struct {
    int (*init_backend)(void **);
    int (*deinit_backend)(void *);
    int (*load)(void *, pair *, int, int, uint32_t *);
    int (*load_by_name)(void *, const char *, uint32_t, uint32_t *);
    int (*load_by_name_with_config)(void *, const char *, uint32_t, const char *, uint32_t, uint32_t *);
    int (*init_execution_context)(void *, uint32_t, uint32_t *);
    int (*set_input)(void *, uint32_t, uint32_t, tensor *);
    int (*compute)(void *, uint32_t);
    int (*get_output)(void *, uint32_t, uint32_t, pair *, uint32_t *);
} backend;

static const char *path;
static unsigned char *model, *images, *expected;
static size_t model_length;
static long rounds = 40;
/* A context of the threads that compute, which one of the others closes now and then. */
static _Atomic(void *) shared;
static atomic_int stop;
static atomic_long outputs;

static void require(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static unsigned char *read_file(const char *name, size_t *length) {
    FILE *file = fopen(name, "rb");
    require(file != NULL, name);
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*length);
    require(bytes && fread(bytes, 1, *length, file) == *length, name);
    fclose(file);
    return bytes;
}

static void *open_library(backend *functions) {
    static const char *const names[] = {
        "init_backend", "deinit_backend", "load", "load_by_name", "load_by_name_with_config",
        "init_execution_context", "set_input", "compute", "get_output",
    };
    void *library = dlopen(path, RTLD_LAZY);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        abort();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *function = dlsym(library, names[i]);
        require(function != NULL, names[i]);
        memcpy((char *)functions + i * sizeof function, &function, sizeof function);
    }
    return library;
}

/* One inference, with everything at odd addresses. Returns the first error, or checks the output. */
static int infer(const backend *use, void *context, uint32_t execution, unsigned image) {
    unsigned char memory[1 + 4 * 4 + 3 + 256 + 40 + 4];
    unsigned char *sizes = memory + 1, *pixels = sizes + 4 * 4 + 2, *classes = pixels + 256, *length = classes + 40;
    const uint32_t shape[] = {1, 1, 8, 8};
    memcpy(sizes, shape, sizeof shape);
    for (int i = 0; i < 64; i++) {
        float pixel = images[image * 64 + i] / 16.0f;
        memcpy(pixels + i * 4, &pixel, 4);
    }
    pair dimensions = {sizes, 4};
    tensor input = {&dimensions, 1, {0xAA, 0xBB, 0xCC}, {pixels, 256}};
    int error = use->set_input(context, execution, 0, &input);
    error = error ? error : use->compute(context, execution);
    pair output = {classes, 40};
    error = error ? error : use->get_output(context, execution, 0, &output, (uint32_t *)(void *)length);
    if (error) {
        return error;
    }
    uint32_t bytes;
    memcpy(&bytes, length, 4);
    require(bytes == 40, "the length of an output");
    for (int i = 0; i < 10; i++) {
        float is, wanted;
        memcpy(&is, classes + i * 4, 4);
        memcpy(&wanted, expected + (image * 10 + (unsigned)i) * 4, 4);
        require(fabsf(is - wanted) < 1e-4f, "another output");
    }
    atomic_fetch_add(&outputs, 1);
    return SUCCESS;
}

static void *compute(void *unused) {
    (void)unused;
    /* Kept open by the thread only at its start: the calls go on after the library is closed. */
    backend use;
    void *library = open_library(&use);
    void *context;
    uint32_t graph, execution;
    require(use.init_backend(&context) == SUCCESS, "init_backend");
    require(use.load_by_name(context, "digits", 6, &graph) == SUCCESS, "load_by_name");
    require(use.init_execution_context(context, graph, &execution) == SUCCESS, "init_execution_context");
    require(dlclose(library) == 0, "dlclose");
    unsigned image = 0;
    while (!atomic_load(&stop)) {
        require(infer(&use, context, execution, image++ % IMAGES) == SUCCESS, "an inference");
        void *others = atomic_load(&shared);
        uint32_t one;
        int error = use.load_by_name(others, "digits", 6, &one);
        require(error == SUCCESS || error == INVALID_ARGUMENT || error == TOO_LARGE || error == RUNTIME_ERROR,
                "a call on a context that may be closed");
    }
    require(use.deinit_backend(context) == SUCCESS, "deinit_backend");
    require(use.deinit_backend(context) == INVALID_ARGUMENT, "a second deinit_backend");
    return NULL;
}

static void *open_and_close(void *unused) {
    (void)unused;
    for (long round = 0; round < rounds; round++) {
        backend use;
        void *library = open_library(&use);
        void *context;
        uint32_t graph, execution;
        require(use.init_backend(&context) == SUCCESS, "init_backend");
        pair part = {model, (uint32_t)model_length}, builders = {&part, 1};
        require(use.load(context, &builders, 1, 0, &graph) == SUCCESS, "load");
        require(use.init_execution_context(context, graph, &execution) == SUCCESS, "init_execution_context");
        require(infer(&use, context, execution, (unsigned)round % IMAGES) == SUCCESS, "an inference");
        void *before = atomic_exchange(&shared, context);
        if (before) {
            require(use.deinit_backend(before) == SUCCESS, "deinit_backend");
        }
        require(dlclose(library) == 0, "dlclose");
    }
    return NULL;
}

int main(int argc, char **argv) {
    require(argc >= 5, "usage: open_close LIBRARY MODEL IMAGES EXPECTED [ROUNDS]");
    size_t length;
    path = argv[1];
    model = read_file(argv[2], &model_length);
    images = read_file(argv[3], &length);
    expected = read_file(argv[4], &length);
    rounds = argc > 5 ? strtol(argv[5], NULL, 10) : rounds;
    /* Mapped after it was closed, without a call that might keep it. */
    backend use;
    require(dlclose(open_library(&use)) == 0, "dlclose");
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    require(library != NULL && dlclose(library) == 0, "the library was unmapped");
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        require(pthread_create(&threads[i], NULL, i % 2 ? compute : open_and_close, NULL) == 0, "pthread_create");
    }
    for (int i = 0; i < THREADS; i += 2) {
        pthread_join(threads[i], NULL);
    }
    atomic_store(&stop, 1);
    for (int i = 1; i < THREADS; i += 2) {
        pthread_join(threads[i], NULL);
    }
    library = open_library(&use);
    void *last = atomic_load(&shared);
    require(use.deinit_backend(last) == SUCCESS, "deinit_backend");
    require(dlclose(library) == 0, "dlclose");
    printf("%ld outputs\n", atomic_load(&outputs));
    free(model);
    free(images);
    free(expected);
    return 0;
}
