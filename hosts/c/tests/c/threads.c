/* 8 threads of random loads, computes, cancels and drops on guests that they share and close under each other: threads
 * MODEL IMAGES EXPECTED [ROUNDS]. Every output is compared with another runtime's. */
#define _POSIX_C_SOURCE 200809L

#include <graphpool.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS = 8, GUESTS = 4, IMAGES = 450, SLOTS = 8 };

static gp_engine *engine;
static unsigned char *model, *images, *expected;
static size_t model_length;
static long rounds = 400;
static _Atomic(gp_guest *) guests[GUESTS];
static atomic_long outputs, cancels, refused;

static void require(int holds, const char *what, const gp_error *error) {
    if (!holds) {
        fprintf(stderr, "%s: %s\n", what, error ? error->message : "");
        abort();
    }
}

static unsigned char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    require(file != NULL, path, NULL);
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*length);
    require(bytes && fread(bytes, 1, *length, file) == *length, path, NULL);
    fclose(file);
    return bytes;
}

static unsigned next(unsigned *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

static gp_guest *open_guest(void) {
    gp_error error;
    gp_guest *guest;
    require(gp_guest_create(engine, NULL, &guest, &error) == GP_CODE_OK, "guest_create", &error);
    return guest;
}

/* Codes that a call may get here, because another thread has closed, cancelled or uses what it names. */
static int may_be(gp_code code) {
    return code == GP_CODE_CLOSED || code == GP_CODE_INVALID_ARGUMENT || code == GP_CODE_BUSY ||
           code == GP_CODE_RUNTIME_ERROR || code == GP_CODE_TIMEOUT || code == GP_CODE_TOO_LARGE;
}

/* One inference. On a context that other threads may use, by the one call that none of theirs comes in between. */
static void infer(gp_guest *guest, uint32_t context, unsigned image, int is_own) {
    gp_error error;
    float pixels[64], classes[10], wanted[10];
    for (int i = 0; i < 64; i++) {
        pixels[i] = images[image * 64 + i] / 16.0f;
    }
    const uint32_t sizes[] = {1, 1, 8, 8};
    gp_tensor tensor = {sizes, 4, pixels, sizeof pixels, GP_TYPE_F32, 0};
    size_t length = 0;
    gp_code code;
    if (is_own) {
        code = gp_set_input(guest, context, 0, &tensor, &error);
        code = code ? code : gp_compute_within(guest, context, 10000, &error);
        code = code ? code : gp_get_output(guest, context, 0, classes, sizeof classes, &length, &error);
    } else {
        const gp_input input = {tensor, 0, 0};
        void *const buffer = classes;
        const size_t capacity = sizeof classes;
        code = gp_infer(guest, context, &input, 1, 10000, &buffer, &capacity, &length, 1, &error);
    }
    if (code != GP_CODE_OK) {
        require(may_be(code), "infer", &error);
        atomic_fetch_add(&refused, 1);
        return;
    }
    memcpy(wanted, expected + image * sizeof wanted, sizeof wanted);
    for (int i = 0; i < 10; i++) {
        require(length == sizeof classes && fabsf(classes[i] - wanted[i]) < 1e-4f, "another output", NULL);
    }
    atomic_fetch_add(&outputs, 1);
}

/* A load and an inference as jobs, which are waited for, or closed before they are done. */
static void background(gp_guest *guest, uint32_t context, unsigned image, uint32_t *graph) {
    gp_error error;
    uint64_t job;
    const gp_bytes part = {model, model_length};
    gp_code code = image % 2 ? gp_load_start(guest, &part, 1, GP_ENCODING_ONNX, GP_TARGET_CPU, NULL, NULL, &job, &error)
                             : gp_load_by_name_start(guest, "digits", 6, NULL, 0, NULL, NULL, &job, &error);
    if (code == GP_CODE_OK) {
        if (image % 3) {
            code = gp_job_wait(job, GP_NO_LIMIT, &error);
            code = code ? code : gp_job_graph(job, graph, &error);
            require(code == GP_CODE_OK || may_be(code), "a load as a job", &error);
        }
        require(gp_job_close(job, &error) == GP_CODE_OK, "job_close", &error);
    } else {
        require(may_be(code), "load_start", &error);
    }
    float pixels[64], classes[10], wanted[10];
    for (int i = 0; i < 64; i++) {
        pixels[i] = images[image * 64 + i] / 16.0f;
    }
    const uint32_t sizes[] = {1, 1, 8, 8};
    const gp_input input = {{sizes, 4, pixels, sizeof pixels, GP_TYPE_F32, 0}, 0, 0};
    code = gp_infer_start(guest, context, &input, 1, 10000, NULL, NULL, &job, &error);
    if (code != GP_CODE_OK) {
        require(may_be(code), "infer_start", &error);
        return;
    }
    size_t length = 0;
    code = image % 5 ? gp_job_wait(job, GP_NO_LIMIT, &error) : GP_CODE_BUSY;
    code = code ? code : gp_job_output(job, 0, classes, sizeof classes, &length, &error);
    require(code == GP_CODE_OK || may_be(code), "an inference as a job", &error);
    if (code == GP_CODE_OK) {
        memcpy(wanted, expected + image * sizeof wanted, sizeof wanted);
        for (int i = 0; i < 10; i++) {
            require(length == sizeof classes && fabsf(classes[i] - wanted[i]) < 1e-4f, "another output of a job", NULL);
        }
        atomic_fetch_add(&outputs, 1);
    }
    require(gp_job_close(job, &error) == GP_CODE_OK, "job_close", &error);
}

static void *run(void *number) {
    unsigned state = 0x9E3779B9u * ((unsigned)(size_t)number + 1);
    /* A guest of its own, and numbers of guests that all threads share: one that is valid in one guest may name a context
     * of another thread in the next. */
    gp_guest *own = open_guest();
    uint32_t graphs[SLOTS] = {0}, contexts[SLOTS] = {0}, own_graph, own_context;
    gp_error error;
    require(gp_load_by_name(own, "digits", 6, &own_graph, &error) == GP_CODE_OK, "load", &error);
    require(gp_init_execution_context(own, own_graph, &own_context, &error) == GP_CODE_OK, "init", &error);
    for (long round = 0; round < rounds; round++) {
        gp_guest *guest = atomic_load(&guests[next(&state) % GUESTS]);
        uint32_t *graph = &graphs[next(&state) % SLOTS], *context = &contexts[next(&state) % SLOTS];
        unsigned image = next(&state) % IMAGES;
        gp_code code = GP_CODE_OK;
        switch (next(&state) % 13) {
        case 0: {
            gp_bytes part = {model, model_length};
            code = gp_load(guest, &part, 1, GP_ENCODING_ONNX, GP_TARGET_CPU, graph, &error);
            break;
        }
        case 1:
            code = gp_load_by_name(guest, "digits", 6, graph, &error);
            break;
        case 2:
            code = gp_unload(guest, *graph, &error);
            break;
        case 3:
        case 4:
            code = gp_init_execution_context(guest, *graph, context, &error);
            break;
        case 5:
            code = gp_drop_context(guest, *context, &error);
            break;
        case 6: {
            uint32_t cancelled = 0;
            code = gp_cancel(guest, *context, &cancelled, &error);
            atomic_fetch_add(&cancels, (long)cancelled);
            break;
        }
        case 7: {
            /* A new guest takes the place of one, which is closed while others may be inside. */
            gp_guest *before = atomic_exchange(&guests[next(&state) % GUESTS], open_guest());
            require(gp_guest_close(before, &error) == GP_CODE_OK, "close", &error);
            require(gp_guest_close(before, &error) == GP_CODE_CLOSED, "a second close", &error);
            break;
        }
        case 8:
            infer(own, own_context, image, 1);
            break;
        case 9:
            background(guest, *context, image, graph);
            break;
        default:
            infer(guest, *context, image, 0);
        }
        require(code == GP_CODE_OK || may_be(code), "a call", &error);
    }
    require(gp_guest_close(own, &error) == GP_CODE_OK, "close", &error);
    return NULL;
}

int main(int argc, char **argv) {
    size_t length;
    require(argc >= 4, "usage: threads MODEL IMAGES EXPECTED [ROUNDS]", NULL);
    model = read_file(argv[1], &model_length);
    images = read_file(argv[2], &length);
    expected = read_file(argv[3], &length);
    rounds = argc > 4 ? strtol(argv[4], NULL, 10) : rounds;
    gp_error error;
    gp_engine_options options;
    require(gp_engine_options_default(&options, &error) == GP_CODE_OK, "options", &error);
    /* So that computes wait for each other, and cancels find them waiting. */
    options.engine.max_computing = 2;
    require(gp_engine_create(&options, &engine, &error) == GP_CODE_OK, "create", &error);
    gp_model_options onnx = {.encoding = GP_ENCODING_ONNX};
    require(gp_register_path(engine, "digits", argv[1], &onnx, &error) == GP_CODE_OK, "register", &error);
    for (int i = 0; i < GUESTS; i++) {
        atomic_init(&guests[i], open_guest());
    }
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        require(pthread_create(&threads[i], NULL, run, (void *)i) == 0, "pthread_create", NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < GUESTS; i++) {
        require(gp_guest_close(guests[i], &error) == GP_CODE_OK, "close", &error);
    }
    gp_stats stats;
    /* A compute that a close has cancelled ends on a thread of the engine, with its context. */
    for (int i = 0; i < 20000; i++) {
        require(gp_engine_stats(engine, &stats, &error) == GP_CODE_OK, "stats", &error);
        if (stats.guests == 0 && stats.contexts == 0 && stats.graph_handles == 0) {
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    require(stats.guests == 0 && stats.contexts == 0 && stats.graph_handles == 0, "something is left", NULL);
    require(gp_engine_close(engine, &error) == GP_CODE_OK, "close", &error);
    require(gp_engine_stats(engine, &stats, &error) == GP_CODE_CLOSED, "stats of a closed engine", &error);
    printf("%ld outputs, %ld cancels, %ld refused\n", atomic_load(&outputs), atomic_load(&cancels),
           atomic_load(&refused));
    require(atomic_load(&outputs) > rounds / 4, "too few outputs", NULL);
    free(model);
    free(images);
    free(expected);
    return 0;
}
